package parse

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Bounds of what is kept of a failure report. Lists that are longer are cut.
const (
	feedbackLength = 256 << 10 // bytes of fields that are read
	feedbackList   = 100       // entries of a repeatable field
)

// A draft is a failure report to which the sample may still be added.
type draft struct {
	report *dmarc.FailureReport
	sample *entity
	from   string // of the sample: address domain
	id     string
	date   string
}

// feedback reads a feedback report in ARF (RFC 5965), of which the failure
// reports of RFC 6591 and RFC 9991 are one type.
func (w *walker) feedback(p *payload, s *stream) error {
	text, cutOff, err := readText(s)
	if err != nil {
		return w.failed(p.path, err)
	}
	f := &feedbackReader{report: &dmarc.FailureReport{Incidents: 1}, limits: w.limits}
	if cutOff {
		f.report.Flags |= dmarc.FlagTruncated
	}
	text = skipBlank(text)
	readHeader(newLines(bytes.NewReader(text), 0, int64(len(text))), f.field)
	r := f.report
	switch {
	case r.FeedbackType == "" && len(r.AuthFailure) == 0:
		return w.failed(p.path, refusal(dmarc.OutcomeMissing, "a feedback report without Feedback-Type"))
	case r.FeedbackType == "":
		r.FeedbackType = "auth-failure"
		r.Flags |= dmarc.FlagMissingFields
	case r.FeedbackType != "auth-failure":
		return w.failed(p.path, refusal(dmarc.OutcomeComplaint, "feedback of the type %q, not a DMARC failure report", r.FeedbackType))
	}
	w.failure(p, r)
	return nil
}

// readText reads what is kept of a text, and tells whether it is longer.
func readText(r io.Reader) ([]byte, bool, error) {
	text, err := io.ReadAll(io.LimitReader(r, feedbackLength+1))
	if len(text) > feedbackLength {
		return text[:feedbackLength], true, nil
	}
	return text, false, err
}

// failure adds a failure report to what was found.
func (w *walker) failure(p *payload, r *dmarc.FailureReport) *draft {
	if len(r.AuthFailure) == 0 {
		r.AuthFailure = []string{"dmarc"}
		r.Flags |= dmarc.FlagMissingFields
	}
	r.Flags |= p.flags
	r.ReporterDomain = authorDomain(p.m.from)
	d := &draft{report: r}
	p.m.failures = append(p.m.failures, d)
	w.found.Parts = append(w.found.Parts, dmarc.Part{Path: w.unique(p.path), Failure: r})
	return d
}

// finish completes the failure reports of a mail when all of it was read.
func (w *walker) finish(m *mail) {
	for _, d := range m.failures {
		r := d.report
		if r.ReportedDomain == "" && d.from != "" {
			r.ReportedDomain = d.from
			r.Flags |= dmarc.FlagDomainDerived
		}
		switch {
		case !r.Arrival.IsZero():
			r.ArrivalSource = "field"
		case !m.date.IsZero():
			r.Arrival, r.ArrivalSource = m.date, "mail"
		default:
			r.ArrivalSource = "receipt"
		}
		r.Hash = d.hash()
	}
}

// A feedbackReader turns the fields of a feedback report into what they mean.
type feedbackReader struct {
	report *dmarc.FailureReport
	limits Limits
}

// text returns a value for people, cut to a length.
func (f *feedbackReader) text(value string, max int) string {
	text, wasCut := textField(value, max)
	if wasCut {
		f.report.Flags |= dmarc.FlagCut
	}
	return text
}

// set sets a field that stands once; the first counts.
func (f *feedbackReader) set(field *string, value string, max int) {
	if *field == "" {
		*field = f.text(value, max)
	}
}

// add adds to a field that can be repeated.
func (f *feedbackReader) add(list *[]string, value string) {
	switch {
	case value == "":
	case len(*list) >= feedbackList:
		f.report.Flags |= dmarc.FlagTruncated
	default:
		*list = append(*list, value)
	}
}

// domain reads the name of a domain; what is none is kept as written.
func (f *feedbackReader) domain(value string) string {
	text := f.text(value, maxName)
	if name, ok := domainName(text); ok {
		return name
	}
	return text
}

// field reads one field (RFC 5965, section 3; RFC 6591, section 3).
func (f *feedbackReader) field(name, value string) {
	r := f.report
	switch key := squash(name); key {
	case "feedbacktype":
		f.set(&r.FeedbackType, strings.ReplaceAll(strings.ToLower(value), "_", "-"), maxName)
		if r.FeedbackType == "authfailure" {
			r.FeedbackType = "auth-failure"
		}
	case "useragent":
		f.set(&r.UserAgent, value, maxID)
	case "version":
		f.set(&r.Version, value, maxName)
	case "authfailure":
		for word := range strings.FieldsFuncSeq(strings.ToLower(value), isListBreak) {
			if !authFailures[word] {
				r.Flags |= dmarc.FlagUnknownWords
			}
			f.add(&r.AuthFailure, f.text(word, maxName))
		}
	case "identityalignment":
		f.set(&r.IdentityAlign, value, maxName)
	case "authenticationresults":
		f.add(&r.AuthResults, f.text(value, maxComment))
	case "deliveryresult":
		if r.DeliveryWord == "" {
			r.DeliveryWord = f.text(value, maxName)
			r.Delivery = deliveryResult(r.DeliveryWord)
		}
	case "arrivaldate", "receiveddate":
		f.arrival(value)
		if key == "receiveddate" {
			r.Flags |= dmarc.FlagAlias
		}
	case "sourceip":
		if !r.SourceIP.IsValid() {
			r.SourceIP = sourceAddress(value)
		}
	case "sourceport":
		if n, err := strconv.Atoi(firstToken(value)); err == nil && 0 < n && n < 1<<16 {
			r.SourcePort = n
		}
	case "reporteddomain":
		if r.ReportedDomain != "" {
			f.other(name, value)
			return
		}
		r.ReportedDomain = f.domain(value)
	case "reporteduri":
		f.add(&r.ReportedURIs, f.text(value, maxComment))
	case "originalenvelopeid":
		f.set(&r.EnvelopeID, value, maxID)
	case "originalmailfrom":
		f.set(&r.MailFrom, strings.Trim(value, " <>"), maxID)
		r.NullSender = r.MailFrom == ""
	case "originalrcptto":
		f.add(&r.RcptTo, f.text(strings.Trim(value, " <>"), maxID))
	case "reportingmta":
		f.set(&r.ReportingMTA, value, maxID)
	case "incidents":
		if n, err := strconv.ParseInt(firstToken(value), 10, 64); err == nil && n > 1 {
			r.Incidents = min(n, f.limits.Count)
		}
	case "dkimdomain":
		if r.DKIMDomain == "" {
			r.DKIMDomain = f.domain(value)
		}
	case "dkimidentity":
		f.set(&r.DKIMIdentity, value, maxID)
	case "dkimselector":
		f.set(&r.DKIMSelector, value, maxName)
	case "spfdns":
		f.add(&r.SPFRecords, f.text(value, maxComment))
	case "dkimcanonicalizedheader", "dkimcanonicalizedbody":
		// The content of the message: not kept.
	default:
		f.other(name, value)
	}
}

// other keeps a field that has no place of its own.
func (f *feedbackReader) other(name, value string) {
	if len(f.report.Other) >= feedbackList {
		f.report.Flags |= dmarc.FlagTruncated
		return
	}
	f.report.Other = append(f.report.Other, dmarc.HeaderField{Name: name, Value: f.text(value, maxComment)})
}

func (f *feedbackReader) arrival(value string) {
	if f.report.Arrival.IsZero() {
		f.report.Arrival, _ = parseDate(decodeText(value))
	}
}

// authFailures are the words of RFC 6591, section 3.3, and RFC 9991, and the
// mechanisms that some write instead.
var authFailures = map[string]bool{
	"adsp": true, "bodyhash": true, "revoked": true, "signature": true, "spf": true, "dmarc": true, "dkim": true,
}

func isListBreak(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' }

// deliveryResult returns the word of RFC 6591, section 3.2.2, that a value is
// or holds.
func deliveryResult(value string) string {
	value = strings.ToLower(value)
	for _, word := range []string{"delivered", "spam", "policy", "reject"} {
		if strings.Contains(value, word) {
			return word
		}
	}
	if value == "" {
		return ""
	}
	return "other"
}

func firstToken(s string) string {
	if fields := strings.Fields(s); len(fields) > 0 {
		return fields[0]
	}
	return ""
}

// sourceAddress reads an address that a host name may follow.
func sourceAddress(s string) netip.Addr {
	s = strings.Trim(firstToken(s), "[](),;")
	if len(s) > 5 && strings.EqualFold(s[:5], "ipv6:") {
		s = s[5:]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// hash makes the identity of a failure report, which has none of its own: its
// reporter and fields, and what tells the sample from others.
func (d *draft) hash() dmarc.Digest {
	r := d.report
	h := sha256.New()
	add := func(values ...string) {
		for _, v := range append(values, strconv.Itoa(len(values))) {
			var n [8]byte
			binary.BigEndian.PutUint64(n[:], uint64(len(v)))
			h.Write(n[:])
			io.WriteString(h, v)
		}
	}
	add(r.ReporterDomain, r.FeedbackType, r.UserAgent, r.Version, r.DeliveryWord, r.IdentityAlign)
	add(r.AuthFailure...)
	if r.ArrivalSource == "field" { // others may differ from copy to copy
		add(strconv.FormatInt(r.Arrival.Unix(), 10))
	}
	add(r.SourceIP.String(), strconv.Itoa(r.SourcePort), r.ReportedDomain, r.EnvelopeID, r.MailFrom, r.ReportingMTA, strconv.FormatInt(r.Incidents, 10))
	add(r.ReportedURIs...)
	add(r.RcptTo...)
	add(r.AuthResults...)
	add(r.DKIMDomain, r.DKIMIdentity, r.DKIMSelector)
	add(r.SPFRecords...)
	for _, f := range r.Other {
		add(strings.ToLower(f.Name), f.Value)
	}
	add(d.id, d.date, d.from)
	return dmarc.Digest(h.Sum(nil))
}
