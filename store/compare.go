package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

func (v *verifier) differ(d Difference) {
	d.Domain = v.name
	v.found = append(v.found, d)
}

// differing writes the columns that differ. stored or computed may be nil.
func differing(columns []string, stored, computed []int64) (was, is string) {
	var a, b []string
	for i, name := range columns {
		if stored == nil || computed == nil || stored[i] != computed[i] {
			if stored != nil {
				a = append(a, fmt.Sprintf("%s=%d", name, stored[i]))
			}
			if computed != nil {
				b = append(b, fmt.Sprintf("%s=%d", name, computed[i]))
			}
		}
	}
	return strings.Join(a, " "), strings.Join(b, " ")
}

func zero(values []int64) bool {
	return !slices.ContainsFunc(values, func(n int64) bool { return n != 0 })
}

var reporterColumns = []string{"rows", "messages", "estimated", "reports"}

func (c counts) columns() []int64 { return []int64{c.rows, c.messages, c.estimated, c.reports} }

func (k cell) line() string {
	day := k.day.Format(time.DateOnly)
	if !k.dated {
		day += ", in no series"
	}
	return day
}

func (v *verifier) compareReporters(ctx context.Context, tx pgx.Tx, computed *rollup) error {
	const sql = `
		SELECT day, reporter_id, dated, verdict, rows, messages, estimated, reports
		FROM reporter_days
		WHERE domain_id = $1 AND day >= $2 AND day < $3`
	rows, _ := tx.Query(ctx, sql, v.domain, v.period.Begin, v.period.End)
	wrong := map[cell]counts{} // what it should be
	k := cell{domain: v.domain}
	var verdict int16
	var c counts
	differ := func(k cell, stored, computed []int64) {
		d := Difference{Table: "reporter_days", Line: fmt.Sprintf("%s, reporter %d, verdict %d", k.line(), k.reporter, k.verdict)}
		d.Stored, d.Computed = differing(reporterColumns, stored, computed)
		v.differ(d)
	}
	left := make(map[cell]bool, len(computed.cells))
	for k, c := range computed.cells {
		if c != (counts{}) {
			left[k] = true
		}
	}
	_, err := pgx.ForEachRow(rows, []any{&k.day, &k.reporter, &k.dated, &verdict, &c.rows, &c.messages, &c.estimated, &c.reports}, func() error {
		k.verdict = dmarc.Verdict(verdict)
		v.lines["reporter_days"]++
		want := computed.cells[k]
		delete(left, k)
		if c != want {
			wrong[k] = want
			differ(k, c.columns(), want.columns())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading reporter_days: %w", err)
	}
	for k := range left {
		wrong[k] = computed.cells[k]
		v.lines["reporter_days"]++
		differ(k, nil, computed.cells[k].columns())
	}
	if !v.o.Rebuild {
		return nil
	}
	for k, c := range wrong {
		const remove = `
			DELETE FROM reporter_days
			WHERE domain_id = $1 AND day = $2 AND reporter_id = $3 AND dated = $4 AND verdict = $5`
		if _, err := tx.Exec(ctx, remove, k.domain, k.day, k.reporter, k.dated, int16(k.verdict)); err != nil {
			return fmt.Errorf("rebuilding reporter_days: %w", err)
		}
		if c == (counts{}) {
			continue
		}
		const insert = `
			INSERT INTO reporter_days (domain_id, day, reporter_id, dated, verdict, rows, messages, estimated, reports)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
		_, err := tx.Exec(ctx, insert, k.domain, k.day, k.reporter, k.dated, int16(k.verdict), c.rows, c.messages, c.estimated, c.reports)
		if err != nil {
			return fmt.Errorf("rebuilding reporter_days: %w", err)
		}
	}
	return nil
}

// totalColumns are the counting columns of domain_days, in the order of
// total.columns.
var totalColumns = []string{"rows", "messages", "dmarc_pass", "dkim_aligned", "spf_aligned", "none", "quarantine", "reject",
	"pass", "unstated", "estimated", "reports"}

// compareTotals compares domain_days or domain_months.
func (v *verifier) compareTotals(ctx context.Context, tx pgx.Tx, table, day, more string, computed []*total) error {
	left := make(map[cell][12]int64, len(computed))
	for _, t := range computed {
		left[t.cell] = t.columns()
	}
	wrong := map[cell][12]int64{}
	differ := func(k cell, stored, computed []int64) {
		d := Difference{Table: table, Line: k.line()}
		d.Stored, d.Computed = differing(totalColumns, stored, computed)
		v.differ(d)
	}
	names := strings.Join(totalColumns, ", ")
	sql := `
		SELECT ` + day + `, dated, ` + names + `
		FROM ` + table + `
		WHERE domain_id = $1 AND ` + day + ` >= $2 AND ` + day + ` < $3`
	rows, _ := tx.Query(ctx, sql, v.domain, v.period.Begin, v.period.End)
	k := cell{domain: v.domain}
	var stored [12]int64
	into := []any{&k.day, &k.dated}
	for i := range stored {
		into = append(into, &stored[i])
	}
	_, err := pgx.ForEachRow(rows, into, func() error {
		v.lines[table]++
		if want := left[k]; stored != want {
			wrong[k] = want
			differ(k, stored[:], want[:])
		}
		delete(left, k)
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading %s: %w", table, err)
	}
	for k, want := range left {
		if !zero(want[:]) {
			v.lines[table]++
			wrong[k] = want
			differ(k, nil, want[:])
		}
	}
	if !v.o.Rebuild {
		return nil
	}
	for k, want := range wrong {
		args := []any{v.domain, k.day, k.dated}
		values := ""
		for i, n := range want {
			args = append(args, n)
			values += fmt.Sprintf(", $%d", i+4)
		}
		set := `
			INSERT INTO ` + table + ` AS t (domain_id, ` + day + `, dated, ` + names + `)
			VALUES ($1, $2, $3` + values + `)
			ON CONFLICT (` + day + `, domain_id, dated) DO UPDATE
			SET (` + names + `) = (excluded.` + strings.Join(totalColumns, ", excluded.") + `)` + more
		if _, err := tx.Exec(ctx, set, args...); err != nil {
			return fmt.Errorf("rebuilding %s: %w", table, err)
		}
	}
	return nil
}

// tallyNames are the columns of a tally, in the order of scanTally.
var tallyNames = totalColumns[:10]

// compareSources compares the days that the pass has summarised since they
// changed last.
func (v *verifier) compareSources(ctx context.Context, tx pgx.Tx, pending *int64) error {
	const states = `
		SELECT count(*) FILTER (WHERE changes <> summarised)
		FROM domain_days
		WHERE domain_id = $1 AND day >= $2 AND day < $3`
	if err := tx.QueryRow(ctx, states, v.domain, v.period.Begin, v.period.End).Scan(pending); err != nil {
		return fmt.Errorf("reading domain_days: %w", err)
	}
	shared, err := shareDays(ctx, tx, v.domain, v.period)
	if err != nil {
		return err
	}
	sql := `
		WITH computed (day, dated, kind, source, ` + strings.Join(tallyNames, ", ") + `) AS (` + sourceLines(shared) + `
		), stored AS (
			SELECT * FROM source_days
			WHERE domain_id = @domain AND day >= @begin AND day < @end AND day <> ALL (@fixed)
			UNION ALL
			SELECT domain_id, day, dated, 3, '::', ` + summed(tallyNames) + `
			FROM source_days
			WHERE domain_id = @domain AND day >= @begin AND day < @end AND day = ANY (@fixed)
			GROUP BY domain_id, day, dated
		), expected AS (
			SELECT * FROM computed WHERE day <> ALL (@fixed)
			UNION ALL
			SELECT day, dated, 3, '::', ` + strings.Join(tallyNames, ", ") + `
			FROM domain_days
			WHERE domain_id = @domain AND day >= @begin AND day < @end AND day = ANY (@fixed) AND (rows <> 0 OR messages <> 0)
		), pending AS (
			SELECT day, dated FROM domain_days WHERE domain_id = @domain AND day >= @begin AND day < @end AND changes <> summarised
		), lines AS (
			SELECT coalesce(stored.day, expected.day) AS day, coalesce(stored.dated, expected.dated) AS dated,
				coalesce(stored.kind, expected.kind) AS kind, coalesce(stored.source, expected.source) AS source,
				CASE WHEN stored.day IS NOT NULL THEN ARRAY[` + columnsOf("stored", tallyNames) + `] END AS stored_sums,
				CASE WHEN expected.day IS NOT NULL THEN ARRAY[` + columnsOf("expected", tallyNames) + `] END AS computed_sums
			FROM stored
			FULL JOIN expected ON expected.day = stored.day AND expected.dated = stored.dated
				AND expected.kind = stored.kind AND expected.source = stored.source
		)
		SELECT day, dated, kind, host(source), stored_sums, computed_sums
		FROM lines
		WHERE NOT EXISTS (SELECT FROM pending WHERE pending.day = lines.day AND pending.dated = lines.dated)
		ORDER BY day, dated, kind, source`
	args := sourceArgs(v.domain, v.period, true, false)
	args["fixed"] = v.fixed
	rows, _ := tx.Query(ctx, sql, args)
	k := cell{domain: v.domain}
	var kind int16
	var source string
	var was, is []int64
	stale := map[cell]bool{}
	_, err = pgx.ForEachRow(rows, []any{&k.day, &k.dated, &kind, &source, &was, &is}, func() error {
		v.lines["source_days"]++
		if was != nil && is != nil && slices.Equal(was, is) {
			return nil
		}
		switch dmarc.SourceKind(kind) {
		case dmarc.SourceUnknown:
			source = "no address"
		case dmarc.SourceOthers:
			source = "all others"
		case sourceSum:
			source = "all together"
		}
		d := Difference{Table: "source_days", Line: k.line() + ", " + source}
		d.Stored, d.Computed = differing(tallyNames, was, is)
		v.differ(d)
		stale[k] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("comparing source_days: %w", err)
	}
	if !v.o.Rebuild {
		return nil
	}
	for k := range stale {
		// The pass does the rest. A day that nothing is known of needs none.
		const mark = `
			UPDATE domain_days
			SET changes = changes + 1
			WHERE domain_id = $1 AND day = $2 AND dated = $3`
		tag, err := tx.Exec(ctx, mark, v.domain, k.day, k.dated)
		if err == nil && tag.RowsAffected() == 0 {
			_, err = tx.Exec(ctx, "DELETE FROM source_days WHERE domain_id = $1 AND day = $2 AND dated = $3", v.domain, k.day, k.dated)
		}
		if err != nil {
			return fmt.Errorf("rebuilding source_days: %w", err)
		}
	}
	return nil
}

// compareReports compares the sums of each report with its rows.
func (v *verifier) compareReports(ctx context.Context, tx pgx.Tx) error {
	h, err := readHorizons(ctx, tx)
	if err != nil {
		return err
	}
	begin := v.period.Begin
	if kept := h.of(horizonRows, v.domain); begin.Before(kept) {
		begin = kept
	}
	args := pgx.NamedArgs{"domain": v.domain, "begin": begin, "end": v.period.End, "mask": verdictMask}
	sql := `
		WITH parts AS (
			SELECT report, verdict & @mask AS verdict, count(*) AS rows, sum(messages) AS messages
			FROM ` + singleRows("domain_id = @domain AND day >= @begin AND day < @end", "verdict", "messages") + `
			GROUP BY 1, 2
		), sums AS (
			SELECT report,` + tallyColumns + `
			FROM parts
			GROUP BY report
		), kept AS (
			SELECT id, report_id, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated
			FROM reports
			WHERE domain_id = @domain AND day >= @begin AND day < @end AND active
		)
		SELECT coalesce(kept.id, sums.report), kept.report_id,
			CASE WHEN kept.id IS NOT NULL THEN ARRAY[kept.` + strings.Join(tallyNames, ", kept.") + `] END,
			ARRAY[` + coalesced("sums", tallyNames) + `]
		FROM kept
		FULL JOIN sums ON sums.report = kept.id`
	rows, _ := tx.Query(ctx, sql, args)
	var id int64
	var name *string
	var was, is []int64
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &was, &is}, func() error {
		v.lines["reports"]++
		if was != nil && slices.Equal(was, is) {
			return nil
		}
		d := Difference{Table: "reports", Line: "report " + reportKey(v.domain, id), Reparse: true}
		if name != nil {
			d.Line += fmt.Sprintf(" (%q)", *name)
		} else {
			d.Line += ", which does not count but has rows"
		}
		d.Stored, d.Computed = differing(tallyNames, was, is)
		v.differ(d)
		return nil
	})
	if err != nil {
		return fmt.Errorf("comparing reports with their rows: %w", err)
	}
	return nil
}

// sourceSum stands for all lines of a day whose rows are no longer kept.
const sourceSum dmarc.SourceKind = 3

func summed(columns []string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = "sum(" + c + ")::bigint AS " + c
	}
	return strings.Join(parts, ", ")
}

func columnsOf(table string, columns []string) string {
	return table + "." + strings.Join(columns, ", "+table+".")
}

func coalesced(table string, columns []string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = "coalesce(" + table + "." + c + ", 0)"
	}
	return strings.Join(parts, ", ")
}
