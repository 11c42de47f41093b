package store_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

// The days that are grown.
const grownDays = 90

var grownFrom = time.Date(2025, 1, 16, 0, 0, 0, 0, time.UTC)

// grow adds a report for each of 4 domains, 10 reporters and 90 days, with so many
// rows that n are added. Totals are those that Verify computes from the rows.
func grow(t *testing.T, s *store.Store, db *pgxpool.Pool, round int, n int64) {
	t.Helper()
	const domains, reporters, days = 4, 10, grownDays
	var seeds []dmarc.Delivery
	for i := range domains * reporters {
		seed := daily("seed", row("192.0.2.1", 9, pass, pass, dmarc.DispositionNone), row("192.0.2.2", 2, fail, pass, dmarc.DispositionNone),
			row("192.0.2.3", 5, pass, fail, dmarc.DispositionNone), row("192.0.2.4", 1, fail, fail, dmarc.DispositionReject))
		seed.domain, seed.org = fmt.Sprintf("d%d.example", i%domains+1), fmt.Sprintf("org%d.example", i/domains)
		seeds = append(seeds, mail(uint32(i+1), seed))
	}
	add(t, s, seeds...)
	begin := grownFrom
	for month := range 4 { // makes the partitions
		r := daily(fmt.Sprint("month ", month), row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))
		r.domain, r.begin = "d1.example", begin.AddDate(0, month, 0)
		add(t, s, mail(uint32(1000+month), r))
	}
	ctx := context.Background()
	const newReports = `
		INSERT INTO reports (domain_id, reporter_id, report_id, begins_at, ends_at, hash, active, day, dated, received_at, message, part, flags,
			about, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, rows_dropped, messages_dropped)
		SELECT domain_id, reporter_id, format('grown %s %s', $2::int, n), $1::date + n, $1::date + n + interval '1 day' - interval '1 second', hash, true, $1::date + n,
			dated, received_at, message, part, flags, about, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, 0, 0
		FROM reports, generate_series(0, $3::int - 1) AS n
		WHERE report_id = 'seed'`
	if _, err := db.Exec(ctx, newReports, begin, round, days); err != nil {
		t.Fatal(err)
	}
	const newRows = `
		INSERT INTO row_groups (domain_id, report, day, messages, header_from_id, auth_id, verdict, ours, source)
		SELECT domain_id, report, day, array_agg(messages), array_agg(header_from_id), array_agg(auth_id), array_agg(verdict), array_agg(ours), array_agg(source)
		FROM (
			SELECT o.domain_id, o.id AS report, o.day, n, r.messages, r.header_from_id, r.auth_id, r.verdict, r.ours,
				'198.18.0.0'::inet + (65535 * random() ^ 3)::bigint AS source
			FROM reports o
			JOIN reports seed ON seed.domain_id = o.domain_id AND seed.reporter_id = o.reporter_id AND seed.report_id = 'seed'
			JOIN rows r ON r.domain_id = seed.domain_id AND r.report = seed.id AND r.day = seed.day
			CROSS JOIN generate_series(1, $2::int) AS n
			WHERE o.report_id LIKE format('grown %s %%', $1::int)
		) AS r
		GROUP BY domain_id, report, day, n / 10`
	tag, err := db.Exec(ctx, newRows, round, n/(domains*reporters*days*4))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows added", tag.RowsAffected())
	verify(t, s, true)
	if _, err := db.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		t.Fatal(err)
	}
}

// duplicate copies what there is about domains into an empty database.
func duplicate(t *testing.T, from, to *pgxpool.Pool) {
	t.Helper()
	ctx := context.Background()
	const months = `
		SELECT format('CREATE TABLE %I PARTITION OF row_groups %s', c.relname, pg_get_expr(c.relpartbound, c.oid))
		FROM pg_inherits i
		JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'row_groups'::regclass AND c.relname <> 'row_groups_before_2012'`
	rows, _ := from.Query(ctx, months)
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		if _, err := to.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"domains", "reporters", "names", "auth_results", "reports", "row_groups", "reporter_days", "domain_days",
		"domain_months", "source_days", "source_lists", "source_facts", "selector_days"} {
		r, w := io.Pipe()
		go func() {
			conn, err := from.Acquire(ctx)
			if err == nil {
				defer conn.Release()
				_, err = conn.Conn().PgConn().CopyTo(ctx, w, "COPY (SELECT * FROM "+table+") TO STDOUT (FORMAT binary)")
			}
			w.CloseWithError(err)
		}()
		conn, err := to.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Conn().PgConn().CopyFrom(ctx, r, "COPY "+table+" FROM STDIN (FORMAT binary)")
		conn.Release()
		if err != nil {
			t.Fatalf("%s: %v", table, err)
		}
	}
}

// multiply makes so many of each row, under the reports that have them, and as many
// times of all that is summed.
func multiply(t *testing.T, s *store.Store, db *pgxpool.Pool, times int64) {
	t.Helper()
	ctx := context.Background()
	const rows = `
		INSERT INTO row_groups
		SELECT g.*
		FROM row_groups g, generate_series(2, $1::bigint)`
	if _, err := db.Exec(ctx, rows, times); err != nil {
		t.Fatal(err)
	}
	const tally = "messages dmarc_pass dkim_aligned spf_aligned none quarantine reject pass unstated rows"
	for table, columns := range map[string]string{
		"reports": tally, "domain_days": tally, "domain_months": tally, "source_days": tally, "reporter_days": "rows messages",
	} {
		var sets []string
		for _, c := range strings.Fields(columns) {
			sets = append(sets, c+" = "+c+" * $1::bigint")
		}
		if _, err := db.Exec(ctx, "UPDATE "+table+" SET "+strings.Join(sets, ", "), times); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec(ctx, "TRUNCATE source_lists"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(ctx, "UPDATE source_lists_made SET domain_id = 0"); err != nil {
		t.Fatal(err)
	}
	if err := s.SummariseSources(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		t.Fatal(err)
	}
}

// What pages ask costs hardly more with many times the rows.
// DMARCD_GROWTH_ROWS sets how many there are in one of two databases, such as
// 100000000; in the other there are a million. Both are asked in turn, since machines waver.
func TestSummariesDoNotGrowWithRows(t *testing.T) {
	last, err := strconv.ParseInt(os.Getenv("DMARCD_GROWTH_ROWS"), 10, 64)
	if err != nil {
		t.Skip("SKIPPED: it takes minutes and gigabytes; set DMARCD_GROWTH_ROWS, such as 5000000")
	}
	const first = 1_000_000
	var stores [2]*store.Store
	var small *pgxpool.Pool
	for i := range stores {
		s, db := open(t)
		stores[i] = s
		if i == 0 {
			small = db
			grow(t, s, db, 1, first)
		} else {
			duplicate(t, small, db)
			multiply(t, s, db, last/first)
		}
		var rows, size int64
		const state = `
			SELECT (SELECT sum(cardinality(messages)) FROM row_groups), pg_database_size(current_database())`
		if err := db.QueryRow(t.Context(), state).Scan(&rows, &size); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d rows, %.2f GB", rows, float64(size)/1e9)
	}
	period := dmarc.Period{Begin: grownFrom, End: grownFrom.AddDate(0, 0, grownDays)}
	ask := questions("d1.example", period)
	ask["domains"] = func(s *store.Store) error {
		_, _, err := s.Domains(context.Background(), dmarc.DomainQuery{Scope: dmarc.Everything, Period: period, Trend: period, Page: dmarc.Page{Limit: 100}})
		return err
	}
	for _, name := range []string{"summary", "sources", "reporters", "domains"} {
		var took [2][]time.Duration
		for i := range 220 {
			for k, s := range stores {
				began := time.Now()
				if err := ask[name](s); err != nil {
					t.Fatal(err)
				}
				if i >= 20 { // warm
					took[k] = append(took[k], time.Since(began))
				}
			}
		}
		var p50, p95 [2]time.Duration
		for k := range took {
			slices.Sort(took[k])
			p50[k], p95[k] = took[k][100], took[k][190]
		}
		t.Logf("%-10s p50 %v, %.2f times that of a million; p95 %v, %.2f times", name, p50[1], float64(p50[1])/float64(p50[0]), p95[1], float64(p95[1])/float64(p95[0]))
		if p50[1] > 4*p50[0] {
			t.Errorf("%s: %v with %d rows, %v with %d", name, p50[1], last, p50[0], int64(first))
		}
	}
}
