package dmarc_test

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func ptr[T any](v T) *T { return &v }

var factDay = time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC)

func oneDay() dmarc.Attribution {
	return dmarc.Attribution{Days: []time.Time{factDay}, Main: factDay, Dated: true}
}

func TestRowsThatAnyPolicyTreatsAlikeBecomeOneCell(t *testing.T) {
	policy := &dmarc.PolicyPublished{Domain: "acme.example", P: dmarc.PolicyReject, SP: dmarc.PolicyQuarantine}
	row := dmarc.Row{
		Source: netip.MustParseAddr("192.0.2.1"), Count: 7, HeaderFrom: "news.acme.example", EnvelopeFrom: "bounce.mailer.example",
		DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone,
		AuthDKIM: []dmarc.DKIMResult{{Domain: "acme.example", Selector: "k1", Result: dmarc.ResultPass}, {Domain: "mailer.example", Selector: "m", Result: dmarc.ResultPass}},
		AuthSPF:  []dmarc.SPFResult{{Domain: "bounce.mailer.example", Scope: "mfrom", Result: dmarc.ResultPass}},
	}
	var f dmarc.FactReducer
	f.Add(&row, policy, oneDay(), 3)
	row.EnvelopeTo = "receiver.example" // decides nothing
	f.Add(&row, policy, oneDay(), 3)
	want := []dmarc.SourceDay{{
		Day: factDay, Source: netip.MustParsePrefix("192.0.2.1/32"),
		Cells: []dmarc.Cell{{
			Author: "news.acme.example", Reporter: 3, Messages: 14,
			Pattern: dmarc.Pattern{
				DKIM: dmarc.AlignedRelaxed, Disposition: dmarc.DispositionNone, Policy: dmarc.PolicyQuarantine,
				Hints: dmarc.HintPassed | dmarc.HintDKIMForeign | dmarc.HintSPFForeign | dmarc.HintModeUntold,
			},
		}},
		Marks: []dmarc.Mark{
			{Kind: dmarc.MarkDKIMPass, Domain: "acme.example", Selector: "k1", Messages: 14},
			{Kind: dmarc.MarkDKIMPass, Domain: "mailer.example", Selector: "m", Messages: 14},
			{Kind: dmarc.MarkSPFPass, Domain: "bounce.mailer.example", Messages: 14},
		},
	}}
	if got := f.Days(); !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestStrengthFollowsTheVerdictAndWhatIsProven(t *testing.T) {
	const domain = "acme.example"
	for _, c := range []struct {
		name    string
		verdict dmarc.Result
		signed  string // passing d=
		mode    dmarc.AlignmentMode
		want    dmarc.Strength
		dispute bool
	}{
		{"the same name is strict", dmarc.ResultPass, "acme.example", dmarc.AlignmentRelaxed, dmarc.AlignedStrict, false},
		{"another name of the organization is relaxed", dmarc.ResultPass, "mail.acme.example", dmarc.AlignmentRelaxed, dmarc.AlignedRelaxed, false},
		{"a pass under strict that nothing proves is believed", dmarc.ResultPass, "", dmarc.AlignmentStrict, dmarc.AlignedStrict, true},
		{"a pass under relaxed that nothing proves is no more than relaxed", dmarc.ResultPass, "", dmarc.AlignmentRelaxed, dmarc.AlignedRelaxed, true},
		{"a failure under strict may be a pass under relaxed", dmarc.ResultFail, "mail.acme.example", dmarc.AlignmentStrict, dmarc.AlignedRelaxed, false},
		{"a failure where the mode was not told may be a pass under relaxed", dmarc.ResultFail, "mail.acme.example", dmarc.AlignmentUnknown, dmarc.AlignedRelaxed, false},
		{"a failure despite proof is a failure", dmarc.ResultFail, "acme.example", dmarc.AlignmentStrict, dmarc.NotAligned, true},
		{"a failure under relaxed despite proof is a failure", dmarc.ResultFail, "mail.acme.example", dmarc.AlignmentRelaxed, dmarc.NotAligned, true},
		{"without a verdict, the proof counts", dmarc.ResultUnknown, "acme.example", dmarc.AlignmentRelaxed, dmarc.AlignedStrict, false},
		{"another organization is nothing", dmarc.ResultFail, "mailer.example", dmarc.AlignmentRelaxed, dmarc.NotAligned, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			row := dmarc.Row{Source: netip.MustParseAddr("192.0.2.1"), Count: 1, HeaderFrom: domain, DKIM: c.verdict, SPF: dmarc.ResultFail}
			if c.verdict == dmarc.ResultUnknown {
				row.SPF = dmarc.ResultUnknown
			}
			if c.signed != "" {
				row.AuthDKIM = []dmarc.DKIMResult{{Domain: c.signed, Result: dmarc.ResultPass}}
			}
			var f dmarc.FactReducer
			f.Add(&row, &dmarc.PolicyPublished{Domain: domain, P: dmarc.PolicyNone, ADKIM: c.mode}, oneDay(), 1)
			p := f.Days()[0].Cells[0].Pattern
			if dispute := p.Hints&dmarc.HintDisputed != 0; p.DKIM != c.want || dispute != c.dispute {
				t.Errorf("strength %v, disputed %v; want %v, %v", p.DKIM, dispute, c.want, c.dispute)
			}
		})
	}
}

func TestPolicyOfACellIsTheOneThatAppliedToTheAuthor(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy dmarc.PolicyPublished
		from   string
		want   dmarc.Policy
	}{
		{"p for the domain", dmarc.PolicyPublished{P: dmarc.PolicyReject, SP: dmarc.PolicyNone}, "acme.example", dmarc.PolicyReject},
		{"sp for a subdomain", dmarc.PolicyPublished{P: dmarc.PolicyReject, SP: dmarc.PolicyNone}, "a.acme.example", dmarc.PolicyNone},
		{"p for a subdomain without sp", dmarc.PolicyPublished{P: dmarc.PolicyReject}, "a.acme.example", dmarc.PolicyReject},
		{"one less with t=y", dmarc.PolicyPublished{P: dmarc.PolicyReject, Testing: ptr(true)}, "acme.example", dmarc.PolicyQuarantine},
		{"a name that only ends alike is no subdomain", dmarc.PolicyPublished{P: dmarc.PolicyReject, SP: dmarc.PolicyNone}, "notacme.example", dmarc.PolicyReject},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.policy.Domain = "acme.example"
			var f dmarc.FactReducer
			f.Add(&dmarc.Row{Count: 1, HeaderFrom: c.from, DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail}, &c.policy, oneDay(), 1)
			if got := f.Days()[0].Cells[0].Pattern.Policy; got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestReasonsBecomeOverrides(t *testing.T) {
	for word, want := range map[[2]string]dmarc.Overrides{
		{"forwarded", ""}:             dmarc.OverrideForwarded,
		{"trusted_forwarder", ""}:     dmarc.OverrideTrustedForwarder,
		{"mailing_list", "x"}:         dmarc.OverrideMailingList,
		{"local_policy", "ARC=pass"}:  dmarc.OverrideARC,
		{"local_policy", "allowed"}:   dmarc.OverrideLocalPolicy,
		{"sampled_out", ""}:           dmarc.OverrideSampledOut,
		{"policy_test_mode", ""}:      dmarc.OverrideSampledOut,
		{"anything", "written there"}: dmarc.OverrideOther,
		{"", ""}:                      0,
	} {
		row := dmarc.Row{Count: 1, DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail, Reasons: []dmarc.Reason{{Type: word[0], Comment: word[1]}}}
		var f dmarc.FactReducer
		f.Add(&row, &dmarc.PolicyPublished{Domain: "acme.example"}, oneDay(), 1)
		if got := f.Days()[0].Cells[0].Pattern.Overrides; got != want {
			t.Errorf("%v: %b, want %b", word, got, want)
		}
	}
}

func TestMessagesOfSeveralDaysAreSharedAndOddDatesLeftOut(t *testing.T) {
	row := dmarc.Row{Source: netip.MustParseAddr("192.0.2.1"), Count: 10, DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail}
	policy := &dmarc.PolicyPublished{Domain: "acme.example"}
	days, _ := dmarc.Period{Begin: factDay, End: factDay.AddDate(0, 0, 4)}.Attribute(factDay.AddDate(0, 0, 5))
	odd, _ := dmarc.Period{Begin: factDay, End: factDay.AddDate(0, 3, 0)}.Attribute(factDay.AddDate(0, 5, 0))
	var f dmarc.FactReducer
	f.Add(&row, policy, days, 1)
	f.Add(&row, policy, odd, 1)
	var got []int64
	for _, d := range f.Days() {
		got = append(got, d.Messages())
	}
	if want := []int64{3, 3, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("messages by day %v, want %v", got, want)
	}
}

// randomRow is a row of any kind.
func randomRow(rnd *rand.Rand) dmarc.Row {
	pick := func(words ...string) string { return words[rnd.IntN(len(words))] }
	names := []string{"acme.example", "news.acme.example", "a.b.acme.example", "mailer.example", "", "x.invalid"}
	row := dmarc.Row{
		Source: netip.AddrFrom4([4]byte{203, 0, byte(rnd.IntN(6)), byte(rnd.IntN(256))}), Count: rnd.Int64N(50),
		HeaderFrom: pick("acme.example", "news.acme.example", "a.b.acme.example", ""), DKIM: dmarc.Result(rnd.IntN(3)), SPF: dmarc.Result(rnd.IntN(3)),
		Disposition: dmarc.Disposition(rnd.IntN(5)),
	}
	for range rnd.IntN(3) {
		row.AuthDKIM = append(row.AuthDKIM, dmarc.DKIMResult{Domain: pick(names...), Selector: pick("k1", "k2"), Result: dmarc.Result(rnd.IntN(9))})
	}
	for range rnd.IntN(2) {
		row.AuthSPF = append(row.AuthSPF, dmarc.SPFResult{Domain: pick(names...), Scope: pick("mfrom", "helo", ""), Result: dmarc.Result(rnd.IntN(9))})
	}
	if rnd.IntN(4) == 0 {
		row.Reasons = []dmarc.Reason{{Type: pick("forwarded", "local_policy", "sampled_out", "other")}}
	}
	return row
}

func randomPolicy(rnd *rand.Rand) dmarc.PolicyPublished {
	return dmarc.PolicyPublished{
		Domain: "acme.example", P: dmarc.Policy(1 + rnd.IntN(3)), SP: dmarc.Policy(rnd.IntN(4)),
		ADKIM: dmarc.AlignmentMode(rnd.IntN(3)), ASPF: dmarc.AlignmentMode(rnd.IntN(3)),
	}
}

func randomDays(rnd *rand.Rand, rows int) ([]dmarc.SourceDay, int64) {
	var f dmarc.FactReducer
	var messages int64
	for range rows {
		row, policy := randomRow(rnd), randomPolicy(rnd)
		begin := factDay.AddDate(0, 0, rnd.IntN(3))
		days, _ := dmarc.Period{Begin: begin, End: begin.AddDate(0, 0, 1+rnd.IntN(3))}.Attribute(factDay.AddDate(0, 1, 0))
		f.Add(&row, &policy, days, rnd.Int64N(4))
		messages += row.Count
	}
	return f.Days(), messages
}

// sums counts messages by all that a policy looks at.
func sums(days []dmarc.SourceDay) map[any]int64 {
	type key struct {
		day time.Time
		dmarc.Cell
	}
	m := make(map[any]int64)
	for _, d := range days {
		for _, c := range d.Cells {
			n := c.Messages
			c.Messages = 0
			m[key{d.Day, c}] += n
		}
	}
	return m
}

func TestFactsLoseNoMessage(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	days, want := randomDays(rnd, 2000)
	var got int64
	for _, d := range days {
		got += d.Messages()
	}
	if got != want || want == 0 {
		t.Errorf("%d messages, want %d", got, want)
	}
}

func TestFoldingKeepsEveryCountAndTheSourcesThatSomethingSpeaksFor(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	days, _ := randomDays(rnd, 3000)
	for _, keep := range []int{0, 1, 3, 10, 100_000} {
		folded := dmarc.Fold(days, keep)
		if !reflect.DeepEqual(sums(folded), sums(days)) {
			t.Errorf("keep %d: the sums differ", keep)
		}
		spoken := func(days []dmarc.SourceDay) map[string]bool {
			m := make(map[string]bool)
			for _, d := range days {
				if len(d.Marks) > 0 {
					m[d.Day.String()+d.Source.String()] = true
				}
			}
			return m
		}
		if !reflect.DeepEqual(spoken(folded), spoken(days)) {
			t.Errorf("keep %d: a source with marks was folded", keep)
		}
		if keep == 100_000 && !reflect.DeepEqual(folded, days) {
			t.Error("few sources were folded")
		}
	}
}

func TestAStormFoldsIntoNetworks(t *testing.T) {
	var f dmarc.FactReducer
	policy := &dmarc.PolicyPublished{Domain: "acme.example", P: dmarc.PolicyNone}
	for i := range 2000 {
		row := dmarc.Row{Source: netip.AddrFrom4([4]byte{203, 0, byte(i / 250), byte(i % 250)}), Count: 1, HeaderFrom: "acme.example", DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail}
		f.Add(&row, policy, oneDay(), 1)
	}
	folded := dmarc.Fold(f.Days(), 10)
	if len(folded) != 18 {
		t.Errorf("%d sources, want 10 addresses and 8 networks", len(folded))
	}
	if folded = dmarc.Fold(f.Days(), 5); len(folded) != 6 {
		t.Errorf("%d sources, want 5 addresses and one for the rest", len(folded))
	}
}

func TestFactsCanBePackedAndReadBack(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	days, _ := randomDays(rnd, 500)
	for _, d := range days {
		b := d.AppendFacts(nil)
		got := dmarc.SourceDay{Day: d.Day, Source: d.Source}
		if err := got.ReadFacts(b); err != nil {
			t.Fatal(err)
		}
		want := d
		if len(want.Marks) == 0 {
			want.Marks = []dmarc.Mark{}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("\n got %+v\nwant %+v", got, want)
		}
		for i := range b {
			if err := new(dmarc.SourceDay).ReadFacts(b[:i]); err == nil {
				t.Fatalf("the first %d of %d bytes were read without an error", i, len(b))
			}
		}
	}
}

func TestPatternsArePackedIntoBits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	for range 10_000 {
		p := dmarc.Pattern{
			DKIM: dmarc.Strength(rnd.IntN(3)), SPF: dmarc.Strength(rnd.IntN(3)), Disposition: dmarc.Disposition(rnd.IntN(5)),
			Policy: dmarc.Policy(rnd.IntN(4)), Sampled: rnd.IntN(2) == 0, Overrides: dmarc.Overrides(rnd.IntN(128)), Hints: dmarc.Hints(rnd.IntN(256)),
		}
		if got := dmarc.PatternOf(p.Bits()); got != p {
			t.Fatalf("%+v became %+v", p, got)
		}
	}
}

func TestMergingIsTheSameAsReducingTogether(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	var all, a, b dmarc.FactReducer
	policy := dmarc.PolicyPublished{Domain: "acme.example", P: dmarc.PolicyNone}
	for i := range 200 {
		row := randomRow(rnd)
		row.Source = netip.MustParseAddr("192.0.2.1")
		row.AuthDKIM = row.AuthDKIM[:min(len(row.AuthDKIM), 1)]
		if len(row.AuthSPF) > 0 {
			row.AuthSPF = nil // few marks: none is dropped
		}
		all.Add(&row, &policy, oneDay(), 1)
		if i%2 == 0 {
			a.Add(&row, &policy, oneDay(), 1)
		} else {
			b.Add(&row, &policy, oneDay(), 1)
		}
	}
	got := a.Days()[0]
	got.Merge(b.Days()[0])
	if want := all.Days()[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func FuzzReadFacts(f *testing.F) {
	days, _ := randomDays(rand.New(rand.NewPCG(6, 6)), 20)
	for _, d := range days {
		f.Add(d.AppendFacts(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d dmarc.SourceDay
		if d.ReadFacts(b) != nil {
			return
		}
		var again dmarc.SourceDay
		if err := again.ReadFacts(d.AppendFacts(nil)); err != nil || !reflect.DeepEqual(again, d) {
			t.Errorf("%+v became %+v: %v", d, again, err)
		}
	})
}

// Folding a part of a day, and then that with the rest, loses no message and
// gives no source twice.
func TestADayMayBeFoldedInSteps(t *testing.T) {
	day := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	var folded []dmarc.SourceDay
	var want int64
	for i := range 5000 {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i % 40), byte(i / 40)})
		n := int64(1 + i%3)
		want += n
		folded = append(folded, dmarc.SourceDay{Day: day, Source: netip.PrefixFrom(addr, 32), Cells: []dmarc.Cell{{Messages: n}}})
		if len(folded) >= 600 {
			folded = dmarc.Fold(folded, 100)
		}
	}
	folded = dmarc.Fold(folded, 100)
	seen := map[netip.Prefix]bool{}
	var got int64
	for i := range folded {
		if seen[folded[i].Source] {
			t.Errorf("%s is there twice", folded[i].Source)
		}
		seen[folded[i].Source] = true
		got += folded[i].Messages()
	}
	if got != want || len(folded) > 100+40 {
		t.Errorf("%d messages from %d sources, want %d", got, len(folded), want)
	}
}
