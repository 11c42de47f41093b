package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dmarcd/dmarcd/dmarc"
)

const selectToken = `
	SELECT id, name, roles, everything, domains, groups, created_at, expires_at, revoked_at, used_at
	FROM tokens`

func scanToken(row pgx.CollectableRow) (t dmarc.Token, err error) {
	var roles, domains []string
	var everything bool
	var expires, revoked, used *time.Time
	if err := row.Scan(&t.ID, &t.Name, &roles, &everything, &domains, &t.Groups, &t.Created, &expires, &revoked, &used); err != nil {
		return t, err
	}
	for _, r := range roles {
		t.Roles = append(t.Roles, dmarc.Role(r))
	}
	if t.Scope = dmarc.ScopeOf(domains...); everything {
		t.Scope = dmarc.Everything
	}
	if len(t.Groups) == 0 {
		t.Groups = nil
	}
	t.Expires, t.Revoked, t.Used = orZero(expires), orZero(revoked), orZero(used)
	return t, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// AddToken keeps a token by the digest of its secret. A dmarc.Refusal says
// that another good one has its name.
func (s *Store) AddToken(ctx context.Context, digest dmarc.Digest, t dmarc.Token) (dmarc.Token, error) {
	const sql = `
		INSERT INTO tokens (digest, name, roles, everything, domains, groups, created_at, expires_at)
		VALUES (@digest, @name, @roles, @everything, @domains, @groups, @created, @expires)
		RETURNING id`
	roles := make([]string, len(t.Roles))
	for i, r := range t.Roles {
		roles[i] = string(r)
	}
	domains := append([]string{}, t.Scope.Domains()...)
	err := s.db.QueryRow(ctx, sql, pgx.NamedArgs{
		"digest": digest[:], "name": clean(t.Name), "roles": roles, "everything": t.Scope.All(), "domains": domains, "groups": append([]string{}, t.Groups...),
		"created": t.Created, "expires": timeOrNull(t.Expires),
	}).Scan(&t.ID)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.ConstraintName == "tokens_name" {
		return t, dmarc.Refusal(fmt.Sprintf("there is a token %q already: revoke it, or choose another name", t.Name))
	}
	if err != nil {
		return t, fmt.Errorf("keeping a token: %w", err)
	}
	return t, nil
}

// TokenOf returns the token whose secret has a digest, whether it is good or
// not, and notes the hour that it was used in; dmarc.ErrNotFound if there is none.
func (s *Store) TokenOf(ctx context.Context, digest dmarc.Digest, now time.Time) (dmarc.Token, error) {
	rows, _ := s.db.Query(ctx, selectToken+" WHERE digest = $1", digest[:])
	return s.used(ctx, rows, now)
}

// TokenByID is TokenOf for a token that is known by its number.
func (s *Store) TokenByID(ctx context.Context, id int64, now time.Time) (dmarc.Token, error) {
	rows, _ := s.db.Query(ctx, selectToken+" WHERE id = $1", id)
	return s.used(ctx, rows, now)
}

func (s *Store) used(ctx context.Context, rows pgx.Rows, now time.Time) (dmarc.Token, error) {
	t, err := pgx.CollectExactlyOneRow(rows, scanToken)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return t, fmt.Errorf("looking up a token: %w", err)
	}
	if hour := now.UTC().Truncate(time.Hour); t.Good(now) && t.Used.Before(hour) {
		const note = `
			UPDATE tokens
			SET used_at = $2
			WHERE id = $1 AND (used_at IS NULL OR used_at < $2)`
		if _, err := s.db.Exec(ctx, note, t.ID, hour); err != nil {
			return t, fmt.Errorf("noting the use of a token: %w", err)
		}
		t.Used = hour
	}
	return t, nil
}

// Tokens returns the tokens, newest first.
func (s *Store) Tokens(ctx context.Context, page dmarc.Page) ([]dmarc.Token, dmarc.Cursor, error) {
	after, err := afterNumber(page.After)
	if err != nil {
		return nil, "", err
	}
	rows, _ := s.db.Query(ctx, selectToken+" WHERE id < $1 ORDER BY id DESC LIMIT $2", after, page.Limit+1)
	lines, err := pgx.CollectRows(rows, scanToken)
	if err != nil {
		return nil, "", fmt.Errorf("listing tokens: %w", err)
	}
	return pageOf(lines, page.Limit, func(t dmarc.Token) dmarc.Token { return t }, func(t dmarc.Token) dmarc.Cursor { return numberCursor(t.ID) })
}

// TokenNamed returns the token of a name that is not revoked;
// dmarc.ErrNotFound if there is none.
func (s *Store) TokenNamed(ctx context.Context, name string) (dmarc.Token, error) {
	rows, _ := s.db.Query(ctx, selectToken+" WHERE name = $1 AND revoked_at IS NULL", clean(name))
	t, err := pgx.CollectExactlyOneRow(rows, scanToken)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return t, fmt.Errorf("token %q: %w", name, err)
	}
	return t, nil
}

// RevokeToken makes a token useless for good, and returns it; dmarc.ErrNotFound
// if there is no such token. One that was revoked before stays as it is.
func (s *Store) RevokeToken(ctx context.Context, id int64, at time.Time) (dmarc.Token, error) {
	const sql = `
		UPDATE tokens
		SET revoked_at = coalesce(revoked_at, $2)
		WHERE id = $1
		RETURNING id, name, roles, everything, domains, groups, created_at, expires_at, revoked_at, used_at`
	rows, _ := s.db.Query(ctx, sql, id, at)
	t, err := pgx.CollectExactlyOneRow(rows, scanToken)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return t, fmt.Errorf("revoking token %d: %w", id, err)
	}
	return t, nil
}

// Key returns a key of 32 random bytes that all processes on the database
// share. It is made when it is first asked for.
func (s *Store) Key(ctx context.Context, name string) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh)
	if _, err := s.db.Exec(ctx, "INSERT INTO keys (name, key) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, fresh); err != nil {
		return nil, fmt.Errorf("making the key %s: %w", name, err)
	}
	var key []byte
	if err := s.db.QueryRow(ctx, "SELECT key FROM keys WHERE name = $1", name).Scan(&key); err != nil {
		return nil, fmt.Errorf("reading the key %s: %w", name, err)
	}
	return key, nil
}

// AddAudit writes a line of the audit log.
func (s *Store) AddAudit(ctx context.Context, e dmarc.AuditEntry) error {
	const sql = `
		INSERT INTO audit (at, who, via, address, action, subject, detail)
		VALUES (@at, @who, @via, @address, @action, @subject, @detail)`
	var address *netip.Addr
	if e.From.IsValid() {
		bare := e.From.WithZone("")
		address = &bare
	}
	_, err := s.db.Exec(ctx, sql, pgx.NamedArgs{
		"at": e.At, "who": clean(e.Who), "via": clean(e.Via), "address": address, "action": clean(e.Action), "subject": clean(e.Subject), "detail": clean(e.Detail),
	})
	if err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	return nil
}

// Audit returns the audit log, newest first.
func (s *Store) Audit(ctx context.Context, q dmarc.AuditQuery) ([]dmarc.AuditEntry, dmarc.Cursor, error) {
	up, err := ascending(q.Sort, "at")
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"action": clean(q.Action), "who": clean(q.Who), "limit": q.Limit + 1}
	behind, err := afterOf(q.After, "id", up, args)
	if err != nil {
		return nil, "", err
	}
	sql := `
		SELECT id, at, who, via, address, action, subject, detail
		FROM audit
		WHERE ` + behind + ` AND (@action = '' OR action = @action) AND (@who = '' OR who = @who)` + during(q.Period, "at", args) + `
		ORDER BY id` + direction(up) + `
		LIMIT @limit`
	rows, _ := s.db.Query(ctx, sql, args)
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e dmarc.AuditEntry, err error) {
		var address *netip.Addr
		if err := row.Scan(&e.ID, &e.At, &e.Who, &e.Via, &address, &e.Action, &e.Subject, &e.Detail); err != nil {
			return e, err
		}
		if address != nil {
			e.From = *address
		}
		return e, nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing the audit log: %w", err)
	}
	return pageOf(lines, q.Limit, func(e dmarc.AuditEntry) dmarc.AuditEntry { return e }, func(e dmarc.AuditEntry) dmarc.Cursor { return numberCursor(e.ID) })
}
