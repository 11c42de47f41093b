package ingest

import (
	"net/netip"
	"testing"
)

// One address does not take all connections; those of this machine may.
func TestOneAddressHasAShareOfTheConnections(t *testing.T) {
	l := &limitedListener{all: 10, each: 2, open: map[netip.Prefix]int{}}
	admit := func(addr string, counted bool) func() {
		release, _ := l.admit(netip.MustParseAddr(addr), counted)
		return release
	}
	first := admit("192.0.2.1", true)
	for _, c := range []struct {
		addr    string
		counted bool
		want    bool
	}{
		{"192.0.2.1", true, true},
		{"192.0.2.1", true, false},
		{"192.0.2.2", true, true},
		{"2001:db8::1", true, true},
		{"2001:db8::2", true, true},
		{"2001:db8::3", true, false}, // a neighbour
		{"2001:db8:0:1::1", true, true},
		{"127.0.0.1", false, true},
		{"127.0.0.1", false, true},
		{"127.0.0.1", false, true},
		{"127.0.0.1", false, true},
		{"192.0.2.3", true, false}, // all are taken
	} {
		if got := admit(c.addr, c.counted) != nil; got != c.want {
			t.Errorf("%s: %t", c.addr, got)
		}
	}
	first()
	if admit("192.0.2.1", true) == nil || l.all != 0 || len(l.open) != 5 {
		t.Errorf("after one has gone: %+v", l.open)
	}
}
