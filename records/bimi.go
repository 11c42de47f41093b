package records

import "context"

// BIMIFound is what was found.
type BIMIFound struct{}

func gatherBIMI(ctx context.Context, g *gatherer) {}

func checkBIMI(p *Published) []Finding { return nil }
