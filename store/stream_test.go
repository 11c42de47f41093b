package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

// A consumer keeps what a stream tells it, by the rule that is documented: the
// latest revision of a report stands.
type consumer struct {
	s       *store.Store
	name    string
	reports map[string]held
	doubles int
}

type held struct {
	revision int64
	removed  bool
	rows     []string
}

func newConsumer(t *testing.T, s *store.Store, name string, fromNow bool) *consumer {
	t.Helper()
	if _, err := s.OpenStream(t.Context(), name, fromNow); err != nil {
		t.Fatal(err)
	}
	return &consumer{s: s, name: name, reports: map[string]held{}}
}

var errDied = errors.New("died")

// read takes what there is, and keeps the place after each page. It dies before
// that where dies says so.
func (c *consumer) read(ctx context.Context, limit int, dies func() bool) error {
	cursor, err := c.s.OpenStream(ctx, c.name, false)
	for err == nil {
		var changes []dmarc.ReportChange
		var next dmarc.Cursor
		if changes, next, err = c.s.ReportChanges(ctx, cursor, limit); err != nil || next == cursor {
			return err
		}
		err = c.s.EachCurrent(ctx, changes, false, func(_ *dmarc.ReportChange, cur *dmarc.CurrentReport) error {
			if dies() {
				return errDied
			}
			h := held{revision: cur.Revision, removed: cur.Removed}
			if !cur.Removed {
				for row, err := range cur.Report.Rows {
					if err != nil {
						return err
					}
					h.rows = append(h.rows, fmt.Sprintf("%s %s %d %v %v", row.Source, row.HeaderFrom, row.Count, row.DKIM, row.Disposition))
				}
				if int64(len(h.rows)) != cur.Report.Tally.Rows || !cur.RowsKept {
					return fmt.Errorf("report %s: %d rows of %d, kept %v", cur.ID, len(h.rows), cur.Report.Tally.Rows, cur.RowsKept)
				}
			}
			was, known := c.reports[cur.ID]
			switch {
			case known && was.revision == h.revision && !slices.Equal(was.rows, h.rows):
				return fmt.Errorf("report %s says something else in the same revision %d: %q, before %q", cur.ID, h.revision, h.rows, was.rows)
			case known && was.revision == h.revision:
				c.doubles++
			case known && was.revision > h.revision:
				// One that died is told of it again, and then of what came after.
				c.doubles++
				return nil
			}
			c.reports[cur.ID] = h
			return nil
		})
		if err == nil {
			err = c.s.MoveStream(ctx, dmarc.Lease{}, c.name, next)
		}
		cursor = next
	}
	return err
}

func (c *consumer) counted() map[string]held {
	now := maps.Clone(c.reports)
	maps.DeleteFunc(now, func(_ string, h held) bool { return h.removed })
	return now
}

func never() bool { return false }

// everything is what counts, asked all at once.
func everything(t *testing.T, s *store.Store) map[string]held {
	t.Helper()
	all := &consumer{s: s, reports: map[string]held{}}
	for cursor := dmarc.Cursor(""); ; {
		changes, next, err := s.ReportChanges(t.Context(), cursor, 50)
		if err != nil {
			t.Fatal(err)
		}
		if len(changes) == 0 {
			return all.reports
		}
		err = s.EachCurrent(t.Context(), changes, true, func(_ *dmarc.ReportChange, cur *dmarc.CurrentReport) error {
			h := held{revision: cur.Revision}
			for row, err := range cur.Report.Rows {
				if err != nil {
					return err
				}
				h.rows = append(h.rows, fmt.Sprintf("%s %s %d %v %v", row.Source, row.HeaderFrom, row.Count, row.DKIM, row.Disposition))
			}
			all.reports[cur.ID] = h
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		cursor = next
	}
}

func changesKept(t *testing.T, db *pgxpool.Pool) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM report_changes").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// awaitBlocked waits until a statement of somebody else waits for a lock.
func awaitBlocked(t *testing.T, db *pgxpool.Pool, like string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); {
		var blocked bool
		const sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1)"
		if err := db.QueryRow(t.Context(), sql, like).Scan(&blocked); err != nil {
			t.Fatal(err)
		}
		if blocked {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nobody waits")
}

func TestAChangeThatCommitsLaterIsNotSkippedForItsLowerNumber(t *testing.T) {
	s, db := open(t)
	c := newConsumer(t, s, "siem", true)
	ctx := t.Context()
	if _, err := db.Exec(ctx, "INSERT INTO leases (name, epoch, holder, expires_at) VALUES ('slow', 1, 'test', 'infinity')"); err != nil {
		t.Fatal(err)
	}
	holder, err := db.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback(ctx)
	if _, err := holder.Exec(ctx, "SELECT FROM leases WHERE name = 'slow' FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	// The first writer has said what it changes, and waits for its lease before the commit.
	slow := mail(1, daily("slow", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone)))
	slow.Lease = dmarc.Lease{Name: "slow", Epoch: 1}
	done := make(chan error, 1)
	go func() {
		_, err := s.Add(ctx, []dmarc.Delivery{slow})
		done <- err
	}()
	awaitBlocked(t, db, "SELECT epoch FROM leases%")
	quick := daily("quick", row("192.0.2.2", 7, pass, pass, dmarc.DispositionNone))
	quick.domain = "example.org" // whose totals nobody holds, as nobody does the mailbox
	other := mail(2, quick)
	other.Mailbox = "other"
	add(t, s, other)
	if err := c.read(ctx, 10, never); err != nil || len(c.reports) != 1 {
		t.Fatalf("%+v, %v, want the quick one alone", c.reports, err)
	}
	if err := holder.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var lower bool
	const order = `
		SELECT c.id < (SELECT max(id) FROM reports) AND c.position IS NULL
		FROM report_changes c
		JOIN reports r ON r.domain_id = c.domain_id AND r.id = c.report
		WHERE r.report_id = 'slow'`
	if err := db.QueryRow(ctx, order).Scan(&lower); err != nil || !lower {
		t.Fatalf("the slow one has no lower number, %v: this test shows nothing", err)
	}
	if err := c.read(ctx, 10, never); err != nil || len(c.reports) != 2 || c.doubles > 0 {
		t.Errorf("%+v, %v, %d doubles", c.reports, err, c.doubles)
	}
	if err := c.s.MoveStream(ctx, dmarc.Lease{Name: "slow", Epoch: 7}, "siem", ""); !errors.Is(err, dmarc.ErrLeaseLost) {
		t.Errorf("moved by one who lost the lease: %v", err)
	}
}

// Whatever comes, is replaced, chosen or read otherwise, while consumers read and die: in the
// end each of them has exactly what counts.
func TestConsumersOfAStreamHaveWhatCountsInTheEnd(t *testing.T) {
	s, db := open(t)
	ctx := t.Context()
	rnd := rand.New(rand.NewPCG(21, 22))
	reports := random(rnd, 240)
	for i, r := range reports[:80] {
		add(t, s, mail(uint32(i+1), r))
	}
	if n := changesKept(t, db); n > 0 {
		t.Fatalf("%d changes are kept, for no stream", n)
	}
	early := newConsumer(t, s, "early", false)
	late := newConsumer(t, s, "late", true)

	var wg sync.WaitGroup
	stop := make(chan struct{})
	reading := func(c *consumer, limit int, seed uint64) {
		wg.Go(func() {
			mine := rand.New(rand.NewPCG(seed, seed))
			for {
				if err := c.read(ctx, limit, func() bool { return mine.IntN(40) == 0 }); err != nil && !errors.Is(err, errDied) {
					t.Error(err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	reading(early, 7, 1)
	reading(late, 3, 2)
	var writers sync.WaitGroup
	for part := range 2 {
		mine := rand.New(rand.NewPCG(uint64(part), 5))
		writers.Go(func() {
			for i := 80 + 80*part; i < 160+80*part; i++ {
				if _, err := s.Add(ctx, []dmarc.Delivery{mail(uint32(i+1), reports[i])}); err != nil {
					t.Error(err)
				}
				if mine.IntN(3) == 0 {
					// Another content of a report, and what is read otherwise.
					other := reports[mine.IntN(i)]
					other.rows = append(slices.Clone(other.rows), row("192.0.2.77", mine.Int64N(50), pass, pass, dmarc.DispositionNone))
					if _, err := s.Add(ctx, []dmarc.Delivery{mail(uint32(1000+i), other)}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	var batch []dmarc.Reread
	for i := range 80 {
		r := reports[i]
		switch rnd.IntN(3) {
		case 0:
			r.rows = append(slices.Clone(r.rows), row("192.0.2.78", rnd.Int64N(50), pass, pass, dmarc.DispositionNone))
		case 1:
			r.begin = r.begin.Add(time.Duration(1+rnd.IntN(40)) * time.Hour) // it goes, and comes under another identity
		}
		batch = append(batch, again(int64(i+1), r))
	}
	reread(t, s, dmarc.RereadOptions{DryRun: true}, batch...)
	reread(t, s, dmarc.RereadOptions{}, batch...)
	list, _, err := s.Reports(ctx, dmarc.ReportQuery{Scope: dmarc.Everything, Inactive: true, Period: dmarc.Period{End: received.AddDate(1, 0, 0)}, Page: dmarc.Page{Limit: 100}})
	if err != nil || len(list) == 0 {
		t.Fatalf("%d reports do not count, %v", len(list), err)
	}
	chosen := 0
	for i := range list {
		for _, r := range reports {
			if rep := r.aggregate(); rep.Hash == list[i].Report.Hash && s.Activate(ctx, list[i].ID, rep, true) == nil {
				chosen++
				break
			}
		}
	}
	close(stop)
	wg.Wait()
	// Moves at the same time do not see each other: what both have passed goes with the next one.
	add(t, s, mail(1999, daily("last", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))))
	for _, c := range []*consumer{early, late} {
		if err := c.read(ctx, 100, never); err != nil {
			t.Fatal(err)
		}
	}
	want := everything(t, s)
	if got := early.counted(); !maps.EqualFunc(got, want, equalHeld) {
		t.Errorf("early has %d reports, want %d", len(got), len(want))
	}
	for id, h := range late.counted() {
		if w, ok := want[id]; !ok || !equalHeld(h, w) {
			t.Errorf("late has %s as %+v, want %+v", id, h, w)
		}
	}
	if early.doubles == 0 || chosen == 0 || len(late.counted()) < 100 {
		t.Errorf("%d doubles, %d chosen, late has %d: too little happened", early.doubles, chosen, len(late.counted()))
	}
	states, err := s.StreamStates(ctx)
	if err != nil || len(states) != 2 || states[0].Name != "early" || !states[0].Begun || states[0].Waiting != 0 || states[1].Waiting != 0 {
		t.Errorf("%+v, %v", states, err)
	}
	if n := changesKept(t, db); n > 0 {
		t.Errorf("%d changes are left that both have passed", n)
	}

	// Without streams, nothing is kept again.
	add(t, s, mail(2000, daily("waits", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))))
	for name, want := range map[string]bool{"early": true, "late": true, "neither": false} {
		if known, err := s.ForgetStream(ctx, name); err != nil || known != want {
			t.Errorf("%s: %v, %v", name, known, err)
		}
	}
	add(t, s, mail(2001, daily("untold", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))))
	if n := changesKept(t, db); n > 0 {
		t.Errorf("%d changes are kept, for no stream", n)
	}

	// What somebody deleted by hand is told once it cannot be a commit that is under way.
	c := newConsumer(t, s, "by hand", true)
	add(t, s, mail(2002, daily("deleted", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))))
	if _, err := db.Exec(ctx, "DELETE FROM reports WHERE report_id = 'deleted'"); err != nil {
		t.Fatal(err)
	}
	if err := c.read(ctx, 10, never); !errors.Is(err, dmarc.ErrNotYet) {
		t.Errorf("%v, want that it cannot be seen yet", err)
	}
	if _, err := db.Exec(ctx, "UPDATE report_changes SET at = at - interval '11 minutes'"); err != nil {
		t.Fatal(err)
	}
	if err := c.read(ctx, 10, never); err != nil || len(c.reports) != 1 || len(c.counted()) != 0 {
		t.Errorf("%+v, %v", c.reports, err)
	}
}

func equalHeld(a, b held) bool {
	return a.revision == b.revision && a.removed == b.removed && slices.Equal(a.rows, b.rows)
}
