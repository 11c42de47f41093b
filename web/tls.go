package web

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// tlsPage is what TLS reports tell, about a domain or all.
type tlsPage struct {
	Domain string // "" for all
	Span   span
	Action string
	Asked  string

	Domains []dmarc.TLSDomain // of the page of all

	Traffic  dmarc.TLSTraffic
	Bins     []tlsBin
	ByDay    bool
	UnitName string
	Sessions template.HTML
	Results  []tlsResult
	Servers  []tlsServer
	Policies []tlsPolicy
	Items    []dmarc.StoredTLS
	Findings []records.ResultFinding // of MTA-STS, DANE and TLS reporting, that are not fine
	Looked   bool
	Fine     bool // looked, and nothing is wrong
	pager
}

// All returns the sessions with all domains, or nil if the list of domains goes on.
func (p *tlsPage) All() *dmarc.TLSDomain {
	if p.Begin != "" || p.More != "" || len(p.Domains) == 0 {
		return nil
	}
	var sum dmarc.TLSDomain
	for i := range p.Domains {
		sum.Successful += p.Domains[i].Successful
		sum.Failed += p.Domains[i].Failed
	}
	return &sum
}

// A tlsResult is one reason why sessions failed.
type tlsResult struct {
	tlsAdvice
	Type     string // "" for words of no standard
	Sessions int64
	Last     time.Time
	MX       []string // hosts, most sessions first
	MoreMX   int
	Chart    template.HTML
	Finding  string // address of the findings about it
}

// A tlsServer is the failed sessions with one mail server.
type tlsServer struct {
	MX       string
	Sessions int64
	Lines    []dmarc.TLSFailureTraffic
}

type tlsPolicy struct {
	dmarc.TLSPolicyTraffic
	Label string
}

// A tlsBin is what one place of the chart stands for.
type tlsBin struct {
	bin
	Successful, Failed int64
	ByResult           map[string]int64
}

// serversShown and mxShown bound what a page lists of mail servers.
const (
	serversShown = 30
	mxShown      = 3
)

// tls serves /tls and /domains/{domain}/tls.
func (s *site) tls(r *http.Request) (*view, error) {
	path, domain, asked, err := s.listOf(r, "tls")
	if err != nil {
		return nil, err
	}
	sp, choose, err := s.readPeriod(r, path)
	if err != nil {
		return nil, err
	}
	if domain == "" && asked != "" {
		return nil, moved(s.domainLink(asked, "tls", sp))
	}
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	p := &tlsPage{Domain: domain, Span: sp, Action: s.link(path)}
	v := &view{Page: "tls", Title: "TLS reports", Nav: navOf(domain, "/reports"), Span: sp, Choose: choose, Data: p}
	q := dmarc.TLSQuery{Domain: domain, Period: sp.Period, Page: dmarc.Page{After: after, Limit: linesPerPage}}
	var next dmarc.Cursor
	if domain == "" {
		p.Domains, next, err = s.store.TLSDomains(r.Context(), q)
		p.pager = s.pagerOf(path, sp.query(nil), after, next)
		return v, err
	}
	v.Title += " about " + domain
	g, ctx := errgroup.WithContext(r.Context())
	g.Go(func() (err error) {
		p.Traffic, err = s.store.TLSTraffic(ctx, q)
		return err
	})
	g.Go(func() (err error) {
		p.Items, next, err = s.store.TLS(ctx, q)
		return err
	})
	var look *records.Result
	g.Go(func() (err error) {
		look, err = s.store.Look(ctx, domain)
		if errors.Is(err, dmarc.ErrNotFound) {
			err = nil
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	p.pager = s.pagerOf(path, sp.query(nil), after, next)
	p.pager.hash("reports")
	p.see(look)
	p.draw(s.domainLink(domain, "dns", span{Preset: defaultDays}))
	return v, nil
}

// see takes from a look at DNS what is about TLS.
func (p *tlsPage) see(look *records.Result) {
	if look == nil {
		return
	}
	p.Looked = true
	for _, f := range look.Findings {
		if kind := findingKind(f.ID); (kind == "mtasts" || kind == "dane" || kind == "tlsrpt") && f.Severity != "ok" {
			p.Findings = append(p.Findings, f)
		}
	}
	slices.SortStableFunc(p.Findings, func(a, b records.ResultFinding) int { return cmp.Compare(severityOf(&a), severityOf(&b)) })
	p.Fine = len(p.Findings) == 0
}

// findingKind is the first part of the name of a finding.
func findingKind(id string) string {
	kind, _, _ := strings.Cut(id, ".")
	return kind
}

// draw makes pictures and tables of what the reports tell. Findings about DNS stand
// at the address dns.
func (p *tlsPage) draw(dns string) {
	u := unitFor(p.Span.Period)
	p.ByDay, p.UnitName = u == byDay, [...]string{"day", "week", "month"}[u]
	p.Bins = tlsBins(p.Traffic.Days, p.Span.Period, u)
	p.Sessions = sessionsChart(p.Bins, u, 200)
	sums := map[string]int64{}
	for _, d := range p.Traffic.Days {
		for result, n := range d.ByResult {
			sums[result] += n
		}
	}
	for result, n := range sums {
		r := tlsResult{tlsAdvice: tlsWord(result), Type: result, Sessions: n}
		for _, f := range p.Traffic.Failures {
			if f.ResultType != result && (result != "" || slices.Contains(dmarc.TLSResults, f.ResultType)) {
				continue
			}
			if f.LastDay.After(r.Last) {
				r.Last = f.LastDay
			}
			if f.MX != "" && !slices.Contains(r.MX, f.MX) {
				r.MX = append(r.MX, f.MX)
			}
		}
		if r.MoreMX = max(0, len(r.MX)-mxShown); r.MoreMX > 0 {
			r.MX = r.MX[:mxShown]
		}
		for _, f := range p.Findings {
			if r.Kind != "" && findingKind(f.ID) == r.Kind {
				r.Finding = dns + "#" + strings.ToLower(strings.ReplaceAll(records.KindOf(f.ID), " ", "-"))
			}
		}
		r.Chart = resultChart(p.Bins, u, result, r.Label, 64)
		p.Results = append(p.Results, r)
	}
	slices.SortFunc(p.Results, func(a, b tlsResult) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(a.Type, b.Type))
	})
	at := map[string]int{}
	for _, f := range p.Traffic.Failures {
		i, ok := at[f.MX]
		if !ok {
			i, at[f.MX] = len(p.Servers), len(p.Servers)
			p.Servers = append(p.Servers, tlsServer{MX: f.MX})
		}
		p.Servers[i].Sessions += f.Sessions
		p.Servers[i].Lines = append(p.Servers[i].Lines, f)
	}
	slices.SortStableFunc(p.Servers, func(a, b tlsServer) int { return cmp.Compare(b.Sessions, a.Sessions) })
	p.Servers = p.Servers[:min(len(p.Servers), serversShown)]
	for _, policy := range p.Traffic.Policies {
		label := tlsPolicyWords[policy.Type]
		p.Policies = append(p.Policies, tlsPolicy{policy, label})
	}
}

// Shown counts the failed sessions of the servers that are listed.
func (p *tlsPage) Shown() (n int64) {
	for _, s := range p.Servers {
		n += s.Sessions
	}
	return n
}

// Explained counts failed sessions by server and reason, over all of them.
func (p *tlsPage) Explained() (n int64) {
	n = p.Traffic.Others
	for _, f := range p.Traffic.Failures {
		n += f.Sessions
	}
	return n
}

// tlsBins sorts days into bins that cover a period without holes.
func tlsBins(days []dmarc.TLSDay, period dmarc.Period, u unit) []tlsBin {
	traffic := make([]dmarc.DayTraffic, len(days))
	for i, d := range days {
		traffic[i].Day = d.Day
	}
	var bins []tlsBin
	i := 0
	for _, b := range binned(traffic, period, u) {
		t := tlsBin{bin: b, ByResult: map[string]int64{}}
		for ; i < len(days) && days[i].Day.Before(b.To); i++ {
			if days[i].Day.Before(b.From) {
				continue
			}
			t.Successful += days[i].Successful
			t.Failed += days[i].Failed
			for result, n := range days[i].ByResult {
				t.ByResult[result] += n
			}
		}
		bins = append(bins, t)
	}
	return bins
}

// tlsFrame begins a chart of bars; nothing is drawn without a peak.
func tlsFrame(bins []tlsBin, u unit, height float64, value func(*tlsBin) float64) (f *frame, peak float64) {
	f = &frame{unit: u, height: height, across: plotWidth}
	for i := range bins {
		f.bins = append(f.bins, bins[i].bin)
		peak = max(peak, value(&bins[i]))
	}
	return f, peak
}

// bar draws a bar between two values; what is there is never too small to be seen.
func (f *frame) bar(i int, class string, from, to float64) {
	if to <= from {
		return
	}
	w := f.width()
	top, bottom := f.y(to), f.y(from)
	top = min(top, bottom-1.5)
	fmt.Fprintf(f, `<rect class="%s"%s x="%s" y="%s" width="%s" height="%s"/>`+"\n", class, fill(class), num(float64(i)*w+w*.1), num(top), num(w*.8), num(bottom-top))
}

// sessionsChart draws sessions a day: failed ones above those that succeeded.
func sessionsChart(bins []tlsBin, u unit, height float64) template.HTML {
	f, peak := tlsFrame(bins, u, height, func(b *tlsBin) float64 { return b.perDay(b.Successful + b.Failed) })
	if peak == 0 {
		return ""
	}
	ticks := ticksTo(peak)
	f.hi = ticks[len(ticks)-1]
	f.open("sessions", "Sessions with TLS a day, succeeded and failed. The same numbers are in the table below.", ticks, tick)
	for i := range bins {
		ok := bins[i].perDay(bins[i].Successful)
		f.bar(i, "own", 0, ok)
		f.bar(i, "lost", ok, ok+bins[i].perDay(bins[i].Failed))
	}
	f.gaps()
	f.days(func(i int) string {
		b := &bins[i]
		if b.Reported == 0 {
			return binName(b.bin) + ": no reports"
		}
		s := binName(b.bin) + ": " + plural(b.Successful+b.Failed, "session", "sessions")
		if b.Successful+b.Failed > 0 {
			s += ", " + percent(b.Successful, b.Successful+b.Failed) + " succeeded"
		}
		if b.Failed > 0 {
			s += "; " + count(b.Failed) + " failed"
		}
		return s + "."
	})
	return f.shut(nil)
}

// resultChart draws the failed sessions a day of one result type.
func resultChart(bins []tlsBin, u unit, result, label string, height float64) template.HTML {
	f, peak := tlsFrame(bins, u, height, func(b *tlsBin) float64 { return b.perDay(b.ByResult[result]) })
	if peak == 0 {
		return ""
	}
	ticks := ticksTo(peak)
	f.hi = ticks[len(ticks)-1]
	f.open("lost-days", label+": failed sessions a day. The same numbers are in the table below.", []float64{0, f.hi}, tick)
	for i := range bins {
		f.bar(i, "lost", 0, bins[i].perDay(bins[i].ByResult[result]))
	}
	f.gaps()
	f.days(func(i int) string {
		if bins[i].Reported == 0 {
			return binName(bins[i].bin) + ": no reports"
		}
		return binName(bins[i].bin) + ": " + plural(bins[i].ByResult[result], "failed session", "failed sessions") + "."
	})
	return f.shut(nil)
}

// tlsReportPage is one TLS report.
type tlsReportPage struct {
	dmarc.StoredTLS
	Odd       []string
	Day       span   // the days that the report is about
	MessageAt string // address of the message that it came in; "" for none
	Text      string // address of the report as it came; "" for none
	Download  string
}

// tlsReport serves /tls/{id}.
func (s *site) tlsReport(r *http.Request) (*view, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	p := &tlsReportPage{}
	if p.StoredTLS, err = s.store.TLSReport(r.Context(), id); err != nil {
		return nil, err
	}
	if p.MessageAt, err = s.messageAt(r.Context(), p.MessageID); err != nil {
		return nil, err
	}
	if path := "/tls/" + url.PathEscape(id); s.texts != nil && !p.Partial {
		p.Text, p.Download = s.link(path+"/text"), s.link(path+"/download")
	}
	rep := &p.Report
	p.Odd, p.Day = flagText(rep.Flags), daysOf(rep.Period)
	return &view{Page: "tlsreport", Title: "TLS report of " + cut(plain(rep.OrgName), 60) + " about " + rep.Domain, Nav: "/reports", Data: p}, nil
}

// tlsText serves /tls/{id}/text: the beginning of the report as it came.
func (s *site) tlsText(r *http.Request) (*view, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	rep, err := s.store.TLSReport(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if rep.Partial {
		return nil, dmarc.ErrNotFound
	}
	p := &textPage{Domain: rep.Report.Domain, Reporter: rep.Report.OrgName, Title: "TLS report"}
	return s.text(r, p, "/tls/"+url.PathEscape(id), id, s.texts.TLSText)
}

// tlsTotals sums the sessions of a report.
func tlsTotals(t *dmarc.StoredTLS) (sum struct{ Successful, Failed int64 }) {
	sum.Successful, sum.Failed = t.Report.Sessions()
	return sum
}

// tlsKinds names the policies of a report.
func tlsKinds(t *dmarc.StoredTLS) []string {
	var all []string
	for _, p := range t.Report.Policies {
		k := p.Type
		if label := tlsPolicyWords[k]; label != "" {
			k = label
		}
		if !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	return all[:min(len(all), 5)]
}

// tlsDomainLink returns the address of what TLS reports tell about a domain.
func (s *site) tlsDomainLink(domain string, sp span) string {
	return s.link(domainPath(domain, "tls"), sp.query(url.Values{}))
}
