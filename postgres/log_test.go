package postgres

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLogLinesHaveTheLevelThatTheyMatter(t *testing.T) {
	for _, c := range []struct {
		line    string
		level   slog.Level
		process string
		text    string
	}{
		{"postmaster|LOG:  database system is ready to accept connections", slog.LevelDebug, "postmaster", "database system is ready to accept connections"},
		{"postmaster|LOG:  server process (PID 7) was terminated by signal 9: Killed", slog.LevelWarn, "postmaster", "server process (PID 7) was terminated by signal 9: Killed"},
		{"autovacuum worker|ERROR:  could not extend file", slog.LevelError, "autovacuum worker", "could not extend file"},
		{"checkpointer|PANIC:  could not write: no space", slog.LevelError, "checkpointer", "could not write: no space"},
		{"client backend|PANIC:  could not write: no space", slog.LevelError, "client backend", "could not write: no space"},
		{"client backend|ERROR:  duplicate key", slog.LevelDebug, "client backend", "duplicate key"},
		{"client backend|FATAL:  the database system is starting up", slog.LevelDebug, "client backend", "the database system is starting up"},
		{"startup|WARNING:  odd", slog.LevelWarn, "startup", "odd"},
		{"2026-11-23 18:48:16.283 UTC [20743] FATAL:  unrecognized parameter", slog.LevelError, "", "unrecognized parameter"},
		{"\tcontinued | and on", slog.LevelDebug, "", "continued | and on"},
		{"", slog.LevelDebug, "", ""},
	} {
		level, process, text := parseLine(c.line)
		if level != c.level || process != c.process || text != c.text {
			t.Errorf("%q: %v, %q, %q", c.line, level, process, text)
		}
	}
}

func TestALogFloodIsCutAndCounted(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	r := &relay{log: slog.New(slog.NewTextHandler(&out, nil)), now: func() time.Time { return now }, since: now}
	for i := range 1000 {
		r.line(fmt.Sprintf("checkpointer|WARNING:  trouble %d", i))
	}
	if got := strings.Count(out.String(), "\n"); got != maxAlarms {
		t.Errorf("%d lines, want %d", got, maxAlarms)
	}
	out.Reset()
	now = now.Add(alarmsSpan)
	r.line("checkpointer|WARNING:  the next")
	if got := out.String(); !strings.Contains(got, "omitted=950") || !strings.Contains(got, `text="the next"`) {
		t.Errorf("after the flood: %q", got)
	}
}

func TestAnEndlessLogLineIsCut(t *testing.T) {
	var out bytes.Buffer
	r := &relay{log: slog.New(slog.NewTextHandler(&out, nil)), now: time.Now}
	r.copy(strings.NewReader("startup|WARNING:  " + strings.Repeat("x", 1<<20) + "\nstartup|WARNING:  next\n"))
	if out.Len() > 2*maxLine || !strings.Contains(out.String(), "text=next") {
		t.Errorf("%d bytes logged, ending in %q", out.Len(), out.String()[max(0, out.Len()-100):])
	}
}
