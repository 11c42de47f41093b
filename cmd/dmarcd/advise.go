package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres"
)

const (
	adviseUsage = `Says whether a stricter DMARC policy is safe for a domain, what it would cost and whom, what to mend first, and what to publish:
judged by the reports that are stored. Without --policy and the tags the next step is judged; tags that are not given stay as published.

Without DMARCD_DATABASE_URL the private PostgreSQL in the data directory is used, also while dmarcd serve runs.`

	adviseExamples = `Examples:
  dmarcd advise example.com
  dmarcd advise --policy reject --days 180 example.com
  dmarcd advise --policy reject --sp none --repaired mailer.example example.com
  dmarcd advise --policy reject --by reporter example.com
  dmarcd advise --format json example.com | jq .blockers`
)

// adviceDays is how far back advice looks, unless it is told otherwise.
const adviceDays = 90

func runAdvise(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("advise", "DOMAIN", adviseUsage, adviseExamples)
	policy := fs.choice("policy", "the policy to judge; the next step if it is not given", "", "none", "quarantine", "reject")
	tried := triedFlags(fs)
	days := fs.Int("days", adviceDays, "how many `DAYS` of reports to look at, from 1 to 3650")
	by := fs.choice("by", "print what the policy would have done instead of advice, by this", append([]string{""}, advice.Parts...)...)
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
	e, err := s.adviser.Evidence(ctx, domain, lastDays(time.Now(), *days))
	if err := errors.Join(err, s.close()); errors.Is(err, dmarc.ErrNotFound) {
		return fmt.Errorf("no report about %s is stored", domain)
	} else if err != nil {
		return err
	}
	o, err := tried.options(e, dmarc.ParsePolicy(policy.word))
	if err != nil {
		return err
	}
	a := advice.For(e, o)
	enc := json.NewEncoder(env.stdout)
	enc.SetEscapeHTML(false)
	switch {
	case by.word != "":
		b := advice.BreakDown(e, a.Sources, a.Simulation)
		if format.word == "json" {
			return enc.Encode(b)
		}
		return b.Text(env.stdout, by.word)
	case format.word == "json":
		return enc.Encode(a.JSON())
	}
	return advice.Text(env.stdout, a)
}

// A tried is what the arguments ask to be taken for given.
type tried struct {
	sp, np, t, adkim, aspf *choiceFlag
	repaired               listFlag
}

func triedFlags(fs *flagSet) *tried {
	f := &tried{
		sp:    fs.choice("sp", "the policy for subdomains to judge", "", "none", "quarantine", "reject"),
		np:    fs.choice("np", "the policy for subdomains that do not exist to judge", "", "none", "quarantine", "reject"),
		t:     fs.choice("t", "testing: y asks for the next weaker policy", "", "y", "n"),
		adkim: fs.choice("adkim", "the alignment of DKIM to judge, relaxed or strict", "", "r", "s"),
		aspf:  fs.choice("aspf", "the alignment of SPF to judge, relaxed or strict", "", "r", "s"),
	}
	fs.Var(&f.repaired, "repaired", "`SENDER` whose mail is taken to pass: its name as advice lists it, an address, or a network; may be given more than once")
	return f
}

// options returns what is judged: the next step, or a policy, with the tags
// that are given put over those that are published.
func (f *tried) options(e *advice.Evidence, target dmarc.Policy) (advice.Options, error) {
	o := advice.Options{Target: target}
	if f.sp.word != "" || f.np.word != "" || f.t.word != "" || f.adkim.word != "" || f.aspf.word != "" {
		p := e.Published.Policy()
		if target != dmarc.PolicyUnknown {
			p.P, p.Testing = target, false
		}
		p.P = max(p.P, dmarc.PolicyNone)
		for tag, word := range map[*dmarc.Policy]string{&p.SP: f.sp.word, &p.NP: f.np.word} {
			if word != "" {
				*tag = dmarc.ParsePolicy(word)
			}
		}
		for tag, word := range map[*dmarc.AlignmentMode]string{&p.ADKIM: f.adkim.word, &p.ASPF: f.aspf.word} {
			switch word {
			case "r":
				*tag = dmarc.AlignmentRelaxed
			case "s":
				*tag = dmarc.AlignmentStrict
			}
		}
		if f.t.word != "" {
			p.Testing = f.t.word == "y"
		}
		o.Policy = &p
	}
	if len(f.repaired) == 0 {
		return o, nil
	}
	o.Repaired = make(map[netip.Prefix]bool)
	sources := advice.Classify(e)
	for _, sender := range f.repaired {
		found := advice.SourcesOf(sources, sender)
		if len(found) == 0 {
			return o, fmt.Errorf("no sender %q has sent as %s in this period", sender, e.Domain)
		}
		for _, p := range found {
			o.Repaired[p] = true
		}
	}
	return o, nil
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
