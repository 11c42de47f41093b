package store

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// topSources is how many addresses of a domain and day are kept by name; the
// others are kept as a sum.
const topSources = 100

// SummariseSources brings source_days and source_lists up to date with the days that changed
// since the last pass. Several may run at once: each day is summarised by one of
// them at a time. It may be cut short and run again. It comes to each day once: what
// changes while it runs may be left to the next pass, so that it ends under load.
func (s *Store) SummariseSources(ctx context.Context) error {
	p := &dayPass{name: "sources", seen: "summarised", make: summariseDay, after: listSources}
	if err := p.follow(ctx, s); err != nil {
		return err
	}
	return s.listOldDays(ctx)
}

func summariseDay(ctx context.Context, tx pgx.Tx, d changedDay, settled bool) error {
	if settled {
		return sumOthers(ctx, tx, d)
	}
	shared := false
	if d.Dated {
		var err error
		if shared, err = shareDays(ctx, tx, d.Domain, d.period()); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM source_days WHERE domain_id = $1 AND day = $2 AND dated = $3", d.Domain, d.Day, d.Dated); err != nil {
		return err
	}
	sql := `
		INSERT INTO source_days (domain_id, day, dated, kind, source, rows, messages, dmarc_pass, dkim_aligned, spf_aligned,
			none, quarantine, reject, pass, unstated)
		SELECT @domain, lines.*
		FROM (` + sourceLines(shared) + `) AS lines`
	_, err := tx.Exec(ctx, sql, sourceArgs(d.Domain, d.period(), d.Dated))
	return err
}

// sumOthers keeps the addresses of a day as they were when its rows were given
// up, and counts what came later as others.
func sumOthers(ctx context.Context, tx pgx.Tx, d changedDay) error {
	if _, err := tx.Exec(ctx, "DELETE FROM source_days WHERE domain_id = $1 AND day = $2 AND dated = $3 AND kind = 2", d.Domain, d.Day, d.Dated); err != nil {
		return err
	}
	var rest, filter []string
	for _, c := range tallyNames {
		rest = append(rest, "d."+c+" - coalesce(n."+c+", 0)")
		filter = append(filter, "sum("+c+")::bigint AS "+c)
	}
	sql := `
		INSERT INTO source_days (domain_id, day, dated, kind, source, ` + strings.Join(tallyNames, ", ") + `)
		SELECT d.domain_id, d.day, d.dated, 2, '::', ` + strings.Join(rest, ", ") + `
		FROM domain_days d
		CROSS JOIN (
			SELECT ` + strings.Join(filter, ", ") + `
			FROM source_days
			WHERE domain_id = $1 AND day = $2 AND dated = $3
		) AS n
		WHERE d.domain_id = $1 AND d.day = $2 AND d.dated = $3 AND (d.rows <> coalesce(n.rows, 0) OR d.messages <> coalesce(n.messages, 0))`
	_, err := tx.Exec(ctx, sql, d.Domain, d.Day, d.Dated)
	return err
}

// sourceLines is a query for what source_days has to hold about days of a
// domain. With shared, the table of shareDays is there.
func sourceLines(shared bool) string {
	shares := ""
	if shared {
		shares = `
			UNION ALL
			SELECT day, true, source, verdict, rows, messages
			FROM shares`
	}
	return `
		WITH parts AS (
			SELECT day, verdict & @undated_bit = 0 AS dated, source, verdict & @mask AS verdict, count(*) AS rows, sum(messages) AS messages
			FROM ` + singleRows("domain_id = @domain AND day >= @begin AND day < @end", "source", "verdict", "messages") + `
			WHERE verdict & @estimated_bit = 0 AND (verdict & @undated_bit = 0) = ANY (@dated)
			GROUP BY 1, 2, 3, 4` + shares + `
		), sums AS (
			SELECT day, dated, source,` + tallyColumns + `
			FROM parts
			GROUP BY day, dated, source
			HAVING sum(rows) > 0 OR sum(messages) > 0 -- a share may be nothing
		), ranked AS (
			SELECT *, CASE
				WHEN source IS NULL THEN 1
				WHEN row_number() OVER (PARTITION BY day, dated ORDER BY source IS NULL, messages DESC, source) <= @top THEN 0
				ELSE 2
			END::smallint AS kind
			FROM sums
		)
		SELECT day, dated, kind, CASE kind WHEN 0 THEN source ELSE '::' END AS source,` + tally + `
		FROM ranked
		GROUP BY 1, 2, 3, 4`
}

func sourceArgs(domain int64, period dmarc.Period, dated ...bool) pgx.NamedArgs {
	return pgx.NamedArgs{
		"domain": domain, "begin": period.Begin, "end": period.End, "dated": dated, "top": topSources,
		"mask": verdictMask, "undated_bit": verdictUndated, "estimated_bit": verdictEstimated,
	}
}

// longReports returns the reports of a domain that are shared among days, and
// have a share in a period.
func longReports(ctx context.Context, tx pgx.Tx, domain int64, period dmarc.Period) ([]longReport, error) {
	const sql = `
		SELECT id, reporter_id, day, begins_at, ends_at, received_at
		FROM reports
		WHERE domain_id = $1 AND active AND dated
			AND begins_at > $2::date - 32 AND begins_at < $3::date
			AND ends_at - begins_at > interval '25 hours'
		ORDER BY id`
	rows, _ := tx.Query(ctx, sql, domain, period.Begin, period.End)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o longReport, err error) {
		var sent dmarc.Period
		var received time.Time
		err = row.Scan(&o.id, &o.reporter, &o.day, &sent.Begin, &sent.End, &received)
		o.days, _ = sent.Attribute(received)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for reports of several days: %w", err)
	}
	return slices.DeleteFunc(all, func(o longReport) bool {
		return !o.days.Estimated || !slices.ContainsFunc(o.days.Days, period.Contains)
	}), nil
}

// A longReport is a report whose counts are shared among days.
type longReport struct {
	id, reporter int64
	day          time.Time // that its rows are kept under
	days         dmarc.Attribution
}

// shareDays puts what the reports of longer periods have for the days of a
// period into a temporary table, and tells whether there is any. Such reports are
// rare.
func shareDays(ctx context.Context, tx pgx.Tx, domain int64, period dmarc.Period) (bool, error) {
	return shareDaysOf(ctx, tx, domain, period, func(longReport) bool { return true })
}

// shareDaysOf does so for the reports that are wanted.
func shareDaysOf(ctx context.Context, tx pgx.Tx, domain int64, period dmarc.Period, wanted func(longReport) bool) (bool, error) {
	reports, err := longReports(ctx, tx, domain, period)
	reports = slices.DeleteFunc(reports, func(r longReport) bool { return !wanted(r) })
	if err != nil || len(reports) == 0 {
		return false, err
	}
	const table = `
		CREATE TEMPORARY TABLE shares (report bigint, day date, source inet, verdict smallint, rows bigint, messages bigint)
		ON COMMIT DROP`
	if _, err := tx.Exec(ctx, table); err != nil {
		return false, err
	}
	for _, o := range reports {
		if err := copyShares(ctx, tx, domain, o, period); err != nil {
			return false, fmt.Errorf("sharing report %s among days: %w", reportKey(domain, o.id), err)
		}
	}
	return true, nil
}

// copyShares copies the shares of one report into the temporary table, some
// thousands of rows at a time.
func copyShares(ctx context.Context, tx pgx.Tx, domain int64, o longReport, period dmarc.Period) error {
	const declare = `
		DECLARE shared NO SCROLL CURSOR FOR
		SELECT source, verdict & %d, messages
		FROM rows
		WHERE domain_id = %d AND day = '%s' AND report = %d`
	if _, err := tx.Exec(ctx, fmt.Sprintf(declare, verdictMask, domain, o.day.Format(time.DateOnly), o.id)); err != nil {
		return err
	}
	var parts []int64
	for {
		rows, _ := tx.Query(ctx, fmt.Sprintf("FETCH %d FROM shared", rowsAtOnce))
		var lines [][]any
		var source *netip.Addr
		var verdict int16
		var messages int64
		tag, err := pgx.ForEachRow(rows, []any{&source, &verdict, &messages}, func() error {
			parts = o.days.Share(messages, parts)
			for i, day := range o.days.Days {
				if !period.Contains(day) {
					continue
				}
				var n int64 // rows count for the main day
				if day.Equal(o.days.Main) {
					n = 1
				}
				lines = append(lines, []any{o.id, day, source, verdict, n, parts[i]})
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"shares"}, []string{"report", "day", "source", "verdict", "rows", "messages"}, pgx.CopyFromRows(lines)); err != nil {
			return err
		}
		if tag.RowsAffected() < rowsAtOnce {
			_, err := tx.Exec(ctx, "CLOSE shared")
			return err
		}
	}
}
