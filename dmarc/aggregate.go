// Package dmarc holds the words of the standards as Go types: reports, rows,
// policies, results, and what is counted from them. It does no I/O, knows no
// format and no database; every other package of dmarcd speaks to the others
// in these types.
//
// Terms are those of RFC 9989 (DMARC), RFC 9990 (aggregate reports), RFC 9991
// (failure reports) and RFC 8460 (SMTP TLS reports).
package dmarc

import (
	"iter"
	"net/netip"
	"strings"
)

// An AggregateReport is one report of RFC 9990 (or of RFC 7489, Appendix C):
// what one reporter saw of one policy domain in one period.
type AggregateReport struct {
	Reporter  Reporter
	ID        string // report_id: trimmed, one pair of <> removed, case kept
	Period    Period // date_range exactly as sent; the end may be inclusive, see Period.EffectiveEnd
	Policy    PolicyPublished
	Version   string
	Namespace string // of the root element, as written; "" for none
	Generator string // reporting software (RFC 9990)
	Errors    []string
	Flags     Flags // every deviation met while reading

	Tally   Tally // over all rows that count
	Dropped Dropped
	Hash    Digest // of the normalised content; equal for copies of a report, however packed
	// RowsHash is that of the rows alone: equal for reports that say the same
	// under other names.
	RowsHash Digest

	// Rows yields the rows in the order of the file. It may be ranged over
	// any number of times. A row is valid until the next is asked for. The
	// first error ends the sequence.
	Rows iter.Seq2[*Row, error]
}

// Dropped counts what could not be read of a report that is kept.
type Dropped struct {
	Rows     int64
	Messages int64
}

// A Reporter is who sent a report.
type Reporter struct {
	OrgName      string // free text, not a domain
	Email        string
	ExtraContact string
}

// Key identifies the reporter among all reporters: its name, trimmed and
// case-folded, and the domain of its address. Reporters share names and
// Report-IDs, so neither alone will do.
func (r Reporter) Key() string {
	return strings.ToLower(strings.TrimSpace(r.OrgName)) + "|" + AddressDomain(r.Email)
}

// AddressDomain returns the lower-case domain of a mail address, or "".
func AddressDomain(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return strings.ToLower(strings.Trim(address[i+1:], " \t\r\n<>."))
}

// PolicyPublished is the policy record that the reporter found, as it says.
// Zero values mean that the report does not say.
type PolicyPublished struct {
	Domain          string // DMARC Policy Domain: lower-case A-label
	DiscoveryMethod string // "psl", "treewalk" or ""
	ADKIM           AlignmentMode
	ASPF            AlignmentMode
	P, SP, NP       Policy
	Pct             *int   // removed by RFC 9989; nil when absent
	FO              string // as written
	Testing         *bool  // tag t; nil when absent
}

// A Row is one <record> of a report: a number of messages that share source,
// identifiers and results.
type Row struct {
	Source     netip.Addr // IPv4 is never mapped into IPv6; the zero Addr when unknown
	SourceText string     // what stood there, if it is no address
	Count      int64      // messages

	Disposition     Disposition // what the reporter did
	DispositionWord string      // as written, if it is none of the standard words
	DKIM            Result      // aligned result: pass, fail or unknown
	SPF             Result      // aligned result: pass, fail or unknown
	Reasons         []Reason    // why the disposition differs from the policy

	HeaderFrom   string // RFC5322.From domain: lower-case A-label, or ""
	EnvelopeFrom string // RFC5321.MailFrom domain, or "" when not said
	NullSender   bool   // envelope_from is present and empty
	EnvelopeTo   string // recipient domain; may identify a person

	AuthDKIM []DKIMResult // raw results, no alignment
	AuthSPF  []SPFResult

	Ours  Alignment // recomputed from the raw results
	Flags RowFlags
}

// Passes reports whether the messages passed DMARC by the reporter's verdict:
// DKIM or SPF is aligned (RFC 9989, section 4).
func (r *Row) Passes() bool { return r.DKIM == ResultPass || r.SPF == ResultPass }

// A Reason says why a disposition differs from the published policy.
type Reason struct {
	Type    string // lower-case word as sent; see the standards for the usual ones
	Comment string
}

// A DKIMResult is the raw result of one signature.
type DKIMResult struct {
	Domain   string // d=: lower-case A-label, or ""
	Selector string // s=
	Result   Result
	Word     string // as written, if Result does not say the same
	Human    string // text for people, never a verdict
}

// An SPFResult is the raw result of one SPF check.
type SPFResult struct {
	Domain string
	Scope  string // "mfrom", "helo" or "" when not said (read as mfrom)
	Result Result
	Word   string
	Human  string
}

// Clone returns a copy of the row that shares no slices with it.
func (r *Row) Clone() Row {
	c := *r
	c.Reasons = append([]Reason(nil), r.Reasons...)
	c.AuthDKIM = append([]DKIMResult(nil), r.AuthDKIM...)
	c.AuthSPF = append([]SPFResult(nil), r.AuthSPF...)
	return c
}
