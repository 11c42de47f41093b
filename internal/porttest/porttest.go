// Package porttest finds ports for servers that tests start.
package porttest

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// given are the ports that this process has been given: a server may not have come up at its own yet.
var given sync.Map

// shared is a file of all processes that test. Each locks a byte of it for every port that it has been given, until it
// ends: tests of several packages run beside each other, and may have temporary folders of their own.
var shared = sync.OnceValue(func() *os.File {
	f, err := os.OpenFile("/tmp/dmarcd-test-ports", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil { // it is of another user: there is nobody else to agree with
		return nil
	}
	return f
})

// take reserves a port, unless somebody has it.
func take(port int) bool {
	if _, before := given.LoadOrStore(port, true); before {
		return false
	}
	f := shared()
	return f == nil || syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: int64(port), Len: 1}) == nil
}

// Free returns a port of loopback that is free for UDP and TCP. It is none of those that
// systems give to clients, so that no connection takes it before the server does, or
// while that is started anew.
func Free(t testing.TB) string {
	t.Helper()
	for range 100 {
		n := 10000 + rand.IntN(20000)
		if !take(n) {
			continue
		}
		port := strconv.Itoa(n)
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
