package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Summary returns what the reports of a period tell about a domain: with a filter, of
// the mail that meets it, which reporter_days tells apart. It is what dashboards ask most, so
// that it is one round trip. A filter about senders reads the rows (mailOf); then reports
// are counted that have such mail.
func (s *Store) Summary(ctx context.Context, q dmarc.TrafficQuery) (dmarc.DomainSummary, error) {
	sum := dmarc.DomainSummary{Domain: q.Domain}
	ids, err := s.domainsOf(ctx, q.Domain, q.Subdomains)
	if err != nil {
		return sum, err
	}
	days := func(rows pgx.Rows) error {
		var d dmarc.DayTraffic
		var dated bool
		var reports int64
		_, err := pgx.ForEachRow(rows, append([]any{&d.Day, &dated, &d.Estimated, &reports}, scanTally(&d.Tally)...), func() error {
			sum.Reports += reports
			sum.Tally.Merge(d.Tally)
			some := d.Tally.Messages > 0 || d.Tally.Rows > 0
			switch {
			case !dated:
				sum.Undated.Merge(d.Tally)
			case some || reports > 0 && verdictsOf(&q.Filter, "") == "":
				sum.Days = append(sum.Days, d)
			}
			return nil
		})
		return err
	}
	batch := &pgx.Batch{}
	if readsRows(&q.Filter) {
		if q.Subdomains {
			return sum, errOneDomain
		}
		verdicts := cmp.Or(verdictsOf(&q.Filter, "verdict"), "true")
		question := `
			SELECT day, dated, bool_or(estimated), count(DISTINCT report) FILTER (WHERE rows > 0),` + tallyColumns + `
			FROM mail
			WHERE ` + verdicts + `
			GROUP BY day, dated
			ORDER BY day`
		if err := s.mailOf(ctx, ids[0], &q, question, pgx.NamedArgs{}, days); err != nil {
			return sum, fmt.Errorf("summary of %s: %w", q.Domain, err)
		}
	} else {
		sql, args, err := s.daysOfSummary(ctx, ids, &q)
		if err != nil {
			return sum, fmt.Errorf("summary of %s: %w", q.Domain, err)
		}
		batch.Queue(sql, args).Query(days)
	}
	// What it publishes, and the verdict, are of the domain alone, which need not be known.
	id := ids[0]
	if q.Subdomains {
		if id, err = s.domainID(ctx, q.Domain); err != nil && !errors.Is(err, dmarc.ErrNotFound) {
			return sum, err
		}
	}
	if err == nil {
		batch.Queue(lastReportedOf, id).QueryRow(func(row pgx.Row) (err error) {
			sum.Published, err = readPolicy(row, q.Domain)
			return err
		})
		batch.Queue(verdictOf, id).QueryRow(func(row pgx.Row) (err error) {
			sum.Verdict, err = readVerdict(row, q.Domain)
			return err
		})
	}
	if err := s.db.SendBatch(ctx, batch).Close(); err != nil {
		return sum, fmt.Errorf("summary of %s: %w", q.Domain, err)
	}
	return sum, nil
}

// daysOfSummary is the question for the days of a summary. Reports are counted
// whatever their messages met.
func (s *Store) daysOfSummary(ctx context.Context, ids []int64, q *dmarc.TrafficQuery) (string, pgx.NamedArgs, error) {
	args := pgx.NamedArgs{"begin": q.Period.Begin, "end": q.Period.End}
	where := `
		WHERE ` + isOneOf("domain_id", ids, args) + " AND day >= @begin AND day < @end"
	verdicts := verdictsOf(&q.Filter, "verdict")
	switch {
	case verdicts == "" && q.Reporter == "" && len(ids) == 1:
		return `
		SELECT day, dated, estimated > 0, reports, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated
		FROM domain_days` + where + `
		ORDER BY day`, args, nil
	case verdicts == "" && q.Reporter == "":
		return `
		SELECT day, dated, sum(estimated) > 0, sum(reports)::bigint,` + tally + `
		FROM domain_days` + where + `
		GROUP BY day, dated
		ORDER BY day`, args, nil
	}
	if q.Reporter != "" {
		reporters, err := s.reportersNamed(ctx, ids, q.Reporter)
		if err != nil {
			return "", nil, err
		}
		where, args["reporters"] = where+" AND reporter_id = ANY (@reporters::bigint[])", reporters
	}
	if verdicts == "" {
		verdicts = "true"
	}
	return `
		SELECT day, dated, sum(estimated) > 0, sum(reports)::bigint,` + tallyColumns + `
		FROM (
			SELECT day, dated, verdict, reports, CASE WHEN meets THEN rows ELSE 0 END AS rows,
				CASE WHEN meets THEN messages ELSE 0 END AS messages, CASE WHEN meets THEN estimated ELSE 0 END AS estimated
			FROM (SELECT *, ` + verdicts + ` AS meets FROM reporter_days` + where + `) AS cells
		) AS meant
		GROUP BY day, dated
		ORDER BY day`, args, nil
}

var reporterSorts = tallied("key", "text", map[string]order{
	"quarantine": {by: "quarantine", kind: "bigint"},
	"reject":     {by: "reject", kind: "bigint"},
	"reports":    {by: "reports", kind: "bigint"},
	"last_day":   dayNumber("last"),
	"org_name":   {by: "org_name", kind: "text"},
})

// Reporters returns who reported about a domain, busiest first. A filter leaves out
// those who saw no such mail; one about senders counts theirs alone, by the rows.
func (s *Store) Reporters(ctx context.Context, q dmarc.TrafficQuery) ([]dmarc.ReporterTraffic, dmarc.Cursor, error) {
	ids, o, behind, args, err := s.trafficList(ctx, &q, reporterSorts)
	if err != nil {
		return nil, "", err
	}
	which := talliesOf(&q.Filter, "")
	if q.Reporter != "" {
		which, args["reporter"] = which+" AND org_name = @reporter", clean(q.Reporter)
	}
	one := isOneOf("domain_id", ids, args)
	sums := `
			SELECT domain_id, reporter_id, max(day) AS last, sum(reports)::bigint AS reports,` + tallyColumns + `
			FROM reporter_days
			WHERE ` + one + ` AND day >= @begin AND day < @end
			GROUP BY domain_id, reporter_id
			HAVING sum(reports) > 0 OR sum(messages) > 0`
	if readsRows(&q.Filter) {
		if q.Subdomains {
			return nil, "", errOneDomain
		}
		sums = `
			SELECT @domain::bigint AS domain_id, reporter_id, max(day) AS last, count(DISTINCT report) FILTER (WHERE rows > 0) AS reports,` + tallyColumns + `
			FROM mail
			GROUP BY reporter_id`
	}
	// A reporter has a number for each domain.
	lines := `sums AS (` + sums + `
		), lines AS (
			SELECT r.key, min(r.org_name) AS org_name, min(r.email) AS email, max(s.last) AS last, sum(s.reports)::bigint AS reports, ` + summed(tallyNames) + `
			FROM sums s
			JOIN reporters r ON r.domain_id = s.domain_id AND r.id = s.reporter_id AND ` + isOneOf("r.domain_id", ids, args) + `
			GROUP BY r.key
		)
		SELECT key, org_name, email, last, reports, ` + strings.Join(tallyNames, ", ") + `, (` + o.by + `)::text, ` + o.by + ` AS sorted
		FROM lines
		WHERE ` + behind + which + `
		ORDER BY ` + o.clause() + `
		LIMIT @limit`
	type line struct {
		dmarc.ReporterTraffic
		key, place string
	}
	var found []line
	read := func(rows pgx.Rows) (err error) {
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
			into := append([]any{&l.key, &l.Reporter.OrgName, &l.Reporter.Email, &l.LastDay, &l.Reports}, scanTally(&l.Tally)...)
			err = row.Scan(append(into, &l.place, nil)...)
			return l, err
		})
		return err
	}
	if readsRows(&q.Filter) {
		err = s.mailOf(ctx, ids[0], &q, ", "+lines, args, read)
	} else {
		rows, _ := s.db.Query(ctx, "WITH "+lines, args)
		err = read(rows)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reporters of %s: %w", q.Domain, err)
	}
	return pageOf(found, q.Limit, func(l line) dmarc.ReporterTraffic { return l.ReporterTraffic },
		func(l line) dmarc.Cursor { return placeCursor(l.place, l.key) })
}
