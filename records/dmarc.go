package records

import "context"

// DMARCFound is what was found.
type DMARCFound struct{}

func gatherDMARC(ctx context.Context, g *gatherer) {}

func checkDMARC(p *Published) []Finding { return nil }
