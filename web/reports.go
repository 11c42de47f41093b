package web

import (
	"context"
	"errors"
	"html/template"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
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
	// TLSReport returns a TLS report; dmarc.ErrNotFound if there is none.
	TLSReport(ctx context.Context, id string) (dmarc.StoredTLS, error)
	TLSTraffic(ctx context.Context, q dmarc.TLSQuery) (dmarc.TLSTraffic, error)
	TLSDomains(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.TLSDomain, dmarc.Cursor, error)
}

// A Texter opens reports as they came.
type Texter interface {
	// ReportText returns dmarc.ErrNotFound if there is no such report or its
	// message is not kept. The caller closes the reader.
	ReportText(ctx context.Context, id string) (io.ReadCloser, error)
	// TLSText is the same for TLS reports. Of one that tells of domains that the reader
	// may not know of there is no text.
	TLSText(ctx context.Context, id string) (io.ReadCloser, error)
}

// routeReports adds the pages of reports of all domains, and of one report.
func (s *site) routeReports(r chi.Router) {
	r.Get("/reports", s.page(s.reports))
	r.Get("/reports/{id}", s.page(s.report))
	if s.texts != nil {
		r.Get("/reports/{id}/text", s.page(s.reportText))
		r.Get("/reports/{id}/download", func(w http.ResponseWriter, r *http.Request) { s.download(w, r, s.texts.ReportText) })
		r.Get("/tls/{id}/text", s.page(s.tlsText))
		r.Get("/tls/{id}/download", func(w http.ResponseWriter, r *http.Request) { s.download(w, r, s.texts.TLSText) })
	}
	r.Get("/failures", s.page(s.failures))
	r.Get("/failures/{id}", s.page(s.failure))
	r.Get("/tls", s.page(s.tls))
	r.Get("/tls/{id}", s.page(s.tlsReport))
}

// reportFuncs are what the templates of these pages call.
func (s *site) reportFuncs() template.FuncMap {
	return template.FuncMap{
		"kindTabs": s.kindTabs, "failureLink": func(id string) string { return s.link("/failures/" + url.PathEscape(id)) },
		"flagText": flagText, "isOdd": func(r *dmarc.ReportSummary) bool { return !r.Active || len(oddities(r)) > 0 },
		"tlsWord": tlsWord, "deliveryText": deliveryText, "sortHead": func(label, class string, sort rowSort) sortHead { return sortHead{label, class, sort} },
		"tlsTotals": tlsTotals, "tlsLink": func(id string) string { return s.link("/tls/" + url.PathEscape(id)) }, "tlsPolicyWord": func(kind string) string { return tlsPolicyWords[kind] }, "tlsKinds": tlsKinds, "tlsDomainLink": s.tlsDomainLink,
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
	Flags   []dmarc.FlagDoc    // that can be asked for
	Sorts   map[string]rowSort // by column; none for reports of all domains, which come newest first
	Order   string             // in words
	Action  string
	Clear   string // address without the filter
	pager
}

// A reportFilter is what the form above the list says.
type reportFilter struct {
	Domain      string // of the form of all domains
	Reporter    string
	Source      string
	Disposition string
	Aligned     string // "yes", "no" or ""
	Class       string // of sources
	Flag        string // name of a flag, "any" or ""
	Inactive    bool
	Sort        string // "messages", "failed", or "" for newest first
}

// Set tells whether it leaves anything out.
func (f *reportFilter) Set() bool { return *f != reportFilter{Sort: f.Sort} }

// reportSorts are the columns that reports of a domain can be sorted by.
var reportSorts = []struct{ column, sort, order string }{
	{"begin", "", "Newest first, by the begin of their period"}, {"messages", "messages", "Most messages first"}, {"failed", "failed", "Most failed messages first"},
}

// A sortHead is the head of a column, which leads to the list sorted by it if it has an address.
type sortHead struct {
	Label, Class string
	rowSort
}

// sortedBy adds how the list is sorted, and for one domain the addresses of other orders.
func (p *reportsPage) sortedBy(address func(*reportFilter) string, one bool) {
	p.Order, p.Sorts = reportSorts[0].order, map[string]rowSort{}
	for _, o := range reportSorts {
		to, sort := p.Filter, rowSort{}
		if to.Sort = o.sort; o.sort == p.Filter.Sort {
			p.Order, sort.Aria = o.order, "descending"
		}
		if sort.URL = address(&to); one {
			p.Sorts[o.column] = sort
		}
	}
	p.Clear = address(&reportFilter{Sort: p.Filter.Sort})
}

// query adds the filter to the values of an address.
func (f *reportFilter) query(v url.Values) url.Values {
	for name, value := range map[string]string{"domain": f.Domain, "reporter": f.Reporter, "source": f.Source, "disposition": f.Disposition, "aligned": f.Aligned, "class": f.Class, "flag": f.Flag, "sort": f.Sort} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.Inactive {
		v.Set("inactive", "1")
	}
	return v
}

// reportFields are the names of the fields of the form.
var reportFields = []string{"domain", "reporter", "source", "disposition", "aligned", "class", "flag", "inactive", "sort"}

// readFilter reads the form from an address into a question. The error is a badRequest.
func readFilter(q url.Values) (f reportFilter, to dmarc.ReportQuery, err error) {
	var bad badRequest
	f = reportFilter{Reporter: q.Get("reporter"), Disposition: q.Get("disposition"), Aligned: q.Get("aligned"), Class: q.Get("class"), Flag: q.Get("flag"), Inactive: q.Get("inactive") != "", Sort: q.Get("sort")}
	f.Source, to.Source, err = readSource(q)
	errors.As(err, &bad)
	wrong := func(name, value, must string) {
		bad = append(bad, name+` is "`+cut(plain(value), 40)+`": it must be `+must)
	}
	if to.Disposition = dmarc.ParseDisposition(f.Disposition); f.Disposition != "" && to.Disposition == dmarc.DispositionUnknown {
		wrong("disposition", f.Disposition, "none, quarantine or reject")
	}
	switch f.Aligned {
	case "":
	case "yes":
		to.Aligned = dmarc.Yes
	case "no":
		to.Aligned = dmarc.No
	default:
		wrong("aligned", f.Aligned, "yes or no")
	}
	if to.Class, to.Classed = dmarc.ParseClass(f.Class); f.Class != "" && !to.Classed {
		wrong("class", f.Class, "own, service, forwarder, unknown or suspicious")
	}
	if f.Sort == "messages" || f.Sort == "failed" {
		to.Sort = dmarc.Sort("-" + f.Sort)
	} else if f.Sort != "" {
		wrong("sort", f.Sort, "messages or failed")
	}
	if f.Flag == "any" {
		to.Flags = 1<<len(dmarc.ReportFlagDocs) - 1
	} else if i := slices.IndexFunc(dmarc.ReportFlagDocs[:], func(d dmarc.FlagDoc) bool { return d.Name == f.Flag }); i >= 0 {
		to.Flags = 1 << i
	} else if f.Flag != "" {
		wrong("flag", f.Flag, "the name of an oddity, or any")
	}
	to.Reporter, to.Inactive = f.Reporter, f.Inactive
	if len(bad) > 0 {
		return f, to, bad
	}
	return f, to, nil
}

// listOf reads which domain a list is about: the one in the path, or, of the
// lists of all, the one that the form names.
func (s *site) listOf(r *http.Request, under string) (path, domain, asked string, err error) {
	if chi.URLParam(r, "domain") != "" {
		domain, err = s.domainOf(r, under)
		return domainPath(domain, under), domain, "", err
	}
	return "/" + under, "", searchName(strings.TrimSpace(r.URL.Query().Get("domain"))), nil
}

// reports serves /reports and /domains/{domain}/reports: newest first, or those of one domain
// as it is asked for.
func (s *site) reports(r *http.Request) (*view, error) {
	path, domain, asked, err := s.listOf(r, "reports")
	if err != nil {
		return nil, err
	}
	sp, choose, err := s.readPeriod(r, path, reportFields...)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	after := dmarc.Cursor(q.Get("after"))
	filter, query, err := readFilter(q)
	if err != nil {
		return nil, err
	}
	filter.Domain = asked
	p := &reportsPage{Domain: domain, Span: sp, Action: s.link(path), Filter: filter, Flags: dmarc.ReportFlagDocs[:]}
	if query.Domain = domain; domain == "" {
		query.Domain = asked
	}
	if query.Domain == "" { // that would read all of them
		p.Filter.Sort, query.Sort = "", ""
	}
	p.sortedBy(func(f *reportFilter) string { return s.link(path, f.query(sp.query(nil))) }, query.Domain != "")
	query.Period, query.After, query.Limit = sp.Period, after, linesPerPage
	var next dmarc.Cursor
	p.Items, next, err = s.store.Reports(r.Context(), query)
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
