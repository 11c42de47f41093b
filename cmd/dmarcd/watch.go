package main

import (
	"context"
	"errors"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// newWatcher returns what looks again and again at what the domains publish. In
// a sample world only the resolver is asked, and addresses that are set aside
// for documentation are taken for public ones.
func (s *service) newWatcher(cfg *config, sample bool) (*records.Watcher, error) {
	client, err := records.NewClient(records.ClientOptions{Server: cfg.Resolver})
	if err != nil {
		return nil, err
	}
	fetcher := records.NewPolicyFetcher(client, nil)
	return &records.Watcher{Store: s.store, Log: s.log, Evidence: func(ctx context.Context, domain string) (records.Options, error) {
		told, err := s.told(ctx, domain, time.Now())
		if err != nil {
			return records.Options{}, err
		}
		o := advice.ForRecords(told)
		o.Resolver = client
		if o.Documentation = sample; !sample {
			o.Direct, o.Fetcher = client, fetcher
		}
		o.ReportAddresses, o.MXHosts = cfg.ReportAddresses, cfg.Records.MXHosts
		for _, name := range cfg.Records.Selectors {
			o.Selectors = append(o.Selectors, records.Selector{Name: name, Domain: domain, Configured: true})
		}
		return o, nil
	}}, nil
}

// told collects what reports tell of a domain.
func (s *service) told(ctx context.Context, domain string, now time.Time) (*advice.Told, error) {
	day := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
	month := dmarc.Period{Begin: day.AddDate(0, 0, -30), End: day}
	quarter := dmarc.TrafficQuery{Domain: domain, Period: dmarc.Period{Begin: day.AddDate(0, 0, -90), End: day}, Page: dmarc.Page{Limit: 500}}
	t := &advice.Told{Domain: domain, Now: now}
	facts, err := s.store.Facts(ctx, domain, month)
	if err != nil {
		return nil, err
	}
	t.Sources = advice.Classify(&advice.Evidence{Domain: domain, Period: month, Sources: advice.Collect(facts)})
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
