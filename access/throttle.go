package access

import (
	linked "container/list"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// A Throttle limits how often each address may come, and all of them together.
// It remembers a bounded number of addresses: the one that was quiet for
// longest is forgotten first.
type Throttle struct {
	each  rate.Limit
	burst int
	size  int
	all   *rate.Limiter

	mu     sync.Mutex
	byKey  map[string]*linked.Element
	recent linked.List // of *visitor, the latest in front
}

type visitor struct {
	key string
	*rate.Limiter
}

// Bounds of a throttle.
const (
	throttled     = 10_000 // addresses that are remembered
	throttleShare = 50     // as much as that many addresses may come from all together
)

// NewThrottle lets an address come so many times a minute, at once if it likes;
// nil, for 0, lets all.
func NewThrottle(perMinute int) *Throttle {
	if perMinute == 0 {
		return nil
	}
	each := rate.Limit(float64(perMinute) / 60)
	return &Throttle{each: each, burst: perMinute, size: throttled, all: rate.NewLimiter(each*throttleShare, perMinute*throttleShare), byKey: map[string]*linked.Element{}}
}

// Allow tells whether an address may come now.
func (t *Throttle) Allow(addr netip.Addr) bool {
	net, ok := network(addr)
	return t == nil || ok && t.AllowName(net)
}

// AllowName tells whether somebody who is known by a name may come now.
func (t *Throttle) AllowName(name string) bool {
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.byKey[name]
	if known {
		t.recent.MoveToFront(e)
	} else {
		if len(t.byKey) >= t.size {
			last := t.recent.Back()
			delete(t.byKey, t.recent.Remove(last).(*visitor).key)
		}
		e = t.recent.PushFront(&visitor{name, rate.NewLimiter(t.each, t.burst)})
		t.byKey[name] = e
	}
	return e.Value.(*visitor).Allow() && t.all.Allow()
}

// network returns what counts as one address. A network of IPv6 does up to /64,
// as whoever has one address there has them all.
func network(addr netip.Addr) (string, bool) {
	bits := addr.BitLen()
	if addr.Is6() && !addr.Is4In6() {
		bits = 64
	}
	net, err := addr.WithZone("").Prefix(bits)
	return net.String(), err == nil
}

// peek tells whether an address might come now, without letting it come.
func (t *Throttle) peek(addr netip.Addr) bool {
	net, ok := network(addr)
	if !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, known := t.byKey[net]
	return !known || e.Value.(*visitor).Tokens() >= 1
}
