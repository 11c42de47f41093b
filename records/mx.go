package records

import "context"

// MXFound is what was found.
type MXFound struct{}

func gatherMX(ctx context.Context, g *gatherer) {}

func checkMX(p *Published) []Finding { return nil }
