package store

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// readsRows tells whether a filter is about senders, whom the rows alone tell apart by
// day and reporter.
func readsRows(f *dmarc.Filter) bool { return f.Source.IsValid() || f.Classed }

// errOneDomain is returned where rows are read, which is done for one domain at a time.
var errOneDomain = dmarc.Refusal("rows are read for that, which is not done for subdomains; ask for one domain after the other")

// mailOf asks a question about the mail of one domain that meets the source, class and
// reporter of a filter, as the rows tell it: question is put after the definition of mail, a
// table with the columns day, dated, estimated, reporter_id, report, verdict, rows and messages. It
// costs in proportion to the rows of the domain in the period; of days whose rows are
// no longer kept there is nothing.
func (s *Store) mailOf(ctx context.Context, domain int64, q *dmarc.TrafficQuery, question string, args pgx.NamedArgs, read func(pgx.Rows) error) error {
	seen := "domain_id = @domain AND day >= @begin AND day < @end AND day <> ALL (@fixed)"
	var reporters []int64
	if q.Reporter != "" {
		var err error
		if reporters, err = s.reportersNamed(ctx, []int64{domain}, q.Reporter); err != nil {
			return err
		}
		args["reporters"] = reporters
		seen += " AND report IN (SELECT id FROM reports WHERE domain_id = @domain AND reporter_id = ANY (@reporters::bigint[]) AND active)"
	}
	for name, value := range sourceArgs(domain, q.Period) {
		args[name] = value
	}
	// A temporary table may be needed, and several statements have to see the
	// same; nothing is changed.
	return pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		settled, err := settledDays(ctx, tx, domain, q.Period)
		if err != nil {
			return err
		}
		args["fixed"] = sortedDays(q.Period, settled)
		shared, err := shareDaysOf(ctx, tx, domain, q.Period, func(r longReport) bool {
			return q.Reporter == "" || slices.Contains(reporters, r.reporter)
		})
		if err != nil {
			return err
		}
		from := sourceOf(&q.Filter, "source", args)
		shares := ""
		if shared {
			shares = `
				UNION ALL
				SELECT @domain::bigint, report, source, day, true, true, verdict, rows, messages
				FROM shares
				WHERE day <> ALL (@fixed)` + from
		}
		classes, where := classesOf(&q.Filter, "p", args)
		sql := `
			WITH parts AS (
				SELECT @domain::bigint AS domain_id, report, source, day, verdict & @undated_bit = 0 AS dated, false AS estimated, verdict & @mask AS verdict,
					count(*) AS rows, sum(messages)::bigint AS messages
				FROM ` + singleRows(seen, "source", "verdict", "messages") + `
				WHERE verdict & @estimated_bit = 0` + from + `
				GROUP BY 1, 2, 3, 4, 5, 6, 7` + shares + `
			), mail AS (
				SELECT p.day, p.dated, p.estimated, o.reporter_id, p.report, p.verdict, p.rows, p.messages
				FROM parts p
				JOIN reports o ON o.domain_id = @domain AND o.id = p.report` + classes + `
				WHERE (p.rows > 0 OR p.messages > 0)` + where + `
			)` + question
		rows, _ := tx.Query(ctx, sql, args)
		return read(rows)
	})
}
