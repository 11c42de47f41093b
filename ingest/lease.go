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

// A leasedStore adds what was read under a lease.
type leasedStore struct {
	Store
	lease dmarc.Lease
}

func (s leasedStore) Add(ctx context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	for i := range ds {
		ds[i].Lease = s.lease
	}
	return s.Store.Add(ctx, ds)
}
