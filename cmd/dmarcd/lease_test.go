package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// Two processes share a database and four mailboxes. One is killed in the
// middle: its leases run out within 20 seconds, the other does its work, and everything counts once.
func TestAnotherProcessTakesOverWhatAKilledOneDid(t *testing.T) {
	t.Parallel()
	dir, want := generated(t, "1200")
	url := pgtest.URL(t)
	const boxes = 4
	var imaps [boxes]*dovecottest.Server
	var config strings.Builder
	for i := range imaps {
		imaps[i] = dovecottest.Start(t)
		fmt.Fprintf(&config, "[[mailbox]]\nname = \"box%d\"\nurl = \"imap://%s@%s/INBOX\"\npassword = %q\npoll = \"1s\"\n", i, dovecottest.User, imaps[i].Address, dovecottest.Password)
	}
	var later [][]byte
	files := 0
	deliver := func(message []byte) {
		imaps[files%boxes].Deliver(t, fmt.Sprintf("%07d.M1P1.host", files), message)
		files++
	}
	eachMail(t, dir, func(message []byte) {
		if len(later) <= files {
			later = append(later, message)
		} else {
			deliver(message)
		}
	})
	file := writeFile(t, "dmarcd.toml", config.String())
	binary, all := build(t), want.Totals["messages"]
	begin := func() *running {
		return start(t, binary, porttest.FreeAddress(t), []string{
			"DMARCD_CONFIG=" + file, "DMARCD_DATABASE_URL=" + url, "DMARCD_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
		})
	}
	db, err := store.Open(t.Context(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	holders := func() (n int) {
		db.QueryRow(t.Context(), "SELECT count(DISTINCT holder) FROM leases WHERE expires_at > now() AND name LIKE 'mailbox %'").Scan(&n)
		return n
	}
	first := begin()
	first.until(all / 8)
	second := begin()
	second.until(all / 8) // it answers
	if n := holders(); n != 1 {
		t.Errorf("%d processes hold mailboxes, want 1", n)
	}
	var last float64 // for so many seconds after it was killed
	for i, message := range later {
		if i == len(later)/2 { // while it reads
			first.stop(syscall.SIGKILL)
			const sql = "SELECT extract(epoch FROM max(expires_at) - clock_timestamp()) FROM leases WHERE name LIKE 'mailbox %'"
			if err := db.QueryRow(t.Context(), sql).Scan(&last); err != nil {
				t.Fatal(err)
			}
		}
		deliver(message)
	}
	second.await("the other has taken over all mailboxes", func() bool {
		var n int
		db.QueryRow(t.Context(), "SELECT count(*) FROM leases WHERE name LIKE 'mailbox %' AND epoch = 2").Scan(&n)
		return n == boxes
	})
	if last > 20 {
		t.Errorf("what was killed holds its mailboxes for %.1f s, want at most 20", last)
	}
	second.until(all)
	second.compare(want)

	var lines, places, epochs int64
	err = db.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT (mailbox_id, uid_validity, uid)), (SELECT max(epoch) FROM leases WHERE name LIKE 'mailbox %') FROM messages").
		Scan(&lines, &places, &epochs)
	if err != nil || lines != int64(files) || places != lines || epochs != 2 {
		t.Errorf("%d lines in the ledger of %d messages, want %d; epoch %d, want 2; %v", lines, places, files, epochs, err)
	}
	if status := second.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM\n%s", status, second.log)
	}
	// Each mailbox was given back, or it was said of that very one that the database did not answer.
	rows, _ := db.Query(t.Context(), "SELECT name FROM leases WHERE expires_at > clock_timestamp() AND name LIKE 'mailbox %'")
	held, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range held {
		if !second.logged(fmt.Sprintf("a lease could not be given back and has to run out\" lease=%q", name)) {
			t.Errorf("%s is held after the end", name)
		}
	}
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}
	if got := w.run(t, "verify"); got.status != exitDone {
		t.Errorf("%+v", got)
	}
}

// What a process stores that does not make the pass is seen by the next pass of the one that does, which comes
// after 20 seconds.
func TestSourcesFollowWithTheNextPass(t *testing.T) {
	t.Parallel()
	url, binary := pgtest.URL(t), build(t)
	begin := func() *running {
		return start(t, binary, porttest.FreeAddress(t), []string{"DMARCD_CONFIG=/dev/null", "DMARCD_DATABASE_URL=" + url, "DMARCD_DATA_DIR=" + t.TempDir()})
	}
	first := begin().ready()
	passes := func() uint64 {
		for _, m := range first.families()["dmarcd_pass_seconds"].GetMetric() {
			if slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == "sources" }) {
				return m.GetHistogram().GetSampleCount()
			}
		}
		return 0
	}
	first.await("it does the pass", func() bool { return passes() > 0 })
	second := begin().ready()
	for i, r := range []*running{first, second} {
		resp, err := http.Post(r.base+"/api/v1/reports", "", strings.NewReader(aReport(fmt.Sprint(i))))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		before, want := passes(), int64(2*(i+1))
		second.await("sources tell of it", func() bool {
			made := passes() - before
			var list wireList
			var n int64
			if !second.ask("/api/v1/domains/example.com/sources?"+wholeYear, &list) {
				return false
			}
			for _, s := range list.Items {
				n += s.Totals.Messages
			}
			if n != want && made >= 2 { // one may have begun before the report was there
				t.Fatalf("after %d passes sources tell of %d messages, not of %d", made, n, want)
			}
			return n == want
		})
	}
}
