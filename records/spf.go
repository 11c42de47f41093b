package records

import "context"

// SPFFound is what was found.
type SPFFound struct{}

func gatherSPF(ctx context.Context, g *gatherer) {}

func checkSPF(p *Published) []Finding { return nil }
