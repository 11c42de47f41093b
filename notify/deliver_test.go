package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/outward"
)

// An outbox in memory: what is not delivered is due again at once.
type outbox struct {
	mu      sync.Mutex
	waiting []*dmarc.OutgoingMessage
	sent    []*dmarc.OutgoingMessage
	whys    []string
	pauses  []time.Duration
}

func (o *outbox) ClaimDelivery(_ context.Context, target string, _ time.Duration) (*dmarc.OutgoingMessage, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, m := range o.waiting {
		if m.Target == target {
			o.waiting = append(o.waiting[:i:i], o.waiting[i+1:]...)
			m.Attempts++
			return m, nil
		}
	}
	return nil, nil
}

func (o *outbox) Delivered(_ context.Context, m *dmarc.OutgoingMessage) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, m)
	return nil
}

func (o *outbox) NotDelivered(_ context.Context, m *dmarc.OutgoingMessage, why string, again time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting, o.whys, o.pauses = append(o.waiting, m), append(o.whys, why), append(o.pauses, again)
	return nil
}

func (o *outbox) GiveUp(context.Context, time.Duration) ([]dmarc.OutgoingMessage, error) {
	return nil, nil
}

func TestAWebhookThatFailsTwiceGetsTheSameMessageAgain(t *testing.T) {
	const secret = "a long random text"
	type request struct{ key, body string }
	var got []request
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %q %v", r.Method, r.Header, err)
		}
		if sent, want := r.Header.Get("Dmarcd-Signature"), signature(secret, r.Header.Get("Dmarcd-Timestamp"), body); sent != want {
			t.Errorf("signature %q, want %q", sent, want)
		}
		got = append(got, request{r.Header.Get("Idempotency-Key"), string(body)})
		switch len(got) {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer hook.Close()
	var log bytes.Buffer
	url := hook.URL + "/s3cret"
	o := &outbox{}
	m, err := newMessage("ops", "", []dmarc.Event{{ID: 7, At: today, Rule: dmarc.RuleSPFLimit, Domain: "acme.example", Phase: dmarc.EventBegan, Title: "a", Text: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	o.waiting = append(o.waiting, &m)
	counts := map[string]int{}
	d := &Deliverer{Outbox: o, Senders: map[string]Sender{"ops": &Webhook{URL: url, Secret: secret, Reach: outward.Reach{All: true}}}, Log: slog.New(slog.NewTextHandler(&log, nil)),
		OnAttempt: func(target, result string) { counts[target+" "+result]++ }}
	for range 4 {
		if err := d.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 3 || got[0].key == "" || got[0] != got[1] || got[1] != got[2] {
		t.Fatalf("received %+v", got)
	}
	if len(o.sent) != 1 || counts["ops failed"] != 2 || counts["ops sent"] != 1 {
		t.Errorf("sent %d, counted %v", len(o.sent), counts)
	}
	if o.pauses[0] < firstPause*3/4 || o.pauses[0] > firstPause*5/4 || o.pauses[1] < 10*time.Minute {
		t.Errorf("pauses %v", o.pauses)
	}
	if all := log.String() + strings.Join(o.whys, " "); strings.Contains(all, "s3cret") || strings.Contains(all, secret) || !strings.Contains(all, "it answers 500") {
		t.Errorf("logged %s", all)
	}
}

func TestPausesGrowAndAreBounded(t *testing.T) {
	for attempts := 1; attempts < 100; attempts++ {
		want := min(lastPause, firstPause<<min(attempts-1, 10))
		if got := pause(attempts); got < want*3/4 || got > want*5/4 {
			t.Errorf("after %d attempts: %v, want about %v", attempts, got, want)
		}
	}
}

// The example of the documentation.
func TestTheSignatureIsAsDocumented(t *testing.T) {
	if got, want := signature("key", "1764000000", []byte(`{"kind":"test"}`)), "sha256=8099f2fbe2b0a901a02d487b87204026dfca9d814b86c2d0f6923a7fe7d087c5"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWebhooksReachOnlyPublicAddressesAndFollowNothing(t *testing.T) {
	reached := 0
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer target.Close()
	m := TestMessage("ops", today)
	for _, url := range []string{target.URL + "/s3cret", strings.Replace(target.URL, "127.0.0.1", "localhost", 1) + "/s3cret"} {
		err := (&Webhook{URL: url}).Send(t.Context(), &m)
		if !errors.Is(err, outward.ErrNotPublic) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	redirect := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()
	if err := (&Webhook{URL: redirect.URL, Reach: outward.Reach{All: true}}).Send(t.Context(), &m); err == nil || !strings.Contains(err.Error(), "it answers 307, a redirect, which is not followed") {
		t.Errorf("a redirect: %v", err)
	}
	if reached != 0 {
		t.Errorf("reached %d times", reached)
	}
	if err := (&Webhook{URL: target.URL, Reach: outward.Reach{All: true}}).Send(t.Context(), &m); err != nil || reached != 1 {
		t.Errorf("allowed: %v", err)
	}
	inside := outward.Reach{}.With(netip.MustParsePrefix("127.0.0.0/8"))
	if err := (&Webhook{URL: target.URL, Reach: inside}).Send(t.Context(), &m); err != nil || reached != 2 {
		t.Errorf("allowed by its network: %v", err)
	}
}

// Of the services of shoutrrr, some let themselves be told how to connect, and most use the default.
func TestServicesOfShoutrrrConnectWithinTheirReach(t *testing.T) {
	reached := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached++
		io.WriteString(w, "{}")
	}))
	defer server.Close()
	usual := http.DefaultTransport
	http.DefaultTransport = DefaultTransport()
	defer func() { http.DefaultTransport = usual }()
	host := strings.TrimPrefix(server.URL, "http://")
	m := TestMessage("ops", today)
	tried := map[string]bool{"zulip": true} // it takes no address for a host; it uses http.Post, and with that the default, which is tried below
	for _, url := range []string{
		"bark://:key@" + host + "/?scheme=http", "gotify://" + host + "/Aabcdefghijklmn?disabletls=yes", "matrix://:token@" + host + "/?rooms=!room:example.com&disableTLS=yes",
		"matrix://user:password@" + host + "/?rooms=!room:example.com&disableTLS=yes", "mattermost://" + host + "/token?disabletls=yes", "ntfy://" + host + "/topic?scheme=http",
		"ntfy://" + host + "/topic?disabletlsverification=yes", "rocketchat://" + host + "/tokenA/tokenB/@somebody", "signal://" + host + "/+15550001/+15550002?disabletls=yes",
	} {
		s, err := NewShout(url, outward.Reach{})
		if err != nil {
			t.Fatalf("%s: %v", url, err)
		}
		tried[s.scheme] = true
		if err := s.Send(t.Context(), &m); !errors.Is(err, outward.ErrNotPublic) {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, name := range selfHosted {
		if !tried[name] {
			t.Errorf("%s was not tried", name)
		}
	}
	if resp, err := http.Get(server.URL); !errors.Is(err, outward.ErrNotPublic) {
		t.Errorf("by the default: %v, %v", resp, err)
	}
	if reached > 0 {
		t.Fatalf("reached %d times", reached)
	}
	s, err := NewShout("gotify://"+host+"/Aabcdefghijklmn?disabletls=yes", outward.Reach{All: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.service.Send("text", &types.Params{}); err != nil || reached != 1 {
		t.Errorf("allowed: %v, reached %d times", err, reached)
	}
}

func TestAServiceOfShoutrrrGetsTitleAndText(t *testing.T) {
	var title, body, path string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		title, body, path = r.Header.Get("Title"), string(text), r.URL.Path
		w.WriteHeader(status)
		w.Write([]byte(`{"code":40301,"http":403,"error":"forbidden s3cret"}`))
	}))
	defer server.Close()
	url := "ntfy://user:s3cret@" + strings.TrimPrefix(server.URL, "http://") + "/topic?scheme=http"
	s, err := NewShout(url, outward.Reach{All: true})
	if err != nil {
		t.Fatal(err)
	}
	m := TestMessage("ops", today)
	if err := s.Send(t.Context(), &m); err != nil || title != "dmarcd: a test message" || !strings.Contains(body, "If you read it") || path != "/topic" {
		t.Errorf("title %q, body %q, path %q, %v", title, body, path, err)
	}
	status = http.StatusForbidden
	if err := s.Send(t.Context(), &m); err == nil || err.Error() != "ntfy refuses it" {
		t.Errorf("refused: %v", err)
	}
	server.Close()
	if err := s.Send(t.Context(), &m); err == nil || strings.Contains(err.Error(), "s3cret") || !strings.HasPrefix(err.Error(), "ntfy cannot be reached: ") {
		t.Errorf("away: %v", err)
	}
	if s, err = NewShout(url, outward.Reach{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), &m); !errors.Is(err, outward.ErrNotPublic) {
		t.Errorf("at a private address: %v", err)
	}
}

// Matrix is logged into when there is something to send, not when it is configured: a server that
// is away holds up nothing. A session that has ended is replaced.
func TestMatrixIsLoggedIntoWhenThereIsSomethingToSend(t *testing.T) {
	logins, token := 0, ""
	var sent []string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_matrix/client/{version}/login", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"flows":[{"type":"m.login.password"}]}`)
	})
	mux.HandleFunc("POST /_matrix/client/{version}/login", func(w http.ResponseWriter, _ *http.Request) {
		logins++
		token = fmt.Sprintf("token%d", logins)
		fmt.Fprintf(w, `{"access_token":%q}`, token)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		if r.URL.Query().Get("access_token") != token {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"errcode":"M_UNKNOWN_TOKEN","error":"s3cret"}`)
			return
		}
		if strings.Contains(string(text), "If you read it") {
			sent = append(sent, r.URL.Path)
		}
		io.WriteString(w, `{"room_id":"!room:example.com"}`)
	})
	var here atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !here.Load() {
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(w, r)
	}))
	defer server.Close()
	s, err := NewShout("matrix://dmarcd:s3cret@"+strings.TrimPrefix(server.URL, "http://")+"/?rooms=!room:example.com&disableTLS=yes", outward.Reach{All: true})
	if err != nil {
		t.Fatalf("its server is away: %v", err)
	}
	m := TestMessage("ops", today)
	if err := s.Send(t.Context(), &m); !errors.Is(err, errLogin) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("away: %v", err)
	}
	here.Store(true)
	for range 2 {
		if err := s.Send(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
	if len(sent) != 2 || logins != 1 || !strings.Contains(sent[0], "room:example.com") {
		t.Errorf("%d logins, sent to %q", logins, sent)
	}
	token = "" // the server has ended the session
	if err := s.Send(t.Context(), &m); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a session that has ended: %v", err)
	}
	if err := s.Send(t.Context(), &m); err != nil || logins != 2 || len(sent) != 3 {
		t.Errorf("%v, %d logins, sent to %q", err, logins, sent)
	}
	for _, wrong := range []string{"matrix://u:p@m.example/?rooms=", "matrix://u:p@m.example/?rooms=,", "matrix://u:p@m.example/?colour=red"} {
		if s, err := NewShout(wrong, outward.Reach{}); err == nil && !strings.HasSuffix(wrong, "=") {
			t.Errorf("%s: %+v", wrong, s)
		}
	}
}

// A stuck service hangs over the first message that it is to send.
type stuck struct {
	types.Service
	sends       atomic.Int64
	hangs, hang chan bool
}

func (s *stuck) Send(string, *types.Params) error {
	if s.sends.Add(1) == 1 {
		close(s.hangs)
		<-s.hang
	}
	return nil
}

// A message that hangs holds up no other to the same target.
func TestAMessageThatHangsHoldsUpNoOther(t *testing.T) {
	service := &stuck{hangs: make(chan bool), hang: make(chan bool)}
	defer close(service.hang)
	s := &Shout{scheme: "ntfy", service: service}
	m := TestMessage("ops", today)
	ctx, giveUp := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { gaveUp <- s.Send(ctx, &m) }()
	<-service.hangs
	giveUp()
	if err := <-gaveUp; err == nil {
		t.Error("what hangs arrived")
	}
	late, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := s.Send(late, &m); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// A captor is a mail server that keeps what it is handed.
type captor struct {
	mu    sync.Mutex
	mails []captured
}

type captured struct {
	from string
	to   []string
	text []byte
}

type captorSession struct {
	c *captor
	m captured
}

func (c *captor) NewSession(*smtp.Conn) (smtp.Session, error) { return &captorSession{c: c}, nil }
func (s *captorSession) Reset()                               { s.m = captured{} }
func (s *captorSession) Logout() error                        { return nil }
func (s *captorSession) Mail(from string, _ *smtp.MailOptions) error {
	s.m.from = from
	return nil
}
func (s *captorSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.m.to = append(s.m.to, to)
	return nil
}
func (s *captorSession) Data(r io.Reader) (err error) {
	if s.m.text, err = io.ReadAll(r); err == nil {
		s.c.mu.Lock()
		s.c.mails = append(s.c.mails, s.m)
		s.c.mu.Unlock()
	}
	return err
}

// capture runs a mail server that captures, and returns how to reach it.
func capture(t *testing.T) (*captor, *MailServer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &captor{}
	server := smtp.NewServer(c)
	server.Domain = "mail.example.com"
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return c, &MailServer{Address: l.Addr().String(), Security: "plain", From: "dmarcd@example.com"}
}

func TestAMailIsTheSameHoweverOftenItIsSent(t *testing.T) {
	c, server := capture(t)
	m, err := newMessage("ops", "https://dmarc.example", []dmarc.Event{{ID: 7, At: today, Rule: dmarc.RuleSPFLimit, Domain: "acme.example", Phase: dmarc.EventBegan,
		Title: "acme.example: ü\r\nBcc: all@example.com " + strings.Repeat("long ", 60), Text: "Text with ü.\n.\nand a dot"}})
	if err != nil {
		t.Fatal(err)
	}
	m.At = today
	to := []string{"a@example.com", "b@example.org"}
	for range 2 {
		if err := (&Mail{server, to}).Send(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.mails) != 2 || !bytes.Equal(c.mails[0].text, c.mails[1].text) || c.mails[0].from != "dmarcd@example.com" || strings.Join(c.mails[0].to, " ") != strings.Join(to, " ") {
		t.Fatalf("%+v", c.mails)
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(c.mails[0].text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Message-Id": "<" + m.Key + "@example.com>", "List-Id": "<notifications.dmarcd.example.com>", "Auto-Submitted": "auto-generated", "Bcc": "",
		"Date": "Fri, 20 Nov 2026 00:00:00 +0000", "From": "dmarcd <dmarcd@example.com>", "Content-Transfer-Encoding": "quoted-printable",
	} {
		if got := parsed.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for text := range bytes.Lines(c.mails[0].text) {
		if len(text) > 200 || !bytes.HasSuffix(text, []byte("\r\n")) {
			t.Errorf("line %q", text)
		}
	}
	body, _ := io.ReadAll(parsed.Body)
	if want := "Text with =C3=BC.\r\n.\r\nand a dot\r\nhttps://dmarc.example/domains/acme.example/dns\r\n"; string(body) != want {
		t.Errorf("body %q, want %q", body, want)
	}
}

func TestAMailServerThatDoesNotAnswerIsNotWaitedForForEver(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it takes connections, and says nothing
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	m := TestMessage("ops", today)
	if err := (&Mail{&MailServer{Address: l.Addr().String(), Security: "plain", From: "a@example.com"}, []string{"b@example.com"}}).Send(ctx, &m); err == nil {
		t.Error("it was sent")
	}
}

// A target that does not answer holds up nobody else, however much waits for it.
func TestAPassMakesOneAttemptAtATargetThatFails(t *testing.T) {
	o := &outbox{}
	for _, target := range []string{"dead", "dead", "dead", "alive", "alive"} {
		m := TestMessage(target, today)
		o.waiting = append(o.waiting, &m)
	}
	tried := 0
	senders := map[string]Sender{
		"dead":  sendFunc(func(*dmarc.OutgoingMessage) error { tried++; return errors.New("no answer") }),
		"alive": sendFunc(func(*dmarc.OutgoingMessage) error { return nil }),
	}
	d := &Deliverer{Outbox: o, Senders: senders, Log: slog.New(slog.DiscardHandler)}
	if err := d.Pass(t.Context()); err != nil || tried != 1 || len(o.sent) != 2 {
		t.Errorf("%d attempts, %d sent, %v", tried, len(o.sent), err)
	}
}

type sendFunc func(*dmarc.OutgoingMessage) error

func (f sendFunc) Send(_ context.Context, m *dmarc.OutgoingMessage) error { return f(m) }
