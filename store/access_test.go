package store_test

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestTokensAreKeptByTheirDigest(t *testing.T) {
	s, _ := open(t)
	ctx := t.Context()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	digest := dmarc.Digest{1, 2, 3}
	want := dmarc.Token{Name: "acme", Roles: []dmarc.Role{dmarc.RoleRead, dmarc.RoleFailures}, Scope: dmarc.ScopeOf("acme.example"), Created: now, Expires: now.Add(time.Hour)}
	kept, err := s.AddToken(ctx, digest, want)
	if err != nil {
		t.Fatal(err)
	}
	want.ID = kept.ID
	var refused dmarc.Refusal
	if _, err := s.AddToken(ctx, dmarc.Digest{9}, want); !errors.As(err, &refused) {
		t.Errorf("a second token of that name: %v", err)
	}
	got, err := s.TokenOf(ctx, digest, now)
	want.Used = time.Date(2026, 3, 4, 5, 0, 0, 0, time.UTC)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v: %v", got, want, err)
	}
	if _, err := s.TokenOf(ctx, dmarc.Digest{7}, now); !errors.Is(err, dmarc.ErrNotFound) {
		t.Errorf("another digest: %v", err)
	}
	// A token that is no longer good is not used.
	if got, err := s.TokenByID(ctx, want.ID, now.Add(3*time.Hour)); err != nil || !got.Used.Equal(want.Used) || got.Good(now.Add(3*time.Hour)) {
		t.Errorf("after it has expired: %+v, %v", got, err)
	}
	if got, err := s.RevokeToken(ctx, want.ID, now); err != nil || got.Good(now) {
		t.Errorf("revoked: %+v, %v", got, err)
	}
	if got, err := s.RevokeToken(ctx, want.ID, now.Add(time.Minute)); err != nil || !got.Revoked.Equal(now) {
		t.Errorf("revoked twice: %+v, %v", got, err)
	}
	if _, err := s.TokenNamed(ctx, "acme"); !errors.Is(err, dmarc.ErrNotFound) {
		t.Errorf("a revoked token by its name: %v", err)
	}
	if _, err := s.AddToken(ctx, dmarc.Digest{9}, want); err != nil {
		t.Errorf("the name of a revoked token: %v", err)
	}
	list, next, err := s.Tokens(ctx, dmarc.Page{Limit: 1})
	if err != nil || len(list) != 1 || list[0].ID == want.ID || next == "" {
		t.Errorf("the newest: %+v, %q, %v", list, next, err)
	}
	if list, next, err = s.Tokens(ctx, dmarc.Page{Limit: 1, After: next}); err != nil || len(list) != 1 || list[0].ID != want.ID || next != "" {
		t.Errorf("the one before: %+v, %q, %v", list, next, err)
	}
}

func TestAKeyIsMadeOnce(t *testing.T) {
	s, _ := open(t)
	a, err := s.Key(t.Context(), "session")
	b, err2 := s.Key(t.Context(), "session")
	c, err3 := s.Key(t.Context(), "other")
	if err := errors.Join(err, err2, err3); err != nil || len(a) != 32 || string(a) != string(b) || string(a) == string(c) {
		t.Errorf("%x, %x, %x: %v", a, b, c, err)
	}
}

func TestTheAuditLogComesBackAsItWasWritten(t *testing.T) {
	s, _ := open(t)
	ctx := t.Context()
	first := dmarc.AuditEntry{At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Who: "jo", Via: "token", From: netip.MustParseAddr("2001:db8::1"), Action: "token.create", Subject: "acme", Detail: "x\x00y"}
	second := dmarc.AuditEntry{At: first.At.Add(time.Second), Who: "ann", Via: "command", Action: "token.revoke", Subject: "acme"}
	if err := errors.Join(s.AddAudit(ctx, first), s.AddAudit(ctx, second)); err != nil {
		t.Fatal(err)
	}
	first.ID, second.ID, first.Detail = 1, 2, "xy"
	all, next, err := s.Audit(ctx, dmarc.AuditQuery{Page: dmarc.Page{Limit: 5}})
	if want := []dmarc.AuditEntry{second, first}; err != nil || next != "" || !reflect.DeepEqual(all, want) {
		t.Errorf("got %+v, want %+v: %v", all, want, err)
	}
	some, _, err := s.Audit(ctx, dmarc.AuditQuery{Action: "token.create", Who: "jo", Page: dmarc.Page{Limit: 5}})
	if err != nil || len(some) != 1 || some[0].ID != 1 {
		t.Errorf("of one: %+v, %v", some, err)
	}
}

// Whoever forgets to say what somebody may see shows nothing. Messages are of
// those who may know of all that is in them.
func TestListsHoldWhatIsInTheScope(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	about := func(id, domain string) report {
		r := daily(id, row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))
		r.domain = domain
		return r
	}
	a, sub, like, other := about("1", "a.example"), about("2", "x.a.example"), about("3", "xa.example"), about("4", "a.example")
	broken := mail(5, about("5", "a.example"))
	broken.Parts = append(broken.Parts, dmarc.Part{Path: "2", Outcome: dmarc.OutcomeBadXML, Reason: "it breaks off"})
	add(t, s, mail(1, a), mail(2, sub), mail(3, like), mail(4, a, other, sub), broken, mail(6, a, like))
	page := dmarc.Page{Limit: 10}
	for _, c := range []struct {
		scope                      dmarc.Scope
		domains, reports, messages int
	}{
		{dmarc.Scope{}, 0, 0, 0},
		{dmarc.ScopeOf("a.example"), 2, 4, 3}, // the duplicates of mail 4 are all theirs
		{dmarc.ScopeOf("x.a.example"), 1, 1, 1},
		{dmarc.ScopeOf("x.a.example", "xa.example"), 2, 2, 2},
		{dmarc.ScopeOf("example"), 3, 5, 5},
		{dmarc.ScopeOf("b.example"), 0, 0, 0},
		{dmarc.Everything, 3, 5, 6},
	} {
		domains, _, err1 := s.Domains(ctx, dmarc.DomainQuery{Scope: c.scope, Period: february, Page: page})
		reports, _, err2 := s.Reports(ctx, dmarc.ReportQuery{Scope: c.scope, Period: february, Page: page})
		messages, _, err3 := s.Messages(ctx, dmarc.MessageQuery{Scope: c.scope, Page: page})
		named, _, err4 := s.Messages(ctx, dmarc.MessageQuery{Scope: c.scope, Mailbox: "no such mailbox", Page: page})
		if err := errors.Join(err1, err2, err3, err4); err != nil || len(domains) != c.domains || len(reports) != c.reports || len(messages) != c.messages || len(named) != 0 {
			t.Errorf("%v: %d domains, %d reports, %d messages, %d of no mailbox; want %+v: %v", c.scope, len(domains), len(reports), len(messages), len(named), c, err)
		}
	}
}
