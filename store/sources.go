package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
)

// topSources is how many addresses of a domain and day are kept by name; the
// others are kept as a sum.
const topSources = 250

// A changedDay is a day of a domain whose sources have to be summarised again.
type changedDay struct {
	Domain  int64
	Day     time.Time
	Dated   bool
	Changes int64
}

// SummariseSources brings source_days up to date with the days that changed
// since the last pass. One process does it at a time; for the others the pass is
// empty. It may be cut short and run again.
func (s *Store) SummariseSources(ctx context.Context) error {
	conn, err := s.db.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("summarising sources: %w", err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtext('dmarcd sources'))").Scan(&mine); err != nil {
		return fmt.Errorf("summarising sources: %w", err)
	}
	if !mine {
		return nil
	}
	defer conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(hashtext('dmarcd sources'))")

	for {
		const sql = `
			SELECT domain_id, day, dated, changes
			FROM domain_days
			WHERE changes <> summarised
			ORDER BY domain_id, day
			LIMIT 500`
		rows, _ := conn.Query(ctx, sql)
		days, err := pgx.CollectRows(rows, pgx.RowToStructByPos[changedDay])
		if err != nil {
			return fmt.Errorf("finding days that changed: %w", err)
		}
		if len(days) == 0 {
			return nil
		}
		for _, d := range days {
			if err := s.summariseDay(ctx, conn, d); err != nil {
				return fmt.Errorf("summarising the sources of a day: %w", err)
			}
		}
	}
}

func (s *Store) summariseDay(ctx context.Context, conn *pgxpool.Conn, d changedDay) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		shared, err := s.shareDay(ctx, tx, d)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM source_days WHERE domain_id = $1 AND day = $2 AND dated = $3", d.Domain, d.Day, d.Dated); err != nil {
			return err
		}
		shares := ""
		if shared {
			shares = " UNION ALL SELECT source, verdict, rows, messages FROM shares"
		}
		undated := verdictUndated
		if d.Dated {
			undated = 0
		}
		sql := `
			WITH parts AS (
				SELECT source, verdict & @mask AS verdict, count(*) AS rows, sum(messages) AS messages
				FROM rows
				WHERE domain_id = @domain AND day = @day AND verdict & @undated_bit = @undated AND verdict & @estimated_bit = 0
				GROUP BY 1, 2` + shares + `
			), sums AS (
				SELECT source,` + tallyColumns + `
				FROM parts
				GROUP BY source
			), ranked AS (
				SELECT *, CASE
					WHEN source IS NULL THEN 1
					WHEN row_number() OVER (ORDER BY source IS NULL, messages DESC, source) <= @top THEN 0
					ELSE 2
				END AS kind
				FROM sums
			)
			INSERT INTO source_days (domain_id, day, dated, kind, source, rows, messages, dmarc_pass, dkim_aligned, spf_aligned,
				none, quarantine, reject, pass, unstated)
			SELECT @domain, @day, @dated, kind, CASE kind WHEN 0 THEN source ELSE '::' END,` + tally + `
			FROM ranked
			GROUP BY 4, 5`
		_, err = tx.Exec(ctx, sql, pgx.NamedArgs{
			"domain": d.Domain, "day": d.Day, "dated": d.Dated, "top": topSources, "mask": verdictMask,
			"undated_bit": verdictUndated, "undated": undated, "estimated_bit": verdictEstimated,
		})
		if err != nil {
			return err
		}
		const done = `
			UPDATE domain_days
			SET summarised = $4
			WHERE day = $2 AND domain_id = $1 AND dated = $3`
		_, err = tx.Exec(ctx, done, d.Domain, d.Day, d.Dated, d.Changes)
		return err
	})
}

// shareDay puts what the reports of longer periods have for this day into a
// temporary table, and tells whether there is any. Such reports are rare.
func (s *Store) shareDay(ctx context.Context, tx pgx.Tx, d changedDay) (bool, error) {
	if !d.Dated {
		return false, nil
	}
	const sql = `
		SELECT id, day, begins_at, ends_at, received_at
		FROM reports
		WHERE domain_id = $1 AND active AND dated
			AND begins_at > $2::date - 32 AND begins_at < $2::date + 1
			AND ends_at - begins_at > interval '25 hours'`
	rows, _ := tx.Query(ctx, sql, d.Domain, d.Day)
	reports, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o stored, err error) {
		err = row.Scan(&o.id, &o.day, &o.period.Begin, &o.period.End, &o.received)
		return o, err
	})
	if err != nil {
		return false, err
	}
	made := false
	for _, o := range reports {
		days, _ := o.period.Attribute(o.received)
		at := -1
		for i, day := range days.Days {
			if days.Estimated && day.Equal(d.Day) {
				at = i
			}
		}
		if at < 0 {
			continue
		}
		if !made {
			const table = `
				CREATE TEMPORARY TABLE shares (source inet, verdict smallint, rows bigint, messages bigint)
				ON COMMIT DROP`
			if _, err := tx.Exec(ctx, table); err != nil {
				return false, err
			}
			made = true
		}
		if err := s.copyShares(ctx, tx, d, o, days, at); err != nil {
			return false, err
		}
	}
	return made, nil
}

// copyShares streams the shares of one report, read over another connection,
// into the temporary table.
func (s *Store) copyShares(ctx context.Context, tx pgx.Tx, d changedDay, o stored, days dmarc.Attribution, at int) error {
	const sql = `
		SELECT source, verdict, messages
		FROM rows
		WHERE domain_id = $1 AND day = $2 AND report = $3`
	rows, err := s.db.Query(ctx, sql, d.Domain, o.day, o.id)
	if err != nil {
		return err
	}
	defer rows.Close()
	var parts []int64
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"shares"}, []string{"source", "verdict", "rows", "messages"},
		pgx.CopyFromFunc(func() ([]any, error) {
			if !rows.Next() {
				return nil, rows.Err()
			}
			var source *netip.Addr
			var verdict int16
			var messages int64
			if err := rows.Scan(&source, &verdict, &messages); err != nil {
				return nil, err
			}
			parts = days.Share(messages, parts)
			var n int64 // rows count for the main day
			if days.Days[at].Equal(days.Main) {
				n = 1
			}
			return []any{source, verdict & verdictMask, n, parts[at]}, nil
		}))
	return err
}
