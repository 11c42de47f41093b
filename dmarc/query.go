package dmarc

import (
	"errors"
	"net/netip"
	"time"
)

// ErrNotFound is returned for what is not there.
var ErrNotFound = errors.New("not found")

// ErrBadCursor is returned for a cursor that the store did not make.
var ErrBadCursor = errors.New("the cursor is not one of this list")

// A Refusal says why something that was asked for cannot be done as things are.
type Refusal string

// Error returns what is wrong with the question, for whoever asked it.
func (r Refusal) Error() string { return string(r) }

// A Cursor is where a page of a list ends and the next begins; opaque, empty
// for the first page.
type Cursor string

// A Page asks for a part of a list.
type Page struct {
	After Cursor
	Limit int // at least 1
	Sort  Sort
}

// A DomainQuery asks for domains, busiest first, in a period of whole days.
type DomainQuery struct {
	Scope  Scope // only domains in it
	Period Period
	Search string // part of the name; "" for all
	Label  string // that the domains have; "" for all
	Group  string // only domains of the group; "" for all. A guard narrows the scope to it
	// Ignored asks for those as well that are left out of lists.
	Ignored bool
	Domain  string // "" for all
	// Subdomains asks for those of Domain, too.
	Subdomains bool
	Verdict    string // as DomainVerdict has it; "" for all
	// Mail asks for domains with such mail: what a reporter tells is counted alone;
	// its sources and classes are those that the last verdicts found.
	Mail Filter
	// Urgent asks for those first that deserve attention first, by the verdicts
	// that are kept; those that were never judged come last.
	Urgent bool
	Trend  Period // days wanted for DomainTraffic.Days; none if zero
	Page
}

// DomainsTotal is what the reports of a period, and the verdicts that are kept,
// tell about all domains of a query together.
type DomainsTotal struct {
	Domains   int
	Before    int // of these, how many stand before the page that the query asks for
	Messages  int64
	DMARCPass int64 // of those
	Stopped   int64 // of what failed, what was quarantined or rejected
	None      int   // domains with p=none in force, by their verdict
	Judged    int   // domains with a verdict; what follows is theirs
	Own       int64 // messages of the owners
	Passing   int64 // of those
	LossADay  float64
}

// An AttentionQuery asks for the verdicts about domains, the most urgent first.
type AttentionQuery struct {
	Scope      Scope  // only domains in it
	Group      string // only domains of the group; "" for all. A guard narrows the scope to it
	Domain     string // "" for all
	Subdomains bool   // of Domain, too
	Verdict    string // "" for all
	// Only asks for those that deserve attention for one reason.
	Only   bool
	Reason Attention
	Page
}

// DomainTraffic is what reports tell about one policy domain.
type DomainTraffic struct {
	Domain    string
	Tally     Tally // all that counts in the period, dated or not
	Reports   int64
	Published *PolicyPublished // as last reported; nil if never
	LastDay   time.Time        // the last day with messages, whenever; zero if none
	Verdict   *DomainVerdict   // as kept last, whatever the period; nil if there is none yet
	Groups    []string         // that it is in, by name
	Labels    []string
	Ignored   bool
	Days      []DayTraffic // of the trend asked for; days without reports are absent
}

// A TrafficQuery asks about one domain in a period of whole days.
type TrafficQuery struct {
	Domain string
	Period Period
	// Exact asks for every source rather than the busiest of each day. It
	// takes longer: the rows are read. Only it knows what a reporter saw of a source.
	Exact bool
	Filter
	Page
}

// DomainSummary is what the reports of a period tell about one domain.
type DomainSummary struct {
	Domain    string
	Tally     Tally // dated or not
	Undated   Tally // of those, what is in no series: odd dates, very long periods
	Reports   int64
	Published *PolicyPublished
	Verdict   *DomainVerdict // as kept last; nil if there is none yet
	Days      []DayTraffic   // ascending; days without reports are absent
}

// DayTraffic is the traffic of a day, a week or a month, named by its first day.
type DayTraffic struct {
	Day       time.Time
	Tally     Tally
	Estimated bool // some of it is a share of a longer period
}

// SourceKind tells what a line of a list of sources stands for.
type SourceKind uint8

// An address, messages whose source could not be read, and the sum of all
// addresses below the busiest of each day.
const (
	SourceAddress SourceKind = iota
	SourceUnknown
	SourceOthers
)

// SourceTraffic is what one sending address did.
type SourceTraffic struct {
	Kind     SourceKind
	Source   netip.Addr
	Tally    Tally
	FirstDay time.Time
	LastDay  time.Time
}

// SourceList is the sources of a domain, busiest first.
type SourceList struct {
	Items  []SourceTraffic // addresses only
	Others Tally           // of the days' addresses beyond the busiest
	// Unknown counts messages whose source could not be read.
	Unknown Tally
	Total   int64 // how many addresses are listed by name, over all pages
	// Pending is true while days are waiting to be summarised again: very
	// recent reports may be missing.
	Pending bool
}

// SelectorTraffic is the mail that carried signatures with one DKIM key,
// whether they were valid or not, by the reporters' verdict about it.
type SelectorTraffic struct {
	Domain     string // d=
	Selector   string // s=; "" where reports do not tell
	Passed     int64  // messages whose signature with the key was valid
	Tally      Tally
	LastDay    time.Time
	LastPassed time.Time // zero if it never was valid
}

// SelectorList is the keys that sign for a domain, busiest first.
type SelectorList struct {
	Items   []SelectorTraffic
	Others  int64 // messages with signatures of keys beyond the busiest of each day
	Pending bool  // days are waiting to be summarised again
}

// ReporterTraffic is what one reporter saw.
type ReporterTraffic struct {
	Reporter Reporter
	Tally    Tally
	Reports  int64
	LastDay  time.Time
}

// A ReportQuery asks for aggregate reports whose period begins in Period,
// newest first.
type ReportQuery struct {
	Scope  Scope  // only reports about domains in it
	Domain string // "" for all
	// Filter asks for reports with such mail. Those with a source or a class are looked for
	// in the rows, some at a time, so that a page may have fewer reports than it could.
	Filter
	// Inactive asks for those alone that do not count, since another content
	// of the same identity does.
	Inactive bool
	Flags    Flags // only those with one of them; 0 for all
	Period   Period
	Page
}

// A ReportSummary is a stored aggregate report without its rows.
type ReportSummary struct {
	ID         string // of the stored report: opaque
	Report     AggregateReport
	ReceivedAt time.Time
	Active     bool  // false: another report of the same identity counts instead
	Chosen     bool  // active since an operator chose it
	Seen       int64 // how often it came
	MessageID  int64 // in the ledger
	Part       string
	Transport  TransportAuth // of the mails that it came in: pass if one of them does
}

// A FailureQuery asks for failure reports, newest first.
type FailureQuery struct {
	Scope  Scope // only reports about domains in it
	Domain string
	Filter        // by subdomains, source and reporter (a domain)
	Period Period // of arrival
	Page
}

// StoredFailure is a failure report that was kept.
type StoredFailure struct {
	ID         string
	Report     FailureReport
	ReceivedAt time.Time
	Seen       int64
	MessageID  int64 // in the ledger
}

// A TLSQuery asks for SMTP TLS reports whose period begins in Period, newest
// first.
type TLSQuery struct {
	Scope      Scope // only reports about domains in it
	Domain     string
	Subdomains bool   // of Domain, too
	Reporter   string // org_name; "" for all
	Failing    bool   // only those with failed sessions
	Period     Period
	Page
}

// StoredTLS is an SMTP TLS report that was kept.
type StoredTLS struct {
	ID         string
	Report     TLSReport
	Active     bool   // it counts; of several contents under one identity one does
	Counting   string // the id of the one that does, if it is another one
	ReceivedAt time.Time
	Seen       int64
	MessageID  int64  // in the ledger
	Part       string // of that message
	Partial    bool   // policies were left out, since whoever asks may not know of their domains
}

// A MessageQuery asks for the ledger, newest first.
type MessageQuery struct {
	// Scope holds the list to messages that hold reports alone, all of them
	// about domains in it, unless it is Everything.
	Scope   Scope
	Mailbox string
	Outcome Outcome
	// Domain asks for messages with a report about it, "" for all; with Subdomains
	// or about one of its subdomains.
	Domain     string
	Subdomains bool
	Period     Period // of receipt; zero: whenever
	ID         int64  // only this message; 0 for all
	Refused    bool   // only those that may hold a report and were not read
	// Text is looked for in subject, sender, name of the file and Message-ID,
	// regardless of case; "" for all. A page may then end before its limit, or
	// be empty: the cursor tells whether there is more to look through. It is for lists
	// that begin with the newest.
	Text string
	// HideSubjects lets Text not be looked for in the subjects of messages that
	// hold failure reports.
	HideSubjects bool
	Page
}

// A LedgerEntry is a message that was taken in, and its fate.
type LedgerEntry struct {
	ID         int64
	Mailbox    string
	Place      Place
	Digest     Digest
	Size       int64
	MessageID  string
	From       string
	Subject    string
	Source     string
	Date       time.Time
	ReceivedAt time.Time
	Outcome    Outcome
	Reason     string
	Reports    []LedgerPart
	Transport  TransportVerdict // about the mail; unknown while it is Unverified
	Unverified bool             // it is to be checked
}

// A LedgerPart is what was found in one part of a message.
type LedgerPart struct {
	Path    string
	Kind    string // aggregate, failure, tls or none
	Report  string // ID of the stored report, or ""
	Outcome Outcome
	Reason  string
}

// A ChangeQuery asks how the records of a domain changed, latest first.
type ChangeQuery struct {
	Period Period // when that was seen; zero: whenever
	Page
}
