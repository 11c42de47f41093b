package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Retention says how long things are kept; 0 is for ever. Rows, raw messages
// and totals go by whole months.
type Retention struct {
	Rows     time.Duration // of aggregate reports
	Raw      time.Duration // messages as they came
	Failures time.Duration // failure reports
	Totals   time.Duration // and the reports that they are of; never shorter than Rows
}

// Names of horizons.
const (
	horizonRows   = "rows"
	horizonRaw    = "raw_messages"
	horizonTotals = "totals"
)

// A horizon is of all domains, which is domain 0, or of one.
type horizon struct {
	name   string
	domain int64
}

// horizons are the first days that are kept. What has none is kept from the beginning.
type horizons map[horizon]time.Time

func readHorizons(ctx context.Context, db querier) (horizons, error) {
	h := horizons{}
	rows, _ := db.Query(ctx, "SELECT name, domain_id, day FROM horizons")
	var of horizon
	var day time.Time
	_, err := pgx.ForEachRow(rows, []any{&of.name, &of.domain, &day}, func() error {
		h[of] = day
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is kept: %w", err)
	}
	return h, nil
}

// of returns the horizon of a domain: its own, or that of all.
func (h horizons) of(name string, domain int64) time.Time {
	if day, ok := h[horizon{name, domain}]; ok {
		return day
	}
	return h[horizon{name, 0}]
}

// noRows tells whether the rows of a domain about a day are no longer kept.
func (h horizons) noRows(domain int64, day time.Time) bool {
	return day.Before(h.of(horizonRows, domain))
}

// tooOld says why a report is refused for its age, or "".
func (b *batch) tooOld(domain int64, days dmarc.Attribution) string {
	const text = "a report about %s: %s before %s are no longer kept (%s)"
	day := days.Main.Format(time.DateOnly)
	if h := b.horizons.of(horizonTotals, 0); days.Days[0].Before(h) {
		return fmt.Sprintf(text, day, "totals", h.Format(time.DateOnly), "retention.totals")
	}
	if b.s.RefuseLate && b.horizons.noRows(domain, days.Main) {
		return fmt.Sprintf(text, day, "rows", b.horizons.of(horizonRows, domain).Format(time.DateOnly), "retention.rows, retention.late")
	}
	return ""
}

// settledDays tells which days of a period cannot be computed from rows any
// more: those of which rows are no longer kept, and those on which a report of
// several days has a share whose rows are not.
func settledDays(ctx context.Context, tx pgx.Tx, domain int64, period dmarc.Period) (func(time.Time) bool, error) {
	h, err := readHorizons(ctx, tx)
	if err != nil {
		return nil, err
	}
	horizon := h.of(horizonRows, domain)
	shared := map[time.Time]bool{}
	if period.Begin.Before(horizon.AddDate(0, 0, 32)) && period.End.After(horizon) {
		long, err := longReports(ctx, tx, domain, period)
		if err != nil {
			return nil, err
		}
		for _, o := range long {
			if o.day.Before(horizon) {
				for _, day := range o.days.Days {
					shared[day] = true
				}
			}
		}
	}
	return func(day time.Time) bool { return day.Before(horizon) || shared[day] }, nil
}

// monthsAhead is how many months have their partitions before they begin.
const monthsAhead = 2

// Prepare makes the partitions of this month and the next ones.
func (s *Store) Prepare(ctx context.Context, now time.Time) error {
	for i := range monthsAhead + 1 {
		month := firstOfMonth(now).AddDate(0, i, 0)
		for _, table := range []string{"row_groups", "raw_messages"} {
			if err := s.ensureMonth(ctx, table, month); err != nil {
				return err
			}
		}
	}
	return nil
}

func firstOfMonth(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// Expire removes what is not to be kept any longer, of domains with a retention of
// their own by that. Others can go on reading and writing meanwhile; it may be cut short
// and run again.
func (s *Store) Expire(ctx context.Context, r Retention, now time.Time) error {
	if err := s.noteIgnored(ctx); err != nil {
		return err
	}
	own, err := s.ownRetention(ctx)
	if err != nil {
		return err
	}
	if err := s.expireRows(ctx, r, own, now); err != nil {
		return err
	}
	if err := s.expireRaw(ctx, r, own, now); err != nil {
		return err
	}
	if err := s.expireAllFailures(ctx, r, own, now); err != nil {
		return err
	}
	if r.Totals > 0 && r.Rows > 0 {
		return s.expireTotals(ctx, totalsFrom(r, now))
	}
	return nil
}

// totalsFrom is the first month whose totals are kept, if not all are.
func totalsFrom(r Retention, now time.Time) time.Time {
	return firstOfMonth(now.Add(-max(r.Totals, r.Rows)))
}

// moveHorizon says from which day on something is kept, of a domain or, for 0, of
// all. It never moves back.
func moveHorizon(ctx context.Context, db execer, of horizon, day time.Time) error {
	const sql = `
		INSERT INTO horizons AS h (name, domain_id, day)
		VALUES ($1, $2, $3)
		ON CONFLICT (name, domain_id) DO UPDATE
		SET day = greatest(h.day, excluded.day)`
	if _, err := db.Exec(ctx, sql, of.name, of.domain, day); err != nil {
		return fmt.Errorf("moving the horizon of %s: %w", of.name, err)
	}
	return nil
}

// A partition of a table, by month.
type partition struct {
	Name    string
	Pending bool // its detaching was begun
}

// before2012 is the partition for reports without a sensible date.
const before2012 = "row_groups_before_2012"

// dropMonths drops the partitions of a table that lie before a month, whose horizon
// was moved already: writers know, and make no month anew. A month that keep cares
// for stays.
func (s *Store) dropMonths(ctx context.Context, table string, from time.Time, keep func(ctx context.Context, p partition, begin, end time.Time) (bool, error)) error {
	const list = `
		SELECT c.relname::text, i.inhdetachpending
		FROM pg_inherits i
		JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::regclass
		ORDER BY c.relname`
	rows, _ := s.db.Query(ctx, list, table)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		return fmt.Errorf("listing the months of %s: %w", table, err)
	}
	for _, p := range all {
		var begin time.Time
		end := dmarc.Earliest
		if p.Name != before2012 {
			if begin, err = monthOf(p.Name, table); err != nil {
				return err
			}
			if end = begin.AddDate(0, 1, 0); !begin.Before(from) {
				continue
			}
		}
		if !p.Pending {
			if kept, err := keep(ctx, p, begin, end); err != nil {
				return fmt.Errorf("clearing %s: %w", p.Name, err)
			} else if kept {
				continue
			}
		}
		if p.Name == before2012 {
			// It stays, empty. It is locked only if there is something to remove.
			var filled bool
			err := s.db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+p.Name+")").Scan(&filled)
			if err == nil && filled {
				err = s.shortly(ctx, "TRUNCATE "+p.Name)
			}
			if err != nil {
				return fmt.Errorf("emptying %s: %w", p.Name, err)
			}
			continue
		}
		if err := s.dropMonth(ctx, table, p); err != nil {
			return fmt.Errorf("dropping %s: %w", p.Name, err)
		}
		s.log.Info("a month is no longer kept", "partition", p.Name)
	}
	return nil
}

// monthOf returns the month of a partition.
func monthOf(name, table string) (time.Time, error) {
	month, err := time.Parse("2006_01", strings.TrimPrefix(name, table+"_"))
	if err != nil {
		return month, fmt.Errorf("the partition %s of %s has a name that no version of dmarcd gives", name, table)
	}
	return month, nil
}

// dropMonth detaches a partition without stopping others, and drops it.
func (s *Store) dropMonth(ctx context.Context, table string, p partition) error {
	id, parent := pgx.Identifier{p.Name}.Sanitize(), pgx.Identifier{table}.Sanitize()
	how := " CONCURRENTLY"
	if p.Pending {
		how = " FINALIZE"
	}
	_, err := s.db.Exec(ctx, "ALTER TABLE "+parent+" DETACH PARTITION "+id+how)
	if cannotDetach(err) {
		err = s.shortly(ctx, "ALTER TABLE "+parent+" DETACH PARTITION "+id)
	}
	if err != nil {
		return err
	}
	s.partitions.mu.Lock()
	delete(s.partitions.known, p.Name)
	s.partitions.mu.Unlock()
	_, err = s.db.Exec(ctx, "DROP TABLE IF EXISTS "+id)
	return err
}

// cannotDetach tells that a database does not know how to detach concurrently,
// as one that is spread over machines.
func cannotDetach(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "0A000" || pg.Code == "55000")
}

// shortly runs a statement that locks a table, but lets nobody wait for long.
func (s *Store) shortly(ctx context.Context, sql string) error {
	return s.retry(func() error {
		return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '1s'"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, sql)
			return err
		})
	})
}

// deletedAtOnce is how many lines are deleted in one transaction.
const deletedAtOnce = 2000

// totalsTables are what goes with the totals of a day.
var totalsTables = []string{"reporter_days", "source_days", "source_lists", "source_facts", "fact_lists", "selector_days", "reports", "domain_days"}

func (s *Store) expireTotals(ctx context.Context, before time.Time) error {
	if err := moveHorizon(ctx, s.db, horizon{horizonTotals, 0}, before); err != nil {
		return err
	}
	const find = `
		SELECT DISTINCT domain_id, day
		FROM domain_days
		WHERE day < $1
		ORDER BY day, domain_id
		LIMIT $2`
	for {
		rows, _ := s.db.Query(ctx, find, before, deletedAtOnce/10)
		var domains []int64
		var days []time.Time
		var domain int64
		var day time.Time
		_, err := pgx.ForEachRow(rows, []any{&domain, &day}, func() error {
			domains, days = append(domains, domain), append(days, day)
			return nil
		})
		if err == nil && len(days) > 0 {
			err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
				for _, table := range totalsTables {
					sql := `
						DELETE FROM ` + table + ` t
						USING unnest($1::bigint[], $2::date[]) AS old (domain_id, day)
						WHERE t.domain_id = old.domain_id AND t.day = old.day`
					if _, err := tx.Exec(ctx, sql, domains, days); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("removing old totals: %w", err)
		}
		if len(days) < deletedAtOnce/10 {
			break
		}
	}
	if err := s.expireMonths(ctx, before); err != nil {
		return err
	}
	return s.expireTLS(ctx, before)
}

func (s *Store) expireMonths(ctx context.Context, before time.Time) error {
	const find = `
		SELECT DISTINCT domain_id, month
		FROM domain_months
		WHERE month < $1
		ORDER BY month, domain_id
		LIMIT $2`
	const remove = `
		DELETE FROM domain_months m
		USING unnest($1::bigint[], $2::date[]) AS old (domain_id, month)
		WHERE m.domain_id = old.domain_id AND m.month = old.month`
	for {
		rows, _ := s.db.Query(ctx, find, before, deletedAtOnce)
		var domains []int64
		var months []time.Time
		var domain int64
		var month time.Time
		_, err := pgx.ForEachRow(rows, []any{&domain, &month}, func() error {
			domains, months = append(domains, domain), append(months, month)
			return nil
		})
		if err == nil && len(months) > 0 {
			_, err = s.db.Exec(ctx, remove, domains, months)
		}
		if err != nil {
			return fmt.Errorf("removing old totals: %w", err)
		}
		if len(months) < deletedAtOnce {
			return nil
		}
	}
}

func (s *Store) expireTLS(ctx context.Context, before time.Time) error {
	const find = `
		SELECT domain_id, id
		FROM tls_reports
		WHERE begins_at < $1
		ORDER BY begins_at
		LIMIT $2`
	const remove = `
		DELETE FROM tls_reports t
		USING unnest($1::bigint[], $2::bigint[]) AS old (domain_id, id)
		WHERE t.domain_id = old.domain_id AND t.id = old.id`
	for {
		rows, _ := s.db.Query(ctx, find, before, deletedAtOnce)
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Domain, ID int64 }])
		if err == nil && len(all) > 0 {
			domains, ids := make([]int64, len(all)), make([]int64, len(all))
			for i, a := range all {
				domains[i], ids[i] = a.Domain, a.ID
			}
			_, err = s.db.Exec(ctx, remove, domains, ids)
		}
		if err != nil {
			return fmt.Errorf("removing old TLS reports: %w", err)
		}
		if len(all) < deletedAtOnce {
			return nil
		}
	}
}

// sortedDays returns the days of a period for which something holds.
func sortedDays(period dmarc.Period, holds func(time.Time) bool) []time.Time {
	days := []time.Time{} // as an argument, nil would be NULL
	for day := period.Begin; day.Before(period.End); day = day.AddDate(0, 0, 1) {
		if holds(day) {
			days = append(days, day)
		}
	}
	return days
}
