package access

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// attempts slows down those who try secrets that are wrong. An address that was
// wrong too often has to wait, and nobody else does. Where many addresses are
// wrong, the secrets of all are looked up one after the other: that bounds what guessing costs,
// and whoever has a right one still gets in.
type attempts struct {
	each *Throttle
	all  *rate.Limiter
	turn chan struct{}
}

// Bounds of wrong secrets.
const (
	wrongPerMinute    = 10  // of one address, before it has to wait
	wrongPerMinuteAll = 300 // before all are looked up one by one
	turnTime          = 5 * time.Second
)

func newAttempts() *attempts {
	return &attempts{each: NewThrottle(wrongPerMinute), all: rate.NewLimiter(rate.Limit(wrongPerMinuteAll)/60, wrongPerMinuteAll), turn: make(chan struct{}, 1)}
}

// try lets an address try a secret. It reports false if the address has to
// wait, and else what the lookup told.
func (a *attempts) try(ctx context.Context, addr netip.Addr, lookup func() (right bool, err error)) (tried bool, err error) {
	if !a.each.peek(addr) {
		return false, nil
	}
	if a.all.Tokens() < 1 {
		ctx, cancel := context.WithTimeout(ctx, turnTime)
		defer cancel()
		select {
		case a.turn <- struct{}{}:
			defer func() { <-a.turn }()
		case <-ctx.Done():
			return false, nil
		}
	}
	right, err := lookup()
	if err == nil && !right {
		a.each.Allow(addr)
		a.all.Allow()
	}
	return true, err
}
