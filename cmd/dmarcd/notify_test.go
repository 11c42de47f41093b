package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
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
	file := writeFile(t, "dmarcd.toml", fmt.Sprintf("database_url = %q\n%s\n[[target]]\nname = \"ops\"\nurl = %q\nprivate = true\n", url, more, h.URL+"/s3cret"))
	env := newEnviron(nil, nil, os.Stderr, []string{"XDG_STATE_HOME=" + t.TempDir()})
	cfg, err := env.loadConfig(file, everything)
	if err != nil {
		t.Fatal(err)
	}
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
	a.noteMailboxes(box)
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
	first := start(t, build(t), freeAddress(t), []string{"DMARCD_CONFIG=" + file, "DMARCD_DATABASE_URL=" + url, "DMARCD_DATA_DIR=" + filepath.Join(t.TempDir(), "data")})
	select {
	case <-arrived:
	case <-time.After(2 * time.Minute):
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
