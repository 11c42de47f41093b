// Package stream speaks NDJSON and Kafka to other systems: it tells them of each
// aggregate report that counts, row by row, and when it does not count any more. Nothing is
// left out whatever dies when; what is told twice can be known for the same.
package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Store knows what changed, and keeps how far a stream has come.
type Store interface {
	OpenStream(ctx context.Context, name string, fromNow bool) (dmarc.Cursor, error)
	ReportChanges(ctx context.Context, after dmarc.Cursor, limit int) ([]dmarc.ReportChange, dmarc.Cursor, error)
	EachCurrent(ctx context.Context, changes []dmarc.ReportChange, latest bool, do func(*dmarc.ReportChange, *dmarc.CurrentReport) error) error
	MoveStream(ctx context.Context, lease dmarc.Lease, name string, to dmarc.Cursor) error
}

// A Sink takes events. After an error it may hold a part of them, and takes what
// comes next as if it had been opened anew.
type Sink interface {
	// Send takes events in their order, and may keep them back until Sync.
	Send(ctx context.Context, events []Event) error
	// Sync returns once all that was sent is where it cannot be lost.
	Sync(ctx context.Context) error
	Close() error
}

// An Event is a line of the stream. Events of one key stay in their order.
type Event struct {
	Key  string // of the report
	JSON []byte // an object without a line end
}

// A Streamer tells one sink.
type Streamer struct {
	Store   Store
	Sink    Sink
	Name    string      // in the store; "" tells once what counts now, and keeps nothing
	FromNow bool        // a new stream leaves out what is stored already
	Scope   dmarc.Scope // domains to tell of

	// Report and Row return what a report and a row say, to be written as
	// JSON objects by JSON. Their fields stay as they are.
	Report func(*dmarc.ReportSummary) any
	Row    func(*dmarc.Row) any
	JSON   func(any) ([]byte, error)

	OnSent func(events int) // is told of events that are where they cannot be lost; may be nil
}

// Bounds of what is held at once, and of what is told again if the process dies.
const (
	changesAtOnce = 100
	eventsAtOnce  = 1000      // in one call of Send
	bytesAtOnce   = 256 << 10 // in one call of Send
	eventsToSync  = 20_000
	// longestEvent is more than any honest row takes. Kafka takes a MB, log
	// shippers often less.
	longestEvent = 128 << 10
)

// reportEvent begins what is told of a report, and says how many rows follow.
type reportEvent struct {
	Event    string `json:"event"` // report
	Report   string `json:"report"`
	Revision int64  `json:"revision"`
	Removed  bool   `json:"removed"`
	Rows     int64  `json:"rows"`
	RowsKept bool   `json:"rows_kept"`
}

// A removedEvent says that a report does not count any more.
type removedEvent struct {
	Event    string `json:"event"` // report
	Report   string `json:"report"`
	Revision int64  `json:"revision"`
	Removed  bool   `json:"removed"`
	Domain   string `json:"domain"`
}

// rowEvent goes before the fields of a row.
type rowEvent struct {
	Event    string    `json:"event"` // row
	Report   string    `json:"report"`
	Revision int64     `json:"revision"`
	Row      int64     `json:"row"` // from 1
	Cut      bool      `json:"cut,omitempty"`
	Domain   string    `json:"domain"`
	OrgName  string    `json:"org_name"`
	ReportID string    `json:"report_id"`
	Begin    time.Time `json:"begin"`
	End      time.Time `json:"end"`
}

// Pass tells what there is to tell. What it told is kept with the store after the sink
// has it for good, if the lease still holds.
func (s *Streamer) Pass(ctx context.Context, lease dmarc.Lease) error {
	var at dmarc.Cursor
	if s.Name != "" {
		var err error
		if at, err = s.Store.OpenStream(ctx, s.Name, s.FromNow); err != nil {
			return err
		}
	}
	p := &pass{Streamer: s, lease: lease, reached: at, kept: at}
	for {
		changes, next, err := s.Store.ReportChanges(ctx, at, changesAtOnce)
		if err != nil {
			return err
		}
		if next == at || s.Name == "" && len(changes) == 0 {
			return p.keep(ctx)
		}
		err = s.Store.EachCurrent(ctx, changes, s.Name == "", func(c *dmarc.ReportChange, cur *dmarc.CurrentReport) error {
			if err := p.tell(ctx, cur); err != nil {
				return err
			}
			if c.Next != "" {
				p.reached = c.Next
			}
			if p.unkept >= eventsToSync {
				return p.keep(ctx)
			}
			return nil
		})
		if errors.Is(err, dmarc.ErrNotYet) {
			return p.keep(ctx) // the next pass begins with it
		}
		if err != nil {
			return err
		}
		at, p.reached = next, next
		if err := p.keep(ctx); err != nil {
			return err
		}
	}
}

// A pass is what is told and not kept yet.
type pass struct {
	*Streamer
	lease   dmarc.Lease
	reached dmarc.Cursor // behind what was told
	kept    dmarc.Cursor
	events  []Event
	bytes   int
	unkept  int // events since kept, sent or not
}

// keep lets the sink have all for good, and moves the stream.
func (p *pass) keep(ctx context.Context) error {
	if p.unkept > 0 {
		if err := p.send(ctx); err != nil {
			return err
		}
		if err := p.Sink.Sync(ctx); err != nil {
			return err
		}
		if p.OnSent != nil {
			p.OnSent(p.unkept)
		}
		p.unkept = 0
	}
	if p.Name == "" || p.reached == p.kept {
		return nil
	}
	if err := p.Store.MoveStream(ctx, p.lease, p.Name, p.reached); err != nil {
		return err
	}
	p.kept = p.reached
	return nil
}

func (p *pass) send(ctx context.Context) error {
	if len(p.events) == 0 {
		return nil
	}
	err := p.Sink.Send(ctx, p.events)
	clear(p.events)
	p.events, p.bytes = p.events[:0], 0
	return err
}

func (p *pass) add(ctx context.Context, key string, text []byte) error {
	p.events = append(p.events, Event{key, text})
	p.bytes += len(text)
	p.unkept++
	if len(p.events) >= eventsAtOnce || p.bytes >= bytesAtOnce {
		return p.send(ctx)
	}
	return nil
}

// tell tells of a report: that it does not count, or what it says, and its rows.
func (p *pass) tell(ctx context.Context, cur *dmarc.CurrentReport) error {
	rep := &cur.Report
	if !p.Scope.Covers(rep.Policy.Domain) {
		return nil
	}
	if cur.Removed {
		text, err := p.JSON(removedEvent{"report", cur.ID, cur.Revision, true, rep.Policy.Domain})
		if err != nil {
			return err
		}
		return p.add(ctx, cur.ID, text)
	}
	text, err := p.report(cur)
	if err != nil {
		return err
	}
	if err := p.add(ctx, cur.ID, text); err != nil {
		return err
	}
	head := rowEvent{Event: "row", Report: cur.ID, Revision: cur.Revision, Domain: rep.Policy.Domain, OrgName: shortened(rep.Reporter.OrgName),
		ReportID: shortened(rep.ID), Begin: rep.Period.Begin, End: rep.Period.End}
	for row, err := range rep.Rows {
		if err != nil {
			return err
		}
		head.Row++
		if text, err = p.row(&head, row); err != nil {
			return err
		}
		if err := p.add(ctx, cur.ID, text); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) report(cur *dmarc.CurrentReport) ([]byte, error) {
	head := reportEvent{"report", cur.ID, cur.Revision, false, cur.Report.Tally.Rows, cur.RowsKept}
	if !cur.RowsKept {
		head.Rows = 0
	}
	text, err := p.joined(head, p.Report(&cur.ReportSummary))
	if err == nil && len(text) > longestEvent {
		short := cur.ReportSummary
		rep := &short.Report
		rep.Errors = nil
		for _, text := range []*string{&rep.Reporter.OrgName, &rep.Reporter.Email, &rep.Reporter.ExtraContact, &rep.ID, &rep.Generator, &rep.Version,
			&rep.Namespace, &rep.Policy.FO, &rep.Policy.DiscoveryMethod, &short.Part} {
			*text = shortened(*text)
		}
		text, err = p.joined(head, p.Report(&short))
	}
	return text, err
}

func (p *pass) row(head *rowEvent, row *dmarc.Row) ([]byte, error) {
	text, err := p.joined(head, p.Row(row))
	if err == nil && len(text) > longestEvent {
		short := *row
		short.AuthDKIM, short.AuthSPF, short.Reasons = nil, nil, nil
		for _, text := range []*string{&short.SourceText, &short.HeaderFrom, &short.EnvelopeFrom, &short.EnvelopeTo, &short.DispositionWord} {
			*text = shortened(*text)
		}
		cut := *head
		cut.Cut = true
		text, err = p.joined(cut, p.Row(&short))
	}
	return text, err
}

// joined writes the fields of two objects as one.
func (p *pass) joined(head, body any) ([]byte, error) {
	a, err := p.JSON(head)
	if err != nil {
		return nil, err
	}
	b, err := p.JSON(body)
	if err != nil {
		return nil, err
	}
	a, b = bytes.TrimSuffix(a, []byte("}")), bytes.TrimPrefix(b, []byte("{"))
	if len(b) < 2 {
		return nil, fmt.Errorf("an event without fields")
	}
	return append(append(append(make([]byte, 0, len(a)+1+len(b)), a...), ','), b...), nil
}

// shortened cuts a text that is longer than any honest one.
func shortened(s string) string {
	const most = 1000
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
