package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A change of what counts, as a transaction makes it.
type change struct {
	domain, report, revision int64
	day                      time.Time
	removed                  bool
}

// tellStreams keeps the changes of a transaction, if there is a stream at all. The
// question locks the table against OpenStream: a transaction that saw no stream is
// over before the first one begins to read.
func (b *batch) tellStreams(ctx context.Context, tx pgx.Tx) error {
	if len(b.changed) == 0 {
		return nil
	}
	n := len(b.changed)
	domains, reports, revisions := make([]int64, n), make([]int64, n), make([]int64, n)
	days, removed := make([]time.Time, n), make([]bool, n)
	for i, c := range b.changed {
		domains[i], reports[i], revisions[i], days[i], removed[i] = c.domain, c.report, c.revision, c.day, c.removed
	}
	const sql = `
		INSERT INTO report_changes (domain_id, report, revision, day, removed)
		SELECT domain_id, report, revision, day, removed
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::date[], $5::boolean[])
			WITH ORDINALITY AS new (domain_id, report, revision, day, removed, n)
		WHERE EXISTS (SELECT FROM streams)
		ORDER BY n`
	if _, err := tx.Exec(ctx, sql, domains, reports, revisions, days, removed); err != nil {
		return fmt.Errorf("telling the streams: %w", err)
	}
	return nil
}

// A streamPlace is a place in a stream: among the reports that were stored before
// it, by number, or among the changes since.
type streamPlace struct {
	begun          bool
	position       int64 // of the changes
	domain, report int64 // of what was stored before
}

func (p streamPlace) cursor() dmarc.Cursor {
	if p.begun {
		return encodeCursor("1", strconv.FormatInt(p.position, 10), "0", "0")
	}
	return encodeCursor("0", strconv.FormatInt(p.position, 10), strconv.FormatInt(p.domain, 10), strconv.FormatInt(p.report, 10))
}

// readPlace reads a cursor of a stream. The empty one is before everything that is
// stored.
func readPlace(c dmarc.Cursor) (streamPlace, error) {
	if c == "" {
		return streamPlace{}, nil
	}
	n, err := numbersOf(c, 4)
	if err != nil {
		return streamPlace{}, err
	}
	return streamPlace{n[0] == 1, n[1], n[2], n[3]}, nil
}

// OpenStream returns how far a stream has come, and begins one that is new: with
// all that is stored, or with what changes from now on.
func (s *Store) OpenStream(ctx context.Context, name string, fromNow bool) (dmarc.Cursor, error) {
	name = clean(name)
	var cursor dmarc.Cursor
	err := s.db.QueryRow(ctx, "SELECT cursor FROM streams WHERE name = $1", name).Scan(&cursor)
	if err == nil {
		return cursor, nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = s.retry(func() error {
			return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
				// Until those are over that may have seen no stream. Who comes meanwhile
				// waits as well, so not for long.
				if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '500ms'"); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, "LOCK TABLE streams IN ACCESS EXCLUSIVE MODE"); err != nil {
					return err
				}
				p := streamPlace{begun: fromNow}
				if err := tx.QueryRow(ctx, "SELECT position FROM stream_clock").Scan(&p.position); err != nil {
					return err
				}
				cursor = p.cursor()
				const add = `
					INSERT INTO streams (name, cursor, position)
					VALUES ($1, $2, $3)`
				_, err := tx.Exec(ctx, add, name, cursor, p.position)
				return err
			})
		})
	}
	if err != nil {
		return "", fmt.Errorf("beginning the stream %s: %w", name, err)
	}
	return cursor, nil
}

// ForgetStream ends a stream, and returns whether there was one.
func (s *Store) ForgetStream(ctx context.Context, name string) (known bool, err error) {
	err = s.retry(func() error {
		return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '500ms'"); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "LOCK TABLE streams IN ACCESS EXCLUSIVE MODE"); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, "DELETE FROM streams WHERE name = $1", clean(name))
			if err != nil {
				return err
			}
			known = tag.RowsAffected() > 0
			_, err = tx.Exec(ctx, "DELETE FROM report_changes WHERE NOT EXISTS (SELECT FROM streams)")
			return err
		})
	})
	if err != nil {
		return false, fmt.Errorf("forgetting the stream %s: %w", name, err)
	}
	return known, nil
}

// MoveStream keeps how far a stream has come, if the lease still holds. Changes that
// all streams have passed are removed.
func (s *Store) MoveStream(ctx context.Context, lease dmarc.Lease, name string, to dmarc.Cursor) error {
	p, err := readPlace(to)
	if err != nil {
		return err
	}
	err = s.retry(func() error {
		return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
			const move = `
				UPDATE streams
				SET cursor = $2, position = $3, moved_at = clock_timestamp()
				WHERE name = $1`
			tag, err := tx.Exec(ctx, move, clean(name), to, p.position)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				return dmarc.ErrNotFound
			}
			const prune = `
				DELETE FROM report_changes
				WHERE id IN (
					SELECT id
					FROM report_changes
					WHERE position <= (SELECT min(position) FROM streams)
					ORDER BY position
					LIMIT $1
					FOR UPDATE SKIP LOCKED)`
			if _, err := tx.Exec(ctx, prune, changesAtOnce); err != nil {
				return err
			}
			return holds(ctx, tx, lease)
		})
	})
	if err != nil {
		return fmt.Errorf("keeping how far the stream %s has come: %w", name, err)
	}
	return nil
}

// changesAtOnce is how many changes get their positions in one transaction.
const changesAtOnce = 10_000

// givePositions gives positions to the changes that are committed by now.
func (s *Store) givePositions(ctx context.Context) error {
	var waiting bool
	if err := s.db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM report_changes WHERE position IS NULL)").Scan(&waiting); err != nil || !waiting {
		return err
	}
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		// One at a time: what has a larger position is committed later.
		var last int64
		if err := tx.QueryRow(ctx, "SELECT position FROM stream_clock FOR UPDATE").Scan(&last); err != nil {
			return err
		}
		const number = `
			UPDATE report_changes c
			SET position = $1 + new.n
			FROM (
				SELECT id, row_number() OVER (ORDER BY id) AS n
				FROM (SELECT id FROM report_changes WHERE position IS NULL ORDER BY id LIMIT $2) AS fresh
			) AS new
			WHERE c.id = new.id`
		tag, err := tx.Exec(ctx, number, last, changesAtOnce)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE stream_clock SET position = $1", last+tag.RowsAffected())
		return err
	})
}

// ReportChanges returns changes behind a place in a stream, in the order in which
// they were committed, and the place behind them all: once that stays the same,
// there is nothing more for now. A stream that begins with all that is stored sees each
// report that counts as a change, and changes made meanwhile afterwards.
func (s *Store) ReportChanges(ctx context.Context, after dmarc.Cursor, limit int) ([]dmarc.ReportChange, dmarc.Cursor, error) {
	p, err := readPlace(after)
	if err != nil {
		return nil, "", err
	}
	read := s.changesSince
	if !p.begun {
		read = s.storedBefore
	}
	changes, err := read(ctx, p, limit)
	if err != nil {
		return nil, "", fmt.Errorf("reading what changed: %w", err)
	}
	switch {
	case len(changes) > 0:
		return changes, changes[len(changes)-1].Next, nil
	case p.begun:
		return nil, after, nil
	}
	return nil, streamPlace{begun: true, position: p.position}.cursor(), nil
}

// storedBefore returns the reports that count, by number.
func (s *Store) storedBefore(ctx context.Context, p streamPlace, limit int) ([]dmarc.ReportChange, error) {
	const sql = `
		SELECT domain_id, id, revision, day
		FROM reports
		WHERE active AND (domain_id, id) > ($1, $2)
		ORDER BY domain_id, id
		LIMIT $3`
	rows, _ := s.db.Query(ctx, sql, p.domain, p.report, limit)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c dmarc.ReportChange, err error) {
		at := streamPlace{position: p.position}
		err = row.Scan(&at.domain, &at.report, &c.Revision, &c.Day)
		c.Report, c.Next = reportKey(at.domain, at.report), at.cursor()
		return c, err
	})
}

func (s *Store) changesSince(ctx context.Context, p streamPlace, limit int) ([]dmarc.ReportChange, error) {
	if err := s.givePositions(ctx); err != nil {
		return nil, err
	}
	const sql = `
		SELECT domain_id, report, revision, day, removed, position
		FROM report_changes
		WHERE position > $1
		ORDER BY position
		LIMIT $2`
	rows, _ := s.db.Query(ctx, sql, p.position, limit)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c dmarc.ReportChange, err error) {
		var domain, report int64
		at := streamPlace{begun: true}
		err = row.Scan(&domain, &report, &c.Revision, &c.Day, &c.Removed, &at.position)
		c.Report, c.Next = reportKey(domain, report), at.cursor()
		return c, err
	})
}

// StreamStates returns how far each stream has come, by name.
func (s *Store) StreamStates(ctx context.Context) ([]dmarc.StreamState, error) {
	const sql = `
		SELECT s.name, s.cursor, s.moved_at, c.n, c.since
		FROM streams s
		CROSS JOIN LATERAL (
			SELECT count(*) AS n, min(at) AS since
			FROM report_changes
			WHERE position IS NULL OR position > s.position
		) AS c
		ORDER BY s.name`
	rows, _ := s.db.Query(ctx, sql)
	states, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (st dmarc.StreamState, err error) {
		var cursor dmarc.Cursor
		var since *time.Time
		if err := row.Scan(&st.Name, &cursor, &st.Moved, &st.Waiting, &since); err != nil {
			return st, err
		}
		if since != nil {
			st.Since = *since
		}
		p, err := readPlace(cursor)
		st.Begun = p.begun
		return st, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading how far the streams are: %w", err)
	}
	return states, nil
}
