package store

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Alternatives returns the other contents that came under the identity of a
// report, newest arrival first.
func (s *Store) Alternatives(ctx context.Context, id string, page dmarc.Page) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	domain, number, err := parseReportKey(id)
	if err != nil {
		return nil, "", err
	}
	after, err := afterNumber(page.After)
	if err != nil {
		return nil, "", err
	}
	const sql = selectReport + `
		JOIN reports o ON o.domain_id = @domain AND o.id = @id AND o.reporter_id = r.reporter_id AND o.report_id = r.report_id
			AND o.begins_at = r.begins_at AND o.ends_at = r.ends_at
		WHERE r.domain_id = @domain AND r.id <> @id AND r.id < @after
		ORDER BY r.id DESC
		LIMIT @limit`
	rows, _ := s.db.Query(ctx, sql, pgx.NamedArgs{"domain": domain, "id": number, "after": after, "limit": page.Limit + 1})
	lines, err := pgx.CollectRows(rows, scanReport)
	if err != nil {
		return nil, "", fmt.Errorf("alternatives of report %s: %w", id, err)
	}
	return pageOf(lines, page.Limit, func(l storedReport) dmarc.ReportSummary { return l.ReportSummary },
		func(l storedReport) dmarc.Cursor { return numberCursor(l.id) })
}

// Activate makes a stored report the one of its identity that counts, in one
// transaction; another that counted is kept without its rows. If it is chosen, later
// arrivals leave it so. Since a report that does not count has no rows in the database, its content
// is given anew, and has to be what it was.
func (s *Store) Activate(ctx context.Context, id string, rep *dmarc.AggregateReport, chosen bool) error {
	domain, number, err := parseReportKey(id)
	if err != nil {
		return err
	}
	done, err := s.write(ctx)
	if err != nil {
		return err
	}
	defer done()
	err = s.retry(func() error {
		return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error { return s.activate(ctx, tx, domain, number, rep, chosen) })
	})
	if err != nil {
		return fmt.Errorf("activating report %s: %w", id, err)
	}
	s.noteChange()
	return nil
}

func (s *Store) activate(ctx context.Context, tx pgx.Tx, domain, number int64, rep *dmarc.AggregateReport, chosen bool) error {
	found, err := lockReports(ctx, tx, "id = $2", domain, number)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return dmarc.ErrNotFound
	}
	all, err := lockIdentity(ctx, tx, found[0].identity(domain))
	if err != nil {
		return err
	}
	var target, active *stored
	for i := range all {
		if all[i].id == number {
			target = &all[i]
		}
		if all[i].active {
			active = &all[i]
		}
	}
	b := newBatch(s, []dmarc.Delivery{{}})
	if b.horizons, err = readHorizons(ctx, tx); err != nil {
		return err
	}
	if active != target {
		if b.horizons.noRows(domain, target.day) || active != nil && b.horizons.noRows(domain, active.day) {
			return dmarc.Refusal("the rows of its month are no longer kept, so that totals could not follow")
		}
		if !bytes.Equal(target.hash, rep.Hash[:]) {
			return dmarc.Refusal("today's parser reads this report otherwise than it was read when it came: run dmarcd reparse, which stores what it reads now, and try again")
		}
		if active != nil {
			if err := b.retire(ctx, tx, domain, active); err != nil {
				return err
			}
		}
	}
	c := change{domain: domain, report: number, day: target.day}
	const sql = `
		UPDATE reports
		SET active = true, chosen = $3, revision = revision + CASE WHEN active THEN 0 ELSE 1 END
		WHERE domain_id = $1 AND id = $2
		RETURNING revision`
	if err := tx.QueryRow(ctx, sql, domain, number, chosen).Scan(&c.revision); err != nil {
		return err
	}
	if active != target {
		b.changed = append(b.changed, c)
		days, _ := target.period.Attribute(target.received)
		w := newRowWriter(b, tx)
		defer w.release()
		if err := w.addReport(ctx, &aggregate{rep: rep, domain: domain, reporter: target.reporter, days: days, id: number}); err != nil {
			return err
		}
		if err := w.end(ctx); err != nil {
			return err
		}
	}
	if err := b.rollup.write(ctx, tx); err != nil {
		return err
	}
	return b.tellStreams(ctx, tx)
}
