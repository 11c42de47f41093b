package api

import (
	"context"
	"net/netip"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

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
}) (*struct{ Body advice.Breakdown }, error) {
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
	s := advice.Simulate(e, sources, advice.WhatIf{Policy: policy, Repaired: repaired})
	return &struct{ Body advice.Breakdown }{*advice.BreakDown(e, sources, s)}, nil
}
