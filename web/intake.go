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
	MailboxHealth(ctx context.Context) ([]dmarc.MailboxHealth, error)
	PassHealth(ctx context.Context) ([]dmarc.PassHealth, error)
	Leases(ctx context.Context) ([]dmarc.LeaseHolder, error)
	// Refused counts messages since a time that could not be read, by outcome.
	Refused(ctx context.Context, since time.Time) (map[dmarc.Outcome]int64, error)
	Installation(ctx context.Context) (dmarc.Installation, error)
	Message(ctx context.Context, id int64) (dmarc.LedgerEntry, error)
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
		"ago": s.ago, "lasting": s.lasting, "took": took, "processOf": processOf, "outcomeWord": outcomeWord, "outcomeText": outcomeText,
		"messageLink": s.messageLink, "roleText": roleText, "bytes": bytesText, "settingsTabs": s.settingsTabs,
		"phaseWord": phaseWord, "deliveryWord": deliveryWord,
	}
}

// intakePage says how reports come in.
type intakePage struct {
	Rights    dmarc.Rights
	Mailboxes []mailboxLine
	Ways      []string
	Passes    []passLine
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

// A mailboxLine is a mailbox, and how reading it goes.
type mailboxLine struct {
	dmarc.MailboxHealth
	Where      string // as configured; "" if it is not configured here
	Configured bool
	Holder     string // who reads it; "" if nobody does
}

// A passLine is a pass, and how it goes.
type passLine struct {
	dmarc.PassHealth
	Text   string
	Holder string
}

// A refusedLine counts messages of one outcome.
type refusedLine struct {
	Outcome  dmarc.Outcome
	Messages int64
}

// How far back messages are counted that were not read, how many of the latest are
// shown, and after what time a mailbox that nobody reads and names is left out.
const (
	refusedDays   = 30
	latestShown   = 8
	forgottenTime = 24 * time.Hour
)

// passTexts say what passes do, in the order in which they follow each other.
var passTexts = []struct{ Name, Lease, Text string }{
	{"transport", "transport", "Checks whether the mails that carry reports are authentic"},
	{"sources", "sources", "Sums up who sends, day by day"},
	{"facts", "sources", "Reduces reports to what advice rests on"},
	{"identities", "identities", "Looks up whose sending addresses are"},
	{"records", "records", "Looks at what the domains publish in DNS"},
	{"verdicts", "verdicts", "Works out the advice about each domain"},
	{"notify", "notify", "Finds what people should be told"},
	{"digest", "digest", "Writes digests"},
	{"deliver", "deliver", "Delivers what people are told"},
	{"retention", "retention", "Makes room for what comes, and removes what is past its time"},
}

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
	boxes, err := s.intake.MailboxHealth(ctx)
	if err != nil {
		return err
	}
	passes, err := s.intake.PassHealth(ctx)
	if err != nil {
		return err
	}
	leases, err := s.intake.Leases(ctx)
	if err != nil {
		return err
	}
	holders := make(map[string]string)
	for _, l := range leases {
		holders[l.Name] = l.Holder
	}
	p.Ways = installed.Ways
	where := make(map[string]string)
	for _, m := range installed.Mailboxes {
		where[m.Name] = m.Where
		if !slices.ContainsFunc(boxes, func(h dmarc.MailboxHealth) bool { return h.Mailbox == m.Name }) {
			boxes = append(boxes, dmarc.MailboxHealth{Mailbox: m.Name})
		}
	}
	for _, h := range boxes {
		l := mailboxLine{MailboxHealth: h, Holder: holders["mailbox "+h.Mailbox]}
		if l.Where, l.Configured = where[h.Mailbox]; !l.Configured && l.Holder == "" && p.Now.Sub(h.Seen) > forgottenTime {
			continue
		}
		if !h.Failing.IsZero() {
			p.Failing++
			p.Troubles = append(p.Troubles, trouble{"Mailbox " + h.Mailbox, h.Failing, h.Error, h.Fix})
		}
		p.Waiting += h.Waiting
		if h.Waiting > 0 && !h.Oldest.IsZero() && (p.Oldest.IsZero() || h.Oldest.Before(p.Oldest)) {
			p.Oldest = h.Oldest
		}
		p.Mailboxes = append(p.Mailboxes, l)
	}
	for _, known := range passTexts {
		for _, h := range passes {
			if h.Name != known.Name {
				continue
			}
			p.Passes = append(p.Passes, passLine{h, known.Text, holders["pass "+known.Lease]})
			if !h.Failing.IsZero() {
				p.Troubles = append(p.Troubles, trouble{known.Text, h.Failing, h.Error, "it is tried again by itself; if it goes on, the log of dmarcd has more, and dmarcd doctor tries what it rests on"})
			}
		}
	}
	return nil
}

// Standing says in short how a mailbox is.
func (l *mailboxLine) Standing() (w verdictWord) {
	switch {
	case !l.Failing.IsZero():
		return verdictWord{"error", "", "cannot be read"}
	case l.Seen.IsZero() || l.OK.IsZero():
		return verdictWord{"unknown", "", "not read yet"}
	case l.Holder == "":
		return verdictWord{"warning", "", "nobody reads it"}
	case l.Waiting > 0:
		return verdictWord{"info", "", "being read"}
	}
	return verdictWord{"ok", "", "read"}
}

// Standing says in short how a pass goes.
func (l *passLine) Standing() verdictWord {
	switch {
	case !l.Failing.IsZero():
		return verdictWord{"error", "", "fails"}
	case l.Holder == "":
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
