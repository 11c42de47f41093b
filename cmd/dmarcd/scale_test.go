package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
)

// peak returns the most memory that dmarcd itself had, in bytes.
func (r *running) peak() int64 {
	r.t.Helper()
	return peakOf(r.t, r.cmd.Process.Pid)
}

func peakOf(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("SKIPPED: what a process needs is read from /proc: ", err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// However many mails wait in a mailbox, memory is bounded, and the sums are the
// truth. DMARCD_ACCEPTANCE_REPORTS sets how many there are.
func TestServeTakesInAFullMailboxInBoundedMemory(t *testing.T) {
	dir, want := generated(t, "3000")
	imap := dovecottest.Start(t)
	files := 0
	eachMail(t, dir, func(message []byte) {
		imap.Deliver(t, fmt.Sprintf("%07d.M1P1.host", files), message)
		files++
	})
	began := time.Now()
	r := serve(t, build(t), filepath.Join(t.TempDir(), "data"), imap)
	settled := func() (n int) {
		for _, m := range r.families()["dmarcd_messages_total"].GetMetric() {
			n += int(m.GetCounter().GetValue())
		}
		return n
	}
	for r.messages() < 0 || settled() < files {
		if time.Since(began) > 2*patience {
			t.Fatalf("%d of %d mails have a fate\n%s", settled(), files, r.log)
		}
		time.Sleep(200 * time.Millisecond)
	}
	took := time.Since(began)
	r.compare(want)
	families := r.families()
	sum := func(name string) (seconds float64) {
		for _, m := range families[name].GetMetric() {
			seconds += m.GetHistogram().GetSampleSum()
		}
		return seconds
	}
	cpu := families["process_cpu_seconds_total"].GetMetric()[0].GetCounter().GetValue()
	t.Logf("%d mails, %d rows in %.1f s; parsing %.1f s, batches %.1f s, CPU of dmarcd %.1f s, its peak %.0f MiB",
		files, want.Totals["records"], took.Seconds(), sum("dmarcd_parse_seconds"), sum("dmarcd_commit_seconds"), cpu, float64(r.peak())/(1<<20))
	if peak := r.peak(); peak > 160<<20 {
		t.Errorf("it took %d MiB at most, want no more than 160", peak>>20)
	}
	if status := r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM\n%s", status, r.log)
	}
}
