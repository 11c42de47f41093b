package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// A hook is a webhook that keeps what it gets, and answers as it is told.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	keys   []string
	bodies []string
	answer func(n int, w http.ResponseWriter)
}

func newHook(t *testing.T, answer func(n int, w http.ResponseWriter)) *hook {
	h := &hook{answer: answer}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.keys, h.bodies = append(h.keys, r.Header.Get("Idempotency-Key")), append(h.bodies, string(body))
		n := len(h.keys)
		h.mu.Unlock()
		if h.answer != nil {
			h.answer(n, w)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) got() ([]string, []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.keys...), append([]string{}, h.bodies...)
}

// telling opens a service that tells a hook what happens.
func telling(t *testing.T, url string, h *hook, more string) (*service, *teller) {
	t.Helper()
	cfg := tellConfig(t, url, h, more)
	s, err := openService(t.Context(), cfg, slog.New(slog.DiscardHandler), postgres.Options{}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	tell, err := s.newTeller(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, tell
}

func tellConfig(t *testing.T, url string, h *hook, more string) *config {
	t.Helper()
	file := writeFile(t, "dmarcd.toml", fmt.Sprintf("database_url = %q\n%s\n[[target]]\nname = \"ops\"\nurl = %q\nprivate = true\n", url, more, h.URL+"/s3cret"))
	env := newEnviron(nil, nil, os.Stderr, []string{"XDG_STATE_HOME=" + t.TempDir()})
	cfg, err := env.loadConfig(file, everything)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// due makes what waits due now, and lets claims run out.
func (s *service) due(t *testing.T) {
	t.Helper()
	if _, err := s.db.Exec(t.Context(), "UPDATE deliveries SET next_at = clock_timestamp() WHERE state = 'waiting'"); err != nil {
		t.Fatal(err)
	}
}

// A mailbox that cannot be read is told of once, by two processes that look, to
// a webhook that fails twice first; and once more when it is over.
func TestAMailboxThatCannotBeReadIsToldOfOnce(t *testing.T) {
	h := newHook(t, func(n int, w http.ResponseWriter) {
		if n <= 2 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	url := pgtest.URL(t)
	a, tellA := telling(t, url, h, "")
	b, tellB := telling(t, url, h, "")
	now := time.Now().UTC().Truncate(time.Second)
	for _, tell := range []*teller{tellA, tellB} {
		tell.notifier.Now = func() time.Time { return now }
	}
	pass := func() {
		t.Helper()
		var wg sync.WaitGroup
		for _, tell := range []*teller{tellA, tellB} {
			wg.Go(func() {
				if err := tell.notifier.Pass(t.Context(), dmarc.Lease{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for range 3 {
			for _, tell := range []*teller{tellA, tellB} {
				wg.Go(func() {
					if err := tell.deliverer.Pass(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			a.due(t)
		}
	}
	box := &ingest.Ingester{}
	a.noteMailboxes(box, nil, nil)
	box.OnPass("reports", time.Second, fmt.Errorf("dial tcp: connection refused"))
	pass()
	if keys, _ := h.got(); len(keys) != 0 {
		t.Fatalf("told at once: %q", keys)
	}
	if _, err := a.db.Exec(t.Context(), "UPDATE mailbox_health SET failing_since = failing_since - interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	pass()
	pass()
	keys, bodies := h.got()
	if len(keys) != 3 || keys[0] != keys[1] || keys[1] != keys[2] || !strings.Contains(bodies[2], `"title":"Mailbox reports cannot be read"`) || !strings.Contains(bodies[2], "connection refused") {
		t.Fatalf("told %q", bodies)
	}
	box.OnPass("reports", time.Second, nil)
	pass()
	pass()
	keys, bodies = h.got()
	if len(keys) != 4 || keys[3] == keys[0] || !strings.Contains(bodies[3], `"phase":"over"`) {
		t.Errorf("when it was over: %q", bodies[3:])
	}
	list, _, err := b.store.Notifications(t.Context(), dmarc.NotificationQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: 10}})
	if err != nil || len(list) != 2 || list[1].Deliveries[0].Attempts != 3 || list[1].Deliveries[0].State != dmarc.DeliverySent {
		t.Errorf("%+v, %v", list, err)
	}
}

// A process is killed while it delivers. Another one sends the same again, under
// the same key, and once it has got through nobody sends any more.
func TestAMessageOutlivesTheProcessThatDeliversIt(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	h := newHook(t, func(n int, _ http.ResponseWriter) {
		if n == 1 {
			arrived <- struct{}{}
			<-release
		}
	})
	t.Cleanup(func() { close(release) })
	url := pgtest.URL(t)
	s, tell := telling(t, url, h, "")
	err := s.store.Post(t.Context(), dmarc.Lease{}, []dmarc.OutgoingMessage{{Key: "the key", Target: "ops", Kind: "events", Body: []byte(`{"kind":"events"}`)}})
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "dmarcd.toml", fmt.Sprintf("[[target]]\nname = \"ops\"\nurl = %q\nprivate = true\n", h.URL+"/s3cret"))
	first := start(t, build(t), porttest.FreeAddress(t), []string{"DMARCD_CONFIG=" + file, "DMARCD_DATABASE_URL=" + url, "DMARCD_DATA_DIR=" + filepath.Join(t.TempDir(), "data")})
	select {
	case <-arrived:
	case <-time.After(patience):
		t.Fatalf("it was not delivered\n%s", first.log)
	}
	if err := tell.deliverer.Pass(t.Context()); err != nil { // while the other one is at it
		t.Fatal(err)
	}
	first.stop(syscall.SIGKILL)
	if keys, _ := h.got(); len(keys) != 1 {
		t.Fatalf("sent %d times while one was at it", len(keys))
	}
	if strings.Contains(first.log.String(), "s3cret") {
		t.Errorf("the URL is logged:\n%s", first.log)
	}
	s.due(t) // its claim has run out
	for range 3 {
		if err := tell.deliverer.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if keys, bodies := h.got(); len(keys) != 2 || keys[1] != "the key" || bodies[1] != bodies[0] {
		t.Errorf("sent as %q: %q", keys, bodies)
	}
}

func TestNotifyTestSaysWhatHappenedToEachTarget(t *testing.T) {
	good := newHook(t, nil)
	bad := newHook(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) })
	file := writeFile(t, "dmarcd.toml", fmt.Sprintf("[[target]]\nname = \"ops\"\nurl = %q\nprivate = true\n[[target]]\nname = \"chat\"\nurl = %q\nprivate = true\n[[target]]\nname = \"inside\"\nurl = %q\n",
		good.URL+"/s3cret", bad.URL+"/s3cret", strings.Replace(good.URL, "http", "https", 1)+"/s3cret"))
	got := world{}.run(t, "notify", "test", "--config", file)
	want := "ops: sent\nchat: failed: it answers 403 Forbidden\ninside: failed: dial tcp " + strings.TrimPrefix(good.URL, "http://") + ": 127.0.0.1 is not a public address; allow it with private = true\n"
	if got != (result{exitFailed, want, ""}) {
		t.Errorf("%+v\nwant %s", got, want)
	}
	if got := (world{}).run(t, "notify", "test", "ops", "--config", file); got != (result{exitDone, "ops: sent\n", ""}) {
		t.Errorf("%+v", got)
	}
	if _, bodies := good.got(); len(bodies) != 2 || !strings.Contains(bodies[0], `"kind":"test"`) {
		t.Errorf("%q", bodies)
	}
	if got := (world{}).run(t, "notify", "test", "osp", "--config", file); got.status != exitUsage || !strings.Contains(got.stderr, "did you mean ops?") {
		t.Errorf("%+v", got)
	}
	if got := (world{}).run(t, "notify", "test"); got.status != exitFailed || !strings.Contains(got.stderr, "no target is configured") {
		t.Errorf("%+v", got)
	}
}

// What rules find at one domain of many is kept apart from others, in passes that
// another process may take over.
func TestTheRulesLookAtEveryDomainWithReports(t *testing.T) {
	h := newHook(t, nil)
	s, tell := telling(t, pgtest.URL(t), h, "[notify]\nreports_refused_messages = 1\n")
	fate, err := s.ingester.Take(t.Context(), dmarc.MailboxUpload, "x.xml", strings.NewReader("<feedback><broken"))
	if err != nil || fate.Outcome.Harmless() {
		t.Fatalf("%+v, %v", fate, err)
	}
	hold := func(do func(ctx context.Context, l dmarc.Lease) error) error {
		return s.store.Hold(t.Context(), "pass notify", do)
	}
	if err := hold(tell.notifier.Pass); err != nil {
		t.Fatal(err)
	}
	if err := tell.deliverer.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, bodies := h.got(); len(bodies) != 1 || !strings.Contains(bodies[0], "1 message refused in a day") {
		t.Errorf("%q", bodies)
	}
}

// A mailServer keeps what it is handed.
type mailServer struct {
	mu    sync.Mutex
	mails []string
	to    []string
}

type mailSession struct {
	*mailServer
	rcpt []string
}

func (m *mailServer) NewSession(*smtp.Conn) (smtp.Session, error) {
	return &mailSession{mailServer: m}, nil
}
func (*mailSession) Reset()                               {}
func (*mailSession) Logout() error                        { return nil }
func (*mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.rcpt = append(s.rcpt, to)
	return nil
}
func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails, s.to = append(s.mails, string(text)), append(s.to, s.rcpt...)
	return err
}

// A digest of stored reports is written once by several processes, and handed to a
// mail server.
func TestADigestOfStoredReportsReachesAMailServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inbox := &mailServer{}
	server := smtp.NewServer(inbox)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	url := pgtest.URL(t)
	config := fmt.Sprintf("[mail]\nserver = \"smtp://%s\"\nfrom = \"dmarcd@example.com\"\n[digest]\nevery = \"daily\"\nat = \"00:00\"\nto = [\"a@example.com\", \"b@example.com\"]\n[notify]\nlink = \"https://dmarc.example\"\n", l.Addr())
	h := newHook(t, nil)
	a, tellA := telling(t, url, h, config)
	_, tellB := telling(t, url, h, config)
	now := time.Now().UTC()
	today := now.Truncate(24 * time.Hour)
	clock := func() time.Time { return now }
	tellA.digester.Now, tellB.digester.Now = clock, clock
	for day := range 10 {
		begin := today.AddDate(0, 0, -day-1)
		text := fmt.Sprintf(`<feedback><report_metadata><org_name>r.example</org_name><email>a@r.example</email><report_id>%d</report_id><date_range><begin>%d</begin><end>%d</end></date_range></report_metadata>`+
			`<policy_published><domain>acme.example</domain><p>none</p></policy_published><record><row><source_ip>192.0.2.1</source_ip><count>1000</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>`+
			`<identifiers><header_from>acme.example</header_from></identifiers><auth_results><dkim><domain>acme.example</domain><result>pass</result></dkim></auth_results></record></feedback>`, day, begin.Unix(), begin.Add(24*time.Hour-time.Second).Unix())
		if fate, err := a.ingester.Take(t.Context(), dmarc.MailboxUpload, "x.xml", strings.NewReader(text)); err != nil || fate.Added != 1 {
			t.Fatalf("%+v, %v", fate, err)
		}
	}
	for range 2 {
		for _, tell := range []*teller{tellA, tellB} {
			if err := tell.digester.Pass(t.Context(), dmarc.Lease{}); err != nil {
				t.Fatal(err)
			}
			if err := tell.deliverer.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		tellA.digester, tellB.digester = a.newDigester(tellConfig(t, url, h, config)), a.newDigester(tellConfig(t, url, h, config)) // after a restart
		tellA.digester.Now, tellB.digester.Now = clock, clock
	}
	if len(inbox.mails) != 1 || strings.Join(inbox.to, " ") != "a@example.com b@example.com" {
		t.Fatalf("%d mails to %q", len(inbox.mails), inbox.to)
	}
	for _, want := range []string{"100 % passed, of 7,000 messages.", "Content-Type: image/png", "multipart/related", "https://dmarc.example/domains/acme.example"} {
		if !strings.Contains(strings.ReplaceAll(inbox.mails[0], "=\r\n", ""), want) {
			t.Errorf("the mail lacks %q", want)
		}
	}
	file := writeFile(t, "dmarcd.toml", fmt.Sprintf("database_url = %q\nlog_level = \"error\"\n", url)+config)
	if got := (world{}).run(t, "notify", "test", "--config", file); got.stdout != "[digest]: sent\n" || len(inbox.mails) != 2 || !strings.Contains(inbox.mails[1], "This is a test by dmarcd") {
		t.Errorf("%+v", got)
	}
	if !time.Now().UTC().Truncate(24 * time.Hour).Equal(today) {
		t.Skip("it became another day meanwhile, and the digest that is printed is of that")
	}
	got := world{}.run(t, "notify", "digest", "--config", file)
	if got.status != exitDone || !strings.Contains(got.stdout, "100 % passed, of 7,000 messages.") || len(inbox.mails) != 2 {
		t.Errorf("%+v", got)
	}
}
