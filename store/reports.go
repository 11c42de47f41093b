package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// selectReport lists the columns that scanReport reads.
const selectReport = selectReportColumns + fromReports

const selectReportColumns = `
	SELECT r.domain_id, r.id, d.name, r.report_id, r.begins_at, r.ends_at, r.hash, r.active, r.day, r.received_at, r.seen,
		r.message, r.part, r.flags, r.about, r.rows, r.messages, r.dmarc_pass, r.dkim_aligned, r.spf_aligned, r.none,
		r.quarantine, r.reject, r.pass, r.unstated, r.rows_dropped, r.messages_dropped, r.rows_hash, r.chosen, r.transport_auth`

const fromReports = `
	FROM reports r
	JOIN domains d ON d.id = r.domain_id`

type storedReport struct {
	position
	dmarc.ReportSummary
	day time.Time
}

func scanReport(row pgx.CollectableRow) (storedReport, error) { return scanReportAnd(row) }

// scanReportAnd reads a report, and what further columns hold.
func scanReportAnd(row pgx.CollectableRow, more ...any) (l storedReport, err error) {
	var hash, rowsHash []byte
	var flags int64
	var a about
	rep := &l.Report
	into := []any{&l.domain, &l.id, &rep.Policy.Domain, &rep.ID, &rep.Period.Begin, &rep.Period.End, &hash, &l.Active, &l.day,
		&l.ReceivedAt, &l.Seen, &l.MessageID, &l.Part, &flags, &a}
	into = append(into, scanTally(&rep.Tally)...)
	into = append(into, &rep.Dropped.Rows, &rep.Dropped.Messages, &rowsHash, &l.Chosen, &l.Transport)
	if err := row.Scan(append(into, more...)...); err != nil {
		return l, err
	}
	l.ID, l.at = reportKey(l.domain, l.id), rep.Period.Begin
	copy(rep.Hash[:], hash)
	copy(rep.RowsHash[:], rowsHash)
	rep.Flags = dmarc.Flags(flags)
	rep.Reporter = dmarc.Reporter{OrgName: a.OrgName, Email: a.Email, ExtraContact: a.ExtraContact}
	rep.Version, rep.Namespace, rep.Generator, rep.Errors = a.Version, a.Namespace, a.Generator, a.Errors
	rep.Policy = a.policy(rep.Policy.Domain)
	return l, nil
}

// Reports returns aggregate reports, newest first by the begin of their
// period, without rows. Those that do not count are among them.
func (s *Store) Reports(ctx context.Context, q dmarc.ReportQuery) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	after, err := afterTime(q.After)
	if err != nil {
		return nil, "", err
	}
	where := `
		WHERE r.begins_at >= @begin AND r.begins_at < @end
			AND (r.begins_at, r.domain_id, r.id) < (@at, @after_domain, @after_id)`
	args := after.args(pgx.NamedArgs{"begin": q.Period.Begin, "end": q.Period.End, "limit": q.Limit + 1})
	if q.Domain != "" {
		id, err := s.domainID(ctx, q.Domain)
		if errors.Is(err, dmarc.ErrNotFound) {
			return []dmarc.ReportSummary{}, "", nil
		}
		if err != nil {
			return nil, "", err
		}
		where += " AND r.domain_id = @domain"
		args["domain"] = id
	}
	within, err := s.within(ctx, q.Scope, "r.domain_id", args)
	if err != nil {
		return nil, "", err
	}
	where += within
	if q.Domain == "" {
		where += " AND NOT d.ignored"
	}
	if q.Reporter != "" {
		where += " AND r.about->>'org_name' = @reporter"
		args["reporter"] = clean(q.Reporter)
	}
	if q.Inactive {
		where += " AND NOT r.active"
	}
	rows, _ := s.db.Query(ctx, selectReport+where+" ORDER BY r.begins_at DESC, r.domain_id DESC, r.id DESC LIMIT @limit", args)
	lines, err := pgx.CollectRows(rows, scanReport)
	if err != nil {
		return nil, "", fmt.Errorf("listing reports: %w", err)
	}
	return pageOf(lines, q.Limit, func(l storedReport) dmarc.ReportSummary { return l.ReportSummary },
		func(l storedReport) dmarc.Cursor { return l.cursor() })
}

// Report returns a stored report. Its rows come from the database as they are
// ranged over; a report that does not count has none there.
func (s *Store) Report(ctx context.Context, id string) (dmarc.ReportSummary, error) {
	domain, number, err := parseReportKey(id)
	if err != nil {
		return dmarc.ReportSummary{}, err
	}
	rows, _ := s.db.Query(ctx, selectReport+" WHERE r.domain_id = $1 AND r.id = $2", domain, number)
	l, err := pgx.CollectExactlyOneRow(rows, scanReport)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return dmarc.ReportSummary{}, fmt.Errorf("report %s: %w", id, err)
	}
	l.Report.Rows = s.rowsOf(ctx, domain, number, l.day)
	return l.ReportSummary, nil
}
