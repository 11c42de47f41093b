package access

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Arrangements keep how operators arrange domains and networks.
type Arrangements interface {
	Group(ctx context.Context, name string) (dmarc.Group, error)
	PutGroup(ctx context.Context, g *dmarc.Group) (added bool, err error)
	DropGroup(ctx context.Context, name string) error
	DomainSettings(ctx context.Context, domain string) (dmarc.DomainSettings, error)
	PutDomainWords(ctx context.Context, domain string, w dmarc.DomainWords) error
	NetworkLabels(ctx context.Context, domain string) ([]dmarc.NetworkLabel, error)
	PutNetworkLabel(ctx context.Context, l *dmarc.NetworkLabel) (added bool, err error)
	DropNetworkLabel(ctx context.Context, domain string, network netip.Prefix) error
}

// inGroup narrows a scope to the domains of a group. A group that is not there, or
// has no domain in the scope, leaves nothing.
func (g *Guard) inGroup(ctx context.Context, s dmarc.Scope, group string) (dmarc.Scope, error) {
	if group == "" {
		return s, nil
	}
	all, err := g.Store.Group(ctx, group)
	if errors.Is(err, dmarc.ErrNotFound) {
		return dmarc.Scope{}, nil
	}
	return s.And(all.Scope()), err
}

// Groups returns groups with what reports tell about their domains: of each the
// domains in the scope, and no group that has none there.
func (g *Guard) Groups(ctx context.Context, q dmarc.GroupQuery) (items []dmarc.GroupTraffic, next dmarc.Cursor, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil {
		return nil, "", err
	}
	items, next, err = g.Store.Groups(ctx, q)
	if !q.Scope.All() {
		for i := range items {
			items[i].Note = "" // it may tell of others
		}
	}
	return items, next, err
}

// PutGroup keeps a group. Since groups may say who may see what, only those who
// may change everything can.
func (g *Guard) PutGroup(ctx context.Context, group *dmarc.Group) (bool, error) {
	if !principalOf(ctx).governs() {
		return false, dmarc.ErrForbidden
	}
	added, err := g.Arranged.PutGroup(ctx, group)
	if err == nil {
		g.Keeper.changed()
		g.Keeper.Note(ctx, "group.put", group.Name, shortened(group.Domains))
	}
	return added, err
}

// DropGroup forgets a group.
func (g *Guard) DropGroup(ctx context.Context, name string) error {
	if !principalOf(ctx).governs() {
		return dmarc.ErrForbidden
	}
	err := g.Arranged.DropGroup(ctx, name)
	if err == nil {
		g.Keeper.changed()
		g.Keeper.Note(ctx, "group.delete", name, "")
	}
	return err
}

// DomainSettings returns what operators say about a domain. There need not be
// reports about it.
func (g *Guard) DomainSettings(ctx context.Context, domain string) (dmarc.DomainSettings, error) {
	if err := about(ctx, dmarc.RoleRead, domain); err != nil {
		return dmarc.DomainSettings{}, err
	}
	return g.Arranged.DomainSettings(ctx, domain)
}

// PutDomainWords keeps what the principal says about a domain.
func (g *Guard) PutDomainWords(ctx context.Context, domain string, w dmarc.DomainWords) error {
	if err := about(ctx, dmarc.RoleAdmin, domain); err != nil {
		return err
	}
	err := g.Arranged.PutDomainWords(ctx, domain, w)
	if err == nil {
		g.Keeper.Note(ctx, "domain.settings", domain, describeWords(&w))
	}
	return err
}

func describeWords(w *dmarc.DomainWords) string {
	var all []string
	if w.Labels != nil {
		all = append(all, "labels "+shortened(w.Labels))
	}
	if w.Ignored != nil {
		all = append(all, fmt.Sprintf("ignored %v", *w.Ignored))
	}
	for _, k := range []struct {
		what string
		d    *time.Duration
	}{{"rows", w.Rows}, {"raw messages", w.Raw}, {"failure reports", w.Failures}} {
		switch {
		case k.d == nil:
		case *k.d == 0:
			all = append(all, k.what+" for ever")
		default:
			all = append(all, fmt.Sprintf("%s for %d days", k.what, *k.d/(24*time.Hour)))
		}
	}
	if len(all) == 0 {
		return "nothing is said any more"
	}
	return strings.Join(all, "; ")
}

// NetworkLabels returns the names of networks. Those of all domains are for those
// who may see all of them, as they may tell of others.
func (g *Guard) NetworkLabels(ctx context.Context, domain string) ([]dmarc.NetworkLabel, error) {
	s, err := scope(ctx, dmarc.RoleRead)
	if err == nil && domain != "" {
		err = about(ctx, dmarc.RoleRead, domain)
	}
	if err != nil {
		return nil, err
	}
	all, err := g.Arranged.NetworkLabels(ctx, domain)
	if err != nil || s.All() {
		return all, err
	}
	mine := []dmarc.NetworkLabel{}
	for _, l := range all {
		if l.Domain != "" {
			mine = append(mine, l)
		}
	}
	return mine, nil
}

// PutNetworkLabel names a network.
func (g *Guard) PutNetworkLabel(ctx context.Context, l *dmarc.NetworkLabel) (bool, error) {
	if err := overrules(ctx, l.Domain); err != nil {
		return false, err
	}
	added, err := g.Arranged.PutNetworkLabel(ctx, l)
	if err == nil {
		g.Keeper.Note(ctx, "network.label", overruled(l.Domain, l.Network), shortened(l.Labels))
	}
	return added, err
}

// DropNetworkLabel forgets the names of a network.
func (g *Guard) DropNetworkLabel(ctx context.Context, domain string, network netip.Prefix) error {
	if err := overrules(ctx, domain); err != nil {
		return err
	}
	err := g.Arranged.DropNetworkLabel(ctx, domain, network)
	if err == nil {
		g.Keeper.Note(ctx, "network.unlabel", overruled(domain, network), "")
	}
	return err
}

// shortened names the first of many things, for the audit log.
func shortened(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
