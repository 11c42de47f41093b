package records

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A spfMacro is one macro-expand (RFC 7208, section 7.1).
type spfMacro struct {
	letter  byte // lower case; '%', '_' or '-' of the three that stand for characters
	escape  bool // written in upper case
	digits  int  // parts to keep, from the right; 0 for all
	reverse bool
	delims  string
}

var errMacroCut = errors.New("a macro has no closing brace")

// eachMacro calls f with the literals and macros of a text, in order: the macro is nil
// for a literal. Macros that only an explanation may hold are refused unless
// exp is set, where blanks are allowed, too.
func eachMacro(text string, exp bool, f func(literal string, m *spfMacro)) error {
	for text != "" {
		at := strings.IndexByte(text, '%')
		if at < 0 {
			at = len(text)
		}
		if at > 0 {
			for _, c := range []byte(text[:at]) {
				if c < ' ' || c > '~' || c == ' ' && !exp {
					return fmt.Errorf("the octet %d may not stand in it", c)
				}
			}
			f(text[:at], nil)
			text = text[at:]
			continue
		}
		if len(text) < 2 {
			return errors.New("a single % ends it; %% stands for one")
		}
		switch text[1] {
		case '%', '_', '-':
			f("", &spfMacro{letter: text[1]})
			text = text[2:]
			continue
		case '{':
		default:
			return fmt.Errorf("%q is no macro; %%%% stands for a percent sign", text[:2])
		}
		end := strings.IndexByte(text, '}')
		if end < 0 {
			return errMacroCut
		}
		m, err := parseMacro(text[2:end], exp)
		if err != nil {
			return fmt.Errorf("%s: %w", text[:end+1], err)
		}
		f("", m)
		text = text[end+1:]
	}
	return nil
}

// parseMacro reads what stands between the braces.
func parseMacro(s string, exp bool) (*spfMacro, error) {
	if s == "" {
		return nil, errors.New("names no macro")
	}
	m := &spfMacro{letter: s[0] | 0x20, escape: 'A' <= s[0] && s[0] <= 'Z'}
	switch {
	case strings.IndexByte("slodiphv", m.letter) >= 0 && isLetter(s[0]):
	case strings.IndexByte("crt", m.letter) >= 0 && isLetter(s[0]):
		if !exp {
			return nil, fmt.Errorf("%q may stand in explanations only", s[:1])
		}
	default:
		return nil, fmt.Errorf("there is no macro %q", s[:1])
	}
	rest := s[1:]
	n := 0
	for n < len(rest) && isDigit(rest[n]) {
		n++
	}
	if n > 0 {
		// More parts than a name has are all of them.
		m.digits, _ = strconv.Atoi(rest[:min(n, 4)])
		if strings.Trim(rest[:n], "0") == "" {
			return nil, errors.New("keeps no part")
		}
		if n > 4 {
			m.digits = 9999
		}
		rest = rest[n:]
	}
	if rest != "" && rest[0]|0x20 == 'r' {
		m.reverse, rest = true, rest[1:]
	}
	if i := strings.IndexFunc(rest, func(c rune) bool { return !strings.ContainsRune(".-+,/_=", c) }); i >= 0 {
		return nil, fmt.Errorf("%q is no delimiter", rest[i:])
	}
	m.delims = rest
	return m, nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// letters returns the macros of a domain-spec, each once, without those that
// stand for characters.
func macroLetters(spec string) string {
	var letters []byte
	_ = eachMacro(spec, false, func(_ string, m *spfMacro) { // what is wrong was told by parseSPF
		if m != nil && isLetter(m.letter) && strings.IndexByte(string(letters), m.letter) < 0 {
			letters = append(letters, m.letter)
		}
	})
	return string(letters)
}

// maxExpansion bounds what macros expand to; names are far shorter.
const maxExpansion = 8 << 10

// expandMacros replaces the macros of a text by values. It fails if the text
// is not valid or grows too long.
func expandMacros(text string, exp bool, value func(letter byte) string) (string, error) {
	var b strings.Builder
	err := eachMacro(text, exp, func(literal string, m *spfMacro) {
		if b.Len() > maxExpansion {
			return
		}
		if m == nil {
			b.WriteString(literal)
			return
		}
		switch m.letter {
		case '%':
			b.WriteByte('%')
		case '_':
			b.WriteByte(' ')
		case '-':
			b.WriteString("%20")
		default:
			b.WriteString(m.transform(value(m.letter)))
		}
	})
	if err == nil && b.Len() > maxExpansion {
		err = fmt.Errorf("expands to more than %d octets", maxExpansion)
	}
	return b.String(), err
}

func (m *spfMacro) transform(s string) string {
	if m.digits > 0 || m.reverse || m.delims != "" {
		delims := m.delims
		if delims == "" {
			delims = "."
		}
		parts := splitAny(s, delims)
		if m.reverse {
			for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
				parts[i], parts[j] = parts[j], parts[i]
			}
		}
		if m.digits > 0 && m.digits < len(parts) {
			parts = parts[len(parts)-m.digits:]
		}
		s = strings.Join(parts, ".")
	}
	if m.escape {
		s = urlEscape(s)
	}
	return s
}

func splitAny(s, delims string) []string {
	var parts []string
	for {
		at := strings.IndexAny(s, delims)
		if at < 0 {
			return append(parts, s)
		}
		parts = append(parts, s[:at])
		s = s[at+1:]
	}
}

// urlEscape escapes all but unreserved characters (RFC 3986, section 2.3).
func urlEscape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if isLetter(c) || isDigit(c) || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// macroAddr writes an address as the macro i does: IPv6 in dotted nibbles.
func macroAddr(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	var b strings.Builder
	for i, c := range ip.As16() {
		if i > 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%x.%x", c>>4, c&15)
	}
	return b.String()
}

// expandedName makes an expanded domain-spec a name to ask for: without the
// final dot, and cut from the left to 253 octets (RFC 7208, section 7.3). It
// returns false if no question can be asked for it.
func expandedName(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for len(name) > 253 {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			break
		}
		name = rest
	}
	return name, isDNSName(name)
}
