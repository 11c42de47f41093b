package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// How many kinds of failures and of policies TLSTraffic tells apart.
const (
	tlsFailuresShown = 100
	tlsPoliciesShown = 50
)

// tlsInScope is a condition that holds the policies of TLS reports to those of no
// domain, or of the domains named and those below them.
const tlsInScope = `(coalesce(p.policy->>'domain', '') = '' OR EXISTS (
					SELECT FROM unnest(@names::text[]) AS n (name)
					WHERE p.policy->>'domain' = n.name OR right(p.policy->>'domain', length(n.name) + 1) = '.' || n.name))`

// TLSTraffic returns how sessions with the mail servers of a domain fared.
// Policies of domains beyond the scope are left out.
func (s *Store) TLSTraffic(ctx context.Context, q dmarc.TLSQuery) (dmarc.TLSTraffic, error) {
	var t dmarc.TLSTraffic
	id, err := s.domainID(ctx, q.Domain)
	if errors.Is(err, dmarc.ErrNotFound) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	args := pgx.NamedArgs{"domain": id, "begin": q.Period.Begin, "end": q.Period.End, "results": dmarc.TLSResults,
		"all": q.Scope.All(), "names": q.Scope.Domains(), "most": tlsFailuresShown, "policies": tlsPoliciesShown}
	// A line for each policy of each report that counts.
	const policies = `
		WITH policies AS (
			SELECT t.id, t.reporter_id, (t.begins_at AT TIME ZONE 'UTC')::date AS day, t.begins_at,
				coalesce(p.policy->>'type', '') AS type, coalesce(p.policy->>'domain', '') AS domain, p.policy->'strings' AS strings,
				(p.policy->>'successful')::bigint AS successful, (p.policy->>'failed')::bigint AS failed,
				coalesce(p.policy->'details', '[]') AS details
			FROM tls_reports t
			CROSS JOIN LATERAL jsonb_array_elements(t.policies) AS p (policy)
			WHERE t.domain_id = @domain AND t.active AND t.begins_at >= @begin AND t.begins_at < @end
				AND (@all OR ` + tlsInScope + `)
		), failures AS (
			SELECT p.id, p.reporter_id, p.day, coalesce(f.detail->>'ResultType', '') AS result, coalesce(f.detail->>'ReceivingMXHost', '') AS mx,
				(f.detail->>'FailedSessions')::bigint AS sessions,
				coalesce(nullif(f.detail->>'FailureReasonCode', ''), f.detail->>'AdditionalInfo', '') AS reason
			FROM policies p
			CROSS JOIN LATERAL jsonb_array_elements(p.details) AS f (detail)
		)`
	const days = policies + `, by_result AS (
			SELECT day, result, sum(sessions)::bigint AS sessions
			FROM (SELECT day, CASE WHEN result = ANY (@results::text[]) THEN result ELSE '' END AS result, sessions FROM failures) AS known
			GROUP BY day, result
		)
		SELECT d.day, d.successful, d.failed, d.reports,
			coalesce((SELECT jsonb_object_agg(r.result, r.sessions) FROM by_result r WHERE r.day = d.day), '{}')
		FROM (
			SELECT day, sum(successful)::bigint AS successful, sum(failed)::bigint AS failed, count(DISTINCT id) AS reports
			FROM policies
			GROUP BY day
		) AS d
		ORDER BY d.day`
	rows, _ := s.db.Query(ctx, days, args)
	var explained int64
	t.Days, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d dmarc.TLSDay, err error) {
		var reports int64
		var byResult []byte
		if err := row.Scan(&d.Day, &d.Successful, &d.Failed, &reports, &byResult); err != nil {
			return d, err
		}
		t.Reports += reports
		t.Successful += d.Successful
		t.Failed += d.Failed
		if err := json.Unmarshal(byResult, &d.ByResult); err != nil {
			return d, err
		}
		told := int64(0)
		for _, n := range d.ByResult {
			told += n
		}
		explained += min(told, d.Failed)
		return d, nil
	})
	if err != nil {
		return t, fmt.Errorf("TLS sessions of %s by day: %w", q.Domain, err)
	}
	t.Unexplained = t.Failed - explained
	rows, _ = s.db.Query(ctx, policies+`
		SELECT type, domain, coalesce((array_agg(strings ORDER BY begins_at DESC, id DESC))[1], '[]'), sum(successful)::bigint, sum(failed)::bigint,
			count(DISTINCT id), max(day)
		FROM policies
		GROUP BY type, domain
		ORDER BY sum(successful) + sum(failed) DESC, type, domain
		LIMIT @policies`, args)
	t.Policies, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p dmarc.TLSPolicyTraffic, err error) {
		var text []byte
		if err := row.Scan(&p.Type, &p.Domain, &text, &p.Successful, &p.Failed, &p.Reports, &p.LastDay); err != nil {
			return p, err
		}
		return p, json.Unmarshal(text, &p.Strings)
	})
	if err != nil {
		return t, fmt.Errorf("TLS policies of %s: %w", q.Domain, err)
	}
	rows, _ = s.db.Query(ctx, policies+`, sums AS (
			SELECT result, mx, sum(sessions)::bigint AS sessions, count(DISTINCT reporter_id) AS reporters, min(day) AS first, max(day) AS last,
				coalesce((array_agg(reason ORDER BY day DESC, id DESC) FILTER (WHERE reason <> ''))[1], '') AS reason
			FROM failures
			GROUP BY result, mx
		)
		SELECT *, sum(sessions) OVER ()::bigint
		FROM sums
		ORDER BY sessions DESC, result, mx
		LIMIT @most`, args)
	t.Failures, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f dmarc.TLSFailureTraffic, err error) {
		err = row.Scan(&f.ResultType, &f.MX, &f.Sessions, &f.Reporters, &f.FirstDay, &f.LastDay, &f.Reason, &t.Others)
		return f, err
	})
	if err != nil {
		return t, fmt.Errorf("TLS failures of %s: %w", q.Domain, err)
	}
	for i := range t.Failures { // Others were all until now
		t.Others -= t.Failures[i].Sessions
	}
	return t, nil
}

// TLSDomains returns the domains that TLS reports of a period are about, those
// with most failed sessions first.
func (s *Store) TLSDomains(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.TLSDomain, dmarc.Cursor, error) {
	failed, name, err := afterBusiest(q.After)
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"begin": q.Period.Begin, "end": q.Period.End, "limit": q.Limit + 1, "failed": failed, "name": name}
	if q.After == "" {
		args["failed"] = int64(math.MaxInt64)
	}
	within, err := s.within(ctx, q.Scope, "t.domain_id", args)
	if err != nil {
		return nil, "", err
	}
	// A report may have policies of domains beyond a scope; its own sums do for
	// whoever may know of all.
	counts := "SELECT t.successful, t.failed"
	if !q.Scope.All() {
		args["names"] = q.Scope.Domains()
		counts = `
				SELECT coalesce(sum((p.policy->>'successful')::bigint), 0)::bigint AS successful, coalesce(sum((p.policy->>'failed')::bigint), 0)::bigint AS failed
				FROM jsonb_array_elements(t.policies) AS p (policy)
				WHERE ` + tlsInScope
	}
	sql := `
		SELECT d.name, s.reports, s.successful, s.failed, s.last
		FROM (
			SELECT t.domain_id, count(*) AS reports, sum(c.successful)::bigint AS successful, sum(c.failed)::bigint AS failed, max(t.begins_at) AS last
			FROM tls_reports t
			CROSS JOIN LATERAL (` + counts + `) AS c
			WHERE t.active AND t.begins_at >= @begin AND t.begins_at < @end` + within + `
			GROUP BY t.domain_id
		) AS s
		JOIN domains d ON d.id = s.domain_id AND NOT d.ignored
		WHERE (s.failed < @failed OR s.failed = @failed AND d.name > @name)
		ORDER BY s.failed DESC, d.name
		LIMIT @limit`
	rows, _ := s.db.Query(ctx, sql, args)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d dmarc.TLSDomain, err error) {
		err = row.Scan(&d.Domain, &d.Reports, &d.Successful, &d.Failed, &d.LastDay)
		d.LastDay = d.LastDay.UTC().Truncate(24 * time.Hour)
		return d, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing domains with TLS reports: %w", err)
	}
	return pageOf(list, q.Limit, func(d dmarc.TLSDomain) dmarc.TLSDomain { return d },
		func(d dmarc.TLSDomain) dmarc.Cursor { return busiestCursor(d.Failed, d.Domain) })
}
