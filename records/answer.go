package records

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A State tells what came of a question.
type State uint8

// Only NXDomain and NoData prove that something is absent.
const (
	Failed   State = iota // SERVFAIL, REFUSED, no answer, or not asked because the work for a domain is bounded
	NXDomain              // the name does not exist (RFC 8020)
	NoData                // the name exists, without records of this type
	Found
)

// An Answer is what a resolver answered to one question, CNAMEs followed.
type Answer struct {
	Name  string // asked: lower-case A-label, absolute, without the final dot
	Type  uint16 // dns.TypeTXT
	State State
	RRs   []dns.RR      // of the type asked, of the last name of Chain
	Chain []string      // of CNAMEs, from Name to the name that holds RRs; nil without any
	TTL   time.Duration // the least of RRs and chain; of the SOA where State is NXDomain or NoData
	AD    bool          // validated by the resolver (RFC 4035, section 3.2.3)
	Size  int           // octets of the message, without what only DNSSEC adds
	Zone  string        // that State NXDomain or NoData was told for; "" if it was not said

	Rcode     int    // dns.RcodeServerFailure
	EDE       string // extended error (RFC 8914), or ""
	Err       string // why there was no answer, for State Failed; "" if Rcode tells
	Bogus     bool   // there is an answer, but DNSSEC validation of it fails
	Truncated bool   // cut over UDP
	TCPFailed bool   // and not to be had over TCP
	Loop      bool   // the chain of CNAMEs does not end, or is longer than 8
	At        time.Time
	Server    string    // that answered: host:port
	SigEnds   time.Time // when the last signature of RRs ends; zero if they are not signed
	SigBegins time.Time // when that signature begins

	// What only a Direct resolver sees.
	AA       bool     // the server answers with authority
	RA       bool     // the server offers recursion
	Referral []dns.RR // NS records of a delegation, and addresses that came with them
}

// Absent reports whether the answer proves that there are no such records.
func (a *Answer) Absent() bool { return a.State == NXDomain || a.State == NoData }

// nonexistent reports whether the answer proves that the name that was asked
// does not exist. An alias exists, even if what it points to does not.
func (a *Answer) nonexistent() bool { return a.State == NXDomain && a.Chain == nil }

// A Resolver answers questions. It follows CNAMEs, retries over TCP, and never
// fails otherwise than by an Answer that says so. It may be used by several
// goroutines.
type Resolver interface {
	Lookup(ctx context.Context, name string, qtype uint16) Answer
}

// A Direct resolver asks one server for what it serves itself, without
// recursion (RD=0): for the checks of name servers. CNAMEs are not followed
// beyond the answer; a referral is an Answer that failed.
type Direct interface {
	Ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16) Answer
}

// bareName is a name as Answer has it: in lower case, without the final dot.
func bareName(name string) string {
	if dns.IsFqdn(name) {
		name = name[:len(name)-1]
	}
	return strings.ToLower(name)
}
