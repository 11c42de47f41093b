package api

import (
	"context"
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
	if a.opts.Advise == nil {
		return nil, huma.Error503ServiceUnavailable("there is nobody here to give advice")
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	end := a.opts.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	days := in.Days
	if days == 0 {
		days = adviceDays
	}
	period := dmarc.Period{Begin: end.AddDate(0, 0, -days), End: end}
	found, err := a.opts.Advise(ctx, aLabel(in.Domain.Domain), dmarc.ParsePolicy(in.Policy), period)
	if err != nil {
		return nil, a.problem(err, "judging a policy")
	}
	return &struct{ Body advice.JSON }{found.JSON()}, nil
}
