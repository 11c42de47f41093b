package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	// Activate makes a report the one of its identity that counts.
	Activate(ctx context.Context, id string, rep *dmarc.AggregateReport) error
}

// A Rereader reads archived messages again, as its Ingester reads new ones.
type Rereader struct {
	*Ingester
	Archive Archive
}

// Activate makes a stored report the one of its identity that counts. Its rows
// are read again from the archived message.
func (r *Rereader) Activate(ctx context.Context, id string) error {
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
			return r.Archive.Activate(ctx, id, p.Aggregate)
		}
	}
	return dmarc.Refusal("today's parser finds no report where this one stood in its message: run dmarcd reparse, which says why")
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
