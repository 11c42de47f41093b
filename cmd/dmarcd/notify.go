package main

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/notify"
)

// How often rules look, and how often what is due is delivered.
const (
	notifyInterval  = time.Minute
	deliverInterval = 10 * time.Second
)

// A teller tells people of what happens.
type teller struct {
	notifier  *notify.Notifier
	deliverer *notify.Deliverer
	digester  *notify.Digester // nil for none
}

// newTeller returns what tells people as the configuration says.
func (s *service) newTeller(cfg *config) (*teller, error) {
	t := &teller{
		notifier:  &notify.Notifier{Store: s.store, Settings: cfg.notifySettings(), Link: cfg.Notify.Link, Log: s.log},
		deliverer: &notify.Deliverer{Outbox: s.store, Senders: make(map[string]notify.Sender), GiveUpAfter: cfg.Notify.GiveUp, Log: s.log},
	}
	for _, c := range cfg.Targets {
		sender, err := cfg.sender(c)
		if err != nil {
			return nil, err
		}
		t.deliverer.Senders[c.Name] = sender
		target := notify.Target{Name: c.Name, Domains: c.Domains}
		for _, r := range c.Rules {
			target.Rules = append(target.Rules, dmarc.NotifyRule(r))
		}
		t.notifier.Targets = append(t.notifier.Targets, target)
	}
	if cfg.Digest.Every != "" {
		t.digester = s.newDigester(cfg)
		t.deliverer.Senders[digestTarget] = t.digester.Mail
	}
	t.deliverer.OnAttempt = s.metrics.watchDeliveries(slices.Sorted(maps.Keys(t.deliverer.Senders)))
	return t, nil
}

// tell looks with all rules and delivers what they found, until ctx ends.
func (s *service) tell(ctx context.Context, t *teller) {
	var wg sync.WaitGroup
	wg.Go(func() {
		s.underLease(ctx, notifyInterval, "notify", func(ctx context.Context, l dmarc.Lease) error {
			if err := s.setup.switchRules(ctx, t.notifier); err != nil {
				return err
			}
			return t.notifier.Pass(ctx, l)
		})
	})
	if t.digester != nil {
		wg.Go(func() {
			s.underLease(ctx, notifyInterval, "digest", t.digester.Pass)
		})
	}
	wg.Go(func() {
		s.every(ctx, deliverInterval, "deliver", func(ctx context.Context) error {
			if err := t.deliverer.Pass(ctx); err != nil {
				return err
			}
			n, err := s.store.WaitingDeliveries(ctx)
			s.metrics.waiting.Set(float64(n))
			return err
		})
	})
	wg.Wait()
}

// watchDeliveries adds metrics of what is delivered to targets, and returns what
// counts it.
func (m *meters) watchDeliveries(targets []string) func(target, result string) {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dmarcd_delivery_attempts_total", Help: "Attempts to deliver notifications, by target and whether they were sent, failed or given up.",
	}, []string{"target", "result"})
	m.waiting = prometheus.NewGauge(prometheus.GaugeOpts{Name: "dmarcd_deliveries_waiting", Help: "Messages in the outbox that are not delivered yet, as the process sees it that delivers."})
	m.registry.MustRegister(attempts, m.waiting)
	for _, name := range targets {
		for _, result := range []string{"sent", "failed", "given_up"} {
			attempts.WithLabelValues(name, result)
		}
	}
	return func(target, result string) { attempts.WithLabelValues(target, result).Inc() }
}
