package records

import (
	"context"
	"net/netip"
)

// HostsFound is what was found.
type HostsFound struct{}

func gatherHosts(ctx context.Context, g *gatherer) {}

func checkHosts(p *Published) []Finding { return nil }

// A Sender is an address that is known to send for a domain.
type Sender struct {
	Addr netip.Addr
	HELO string // "" if it is not known
	Own  bool   // the operator's own host, not a service
}
