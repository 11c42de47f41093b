package ingest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// read parses a message and makes a delivery of it.
func (in *Ingester) read(ctx context.Context, mailbox string, msg Message) (dmarc.Delivery, *parse.Found, error) {
	d := dmarc.Delivery{Mailbox: mailbox, Place: msg.Place, Reached: msg.Reached, Source: msg.Name, ReceivedAt: time.Now().UTC().Truncate(time.Microsecond)}
	if msg.Err != nil {
		d.Outcome, d.Reason = msg.Err.Outcome, msg.Err.Reason
		if msg.Raw == nil {
			d.Digest = unreadDigest(msg)
			return d, nil, nil
		}
	}
	if msg.digest != nil {
		d.Digest = *msg.digest
	} else if err := digest(msg.Raw, &d.Digest); err != nil {
		return d, nil, fmt.Errorf("reading a message: %w", err)
	}
	d.Size, d.Raw = msg.Raw.Size(), msg.Raw
	if msg.Err != nil {
		return d, nil, nil
	}
	began := time.Now()
	found, err := parse.Message(ctx, msg.Raw, msg.Name, in.Limits)
	if in.OnRead != nil {
		in.OnRead(&d, time.Since(began))
	}
	if err != nil {
		return d, nil, fmt.Errorf("reading a message: %w", err)
	}
	d.MessageID, d.From, d.Subject, d.Date = found.MessageID, found.From, found.Subject, found.Date
	d.Parts, d.Outcome, d.Reason = found.Parts, found.Outcome, found.Reason
	in.judge(&d, found.Mail)
	return d, found, nil
}

// copyBuffers are used again: each message needs one.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// digest hashes the bytes of a message.
func digest(raw Raw, into *dmarc.Digest) error {
	h := sha256.New()
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	if _, err := io.CopyBuffer(h, io.NewSectionReader(raw, 0, raw.Size()), buf[:]); err != nil {
		return err
	}
	h.Sum(into[:0])
	return nil
}

// unreadDigest is by what a file is known that cannot be read: its name and fate.
func unreadDigest(msg Message) dmarc.Digest {
	return sha256.Sum256([]byte(msg.Name + "\x00" + msg.Err.Error()))
}

// judge applies what is configured to a delivery, which may be a mail: which
// domains are wanted, who has to vouch for reports, and what is kept of mail that
// tells about people.
func (in *Ingester) judge(d *dmarc.Delivery, mail bool) {
	private := d.Outcome == dmarc.OutcomeComplaint
	for i := range d.Parts {
		p := &d.Parts[i]
		domain := ""
		switch {
		case p.Aggregate != nil:
			domain = p.Aggregate.Policy.Domain
			_, flags := p.Aggregate.Period.Attribute(d.ReceivedAt)
			p.Aggregate.Flags |= flags
		case p.TLS != nil:
			domain = p.TLS.Domain
		case p.Failure != nil:
			domain = p.Failure.ReportedDomain
			if p.Failure.Arrival.IsZero() {
				p.Failure.Arrival = d.ReceivedAt
			}
			if !in.KeepFailures {
				private = true
				*p = dmarc.Part{Path: p.Path, Outcome: dmarc.OutcomeNotKept, Reason: "storing failure reports is off (failure.store)"}
				continue
			}
			if !in.FailureSubjects {
				p.Failure.Headers = withoutSubject(p.Failure.Headers)
			}
		default:
			private = private || p.Outcome == dmarc.OutcomeComplaint
			continue
		}
		switch {
		case in.Accepts != nil && !in.Accepts(domain):
			*p = dmarc.Part{Path: p.Path, Outcome: dmarc.OutcomeUnknownDomain,
				Reason: fmt.Sprintf("a report about %q, which is not among the configured domains; the message is kept", domain)}
		case in.RequireAuthentic && !d.Authentic && !broughtByOperator(d.Mailbox, mail):
			*p = dmarc.Part{Path: p.Path, Outcome: dmarc.OutcomeUnauthenticated,
				Reason: "the mail that carried it has not been found authentic (transport.require); it is read as soon as it is"}
			if d.Mailbox == dmarc.MailboxTLSRPT {
				p.Reason = "nobody vouches for who sends reports over HTTPS (transport.require); it stays parked"
			}
		}
	}
	if private {
		d.Raw, d.Subject, d.From = nil, "", dmarc.AddressDomain(d.From)
	}
}

// broughtByOperator tells whether nobody but the operator can have brought
// something. Mails in a watched folder may come from anybody, by a program that
// fetches them.
func broughtByOperator(mailbox string, mail bool) bool {
	switch mailbox {
	case dmarc.MailboxImport, dmarc.MailboxUpload:
		return true
	case dmarc.MailboxDirectory:
		return !mail
	}
	return false
}

func withoutSubject(headers []dmarc.HeaderField) []dmarc.HeaderField {
	kept := headers[:0:0]
	for _, h := range headers {
		if h.Name != "Subject" {
			kept = append(kept, h)
		}
	}
	return kept
}
