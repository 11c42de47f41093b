package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// addFailure keeps a failure report; one that was kept before is counted.
func (b *batch) addFailure(ctx context.Context, tx pgx.Tx, i int, p *dmarc.Part) (ledgerPart, error) {
	rep, d := p.Failure, &b.ds[i]
	domain := b.domains[clean(rep.ReportedDomain)]
	body, err := json.Marshal(failureOf(rep))
	if err != nil {
		return ledgerPart{}, fmt.Errorf("failure report: %w", err)
	}
	const insert = `
		INSERT INTO failure_reports AS t (domain_id, hash, arrived_at, received_at, message, part, flags, body)
		VALUES (@domain, @hash, @arrived, @received, @message, @part, @flags, @body::jsonb)
		ON CONFLICT (domain_id, hash) DO UPDATE
		SET seen = t.seen + 1
		RETURNING id, seen`
	var id, seen int64
	err = tx.QueryRow(ctx, insert, pgx.NamedArgs{
		"domain": domain, "hash": rep.Hash[:], "arrived": rep.Arrival, "received": d.ReceivedAt,
		"message": b.fates[i].MessageID, "part": clean(p.Path), "flags": int64(rep.Flags), "body": string(body),
	}).Scan(&id, &seen)
	if err != nil {
		return ledgerPart{}, fmt.Errorf("inserting a failure report: %w", err)
	}
	if seen > 1 {
		return ledgerPart{Kind: "failure", Report: reportKey(domain, id), Outcome: dmarc.OutcomeDuplicate, Reason: "this report was stored before"}, nil
	}
	return flagged("failure", domain, id, rep.Flags), nil
}

// failureOf returns what is kept of a failure report: all of it, in text that
// the database takes.
func failureOf(rep *dmarc.FailureReport) *dmarc.FailureReport {
	f := *rep
	for _, s := range []*string{&f.ReporterDomain, &f.FeedbackType, &f.UserAgent, &f.Version, &f.Delivery, &f.DeliveryWord,
		&f.IdentityAlign, &f.ReportedDomain, &f.EnvelopeID, &f.MailFrom, &f.ReportingMTA, &f.DKIMDomain, &f.DKIMIdentity, &f.DKIMSelector} {
		*s = clean(*s)
	}
	for _, l := range [][]string{f.AuthFailure, f.ReportedURIs, f.RcptTo, f.AuthResults, f.SPFRecords} {
		cleanAll(l)
	}
	for _, l := range [][]dmarc.HeaderField{f.Headers, f.Other} {
		for i := range l {
			l[i].Name, l[i].Value = clean(l[i].Name), clean(l[i].Value)
		}
	}
	return &f
}

// Failures returns failure reports, newest first by arrival.
func (s *Store) Failures(ctx context.Context, q dmarc.FailureQuery) ([]dmarc.StoredFailure, dmarc.Cursor, error) {
	after, err := afterTime(q.After)
	if err != nil {
		return nil, "", err
	}
	up, err := ascending(q.Sort, "arrival")
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"begin": q.Period.Begin, "end": q.Period.End, "limit": q.Limit + 1}
	chosen, err := s.chosenDomains(ctx, "f.domain_id", q.Domain, q.Subdomains, q.Scope, args)
	if errors.Is(err, dmarc.ErrNotFound) {
		return []dmarc.StoredFailure{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	which := ""
	if q.Source.IsValid() {
		// An address with a zone is none to the database.
		which += ` AND CASE WHEN f.body->>'SourceIP' ~ '^[0-9a-fA-F:.]+$' THEN true` + sourceOf(&q.Filter, "(f.body->>'SourceIP')::inet", args) + " ELSE false END"
	}
	if q.Reporter != "" {
		which, args["reporter"] = which+" AND f.body->>'ReporterDomain' = @reporter", clean(q.Reporter)
	}
	d := direction(up)
	sql := selectFailure + `
		JOIN domains d ON d.id = f.domain_id
		WHERE f.arrived_at >= @begin AND f.arrived_at < @end` + after.behind("f.", "arrived_at", up, args) + chosen + which + `
		ORDER BY f.arrived_at` + d + `, f.domain_id` + d + `, f.id` + d + `
		LIMIT @limit`
	rows, _ := s.db.Query(ctx, sql, args)
	lines, err := pgx.CollectRows(rows, scanFailure)
	if err != nil {
		return nil, "", fmt.Errorf("listing failure reports: %w", err)
	}
	return pageOf(lines, q.Limit, func(l failureLine) dmarc.StoredFailure { return l.StoredFailure }, func(l failureLine) dmarc.Cursor { return l.cursor() })
}

// Failure returns a failure report, masked unless it is wanted whole.
func (s *Store) Failure(ctx context.Context, id string, whole bool) (dmarc.StoredFailure, error) {
	domain, number, err := parseReportKey(id)
	if err != nil {
		return dmarc.StoredFailure{}, err
	}
	rows, _ := s.db.Query(ctx, selectFailure+" WHERE f.domain_id = $1 AND f.id = $2", domain, number)
	l, err := pgx.CollectExactlyOneRow(rows, scanFailure)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return dmarc.StoredFailure{}, fmt.Errorf("failure report %s: %w", id, err)
	}
	if !whole {
		l.Report = *l.Report.Masked()
	}
	return l.StoredFailure, nil
}

// selectFailure lists the columns that scanFailure reads.
const selectFailure = `
	SELECT f.domain_id, f.id, f.arrived_at, f.received_at, f.seen, f.flags, f.message, f.body
	FROM failure_reports f`

type failureLine struct {
	position
	dmarc.StoredFailure
}

func scanFailure(row pgx.CollectableRow) (l failureLine, err error) {
	var body []byte
	var flags int64
	if err := row.Scan(&l.domain, &l.id, &l.at, &l.ReceivedAt, &l.Seen, &flags, &l.MessageID, &body); err != nil {
		return l, err
	}
	if err := json.Unmarshal(body, &l.Report); err != nil {
		return l, err
	}
	l.ID, l.Report.Flags = reportKey(l.domain, l.id), dmarc.Flags(flags)
	return l, nil
}
