package access

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestAThrottleLimitsEachAddressAndForgetsTheQuietest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle(6)
		th.size = 3
		times := func(addr string) (n int) {
			for th.Allow(netip.MustParseAddr(addr)) {
				n++
			}
			return n
		}
		for addr, want := range map[string]int{"192.0.2.1": 6, "2001:db8::1": 6} {
			if got := times(addr); got != want {
				t.Errorf("%s came %d times, want %d", addr, got, want)
			}
		}
		if n := times("2001:db8::ffff:1"); n != 0 {
			t.Errorf("a neighbour came %d times", n)
		}
		time.Sleep(20 * time.Second)
		if n := times("192.0.2.1"); n != 2 {
			t.Errorf("after 20 s it came %d times, want 2", n)
		}
		for i := range 2 {
			times(fmt.Sprintf("198.51.100.%d", i))
		}
		if len(th.byKey) != 3 || th.recent.Len() != 3 {
			t.Errorf("%d addresses are remembered", len(th.byKey))
		}
		if n := times("2001:db8::1"); n != 6 {
			t.Errorf("the one that was forgotten came %d times, want 6", n)
		}
	})
}

func TestAThrottleLimitsAllAddressesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th, n := NewThrottle(1), 0
		for i := range 200 {
			if th.Allow(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})) {
				n++
			}
		}
		if n != throttleShare {
			t.Errorf("%d came, want %d", n, throttleShare)
		}
	})
	if !NewThrottle(0).Allow(netip.Addr{}) {
		t.Error("without a limit somebody may not come")
	}
}
