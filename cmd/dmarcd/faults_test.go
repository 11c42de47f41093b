package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// status returns the HTTP status of a path, 0 without an answer.
func (r *running) status(path string) int {
	resp, err := http.Get(r.base + path)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// patience is how long tests wait for what is to come: far longer than any machine needs.
const patience = 10 * time.Minute

// await waits until something is so.
func (r *running) await(what string, so func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) || r.over() {
			r.t.Fatalf("it does not come to this: %s; there are %d messages\n%s", what, r.messages(), r.log)
		}
	}
}

// logged tells whether the log says something.
func (r *running) logged(text string) bool { return strings.Contains(r.log.String(), text) }

// A lockedBuffer is written by a process and read by a test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// verified holds what is stored against what it was made of, by dmarcd verify.
func verified(t *testing.T, vars ...string) {
	t.Helper()
	w := world{vars: append(vars, "DMARCD_LOG_LEVEL=error")}
	if got := w.run(t, "verify"); got.status != exitDone {
		t.Errorf("%+v", got)
	}
}

// Between dmarcd and Dovecot everything happens that can: silence and a cut in the
// middle of messages, messages that are expunged while they are read, another
// UIDVALIDITY. Each message has one fate, and totals are exact.
func TestWhateverTheMailServerDoesTotalsAreExact(t *testing.T) {
	t.Parallel()
	dir, want := generated(t, "400")
	imapServer := dovecottest.Start(t)
	var mails [][]byte
	eachMail(t, dir, func(message []byte) { mails = append(mails, message) })
	deliver := func(from, to int) {
		for i := from; i < to; i++ {
			imapServer.Deliver(t, fmt.Sprintf("%07d.M1P1.host", i), mails[i])
		}
	}
	deliver(0, len(mails)/2)
	wire := dovecottest.NewWire(t, imapServer)
	var literals atomic.Int64
	wire.OnLiteral(func(size int64) *dovecottest.Fault {
		switch literals.Add(1) {
		case 20:
			return &dovecottest.Fault{After: size / 2, Stall: true}
		case 90:
			return &dovecottest.Fault{After: size / 3}
		case 130:
			return &dovecottest.Fault{Stall: true}
		}
		return nil
	})
	url := pgtest.URL(t)
	r := start(t, build(t), porttest.FreeAddress(t), []string{
		"DMARCD_CONFIG=/dev/null", "DMARCD_DATABASE_URL=" + url, "DMARCD_DATA_DIR=" + t.TempDir(), "DMARCD_INGEST_BATCH_ROWS=50",
		"DMARCD_IMAP_URL=imap://" + dovecottest.User + "@" + wire.Address + "/INBOX", "DMARCD_IMAP_PASSWORD=" + dovecottest.Password,
		"DMARCD_IMAP_NAME=reports", "DMARCD_IMAP_POLL=1s", "DMARCD_IMAP_TIMEOUT=1s",
	})
	ledger := func() (lines, places int) {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if err := conn.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT (mailbox_id, uid_validity, uid)) FROM messages").Scan(&lines, &places); err != nil {
			t.Fatal(err)
		}
		return lines, places
	}
	inLedger := func(n int) func() bool {
		return func() bool { lines, _ := ledger(); return lines >= n }
	}
	r.ready()
	r.await("the first half is in, in spite of the wire", inLedger(len(mails)/2))
	if n := literals.Load(); n < 130 {
		t.Errorf("only %d literals came by: not all that was meant to happen did", n)
	}
	if !r.logged("the server has sent nothing for 1s") || !r.logged("unexpected EOF") {
		t.Errorf("the log does not say what happened\n%s", r.log)
	}

	// More comes, and is expunged by others before it is fetched.
	first := uint32(len(mails)/2 + 1) // UID of what comes now
	expunged := make(chan int, 100)
	all := make(chan struct{}) // have come, so that none comes after those before it were expunged and is fetched with them
	wire.OnCommand(func(line string) {
		if strings.Contains(line, "BODY.PEEK[]") {
			<-all
			expunged <- expungeFrom(t, imapServer, first)
		}
	})
	for i := range 5 {
		imapServer.Deliver(t, fmt.Sprintf("9%06d.M1P1.host", i), mails[len(mails)/2+i])
	}
	close(all)
	for n := 0; n < 5; {
		select {
		case more := <-expunged:
			n += more
		case <-time.After(patience):
			t.Fatalf("only %d messages were expunged\n%s", n, r.log)
		}
	}
	wire.OnCommand(nil)

	// Dovecot numbers anew, in the middle of the second half.
	literals.Store(0)
	stalled := make(chan struct{})
	wire.OnLiteral(func(size int64) *dovecottest.Fault {
		if literals.Add(1) == 40 {
			close(stalled)
			return &dovecottest.Fault{After: size / 2, Stall: true}
		}
		return nil
	})
	deliver(len(mails)/2, len(mails))
	<-stalled
	imapServer.Renumber(t)
	r.await("the log says that the numbers changed", func() bool { return r.logged("the mailbox was made anew") })
	r.await("all count", func() bool { return r.messages() >= want.Totals["messages"] })
	r.await("all are read by their new numbers", func() bool {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		var n int
		conn.QueryRow(t.Context(), "SELECT count(*) FROM messages WHERE uid_validity = (SELECT uid_validity FROM mailboxes WHERE name = 'reports')").Scan(&n)
		return n == len(mails)
	})
	r.compare(want)
	if lines, places := ledger(); lines != places {
		t.Errorf("%d lines in the ledger for %d places", lines, places)
	}
	if status := r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d\n%s", status, r.log)
	}
	verified(t, "DMARCD_DATABASE_URL="+url)
}

// expungeFrom removes the messages from a UID on, as another session does, and
// returns how many there were.
func expungeFrom(t *testing.T, s *dovecottest.Server, uid uint32) int {
	c, err := imapclient.DialInsecure(s.Address, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer c.Close()
	if err := c.Login(dovecottest.User, dovecottest.Password).Wait(); err != nil {
		t.Error(err)
		return 0
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Error(err)
		return 0
	}
	var set imap.UIDSet
	set.AddRange(imap.UID(uid), 1<<32-2)
	if err := c.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Error(err)
	}
	gone, err := c.Expunge().Collect()
	if err != nil {
		t.Error(err)
	}
	return len(gone)
}

// PostgreSQL runs out of disk while mail arrives: nothing is lost or set aside,
// senders are told to wait, and with room again all goes on.
func TestAFullDiskOfPostgreSQLLosesNothing(t *testing.T) {
	t.Parallel()
	db, disk := pgtest.OnDisk(t, 200<<20, "max_wal_size=32MB", "min_wal_size=32MB")
	dir, want := generated(t, "400")
	imapServer := dovecottest.Start(t)
	var mails [][]byte
	eachMail(t, dir, func(message []byte) { mails = append(mails, message) })
	deliver := func(from, to int) {
		for i := from; i < to; i++ {
			imapServer.Deliver(t, fmt.Sprintf("%07d.M1P1.host", i), mails[i])
		}
	}
	deliver(0, len(mails)/4)
	address := porttest.FreeAddress(t)
	r := serve(t, build(t), t.TempDir(), imapServer, "DMARCD_DATABASE_URL="+db.URL, "DMARCD_SMTP_LISTEN="+address, "DMARCD_SMTP_RECIPIENTS=dmarc@example.com", "DMARCD_IMAP_POLL=1s")
	r.ready()
	r.await("the first quarter is in", func() bool { return r.total() == len(mails)/4 })

	ballast := filepath.Join(disk, "ballast")
	fill := func() {
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for block := make([]byte, 64<<10); ; {
			if _, err := f.Write(block); err != nil {
				return // no space is left
			}
		}
	}
	fill()
	deliver(len(mails)/4, len(mails))
	full := func() bool { fill(); return r.logged("No space left on device") }
	r.await("the disk is full", full)
	send := func() error {
		return smtp.SendMail(address, nil, "a@r.example", []string{"dmarc@example.com"}, []byte(extraMail))
	}
	// PostgreSQL may find some room yet, by a file that it removes: then the mail is taken, and counts once however often it comes.
	r.await("a sender is told to wait", func() bool {
		fill()
		err := send()
		if err != nil && !strings.HasPrefix(err.Error(), "4") {
			t.Fatalf("SMTP answers %v, want 4xx", err)
		}
		return err != nil
	})
	if strings.Contains(r.log.String(), "set aside") {
		t.Errorf("messages are set aside for want of disk\n%s", r.log)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	db.Recover()
	r.await("a sender gets rid of its mail", func() bool { return send() == nil })
	r.await("all count", func() bool { return r.messages() >= want.Totals["messages"]+2 })
	r.await("all are in", func() bool { return r.total() == len(mails)+1 })
	if got := r.messages(); got != want.Totals["messages"]+2 {
		t.Errorf("%d messages, want %d", got, want.Totals["messages"]+2)
	}
	if status := r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d\n%s", status, r.log)
	}
	verified(t, "DMARCD_DATABASE_URL="+db.URL)
}

var extraMail = aMail("extra")

// total is how many messages the ledger has, -1 without an answer.
func (r *running) total() (n int) {
	if !r.lines(func(ledgerLine) { n++ }) {
		return -1
	}
	return n
}

// A database that answered at the start and goes away before anything is served is waited for, too.
func TestADatabaseThatGoesAwayAsDmarcdBeginsIsWaitedFor(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	db := pgtest.Own(t)
	relay := newRelay(t, db.Socket())
	binary, vars := build(t), "DMARCD_DATABASE_URL=postgres://postgres@"+relay.address+"/postgres?sslmode=disable"
	begin := func() *running { return serveWith(t, binary, t.TempDir(), vars) }
	if first := begin().ready(); first.stop(syscall.SIGTERM) != exitDone {
		t.Fatal(first.log)
	}
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(hashtextextended('dmarcd arrangements', 0))"); err != nil {
		t.Fatal(err)
	}
	waits := func() (so bool) {
		if err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)").Scan(&so); err != nil {
			t.Fatal(err)
		}
		return so
	}
	r := begin()
	r.await("it waits to keep what its configuration says", waits)
	relay.cut()
	r.await("it is said", func() bool { return r.logged("the database does not answer") })
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	r.ready()
	if status := r.stop(syscall.SIGTERM); status != exitDone {
		t.Errorf("exit status %d\n%s", status, r.log)
	}
}

// A database that is down at the start, goes away, or has no connection to give, is
// waited for, and it is said: nothing is lost meanwhile,
// whoever waits for an answer is told to come again, and nothing is counted twice.
func TestADatabaseThatRefusesConnectionsIsWaitedFor(t *testing.T) {
	t.Parallel()
	const connections = 14
	db := pgtest.Own(t, fmt.Sprintf("max_connections=%d", connections), "superuser_reserved_connections=0")
	db.Stop()
	dir, want := generated(t, "200")
	imapServer := dovecottest.Start(t)
	var mails [][]byte
	eachMail(t, dir, func(message []byte) { mails = append(mails, message) })
	next := 0
	deliver := func(share int) {
		for ; next < len(mails)*share/4; next++ {
			imapServer.Deliver(t, fmt.Sprintf("%07d.M1P1.host", next), mails[next])
		}
	}
	binary, address := build(t), porttest.FreeAddress(t)
	begin := func() *running {
		return serve(t, binary, t.TempDir(), imapServer, "DMARCD_DATABASE_URL="+db.URL, "DMARCD_SMTP_LISTEN="+address, "DMARCD_SMTP_RECIPIENTS=dmarc@example.com", "DMARCD_IMAP_POLL=1s")
	}
	deliver(1)
	r, stopped := begin(), begin()
	for _, waiting := range []*running{r, stopped} {
		waiting.await("it is said that the database is down", func() bool { return waiting.logged("the database does not answer") })
	}
	if status := stopped.stop(syscall.SIGTERM); status != exitDone {
		t.Errorf("one that waits is told to stop: status %d\n%s", status, stopped.log)
	}

	db.Start()
	r.ready()
	// What waiting does not mend is no reason to wait.
	wrong := serve(t, binary, t.TempDir(), imapServer, "DMARCD_DATABASE_URL="+strings.Replace(db.URL, "user=postgres", "user=nobody", 1))
	wrong.cmd.Wait()
	if status := wrong.cmd.ProcessState.ExitCode(); status != exitFailed || !wrong.logged("nobody") {
		t.Errorf("a role that does not exist: status %d\n%s", status, wrong.log)
	}
	r.await("the first quarter is in", func() bool { return r.total() == next })
	refused := func(why string) {
		t.Helper()
		if err := smtp.SendMail(address, nil, "a@r.example", []string{"dmarc@example.com"}, []byte(extraMail)); err == nil || !strings.HasPrefix(err.Error(), "4") {
			t.Errorf("%s: SMTP answers %v, want 4xx", why, err)
		}
		if status := r.status("/readyz"); status != http.StatusServiceUnavailable {
			t.Errorf("%s: /readyz answers %d", why, status)
		}
		if status := r.status("/healthz"); status != http.StatusOK {
			t.Errorf("%s: /healthz answers %d", why, status)
		}
	}
	db.Stop()
	deliver(2)
	refused("the database is away")
	r.await("it is said", func() bool { return r.logged("connect: ") })
	db.Start()
	r.await("the second quarter is in", func() bool { return r.total() == next })

	// Others take all connections.
	var taken []*pgx.Conn
	for deadline := time.Now().Add(patience); ; {
		conn, err := pgx.Connect(t.Context(), db.URL)
		if err == nil {
			taken = append(taken, conn)
			conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dmarcd'")
			continue
		}
		if len(taken) == connections && r.logged("too many clients already") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("dmarcd finds connections all the same: %v\n%s", err, r.log)
		}
		for _, conn := range taken { // dmarcd was quicker
			conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dmarcd'")
		}
	}
	deliver(3)
	refused("there are no connections")
	for _, conn := range taken {
		conn.Close(context.Background())
	}
	deliver(4)
	r.await("all count", func() bool { return r.messages() >= want.Totals["messages"] })
	r.await("all are in", func() bool { return r.total() == len(mails) })
	r.compare(want)
	r.eachHasOneFate(len(mails))
	if r.logged("set aside") {
		t.Errorf("messages are set aside for want of a database\n%s", r.log)
	}
	if status := r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d\n%s", status, r.log)
	}
	verified(t, "DMARCD_DATABASE_URL="+db.URL)
}
