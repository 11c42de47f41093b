package records

import (
	"net/url"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A DMARCRecord is a DMARC policy record (RFC 9989, section 4.8), with
// defaults for what it leaves out or what cannot be read.
type DMARCRecord struct {
	Text        string
	Tags        []DMARCTag   // all of them but v, in their order
	P, SP, NP   dmarc.Policy // PolicyUnknown where absent or invalid
	ADKIM, ASPF dmarc.AlignmentMode
	PSD         byte // 'y', 'n' or 'u'
	Testing     bool // t=y
	FO          string
	RUA, RUF    []ReportURI
	Unreadable  []string // parts that are no tag, and tags that stand twice
}

// A DMARCTag is a tag as it is written, its name in lower case.
type DMARCTag struct{ Name, Value string }

// tag returns the value of a tag, of the first of that name.
func (r *DMARCRecord) tag(name string) (value string, ok bool) {
	for _, t := range r.Tags {
		if t.Name == name {
			return t.Value, true
		}
	}
	return "", false
}

// broken reports whether p is missing or invalid, or sp or np invalid. Such a
// record acts as p=none if it has a place to send reports to, and else not at
// all (RFC 9989, section 4.10.1).
func (r *DMARCRecord) broken() bool {
	if r.P == dmarc.PolicyUnknown {
		return true
	}
	_, sp := r.tag("sp")
	_, np := r.tag("np")
	return sp && r.SP == dmarc.PolicyUnknown || np && r.NP == dmarc.PolicyUnknown
}

// hasRUA reports whether rua holds a valid URI.
func (r *DMARCRecord) hasRUA() bool {
	for _, u := range r.RUA {
		if u.Problem == "" {
			return true
		}
	}
	return false
}

const blanks = " \t"

// isDMARC reports whether a text is a DMARC record: its first tag is v, with
// the exact value DMARC1 (RFC 9989, sections 4.7 and 4.8).
func isDMARC(text string) bool {
	if text == "" || text[0]|0x20 != 'v' {
		return false
	}
	rest, ok := strings.CutPrefix(strings.TrimLeft(text[1:], blanks), "=")
	if !ok {
		return false
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, blanks), "DMARC1")
	rest = strings.TrimLeft(rest, blanks)
	return ok && (rest == "" || rest[0] == ';')
}

// ParseDMARC reads a DMARC record, the strings of a TXT record joined. It
// returns nil for a text that is none; all else that is wrong is in the record.
func ParseDMARC(text string) *DMARCRecord {
	if !isDMARC(text) {
		return nil
	}
	r := &DMARCRecord{Text: text, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed, PSD: 'u', FO: "0"}
	parts := strings.Split(text, ";")[1:]
	seen := map[string]bool{"v": true}
	for i, part := range parts {
		part = strings.Trim(part, blanks+"\r\n")
		name, value, ok := strings.Cut(part, "=")
		name = strings.ToLower(strings.TrimRight(name, blanks))
		switch {
		case part == "" && i == len(parts)-1:
		case !ok || !isTagName(name):
			r.Unreadable = append(r.Unreadable, part)
		case seen[name]:
			r.Unreadable = append(r.Unreadable, part)
		default:
			seen[name] = true
			value = strings.Trim(value, blanks)
			r.Tags = append(r.Tags, DMARCTag{name, value})
			r.take(name, value)
		}
	}
	return r
}

func isTagName(name string) bool {
	for i, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (i == 0 || (c < '0' || c > '9') && c != '_') {
			return false
		}
	}
	return name != ""
}

// take reads a tag. Values compare without case (RFC 5234, section 2.3).
func (r *DMARCRecord) take(name, value string) {
	word := strings.ToLower(value)
	mode := func(m *dmarc.AlignmentMode) {
		if got := dmarc.ParseAlignmentMode(word); got != dmarc.AlignmentUnknown {
			*m = got
		}
	}
	switch name {
	case "p":
		r.P = dmarc.ParsePolicy(word)
	case "sp":
		r.SP = dmarc.ParsePolicy(word)
	case "np":
		r.NP = dmarc.ParsePolicy(word)
	case "adkim":
		mode(&r.ADKIM)
	case "aspf":
		mode(&r.ASPF)
	case "psd":
		if word == "y" || word == "n" || word == "u" {
			r.PSD = word[0]
		}
	case "t":
		r.Testing = word == "y"
	case "fo":
		if validFO(word) {
			r.FO = word
		}
	case "rua":
		r.RUA = parseURIs(value)
	case "ruf":
		r.RUF = parseURIs(value)
	}
}

// validFO reports whether fo is a list of 0, 1, d and s, of which 0 and 1
// exclude each other (RFC 9989, section 4.7).
func validFO(value string) bool {
	zero, one := false, false
	for option := range strings.SplitSeq(value, ":") {
		switch strings.Trim(option, blanks) {
		case "0":
			zero = true
		case "1":
			one = true
		case "d", "s":
		default:
			return false
		}
	}
	return !(zero && one)
}

// A ReportURI is a place where reports are wanted.
type ReportURI struct {
	Text    string // without Size
	Scheme  string // in lower case
	Address string // of a mailto URI
	Host    string // lower-case A-label
	Size    string // "10m", of RFC 7489; "" for none
	Problem string // why the URI is not valid, or ""
}

// maxURIs bounds how many URIs of a list are read.
const maxURIs = 20

// parseURIs reads the list of rua or ruf.
func parseURIs(value string) []ReportURI {
	var all []ReportURI
	for text := range strings.SplitSeq(value, ",") {
		if len(all) == maxURIs {
			break
		}
		if text = strings.Trim(text, blanks); text != "" || value != "" {
			all = append(all, parseURI(text))
		}
	}
	return all
}

func parseURI(text string) ReportURI {
	u := ReportURI{Text: text}
	if before, size, ok := strings.Cut(text, "!"); ok {
		u.Text, u.Size = before, size
		if !isSize(size) {
			u.Problem = "it holds a ! that is not written as %21"
		}
	}
	if u.Text == "" {
		u.Problem = "it is empty"
		return u
	}
	for _, c := range []byte(u.Text) {
		if c <= ' ' || c > '~' {
			u.Problem = "it holds a blank or what is not ASCII"
			return u
		}
	}
	scheme, rest, ok := strings.Cut(u.Text, ":")
	if !ok {
		u.Problem = "it has no scheme such as mailto:"
		return u
	}
	u.Scheme = strings.ToLower(scheme)
	if u.Scheme != "mailto" {
		parsed, err := url.Parse(u.Text)
		if err != nil || parsed.Scheme == "" || rest == "" {
			u.Problem = "it is no URI"
			return u
		}
		if host := parsed.Hostname(); host != "" {
			if u.Host, err = domainName(host); err != nil {
				u.Problem = "its host is not valid: " + err.Error()
			}
		}
		return u
	}
	rest, _, _ = strings.Cut(rest, "?")
	address, err := url.PathUnescape(rest)
	if err != nil {
		u.Problem = "it holds a % that begins no escape"
		return u
	}
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		u.Problem = "it names no mail address"
		return u
	}
	local := address[:at]
	if local == "" || len(local) > 64 || strings.ContainsAny(local, " \t<>()[]\\,;:@\"") {
		u.Problem = "what stands before the @ is no mailbox"
		return u
	}
	host, err := domainName(address[at+1:])
	if err == nil && !strings.Contains(host, ".") {
		u.Problem = "what stands after the @ is no full domain name"
		return u
	}
	if err != nil {
		u.Problem = "what stands after the @ is no domain name: " + err.Error()
		return u
	}
	u.Address, u.Host = local+"@"+host, host
	return u
}

// isSize reports whether a text is a size limit of RFC 7489, section 6.2.
func isSize(s string) bool {
	n := strings.TrimRight(strings.ToLower(s), "kmgt")
	return len(s)-len(n) <= 1 && digits(n)
}
