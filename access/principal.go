// Package access decides who may do and see what: it speaks of principals,
// tokens and sessions, and of how HTTP and OpenID Connect tell of them.
//
// A request is given its principal once, by a Gate. From then on a Guard stands
// between whoever answers it and the store: it answers nothing that is not in
// the scope of the principal in the context, and nothing at all without one.
package access

import (
	"context"
	"net/netip"
	"slices"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Principal is on whose behalf something is done.
type Principal struct {
	Name   string
	Via    string // how they are known: see the constants
	Grants []Grant
	From   netip.Addr // where the request comes from; invalid for none

	// bound is what forms are bound to, so that no other site can make them.
	bound string
}

// A Grant is what may be done about some domains.
type Grant struct {
	Roles []dmarc.Role
	Scope dmarc.Scope
	// Groups of domains, whose domains are in the scope as well, as they are when
	// the request is made.
	Groups []string
}

// grantsOf are those of a token.
func grantsOf(t *dmarc.Token) []Grant { return []Grant{{t.Roles, t.Scope, t.Groups}} }

// Ways to be known.
const (
	ViaOpen     = "open"     // everybody is let in
	ViaCommand  = "command"  // the command line
	ViaToken    = "token"    // a token in each request
	ViaSession  = "session"  // a session that began with a token
	ViaProvider = "provider" // a session that began with an OpenID provider
	ViaProxy    = "proxy"    // a header of a trusted proxy
)

// scope returns the domains for which the principal has a role. Admin includes
// read and upload.
func (p *Principal) scope(role dmarc.Role) dmarc.Scope {
	var all dmarc.Scope
	if p == nil {
		return all
	}
	for _, g := range p.Grants {
		if slices.Contains(g.Roles, role) || role != dmarc.RoleFailures && slices.Contains(g.Roles, dmarc.RoleAdmin) {
			all = all.With(g.Scope)
		}
	}
	return all
}

// may tells whether the principal has a role for any domain.
func (p *Principal) may(role dmarc.Role) bool {
	s := p.scope(role)
	return s.All() || len(s.Domains()) > 0
}

// governs tells whether the principal may change what is of no domain.
func (p *Principal) governs() bool { return p.scope(dmarc.RoleAdmin).All() }

type key struct{}

// With returns a context on behalf of a principal.
func With(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, key{}, p)
}

// principalOf returns the principal of a context, nil without one.
func principalOf(ctx context.Context) *Principal {
	p, _ := ctx.Value(key{}).(*Principal)
	return p
}

// Everybody is the principal of all requests where nobody is asked who they are.
func Everybody() *Principal {
	return &Principal{Name: "everybody", Via: ViaOpen, Grants: Anything(), bound: ViaOpen}
}

// Anything is to have every role for every domain.
func Anything() []Grant { return []Grant{{Roles: dmarc.Roles, Scope: dmarc.Everything}} }
