// Package porttest finds ports for servers that tests start.
package porttest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// given are the ports that this process has been given: a server may not have come up at its own yet.
var given sync.Map

// Free returns a port of loopback that is free for UDP and TCP. It is none of those that
// systems give to clients, so that no connection takes it before the server does, or
// while that is started anew.
func Free(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(10000 + rand.IntN(20000))
		if _, before := given.LoadOrStore(port, true); before {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			u.Close()
			return port
		}
	}
	t.Fatal("no free port on loopback")
	return ""
}

// FreeAddress returns 127.0.0.1 with a free port.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return "127.0.0.1:" + Free(t)
}
