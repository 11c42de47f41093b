// Package migrations holds the schema of the database: one SQL file a step,
// applied in order, never edited once released, never undone.
package migrations

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
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
	sql       string
}

// lockKey guards the schema: several processes may start at once.
const lockKey = 0x646d61726364 // "dmarcd"

// Apply brings the schema up to date and returns the steps that it applied.
// Each step is a transaction of its own. It refuses a database that a newer
// dmarcd has changed.
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
			_, err := tx.Exec(ctx, "INSERT INTO schema_steps (number, name) VALUES ($1, $2)", step.Number, step.Name)
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
// nothing.
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

func status(ctx context.Context, conn *pgx.Conn) ([]Step, error) {
	all, err := steps()
	if err != nil {
		return nil, err
	}
	rows, _ := conn.Query(ctx, "SELECT number, applied_at FROM schema_steps ORDER BY number")
	var number int
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&number, &at}, func() error {
		if number < 1 || number > len(all) {
			return fmt.Errorf("the database has step %d, but this dmarcd knows only %d: it was changed by a newer version; run that one", number, len(all))
		}
		all[number-1].AppliedAt = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading migrations: %w", err)
	}
	return all, nil
}

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
		all = append(all, Step{Number: n, Name: rest, sql: string(text)})
	}
	return all, nil
}
