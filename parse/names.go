package parse

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// domainName returns a domain as the rest of the program knows it: lower-case
// A-label, no trailing dot. If the text is no domain, it is returned trimmed and cut, and
// ok is false.
func domainName(s string) (name string, ok bool) {
	s = strings.TrimSpace(s)
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "", true
	}
	plain, lower := true, true
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		case c >= 'A' && c <= 'Z':
			lower = false
		default:
			plain = false
		}
	}
	if plain && len(s) <= maxName {
		if !lower {
			s = strings.ToLower(s)
		}
		return s, s[0] != '.' && !strings.Contains(s, "..")
	}
	if ascii, err := idna.Lookup.ToASCII(s); err == nil && !plain && len(ascii) <= maxName && ascii != "" {
		return ascii, true
	}
	s, _ = cut(cleanText(s), maxName)
	return strings.ToLower(s), false
}

// cut shortens text to a number of bytes at a rune boundary, and reports
// whether it had to.
func cut(s string, limit int) (string, bool) {
	if len(s) <= limit {
		return s, false
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit], true
}

// cleanText makes text valid UTF-8 without control characters; white space
// becomes single blanks where it is not one already.
func cleanText(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) && r != '\u200d' && r != '\u200c':
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
