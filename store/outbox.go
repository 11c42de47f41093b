package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// notificationsKept is how long events and deliveries are kept.
const notificationsKept = "400 days"

// Tell makes the steps of a transition, and keeps the messages that tell of
// them, in one transaction. A step that another process made is left out. It
// returns the events that are new, with their numbers; dmarc.ErrLeaseLost means
// that nothing was kept.
func (s *Store) Tell(ctx context.Context, lease dmarc.Lease, t *dmarc.Transition) ([]dmarc.Event, error) {
	var told []dmarc.Event
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		fresh, err := takeSteps(ctx, tx, s, t.Steps)
		if err != nil {
			return err
		}
		told = told[:0]
		for _, step := range fresh {
			if !step.Quiet {
				told = append(told, step.Event)
			}
		}
		if err := addEvents(ctx, tx, told); err != nil {
			return err
		}
		if len(told) > 0 && t.Compose != nil {
			messages, err := t.Compose(told)
			if err != nil {
				return err
			}
			if err := addDeliveries(ctx, tx, messages); err != nil {
				return err
			}
		}
		if len(t.Forget) > 0 {
			if _, err := tx.Exec(ctx, "DELETE FROM episodes WHERE rule = ANY ($1)", t.Forget); err != nil {
				return err
			}
		}
		if !t.LooksUntil.IsZero() {
			const reach = `
				INSERT INTO progress (name, position)
				VALUES ($1, $2)
				ON CONFLICT (name) DO UPDATE
				SET position = greatest(progress.position, excluded.position), updated_at = now()`
			if _, err := tx.Exec(ctx, reach, looksProgress, t.LooksUntil.UnixMicro()); err != nil {
				return err
			}
		}
		return holds(ctx, tx, lease)
	})
	if err != nil {
		return nil, fmt.Errorf("keeping what is to be told: %w", err)
	}
	return told, nil
}

// episodeKey is what tells episodes apart.
type episodeKey struct {
	rule            dmarc.NotifyRule
	domain, subject string
}

// takeSteps begins and ends episodes and marks changes as told. It returns the
// steps that had not been made yet.
func takeSteps(ctx context.Context, tx pgx.Tx, s *Store, steps []dmarc.Step) ([]dmarc.Step, error) {
	var begin, end struct {
		domains, rules, subjects []string
		began                    []time.Time
		memories                 []string
	}
	changes := make(map[string][]int64)
	for i := range steps {
		step := &steps[i]
		e := &step.Event
		e.Domain, e.Subject, e.Title, e.Text = clean(e.Domain), clean(e.Subject), clean(e.Title), clean(e.Text)
		switch {
		case step.Change != nil:
			changes[step.Change.Domain] = append(changes[step.Change.Domain], step.Change.ID)
		case e.Phase == dmarc.EventBegan:
			memory := step.Episode.Memory
			if memory == nil {
				memory = map[string]string{}
			}
			text, err := json.Marshal(memory)
			if err != nil {
				return nil, err
			}
			begin.domains, begin.rules, begin.subjects = append(begin.domains, e.Domain), append(begin.rules, string(e.Rule)), append(begin.subjects, e.Subject)
			begin.began, begin.memories = append(begin.began, e.At), append(begin.memories, clean(string(text)))
		case e.Phase == dmarc.EventOver:
			end.domains, end.rules, end.subjects = append(end.domains, e.Domain), append(end.rules, string(e.Rule)), append(end.subjects, e.Subject)
		}
	}
	taken := make(map[episodeKey]bool)
	take := func(sql string, args ...any) error {
		var k episodeKey
		rows, _ := tx.Query(ctx, sql, args...)
		_, err := pgx.ForEachRow(rows, []any{&k.rule, &k.domain, &k.subject}, func() error {
			taken[k] = true
			return nil
		})
		return err
	}
	// Ends come first: one thing may end and begin again in other words.
	const ending = `
		DELETE FROM episodes e
		USING unnest($1::text[], $2::text[], $3::text[]) AS w (domain, rule, subject)
		WHERE e.domain = w.domain AND e.rule = w.rule AND e.subject = w.subject
		RETURNING e.rule, e.domain, e.subject`
	const beginning = `
		INSERT INTO episodes (domain, rule, subject, began_at, memory)
		SELECT *
		FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::jsonb[])
		ORDER BY 1, 2, 3
		ON CONFLICT DO NOTHING
		RETURNING rule, domain, subject`
	if len(end.rules) > 0 {
		if err := take(ending, end.domains, end.rules, end.subjects); err != nil {
			return nil, err
		}
	}
	if len(begin.rules) > 0 {
		if err := take(beginning, begin.domains, begin.rules, begin.subjects, begin.began, begin.memories); err != nil {
			return nil, err
		}
	}
	type change struct {
		domain string
		id     int64
	}
	marked := make(map[change]bool)
	for domain, ids := range changes {
		number, err := s.domainID(ctx, domain)
		if err != nil {
			return nil, err
		}
		slices.Sort(ids)
		rows, _ := tx.Query(ctx, "UPDATE published_changes SET told = true WHERE domain_id = $1 AND id = ANY ($2) AND NOT told RETURNING id", number, ids)
		got, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return nil, err
		}
		for _, id := range got {
			marked[change{domain, id}] = true
		}
	}
	var fresh []dmarc.Step
	for _, step := range steps {
		e := &step.Event
		switch {
		case step.Change != nil && !marked[change{step.Change.Domain, step.Change.ID}],
			step.Change == nil && e.Phase != dmarc.EventOnce && !taken[episodeKey{e.Rule, e.Domain, e.Subject}]:
			continue
		}
		fresh = append(fresh, step)
	}
	return fresh, nil
}

// addEvents keeps events and gives them their numbers.
func addEvents(ctx context.Context, tx pgx.Tx, events []dmarc.Event) error {
	if len(events) == 0 {
		return nil
	}
	rows, _ := tx.Query(ctx, "SELECT nextval(pg_get_serial_sequence('events', 'id')) FROM generate_series(1, $1)", len(events))
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	slices.Sort(ids)
	for i := range events {
		events[i].ID = ids[i]
	}
	columns := []string{"id", "at", "rule", "domain", "subject", "phase", "problem", "title", "body"}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"events"}, columns, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
		e := &events[i]
		return []any{e.ID, e.At, string(e.Rule), e.Domain, e.Subject, string(e.Phase), e.Problem, e.Title, e.Text}, nil
	}))
	return err
}

func addDeliveries(ctx context.Context, tx pgx.Tx, messages []dmarc.OutgoingMessage) error {
	for i := range messages {
		m := &messages[i]
		events := m.Events
		if events == nil {
			events = []int64{}
		}
		const sql = `
			INSERT INTO deliveries (key, target, kind, events, body)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (key) DO NOTHING`
		if _, err := tx.Exec(ctx, sql, clean(m.Key), clean(m.Target), m.Kind, events, m.Body); err != nil {
			return err
		}
	}
	return nil
}

// Post keeps messages that tell of no events. One whose key is known is left
// out: it was posted before.
func (s *Store) Post(ctx context.Context, lease dmarc.Lease, messages []dmarc.OutgoingMessage) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := addDeliveries(ctx, tx, messages); err != nil {
			return err
		}
		return holds(ctx, tx, lease)
	})
	if err != nil {
		return fmt.Errorf("posting messages: %w", err)
	}
	return nil
}

// Posted tells whether a message with a key was kept, whatever became of it.
func (s *Store) Posted(ctx context.Context, key string) (bool, error) {
	var known bool
	if err := s.db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM deliveries WHERE key = $1)", clean(key)).Scan(&known); err != nil {
		return false, fmt.Errorf("looking for a message: %w", err)
	}
	return known, nil
}

// ClaimDelivery begins an attempt to deliver the oldest message to a target
// that is due. Nobody else attempts it for a time: who dies in it is replaced
// then. It returns nil if there is none.
func (s *Store) ClaimDelivery(ctx context.Context, target string, hold time.Duration) (*dmarc.OutgoingMessage, error) {
	const sql = `
		UPDATE deliveries
		SET attempts = attempts + 1, next_at = clock_timestamp() + $2::interval
		WHERE id = (
			SELECT id
			FROM deliveries
			WHERE target = $1 AND state = 'waiting' AND next_at <= clock_timestamp()
			ORDER BY id
			LIMIT 1
			FOR UPDATE SKIP LOCKED
		)
		RETURNING id, key, target, kind, body, events, attempts, created_at`
	rows, _ := s.db.Query(ctx, sql, clean(target), hold)
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[dmarc.OutgoingMessage])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("claiming a message to %s: %w", target, err)
	}
	return &m, nil
}

// Delivered keeps that an attempt succeeded.
func (s *Store) Delivered(ctx context.Context, m *dmarc.OutgoingMessage) error {
	const sql = `
		UPDATE deliveries
		SET state = 'sent', error = '', done_at = clock_timestamp()
		WHERE id = $1 AND state <> 'sent'`
	if _, err := s.db.Exec(ctx, sql, m.ID); err != nil {
		return fmt.Errorf("keeping that a message to %s was sent: %w", m.Target, err)
	}
	return nil
}

// NotDelivered keeps that an attempt failed, and when the next is to be made. An
// attempt that somebody else has begun meanwhile is left alone.
func (s *Store) NotDelivered(ctx context.Context, m *dmarc.OutgoingMessage, why string, again time.Duration) error {
	const sql = `
		UPDATE deliveries
		SET error = $3, next_at = clock_timestamp() + $4::interval
		WHERE id = $1 AND attempts = $2 AND state = 'waiting'`
	if _, err := s.db.Exec(ctx, sql, m.ID, m.Attempts, clean(cut(why, 500)), again); err != nil {
		return fmt.Errorf("keeping that a message to %s was not sent: %w", m.Target, err)
	}
	return nil
}

// GiveUp gives up messages that have waited too long and that nobody attempts to
// deliver now, and returns them without their bodies. Old events and
// deliveries are removed.
func (s *Store) GiveUp(ctx context.Context, after time.Duration) ([]dmarc.OutgoingMessage, error) {
	const sql = `
		UPDATE deliveries
		SET state = 'given_up', done_at = clock_timestamp()
		WHERE state = 'waiting' AND created_at < clock_timestamp() - $1::interval AND next_at <= clock_timestamp()
		RETURNING id, key, target, kind, ''::bytea, events, attempts, created_at`
	rows, _ := s.db.Query(ctx, sql, after)
	gone, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.OutgoingMessage])
	if err != nil {
		return nil, fmt.Errorf("giving up messages: %w", err)
	}
	for _, sql := range []string{
		"DELETE FROM events WHERE at < clock_timestamp() - $1::interval",
		"DELETE FROM deliveries WHERE created_at < clock_timestamp() - $1::interval AND state <> 'waiting'",
	} {
		if _, err := s.db.Exec(ctx, sql, notificationsKept); err != nil {
			return gone, fmt.Errorf("removing old notifications: %w", err)
		}
	}
	return gone, nil
}

// WaitingDeliveries counts messages that are not delivered yet.
func (s *Store) WaitingDeliveries(ctx context.Context) (int64, error) {
	var n int64
	if err := s.db.QueryRow(ctx, "SELECT count(*) FROM deliveries WHERE state = 'waiting'").Scan(&n); err != nil {
		return 0, fmt.Errorf("counting messages that wait: %w", err)
	}
	return n, nil
}
