package api

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// adviceDays is how far back advice looks unless it is told otherwise.
const adviceDays = 90

func (a *API) advice(ctx context.Context, in *struct {
	Domain
	Policy string `query:"policy" enum:"none,quarantine,reject" doc:"the policy to judge; the next step if it is not given"`
	Days   int    `query:"days" minimum:"1" maximum:"3650" default:"90" doc:"how many days of reports to look at, up to and with today"`
}) (*struct{ Body advice.JSON }, error) {
	found, err := a.judge(ctx, in.Domain.Domain, in.Policy, in.Days)
	if err != nil {
		return nil, err
	}
	return &struct{ Body advice.JSON }{found.JSON()}, nil
}

// judge asks for the advice about a domain by the reports of some days up to
// and with today.
func (a *API) judge(ctx context.Context, domain, policy string, days int) (*advice.Advice, error) {
	if a.opts.Advise == nil {
		return nil, huma.Error503ServiceUnavailable("there is nobody here to give advice")
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	found, err := a.opts.Advise(ctx, aLabel(domain), dmarc.ParsePolicy(policy), a.daysUpToToday(days))
	if err != nil {
		return nil, a.problem(err, "judging a policy")
	}
	return found, nil
}

// daysUpToToday is whole days in UTC, the last of them today.
func (a *API) daysUpToToday(days int) dmarc.Period {
	if days == 0 {
		days = adviceDays
	}
	end := a.opts.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	return dmarc.Period{Begin: end.AddDate(0, 0, -days), End: end}
}

// ClassList is a page of sources with their classes.
type ClassList struct {
	Body struct {
		Items  []advice.SourceJSON `json:"items" nullable:"false"`
		Next   *string             `json:"next" doc:"pass it as after for the next page; null on the last one"`
		Period advice.PeriodJSON   `json:"period"`
		Total  int                 `json:"total" doc:"sources, over all pages"`
		Ask    []advice.SourceJSON `json:"ask" nullable:"false" doc:"those that only the owner can tell, busiest first"`
	}
}

func (a *API) classes(ctx context.Context, in *struct {
	Domain
	Page
	OfClass
	FromSource
	Days int `query:"days" minimum:"1" maximum:"3650" default:"90" doc:"how many days of reports to look at, up to and with today"`
}) (*ClassList, error) {
	found, err := a.judge(ctx, in.Domain.Domain, "", in.Days)
	if err != nil {
		return nil, err
	}
	var of *dmarc.Class
	if class, ok := dmarc.ParseClass(in.Class); ok {
		of = &class
	}
	list := found.Busiest(of)
	if in.prefix.IsValid() {
		list = slices.DeleteFunc(list, func(c advice.Classified) bool {
			return !within(c.Source.Source, in.prefix)
		})
	}
	var out ClassList
	b := &out.Body
	b.Items, b.Ask, b.Total, b.Period = []advice.SourceJSON{}, []advice.SourceJSON{}, len(list), found.JSON().Period
	for i := range found.Ask {
		b.Ask = append(b.Ask, found.Ask[i].JSON())
	}
	begin := 0
	if in.After != "" {
		if begin = slices.IndexFunc(list, func(c advice.Classified) bool { return classCursor(&c) == in.After }) + 1; begin == 0 {
			return nil, a.problem(dmarc.ErrBadCursor, "listing classes")
		}
	}
	for i := begin; i < min(begin+in.Limit, len(list)); i++ {
		b.Items = append(b.Items, list[i].JSON())
	}
	if end := begin + in.Limit; end < len(list) {
		next := classCursor(&list[end-1])
		b.Next = &next
	}
	return &out, nil
}

// within tells whether an address or a network lies in another.
func within(p, network netip.Prefix) bool {
	return p.IsValid() && p.Bits() >= network.Bits() && network.Contains(p.Addr())
}

// classCursor is never empty, although an address that could not be read is.
func classCursor(c *advice.Classified) string { return "after " + c.JSON().Source }
