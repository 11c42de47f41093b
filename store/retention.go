package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// ownRetention is how long things about some domains are kept, by the number of the
// domain, rather than as long as those of others; 0 is for ever.
type ownRetention struct {
	rows, raw, failures map[int64]time.Duration
}

func (s *Store) ownRetention(ctx context.Context) (ownRetention, error) {
	own := ownRetention{map[int64]time.Duration{}, map[int64]time.Duration{}, map[int64]time.Duration{}}
	const sql = `
		SELECT d.id, a.keep_rows, a.keep_raw, a.keep_failures
		FROM arranged_domains a
		JOIN domains d ON d.name = a.name
		WHERE coalesce(a.keep_rows, a.keep_raw, a.keep_failures) IS NOT NULL`
	rows, _ := s.db.Query(ctx, sql)
	var id int64
	var days [3]*int32
	_, err := pgx.ForEachRow(rows, []any{&id, &days[0], &days[1], &days[2]}, func() error {
		for i, of := range []map[int64]time.Duration{own.rows, own.raw, own.failures} {
			if d := durationOf(days[i]); d != nil {
				of[id] = *d
			}
		}
		return nil
	})
	if err != nil {
		return own, fmt.Errorf("reading how long domains are kept: %w", err)
	}
	return own, nil
}

// expireRows removes rows: whole months where nobody keeps them for longer, and else
// those of the domains that do not.
func (s *Store) expireRows(ctx context.Context, r Retention, own ownRetention, now time.Time) error {
	before, err := readHorizons(ctx, s.db)
	if err != nil {
		return err
	}
	apart := slices.ContainsFunc(slices.Collect(maps.Keys(before)), func(h horizon) bool { return h.name == horizonRows && h.domain != 0 })
	if r.Rows == 0 && len(own.rows) == 0 && !apart {
		return nil
	}
	// What sources are known of the days that go is kept: it has to be complete.
	if err := s.SummariseSources(ctx); err != nil {
		return err
	}
	if err := s.SummariseFacts(ctx); err != nil {
		return err
	}
	h, err := s.moveRowHorizons(ctx, r, own.rows, now)
	if err != nil {
		return err
	}
	calm := sync.OnceValues(func() (bool, error) { return s.calm(ctx) })
	all := h.of(horizonRows, 0)
	if r.Rows > 0 {
		err := s.dropMonths(ctx, "row_groups", all, func(ctx context.Context, p partition, begin, end time.Time) (bool, error) {
			var keepers []int64
			for of, day := range h {
				if of.name == horizonRows && of.domain != 0 && day.Before(end) {
					keepers = append(keepers, of.domain)
				}
			}
			if len(keepers) == 0 {
				return false, nil
			}
			return true, s.clearing(p.Name, keepers, func() (bool, error) { return s.clearMonth(ctx, p, keepers, begin, end, calm) })
		})
		if err != nil {
			return err
		}
	}
	for of, day := range h {
		if of.name == horizonRows && of.domain != 0 && day.After(all) {
			if _, err := s.deleteRows(ctx, of.domain, time.Time{}, day, calm); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveRowHorizons says from which days on rows are kept, of all domains and of those
// with a retention of their own, at once: whoever writes meanwhile knows the horizons
// of before or of after. None moves back, since what is gone does not return.
func (s *Store) moveRowHorizons(ctx context.Context, r Retention, own map[int64]time.Duration, now time.Time) (h horizons, err error) {
	from := func(keep time.Duration) time.Time {
		if keep == 0 {
			return time.Time{}
		}
		return firstOfMonth(now.Add(-keep))
	}
	var floor time.Time // rows without their reports would be of no use
	if r.Totals > 0 && r.Rows > 0 {
		floor = totalsFrom(r, now)
	}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('dmarcd horizons', 0))"); err != nil {
			return err
		}
		if h, err = readHorizons(ctx, tx); err != nil {
			return err
		}
		was := maps.Clone(h)
		general := horizon{horizonRows, 0}
		all := latest(was[general], from(r.Rows))
		if !all.IsZero() {
			h[general] = all
			if err := moveHorizon(ctx, tx, general, all); err != nil {
				return err
			}
		}
		domains := maps.Clone(own)
		for of := range was {
			if _, ok := domains[of.domain]; !ok && of.name == horizonRows && of.domain != 0 {
				domains[of.domain] = r.Rows
			}
		}
		for id, keep := range domains {
			of := horizon{horizonRows, id}
			day := latest(was.of(horizonRows, id), latest(from(keep), floor))
			if day.Equal(all) {
				delete(h, of)
				if _, err := tx.Exec(ctx, "DELETE FROM horizons WHERE name = $1 AND domain_id = $2", of.name, of.domain); err != nil {
					return err
				}
				continue
			}
			if day.IsZero() {
				day = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
			}
			h[of] = day
			if err := moveHorizon(ctx, tx, of, day); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("moving the horizons of rows: %w", err)
	}
	return h, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// cleared remembers of which months what nobody keeps was removed, and who kept them
// then, so that not every pass looks through them.
type cleared struct {
	mu     sync.Mutex
	months map[string][]int64
}

// clearing clears a month unless that was done for the same keepers.
func (s *Store) clearing(month string, keepers []int64, clear func() (bool, error)) error {
	slices.Sort(keepers)
	s.cleared.mu.Lock()
	done := slices.Equal(s.cleared.months[month], keepers)
	s.cleared.mu.Unlock()
	if done {
		return nil
	}
	if done, err := clear(); err != nil || !done {
		return err
	}
	s.cleared.mu.Lock()
	defer s.cleared.mu.Unlock()
	if s.cleared.months == nil {
		s.cleared.months = make(map[string][]int64)
	}
	s.cleared.months[month] = keepers
	return nil
}

// clearMonth removes the rows of a month but for those of some domains.
func (s *Store) clearMonth(ctx context.Context, p partition, keepers []int64, begin, end time.Time, calm func() (bool, error)) (done bool, err error) {
	sql := `
		SELECT DISTINCT domain_id
		FROM ` + pgx.Identifier{p.Name}.Sanitize() + `
		WHERE domain_id <> ALL ($1)`
	rows, _ := s.db.Query(ctx, sql, keepers)
	others, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return false, err
	}
	for _, id := range others {
		if done, err := s.deleteRows(ctx, id, begin, end, calm); err != nil || !done {
			return false, err
		}
	}
	if len(others) > 0 {
		s.log.Info("a month is kept for some domains", "partition", p.Name, "kept", len(keepers), "removed", len(others))
	}
	return true, nil
}

// deleteRows removes the rows of a domain about the days of a period, some reports
// at a time. It reports false if that is for the next pass, since others are at work for
// long.
func (s *Store) deleteRows(ctx context.Context, domain int64, begin, end time.Time, calm func() (bool, error)) (done bool, err error) {
	const find = `
		SELECT day, report, count(*)
		FROM row_groups
		WHERE domain_id = $1 AND day >= $2 AND day < $3
		GROUP BY day, report
		ORDER BY day, report
		LIMIT $4`
	const remove = `
		DELETE FROM row_groups r
		USING unnest($2::date[], $3::bigint[]) AS old (day, report)
		WHERE r.domain_id = $1 AND r.day >= $4 AND r.day <= $5 AND r.day = old.day AND r.report = old.report`
	type part struct {
		Day    time.Time
		Report int64
		Groups int64
	}
	if begin.IsZero() {
		begin = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	for {
		rows, _ := s.db.Query(ctx, find, domain, begin, end, deletedAtOnce)
		parts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[part])
		if err != nil {
			return false, fmt.Errorf("finding old rows: %w", err)
		}
		if len(parts) == 0 {
			return true, nil
		}
		// Who began before the horizon was moved may still take rows back out of
		// totals, and needs all of them.
		if calm, err := calm(); err != nil || !calm {
			return false, err
		}
		for len(parts) > 0 {
			var days []time.Time
			var reports []int64
			for n := int64(0); len(parts) > 0 && (n == 0 || n+parts[0].Groups <= deletedAtOnce); parts = parts[1:] {
				days, reports = append(days, parts[0].Day), append(reports, parts[0].Report)
				n += parts[0].Groups
			}
			if _, err := s.db.Exec(ctx, remove, domain, days, reports, days[0], days[len(days)-1]); err != nil {
				return false, fmt.Errorf("removing old rows: %w", err)
			}
		}
	}
}

// calmTime is how long a pass waits for transactions that began before it.
const calmTime = 10 * time.Second

// calm waits until all transactions are over that began before now, and reports
// false if that takes too long: then the next pass does what is to be done.
func (s *Store) calm(ctx context.Context) (bool, error) {
	var now time.Time
	if err := s.db.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return false, fmt.Errorf("waiting for others: %w", err)
	}
	for began := time.Now(); ; {
		const sql = `
			SELECT EXISTS (
				SELECT FROM pg_stat_activity
				WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start < $1 AND pid <> pg_backend_pid()
			)`
		var busy bool
		if err := s.db.QueryRow(ctx, sql, now).Scan(&busy); err != nil {
			return false, fmt.Errorf("waiting for others: %w", err)
		}
		if !busy {
			return true, nil
		}
		if time.Since(began) > calmTime {
			s.log.Info("rows that are no longer kept are removed by the next pass: a transaction is open for long")
			return false, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// expireRaw removes messages as they came. Those that hold nothing but reports
// about one domain go by the retention of that.
func (s *Store) expireRaw(ctx context.Context, r Retention, own ownRetention, now time.Time) error {
	h, err := readHorizons(ctx, s.db)
	if err != nil {
		return err
	}
	wanted := make(map[int64]time.Time, len(own.raw))
	for id, keep := range own.raw {
		if keep > 0 {
			wanted[id] = firstOfMonth(now.Add(-keep))
		} else {
			wanted[id] = time.Time{}
		}
	}
	if r.Raw > 0 {
		from := firstOfMonth(now.Add(-r.Raw))
		if err := moveHorizon(ctx, s.db, horizon{horizonRaw, 0}, from); err != nil {
			return err
		}
		err := s.dropMonths(ctx, "raw_messages", from, func(ctx context.Context, p partition, begin, end time.Time) (kept bool, err error) {
			var keepers []int64
			for id, day := range wanted {
				if day.Before(end) {
					keepers = append(keepers, id)
				}
			}
			if len(keepers) == 0 {
				return false, nil
			}
			return true, s.clearing(p.Name, keepers, func() (bool, error) { return true, s.clearRaw(ctx, p, keepers, begin, end) })
		})
		if err != nil {
			return err
		}
	}
	for id, day := range wanted {
		of := horizon{horizonRaw, id}
		if !day.After(h[of]) {
			continue
		}
		if err := s.deleteRaw(ctx, id, h[of], day); err != nil {
			return err
		}
		if err := moveHorizon(ctx, s.db, of, day); err != nil {
			return err
		}
	}
	return nil
}

// digestsOf finds the messages that hold nothing but reports about domains, by when
// they came.
const digestsOf = `
	SELECT digest
	FROM messages
	WHERE message_domain(parts) = ANY ($1) AND received_at >= $2 AND received_at < $3`

// clearRaw removes the messages of a month but for those about some domains.
func (s *Store) clearRaw(ctx context.Context, p partition, keepers []int64, begin, end time.Time) error {
	kept := make(map[dmarc.Digest]bool)
	rows, _ := s.db.Query(ctx, digestsOf, keepers, begin, end)
	var digest []byte
	_, err := pgx.ForEachRow(rows, []any{&digest}, func() error {
		kept[dmarc.Digest(digest)] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("finding the messages of domains: %w", err)
	}
	sql := `
		SELECT DISTINCT digest
		FROM ` + pgx.Identifier{p.Name}.Sanitize() + `
		WHERE digest > $1
		ORDER BY digest
		LIMIT $2`
	for after := []byte{}; ; {
		rows, _ := s.db.Query(ctx, sql, after, deletedAtOnce)
		page, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			return fmt.Errorf("listing archived messages: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		after = page[len(page)-1]
		gone := slices.DeleteFunc(page, func(d []byte) bool { return kept[dmarc.Digest(d)] })
		if err := s.removeRaw(ctx, gone, begin, end); err != nil {
			return err
		}
	}
}

// deleteRaw removes the messages about a domain that came in a period.
func (s *Store) deleteRaw(ctx context.Context, domain int64, begin, end time.Time) error {
	if begin.IsZero() {
		begin = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	rows, _ := s.db.Query(ctx, digestsOf, []int64{domain}, begin, end)
	digests, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return fmt.Errorf("finding the messages of a domain: %w", err)
	}
	for page := range slices.Chunk(digests, deletedAtOnce/4) {
		if err := s.removeRaw(ctx, page, begin, end); err != nil {
			return err
		}
	}
	return nil
}

// removeRaw removes messages that came in a period from the archive.
func (s *Store) removeRaw(ctx context.Context, digests [][]byte, begin, end time.Time) error {
	if len(digests) == 0 {
		return nil
	}
	if _, err := s.db.Exec(ctx, "DELETE FROM raw_messages WHERE digest = ANY ($1) AND day >= $2 AND day < $3", digests, begin, end); err != nil {
		return fmt.Errorf("removing archived messages: %w", err)
	}
	return nil
}

// expireAllFailures removes failure reports.
func (s *Store) expireAllFailures(ctx context.Context, r Retention, own ownRetention, now time.Time) error {
	for id, keep := range own.failures {
		if keep > 0 {
			if err := s.expireFailures(ctx, "domain_id = $2", id, now.Add(-keep)); err != nil {
				return err
			}
		}
	}
	if r.Failures == 0 {
		return nil
	}
	ids := append([]int64{}, slices.Collect(maps.Keys(own.failures))...)
	return s.expireFailures(ctx, "domain_id <> ALL ($2)", ids, now.Add(-r.Failures))
}

// expireFailures removes failure reports of some domains: of is a condition, and which
// its argument.
func (s *Store) expireFailures(ctx context.Context, of string, which any, before time.Time) error {
	find := `
		SELECT domain_id, id
		FROM failure_reports
		WHERE received_at < $1 AND ` + of + `
		ORDER BY received_at
		LIMIT $3`
	const remove = `
		DELETE FROM failure_reports f
		USING unnest($1::bigint[], $2::bigint[]) AS old (domain_id, id)
		WHERE f.domain_id = old.domain_id AND f.id = old.id`
	for {
		rows, _ := s.db.Query(ctx, find, before, which, deletedAtOnce)
		var domains, ids []int64
		var domain, id int64
		_, err := pgx.ForEachRow(rows, []any{&domain, &id}, func() error {
			domains, ids = append(domains, domain), append(ids, id)
			return nil
		})
		if err == nil && len(ids) > 0 {
			_, err = s.db.Exec(ctx, remove, domains, ids)
		}
		if err != nil {
			return fmt.Errorf("removing old failure reports: %w", err)
		}
		if len(ids) < deletedAtOnce {
			return nil
		}
	}
}
