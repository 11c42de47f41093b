package store_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/store"
)

// of makes a report about a domain that nothing else is the same in.
func of(domain string, rows ...dmarc.Row) report {
	r := daily("of "+domain, rows...)
	r.domain = domain
	return r
}

func due(t *testing.T, s *store.Store, at time.Time) []dmarc.DueVerdict {
	t.Helper()
	list, err := s.DueVerdicts(context.Background(), at, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func domains(list []dmarc.DueVerdict) (names []string) {
	for _, d := range list {
		names = append(names, d.Domain)
	}
	return names
}

func judge(t *testing.T, s *store.Store, d dmarc.DueVerdict, v dmarc.DomainVerdict, classes ...dmarc.SourceClass) {
	t.Helper()
	if v.ComputedAt.IsZero() {
		v.ComputedAt = time.Now().UTC().Truncate(time.Microsecond)
	}
	if err := s.SaveVerdict(context.Background(), d, &v, classes); err != nil {
		t.Fatal(err)
	}
}

func class(source string, c dmarc.Class, n int64) dmarc.SourceClass {
	p := netip.MustParsePrefix(source)
	return dmarc.SourceClass{Source: p, Class: c, Confidence: 1, Alone: c, Messages: n}
}

// Whatever a verdict rests on has it computed again, soon but not all the time,
// and at once if somebody waits for it.
func TestVerdictsAreDueWhenSomethingChanged(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	fresh := func() {
		t.Helper()
		for _, d := range due(t, s, time.Now().Add(time.Hour)) {
			judge(t, s, d, dmarc.DomainVerdict{})
		}
		if got := due(t, s, time.Now().Add(18*time.Hour)); len(got) > 0 {
			t.Fatalf("%q are due although all is known", domains(got))
		}
	}
	n := uint32(0)
	arrive := func() {
		t.Helper()
		n++
		a := of("a.example", row("192.0.2.1", int64(n), pass, pass, dmarc.DispositionNone))
		a.id = fmt.Sprint(n)
		add(t, s, mail(n, a))
		if err := s.SummariseFacts(ctx); err != nil {
			t.Fatal(err)
		}
	}
	arrive()
	if got := domains(due(t, s, time.Now())); !reflect.DeepEqual(got, []string{"a.example"}) {
		t.Fatalf("%q are due after the first report", got)
	}
	for _, d := range due(t, s, time.Now()) {
		if err := s.PostponeVerdict(ctx, d, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if got := due(t, s, time.Now()); len(got) > 0 {
		t.Errorf("%q are due although they were postponed", domains(got))
	}
	fresh()
	if got := domains(due(t, s, time.Now().Add(24*time.Hour))); len(got) != 1 {
		t.Error("nothing is due a day later")
	}

	arrive()
	if got := due(t, s, time.Now()); len(got) > 0 {
		t.Error("a verdict that was computed a moment ago is computed again at once")
	}
	soon := func() time.Time { return time.Now().Add(6 * time.Minute) } // than the last verdict, however long the test takes
	if got := due(t, s, soon()); len(got) != 1 {
		t.Error("new facts have no verdict follow")
	}
	fresh()
	if err := s.SaveLook(ctx, &records.Look{Domain: "a.example", At: received, Next: received, Result: &records.Result{}}); err != nil {
		t.Fatal(err)
	}
	if got := due(t, s, soon()); len(got) != 1 {
		t.Error("a look has no verdict follow")
	}
	fresh()
	for _, scope := range []string{"a.example", ""} {
		if _, err := s.PutOverrule(ctx, &dmarc.Overrule{Domain: scope, Network: netip.MustParsePrefix("192.0.2.1/32"), Class: dmarc.ClassOwn, At: received}); err != nil {
			t.Fatal(err)
		}
		if got := due(t, s, time.Now().Add(time.Second)); len(got) != 1 {
			t.Errorf("what is said for %q has no verdict follow at once", scope)
		}
		fresh()
		if err := s.DropOverrule(ctx, scope, netip.MustParsePrefix("192.0.2.1/32")); err != nil {
			t.Fatal(err)
		}
		if got := due(t, s, time.Now().Add(time.Second)); len(got) != 1 {
			t.Errorf("what is taken back for %q has no verdict follow at once", scope)
		}
		fresh()
	}

	// What changes while it is computed is not forgotten.
	arrive()
	d := due(t, s, soon())[0]
	arrive()
	judge(t, s, d, dmarc.DomainVerdict{})
	if got := due(t, s, soon()); len(got) != 1 {
		t.Error("a change while the verdict was computed is lost")
	}
	fresh()

	// Whose an address turned out to be, some minutes later.
	judge(t, s, due(t, s, time.Now().Add(48*time.Hour))[0], dmarc.DomainVerdict{}, class("192.0.2.1/32", dmarc.ClassUnknown, 5))
	list, err := s.DueSources(ctx, time.Now(), 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	list[0].Identity = dmarc.SourceIdentity{PTR: dmarc.LookupFound, Names: []string{"mx.a.example"}, CheckedAt: received, DueAt: time.Now().Add(time.Hour)}
	if err := s.PutIdentities(ctx, list); err != nil {
		t.Fatal(err)
	}
	if got := due(t, s, time.Now().Add(11*time.Minute)); len(got) != 1 {
		t.Error("whose an address is has no verdict follow")
	}
	judge(t, s, due(t, s, time.Now().Add(time.Hour))[0], dmarc.DomainVerdict{}, class("192.0.2.1/32", dmarc.ClassOwn, 5))
	if err := s.PutIdentities(ctx, list); err != nil {
		t.Fatal(err)
	}
	if got := due(t, s, time.Now().Add(time.Hour)); len(got) > 0 {
		t.Error("an address that is as it was has a verdict computed")
	}
}

// Domains are found by how many sources their last verdicts are about.
func TestDomainsOfManySourcesAreFound(t *testing.T) {
	s, _ := open(t)
	for i, name := range []string{"a.example", "b.example", "c.example"} {
		rep := daily(strconv.Itoa(i), row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone))
		rep.domain = name
		add(t, s, mail(uint32(i+1), rep))
	}
	if err := s.SummariseFacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range due(t, s, time.Now().Add(time.Hour)) {
		var classes []dmarc.SourceClass
		for i := range map[string]int{"a.example": 2, "b.example": 1, "c.example": 3}[d.Domain] {
			classes = append(classes, class(fmt.Sprintf("192.0.2.%d/32", i+1), dmarc.ClassOwn, 5))
		}
		judge(t, s, d, dmarc.DomainVerdict{}, classes...)
	}
	for _, c := range []struct {
		least, limit int
		want         string
	}{{1, 9, "c.example a.example b.example"}, {2, 9, "c.example a.example"}, {1, 1, "c.example"}, {4, 9, ""}} {
		names, err := s.DomainsOfManySources(t.Context(), c.least, c.limit)
		if got := strings.Join(names, " "); err != nil || got != c.want {
			t.Errorf("at least %d, at most %d: %q, %v; want %q", c.least, c.limit, got, err, c.want)
		}
	}
}

// The most urgent come first, page by page, and each verdict is shown with its
// domain wherever that is.
func TestVerdictsAreKeptAndListedByUrgency(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	names := []string{"a.example", "b.example", "c.example", "d.example", "e.example"}
	for i, name := range names {
		add(t, s, mail(uint32(i+1), of(name, row("192.0.2.1", 3, pass, pass, dmarc.DispositionNone))))
	}
	verdicts := map[string]dmarc.DomainVerdict{
		"a.example": {Verdict: "done", Attention: dmarc.AttentionNone, Sentence: "Done."},
		"b.example": {Verdict: "ready", Attention: dmarc.AttentionReady, LossADay: 0.1, Next: "p=reject", Sentence: "Ready \x00 for it."},
		"c.example": {Verdict: "not_ready", Attention: dmarc.AttentionNewFailure, LossADay: 3.3},
		"d.example": {
			Verdict: "not_ready", Policy: "p=none", Target: "p=quarantine", Attention: dmarc.AttentionNewFailure, LossADay: 17.25, Blockers: 2, Ask: 1, Days: 9,
			ByClass: [dmarc.NumClasses]int64{1, 2, 3, 4, 5}, Own: 5, Passing: 4, Sentence: "It has failed.",
		},
	}
	for _, d := range due(t, s, time.Now()) {
		if v, ok := verdicts[d.Domain]; ok {
			v.Domain, v.ComputedAt = d.Domain, received
			judge(t, s, d, v)
			if d.Domain == "b.example" {
				v.Sentence = "Ready  for it."
			}
			verdicts[d.Domain] = v
		}
	}
	var got []dmarc.DomainVerdict
	var next dmarc.Cursor
	for i := 0; i == 0 || next != ""; i++ {
		page, after, err := s.Attention(ctx, dmarc.AttentionQuery{Scope: dmarc.Everything, Page: dmarc.Page{After: next, Limit: 1}})
		if err != nil || i > 5 {
			t.Fatal(err)
		}
		got, next = append(got, page...), after
	}
	want := []dmarc.DomainVerdict{verdicts["d.example"], verdicts["c.example"], verdicts["b.example"], verdicts["a.example"]}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if _, _, err := s.Attention(ctx, dmarc.AttentionQuery{Scope: dmarc.Everything, Page: dmarc.Page{After: "bm9uZQ", Limit: 1}}); !errors.Is(err, dmarc.ErrBadCursor) {
		t.Errorf("a made-up cursor: %v", err)
	}
	one, _, err := s.Attention(ctx, dmarc.AttentionQuery{Scope: dmarc.ScopeOf("c.example"), Page: dmarc.Page{Limit: 9}})
	if err != nil || len(one) != 1 || one[0].Domain != "c.example" {
		t.Errorf("in the scope of one domain: %+v, %v", one, err)
	}
	list, _, err := s.Domains(ctx, dmarc.DomainQuery{Scope: dmarc.Everything, Period: february, Page: dmarc.Page{Limit: 10}})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		v, ok := verdicts[l.Domain]
		if ok != (l.Verdict != nil) || ok && !reflect.DeepEqual(*l.Verdict, v) {
			t.Errorf("%s is listed with %+v", l.Domain, l.Verdict)
		}
		if sum := summary(t, s, l.Domain); !reflect.DeepEqual(sum.Verdict, l.Verdict) {
			t.Errorf("%s is summed up with %+v", l.Domain, sum.Verdict)
		}
	}
}

// Domains are listed by urgency, page by page; of those alike the busiest
// first, and those that nobody has judged yet last.
func TestDomainsAreListedByUrgency(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	for i, name := range []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example"} {
		add(t, s, mail(uint32(i+1), of(name, row("192.0.2.1", int64(1+i), pass, pass, dmarc.DispositionNone))))
	}
	verdicts := map[string]dmarc.DomainVerdict{
		"a.example": {Attention: dmarc.AttentionNewFailure, LossADay: 3.25, Policy: "p=none", Own: 9, Passing: 7}, "b.example": {Attention: dmarc.AttentionNewFailure, LossADay: 17.1},
		"c.example": {Attention: dmarc.AttentionNone}, "d.example": {Attention: dmarc.AttentionNone}, "e.example": {Attention: dmarc.AttentionReady},
	}
	for _, d := range due(t, s, time.Now()) {
		if v, ok := verdicts[d.Domain]; ok {
			judge(t, s, d, v)
		}
	}
	list := func(q dmarc.DomainQuery) (names []string) {
		t.Helper()
		q.Period, q.Urgent = february, true
		var sum dmarc.DomainsTotal
		for i := 0; i == 0 || q.After != ""; i++ {
			page, after, total, err := s.DomainsWithTotal(ctx, q)
			if err != nil || i > 9 {
				t.Fatal(err)
			}
			if total.Before != len(names) {
				t.Errorf("%d stand before the page that begins with the cursor %q, want %d", total.Before, q.After, len(names))
			}
			if alone, next, err := s.Domains(ctx, q); err != nil || next != after || !reflect.DeepEqual(alone, page) {
				t.Errorf("without the total: %+v, %q, %v; want %+v, %q", alone, next, err, page, after)
			}
			for _, d := range page {
				names = append(names, d.Domain)
				sum.Domains++
				sum.Messages += d.Tally.Messages
				sum.DMARCPass += d.Tally.DMARCPass
				if d.Verdict != nil {
					sum.Judged++
					sum.LossADay += d.Verdict.LossADay
					sum.Own += d.Verdict.Own
					sum.Passing += d.Verdict.Passing
				}
				if d.Verdict != nil && d.Verdict.Policy == "p=none" {
					sum.None++
				}
			}
			if q.After = after; after == "" {
				if total.Before = 0; !reflect.DeepEqual(total, sum) {
					t.Errorf("the total is %+v, want %+v", total, sum)
				}
			}
		}
		return names
	}
	want := []string{"b.example", "a.example", "e.example", "d.example", "c.example", "f.example"}
	for _, limit := range []int{1, 2, 100} {
		if got := list(dmarc.DomainQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: limit}}); !slices.Equal(got, want) {
			t.Errorf("%d a page: %q, want %q", limit, got, want)
		}
	}
	if got := list(dmarc.DomainQuery{Scope: dmarc.ScopeOf("a.example", "f.example"), Page: dmarc.Page{Limit: 1}}); !slices.Equal(got, []string{"a.example", "f.example"}) {
		t.Errorf("in a scope: %q", got)
	}
	none, next, total, err := s.DomainsWithTotal(ctx, dmarc.DomainQuery{Scope: dmarc.Everything, Period: february, Search: "nobody", Page: dmarc.Page{Limit: 1}})
	if err != nil || len(none) != 0 || next != "" || total != (dmarc.DomainsTotal{}) {
		t.Errorf("of no domains: %+v, %q, %+v, %v", none, next, total, err)
	}
	if got := list(dmarc.DomainQuery{Scope: dmarc.Everything, Search: "d.ex", Page: dmarc.Page{Limit: 1}}); !slices.Equal(got, []string{"d.example"}) {
		t.Errorf("searched: %q", got)
	}
	for _, c := range []dmarc.Cursor{"x", "bm9uZQ", dmarc.Cursor(base64.RawURLEncoding.EncodeToString([]byte("1 7ff8000000000001 0 a"))), dmarc.Cursor(base64.RawURLEncoding.EncodeToString([]byte("-1 0 0 a")))} {
		if _, _, err := s.Domains(ctx, dmarc.DomainQuery{Scope: dmarc.Everything, Period: february, Urgent: true, Page: dmarc.Page{After: c, Limit: 1}}); !errors.Is(err, dmarc.ErrBadCursor) {
			t.Errorf("the cursor %q: %v", c, err)
		}
	}
}

// The installation knows of each address how many domains class it how, and
// forgets those that nobody has any more.
func TestAddressesAreCountedByTheDomainsThatClassThem(t *testing.T) {
	s, db := open(t)
	ctx := context.Background()
	for i := range 6 {
		add(t, s, mail(uint32(i+1), of(fmt.Sprintf("d%d.example", i), row("192.0.2.1", 3, pass, pass, dmarc.DispositionNone))))
	}
	all := due(t, s, time.Now())
	r := rand.New(rand.NewPCG(3, 4))
	latest := make(map[string]map[netip.Prefix]dmarc.SourceClass)
	for range 60 {
		d := all[r.IntN(len(all))]
		var list []dmarc.SourceClass
		latest[d.Domain] = make(map[netip.Prefix]dmarc.SourceClass)
		for _, i := range r.Perm(12)[:r.IntN(12)] {
			source := fmt.Sprintf("192.0.2.%d/32", i)
			if i > 9 {
				source = fmt.Sprintf("198.51.%d.0/24", i) // stands for many addresses
			}
			c := class(source, dmarc.Class(r.IntN(dmarc.NumClasses)), 1<<r.IntN(12))
			list = append(list, c)
			latest[d.Domain][c.Source] = c
		}
		judge(t, s, d, dmarc.DomainVerdict{}, list...)
	}
	type known struct {
		messages int64
		domains  [dmarc.NumClasses]int
	}
	want := make(map[netip.Addr]known)
	for domain, list := range latest {
		var sources []dmarc.SourceClass
		for p, c := range list {
			sources = append(sources, c)
			if p.IsSingleIP() {
				k := want[p.Addr()]
				k.messages += c.Messages
				k.domains[c.Alone]++
				want[p.Addr()] = k
			}
		}
		got, err := s.SourceClasses(ctx, domain)
		if err != nil || len(got) != len(sources) || !slices.IsSortedFunc(got, func(a, b dmarc.SourceClass) int { return int(b.Messages - a.Messages) }) {
			t.Errorf("%s: %v, %v", domain, got, err)
		}
		for _, c := range got {
			if c != list[c.Source] {
				t.Errorf("%s: %+v, want %+v", domain, c, list[c.Source])
			}
		}
	}
	rows, _ := db.Query(ctx, "SELECT source, messages, unknown, own, service, forwarder, suspicious FROM source_identities")
	n := 0
	for rows.Next() {
		var a netip.Addr
		var k known
		if err := rows.Scan(&a, &k.messages, &k.domains[0], &k.domains[1], &k.domains[2], &k.domains[3], &k.domains[4]); err != nil {
			t.Fatal(err)
		}
		n++
		if k != want[a] {
			t.Errorf("%s: %+v, want %+v", a, k, want[a])
		}
	}
	if n != len(want) {
		t.Errorf("%d addresses are known, want %d", n, len(want))
	}
	// What a domain is told of others leaves out what it says itself.
	addrs := []netip.Addr{netip.MustParseAddr("203.0.113.9")}
	for a := range want {
		addrs = append(addrs, a)
	}
	for domain, list := range latest {
		got, err := s.KnownSources(ctx, domain, addrs)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%v, %v", got, err)
		}
		for a, k := range got {
			others := want[a].domains
			if c, ok := list[netip.PrefixFrom(a, 32)]; ok {
				others[c.Alone]--
			}
			if k.Domains != others {
				t.Errorf("%s for %s: %v, want %v", a, domain, k.Domains, others)
			}
		}
	}
}

// Addresses that were never looked up come first, the busiest of them before
// the others; what is found out is kept.
func TestAddressesAreLookedUpByHowBusyTheyAre(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	add(t, s, mail(1, of("a.example", row("192.0.2.1", 3, pass, pass, dmarc.DispositionNone))))
	judge(t, s, due(t, s, time.Now())[0], dmarc.DomainVerdict{},
		class("192.0.2.1/32", dmarc.ClassOwn, 5), class("192.0.2.2/32", dmarc.ClassOwn, 500), class("2001:db8::1/128", dmarc.ClassOwn, 50), class("198.51.100.0/24", dmarc.ClassSuspicious, 5000))
	now := time.Now().UTC().Truncate(time.Microsecond)
	ask := func(at time.Time, limit int) (got []string) {
		t.Helper()
		list, err := s.DueSources(ctx, at, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			got = append(got, l.Source.String())
		}
		return got
	}
	if got := ask(now, 2); !reflect.DeepEqual(got, []string{"192.0.2.2", "2001:db8::1"}) {
		t.Errorf("%q are due", got)
	}
	found := dmarc.IdentifiedSource{Source: netip.MustParseAddr("192.0.2.2"), Identity: dmarc.SourceIdentity{
		PTR: dmarc.LookupFound, Names: []string{"a\x00.example"}, Unproven: []string{"b.example"}, CheckedAt: now, DueAt: now.Add(time.Hour),
		ASN: 4_294_967_295, Org: "Acme", Country: "DE",
	}}
	failed := dmarc.IdentifiedSource{Source: netip.MustParseAddr("2001:db8::1"), Identity: dmarc.SourceIdentity{PTR: dmarc.LookupFailed, CheckedAt: now, DueAt: now.Add(time.Minute), Failures: 3}}
	gone := dmarc.IdentifiedSource{Source: netip.MustParseAddr("203.0.113.1"), Identity: dmarc.SourceIdentity{PTR: dmarc.LookupAbsent, CheckedAt: now, DueAt: now}}
	if err := s.PutIdentities(ctx, []dmarc.IdentifiedSource{found, failed, gone}); err != nil {
		t.Fatal(err)
	}
	if got := ask(now, 9); !reflect.DeepEqual(got, []string{"192.0.2.1"}) {
		t.Errorf("%q are due", got)
	}
	if got := ask(now.Add(2*time.Hour), 9); !reflect.DeepEqual(got, []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}) {
		t.Errorf("%q are due two hours later", got)
	}
	known, err := s.KnownSources(ctx, "a.example", []netip.Addr{found.Source, failed.Source})
	if err != nil {
		t.Fatal(err)
	}
	found.Identity.Names = []string{"a.example"}
	failed.Identity.Names, failed.Identity.Unproven = []string{}, []string{}
	if got := known[found.Source].Identity; !reflect.DeepEqual(got, found.Identity) {
		t.Errorf("got %+v\nwant %+v", got, found.Identity)
	}
	if got := known[failed.Source].Identity; !reflect.DeepEqual(got, failed.Identity) {
		t.Errorf("got %+v\nwant %+v", got, failed.Identity)
	}
}

func TestOverrulesOfADomainAndOfAll(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	add(t, s, mail(1, of("a.example", row("192.0.2.1", 3, pass, pass, dmarc.DispositionNone))))
	a := dmarc.Overrule{Domain: "a.example", Network: netip.MustParsePrefix("192.0.2.0/24"), Class: dmarc.ClassForwarder, Note: "a\x00list", By: "jo", At: received}
	everybody := dmarc.Overrule{Network: netip.MustParsePrefix("192.0.2.0/24"), Class: dmarc.ClassOwn, At: received}
	six := dmarc.Overrule{Domain: "a.example", Network: netip.MustParsePrefix("2001:db8::1/128"), Class: dmarc.ClassService, At: received}
	for _, o := range []dmarc.Overrule{six, a, everybody} {
		if added, err := s.PutOverrule(ctx, &o); err != nil || !added {
			t.Fatal(added, err)
		}
	}
	a.Note, a.By = "alist", "joe"
	if added, err := s.PutOverrule(ctx, &a); err != nil || added {
		t.Fatal(added, err)
	}
	for domain, want := range map[string][]dmarc.Overrule{"a.example": {everybody, a, six}, "": {everybody}} {
		if got, err := s.Overrules(ctx, domain); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("for %q: %+v, %v\nwant %+v", domain, got, err, want)
		}
	}
	if err := s.DropOverrule(ctx, "", six.Network); !errors.Is(err, dmarc.ErrNotFound) {
		t.Error(err)
	}
	if err := s.DropOverrule(ctx, "a.example", a.Network); err != nil {
		t.Error(err)
	}
	if got, err := s.Overrules(ctx, "a.example"); err != nil || len(got) != 2 {
		t.Error(got, err)
	}
	if _, err := s.Overrules(ctx, "never.example"); !errors.Is(err, dmarc.ErrNotFound) {
		t.Error(err)
	}
}
