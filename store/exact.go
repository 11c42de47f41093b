package store

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// exactSources returns every address that sent mail as a domain, busiest first,
// from the rows. It costs in proportion to the rows of the domain in the period.
// For days whose rows are no longer kept, it returns what source_days has.
func (s *Store) exactSources(ctx context.Context, domain int64, period dmarc.Period, messages int64, after netip.Addr, limit int) (list dmarc.SourceList, err error) {
	// A temporary table may be needed, and several statements have to see the
	// same; nothing is changed.
	err = pgx.BeginTxFunc(ctx, s.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		settled, err := settledDays(ctx, tx, domain, period)
		if err != nil {
			return err
		}
		shared, err := shareDays(ctx, tx, domain, period)
		if err != nil {
			return err
		}
		shares := ""
		if shared {
			shares = `
			UNION ALL
			SELECT source, day, verdict, rows, messages FROM shares WHERE day <> ALL (@fixed)`
		}
		sql := `
			WITH parts AS (
				SELECT source, day, verdict & @mask AS verdict, count(*) AS rows, sum(messages) AS messages
				FROM ` + singleRows("domain_id = @domain AND day >= @begin AND day < @end AND day <> ALL (@fixed)", "source", "verdict", "messages") + `
				WHERE verdict & @estimated_bit = 0
				GROUP BY 1, 2, 3` + shares + `
			), lines AS (
				SELECT CASE WHEN source IS NULL THEN 1 ELSE 0 END AS kind, source, day,` + tallyColumns + `
				FROM parts
				GROUP BY source, day
				UNION ALL
				SELECT kind, CASE kind WHEN 0 THEN source END, day, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none,
					quarantine, reject, pass, unstated
				FROM source_days
				WHERE domain_id = @domain AND day >= @begin AND day < @end AND day = ANY (@fixed)
			), sums AS MATERIALIZED (
				SELECT kind, source, min(day) AS first, max(day) AS last, ` + summed(tallyNames) + `
				FROM lines
				GROUP BY kind, source
				HAVING sum(rows) > 0 OR sum(messages) > 0
			), page AS (
				SELECT *
				FROM sums
				WHERE kind = 0 AND (messages < @messages OR messages = @messages AND source > @after)
				ORDER BY messages DESC, source
				LIMIT @limit
			)
			SELECT *, (SELECT count(*) FROM sums WHERE kind = 0) FROM page
			UNION ALL
			SELECT *, (SELECT count(*) FROM sums WHERE kind = 0) FROM sums WHERE kind > 0
			ORDER BY kind, messages DESC, source`
		args := sourceArgs(domain, period)
		args["fixed"] = sortedDays(period, settled)
		args["messages"], args["after"], args["limit"] = messages, after, limit
		rows, _ := tx.Query(ctx, sql, args)
		var l dmarc.SourceTraffic
		var source *netip.Addr
		into := append([]any{&l.Kind, &source, &l.FirstDay, &l.LastDay}, scanTally(&l.Tally)...)
		_, err = pgx.ForEachRow(rows, append(into, &list.Total), func() error {
			switch l.Kind {
			case dmarc.SourceAddress:
				l.Source = *source
				list.Items = append(list.Items, l)
			case dmarc.SourceUnknown:
				list.Unknown = l.Tally
			default:
				list.Others = l.Tally
			}
			return nil
		})
		return err
	})
	if err != nil {
		return list, fmt.Errorf("all sources of a domain: %w", err)
	}
	return list, nil
}
