package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// VerifyOptions say what to verify, and what to do about it.
type VerifyOptions struct {
	Domain  string           // "" for all
	Rebuild bool             // put right what can be computed anew
	Found   func(Difference) // told of each difference
}

// A Difference is a line of a table that is not what rows and reports give.
type Difference struct {
	Table    string
	Domain   string
	Line     string // what the line is about
	Stored   string // column=number, of the columns that differ; "" if there is no such line
	Computed string
	// Reparse says that the line cannot be computed from others: the report
	// has to be read again.
	Reparse bool
}

// A Verification is how much was compared, and what came of it.
type Verification struct {
	Domains     int64
	Lines       map[string]int64 // compared, by table
	Pending     int64            // days whose sources wait for the pass and were left out
	Unreduced   int64            // days whose facts wait for the pass and were left out
	Settled     int64            // of reporter_days: lines of days whose rows are no longer kept, taken as they are
	Differences int64
	Rebuilt     int64 // of them
}

// cellsAtOnce bounds how many cells of a rollup are compared in one go. A
// single month is never split.
const cellsAtOnce = 50_000

// Verify computes every rollup anew from rows and reports, and compares.
// Each domain is read by itself, some months at a time, each time in one
// snapshot, so that it may run while reports are taken in.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (Verification, error) {
	v := &verifier{s: s, o: o, Verification: Verification{Lines: map[string]int64{}}}
	for _, table := range verified {
		v.Lines[table] = 0
	}
	if o.Domain != "" {
		id, err := s.domainID(ctx, o.Domain)
		if err != nil {
			return v.Verification, err
		}
		return v.finish(ctx, v.verifyDomain(ctx, id, o.Domain))
	}
	const page = `
		SELECT id, name
		FROM domains
		WHERE id > $1
		ORDER BY id
		LIMIT 1000`
	for after := int64(0); ; {
		type domain struct {
			ID   int64
			Name string
		}
		rows, _ := s.db.Query(ctx, page, after)
		domains, err := pgx.CollectRows(rows, pgx.RowToStructByPos[domain])
		if err != nil {
			return v.Verification, fmt.Errorf("listing domains: %w", err)
		}
		if len(domains) == 0 {
			return v.finish(ctx, nil)
		}
		for _, d := range domains {
			if err := v.verifyDomain(ctx, d.ID, d.Name); err != nil {
				return v.finish(ctx, err)
			}
			after = d.ID
		}
	}
}

// verified are the tables that are compared.
var verified = []string{"reporter_days", "domain_days", "domain_months", "source_days", "source_lists", "source_facts", "fact_lists", "selector_days", "reports"}

type verifier struct {
	s *Store
	o VerifyOptions
	Verification

	// Of the part in hand: told only once it is done, as it may be tried again.
	domain int64
	name   string
	period dmarc.Period
	lines  map[string]int64
	found  []Difference
	fixed  []time.Time // days that cannot be computed from rows any more
	taken  int64
}

// finish has the pass summarise what was found stale.
func (v *verifier) finish(ctx context.Context, err error) (Verification, error) {
	if err == nil && v.Rebuilt > 0 {
		if err = v.s.SummariseSources(ctx); err == nil {
			err = v.s.SummariseFacts(ctx)
		}
	}
	return v.Verification, err
}

// verifyDomain compares one domain, so many months at a time that a bounded
// number of cells is held.
func (v *verifier) verifyDomain(ctx context.Context, id int64, name string) error {
	v.domain, v.name = id, name
	const months = `
		SELECT month::date, sum(cells)::bigint
		FROM (
			SELECT date_trunc('month', day) AS month, count(*) AS cells FROM reporter_days WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT date_trunc('month', day), count(*) FROM reports WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT date_trunc('month', day), 0 FROM domain_days WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT month, 0 FROM domain_months WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT date_trunc('month', day), 0 FROM source_days WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT date_trunc('month', day), 0 FROM source_lists WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT date_trunc('month', day), 0 FROM source_facts WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT date_trunc('month', day), 0 FROM fact_lists WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT date_trunc('month', day), 0 FROM selector_days WHERE domain_id = $1 GROUP BY 1
			UNION ALL SELECT date_trunc('month', day), 0 FROM row_groups WHERE domain_id = $1 GROUP BY 1
		) AS parts
		GROUP BY 1
		ORDER BY 1`
	type month struct {
		Begin time.Time
		Cells int64
	}
	rows, _ := v.s.db.Query(ctx, months, id)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[month])
	if err != nil {
		return fmt.Errorf("finding the months of %s: %w", name, err)
	}
	v.Domains++
	for len(all) > 0 {
		n, cells := 1, all[0].Cells
		for n < len(all) && cells+all[n].Cells <= cellsAtOnce {
			cells += all[n].Cells
			n++
		}
		v.period = dmarc.Period{Begin: all[0].Begin, End: all[n-1].Begin.AddDate(0, 1, 0)}
		if err := v.verifyPart(ctx); err != nil {
			return fmt.Errorf("verifying %s from %s: %w", name, v.period.Begin.Format(time.DateOnly), err)
		}
		all = all[n:]
	}
	return nil
}

// verifyPart compares some months of a domain in one snapshot. Where it
// rebuilds, it is the same transaction: if a line changes meanwhile, PostgreSQL
// refuses, and the part is tried again.
func (v *verifier) verifyPart(ctx context.Context) error {
	for try := 1; ; try++ {
		v.lines, v.found, v.taken = map[string]int64{}, nil, 0
		var pending, unreduced int64
		err := pgx.BeginTxFunc(ctx, v.s.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			settled, err := settledDays(ctx, tx, v.domain, v.period)
			if err != nil {
				return err
			}
			v.fixed = sortedDays(v.period, settled)
			computed, err := v.compute(ctx, tx)
			if err != nil {
				return err
			}
			totals := computed.totals()
			for _, compare := range []func() error{
				func() error { return v.compareReporters(ctx, tx, computed) },
				func() error {
					return v.compareTotals(ctx, tx, "domain_days", "day", ", changes = t.changes + 1", totals)
				},
				func() error { return v.compareTotals(ctx, tx, "domain_months", "month", "", byMonth(totals)) },
				func() error { return v.compareSources(ctx, tx, &pending) },
				func() error { return v.compareLists(ctx, tx) },
				func() error { return v.compareFacts(ctx, tx, &unreduced) },
				func() error { return v.compareReports(ctx, tx) },
			} {
				if err := compare(); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			v.Pending += pending
			v.Unreduced += unreduced
			v.Settled += v.taken
			for table, n := range v.lines {
				v.Lines[table] += n
			}
			for _, d := range v.found {
				v.Differences++
				if v.o.Rebuild && !d.Reparse {
					v.Rebuilt++
				}
				if v.o.Found != nil {
					v.o.Found(d)
				}
			}
			return nil
		}
		if try == 4*tries || !isRace(err) {
			return err
		}
	}
}

// compute sums rows and reports up as the rollups have to be.
func (v *verifier) compute(ctx context.Context, tx pgx.Tx) (*rollup, error) {
	r := &rollup{cells: map[cell]counts{}}
	args := pgx.NamedArgs{"domain": v.domain, "begin": v.period.Begin, "end": v.period.End, "mask": verdictMask, "estimated": verdictEstimated}
	const reports = `
		SELECT day, reporter_id, dated, count(*)
		FROM reports
		WHERE domain_id = @domain AND active AND day >= @begin AND day < @end
		GROUP BY 1, 2, 3`
	k := cell{domain: v.domain}
	var c counts
	rows, _ := tx.Query(ctx, reports, args)
	_, err := pgx.ForEachRow(rows, []any{&k.day, &k.reporter, &k.dated, &c.reports}, func() error {
		r.add(k, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting reports: %w", err)
	}
	single := `
		SELECT r.day, o.reporter_id, o.dated, r.verdict, sum(r.rows)::bigint, sum(r.messages)::bigint
		FROM (
			SELECT day, report, verdict & @mask AS verdict, count(*) AS rows, sum(messages) AS messages
			FROM ` + singleRows("domain_id = @domain AND day >= @begin AND day < @end", "verdict", "messages") + `
			WHERE verdict & @estimated = 0
			GROUP BY 1, 2, 3
		) AS r
		JOIN reports o ON o.domain_id = @domain AND o.id = r.report AND o.active
		GROUP BY 1, 2, 3, 4`
	c = counts{}
	var verdict int16
	rows, _ = tx.Query(ctx, single, args)
	_, err = pgx.ForEachRow(rows, []any{&k.day, &k.reporter, &k.dated, &verdict, &c.rows, &c.messages}, func() error {
		k.verdict = dmarc.Verdict(verdict)
		r.add(k, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("summing rows: %w", err)
	}
	long, err := longReports(ctx, tx, v.domain, v.period)
	if err != nil {
		return nil, err
	}
	for _, o := range long {
		err := eachVerdict(ctx, tx, v.domain, o.day, o.id, func(verdict dmarc.Verdict, messages, n int64) {
			r.addRow(v.domain, o.reporter, o.days, verdict, messages, n)
		})
		if err != nil {
			return nil, err
		}
	}
	fixed := make(map[time.Time]bool, len(v.fixed))
	for _, day := range v.fixed {
		fixed[day] = true
	}
	for k := range r.cells {
		if !v.period.Contains(k.day) || fixed[k.day] {
			delete(r.cells, k)
		}
	}
	return r, v.take(ctx, tx, r)
}

// take takes the lines of reporter_days as they are of days that cannot be
// computed any more: what is made of them can be compared still.
func (v *verifier) take(ctx context.Context, tx pgx.Tx, r *rollup) error {
	if len(v.fixed) == 0 {
		return nil
	}
	const sql = `
		SELECT day, reporter_id, dated, verdict, rows, messages, estimated, reports
		FROM reporter_days
		WHERE domain_id = $1 AND day >= $2 AND day < $3 AND day = ANY ($4)`
	k := cell{domain: v.domain}
	var c counts
	var verdict int16
	rows, _ := tx.Query(ctx, sql, v.domain, v.period.Begin, v.period.End, v.fixed)
	_, err := pgx.ForEachRow(rows, []any{&k.day, &k.reporter, &k.dated, &verdict, &c.rows, &c.messages, &c.estimated, &c.reports}, func() error {
		k.verdict = dmarc.Verdict(verdict)
		r.cells[k] = c
		v.taken++
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading reporter_days: %w", err)
	}
	return nil
}

// eachVerdict yields how many rows of a report share a verdict and a count.
func eachVerdict(ctx context.Context, db querier, domain int64, day time.Time, report int64, take func(v dmarc.Verdict, messages, n int64)) error {
	sql := `
		SELECT verdict, messages, count(*)
		FROM ` + singleRows("domain_id = $1 AND day = $2 AND report = $3", "verdict", "messages") + `
		GROUP BY verdict, messages`
	rows, _ := db.Query(ctx, sql, domain, day, report)
	var verdict int16
	var messages, n int64
	_, err := pgx.ForEachRow(rows, []any{&verdict, &messages, &n}, func() error {
		take(dmarc.Verdict(verdict&verdictMask), messages, n)
		return nil
	})
	if err != nil {
		return fmt.Errorf("counting the rows of report %s: %w", reportKey(domain, report), err)
	}
	return nil
}
