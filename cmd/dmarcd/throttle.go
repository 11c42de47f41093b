package main

import (
	linked "container/list"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// A throttle limits how often each address may come, and all of them together.
// It remembers a bounded number of addresses: the one that was quiet for
// longest is forgotten first.
type throttle struct {
	each  rate.Limit
	burst int
	size  int
	all   *rate.Limiter

	mu     sync.Mutex
	byNet  map[netip.Prefix]*linked.Element
	recent linked.List // of *visitor, the latest in front
}

type visitor struct {
	net netip.Prefix
	*rate.Limiter
}

// Bounds of a throttle.
const (
	throttled     = 10_000 // addresses that are remembered
	throttleShare = 50     // as much as that many addresses may come from all together
)

// newThrottle lets an address come so many times a minute, at once if it likes;
// nil, for 0, lets all.
func newThrottle(perMinute int) *throttle {
	if perMinute == 0 {
		return nil
	}
	each := rate.Limit(float64(perMinute) / 60)
	return &throttle{each: each, burst: perMinute, size: throttled, all: rate.NewLimiter(each*throttleShare, perMinute*throttleShare), byNet: map[netip.Prefix]*linked.Element{}}
}

// allow tells whether an address may come now. A network of IPv6 is one
// address up to /64, as whoever has one address there has them all.
func (t *throttle) allow(addr netip.Addr) bool {
	if t == nil {
		return true
	}
	bits := addr.BitLen()
	if addr.Is6() && !addr.Is4In6() {
		bits = 64
	}
	net, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.byNet[net]
	if known {
		t.recent.MoveToFront(e)
	} else {
		if len(t.byNet) >= t.size {
			last := t.recent.Back()
			delete(t.byNet, t.recent.Remove(last).(*visitor).net)
		}
		e = t.recent.PushFront(&visitor{net, rate.NewLimiter(t.each, t.burst)})
		t.byNet[net] = e
	}
	return e.Value.(*visitor).Allow() && t.all.Allow()
}
