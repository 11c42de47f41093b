package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// partitions remembers which months exist.
type partitions struct {
	mu    sync.Mutex
	known map[string]bool
}

// ensureMonth makes the partition of a table that holds a day, unless it is
// there. A partition is made as a table of its own and attached, which does
// not stop others from reading and writing.
func (s *Store) ensureMonth(ctx context.Context, table string, day time.Time) error {
	if table == "row_groups" && day.Before(dmarc.Earliest) {
		return nil // row_groups_before_2012
	}
	month := time.Date(day.Year(), day.Month(), 1, 0, 0, 0, 0, time.UTC)
	name := fmt.Sprintf("%s_%s", table, month.Format("2006_01"))
	s.partitions.mu.Lock()
	defer s.partitions.mu.Unlock()
	if s.partitions.known[name] {
		return nil
	}
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		// One at a time, over all processes.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext('dmarcd partitions'))"); err != nil {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&exists); err != nil || exists {
			return err
		}
		id, parent := pgx.Identifier{name}.Sanitize(), pgx.Identifier{table}.Sanitize()
		if _, err := tx.Exec(ctx, fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)", id, parent)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')",
			parent, id, month.Format(time.DateOnly), month.AddDate(0, 1, 0).Format(time.DateOnly)))
		return err
	})
	if err != nil {
		return fmt.Errorf("making partition %s: %w", name, err)
	}
	if s.partitions.known == nil {
		s.partitions.known = make(map[string]bool)
	}
	s.partitions.known[name] = true
	return nil
}

// A tableMonth is a partition.
type tableMonth struct {
	table string
	year  int
	month time.Month
}

// ensureMonth is that of the store, once for each partition.
func (b *batch) ensureMonth(ctx context.Context, table string, day time.Time) error {
	k := tableMonth{table, day.Year(), day.Month()}
	if b.months[k] {
		return nil
	}
	if err := b.s.ensureMonth(ctx, table, day); err != nil {
		return err
	}
	b.months[k] = true
	return nil
}
