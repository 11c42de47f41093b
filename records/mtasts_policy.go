package records

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An MTASTSPolicy is a policy of MTA-STS (RFC 8461, section 3.2), as far as
// it can be read.
type MTASTSPolicy struct {
	Mode   string // enforce, testing or none; "" if it is missing or not known
	MaxAge int    // seconds; -1 if it is missing or not a number
	MX     []string

	errs []lineError
}

// A lineError says what is wrong in a line of a policy; line 0 is the whole.
type lineError struct {
	line int
	why  string
}

// The bounds of RFC 8461, section 3.2, and those of the reader: more mail
// hosts and errors help nobody.
const (
	maxPolicyAge    = 31557600
	maxPolicyMX     = 1000
	maxPolicyErrors = 10
)

// covers reports whether a mail host is in the policy (RFC 8461, section 4.1).
func (p *MTASTSPolicy) covers(host string) bool {
	return slices.ContainsFunc(p.MX, func(pattern string) bool { return matchesHost(pattern, host) })
}

// parseMTASTSPolicy reads a policy. It never fails: errs of the policy says
// what is wrong, line by line. Lines end with LF or CRLF; blanks at the end of
// lines and empty lines at the end are passed over as senders do.
func parseMTASTSPolicy(body []byte) MTASTSPolicy {
	p := MTASTSPolicy{MaxAge: -1}
	say := func(line int, format string, args ...any) {
		if len(p.errs) < maxPolicyErrors {
			p.errs = append(p.errs, lineError{line, fmt.Sprintf(format, args...)})
		}
	}
	seen := map[string]bool{}
	line := 0
	for text := range strings.SplitSeq(strings.TrimRight(string(body), " \t\r\n"), "\n") {
		line++
		text = strings.TrimRight(text, " \t\r")
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f || r == '\ufffd' || r == '\ufeff' }) {
			say(line, "it holds a character that is not allowed")
			continue
		}
		if text == "" {
			say(line, "it is empty")
			continue
		}
		key, value, ok := strings.Cut(text, ":")
		value = strings.TrimLeft(value, " \t")
		switch {
		case !ok:
			say(line, "%q has no colon", excerpt(text))
			continue
		case !isPolicyKey(key):
			say(line, "%q is not a name of a field", excerpt(key))
			continue
		case value == "":
			say(line, "%s has no value", key)
			continue
		case key != "mx" && seen[key]:
			continue // the first one counts
		}
		seen[key] = true
		if why := p.read(key, value); why != "" {
			say(line, "%s", why)
		}
	}
	for _, key := range []string{"version", "mode", "max_age"} {
		if !seen[key] {
			say(0, "%s is missing", key)
		}
	}
	if !seen["mx"] && p.Mode != "none" {
		say(0, "mx is missing")
	}
	return p
}

// read takes in a field, and says what is wrong with it.
func (p *MTASTSPolicy) read(key, value string) (why string) {
	switch key {
	case "version":
		if value != "STSv1" {
			return fmt.Sprintf("the version is %q, not STSv1", excerpt(value))
		}
	case "mode":
		if value != "enforce" && value != "testing" && value != "none" {
			return fmt.Sprintf("the mode is %q, not enforce, testing or none", excerpt(value))
		}
		p.Mode = value
	case "max_age":
		n, err := strconv.Atoi(value)
		if err != nil || !digits(value) || len(value) > 10 {
			return fmt.Sprintf("max_age is %q, not a number of seconds", excerpt(value))
		}
		if p.MaxAge = n; n > maxPolicyAge {
			return fmt.Sprintf("max_age is %d, over %d", n, maxPolicyAge)
		}
	case "mx":
		if !isHostName(strings.TrimPrefix(value, "*.")) {
			return fmt.Sprintf("%q is not the name of a mail host", excerpt(value))
		}
		if len(p.MX) == maxPolicyMX {
			return "there are too many mail hosts"
		}
		p.MX = append(p.MX, strings.ToLower(value))
	}
	return ""
}

// isPolicyKey reports whether a name can be that of a field.
func isPolicyKey(s string) bool {
	for i, c := range []byte(s) {
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || c != '_' && c != '-' && c != '.') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
