package access

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A TokenStore keeps tokens and the audit log.
type TokenStore interface {
	AddToken(ctx context.Context, digest dmarc.Digest, t dmarc.Token) (dmarc.Token, error)
	Tokens(ctx context.Context, page dmarc.Page) ([]dmarc.Token, dmarc.Cursor, error)
	TokenNamed(ctx context.Context, name string) (dmarc.Token, error)
	RevokeToken(ctx context.Context, id int64, at time.Time) (dmarc.Token, error)
	AddAudit(ctx context.Context, e dmarc.AuditEntry) error
	Audit(ctx context.Context, q dmarc.AuditQuery) ([]dmarc.AuditEntry, dmarc.Cursor, error)
}

// A Keeper hands out tokens and takes them back, on behalf of principals who
// may change everything, and keeps the audit log.
type Keeper struct {
	Store TokenStore
	Log   *slog.Logger
	Now   func() time.Time
	// Changed is called when a token was revoked or a group changed; nil for nobody.
	Changed func()
}

func (k *Keeper) changed() {
	if k.Changed != nil {
		k.Changed()
	}
}

// record writes what the principal of the context did into the audit log.
func (k *Keeper) record(ctx context.Context, action, subject, detail string) error {
	e := dmarc.AuditEntry{At: k.Now().UTC(), Who: "nobody", Action: action, Subject: subject, Detail: detail}
	if p := principalOf(ctx); p != nil {
		e.Who, e.Via, e.From = p.Name, p.Via, p.From
	}
	return k.Store.AddAudit(ctx, e)
}

// Note records a change that was made. That it cannot be recorded does not
// undo it.
func (k *Keeper) Note(ctx context.Context, action, subject, detail string) {
	if err := k.record(context.WithoutCancel(ctx), action, subject, detail); err != nil {
		k.Log.Error("a change is missing in the audit log", "action", action, "subject", subject, "error", err)
	}
}

// CreateToken makes a token and returns it with its secret, which nothing gives
// again.
func (k *Keeper) CreateToken(ctx context.Context, t dmarc.Token) (string, dmarc.Token, error) {
	if !principalOf(ctx).governs() {
		return "", dmarc.Token{}, dmarc.ErrForbidden
	}
	if err := checkToken(&t); err != nil {
		return "", dmarc.Token{}, err
	}
	t.Created = k.Now().UTC().Truncate(time.Microsecond)
	secret := NewSecret()
	digest, _ := DigestOf(secret)
	kept, err := k.Store.AddToken(ctx, digest, t)
	if err != nil {
		return "", dmarc.Token{}, err
	}
	k.Note(ctx, "token.create", kept.Name, describe(&kept))
	return secret, kept, nil
}

func checkToken(t *dmarc.Token) error {
	t.Name = strings.TrimSpace(t.Name)
	switch {
	case t.Name == "" || len(t.Name) > 100 || strings.ContainsFunc(t.Name, func(r rune) bool { return r < ' ' || r == 0x7F }):
		return dmarc.Refusal("a token needs a name of 1 to 100 characters, which says who has it")
	case len(t.Roles) == 0:
		return dmarc.Refusal("a token needs a role")
	case !t.Scope.All() && len(t.Scope.Domains()) == 0 && len(t.Groups) == 0:
		return dmarc.Refusal("a token needs domains or groups of them, or all domains")
	case t.Scope.All() && len(t.Groups) > 0:
		return dmarc.Refusal("a token for all domains needs no groups")
	}
	for _, name := range t.Groups {
		if err := dmarc.CheckName(name); err != nil {
			return dmarc.Refusal(fmt.Sprintf("the name of the group %q %v", name, err))
		}
	}
	for _, r := range t.Roles {
		if !slices.Contains(dmarc.Roles, r) {
			return dmarc.Refusal(fmt.Sprintf("%q is no role: write read, upload, admin or failures", r))
		}
	}
	return nil
}

// describe says in words what a token opens.
func describe(t *dmarc.Token) string {
	var roles []string
	for _, r := range t.Roles {
		roles = append(roles, string(r))
	}
	text := "roles " + strings.Join(roles, ", ") + "; all domains"
	if !t.Scope.All() {
		text = "roles " + strings.Join(roles, ", ") + "; domains " + strings.Join(t.Scope.Domains(), ", ")
		if len(t.Groups) > 0 {
			text += "; groups " + strings.Join(t.Groups, ", ")
		}
	}
	if !t.Expires.IsZero() {
		text += "; until " + t.Expires.UTC().Format(time.RFC3339)
	}
	return text
}

// Tokens returns all tokens, newest first, those that are no longer good too.
func (k *Keeper) Tokens(ctx context.Context, page dmarc.Page) ([]dmarc.Token, dmarc.Cursor, error) {
	if !principalOf(ctx).governs() {
		return nil, "", dmarc.ErrForbidden
	}
	return k.Store.Tokens(ctx, page)
}

// TokenNamed returns the token of a name that is not revoked.
func (k *Keeper) TokenNamed(ctx context.Context, name string) (dmarc.Token, error) {
	if !principalOf(ctx).governs() {
		return dmarc.Token{}, dmarc.ErrForbidden
	}
	return k.Store.TokenNamed(ctx, name)
}

// RevokeToken makes a token useless.
func (k *Keeper) RevokeToken(ctx context.Context, id int64) (dmarc.Token, error) {
	if !principalOf(ctx).governs() {
		return dmarc.Token{}, dmarc.ErrForbidden
	}
	t, err := k.Store.RevokeToken(ctx, id, k.Now().UTC())
	if err != nil {
		return t, err
	}
	k.changed()
	k.Note(ctx, "token.revoke", t.Name, "")
	return t, nil
}

// Audit returns the audit log, newest first.
func (k *Keeper) Audit(ctx context.Context, q dmarc.AuditQuery) ([]dmarc.AuditEntry, dmarc.Cursor, error) {
	if !principalOf(ctx).governs() {
		return nil, "", dmarc.ErrForbidden
	}
	return k.Store.Audit(ctx, q)
}
