package store_test

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/store"
)

// The same reports give the same answers, on one machine and spread over many.
func TestSpreadOverMachinesEverythingIsTheSame(t *testing.T) {
	url := pgtest.Citus(t)
	ctx := context.Background()
	db, err := store.Open(ctx, url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := migrations.Apply(ctx, db); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := migrations.Distribute(ctx, db); err != nil {
			t.Fatal(err)
		}
	}
	spread := store.New(db, slog.New(slog.DiscardHandler))
	single, _ := open(t)
	for _, s := range []*store.Store{spread, single} {
		fill(t, s, 31, 300)
		if err := s.SummariseFacts(ctx); err != nil {
			t.Fatal(err)
		}
		if v, found := verify(t, s, false); len(found) > 0 || v.Pending > 0 {
			t.Errorf("%+v %q", v, found)
		}
	}
	list := func(s *store.Store) []dmarc.DomainTraffic {
		items, _, err := s.Domains(ctx, dmarc.DomainQuery{Scope: dmarc.Everything, Period: year, Page: dmarc.Page{Limit: 10}})
		if err != nil {
			t.Fatal(err)
		}
		return items
	}
	want := list(single)
	for i, got := range list(spread) {
		if got.Domain != want[i].Domain || got.Tally != want[i].Tally || got.Reports != want[i].Reports || !got.LastDay.Equal(want[i].LastDay) {
			t.Errorf("%+v, want %+v", got, want[i])
		}
		for name, ask := range questions(got.Domain, year) {
			if err := ask(spread); err != nil {
				t.Errorf("%s of %s: %v", name, got.Domain, err)
			}
		}
		sameFacts(t, spread, single, got.Domain)
		set := records.RecordSet{Name: got.Domain, Type: "TXT", Values: []string{"v=spf1 -all"}}
		for _, value := range []string{"v=spf1 -all", "v=spf1 ~all"} {
			set.Values = []string{value}
			look := &records.Look{Domain: got.Domain, At: received, Next: received, Result: &records.Result{Domain: got.Domain}, Records: []records.RecordSet{set}}
			if err := spread.SaveLook(ctx, look); err != nil {
				t.Error(err)
			}
		}
		if changes, _, err := spread.RecordChanges(ctx, got.Domain, dmarc.ChangeQuery{Page: dmarc.Page{Limit: 10}}); err != nil || len(changes) != 1 {
			t.Errorf("changes of %s: %+v, %v", got.Domain, changes, err)
		}
		if since, err := spread.Unchanged(ctx, got.Domain); err != nil || len(since) != 1 {
			t.Errorf("records of %s: %v, %v", got.Domain, since, err)
		}
	}
	if due, err := spread.DueDomains(ctx, received, 10); err != nil || len(due) != len(want) {
		t.Errorf("%q are due, %v; want %d", due, err, len(want))
	}
	if _, err := spread.Unverified(ctx, received, 10); err != nil {
		t.Error(err)
	}
	expire(t, spread, store.Retention{Rows: 20 * days, Raw: 20 * days, Failures: days, Totals: 60 * days})
}

// sameFacts holds what advice rests on in one store against another. Numbers of
// reporters, which are part of facts, are given anew by each.
func sameFacts(t *testing.T, a, b *store.Store, domain string) {
	t.Helper()
	var sums [2]map[netip.Prefix]int
	var keys [2]dmarc.SelectorList
	for i, s := range []*store.Store{a, b} {
		facts, err := s.Facts(context.Background(), domain, year)
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = make(map[netip.Prefix]int)
		for _, f := range facts {
			sums[i][f.Source] += len(f.SourceDays())
		}
		keys[i], _, err = s.Selectors(context.Background(), dmarc.TrafficQuery{Domain: domain, Period: year, Page: dmarc.Page{Limit: 100}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(sums[0], sums[1]) || !reflect.DeepEqual(keys[0], keys[1]) {
		t.Errorf("%s: days by source %v and selectors %+v, want %v and %+v", domain, sums[0], keys[0], sums[1], keys[1])
	}
}
