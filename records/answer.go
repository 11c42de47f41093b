package records

import (
	"context"
	"fmt"
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

	// What only a Direct resolver sees.
	AA       bool     // the server answers with authority
	RA       bool     // the server offers recursion
	Referral []dns.RR // NS records of a delegation, and addresses that came with them
}

// Absent reports whether the answer proves that there are no such records.
func (a *Answer) Absent() bool { return a.State == NXDomain || a.State == NoData }

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

// why says why a lookup failed: the RCODE or what went wrong, and the extended
// error.
func (a *Answer) why() string {
	text := a.Err
	switch {
	case a.Loop:
		text = "the chain of aliases does not end"
	case text == "":
		text = rcodeName(a.Rcode)
	}
	if a.EDE != "" {
		text += ", " + a.EDE
	}
	return text
}

func rcodeName(rcode int) string {
	if name := dns.RcodeToString[rcode]; name != "" {
		return name
	}
	return fmt.Sprintf("RCODE %d", rcode)
}

// maxFact bounds the text of a Fact.
const maxFact = 4096

// fact is what an answer says, for a Finding.
func (a *Answer) fact() Fact {
	f := Fact{Name: a.Name, Type: typeName(a.Type)}
	var parts []string
	if a.Chain != nil {
		parts = append(parts, "alias: "+strings.Join(a.Chain, " -> "))
	}
	switch a.State {
	case Found:
		size := 0
		for _, rr := range a.RRs {
			text := rr.String()
			if size += len(text); size > maxFact {
				parts = append(parts, fmt.Sprintf("and more, %d in all", len(a.RRs)))
				break
			}
			// Owner, TTL, class and type are known.
			if fields := strings.SplitN(text, "\t", 5); len(fields) == 5 {
				text = fields[4]
			}
			parts = append(parts, text)
		}
	case NXDomain:
		parts = append(parts, "NXDOMAIN")
	case NoData:
		parts = append(parts, "no records")
	default:
		parts = append(parts, "failed: "+a.why())
	}
	f.Answer = strings.Join(parts, "\n")
	return f
}

func typeName(qtype uint16) string {
	if name := dns.TypeToString[qtype]; name != "" {
		return name
	}
	return fmt.Sprintf("TYPE%d", qtype)
}

// bareName is a name as Answer has it: in lower case, without the final dot.
func bareName(name string) string {
	if dns.IsFqdn(name) {
		name = name[:len(name)-1]
	}
	return strings.ToLower(name)
}

// characterStrings returns the strings of a TXT record as they are on the
// wire.
func characterStrings(rr *dns.TXT) []string {
	strs := make([]string, len(rr.Txt))
	for i, s := range rr.Txt {
		strs[i] = unescape(s)
	}
	return strs
}

// texts returns the TXT records of an answer, the strings of each joined
// without a separator.
func (a *Answer) texts() []string {
	var all []string
	for _, rr := range a.RRs {
		if rr, ok := rr.(*dns.TXT); ok {
			all = append(all, strings.Join(characterStrings(rr), ""))
		}
	}
	return all
}

// unescape undoes the escapes of a zone file: \DDD and \X.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			if i+3 < len(s) && digit(s[i+1]) && digit(s[i+2]) && digit(s[i+3]) {
				c = (s[i+1]-'0')*100 + (s[i+2]-'0')*10 + (s[i+3] - '0')
				i += 3
			} else {
				i++
				c = s[i]
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// zoneText writes a text as the data of a TXT record in a zone file: quoted,
// in strings of at most 255 octets.
func zoneText(text string) string {
	var b strings.Builder
	for i := 0; i == 0 || i < len(text); i += 255 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte('"')
		for _, c := range []byte(text[i:min(i+255, len(text))]) {
			switch {
			case c == '"' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < ' ' || c > '~':
				fmt.Fprintf(&b, `\%03d`, c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('"')
	}
	return b.String()
}
