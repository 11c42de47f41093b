package main

import (
	"context"
	"net/netip"

	"github.com/miekg/dns"

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
	id := &sources.Identifier{Store: s.store, Resolver: identityResolver{client}, Catalogue: s.adviser.senders, Log: s.log, Rate: cfg.Sources.PerSecond}
	if len(cfg.Sources.Networks) > 0 {
		id.Networks = sources.OpenNetworks(s.log, cfg.Sources.Networks...)
	}
	return id, nil
}

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
