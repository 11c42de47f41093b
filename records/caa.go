package records

import "context"

// CAAFound is what was found.
type CAAFound struct{}

func gatherCAA(ctx context.Context, g *gatherer) {}

func checkCAA(p *Published) []Finding { return nil }
