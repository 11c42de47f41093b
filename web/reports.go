package web

import (
	"context"
	"html/template"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A reporter is the part of Store that tells of single reports, failures and TLS.
type reporter interface {
	// Report, ReportRows, Alternatives and Failure return dmarc.ErrNotFound for
	// a report that there is not.
	Report(ctx context.Context, id string) (dmarc.ReportSummary, error)
	ReportRows(ctx context.Context, q dmarc.RowQuery) (dmarc.RowList, dmarc.Cursor, error)
	Alternatives(ctx context.Context, id string, page dmarc.Page) ([]dmarc.ReportSummary, dmarc.Cursor, error)
	// Failures and Failure return dmarc.ErrForbidden to those who have not the role.
	Failures(ctx context.Context, q dmarc.FailureQuery) ([]dmarc.StoredFailure, dmarc.Cursor, error)
	Failure(ctx context.Context, id string, whole bool) (dmarc.StoredFailure, error)
	TLS(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.StoredTLS, dmarc.Cursor, error)
	TLSTraffic(ctx context.Context, q dmarc.TLSQuery) (dmarc.TLSTraffic, error)
	TLSDomains(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.TLSDomain, dmarc.Cursor, error)
}

// A Texter opens reports as they came.
type Texter interface {
	// ReportText returns dmarc.ErrNotFound if there is no such report or its
	// message is not kept. The caller closes the reader.
	ReportText(ctx context.Context, id string) (io.ReadCloser, error)
}

// routeReports adds the pages of reports of all domains, and of one report.
func (s *site) routeReports(r chi.Router) {
	r.Get("/reports", s.page(s.reports))
	r.Get("/reports/{id}", s.page(s.report))
	if s.texts != nil {
		r.Get("/reports/{id}/text", s.page(s.reportText))
		r.Get("/reports/{id}/download", s.download)
	}
	r.Get("/failures", s.page(s.failures))
	r.Get("/failures/{id}", s.page(s.failure))
	r.Get("/tls", s.page(s.tls))
}

// reportFuncs are what the templates of these pages call.
func (s *site) reportFuncs() template.FuncMap {
	return template.FuncMap{
		"kindTabs": s.kindTabs, "failureLink": func(id string) string { return s.link("/failures/" + url.PathEscape(id)) },
		"flagText": flagText, "isOdd": func(r *dmarc.ReportSummary) bool { return !r.Active || len(oddities(r)) > 0 },
		"tlsWord": tlsWord, "sizeText": sizeText, "tlsTotals": tlsTotals, "tlsKinds": tlsKinds, "tlsDomainLink": s.tlsDomainLink,
		"add": func(a, b int64) int64 { return a + b }, "take": func(a, b int64) int64 { return a - b }, "pluses": func(a, b int) int { return a + b },
		"orderText": func(o dmarc.RowOrder) string { return orderWords[o] },
		"difference": func(a, b int64) string {
			switch {
			case a > b:
				return "+" + count(a-b)
			case a < b:
				return "−" + count(b-a)
			}
			return "0"
		},
	}
}

// param returns a part of the path of an address, unescaped.
func param(r *http.Request, name string) (string, error) {
	v := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return v, nil
	}
	v, err := url.PathUnescape(v)
	if err != nil {
		return "", dmarc.ErrNotFound
	}
	return v, nil
}

// A tab leads to a page beside this one.
type tab struct {
	Label, URL string
	Current    bool
}

// kindTabs leads between the kinds of reports of a domain, or of all for "".
func (s *site) kindTabs(domain, current string, sp span) []tab {
	var all []tab
	for _, k := range [...]struct{ under, label string }{{"reports", "Aggregate"}, {"failures", "Failures"}, {"tls", "TLS"}} {
		path := "/" + k.under
		if domain != "" {
			path = domainPath(domain, k.under)
		}
		all = append(all, tab{k.label, s.link(path, sp.query(nil)), k.under == current})
	}
	return all
}

// reportsPage is a list of aggregate reports.
type reportsPage struct {
	Domain  string // "" for all
	Span    span
	Items   []dmarc.ReportSummary
	HasMore bool
	Filter  reportFilter
	Action  string
	Clear   string // address without the filter
	pager
}

// A reportFilter is what the form above the list says.
type reportFilter struct {
	Domain   string // of the form of all domains
	Reporter string
	Inactive bool
}

// Set tells whether it leaves anything out.
func (f *reportFilter) Set() bool { return *f != reportFilter{} }

// query adds the filter to the values of an address.
func (f *reportFilter) query(v url.Values) url.Values {
	for name, value := range map[string]string{"domain": f.Domain, "reporter": f.Reporter} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.Inactive {
		v.Set("inactive", "1")
	}
	return v
}

// scopeOf reads which domain a list is about: the one in the path, or, of the
// lists of all, the one that the form names.
func (s *site) listOf(r *http.Request, under string) (path, domain, asked string, err error) {
	if chi.URLParam(r, "domain") != "" {
		domain, err = s.domainOf(r, under)
		return domainPath(domain, under), domain, "", err
	}
	return "/" + under, "", searchName(strings.TrimSpace(r.URL.Query().Get("domain"))), nil
}

// reports serves /reports and /domains/{domain}/reports: newest first.
func (s *site) reports(r *http.Request) (*view, error) {
	path, domain, asked, err := s.listOf(r, "reports")
	if err != nil {
		return nil, err
	}
	sp, choose, err := s.readPeriod(r, path, "domain", "reporter", "inactive")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	after := dmarc.Cursor(q.Get("after"))
	p := &reportsPage{Domain: domain, Span: sp, Action: s.link(path), Clear: s.link(path, sp.query(nil)),
		Filter: reportFilter{Domain: asked, Reporter: q.Get("reporter"), Inactive: q.Get("inactive") != ""}}
	if domain == "" {
		domain = asked
	}
	var next dmarc.Cursor
	p.Items, next, err = s.store.Reports(r.Context(), dmarc.ReportQuery{
		Domain: domain, Filter: dmarc.Filter{Reporter: p.Filter.Reporter}, Inactive: p.Filter.Inactive, Period: sp.Period, Page: dmarc.Page{After: after, Limit: linesPerPage},
	})
	if err != nil {
		return nil, err
	}
	p.pager = s.pagerOf(path, p.Filter.query(sp.query(nil)), after, next)
	title := "Reports"
	if p.Domain != "" {
		title += " about " + p.Domain
	}
	return &view{Page: "reports", Title: title, Nav: navOf(p.Domain, "/reports"), Span: sp, Choose: choose, Data: p}, nil
}

// navOf is the entry that is lit for a list of one domain, or of all.
func navOf(domain, all string) string {
	if domain != "" {
		return "/"
	}
	return all
}

// readSource reads an address or a network from an address. The error is a badRequest.
func readSource(q url.Values) (text string, p netip.Prefix, err error) {
	text = strings.TrimSpace(q.Get("source"))
	if text == "" {
		return "", p, nil
	}
	p, err = netip.ParsePrefix(text)
	if addr, err2 := netip.ParseAddr(text); err2 == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil || p.Addr().Is4In6() {
		return text, p, badRequest{"source is " + `"` + cut(plain(text), 60) + `": it must be an address or a network, such as 192.0.2.7 or 2001:db8::/32`}
	}
	return text, p.Masked(), nil
}
