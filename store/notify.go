package store

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// How far rules look back. A source that was silent for longer is new again.
const (
	developmentDays = 97
	weekDays        = 7
	recentDays      = 3
	beforeDays      = 28
)

// ActiveDomains returns the domains with reports about days since the given one.
func (s *Store) ActiveDomains(ctx context.Context, since time.Time) ([]string, error) {
	const sql = `
		SELECT d.name
		FROM domains d
		WHERE d.name <> '' AND NOT d.ignored AND d.id IN (SELECT domain_id FROM domain_days WHERE day >= $1)
		ORDER BY d.name`
	rows, _ := s.db.Query(ctx, sql, since)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("finding domains with reports: %w", err)
	}
	return names, nil
}

// Developments returns what sources and reporters of a domain did lately, as
// seen on a day. Of the sources, those with at least some messages in the last week
// or in the weeks before are named, and only those that are kept by name.
func (s *Store) Developments(ctx context.Context, domain string, today time.Time, least int64) (*dmarc.Developments, error) {
	id, err := s.domainID(ctx, domain)
	if err != nil {
		return nil, err
	}
	d := &dmarc.Developments{Domain: domain}
	if err := s.db.QueryRow(ctx, "SELECT coalesce(min(day), $2) FROM domain_days WHERE domain_id = $1 AND dated", id, today).Scan(&d.First); err != nil {
		return nil, fmt.Errorf("developments of %s: %w", domain, err)
	}
	args := pgx.NamedArgs{
		"domain": id, "end": today.AddDate(0, 0, 1), "begin": today.AddDate(0, 0, -developmentDays), "least": least,
		"week": today.AddDate(0, 0, -weekDays), "recent": today.AddDate(0, 0, -recentDays), "before": today.AddDate(0, 0, -recentDays-beforeDays),
	}
	const sources = `
		SELECT source, first, week, week_passed, recent, recent_passed, before, before_passed
		FROM (
			SELECT source, min(day) AS first,
				coalesce(sum(messages) FILTER (WHERE day >= @week), 0)::bigint AS week,
				coalesce(sum(dmarc_pass) FILTER (WHERE day >= @week), 0)::bigint AS week_passed,
				coalesce(sum(messages) FILTER (WHERE day >= @recent), 0)::bigint AS recent,
				coalesce(sum(dmarc_pass) FILTER (WHERE day >= @recent), 0)::bigint AS recent_passed,
				coalesce(sum(messages) FILTER (WHERE day >= @before AND day < @recent), 0)::bigint AS before,
				coalesce(sum(dmarc_pass) FILTER (WHERE day >= @before AND day < @recent), 0)::bigint AS before_passed
			FROM source_days
			WHERE domain_id = @domain AND day >= @begin AND day < @end AND dated AND kind = 0
			GROUP BY source
		) AS sums
		WHERE week >= @least OR before >= @least
		ORDER BY week DESC, source`
	rows, _ := s.db.Query(ctx, sources, args)
	d.Sources, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l dmarc.SourceDevelopment, err error) {
		var source netip.Prefix
		err = row.Scan(&source, &l.First, &l.Week.Messages, &l.Week.Passed, &l.Recent.Messages, &l.Recent.Passed, &l.Before.Messages, &l.Before.Passed)
		l.Source = source.Addr()
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("what the sources of %s did: %w", domain, err)
	}
	if d.Sources, err = s.classed(ctx, domain, d.Sources); err != nil {
		return nil, err
	}
	const reporters = `
		SELECT r.org_name, l.last,
			(SELECT count(DISTINCT day) FROM reporter_days
			WHERE domain_id = @domain AND reporter_id = l.reporter_id AND dated AND day > l.last - 28 AND day <= l.last)
		FROM (
			SELECT reporter_id, max(day) AS last
			FROM reporter_days
			WHERE domain_id = @domain AND day >= @begin AND day < @end AND dated
			GROUP BY reporter_id
		) AS l
		JOIN reporters r ON r.domain_id = @domain AND r.id = l.reporter_id
		ORDER BY r.org_name, l.reporter_id`
	rows, _ = s.db.Query(ctx, reporters, args)
	d.Reporters, err = pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.ReporterDevelopment])
	if err != nil {
		return nil, fmt.Errorf("what the reporters of %s did: %w", domain, err)
	}
	// One reporter may write from several addresses.
	merged := d.Reporters[:0]
	for _, r := range d.Reporters {
		if n := len(merged); n == 0 || merged[n-1].Name != r.Name {
			merged = append(merged, r)
		} else if r.Last.After(merged[n-1].Last) {
			merged[n-1].Last, merged[n-1].Days = r.Last, max(r.Days, merged[n-1].Days)
		}
	}
	d.Reporters = merged
	return d, nil
}

// classed fills in how sources are classed. A network stands for its addresses.
func (s *Store) classed(ctx context.Context, domain string, list []dmarc.SourceDevelopment) ([]dmarc.SourceDevelopment, error) {
	if len(list) == 0 {
		return list, nil
	}
	classes, err := s.SourceClasses(ctx, domain)
	if err != nil {
		return nil, err
	}
	single := make(map[netip.Addr]dmarc.Class)
	var networks []dmarc.SourceClass
	for _, c := range classes {
		if c.Source.IsSingleIP() {
			single[c.Source.Addr()] = c.Class
		} else {
			networks = append(networks, c)
		}
	}
	for i := range list {
		class, known := single[list[i].Source]
		for j := 0; j < len(networks) && !known; j++ {
			if networks[j].Source.Contains(list[i].Source) {
				class, known = networks[j].Class, true
			}
		}
		list[i].Class = class
	}
	return list, nil
}

// looksProgress is the name under which it is kept how far looks are judged.
const looksProgress = "notify looks"

// LookDevelopments returns what was seen of records since looks were judged
// last, oldest first.
func (s *Store) LookDevelopments(ctx context.Context) ([]dmarc.LookDevelopment, error) {
	// A look that is committed a little late must not be passed by; one that is
	// judged twice does no harm.
	const sql = `
		SELECT d.name, l.looked_at,
			CASE json_typeof(l.result->'lookup_failed') WHEN 'array' THEN json_array_length(l.result->'lookup_failed') > 0 ELSE false END,
			coalesce((l.result->'records'->'spf'->>'lookups')::int, -1),
			(SELECT coalesce(json_agg(json_build_object('Check', f->>'id', 'Subject', f->>'subject', 'What', f->>'what', 'Fix', f->>'fix')), '[]')
			FROM json_array_elements(CASE json_typeof(l.result->'findings') WHEN 'array' THEN l.result->'findings' ELSE '[]' END) AS f
			WHERE f->>'severity' = 'error')
		FROM looks l
		JOIN domains d ON d.id = l.domain_id
		WHERE NOT d.ignored AND l.looked_at > coalesce((SELECT to_timestamp(position / 1e6) FROM progress WHERE name = $1), '-infinity') - interval '10 minutes'
		ORDER BY l.looked_at`
	rows, _ := s.db.Query(ctx, sql, looksProgress)
	looks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l dmarc.LookDevelopment, err error) {
		var text []byte
		if err = row.Scan(&l.Domain, &l.At, &l.Failed, &l.Lookups, &text); err != nil {
			return l, err
		}
		return l, json.Unmarshal(text, &l.Errors)
	})
	if err != nil {
		return nil, fmt.Errorf("reading looks at records: %w", err)
	}
	return looks, nil
}

// ChangedRecords returns changes of records that nobody was told of, in order
// of time.
func (s *Store) ChangedRecords(ctx context.Context, limit int) ([]dmarc.ChangedRecord, error) {
	const sql = `
		SELECT d.name, c.id, c.seen_at, c.name, c.type, c.before, c.after
		FROM published_changes c
		JOIN domains d ON d.id = c.domain_id
		WHERE NOT c.told AND NOT d.ignored
		ORDER BY c.seen_at, c.domain_id, c.id
		LIMIT $1`
	rows, _ := s.db.Query(ctx, sql, limit)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c dmarc.ChangedRecord, err error) {
		err = row.Scan(&c.Domain, &c.ID, &c.SeenAt, &c.Name, &c.Type, &c.Before, &c.After)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading changes of records: %w", err)
	}
	return list, nil
}

// refused is a condition for messages that may hold a report and were not read. It
// is that of an index.
const refused = `outcome NOT IN ('ok', 'ok_with_flags', 'duplicate', 'conflict', 'not_kept', 'not_a_report', 'empty_report', 'complaint')`

// Refused counts the messages that were taken in since a time and could not be
// read, by outcome.
func (s *Store) Refused(ctx context.Context, since time.Time) (map[dmarc.Outcome]int64, error) {
	const sql = `
		SELECT outcome, count(*)
		FROM messages
		WHERE received_at >= $1 AND ` + refused + `
		GROUP BY outcome`
	counts := make(map[dmarc.Outcome]int64)
	rows, _ := s.db.Query(ctx, sql, since)
	var outcome dmarc.Outcome
	var n int64
	_, err := pgx.ForEachRow(rows, []any{&outcome, &n}, func() error {
		counts[outcome] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting refused messages: %w", err)
	}
	return counts, nil
}

// cut shortens a text to n bytes, on a letter.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && text[n]&0xc0 == 0x80 {
		n--
	}
	return text[:n]
}

// Episodes returns what rules have told of and is not over.
func (s *Store) Episodes(ctx context.Context) ([]dmarc.Episode, error) {
	rows, _ := s.db.Query(ctx, "SELECT rule, domain, subject, began_at, memory FROM episodes ORDER BY domain, rule, subject")
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.Episode])
	if err != nil {
		return nil, fmt.Errorf("reading episodes: %w", err)
	}
	return list, nil
}

// Notifications returns what people were told, latest first, and what became
// of telling it.
func (s *Store) Notifications(ctx context.Context, q dmarc.NotificationQuery) ([]dmarc.Notification, dmarc.Cursor, error) {
	up, err := ascending(q.Sort, "at")
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"limit": q.Limit + 1}
	where, err := afterOf(q.After, "id", up, args)
	if err != nil {
		return nil, "", err
	}
	if q.Domain != "" {
		args["domain"] = clean(q.Domain)
		if q.Subdomains {
			where += " AND (domain = @domain OR right(domain, length(@domain) + 1) = '.' || @domain)"
		} else {
			where += " AND domain = @domain"
		}
	} else {
		where += " AND domain NOT IN (SELECT name FROM domains WHERE ignored)"
	}
	if !q.Scope.All() {
		if args["within"], err = s.domainsIn(ctx, q.Scope); err != nil {
			return nil, "", err
		}
		where += " AND domain IN (SELECT name FROM domains WHERE id = ANY (@within::bigint[]))"
	}
	if q.Rule != "" {
		where, args["rule"] = where+" AND rule = @rule", clean(string(q.Rule))
	}
	if q.Phase != "" {
		where, args["phase"] = where+" AND phase = @phase", clean(q.Phase)
	}
	if q.Problem != dmarc.Either {
		where, args["problem"] = where+" AND problem = @problem", q.Problem == dmarc.Yes
	}
	sql := `
		SELECT id, at, rule, domain, subject, phase, problem, title, body
		FROM events
		WHERE ` + where + during(q.Period, "at", args) + `
		ORDER BY id` + direction(up) + `
		LIMIT @limit`
	rows, _ := s.db.Query(ctx, sql, args)
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.Event])
	if err != nil {
		return nil, "", fmt.Errorf("listing notifications: %w", err)
	}
	list, next, err := pageOf(events, q.Limit, func(e dmarc.Event) dmarc.Notification {
		return dmarc.Notification{Event: e, Deliveries: []dmarc.DeliveryStatus{}}
	}, func(e dmarc.Event) dmarc.Cursor { return numberCursor(e.ID) })
	if err != nil || len(list) == 0 {
		return list, next, err
	}
	ids := make([]int64, len(list))
	at := make(map[int64]*dmarc.Notification, len(list))
	for i := range list {
		ids[i], at[list[i].ID] = list[i].ID, &list[i]
	}
	const deliveries = `
		SELECT events, target, state, attempts, error, next_at, done_at
		FROM deliveries
		WHERE events && $1
		ORDER BY id`
	rows, _ = s.db.Query(ctx, deliveries, ids)
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
		var of []int64
		var d dmarc.DeliveryStatus
		var next time.Time
		var done *time.Time
		if err := row.Scan(&of, &d.Target, &d.State, &d.Attempts, &d.Error, &next, &done); err != nil {
			return none, err
		}
		if d.State == dmarc.DeliveryWaiting {
			d.NextAt = next
		}
		if done != nil {
			d.DoneAt = *done
		}
		for _, id := range of {
			if n := at[id]; n != nil {
				n.Deliveries = append(n.Deliveries, d)
			}
		}
		return none, nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing deliveries: %w", err)
	}
	return list, next, nil
}

// eventsAtMost bounds how many events are read at once.
const eventsAtMost = 5000

// EventsIn returns what happened from one time to another, not included, to the
// domains of a scope, in order.
func (s *Store) EventsIn(ctx context.Context, begin, end time.Time, scope dmarc.Scope) ([]dmarc.Event, error) {
	var within []int64
	if !scope.All() {
		ids, err := s.domainsIn(ctx, scope)
		if err != nil {
			return nil, err
		}
		within = append([]int64{}, ids...)
	}
	const sql = `
		SELECT id, at, rule, domain, subject, phase, problem, title, body
		FROM events
		WHERE at >= $1 AND at < $2 AND ($3::bigint[] IS NULL OR domain IN (SELECT name FROM domains WHERE id = ANY ($3)))
			AND domain NOT IN (SELECT name FROM domains WHERE ignored)
		ORDER BY id
		LIMIT $4`
	rows, _ := s.db.Query(ctx, sql, begin, end, within, eventsAtMost)
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.Event])
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	return events, nil
}
