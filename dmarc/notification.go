package dmarc

import (
	"net/netip"
	"time"
)

// A NotifyRule names what people are told about.
type NotifyRule string

// The rules, in the order in which they are listed.
const (
	RuleNewSource       NotifyRule = "new_source"
	RulePassRate        NotifyRule = "pass_rate"
	RuleReporterStopped NotifyRule = "reporter_stopped"
	RuleRecordChanged   NotifyRule = "record_changed"
	RuleRecordBroke     NotifyRule = "record_broke"
	RuleVerdictChanged  NotifyRule = "verdict_changed"
	RuleSPFLimit        NotifyRule = "spf_limit"
	RuleMailbox         NotifyRule = "mailbox_unreachable"
	RuleRefused         NotifyRule = "reports_refused"
)

// NotifyRules are all rules.
var NotifyRules = []NotifyRule{
	RuleNewSource, RulePassRate, RuleReporterStopped, RuleRecordChanged, RuleRecordBroke, RuleVerdictChanged, RuleSPFLimit, RuleMailbox, RuleRefused,
}

// OfDomain tells whether a rule is about domains, rather than about the
// installation.
func (r NotifyRule) OfDomain() bool { return r != RuleMailbox && r != RuleRefused }

// An EventPhase tells whether something begins, is over, or just happened.
type EventPhase string

// The phases.
const (
	EventBegan EventPhase = "began"
	EventOver  EventPhase = "over"
	EventOnce  EventPhase = "once"
)

// An Event is something that people are told.
type Event struct {
	ID      int64
	At      time.Time
	Rule    NotifyRule
	Domain  string // "" if it is about the installation
	Subject string // what it is about: an address, a reporter, a finding, a mailbox; "" for the domain itself
	Phase   EventPhase
	Problem bool // somebody should look at it
	Title   string
	Text    string
}

// An Episode is something that a rule has told of and that is not over.
type Episode struct {
	Rule    NotifyRule
	Domain  string
	Subject string
	Began   time.Time
	// Memory is what the rule must know to tell when it is over.
	Memory map[string]string
}

// A DeliveryState is how far the delivery of a message is.
type DeliveryState string

// The states. Who gave up tries no more.
const (
	DeliveryWaiting DeliveryState = "waiting"
	DeliverySent    DeliveryState = "sent"
	DeliveryGivenUp DeliveryState = "given_up"
)

// An OutgoingMessage is a message to one target. Its body is made once, so that
// every attempt sends the same.
type OutgoingMessage struct {
	ID       int64
	Key      string // that a receiver knows it by, however often it comes
	Target   string // name of the target
	Kind     string // events, digest or test
	Body     []byte // JSON of events, or a mail as it is sent
	Events   []int64
	Attempts int // with the one that was begun last
	At       time.Time
}

// A DeliveryStatus is how far the delivery of events to a target is.
type DeliveryStatus struct {
	Target   string
	State    DeliveryState
	Attempts int
	Error    string    // of the last attempt that failed
	NextAt   time.Time // of the next attempt; zero if there is none
	DoneAt   time.Time // zero while it waits
}

// A Notification is an event and what became of telling it.
type Notification struct {
	Event
	Deliveries []DeliveryStatus
}

// A NotificationQuery asks for notifications, latest first.
type NotificationQuery struct {
	Domain     string // "" for all
	Subdomains bool   // of Domain, too
	Scope      Scope
	Rule       NotifyRule // "" for all
	Phase      string     // began, over or once; "" for all
	Problem    Choice
	Period     Period // when it was; zero: whenever
	Page
}

// A Passing counts messages, and those of them that passed DMARC.
type Passing struct{ Messages, Passed int64 }

// Add counts more.
func (p *Passing) Add(o Passing) {
	p.Messages += o.Messages
	p.Passed += o.Passed
}

// Rate returns the share that passed, from 0 to 1; 0 without messages.
func (p Passing) Rate() float64 {
	if p.Messages == 0 {
		return 0
	}
	return float64(p.Passed) / float64(p.Messages)
}

// A SourceDevelopment compares what an address did lately with what it did
// before.
type SourceDevelopment struct {
	Source netip.Addr
	First  time.Time // day, within the time that is looked at
	Week   Passing   // the last seven days
	Recent Passing   // the last three days
	Before Passing   // the four weeks before those three days
	Class  Class     // ClassUnknown if nobody has told yet
}

// A ReporterDevelopment tells when a reporter reported about a domain.
type ReporterDevelopment struct {
	Name string
	Last time.Time // day
	Days int       // with reports, in the four weeks up to the last
}

// Developments are what rules look at of one domain.
type Developments struct {
	Domain    string
	First     time.Time // day with reports, ever
	Sources   []SourceDevelopment
	Reporters []ReporterDevelopment
}

// A LookDevelopment is what a look at the records of a domain tells.
type LookDevelopment struct {
	Domain  string
	At      time.Time
	Failed  bool // some lookups failed
	Lookups int  // of SPF; -1 if it is not known
	Errors  []LookError
}

// A LookError is a finding that is an error.
type LookError struct {
	Check, Subject string
	What, Fix      string
}

// A ChangedRecord is a change of published records that nobody was told of.
type ChangedRecord struct {
	Domain string
	ID     int64
	RecordChange
}

// A Transition is what a pass over the rules changes, all in one transaction.
type Transition struct {
	Steps []Step
	// LooksUntil is how far the looks at records have been judged; zero
	// leaves it.
	LooksUntil time.Time
	// Forget names rules whose episodes are forgotten: they are switched off.
	Forget []NotifyRule
	// Compose makes the messages that tell of the events that are really new:
	// another process may have told of some.
	Compose func([]Event) ([]OutgoingMessage, error)
}

// A Step is one event, and what makes it happen once: the episode that begins
// or ends, or the change that is told.
type Step struct {
	Event   Event
	Quiet   bool // the episode ends, and nobody is told
	Episode Episode
	Change  *ChangedRecord
}
