package api

import (
	"context"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// MailboxItem is a mailbox that reports are read from, and how that goes.
type MailboxItem struct {
	Mailbox      string     `json:"mailbox" doc:"its name"`
	Where        *string    `json:"where" doc:"user, host and folder; null if the process that answers does not name it in its configuration"`
	State        string     `json:"state" enum:"failing,not_read_yet,unattended,reading,read" doc:"unattended: nobody reads it now; reading: messages wait"`
	OKAt         *time.Time `json:"ok_at" doc:"when it was last read to its end"`
	FailingSince *time.Time `json:"failing_since" doc:"since when every try failed; null if the last did not"`
	Error        *string    `json:"error" doc:"of the last try"`
	Fix          *string    `json:"fix" doc:"what to do about the error, if it is known"`
	TriedAt      *time.Time `json:"tried_at"`
	Took         float64    `json:"took" doc:"seconds that the last try took"`
	Failures     int64      `json:"failures" doc:"how many tries failed, ever"`
	Waiting      int        `json:"waiting" doc:"messages that were found and are not taken in yet"`
	OldestAt     *time.Time `json:"oldest_at" doc:"when the oldest of these came, as far as is known"`
	Process      *string    `json:"process" doc:"who reads it: host, process and start"`
}

// mailboxes serves GET /mailboxes.
func (a *API) mailboxes(ctx context.Context, _ *struct{ Shape }) (*List[MailboxItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	all, err := a.intake.Mailboxes(ctx, a.opts.Now())
	if err != nil {
		return nil, a.problem(err, "listing mailboxes")
	}
	return listOf(all, "", func(m *dmarc.Mailbox) MailboxItem {
		return MailboxItem{
			Mailbox: m.Mailbox, Where: orNull(m.Where), State: string(m.State()),
			OKAt: timeOrNull(m.OK), FailingSince: timeOrNull(m.Failing), Error: orNull(m.Error), Fix: orNull(m.Fix), TriedAt: timeOrNull(m.Seen),
			Took: m.Took.Seconds(), Failures: m.Failures, Waiting: m.Waiting, OldestAt: timeOrNull(m.Oldest), Process: orNull(m.Holder),
		}
	}), nil
}

// PassItem is work that is done by itself, again and again, and how it goes.
type PassItem struct {
	Pass         string     `json:"pass" doc:"its name"`
	Text         string     `json:"text" doc:"what it does"`
	State        string     `json:"state" enum:"failing,unattended,fine" doc:"unattended: nobody makes it now"`
	OKAt         *time.Time `json:"ok_at" doc:"when it last ended well"`
	FailingSince *time.Time `json:"failing_since" doc:"since when every try failed; null if the last did not"`
	Error        *string    `json:"error" doc:"of the last try"`
	TriedAt      *time.Time `json:"tried_at"`
	Took         float64    `json:"took" doc:"seconds that the last try took"`
	Failures     int64      `json:"failures" doc:"how many tries failed, ever"`
	Process      *string    `json:"process" doc:"who makes it: host, process and start"`
}

// passes serves GET /passes.
func (a *API) passes(ctx context.Context, _ *struct{ Shape }) (*List[PassItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	all, err := a.intake.Passes(ctx)
	if err != nil {
		return nil, a.problem(err, "listing passes")
	}
	return listOf(all, "", func(p *dmarc.Pass) PassItem {
		return PassItem{
			Pass: p.Name, Text: p.Text, State: string(p.State()),
			OKAt: timeOrNull(p.OK), FailingSince: timeOrNull(p.Failing), Error: orNull(p.Error), TriedAt: timeOrNull(p.Seen),
			Took: p.Took.Seconds(), Failures: p.Failures, Process: orNull(p.Holder),
		}
	}), nil
}
