package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

const days = 24 * time.Hour

// expireAt is when rows of January and before are given up that are to be kept for 20 days.
var expireAt = time.Date(2026, 2, 25, 3, 0, 0, 0, time.UTC)

func expire(t *testing.T, s *store.Store, r store.Retention) {
	t.Helper()
	if err := s.Expire(context.Background(), r, expireAt); err != nil {
		t.Fatal(err)
	}
}

func on(id string, begin time.Time, rows ...dmarc.Row) report {
	r := daily(id, rows...)
	r.begin = begin
	return r
}

var (
	lateJanuary = time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC)
	year        = dmarc.Period{Begin: time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)}
)

func inYear(t *testing.T, s *store.Store) dmarc.DomainSummary {
	t.Helper()
	sum, err := s.Summary(context.Background(), dmarc.TrafficQuery{Domain: "example.com", Period: year})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestRowsOfOldMonthsGoAndTotalsStay(t *testing.T) {
	s, db := open(t)
	one, two := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone), row("192.0.2.2", 2, fail, fail, dmarc.DispositionReject)
	weekly := on("week", time.Date(2026, 1, 27, 0, 0, 0, 0, time.UTC), row("192.0.2.7", 700, pass, pass, dmarc.DispositionNone)) // to 3 February
	weekly.length = 7 * days
	odd := on("odd", time.Date(1979, 5, 5, 0, 0, 0, 0, time.UTC), one)
	add(t, s, mail(1, on("a", lateJanuary, one)), mail(2, on("b", day1, two)), mail(3, weekly, odd))
	before := inYear(t, s)
	expire(t, s, store.Retention{Rows: 20 * days})
	if after := inYear(t, s); !reflect.DeepEqual(after, before) {
		t.Errorf("%+v became %+v", before, after)
	}
	var months []string
	if err := db.QueryRow(t.Context(), "SELECT array_agg(relname::text ORDER BY relname) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'row_groups'::regclass").Scan(&months); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM rows").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if want := []string{"row_groups_2026_02", "row_groups_before_2012"}; !reflect.DeepEqual(months, want) || rows != 1 {
		t.Errorf("months %q with %d rows, want %q with 1", months, rows, want)
	}

	// What comes late counts, and is found among the others; the days that the weekly report shares stay right.
	fates := add(t, s, mail(4, on("late", lateJanuary, two, one)), mail(5, on("c", day1.AddDate(0, 0, -1), two)))
	if got := outcomes(fates); got[0] != dmarc.OutcomeOKWithFlags || fates[0].Reason != "rows_not_kept" || got[1] != dmarc.OutcomeOK {
		t.Errorf("%+v", fates)
	}
	if err := s.SummariseSources(context.Background()); err != nil {
		t.Fatal(err)
	}
	after := inYear(t, s)
	if want := before.Tally.Messages + 9; after.Tally.Messages != want || after.Reports != before.Reports+2 {
		t.Errorf("%+v, want %d messages", after, want)
	}
	list, _, err := s.Sources(context.Background(), dmarc.TrafficQuery{Domain: "example.com", Period: year, Page: dmarc.Page{Limit: 100}})
	if err != nil || list.Pending {
		t.Fatal(list.Pending, err)
	}
	sum := list.Others
	for _, i := range list.Items {
		sum.Merge(i.Tally)
	}
	if sum != after.Tally || list.Others.Messages != 7+2 {
		t.Errorf("sources %+v, of them others %+v, want %+v", sum, list.Others, after.Tally)
	}

	// A larger report cannot replace what cannot be taken back.
	if fates := add(t, s, mail(6, on("a", lateJanuary, row("192.0.2.1", 50, pass, fail, dmarc.DispositionNone)))); fates[0].Outcome != dmarc.OutcomeConflict || inYear(t, s).Tally != after.Tally {
		t.Errorf("%+v", fates)
	}
	v, found := verify(t, s, false)
	if len(found) > 0 || v.Settled == 0 || v.Pending > 0 {
		t.Errorf("%+v %q", v, found)
	}
	change(t, db, "UPDATE source_days SET none = none + 1 WHERE day = '2026-01-20' AND kind = 0")
	change(t, db, "UPDATE domain_days SET none = none + 1 WHERE day = '2026-01-28'")
	if v, found := verify(t, s, true); len(found) != 2 || v.Rebuilt != 2 || !strings.Contains(found[1], "2026-01-20, all together") {
		t.Errorf("%+v %q", v, found)
	}
}

func TestLateReportsAreRefusedIfThatIsWanted(t *testing.T) {
	s, _ := open(t)
	s.RefuseLate = true
	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	add(t, s, mail(1, on("a", lateJanuary, one)))
	expire(t, s, store.Retention{Rows: 20 * days})
	fates := add(t, s, mail(2, on("late", lateJanuary, one)), mail(3, on("now", day1, one)))
	if got := outcomes(fates); got[0] != dmarc.OutcomeTooOld || got[1] != dmarc.OutcomeOK || !strings.Contains(fates[0].Reason, "retention.late") {
		t.Errorf("%+v", fates)
	}
	if sum := inYear(t, s); sum.Reports != 2 || sum.Tally.Messages != 10 {
		t.Errorf("%+v", sum)
	}
}

func TestEachThingIsKeptForItsOwnTime(t *testing.T) {
	s, db := open(t)
	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	old := mail(1, on("a", lateJanuary, one))
	old.ReceivedAt = lateJanuary.AddDate(0, 0, 1)
	failure := mail(2)
	failure.ReceivedAt = lateJanuary
	failure.Parts = []dmarc.Part{{Path: "1", Failure: &dmarc.FailureReport{ReportedDomain: "example.com", Arrival: lateJanuary, Hash: dmarc.Digest{1}}}}
	autumn := on("b", time.Date(2025, 10, 5, 0, 0, 0, 0, time.UTC), one)
	add(t, s, old, failure, mail(3, on("c", day1, one), autumn))
	count := func() (n [5]int) {
		for i, table := range []string{"rows", "raw_messages", "failure_reports", "reports", "domain_days"} {
			if err := db.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n[i]); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	for _, step := range []struct {
		keep store.Retention
		want [5]int
	}{
		{store.Retention{}, [5]int{3, 3, 1, 3, 3}},
		{store.Retention{Totals: days}, [5]int{3, 3, 1, 3, 3}}, // totals of rows that are kept stay
		{store.Retention{Failures: 60 * days}, [5]int{3, 3, 1, 3, 3}},
		{store.Retention{Failures: 20 * days}, [5]int{3, 3, 0, 3, 3}},
		{store.Retention{Raw: 20 * days}, [5]int{3, 1, 0, 3, 3}},
		{store.Retention{Rows: 60 * days}, [5]int{2, 1, 0, 3, 3}},
		{store.Retention{Rows: 20 * days, Totals: 60 * days}, [5]int{1, 1, 0, 2, 2}},
	} {
		expire(t, s, step.keep)
		if got := count(); got != step.want {
			t.Errorf("%+v: %d, want %d", step.keep, got, step.want)
		}
	}
	if fates := add(t, s, mail(4, autumn)); fates[0].Outcome != dmarc.OutcomeTooOld || !strings.Contains(fates[0].Reason, "retention.totals") {
		t.Errorf("%+v", fates)
	}
	if v, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%+v %q", v, found)
	}
}

// Months go while others write and read them.
func TestMonthsGoWhileOthersWrite(t *testing.T) {
	s, _ := open(t)
	rnd := rand.New(rand.NewPCG(13, 14))
	done := make(chan error, 1)
	go func() {
		for i := range 150 {
			r := on(fmt.Sprint(i), time.Date(2025, 11, 1+rnd.IntN(110), 0, 0, 0, 0, time.UTC), row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))
			if _, err := s.Add(context.Background(), []dmarc.Delivery{mail(uint32(i+1), r)}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := 150; ; i -= 10 {
		if err := s.Expire(context.Background(), store.Retention{Rows: time.Duration(max(i, 20)) * days}, expireAt); err != nil {
			t.Fatal(err)
		}
		if err := s.Prepare(context.Background(), expireAt); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		default:
			continue
		}
		break
	}
	if err := s.SummariseSources(context.Background()); err != nil {
		t.Fatal(err)
	}
	if sum := inYear(t, s); sum.Tally.Messages != 150 || sum.Reports != 150 {
		t.Errorf("%+v", sum)
	}
	if v, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%+v %q", v, found)
	}
}

// While somebody reads what is to be dropped, for however long, others write and
// read: the pass waits for the reader, and nobody waits for the pass.
func TestDroppingAMonthMakesNobodyWait(t *testing.T) {
	s, db := open(t)
	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	add(t, s, mail(1, on("a", lateJanuary, one)), mail(2, on("b", day1, one)))
	reader, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.Background())
	var n int
	if err := reader.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM rows) + (SELECT count(*) FROM domains) + (SELECT count(*) FROM reports)").Scan(&n); err != nil {
		t.Fatal(err)
	}
	expired := make(chan error, 1)
	go func() {
		expired <- s.Expire(context.Background(), store.Retention{Rows: 20 * days, Raw: 20 * days}, expireAt)
	}()
	waits := func() (n int) {
		t.Helper()
		const sql = `
			SELECT count(*)
			FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%DETACH PARTITION%'`
		if err := db.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline := time.Now().Add(10 * time.Minute); waits() == 0; time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-expired:
			t.Fatalf("the pass did not wait for the reader: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the pass does not come to the month")
		}
	}
	// Were anybody to wait for the pass, it would be until the reader has done.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	fates, err := s.Add(ctx, []dmarc.Delivery{mail(3, on("c", day1, one)), mail(4, on("late", lateJanuary, one)), mail(5, on("new month", day1.AddDate(0, 2, 0), one))})
	if err != nil {
		t.Fatalf("writing: %v", err)
	}
	if got := outcomes(fates); got[0] != dmarc.OutcomeOK || got[1] != dmarc.OutcomeOKWithFlags || got[2] != dmarc.OutcomeOK {
		t.Errorf("%+v", fates)
	}
	for _, sql := range []string{"SELECT count(*) FROM rows", "SELECT count(*) FROM domains", "SELECT count(*) FROM raw_messages"} {
		if err := db.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if waits() == 0 {
		t.Error("the pass has not waited all the time: nothing is proven")
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-expired; err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM rows").Scan(&n); err != nil || n != 3 {
		t.Errorf("%d rows are left, want 3; %v", n, err)
	}
	if v, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%+v %q", v, found)
	}
}
