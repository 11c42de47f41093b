package records

import "context"

// MTASTSFound is what was found.
type MTASTSFound struct{}

func gatherMTASTS(ctx context.Context, g *gatherer) {}

func checkMTASTS(p *Published) []Finding { return nil }

// A Fetcher gets a policy over HTTPS (RFC 8461, section 3.3). Err says why
// there is none.
type Fetcher interface {
	FetchPolicy(ctx context.Context, host string) (body []byte, status int, err error)
}
