package web

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An office answers what is of the installation, to somebody who may do everything. Whatever
// others wrote that gets there has evil in it: names of mailboxes and files are the
// operator's, but errors quote servers, and the ledger quotes mail.
type office struct {
	*fake
	evil string
}

func (o *office) Rights(context.Context) dmarc.Rights {
	return dmarc.Rights{Read: true, Upload: true, Failures: true, All: true, Govern: true, Admin: true}
}

func (o *office) Mailboxes(context.Context, time.Time) ([]dmarc.Mailbox, error) {
	return []dmarc.Mailbox{
		{MailboxHealth: dmarc.MailboxHealth{Mailbox: "imap.acme.example" + o.evil, Failing: now.Add(-time.Hour), Error: "NO [ALERT] " + o.evil, Fix: "ask " + o.evil, Seen: now, Failures: 3}},
		{MailboxHealth: dmarc.MailboxHealth{Mailbox: "import", OK: now.Add(-time.Minute), Seen: now, Waiting: 4, Oldest: now.Add(-time.Hour)}, Where: "user@host" + o.evil, Configured: true, Holder: "host, 1"},
	}, nil
}

func (o *office) Passes(context.Context) ([]dmarc.Pass, error) {
	return []dmarc.Pass{
		{PassHealth: dmarc.PassHealth{Name: "records", OK: now.Add(-time.Hour), Failing: now.Add(-time.Minute), Error: "lookup " + o.evil, Failures: 1, Seen: now}, Text: "Looks at what the domains publish in DNS"},
		{PassHealth: dmarc.PassHealth{Name: "verdicts", OK: now, Seen: now, Took: time.Second}, Text: "Works out the advice about each domain", Holder: "host" + o.evil + ", 1"},
	}, nil
}

func (o *office) Refused(context.Context, time.Time) (map[dmarc.Outcome]int64, error) {
	return map[dmarc.Outcome]int64{dmarc.OutcomeBadXML: 3}, nil
}

func (o *office) Installation(context.Context) (dmarc.Installation, error) {
	return dmarc.Installation{
		File: "/etc/dmarcd.toml" + o.evil, Mailboxes: []dmarc.ConfiguredMailbox{{Name: "import", Where: "user@host" + o.evil}}, Ways: []string{"SMTP at 192.0.2.1:25" + o.evil},
		Addresses: []string{"dmarc@acme.example" + o.evil}, Domains: []string{"acme.example"},
		Targets: []dmarc.NotifyTarget{{Name: "team" + o.evil, Where: "mail to " + o.evil, Domains: []string{"acme.example" + o.evil}}},
		Rules:   []dmarc.NotifySwitch{{Rule: dmarc.NotifyRules[0], Text: "tells " + o.evil, By: o.evil, At: now}},
		Lines:   []dmarc.SettingLine{{Key: "listen", Value: o.evil, Text: o.evil, Origin: "the file " + o.evil}}, Own: []string{"192.0.2.0/24"},
	}, nil
}

// entry is a line of the ledger.
func (o *office) entry(id int64) dmarc.LedgerEntry {
	return dmarc.LedgerEntry{
		ID: id, Mailbox: "import", Size: 100, MessageID: "<1@x>" + o.evil, From: "x@y.example" + o.evil, Subject: "Report " + o.evil, Source: "x.eml" + o.evil, ReceivedAt: now,
		Outcome: dmarc.OutcomeBadXML, Reason: "line 1: " + o.evil, Transport: dmarc.TransportVerdict{Domain: "y.example" + o.evil, Reason: o.evil},
		Reports: []dmarc.LedgerPart{
			{Path: "1" + o.evil, Kind: "none", Outcome: dmarc.OutcomeBadXML, Reason: o.evil}, {Path: "2", Kind: "aggregate", Report: "1-7", Outcome: dmarc.OutcomeOK},
			{Path: "3", Kind: "tls", Report: "9-0", Outcome: dmarc.OutcomeOK}, {Path: "4", Kind: "failure", Report: "7-0", Outcome: dmarc.OutcomeOK},
		},
	}
}

func (o *office) Message(_ context.Context, id int64) (dmarc.LedgerEntry, error) {
	return o.entry(id), nil
}

func (o *office) MayReadMessage(context.Context, *dmarc.LedgerEntry) (bool, error) { return true, nil }

func (o *office) RawMessage(_ context.Context, id int64) (io.ReadCloser, dmarc.LedgerEntry, error) {
	return io.NopCloser(strings.NewReader(o.evil)), o.entry(id), nil
}

func (o *office) Retry(_ context.Context, id int64) (dmarc.LedgerEntry, error) {
	return o.entry(id), nil
}

func (o *office) Take(context.Context, string, string, io.Reader) (dmarc.Fate, error) {
	return dmarc.Fate{MessageID: 1, Outcome: dmarc.OutcomeBadXML, Reason: o.evil}, nil
}

func (o *office) TryMailbox(context.Context, string, string) (dmarc.MailboxTrial, error) {
	return dmarc.MailboxTrial{Lines: []dmarc.TrialLine{{State: "wrong", Text: o.evil, Fix: o.evil}}}, nil
}

func (o *office) TestTarget(context.Context, string) error           { return dmarc.Refusal("550 " + o.evil) }
func (o *office) SwitchRule(context.Context, dmarc.RuleSwitch) error { return nil }

func (o *office) AllOverrules(context.Context, dmarc.Page) ([]dmarc.Overrule, dmarc.Cursor, error) {
	return []dmarc.Overrule{{Network: netip.MustParsePrefix("192.0.2.0/24"), Note: o.evil, By: o.evil, At: now}}, "", nil
}

func (o *office) Notifications(context.Context, dmarc.NotificationQuery) ([]dmarc.Notification, dmarc.Cursor, error) {
	return []dmarc.Notification{{
		Event:      dmarc.Event{ID: 1, At: now, Rule: dmarc.NotifyRules[0], Domain: "acme.example", Subject: o.evil, Problem: true, Title: "New " + o.evil, Text: o.evil},
		Deliveries: []dmarc.DeliveryStatus{{Target: "team" + o.evil, Attempts: 2, Error: "550 " + o.evil}},
	}}, "", nil
}

func (o *office) CreateToken(_ context.Context, t dmarc.Token) (string, dmarc.Token, error) {
	return "secret", t, nil
}

func (o *office) Tokens(context.Context, dmarc.Page) ([]dmarc.Token, dmarc.Cursor, error) {
	return []dmarc.Token{{ID: 1, Name: "team" + o.evil, Roles: dmarc.Roles, Scope: dmarc.ScopeOf("acme.example"), Groups: []string{"clients" + o.evil}, Created: now}}, "", nil
}

func (o *office) RevokeToken(_ context.Context, id int64) (dmarc.Token, error) {
	return dmarc.Token{ID: id}, nil
}

func (o *office) Audit(context.Context, dmarc.AuditQuery) ([]dmarc.AuditEntry, dmarc.Cursor, error) {
	return []dmarc.AuditEntry{{ID: 1, At: now, Who: "jo" + o.evil, Via: "provider", Action: "token.create", Subject: o.evil, Detail: o.evil}}, "", nil
}
