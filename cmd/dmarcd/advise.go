package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres"
)

const (
	adviseUsage = `Says whether a stricter DMARC policy is safe for a domain, what it would cost and whom, what to mend first, and what to publish:
judged by the reports that are stored. Without --policy the next step is judged.

Without DMARCD_DATABASE_URL the private PostgreSQL in the data directory is used, also while dmarcd serve runs.`

	adviseExamples = `Examples:
  dmarcd advise example.com
  dmarcd advise --policy reject --days 180 example.com
  dmarcd advise --format json example.com | jq .blockers`
)

// adviceDays is how far back advice looks, unless it is told otherwise.
const adviceDays = 90

func runAdvise(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("advise", "DOMAIN", adviseUsage, adviseExamples)
	policy := fs.choice("policy", "the policy to judge; the next step if it is not given", "", "none", "quarantine", "reject")
	days := fs.Int("days", adviceDays, "how many `DAYS` of reports to look at, from 1 to 3650")
	format := fs.choice("format", "how to print it", "text", "json")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	if len(fs.Args()) != 1 {
		return usageError("one domain is wanted")
	}
	if *days < 1 || *days > 3650 {
		return usageError(fmt.Sprintf("--days %d is not from 1 to 3650", *days))
	}
	domain, err := readDomain(fs.Args()[0])
	if err != nil {
		return usageError(fmt.Sprintf("%q is no domain", fs.Args()[0]))
	}
	s, err := openService(ctx, cfg, log, postgres.Options{}, true)
	if err != nil {
		return err
	}
	a, err := s.adviser.advise(ctx, domain, dmarc.ParsePolicy(policy.word), lastDays(time.Now(), *days))
	if err := errors.Join(err, s.close()); errors.Is(err, dmarc.ErrNotFound) {
		return fmt.Errorf("no report about %s is stored", domain)
	} else if err != nil {
		return err
	}
	if format.word == "json" {
		enc := json.NewEncoder(env.stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(a.JSON())
	}
	return advice.Text(env.stdout, a)
}

// lastDays is whole days in UTC, up to and with today.
func lastDays(now time.Time, n int) dmarc.Period {
	end := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	return dmarc.Period{Begin: end.AddDate(0, 0, -n), End: end}
}

// recordOf writes a policy as reporters saw it as a record. What reports do
// not tell, such as where they go, is missing from it.
func recordOf(p *dmarc.PolicyPublished) string {
	text := "v=DMARC1"
	add := func(tag, value string) {
		if value != "" {
			text += "; " + tag + "=" + value
		}
	}
	add("p", p.P.String())
	add("sp", p.SP.String())
	add("np", p.NP.String())
	if p.ADKIM == dmarc.AlignmentStrict {
		add("adkim", "s")
	}
	if p.ASPF == dmarc.AlignmentStrict {
		add("aspf", "s")
	}
	if p.Testing != nil && *p.Testing {
		add("t", "y")
	}
	return text
}
