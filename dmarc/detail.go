package dmarc

import (
	"net/netip"
	"strings"
	"time"
)

// A RowQuery asks for rows of one stored report.
type RowQuery struct {
	Report string // ID of the stored report
	Order  RowOrder
	Source netip.Prefix // only rows of addresses in it; the zero Prefix for all
	Choice RowChoice
	Page
}

// A RowOrder says how rows of a report are sorted.
type RowOrder string

// The orders. Rows that are equal in them stand as they were stored.
const (
	RowsBusiest  RowOrder = ""        // most messages first
	RowsFailing  RowOrder = "failing" // those that failed before those that passed, the busiest first
	RowsBySource RowOrder = "source"  // by address; those without one last
	RowsStored   RowOrder = "stored"  // as they stand in the report
)

// A RowChoice says which rows of a report are wanted.
type RowChoice string

// The choices.
const (
	RowsAll     RowChoice = ""
	RowsPassed  RowChoice = "passed"  // DKIM or SPF is aligned, by the reporter
	RowsFailed  RowChoice = "failed"  // neither is
	RowsStopped RowChoice = "stopped" // quarantined or rejected
	RowsOdd     RowChoice = "odd"     // with flags, or a verdict that the raw results do not bear out
)

// RowList is a page of the rows of a report.
type RowList struct {
	Items []Row
	// Rows and Messages count all that were asked for, over all pages.
	Rows, Messages int64
}

// Masked returns a copy of the report without what tells about people: local
// parts of addresses, names beside them, subjects, and names of files. Domains, hosts and
// results stay.
func (r *FailureReport) Masked() *FailureReport {
	m := *r
	m.MailFrom, m.DKIMIdentity, m.EnvelopeID = maskAddress(r.MailFrom), maskAddress(r.DKIMIdentity), hidden(r.EnvelopeID)
	m.RcptTo, m.AuthResults, m.ReportedURIs = each(r.RcptTo, maskAddress), each(r.AuthResults, maskAddresses), each(r.ReportedURIs, hidden)
	m.Headers, m.Other = maskFields(r.Headers), maskFields(r.Other)
	return &m
}

// masked stands for what is masked as a whole.
const masked = "…"

func hidden(s string) string {
	if s == "" {
		return ""
	}
	return masked
}

func each(all []string, f func(string) string) []string {
	var out []string
	for _, s := range all {
		out = append(out, f(s))
	}
	return out
}

// maskAddress hides all of an address but its domain.
func maskAddress(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return masked + s[i:]
	}
	return hidden(s)
}

// plainFields are those of a sample whose values tell nothing about people but
// through addresses in them.
var plainFields = map[string]bool{
	"date": true, "mime-version": true, "content-type": true, "content-transfer-encoding": true, "dkim-signature": true,
	"authentication-results": true, "arc-authentication-results": true, "arc-seal": true, "arc-message-signature": true,
	"received-spf": true, "received": true, "list-id": true,
}

// addressFields are those of which only addresses are shown, and these masked.
var addressFields = map[string]bool{
	"from": true, "to": true, "cc": true, "bcc": true, "sender": true, "reply-to": true, "return-path": true, "message-id": true,
	"resent-from": true, "resent-to": true, "resent-sender": true, "in-reply-to": true, "references": true, "delivered-to": true,
}

func maskFields(all []HeaderField) []HeaderField {
	var out []HeaderField
	for _, f := range all {
		name := strings.ToLower(f.Name)
		switch {
		case addressFields[name]:
			f.Value = strings.Join(addressesIn(f.Value), ", ")
		case plainFields[name]:
			f.Value = maskAddresses(f.Value)
		default:
			f.Value = hidden(f.Value)
		}
		out = append(out, f)
	}
	return out
}

// addressesIn returns the addresses in a text, masked.
func addressesIn(s string) (all []string) {
	for _, word := range strings.FieldsFunc(s, delimits) {
		if i := strings.LastIndexByte(word, '@'); i >= 0 {
			all = append(all, masked+word[i:])
		}
	}
	if all == nil && s != "" {
		all = []string{masked}
	}
	return all
}

// delimits tells whether a character ends an address in a text.
func delimits(c rune) bool { return strings.ContainsRune(" \t\r\n<>(),;:=\"[]", c) }

// maskAddresses hides the local part of every mail address in a text.
func maskAddresses(s string) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '@')
		if at < 0 {
			b.WriteString(s)
			return b.String()
		}
		// A quoted local part may hold anything, delimiters too.
		begin := strings.LastIndexFunc(s[:at], delimits) + 1
		if at > 0 && s[at-1] == '"' {
			begin = max(0, strings.LastIndexByte(s[:at-1], '"'))
		}
		b.WriteString(s[:begin])
		b.WriteString(masked + "@")
		s = s[at+1:]
	}
}

// TLSTraffic is how sessions with TLS to the mail servers of a domain fared in
// a period, by the reports that count. A session may be counted under several policies, so
// sums over policies may be more than there were.
type TLSTraffic struct {
	Reports    int64
	Successful int64 // sessions
	Failed     int64
	Days       []TLSDay // ascending; days without reports are absent
	Policies   []TLSPolicyTraffic
	// Failures are by kind and server, most sessions first, Others the failed
	// sessions beyond them.
	Failures []TLSFailureTraffic
	Others   int64
	// Unexplained counts failed sessions of which no report tells why.
	Unexplained int64
}

// TLSDay is the sessions of the reports whose period begins on a day.
type TLSDay struct {
	Day        time.Time // midnight, UTC
	Successful int64
	Failed     int64
	ByResult   map[string]int64 // failed sessions by result type of RFC 8460, section 4.3; "" for other words
}

// TLSPolicyTraffic is the sessions under one kind of policy of one domain.
type TLSPolicyTraffic struct {
	Type       string // tlsa, sts, no-policy-found, or as written
	Domain     string
	Strings    []string // as last reported
	Successful int64
	Failed     int64
	Reports    int64
	LastDay    time.Time
}

// TLSFailureTraffic is the failed sessions of one kind with one mail server.
type TLSFailureTraffic struct {
	ResultType string
	MX         string // receiving host; "" if reports do not say
	Sessions   int64
	Reporters  int64
	FirstDay   time.Time
	LastDay    time.Time
	Reason     string // the code or the words of a reporter; "" if none gave any
}

// TLSDomain is what TLS reports tell about one domain.
type TLSDomain struct {
	Domain     string
	Reports    int64
	Successful int64 // sessions
	Failed     int64
	LastDay    time.Time
}

// TLSResults are the result types of RFC 8460, section 4.3.
var TLSResults = []string{
	"starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted", "validation-failure",
	"tlsa-invalid", "dnssec-invalid", "dane-required",
	"sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid",
}
