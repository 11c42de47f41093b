package main

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

func TestProgressIsDrawnNowAndThenAndMakesWay(t *testing.T) {
	var b bytes.Buffer
	s := newScreen(&b)
	s.terminal = true
	now := time.Unix(0, 0)
	p := newProgress(s, "messages", 4000, func() time.Time { return now })
	for range 3 { // within the same moment
		p.add(500)
	}
	now = now.Add(2 * time.Second)
	p.add(500)
	fmt.Fprintln(s, "a line")
	now = now.Add(2 * time.Second)
	p.add(2000)
	p.stop()
	fmt.Fprintln(s, "done")
	want := "\r\x1b[K2,000 of 4,000 messages, 50 %, 1,000 a second, 2s left" +
		"\r\x1b[Ka line\n" +
		"\r\x1b[K4,000 of 4,000 messages, 100 %, 1,000 a second" +
		"\r\x1b[Kdone\n"
	if got := b.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestProgressWithoutATotalKnowsNoEnd(t *testing.T) {
	p := newProgress(newScreen(&bytes.Buffer{}), "rows", 0, time.Now)
	p.done = 90
	if got, want := p.line(p.began.Add(3*time.Second)), "90 rows, 30 a second"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestProgressIsSilentOffTheTerminal(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(newScreen(&b), "messages", 0, time.Now)
	p.add(5)
	p.stop()
	if b.Len() != 0 {
		t.Errorf("%q", b.String())
	}
}

// The rate is that of late: a second run passes over what is done far faster
// than it goes on.
func TestProgressTellsTheRateOfLate(t *testing.T) {
	now := time.Unix(0, 0)
	s := newScreen(&bytes.Buffer{})
	s.terminal = true
	p := newProgress(s, "messages", 0, func() time.Time { return now })
	var bytes, total int64
	p.share = func() (int64, int64) { return bytes, total }
	step := func(n int64) {
		now = now.Add(time.Second)
		bytes += 10 * n
		p.add(n)
	}
	for range 40 { // what is known
		step(10_000)
	}
	if got, want := p.line(now), "400,000 messages, 10,000 a second"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	total = 5_000_000 // has been added up now
	for range 40 {
		step(100)
	}
	if got, want := p.line(now), "404,000 messages, 80 %, 100 a second, 16m0s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
