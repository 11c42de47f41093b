package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
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

// How far one page of reports looks: at so many reports if not all of them are wanted,
// and for a source or a class at so many of their rows, but at one report at least.
const (
	reportsLookedAt = 20_000
	reportsSearched = 1_000
	rowsSearched    = 1_000_000
	rowsClassed     = 200_000
)

// Reports returns aggregate reports, newest first by the begin of their
// period, without rows. Those that do not count are among them.
func (s *Store) Reports(ctx context.Context, q dmarc.ReportQuery) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	l, err := s.reportList(ctx, &q)
	if errors.Is(err, dmarc.ErrNotFound) {
		return []dmarc.ReportSummary{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	if readsRows(&q.Filter) {
		return s.searchReports(ctx, &q, l)
	}
	from := "reports r"
	if l.which != "" {
		// The list may go on long before there is one that is wanted.
		l.args["most"] = reportsLookedAt
		from = "(SELECT r.* FROM reports r WHERE " + l.where + l.order + " LIMIT @most) r"
	}
	rows, _ := s.db.Query(ctx, strings.Replace(selectReport, "reports r", from, 1)+" WHERE "+l.where+l.which+l.order+" LIMIT @limit", l.args)
	lines, err := pgx.CollectRows(rows, scanReport)
	if err != nil {
		return nil, "", fmt.Errorf("listing reports: %w", err)
	}
	items, next, err := pageOf(lines, q.Limit, func(r storedReport) dmarc.ReportSummary { return r.ReportSummary }, l.cursor)
	if err == nil && next == "" && l.which != "" {
		next, err = s.lookedUpTo(ctx, l)
	}
	return items, next, err
}

// A reportList is what a question for reports comes to.
type reportList struct {
	args  pgx.NamedArgs
	where string // which reports the list goes through, by an index
	which string // which of them are wanted; begins with AND, or ""
	order string
	by    string // what it is sorted by, beside the numbers
}

func (l *reportList) cursor(r storedReport) dmarc.Cursor {
	switch l.by {
	case "messages":
		return numbersCursor(r.Report.Tally.Messages, r.domain, r.id)
	case "failed":
		return numbersCursor(r.Report.Tally.Messages-r.Report.Tally.DMARCPass, r.domain, r.id)
	}
	return r.cursor()
}

// reportList reads a question. Its error is dmarc.ErrNotFound if there is no such
// domain.
func (s *Store) reportList(ctx context.Context, q *dmarc.ReportQuery) (*reportList, error) {
	l := &reportList{args: pgx.NamedArgs{"begin": q.Period.Begin, "end": q.Period.End, "limit": q.Limit + 1}}
	sort := cmp.Or(q.Sort, "-begin")
	by := strings.TrimPrefix(string(sort), "-")
	up := by == string(sort)
	expr := "r.begins_at"
	switch by {
	case "begin":
	case "messages":
		l.by, expr = by, "r.messages"
	case "failed":
		l.by, expr = by, "r.messages - r.dmarc_pass"
	default:
		return nil, dmarc.ErrBadSort
	}
	if l.by != "" && q.Domain == "" {
		return nil, dmarc.Refusal("reports of all domains are sorted by begin alone; name a domain")
	}
	l.where = "r.begins_at >= @begin AND r.begins_at < @end"
	if l.by == "" {
		after, err := afterTime(q.After)
		if err != nil {
			return nil, err
		}
		l.where += after.behind("r.", "begins_at", up, l.args)
	} else if q.After != "" {
		n, err := numbersOf(q.After, 3)
		if err != nil {
			return nil, err
		}
		than := "<"
		if up {
			than = ">"
		}
		l.args["value"], l.args["after_domain"], l.args["after_id"] = n[0], n[1], n[2]
		l.where += " AND (" + expr + ", r.domain_id, r.id) " + than + " (@value, @after_domain, @after_id)"
	}
	d := direction(up)
	l.order = " ORDER BY " + expr + d + ", r.domain_id" + d + ", r.id" + d
	one, err := s.ofDomain(ctx, "r.domain_id", q.Domain, q.Subdomains, l.args)
	if err != nil {
		return nil, err
	}
	within, err := s.within(ctx, q.Scope, "r.domain_id", l.args)
	if err != nil {
		return nil, err
	}
	l.where += one + within
	if q.Domain == "" {
		l.where += " AND r.domain_id NOT IN (SELECT id FROM domains WHERE ignored)"
	}
	if q.Inactive {
		l.where += " AND NOT r.active"
	}
	if q.Reporter != "" {
		l.which += " AND r.about->>'org_name' = @reporter"
		l.args["reporter"] = clean(q.Reporter)
	}
	if q.Flags != 0 {
		l.which += " AND r.flags & @flags <> 0"
		l.args["flags"] = int64(q.Flags)
	}
	l.which += talliesOf(&q.Filter, "r.")
	return l, nil
}

// lookedUpTo is the cursor of the last report that a page looked at, "" if there are no
// more.
func (s *Store) lookedUpTo(ctx context.Context, l *reportList) (dmarc.Cursor, error) {
	sql := `
		SELECT r.domain_id, r.id, r.begins_at, r.messages, r.dmarc_pass
		FROM reports r
		WHERE ` + l.where + l.order + `
		LIMIT 1 OFFSET @most - 1`
	var r storedReport
	err := s.db.QueryRow(ctx, sql, l.args).Scan(&r.domain, &r.id, &r.at, &r.Report.Tally.Messages, &r.Report.Tally.DMARCPass)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("listing reports: %w", err)
	}
	return l.cursor(r), nil
}

// searchReports looks for reports with rows of a source, or of a class of sources. That
// stands in the rows alone, so one page looks at a bounded number of them, and may be empty
// although more follow. Reports whose rows are not kept are not found.
func (s *Store) searchReports(ctx context.Context, q *dmarc.ReportQuery, l *reportList) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	l.args["most"] = reportsSearched
	from := "(SELECT r.* FROM reports r WHERE " + l.where + l.order + " LIMIT @most) r"
	rows, _ := s.db.Query(ctx, strings.Replace(selectReport, "reports r", from, 1)+" WHERE true"+l.order, l.args)
	looked, err := pgx.CollectRows(rows, scanReport)
	if err != nil {
		return nil, "", fmt.Errorf("listing reports: %w", err)
	}
	more := len(looked) == reportsSearched
	left := int64(rowsSearched)
	if q.Classed {
		left = rowsClassed
	}
	for i := range looked {
		if left -= looked[i].Report.Tally.Rows; left < 0 && i > 0 {
			looked, more = looked[:i], true
			break
		}
	}
	domains, ids := make([]int64, len(looked)), make([]int64, len(looked))
	for i := range looked {
		domains[i], ids[i] = looked[i].domain, looked[i].id
	}
	l.args["searched_domains"], l.args["searched"] = domains, ids
	from = `
		FROM unnest(@searched_domains::bigint[], @searched::bigint[]) AS at (domain_id, id)
		JOIN reports r ON r.domain_id = at.domain_id AND r.id = at.id`
	const ofReport = "g.domain_id = r.domain_id AND g.day = r.day AND g.report = r.id"
	source := sourceOf(&q.Filter, "row.source", l.args)
	sql := `
		SELECT r.domain_id, r.id` + from + `
		WHERE EXISTS (
			SELECT FROM row_groups g
			WHERE ` + ofReport + ` AND EXISTS (SELECT FROM unnest(g.source) AS row (source) WHERE true` + source + `)
		)` + l.which
	if q.Classed {
		// Each source is looked for once.
		classes, is := classesOf(&q.Filter, "sums", l.args)
		sql = `
		SELECT DISTINCT sums.domain_id, report.id
		FROM (
			SELECT r.domain_id, row.source, array_agg(DISTINCT r.id) AS reports` + from + `
			JOIN row_groups g ON ` + ofReport + `
			CROSS JOIN LATERAL unnest(g.source) AS row (source)
			WHERE true` + source + l.which + `
			GROUP BY r.domain_id, row.source
		) AS sums` + classes + `
		CROSS JOIN LATERAL unnest(sums.reports) AS report (id)
		WHERE true` + is
	}
	found := make(map[position]bool)
	var at position
	rows, _ = s.db.Query(ctx, sql, l.args)
	if _, err := pgx.ForEachRow(rows, []any{&at.domain, &at.id}, func() error {
		found[at] = true
		return nil
	}); err != nil {
		return nil, "", fmt.Errorf("looking for reports with such sources: %w", err)
	}
	lines := looked[:0:0]
	for _, r := range looked {
		if found[position{domain: r.domain, id: r.id}] {
			lines = append(lines, r)
		}
	}
	items, next, err := pageOf(lines, q.Limit, func(r storedReport) dmarc.ReportSummary { return r.ReportSummary }, l.cursor)
	if err == nil && next == "" && more {
		next = l.cursor(looked[len(looked)-1])
	}
	return items, next, err
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
