package records

import (
	"context"
	"time"
)

// DKIMFound is what was found.
type DKIMFound struct{}

func gatherDKIM(ctx context.Context, g *gatherer) {}

func checkDKIM(p *Published) []Finding { return nil }

// A Selector is a name of DKIM keys, and what is known of its use.
type Selector struct {
	Name       string
	Domain     string    // d=, the domain itself or another one that is aligned with it
	LastSeen   time.Time // in a report that passed; zero if never
	Configured bool      // by the operator
}
