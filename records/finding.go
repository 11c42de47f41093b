// Package records speaks DNS: it looks up what a domain publishes for mail,
// judges it, and says in words what is wrong, why it matters and what to
// publish. Lookups and judgement are apart: Lookup does all the I/O, Check is
// pure.
package records

import (
	"strings"
)

// A Severity is the outcome of a check, mildest first.
type Severity uint8

// The five outcomes. Unknown means that a lookup failed for now; nothing is
// called missing unless NXDOMAIN or an empty answer proves it.
const (
	OK Severity = iota
	Info
	Warning
	Error
	Unknown
)

// String returns the word for a severity, as findings in JSON have it.
func (s Severity) String() string {
	return [...]string{"ok", "info", "warning", "error", "unknown"}[s]
}

// A Finding is what a check found: an id, what it is about, and values. The
// text is made from them by the catalogue, so that ids stay stable.
type Finding struct {
	ID       string   // of the catalogue: "spf.lookup_limit"
	Severity Severity // may differ from the usual one of the check
	Subject  string   // the name, host or address that it is about, as an A-label
	Values   []Value  // in the order of their use
	Facts    []Fact   // what was seen on the wire
}

// A Value is one of the values of a finding, named as in the texts of the
// catalogue.
type Value struct{ Name, Text string }

// A Fact is an answer that a finding rests on.
type Fact struct {
	Name   string // owner name asked, absolute without the final dot
	Type   string // "TXT"
	Answer string // the records, or the RCODE, or why there was no answer
}

// Value returns a value by name, or "".
func (f *Finding) Value(name string) string {
	for _, v := range f.Values {
		if v.Name == name {
			return v.Text
		}
	}
	return ""
}

// A Rule is an entry of the catalogue. The texts may name values of a finding
// in braces, and {subject}.
type Rule struct {
	ID        string
	Record    string   // type or kind of record: "TXT"
	Severity  Severity // the usual one
	Condition string   // when it is found, in a few words
	Reference string   // RFC and section
	What      string   // what was found
	Why       string   // why it matters
	Fix       string   // what to do, in a sentence; "" where nothing is to be done
	Publish   string   // the record to paste, in the form of a zone file; "" for none
}

// catalogue is all checks; each file adds its own.
var catalogue = map[string]Rule{}

// register adds checks to the catalogue. It returns true so that it can
// stand in a declaration.
func register(checks ...Rule) bool {
	for _, c := range checks {
		if _, twice := catalogue[c.ID]; twice {
			panic("check " + c.ID + " is registered twice")
		}
		catalogue[c.ID] = c
	}
	return true
}

// Reference returns the RFC and section that a finding rests on.
func (f *Finding) Reference() string { return catalogue[f.ID].Reference }

// What says what was found.
func (f *Finding) What() string { return f.fill(catalogue[f.ID].What) }

// Why says why it matters.
func (f *Finding) Why() string { return f.fill(catalogue[f.ID].Why) }

// Fix says what to do; "" where nothing is to be done.
func (f *Finding) Fix() string { return f.fill(catalogue[f.ID].Fix) }

// Publish returns the record to paste; "" for none. A value "publish" stands
// for the whole, where the record is made from what was found.
func (f *Finding) Publish() string {
	if text := f.Value("publish"); text != "" {
		return text
	}
	return f.fill(catalogue[f.ID].Publish)
}

// fill puts values into a text.
func (f *Finding) fill(text string) string {
	pairs := []string{"{subject}", f.Subject}
	for _, v := range f.Values {
		pairs = append(pairs, "{"+v.Name+"}", v.Text)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// kindNames are the headings of findings, by the first word of their ids.
var kindNames = map[string]string{
	"dns": "DNS", "ns": "Name servers", "soa": "SOA", "dnssec": "DNSSEC", "mx": "MX", "host": "Hosts", "ptr": "Hosts", "helo": "Hosts",
	"spf": "SPF", "dkim": "DKIM", "dmarc": "DMARC", "rauth": "DMARC", "mtasts": "MTA-STS", "tlsrpt": "TLS reports", "dane": "DANE",
	"bimi": "BIMI", "caa": "CAA", "bulk": "Large senders", "parked": "No mail", "reports": "Reports",
}

// KindOf returns the heading under which a check stands, for people.
func KindOf(id string) string {
	word, _, _ := strings.Cut(id, ".")
	if name := kindNames[word]; name != "" {
		return name
	}
	return word
}
