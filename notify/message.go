package notify

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Bounds of a message, however many events it tells of.
const (
	eventsInText = 20
	eventsInJSON = 100
	textOfEvent  = 600 // letters, where there are several
)

// Kinds of messages.
const (
	KindEvents = "events"
	KindDigest = "digest"
	KindTest   = "test"
)

// A Message is what a target gets of events. Its JSON is the body of webhooks.
type Message struct {
	Kind   string         `json:"kind"`   // events or test
	Title  string         `json:"title"`  // a line
	Text   string         `json:"text"`   // all of it, for people
	Count  int            `json:"count"`  // of events
	Counts map[string]int `json:"counts"` // by rule and phase: "new_source began"
	Events []MessageEvent `json:"events"` // the first of them, problems before others
}

// A MessageEvent is an event in a message.
type MessageEvent struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Rule    string    `json:"rule"`
	Domain  string    `json:"domain"`  // "": the installation
	Subject string    `json:"subject"` // "": the domain itself
	Phase   string    `json:"phase"`   // began, over or once
	Problem bool      `json:"problem"`
	Title   string    `json:"title"`
	Text    string    `json:"text"`
	Link    string    `json:"link"` // "" without a known address of the dashboard
}

// newMessage makes one message of events, at least one.
func newMessage(target, link string, events []dmarc.Event) (dmarc.OutgoingMessage, error) {
	out := dmarc.OutgoingMessage{Key: rand.Text(), Target: target, Kind: KindEvents}
	for i := range events {
		out.Events = append(out.Events, events[i].ID)
	}
	m := compose(events, link)
	body, err := json.Marshal(m)
	out.Body = body
	return out, err
}

func compose(events []dmarc.Event, link string) *Message {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b dmarc.Event) int { return boolCompare(b.Problem, a.Problem) })
	m := &Message{Kind: KindEvents, Count: len(sorted), Counts: make(map[string]int), Events: []MessageEvent{}}
	for i := range sorted {
		e := &sorted[i]
		m.Counts[string(e.Rule)+" "+string(e.Phase)]++
		if i < eventsInJSON {
			m.Events = append(m.Events, MessageEvent{e.ID, e.At, string(e.Rule), e.Domain, e.Subject, string(e.Phase), e.Problem, e.Title, e.Text, linkTo(link, e)})
		}
	}
	if len(sorted) == 1 {
		e := &m.Events[0]
		m.Title, m.Text = e.Title, e.Text+optional("\n", e.Link)
		return m
	}
	m.Title = tally(sorted)
	var b strings.Builder
	for i := range sorted[:min(len(sorted), eventsInText)] {
		e := &m.Events[i]
		fmt.Fprintf(&b, "%s\n%s%s\n\n", e.Title, shorten(e.Text, textOfEvent), optional("\n", e.Link))
	}
	if rest := sorted[min(len(sorted), eventsInText):]; len(rest) > 0 {
		fmt.Fprintf(&b, "And %s more: %s.%s\n", grouped(int64(len(rest))), tally(rest), optional("\nAll of them: ", link))
	}
	m.Text = strings.TrimSpace(b.String())
	return m
}

// kinds are what events of a rule are called when they are counted.
var kinds = map[dmarc.NotifyRule]map[dmarc.EventPhase][2]string{
	dmarc.RuleNewSource:       {dmarc.EventBegan: {"new sender", "new senders"}},
	dmarc.RulePassRate:        {dmarc.EventBegan: {"domain passes less", "domains pass less"}, dmarc.EventOver: {"domain passes again", "domains pass again"}},
	dmarc.RuleReporterStopped: {dmarc.EventBegan: {"reporter has stopped", "reporters have stopped"}, dmarc.EventOver: {"reporter reports again", "reporters report again"}},
	dmarc.RuleRecordChanged:   {dmarc.EventOnce: {"record has changed", "records have changed"}},
	dmarc.RuleRecordBroke:     {dmarc.EventBegan: {"record is broken", "records are broken"}, dmarc.EventOver: {"record is mended", "records are mended"}},
	dmarc.RuleVerdictChanged:  {dmarc.EventBegan: {"verdict has changed", "verdicts have changed"}},
	dmarc.RuleSPFLimit:        {dmarc.EventBegan: {"domain is near the limit of SPF", "domains are near the limit of SPF"}, dmarc.EventOver: {"domain has room in SPF again", "domains have room in SPF again"}},
	dmarc.RuleMailbox:         {dmarc.EventBegan: {"mailbox cannot be read", "mailboxes cannot be read"}, dmarc.EventOver: {"mailbox can be read again", "mailboxes can be read again"}},
	dmarc.RuleRefused:         {dmarc.EventBegan: {"time many messages were refused", "times many messages were refused"}, dmarc.EventOver: {"time messages are read again", "times messages are read again"}},
}

// tally counts events by what happened: "12 new senders, 1 record is broken".
func tally(events []dmarc.Event) string {
	type kind struct {
		rule  dmarc.NotifyRule
		phase dmarc.EventPhase
	}
	counts := make(map[kind]int)
	var order []kind
	for i := range events {
		k := kind{events[i].Rule, events[i].Phase}
		if counts[k] == 0 {
			order = append(order, k)
		}
		counts[k]++
	}
	slices.SortStableFunc(order, func(a, b kind) int { return cmp.Compare(counts[b], counts[a]) })
	var parts []string
	for _, k := range order {
		words := kinds[k.rule][k.phase]
		parts = append(parts, counted(counts[k], cmp.Or(words[0], string(k.rule)), cmp.Or(words[1], string(k.rule))))
	}
	return strings.Join(parts, ", ")
}

// linkTo returns the address of the page that an event is about.
func linkTo(base string, e *dmarc.Event) string {
	if base == "" {
		return ""
	}
	base = strings.TrimSuffix(base, "/")
	if e.Domain == "" {
		return base + "/"
	}
	page := base + "/domains/" + url.PathEscape(e.Domain)
	switch e.Rule {
	case dmarc.RuleNewSource, dmarc.RulePassRate:
		return page + "/senders"
	case dmarc.RuleReporterStopped:
		return page + "/reporters"
	case dmarc.RuleRecordBroke, dmarc.RuleRecordChanged, dmarc.RuleSPFLimit:
		return page + "/dns"
	}
	return page
}

// TestMessage is what a target gets when somebody tries it.
func TestMessage(target string, now time.Time) dmarc.OutgoingMessage {
	m := &Message{
		Kind: KindTest, Title: "dmarcd: a test message", Counts: map[string]int{}, Events: []MessageEvent{},
		Text: fmt.Sprintf("This is a test by dmarcd to the target %s. If you read it, notifications reach you.", target),
	}
	body, _ := json.Marshal(m) // of strings and numbers: it cannot fail
	return dmarc.OutgoingMessage{Key: rand.Text(), Target: target, Kind: KindTest, Body: body, At: now}
}
