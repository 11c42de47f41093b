package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// BenchmarkPages serves the pages with most behind them, from an installation
// with 5,000 domains, one of which has 5,000 sources. It tells the CPU time of a page, of
// this process and of its connections in the database: other work on the machine is in neither.
func BenchmarkPages(b *testing.B) {
	s := openAccess(b, pgtest.URL(b), func(cfg *config) { cfg.Access.Tokens = false })
	fillPages(b, s)
	h := s.handler()
	for _, path := range []string{
		"/", "/?days=365&by=volume", "/domains/acme.example", "/domains/acme.example?days=90", "/domains/acme.example?days=365",
		"/domains/acme.example/sources", "/domains/acme.example/sources?all=1", "/domains/acme.example/senders?all=1", "/domains/acme.example/source?of=11.0.7.9",
		"/domains/acme.example/policy", "/domains/acme.example/reporters", "/domains/acme.example/selectors", "/domains/acme.example/dns", "/messages",
	} {
		b.Run(strings.ReplaceAll(path[1:], "/", "_"), func(b *testing.B) {
			size := 0
			ask := func() {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.Header.Set("Accept-Encoding", "gzip")
				r.Host = "localhost"
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if size = w.Body.Len(); w.Code != http.StatusOK {
					b.Fatal(path, w.Code, w.Body.String())
				}
			}
			ask() // what is read for the first time is cold
			own, database := processorTime(b, s)
			for b.Loop() {
				ask()
			}
			ownAfter, databaseAfter := processorTime(b, s)
			b.ReportMetric(float64(ownAfter-own)/float64(b.N)/1e6, "cpu-ms/op")
			b.ReportMetric(float64(databaseAfter-database)/float64(b.N)/1e6, "db-cpu-ms/op")
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// processorTime returns what this process, and its connections, have used.
func processorTime(b *testing.B, s *service) (own, database time.Duration) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	rows, _ := s.db.Query(b.Context(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		b.Fatal(err)
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // not on this machine
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		for _, field := range f[11:13] { // utime and stime, in hundredths of a second
			n, _ := strconv.ParseInt(field, 10, 64)
			database += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), database
}

// fillPages writes the rollups of a year.
func fillPages(b *testing.B, s *service) {
	ctx := b.Context()
	exec := func(sql string, args ...any) {
		b.Helper()
		if _, err := s.db.Exec(ctx, sql, args...); err != nil {
			b.Fatalf("%s: %v", sql, err)
		}
	}
	today := time.Now().UTC().Truncate(24 * time.Hour)
	exec(`INSERT INTO domains (name) SELECT CASE n WHEN 0 THEN 'acme.example' ELSE format('customer-%s.example', n) END FROM generate_series(0, 4999) AS n`)
	exec(`INSERT INTO domain_days (day, domain_id, dated, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, estimated, reports, changes, summarised, reduced)
		SELECT $1::date - n, id, true, 10, 1000, 900, 800, 700, 950, 0, 50, 0, 0, 0, 14, known, known, known
		FROM (SELECT id, (name = 'acme.example')::int AS known FROM domains WHERE name <> '') AS d, generate_series(0, 364) AS n`, today) // sources of one alone
	exec(`INSERT INTO domain_months SELECT date_trunc('month', day)::date, domain_id, dated, sum(rows), sum(messages), sum(dmarc_pass), sum(dkim_aligned), sum(spf_aligned), sum(none), sum(quarantine), sum(reject), sum(pass), sum(unstated), sum(estimated), sum(reports)
		FROM domain_days GROUP BY 1, 2, 3`)
	var id int64
	if err := s.db.QueryRow(ctx, "SELECT id FROM domains WHERE name = 'acme.example'").Scan(&id); err != nil {
		b.Fatal(err)
	}
	policy := dmarc.PolicyPublished{Domain: "acme.example", P: dmarc.PolicyNone, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed}
	var facts [][]any
	for d := range 365 {
		day := today.AddDate(0, 0, -d)
		var reduced dmarc.FactReducer
		for i := range 500 {
			n := (d*500 + i) % 5000
			row := dmarc.Row{
				Source: netip.AddrFrom4([4]byte{byte(11 + n%200), byte(n / 200), 7, 9}), Count: int64(1 + n%50), HeaderFrom: "acme.example", EnvelopeFrom: "acme.example",
				DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone,
				AuthDKIM: []dmarc.DKIMResult{{Domain: "acme.example", Selector: fmt.Sprint("s", n%7), Result: dmarc.ResultPass}},
				AuthSPF:  []dmarc.SPFResult{{Domain: fmt.Sprintf("bounce.m%d.example", n%40), Result: dmarc.ResultPass}},
			}
			if n%3 == 0 {
				row.DKIM, row.AuthDKIM[0].Result = dmarc.ResultFail, dmarc.ResultFail
			}
			for reporter := range int64(3) {
				reduced.Add(&row, &policy, dmarc.Attribution{Days: []time.Time{day}, Main: day, Dated: true}, reporter)
			}
		}
		for _, f := range reduced.Days() {
			facts = append(facts, []any{id, f.Day, int16(0), f.Source, f.AppendFacts(nil)})
		}
	}
	if _, err := s.db.CopyFrom(ctx, pgx.Identifier{"source_facts"}, []string{"domain_id", "day", "kind", "source", "facts"}, pgx.CopyFromRows(facts)); err != nil {
		b.Fatal(err)
	}
	exec(`INSERT INTO source_days (domain_id, day, dated, kind, source, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated)
		SELECT domain_id, day, true, 0, source, 1, 10, 7, 7, 0, 10, 0, 0, 0, 0
		FROM (SELECT domain_id, day, source, row_number() OVER (PARTITION BY day ORDER BY source) AS n FROM source_facts) AS f WHERE n <= 100`)
	if err := s.store.SummariseSources(ctx); err != nil { // lists them
		b.Fatal(err)
	}
	exec("ANALYZE")
	if err := s.store.SummariseFacts(ctx); err != nil { // packs them
		b.Fatal(err)
	}
	exec("ANALYZE")
	if err := s.adviser.pass(ctx); err != nil { // who the senders are, and the verdicts
		b.Fatal(err)
	}
	exec("VACUUM ANALYZE")
}
