package dmarc

import (
	"slices"
	"time"
)

// PassHealth tells how a pass goes that is made again and again, by whichever
// process makes it.
type PassHealth struct {
	Name     string    // such as "records"
	OK       time.Time // when it last ended well; zero if never
	Failing  time.Time // since when every try failed; zero if the last did not
	Error    string    // of the last try; "" if it did not fail
	Failures int64     // how many tries failed, ever
	Took     time.Duration
	Seen     time.Time // when it was last tried
}

// A MailboxHealth tells how reading a mailbox goes.
type MailboxHealth struct {
	Mailbox string
	OK      time.Time // when it was last read to its end; zero if never
	Failing time.Time // since when every try failed; zero if the last did not
	Error   string
	Seen    time.Time // when it was last tried

	Fix      string        // what to do about the error; "" if nothing is known to help
	Failures int64         // how many tries failed, ever
	Took     time.Duration // the last try
	Waiting  int           // messages that were found and are not taken in yet
	Oldest   time.Time     // when the oldest of these came, as far as is known; zero if none waits
}

// LeaseHolder is the process that works under a lease.
type LeaseHolder struct {
	Name   string // of the lease: "mailbox " or "pass " and what is worked on
	Holder string // host and process
}

// A Mailbox is one that reports are read from: how that goes, and who does it.
type Mailbox struct {
	MailboxHealth
	Where      string // as configured; "" if it is not configured here
	Configured bool
	Holder     string // the process that reads it; "" if none does
}

// A MailboxState says in a word how a mailbox is.
type MailboxState string

// The states of a mailbox.
const (
	MailboxFailing    MailboxState = "failing" // the last try did
	MailboxNotRead    MailboxState = "not_read_yet"
	MailboxUnattended MailboxState = "unattended" // nobody reads it now
	MailboxReading    MailboxState = "reading"    // messages wait
	MailboxRead       MailboxState = "read"       // to its end
)

// State says how the mailbox is.
func (m *Mailbox) State() MailboxState {
	switch {
	case !m.Failing.IsZero():
		return MailboxFailing
	case m.Seen.IsZero() || m.OK.IsZero():
		return MailboxNotRead
	case m.Holder == "":
		return MailboxUnattended
	case m.Waiting > 0:
		return MailboxReading
	}
	return MailboxRead
}

// forgotten is after what time a mailbox is left out that nobody reads and names.
const forgotten = 24 * time.Hour

// Mailboxes returns those that were read or are configured, in this order.
func Mailboxes(configured []ConfiguredMailbox, read []MailboxHealth, leases []LeaseHolder, now time.Time) []Mailbox {
	list := make([]Mailbox, 0, len(read)+len(configured))
	for _, h := range read {
		list = append(list, Mailbox{MailboxHealth: h})
	}
	for _, c := range configured {
		i := slices.IndexFunc(list, func(m Mailbox) bool { return m.Mailbox == c.Name })
		if i < 0 {
			i = len(list)
			list = append(list, Mailbox{MailboxHealth: MailboxHealth{Mailbox: c.Name}})
		}
		list[i].Where, list[i].Configured = c.Where, true
	}
	for i := range list {
		list[i].Holder = holderOf(leases, "mailbox "+list[i].Mailbox)
	}
	return slices.DeleteFunc(list, func(m Mailbox) bool { return !m.Configured && m.Holder == "" && now.Sub(m.Seen) > forgotten })
}

func holderOf(leases []LeaseHolder, name string) string {
	for _, l := range leases {
		if l.Name == name {
			return l.Holder
		}
	}
	return ""
}

// A Pass is work that is done by itself, again and again: how it goes, and who does it.
type Pass struct {
	PassHealth
	Text   string // what it does
	Holder string // the process that does it; "" if none does
}

// passDocs say what passes do, in the order in which they follow each other.
var passDocs = []struct{ Name, Lease, Text string }{
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

// Passes returns those that were made, in the order in which they follow each other.
func Passes(made []PassHealth, leases []LeaseHolder) []Pass {
	var list []Pass
	for _, d := range passDocs {
		for _, h := range made {
			if h.Name == d.Name {
				list = append(list, Pass{h, d.Text, holderOf(leases, "pass "+d.Lease)})
			}
		}
	}
	return list
}

// A PassState says in a word how a pass goes.
type PassState string

// The states of a pass.
const (
	PassFailing    PassState = "failing"
	PassUnattended PassState = "unattended" // nobody makes it now
	PassFine       PassState = "fine"
)

// State says how the pass goes.
func (p *Pass) State() PassState {
	switch {
	case !p.Failing.IsZero():
		return PassFailing
	case p.Holder == "":
		return PassUnattended
	}
	return PassFine
}

// Newest tells what is there now from what comes later.
type Newest struct {
	Messages int64 // the number of the last one that was taken in
	Events   int64 // the number of the last one that people are to be told of
	Failing  int64 // mailboxes and passes whose last try failed
}

// Rights are what somebody may do here.
type Rights struct {
	Read     bool // about some domains at least
	Upload   bool
	Failures bool // read failure reports
	All      bool // read about every domain, and about the installation itself
	Govern   bool // change what is of no domain
	Admin    bool // change what is of some domains at least
}

// An Installation is what the configuration says, without secrets, in words for
// people.
type Installation struct {
	File      string // that was read; "" for none
	Mailboxes []ConfiguredMailbox
	Ways      []string // other ways in that are open, such as "SMTP at 192.0.2.1:25"
	Addresses []string // that reports are sent to
	Domains   []string // that are accepted; none for all
	TLSReport string   // address that TLS reports are taken at over HTTPS; "" if none is known
	Targets   []NotifyTarget
	Rules     []NotifySwitch
	Lines     []SettingLine // what is not left as it comes
	Own       []string      // networks that the configuration names as one's own
}

// A ConfiguredMailbox is a mailbox that the configuration names.
type ConfiguredMailbox struct {
	Name  string
	Where string // user, host and folder
}

// A NotifyTarget is somebody who is told of what happens.
type NotifyTarget struct {
	Name    string
	Where   string // without what is secret in it
	Rules   []NotifyRule
	Domains []string
	Digest  bool // gets digests, and nothing else
}

// A NotifySwitch is a rule and whether people are told by it.
type NotifySwitch struct {
	Rule    NotifyRule
	Text    string // what it tells
	On      bool
	Fixed   string // what of the configuration says so; "" if it may be switched here
	Domains []string
	By      string // who switched it here; "" if nobody did
	At      time.Time
}

// A RuleSwitch is what somebody said about a rule on a page.
type RuleSwitch struct {
	Rule NotifyRule
	On   bool
	By   string
	At   time.Time
}

// A SettingLine is a setting that the configuration makes.
type SettingLine struct {
	Key, Value string // the value as it stands in the file; secrets are hidden
	Text       string // what it is for
	Origin     string // where it comes from
}

// A TrialLine is a step of a trial, and how it went.
type TrialLine struct {
	State string // ok, note, wrong or unknown
	Text  string
	Fix   string
}

// A MailboxTrial is what came of trying a mailbox.
type MailboxTrial struct {
	Lines []TrialLine
	OK    bool
	// Variables and Table are what makes dmarcd read the mailbox, by the
	// environment or by the file, without the password.
	Variables, Table string
}

// A RetryResult is what came of reading messages again.
type RetryResult struct {
	Messages int // that were read again
	Changed  int // whose fate is another one now
	Missing  int // whose bytes are neither kept nor in a mailbox that can be read
	More     bool
}
