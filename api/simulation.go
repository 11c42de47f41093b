package api

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// SimulationLine is what a policy would have done to a part of the messages.
type SimulationLine struct {
	Name        string `json:"name"`
	Class       string `json:"class,omitempty" doc:"of a source"`
	Messages    int64  `json:"messages"`
	Affected    int64  `json:"affected"`
	Quarantined int64  `json:"quarantined"`
	Rejected    int64  `json:"rejected"`
	Spared      int64  `json:"spared" doc:"failing, but receivers made an exception"`
}

func simulationLine(name string, l advice.Loss) SimulationLine {
	return SimulationLine{Name: name, Messages: l.Messages, Affected: l.Affected(), Quarantined: l.Quarantined, Rejected: l.Rejected, Spared: l.Spared}
}

// SimulationResult is what a policy would have done.
type SimulationResult struct {
	Body struct {
		Domain      string            `json:"domain"`
		Period      advice.PeriodJSON `json:"period"`
		Tags        string            `json:"tags" doc:"the policy that was replayed"`
		Total       SimulationLine    `json:"total"`
		ByClass     []SimulationLine  `json:"by_class" nullable:"false"`
		BySource    []SimulationLine  `json:"by_source" nullable:"false" doc:"those that would lose most first, 1,000 at most"`
		ByReporter  []SimulationLine  `json:"by_reporter" nullable:"false"`
		BySubdomain []SimulationLine  `json:"by_subdomain" nullable:"false" doc:"the domain itself is named as such; * stands for subdomains beyond the first"`
		ByDay       []SimulationLine  `json:"by_day" nullable:"false"`
	}
}

// maxSimulated is how many sources a simulation names.
const maxSimulated = 1000

func (a *API) simulation(ctx context.Context, in *struct {
	Domain
	P        string   `query:"p" enum:"none,quarantine,reject"`
	SP       string   `query:"sp" enum:"none,quarantine,reject"`
	NP       string   `query:"np" enum:"none,quarantine,reject"`
	T        string   `query:"t" enum:"y,n"`
	ADKIM    string   `query:"adkim" enum:"r,s"`
	ASPF     string   `query:"aspf" enum:"r,s"`
	Repaired []string `query:"repaired,explode" maxItems:"1000" nullable:"false" doc:"addresses or networks, as sources are listed, whose mail is taken to pass"`
	Days     int      `query:"days" minimum:"1" maximum:"3650" default:"90" doc:"how many days of reports to look at, up to and with today"`
}) (*SimulationResult, error) {
	if a.opts.Evidence == nil {
		return nil, huma.Error503ServiceUnavailable("there is nobody here to simulate")
	}
	repaired := make(map[netip.Prefix]bool)
	for i, text := range in.Repaired {
		p, err := readNetwork(text)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{Location: "query.repaired[" + strconv.Itoa(i) + "]", Message: "is no address and no network", Value: text})
		}
		repaired[p] = true
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	period := a.daysUpToToday(in.Days)
	e, err := a.opts.Evidence(ctx, aLabel(in.Domain.Domain), period)
	if err != nil {
		return nil, a.problem(err, "simulating a policy")
	}
	policy := e.Published.Policy()
	set := func(text string, tag *dmarc.Policy) {
		if text != "" {
			*tag = dmarc.ParsePolicy(text)
		}
	}
	set(in.P, &policy.P)
	set(in.SP, &policy.SP)
	set(in.NP, &policy.NP)
	mode := func(text string, tag *dmarc.AlignmentMode) {
		switch text {
		case "r":
			*tag = dmarc.AlignmentRelaxed
		case "s":
			*tag = dmarc.AlignmentStrict
		}
	}
	mode(in.ADKIM, &policy.ADKIM)
	mode(in.ASPF, &policy.ASPF)
	if in.T != "" {
		policy.Testing = in.T == "y"
	}
	sources := advice.Classify(e)
	return simulated(e, sources, advice.Simulate(e, sources, advice.WhatIf{Policy: policy, Repaired: repaired})), nil
}

func simulated(e *advice.Evidence, sources []advice.Classified, s *advice.Simulation) *SimulationResult {
	var out SimulationResult
	b := &out.Body
	b.Domain, b.Tags, b.Total = e.Domain, s.Policy.String(), simulationLine(e.Domain, s.Total)
	b.Period = advice.PeriodJSON{From: e.Period.Begin.Format(time.DateOnly), To: e.Period.End.Format(time.DateOnly)}
	b.ByClass, b.BySource, b.ByReporter, b.BySubdomain, b.ByDay = []SimulationLine{}, []SimulationLine{}, []SimulationLine{}, []SimulationLine{}, []SimulationLine{}
	for class, l := range s.ByClass {
		b.ByClass = append(b.ByClass, simulationLine(dmarc.Class(class).String(), l))
	}
	for i, l := range s.BySource {
		line := simulationLine(sources[i].JSON().Source, l)
		line.Class = sources[i].Class.String()
		b.BySource = append(b.BySource, line)
	}
	for id, l := range s.ByReporter {
		b.ByReporter = append(b.ByReporter, simulationLine(e.Reporters[id], l))
	}
	for author, l := range s.ByAuthor {
		b.BySubdomain = append(b.BySubdomain, simulationLine(cmp.Or(author, e.Domain), l))
	}
	for day, l := range s.ByDay {
		b.ByDay = append(b.ByDay, simulationLine(day.Format(time.DateOnly), l))
	}
	worst := func(a, b SimulationLine) int {
		return cmp.Or(cmp.Compare(b.Affected, a.Affected), cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	}
	slices.SortFunc(b.BySource, worst)
	slices.SortFunc(b.ByReporter, worst)
	slices.SortFunc(b.BySubdomain, worst)
	slices.SortFunc(b.ByDay, func(a, b SimulationLine) int { return cmp.Compare(a.Name, b.Name) })
	b.BySource = b.BySource[:min(len(b.BySource), maxSimulated)]
	return &out
}
