package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A changedDay is a day of a domain that changed.
type changedDay struct {
	Domain int64
	Day    time.Time
	Dated  bool
	Name   string // of the domain

	changes int64 // how often it changed
}

// period is the day as a period.
func (d *changedDay) period() dmarc.Period {
	return dmarc.Period{Begin: d.Day, End: d.Day.AddDate(0, 0, 1)}
}

// A dayPass follows what changes: domain_days counts the changes of each day, and a column
// of it says how many of these the pass has seen. Several may run at once: each day is done by
// one of them at a time. It may be cut short and run again.
type dayPass struct {
	name string // of its locks
	seen string // the column
	// make makes what is kept of a day anew. Of one that is settled the rows are gone.
	make func(ctx context.Context, tx pgx.Tx, d changedDay, settled bool) error
	// after does what is to be done once the day is marked as seen.
	after func(ctx context.Context, tx pgx.Tx, d changedDay) error
}

// follow does the days that changed since they were last seen, each once: what changes while it
// runs may be left to the next pass, so that it ends under load.
func (p *dayPass) follow(ctx context.Context, s *Store) error {
	var last changedDay
	for {
		sql := `
			SELECT t.domain_id, t.day, t.dated, d.name
			FROM domain_days t
			JOIN domains d ON d.id = t.domain_id
			WHERE t.changes <> t.` + p.seen + ` AND (t.domain_id, t.day, t.dated) > ($1, $2, $3)
			ORDER BY t.domain_id, t.day, t.dated
			LIMIT 500`
		rows, _ := s.db.Query(ctx, sql, last.Domain, last.Day, last.Dated)
		days, err := pgx.CollectRows(rows, pgx.RowToStructByPos[changedDay])
		if err != nil {
			return fmt.Errorf("finding days that changed: %w", err)
		}
		if len(days) == 0 {
			return nil
		}
		for _, d := range days {
			if err := p.day(ctx, s, d); err != nil {
				return fmt.Errorf("summing up the %s of %s on %s: %w", p.name, d.Name, d.Day.Format(time.DateOnly), err)
			}
			last = d
		}
	}
}

func (p *dayPass) day(ctx context.Context, s *Store, d changedDay) error {
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := lockDay(ctx, tx, p.name, d.Domain, d.Day); err != nil {
			return err
		}
		find := `
			SELECT changes
			FROM domain_days
			WHERE domain_id = $1 AND day = $2 AND dated = $3 AND changes <> ` + p.seen
		err := tx.QueryRow(ctx, find, d.Domain, d.Day, d.Dated).Scan(&d.changes)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // another pass did it
		}
		if err != nil {
			return err
		}
		settled, err := settledDays(ctx, tx, d.Domain, d.period())
		if err != nil {
			return err
		}
		if err := p.make(ctx, tx, d, settled(d.Day)); err != nil {
			return err
		}
		// Writers wait for the line from here on.
		done := `
			UPDATE domain_days
			SET ` + p.seen + ` = $4
			WHERE day = $2 AND domain_id = $1 AND dated = $3`
		if _, err := tx.Exec(ctx, done, d.Domain, d.Day, d.Dated, d.changes); err != nil {
			return err
		}
		return p.after(ctx, tx, d)
	})
}

// lockDay lets nobody else do the same with a day until the transaction ends, so that it
// holds behind a pooler, too. What is read after it is what the one before has left.
func lockDay(ctx context.Context, tx pgx.Tx, what string, domain int64, day time.Time) error {
	const lock = "SELECT pg_advisory_xact_lock(hashtextextended(format('dmarcd %s %s %s', $1::text, $2::bigint, $3::date), 0))"
	_, err := tx.Exec(ctx, lock, what, domain, day)
	return err
}
