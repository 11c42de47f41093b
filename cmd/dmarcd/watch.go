package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// watchRate is how many questions a second are asked by what nobody waits for:
// thousands of new domains are no burst at the resolver. A domain takes about
// fifty.
const watchRate = 100

// newWatcher returns what looks again and again at what the domains publish. In
// a sample world only the resolver and its policies are asked, and addresses that are set
// aside for documentation are taken for public ones; policies are nil in the real one.
func (s *service) newWatcher(cfg *config, policies records.Fetcher) (*records.Watcher, error) {
	o := records.ClientOptions{Server: cfg.Resolver, Rate: watchRate}
	sample := policies != nil
	if sample {
		o.Rate = 0 // the resolver is of the same process, and somebody waits
	}
	client, err := records.NewClient(o)
	if err != nil {
		return nil, err
	}
	fetcher := policies
	if !sample {
		fetcher = records.NewPolicyFetcher(client, cfg.reach())
	}
	prober := cfg.prober()
	return &records.Watcher{Store: s.store, Log: s.log, Evidence: func(ctx context.Context, domain string) (records.Options, error) {
		told, err := s.told(ctx, domain, time.Now())
		if err != nil {
			return records.Options{}, err
		}
		o := advice.ForRecords(told)
		o.Resolver = client
		o.Fetcher = fetcher
		if o.Documentation = sample; !sample {
			o.Direct = client
			if prober != nil {
				o.Probe = prober
			}
		}
		o.ReportAddresses, o.MXHosts = cfg.ReportAddresses, cfg.Records.MXHosts
		addSelectors(&o, cfg.Records.Selectors, domain)
		o.Memory, err = s.store.LookMemory(ctx, domain)
		return o, err
	}}, nil
}

// prober returns what connects to mail hosts, or nil if that is not wanted.
func (c *config) prober() *records.Prober {
	if !c.Records.Probe {
		return nil
	}
	helo := c.SMTP.Hostname
	if helo == "" {
		var err error
		if helo, err = os.Hostname(); err != nil || helo == "" {
			helo = "localhost"
		}
	}
	return records.NewProber(helo, c.reach().With(networks(c.Records.ProbeAlso)...))
}

// addSelectors adds those of the configured selectors that are of a domain:
// those without a domain, and those of the domain and the names below. They come
// first, as there is a bound on how many are looked at.
func addSelectors(o *records.Options, names []string, domain string) {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	var all []records.Selector
	for _, name := range names {
		s := records.Selector{Name: name, Domain: domain, Configured: true}
		if selector, of, ok := strings.Cut(name, "._domainkey."); ok {
			if of = strings.ToLower(of); of != domain && !strings.HasSuffix(of, "."+domain) {
				continue
			}
			s.Name, s.Domain = selector, of
		}
		if i := slices.IndexFunc(o.Selectors, func(known records.Selector) bool { return known.Selected() == s.Selected() }); i >= 0 {
			s = o.Selectors[i]
			s.Configured = true
			o.Selectors = slices.Delete(o.Selectors, i, i+1)
		}
		all = append(all, s)
	}
	o.Selectors = append(all, o.Selectors...)
}

// told collects what reports tell of a domain.
func (s *service) told(ctx context.Context, domain string, now time.Time) (*advice.Told, error) {
	day := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	month := dmarc.Period{Begin: day.AddDate(0, 0, -30), End: day}
	quarter := dmarc.TrafficQuery{Domain: domain, Period: dmarc.Period{Begin: day.AddDate(0, 0, -90), End: day}, Page: dmarc.Page{Limit: 500}}
	t := &advice.Told{Domain: domain, Now: now}
	e, err := s.adviser.gather(ctx, domain, month) // nobody asks for it again
	if err != nil {
		return nil, err
	}
	t.Sources = advice.Classify(e)
	keys, _, err1 := s.store.Selectors(ctx, quarter)
	t.Keys = keys.Items
	var err2, err3, err4, err5 error
	t.Reporters, _, err2 = s.store.Reporters(ctx, quarter)
	t.Summary, err3 = s.store.Summary(ctx, quarter)
	t.Unchanged, err4 = s.store.Unchanged(ctx, domain)
	newest, _, err5 := s.store.Reports(ctx, dmarc.ReportQuery{Scope: dmarc.Everything, Domain: domain, Period: quarter.Period, Page: dmarc.Page{Limit: 1}})
	if len(newest) > 0 {
		t.Newest = &newest[0]
	}
	return t, errors.Join(err1, err2, err3, err4, err5)
}
