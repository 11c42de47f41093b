package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// isTerminal reports whether what is written goes to a terminal.
func isTerminal(w io.Writer) bool {
	if s, ok := w.(*screen); ok {
		return s.terminal
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A screen writes lines to a terminal that may show a line of progress: the
// line makes way for what is written. It may be used by several goroutines.
type screen struct {
	terminal bool

	mu    sync.Mutex
	w     io.Writer
	drawn bool
}

func newScreen(w io.Writer) *screen { return &screen{w: w, terminal: isTerminal(w)} }

// eraseLine goes back to the beginning of the line and clears it.
const eraseLine = "\r\x1b[K"

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn {
		s.drawn = false
		if _, err := io.WriteString(s.w, eraseLine); err != nil {
			return 0, err
		}
	}
	return s.w.Write(p)
}

// draw replaces the line of progress; "" removes it.
func (s *screen) draw(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if line == "" && !s.drawn {
		return
	}
	s.drawn = line != ""
	io.WriteString(s.w, eraseLine+line)
}

// A progress shows on a terminal how far a long job is: a line that is drawn
// anew a few times a second. Elsewhere it shows nothing. It may be used by
// several goroutines.
type progress struct {
	screen *screen
	noun   string // what is counted, in the plural
	total  int64  // 0 if nobody knows
	now    func() time.Time
	// share tells how much of the work is done, in a measure of its own, where
	// nobody knows how many there are to count; nil if nobody knows that either.
	share func() (done, total int64)

	mu       sync.Mutex
	began    time.Time
	drawn    time.Time
	done     int64
	old, new reading // old is what the rate is counted from
}

// A reading is how far a job was at some time.
type reading struct {
	at          time.Time
	done, share int64
}

// recent is what the rate is about, once there is that much: some files take
// longer than others.
const recent = 15 * time.Second

// startProgress begins to show progress. The total may be 0, for unknown.
func (env *environ) startProgress(noun string, total int64) *progress {
	return newProgress(env.stderr, noun, total, time.Now)
}

func newProgress(s *screen, noun string, total int64, now func() time.Time) *progress {
	began := now()
	return &progress{screen: s, noun: noun, total: total, now: now, began: began, drawn: began, old: reading{at: began}, new: reading{at: began}}
}

// often is how often the line is drawn anew.
const often = 200 * time.Millisecond

// add counts what has been done since.
func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	now := p.now()
	if !p.screen.terminal || now.Sub(p.drawn) < often {
		return
	}
	p.drawn = now
	p.screen.draw(p.line(now))
}

// stop removes the line.
func (p *progress) stop() { p.screen.draw("") }

// line is the text of the line at some time.
func (p *progress) line(now time.Time) string {
	done, total := p.done, p.total
	if p.share != nil {
		done, total = p.share()
	}
	if now.Sub(p.new.at) >= recent {
		p.old, p.new = p.new, reading{now, p.done, done}
	}
	var b strings.Builder
	b.WriteString(grouped(p.done))
	if p.total > 0 {
		fmt.Fprintf(&b, " of %s", grouped(p.total))
	}
	b.WriteString(" " + p.noun)
	if total > 0 {
		fmt.Fprintf(&b, ", %d %%", min(done, total)*100/total)
	}
	elapsed := now.Sub(p.old.at)
	if elapsed < time.Second || p.done == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, ", %s a second", grouped(int64(float64(p.done-p.old.done)/elapsed.Seconds())))
	if moved := done - p.old.share; total > done && moved > 0 {
		left := time.Duration(float64(total-done) / float64(moved) * float64(elapsed))
		fmt.Fprintf(&b, ", %s left", max(left.Round(time.Second), time.Second))
	}
	return b.String()
}
