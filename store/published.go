package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// DueDomains returns the domains whose records are to be looked at, those that
// were never looked at first, then those that are due longest.
func (s *Store) DueDomains(ctx context.Context, now time.Time, limit int) ([]string, error) {
	const sql = `
		SELECT d.name
		FROM domains d
		LEFT JOIN looks l ON l.domain_id = d.id
		WHERE d.name <> '' AND NOT d.ignored AND (l.next_at IS NULL OR l.next_at <= $1)
		ORDER BY l.next_at NULLS FIRST, d.id
		LIMIT $2`
	rows, _ := s.db.Query(ctx, sql, now, limit)
	due, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("finding domains to look at: %w", err)
	}
	return due, nil
}

// SaveLook keeps what a look found, and what changed since the one before.
// Records that were not asked for any more are forgotten.
func (s *Store) SaveLook(ctx context.Context, look *records.Look) error {
	id, err := s.domainID(ctx, look.Domain)
	if err != nil {
		return err
	}
	var errorCount, warnings int
	for i := range look.Result.Findings {
		switch look.Result.Findings[i].Severity {
		case records.Error.String():
			errorCount++
		case records.Warning.String():
			warnings++
		}
	}
	text, err1 := json.Marshal(look.Result)
	memory, err2 := json.Marshal(look.Memory)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("look at %s: %w", look.Domain, err)
	}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		const keep = `
			INSERT INTO looks (domain_id, looked_at, next_at, errors, warnings, result, memory)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (domain_id) DO UPDATE
			SET looked_at = excluded.looked_at, next_at = excluded.next_at, errors = excluded.errors,
				warnings = excluded.warnings, result = excluded.result, memory = excluded.memory`
		if _, err := tx.Exec(ctx, keep, id, look.At, look.Next, errorCount, warnings, string(text), string(memory)); err != nil {
			return err
		}
		if err := saveKeys(ctx, tx, id, look); err != nil {
			return err
		}
		if err := saveRecords(ctx, tx, id, look); err != nil {
			return err
		}
		return noteVerdict(ctx, tx, id, false)
	})
	if err != nil {
		return fmt.Errorf("keeping the look at %s: %w", look.Domain, err)
	}
	return nil
}

// saveRecords keeps the records of a look, and notes what changed.
func saveRecords(ctx context.Context, tx pgx.Tx, domain int64, look *records.Look) error {
	type key struct{ name, kind string }
	known := make(map[key][]string)
	rows, _ := tx.Query(ctx, `SELECT name, type, "values" FROM published WHERE domain_id = $1 FOR UPDATE`, domain)
	var k key
	var values []string
	_, err := pgx.ForEachRow(rows, []any{&k.name, &k.kind, &values}, func() error {
		known[k] = slices.Clone(values)
		return nil
	})
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	for _, set := range look.Records {
		k := key{clean(set.Name), set.Type}
		values := make([]string, len(set.Values))
		for i, v := range set.Values {
			values[i] = clean(v)
		}
		before, seen := known[k]
		delete(known, k)
		changed := seen && !slices.Equal(before, values)
		if changed {
			const note = `
				INSERT INTO published_changes (domain_id, seen_at, name, type, before, after)
				VALUES ($1, $2, $3, $4, $5, $6)`
			batch.Queue(note, domain, look.At, k.name, k.kind, before, values)
		}
		const keep = `
			INSERT INTO published AS p (domain_id, name, type, "values", first_seen, last_seen)
			VALUES ($1, $2, $3, $4, $5, $5)
			ON CONFLICT (domain_id, name, type) DO UPDATE
			SET first_seen = CASE WHEN p."values" = excluded."values" THEN p.first_seen ELSE excluded.first_seen END,
				"values" = excluded."values", last_seen = excluded.last_seen`
		batch.Queue(keep, domain, k.name, k.kind, values, look.At)
	}
	// What failed to be looked up stays as it was seen last.
	for k := range known {
		if !look.Failed {
			batch.Queue("DELETE FROM published WHERE domain_id = $1 AND name = $2 AND type = $3", domain, k.name, k.kind)
		}
	}
	return tx.SendBatch(ctx, batch).Close()
}

// saveKeys keeps the DKIM keys of a look.
func saveKeys(ctx context.Context, tx pgx.Tx, domain int64, look *records.Look) error {
	batch := &pgx.Batch{}
	names := []string{} // that were looked at
	for _, name := range slices.Sorted(maps.Keys(look.Keys)) {
		names = append(names, clean(name))
		if look.Keys[name] == "" {
			batch.Queue("DELETE FROM dkim_keys WHERE domain_id = $1 AND name = $2", domain, clean(name))
			continue
		}
		const keep = `
			INSERT INTO dkim_keys (domain_id, name, fingerprint)
			VALUES ($1, $2, $3)
			ON CONFLICT (domain_id, name) DO UPDATE SET fingerprint = excluded.fingerprint`
		batch.Queue(keep, domain, clean(name), look.Keys[name])
	}
	if !look.Failed { // what failed to be looked up stays
		batch.Queue("DELETE FROM dkim_keys WHERE domain_id = $1 AND name <> ALL ($2)", domain, names)
	}
	return tx.SendBatch(ctx, batch).Close()
}

// namesOfKeys bounds how many names of the keys of one domain are told.
const namesOfKeys = 200

// KeyNames returns the names under which DKIM keys were seen in the last looks
// at all domains, by fingerprint of the key.
func (s *Store) KeyNames(ctx context.Context, fingerprints []string) (map[string][]string, error) {
	const sql = `
		SELECT DISTINCT fingerprint, name
		FROM dkim_keys
		WHERE fingerprint = ANY ($1)
		ORDER BY fingerprint, name
		LIMIT $2`
	rows, _ := s.db.Query(ctx, sql, fingerprints, namesOfKeys)
	names := make(map[string][]string)
	var fingerprint, name string
	_, err := pgx.ForEachRow(rows, []any{&fingerprint, &name}, func() error {
		names[fingerprint] = append(names[fingerprint], name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("finding the names of keys: %w", err)
	}
	return names, nil
}

// LookMemory returns what the last look at a domain left for the next; nothing
// if there was none.
func (s *Store) LookMemory(ctx context.Context, domain string) (*records.Memory, error) {
	m := new(records.Memory)
	if err := s.ofLook(ctx, "memory", domain, m); err != nil && !errors.Is(err, dmarc.ErrNotFound) {
		return nil, fmt.Errorf("memory of the look at %q: %w", domain, err)
	}
	return m, nil
}

// Look returns the last look at a domain as JSON, in the form of
// records.Result; dmarc.ErrNotFound if there was none yet.
func (s *Store) Look(ctx context.Context, domain string) (*records.Result, error) {
	r := new(records.Result)
	if err := s.ofLook(ctx, "result", domain, r); err != nil {
		return nil, fmt.Errorf("look at %q: %w", domain, err)
	}
	return r, nil
}

// ofLook reads a column of the last look at a domain from JSON; dmarc.ErrNotFound if there was
// none.
func (s *Store) ofLook(ctx context.Context, column, domain string, into any) error {
	sql := `
		SELECT l.` + column + `
		FROM looks l
		JOIN domains d ON d.id = l.domain_id
		WHERE d.name = $1`
	var text []byte
	err := s.db.QueryRow(ctx, sql, clean(domain)).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return dmarc.ErrNotFound
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// RecordChanges returns how the records of a domain changed, latest first.
func (s *Store) RecordChanges(ctx context.Context, domain string, q dmarc.ChangeQuery) ([]dmarc.RecordChange, dmarc.Cursor, error) {
	id, err := s.domainID(ctx, domain)
	if err != nil {
		return nil, "", err
	}
	up, err := ascending(q.Sort, "seen_at")
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"domain": id, "limit": q.Limit + 1}
	behind, err := afterOf(q.After, "id", up, args)
	if err != nil {
		return nil, "", err
	}
	sql := `
		SELECT id, seen_at, name, type, before, after
		FROM published_changes
		WHERE domain_id = @domain AND ` + behind + during(q.Period, "seen_at", args) + `
		ORDER BY id` + direction(up) + `
		LIMIT @limit`
	type line struct {
		dmarc.RecordChange
		id int64
	}
	rows, _ := s.db.Query(ctx, sql, args)
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
		err = row.Scan(&l.id, &l.SeenAt, &l.Name, &l.Type, &l.Before, &l.After)
		return l, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("changes of the records of %s: %w", domain, err)
	}
	return pageOf(lines, q.Limit, func(l line) dmarc.RecordChange { return l.RecordChange },
		func(l line) dmarc.Cursor { return numberCursor(l.id) })
}

// Unchanged returns since when each set of records of a domain has been seen
// as it is, by name and type: "s1._domainkey.example.com TXT".
func (s *Store) Unchanged(ctx context.Context, domain string) (map[string]time.Time, error) {
	id, err := s.domainID(ctx, domain)
	if err != nil {
		return nil, err
	}
	rows, _ := s.db.Query(ctx, "SELECT name || ' ' || type, first_seen FROM published WHERE domain_id = $1", id)
	since := make(map[string]time.Time)
	var name string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&name, &at}, func() error {
		since[name] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("records of %s: %w", domain, err)
	}
	return since, nil
}
