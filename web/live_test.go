package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A listener reads what is sent to it.
type listener struct {
	header http.Header
	mu     chan struct{}
	text   *strings.Builder
	status int
}

func newListener() *listener {
	l := &listener{header: http.Header{}, mu: make(chan struct{}, 1), text: &strings.Builder{}, status: 200}
	l.mu <- struct{}{}
	return l
}

func (l *listener) Header() http.Header { return l.header }
func (l *listener) WriteHeader(s int)   { l.status = s }
func (l *listener) Flush()              {}
func (l *listener) Write(p []byte) (int, error) {
	<-l.mu
	defer func() { l.mu <- struct{}{} }()
	return l.text.Write(p)
}

// events returns the names of the events that came, and the id of the last.
func (l *listener) events() (names, id string) {
	<-l.mu
	defer func() { l.mu <- struct{}{} }()
	for line := range strings.Lines(l.text.String()) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			names += name + " "
		}
		if x, ok := strings.CutPrefix(line, "id: "); ok {
			id = x
		}
	}
	return strings.TrimSpace(names), id
}

func TestBrowsersAreToldOfWhatIsNewAndOfNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var version, events, failing, asked atomic.Int64
		version.Store(424242)
		live := NewLive(func(context.Context) (dmarc.Newest, error) {
			if asked.Add(1); version.Load() < 0 {
				return dmarc.Newest{}, errors.New("no database")
			}
			return dmarc.Newest{Messages: version.Load(), Events: events.Load(), Failing: failing.Load()}, nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { live.Run(ctx); close(ended) }()
		time.Sleep(time.Minute)
		if asked.Load() != 0 {
			t.Errorf("nobody listens, and it was asked %d times", asked.Load())
		}

		listen := func(last string) (*listener, context.CancelFunc) {
			here, leave := context.WithCancel(t.Context())
			r := httptest.NewRequestWithContext(here, http.MethodGet, "/live", nil)
			r.Header.Set("Last-Event-ID", last)
			l := newListener()
			go live.ServeHTTP(l, r)
			synctest.Wait()
			return l, leave
		}
		one, leave := listen("")
		two, leaveTwo := listen("")
		defer leaveTwo()
		time.Sleep(time.Minute)
		version.Store(424243)
		time.Sleep(liveInterval + time.Second)
		version.Store(-1) // the database is away: nobody is told anything
		time.Sleep(time.Minute)
		version.Store(424244)
		time.Sleep(liveInterval + time.Second)
		events.Store(424242)
		time.Sleep(liveInterval + time.Second)
		failing.Store(1)
		time.Sleep(liveInterval + time.Second)
		for _, l := range []*listener{one, two} {
			if names, _ := l.events(); names != "here new new changed changed" {
				t.Errorf("events %q", names)
			}
			if text := l.text.String(); strings.Contains(text, "42424") || !strings.Contains(text, "\n:\n") {
				t.Errorf("it was sent:\n%s", text)
			}
		}
		_, before := one.events()
		leave()
		again, leave := listen(before)
		if names, _ := again.events(); names != "here" {
			t.Errorf("back again, and nothing is new: %q", names)
		}
		leave()
		failing.Store(0)
		time.Sleep(liveInterval + time.Second)
		again, leave = listen(before)
		if names, _ := again.events(); names != "changed" {
			t.Errorf("back again, and a mailbox is read again: %q", names)
		}
		leave()
		version.Store(424245)
		time.Sleep(liveInterval + time.Second)
		again, leave = listen(before)
		if names, _ := again.events(); names != "new" {
			t.Errorf("back again, and missed something: %q", names)
		}
		leave()

		var all []context.CancelFunc
		for range liveClients + 10 {
			l, leave := listen("")
			all = append(all, leave)
			if want := len(all) >= liveClients; (l.status == http.StatusServiceUnavailable) != want { // two listens, too
				t.Fatalf("listener %d: %d", len(all), l.status)
			}
		}
		for _, leave := range all {
			leave()
		}
		synctest.Wait()
		last, leave := listen("")
		defer leave()
		if last.status != http.StatusOK {
			t.Errorf("when others have left there is room: %d", last.status)
		}
		cancel() // all go, so that the service can stop
		<-ended
		synctest.Wait()
		live.mu.Lock()
		left := len(live.clients)
		live.mu.Unlock()
		if late, _ := listen(""); left != 0 || late.status != http.StatusServiceUnavailable {
			t.Errorf("%d listeners left; one who comes late gets %d", left, late.status)
		}
	})
}

// A stream ends by itself, so that whoever listens is let in anew.
func TestAStreamOfEventsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := NewLive(func(context.Context) (dmarc.Newest, error) { return dmarc.Newest{Messages: 1}, nil }, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go live.Run(ctx)
		began := time.Now()
		w := newListener()
		live.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/live", nil))
		if took := time.Since(began); took != liveTime {
			t.Errorf("it ended after %v", took)
		}
		if n := strings.Count(w.text.String(), ":\n\n"); n < int(liveTime/liveHeartbeat)-1 {
			t.Errorf("%d signs of life", n)
		}
	})
}

// An Intake that knows nothing but what somebody may do.
type allowed struct {
	Intake
	rights dmarc.Rights
}

func (a allowed) Rights(context.Context) dmarc.Rights { return a.rights }

// That something was stored tells of all domains: those who may know of some are not told.
func TestOnlyThoseWhoMayKnowOfEverythingListen(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		rights dmarc.Rights
		status int
	}{
		{dmarc.Rights{Read: true, All: true}, http.StatusOK},
		{dmarc.Rights{Read: true, Upload: true, Failures: true, Admin: true}, http.StatusNoContent},
		{dmarc.Rights{}, http.StatusNoContent},
	} {
		s := &site{intake: allowed{rights: c.rights}, live: NewLive(nil, slog.New(slog.DiscardHandler))}
		w := httptest.NewRecorder()
		s.listen(w, httptest.NewRequestWithContext(gone, http.MethodGet, "/live", nil))
		if w.Code != c.status || (w.Body.Len() > 0) != (c.status == http.StatusOK) {
			t.Errorf("%+v: %d, %q", c.rights, w.Code, w.Body)
		}
	}
}
