package parse

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// complete fills in from the mail and the file name what the report lacks, and
// gives it its hash.
func (t *tlsReader) complete(p *payload) error {
	r := t.rep
	var okBegin, okEnd bool
	r.Period.Begin, okBegin = parseDate(t.begin)
	r.Period.End, okEnd = parseDate(t.end)
	r.Hash = tlsHash(r) // before anything is added that copies may lack

	sender, domain, begin, end := reportFileName(p.name)
	if r.OrgName == "" {
		if r.OrgName = firstOf(p.m.tlsSubmitter, sender, authorDomain(p.m.from)); r.OrgName != "" {
			r.Flags |= dmarc.FlagOrgNameDerived
		}
	}
	if (!okBegin || !okEnd) && !begin.IsZero() && !end.IsZero() {
		r.Period.Begin, r.Period.End, okBegin, okEnd = begin, end, true, true
		r.Flags |= dmarc.FlagPeriodDerived
	}
	switch {
	case r.OrgName == "":
		return refusal(dmarc.OutcomeMissing, "a TLS report without organization-name")
	case !okBegin || !okEnd:
		return refusal(dmarc.OutcomeMissing, "a TLS report without a date-range that can be read")
	case !r.Period.End.After(r.Period.Begin):
		r.Flags |= dmarc.FlagEmptyPeriod
	}
	hint := ""
	for _, s := range []string{p.m.tlsDomain, subjectValue(p.m.subject, "report domain"), domain} {
		if name, ok := domainName(s); ok && hint == "" {
			hint = name
		}
	}
	for i := range r.Policies {
		if r.Policies[i].Domain != "" {
			r.Domain = firstOf(r.Domain, r.Policies[i].Domain)
		} else if hint != "" {
			r.Policies[i].Domain = hint
			r.Flags |= dmarc.FlagDomainDerived
		} else {
			r.Flags |= dmarc.FlagMissingFields
		}
	}
	if r.Domain == "" {
		if r.Domain = hint; hint != "" {
			r.Flags |= dmarc.FlagDomainDerived
		}
	}
	if r.ID == "" {
		if r.ID = strings.Trim(subjectValue(p.m.subject, "report-id"), "<>"); r.ID == "" {
			r.ID = "hash:" + hex.EncodeToString(r.Hash[:])
		}
		r.Flags |= dmarc.FlagReportIDDerived
	}
	if short, wasCut := cut(r.ID, maxID-1-2*8); wasCut && len(r.ID) > maxID {
		sum := sha256.Sum256([]byte(r.ID))
		r.ID = short + "#" + hex.EncodeToString(sum[:8])
		r.Flags |= dmarc.FlagCut
	}
	return nil
}

// firstOf returns the first that is not empty.
func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// reportFileName reads the name of a report file (RFC 8460, section 5.1, and
// RFC 9990): sender!policy-domain!begin!end[!id]. The times are zero if it tells none.
func reportFileName(name string) (sender, domain string, begin, end time.Time) {
	fields := strings.Split(name, "!")
	if len(fields) < 4 {
		return "", "", begin, end
	}
	number, _, _ := strings.Cut(fields[3], ".")
	from, err1 := strconv.ParseInt(fields[2], 10, 64)
	to, err2 := strconv.ParseInt(number, 10, 64)
	if err1 == nil && err2 == nil && from > 0 && to >= from && to < 1<<34 {
		begin, end = time.Unix(from, 0).UTC(), time.Unix(to, 0).UTC()
	}
	return fields[0], fields[1], begin, end
}

// subjectValue returns the value after a keyword of the subject of a report
// (RFC 8460, section 5.3), or "".
func subjectValue(subject, keyword string) string {
	i := strings.Index(strings.ToLower(subject), keyword+":")
	if i < 0 || i+len(keyword)+1 > len(subject) {
		return ""
	}
	return strings.Trim(firstToken(subject[i+len(keyword)+1:]), ";{},")
}

// tlsHash is the hash of the content: equal for copies of a report, in
// whatever order and form its policies and details stand.
func tlsHash(r *dmarc.TLSReport) dmarc.Digest {
	record := func(values ...string) string {
		var b []byte
		for _, v := range values {
			b = binary.AppendUvarint(b, uint64(len(v)))
			b = append(b, v...)
		}
		return string(b)
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	policies := make([]string, len(r.Policies))
	for i := range r.Policies {
		p := &r.Policies[i]
		h := sha256.New()
		io.WriteString(h, record(p.Type, p.Domain, number(p.Successful), number(p.Failed)))
		io.WriteString(h, record(sorted(p.Strings)...))
		io.WriteString(h, record(sorted(p.MXHosts)...))
		details := make([]string, len(p.Details))
		for j := range p.Details {
			d := &p.Details[j]
			sum := sha256.Sum256([]byte(record(d.ResultType, d.SendingMTAIP, d.ReceivingIP, d.ReceivingMXHost, d.ReceivingMXHELO,
				number(d.FailedSessions), d.AdditionalInfo, d.FailureReasonCode)))
			details[j] = string(sum[:])
		}
		io.WriteString(h, record(sorted(details)...))
		policies[i] = string(h.Sum(nil))
	}
	h := sha256.New()
	io.WriteString(h, record(r.OrgName, r.Contact, r.ID, number(r.Period.Begin.Unix()), number(r.Period.End.Unix())))
	io.WriteString(h, record(sorted(policies)...))
	return dmarc.Digest(h.Sum(nil))
}

// sorted returns a sorted copy.
func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}
