package stream_test

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/stream"
)

// Whoever reads a pipe may stop. What waits for them holds a connection to the database, so that
// it does not wait for ever.
func TestAReaderThatStallsIsWaitedForNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, writer := io.Pipe()
		l := (&log{}).holding(2, 0)
		s := streamer(l, &stream.Lines{W: writer})
		began := time.Now()
		err := s.Pass(t.Context(), dmarc.Lease{})
		if err == nil || !strings.Contains(err.Error(), "nobody has read") || time.Since(began) != 10*time.Minute || l.moved != "" {
			t.Fatalf("after %v: %v, moved to %q", time.Since(began), err, l.moved)
		}
		// They read on: what waited comes first, and then all that is not kept yet.
		read := make(chan []string)
		go func() {
			var text []byte
			lines := bufio.NewReader(reader)
			for range 8 {
				line, _ := lines.ReadBytes('\n')
				text = append(text, line...)
			}
			read <- heads(t, text)
		}()
		if err := s.Pass(t.Context(), dmarc.Lease{}); err != nil {
			t.Fatal(err)
		}
		once := "1-1 of 2, 1-1 row 1, 1-1 row 2, 1-2 of 0"
		if got := strings.Join(<-read, ", "); got != once+", "+once || l.moved != at(2) {
			t.Errorf("%s; moved to %q", got, l.moved)
		}
	})
}

// A service that is told to stop does so though nobody reads its stream.
func TestAStalledReaderHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader, writer := io.Pipe()
		defer reader.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := streamer((&log{}).holding(1), &stream.Lines{W: writer}).Pass(ctx, dmarc.Lease{}); err == nil || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
