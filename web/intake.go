package web

import (
	"cmp"
	"context"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An Intake answers and does what is of the installation rather than of a domain.
// It returns dmarc.ErrForbidden to those who may not know or do it, and a
// dmarc.Refusal for what cannot be done as things are.
type Intake interface {
	Rights(ctx context.Context) dmarc.Rights
	Mailboxes(ctx context.Context, now time.Time) ([]dmarc.Mailbox, error)
	Passes(ctx context.Context) ([]dmarc.Pass, error)
	// Refused counts messages since a time that could not be read, by outcome.
	Refused(ctx context.Context, since time.Time) (map[dmarc.Outcome]int64, error)
	Installation(ctx context.Context) (dmarc.Installation, error)
	Message(ctx context.Context, id int64) (dmarc.LedgerEntry, error)
	// MayReadMessage reports whether somebody may have a message as it came.
	MayReadMessage(ctx context.Context, e *dmarc.LedgerEntry) (bool, error)
	RawMessage(ctx context.Context, id int64) (io.ReadCloser, dmarc.LedgerEntry, error)
	Report(ctx context.Context, id string) (dmarc.ReportSummary, error)
	// Retry reads a message again and returns its fate then.
	Retry(ctx context.Context, id int64) (dmarc.LedgerEntry, error)
	// Take takes in what somebody brings; an error may be a *dmarc.Error.
	Take(ctx context.Context, mailbox, name string, body io.Reader) (dmarc.Fate, error)
	TryMailbox(ctx context.Context, url, password string) (dmarc.MailboxTrial, error)
	TestTarget(ctx context.Context, name string) error
	SwitchRule(ctx context.Context, r dmarc.RuleSwitch) error
	AllOverrules(ctx context.Context, page dmarc.Page) ([]dmarc.Overrule, dmarc.Cursor, error)
	Notifications(ctx context.Context, q dmarc.NotificationQuery) ([]dmarc.Notification, dmarc.Cursor, error)
}

// operatingFuncs are what the templates of intake and settings use.
func (s *site) operatingFuncs() template.FuncMap {
	return template.FuncMap{
		"operates": func() bool { return s.intake != nil }, "keeps": func() bool { return s.keeper != nil }, "isLive": func() bool { return s.live != nil },
		"ago": s.ago, "lasting": s.lasting, "took": took, "processOf": processOf, "outcomeWord": outcomeWord, "outcomeText": outcomeText, "reasonText": reasonText, "severalMailboxes": severalMailboxes,
		"messageLink": s.messageLink, "roleText": roleText, "bytes": bytesText, "settingsTabs": s.settingsTabs,
		"mailboxWord": mailboxWord, "passWord": passWord, "phaseWord": phaseWord, "deliveryWord": deliveryWord,
	}
}

// intakePage says how reports come in.
type intakePage struct {
	Rights    dmarc.Rights
	Mailboxes []dmarc.Mailbox
	Ways      []string
	Passes    []dmarc.Pass
	Troubles  []trouble
	Refused   []refusedLine
	Total     int64 // of Refused
	Latest    []dmarc.LedgerEntry
	Failing   int // mailboxes
	Waiting   int // messages, over all mailboxes
	Oldest    time.Time
	Now       time.Time
}

// A trouble is something that somebody should mend.
type trouble struct {
	What  string // mailbox or pass
	Since time.Time
	Error string
	Fix   string
}

// A refusedLine counts messages of one outcome.
type refusedLine struct {
	Outcome  dmarc.Outcome
	Messages int64
}

// How far back messages are counted that were not read, and how many of the latest are
// shown.
const (
	refusedDays = 30
	latestShown = 8
)

// intakeOverview serves /intake.
func (s *site) intakeOverview(r *http.Request) (*view, error) {
	p := &intakePage{Rights: s.intake.Rights(r.Context()), Now: s.now()}
	if !p.Rights.Read && !p.Rights.Upload {
		return nil, dmarc.ErrForbidden
	}
	g, ctx := errgroup.WithContext(r.Context())
	if p.Rights.Read {
		g.Go(func() (err error) {
			p.Latest, _, err = s.store.Messages(ctx, dmarc.MessageQuery{Page: dmarc.Page{Limit: latestShown}})
			return err
		})
	}
	if p.Rights.All {
		g.Go(func() error { return s.howItGoes(ctx, p) })
		g.Go(func() error {
			counts, err := s.intake.Refused(ctx, p.Now.AddDate(0, 0, -refusedDays))
			for o, n := range counts {
				p.Refused = append(p.Refused, refusedLine{o, n})
				p.Total += n
			}
			slices.SortFunc(p.Refused, func(a, b refusedLine) int {
				return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Outcome, b.Outcome))
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return &view{Page: "intake", Title: "Intake", Nav: "/intake", Data: p}, nil
}

// howItGoes gathers how mailboxes and passes are.
func (s *site) howItGoes(ctx context.Context, p *intakePage) error {
	installed, err := s.intake.Installation(ctx)
	if err != nil {
		return err
	}
	p.Ways = installed.Ways
	if p.Mailboxes, err = s.intake.Mailboxes(ctx, p.Now); err != nil {
		return err
	}
	for _, m := range p.Mailboxes {
		if !m.Failing.IsZero() {
			p.Failing++
			p.Troubles = append(p.Troubles, trouble{"Mailbox " + m.Mailbox, m.Failing, m.Error, m.Fix})
		}
		p.Waiting += m.Waiting
		if m.Waiting > 0 && !m.Oldest.IsZero() && (p.Oldest.IsZero() || m.Oldest.Before(p.Oldest)) {
			p.Oldest = m.Oldest
		}
	}
	p.Passes, err = s.intake.Passes(ctx)
	for _, pass := range p.Passes {
		if !pass.Failing.IsZero() {
			p.Troubles = append(p.Troubles, trouble{pass.Text, pass.Failing, pass.Error, "it is tried again by itself; if it goes on, the log of dmarcd has more, and dmarcd doctor tries what it rests on"})
		}
	}
	return err
}

// mailboxWord says in short how a mailbox is.
func mailboxWord(m dmarc.Mailbox) verdictWord {
	switch m.State() {
	case dmarc.MailboxFailing:
		return verdictWord{"error", "", "cannot be read"}
	case dmarc.MailboxNotRead:
		return verdictWord{"unknown", "", "not read yet"}
	case dmarc.MailboxUnattended:
		return verdictWord{"warning", "", "nobody reads it"}
	case dmarc.MailboxReading:
		return verdictWord{"info", "", "being read"}
	}
	return verdictWord{"ok", "", "read"}
}

// passWord says in short how a pass goes.
func passWord(p dmarc.Pass) verdictWord {
	switch p.State() {
	case dmarc.PassFailing:
		return verdictWord{"error", "", "fails"}
	case dmarc.PassUnattended:
		return verdictWord{"warning", "", "nobody makes it"}
	}
	return verdictWord{"ok", "", "fine"}
}

// processOf shortens the name of a process to what people tell apart.
func processOf(holder string) string {
	if i := strings.LastIndex(holder, ", "); i > 0 {
		return holder[:i]
	}
	return holder
}

// ago says how long ago something was.
func (s *site) ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return lengthOf(s.now().Sub(t), " ago", "just now")
}

// lasting says how long something has lasted.
func (s *site) lasting(t time.Time) string { return lengthOf(s.now().Sub(t), "", "a moment") }

// lengthOf writes a length of time in its largest unit.
func lengthOf(d time.Duration, suffix, none string) string {
	switch {
	case d < time.Minute:
		return none
	case d < time.Hour:
		return plural(int64(d/time.Minute), "minute", "minutes") + suffix
	case d < 2*aDay:
		return plural(int64(d/time.Hour), "hour", "hours") + suffix
	}
	return plural(int64(d/aDay), "day", "days") + suffix
}

// took writes how long something took.
func took(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return "<0.1" + nbsp + "s"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + nbsp + "s"
	}
	return lengthOf(d, "", "")
}

// outcomeText says in words what an outcome means.
func outcomeText(o dmarc.Outcome) string {
	for _, d := range dmarc.OutcomeDocs {
		if d.Outcome == o {
			return d.Text
		}
	}
	return string(o)
}

// reasonText says in words why a message, or a part of it, has its outcome: where flags are
// named, what they mean.
func reasonText(o dmarc.Outcome, reason string) string {
	if o != dmarc.OutcomeOKWithFlags {
		return reason
	}
	words := strings.Split(reason, ", ")
	for i, w := range words {
		for _, d := range dmarc.ReportFlagDocs {
			if d.Name == w {
				words[i] = d.Text
			}
		}
	}
	return strings.Join(words, "; ")
}

// severalMailboxes tells whether messages came by more than one: otherwise the one needs
// no mention.
func severalMailboxes(all []dmarc.LedgerEntry) bool {
	return slices.ContainsFunc(all, func(e dmarc.LedgerEntry) bool { return e.Mailbox != all[0].Mailbox })
}

// outcomeWord is the outcome in short, in the colour that it has.
func outcomeWord(o dmarc.Outcome) verdictWord {
	switch {
	case o == dmarc.OutcomeUnknownDomain || o == dmarc.OutcomeUnauthenticated:
		return verdictWord{"unknown", "", "parked"}
	case !o.Harmless():
		return verdictWord{"error", "", "not read"}
	case o == dmarc.OutcomeDuplicate:
		return verdictWord{"info", "", "there already"}
	case o == dmarc.OutcomeConflict:
		return verdictWord{"warning", "", "differs from another"}
	case o == dmarc.OutcomeNotKept:
		return verdictWord{"info", "", "not kept"}
	case o.Read():
		return verdictWord{"ok", "", "stored"}
	}
	return verdictWord{"info", "", "no report"}
}
