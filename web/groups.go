package web

import (
	"context"
	"net/url"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An Arranger knows how operators arrange domains.
type Arranger interface {
	Groups(ctx context.Context, q dmarc.GroupQuery) ([]dmarc.GroupTraffic, dmarc.Cursor, error)
	DomainSettings(ctx context.Context, domain string) (dmarc.DomainSettings, error)
}

// groupsShown is how many groups the first page names.
const groupsShown = 30

// groupsPage is the groups on the first page.
type groupsPage struct {
	Items  []dmarc.GroupTraffic
	More   bool
	Chosen string // the group that is shown; "" for all domains
	All    string // address of all domains
	link   func(group string) string
}

// Link returns the address of a group.
func (p *groupsPage) Link(group string) string { return p.link(group) }

// groupLink returns the address of the domains of a group.
func (s *site) groupLink(group string) string {
	return s.link("/", url.Values{"group": {group}})
}

// groups returns the groups with what is known of them, nil if there are none.
func (s *site) groups(ctx context.Context, sp span, chosen string, by string) (*groupsPage, error) {
	if s.arranger == nil {
		return nil, nil
	}
	list, next, err := s.arranger.Groups(ctx, dmarc.GroupQuery{Period: sp.Period, Page: dmarc.Page{Limit: groupsShown}})
	if err != nil || len(list) == 0 && chosen == "" {
		return nil, err
	}
	p := &groupsPage{Items: list, More: next != "", Chosen: chosen}
	p.link = func(group string) string {
		v := url.Values{}
		if by != "" {
			v.Set("by", by)
		}
		if group != "" {
			v.Set("group", group)
		}
		return s.link("/", sp.query(v))
	}
	p.All = p.link("")
	return p, nil
}
