package store_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// The same reports give the same answers, on one machine and spread over many.
func TestSpreadOverMachinesEverythingIsTheSame(t *testing.T) {
	url := pgtest.Citus(t)
	ctx := context.Background()
	db, err := store.Open(ctx, url)
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
		if v, found := verify(t, s, false); len(found) > 0 || v.Pending > 0 {
			t.Errorf("%+v %q", v, found)
		}
	}
	list := func(s *store.Store) []dmarc.DomainTraffic {
		items, _, err := s.Domains(ctx, dmarc.DomainQuery{Period: year, Page: dmarc.Page{Limit: 10}})
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
	}
	expire(t, spread, store.Retention{Rows: 20 * days, Raw: 20 * days, Failures: days, Totals: 60 * days})
}
