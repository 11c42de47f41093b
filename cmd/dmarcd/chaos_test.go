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

// dmarcd, its PostgreSQL and Dovecot are killed, dmarcd is restarted and held, and the
// connection to Dovecot is cut and goes silent, at moments drawn from a seed while mail
// keeps arriving. Nothing is lost, and nothing counts twice.
// DMARCD_CHAOS_FAULTS sets how often, DMARCD_CHAOS_SEED when.
func TestWhateverFailsEveryMessageHasOneFate(t *testing.T) {
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
	faults, seed := number("DMARCD_CHAOS_FAULTS", 9), number("DMARCD_CHAOS_SEED", 1)
	t.Logf("seed %d, %d faults", seed, faults)
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	dir, want := generated(t, strconv.Itoa(100*faults))
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
	wire := dovecottest.NewWire(t, imap)
	harm := make(chan *dovecottest.Fault, faults) // each for one message that comes by
	wire.OnLiteral(func(size int64) *dovecottest.Fault {
		select {
		case f := <-harm:
			f.After = size / 2
			return f
		default:
			return nil
		}
	})
	again := func() *running {
		return serveWith(t, binary, data, "DMARCD_IMAP_URL=imap://"+dovecottest.User+"@"+wire.Address+"/INBOX",
			"DMARCD_IMAP_PASSWORD="+dovecottest.Password, "DMARCD_IMAP_NAME=reports", "DMARCD_IMAP_POLL=1s", "DMARCD_IMAP_TIMEOUT=2s")
	}
	r := again()
	began, happened := time.Now(), map[string]int{}
	var whom []string
	for i := range faults {
		if len(whom) == 0 { // all have their turn
			whom = []string{"dmarcd is killed", "PostgreSQL is killed", "Dovecot is killed", "dmarcd is restarted",
				"dmarcd is held", "connections are cut", "a message is cut", "a message goes silent"}
			rnd.Shuffle(len(whom), func(i, j int) { whom[i], whom[j] = whom[j], whom[i] })
		}
		what := whom[0]
		whom = whom[1:]
		// Part of the mails come before the moment, the rest, at least one, after it.
		part := len(mails) * (i + 1) / faults
		deliver(next + rnd.IntN(part-next))
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		switch what {
		case "PostgreSQL is killed":
			r.until(0) // it runs
			var pid int
			r.await("PostgreSQL has its process", func() bool { pid = postmaster(data); return pid > 0 })
			syscall.Kill(pid, syscall.SIGKILL)
		case "Dovecot is killed":
			imap.Kill(t)
		case "dmarcd is restarted":
			r.stop(syscall.SIGTERM)
			r = again()
		case "dmarcd is held":
			r.cmd.Process.Signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
			r.cmd.Process.Signal(syscall.SIGCONT)
		case "connections are cut":
			wire.Cut()
		case "a message is cut":
			harm <- &dovecottest.Fault{}
		case "a message goes silent":
			harm <- &dovecottest.Fault{Stall: true}
		default:
			r.stop(syscall.SIGKILL)
			r = again()
		}
		happened[what]++
		t.Logf("%6.1fs %s", time.Since(began).Seconds(), what)
		deliver(part)
	}
	r.until(want.Totals["messages"])
	r.compare(want)
	if len(harm) > 0 {
		t.Errorf("%d faults of the connection met no message", len(harm))
	}

	r.eachHasOneFate(len(mails))
	w := world{vars: []string{"DMARCD_DATA_DIR=" + data, "DMARCD_LOG_LEVEL=error"}}
	if got := w.run(t, "verify"); got.status != exitDone {
		t.Errorf("%+v", got)
	}
	t.Logf("happened: %v to %d messages", happened, len(mails))
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
