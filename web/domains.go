package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	domainsPerPage = 50
	trendDays      = 90
)

// domainsPage is the page of all domains.
type domainsPage struct {
	Items  []dmarc.DomainTraffic
	Trend  dmarc.Period
	Total  domainsTotal
	First  int    // place of the first item among all, from 1
	More   string // address of the next page; "" at the end
	Begin  string // address of the first page; "" there
	Clear  string // address without the search
	Urgent bool   // what deserves attention comes first
	Other  string // address of the list in the other order
	Failed string // address of the reports with what failed; "" where only some domains are shown
	Needs  []dmarc.DomainVerdict
	Needy  bool        // there are more of them
	Group  string      // that is shown; "" for all domains
	Groups *groupsPage // nil for none
}

// Last returns the place of the last item among all.
func (p *domainsPage) Last() int { return p.First + len(p.Items) - 1 }

// domainsTotal sums domains.
type domainsTotal struct{ dmarc.DomainsTotal }

// Owned is what verdicts tell about mail of the owners.
func (t domainsTotal) Owned() ownMail { return ownMail{t.Judged, t.Own, t.Passing, t.LossADay} }

// Unjudged returns how many domains have no verdict yet.
func (t domainsTotal) Unjudged() int { return t.Domains - t.Judged }

// Failed returns how many messages failed.
func (t domainsTotal) Failed() int64 { return t.Messages - t.DMARCPass }

// An ownMail is what verdicts tell about mail of the owners of domains: that of
// own sources and services. Forgeries are not in it.
type ownMail struct {
	Judged   int // domains with a verdict
	Messages int64
	Passing  int64
	ADay     float64 // that the policy which is judged would lose
}

func (o *ownMail) add(v *dmarc.DomainVerdict) {
	if v == nil {
		return
	}
	o.Judged++
	o.Messages += v.Own
	o.Passing += v.Passing
	o.ADay += v.LossADay
}

// Lost says how much would be lost.
func (o ownMail) Lost() string {
	if o.ADay == 0 {
		return "none"
	}
	return rate(o.ADay)
}

// domains serves /: what needs somebody, and all domains, those first that
// deserve attention, or the busiest.
func (s *site) domains(r *http.Request) (*view, error) {
	sp, choose, err := s.readPeriod(r, "/", "q", "by", "group")
	if err != nil {
		return nil, err
	}
	search := cut(strings.TrimSpace(r.URL.Query().Get("q")), 255)
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	p := &domainsPage{Trend: lastDays(trendDays, s.now()).Period, Clear: s.link("/", sp.query(nil))}
	if p.Trend.End.After(sp.End) {
		p.Trend.End = sp.End
	} else {
		p.Trend.End = sp.Today // which is not over: most reports about it are still to come
	}
	p.Trend.Begin = p.Trend.End.AddDate(0, 0, -trendDays)
	p.Urgent = s.adviser != nil && r.URL.Query().Get("by") != "volume"
	p.Group = cut(r.URL.Query().Get("group"), 255)
	if search == "" && p.Group == "" {
		p.Failed = s.link("/reports", sp.query(url.Values{"aligned": {"no"}}))
	}
	q := dmarc.DomainQuery{
		Period: sp.Period, Trend: p.Trend, Search: searchName(search), Group: p.Group, Urgent: p.Urgent, Page: dmarc.Page{After: after, Limit: domainsPerPage},
	}
	var next dmarc.Cursor
	g, ctx := errgroup.WithContext(r.Context())
	g.Go(func() (err error) {
		p.Items, next, p.Total.DomainsTotal, err = s.store.DomainsWithTotal(ctx, q)
		return err
	})
	if s.adviser != nil && search == "" && after == "" {
		g.Go(func() (err error) {
			p.Needs, p.Needy, err = s.needs(ctx, p.Group)
			return err
		})
	}
	if search == "" && after == "" {
		g.Go(func() (err error) {
			p.Groups, err = s.groups(ctx, sp, p.Group, r.URL.Query().Get("by"))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(p.Items) == 0 && search == "" && after == "" && p.Group == "" {
		return s.start(r)
	}
	address := func(after dmarc.Cursor, urgent bool) string {
		v := url.Values{}
		if s.adviser != nil && !urgent {
			v.Set("by", "volume")
		}
		if search != "" {
			v.Set("q", search)
		}
		if p.Group != "" {
			v.Set("group", p.Group)
		}
		if after != "" {
			v.Set("after", string(after))
		}
		return s.link("/", sp.query(v))
	}
	if next != "" {
		p.More = address(next, p.Urgent)
	}
	if after != "" {
		p.Begin = address("", p.Urgent)
	}
	if s.adviser != nil {
		p.Other = address("", !p.Urgent)
	}
	p.First = p.Total.Before + 1
	v := &view{Page: "domains", Title: "All domains", Nav: "/", Search: search, Span: sp, Choose: choose, Data: p}
	switch {
	case search != "":
		v.Title = "Domains with " + plain(search)
	case p.Group != "":
		v.Title = plain(p.Group)
	}
	return v, nil
}

// searchName turns what was typed into part of a name as it is stored: in
// lower case, and as A-label if it is one or more whole labels.
func searchName(s string) string {
	s = strings.ToLower(s)
	if a, err := idna.Lookup.ToASCII(strings.Trim(s, ".")); err == nil && strings.Contains(a, "xn--") {
		return a
	}
	return s
}

// needsShown is how many domains the page names that need somebody.
const needsShown = 5

// needs returns the domains that deserve attention first, and whether there are
// more of them.
func (s *site) needs(ctx context.Context, group string) (list []dmarc.DomainVerdict, more bool, err error) {
	list, _, err = s.store.Attention(ctx, dmarc.AttentionQuery{Group: group, Page: dmarc.Page{Limit: needsShown + 1}})
	if err != nil {
		return nil, false, err
	}
	list = slices.DeleteFunc(list, func(v dmarc.DomainVerdict) bool { return v.Attention == dmarc.AttentionNone })
	if len(list) > needsShown {
		return list[:needsShown], true, nil
	}
	return list, false, nil
}

// needWord names what a domain deserves attention for, in the colour that it has.
func needWord(a dmarc.Attention) verdictWord {
	switch a {
	case dmarc.AttentionNewFailure:
		return verdictWord{"error", "", "new failure"}
	case dmarc.AttentionStepBack:
		return verdictWord{"error", "", "step back"}
	case dmarc.AttentionReady:
		return verdictWord{"ok", "", "ready"}
	case dmarc.AttentionSilence:
		return verdictWord{"warning", "", "silence"}
	case dmarc.AttentionNoReports:
		return verdictWord{"warning", "", "no reports"}
	case dmarc.AttentionAsk:
		return verdictWord{"unknown", "", "whose is it?"}
	}
	return verdictWord{"warning", "", "to mend"}
}

// stoppedADay returns how many messages of a domain were quarantined or
// rejected, by the days of the period that are known to have reports.
func stoppedADay(d dmarc.DomainTraffic, sp span) float64 {
	days := 0
	for _, t := range d.Days {
		if !t.Day.Before(sp.Begin) && t.Day.Before(sp.End) {
			days++
		}
	}
	if sp.Days() > trendDays {
		days = sp.Days() // those before the trend are not known
	}
	return perDay(stopped(d.Tally), days)
}

// nextPolicy says in short what to publish now for a domain: the policy, or
// what else of the record changes; "" if nothing does.
func nextPolicy(d dmarc.DomainTraffic) string {
	if d.Verdict == nil || d.Verdict.Next == "" {
		return ""
	}
	p, rest, _ := strings.Cut(strings.TrimPrefix(d.Verdict.Next, "p="), "; ")
	if d.Published != nil && d.Published.P.String() == p && rest != "" {
		if strings.HasPrefix(rest, "sp=") || strings.HasPrefix(rest, "np=") {
			return "subdomains" // the policy itself is told by the title
		}
		return rest
	}
	return p
}
