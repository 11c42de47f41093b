package access

import (
	"context"
	"net/netip"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Overrules keep what operators say about sources.
type Overrules interface {
	Overrules(ctx context.Context, domain string) ([]dmarc.Overrule, error)
	PutOverrule(ctx context.Context, o *dmarc.Overrule) (added bool, err error)
	DropOverrule(ctx context.Context, domain string, network netip.Prefix) error
}

// Overrules returns what operators say about the sources of a domain. What is
// said for all domains is for everybody who may read.
func (g *Guard) Overrules(ctx context.Context, domain string) ([]dmarc.Overrule, error) {
	_, err := scope(ctx, dmarc.RoleRead)
	if err == nil && domain != "" {
		err = about(ctx, dmarc.RoleRead, domain)
	}
	if err != nil {
		return nil, err
	}
	said, err := g.Said.Overrules(ctx, domain)
	if err != nil || principalOf(ctx).scope(dmarc.RoleRead).All() {
		return said, err
	}
	// Who said it, and why, may tell of others.
	for i := range said {
		if said[i].Domain == "" {
			said[i].By, said[i].Note = "", ""
		}
	}
	return said, nil
}

// PutOverrule keeps what the principal says about a network.
func (g *Guard) PutOverrule(ctx context.Context, o *dmarc.Overrule) (bool, error) {
	if err := overrules(ctx, o.Domain); err != nil {
		return false, err
	}
	if p := principalOf(ctx); p.Via != ViaOpen {
		o.By = p.Name
	}
	added, err := g.Said.PutOverrule(ctx, o)
	if err == nil {
		g.Keeper.Note(ctx, "overrule.put", overruled(o.Domain, o.Network), o.Class.String()+": "+o.Note)
	}
	return added, err
}

// DropOverrule forgets what was said about a network.
func (g *Guard) DropOverrule(ctx context.Context, domain string, network netip.Prefix) error {
	if err := overrules(ctx, domain); err != nil {
		return err
	}
	err := g.Said.DropOverrule(ctx, domain, network)
	if err == nil {
		g.Keeper.Note(ctx, "overrule.delete", overruled(domain, network), "")
	}
	return err
}

// overrules is nil if the principal may say whose the sources of a domain are,
// or of all domains for "".
func overrules(ctx context.Context, domain string) error {
	if domain != "" {
		return about(ctx, dmarc.RoleAdmin, domain)
	}
	if !principalOf(ctx).governs() {
		return dmarc.ErrForbidden
	}
	return nil
}

func overruled(domain string, network netip.Prefix) string {
	if domain == "" {
		return network.String() + " for all domains"
	}
	return network.String() + " for " + domain
}
