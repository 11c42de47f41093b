package ingest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/ingest/dovecottest"
)

func TestMailIsReadOverTLSAndSTARTTLS(t *testing.T) {
	s := dovecottest.Start(t, "ssl = required", "auth_mechanisms = plain login")
	s.Deliver(t, "1.a.host", reportMail("one"))
	for _, c := range []struct{ security, auth, address string }{
		{ingest.SecurityTLS, "auto", s.TLSAddress},
		{ingest.SecurityTLS, "plain", s.TLSAddress},
		{ingest.SecurityTLS, "login", s.TLSAddress},
		{ingest.SecuritySTARTTLS, "auto", s.Address},
		{ingest.SecuritySTARTTLS, "login", s.Address},
	} {
		t.Run(c.security+" "+c.auth, func(t *testing.T) {
			box := mailboxAt(s, func(o *ingest.IMAPOptions) {
				o.Security, o.Auth, o.Address, o.TLSConfig = c.security, c.auth, c.address, s.TLS
			})
			defer box.Close()
			store := &memory{}
			if sum, err := ingester(store).Pass(t.Context(), box); err != nil || sum.Messages != 1 {
				t.Errorf("%+v, %v", sum, err)
			}
		})
	}
}

// Neither a certificate that nobody vouches for nor a server that wants the
// password in plain text gets it.
func TestThePasswordGoesOnlyWhereItIsSafe(t *testing.T) {
	s := dovecottest.Start(t, "ssl = required")
	for _, c := range []struct {
		name, want string
		change     func(*ingest.IMAPOptions)
	}{
		{"unknown authority over TLS", "certificate", func(o *ingest.IMAPOptions) { o.Security, o.Address = ingest.SecurityTLS, s.TLSAddress }},
		{"unknown authority over STARTTLS", "certificate", func(o *ingest.IMAPOptions) { o.Security = ingest.SecuritySTARTTLS }},
		{"no login without TLS", "imaps://", func(o *ingest.IMAPOptions) { _, o.Address = inMemory(t, imapserver.Options{}) }},
		{"TLS on the plain port", s.Address, func(o *ingest.IMAPOptions) { o.Security, o.TLSConfig = ingest.SecurityTLS, s.TLS }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ingester(&memory{}).Pass(t.Context(), mailboxAt(s, c.change))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestMessagesAreMovedOrMarkedOnceTheyAreStored(t *testing.T) {
	mixed := func(s *dovecottest.Server) {
		s.Deliver(t, "1.a.host", reportMail("one"))
		s.Deliver(t, "2.a.host", []byte("Subject: hello\r\n\r\nNo report.\r\n"))
		s.Deliver(t, "3.a.host", reportMail("three"))
	}
	pass := func(t *testing.T, box *ingest.IMAP) {
		t.Helper()
		defer box.Close()
		if sum, err := ingester(&memory{}).Pass(t.Context(), box); err != nil || sum.Messages != 3 {
			t.Fatalf("%+v, %v", sum, err)
		}
		if err := box.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	soon := func(o *ingest.IMAPOptions) { o.Idle, o.Poll = false, time.Millisecond }
	t.Run("seen", func(t *testing.T) {
		s := dovecottest.Start(t)
		mixed(s)
		pass(t, mailboxAt(s, func(o *ingest.IMAPOptions) { soon(o); o.After = ingest.AfterSeen }))
		want := [][]imap.Flag{{imap.FlagSeen}, {imap.FlagSeen}, {imap.FlagSeen}}
		if got := flags(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("flags = %v, want %v", got, want)
		}
	})
	t.Run("move to folders that are not there yet", func(t *testing.T) {
		s := dovecottest.Start(t)
		mixed(s)
		pass(t, mailboxAt(s, func(o *ingest.IMAPOptions) {
			soon(o)
			o.After, o.MoveTo, o.MoveOthersTo = ingest.AfterMove, "Done", "Others"
		}))
		for folder, want := range map[string]int{"INBOX": 0, "Done": 2, "Others": 1} {
			if got := messages(t, s, folder); got != want {
				t.Errorf("%s has %d messages, want %d", folder, got, want)
			}
		}
	})
	t.Run("move reports only", func(t *testing.T) {
		s := dovecottest.Start(t)
		mixed(s)
		pass(t, mailboxAt(s, func(o *ingest.IMAPOptions) { soon(o); o.After, o.MoveTo = ingest.AfterMove, "Done" }))
		if in, done := messages(t, s, "INBOX"), messages(t, s, "Done"); in != 1 || done != 2 {
			t.Errorf("%d messages stay and %d are moved, want 1 and 2", in, done)
		}
	})
}

func messages(t *testing.T, s *dovecottest.Server, folder string) int {
	t.Helper()
	data, err := client(t, s).Status(folder, &imap.StatusOptions{NumMessages: true}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	return int(*data.NumMessages)
}

// The server tells of mail while dmarcd waits, long before the next poll.
func TestNewMailEndsTheWait(t *testing.T) {
	s := dovecottest.Start(t)
	store := &memory{}
	in := ingester(store)
	box := mailboxAt(s, func(o *ingest.IMAPOptions) { o.Poll = time.Hour })
	defer box.Close()
	if _, err := in.Pass(t.Context(), box); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- box.Wait(t.Context()) }()
	s.Deliver(t, "1.a.host", reportMail("one"))
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// A cutter passes bytes between client and server and cuts each connection
// after some of them.
type cutter struct {
	net.Listener
	to    string
	after atomic.Int64
}

func (c *cutter) run() {
	for {
		client, err := c.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.to)
		if err != nil {
			client.Close()
			continue
		}
		go func() {
			io.Copy(server, client)
			server.Close()
		}()
		go func() {
			io.CopyN(client, server, c.after.Load())
			client.Close()
			server.Close()
		}()
	}
}

// A connection that is cut anywhere, in a greeting or in the middle of a
// message, loses nothing and doubles nothing.
func TestACutConnectionLosesNothing(t *testing.T) {
	s := dovecottest.Start(t)
	var want []string
	for i := range 40 {
		id := fmt.Sprintf("r%03d", i)
		s.Deliver(t, fmt.Sprintf("%04d.a.host", i), reportMail(id))
		want = append(want, id)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	wire := &cutter{Listener: listener, to: s.Address}
	go wire.run()
	store := &memory{}
	in := ingester(store)
	box := mailboxAt(s, func(o *ingest.IMAPOptions) { o.Address = listener.Addr().String() })
	defer box.Close()
	cut := 0
	for after := int64(10); ; after += 1234 {
		wire.after.Store(after)
		_, err := in.Pass(t.Context(), box)
		if err == nil {
			break
		}
		if cut++; after > 1<<20 {
			t.Fatal(err)
		}
	}
	if got := store.ids(); !reflect.DeepEqual(got, want) {
		t.Errorf("after %d cuts: %v", cut, got)
	}
	if cut < 5 {
		t.Errorf("only %d connections were cut", cut)
	}
}

// Whoever stops in the middle of a mailbox, because the store fails or the
// process is told to, does not wait for the rest of it.
func TestAPassEndsInTheMiddleOfAMailbox(t *testing.T) {
	s := dovecottest.Start(t)
	for i := range 90 {
		message := append(reportMail(fmt.Sprint(i)), strings.Repeat("<!-- padding -->\r\n", 3000)...)
		s.Deliver(t, fmt.Sprintf("%04d.a.host", i), message)
	}
	t.Run("the store fails", func(t *testing.T) {
		store := &memory{fail: errors.New("no disk")}
		in := ingester(store)
		in.BatchRows = 3
		box := mailboxAt(s, nil)
		if _, err := in.Pass(t.Context(), box); !errors.Is(err, store.fail) {
			t.Errorf("err = %v, want %v", err, store.fail)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := &memory{}
		in := ingester(store)
		in.BatchRows = 3
		in.OnFate = func(*dmarc.Delivery, dmarc.Fate) { cancel() }
		box := mailboxAt(s, nil)
		sum, err := in.Pass(ctx, box)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
		if n := len(store.ids()); n == 0 || n == 90 || n != sum.Messages {
			t.Errorf("%d messages are stored, %d are told of", n, sum.Messages)
		}
	})
}

// inMemory serves a mailbox of go-imap's own server.
func inMemory(t *testing.T, options imapserver.Options) (*imapmemserver.User, string) {
	t.Helper()
	user := imapmemserver.NewUser(dovecottest.User, dovecottest.Password)
	if err := user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	mem := imapmemserver.New()
	mem.AddUser(user)
	options.NewSession = func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
		return mem.NewSession(), nil, nil
	}
	options.Logger = slog.NewLogLogger(slog.DiscardHandler, 0)
	server := imapserver.New(&options)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return user, listener.Addr().String()
}

type literal struct{ *bytes.Reader }

func appendTo(t *testing.T, user *imapmemserver.User, message []byte) {
	t.Helper()
	if _, err := user.Append("INBOX", literal{bytes.NewReader(message)}, &imap.AppendOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherServerIsReadByEitherRevision(t *testing.T) {
	for name, caps := range map[string]imap.CapSet{
		"IMAP4rev1": {imap.CapIMAP4rev1: {}},
		"IMAP4rev2": {imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
	} {
		t.Run(name, func(t *testing.T) {
			user, address := inMemory(t, imapserver.Options{Caps: caps, InsecureAuth: true})
			var want []string
			for i := range 130 {
				id := fmt.Sprintf("r%03d", i)
				appendTo(t, user, reportMail(id))
				want = append(want, id)
			}
			store := &memory{}
			box := ingest.NewIMAP(ingest.IMAPOptions{
				Name: "box", Address: address, Security: ingest.SecurityPlain, User: dovecottest.User, Password: dovecottest.Password,
				Folder: "INBOX", Poll: time.Millisecond, Limit: 1 << 20, Log: slog.New(slog.DiscardHandler),
			})
			defer box.Close()
			in := ingester(store)
			for range 2 {
				if _, err := in.Pass(t.Context(), box); err != nil {
					t.Fatal(err)
				}
				if err := box.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := store.ids(); !reflect.DeepEqual(got, want) {
				t.Errorf("took %v", got)
			}
		})
	}
}

// A folder that is made anew has other UIDs: everything in it is new, even
// where the numbers are smaller than the one that was reached.
func TestAFolderMadeAnewIsReadFromItsBeginning(t *testing.T) {
	user, address := inMemory(t, imapserver.Options{InsecureAuth: true})
	for _, id := range []string{"a", "b", "c"} {
		appendTo(t, user, reportMail(id))
	}
	store := &memory{}
	box := ingest.NewIMAP(ingest.IMAPOptions{
		Name: "box", Address: address, Security: ingest.SecurityPlain, User: dovecottest.User, Password: dovecottest.Password,
		Folder: "INBOX", Poll: time.Millisecond, Limit: 1 << 20, Log: slog.New(slog.DiscardHandler),
	})
	in := ingester(store)
	if _, err := in.Pass(t.Context(), box); err != nil {
		t.Fatal(err)
	}
	box.Close()
	if err := errors.Join(user.Delete("INBOX"), user.Create("INBOX", nil)); err != nil {
		t.Fatal(err)
	}
	appendTo(t, user, reportMail("d"))
	if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
	box.Close()
	if got, want := store.ids(), []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("took %v, want %v", got, want)
	}
}

// Servers may tell the UID of a message before its text or after it, may
// leave a message out, and may refuse one. Each message has a fate all the same.
func TestServersThatAnswerOddlyLoseNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go oddServer(conn)
		}
	}()
	store := &memory{}
	box := ingest.NewIMAP(ingest.IMAPOptions{
		Name: "box", Address: listener.Addr().String(), Security: ingest.SecurityPlain, User: "u", Password: "p",
		Folder: "INBOX", Poll: time.Millisecond, Limit: 1 << 20, Log: slog.New(slog.DiscardHandler),
	})
	defer box.Close()
	sum, err := ingester(store).Pass(t.Context(), box)
	if err != nil {
		t.Fatal(err)
	}
	want := map[dmarc.Outcome]int{dmarc.OutcomeOK: 2, dmarc.OutcomeUnreadable: 2}
	if !reflect.DeepEqual(sum.Outcomes, want) {
		t.Errorf("outcomes = %v, want %v", sum.Outcomes, want)
	}
	slices.SortFunc(store.took, func(a, b dmarc.Delivery) int { return int(a.Place.UID) - int(b.Place.UID) })
	for i, d := range store.took {
		want := []string{"", "", "asked for twice", "out of luck"}[i]
		if d.Place.UID != uint32(11+i) || !strings.Contains(d.Reason, want) {
			t.Errorf("message %d has UID %d and reason %q, want %q", i, d.Place.UID, d.Reason, want)
		}
	}
	if got := store.place["box"]; got.UID != 15 && got.UID != 14 {
		t.Errorf("reached %+v", got)
	}
}

// oddServer has messages 11 to 14, and 15 that vanishes: the text of 11 comes
// before its UID and that of 12 behind it, 13 never comes, and 14 is refused.
func oddServer(conn net.Conn) {
	defer conn.Close()
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	body := func(id string) string {
		b := reportMail(id)
		return fmt.Sprintf("BODY[] {%d}\r\n%s", len(b), b)
	}
	say("* OK [CAPABILITY IMAP4rev1] hello")
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		tag, command, _ := strings.Cut(lines.Text(), " ")
		whole := strings.Contains(command, "BODY.PEEK[]")
		switch {
		case strings.HasPrefix(command, "SELECT"), strings.HasPrefix(command, "EXAMINE"):
			say("* 4 EXISTS")
			say("* OK [UIDVALIDITY 7] hi")
		case strings.HasPrefix(command, "UID SEARCH"):
			say("* SEARCH 11 12 13 14 15")
		case strings.Contains(command, "RFC822.SIZE"):
			for i := range 4 {
				say("* %d FETCH (UID %d RFC822.SIZE 999)", i+1, 11+i)
			}
		case strings.HasPrefix(command, "UID FETCH") && whole:
			say("* 2 FETCH (UID 12 FLAGS () %s)", body("second"))
			say("* 1 FETCH (%s UID 11)", body("first"))
			say("* 3 FETCH (UID 13 FLAGS ())")
			say("%s NO out of luck", tag)
			continue
		case strings.HasPrefix(command, "FETCH 1 "):
			say("* 1 FETCH (%s UID 11)", body("first"))
		case strings.HasPrefix(command, "FETCH 4 "):
			say("%s NO out of luck", tag)
			continue
		case strings.HasPrefix(command, "UID FETCH 15 "):
		case strings.HasPrefix(command, "UID FETCH "):
			uid, _ := strconv.Atoi(strings.Fields(command)[2])
			say("* %d FETCH (UID %d)", uid-10, uid)
		}
		say("%s OK done", tag)
	}
}

// A sick mailbox fails until it is well.
type sick struct {
	fails int
	tried []time.Time
	done  context.CancelFunc
}

func (*sick) Name() string { return "sick" }
func (b *sick) Each(context.Context, dmarc.Place, func(context.Context, ingest.Message) error) error {
	b.tried = append(b.tried, time.Now())
	if len(b.tried) <= b.fails {
		return errors.New("no route to host")
	}
	return nil
}
func (*sick) Settle(context.Context, []ingest.Settled) error { return nil }
func (b *sick) Wait(ctx context.Context) error {
	b.done()
	<-ctx.Done()
	return ctx.Err()
}
func (*sick) Close() error { return nil }

func TestASickMailboxIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		box := &sick{fails: 12, done: cancel}
		if err := ingester(&memory{}).Run(ctx, box); err != nil {
			t.Fatal(err)
		}
		if len(box.tried) != 13 {
			t.Fatalf("tried %d times, want 13", len(box.tried))
		}
		want := time.Second
		for i := 1; i < len(box.tried); i++ {
			pause := box.tried[i].Sub(box.tried[i-1])
			if pause < want || pause > want+want/4 {
				t.Errorf("pause %d is %v, want %v and up to a quarter more", i, pause, want)
			}
			want = min(2*want, 5*time.Minute)
		}
	})
}
