package parse

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	tlsStrings = 100      // policy strings and MX hosts of a policy that are kept
	tlsKept    = 32 << 20 // bytes of text and structure that are kept of a message's TLS reports
)

// A tlsReader reads one report of RFC 8460, section 4.
type tlsReader struct {
	json    *jsonValues
	limits  Limits
	rep     *dmarc.TLSReport
	begin   string
	end     string
	details int
	kept    *int // bytes, of all TLS reports of the message
	known   bool // a key of a report was met
	strings map[string]string
}

// tls reads a TLS report. Missing is made up for from the mail and the file
// name where that is possible.
func (w *walker) tls(p *payload, open func() (io.ReadCloser, error)) (*dmarc.TLSReport, error) {
	rc, err := open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	guard := newJSONGuard(rc, w.limits.Depth)
	d := json.NewDecoder(guard)
	d.UseNumber()
	t := &tlsReader{json: &jsonValues{d}, limits: w.limits, rep: &dmarc.TLSReport{}, kept: &w.kept, strings: map[string]string{}}
	if err := t.json.object(t.field); err != nil {
		return nil, jsonError(err)
	}
	if !t.known {
		return nil, refusal(dmarc.OutcomeNotAReport, "JSON that is no TLS report")
	}
	trailing, err := guard.trailing()
	if err != nil {
		return nil, jsonError(err)
	}
	if trailing {
		t.rep.Flags |= dmarc.FlagTrailingData
	}
	if err := t.complete(p); err != nil {
		return nil, err
	}
	return t.rep, nil
}

// jsonError makes an outcome of an error of the decoder.
func jsonError(err error) error {
	var refused *dmarc.Error
	var read *readError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &refused), errors.As(err, &read):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return refusal(dmarc.OutcomeBadJSON, "the JSON breaks off")
	case errors.As(err, &syntax):
		return refusal(dmarc.OutcomeBadJSON, "no JSON: %v", syntax)
	}
	return refusal(dmarc.OutcomeBadJSON, "no JSON: %v", err)
}

// keep returns a text that is kept: cleaned, cut, equal ones only once.
func (t *tlsReader) keep(s string, max int) string {
	if s == "" {
		return ""
	}
	s, wasCut := cut(cleanText(strings.TrimSpace(s)), max)
	if wasCut {
		t.rep.Flags |= dmarc.FlagCut
	}
	if known, ok := t.strings[s]; ok {
		return known
	}
	s = strings.Clone(s)
	t.strings[s] = s
	*t.kept += len(s)
	return s
}

// value reads the value of a key as text.
func (t *tlsReader) value(field *string, max int) error {
	s, err := t.json.text()
	if err != nil {
		return err
	}
	if s = t.keep(s, max); s != "" && *field == "" {
		*field = s
	}
	return t.room(0)
}

// room accounts for bytes that are kept.
func (t *tlsReader) room(n int) error {
	if *t.kept += n; *t.kept > tlsKept {
		return refusal(dmarc.OutcomeTooLarge, "the TLS reports of the message are larger than %s", size(tlsKept))
	}
	return nil
}

// host reads the name of a host or domain.
func (t *tlsReader) host(field *string) error {
	var s string
	if err := t.value(&s, maxName); err != nil {
		return err
	}
	if *field == "" {
		*field = hostName(s)
	}
	return nil
}

// hostName normalises a name; what is none is kept as written.
func hostName(s string) string {
	if name, ok := domainName(s); ok {
		return name
	}
	return strings.TrimSuffix(strings.ToLower(s), ".")
}

// count reads a number of sessions, and tells whether there is one. Sessions
// cannot be fewer than none.
func (t *tlsReader) count(n *int64) (bool, error) {
	s, err := t.json.text()
	if err != nil {
		return false, err
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return false, nil
	}
	if v, err := strconv.ParseInt(s, 10, 64); err == nil && v >= 0 {
		*n = min(v, t.limits.Count)
		return true, nil
	}
	if v, err := strconv.ParseFloat(s, 64); err == nil && v >= 0 && !math.IsNaN(v) {
		*n = int64(math.Min(v, float64(t.limits.Count)))
		return true, nil
	}
	t.rep.Flags |= dmarc.FlagUnknownWords
	return false, nil
}

// alias flags a key that stands for another.
func (t *tlsReader) alias(key, usual string) {
	if key != usual {
		t.rep.Flags |= dmarc.FlagAlias
	}
}

// field reads a value of the report.
func (t *tlsReader) field(key string) error {
	switch key {
	case "organization-name", "organisation-name", "org-name":
		t.known = true
		t.alias(key, "organization-name")
		return t.value(&t.rep.OrgName, maxID)
	case "contact-info":
		err := t.value(&t.rep.Contact, maxID)
		t.rep.Contact = strings.TrimPrefix(t.rep.Contact, "mailto:")
		return err
	case "report-id":
		t.known = true
		return t.value(&t.rep.ID, 4*maxID) // cut when it is known to be the one
	case "date-range":
		t.known = true
		return t.json.object(func(key string) error {
			switch key {
			case "start-datetime", "start-date", "begin", "start":
				return t.value(&t.begin, maxName)
			case "end-datetime", "end-date", "end":
				return t.value(&t.end, maxName)
			}
			return t.json.skip()
		})
	case "begin-date", "end-date": // as parsedmarc writes them
		t.rep.Flags |= dmarc.FlagAlias
		if key == "begin-date" {
			return t.value(&t.begin, maxName)
		}
		return t.value(&t.end, maxName)
	case "policies", "policy":
		t.known = true
		t.alias(key, "policies")
		return t.json.each(t.policy)
	}
	return t.json.skip()
}

// policy reads an element of policies.
func (t *tlsReader) policy(first json.Token) error {
	if len(t.rep.Policies) >= t.limits.TLSPolicies {
		return refusal(dmarc.OutcomeTooLarge, "more than %d policies (limits.tls_policies)", t.limits.TLSPolicies)
	}
	if first != json.Delim('{') {
		return t.json.skipFrom(first)
	}
	var p dmarc.TLSPolicy
	var failed int64
	summary := func(key string) error {
		var err error
		switch key {
		case "total-successful-session-count", "total-success-session-count", "successful-session-count":
			_, err = t.count(&p.Successful)
		case "total-failure-session-count", "total-failed-session-count", "failed-session-count":
			_, err = t.count(&p.Failed)
		default:
			err = t.json.skip()
		}
		return err
	}
	policy := func(key string) error {
		switch key {
		case "policy-type":
			if err := t.value(&p.Type, maxName); err != nil {
				return err
			}
			p.Type = strings.ToLower(p.Type)
			return nil
		case "policy-string", "policy-strings":
			t.alias(key, "policy-string")
			return t.list(&p.Strings, policyString)
		case "policy-domain":
			return t.host(&p.Domain)
		case "mx-host", "mx-hosts", "mx-host-pattern", "mx-host-patterns":
			if key != "mx-host-pattern" { // the name in drafts, and still in use
				t.alias(key, "mx-host")
			}
			return t.list(&p.MXHosts, mxHost)
		}
		return t.json.skip()
	}
	err := t.json.objectFrom(first, func(key string) error {
		switch key {
		case "policy":
			return t.json.object(policy)
		case "summary":
			return t.json.object(summary)
		case "failure-details", "failure-detail":
			return t.json.each(func(first json.Token) error {
				d, err := t.detail(first)
				if d != nil {
					p.Details = append(p.Details, *d)
					failed = min(failed+d.FailedSessions, math.MaxInt64/2)
				}
				return err
			})
		case "policy-type", "policy-string", "policy-strings", "policy-domain", "mx-host", "mx-host-pattern", "mx-host-patterns":
			t.rep.Flags |= dmarc.FlagAlias // the object policy was left out
			return policy(key)
		case "total-successful-session-count", "total-failure-session-count", "successful-session-count", "failed-session-count":
			t.rep.Flags |= dmarc.FlagAlias
			return summary(key)
		}
		return t.json.skip()
	})
	if err != nil {
		return err
	}
	switch p.Type {
	case "tlsa", "sts", "no-policy-found":
	case "":
		t.rep.Flags |= dmarc.FlagMissingFields
	default:
		t.rep.Flags |= dmarc.FlagUnknownWords
	}
	if len(p.Details) > 0 && failed != p.Failed {
		t.rep.Flags |= dmarc.FlagCountsDiffer
	}
	t.rep.Policies = append(t.rep.Policies, p)
	return nil
}

// detail reads an element of failure-details.
func (t *tlsReader) detail(first json.Token) (*dmarc.TLSFailure, error) {
	if first != json.Delim('{') {
		return nil, t.json.skipFrom(first)
	}
	if t.details++; t.details > t.limits.TLSDetails {
		return nil, refusal(dmarc.OutcomeTooLarge, "more than %d failure details (limits.tls_details)", t.limits.TLSDetails)
	}
	var d dmarc.TLSFailure
	if err := t.room(400); err != nil { // twice its size, since slices grow
		return nil, err
	}
	counted := false
	err := t.json.objectFrom(first, func(key string) error {
		var err error
		switch key {
		case "result-type":
			err = t.value(&d.ResultType, maxName)
			d.ResultType = strings.ToLower(d.ResultType)
		case "sending-mta-ip":
			err = t.value(&d.SendingMTAIP, maxName)
		case "receiving-ip":
			err = t.value(&d.ReceivingIP, maxName)
		case "receiving-mx-hostname":
			err = t.host(&d.ReceivingMXHost)
		case "receiving-mx-helo":
			err = t.value(&d.ReceivingMXHELO, maxName)
		case "failed-session-count":
			counted, err = t.count(&d.FailedSessions)
		case "additional-information", "additional-info-uri":
			t.alias(key, "additional-information")
			err = t.value(&d.AdditionalInfo, maxComment)
		case "failure-reason-code", "failure-error-code":
			t.alias(key, "failure-reason-code")
			err = t.value(&d.FailureReasonCode, maxComment)
		default:
			err = t.json.skip()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !counted {
		d.FailedSessions = 1
		t.rep.Flags |= dmarc.FlagMissingFields
	}
	if !resultTypes[d.ResultType] {
		t.rep.Flags |= dmarc.FlagUnknownWords
	}
	return &d, nil
}

// resultTypes are the words of RFC 8460, section 4.3.
var resultTypes = map[string]bool{
	"starttls-not-supported": true, "certificate-host-mismatch": true, "certificate-expired": true,
	"certificate-not-trusted": true, "validation-failure": true, "tlsa-invalid": true, "dnssec-invalid": true,
	"dane-required": true, "sts-policy-fetch-error": true, "sts-policy-invalid": true, "sts-webpki-invalid": true,
}

// list reads an array of strings, or a string. One string that holds an array
// itself is unwrapped.
func (t *tlsReader) list(list *[]string, clean func(string) string) error {
	add := func(s string) {
		s = t.keep(clean(s), maxComment)
		switch {
		case s == "":
		case len(*list) >= tlsStrings:
			t.rep.Flags |= dmarc.FlagTruncated
		default:
			*list = append(*list, s)
		}
	}
	err := t.json.each(func(first json.Token) error {
		s, ok := scalar(first)
		if !ok {
			return t.json.skipFrom(first)
		}
		if strings.HasPrefix(strings.TrimSpace(s), "[") {
			var inner []string
			if json.Unmarshal([]byte(s), &inner) == nil {
				for _, s := range inner {
					add(s)
				}
				return nil
			}
		}
		add(s)
		return nil
	})
	if err == nil {
		err = t.room(16 * len(*list))
	}
	return err
}

func policyString(s string) string { return s }

// mxHost normalises a pattern of MX hosts, which some write as it stands in
// the policy file.
func mxHost(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 3 && strings.EqualFold(s[:3], "mx:") {
		s = strings.TrimSpace(s[3:])
	}
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		return "*." + hostName(rest)
	}
	return hostName(s)
}
