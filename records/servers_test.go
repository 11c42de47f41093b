package records

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/records/knottest"
)

// A directTo is a Direct resolver for which the name servers of cases are where
// they are not: all of them are Knot, but for those of a case.
type directTo struct {
	client *Client // for Knot
	hasty  *Client // for those of a case, of which some never answer
	knot   netip.AddrPort
	other  map[netip.Addr]netip.AddrPort
}

func (d directTo) to(server netip.AddrPort) (*Client, netip.AddrPort) {
	if other, ok := d.other[server.Addr()]; ok {
		return d.hasty, other
	}
	return d.client, d.knot
}

func (d directTo) Ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16) Answer {
	client, at := d.to(server)
	a := client.Ask(ctx, at, name, qtype)
	a.Server = server.String()
	return a
}

func (d directTo) Recurses(ctx context.Context, server netip.AddrPort, name string) bool {
	client, at := d.to(server)
	return client.Recurses(ctx, at, name)
}

// A world is zones that can be served together, and the cases that they are of.
type world struct {
	zones map[string]*knottest.Zone
	cases []*zoneCase
	fails []string
}

// fits reports whether the zones of a case are not others of the same names.
func (w *world) fits(c *zoneCase) bool {
	for name, text := range c.zones() {
		if z := w.zones[name]; z != nil && (z.Text != text || name == c.domain) {
			return false
		}
		for _, failing := range w.fails {
			if dns.IsSubDomain(dns.Fqdn(failing), dns.Fqdn(name)) {
				return false
			}
		}
		for other := range w.zones { // what is delegated is not in the zone above
			if dns.IsSubDomain(dns.Fqdn(other), dns.Fqdn(name)) || dns.IsSubDomain(dns.Fqdn(name), dns.Fqdn(other)) {
				if other != name {
					return false
				}
			}
		}
	}
	for _, name := range c.fails {
		for other := range w.zones {
			if dns.IsSubDomain(dns.Fqdn(name), dns.Fqdn(other)) {
				return false
			}
		}
	}
	return true
}

func (w *world) add(c *zoneCase) {
	for name, text := range c.zones() {
		if w.zones[name] != nil {
			continue
		}
		z := &knottest.Zone{Text: text}
		if name == c.domain {
			z.Unsigned, z.NoDS, z.BadDS, z.Signing = c.unsigned, c.noDS, c.badDS, c.signing
		}
		w.zones[name] = z
	}
	w.cases = append(w.cases, c)
	w.fails = append(w.fails, c.fails...)
}

// worlds puts cases together so that few servers have to be started.
func worlds() []*world {
	var all []*world
	for i := range cases {
		c := &cases[i]
		at := slices.IndexFunc(all, func(w *world) bool { return w.fits(c) })
		if at < 0 {
			all = append(all, &world{zones: map[string]*knottest.Zone{}})
			at = len(all) - 1
		}
		all[at].add(c)
	}
	return all
}

func TestCasesThroughRealServers(t *testing.T) {
	for i, w := range worlds() {
		t.Run(fmt.Sprintf("servers %d", i+1), func(t *testing.T) {
			s := knottest.Start(t, w.zones, w.fails)
			patient := client(t, s.Unbound)
			hasty, err := NewClient(ClientOptions{Server: s.Unbound, Rate: 1e6})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range w.cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					direct := directTo{patient, hasty, s.Knot, map[netip.Addr]netip.AddrPort{}}
					for addr, handler := range c.servers {
						direct.other[netip.MustParseAddr(addr)] = netip.MustParseAddrPort(knottest.Serve(t, handler))
					}
					o := c.o
					o.Resolver, o.Documentation = patient, true
					if o.Direct == nil {
						o.Direct = direct
					}
					p, err := Lookup(t.Context(), c.domain, o)
					if err != nil {
						t.Fatal(err)
					}
					c.holdAgainst(t, Check(p))
				})
			}
		})
	}
}
