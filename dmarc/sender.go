package dmarc

import (
	"net/netip"
	"time"
)

// A Class says whose a source is, as seen from one domain.
type Class uint8

// The classes. Unknown is what only people can tell.
const (
	ClassUnknown    Class = iota
	ClassOwn              // servers of the domain's owner
	ClassService          // somebody who sends for the owner
	ClassForwarder        // passes on what others sent
	ClassSuspicious       // nothing speaks for it
	NumClasses      = 5
)

// String returns the word for a class, as in the API.
func (c Class) String() string { return name(classWords[:], int(c)) }

var classWords = [...]string{"unknown", "own", "service", "forwarder", "suspicious"}

// ParseClass returns the class that a word stands for, and false for none.
func ParseClass(word string) (Class, bool) {
	i := index(classWords[:], word)
	return Class(i), i > 0 || word == classWords[0]
}

// SenderKind tells what a known sender does.
type SenderKind string

// The kinds of the catalogue.
const (
	SenderService   SenderKind = "service"   // sends for its customers
	SenderMailbox   SenderKind = "mailbox"   // hosts mailboxes: sends, receives and forwards
	SenderGateway   SenderKind = "gateway"   // filters mail on its way in or out
	SenderForwarder SenderKind = "forwarder" // passes mail on to another address
	SenderList      SenderKind = "list"      // runs mailing lists and groups
	SenderHosting   SenderKind = "hosting"   // rents out servers: whose mail it is, is open
	SenderISP       SenderKind = "isp"       // connects people
	SenderOther     SenderKind = "other"     // of an operator's file, known by name only
)

// A Sender is an entry of the catalogue of known senders.
type Sender struct {
	ID   string
	Name string
	Kind SenderKind

	DKIM       Support // can it sign with a key of the customer's domain?
	ReturnPath Support // can its MAIL FROM be a name of the customer's domain?
	Fix        string  // how it is made to align, in words
	Publish    []Template
}

// Support tells whether a sender can do something.
type Support string

// Unknown is the empty word.
const (
	SupportUnknown Support = ""
	SupportYes     Support = "yes"
	SupportNo      Support = "no"
)

// A Template is a record to publish; {domain} stands for the customer's
// domain, other words in braces for what the sender tells its customer.
type Template struct {
	Type, Name, Value string
}

// LookupState is what came of a question to DNS.
type LookupState uint8

// NotAsked is the zero value; only Absent proves that something is not there.
const (
	LookupNotAsked LookupState = iota
	LookupFound
	LookupAbsent
	LookupFailed
)

// String returns the word for a state.
func (s LookupState) String() string { return name(lookupWords[:], int(s)) }

var lookupWords = [...]string{"not_asked", "found", "absent", "failed"}

// A SourceIdentity is what DNS and databases tell about an address.
type SourceIdentity struct {
	PTR       LookupState
	Names     []string // PTR names that lead back to the address
	Unproven  []string // PTR names that do not, or could not be asked: anyone can write them
	CheckedAt time.Time
	DueAt     time.Time // when to look again
	Failures  int       // lookups that failed in a row

	ASN     uint32
	Org     string // that the network belongs to
	Country string // ISO 3166-1 alpha-2

	Sender *Sender // of the catalogue, by a proven name or the ASN; nil if none
	By     string  // what it was recognised by: "ptr" or "asn"
}

// An IdentifiedSource is an address and what is known about it.
type IdentifiedSource struct {
	Source   netip.Addr
	Identity SourceIdentity
}
