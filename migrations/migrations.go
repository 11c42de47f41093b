// Package migrations holds the schema of the database: one SQL file a step,
// applied in order, never edited once released, never undone.
package migrations

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed *.sql
var files embed.FS

// A Step is one migration.
type Step struct {
	Number    int
	Name      string
	AppliedAt time.Time // zero if it is not applied
	// Needs is the newest step that a dmarcd has to know to run on a database
	// with this one; 0 for none. A step that takes something away says so in a line
	// "-- needs: 26" of its file, and it is written to the database, for those who
	// do not know the file.
	Needs int
	sql   string
}

// A NewerError says that a database was changed by a newer dmarcd, in a way that
// this one cannot work with.
type NewerError struct {
	Step  int // that the database has
	Needs int // that has to be known to work with it
	Known int // the newest step that is known here
}

// Error says which dmarcd is needed.
func (e *NewerError) Error() string {
	return fmt.Sprintf("the database has step %d, which needs a dmarcd that knows step %d, but this one knows only %d: it was changed by a newer version; run that one",
		e.Step, e.Needs, e.Known)
}

// lockKey guards the schema: several processes may start at once.
const lockKey = 0x646d61726364 // "dmarcd"

// Apply brings the schema up to date and returns the steps that it applied.
// Each step is a transaction of its own. A database with steps that only a newer
// dmarcd knows stays as it is: the error is a *NewerError if this one cannot work with it.
func Apply(ctx context.Context, db *pgxpool.Pool) ([]Step, error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockKey)); err != nil {
		return nil, fmt.Errorf("waiting for other migrations: %w", err)
	}
	defer conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(lockKey))

	const table = `
		CREATE TABLE IF NOT EXISTS schema_steps (
			number     int         PRIMARY KEY,
			name       text        NOT NULL,
			applied_at timestamptz NOT NULL DEFAULT now()
		)`
	if _, err := conn.Exec(ctx, table); err != nil {
		return nil, fmt.Errorf("preparing migrations: %w", err)
	}
	all, err := status(ctx, conn.Conn())
	if err != nil {
		return nil, err
	}
	var done []Step
	for _, step := range all {
		if !step.AppliedAt.IsZero() {
			continue
		}
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, step.sql); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "ALTER TABLE schema_steps ADD COLUMN IF NOT EXISTS needs int"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO schema_steps (number, name, needs) VALUES ($1, $2, $3)", step.Number, step.Name, step.Needs)
			return err
		})
		if err != nil {
			return done, fmt.Errorf("migration %04d_%s: %w", step.Number, step.Name, err)
		}
		step.AppliedAt = time.Now()
		done = append(done, step)
	}
	return done, nil
}

// Status returns all steps; those not applied yet have no time. It changes
// nothing. Steps that only a newer dmarcd knows come last; the error is a *NewerError if
// this one cannot work with them.
func Status(ctx context.Context, db *pgxpool.Pool) ([]Step, error) {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Release()
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('schema_steps') IS NOT NULL").Scan(&exists); err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	if !exists {
		return steps()
	}
	return status(ctx, conn.Conn())
}

// Newest returns the number of the newest step that this dmarcd knows.
func Newest() int {
	names, _ := fs.Glob(files, "*.sql")
	return len(names)
}

func status(ctx context.Context, conn *pgx.Conn) ([]Step, error) {
	all, err := steps()
	if err != nil {
		return nil, err
	}
	known := len(all)
	// The column is younger than the table, and whoever did not write it did not think of others.
	rows, _ := conn.Query(ctx, "SELECT number, name, applied_at, coalesce((to_jsonb(s)->>'needs')::int, number) FROM schema_steps s ORDER BY number")
	var step Step
	newer := &NewerError{Known: known}
	_, err = pgx.ForEachRow(rows, []any{&step.Number, &step.Name, &step.AppliedAt, &step.Needs}, func() error {
		if step.Number >= 1 && step.Number <= known {
			all[step.Number-1].AppliedAt = step.AppliedAt
			return nil
		}
		all = append(all, step)
		newer.Step, newer.Needs = max(newer.Step, step.Number), max(newer.Needs, step.Needs)
		return nil
	})
	if err == nil && newer.Needs > known {
		err = newer
	}
	if err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	return all, nil
}

var needs = regexp.MustCompile(`(?m)^-- needs: (\d+)\s*$`)

// steps reads the embedded files, which are numbered from 1 without gaps.
func steps() ([]Step, error) {
	names, err := fs.Glob(files, "*.sql") // sorted
	if err != nil {
		return nil, err
	}
	all := make([]Step, 0, len(names))
	for i, name := range names {
		number, rest, _ := strings.Cut(strings.TrimSuffix(name, ".sql"), "_")
		n, err := strconv.Atoi(number)
		if err != nil || n != i+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", name, i+1)
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		step := Step{Number: n, Name: rest, sql: string(text)}
		if m := needs.FindStringSubmatch(step.sql); m != nil {
			if step.Needs, err = strconv.Atoi(m[1]); err != nil {
				return nil, fmt.Errorf("migration %s: %w", name, err)
			}
		}
		all = append(all, step)
	}
	return all, nil
}
