package dovecottest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A Fault is what befalls a literal on its way to the client.
type Fault struct {
	After int64 // bytes of it that get through
	Stall bool  // then nothing comes any more; otherwise the connection is cut
}

// A Wire is the network between a client and a server: it passes everything
// on, and does harm when it is told to. It ends with the test.
type Wire struct {
	Address string // for the client

	to        string
	mu        sync.Mutex
	onCommand func(line string)
	onLiteral func(size int64) *Fault
	conns     []net.Conn
}

// NewWire leads to the plain port of a server.
func NewWire(t testing.TB, s *Server) *Wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{Address: listener.Addr().String(), to: s.Address}
	go w.run(listener)
	t.Cleanup(func() {
		listener.Close()
		w.Cut()
	})
	return w
}

// OnCommand has something done before a line of the client is passed on; nil
// for nothing.
func (w *Wire) OnCommand(do func(line string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onCommand = do
}

// OnLiteral is asked about each literal of the server; nil harms none.
func (w *Wire) OnLiteral(harm func(size int64) *Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onLiteral = harm
}

// Cut ends all connections.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *Wire) run(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.to)
		if err != nil {
			client.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, client, server)
		w.mu.Unlock()
		end := sync.OnceFunc(func() {
			client.Close()
			server.Close()
		})
		go func() {
			defer end()
			w.commands(server, bufio.NewReader(client))
		}()
		go func() {
			if w.answers(client, bufio.NewReaderSize(server, 64<<10)) {
				end()
			}
		}()
	}
}

// commands passes on what the client says, line by line.
func (w *Wire) commands(to io.Writer, from *bufio.Reader) {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return
		}
		w.mu.Lock()
		do := w.onCommand
		w.mu.Unlock()
		if do != nil {
			do(strings.TrimRight(line, "\r\n"))
		}
		if _, err := io.WriteString(to, line); err != nil {
			return
		}
	}
}

// answers passes on what the server says. It reports whether the connection is
// to be ended.
func (w *Wire) answers(to io.Writer, from *bufio.Reader) bool {
	for {
		line, err := from.ReadSlice('\n')
		if _, e := to.Write(line); e != nil || err != nil && err != bufio.ErrBufferFull {
			return true
		}
		size, ok := literal(line)
		if !ok {
			continue
		}
		w.mu.Lock()
		harm := w.onLiteral
		w.mu.Unlock()
		var fault *Fault
		if harm != nil {
			fault = harm(size)
		}
		if fault == nil {
			fault = &Fault{After: size}
		}
		if _, err := io.CopyN(to, from, fault.After); err != nil {
			return true
		}
		if fault.After < size {
			return !fault.Stall
		}
	}
}

// literal returns the size of the literal that a line announces.
func literal(line []byte) (int64, bool) {
	text, ok := bytes.CutSuffix(line, []byte("}\r\n"))
	open := bytes.LastIndexByte(text, '{')
	if !ok || open < 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text[open+1:]), 10, 64)
	return n, err == nil
}
