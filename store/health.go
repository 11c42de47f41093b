package store

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// longestError bounds the text of an error that is kept.
const longestError = 500

// errorText is the text of an error to be kept, "" for none.
func errorText(failure error) string {
	if failure == nil {
		return ""
	}
	return cmp.Or(clean(cut(failure.Error(), longestError)), "it failed")
}

// MailboxTried keeps how a try to read a mailbox went, and what to do about its
// failure, if that is known.
func (s *Store) MailboxTried(ctx context.Context, mailbox string, at time.Time, took time.Duration, failure error, fix string) error {
	const sql = `
		INSERT INTO mailbox_health AS h (mailbox, ok_at, failing_since, error, fix, failures, took_ms, seen_at)
		VALUES (@mailbox, CASE WHEN @error = '' THEN @at::timestamptz END, CASE WHEN @error <> '' THEN @at::timestamptz END, @error, @fix, (@error <> '')::int, @took, @at)
		ON CONFLICT (mailbox) DO UPDATE
		SET ok_at = coalesce(excluded.ok_at, h.ok_at),
			failing_since = CASE WHEN @error <> '' THEN coalesce(h.failing_since, excluded.failing_since) END,
			error = excluded.error, fix = excluded.fix, failures = h.failures + excluded.failures, took_ms = excluded.took_ms, seen_at = excluded.seen_at`
	_, err := s.db.Exec(ctx, sql, pgx.NamedArgs{
		"mailbox": clean(mailbox), "at": at, "error": errorText(failure), "fix": clean(cut(fix, longestError)), "took": took.Milliseconds(),
	})
	if err != nil {
		return fmt.Errorf("keeping how mailbox %s is: %w", mailbox, err)
	}
	return nil
}

// MailboxBacklog keeps how many messages wait in a mailbox, and when the oldest of
// them came; the zero time if that is not known.
func (s *Store) MailboxBacklog(ctx context.Context, mailbox string, waiting int, oldest, at time.Time) error {
	const sql = `
		INSERT INTO mailbox_health (mailbox, error, waiting, oldest_at, seen_at)
		VALUES ($1, '', $2, $3, $4)
		ON CONFLICT (mailbox) DO UPDATE
		SET waiting = excluded.waiting, oldest_at = excluded.oldest_at`
	if _, err := s.db.Exec(ctx, sql, clean(mailbox), waiting, timeOrNull(oldest), at); err != nil {
		return fmt.Errorf("keeping what waits in mailbox %s: %w", mailbox, err)
	}
	return nil
}

// MailboxHealth returns how reading each mailbox goes.
func (s *Store) MailboxHealth(ctx context.Context) ([]dmarc.MailboxHealth, error) {
	const sql = `
		SELECT mailbox, ok_at, failing_since, error, fix, failures, took_ms, waiting, oldest_at, seen_at
		FROM mailbox_health
		ORDER BY mailbox`
	rows, _ := s.db.Query(ctx, sql)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h dmarc.MailboxHealth, err error) {
		var ok, failing, oldest *time.Time
		var took int64
		err = row.Scan(&h.Mailbox, &ok, &failing, &h.Error, &h.Fix, &h.Failures, &took, &h.Waiting, &oldest, &h.Seen)
		h.OK, h.Failing, h.Oldest, h.Took = orZero(ok), orZero(failing), orZero(oldest), time.Duration(took)*time.Millisecond
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading how mailboxes are: %w", err)
	}
	return list, nil
}

// PassTried keeps how a pass went, and how many tries before it failed that were
// not kept each for itself.
func (s *Store) PassTried(ctx context.Context, name string, at time.Time, took time.Duration, failure error, failures int64) error {
	const sql = `
		INSERT INTO pass_health AS h (name, ok_at, failing_since, error, failures, took_ms, seen_at)
		VALUES (@name, CASE WHEN @error = '' THEN @at::timestamptz END, CASE WHEN @error <> '' THEN @at::timestamptz END, @error, @failures, @took, @at)
		ON CONFLICT (name) DO UPDATE
		SET ok_at = coalesce(excluded.ok_at, h.ok_at),
			failing_since = CASE WHEN @error <> '' THEN coalesce(h.failing_since, excluded.failing_since) END,
			error = excluded.error, failures = h.failures + excluded.failures, took_ms = excluded.took_ms, seen_at = excluded.seen_at`
	_, err := s.db.Exec(ctx, sql, pgx.NamedArgs{
		"name": clean(name), "at": at, "error": errorText(failure), "failures": failures, "took": took.Milliseconds(),
	})
	if err != nil {
		return fmt.Errorf("keeping how pass %s went: %w", name, err)
	}
	return nil
}

// PassHealth returns how each pass goes that was ever made, by name.
func (s *Store) PassHealth(ctx context.Context) ([]dmarc.PassHealth, error) {
	const sql = `
		SELECT name, ok_at, failing_since, error, failures, took_ms, seen_at
		FROM pass_health
		ORDER BY name`
	rows, _ := s.db.Query(ctx, sql)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h dmarc.PassHealth, err error) {
		var ok, failing *time.Time
		var took int64
		err = row.Scan(&h.Name, &ok, &failing, &h.Error, &h.Failures, &took, &h.Seen)
		h.OK, h.Failing, h.Took = orZero(ok), orZero(failing), time.Duration(took)*time.Millisecond
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading how passes go: %w", err)
	}
	return list, nil
}

// Leases returns who works on what now, by name.
func (s *Store) Leases(ctx context.Context) ([]dmarc.LeaseHolder, error) {
	const sql = `
		SELECT name, holder
		FROM leases
		WHERE expires_at > clock_timestamp()
		ORDER BY name`
	rows, _ := s.db.Query(ctx, sql)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.LeaseHolder])
	if err != nil {
		return nil, fmt.Errorf("reading leases: %w", err)
	}
	return list, nil
}

// Newest returns what is there now. It costs the same however much that is.
func (s *Store) Newest(ctx context.Context) (n dmarc.Newest, err error) {
	const sql = `
		SELECT (SELECT coalesce(max(id), 0) FROM messages), (SELECT coalesce(max(id), 0) FROM events),
			(SELECT count(*) FROM mailbox_health WHERE failing_since IS NOT NULL) + (SELECT count(*) FROM pass_health WHERE failing_since IS NOT NULL)`
	if err := s.db.QueryRow(ctx, sql).Scan(&n.Messages, &n.Events, &n.Failing); err != nil {
		return n, fmt.Errorf("looking for what is new: %w", err)
	}
	return n, nil
}

// RuleSwitches returns the rules that somebody switched.
func (s *Store) RuleSwitches(ctx context.Context) ([]dmarc.RuleSwitch, error) {
	rows, _ := s.db.Query(ctx, "SELECT rule, enabled, said_by, said_at FROM rule_switches ORDER BY rule")
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.RuleSwitch])
	if err != nil {
		return nil, fmt.Errorf("reading which rules are switched: %w", err)
	}
	return list, nil
}

// SwitchRule keeps what somebody said about a rule.
func (s *Store) SwitchRule(ctx context.Context, r dmarc.RuleSwitch) error {
	const sql = `
		INSERT INTO rule_switches (rule, enabled, said_by, said_at)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (rule) DO UPDATE
		SET enabled = excluded.enabled, said_by = excluded.said_by, said_at = excluded.said_at`
	if _, err := s.db.Exec(ctx, sql, string(r.Rule), r.On, clean(r.By), r.At); err != nil {
		return fmt.Errorf("switching rule %s: %w", r.Rule, err)
	}
	return nil
}
