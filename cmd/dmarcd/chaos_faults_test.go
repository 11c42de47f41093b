package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/records/knottest"
)

// A fault is what happens, and then is over unless it is said how long it lasts.
type fault struct {
	name string
	do   func()
}

// faults are those that befall dmarcd wherever it runs.
func (c *chaos) faults() []fault {
	all := []fault{
		{"dmarcd is killed", func() { m := c.any(); m.r.stop(syscall.SIGKILL); c.serve(m) }},
		{"dmarcd is restarted", c.restart},
		{"dmarcd stands still", func() { c.standStill(c.any().r.cmd.Process.Pid) }},
		{"Dovecot is killed", func() { c.imap.Kill(c.t) }},
		{"the network to Dovecot is cut", c.wire.Cut},
		{"the network to Dovecot is cut within a message", func() { c.disturb(&dovecottest.Fault{}) }},
		{"the network to Dovecot goes silent within a message", func() { c.disturb(&dovecottest.Fault{Stall: true}) }},
		{"DNS turns quick, slow or silent", func() { c.dns.turn(c.rnd) }},
		{"hostile mail arrives", c.deliverHostile},
	}
	if c.clocks {
		all = append(all, fault{"the clock jumps", c.setClock})
	}
	return all
}

// privately are those of a PostgreSQL that dmarcd runs itself.
func (c *chaos) privately() []fault {
	m := c.stations[0]
	return []fault{
		{"PostgreSQL is killed", func() {
			c.until(0)
			if pid := postmaster(m.data); pid > 0 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}},
		{"PostgreSQL stands still", func() { c.until(0); c.standStill(postmaster(m.data)) }},
	}
}

// elsewhere are those of a PostgreSQL on another machine, with a disk that may be full.
func (c *chaos) elsewhere() []fault {
	all := []fault{
		{"PostgreSQL is killed", func() { c.db.Stop(); c.rest(1000); c.db.Start() }},
		{"PostgreSQL stands still", func() { c.standStill(c.db.Process()) }},
		{"the network to PostgreSQL is cut", c.relay.cut},
		{"the network to PostgreSQL goes silent, and is cut or not", func() {
			hold := c.relay.hold()
			c.rest(3000)
			if c.rnd.IntN(2) == 0 {
				c.relay.cut()
			}
			hold()
		}},
	}
	if c.disk != "" {
		all = append(all, fault{"the disk of PostgreSQL is full", c.fillDisk})
	}
	return all
}

func (c *chaos) any() *station { return c.stations[c.rnd.IntN(len(c.stations))] }

// rest waits for some milliseconds, at most so many.
func (c *chaos) rest(most int) { time.Sleep(time.Duration(c.rnd.IntN(most)) * time.Millisecond) }

// disturb does harm to the next message that comes by, unless harm awaits that already.
func (c *chaos) disturb(f *dovecottest.Fault) {
	select {
	case c.harm <- f:
	default:
	}
}

// restart ends dmarcd as a supervisor does, and starts it again.
func (c *chaos) restart() {
	m := c.any()
	m.r.until(0)
	if status := m.r.stop(syscall.SIGTERM); status != 0 {
		c.t.Errorf("exit status %d after SIGTERM\n%s", status, m.r.log)
	}
	c.serve(m)
}

// standStill stops a process, and the children of a PostgreSQL, for a while.
func (c *chaos) standStill(pid int) {
	if pid <= 0 {
		return
	}
	all := []int{pid}
	if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.HasPrefix(string(name), "postgres") {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		for _, word := range strings.Fields(string(children)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, child)
			}
		}
	}
	for _, pid := range all {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	time.Sleep(200 * time.Millisecond)
	c.rest(2500)
	for _, pid := range all {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}

// fillDisk leaves no room for PostgreSQL, for a while.
func (c *chaos) fillDisk() {
	ballast := filepath.Join(c.disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		c.t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for size := len(block); size >= 4<<10; size /= 2 {
		for {
			if _, err := f.Write(block[:size]); err != nil {
				break // no space is left
			}
		}
	}
	c.deliver(min(c.next+20, len(c.mails)-1)) // which need some
	c.rest(3000)
	f.Close()
	if err := os.Remove(ballast); err != nil {
		c.t.Fatal(err)
	}
	c.db.Recover()
}

// setClock sets the clock of a machine by up to a day, back or forth, and never by more than
// three in all: for longer, what is to be tried again later waits in vain.
func (c *chaos) setClock() {
	m := c.any()
	const day = 24 * 60 * 60
	c.setTo(m, min(max(m.ahead+c.rnd.Int64N(2*day)-day, -3*day), 3*day))
}

func (c *chaos) setTo(m *station, ahead int64) {
	m.ahead = ahead
	if _, err := m.clock.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(ahead)), 0); err != nil {
		c.t.Fatal(err)
	}
}

// buildWithClock builds dmarcd with a clock that can be set, and reports whether that can be
// done for this kind of machine.
func buildWithClock(t *testing.T) (program string, ok bool) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Log("SKIPPED, AND NOT TRIED ON THIS MACHINE: a clock that jumps, which is made for Linux on amd64")
		return build(t), false
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for _, name := range []string{"clock.go", "clock_amd64.s"} {
		replace[filepath.Join(here, "settable_"+name)] = filepath.Join(here, "testdata", "clock", name)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(t.TempDir(), "dmarcd")
	if err := buildIn(".", program, "-ldflags=-checklinkname=0", "-overlay", writeFile(t, "overlay.json", string(overlay))); err != nil {
		t.Fatal(err)
	}
	return program, true
}

// hostileMails are attachments that were made to do harm, and the outcome that mail with them has.
func hostileMails(t *testing.T) (all []hostileMail) {
	gzipped := repeated(t, reportHead, fmt.Sprintf(reportRow, 1, 1, 1), 2, "</feedback>")
	return []hostileMail{
		{"bomb.xml.gz", repeated(t, reportHead, strings.Repeat(" ", 1<<20), 400, ""), "bomb_or_too_large"},
		{"cut.xml.gz", gzipped[:len(gzipped)/2], "corrupt_archive"},
		{"laughs.xml", laughs(), "hostile_xml"},
		{"deep.xml", append([]byte("<feedback>"), bytes.Repeat([]byte("<a>"), 200_000)...), "hostile_xml"},
		{"noise.zip", append([]byte("PK\x03\x04"), bytes.Repeat([]byte{0, 0xff, '<'}, 5000)...), "corrupt_archive"},
		{"report\x00\x1b[31m.xml", []byte("\x00<feedback>\x00"), "not_a_report"},
	}
}

type hostileMail struct {
	name    string
	content []byte
	outcome string
}

// deliverHostile delivers mails that were made to do harm. Their subject says which.
func (c *chaos) deliverHostile() {
	for kind, attachment := range c.hostiles {
		mail := fmt.Appendf(nil, "From: a@b.example\r\nTo: c@d.example\r\nSubject: \x1b[31m<script>%d\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=%q\r\n"+
			"Content-Disposition: attachment; filename=%[2]q\r\nContent-Transfer-Encoding: base64\r\n\r\n", kind, attachment.name)
		text := base64.StdEncoding.EncodeToString(attachment.content)
		for len(text) > 76 {
			mail = append(append(mail, text[:76]...), "\r\n"...)
			text = text[76:]
		}
		c.imap.Deliver(c.t, fmt.Sprintf("%07d.M2P2.host", c.hostile), append(append(mail, text...), "\r\n"...))
		c.hostile++
	}
}

// A lateDNS passes questions on to a resolver, and answers late, or never.
type lateDNS struct {
	address string
	most    atomic.Int64 // how late, in nanoseconds; never below 0
	asked   atomic.Int64
}

func newLateDNS(t *testing.T, resolver string) *lateDNS {
	d := new(lateDNS)
	var clients = map[string]*dns.Client{"udp": {Timeout: 5 * time.Second}, "tcp": {Net: "tcp", Timeout: 5 * time.Second}}
	d.address = knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		d.asked.Add(1)
		most := d.most.Load()
		if most < 0 {
			return
		}
		if most > 0 {
			time.Sleep(time.Duration(rand.Int64N(most)))
		}
		if m, _, err := clients[w.RemoteAddr().Network()].Exchange(q, resolver); err == nil {
			w.WriteMsg(m)
		}
	})
	return d
}

// turn makes it quick, slow or silent.
func (d *lateDNS) turn(rnd *rand.Rand) {
	d.most.Store([]int64{0, int64(6 * time.Second), -1}[rnd.IntN(3)])
}

// A relay is the network between dmarcd and PostgreSQL.
type relay struct {
	address string
	to      string // a socket

	pass  sync.RWMutex // is read by whoever passes something on
	mu    sync.Mutex
	conns []net.Conn
}

func newRelay(t *testing.T, socket string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: listener.Addr().String(), to: socket}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.run(conn)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		r.cut()
	})
	return r
}

func (r *relay) run(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	r.conns = append(r.conns, client, server)
	r.mu.Unlock()
	ends := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			defer func() { ends <- struct{}{} }()
			for block := make([]byte, 32<<10); ; {
				n, err := way[0].Read(block)
				r.pass.RLock()
				_, failed := way[1].Write(block[:n])
				r.pass.RUnlock()
				if err != nil || failed != nil {
					return
				}
			}
		}()
	}
	<-ends
}

// cut ends all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// hold lets nothing pass until what it returns is called.
func (r *relay) hold() (release func()) {
	r.pass.Lock()
	return r.pass.Unlock
}

// postmaster returns the process of the private PostgreSQL, or 0.
func postmaster(data string) int {
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	return pid
}
