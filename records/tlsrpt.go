package records

import "context"

// TLSRPTFound is what was found.
type TLSRPTFound struct{}

func gatherTLSRPT(ctx context.Context, g *gatherer) {}

func checkTLSRPT(p *Published) []Finding { return nil }
