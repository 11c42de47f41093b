package main

import (
	"cmp"
	"context"
	"net/netip"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/sources"
)

// newIdentifier returns what finds out whose the sending addresses are.
func (s *service) newIdentifier(cfg *config) (*sources.Identifier, error) {
	client, err := records.NewClient(records.ClientOptions{Server: cfg.Resolver})
	if err != nil {
		return nil, err
	}
	id := &sources.Identifier{Store: &identityMeter{s.store, s.metrics.lookedUp}, Resolver: identityResolver{client}, Catalogue: s.adviser.senders, Log: s.log, Rate: cfg.Sources.PerSecond}
	if len(cfg.Sources.Networks) > 0 {
		id.Networks = sources.OpenNetworks(s.log, cfg.Sources.Networks...)
	}
	return id, nil
}

// An identityMeter counts the addresses that were looked up.
type identityMeter struct {
	sources.Store
	lookedUp *prometheus.CounterVec
}

// PutIdentities keeps identities and counts them.
func (m *identityMeter) PutIdentities(ctx context.Context, list []dmarc.IdentifiedSource) error {
	err := m.Store.PutIdentities(ctx, list)
	if err == nil {
		for i := range list {
			m.lookedUp.WithLabelValues(lookupWord(list[i].Identity.PTR)).Inc()
		}
	}
	return err
}

// newLookedUp is the metric of looked up addresses, by result.
func newLookedUp() *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dmarcd_addresses_looked_up_total", Help: "Sending addresses that were looked up, by what came of it: found, absent, failed, or not_asked for those that DNS tells nothing about.",
	}, []string{"result"})
	for state := dmarc.LookupNotAsked; state <= dmarc.LookupFailed; state++ {
		c.WithLabelValues(lookupWord(state)) // that there is none is told too
	}
	return c
}

func lookupWord(s dmarc.LookupState) string { return cmp.Or(s.String(), "not_asked") }

// An identityResolver asks the resolver that the records are asked of.
type identityResolver struct{ client *records.Client }

// Lookup is that of sources.Resolver.
func (r identityResolver) Lookup(ctx context.Context, name string, qtype uint16) sources.Answer {
	a := r.client.Lookup(ctx, name, qtype)
	out := sources.Answer{State: dmarc.LookupFailed}
	switch {
	case a.Absent():
		out.State = dmarc.LookupAbsent
	case a.State == records.Found:
		out.State = dmarc.LookupFound
		for _, rr := range a.RRs {
			switch rr := rr.(type) {
			case *dns.PTR:
				out.Names = append(out.Names, rr.Ptr)
			case *dns.A:
				if addr, ok := netip.AddrFromSlice(rr.A); ok {
					out.Addrs = append(out.Addrs, addr.Unmap())
				}
			case *dns.AAAA:
				if addr, ok := netip.AddrFromSlice(rr.AAAA); ok {
					out.Addrs = append(out.Addrs, addr)
				}
			}
		}
	}
	return out
}
