package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// Retry reads one message of the ledger again and stores what it says now: from
// the archive or, if its bytes are not kept, from where Fetch finds it, and then
// they are kept if they may be. A dmarc.Refusal says why it cannot be had. The
// message has one fate before and after, whoever else reads it at the same time.
func (r *Rereader) Retry(ctx context.Context, e dmarc.LedgerEntry) error {
	run := &rereading{r: r, sum: &RereadSummary{Changes: map[dmarc.ChangeKind]int64{}}}
	defer run.drop()
	if err := run.add(ctx, e); err != nil {
		return err
	}
	if run.sum.NotArchived > 0 {
		if r.Fetch == nil || e.Place.UID == 0 {
			return errGone
		}
		if err := run.fetch(ctx, e); err != nil {
			return err
		}
	}
	return run.store(ctx)
}

// errGone is told of a message that nobody has any more.
const errGone = dmarc.Refusal("its bytes are neither in the archive nor in a mailbox that this dmarcd reads; bring the file again, if you have it")

// fetch reads a message that the archive does not have.
func (run *rereading) fetch(ctx context.Context, e dmarc.LedgerEntry) error {
	raw, err := run.r.Fetch(ctx, e)
	var bad *dmarc.Error
	switch {
	case errors.Is(err, dmarc.ErrNotFound):
		return errGone
	case errors.As(err, &bad):
		return dmarc.Refusal("it cannot be had from the mailbox: " + bad.Reason)
	case err != nil && ctx.Err() == nil:
		return dmarc.Refusal("the mailbox cannot be read now: " + err.Error())
	case err != nil:
		return err
	}
	run.close = append(run.close, raw.Close)
	d := dmarc.Delivery{Mailbox: e.Mailbox, Place: e.Place, Authentic: e.Transport.Auth == dmarc.TransportPass, ReceivedAt: e.ReceivedAt, Size: raw.Size(), Raw: raw}
	if err := digest(raw, &d.Digest); err != nil {
		return fmt.Errorf("message %d of the mailbox: %w", e.ID, err)
	}
	found, err := parse.Message(ctx, raw, "", run.r.Limits)
	if err != nil {
		return fmt.Errorf("message %d of the mailbox: %w", e.ID, err)
	}
	run.close = append(run.close, found.Close)
	d.MessageID, d.From, d.Subject, d.Date = found.MessageID, found.From, found.Subject, found.Date
	d.Parts, d.Outcome, d.Reason = found.Parts, found.Outcome, found.Reason
	run.r.judge(&d, found.Mail)
	run.batch, run.reached = append(run.batch, dmarc.Reread{MessageID: e.ID, Delivery: d}), e.ID
	return nil
}

// Fetch returns the message at a place, and ends the connection. It changes
// nothing in the mailbox. It returns dmarc.ErrNotFound if the message is not there
// any more, and a *dmarc.Error if it cannot be had.
func (m *IMAP) Fetch(ctx context.Context, place dmarc.Place) (Raw, error) {
	if err := m.connect(ctx); err != nil {
		return nil, err
	}
	defer m.Close()
	stop := context.AfterFunc(ctx, func() { m.conn.Close() })
	defer stop()
	if place.UIDValidity != m.validity {
		return nil, dmarc.ErrNotFound
	}
	var got Message
	err := m.chunk(ctx, []imap.UID{imap.UID(place.UID)}, nil, func(_ context.Context, msg Message) error {
		got = msg
		return nil
	})
	switch {
	case err != nil && got.Raw != nil:
		got.Raw.Close()
		return nil, m.explain(err)
	case err != nil:
		return nil, m.explain(err)
	case got.Err != nil:
		return nil, got.Err
	case got.Raw == nil:
		return nil, dmarc.ErrNotFound
	}
	return got.Raw, nil
}
