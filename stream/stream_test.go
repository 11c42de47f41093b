package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/stream"
)

// A log is a store of changes, one a report, whose cursor is how many are passed.
type log struct {
	reports []dmarc.CurrentReport
	notYet  int // that cannot be seen yet, from 1; 0: none
	moved   dmarc.Cursor
}

func at(n int) dmarc.Cursor { return dmarc.Cursor(fmt.Sprint(n)) }

func passed(c dmarc.Cursor) (n int) {
	fmt.Sscan(string(c), &n)
	return n
}

func (l *log) OpenStream(context.Context, string, bool) (dmarc.Cursor, error) {
	return at(passed(l.moved)), nil
}

func (l *log) ReportChanges(_ context.Context, after dmarc.Cursor, limit int) (changes []dmarc.ReportChange, next dmarc.Cursor, err error) {
	next = after
	for i := passed(after); i < len(l.reports) && len(changes) < limit; i++ {
		next = at(i + 1)
		changes = append(changes, dmarc.ReportChange{Report: l.reports[i].ID, Next: next})
	}
	return changes, next, nil
}

func (l *log) EachCurrent(_ context.Context, changes []dmarc.ReportChange, _ bool, do func(*dmarc.ReportChange, *dmarc.CurrentReport) error) error {
	for i := range changes {
		n := passed(changes[i].Next)
		if n == l.notYet {
			return dmarc.ErrNotYet
		}
		if err := do(&changes[i], &l.reports[n-1]); err != nil {
			return err
		}
	}
	return nil
}

func (l *log) MoveStream(_ context.Context, _ dmarc.Lease, _ string, to dmarc.Cursor) error {
	l.moved = to
	return nil
}

// holding adds reports with so many rows each; a negative number is one that does not count.
func (l *log) holding(rows ...int) *log {
	for _, n := range rows {
		cur := dmarc.CurrentReport{Revision: 1, Removed: n < 0, RowsKept: true}
		cur.ID = fmt.Sprint("1-", len(l.reports)+1)
		cur.Report.Policy.Domain = "example.com"
		cur.Report.Tally.Rows = int64(n)
		cur.Report.Rows = func(yield func(*dmarc.Row, error) bool) {
			for i := range n {
				if !yield(&dmarc.Row{Count: int64(i)}, nil) {
					return
				}
			}
		}
		l.reports = append(l.reports, cur)
	}
	return l
}

func streamer(l *log, sink stream.Sink) *stream.Streamer {
	return &stream.Streamer{
		Store: l, Sink: sink, Name: "test", Scope: dmarc.Everything, JSON: func(v any) ([]byte, error) { return json.Marshal(v) },
		Report: func(r *dmarc.ReportSummary) any { return map[string]any{"id": r.ID, "errors": r.Report.Errors} },
		Row:    func(r *dmarc.Row) any { return map[string]any{"count": r.Count, "header_from": r.HeaderFrom} },
	}
}

// heads are what identifies the lines of a stream: report, and row or state.
func heads(t *testing.T, text []byte) (all []string) {
	t.Helper()
	for line := range bytes.Lines(text) {
		var e struct {
			Event, Report string
			Removed       bool
			Row           int
			Rows          int
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch {
		case e.Removed:
			all = append(all, e.Report+" removed")
		case e.Event == "report":
			all = append(all, fmt.Sprintf("%s of %d", e.Report, e.Rows))
		default:
			all = append(all, fmt.Sprintf("%s row %d", e.Report, e.Row))
		}
	}
	return all
}

func TestAReportIsTold(t *testing.T) {
	l := (&log{}).holding(2, -1, 0)
	l.reports[1].Report.Policy.Domain = "sub.example.com"
	var out bytes.Buffer
	s := streamer(l, &stream.Lines{W: &out})
	sent := 0
	s.OnSent = func(n int) { sent += n }
	if err := s.Pass(t.Context(), dmarc.Lease{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"1-1 of 2", "1-1 row 1", "1-1 row 2", "1-2 removed", "1-3 of 0"}
	if got := heads(t, out.Bytes()); !slices.Equal(got, want) || sent != 5 || l.moved != at(3) {
		t.Errorf("%q, %d sent, moved to %s", got, sent, l.moved)
	}

	// Only some domains; and what cannot be seen yet is waited for.
	out.Reset()
	l.moved, l.notYet = "", 3
	s.Scope = dmarc.ScopeOf("sub.example.com")
	if err := s.Pass(t.Context(), dmarc.Lease{}); err != nil {
		t.Fatal(err)
	}
	if got := heads(t, out.Bytes()); !slices.Equal(got, []string{"1-2 removed"}) || l.moved != at(2) {
		t.Errorf("%q, moved to %s", got, l.moved)
	}

	// Once, without a name, nothing is kept.
	out.Reset()
	l.notYet = 0
	s.Name, s.Scope = "", dmarc.Everything
	if err := s.Pass(t.Context(), dmarc.Lease{}); err != nil || len(heads(t, out.Bytes())) != 5 || l.moved != at(2) {
		t.Errorf("%v: %q, moved to %s", err, out.String(), l.moved)
	}
}

// What a stranger wrote may be as long as a report allows; an event is not.
func TestNoEventIsLongerThanReceiversTake(t *testing.T) {
	l := (&log{}).holding(1)
	long := strings.Repeat("é", 200_000)
	rep := &l.reports[0].Report
	rep.Errors = []string{long}
	rep.Rows = func(yield func(*dmarc.Row, error) bool) { yield(&dmarc.Row{HeaderFrom: long}, nil) }
	var out bytes.Buffer
	if err := streamer(l, &stream.Lines{W: &out}).Pass(t.Context(), dmarc.Lease{}); err != nil {
		t.Fatal(err)
	}
	if len(heads(t, out.Bytes())) != 2 || out.Len() > 4000 || !strings.Contains(out.String(), `"cut":true`) {
		t.Errorf("%d bytes: %.300s", out.Len(), out.String())
	}
}

// failing fails the nth call of Send or Sync, and passes the others on.
type failing struct {
	stream.Sink
	calls, at int
}

var errFull = errors.New("no space left")

func (f *failing) Send(ctx context.Context, events []stream.Event) error {
	if f.calls++; f.calls == f.at {
		// A part gets through.
		return errors.Join(errFull, f.Sink.Send(ctx, events[:len(events)/2]))
	}
	return f.Sink.Send(ctx, events)
}

func (f *failing) Sync(ctx context.Context) error {
	if f.calls++; f.calls == f.at {
		return errFull
	}
	return f.Sink.Sync(ctx)
}

func TestNothingIsLostWhereverTheSinkFails(t *testing.T) {
	for failsAt := 1; ; failsAt++ {
		path := filepath.Join(t.TempDir(), "out.ndjson")
		l := &log{}
		for range 150 {
			l.holding(20) // more than one page, and more than one call of Send
		}
		sink := &failing{Sink: &stream.File{Path: path}, at: failsAt}
		s := streamer(l, sink)
		err := s.Pass(t.Context(), dmarc.Lease{})
		if err == nil {
			if failsAt < 6 {
				t.Fatalf("only %d calls", failsAt)
			}
			return
		}
		if !errors.Is(err, errFull) {
			t.Fatal(err)
		}
		if err := s.Pass(t.Context(), dmarc.Lease{}); err != nil {
			t.Fatal(err)
		}
		sink.Close()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, head := range heads(t, text) {
			got[head] = true
		}
		if len(got) != 150*21 || l.moved != at(150) {
			t.Errorf("failing at call %d: %d events, moved to %s", failsAt, len(got), l.moved)
		}
	}
}

func TestAFileIsRotatedAndMended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.ndjson")
	ctx := t.Context()
	send := func(f *stream.File, line string) {
		t.Helper()
		if err := errors.Join(f.Send(ctx, []stream.Event{{JSON: []byte(line)}}), f.Sync(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	if err := os.WriteFile(path, []byte("{\"a\":1}\n{\"bro"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &stream.File{Path: path}
	send(f, `{"b":2}`)
	holds(path, "{\"a\":1}\n{\"b\":2}\n")

	other := &stream.File{Path: path}
	if err := other.Send(ctx, []stream.Event{{JSON: []byte(`{}`)}}); err == nil || !strings.Contains(err.Error(), "another process writes to it") {
		t.Errorf("a second writer: %v", err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	send(f, `{"c":3}`)
	holds(path+".1", "{\"a\":1}\n{\"b\":2}\n")
	holds(path, "{\"c\":3}\n")
	if err := os.Truncate(path, 0); err != nil { // as copytruncate does
		t.Fatal(err)
	}
	send(f, `{"d":4}`)
	holds(path, "{\"d\":4}\n")
	f.Close()
	send(other, `{"e":5}`)
	holds(path, "{\"d\":4}\n{\"e\":5}\n")
	if err := (&stream.File{Path: filepath.Dir(path)}).Send(ctx, nil); err == nil {
		t.Error("a folder was taken for a file")
	}
}
