package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

// An overruler keeps what operators say about sources: in the configuration,
// which wins where both speak of the same network, and in the store.
type overruler struct {
	store *store.Store
	file  []dmarc.Overrule
}

// ownNetworks returns what the configuration says: that networks are one's own.
func (c *config) ownNetworks() []dmarc.Overrule {
	var list []dmarc.Overrule
	for _, text := range c.Sources.Own {
		if p, err := network(text); err == nil { // it was checked as it was read
			list = append(list, dmarc.Overrule{Network: p.Masked(), Class: dmarc.ClassOwn, Note: "sources.own of the configuration", File: true})
		}
	}
	return list
}

// Overrules returns what is said for a domain and for all domains, by network,
// that which decides last.
func (o *overruler) Overrules(ctx context.Context, domain string) ([]dmarc.Overrule, error) {
	list, err := o.store.Overrules(ctx, domain)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(l dmarc.Overrule) bool { return o.fixed(l.Network) })
	list = append(list, o.file...)
	slices.SortStableFunc(list, func(a, b dmarc.Overrule) int {
		return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Network.Bits(), b.Network.Bits()))
	})
	return list, nil
}

func (o *overruler) fixed(network netip.Prefix) bool {
	return slices.ContainsFunc(o.file, func(f dmarc.Overrule) bool { return f.Network == network })
}

func (o *overruler) refusal(network netip.Prefix) error {
	return dmarc.Refusal(fmt.Sprintf("the configuration names %s as your own, and wins; change sources.own there", network))
}

// PutOverrule keeps what an operator says about a network.
func (o *overruler) PutOverrule(ctx context.Context, l *dmarc.Overrule) (bool, error) {
	if o.fixed(l.Network) {
		return false, o.refusal(l.Network)
	}
	return o.store.PutOverrule(ctx, l)
}

// DropOverrule forgets what an operator said about a network.
func (o *overruler) DropOverrule(ctx context.Context, domain string, network netip.Prefix) error {
	if o.fixed(network) {
		return o.refusal(network)
	}
	return o.store.DropOverrule(ctx, domain, network)
}
