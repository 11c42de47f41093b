package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// The lists of days tell what their lines do, however they are filtered, sorted and
// paged, and a cursor of one leads on in the other.
func TestListsOfSourcesTellWhatTheirLinesDo(t *testing.T) {
	s, db := open(t)
	fill(t, s, 31, 300)
	rnd := rand.New(rand.NewPCG(32, 1))
	var questions []dmarc.TrafficQuery
	var answers []dmarc.SourceList
	var cursors []dmarc.Cursor
	ask := func(q dmarc.TrafficQuery) dmarc.Cursor {
		list, next, err := s.Sources(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		questions, answers, cursors = append(questions, q), append(answers, list), append(cursors, next)
		return next
	}
	for _, sort := range []dmarc.Sort{"", "messages", "-failed", "failed", "-pass_rate", "pass_rate", "quarantine", "-reject", "first_day", "-last_day", "source", "-source"} {
		for range 4 {
			begin := time.Date(2025, 12, 1+rnd.IntN(90), 0, 0, 0, 0, time.UTC)
			q := dmarc.TrafficQuery{Domain: "d1.example", Period: dmarc.Period{Begin: begin, End: begin.AddDate(0, 0, 1+rnd.IntN(100))}, Page: dmarc.Page{Sort: sort, Limit: 1 + rnd.IntN(40)}}
			q.Aligned, q.Disposition = [...]dmarc.Choice{dmarc.Either, dmarc.Yes, dmarc.No}[rnd.IntN(3)], dmarc.Disposition(rnd.IntN(5))
			if rnd.IntN(2) == 0 {
				q.Source = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 0, byte(rnd.IntN(256))}), 20+rnd.IntN(13))
			}
			for range 3 {
				if q.After = ask(q); q.After == "" {
					break
				}
			}
		}
	}
	// One that another dmarcd left behind is not read.
	change(t, db, "UPDATE source_lists SET lines = '', summarised = summarised - 1 WHERE day < '2026-02-20'")
	change(t, db, "DELETE FROM source_lists WHERE day >= '2026-02-20'")
	shown := 0
	for i, q := range questions {
		list, next, err := s.Sources(context.Background(), q)
		if err != nil || next != cursors[i] || !reflect.DeepEqual(list, answers[i]) {
			t.Errorf("%+v:\n%+v %q by lists,\n%+v %q by lines, %v", q, answers[i], cursors[i], list, next, err)
		}
		shown += len(list.Items)
	}
	if shown < 500 {
		t.Errorf("only %d sources were compared", shown)
	}
	// A pass makes those that are missing.
	change(t, db, "DELETE FROM source_lists")
	change(t, db, "UPDATE source_lists_made SET domain_id = 0")
	if err := s.SummariseSources(t.Context()); err != nil {
		t.Fatal(err)
	}
	var listed, days int
	if err := db.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM source_lists), (SELECT count(*) FROM domain_days)").Scan(&listed, &days); err != nil || listed != days || days == 0 {
		t.Errorf("%d of %d days have a list, %v", listed, days, err)
	}
	if v, found := verify(t, s, false); len(found) > 0 || v.Lines["source_lists"] != int64(days) {
		t.Errorf("%+v %q", v, found)
	}
	for i, q := range questions {
		if list, _, err := s.Sources(context.Background(), q); err != nil || !reflect.DeepEqual(list, answers[i]) {
			t.Errorf("%+v: %+v, want %+v, %v", q, list, answers[i], err)
		}
	}
}

// While reports arrive and several passes run, lists agree with their lines.
func TestListsAgreeWithLinesWhilePassesRun(t *testing.T) {
	s, db := open(t)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				if _, err := db.Exec(context.Background(), "UPDATE source_lists_made SET domain_id = 0"); err != nil {
					t.Error(err)
				}
				if err := s.SummariseSources(context.Background()); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 40 {
		r := daily(fmt.Sprint(i), row(fmt.Sprintf("192.0.2.%d", i%7), int64(1+i), pass, fail, dmarc.DispositionNone))
		r.begin = february.Begin.AddDate(0, 0, i%5)
		add(t, s, mail(uint32(i+1), r))
		if v, found := verify(t, s, false); len(found) > 0 {
			t.Errorf("after %d reports: %+v %q", i+1, v, found)
		}
	}
	close(done)
	wg.Wait()
	if err := s.SummariseSources(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, found := verify(t, s, false); len(found) > 0 || v.Pending > 0 || v.Lines["source_lists"] != 5 {
		t.Errorf("at the end: %+v %q", v, found)
	}
}
