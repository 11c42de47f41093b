package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dmarcd/dmarcd/dmarc"
)

// domainMetricsInterval is how often the metrics of domains are read anew.
const domainMetricsInterval = 5 * time.Minute

// otherDomains stands for all domains that are not among the busiest. It cannot be
// the name of one: those hold a dot.
const otherDomains = "other"

// domainMeters tell how much mail the domains send and how much of it passes: by
// name for the busiest, as a sum for the others.
type domainMeters struct {
	most                           int // domains by name
	messages, passed, own, ownPass *prometheus.GaugeVec
}

func (m *meters) watchDomains(most int) *domainMeters {
	gauge := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"domain"})
		m.registry.MustRegister(g)
		g.WithLabelValues(otherDomains)
		return g
	}
	return &domainMeters{
		most:     most,
		messages: gauge("dmarcd_domain_messages", "Messages of the last seven whole days in UTC, by domain: the busiest by name, the sum of the others as other. Told by the process that holds the lease."),
		passed:   gauge("dmarcd_domain_passed_messages", "Those of dmarcd_domain_messages that passed DMARC."),
		own:      gauge("dmarcd_domain_own_messages", "Messages of own sources and services, of the period that the verdict is about."),
		ownPass:  gauge("dmarcd_domain_own_passed_messages", "Those of dmarcd_domain_own_messages that passed DMARC."),
	}
}

// reset forgets all domains.
func (m *domainMeters) reset() {
	for _, g := range []*prometheus.GaugeVec{m.messages, m.passed, m.own, m.ownPass} {
		g.Reset()
		g.WithLabelValues(otherDomains)
	}
}

// read reads the metrics of the domains anew. A domain that is among the busiest no
// more is counted with the others.
func (m *domainMeters) read(ctx context.Context, domains func(context.Context, dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error), now time.Time) error {
	today := now.UTC().Truncate(24 * time.Hour)
	q := dmarc.DomainQuery{Period: dmarc.Period{Begin: today.AddDate(0, 0, -7), End: today}, Scope: dmarc.Everything, Page: dmarc.Page{Limit: 1000}}
	type counts struct{ messages, passed, own, ownPass int64 }
	named, other := make(map[string]counts), counts{}
	for {
		list, next, err := domains(ctx, q)
		if err != nil {
			return err
		}
		for i := range list {
			d := &list[i]
			c := counts{messages: d.Tally.Messages, passed: d.Tally.DMARCPass}
			if d.Verdict != nil {
				c.own, c.ownPass = d.Verdict.Own, d.Verdict.Passing
			}
			if len(named) < m.most {
				named[d.Domain] = c
				continue
			}
			other.messages += c.messages
			other.passed += c.passed
			other.own += c.own
			other.ownPass += c.ownPass
		}
		if next == "" {
			break
		}
		q.After = next
	}
	m.reset()
	named[otherDomains] = other
	for name, c := range named {
		m.messages.WithLabelValues(name).Set(float64(c.messages))
		m.passed.WithLabelValues(name).Set(float64(c.passed))
		m.own.WithLabelValues(name).Set(float64(c.own))
		m.ownPass.WithLabelValues(name).Set(float64(c.ownPass))
	}
	return nil
}

// meterDomains reads the metrics of the domains now and then, as the only one of
// all processes, until ctx ends. Who is that no more tells nothing any more.
func (s *service) meterDomains(ctx context.Context, m *domainMeters) {
	s.alone(ctx, "pass domain metrics", func(ctx context.Context, _ dmarc.Lease) {
		defer m.reset()
		for {
			err := s.metrics.metered(ctx, "domain metrics", func(ctx context.Context) error { return m.read(ctx, s.store.Domains, time.Now()) })
			if err != nil && ctx.Err() == nil {
				s.log.Error("a pass failed; it will be tried again", "pass", "domain metrics", "error", err)
			}
			if !sleep(ctx, domainMetricsInterval) {
				return
			}
		}
	})
}
