package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// Two processes share a database and four mailboxes. One is killed in the
// middle: within 30 seconds the other does its work, and everything counts once.
func TestAnotherProcessTakesOverWhatAKilledOneDid(t *testing.T) {
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
		return start(t, binary, freeAddress(t), []string{
			"DMARCD_CONFIG=" + file, "DMARCD_DATABASE_URL=" + url, "DMARCD_DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
		})
	}
	db, err := store.Open(t.Context(), url)
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
	for i, message := range later {
		if i == len(later)/2 { // while it reads
			first.stop(syscall.SIGKILL)
		}
		deliver(message)
	}
	killed := time.Now()
	deadline := killed.Add(30 * time.Second)
	before := second.messages()
	for second.messages() == before {
		if time.Now().After(deadline) {
			t.Fatalf("nobody has taken over after 30 s\n%s", second.log)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("taken over after %.1f s", time.Since(killed).Seconds())
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
	if n := holders(); n != 0 {
		t.Errorf("%d processes hold mailboxes after the end", n)
	}
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}
	if got := w.run(t, "verify"); got.status != exitDone {
		t.Errorf("%+v", got)
	}
}
