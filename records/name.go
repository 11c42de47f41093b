package records

import "context"

// NameFound is what was found.
type NameFound struct{}

func gatherName(ctx context.Context, g *gatherer) {}

func checkName(p *Published) []Finding { return nil }
