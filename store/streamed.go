package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// EachCurrent hands over what counts of reports after changes, in their order. Rows
// come from the database as they are ranged over, and only until do returns. Report
// and rows are of the revision of the change: one that was overtaken by a later change
// is passed over, since that is told as well. With latest, what there is now is handed over
// instead. It ends with dmarc.ErrNotYet at a change that cannot be seen yet.
func (s *Store) EachCurrent(ctx context.Context, changes []dmarc.ReportChange, latest bool, do func(*dmarc.ReportChange, *dmarc.CurrentReport) error) error {
	const (
		header = selectReportColumns + ", r.revision" + fromReports + `
			WHERE r.domain_id = $1 AND r.id = $2`
		// A statement sees one state of both tables.
		rows = `
			SELECT coalesce(messages, 0), coalesce(flags, 0), coalesce(verdict, 0), coalesce(ours, 0), source,
				coalesce((SELECT name FROM names WHERE domain_id = $1 AND id = header_from_id), ''),
				coalesce((SELECT name FROM names WHERE domain_id = $1 AND id = envelope_from_id), ''),
				envelope_from_id IS NOT NULL,
				coalesce((SELECT name FROM names WHERE domain_id = $1 AND id = envelope_to_id), ''),
				coalesce((SELECT body FROM auth_results WHERE domain_id = $1 AND id = auth_id), '{}'),
				h.revision, messages IS NOT NULL
			FROM (SELECT revision FROM reports WHERE domain_id = $1 AND id = $2) AS h
			LEFT JOIN (
				SELECT unnest(messages) AS messages, unnest(header_from_id) AS header_from_id, unnest(envelope_from_id) AS envelope_from_id,
					unnest(envelope_to_id) AS envelope_to_id, unnest(auth_id) AS auth_id, unnest(flags) AS flags, unnest(verdict) AS verdict,
					unnest(ours) AS ours, unnest(source) AS source
				FROM (SELECT * FROM row_groups WHERE domain_id = $1 AND report = $2 AND day = $3 ORDER BY ctid) AS sorted
			) AS g ON true`
		name = "SELECT name FROM domains WHERE id = $1"
	)
	type place struct{ domain, report int64 }
	places := make([]place, len(changes))
	all := &pgx.Batch{}
	for i, c := range changes {
		p := &places[i]
		var err error
		if p.domain, p.report, err = parseReportKey(c.Report); err != nil {
			return err
		}
		if c.Removed {
			all.Queue(name, p.domain)
			continue
		}
		all.Queue(header, p.domain, p.report)
		all.Queue(rows, p.domain, p.report, c.Day)
	}
	if !latest { // who asks for what there is now asks again from here
		select {
		case s.streams <- struct{}{}:
			defer func() { <-s.streams }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	results := s.db.SendBatch(ctx, all)
	defer results.Close()
	for i := range changes {
		c := &changes[i]
		fail := func(err error) error { return fmt.Errorf("report %s for a stream: %w", c.Report, err) }
		gone := &dmarc.CurrentReport{Revision: c.Revision, Removed: true}
		gone.ID = c.Report
		if c.Removed {
			if err := results.QueryRow().Scan(&gone.Report.Policy.Domain); err != nil {
				return fail(err)
			}
			if err := do(c, gone); err != nil {
				return err
			}
			continue
		}
		cur := &dmarc.CurrentReport{}
		found, _ := results.Query()
		l, err := pgx.CollectExactlyOneRow(found, func(row pgx.CollectableRow) (storedReport, error) { return scanReportAnd(row, &cur.Revision) })
		missing := errors.Is(err, pgx.ErrNoRows)
		if err != nil && !missing {
			return fail(err)
		}
		cur.ReportSummary = l.ReportSummary
		lines, err := results.Query()
		if err != nil {
			return fail(err)
		}
		first, revision, has, err := firstRow(lines)
		if err != nil {
			return fail(err)
		}
		switch overtaken := cur.Revision > c.Revision || revision != cur.Revision; {
		case (missing || overtaken || !l.Active) && latest:
			lines.Close()
			if c, err := s.changeNow(ctx, places[i].domain, places[i].report); err != nil {
				return fail(err)
			} else if c != nil {
				if err := s.EachCurrent(ctx, []dmarc.ReportChange{*c}, latest, do); err != nil {
					return err
				}
			}
			continue
		case cur.Revision < c.Revision && !missing:
			return dmarc.ErrNotYet
		case missing:
			lines.Close()
			lost, err := s.lost(ctx, places[i].domain, places[i].report, c)
			if err != nil {
				return fail(err)
			}
			if !lost {
				continue
			}
			if gone.Report.Policy.Domain, err = s.domainName(ctx, places[i].domain); err != nil {
				return fail(err)
			}
			cur = gone
		case overtaken:
			lines.Close()
			continue
		case !l.Active:
			lines.Close()
			cur.Removed = true
		default:
			cur.RowsKept = has || l.Report.Tally.Rows == 0
			cur.Report.Rows = rowsFrom(lines, first)
		}
		err = do(c, cur)
		lines.Close()
		if err == nil {
			err = lines.Err()
		}
		if err != nil {
			return err
		}
	}
	return results.Close()
}

// firstRow reads the first line of a report's rows: its revision, and a row if it has one.
func firstRow(lines pgx.Rows) (first *dmarc.Row, revision int64, has bool, err error) {
	if !lines.Next() {
		return nil, 0, false, lines.Err()
	}
	first = &dmarc.Row{}
	err = scanRow(lines, first, &revision, &has)
	if err != nil || !has {
		first = nil
	}
	return first, revision, has, err
}

// rowsFrom yields the first row, if there is one, and those that follow.
func rowsFrom(lines pgx.Rows, first *dmarc.Row) iter.Seq2[*dmarc.Row, error] {
	return func(yield func(*dmarc.Row, error) bool) {
		if first == nil || !yield(first, nil) {
			return
		}
		for lines.Next() {
			var revision int64
			var has bool
			var row dmarc.Row
			err := scanRow(lines, &row, &revision, &has)
			if !yield(&row, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// changeNow returns a report that counts as a change, or nil.
func (s *Store) changeNow(ctx context.Context, domain, report int64) (*dmarc.ReportChange, error) {
	c := &dmarc.ReportChange{Report: reportKey(domain, report)}
	err := s.db.QueryRow(ctx, "SELECT revision, day FROM reports WHERE domain_id = $1 AND id = $2 AND active", domain, report).Scan(&c.Revision, &c.Day)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return c, err
}

// longestCommit is how long the parts of a transaction on several machines may
// come apart, until what is missing is taken to be lost.
const longestCommit = 10 * time.Minute

// lost tells whether a report whose change is not to be seen was deleted by somebody
// else than dmarcd. If another change is told later, or retention removed it, it is not; and
// dmarc.ErrNotYet is returned while its machine may not have committed yet.
func (s *Store) lost(ctx context.Context, domain, report int64, c *dmarc.ReportChange) (bool, error) {
	const sql = `
		SELECT EXISTS (SELECT FROM report_changes WHERE domain_id = $1 AND report = $2 AND revision > $3),
			coalesce((SELECT max(at) < clock_timestamp() - $4::interval FROM report_changes WHERE domain_id = $1 AND report = $2 AND revision = $3), true)`
	var later, old bool
	if err := s.db.QueryRow(ctx, sql, domain, report, c.Revision, longestCommit).Scan(&later, &old); err != nil {
		return false, err
	}
	h, err := readHorizons(ctx, s.db)
	switch {
	case err != nil:
		return false, err
	case later || c.Day.Before(h.of(horizonTotals, 0)):
		return false, nil
	case !old:
		return false, dmarc.ErrNotYet
	}
	return true, nil
}

func (s *Store) domainName(ctx context.Context, id int64) (name string, err error) {
	err = s.db.QueryRow(ctx, "SELECT name FROM domains WHERE id = $1", id).Scan(&name)
	return name, err
}
