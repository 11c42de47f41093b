package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/store"
)

func keep(t *testing.T, s *store.Store, domain string, w dmarc.DomainWords) {
	t.Helper()
	if err := s.PutDomainWords(context.Background(), domain, w); err != nil {
		t.Fatal(err)
	}
}

func lasting(d time.Duration) *time.Duration { return &d }

// kept lists the days whose rows are kept, by domain.
func kept(t *testing.T, db *pgxpool.Pool) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	rows, _ := db.Query(t.Context(), "SELECT d.name, r.day::text FROM rows r JOIN domains d ON d.id = r.domain_id ORDER BY d.name, r.day")
	var name, day string
	if _, err := pgx.ForEachRow(rows, []any{&name, &day}, func() error {
		all[name] = append(all[name], day)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func months(t *testing.T, db *pgxpool.Pool, table string) (all []string) {
	t.Helper()
	rows, _ := db.Query(t.Context(), "SELECT replace(relname::text, $1 || '_', '') FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = $1::regclass ORDER BY 1", table)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Rows of some domains go sooner than those of others, and of some they stay for longer.
// Totals stay, whatever is asked for, and what comes late is treated as the domain's rows are.
func TestRowsOfADomainAreKeptForItsOwnTime(t *testing.T) {
	racetest.Calm(t)
	s, db := open(t)
	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	november, october := time.Date(2025, 11, 10, 0, 0, 0, 0, time.UTC), time.Date(2025, 10, 5, 0, 0, 0, 0, time.UTC)
	domains := []string{"ever.example", "long.example", "short.example", "usual.example"}
	at := func(domain, id string, begin time.Time, rows ...dmarc.Row) report {
		r := on(id, begin, rows...)
		r.domain = domain
		return r
	}
	uid := uint32(0)
	for _, d := range domains {
		weekly := at(d, "week", time.Date(2026, 1, 28, 0, 0, 0, 0, time.UTC), one) // to 4 February
		weekly.length = 7 * days
		uid++
		add(t, s, mail(uid, at(d, "feb", day1, one), at(d, "jan", lateJanuary, one), at(d, "nov", november, one), at(d, "oct", october, one), at(d, "odd", time.Date(1979, 5, 5, 0, 0, 0, 0, time.UTC), one), weekly))
	}
	keep(t, s, "ever.example", dmarc.DomainWords{Rows: lasting(0)})
	keep(t, s, "long.example", dmarc.DomainWords{Rows: lasting(100 * days)})
	keep(t, s, "short.example", dmarc.DomainWords{Rows: lasting(20 * days)})
	sums := func() (all []dmarc.DomainSummary) {
		for _, d := range domains {
			sum, err := s.Summary(context.Background(), dmarc.TrafficQuery{Domain: d, Period: year})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, sum)
		}
		return all
	}
	clean := func(when string) {
		t.Helper()
		if err := s.SummariseSources(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := s.SummariseFacts(context.Background()); err != nil {
			t.Fatal(err)
		}
		if v, found := verify(t, s, false); len(found) > 0 || v.Pending+v.Unreduced > 0 {
			t.Errorf("%s: %+v %q", when, v, found)
		}
	}
	same := func(when string, want map[string][]string) {
		t.Helper()
		if got := kept(t, db); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: rows of\n%v, want\n%v", when, got, want)
		}
		clean(when)
	}
	const odd, oct, nov, jan, week, feb = "1979-05-05", "2025-10-05", "2025-11-10", "2026-01-20", "2026-01-28", "2026-02-03"
	all := []string{odd, oct, nov, jan, week, feb}
	before := sums()

	// A transaction that is open may need the rows: they stay until the next pass.
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	expire(t, s, store.Retention{})
	same("while a transaction is open", map[string][]string{"ever.example": all, "long.example": all, "short.example": all, "usual.example": all})
	tx.Rollback(t.Context())
	expire(t, s, store.Retention{})
	same("with no end for others", map[string][]string{"ever.example": all, "long.example": all[2:], "short.example": {feb}, "usual.example": all})
	expire(t, s, store.Retention{Rows: 60 * days})
	want := map[string][]string{"ever.example": all, "long.example": all[2:], "short.example": {feb}, "usual.example": {jan, week, feb}}
	same("with an end for others", want)
	if after := sums(); !reflect.DeepEqual(after, before) {
		t.Errorf("%+v became %+v", before, after)
	}
	if got := months(t, db, "row_groups"); !slices.Equal(got, []string{"2025_10", "2025_11", "2026_01", "2026_02", "before_2012"}) {
		t.Errorf("months: %q", got)
	}

	// What comes late.
	fates := add(t, s, mail(20, at("ever.example", "late", october, one)), mail(21, at("long.example", "late", october, one)), mail(22, at("long.example", "late2", november, one)),
		mail(23, at("short.example", "late", lateJanuary, one)), mail(24, at("usual.example", "late", lateJanuary, one)), mail(25, at("usual.example", "late2", november, one)),
		mail(26, at("short.example", "jan", lateJanuary, one, one)), mail(27, at("ever.example", "oct", october, one, one)))
	var got []string
	for _, f := range fates {
		got = append(got, strings.TrimSpace(string(f.Outcome)+" "+f.Reason))
	}
	for i, want := range []string{"ok", "ok_with_flags rows_not_kept", "ok", "ok_with_flags rows_not_kept", "ok", "ok_with_flags rows_not_kept", "conflict another report", "conflict replaces"} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("late report %d: %q, want %q", i, got[i], want)
		}
	}
	clean("after late reports")

	// Who is like others again loses what they lost; what is gone does not return.
	keep(t, s, "ever.example", dmarc.DomainWords{})
	keep(t, s, "short.example", dmarc.DomainWords{Rows: lasting(0)})
	expire(t, s, store.Retention{Rows: 60 * days})
	same("after a change", map[string][]string{"ever.example": {jan, week, feb}, "long.example": {nov, nov, jan, week, feb}, "short.example": {feb}, "usual.example": {jan, jan, week, feb}})
	if fates := add(t, s, mail(30, at("short.example", "later", lateJanuary, one))); fates[0].Outcome != dmarc.OutcomeOKWithFlags {
		t.Errorf("%+v", fates)
	}
	expire(t, s, store.Retention{Rows: 20 * days, Totals: 60 * days}) // rows go with the totals at the latest
	same("with an end of totals", map[string][]string{"ever.example": {feb}, "long.example": {jan, week, feb}, "short.example": {feb}, "usual.example": {feb}})
	if got := months(t, db, "row_groups"); !slices.Equal(got, []string{"2026_01", "2026_02", "before_2012"}) {
		t.Errorf("months: %q", got)
	}
}

// Messages as they came and failure reports go by the domain that they are about.
// What is about several goes as if it were about none.
func TestMessagesAndFailureReportsAreKeptForTheTimeOfTheirDomain(t *testing.T) {
	s, db := open(t)
	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	uid := uint32(0)
	come := func(at time.Time, domains ...string) {
		uid++
		var reports []report
		for _, d := range domains {
			r := on(fmt.Sprint(uid), lateJanuary, one)
			r.domain = d
			reports = append(reports, r)
		}
		m := mail(uid, reports...)
		m.ReceivedAt = at
		uid++
		failure := mail(uid)
		failure.ReceivedAt = at
		failure.Parts = []dmarc.Part{{Path: "1", Failure: &dmarc.FailureReport{ReportedDomain: domains[0], Arrival: at, Hash: dmarc.Digest{byte(uid)}}}}
		add(t, s, m, failure)
	}
	november, january := time.Date(2025, 11, 30, 23, 59, 0, 0, time.UTC), time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{november, january, expireAt.AddDate(0, 0, -4)} {
		for _, d := range []string{"ever.example", "short.example", "usual.example"} {
			come(at, d)
		}
		come(at, "short.example", "ever.example")
	}
	keep(t, s, "ever.example", dmarc.DomainWords{Raw: lasting(0), Failures: lasting(0)})
	keep(t, s, "short.example", dmarc.DomainWords{Raw: lasting(20 * days), Failures: lasting(3 * days)})
	expire(t, s, store.Retention{Raw: 60 * days, Failures: 40 * days})
	expire(t, s, store.Retention{Raw: 60 * days, Failures: 40 * days}) // which changes nothing
	count := func(sql string) map[string]int {
		t.Helper()
		all := map[string]int{}
		rows, _ := db.Query(t.Context(), sql)
		var what string
		var n int
		if _, err := pgx.ForEachRow(rows, []any{&what, &n}, func() error {
			all[what] = n
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	const raw = `
		SELECT to_char(r.day, 'MM') || ' ' || coalesce(d.name, 'several'), count(*)
		FROM raw_messages r
		JOIN messages m USING (digest)
		LEFT JOIN domains d ON d.id = message_domain(m.parts)
		GROUP BY 1`
	want := map[string]int{"11 ever.example": 2, "01 ever.example": 2, "02 ever.example": 2, "02 short.example": 3, "01 usual.example": 2, "02 usual.example": 2, "01 several": 1, "02 several": 1}
	if got := count(raw); !reflect.DeepEqual(got, want) {
		t.Errorf("messages: %v, want %v", got, want)
	}
	const failures = `
		SELECT to_char(f.received_at, 'MM') || ' ' || d.name, count(*)
		FROM failure_reports f
		JOIN domains d ON d.id = f.domain_id
		GROUP BY 1`
	want = map[string]int{"11 ever.example": 1, "01 ever.example": 1, "02 ever.example": 1, "01 usual.example": 1, "02 usual.example": 1}
	if got := count(failures); !reflect.DeepEqual(got, want) {
		t.Errorf("failure reports: %v, want %v", got, want)
	}
	keep(t, s, "ever.example", dmarc.DomainWords{})
	expire(t, s, store.Retention{Raw: 60 * days, Failures: 40 * days})
	if got := count(raw); got["11 ever.example"] != 0 || got["01 ever.example"] != 2 || len(months(t, db, "raw_messages")) != 2 {
		t.Errorf("as others again: %v, %q", got, months(t, db, "raw_messages"))
	}
	if got := count(failures); got["11 ever.example"] != 0 || got["01 ever.example"] != 1 {
		t.Errorf("as others again: %v", got)
	}
}

// Rows go and stay by domain while reports replace each other: totals are those of
// what counts.
func TestRowsOfDomainsGoWhileOthersWrite(t *testing.T) {
	s, _ := open(t)
	rnd := rand.New(rand.NewPCG(15, 16))
	domains := []string{"a.example", "b.example", "c.example"}
	done := make(chan error, 1)
	go func() {
		for i := range 200 {
			var rows []dmarc.Row
			for range 1 + rnd.IntN(5) {
				rows = append(rows, row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))
			}
			r := on(fmt.Sprint(rnd.IntN(3)), time.Date(2025, 11, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, 8*rnd.IntN(14)), rows...)
			r.domain = domains[rnd.IntN(3)]
			if _, err := s.Add(context.Background(), []dmarc.Delivery{mail(uint32(i+1), r)}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := 0; ; i++ {
		for k, d := range domains[:2] {
			w := dmarc.DomainWords{}
			if keep := []int{0, 20, 50, 80, 110, -1}[(i+2*k)%6]; keep >= 0 {
				w.Rows = lasting(time.Duration(keep) * days)
			}
			if err := s.PutDomainWords(context.Background(), d, w); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Expire(context.Background(), store.Retention{Rows: time.Duration(max(120-10*i, 40)) * days}, expireAt); err != nil {
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
	if err := s.SummariseFacts(context.Background()); err != nil {
		t.Fatal(err)
	}
	if v, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%+v %q", v, found)
	}
}
