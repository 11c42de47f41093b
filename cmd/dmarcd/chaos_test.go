package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
)

// A chaos is dmarcd with a PostgreSQL of its own, and a Dovecot behind a network, to which
// things happen while mail keeps arriving.
type chaos struct {
	t       *testing.T
	rnd     *rand.Rand
	began   time.Time
	binary  string
	data    string // of dmarcd
	imap    *dovecottest.Server
	wire    *dovecottest.Wire
	r       *running
	mails   [][]byte
	next    int // of mails, the one that has not arrived
	hostile int // mails that came between them

	harm chan *dovecottest.Fault // each for one message that comes by
}

// Whatever happens to dmarcd, its PostgreSQL, its Dovecot and the network between, at moments
// drawn from a seed and while mail keeps arriving: nothing is lost, nothing counts twice, and
// nothing is left over. DMARCD_CHAOS_TIME says for how long, DMARCD_CHAOS_SEED when what.
func TestWhateverFailsEveryMessageHasOneFate(t *testing.T) {
	lasts, seed := 40*time.Second, 1
	var err error
	if v := os.Getenv("DMARCD_CHAOS_TIME"); v != "" {
		if lasts, err = time.ParseDuration(v); err != nil {
			t.Fatalf("DMARCD_CHAOS_TIME: %v", err)
		}
	}
	if v := os.Getenv("DMARCD_CHAOS_SEED"); v != "" {
		if seed, err = strconv.Atoi(v); err != nil {
			t.Fatalf("DMARCD_CHAOS_SEED: %v", err)
		}
	}
	dir, want := generated(t, strconv.Itoa(max(900, int(45*lasts.Seconds()))))
	c := &chaos{t: t, rnd: rand.New(rand.NewPCG(uint64(seed), 1)), binary: build(t), data: filepath.Join(t.TempDir(), "data"), imap: dovecottest.Start(t)}
	c.wire = dovecottest.NewWire(t, c.imap)
	c.harm = make(chan *dovecottest.Fault, 1000)
	c.wire.OnLiteral(func(size int64) *dovecottest.Fault {
		select {
		case f := <-c.harm:
			f.After = size / 2
			return f
		default:
			return nil
		}
	})
	eachMail(t, dir, func(message []byte) { c.mails = append(c.mails, message) })
	c.serve()
	c.r.until(0) // it runs
	files, routines := c.open(), c.goroutines()
	faults := []struct {
		name string
		do   func()
	}{
		{"dmarcd is killed", func() { c.r.stop(syscall.SIGKILL); c.serve() }},
		{"dmarcd is restarted", c.restart},
		{"dmarcd stands still", func() { c.standStill(c.r.cmd.Process.Pid) }},
		{"PostgreSQL is killed", c.killPostgres},
		{"PostgreSQL stands still", func() { c.r.until(0); c.standStill(postmaster(c.data)) }},
		{"Dovecot is killed", func() { c.imap.Kill(t) }},
		{"the network is cut", c.wire.Cut},
		{"the network is cut within a message", func() { c.harm <- &dovecottest.Fault{} }},
		{"the network goes silent within a message", func() { c.harm <- &dovecottest.Fault{Stall: true} }},
		{"hostile mail arrives", c.deliverHostile},
	}
	happened := make([]int, len(faults))
	var turn []int
	c.began = time.Now()
	for time.Since(c.began) < lasts {
		if len(turn) == 0 { // all have their turn
			turn = c.rnd.Perm(len(faults))
		}
		f := turn[0]
		turn = turn[1:]
		// Part of the mails come before the moment, the rest after it.
		part := int(float64(len(c.mails)) * min(1, time.Since(c.began).Seconds()/lasts.Seconds()))
		if part > c.next {
			c.deliver(c.next + c.rnd.IntN(part-c.next+1))
		}
		time.Sleep(time.Duration(c.rnd.IntN(1500)) * time.Millisecond)
		t.Logf("%5.1f s: %s, %d mails have arrived", time.Since(c.began).Seconds(), faults[f].name, c.next+c.hostile)
		faults[f].do()
		happened[f]++
		c.deliver(min(max(part, c.next+1), len(c.mails)-1)) // at least one comes after it
	}
	c.deliver(len(c.mails))
	c.r.until(want.Totals["messages"])
	c.r.await("each has a fate", func() bool { return c.r.total() >= len(c.mails)+c.hostile })
	c.r.compare(want)
	c.r.eachHasOneFate(len(c.mails) + c.hostile)

	if len(c.harm) > 0 {
		t.Errorf("%d faults of the network met no message", len(c.harm))
	}

	// What was opened in trouble is closed again: sockets, files, and what works on them.
	const spare = 6 // connections to the database that wait for questions come and go
	c.r.await("no more is open than at the begin", func() bool { return c.open() <= files+spare })
	c.r.await("no more goes on than at the begin", func() bool { return c.goroutines() <= routines+2*spare })
	filesAfter, routinesAfter := c.open(), c.goroutines()
	peak := peakMemory(t, c.r.cmd.Process.Pid)
	if peak > 250<<20 {
		t.Errorf("it took %d MiB", peak>>20)
	}
	verified(t, "DMARCD_DATA_DIR="+c.data)
	if status := c.r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM\n%s", status, c.r.log)
	}
	if left, err := filepath.Glob(filepath.Join(c.data, "tmp", "*")); err != nil || len(left) > 0 {
		t.Errorf("files are left over: %q, %v", left, err)
	}
	for f, n := range happened {
		t.Logf("%3d times: %s", n, faults[f].name)
	}
	t.Logf("%d mails and %d hostile ones have a fate each; files and sockets were %d and are %d, goroutines were %d and are %d; %d MiB at most since the last start",
		len(c.mails), c.hostile, files, filesAfter, routines, routinesAfter, peak>>20)
}

func (c *chaos) serve() {
	c.r = serveWith(c.t, c.binary, c.data, "DMARCD_IMAP_URL=imap://"+dovecottest.User+"@"+c.wire.Address+"/INBOX", "DMARCD_IMAP_PASSWORD="+dovecottest.Password,
		"DMARCD_IMAP_NAME=reports", "DMARCD_IMAP_POLL=1s", "DMARCD_IMAP_TIMEOUT=2s")
}

func (c *chaos) deliver(until int) {
	for ; c.next < until; c.next++ {
		c.imap.Deliver(c.t, fmt.Sprintf("%07d.M1P1.host", c.next), c.mails[c.next])
	}
}

// restart ends dmarcd as a supervisor does, and starts it again.
func (c *chaos) restart() {
	c.r.until(0)
	if status := c.r.stop(syscall.SIGTERM); status != 0 {
		c.t.Errorf("exit status %d after SIGTERM\n%s", status, c.r.log)
	}
	c.serve()
}

func (c *chaos) killPostgres() {
	c.r.until(0)
	if pid := postmaster(c.data); pid > 0 {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// standStill stops a process and its children for a while.
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
	time.Sleep(time.Duration(200+c.rnd.IntN(2500)) * time.Millisecond)
	for _, pid := range all {
		syscall.Kill(pid, syscall.SIGCONT)
	}
}

// deliverHostile delivers mails that were made to do harm.
func (c *chaos) deliverHostile() {
	gzipped := repeated(c.t, reportHead, fmt.Sprintf(reportRow, 1, 1, 1), 2, "</feedback>")
	for _, attachment := range []struct {
		name    string
		content []byte
	}{
		{"bomb.xml.gz", repeated(c.t, reportHead, strings.Repeat(" ", 1<<20), 400, "")},
		{"cut.xml.gz", gzipped[:len(gzipped)/2]},
		{"laughs.xml", laughs()},
		{"deep.xml", bytes.Repeat([]byte("<a>"), 200_000)},
		{"noise.zip", append([]byte("PK\x03\x04"), bytes.Repeat([]byte{0, 0xff, '<'}, 5000)...)},
		{"report\x00\x1b[31m.xml", []byte("\x00<feedback>\x00")},
	} {
		mail := fmt.Appendf(nil, "From: a@b.example\r\nTo: c@d.example\r\nSubject: \x1b[31m<script>%d\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=%q\r\n"+
			"Content-Disposition: attachment; filename=%[2]q\r\nContent-Transfer-Encoding: base64\r\n\r\n", c.hostile, attachment.name)
		for line := range strings.SplitSeq(base64.StdEncoding.EncodeToString(attachment.content), "\n") {
			for len(line) > 76 {
				mail = append(append(mail, line[:76]...), "\r\n"...)
				line = line[76:]
			}
			mail = append(append(mail, line...), "\r\n"...)
		}
		c.imap.Deliver(c.t, fmt.Sprintf("%07d.M2P2.host", c.hostile), mail)
		c.hostile++
	}
}

// goroutines returns how many things dmarcd does, by its metrics.
func (c *chaos) goroutines() int {
	http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get(c.r.base + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				c.t.Fatal(err)
			}
			return n
		}
	}
	c.t.Fatal("the metrics do not tell how many goroutines there are")
	return 0
}

// open returns how many files and sockets dmarcd has open beside those of this test.
func (c *chaos) open() int {
	http.DefaultClient.CloseIdleConnections()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.r.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	return len(open)
}

// peakMemory returns how many bytes of memory a process had at most.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	t.Fatal("its memory is not told")
	return 0
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
