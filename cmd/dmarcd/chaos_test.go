package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
)

// dmarcd, its PostgreSQL and Dovecot are killed at moments drawn from a seed
// while mail keeps arriving. Nothing is lost, and nothing counts twice.
// DMARCD_CHAOS_KILLS sets how often, DMARCD_CHAOS_SEED when.
func TestWhateverIsKilledEveryMessageHasOneFate(t *testing.T) {
	number := func(name string, usual int) int {
		if v := os.Getenv(name); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return n
		}
		return usual
	}
	kills, seed := number("DMARCD_CHAOS_KILLS", 9), number("DMARCD_CHAOS_SEED", 1)
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	dir, want := generated(t, strconv.Itoa(100*kills))
	imap := dovecottest.Start(t)
	var mails [][]byte
	eachMail(t, dir, func(message []byte) { mails = append(mails, message) })
	next := 0
	deliver := func(until int) {
		for ; next < until; next++ {
			imap.Deliver(t, fmt.Sprintf("%07d.M1P1.host", next), mails[next])
		}
	}
	binary, data := build(t), filepath.Join(t.TempDir(), "data")
	r := serve(t, binary, data, imap)
	killed := map[string]int{}
	var whom []string
	for i := range kills {
		if len(whom) == 0 { // all have their turn
			whom = []string{"dmarcd", "PostgreSQL", "Dovecot"}
			rnd.Shuffle(len(whom), func(i, j int) { whom[i], whom[j] = whom[j], whom[i] })
		}
		what := whom[0]
		whom = whom[1:]
		// Part of the mails come before the moment, the rest after it.
		part := len(mails) * (i + 1) / kills
		deliver(next + rnd.IntN(part-next+1))
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		switch what {
		case "PostgreSQL":
			r.until(0) // it runs
			if pid := postmaster(data); pid > 0 {
				syscall.Kill(pid, syscall.SIGKILL)
				killed[what]++
			}
		case "Dovecot":
			imap.Kill(t)
			killed[what]++
		default:
			r.stop(syscall.SIGKILL)
			killed[what]++
			r = serve(t, binary, data, imap)
		}
		deliver(part)
	}
	r.until(want.Totals["messages"])
	r.compare(want)
	t.Logf("killed: %v", killed)

	r.eachHasOneFate(len(mails))
	w := world{vars: []string{"DMARCD_DATA_DIR=" + data, "DMARCD_LOG_LEVEL=error"}}
	if got := w.run(t, "verify"); got.status != exitDone {
		t.Errorf("%+v", got)
	}
	if status := r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM\n%s", status, r.log)
	}
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
