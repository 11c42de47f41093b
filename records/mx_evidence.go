package records

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// verdicts collects the findings of a kind of record.
type verdicts struct{ all []Finding }

// add adds a finding of the usual severity. Values are given as names and
// texts in turn. What it returns may be changed until the next one is added.
func (v *verdicts) add(id, subject string, values ...string) *Finding {
	f := Finding{ID: id, Severity: catalogue[id].Severity, Subject: subject}
	for i := 0; i < len(values); i += 2 {
		f.Values = append(f.Values, Value{values[i], values[i+1]})
	}
	v.all = append(v.all, f)
	return &v.all[len(v.all)-1]
}

// on says which answers a finding rests on.
func (f *Finding) on(answers ...Answer) *Finding {
	for _, a := range answers {
		if a.Name != "" {
			f.Facts = append(f.Facts, factOf(a))
		}
	}
	return f
}

// unknown says that an answer could not be had, once for each question.
func (v *verdicts) unknown(answers ...Answer) {
	for _, a := range answers {
		kind := dns.TypeToString[a.Type]
		if slices.ContainsFunc(v.all, func(f Finding) bool {
			return f.ID == "dns.lookup_failed" && f.Subject == a.Name && f.Value("type") == kind
		}) {
			continue
		}
		f := v.add("dns.lookup_failed", a.Name, "type", kind, "rcode", whyFailed(a), "ede", a.EDE).on(a)
		f.Severity = Unknown
	}
}

// whyFailed says in a word or a few why there is no answer.
func whyFailed(a Answer) string {
	switch {
	case a.Err != "":
		return a.Err
	case a.Loop:
		return "CNAME loop"
	case a.State == Failed && a.Rcode == dns.RcodeSuccess:
		return "no answer"
	}
	return dns.RcodeToString[a.Rcode]
}

// The facts of a finding are cut to what a person reads.
const (
	maxFactRecords = 10
	maxFactText    = 1000
)

// factOf writes an answer as a fact.
func factOf(a Answer) Fact {
	f := Fact{Name: a.Name, Type: dns.TypeToString[a.Type]}
	var parts []string
	if len(a.Chain) > 1 {
		parts = append(parts, "CNAME "+strings.Join(a.Chain[1:], " CNAME "))
	}
	for i, rr := range a.RRs {
		if i == maxFactRecords {
			parts = append(parts, fmt.Sprintf("and %d more", len(a.RRs)-i))
			break
		}
		parts = append(parts, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	if len(a.RRs) == 0 {
		switch a.State {
		case NXDomain:
			parts = append(parts, "NXDOMAIN")
		case NoData, Found:
			parts = append(parts, "no such records")
		default:
			parts = append(parts, strings.TrimSpace(whyFailed(a)+" "+a.EDE))
		}
	}
	f.Answer = strings.Join(parts, "; ")
	if len(f.Answer) > maxFactText {
		f.Answer = f.Answer[:maxFactText]
	}
	return f
}

// texts returns the TXT records of an answer, the strings of each joined
// without a separator (RFC 7208, section 3.3; RFC 6376, section 3.6.2.2).
func texts(a Answer) []string {
	var all []string
	for _, rr := range a.RRs {
		if t, ok := rr.(*dns.TXT); ok {
			var b strings.Builder
			for _, s := range t.Txt {
				b.WriteString(unescapeText(s))
			}
			all = append(all, b.String())
		}
	}
	return all
}

// unescapeText returns the octets of a character-string, which package dns
// keeps in the form of a zone file: \" and \\, and \DDD for others.
func unescapeText(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) && digits(s[i+1:i+4]) {
			n := int(s[i+1]-'0')*100 + int(s[i+2]-'0')*10 + int(s[i+3]-'0')
			b.WriteByte(byte(n))
			i += 3
			continue
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

// digits reports whether s is decimal digits and nothing else.
func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// zoneTXT writes a TXT record in the form of a zone file, in strings of 255
// octets.
func zoneTXT(owner, text string) string {
	var b strings.Builder
	b.WriteString(owner + ". IN TXT")
	for {
		part := text[:min(len(text), 255)]
		b.WriteString(` "`)
		for _, c := range []byte(part) {
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
		if text = text[len(part):]; text == "" {
			return b.String()
		}
	}
}

// plainHost returns a name as answers have it: lower-case, without the final dot.
func plainHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// excerpt returns what a person needs to see of a stranger's text to know it
// again.
func excerpt(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
