package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what PostgreSQL may log: a line's length, and the warnings and
// errors in a span of time.
const (
	maxLine    = 4 << 10
	maxAlarms  = 50
	alarmsSpan = time.Minute
)

// A relay hands PostgreSQL's log to ours. It keeps the last words of a server
// that does not live.
type relay struct {
	log *slog.Logger
	now func() time.Time

	quiet atomic.Bool // the server is being stopped: complaints about that tell nothing

	mu      sync.Mutex
	last    string // the last ERROR, FATAL or PANIC
	since   time.Time
	alarms  int
	omitted int
}

// copy reads lines until the end: it never stops before, since a server that
// cannot write its log stands still.
func (r *relay) copy(from io.Reader) {
	in := bufio.NewReaderSize(from, maxLine)
	for {
		line, more, err := in.ReadLine()
		if err != nil {
			return
		}
		r.line(string(line))
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
	}
}

// line logs one line: "backend type|SEVERITY:  text", or the continuation of
// a longer text, which begins with a tab.
func (r *relay) line(line string) {
	level, process, text := parseLine(line)
	if r.quiet.Load() {
		level = slog.LevelDebug
	}
	if level >= slog.LevelWarn && !r.admit() {
		return
	}
	if level == slog.LevelError {
		r.mu.Lock()
		r.last = text
		r.mu.Unlock()
	}
	attrs := []slog.Attr{slog.String("text", text)}
	if process != "" {
		attrs = append(attrs, slog.String("process", process))
	}
	r.log.LogAttrs(context.Background(), level, "postgres", attrs...)
}

// admit tells whether one more warning or error may be logged, and says how
// many were not.
func (r *relay) admit() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); now.Sub(r.since) >= alarmsSpan {
		if r.omitted > 0 {
			r.log.Warn("postgres: more was logged", slog.Int("omitted", r.omitted))
		}
		r.since, r.alarms, r.omitted = now, 0, 0
	}
	if r.alarms >= maxAlarms {
		r.omitted++
		return false
	}
	r.alarms++
	return true
}

// lastWords returns how a server ended, and what it complained of last.
func (r *relay) lastWords(exit error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if exit == nil {
		exit = errors.New("stopped by someone else")
	}
	if r.last == "" {
		return exit
	}
	return fmt.Errorf("%w: %s", exit, r.last)
}

// forget forgets the last words: the server lives.
func (r *relay) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = ""
}

// parseLine tells how much a line of PostgreSQL's log matters to us. Errors of
// our own sessions are returned to whoever asked and are logged there.
func parseLine(line string) (level slog.Level, process, text string) {
	head, text, found := strings.Cut(line, ":  ")
	if !found {
		return slog.LevelDebug, "", strings.TrimSpace(line)
	}
	process, severity, found := strings.Cut(head, "|")
	if !found { // our settings are not read yet: a time and a number stand before
		process, severity = "", head[strings.LastIndexByte(head, ' ')+1:]
	}
	switch {
	case severity == "PANIC":
		level = slog.LevelError
	case process == "client backend":
		level = slog.LevelDebug
	case severity == "FATAL", severity == "ERROR":
		level = slog.LevelError
	case severity == "WARNING":
		level = slog.LevelWarn
	case strings.Contains(text, "was terminated by signal"): // a child: killed for its memory, perhaps
		level = slog.LevelWarn
	default:
		level = slog.LevelDebug
	}
	return level, process, text
}
