package records

import "context"

// DANEFound is what was found.
type DANEFound struct{}

func gatherDANE(ctx context.Context, g *gatherer) {}

func checkDANE(p *Published) []Finding { return nil }
