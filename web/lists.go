package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	linesPerPage = 100
	mostSenders  = 5_000 // on one page
	linesAtOnce  = 100   // are laid out together
)

// A pager leads through the pages of a list.
type pager struct {
	Begin string // address of the first page; "" there
	More  string // address of the next page; "" at the end
}

// pagerOf returns the pager of a list whose address, without the place in the
// list, is made of path and values.
func (s *site) pagerOf(path string, v url.Values, after, next dmarc.Cursor) pager {
	var p pager
	if after != "" {
		p.Begin = s.link(path, v)
	}
	if next != "" {
		v.Set("after", string(next))
		p.More = s.link(path, v)
		v.Del("after")
	}
	return p
}

// sendersPage is a list of the addresses that sent mail as a domain.
type sendersPage struct {
	Domain  string
	Span    span
	List    dmarc.SourceList
	Tally   dmarc.Tally // of the domain
	Partial bool        // the list begins after the busiest
	All     string      // address of the list in one piece; "" if this is it
	pager
}

// Chunks returns the list in pieces that a browser lays out only as they are
// scrolled to.
func (p *sendersPage) Chunks() [][]dmarc.SourceTraffic {
	return slices.Collect(slices.Chunk(p.List.Items, linesAtOnce))
}

// Rest returns how many senders are listed by name beyond these, and how many
// messages they sent.
func (p *sendersPage) Rest() (r struct{ Senders, Messages int64 }) {
	r.Senders = max(0, p.List.Total-int64(len(p.List.Items)))
	r.Messages = p.Tally.Messages - p.List.Others.Messages - p.List.Unknown.Messages
	for i := range p.List.Items {
		r.Messages -= p.List.Items[i].Tally.Messages
	}
	r.Messages = max(0, r.Messages)
	return r
}

// reportersPage is a list of who reported about a domain.
type reportersPage struct {
	Domain  string
	Span    span
	Items   []dmarc.ReporterTraffic
	Tally   dmarc.Tally // of the domain
	HasMore bool
	pager
}

// senders serves /domains/{domain}/senders.
func (s *site) senders(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "senders")
	if err != nil {
		return nil, err
	}
	path := domainPath(name, "senders")
	sp, choose, err := s.readPeriod(r, path, "all")
	if err != nil {
		return nil, err
	}
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	p := &sendersPage{Domain: name, Span: sp, Partial: after != ""}
	limit, v := linesPerPage, sp.query(nil)
	all := sp.query(url.Values{"all": {"1"}})
	if r.URL.Query().Has("all") {
		limit, v = mostSenders, all
	}
	q := dmarc.TrafficQuery{Domain: name, Period: sp.Period, Page: dmarc.Page{After: after, Limit: limit}}
	var next dmarc.Cursor
	if p.Tally, err = s.totalsBeside(r.Context(), q, func(ctx context.Context) (err error) {
		p.List, next, err = s.store.Sources(ctx, q)
		return err
	}); err != nil {
		return s.unknownDomain(name, err)
	}
	p.pager = s.pagerOf(path, v, after, next)
	if limit == linesPerPage && (next != "" || after != "") {
		p.All = s.link(path, all)
	}
	return &view{Page: "senders", Title: "Senders of " + name, Nav: "/", Span: sp, Choose: choose, Data: p}, nil
}

// totalsBeside asks for a list, and meanwhile for the totals of its domain and period.
func (s *site) totalsBeside(ctx context.Context, q dmarc.TrafficQuery, ask func(context.Context) error) (dmarc.Tally, error) {
	var sum dmarc.DomainSummary
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ask(ctx) })
	g.Go(func() (err error) {
		sum, err = s.store.Summary(ctx, dmarc.TrafficQuery{Domain: q.Domain, Period: q.Period, Page: dmarc.Page{Limit: 1}})
		return err
	})
	err := g.Wait()
	return sum.Tally, err
}

// reporters serves /domains/{domain}/reporters.
func (s *site) reporters(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "reporters")
	if err != nil {
		return nil, err
	}
	path := domainPath(name, "reporters")
	sp, choose, err := s.readPeriod(r, path)
	if err != nil {
		return nil, err
	}
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	p := &reportersPage{Domain: name, Span: sp}
	q := dmarc.TrafficQuery{Domain: name, Period: sp.Period, Page: dmarc.Page{After: after, Limit: linesPerPage}}
	var next dmarc.Cursor
	if p.Tally, err = s.totalsBeside(r.Context(), q, func(ctx context.Context) (err error) {
		p.Items, next, err = s.store.Reporters(ctx, q)
		return err
	}); err != nil {
		return s.unknownDomain(name, err)
	}
	p.pager = s.pagerOf(path, sp.query(nil), after, next)
	return &view{Page: "reporters", Title: "Reporters about " + name, Nav: "/", Span: sp, Choose: choose, Data: p}, nil
}

// keysPage is a list of the DKIM keys that sign mail of a domain.
type keysPage struct {
	Domain  string
	Span    span
	List    dmarc.SelectorList
	HasMore bool
	pager
}

// selectors serves /domains/{domain}/selectors.
func (s *site) selectors(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "selectors")
	if err != nil {
		return nil, err
	}
	path := domainPath(name, "selectors")
	sp, choose, err := s.readPeriod(r, path)
	if err != nil {
		return nil, err
	}
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	p := &keysPage{Domain: name, Span: sp}
	var next dmarc.Cursor
	p.List, next, err = s.store.Selectors(r.Context(), dmarc.TrafficQuery{Domain: name, Period: sp.Period, Page: dmarc.Page{After: after, Limit: linesPerPage}})
	if err != nil {
		return s.unknownDomain(name, err)
	}
	p.pager = s.pagerOf(path, sp.query(nil), after, next)
	return &view{Page: "selectors", Title: "DKIM keys of " + name, Nav: "/", Span: sp, Choose: choose, Data: p}, nil
}
