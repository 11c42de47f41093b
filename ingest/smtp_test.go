package ingest_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
)

// receive runs a receiver on loopback, and returns its address.
func receive(t *testing.T, in *ingest.Ingester, change func(*ingest.SMTPOptions)) (string, *ingest.SMTP) {
	t.Helper()
	opts := ingest.SMTPOptions{Hostname: "mx.example.com", Recipients: []string{"dmarc@example.com", "@reports.example.com"}, Limit: 1 << 20,
		Connections: 100, Timeout: time.Minute, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := ingest.NewSMTP(in, opts)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), s
}

func send(address, to string, message []byte) error {
	return smtp.SendMail(address, nil, "a@reporter.example", []string{to}, message)
}

func code(err error) int {
	var said *textproto.Error
	if errors.As(err, &said) {
		return said.Code
	}
	return 0
}

func TestMailIsReceivedForTheRecipientsOnly(t *testing.T) {
	store := &memory{}
	address, _ := receive(t, ingester(store), nil)
	for _, c := range []struct {
		to   string
		want int
	}{
		{"dmarc@example.com", 0},
		{"DMARC@Example.COM", 0},
		{"anything@reports.example.com", 0},
		{"dmarc@example.org", 550},
		{"postmaster@example.com", 550},
		{"x@sub.reports.example.com", 550},
		{"@reports.example.com", 501},
	} {
		if err := send(address, c.to, reportMail(c.to)); code(err) != c.want || (err == nil) != (c.want == 0) {
			t.Errorf("%s: %v, want %d", c.to, err, c.want)
		}
	}
	if got, want := store.ids(), []string{"dmarc@example.com", "DMARC@Example.COM", "anything@reports.example.com"}; !slices.Equal(got, want) {
		t.Errorf("took %v, want %v", got, want)
	}
	for _, d := range store.took {
		if d.Mailbox != dmarc.MailboxSMTP || d.Place != (dmarc.Place{}) || d.Raw == nil {
			t.Errorf("%+v", d)
		}
	}
}

// The bytes that are kept are those that were sent: dots are unstuffed.
func TestAReceivedMessageIsKeptAsItWasSent(t *testing.T) {
	store := &memory{}
	address, _ := receive(t, ingester(store), nil)
	message := "Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nend\r\n"
	if err := send(address, "dmarc@example.com", []byte(message)); err != nil {
		t.Fatal(err)
	}
	if got := store.took[0]; got.Size != int64(len(message)) {
		t.Errorf("%d bytes, want %d", got.Size, len(message))
	}
}

func TestAMessageThatIsTooLargeIsRefused(t *testing.T) {
	store := &memory{}
	in := ingester(store)
	address, _ := receive(t, in, func(o *ingest.SMTPOptions) { o.Limit = 5000 })
	big := append(reportMail("big"), strings.Repeat("<!-- padding -->\r\n", 1000)...)
	if err := send(address, "dmarc@example.com", big); code(err) != 552 {
		t.Errorf("err = %v, want 552", err)
	}
	// Said before anything is sent (RFC 1870).
	c, err := gosmtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var said *gosmtp.SMTPError
	if err := c.Mail("a@reporter.example", &gosmtp.MailOptions{Size: 5001}); !errors.As(err, &said) || said.Code != 552 {
		t.Errorf("err = %v, want 552", err)
	}
	// The connection goes on.
	if err := errors.Join(c.Mail("a@reporter.example", nil), c.Rcpt("dmarc@example.com", nil)); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	w.Write(reportMail("small"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := store.ids(); !slices.Equal(got, []string{"small"}) {
		t.Errorf("took %v", got)
	}
}

// What cannot be stored is not accepted: the sender keeps it, and brings it again.
func TestTheAnswerFollowsTheStore(t *testing.T) {
	store := &memory{fail: errors.New("no disk")}
	address, _ := receive(t, ingester(store), nil)
	if err := send(address, "dmarc@example.com", reportMail("one")); code(err) != 451 || strings.Contains(err.Error(), "disk") {
		t.Errorf("err = %v, want 451 that does not tell why", err)
	}
	store.mu.Lock()
	store.fail = nil
	store.mu.Unlock()
	for range 2 { // the second is known
		if err := send(address, "dmarc@example.com", reportMail("one")); err != nil {
			t.Fatal(err)
		}
	}
	if got := store.ids(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("took %v", got)
	}
}

// A connection that is cut anywhere brings all of a message or nothing, by DATA
// and by BDAT.
func TestAMessageThatBreaksOffIsNotTakenIn(t *testing.T) {
	store := &memory{}
	address, _ := receive(t, ingester(store), nil)
	message := string(reportMail("cut"))
	begin := "EHLO x\r\nMAIL FROM:<a@reporter.example>\r\nRCPT TO:<dmarc@example.com>\r\n"
	for _, text := range []string{
		begin + "DATA\r\n" + message,
		begin + "DATA\r\n" + message + "\r\n.\r",
		begin + "DATA\r\n" + message[:300],
		begin + fmt.Sprintf("BDAT %d\r\n%s", len(message), message),
		begin + fmt.Sprintf("BDAT %d LAST\r\n%s", len(message), message[:len(message)-1]),
		begin + fmt.Sprintf("BDAT %d\r\n%sRSET\r\n", len(message), message),
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, text)
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn) // until the server has seen it
		conn.Close()
	}
	if got := store.ids(); len(got) != 0 {
		t.Errorf("took %v", got)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, begin+fmt.Sprintf("BDAT %d\r\n%sBDAT 0 LAST\r\nQUIT\r\n", len(message), message))
	if text, err := io.ReadAll(conn); err != nil || strings.Count(string(text), "250 2.0.0") < 1 {
		t.Errorf("%s, %v", text, err)
	}
	if got := store.ids(); !slices.Equal(got, []string{"cut"}) {
		t.Errorf("took %v", got)
	}
}

// Over LMTP each recipient has an answer, and the message one fate.
func TestMailIsReceivedOverLMTP(t *testing.T) {
	store := &memory{}
	address, _ := receive(t, ingester(store), func(o *ingest.SMTPOptions) { o.LMTP = true })
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := gosmtp.NewClientLMTP(conn)
	defer c.Close()
	if err := errors.Join(c.Mail("a@reporter.example", nil), c.Rcpt("dmarc@example.com", nil), c.Rcpt("b@reports.example.com", nil)); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	w.Write(reportMail("one"))
	answers, err := w.CloseWithLMTPResponse()
	if err != nil || len(answers) != 2 {
		t.Errorf("answers %v, %v", answers, err)
	}
	if got := store.ids(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("took %v", got)
	}
}

func TestMailIsReceivedOverSTARTTLS(t *testing.T) {
	store := &memory{}
	server, trusting := testTLS(t)
	address, _ := receive(t, ingester(store), func(o *ingest.SMTPOptions) { o.TLSConfig = server })
	c, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := errors.Join(c.StartTLS(trusting), c.Mail("a@reporter.example"), c.Rcpt("dmarc@example.com")); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	w.Write(reportMail("one"))
	if err := errors.Join(w.Close(), c.Quit()); err != nil {
		t.Fatal(err)
	}
	if got := store.ids(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("took %v", got)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	allowed := true
	var mu sync.Mutex
	address, _ := receive(t, ingester(&memory{}), func(o *ingest.SMTPOptions) {
		o.Connections = 2
		o.Allow = func(a netip.Addr) bool {
			mu.Lock()
			defer mu.Unlock()
			return allowed && a == netip.MustParseAddr("127.0.0.1")
		}
	})
	greeting := func() (net.Conn, string) {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return conn, line[:9]
	}
	one, first := greeting()
	_, second := greeting()
	_, third := greeting()
	if got, want := []string{first, second, third}, []string{"220 mx.ex", "220 mx.ex", "421 4.3.2"}; !slices.Equal(got, want) {
		t.Errorf("greeted with %q, want %q", got, want)
	}
	io.WriteString(one, "QUIT\r\n")
	io.Copy(io.Discard, one)
	for line := ""; line != "220 mx.ex"; { // once the server has noticed
		_, line = greeting()
	}
	mu.Lock()
	allowed = false
	mu.Unlock()
	if _, line := greeting(); line != "421 4.7.0" {
		t.Errorf("greeted with %q", line)
	}
}

// A slow store makes messages wait for each other, and then they go together.
type slow struct {
	*memory
	begun   chan struct{}
	release chan struct{}
	mu      sync.Mutex
	batches []int
}

func (s *slow) Add(ctx context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	s.mu.Lock()
	s.batches = append(s.batches, len(ds))
	s.mu.Unlock()
	s.begun <- struct{}{}
	select {
	case <-s.release:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.memory.Add(ctx, ds)
}

func TestMessagesThatComeTogetherAreCommittedTogether(t *testing.T) {
	store := &slow{memory: &memory{}, begun: make(chan struct{}, 100), release: make(chan struct{})}
	in := ingester(store)
	in.BatchRows = 30
	address, _ := receive(t, in, nil)
	var senders sync.WaitGroup
	sent := func(id string) {
		senders.Go(func() {
			if err := send(address, "dmarc@example.com", reportMail(id)); err != nil {
				t.Error(err)
			}
		})
	}
	sent("first")
	<-store.begun
	for i := range 60 {
		sent(fmt.Sprint(i))
	}
	for in.Waiting() < 60 {
		time.Sleep(time.Millisecond)
	}
	close(store.release)
	senders.Wait()
	if want := []int{1, 30, 30}; !slices.Equal(store.batches, want) {
		t.Errorf("batches of %v, want %v", store.batches, want)
	}
	if got := store.ids(); len(got) != 61 {
		t.Errorf("took %d messages", len(got))
	}
}

// Whoever gives up does not hold up the others, and a batch is given up once all have.
func TestABatchIsGivenUpOnceNobodyWaits(t *testing.T) {
	store := &slow{memory: &memory{}, begun: make(chan struct{}, 100), release: make(chan struct{})}
	in := ingester(store)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := in.Take(ctx, dmarc.MailboxUpload, "a.xml", strings.NewReader(reportXML("1")))
		gone <- err
	}()
	<-store.begun
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	close(store.release)
	if fate, err := in.Take(t.Context(), dmarc.MailboxUpload, "a.xml", strings.NewReader(reportXML("1"))); err != nil || fate.Known {
		t.Errorf("%+v, %v", fate, err)
	}
}

// An idle client does not hold up whoever stops; a message on its way may come.
func TestShutdownWaitsForMessagesAndNotForIdleClients(t *testing.T) {
	store := &slow{memory: &memory{}, begun: make(chan struct{}, 1), release: make(chan struct{})}
	address, s := receive(t, ingester(store), nil)
	idle, err := gosmtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if err := idle.Hello("x"); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- sendAndHangUp(address, reportMail("late")) }()
	<-store.begun
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		stopped <- s.Shutdown(ctx)
	}()
	if err := idle.Noop(); err == nil {
		// It was quicker than the end; the next one is not.
		for idle.Noop() == nil {
		}
	}
	close(store.release)
	if err := errors.Join(<-sent, <-stopped); err != nil {
		t.Error(err)
	}
	if got := store.ids(); !slices.Equal(got, []string{"late"}) {
		t.Errorf("took %v", got)
	}
}

func TestShutdownBeforeServeEndsIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := ingest.NewSMTP(ingester(&memory{}), ingest.SMTPOptions{Connections: 1, Log: slog.New(slog.DiscardHandler)})
	if err := errors.Join(s.Shutdown(t.Context()), s.Serve(l), l.Close()); err != nil {
		t.Error(err)
	}
}

// A message that does not come to its end is cut with the time for stopping.
func TestShutdownCutsWhatTakesTooLong(t *testing.T) {
	store := &memory{}
	address, s := receive(t, ingester(store), nil)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := gosmtp.NewClient(conn)
	defer c.Close()
	if err := errors.Join(c.Mail("a@reporter.example", nil), c.Rcpt("dmarc@example.com", nil)); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	w.Write(reportMail("half"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// The server may be stopped before it has begun with the message: then the
	// client is an idle one.
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || len(store.ids()) != 0 {
		t.Errorf("the connection is still there: err = %v, took %v", err, store.ids())
	}
}

func sendAndHangUp(address string, message []byte) error {
	c, err := gosmtp.Dial(address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := errors.Join(c.Mail("a@reporter.example", nil), c.Rcpt("dmarc@example.com", nil)); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	w.Write(message)
	return w.Close()
}

// testTLS returns the side of a server of loopback, and that of whoever trusts it.
func testTLS(t *testing.T) (server, trusting *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}
