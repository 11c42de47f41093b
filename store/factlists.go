package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/dmarcd/dmarcd/dmarc"
)

// writeFactList writes the facts of a day in one piece: reduced is what domain_days has
// for them.
func writeFactList(ctx context.Context, tx pgx.Tx, domain int64, day time.Time, reduced int64, sources []dmarc.SourceDay) error {
	const sql = `
		INSERT INTO fact_lists (domain_id, day, reduced, facts)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (domain_id, day) DO UPDATE
		SET reduced = excluded.reduced, facts = excluded.facts`
	if _, err := tx.Exec(ctx, sql, domain, day, reduced, dmarc.AppendFactList(nil, sources)); err != nil {
		return fmt.Errorf("writing the facts of a day in one piece: %w", err)
	}
	return nil
}

// packOldDays writes the facts of days in one piece that were reduced before there were
// such pieces.
func (s *Store) packOldDays(ctx context.Context) error {
	for range listedAtOnce {
		const next = `
			SELECT d.id
			FROM domains d, fact_lists_made m
			WHERE d.id > m.domain_id
			ORDER BY d.id
			LIMIT 1`
		var id int64
		err := s.db.QueryRow(ctx, next).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("finding days whose facts are not in one piece: %w", err)
		}
		if err := s.packDays(ctx, id); err != nil {
			return fmt.Errorf("writing the facts of days in one piece: %w", err)
		}
		if _, err := s.db.Exec(ctx, "UPDATE fact_lists_made SET domain_id = greatest(domain_id, $1)", id); err != nil {
			return fmt.Errorf("noting whose facts are in one piece: %w", err)
		}
	}
	return nil
}

// daysAtOnce is of how many days facts are in memory while they are packed.
const daysAtOnce = 30

// packDays packs the days of one domain that are not, or no longer, as its facts are.
// What is reduced meanwhile is newer, and stays.
func (s *Store) packDays(ctx context.Context, domain int64) error {
	for after := dmarc.Earliest.AddDate(0, 0, -1); ; {
		const find = `
			SELECT t.day, t.reduced, f.kind, f.source, f.facts
			FROM (
				SELECT t.day, t.reduced
				FROM domain_days t
				LEFT JOIN fact_lists l ON l.domain_id = t.domain_id AND l.day = t.day
				WHERE t.domain_id = $1 AND t.day > $2 AND t.dated AND t.reduced <> 0 AND l.reduced IS DISTINCT FROM t.reduced
				ORDER BY t.day
				LIMIT $3
			) AS t
			LEFT JOIN source_facts f ON f.domain_id = $1 AND f.day = t.day
			ORDER BY t.day`
		rows, _ := s.db.Query(ctx, find, domain, after, daysAtOnce)
		var days []time.Time
		var reduced []int64
		var facts [][]dmarc.SourceDay
		reader := new(dmarc.FactReader)
		var day time.Time
		var made int64
		var kind *int16
		var source *netip.Prefix
		var packed pgtype.DriverBytes // good until the next row
		_, err := pgx.ForEachRow(rows, []any{&day, &made, &kind, &source, &packed}, func() error {
			if len(days) == 0 || !days[len(days)-1].Equal(day) {
				days, reduced, facts = append(days, day), append(reduced, made), append(facts, nil)
			}
			if kind == nil {
				return nil // it has none
			}
			d, err := readFact(reader, day, *kind, *source, packed)
			facts[len(facts)-1] = append(facts[len(facts)-1], d)
			return err
		})
		if err != nil || len(days) == 0 {
			return err
		}
		lists := make([][]byte, len(days))
		for i := range facts {
			slices.SortFunc(facts[i], dmarc.ByDayAndSource)
			lists[i] = dmarc.AppendFactList(nil, facts[i])
		}
		const write = `
			INSERT INTO fact_lists AS l (domain_id, day, reduced, facts)
			SELECT $1, new.*
			FROM unnest($2::date[], $3::bigint[], $4::bytea[]) AS new
			ON CONFLICT (domain_id, day) DO UPDATE
			SET reduced = excluded.reduced, facts = excluded.facts
			WHERE l.reduced < excluded.reduced`
		if _, err := s.db.Exec(ctx, write, domain, days, reduced, lists); err != nil {
			return err
		}
		after = days[len(days)-1]
	}
}

// readFact reads a line of source_facts.
func readFact(reader *dmarc.FactReader, day time.Time, kind int16, source netip.Prefix, facts []byte) (dmarc.SourceDay, error) {
	d := dmarc.SourceDay{Day: day, Source: source}
	if kind == kindUnreadable {
		d.Source = netip.Prefix{}
	}
	return d, reader.Read(&d, facts)
}

// repackDay writes the facts of a day in one piece as source_facts has them.
func repackDay(ctx context.Context, tx pgx.Tx, domain int64, day time.Time, reduced int64) error {
	facts, err := readDays(ctx, tx, domain, []time.Time{day})
	if err != nil {
		return err
	}
	return writeFactList(ctx, tx, domain, day, reduced, facts)
}

// readDays returns what source_facts has of days, by day and source.
func readDays(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, domain int64, days []time.Time) ([]dmarc.SourceDay, error) {
	const sql = `
		SELECT day, kind, source, facts
		FROM source_facts
		WHERE domain_id = $1 AND day = ANY ($2)
		ORDER BY day`
	rows, _ := db.Query(ctx, sql, domain, days)
	var all []dmarc.SourceDay
	var day time.Time
	var kind int16
	var source netip.Prefix
	var facts pgtype.DriverBytes // good until the next row
	reader := new(dmarc.FactReader)
	_, err := pgx.ForEachRow(rows, []any{&day, &kind, &source, &facts}, func() error {
		d, err := readFact(reader, day, kind, source, facts)
		all = append(all, d)
		return err
	})
	slices.SortFunc(all, dmarc.ByDayAndSource)
	return all, err
}

// Facts returns what each source did as a domain in a period, by source. A network
// stands for addresses that were folded into it.
func (s *Store) Facts(ctx context.Context, domain string, period dmarc.Period) ([]dmarc.SourceFacts, error) {
	id, err := s.domainID(ctx, domain)
	if err != nil {
		return nil, err
	}
	const sql = `
		SELECT t.day, l.facts
		FROM domain_days t
		LEFT JOIN fact_lists l ON l.domain_id = t.domain_id AND l.day = t.day AND l.reduced = t.reduced
		WHERE t.domain_id = $1 AND t.dated AND t.reduced <> 0 AND t.day >= $2 AND t.day < $3
		ORDER BY t.day`
	rows, _ := s.db.Query(ctx, sql, id, period.Begin, period.End)
	var lists dmarc.FactLists
	var loose []time.Time // days that are not in one piece
	var day time.Time
	var facts pgtype.DriverBytes // good until the next row
	_, err = pgx.ForEachRow(rows, []any{&day, &facts}, func() error {
		if facts == nil {
			loose = append(loose, day)
			return nil
		}
		return lists.Add(day, facts)
	})
	if err == nil && len(loose) > 0 {
		err = s.addLoose(ctx, id, loose, &lists)
	}
	var all []dmarc.SourceFacts
	if err == nil {
		all, err = lists.Read()
	}
	if err != nil {
		return nil, fmt.Errorf("facts about %s: %w", domain, err)
	}
	return all, nil
}

// addLoose adds what source_facts has of days.
func (s *Store) addLoose(ctx context.Context, domain int64, days []time.Time, lists *dmarc.FactLists) error {
	all, err := readDays(ctx, s.db, domain, days)
	for n := 0; err == nil && len(all) > 0; all = all[n:] {
		for n = 1; n < len(all) && all[n].Day.Equal(all[0].Day); n++ {
		}
		err = lists.Add(all[0].Day, dmarc.AppendFactList(nil, all[:n]))
	}
	return err
}
