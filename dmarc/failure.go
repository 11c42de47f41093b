package dmarc

import (
	"net/netip"
	"time"
)

// A FailureReport is a report about single messages that failed (RFC 9991, in
// the ARF of RFC 5965 and 6591, or as text). It is a sample: never add it to
// aggregate counts.
type FailureReport struct {
	ReporterDomain string   // domain of the From address of the report
	FeedbackType   string   // lower-case; "auth-failure" for DMARC
	AuthFailure    []string // lower-case: dmarc, dkim, spf, signature, bodyhash, …; never empty for auth-failure
	UserAgent      string
	Version        string
	Delivery       string // delivered, spam, policy, reject or other
	DeliveryWord   string // as written
	IdentityAlign  string // Identity-Alignment as written: its meaning differs between RFC 7489 and RFC 9991

	Arrival       time.Time // when the message arrived at the reporter, UTC
	ArrivalSource string    // "field", "mail" or "receipt": where Arrival comes from

	SourceIP       netip.Addr
	SourcePort     int
	ReportedDomain string   // lower-case A-label
	ReportedURIs   []string // hostile: never fetch or link
	EnvelopeID     string
	MailFrom       string // personal data
	NullSender     bool
	RcptTo         []string // personal data
	ReportingMTA   string
	Incidents      int64 // messages this report stands for, at least 1

	AuthResults  []string // Authentication-Results as written
	DKIMDomain   string
	DKIMIdentity string
	DKIMSelector string
	SPFRecords   []string

	Headers []HeaderField // of the sample: an allow-list of fields
	Body    []SamplePart  // of the sample: what it consisted of, without content
	Other   []HeaderField // fields of the report that no standard knows

	Hash  Digest // identity: there is no report identifier
	Flags Flags
}

// A HeaderField is one field of a message header, unfolded and decoded.
type HeaderField struct {
	Name, Value string
}

// A SamplePart is what is kept of a body: its kind, size and digest.
type SamplePart struct {
	MediaType string
	Size      int64
	Hash      Digest
}

// A TLSReport is a report of RFC 8460: how sessions with TLS to a domain's
// mail servers fared. Its counts are sessions, not messages; with DANE and
// MTA-STS together a session may be counted under both, so policies must not
// be summed up as if they were apart.
type TLSReport struct {
	OrgName string
	Contact string
	ID      string
	Period  Period
	// Domain is the domain that the report is about: the one of its first
	// policy that has one, else TLS-Report-Domain, the subject or file name.
	Domain   string
	Policies []TLSPolicy
	Hash     Digest
	Flags    Flags
}

// Reporter returns who sent the report.
func (r *TLSReport) Reporter() Reporter { return Reporter{OrgName: r.OrgName, Email: r.Contact} }

// Sessions returns the sums over all policies.
func (r *TLSReport) Sessions() (successful, failed int64) {
	for i := range r.Policies {
		successful += r.Policies[i].Successful
		failed += r.Policies[i].Failed
	}
	return successful, failed
}

// A TLSPolicy is one policy that a sender applied, and how it went.
type TLSPolicy struct {
	Type       string   // tlsa, sts, no-policy-found, or as written
	Strings    []string // the policy as the sender found it
	Domain     string   // lower-case A-label; for tlsa possibly the MX host
	MXHosts    []string
	Successful int64 // sessions
	Failed     int64
	Details    []TLSFailure
}

// A TLSFailure is a kind of failure and how often it happened.
type TLSFailure struct {
	ResultType        string
	SendingMTAIP      string
	ReceivingIP       string
	ReceivingMXHost   string
	ReceivingMXHELO   string
	FailedSessions    int64
	AdditionalInfo    string
	FailureReasonCode string
}
