package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

// An overruler keeps what operators say about sources: in the configuration,
// which wins where both speak of the same network, and in the store.
type overruler struct {
	store *store.Store
	file  []dmarc.Overrule
}

// overrules returns what the configuration says about whose networks are: of all
// domains first.
func (c *config) overrules() []dmarc.Overrule {
	var list []dmarc.Overrule
	for _, text := range c.Sources.Own {
		if p, err := network(text); err == nil { // it was checked as it was read
			list = append(list, dmarc.Overrule{Network: p.Masked(), Class: dmarc.ClassOwn, Note: "sources.own of the configuration", File: true})
		}
	}
	for _, n := range c.Networks {
		p, err := network(n.Network)
		if class, ok := dmarc.ParseClass(n.Class); err == nil && ok && n.Class != "" {
			list = append(list, dmarc.Overrule{Domain: n.Domain, Network: p.Masked(), Class: class, Note: "[[network]] of the configuration", File: true})
		}
	}
	slices.SortStableFunc(list, func(a, b dmarc.Overrule) int { return cmp.Compare(a.Domain, b.Domain) })
	return list
}

// Overrules returns what is said for a domain and for all domains, by network,
// that which decides last.
func (o *overruler) Overrules(ctx context.Context, domain string) ([]dmarc.Overrule, error) {
	list, err := o.store.Overrules(ctx, domain)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(l dmarc.Overrule) bool { return o.fixed(l.Domain, l.Network) != nil })
	for _, f := range o.file {
		if f.Domain == "" || f.Domain == domain {
			list = append(list, f)
		}
	}
	slices.SortStableFunc(list, func(a, b dmarc.Overrule) int {
		return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Network.Bits(), b.Network.Bits()))
	})
	return list, nil
}

// fixed returns what the configuration says about a network for a domain, or for
// all of them with "", nil if it says nothing.
func (o *overruler) fixed(domain string, network netip.Prefix) *dmarc.Overrule {
	for i := range o.file {
		if f := &o.file[i]; f.Network == network && (f.Domain == "" || f.Domain == domain) {
			return f
		}
	}
	return nil
}

func refusal(f *dmarc.Overrule) error {
	return dmarc.Refusal(fmt.Sprintf("the configuration says that %s is %s (%s), and wins; change that there", f.Network, f.Class, strings.TrimSuffix(f.Note, " of the configuration")))
}

// PutOverrule keeps what an operator says about a network.
func (o *overruler) PutOverrule(ctx context.Context, l *dmarc.Overrule) (bool, error) {
	if f := o.fixed(l.Domain, l.Network); f != nil {
		return false, refusal(f)
	}
	return o.store.PutOverrule(ctx, l)
}

// DropOverrule forgets what an operator said about a network.
func (o *overruler) DropOverrule(ctx context.Context, domain string, network netip.Prefix) error {
	if f := o.fixed(domain, network); f != nil {
		return refusal(f)
	}
	return o.store.DropOverrule(ctx, domain, network)
}
