package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records/knottest"
)

// A chaos is dmarcd, on one machine or more, and what it depends on, to which things happen
// while mail keeps arriving.
type chaos struct {
	t        *testing.T
	rnd      *rand.Rand
	program  string
	clocks   bool // can be set
	stations []*station
	vars     []string // of dmarcd on each
	imap     *dovecottest.Server
	wire     *dovecottest.Wire
	harm     chan *dovecottest.Fault // for the next message that comes by
	dns      *lateDNS
	mails    [][]byte
	next     int // of mails, the one that has not arrived
	hostiles []hostileMail
	hostile  int // mails of these that have arrived
	pause    int // between two faults, in milliseconds, at most

	// These are of a PostgreSQL elsewhere.
	db    *pgtest.Server
	relay *relay
	disk  string // "" for one that cannot be full
}

// A station is a machine that runs dmarcd.
type station struct {
	r               *running
	data, tmp       string
	clock           *os.File
	ahead           int64 // the clock, in seconds
	files, routines int   // when nothing had happened yet
}

// Whatever happens to dmarcd, its PostgreSQL, its Dovecot, its resolver, its clock and the
// networks between, at moments drawn from a seed and while mail keeps arriving: nothing is lost,
// nothing counts twice, and nothing is left over. Once dmarcd is alone on its machine, with
// a PostgreSQL that it runs itself; once two share a mailbox and a PostgreSQL elsewhere.
// DMARCD_CHAOS_TIME says for how long, DMARCD_CHAOS_SEED when what.
func TestWhateverFailsEveryMessageHasOneFate(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	lasts, seed := 20*time.Second, 1
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
	dir, want := generated(t, strconv.Itoa(max(900, int(30*lasts.Seconds()))))
	var mails [][]byte
	eachMail(t, dir, func(message []byte) { mails = append(mails, message) })
	program, clocks := buildWithClock(t)
	hostiles := hostileMails(t)
	begin := func(t *testing.T, stations int) *chaos {
		t.Parallel()
		c := &chaos{t: t, rnd: rand.New(rand.NewPCG(uint64(seed), uint64(stations))), program: program, clocks: clocks, mails: mails, hostiles: hostiles}
		c.begin(want, stations)
		return c
	}
	t.Run("alone", func(t *testing.T) {
		c := begin(t, 1)
		c.pause = 1500
		for _, m := range c.stations {
			c.serve(m)
		}
		c.run(lasts, want, append(c.faults(), c.privately()...))
		verified(t, "DMARCD_DATA_DIR="+c.stations[0].data)
	})
	t.Run("side by side", func(t *testing.T) {
		c := begin(t, 2)
		c.pause = 5000 // what a killed one did is taken over after 20 seconds
		settings := []string{"max_wal_size=64MB", "min_wal_size=32MB"}
		if os.Geteuid() == 0 {
			c.db, c.disk = pgtest.OnDisk(t, 300<<20+int64(len(mails))<<13, settings...)
		} else {
			c.db = pgtest.Own(t, settings...)
		}
		c.relay = newRelay(t, c.db.Socket())
		c.vars = append(c.vars, "DMARCD_DATABASE_URL=postgres://postgres@"+c.relay.address+"/postgres?sslmode=disable")
		for _, m := range c.stations {
			c.serve(m)
		}
		c.run(lasts, want, append(c.faults(), c.elsewhere()...))
		verified(t, "DMARCD_DATABASE_URL="+c.db.URL)
		conn, err := pgx.Connect(t.Context(), c.db.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		left := 1
		for deadline := time.Now().Add(patience); left > 0; time.Sleep(50 * time.Millisecond) { // PostgreSQL may not have seen yet that somebody is gone
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dmarcd'").Scan(&left); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d connections to PostgreSQL are left over", left)
			}
		}
	})
}

// begin starts what dmarcd depends on.
func (c *chaos) begin(want truth, stations int) {
	t := c.t
	c.imap = dovecottest.Start(t)
	c.wire = dovecottest.NewWire(t, c.imap)
	c.harm = make(chan *dovecottest.Fault, 1)
	c.wire.OnLiteral(func(size int64) *dovecottest.Fault {
		select {
		case f := <-c.harm:
			f.After = size / 2
			return f
		default:
			return nil
		}
	})
	zones := map[string]*knottest.Zone{}
	for domain := range want.ByDomain {
		zones[domain] = &knottest.Zone{Text: knottest.Apex + "@ TXT \"v=spf1 -all\"\n_dmarc TXT \"" + policyOf(domain) + "\"\n", Unsigned: true}
	}
	c.dns = newLateDNS(t, knottest.Start(t, zones, nil).Unbound)
	c.vars = []string{
		"DMARCD_IMAP_URL=imap://" + dovecottest.User + "@" + c.wire.Address + "/INBOX", "DMARCD_IMAP_PASSWORD=" + dovecottest.Password,
		"DMARCD_IMAP_NAME=reports", "DMARCD_IMAP_POLL=1s", "DMARCD_IMAP_TIMEOUT=2s", "DMARCD_RESOLVER=" + c.dns.address, "DMARCD_RECORDS_WATCH=true",
	}
	for range stations {
		dir := t.TempDir()
		m := &station{data: filepath.Join(dir, "data"), tmp: filepath.Join(dir, "tmp")}
		err := os.Mkdir(m.tmp, 0o700)
		if err == nil {
			m.clock, err = os.Create(filepath.Join(dir, "clock"))
		}
		if err == nil {
			err = m.clock.Truncate(8)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.clock.Close() })
		c.stations = append(c.stations, m)
	}
}

func policyOf(domain string) string { return "v=DMARC1; p=reject; rua=mailto:dmarc@" + domain }

// serve runs dmarcd on a machine.
func (c *chaos) serve(m *station) {
	m.r = serveWith(c.t, c.program, m.data, append(c.vars, "TMPDIR="+m.tmp, "DMARCD_TEST_CLOCK="+m.clock.Name())...)
}

// run lets faults happen for some time, and then proves that nothing came of them.
func (c *chaos) run(lasts time.Duration, want truth, faults []fault) {
	t := c.t
	c.until(0) // it runs
	for _, m := range c.stations {
		m.files, m.routines = m.open(), m.goroutines()
	}
	happened := make([]int, len(faults))
	var turn []int
	began := time.Now()
	for time.Since(began) < lasts {
		if len(turn) == 0 { // all have their turn
			turn = c.rnd.Perm(len(faults))
		}
		f := turn[0]
		turn = turn[1:]
		// Part of the mails come before the moment, the rest after it.
		part := int(float64(len(c.mails)) * min(1, time.Since(began).Seconds()/lasts.Seconds()))
		if part > c.next {
			c.deliver(c.next + c.rnd.IntN(part-c.next+1))
		}
		c.rest(c.pause)
		t.Logf("%5.1f s: %s; %d mails have arrived", time.Since(began).Seconds(), faults[f].name, c.next+c.hostile)
		faults[f].do()
		happened[f]++
		c.deliver(min(max(part, c.next+1), len(c.mails)-1)) // at least one comes after it
	}
	counted := max(0, c.stations[0].r.messages())
	c.dns.most.Store(0)
	c.letTimePass(7 * 24 * time.Hour) // all that waits for its time is due
	c.deliver(len(c.mails))
	over := time.Now()
	c.until(want.Totals["messages"])
	one := c.stations[0].r
	one.await("each has a fate", func() bool { return one.total() >= len(c.mails)+c.hostile })
	t.Logf("of %d messages %d were counted while faults happened, all %.1f s after the last", want.Totals["messages"], counted, time.Since(over).Seconds())
	for _, m := range c.stations {
		m.r.compare(want)
		m.r.eachHasOneFate(len(c.mails) + c.hostile)
	}
	c.hostileAreRefused()
	if c.clocks {
		c.looksAgain(want)
	}
	if len(c.harm) > 0 {
		t.Error("a fault of the network met no message")
	}
	if c.dns.asked.Load() == 0 {
		t.Error("DNS was never asked")
	}
	for _, m := range c.stations {
		m.nothingIsLeft(t)
	}
	for f, n := range happened {
		t.Logf("%3d times: %s", n, faults[f].name)
	}
	t.Logf("%d mails and %d hostile ones have a fate each", len(c.mails), c.hostile)
}

// until waits until each that runs tells of so many messages.
func (c *chaos) until(n int64) {
	c.t.Helper()
	for _, m := range c.stations {
		m.r.until(n)
	}
}

func (c *chaos) deliver(until int) {
	for ; c.next < until; c.next++ {
		c.imap.Deliver(c.t, fmt.Sprintf("%07d.M1P1.host", c.next), c.mails[c.next])
	}
}

// hostileAreRefused holds the ledger against what hostile mails deserve.
func (c *chaos) hostileAreRefused() {
	got := make([]int, len(c.hostiles))
	c.stations[0].r.eachLine(func(m ledgerLine) {
		_, number, ok := strings.Cut(m.Subject, "<script>")
		if !ok {
			return
		}
		kind, err := strconv.Atoi(number)
		if err != nil || kind >= len(got) {
			c.t.Errorf("a mail that nobody sent: %q", m.Subject)
			return
		}
		got[kind]++
		if m.Outcome != c.hostiles[kind].outcome || m.Reason == "" {
			c.t.Errorf("%q is %s: %q; want %s", c.hostiles[kind].name, m.Outcome, m.Reason, c.hostiles[kind].outcome)
		}
	})
	if n := c.hostile / len(c.hostiles); slices.ContainsFunc(got, func(have int) bool { return have != n }) {
		c.t.Errorf("hostile mails have these numbers of fates: %v; %d of each came", got, n)
	}
}

// letTimePass sets all clocks to the same time, so much after the latest of them.
func (c *chaos) letTimePass(d time.Duration) {
	if !c.clocks {
		return
	}
	latest := int64(0)
	for _, m := range c.stations {
		latest = max(latest, m.ahead)
	}
	for _, m := range c.stations {
		c.setTo(m, latest+int64(d.Seconds()))
	}
}

// looksAgain waits until what each domain publishes has been looked at, and found, by clocks
// that have been set.
func (c *chaos) looksAgain(want truth) {
	m := c.stations[0]
	since := func() time.Time { return time.Now().Add(time.Duration(m.ahead)*time.Second - time.Hour) } // looks are told to the second
	c.letTimePass(24 * time.Hour)
	began := since()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		missing, failed := "", false
		for domain := range want.ByDomain {
			var look struct {
				CheckedAt    time.Time `json:"checked_at"`
				LookupFailed []string  `json:"lookup_failed"`
				Records      struct {
					DMARC struct {
						Record string `json:"record"`
					} `json:"dmarc"`
				} `json:"records"`
			}
			switch {
			case !m.r.ask("/api/v1/domains/"+domain+"/checks", &look) || !look.CheckedAt.After(began):
				missing, failed = domain+" is not looked at again", false
			case len(look.LookupFailed) > 0:
				missing, failed = fmt.Sprintf("%s: %q failed", domain, look.LookupFailed), missing == "" || failed
			case look.Records.DMARC.Record != policyOf(domain):
				c.t.Fatalf("%s: %+v", domain, look)
			}
		}
		if missing == "" {
			return
		}
		if failed { // though each was looked at: what DNS did not answer is remembered for some seconds
			c.letTimePass(24 * time.Hour)
			began = since()
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s\n%s", missing, m.r.log)
		}
	}
}

// nothingIsLeft finds that what was opened in trouble is closed again: sockets, files, and
// what works on them. Then dmarcd ends.
func (m *station) nothingIsLeft(t *testing.T) {
	const spare = 6 // connections to the database that wait for questions come and go
	m.r.await("no more is open than at the begin", func() bool { return m.open() <= m.files+spare })
	m.r.await("no more goes on than at the begin", func() bool { return m.goroutines() <= m.routines+2*spare })
	files, routines, peak := m.open(), m.goroutines(), peakMemory(t, m.r.cmd.Process.Pid)
	if peak > 250<<20 {
		t.Errorf("it took %d MiB", peak>>20)
	}
	if status := m.r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM\n%s", status, m.r.log)
	}
	for _, dir := range []string{m.tmp, filepath.Join(m.data, "tmp")} {
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("files are left over: %q, %v", left, err)
		}
	}
	t.Logf("files and sockets were %d and are %d, goroutines were %d and are %d; %d MiB at most since the last start", m.files, files, m.routines, routines, peak>>20)
}

// goroutines returns how many things dmarcd does, by its metrics.
func (m *station) goroutines() int {
	t := m.r.t
	http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get(m.r.base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the metrics do not tell how many goroutines there are")
	return 0
}

// open returns how many files and sockets dmarcd has open beside those of this test.
func (m *station) open() int {
	http.DefaultClient.CloseIdleConnections()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.r.cmd.Process.Pid))
	if err != nil {
		m.r.t.Fatal(err)
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
