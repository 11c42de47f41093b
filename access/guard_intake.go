package access

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Setup knows what the configuration says, and tries it.
type Setup interface {
	Installation(ctx context.Context) (dmarc.Installation, error)
	// Mailboxes are those of the configuration.
	Mailboxes() []dmarc.ConfiguredMailbox
	// TryMailbox goes all the way to the messages of a mailbox, and keeps
	// nothing.
	TryMailbox(ctx context.Context, url, password string) dmarc.MailboxTrial
	// TestTarget sends a test; dmarc.ErrNotFound if there is no such target, and
	// a dmarc.Refusal if it did not arrive.
	TestTarget(ctx context.Context, name string) error
	// SwitchRule gives a dmarc.Refusal if the configuration decides.
	SwitchRule(ctx context.Context, r dmarc.RuleSwitch) error
}

// Rights tells what the principal may do.
func (g *Guard) Rights(ctx context.Context) dmarc.Rights {
	p := principalOf(ctx)
	return dmarc.Rights{
		Read: p.may(dmarc.RoleRead), Upload: p.may(dmarc.RoleUpload), Failures: p.may(dmarc.RoleFailures), Admin: p.may(dmarc.RoleAdmin),
		All: p.scope(dmarc.RoleRead).All(), Govern: p.governs(),
	}
}

// installed is nil if the principal may know of the installation itself, which
// tells about all domains.
func installed(ctx context.Context) error {
	if !principalOf(ctx).scope(dmarc.RoleRead).All() {
		return dmarc.ErrForbidden
	}
	return nil
}

// governs is nil if the principal may change what is of no domain.
func governs(ctx context.Context) error {
	if !principalOf(ctx).governs() {
		return dmarc.ErrForbidden
	}
	return nil
}

// Mailboxes returns those that reports are read from, for those who may know of
// everything.
func (g *Guard) Mailboxes(ctx context.Context, now time.Time) ([]dmarc.Mailbox, error) {
	if err := installed(ctx); err != nil {
		return nil, err
	}
	read, err := g.Store.MailboxHealth(ctx)
	if err != nil {
		return nil, err
	}
	leases, err := g.Store.Leases(ctx)
	return dmarc.Mailboxes(g.Setup.Mailboxes(), read, leases, now), err
}

// Passes returns what is done by itself.
func (g *Guard) Passes(ctx context.Context) ([]dmarc.Pass, error) {
	if err := installed(ctx); err != nil {
		return nil, err
	}
	made, err := g.Store.PassHealth(ctx)
	if err != nil {
		return nil, err
	}
	leases, err := g.Store.Leases(ctx)
	return dmarc.Passes(made, leases), err
}

// Refused counts messages that could not be read.
func (g *Guard) Refused(ctx context.Context, since time.Time) (map[dmarc.Outcome]int64, error) {
	if err := installed(ctx); err != nil {
		return nil, err
	}
	return g.Store.Refused(ctx, since)
}

// Installation returns what the configuration says.
func (g *Guard) Installation(ctx context.Context) (dmarc.Installation, error) {
	if err := installed(ctx); err != nil {
		return dmarc.Installation{}, err
	}
	return g.Setup.Installation(ctx)
}

// TryMailbox tries a mailbox. It is recorded, since it makes dmarcd connect to
// where somebody says.
func (g *Guard) TryMailbox(ctx context.Context, url, password string) (dmarc.MailboxTrial, error) {
	if err := governs(ctx); err != nil {
		return dmarc.MailboxTrial{}, err
	}
	t := g.Setup.TryMailbox(ctx, url, password)
	detail := "it can be read"
	if !t.OK {
		detail = "it cannot be read"
	}
	g.Keeper.Note(ctx, "mailbox.try", url, detail)
	return t, nil
}

// TestTarget sends a test to somebody who is told of what happens.
func (g *Guard) TestTarget(ctx context.Context, name string) error {
	if err := governs(ctx); err != nil {
		return err
	}
	err := g.Setup.TestTarget(ctx, name)
	if errors.Is(err, dmarc.ErrNotFound) {
		return err
	}
	detail := "sent"
	if err != nil {
		detail = "failed"
	}
	g.Keeper.Note(ctx, "target.test", name, detail)
	return err
}

// SwitchRule switches what people are told of.
func (g *Guard) SwitchRule(ctx context.Context, r dmarc.RuleSwitch) error {
	if err := governs(ctx); err != nil {
		return err
	}
	if p := principalOf(ctx); p.Via != ViaOpen {
		r.By = p.Name
	}
	err := g.Setup.SwitchRule(ctx, r)
	if err == nil {
		detail := "off"
		if r.On {
			detail = "on"
		}
		g.Keeper.Note(ctx, "rule.switch", string(r.Rule), detail)
	}
	return err
}

// AllOverrules returns what operators say about sources of all domains that the
// principal may know of.
func (g *Guard) AllOverrules(ctx context.Context, page dmarc.Page) ([]dmarc.Overrule, dmarc.Cursor, error) {
	s, err := scope(ctx, dmarc.RoleRead)
	if err != nil {
		return nil, "", err
	}
	said, next, err := g.Store.AllOverrules(ctx, s, page)
	if !s.All() {
		for i := range said {
			if said[i].Domain == "" {
				said[i].By, said[i].Note = "", ""
			}
		}
	}
	return said, next, err
}

// Message returns a line of the ledger, if all that the message holds is reports
// that the principal may know of.
func (g *Guard) Message(ctx context.Context, id int64) (dmarc.LedgerEntry, error) {
	items, _, err := g.Messages(ctx, dmarc.MessageQuery{ID: id, Page: dmarc.Page{Limit: 1}})
	if err == nil && len(items) == 0 {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return dmarc.LedgerEntry{}, err
	}
	return items[0], nil
}

// RawMessage returns a message as it came. Where something in it is no stored
// aggregate or TLS report it may be about people, and needs the role failures; that
// it was read is recorded first.
func (g *Guard) RawMessage(ctx context.Context, id int64) (io.ReadCloser, dmarc.LedgerEntry, error) {
	entry, err := g.Message(ctx, id)
	if err != nil {
		return nil, entry, err
	}
	if err := g.whole(ctx, &entry); err != nil {
		return nil, entry, err
	}
	if !understood(&entry) {
		if !principalOf(ctx).scope(dmarc.RoleFailures).All() {
			return nil, entry, dmarc.ErrForbidden
		}
		if err := g.Keeper.record(ctx, "message.read", "message "+strconv.FormatInt(id, 10), string(entry.Outcome)); err != nil {
			return nil, entry, err
		}
	}
	body, err := g.Store.Archived(ctx, entry.Digest)
	return body, entry, err
}

// MayReadMessage reports whether the principal may have a message as it came.
func (g *Guard) MayReadMessage(ctx context.Context, entry *dmarc.LedgerEntry) (bool, error) {
	_, err := g.mayRead(ctx, entry)
	if err == nil && !understood(entry) && !principalOf(ctx).scope(dmarc.RoleFailures).All() {
		err = dmarc.ErrForbidden
	}
	if errors.Is(err, dmarc.ErrNotFound) || errors.Is(err, dmarc.ErrForbidden) {
		return false, nil
	}
	return err == nil, err
}

// understood reports whether all that is in a message is a stored report.
func understood(entry *dmarc.LedgerEntry) bool {
	return len(entry.Reports) > 0 && allOf(entry.Reports, func(p dmarc.LedgerPart) bool { return p.Report != "" })
}

func allOf(parts []dmarc.LedgerPart, is func(dmarc.LedgerPart) bool) bool {
	return !slices.ContainsFunc(parts, func(p dmarc.LedgerPart) bool { return !is(p) })
}

// Retry reads a message again and returns what the ledger says of it then. What
// is in it is known only afterwards, so that it is for those who may change
// everything. A dmarc.Refusal says why it cannot be read.
func (g *Guard) Retry(ctx context.Context, id int64) (dmarc.LedgerEntry, error) {
	if err := governs(ctx); err != nil {
		return dmarc.LedgerEntry{}, err
	}
	before, err := g.Message(ctx, id)
	if err != nil {
		return before, err
	}
	if err := g.Intake.Retry(ctx, before); err != nil {
		return before, err
	}
	after, err := g.Message(ctx, id)
	if err != nil {
		return after, err
	}
	g.Keeper.Note(ctx, "message.retry", "message "+strconv.FormatInt(id, 10), string(before.Outcome)+", now "+string(after.Outcome))
	return after, nil
}

// An Intake takes in reports, and decides between contents that it took in.
type Intake interface {
	Activate(ctx context.Context, id string) (dmarc.ReportSummary, error)
	ReportText(ctx context.Context, id string) (io.ReadCloser, error)
	TLSText(ctx context.Context, id string) (io.ReadCloser, error)
	TakeIf(ctx context.Context, mailbox, name string, body io.Reader, wanted func(*dmarc.Delivery) error) (dmarc.Fate, error)
	// Retry reads a message of the ledger again; a dmarc.Refusal says why its
	// bytes cannot be had.
	Retry(ctx context.Context, e dmarc.LedgerEntry) error
}

// Activate makes a report the one of its identity that counts.
func (g *Guard) Activate(ctx context.Context, id string) (dmarc.ReportSummary, error) {
	if err := g.report(ctx, dmarc.RoleAdmin, id); err != nil {
		return dmarc.ReportSummary{}, err
	}
	rep, err := g.Intake.Activate(ctx, id)
	if err == nil {
		g.Keeper.Note(ctx, "report.activate", id, "about "+rep.Report.Policy.Domain)
	}
	return rep, err
}

// Take takes in reports. All of them must be about domains in the scope.
func (g *Guard) Take(ctx context.Context, mailbox, name string, body io.Reader) (dmarc.Fate, error) {
	s, err := scope(ctx, dmarc.RoleUpload)
	if err != nil {
		return dmarc.Fate{}, err
	}
	var wanted func(*dmarc.Delivery) error
	if !s.All() {
		wanted = func(d *dmarc.Delivery) error { return inScope(s, d) }
	}
	fate, err := g.Intake.TakeIf(ctx, mailbox, name, body, wanted)
	if err == nil && !fate.Known {
		g.Keeper.Note(ctx, "report.upload", "message "+strconv.FormatInt(fate.MessageID, 10), string(fate.Outcome))
	}
	return fate, err
}

// inScope refuses what is about another domain, and what cannot be read: it
// might be, once it is read again.
func inScope(s dmarc.Scope, d *dmarc.Delivery) error {
	if len(d.Parts) == 0 && !d.Outcome.Harmless() {
		return &dmarc.Error{Outcome: d.Outcome, Reason: d.Reason}
	}
	for i := range d.Parts {
		p := &d.Parts[i]
		var domains []string
		switch {
		case p.Aggregate != nil:
			domains = []string{p.Aggregate.Policy.Domain}
		case p.Failure != nil:
			domains = []string{p.Failure.ReportedDomain}
		case p.TLS != nil:
			domains = []string{p.TLS.Domain}
			for _, policy := range p.TLS.Policies {
				if policy.Domain != "" {
					domains = append(domains, policy.Domain)
				}
			}
		case !p.Outcome.Harmless():
			return &dmarc.Error{Outcome: p.Outcome, Reason: p.Reason}
		}
		for _, domain := range domains {
			if !s.Covers(domain) {
				return &dmarc.Error{Outcome: dmarc.OutcomeUnknownDomain, Reason: "there is a report about a domain that you may not bring reports about; nothing was kept"}
			}
		}
	}
	return nil
}
