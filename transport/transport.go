// Package transport speaks DKIM and Authentication-Results: it tells whether
// the mail that carried reports is authentic. RFC 9990 wants it to pass DMARC,
// RFC 8460 wants it to be signed by the domain that reports. Looking that up
// takes time, so it is done in passes, after the reports are stored.
package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Store keeps messages and what was found out about them.
type Store interface {
	// Unverified returns messages that carried reports and are due to be
	// checked, oldest first, at most so many.
	Unverified(ctx context.Context, now time.Time, limit int) ([]dmarc.LedgerEntry, error)
	// OpenMessage returns the bytes of a message, or dmarc.ErrNotFound.
	OpenMessage(ctx context.Context, id int64) (io.ReadCloser, error)
	// Verified keeps what was found out about a message and its reports.
	Verified(ctx context.Context, id int64, v dmarc.TransportVerdict) error
	// VerifyLater puts a message off, because a lookup failed.
	VerifyLater(ctx context.Context, id int64, at time.Time) error
}

// A Resolver looks up TXT records, the character-strings of each joined. Its
// errors are of type *net.DNSError. *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// A Verifier checks messages.
type Verifier struct {
	Store    Store
	Resolver Resolver
	// Release reads a message anew whose reports were parked until it was
	// found authentic.
	Release func(ctx context.Context, m dmarc.LedgerEntry) error
	// Trusted are the names of servers whose Authentication-Results are
	// believed (authserv-id, RFC 8601, section 2.5).
	Trusted []string
	Log     *slog.Logger
}

const (
	batch = 100
	// retry is how long a message waits after a lookup failed; giveUp is the
	// age at which that is taken for an answer.
	retry  = 30 * time.Minute
	giveUp = 3 * 24 * time.Hour
)

// Pass checks all messages that are due. It may be cut short and run again.
func (v *Verifier) Pass(ctx context.Context) error {
	for {
		due, err := v.Store.Unverified(ctx, time.Now(), batch)
		if err != nil || len(due) == 0 {
			return err
		}
		for i := range due {
			if err := v.verify(ctx, &due[i]); err != nil {
				return err
			}
		}
	}
}

func (v *Verifier) verify(ctx context.Context, m *dmarc.LedgerEntry) error {
	raw, err := v.Store.OpenMessage(ctx, m.ID)
	if errors.Is(err, dmarc.ErrNotFound) {
		return v.Store.Verified(ctx, m.ID, dmarc.TransportVerdict{Auth: dmarc.TransportUnknown, Reason: "the message is not kept"})
	}
	if err != nil {
		return err
	}
	defer raw.Close()
	verdict, err := Check(ctx, raw, v.Resolver, v.Trusted)
	var later *LookupError
	switch {
	case errors.As(err, &later):
		if age := time.Since(m.ReceivedAt); age < giveUp {
			return v.Store.VerifyLater(ctx, m.ID, time.Now().Add(retry))
		}
		verdict = dmarc.TransportVerdict{Auth: dmarc.TransportUnknown, Reason: "the key could not be looked up for days: " + later.Error()}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("message %d: %w", m.ID, err)
	}
	// First this, so that an interruption between the two loses nothing.
	if verdict.Auth == dmarc.TransportPass && parked(m) {
		if err := v.Release(ctx, *m); err != nil {
			return fmt.Errorf("reading message %d, which was parked: %w", m.ID, err)
		}
	}
	if verdict.Auth == dmarc.TransportFail {
		v.Log.Warn("a report came by a mail that is not authentic", "message", m.ID, "mailbox", m.Mailbox, "from", m.From, "reason", verdict.Reason)
	}
	return v.Store.Verified(ctx, m.ID, verdict)
}

// parked tells whether a report of a message waits for its check.
func parked(m *dmarc.LedgerEntry) bool {
	for _, p := range m.Reports {
		if p.Outcome == dmarc.OutcomeUnauthenticated {
			return true
		}
	}
	return false
}
