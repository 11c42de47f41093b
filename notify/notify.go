// Package notify speaks to people who do not look: it tells them by mail, chat
// and webhook when something begins that they should know of, once, and when it
// is over. Rules look at rollups; what they find is kept in an outbox together with
// their state, and delivered from there.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Store answers what rules ask, and keeps what they find.
type Store interface {
	ActiveDomains(ctx context.Context, since time.Time) ([]string, error)
	Developments(ctx context.Context, domain string, today time.Time, least int64) (*dmarc.Developments, error)
	LookDevelopments(ctx context.Context) ([]dmarc.LookDevelopment, error)
	ChangedRecords(ctx context.Context, limit int) ([]dmarc.ChangedRecord, error)
	Refused(ctx context.Context, since time.Time) (map[dmarc.Outcome]int64, error)
	MailboxHealth(ctx context.Context) ([]dmarc.MailboxHealth, error)
	Attention(ctx context.Context, q dmarc.AttentionQuery) ([]dmarc.DomainVerdict, dmarc.Cursor, error)
	Episodes(ctx context.Context) ([]dmarc.Episode, error)
	GroupDomains(ctx context.Context, groups []string) ([]string, error)
	// Tell makes steps and keeps the messages that tell of them, in one
	// transaction that fails unless the lease is held.
	Tell(ctx context.Context, lease dmarc.Lease, t *dmarc.Transition) ([]dmarc.Event, error)
}

// Settings say what people are told about.
type Settings struct {
	On      map[dmarc.NotifyRule]bool
	Domains map[dmarc.NotifyRule][]string // with their subdomains, or dmarc.OfGroup; none: all

	NewSourceMessages    int64         // of a source in a week
	PassRateDrop         float64       // share of messages, from 0 to 1
	PassRateMessages     int64         // of the domain's own sources, in three days
	ReporterStoppedAfter time.Duration // whole days
	SPFLookups           int
	MailboxAfter         time.Duration
	RefusedMessages      int64 // in a day
}

// DefaultSettings are for those who say nothing.
func DefaultSettings() Settings {
	s := Settings{
		On: make(map[dmarc.NotifyRule]bool), Domains: make(map[dmarc.NotifyRule][]string),
		NewSourceMessages: 100, PassRateDrop: 0.05, PassRateMessages: 100, ReporterStoppedAfter: 7 * 24 * time.Hour,
		SPFLookups: 9, MailboxAfter: 30 * time.Minute, RefusedMessages: 10,
	}
	for _, r := range dmarc.NotifyRules {
		s.On[r] = true
	}
	return s
}

// wants tells whether a rule is to tell about a domain.
func (s *Settings) wants(r dmarc.NotifyRule, domain string) bool {
	return s.On[r] && (len(s.Domains[r]) == 0 || domain == "" || within(domain, s.Domains[r]))
}

// within tells whether a domain is one of a list or below one.
func within(domain string, list []string) bool {
	return slices.ContainsFunc(list, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) })
}

// A Target is somebody who is told.
type Target struct {
	Name    string
	Rules   []dmarc.NotifyRule // none: all
	Domains []string           // with their subdomains, or dmarc.OfGroup; none: all, and the installation
}

func (t *Target) wants(e *dmarc.Event) bool {
	return (len(t.Rules) == 0 || slices.Contains(t.Rules, e.Rule)) && (len(t.Domains) == 0 || e.Domain != "" && within(e.Domain, t.Domains))
}

// A Notifier looks with rules at what changed.
type Notifier struct {
	Store    Store
	Settings Settings
	Targets  []Target
	// Link is the address of the dashboard, for links in messages; "" for none.
	Link string
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now

	slow time.Time // when developments were looked at last
}

// slowEvery is how often developments of domains are looked at. They come from
// reports, which come once a day.
const slowEvery = time.Hour

// Pass looks with every rule once. It may be cut short and run again: what was
// told is not told again, whoever told it.
func (n *Notifier) Pass(ctx context.Context, lease dmarc.Lease) error {
	now := time.Now()
	if n.Now != nil {
		now = n.Now()
	}
	m := *n
	if err := m.readGroups(ctx); err != nil {
		return err
	}
	slow, err := m.look(ctx, lease, now.UTC())
	if err == nil && slow {
		n.slow = now
	}
	return err
}

// readGroups adds to lists of domains what the groups among them hold now. A list
// with a group that holds none stays one of no domain, since the name of the group is
// still in it.
func (n *Notifier) readGroups(ctx context.Context) error {
	n.Settings.Domains, n.Targets = maps.Clone(n.Settings.Domains), slices.Clone(n.Targets)
	for r, domains := range n.Settings.Domains {
		all, err := withGroups(ctx, n.Store, domains)
		if err != nil {
			return err
		}
		n.Settings.Domains[r] = all
	}
	for i := range n.Targets {
		all, err := withGroups(ctx, n.Store, n.Targets[i].Domains)
		if err != nil {
			return err
		}
		n.Targets[i].Domains = all
	}
	return nil
}

// withGroups returns domains with those of the groups among them.
func withGroups(ctx context.Context, s interface {
	GroupDomains(ctx context.Context, groups []string) ([]string, error)
}, domains []string) ([]string, error) {
	groups := dmarc.GroupsAmong(domains)
	if len(groups) == 0 {
		return domains, nil
	}
	more, err := s.GroupDomains(ctx, groups)
	return slices.Concat(domains, more), err
}

// look looks with every rule, and tells whether developments were among them.
func (n *Notifier) look(ctx context.Context, lease dmarc.Lease, now time.Time) (slow bool, err error) {
	list, err := n.Store.Episodes(ctx)
	if err != nil {
		return false, err
	}
	open := make(map[key]dmarc.Episode, len(list))
	for _, e := range list {
		open[key{e.Rule, e.Domain, e.Subject}] = e
	}
	t := &dmarc.Transition{Compose: n.compose}
	for _, r := range dmarc.NotifyRules {
		if !n.Settings.On[r] {
			t.Forget = append(t.Forget, r)
		}
	}
	var seen []sighting
	for _, by := range []func(context.Context, time.Time, map[key]dmarc.Episode) ([]sighting, error){n.mailboxes, n.refused} {
		found, err := by(ctx, now, open)
		if err != nil {
			return false, err
		}
		seen = append(seen, found...)
	}
	looks, err := n.Store.LookDevelopments(ctx)
	if err != nil {
		return false, err
	}
	for i := range looks {
		seen = append(seen, n.Settings.judgeLook(&looks[i], open)...)
		t.LooksUntil = looks[i].At
	}
	if t.Steps, err = n.changes(ctx, now); err != nil {
		return false, err
	}
	slow = now.Sub(n.slow) >= slowEvery || now.Before(n.slow)
	if slow {
		found, err := n.developments(ctx, now, open)
		if err != nil {
			return false, err
		}
		seen = append(seen, found...)
		verdicts, err := n.verdicts(ctx, now, open)
		if err != nil {
			return false, err
		}
		t.Steps = append(t.Steps, verdicts...)
	}
	t.Steps = append(t.Steps, transit(open, seen, now)...)
	told, err := n.Store.Tell(ctx, lease, t)
	if err != nil {
		return false, err
	}
	if len(told) > 0 {
		n.Log.Info("people are told", "events", len(told), "targets", len(n.Targets))
	}
	return slow, nil
}

// developments looks at what sources and reporters of the domains do.
func (n *Notifier) developments(ctx context.Context, now time.Time, open map[key]dmarc.Episode) ([]sighting, error) {
	s := &n.Settings
	if !s.On[dmarc.RuleNewSource] && !s.On[dmarc.RulePassRate] && !s.On[dmarc.RuleReporterStopped] {
		return nil, nil
	}
	today := now.Truncate(24 * time.Hour)
	domains, err := n.Store.ActiveDomains(ctx, today.AddDate(0, 0, -quietDays))
	if err != nil {
		return nil, err
	}
	byDomain := make(map[string][]dmarc.Episode)
	for _, e := range open {
		byDomain[e.Domain] = append(byDomain[e.Domain], e)
	}
	var seen []sighting
	for _, domain := range domains {
		if !s.wants(dmarc.RuleNewSource, domain) && !s.wants(dmarc.RulePassRate, domain) && !s.wants(dmarc.RuleReporterStopped, domain) {
			continue
		}
		d, err := n.Store.Developments(ctx, domain, today, min(s.NewSourceMessages, s.PassRateMessages, fewMessages))
		if err != nil {
			return nil, err
		}
		seen = append(seen, s.judgeSources(d, today, byDomain[domain])...)
		seen = append(seen, s.judgePassRate(d, open)...)
		seen = append(seen, s.judgeReporters(d, today, open)...)
	}
	return seen, nil
}

// changesAtOnce bounds how many changes of records one pass tells of.
const changesAtOnce = 5000

// changes tells of records that changed. Changes that nobody wants to hear of
// are marked as told all the same.
func (n *Notifier) changes(ctx context.Context, now time.Time) ([]dmarc.Step, error) {
	list, err := n.Store.ChangedRecords(ctx, changesAtOnce)
	if err != nil {
		return nil, err
	}
	var steps []dmarc.Step
	for i := range list {
		c := &list[i]
		e, worth := changeEvent(c)
		e.At, e.Title, e.Text = now, line(e.Title), visible(e.Text)
		steps = append(steps, dmarc.Step{Event: e, Change: c, Quiet: !worth || !n.Settings.wants(dmarc.RuleRecordChanged, c.Domain)})
	}
	return steps, nil
}

// compose makes one message for each target of what it wants to hear of.
func (n *Notifier) compose(events []dmarc.Event) ([]dmarc.OutgoingMessage, error) {
	var out []dmarc.OutgoingMessage
	for i := range n.Targets {
		t := &n.Targets[i]
		var wanted []dmarc.Event
		for j := range events {
			if t.wants(&events[j]) {
				wanted = append(wanted, events[j])
			}
		}
		if len(wanted) == 0 {
			continue
		}
		m, err := newMessage(t.Name, n.Link, wanted)
		if err != nil {
			return nil, fmt.Errorf("message to %s: %w", t.Name, err)
		}
		out = append(out, m)
	}
	return out, nil
}
