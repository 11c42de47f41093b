// Package large fills an empty database with the totals of a large installation, for
// benchmarks of what is shown of it.
package large

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Domains and Sources are how many there are: the sources are those of Domain, 500 of
// them on each day.
const (
	domains = 5000
	sources = 5000
	Domain  = "acme.example"
)

// Fill writes the totals of a year that ends now into a database with the newest schema.
// There are no rows and no reports behind them. What the passes make of them is left to those.
func Fill(ctx context.Context, db *pgxpool.Pool, now time.Time) error {
	today := now.UTC().Truncate(24 * time.Hour)
	const totals = `
		INSERT INTO domain_days (day, domain_id, dated, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated,
			estimated, reports, changes, summarised, reduced)
		SELECT $1::date - n, id, true, 10, 1000, 900, 800, 700, 950, 0, 50, 0, 0, 0, 14, known, known, known
		FROM (SELECT id, (name = '` + Domain + `')::int AS known FROM domains WHERE name <> '') AS d, generate_series(0, 364) AS n`
	const months = `
		INSERT INTO domain_months
		SELECT date_trunc('month', day)::date, domain_id, dated, sum(rows), sum(messages), sum(dmarc_pass), sum(dkim_aligned), sum(spf_aligned), sum(none),
			sum(quarantine), sum(reject), sum(pass), sum(unstated), sum(estimated), sum(reports)
		FROM domain_days
		GROUP BY 1, 2, 3`
	const busiest = `
		INSERT INTO source_days (domain_id, day, dated, kind, source, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated)
		SELECT domain_id, day, true, 0, source, 1, 10, 7, 7, 0, 10, 0, 0, 0, 0
		FROM (SELECT domain_id, day, source, row_number() OVER (PARTITION BY day ORDER BY source) AS n FROM source_facts) AS f
		WHERE n <= 100`
	sql := fmt.Sprintf("INSERT INTO domains (name) SELECT CASE n WHEN 0 THEN '%s' ELSE format('customer-%%s.example', n) END FROM generate_series(0, %d) AS n", Domain, domains-1)
	if _, err := db.Exec(ctx, sql); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, totals, today); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, months); err != nil {
		return err
	}
	if err := writeFacts(ctx, db, today); err != nil {
		return err
	}
	_, err := db.Exec(ctx, busiest)
	return err
}

// writeFacts writes what the sources of Domain did.
func writeFacts(ctx context.Context, db *pgxpool.Pool, today time.Time) error {
	var id int64
	if err := db.QueryRow(ctx, "SELECT id FROM domains WHERE name = $1", Domain).Scan(&id); err != nil {
		return err
	}
	var lines [][]any
	for d := range 365 {
		for _, f := range Day(today.AddDate(0, 0, -d), d) {
			lines = append(lines, []any{id, f.Day, int16(0), f.Source, f.AppendFacts(nil)})
		}
	}
	_, err := db.CopyFrom(ctx, pgx.Identifier{"source_facts"}, []string{"domain_id", "day", "kind", "source", "facts"}, pgx.CopyFromRows(lines))
	return err
}

// Day returns what the sources of Domain did on a day, the nth one.
func Day(day time.Time, n int) []dmarc.SourceDay {
	policy := dmarc.PolicyPublished{Domain: Domain, P: dmarc.PolicyNone, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed}
	var facts dmarc.FactReducer
	for i := range 500 {
		k := (n*500 + i) % sources
		row := dmarc.Row{
			Source: netip.AddrFrom4([4]byte{byte(11 + k%200), byte(k / 200), 7, 9}), Count: int64(1 + k%50), HeaderFrom: Domain, EnvelopeFrom: Domain,
			DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone,
			AuthDKIM: []dmarc.DKIMResult{{Domain: Domain, Selector: fmt.Sprint("s", k%7), Result: dmarc.ResultPass}},
			AuthSPF:  []dmarc.SPFResult{{Domain: fmt.Sprintf("bounce.m%d.example", k%40), Result: dmarc.ResultPass}},
		}
		if k%3 == 0 {
			row.DKIM, row.AuthDKIM[0].Result = dmarc.ResultFail, dmarc.ResultFail
		}
		for reporter := range int64(3) {
			facts.Add(&row, &policy, dmarc.Attribution{Days: []time.Time{day}, Main: day, Dated: true}, reporter)
		}
	}
	return facts.Days()
}
