package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	domainsPerPage = 50
	trendDays      = 90
	// Domains are summed in steps of this size, and up to this number.
	sumStep, sumMost = 1_000, 20_000
)

// domainsPage is the page of all domains.
type domainsPage struct {
	Items []dmarc.DomainTraffic
	Trend dmarc.Period
	Total domainsTotal
	First int    // place of the first item among all, from 1
	More  string // address of the next page; "" at the end
	Begin string // address of the first page; "" there
	Clear string // address without the search
	News  []news
}

// Last returns the place of the last item among all.
func (p *domainsPage) Last() int { return p.First + len(p.Items) - 1 }

// domainsTotal sums domains.
type domainsTotal struct {
	Domains int
	More    bool // there are more domains than were summed
	Tally   dmarc.Tally
	Classes [len(classNames)]int64
	None    int // publish p=none
}

func (t *domainsTotal) add(d *dmarc.DomainTraffic) {
	t.Domains++
	t.Tally.Merge(d.Tally)
	for k, n := range classify(d.Tally) {
		t.Classes[k] += n
	}
	if d.Published != nil && d.Published.P == dmarc.PolicyNone {
		t.None++
	}
}

// Failed returns how many messages failed.
func (t *domainsTotal) Failed() int64 { return t.Tally.Messages - t.Tally.DMARCPass }

// Stopped returns how many of them were quarantined or rejected.
func (t *domainsTotal) Stopped() int64 { return t.Classes[len(classNames)-1] }

// domains serves /: all domains, busiest first.
func (s *site) domains(r *http.Request) (*view, error) {
	sp, choose, err := s.readPeriod(r, "/", "q")
	if err != nil {
		return nil, err
	}
	search := cut(strings.TrimSpace(r.URL.Query().Get("q")), 255)
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	p := &domainsPage{First: 1, Trend: lastDays(trendDays, s.now()).Period, Clear: s.link("/", sp.query(nil))}
	if p.Trend.End.After(sp.End) {
		p.Trend.End = sp.End
	} else {
		p.Trend.End = sp.Today // which is not over: most reports about it are still to come
	}
	p.Trend.Begin = p.Trend.End.AddDate(0, 0, -trendDays)
	q := dmarc.DomainQuery{Period: sp.Period, Search: searchName(search)}
	first := q
	first.Trend, first.Page = p.Trend, dmarc.Page{After: after, Limit: domainsPerPage}
	var next dmarc.Cursor
	if p.Items, next, err = s.store.Domains(r.Context(), first); err != nil {
		return nil, err
	}
	address := func(after dmarc.Cursor) string {
		v := url.Values{}
		if search != "" {
			v.Set("q", search)
		}
		if after != "" {
			v.Set("after", string(after))
		}
		return s.link("/", sp.query(v))
	}
	if next != "" {
		p.More = address(next)
	}
	if after != "" {
		p.Begin = address("")
	}
	if after == "" && next == "" {
		for i := range p.Items {
			p.Total.add(&p.Items[i])
		}
	} else if err := s.sumDomains(r.Context(), q, p); err != nil {
		return nil, err
	}
	if search == "" && after == "" {
		p.News = newsOf(p.Items, p.Trend)
	}
	v := &view{Page: "domains", Title: "All domains", Nav: "/", Search: search, Span: sp, Choose: choose, Data: p}
	if search != "" {
		v.Title = "Domains with " + plain(search)
	}
	return v, nil
}

// sumDomains sums all domains of a query, and finds the place of the page
// among them.
func (s *site) sumDomains(ctx context.Context, q dmarc.DomainQuery, p *domainsPage) error {
	q.Limit = sumStep
	for {
		items, next, err := s.store.Domains(ctx, q)
		if err != nil {
			return err
		}
		for i := range items {
			p.Total.add(&items[i])
			if len(p.Items) > 0 && items[i].Domain == p.Items[0].Domain {
				p.First = p.Total.Domains
			}
		}
		if q.After = next; next == "" {
			return nil
		}
		if p.Total.Domains >= sumMost {
			p.Total.More = true
			return nil
		}
	}
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

// News is something about a domain that stands out.
type news struct {
	Domain string
	Text   string
	weight int64 // messages concerned
}

// How much must have changed to stand out.
const (
	newsDays    = 7  // the recent days
	newsBefore  = 28 // are compared with the days before them
	newsAtLeast = 50 // messages
	newsFall    = 2  // points of the pass rate
	newsLet     = 5  // percent of the mail that failed and was not stopped
	newsSilent  = 5  // days without mail of a domain that has some on most days
	newsMost    = 4  // are shown
)

// newsOf returns what stands out in the trend of domains, what concerns most
// messages first.
func newsOf(domains []dmarc.DomainTraffic, trend dmarc.Period) []news {
	var all []news
	recent := trend.End.AddDate(0, 0, -newsDays)
	before := recent.AddDate(0, 0, -newsBefore)
	for _, d := range domains {
		var now, then dmarc.Tally
		active := 0
		for _, t := range d.Days {
			switch {
			case !t.Day.Before(recent):
				now.Merge(t.Tally)
			case !t.Day.Before(before):
				then.Merge(t.Tally)
			}
			if t.Tally.Messages > 0 {
				active++
			}
		}
		if quiet := int(trend.End.Sub(d.LastDay)/aDay) - 1; active > trendDays/2 && quiet >= newsSilent {
			all = append(all, news{d.Domain, fmt.Sprintf("No mail seen since %s, for %d%sdays. Before, there was some on most days.", day(d.LastDay), quiet, nbsp), then.Messages})
			continue
		}
		if now.Messages < newsAtLeast {
			continue
		}
		nowRate, _ := now.PassRate()
		thenRate, ok := then.PassRate()
		failed := now.Messages - now.DMARCPass
		let := classify(now)[3]
		switch {
		case ok && failed >= newsAtLeast && then.Messages >= newsAtLeast && (thenRate-nowRate)*100 >= newsFall:
			s := fmt.Sprintf("%s passed in the last %d%sdays, after %s in the four weeks before: %s failed, ",
				percent(now.DMARCPass, now.Messages), newsDays, nbsp, percent(then.DMARCPass, then.Messages), plural(failed, "message", "messages"))
			switch stopped := failed - let; {
			case stopped == 0:
				s += "none of them stopped."
			case let == 0:
				s += "all of them stopped."
			default:
				s += count(stopped) + " of them stopped."
			}
			all = append(all, news{d.Domain, s, failed})
		case let >= newsAtLeast && let*100 >= now.Messages*newsLet:
			all = append(all, news{d.Domain, fmt.Sprintf("%s failed in the last %d%sdays and were not stopped, %s of its mail.",
				plural(let, "message", "messages"), newsDays, nbsp, percent(let, now.Messages)), let})
		}
	}
	slices.SortStableFunc(all, func(a, b news) int { return cmp.Compare(b.weight, a.weight) })
	return all[:min(len(all), newsMost)]
}
