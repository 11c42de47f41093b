package records

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// An SPFRecord is an SPF record as it was read (RFC 7208, section 4.6). With
// an error in Problems, evaluation of the whole record is a permerror.
type SPFRecord struct {
	Text     string // the character-strings, joined
	Seams    []int  // where they were joined: offsets in Text
	Terms    []SPFTerm
	Problems []SPFProblem // in the order of the text
}

// An SPFTerm is a mechanism or a modifier that follows the grammar.
type SPFTerm struct {
	Text      string // as written
	Pos       int    // of its first octet in the record, from 1
	Qualifier byte   // '+', '-', '~' or '?' of a mechanism, also where it is not written; 0 of a modifier
	Name      string // lower case; that of an unknown modifier is kept, too
	Domain    string // the domain-spec, macros unexpanded; "" stands for the domain of the record
	Net       netip.Prefix
	Bits4     int // of a and mx
	Bits6     int
}

// An SPFProblem is something that is wrong in the text of a record.
type SPFProblem struct {
	ID   string // of the check: "spf.syntax"
	Term string // as written, or the character
	Pos  int    // of its first octet, from 1
	Why  string
	Hint string // what was meant, if that can be told
	// Harmless problems leave the record valid: what is written has no effect.
	Harmless bool

	token int // of the text after the version
	takes int // how many tokens Hint stands for
}

// valid reports whether the record can be evaluated.
func (r *SPFRecord) valid() bool {
	for i := range r.Problems {
		if !r.Problems[i].Harmless {
			return false
		}
	}
	return true
}

// term returns the first term of a name, or nil.
func (r *SPFRecord) term(name string) *SPFTerm {
	for i := range r.Terms {
		if r.Terms[i].Name == name {
			return &r.Terms[i]
		}
	}
	return nil
}

// modifier reports whether a term is a modifier.
func (t *SPFTerm) modifier() bool { return t.Qualifier == 0 }

// counts reports whether a term is one of those that a receiver looks up ten
// of at most (RFC 7208, section 4.6.4).
func (t *SPFTerm) counts() bool {
	switch t.Name {
	case "include", "a", "mx", "ptr", "exists", "redirect":
		return true
	}
	return false
}

// maxProblems bounds how many problems of one record are told.
const maxProblems = 50

// isSPF reports whether a text is an SPF record (RFC 7208, section 4.5): the
// version, then a blank or nothing.
func isSPF(text string) bool {
	const version = "v=spf1"
	return len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) &&
		(len(text) == len(version) || text[len(version)] == ' ')
}

// A spfToken is what stands between blanks.
type spfToken struct {
	text string
	pos  int // from 1
}

// spfTokens parts a record at blanks, without the version.
func spfTokens(text string) []spfToken {
	var tokens []spfToken
	for at := len("v=spf1"); at < len(text); {
		if text[at] == ' ' {
			at++
			continue
		}
		end := strings.IndexByte(text[at:], ' ')
		if end < 0 {
			end = len(text) - at
		}
		tokens = append(tokens, spfToken{text[at : at+end], at + 1})
		at += end
	}
	return tokens
}

// parseSPF reads the character-strings of a TXT record that is an SPF record.
// It reads all of it, and never fails: what is wrong is told in Problems.
func parseSPF(strs []string) *SPFRecord {
	r := &SPFRecord{Text: strings.Join(strs, "")}
	at := 0
	for _, s := range strs[:max(len(strs)-1, 0)] {
		at += len(s)
		r.Seams = append(r.Seams, at)
	}
	tokens := spfTokens(r.Text)
	seen := map[string]bool{}
	taken := 0 // tokens that belong to a problem before them
	for i, tok := range tokens {
		term, problem := parseSPFTerm(tok.text)
		term.Pos = tok.pos
		if problem == nil && (term.Name == "redirect" || term.Name == "exp") {
			if seen[term.Name] {
				problem = &SPFProblem{ID: "spf.modifier_twice", Why: term.Name + "= stands twice"}
			}
			seen[term.Name] = true
		}
		if problem == nil || problem.Harmless {
			r.Terms = append(r.Terms, term)
		}
		if problem == nil || taken > 0 || len(r.Problems) >= maxProblems {
			taken = max(taken-1, 0)
			continue
		}
		problem.Pos, problem.token, problem.takes = tok.pos+problem.Pos, i, 1
		if problem.Term == "" {
			problem.Term = tok.text
		}
		if problem.Hint == "" && problem.ID != "spf.modifier_twice" {
			problem.Hint, problem.takes = spfHint(tokens[i:])
		}
		taken = problem.takes - 1
		r.Problems = append(r.Problems, *problem)
	}
	return r
}

// parseSPFTerm reads one term. The position of a problem is relative to it.
func parseSPFTerm(text string) (SPFTerm, *SPFProblem) {
	t := SPFTerm{Text: text}
	for i := range len(text) {
		switch c := text[i]; {
		case c > '~' && c != 0x7f:
			char := firstChar(text[i:])
			return t, &SPFProblem{ID: "spf.non_ascii", Term: char, Pos: i, Why: "only ASCII may stand in a record"}
		case c < ' ' || c == 0x7f:
			return t, &SPFProblem{ID: "spf.syntax", Why: fmt.Sprintf("holds the control character %d; only blanks part terms", c)}
		}
	}
	body := text
	switch text[0] {
	case '+', '-', '~', '?':
		t.Qualifier, body = text[0], text[1:]
	}
	end := strings.IndexAny(body, "=:/")
	if end < 0 {
		end = len(body)
	}
	t.Name = strings.ToLower(body[:end])
	rest := body[end:]
	if strings.HasPrefix(rest, "=") {
		return t, t.parseModifier(body[:end], rest[1:])
	}
	if t.Qualifier == 0 {
		t.Qualifier = '+'
	}
	return t, t.parseMechanism(rest)
}

func syntax(format string, args ...any) *SPFProblem {
	return &SPFProblem{ID: "spf.syntax", Why: fmt.Sprintf(format, args...)}
}

func (t *SPFTerm) parseModifier(name, value string) *SPFProblem {
	switch {
	case t.Qualifier != 0:
		return syntax("a modifier takes no %q before it", string(t.Qualifier))
	case !isModifierName(name):
		return syntax("no modifier can have the name %q", name)
	}
	if t.Name == "redirect" || t.Name == "exp" {
		t.Domain = value
		if value == "" {
			return syntax("names no domain")
		}
		return checkDomainSpec(value)
	}
	if err := eachMacro(value, true, func(string, *spfMacro) {}); err != nil {
		return &SPFProblem{ID: "spf.macro_bad", Why: err.Error()}
	}
	switch t.Name {
	case "all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists":
		return &SPFProblem{ID: "spf.syntax", Harmless: true, Why: "reads as a modifier that nobody knows, and has no effect: " + t.Name + " takes a colon"}
	case "v":
		return &SPFProblem{ID: "spf.syntax", Harmless: true, Why: "has no effect: the version stands once, at the start"}
	}
	return nil
}

func isModifierName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case isLetter(c):
		case i > 0 && (isDigit(c) || c == '-' || c == '_' || c == '.'):
		default:
			return false
		}
	}
	return s != ""
}

func (t *SPFTerm) parseMechanism(rest string) *SPFProblem {
	value, given := strings.CutPrefix(rest, ":")
	switch t.Name {
	case "all":
		if rest != "" {
			return syntax("nothing may follow all")
		}
		return nil
	case "include", "exists":
		if value == "" || !given {
			return syntax("%s names no domain", t.Name)
		}
		t.Domain = value
		if spec, cidr := cutCIDR(value); cidr != "" && checkDomainSpec(spec) == nil {
			return syntax("%s takes no prefix length", t.Name)
		}
		return checkDomainSpec(value)
	case "ptr":
		switch {
		case rest == "":
			return nil
		case !given:
			return syntax("ptr takes no prefix length")
		case value == "":
			return syntax("no domain follows the colon")
		}
		t.Domain = value
		return checkDomainSpec(value)
	case "a", "mx":
		spec, cidr := cutCIDR(rest)
		t.Domain, given = strings.CutPrefix(spec, ":")
		if given && t.Domain == "" {
			return syntax("no domain follows the colon")
		}
		if given {
			if p := checkDomainSpec(t.Domain); p != nil {
				return p
			}
		} else if spec != "" {
			return syntax("%q is no prefix length", spec)
		}
		return t.parseDualCIDR(cidr)
	case "ip4", "ip6":
		if value == "" {
			return &SPFProblem{ID: "spf.bad_address", Why: "names no address"}
		}
		return t.parseNet(value)
	}
	if t.Name == "" {
		return syntax("names no mechanism")
	}
	return syntax("there is no mechanism %q", t.Name)
}

// cutCIDR cuts "/n", "//n" or "/n//n" from the end.
func cutCIDR(s string) (spec, cidr string) {
	cut := func(end int) int {
		at := end
		for at > 0 && isDigit(s[at-1]) {
			at--
		}
		if at == end || at == 0 || s[at-1] != '/' {
			return end
		}
		return at - 1
	}
	at := cut(len(s))
	if at < len(s) && at > 0 && s[at-1] == '/' {
		at = cut(at - 1)
	}
	return s[:at], s[at:]
}

func (t *SPFTerm) parseDualCIDR(cidr string) *SPFProblem {
	t.Bits4, t.Bits6 = 32, 128
	four, six, dual := strings.Cut(cidr, "//")
	if dual {
		n, ok := prefixLength(six, 128)
		if !ok {
			return syntax("/%s is no prefix length of IPv6", six)
		}
		t.Bits6 = n
	}
	if four != "" {
		n, ok := prefixLength(four[1:], 32)
		if !ok {
			return syntax("%s is no prefix length of IPv4", four)
		}
		t.Bits4 = n
	}
	return nil
}

// prefixLength reads a length without leading zeros.
func prefixLength(s string, most int) (int, bool) {
	if s == "" || len(s) > 3 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	for _, c := range []byte(s) {
		if !isDigit(c) {
			return 0, false
		}
	}
	n, _ := strconv.Atoi(s)
	return n, n <= most
}

func (t *SPFTerm) parseNet(value string) *SPFProblem {
	text, length, sized := strings.Cut(value, "/")
	addr, err := netip.ParseAddr(text)
	bad := func(format string, args ...any) *SPFProblem {
		return &SPFProblem{ID: "spf.bad_address", Why: fmt.Sprintf(format, args...)}
	}
	most := 32
	if t.Name == "ip6" {
		most = 128
	}
	switch {
	case err != nil || addr.Zone() != "":
		return bad("%q is no address", text)
	case addr.Is4() && t.Name == "ip6":
		return bad("%s is an address of IPv4", text)
	case addr.Is6() && t.Name == "ip4":
		return bad("%s is an address of IPv6", text)
	}
	bits := most
	if sized {
		n, ok := prefixLength(length, most)
		if !ok {
			return bad("/%s is no prefix length", length)
		}
		bits = n
	}
	t.Net = netip.PrefixFrom(addr, bits)
	return nil
}

// checkDomainSpec reads a domain-spec (RFC 7208, section 7.1): macros and
// letters, with a macro or a top-level label at the end.
func checkDomainSpec(spec string) *SPFProblem {
	tail, macros := "", 0 // the letters after the last macro
	err := eachMacro(spec, false, func(literal string, m *spfMacro) {
		if m != nil {
			tail = ""
			macros++
		} else {
			tail = literal
		}
	})
	if err != nil {
		return &SPFProblem{ID: "spf.macro_bad", Why: err.Error()}
	}
	if tail == "" { // ends in a macro
		return nil
	}
	name := strings.TrimSuffix(tail, ".")
	dot := strings.LastIndexByte(name, '.')
	switch {
	case dot < 0 && macros == 0:
		return syntax("%q is one label, not the full name of a domain", spec)
	case dot < 0 || !isTopLabel(name[dot+1:]):
		return syntax("%q does not end as a domain does", spec)
	}
	if macros == 0 && !isDNSName(name) {
		return syntax("%q cannot be the name of a domain", spec)
	}
	return nil
}

// isTopLabel reports whether a label can stand last: letters, digits and
// hyphens, not only digits.
func isTopLabel(s string) bool {
	digits := true
	for i, c := range []byte(s) {
		switch {
		case isDigit(c):
		case isLetter(c), c == '-' && i > 0 && i < len(s)-1:
			digits = false
		default:
			return false
		}
	}
	return s != "" && !digits
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isDNSName reports whether a question can be asked for a name without the
// final dot: no empty label, none over 63 octets, and 253 in all.
func isDNSName(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return len(name) <= 253
}
