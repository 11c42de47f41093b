package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// addTLS adds a TLS report by the rules of aggregate reports: the same content
// is a duplicate, of different contents the one with more sessions counts, on
// a tie the later one.
func (b *batch) addTLS(ctx context.Context, tx pgx.Tx, i int, p *dmarc.Part) (ledgerPart, error) {
	rep, d := p.TLS, &b.ds[i]
	domain := b.domains[clean(rep.Domain)]
	reporter := b.reporters[reporterKey(domain, rep.Reporter())]
	const others = `
		SELECT id, hash, active, successful + failed
		FROM tls_reports
		WHERE domain_id = $1 AND reporter_id = $2 AND report_id = $3 AND begins_at = $4 AND ends_at = $5
		ORDER BY id
		FOR UPDATE`
	rows, _ := tx.Query(ctx, others, domain, reporter, clean(rep.ID), rep.Period.Begin, rep.Period.End)
	have, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o stored, err error) {
		err = row.Scan(&o.id, &o.hash, &o.active, &o.tally.Messages)
		return o, err
	})
	if err != nil {
		return ledgerPart{}, fmt.Errorf("reading TLS reports of the same identity: %w", err)
	}
	successful, failed := rep.Sessions()
	active := true
	for _, o := range have {
		if bytes.Equal(o.hash, rep.Hash[:]) {
			_, err := tx.Exec(ctx, "UPDATE tls_reports SET seen = seen + 1 WHERE domain_id = $1 AND id = $2", domain, o.id)
			return ledgerPart{Kind: "tls", Report: reportKey(domain, o.id), Outcome: dmarc.OutcomeDuplicate, Reason: "this report was stored before"}, err
		}
		if o.active && o.tally.Messages > successful+failed {
			active = false
		}
	}
	if active && len(have) > 0 {
		const retire = `
			UPDATE tls_reports
			SET active = false
			WHERE domain_id = $1 AND reporter_id = $2 AND report_id = $3 AND begins_at = $4 AND ends_at = $5 AND active`
		if _, err := tx.Exec(ctx, retire, domain, reporter, clean(rep.ID), rep.Period.Begin, rep.Period.End); err != nil {
			return ledgerPart{}, fmt.Errorf("retiring a TLS report: %w", err)
		}
	}
	policies, err := json.Marshal(tlsPolicies(rep.Policies))
	if err != nil {
		return ledgerPart{}, fmt.Errorf("TLS report %q: %w", rep.ID, err)
	}
	const insert = `
		INSERT INTO tls_reports (domain_id, reporter_id, report_id, begins_at, ends_at, hash, active, received_at, message,
			part, flags, contact, successful, failed, policies)
		VALUES (@domain, @reporter, @id, @begin, @end, @hash, @active, @received, @message, @part, @flags, @contact, @successful,
			@failed, @policies::jsonb)
		RETURNING id`
	var id int64
	err = tx.QueryRow(ctx, insert, pgx.NamedArgs{
		"domain": domain, "reporter": reporter, "id": clean(rep.ID), "begin": rep.Period.Begin, "end": rep.Period.End,
		"hash": rep.Hash[:], "active": active, "received": d.ReceivedAt, "message": b.fates[i].MessageID, "part": clean(p.Path),
		"flags": int64(rep.Flags), "contact": clean(rep.Contact), "successful": successful, "failed": failed, "policies": string(policies),
	}).Scan(&id)
	if err != nil {
		return ledgerPart{}, fmt.Errorf("inserting TLS report %q: %w", rep.ID, err)
	}
	line := flagged("tls", domain, id, rep.Flags)
	switch {
	case !active:
		line.Outcome, line.Reason = dmarc.OutcomeConflict, "another report of the same identity has more sessions and counts"
	case len(have) > 0:
		line.Outcome, line.Reason = dmarc.OutcomeConflict, "replaces another report of the same identity"
	}
	return line, nil
}

// tlsPolicy is how a policy is kept.
type tlsPolicy struct {
	Type       string             `json:"type"`
	Strings    []string           `json:"strings,omitempty"`
	Domain     string             `json:"domain,omitempty"`
	MXHosts    []string           `json:"mx_hosts,omitempty"`
	Successful int64              `json:"successful"`
	Failed     int64              `json:"failed"`
	Details    []dmarc.TLSFailure `json:"details,omitempty"`
}

func tlsPolicies(all []dmarc.TLSPolicy) []tlsPolicy {
	kept := make([]tlsPolicy, len(all))
	for i, p := range all {
		kept[i] = tlsPolicy{clean(p.Type), cleanAll(p.Strings), clean(p.Domain), cleanAll(p.MXHosts), p.Successful, p.Failed, nil}
		for _, f := range p.Details {
			f.ResultType, f.SendingMTAIP, f.ReceivingIP = clean(f.ResultType), clean(f.SendingMTAIP), clean(f.ReceivingIP)
			f.ReceivingMXHost, f.ReceivingMXHELO = clean(f.ReceivingMXHost), clean(f.ReceivingMXHELO)
			f.AdditionalInfo, f.FailureReasonCode = clean(f.AdditionalInfo), clean(f.FailureReasonCode)
			kept[i].Details = append(kept[i].Details, f)
		}
	}
	return kept
}

func cleanAll(all []string) []string {
	for i := range all {
		all[i] = clean(all[i])
	}
	return all
}

// TLS returns the TLS reports that count, newest first by the begin of their
// period.
func (s *Store) TLS(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.StoredTLS, dmarc.Cursor, error) {
	after, err := afterTime(q.After)
	if err != nil {
		return nil, "", err
	}
	up, err := ascending(q.Sort, "begin")
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"begin": q.Period.Begin, "end": q.Period.End, "limit": q.Limit + 1}
	chosen, err := s.chosenDomains(ctx, "t.domain_id", q.Domain, q.Subdomains, q.Scope, args)
	if errors.Is(err, dmarc.ErrNotFound) {
		return []dmarc.StoredTLS{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	which := ""
	if q.Reporter != "" {
		which, args["reporter"] = " AND r.org_name = @reporter", clean(q.Reporter)
	}
	if q.Failing && q.Scope.All() {
		which += " AND t.failed > 0"
	} else if q.Failing {
		args["names"] = q.Scope.Domains()
		which += " AND EXISTS (SELECT FROM jsonb_array_elements(t.policies) AS p (policy) WHERE (p.policy->>'failed')::bigint > 0 AND (" + tlsInScope + "))"
	}
	d := direction(up)
	sql := selectTLS + `
		WHERE t.active` + chosen + which + `
			AND t.begins_at >= @begin AND t.begins_at < @end` + after.behind("t.", "begins_at", up, args) + `
		ORDER BY t.begins_at` + d + `, t.domain_id` + d + `, t.id` + d + `
		LIMIT @limit`
	rows, _ := s.db.Query(ctx, sql, args)
	lines, err := pgx.CollectRows(rows, scanTLS)
	if err != nil {
		return nil, "", fmt.Errorf("listing TLS reports: %w", err)
	}
	return pageOf(lines, q.Limit, func(l tlsLine) dmarc.StoredTLS { return l.StoredTLS }, func(l tlsLine) dmarc.Cursor { return l.cursor() })
}

// TLSReport returns a TLS report, whether it counts or not; dmarc.ErrNotFound if there is
// none.
func (s *Store) TLSReport(ctx context.Context, id string) (dmarc.StoredTLS, error) {
	domain, number, err := parseReportKey(id)
	if err != nil {
		return dmarc.StoredTLS{}, err
	}
	rows, _ := s.db.Query(ctx, selectTLS+" WHERE t.domain_id = $1 AND t.id = $2", domain, number)
	l, err := pgx.CollectExactlyOneRow(rows, scanTLS)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return dmarc.StoredTLS{}, fmt.Errorf("TLS report %s: %w", id, err)
	}
	return l.StoredTLS, nil
}

const selectTLS = `
		SELECT t.domain_id, t.id, t.begins_at, t.ends_at, t.active, t.received_at, t.seen, t.message, t.part, t.flags, t.report_id, t.contact, t.hash,
			t.policies, d.name, r.org_name,
			CASE WHEN t.active THEN 0 ELSE coalesce((
				SELECT a.id
				FROM tls_reports a
				WHERE a.domain_id = t.domain_id AND a.reporter_id = t.reporter_id AND a.report_id = t.report_id
					AND a.begins_at = t.begins_at AND a.ends_at = t.ends_at AND a.active
			), 0) END
		FROM tls_reports t
		JOIN domains d ON d.id = t.domain_id
		JOIN reporters r ON r.domain_id = t.domain_id AND r.id = t.reporter_id`

// A tlsLine is a line that selectTLS answers with.
type tlsLine struct {
	position
	dmarc.StoredTLS
}

func scanTLS(row pgx.CollectableRow) (l tlsLine, err error) {
	var hash, policies []byte
	var flags, counting int64
	rep := &l.Report
	if err := row.Scan(&l.domain, &l.id, &l.at, &rep.Period.End, &l.Active, &l.ReceivedAt, &l.Seen, &l.MessageID, &l.Part, &flags, &rep.ID, &rep.Contact, &hash,
		&policies, &rep.Domain, &rep.OrgName, &counting); err != nil {
		return l, err
	}
	var kept []tlsPolicy
	if err := json.Unmarshal(policies, &kept); err != nil {
		return l, err
	}
	for _, p := range kept {
		rep.Policies = append(rep.Policies, dmarc.TLSPolicy{Type: p.Type, Strings: p.Strings, Domain: p.Domain, MXHosts: p.MXHosts,
			Successful: p.Successful, Failed: p.Failed, Details: p.Details})
	}
	l.ID, rep.Flags, rep.Period.Begin = reportKey(l.domain, l.id), dmarc.Flags(flags), l.at
	if counting > 0 {
		l.Counting = reportKey(l.domain, counting)
	}
	copy(rep.Hash[:], hash)
	return l, nil
}
