package store

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// exactSources returns every address that sent mail as a domain, from the rows. It
// costs in proportion to the rows of the domain in the period. For days whose rows are
// no longer kept, it returns what source_days has, which is nothing of one reporter.
func (s *Store) exactSources(ctx context.Context, domain int64, q *dmarc.TrafficQuery, o *order, behind string, args pgx.NamedArgs, list *dmarc.SourceList) (lines []sourceLine, err error) {
	period := q.Period
	seen := "domain_id = @domain AND day >= @begin AND day < @end AND day <> ALL (@fixed)"
	kept := "t.domain_id = @domain AND t.day >= @begin AND t.day < @end AND t.day = ANY (@fixed)"
	var reporters []int64
	if q.Reporter != "" {
		if reporters, err = s.reportersNamed(ctx, []int64{domain}, q.Reporter); err != nil {
			return nil, err
		}
		args["reporters"] = reporters
		seen += " AND report IN (SELECT id FROM reports WHERE domain_id = @domain AND reporter_id = ANY (@reporters::bigint[]) AND active)"
		kept += " AND false"
	}
	// A temporary table may be needed, and several statements have to see the
	// same; nothing is changed.
	err = pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		settled, err := settledDays(ctx, tx, domain, period)
		if err != nil {
			return err
		}
		shared, err := shareDaysOf(ctx, tx, domain, period, func(r longReport) bool {
			return q.Reporter == "" || slices.Contains(reporters, r.reporter)
		})
		if err != nil {
			return err
		}
		shares := ""
		if shared {
			shares = `
			UNION ALL
			SELECT source, day, verdict, rows, messages FROM shares WHERE day <> ALL (@fixed)`
		}
		for name, value := range sourceArgs(domain, period) {
			args[name] = value
		}
		args["fixed"] = sortedDays(period, settled)
		classes, where := classesOf(&q.Filter, "sums", args)
		where += sourceOf(&q.Filter, "sums.source", args) + talliesOf(&q.Filter, "sums.")
		sql := `
			WITH parts AS (
				SELECT source, day, verdict & @mask AS verdict, count(*) AS rows, sum(messages) AS messages
				FROM ` + singleRows(seen, "source", "verdict", "messages") + `
				WHERE verdict & @estimated_bit = 0
				GROUP BY 1, 2, 3` + shares + `
			), lines AS (
				SELECT CASE WHEN source IS NULL THEN 1 ELSE 0 END AS kind, source, day,` + tallyColumns + `
				FROM parts
				GROUP BY source, day
				UNION ALL
				SELECT t.kind, CASE t.kind WHEN 0 THEN t.source END, t.day, t.rows, t.messages, t.dmarc_pass, t.dkim_aligned, t.spf_aligned, t.none,
					t.quarantine, t.reject, t.pass, t.unstated
				FROM source_days t
				WHERE ` + kept + `
			), sums AS MATERIALIZED (
				SELECT @domain::bigint AS domain_id, kind, source, min(day) AS first, max(day) AS last, ` + summed(tallyNames) + `
				FROM lines
				GROUP BY kind, source
				HAVING sum(rows) > 0 OR sum(messages) > 0
			), wanted AS MATERIALIZED (
				SELECT sums.*
				FROM sums` + classes + `
				WHERE kind = 0` + where + `
			), page AS (
				SELECT *, ` + o.by + ` AS sorted
				FROM wanted
				WHERE ` + behind + `
				ORDER BY ` + o.clause() + `
				LIMIT @limit
			), answer AS (
				SELECT *, (SELECT count(*) FROM wanted) AS total FROM page
				UNION ALL
				SELECT *, NULL, (SELECT count(*) FROM wanted) FROM sums WHERE kind > 0
			)
			SELECT kind, source, first, last, ` + strings.Join(tallyNames, ", ") + `, total, coalesce(sorted::text, '')
			FROM answer
			ORDER BY kind, ` + o.clause()
		rows, _ := tx.Query(ctx, sql, args)
		var l sourceLine
		var source *netip.Addr
		into := append([]any{&l.Kind, &source, &l.FirstDay, &l.LastDay}, scanTally(&l.Tally)...)
		_, err = pgx.ForEachRow(rows, append(into, &list.Total, &l.place), func() error {
			switch l.Kind {
			case dmarc.SourceAddress:
				l.Source = *source
				lines = append(lines, l)
			case dmarc.SourceUnknown:
				list.Unknown = l.Tally
			default:
				list.Others = l.Tally
			}
			return nil
		})
		return err
	})
	return lines, err
}
