package ingest

import (
	"context"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Leases give each piece of work to one process at a time.
type Leases interface {
	// Hold waits until a lease is free, and works under it. The context of the
	// work ends when the lease is lost. The error is that of the work, or
	// dmarc.ErrLeaseLost.
	Hold(ctx context.Context, name string, work func(ctx context.Context, l dmarc.Lease) error) error
}
