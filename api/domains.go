package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// DomainItem is a domain in the list of domains.
type DomainItem struct {
	Domain    string   `json:"domain"`
	Totals    Totals   `json:"totals"`
	PassRate  *float64 `json:"pass_rate" doc:"share of messages that pass DMARC, 0 to 1; null without messages"`
	Reports   int64    `json:"reports"`
	Published *Policy  `json:"published" doc:"policy as last reported"`
	LastDay   *string  `json:"last_day" format:"date" doc:"last day with messages"`
	Verdict   *string  `json:"verdict" enum:"ready,not_ready,not_enough_evidence,done" doc:"whether the next step of the policy is safe; null before it was judged"`
	Advice    *Brief   `json:"advice" doc:"the verdict in short; null before it was judged"`
	Groups    []string `json:"groups" nullable:"false" doc:"that it is in, by itself or by a domain above it"`
	Labels    []string `json:"labels" nullable:"false"`
	Ignored   bool     `json:"ignored" doc:"it is left out of lists unless that is asked for"`
}

func (a *API) domains(ctx context.Context, in *struct {
	Period
	Page
	Group
	OfDomain
	ByReporter
	FromSource
	OfClass
	WithMail
	Search  string `query:"search" maxLength:"255" doc:"part of the name"`
	Label   string `query:"label" maxLength:"255" doc:"only domains with this label"`
	Ignored bool   `query:"ignored" doc:"list those as well that are ignored"`
	Verdict string `query:"verdict" enum:"ready,not_ready,not_enough_evidence,done" doc:"only domains with this verdict"`
	Sort    string `query:"sort" enum:"messages,-messages,failed,-failed,pass_rate,-pass_rate,reports,-reports,domain,-domain,attention" default:"-messages" doc:"what the list is sorted by, after - the greatest first; failed is messages that failed, attention the most urgent first"`
}) (*List[DomainItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.store.Domains(ctx, dmarc.DomainQuery{
		Period: in.period(in.at), Search: in.Search, Group: in.Group.Group, Label: in.Label, Ignored: in.Ignored,
		Domain: aLabel(in.OfDomain.Domain), Subdomains: in.Subdomains, Verdict: in.Verdict, Page: in.sorted(in.Sort),
		Mail: in.WithMail.of(in.OfClass.of(dmarc.Filter{Reporter: in.Reporter, Source: in.prefix})),
	})
	if err != nil {
		return nil, a.problem(err, "listing domains")
	}
	return listOf(list, next, func(d *dmarc.DomainTraffic) DomainItem {
		return DomainItem{d.Domain, totals(d.Tally), passRate(d.Tally), d.Reports, policy(d.Published), dayOrNull(d.LastDay), verdict(d.Verdict), brief(d.Verdict),
			append([]string{}, d.Groups...), append([]string{}, d.Labels...), d.Ignored}
	}), nil
}

// Point is a point of a series.
type Point struct {
	Day       string `json:"day" format:"date" doc:"first day of the interval (UTC)"`
	Totals    Totals `json:"totals"`
	Estimated bool   `json:"estimated" doc:"some of it is a share of a report over several days"`
}

// Summary is what the reports of a period tell about a domain.
type Summary struct {
	Body struct {
		Domain    string    `json:"domain"`
		From      time.Time `json:"from"`
		To        time.Time `json:"to"`
		Interval  string    `json:"interval"`
		Totals    Totals    `json:"totals"`
		PassRate  *float64  `json:"pass_rate" doc:"share of messages that pass DMARC, 0 to 1; null without messages"`
		Undated   Totals    `json:"undated" doc:"of the totals: what is in no series, for implausible dates or very long periods"`
		Reports   int64     `json:"reports"`
		Published *Policy   `json:"published" doc:"policy as last reported"`
		Verdict   *string   `json:"verdict" enum:"ready,not_ready,not_enough_evidence,done" doc:"whether the next step of the policy is safe; null before it was judged"`
		Advice    *Brief    `json:"advice" doc:"the verdict in short; null before it was judged"`
		Series    []Point   `json:"series" nullable:"false" doc:"days without reports are absent"`
	}
}

func (a *API) summary(ctx context.Context, in *struct {
	Domain
	Period
	WithSubdomains
	ByReporter
	FromSource
	OfClass
	WithMail
	Interval string `query:"interval" enum:"day,week,month" default:"day" doc:"length of the points of the series"`
}) (*Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	p := in.period(a.opts.Now())
	filter := in.WithMail.of(in.OfClass.of(dmarc.Filter{Subdomains: in.Subdomains, Reporter: in.Reporter, Source: in.prefix}))
	if err := oneDomain(&filter); err != nil {
		return nil, err
	}
	sum, err := a.store.Summary(ctx, dmarc.TrafficQuery{Domain: aLabel(in.Domain.Domain), Filter: filter, Period: p})
	if err != nil {
		return nil, a.problem(err, "summary of a domain")
	}
	var out Summary
	b := &out.Body
	b.Domain, b.From, b.To, b.Interval = sum.Domain, p.Begin, p.End, in.Interval
	b.Totals, b.PassRate, b.Undated = totals(sum.Tally), passRate(sum.Tally), totals(sum.Undated)
	b.Reports, b.Published = sum.Reports, policy(sum.Published)
	b.Verdict, b.Advice = verdict(sum.Verdict), brief(sum.Verdict)
	b.Series = []Point{}
	for _, d := range gathered(sum.Days, in.Interval) {
		b.Series = append(b.Series, Point{d.Day.Format(time.DateOnly), totals(d.Tally), d.Estimated})
	}
	return &out, nil
}

// gathered adds days up to weeks, named by their Monday, or months.
func gathered(days []dmarc.DayTraffic, interval string) []dmarc.DayTraffic {
	var out []dmarc.DayTraffic
	for _, d := range days {
		switch interval {
		case "week":
			d.Day = d.Day.AddDate(0, 0, -(int(d.Day.Weekday())+6)%7)
		case "month":
			d.Day = d.Day.AddDate(0, 0, 1-d.Day.Day())
		}
		if n := len(out); n > 0 && out[n-1].Day.Equal(d.Day) {
			out[n-1].Tally.Merge(d.Tally)
			out[n-1].Estimated = out[n-1].Estimated || d.Estimated
			continue
		}
		out = append(out, d)
	}
	return out
}

// SourceItem is an address in the list of sources.
type SourceItem struct {
	Source   string   `json:"source" doc:"address, as RFC 5952 writes it"`
	Totals   Totals   `json:"totals"`
	PassRate *float64 `json:"pass_rate"`
	FirstDay *string  `json:"first_day" format:"date"`
	LastDay  *string  `json:"last_day" format:"date"`
	Labels   []string `json:"labels" nullable:"false" doc:"of the address, and of networks that hold it"`
}

// SourceList is a page of sources, and what is not in the list.
type SourceList struct {
	Body struct {
		Items   []SourceItem `json:"items" nullable:"false"`
		Next    *string      `json:"next" doc:"pass it as after for the next page; null on the last one"`
		Sources int64        `json:"sources" doc:"addresses in the list, over all pages"`
		Others  Totals       `json:"others" doc:"addresses below the busiest of each day"`
		Unknown Totals       `json:"unknown_source" doc:"messages whose address could not be read"`
		Pending bool         `json:"pending" doc:"very recent reports are not in this list yet"`
	}
}

func (a *API) sources(ctx context.Context, in *struct {
	Domain
	Period
	Page
	WithSubdomains
	FromSource
	OfClass
	WithMail
	Exact    bool   `query:"exact" doc:"list every address, rather than the busiest of each day; this reads the rows of reports and takes longer; not with subdomains"`
	Reporter string `query:"reporter" maxLength:"512" doc:"only what this reporter saw: org_name, as it stands in reports; the rows are read for that, as with exact"`
	Sort     string `query:"sort" enum:"messages,-messages,failed,-failed,pass_rate,-pass_rate,quarantine,-quarantine,reject,-reject,first_day,-first_day,last_day,-last_day,source,-source" default:"-messages" doc:"what the list is sorted by, after - the greatest first; failed is messages that failed"`
}) (*SourceList, error) {
	in.Exact = in.Exact || in.Reporter != ""
	if in.Exact && in.Subdomains {
		return nil, huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{
			Location: "query.subdomains", Message: "is not possible with exact and reporter, for which rows are read: ask for one domain after the other", Value: true})
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	filter := in.WithMail.of(in.OfClass.of(dmarc.Filter{Subdomains: in.Subdomains, Reporter: in.Reporter, Source: in.prefix}))
	page := in.sorted(in.Sort)
	if in.Exact && in.streams() && !in.limited {
		page.Limit = exactAtOnce
	}
	list, next, err := a.store.Sources(ctx, dmarc.TrafficQuery{Domain: aLabel(in.Domain.Domain), Exact: in.Exact, Filter: filter, Period: in.period(in.at), Page: page})
	if err != nil {
		return nil, a.problem(err, "listing sources")
	}
	var out SourceList
	labels, err := a.labelsOf(ctx, aLabel(in.Domain.Domain))
	if err != nil {
		return nil, a.problem(err, "listing sources")
	}
	out.Body.Items = listOf(list.Items, "", func(s *dmarc.SourceTraffic) SourceItem {
		return SourceItem{s.Source.String(), totals(s.Tally), passRate(s.Tally), dayOrNull(s.FirstDay), dayOrNull(s.LastDay), labels(s.Source)}
	}).Body.Items
	out.Body.Next, out.Body.Sources, out.Body.Pending = orNull(string(next)), list.Total, list.Pending
	out.Body.Others, out.Body.Unknown = totals(list.Others), totals(list.Unknown)
	return &out, nil
}

// exactAtOnce is how many sources are read at once from the rows, all of which are
// summed up each time.
const exactAtOnce = 50_000

// ReporterItem is who reports.
type ReporterItem struct {
	OrgName string  `json:"org_name"`
	Email   *string `json:"email"`
	Totals  Totals  `json:"totals"`
	Reports int64   `json:"reports"`
	LastDay *string `json:"last_day" format:"date" doc:"last day of the period that it reported about"`
}

func (a *API) reporters(ctx context.Context, in *struct {
	Domain
	Period
	Page
	WithSubdomains
	ByReporter
	FromSource
	OfClass
	WithMail
	Sort string `query:"sort" enum:"messages,-messages,failed,-failed,pass_rate,-pass_rate,quarantine,-quarantine,reject,-reject,reports,-reports,last_day,-last_day,org_name,-org_name" default:"-messages" doc:"what the list is sorted by, after - the greatest first; failed is messages that failed"`
}) (*List[ReporterItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	filter := in.WithMail.of(in.OfClass.of(dmarc.Filter{Subdomains: in.Subdomains, Reporter: in.Reporter, Source: in.prefix}))
	if err := oneDomain(&filter); err != nil {
		return nil, err
	}
	list, next, err := a.store.Reporters(ctx, dmarc.TrafficQuery{Domain: aLabel(in.Domain.Domain), Filter: filter, Period: in.period(in.at), Page: in.sorted(in.Sort)})
	if err != nil {
		return nil, a.problem(err, "listing reporters")
	}
	return listOf(list, next, func(r *dmarc.ReporterTraffic) ReporterItem {
		return ReporterItem{r.Reporter.OrgName, orNull(r.Reporter.Email), totals(r.Tally), r.Reports, dayOrNull(r.LastDay)}
	}), nil
}

// SelectorItem is a DKIM key that signed mail.
type SelectorItem struct {
	Domain     string  `json:"domain" doc:"d= of the signatures"`
	Selector   *string `json:"selector" doc:"s= of the signatures; null where reports do not tell"`
	Passed     int64   `json:"passed" doc:"messages whose signature with the key was valid, whether aligned or not"`
	Totals     Totals  `json:"totals" doc:"all messages with such a signature"`
	LastDay    *string `json:"last_day" format:"date"`
	LastPassed *string `json:"last_passed" format:"date" doc:"last day with a valid signature"`
}

// SelectorList is a page of DKIM keys.
type SelectorList struct {
	Body struct {
		Items   []SelectorItem `json:"items" nullable:"false"`
		Next    *string        `json:"next" doc:"cursor of the next page"`
		Others  int64          `json:"others" doc:"messages with signatures of keys beyond the busiest of each day"`
		Pending bool           `json:"pending" doc:"very recent reports may be missing"`
	}
}

func (a *API) selectors(ctx context.Context, in *struct {
	Domain
	Period
	Page
	WithSubdomains
	WithMail
	Sort string `query:"sort" enum:"messages,-messages,failed,-failed,pass_rate,-pass_rate,passed,-passed,last_day,-last_day,key,-key" default:"-messages" doc:"what the list is sorted by, after - the greatest first; failed is messages that failed, key the domain and the selector"`
}) (*SelectorList, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	filter := in.WithMail.of(dmarc.Filter{Subdomains: in.Subdomains})
	list, next, err := a.store.Selectors(ctx, dmarc.TrafficQuery{Domain: aLabel(in.Domain.Domain), Filter: filter, Period: in.period(in.at), Page: in.sorted(in.Sort)})
	if err != nil {
		return nil, a.problem(err, "listing DKIM keys")
	}
	var out SelectorList
	out.Body.Items = listOf(list.Items, "", func(s *dmarc.SelectorTraffic) SelectorItem {
		return SelectorItem{s.Domain, orNull(s.Selector), s.Passed, totals(s.Tally), dayOrNull(s.LastDay), dayOrNull(s.LastPassed)}
	}).Body.Items
	out.Body.Next, out.Body.Others, out.Body.Pending = orNull(string(next)), list.Others, list.Pending
	return &out, nil
}
