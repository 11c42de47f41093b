package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// An Archive holds the messages that were taken in, and what was made of them.
type Archive interface {
	// Report returns what is stored of an aggregate report.
	Report(ctx context.Context, id string) (dmarc.ReportSummary, error)
	// Raw returns the message that a report came in; dmarc.ErrNotFound if it
	// is not kept.
	Raw(ctx context.Context, reportID string) (io.ReadCloser, dmarc.LedgerEntry, error)
	// TLSReport and TLSRaw are the same for a TLS report.
	TLSReport(ctx context.Context, id string) (dmarc.StoredTLS, error)
	TLSRaw(ctx context.Context, reportID string) (io.ReadCloser, dmarc.LedgerEntry, error)
	// Activate makes a report the one of its identity that counts. If it is
	// chosen, later arrivals leave it so.
	Activate(ctx context.Context, id string, rep *dmarc.AggregateReport, chosen bool) error
	// Ledger returns what the ledger says of messages, oldest first.
	Ledger(ctx context.Context, q dmarc.RereadQuery) ([]dmarc.LedgerEntry, error)
	// Archived returns the bytes of a message; dmarc.ErrNotFound if they are
	// not kept.
	Archived(ctx context.Context, digest dmarc.Digest) (io.ReadCloser, error)
	// Reread stores what messages say as they are read now. A message that
	// cannot be stored gives a *dmarc.Error.
	Reread(ctx context.Context, all []dmarc.Reread, o dmarc.RereadOptions) ([]dmarc.Change, error)
	// Progress returns up to which message a pass has come, and Forget lets
	// it begin anew.
	Progress(ctx context.Context, pass string) (int64, error)
	Forget(ctx context.Context, pass string) error
}

// A Rereader reads archived messages again, as its Ingester reads new ones.
type Rereader struct {
	*Ingester
	Archive Archive
	// Fetch gets a message that is not archived from its mailbox, for Retry;
	// dmarc.ErrNotFound if it is not there. Nil if there are no mailboxes.
	Fetch func(ctx context.Context, e dmarc.LedgerEntry) (Raw, error)
}

// RereadOptions say which messages are read again.
type RereadOptions struct {
	Since   time.Time     // when they were received; zero for all
	Outcome dmarc.Outcome // "" for all
	DryRun  bool          // change nothing
	// Pass names the run: one that was interrupted goes on where it was, unless
	// Restart is set.
	Pass     string
	Restart  bool
	OnChange func(dmarc.Change) // told of every part, unchanged ones included
}

// A RereadSummary is what came of reading messages again.
type RereadSummary struct {
	Resumed     int64 // the message after which the run went on; 0 from the start
	Messages    int64 // read again
	NotArchived int64 // whose bytes are not kept
	Changes     map[dmarc.ChangeKind]int64
}

// Bounds of what is read again in one transaction.
const (
	rereadMessages = 200
	rereadRows     = 5000
)

// Reread reads archived messages again and stores what they say now, batch by
// batch. It may be cut short and run again.
func (r *Rereader) Reread(ctx context.Context, o RereadOptions) (RereadSummary, error) {
	sum := RereadSummary{Changes: map[dmarc.ChangeKind]int64{}}
	run := &rereading{r: r, o: o, sum: &sum}
	defer run.drop()
	if o.Restart {
		if err := r.Archive.Forget(ctx, o.Pass); err != nil {
			return sum, err
		}
	}
	if !o.DryRun {
		var err error
		if sum.Resumed, err = r.Archive.Progress(ctx, o.Pass); err != nil {
			return sum, err
		}
	}
	for after := sum.Resumed; ; {
		entries, err := r.Archive.Ledger(ctx, dmarc.RereadQuery{After: after, Since: o.Since, Outcome: o.Outcome, Limit: 500})
		if err != nil {
			return sum, err
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if err := run.add(ctx, e); err != nil {
				return sum, err
			}
			after = e.ID
		}
	}
	if err := run.store(ctx); err != nil || o.DryRun {
		return sum, err
	}
	return sum, r.Archive.Forget(ctx, o.Pass)
}

// Release reads a message whose reports were parked until it was found
// authentic, which it is now.
func (r *Rereader) Release(ctx context.Context, e dmarc.LedgerEntry) error {
	run := &rereading{r: r, sum: &RereadSummary{Changes: map[dmarc.ChangeKind]int64{}}}
	defer run.drop()
	e.Transport.Auth = dmarc.TransportPass
	if err := run.add(ctx, e); err != nil {
		return err
	}
	return run.store(ctx)
}

// A rereading is a run that is going on.
type rereading struct {
	r   *Rereader
	o   RereadOptions
	sum *RereadSummary

	batch   []dmarc.Reread
	close   []func() error
	rows    int64
	reached int64
}

func (run *rereading) drop() {
	for _, c := range run.close {
		c()
	}
	run.batch, run.close, run.rows = nil, nil, 0
}

// add reads a message, and stores the batch if it is full.
func (run *rereading) add(ctx context.Context, e dmarc.LedgerEntry) error {
	body, err := run.r.Archive.Archived(ctx, e.Digest)
	switch {
	case errors.Is(err, dmarc.ErrNotFound):
		run.sum.NotArchived++
		run.reached = e.ID
		return nil
	case err != nil:
		return err
	}
	found, raw, err := run.r.reread(ctx, body, e)
	if err != nil {
		return err
	}
	run.close = append(run.close, found.Close, raw.Close)
	d := dmarc.Delivery{Mailbox: e.Mailbox, Authentic: e.Transport.Auth == dmarc.TransportPass, Digest: e.Digest, ReceivedAt: e.ReceivedAt, Source: e.Source,
		Parts: found.Parts, Outcome: found.Outcome, Reason: found.Reason}
	run.r.judge(&d, found.Mail)
	one := dmarc.Reread{MessageID: e.ID, Delivery: d}
	run.batch, run.reached = append(run.batch, one), e.ID
	run.sum.Messages++
	for i := range d.Parts {
		if a := d.Parts[i].Aggregate; a != nil {
			run.rows += a.Tally.Rows
		}
	}
	if len(run.batch) < rereadMessages && run.rows < rereadRows {
		return nil
	}
	return run.store(ctx)
}

// store commits the batch. If it is refused, its messages are tried alone.
func (run *rereading) store(ctx context.Context) error {
	defer run.drop()
	o := dmarc.RereadOptions{DryRun: run.o.DryRun, Pass: run.o.Pass, Reached: run.reached}
	changes, err := run.r.Archive.Reread(ctx, run.batch, o)
	var refused *dmarc.Error
	if errors.As(err, &refused) {
		for _, one := range run.batch {
			o.Reached = one.MessageID
			changes, err := run.r.Archive.Reread(ctx, []dmarc.Reread{one}, o)
			if errors.As(err, &refused) {
				changes = []dmarc.Change{{Message: one.MessageID, Kind: dmarc.ChangeLeft, Reason: refused.Error()}}
			} else if err != nil {
				return err
			}
			if err := run.tell(ctx, changes); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	return run.tell(ctx, changes)
}

// tell passes changes on. Where another report has to count first, that is seen
// to, and the message is stored once more.
func (run *rereading) tell(ctx context.Context, changes []dmarc.Change) error {
	for _, c := range changes {
		if c.Needs != "" && !run.o.DryRun {
			again, err := run.afterActivation(ctx, c)
			if err != nil {
				return err
			}
			c = again
		}
		run.sum.Changes[c.Kind]++
		if run.o.OnChange != nil {
			run.o.OnChange(c)
		}
	}
	return nil
}

func (run *rereading) afterActivation(ctx context.Context, c dmarc.Change) (dmarc.Change, error) {
	err := run.r.activate(ctx, c.Needs, false)
	var cannot dmarc.Refusal
	if errors.As(err, &cannot) {
		c.Reason += ", which cannot be: " + cannot.Error()
		return c, nil
	}
	if err != nil {
		return c, err
	}
	for _, one := range run.batch {
		if one.MessageID != c.Message {
			continue
		}
		changes, err := run.r.Archive.Reread(ctx, []dmarc.Reread{one}, dmarc.RereadOptions{})
		if err != nil {
			return c, err
		}
		for _, again := range changes {
			if again.Part == c.Part {
				return again, nil
			}
		}
	}
	return c, nil
}

// Activate makes a stored report the one of its identity that counts, for good.
// Its rows are read again from the archived message. It returns the report.
func (r *Rereader) Activate(ctx context.Context, id string) (dmarc.ReportSummary, error) {
	if err := r.activate(ctx, id, true); err != nil {
		return dmarc.ReportSummary{}, err
	}
	return r.Archive.Report(ctx, id)
}

func (r *Rereader) activate(ctx context.Context, id string, chosen bool) error {
	rep, err := r.Archive.Report(ctx, id)
	if err != nil {
		return err
	}
	body, entry, err := r.Archive.Raw(ctx, id)
	if errors.Is(err, dmarc.ErrNotFound) {
		return dmarc.Refusal("the message that holds this report is not kept any more, and with it its rows")
	}
	if err != nil {
		return err
	}
	found, raw, err := r.reread(ctx, body, entry)
	if err != nil {
		return err
	}
	defer raw.Close()
	defer found.Close()
	for i := range found.Parts {
		if p := &found.Parts[i]; p.Path == rep.Part && p.Aggregate != nil {
			return r.Archive.Activate(ctx, id, p.Aggregate, chosen)
		}
	}
	return dmarc.Refusal("today's parser finds no report where this one stood in its message: run dmarcd reparse, which says why")
}

// ReportText opens the text of a stored aggregate report, unpacked, as it came. It
// returns dmarc.ErrNotFound if there is no such report, or its message is not kept. The
// message is read anew, which takes a while where it is large.
func (r *Rereader) ReportText(ctx context.Context, id string) (io.ReadCloser, error) {
	rep, err := r.Archive.Report(ctx, id)
	if err != nil {
		return nil, err
	}
	body, entry, err := r.Archive.Raw(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.text(ctx, id, body, entry, func(p *dmarc.Part) bool { return p.Path == rep.Part && p.Aggregate != nil })
}

// TLSText is ReportText for a TLS report.
func (r *Rereader) TLSText(ctx context.Context, id string) (io.ReadCloser, error) {
	rep, err := r.Archive.TLSReport(ctx, id)
	if err != nil {
		return nil, err
	}
	body, entry, err := r.Archive.TLSRaw(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.text(ctx, id, body, entry, func(p *dmarc.Part) bool { return p.Path == rep.Part && p.TLS != nil })
}

// text opens the text of the report of a message that is it, and closes body.
func (r *Rereader) text(ctx context.Context, id string, body io.ReadCloser, entry dmarc.LedgerEntry, is func(*dmarc.Part) bool) (io.ReadCloser, error) {
	found, raw, err := r.reread(ctx, body, entry)
	if err != nil {
		return nil, err
	}
	t := &reportText{close: []func() error{found.Close, raw.Close}}
	for i := range found.Parts {
		if p := &found.Parts[i]; is(p) {
			text, err := p.Text()
			if err != nil {
				t.Close()
				return nil, fmt.Errorf("report %s in message %d of the archive: %w", id, entry.ID, err)
			}
			t.Reader, t.close = text, append(t.close, text.Close)
			return t, nil
		}
	}
	t.Close()
	return nil, dmarc.Refusal("today's parser finds no report where this one stood in its message: run dmarcd reparse, which says why")
}

// A reportText reads a report, and releases what it is read from.
type reportText struct {
	io.Reader
	close []func() error
}

func (t *reportText) Close() error {
	var errs []error
	for _, c := range slices.Backward(t.close) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// reread parses a message of the archive, and closes body.
func (r *Rereader) reread(ctx context.Context, body io.ReadCloser, entry dmarc.LedgerEntry) (*parse.Found, *parse.Spool, error) {
	defer body.Close()
	raw, err := parse.NewSpool(body, max(r.Limits.Message, entry.Size))
	if err != nil {
		return nil, nil, fmt.Errorf("message %d of the archive: %w", entry.ID, err)
	}
	found, err := parse.Message(ctx, raw, entry.Source, r.Limits)
	if err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("message %d of the archive: %w", entry.ID, err)
	}
	return found, raw, nil
}
