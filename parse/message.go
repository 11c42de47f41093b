// Package parse reads reports: bytes in, dmarc values out. It speaks MIME,
// gzip, zip, XML, JSON and ARF, trusts nothing of what it reads, and keeps
// memory independent of the size of its input.
package parse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Found is what a message, or a bare file, holds.
type Found struct {
	Mail      bool // it is a mail, and no bare file
	MessageID string
	From      string
	Subject   string
	Date      time.Time // as the mail says, UTC; zero if it does not

	Parts []dmarc.Part // in the order of the message

	// Outcome and Reason are the fate of a message without parts.
	Outcome dmarc.Outcome
	Reason  string

	close []func() error
}

// Close releases what the rows of the reports are read from. They cannot be
// read afterwards.
func (f *Found) Close() error {
	var first error
	for _, c := range f.close {
		if err := c(); err != nil && first == nil {
			first = err
		}
	}
	f.close = nil
	return first
}

// Message reads a message, or a report in a file of its own: the content
// decides which. The name is that of the file, or empty. What cannot be read
// is a part with an outcome; an error means that the bytes could not be had,
// or that ctx was cancelled.
//
// The rows of large reports are read from raw when they are asked for, so raw
// must stay readable until Found.Close.
func Message(ctx context.Context, raw dmarc.Blob, name string, limits Limits) (found *Found, err error) {
	// Should this package have a defect, one message must not end the service.
	defer func() {
		if r := recover(); r != nil {
			slog.Error("a defect of dmarcd was met while reading a message; please report it", "name", name, "defect", r, "stack", string(debug.Stack()))
			found, err = &Found{Outcome: dmarc.OutcomeDefect, Reason: "dmarcd has a defect that this message shows: the log has it; please report it, the message is kept"}, nil
		}
	}()
	return readMessage(ctx, raw, name, limits)
}

// readMessage is Message, but for defects.
func readMessage(ctx context.Context, raw dmarc.Blob, name string, limits Limits) (*Found, error) {
	timed, cancel := context.WithTimeout(ctx, limits.Time)
	defer cancel()
	w := &walker{ctx: timed, parent: ctx, limits: limits, found: &Found{}, paths: map[string]int{}}
	err := w.file(raw, name)
	if ctx.Err() != nil {
		err = context.Cause(ctx) // what could not be read meanwhile tells nothing about the message
	}
	if err != nil {
		w.found.Close()
		return nil, err
	}
	w.sealed.Store(true)
	return w.found, nil
}

// A walker goes through one message.
type walker struct {
	ctx    context.Context // ends when the message has taken too long
	parent context.Context
	limits Limits
	found  *Found
	// sealed is set when the message has been read. What is read afterwards
	// is rows of reports that were read before: limits on time and on the
	// sum are met.
	sealed atomic.Bool

	scratch  *Spool // of what must be read at random; nil if nothing was
	kept     int    // bytes of text and structure of TLS reports that are kept
	stopped  bool   // time is up: nothing more is read
	note     string // why a part that might have been a report is none
	parts    int    // of MIME
	unpacked int64
	paths    map[string]int // how often a path was given
}

// file reads a message or a bare report.
func (w *walker) file(blob dmarc.Blob, name string) error {
	all := section{&source{w, blob}, 0, blob.Size()}
	buf := heads.Get().(*[sniffLength]byte)
	defer heads.Put(buf)
	head, err := peekInto(all.reader(), buf)
	for err == nil && len(skipBlank(head)) == 0 && int64(len(head)) < all.size() {
		all.start += int64(len(head))
		head, err = peekInto(all.reader(), buf)
	}
	if err != nil {
		return w.failed("", err)
	}
	l := w.at(all, head)
	h := collect(l)
	if l.err != nil {
		return w.failed("", l.err)
	}
	if blob.Size() > w.limits.Message {
		w.envelope(h)
		w.found.Outcome = dmarc.OutcomeTooLarge
		w.found.Reason = size(blob.Size()) + ", more than " + size(w.limits.Message) + " (limits.message)"
		return nil
	}
	s := sniff(head, all.size() <= int64(len(head)))
	if s.kind == kindEmpty {
		w.found.Outcome, w.found.Reason = dmarc.OutcomeEmptyReport, "an empty file"
		return nil
	}
	if s.kind.bare() || !h.mail() || s.kind == kindARF && h["contenttype"] == "" && h["received"] == "" {
		p := &payload{m: &mail{}, name: baseName(name), raw: &all}
		p.open = func() (*stream, error) { return newStream(all.reader()), nil }
		err = w.read(p)
		w.finish(p.m)
	} else {
		w.envelope(h)
		err = w.mail(section{all.blob, l.offset(), all.end}, h, "", 0)
	}
	if err != nil {
		return err
	}
	if len(w.found.Parts) == 0 {
		w.found.Outcome, w.found.Reason = verdict(h, w.note)
	}
	return nil
}

// at returns the lines of a file from its first field on: a byte order mark
// and blank lines before it are skipped.
func (w *walker) at(all section, head []byte) *lines {
	skip := len(head) - len(skipBlank(head))
	// A line that begins with blanks is a continuation, not the first field.
	for skip > 0 && (head[skip-1] == ' ' || head[skip-1] == '\t') {
		skip--
	}
	return newLines(all.blob, all.start+int64(skip), all.end)
}

// envelope notes who sent the message.
func (w *walker) envelope(h header) {
	w.found.Mail = true
	w.found.MessageID, _ = textField(h["messageid"], maxID)
	w.found.From, _ = textField(h["from"], maxID)
	w.found.Subject, _ = textField(h["subject"], maxComment)
	w.found.Date, _ = parseDate(h["date"])
}

// A mail is the mail that parts belong to: the outermost, or one within it.
type mail struct {
	subject, from string
	date          time.Time
	tlsDomain     string // TLS-Report-Domain (RFC 8460, section 5.3)
	tlsSubmitter  string
	nested        int // how many mails it lies in
	failures      []*draft
}

// mail reads a mail whose header was read.
func (w *walker) mail(body section, h header, path string, nested int) error {
	m := &mail{nested: nested}
	m.subject, _ = textField(h["subject"], maxComment)
	m.from, _ = textField(h["from"], maxID)
	m.date, _ = parseDate(h["date"])
	m.tlsDomain, _ = textField(h["tlsreportdomain"], maxName)
	m.tlsSubmitter, _ = textField(h["tlsreportsubmitter"], maxName)
	w.parts++
	err := w.entity(&entity{mail: m, header: h, body: body, path: path, root: true})
	w.finish(m)
	return err
}

// failed makes an outcome of what a stranger did wrong, and returns the errors
// that are nobody's fault but ours or the disk's.
func (w *walker) failed(path string, err error) error {
	var refused *dmarc.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Outcome {
	case dmarc.OutcomeNotAReport:
		w.remark(refused.Reason)
		return nil
	case dmarc.OutcomeTimeout:
		w.stopped = true
	}
	w.found.Parts = append(w.found.Parts, dmarc.Part{Path: w.unique(path), Outcome: refused.Outcome, Reason: refused.Reason})
	return nil
}

// remark notes why a part is no report; the first note counts.
func (w *walker) remark(reason string) {
	if w.note == "" {
		w.note = reason
	}
}

// unique returns a path that no other part of the message has.
func (w *walker) unique(path string) string {
	w.paths[path]++
	if n := w.paths[path]; n > 1 {
		return w.unique(fmt.Sprintf("%s (%d)", path, n))
	}
	return path
}

// alive returns nil while there is time, and else why not.
func (w *walker) alive() error {
	if w.sealed.Load() || w.ctx.Err() == nil {
		return nil
	}
	if err := w.parent.Err(); err != nil {
		return context.Cause(w.parent)
	}
	return refusal(dmarc.OutcomeTimeout, "took longer than %v (limits.time)", w.limits.Time)
}

// detached is the context of the reader of aggregate reports: it ends when
// time is up, but not when the message has been read, since rows may be asked for
// later.
type detached struct{ w *walker }

func (d detached) Deadline() (time.Time, bool) { return time.Time{}, false }
func (d detached) Done() <-chan struct{}       { return nil }
func (d detached) Value(key any) any           { return d.w.parent.Value(key) }
func (d detached) Err() error {
	if d.w.sealed.Load() {
		return nil
	}
	return d.w.ctx.Err()
}

// A source is a blob that can be read while there is time.
type source struct {
	w    *walker
	blob dmarc.Blob
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if err := s.w.alive(); err != nil {
		return 0, err
	}
	n, err := s.blob.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = &readError{err}
	}
	return n, err
}

// A readError means that bytes could not be had; they are not to blame.
type readError struct{ err error }

func (e *readError) Error() string { return "reading the message: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// heads are beginnings of messages, to be used again.
var heads = sync.Pool{New: func() any { return new([sniffLength]byte) }}

// peek returns the beginning of what a reader gives.
func peek(r io.Reader) ([]byte, error) { return peekInto(r, new([sniffLength]byte)) }

func peekInto(r io.Reader, head *[sniffLength]byte) ([]byte, error) {
	n, err := io.ReadFull(r, head[:])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return head[:n], err
}
