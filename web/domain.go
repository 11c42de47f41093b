package web

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/net/idna"
	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// How many lines of each list the page of a domain shows.
const (
	topSenders   = 10
	topReporters = 10
	topReports   = 10
	topKeys      = 10
	topNames     = 20  // below the domain
	mostBelow    = 200 // domains below one that are looked at
)

// domainPage is the page of one domain.
type domainPage struct {
	Domain    string
	Summary   dmarc.DomainSummary
	Earlier   dmarc.Tally // in the period of the same length before
	Chips     []chip
	Arranged  dmarc.DomainSettings
	Bins      []bin
	ByDay     bool
	UnitName  string // "by week"
	Estimated bool
	ToToday   bool // the last day is today
	Volume    template.HTML
	Rate      template.HTML
	RateFloor int // where the scale of Rate begins, in percent
	Classes   []share
	Results   []share // what receivers did
	Senders   sendersPage
	Crew      *crew // nil without an adviser
	Sorted    *sorted
	Brush     *brush
	Keys      keysPage
	Names     []subdomain // busiest first
	MoreNames int
	Reporters reportersPage
	Reports   reportsPage
	LastSeen  *dmarc.ReportSummary // if the period is empty: the newest report of all
	LastSpan  span                 // a period with that report
	Odd       bool                 // there are reports, but their dates make no sense
}

// sorted is the mail of a domain by whose it is.
type sorted struct {
	Mix      mix
	Bins     []mix // of the chart, as domainPage.Bins
	Unsorted int64 // counted, and not sorted yet
	Flow     template.HTML
	Flows    []flow // all of them, busiest first
	Quiet    []quiet
	days     map[time.Time]*mix
	lines    []policyLine
}

// Total returns all messages.
func (s *sorted) Total() int64 { return s.Mix.total() }

// Names are those of the bands.
func (s *sorted) Names() []bandName { return bandNames }

// Bands returns the numbers of a bin.
func (s *sorted) Bands(bin int) []int64 { return s.Bins[bin].bands() }

// Rate tells how much of the owner's mail of a bin passed.
func (s *sorted) Rate(bin int) string {
	passed, all := s.Bins[bin].yours()
	return percent(passed, all)
}

// Gathered tells how many ways the picture shows as one.
func (s *sorted) Gathered() int {
	if len(s.Flows) <= mostBands {
		return 0
	}
	return len(s.Flows) - mostBands + 1
}

// Comparable tells whether there was enough mail before to compare with: not
// only the first reports that ever came.
func (p *domainPage) Comparable() bool {
	return p.Earlier.Messages > 0 && p.Earlier.Messages >= p.Summary.Tally.Messages/5
}

// A chip is a tag of the published record, explained.
type chip struct{ Tag, Value, Text string }

// A share is one line of a list of bars.
type share struct {
	Class, Label string
	Messages     int64
	Text         string
}

// domainOf returns the domain that an address names. Another spelling of a
// name is moved to its own address.
func (s *site) domainOf(r *http.Request, under string) (string, error) {
	name := chi.URLParam(r, "domain")
	if r.URL.RawPath != "" {
		var err error
		if name, err = url.PathUnescape(name); err != nil {
			return "", dmarc.ErrNotFound
		}
	}
	proper := strings.ToLower(strings.TrimSuffix(name, "."))
	if a, err := idna.Lookup.ToASCII(proper); err == nil {
		proper = a
	}
	if proper != name && proper != "" {
		return "", moved(s.link(domainPath(proper, under), r.URL.Query()))
	}
	return name, nil
}

// atOnce bounds what a page asks at once: each question takes a connection of those that all share, and what
// most take is little beside the one for the evidence.
const atOnce = 4

// domain serves /domains/{domain}.
func (s *site) domain(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "")
	if err != nil {
		return nil, err
	}
	sp, choose, err := s.readPeriod(r, domainPath(name, ""))
	if err != nil {
		return nil, err
	}
	p := &domainPage{
		Domain:    name,
		Senders:   sendersPage{Domain: name, Span: sp},
		Reporters: reportersPage{Domain: name, Span: sp},
		Reports:   reportsPage{Domain: name, Span: sp},
		Keys:      keysPage{Domain: name, Span: sp},
	}
	var evidence *advice.Evidence
	var below []dmarc.DomainTraffic
	g, ctx := errgroup.WithContext(r.Context())
	g.SetLimit(atOnce)
	traffic := func(sp span, limit int) dmarc.TrafficQuery {
		return dmarc.TrafficQuery{Domain: name, Period: sp.Period, Page: dmarc.Page{Limit: limit}}
	}
	if s.adviser != nil {
		g.Go(func() error {
			e, err := s.evidenceFor(ctx, name, sp.Period)
			if err == nil {
				evidence = e
				p.Sorted = &sorted{lines: policyLines(e.Changes, sp.Period)}
				g.Go(func() error {
					p.Sorted.Quiet = quietReporters(e, minTime(sp.End, sp.Today.Add(aDay)))
					return nil
				})
				classified := advice.Classify(e)
				g.Go(func() error {
					p.Sorted.days = mixDays(classified, sp.Period)
					return nil
				})
				p.Crew = crewOf(e, classified, sp)
			}
			return err
		})
	} else {
		g.Go(func() (err error) {
			p.Senders.List, _, err = s.store.Sources(ctx, traffic(sp, topSenders))
			return err
		})
	}
	g.Go(func() (err error) {
		p.Summary, err = s.store.Summary(ctx, traffic(sp, 1))
		return err
	})
	g.Go(func() error {
		earlier, err := s.store.Summary(ctx, traffic(sp.before(), 1))
		p.Earlier = earlier.Tally
		return err
	})
	g.Go(func() (err error) {
		var next dmarc.Cursor
		p.Reporters.Items, next, err = s.store.Reporters(ctx, traffic(sp, topReporters))
		p.Reporters.HasMore = next != ""
		return err
	})
	g.Go(func() (err error) {
		var next dmarc.Cursor
		p.Reports.Items, next, err = s.store.Reports(ctx, dmarc.ReportQuery{Domain: name, Period: sp.Period, Page: dmarc.Page{Limit: topReports}})
		p.Reports.HasMore = next != ""
		return err
	})
	g.Go(func() (err error) {
		var next dmarc.Cursor
		p.Keys.List, next, err = s.store.Selectors(ctx, traffic(sp, topKeys))
		p.Keys.HasMore = next != ""
		return err
	})
	g.Go(func() (err error) {
		below, _, err = s.store.Domains(ctx, dmarc.DomainQuery{Domain: name, Subdomains: true, Period: sp.Period, Page: dmarc.Page{Limit: mostBelow + 1}})
		below = slices.DeleteFunc(below, func(d dmarc.DomainTraffic) bool { return !strings.HasSuffix(d.Domain, "."+name) })
		return err
	})
	long := longAround(sp)
	g.Go(func() error {
		around, err := s.store.Summary(ctx, dmarc.TrafficQuery{Domain: name, Period: long, Page: dmarc.Page{Limit: 1}})
		if err == nil && len(around.Days) > 0 {
			p.Brush = s.brushOf(domainPath(name, ""), sp, long, around.Days)
		}
		return err
	})
	if s.arranger != nil {
		g.Go(func() (err error) {
			p.Arranged, err = s.arranger.DomainSettings(ctx, name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return s.unknownDomain(name, err)
	}
	if s.adviser != nil { // senders are told from what keys are told from
		p.Senders.List.Pending = p.Keys.List.Pending
	}
	p.Names = subdomains(evidence, sp.Period, below)
	if n := len(p.Names); n > topNames {
		p.Names, p.MoreNames = p.Names[:topNames], n-topNames
	}
	p.Senders.Tally, p.Reporters.Tally = p.Summary.Tally, p.Summary.Tally
	p.draw(sp)
	if p.Summary.Tally.Messages == 0 && p.Summary.Reports == 0 {
		if err := s.lastReport(r, p); err != nil {
			return nil, err
		}
	}
	return &view{Page: "domain", Title: name, Nav: "/", Span: sp, Choose: choose, Data: p}, nil
}

// draw makes the charts and what stands beside them.
func (p *domainPage) draw(sp span) {
	u := unitFor(sp.Period)
	p.ByDay, p.UnitName = u == byDay, [...]string{"by day", "by week", "by month"}[u]
	p.Bins = binned(p.Summary.Days, sp.Period, u)
	p.ToToday = sp.Last().Equal(sp.Today)
	p.Estimated = slices.ContainsFunc(p.Bins, func(b bin) bool { return b.Estimated })
	about := "Share of messages that passed DMARC."
	rate := func(i int) (int64, int64) { return p.Bins[i].Tally.DMARCPass, p.Bins[i].Tally.Messages }
	if o := p.Sorted; o != nil {
		o.Bins, o.Mix, o.Unsorted = mixBins(p.Bins, p.Summary.Days, o.days)
		o.Flows = flowsOf(&o.Mix)
		o.Flow = flowChart(&o.Mix, o.Flows)
		about = "Share of your own mail that passed DMARC."
		rate = func(i int) (int64, int64) { return o.Bins[i].yours() }
		p.Volume = stackChart(p.Bins, u, sp.Today, 240, stack{"Messages a day by whose they are, and whether yours pass.", bandNames, o.Bands, o.lines})
	} else {
		p.Volume = volumeChart(p.Bins, u, sp.Today, 240)
	}
	p.Rate, p.RateFloor = rateChart(p.Bins, u, 120, about, rate)
	p.Chips = chipsOf(p.Summary.Published)
	t := p.Summary.Tally
	texts := [...]string{
		"Both aligned: if one breaks, it still passes.",
		"DKIM aligned, SPF not: usual for services and forwarders.",
		"SPF aligned, DKIM not: it fails once it is forwarded.",
		"Neither aligned, and no receiver acted on it.",
		"Neither aligned; quarantined or rejected.",
	}
	for k, n := range classify(t) {
		p.Classes = append(p.Classes, share{classNames[k].Class, classNames[k].Label, n, texts[k]})
	}
	p.Results = []share{
		{"unknown", "let through", t.None, "Disposition none or pass: the policy asked for nothing."},
		{"stopped", "quarantined", t.Quarantine, "Disposition quarantine: most often put into the spam folder."},
		{"stopped", "rejected", t.Reject, "Disposition reject: refused, and the sender told."},
	}
	if t.Unstated > 0 {
		p.Results = append(p.Results, share{"unknown", "not said", t.Unstated, "The report gives no disposition that can be read."})
	}
}

// policyLines are the changes of the policy in a period.
func policyLines(changes []advice.Change, p dmarc.Period) []policyLine {
	var out []policyLine
	for _, c := range changes {
		if p.Contains(c.Day) {
			out = append(out, policyLine{c.Day, "p=" + c.To.String()})
		}
	}
	return out
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// lastReport finds the newest report about a domain whose period is empty.
func (s *site) lastReport(r *http.Request, p *domainPage) error {
	ever := dmarc.Period{End: s.now().UTC().AddDate(1, 0, 0)}
	last, _, err := s.store.Reports(r.Context(), dmarc.ReportQuery{Domain: p.Domain, Period: ever, Page: dmarc.Page{Limit: 1}})
	if err != nil || len(last) == 0 {
		return err
	}
	p.LastSeen = &last[0]
	to := last[0].Report.Period.EffectiveEnd().UTC().Truncate(aDay).Add(aDay)
	p.LastSpan = span{Period: dmarc.Period{Begin: to.AddDate(0, 0, -defaultDays), End: to}}
	if p.LastSpan.Begin.Before(dmarc.Earliest) { // no period shows it
		p.LastSeen, p.Odd = nil, true
	}
	return nil
}

// unknownDomain turns the error of a domain that no report was ever about into
// its page. Other errors are returned.
func (s *site) unknownDomain(name string, err error) (*view, error) {
	if !errors.Is(err, dmarc.ErrNotFound) {
		return nil, err
	}
	return &view{Page: "unknown", Status: http.StatusNotFound, Title: name, Nav: "/", Data: name}, nil
}

// chipsOf returns the tags of a record as it was last reported.
func chipsOf(p *dmarc.PolicyPublished) []chip {
	if p == nil {
		return nil
	}
	var all []chip
	add := func(tag, value, text string) {
		if value != "" {
			all = append(all, chip{tag, value, text})
		}
	}
	asks := map[dmarc.Policy]string{
		dmarc.PolicyNone:       "asks receivers to do nothing about mail that fails",
		dmarc.PolicyQuarantine: "asks receivers to treat mail that fails as suspicious",
		dmarc.PolicyReject:     "asks receivers to refuse mail that fails",
	}
	add("p", p.P.String(), "The policy for the domain: "+asks[p.P]+".")
	add("sp", p.SP.String(), "The policy for subdomains: "+asks[p.SP]+".")
	add("np", p.NP.String(), "The policy for subdomains that do not exist: "+asks[p.NP]+".")
	modes := map[dmarc.AlignmentMode]string{
		dmarc.AlignmentRelaxed: "relaxed: subdomains of the same organization count as aligned",
		dmarc.AlignmentStrict:  "strict: only the very same domain is aligned",
	}
	add("adkim", p.ADKIM.String(), "How DKIM is aligned: "+modes[p.ADKIM]+".")
	add("aspf", p.ASPF.String(), "How SPF is aligned: "+modes[p.ASPF]+".")
	if p.Pct != nil {
		add("pct", count(int64(*p.Pct)), "The share of failing mail that the policy is for, in percent. RFC 9989 removed it.")
	}
	if p.Testing != nil {
		value, text := "n", "No testing: the policy is meant as it stands."
		if *p.Testing {
			value, text = "y", "Testing: receivers are asked to apply the next weaker policy."
		}
		add("t", value, text)
	}
	return all
}
