package dmarc

import "time"

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

// LeaseHolder is the process that works under a lease.
type LeaseHolder struct {
	Name    string // of the lease: "mailbox " or "pass " and what is worked on
	Holder  string // host and process
	Expires time.Time
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
