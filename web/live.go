package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Live tells browsers that messages were taken in, or that something else happened which
// people are told of, by server-sent events, and nothing else: what is new is what their
// next page shows. That something was committed is about all domains, so that only those
// who may know of all may listen. One question is asked for all of them, and none while
// nobody listens.
type Live struct {
	newest func(context.Context) (dmarc.Newest, error)
	log    *slog.Logger
	key    string // so that the ids of events tell nothing either

	mu      sync.Mutex
	clients map[chan string]bool
	wake    chan struct{} // somebody began to listen
	at      string        // what was seen last; "" for nothing
	over    bool
}

// How events are sent.
const (
	liveClients   = 200              // that may listen at the same time
	liveInterval  = 2 * time.Second  // between two looks
	liveHeartbeat = 20 * time.Second // well within the time that a write, or a proxy, may take
	liveTime      = 15 * time.Minute // then the browser asks again, and with it whether it still may
	liveRetry     = 5 * time.Second  // after which it does
)

// NewLive returns what tells of what is new.
func NewLive(newest func(context.Context) (dmarc.Newest, error), log *slog.Logger) *Live {
	return &Live{newest: newest, log: log, key: rand.Text(), clients: map[chan string]bool{}, wake: make(chan struct{}, 1)}
}

// Run looks for what is new until ctx ends. Then nobody listens any more.
func (l *Live) Run(ctx context.Context) {
	defer l.end()
	tick := time.NewTicker(liveInterval)
	defer tick.Stop()
	for failing := false; ; {
		if l.listened() {
			err := l.look(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				l.log.Warn("it cannot be seen whether something new was stored; pages are not told", "error", err)
			}
			failing = err != nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.wake:
		}
	}
}

func (l *Live) listened() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.clients) > 0
}

// look asks for what is newest, and tells of it if it was not seen before.
func (l *Live) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n, err := l.newest(ctx)
	if err != nil {
		return err
	}
	seal := func(what ...any) string {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %v", l.key, what))
		return hex.EncodeToString(sum[:8])
	}
	at := seal("messages", n.Messages) + "." + seal("events", n.Events, n.Failing)
	l.mu.Lock()
	defer l.mu.Unlock()
	if at == l.at {
		return nil
	}
	l.at = at
	for c := range l.clients {
		select {
		case <-c: // what was not told yet is out of date
		default:
		}
		c <- at
	}
	return nil
}

// end tells all who listen that it is over.
func (l *Live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for c := range l.clients {
		close(c)
		delete(l.clients, c)
	}
}

// join adds a listener; nil if there is no room, or it is over.
func (l *Live) join() chan string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || len(l.clients) >= liveClients {
		return nil
	}
	c := make(chan string, 1)
	if len(l.clients) == 0 {
		l.at = "" // nobody looked meanwhile
	} else if l.at != "" {
		c <- l.at
	}
	l.clients[c] = true
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return c
}

func (l *Live) leave(c chan string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.clients, c)
}

// ServeHTTP sends events until the client goes, or for some time. The first one says
// "here", unless the client was told of something else before. Later ones say "new" if
// messages were taken in, and "changed" if only something else happened.
func (l *Live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := l.join()
	if c == nil {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "Too many pages are listening. This one is not told of what is new; reload it instead.", http.StatusServiceUnavailable)
		return
	}
	defer l.leave(c)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would wait for more
	out := http.NewResponseController(w)
	send := func(format string, args ...any) bool {
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && out.Flush() == nil
	}
	if !send("retry: %d\n\n", liveRetry.Milliseconds()) {
		return
	}
	last := r.Header.Get("Last-Event-ID")
	beat := time.NewTicker(liveHeartbeat)
	defer beat.Stop()
	end := time.NewTimer(liveTime)
	defer end.Stop()
	for {
		select {
		case at, open := <-c:
			if !open {
				return
			}
			event := happened(last, at)
			last = at
			if !send("event: %s\nid: %s\ndata:\n\n", event, at) {
				return
			}
		case <-beat.C:
			if !send(":\n\n") {
				return
			}
		case <-end.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// happened says what is told to who knew of one thing, and not yet of the other.
func happened(last, at string) string {
	if last == "" || last == at {
		return "here"
	}
	before, _, _ := strings.Cut(last, ".")
	if messages, _, _ := strings.Cut(at, "."); messages != before {
		return "new"
	}
	return "changed"
}

// listen serves /live. Those who may know of some domains only are told nothing, or they
// would learn when others have mail: by this answer a browser knows not to ask again.
func (s *site) listen(w http.ResponseWriter, r *http.Request) {
	if s.intake == nil || !s.intake.Rights(r.Context()).All {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.live.ServeHTTP(w, r)
}
