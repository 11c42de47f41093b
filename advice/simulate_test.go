package advice

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func days(n ...int) []time.Time {
	var out []time.Time
	for _, d := range n {
		out = append(out, start.AddDate(0, 0, d))
	}
	return out
}

func TestPolicyForAnAuthor(t *testing.T) {
	none, quarantine, reject := dmarc.PolicyNone, dmarc.PolicyQuarantine, dmarc.PolicyReject
	for _, c := range []struct {
		name        string
		policy      Policy
		author      string
		nonexistent bool
		want        dmarc.Policy
	}{
		{"p for the domain", Policy{P: reject, SP: none, NP: none}, "", false, reject},
		{"p for a subdomain without sp", Policy{P: reject}, "a.acme.example", false, reject},
		{"sp for a subdomain", Policy{P: reject, SP: none}, "a.acme.example", false, none},
		{"np for one that does not exist", Policy{P: none, SP: none, NP: reject}, "a.acme.example", true, reject},
		{"sp for one that does not exist, without np", Policy{P: none, SP: quarantine}, "a.acme.example", true, quarantine},
		{"np says nothing about one that exists", Policy{P: none, SP: none, NP: reject}, "a.acme.example", false, none},
		{"t=y makes quarantine of reject", Policy{P: reject, Testing: true}, "", false, quarantine},
		{"t=y makes none of quarantine", Policy{P: quarantine, Testing: true}, "", false, none},
		{"t=y leaves none", Policy{P: none, Testing: true}, "", false, none},
	} {
		if got := c.policy.applied(c.author, c.nonexistent); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestReplayingAPolicy(t *testing.T) {
	w := newWorld(2).send("192.0.2.1", own(), 100, 0, 2, 1).send("203.0.113.1", because("mailing_list", spoof()), 7, 0, 2, 1)
	w.send("198.51.100.1", spoof(), 10, 0, 2, 1).send("198.51.100.1", from("a.acme.example", spoof()), 5, 0, 1, 1)
	e := w.evidence()
	got := Simulate(e, Classify(e), WhatIf{Policy: Policy{P: dmarc.PolicyReject, SP: dmarc.PolicyQuarantine}})
	want := &Simulation{
		Policy:     Policy{P: dmarc.PolicyReject, SP: dmarc.PolicyQuarantine},
		Total:      Loss{Messages: 239, Quarantined: 5, Rejected: 20, Spared: 14},
		BySource:   []Loss{{Messages: 200}, {Messages: 25, Quarantined: 5, Rejected: 20}, {Messages: 14, Spared: 14}},
		ByReporter: map[int64]Loss{1: {Messages: 122, Quarantined: 5, Rejected: 10, Spared: 7}, 2: {Messages: 117, Rejected: 10, Spared: 7}},
		ByDay:      map[time.Time]Loss{start: {Messages: 122, Quarantined: 5, Rejected: 10, Spared: 7}, start.AddDate(0, 0, 1): {Messages: 117, Rejected: 10, Spared: 7}},
		ByAuthor:   map[string]Loss{"": {Messages: 234, Rejected: 20, Spared: 14}, "a.acme.example": {Messages: 5, Quarantined: 5}},
	}
	want.ByClass[dmarc.ClassOwn] = Loss{Messages: 200}
	want.ByClass[dmarc.ClassForwarder] = Loss{Messages: 14, Spared: 14}
	want.ByClass[dmarc.ClassSuspicious] = Loss{Messages: 25, Quarantined: 5, Rejected: 20}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

func TestAReportThatTellsNoModesWasMadeUnderThoseInForce(t *testing.T) {
	w := newWorld(2)
	w.policy.ADKIM, w.policy.ASPF = dmarc.AlignmentUnknown, dmarc.AlignmentUnknown
	w.send("192.0.2.1", from("a.acme.example", own()), 10, 0, 2, 1)
	e := w.evidence()
	strict := Policy{P: dmarc.PolicyReject, ADKIM: dmarc.AlignmentStrict, ASPF: dmarc.AlignmentStrict}
	if n := Simulate(e, Classify(e), WhatIf{Policy: strict}).Total.Affected(); n != 20 {
		t.Errorf("strict where relaxed is in force: %d affected, want 20", n)
	}
	e.Published.ADKIM, e.Published.ASPF = dmarc.AlignmentStrict, dmarc.AlignmentStrict
	if n := Simulate(e, Classify(e), WhatIf{Policy: strict}).Total.Affected(); n != 0 {
		t.Errorf("strict where strict is in force: %d affected, want none", n)
	}
}

// randomEvidence is anything that reports can say.
func randomEvidence(rnd *rand.Rand) *Evidence {
	w := newWorld(20)
	pick := func(words ...string) string { return words[rnd.IntN(len(words))] }
	domains := []string{"acme.example", "news.acme.example", "mailer.example", "x.invalid", ""}
	for range 300 {
		row := dmarc.Row{
			Source:     netip.AddrFrom4([4]byte{203, 0, 113, byte(rnd.IntN(20))}),
			Count:      rnd.Int64N(30),
			HeaderFrom: pick("acme.example", "news.acme.example", "no-such.acme.example"),
			DKIM:       dmarc.Result(rnd.IntN(3)), SPF: dmarc.Result(rnd.IntN(3)), Disposition: dmarc.Disposition(rnd.IntN(5)),
		}
		for range rnd.IntN(3) {
			row.AuthDKIM = append(row.AuthDKIM, dmarc.DKIMResult{Domain: pick(domains...), Selector: pick("k1", "k2", ""), Result: dmarc.Result(rnd.IntN(9))})
		}
		if rnd.IntN(2) == 0 {
			row.AuthSPF = []dmarc.SPFResult{{Domain: pick(domains...), Result: dmarc.Result(rnd.IntN(9))}}
		}
		if rnd.IntN(5) == 0 {
			row.Reasons = []dmarc.Reason{{Type: pick("forwarded", "mailing_list", "local_policy", "sampled_out", "other")}}
		}
		policy := randomPolicy(rnd)
		published := dmarc.PolicyPublished{Domain: "acme.example", P: policy.P, SP: policy.SP, ADKIM: policy.ADKIM, ASPF: policy.ASPF}
		at := start.AddDate(0, 0, rnd.IntN(20))
		w.facts.Add(&row, &published, dmarc.Attribution{Days: []time.Time{at}, Main: at, Dated: true}, rnd.Int64N(5))
	}
	e := w.evidence()
	p := randomPolicy(rnd)
	e.Published.P, e.Published.SP, e.Published.NP, e.Published.ADKIM, e.Published.ASPF, e.Published.Testing = p.P, p.SP, p.NP, p.ADKIM, p.ASPF, p.Testing
	e.Nonexistent = func(name string) bool { return name == "no-such.acme.example" }
	return e
}

func randomPolicy(rnd *rand.Rand) Policy {
	return Policy{
		P: dmarc.Policy(1 + rnd.IntN(3)), SP: dmarc.Policy(rnd.IntN(4)), NP: dmarc.Policy(rnd.IntN(4)), Testing: rnd.IntN(4) == 0,
		ADKIM: dmarc.AlignmentMode(rnd.IntN(3)), ASPF: dmarc.AlignmentMode(rnd.IntN(3)),
	}
}

// made stricter in one respect.
func tighten(rnd *rand.Rand, p Policy) Policy {
	switch rnd.IntN(6) {
	case 0:
		p.P = min(p.P+1, dmarc.PolicyReject)
	case 1:
		if p.SP != dmarc.PolicyUnknown {
			p.SP = min(p.SP+1, dmarc.PolicyReject)
		}
	case 2:
		if p.NP != dmarc.PolicyUnknown {
			p.NP = min(p.NP+1, dmarc.PolicyReject)
		}
	case 3:
		p.Testing = false
	case 4:
		p.ADKIM = dmarc.AlignmentStrict
	case 5:
		p.ASPF = dmarc.AlignmentStrict
	}
	return p
}

func TestStricterNeverAffectsFewer(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		e := randomEvidence(rnd)
		sources := Classify(e)
		p := randomPolicy(rnd)
		for range 5 {
			q := tighten(rnd, p)
			before, after := Simulate(e, sources, WhatIf{Policy: p}), Simulate(e, sources, WhatIf{Policy: q})
			if after.Total.Affected() < before.Total.Affected() {
				t.Fatalf("%v affects %d, %v only %d", p, before.Total.Affected(), q, after.Total.Affected())
			}
			for i := range sources {
				if after.BySource[i].Affected() < before.BySource[i].Affected() {
					t.Fatalf("%v affects %d of a source, %v only %d", p, before.BySource[i].Affected(), q, after.BySource[i].Affected())
				}
			}
			p = q
		}
		for _, q := range p.stricter() {
			if got, want := Simulate(e, sources, WhatIf{Policy: q}).Total.Affected(), Simulate(e, sources, WhatIf{Policy: p}).Total.Affected(); got < want {
				t.Fatalf("the stricter %v affects %d, %v %d", q, got, p, want)
			}
			p = q
		}
	}
}

func TestRepairingNeverAffectsMore(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		e := randomEvidence(rnd)
		sources := Classify(e)
		p := randomPolicy(rnd)
		repaired := make(map[netip.Prefix]bool)
		last := Simulate(e, sources, WhatIf{Policy: p}).Total
		for _, i := range rnd.Perm(len(sources)) {
			repaired[sources[i].Source.Source] = true
			s := Simulate(e, sources, WhatIf{Policy: p, Repaired: repaired})
			if s.Total.Affected() > last.Affected() || s.BySource[i].Affected() != 0 || s.Total.Messages != last.Messages {
				t.Fatalf("with %v repaired: %+v, before %+v", sources[i].Source.Source, s.Total, last)
			}
			last = s.Total
		}
		if last.Affected() != 0 {
			t.Fatalf("with everything repaired, %d are affected", last.Affected())
		}
	}
}

func TestAllWaysToSumAgree(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		e := randomEvidence(rnd)
		s := Simulate(e, Classify(e), WhatIf{Policy: randomPolicy(rnd)})
		var sums [5]Loss
		for _, l := range s.ByClass {
			sums[0].merge(l)
		}
		for _, l := range s.BySource {
			sums[1].merge(l)
		}
		for _, l := range s.ByReporter {
			sums[2].merge(l)
		}
		for _, l := range s.ByDay {
			sums[3].merge(l)
		}
		for _, l := range s.ByAuthor {
			sums[4].merge(l)
		}
		if want := [5]Loss{s.Total, s.Total, s.Total, s.Total, s.Total}; sums != want {
			t.Fatalf("%+v, want %+v", sums, s.Total)
		}
	}
}

func TestFoldedFactsHaveTheSameLoss(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 30 {
		e := randomEvidence(rnd)
		var all []dmarc.SourceDay
		for _, s := range e.Sources {
			all = append(all, s.SourceDays()...)
		}
		w := newWorld(20)
		folded := w.evidence()
		folded.Published = e.Published
		folded.Nonexistent = e.Nonexistent
		byDay := make(map[time.Time][]dmarc.SourceDay)
		for _, d := range all {
			byDay[d.Day] = append(byDay[d.Day], d)
		}
		var days []dmarc.SourceDay
		for _, d := range byDay {
			days = append(days, dmarc.Fold(d, 3)...)
		}
		folded.Sources = Collect(dmarc.FactsBySource(days))
		p := randomPolicy(rnd)
		a, b := Simulate(e, Classify(e), WhatIf{Policy: p}), Simulate(folded, Classify(folded), WhatIf{Policy: p})
		if a.Total != b.Total || !reflect.DeepEqual(a.ByReporter, b.ByReporter) || !reflect.DeepEqual(a.ByDay, b.ByDay) || !reflect.DeepEqual(a.ByAuthor, b.ByAuthor) {
			t.Fatalf("%v: %+v, folded %+v", p, a.Total, b.Total)
		}
	}
}

func TestDispositionsAgreeWithThePolicyOfTheTime(t *testing.T) {
	w := newWorld(5)
	w.policy.P = dmarc.PolicyReject
	w.send("192.0.2.1", own(), 10, 0, 5, 1).send("198.51.100.1", stopped(dmarc.DispositionReject, spoof()), 3, 0, 5, 1)
	w.send("203.0.113.1", because("forwarded", forwardBroken()), 2, 0, 5, 1) // let through
	w.send("203.0.113.2", spoof(), 1, 0, 5, 1)                               // let through, nobody knows why
	w.send("203.0.113.3", stopped(dmarc.DispositionUnknown, own()), 4, 0, 5, 1)
	w.send("203.0.113.4", stopped(dmarc.DispositionPass, own()), 6, 0, 5, 1)
	if got, want := Agree(w.evidence().Sources), (Agreement{Agree: 95, Explained: 10, Unexplained: 5, Unstated: 20}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
