package parse

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dmarcd/dmarcd/dmarc"
)

// leaf returns the text of the element whose start was met last, trimmed, with
// entities resolved and fit to be kept. It is valid until the next tag.
func (a *aggregateReader) leaf() ([]byte, error) {
	if a.s.empty {
		return nil, nil
	}
	tok, err := a.s.next()
	if err != nil {
		return nil, err
	}
	if tok == tokenEnd {
		return a.clean(a.s.text, a.s.raw), nil
	}
	// Elements within a value are skipped.
	a.rep.Flags |= dmarc.FlagStrayMarkup
	a.value = append(a.value[:0], a.s.text...)
	raw := a.s.raw
	for {
		if tok == tokenEOF {
			return nil, a.s.bad("the text breaks off within <%s>", printable(a.s.current()))
		}
		if err := a.s.skipElement(); err != nil {
			return nil, err
		}
		if tok, err = a.s.next(); err != nil {
			return nil, err
		}
		a.value = append(a.value, a.s.text[:min(len(a.s.text), maxText-min(maxText, len(a.value)))]...)
		raw = raw || a.s.raw
		if tok == tokenEnd {
			return a.clean(a.value, raw), nil
		}
	}
}

// clean trims text, resolves entities, and replaces what no text may hold.
func (a *aggregateReader) clean(b []byte, raw bool) []byte {
	if a.s.literal {
		a.rep.Flags |= dmarc.FlagStrayMarkup
		a.stray = true
	}
	if a.s.cut {
		a.rep.Flags |= dmarc.FlagCut
	}
	if len(b) > 0 && (b[0] <= ' ' || b[len(b)-1] <= ' ') {
		b = bytes.TrimSpace(b)
	}
	plain := true
	for _, c := range b {
		plain = plain && inText[c]
	}
	if plain {
		return b
	}
	if !raw && bytes.IndexByte(b, '&') >= 0 {
		b = appendUnescaped(nil, b)
	}
	if !utf8.Valid(b) {
		a.rep.Flags |= dmarc.FlagBadEncoding
	}
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			a.rep.Flags |= dmarc.FlagIllegalCharacters
		}
	}
	return bytes.TrimSpace([]byte(cleanText(string(b))))
}

// inText are the characters that stand for themselves in a value.
var inText = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '&' && c != '<'
	}
	return t
}()

// text returns the text of an element as a string of at most limit bytes.
func (a *aggregateReader) text(limit int) (string, error) {
	b, err := a.leaf()
	return a.limited(b, limit), err
}

func (a *aggregateReader) limited(b []byte, limit int) string {
	if len(b) > limit {
		a.rep.Flags |= dmarc.FlagCut
		s, _ := cut(string(b), limit)
		return s
	}
	return a.words.str(b)
}

// word returns the text of an element in lower case.
func (a *aggregateReader) word() ([]byte, error) {
	b, err := a.leaf()
	return lower(b), err
}

// lower makes ASCII letters small, in place.
func lower(b []byte) []byte {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

// appendUnescaped resolves the entities of XML, numeric ones, and &nbsp;.
// Others stay as they are.
func appendUnescaped(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '&')
		if i < 0 {
			return append(dst, b...)
		}
		dst, b = append(dst, b[:i]...), b[i:]
		end := bytes.IndexByte(b[:min(len(b), 12)], ';')
		if end < 0 {
			dst, b = append(dst, '&'), b[1:]
			continue
		}
		name := string(b[1:end])
		r := rune(-1)
		switch name {
		case "amp":
			r = '&'
		case "lt":
			r = '<'
		case "gt":
			r = '>'
		case "quot":
			r = '"'
		case "apos":
			r = '\''
		case "nbsp":
			r = ' '
		default:
			if n, base := strings.TrimPrefix(name, "#"), 10; n != name {
				if h := strings.TrimLeft(n, "xX"); h != n {
					n, base = h, 16
				}
				if v, err := strconv.ParseUint(n, base, 32); err == nil && utf8.ValidRune(rune(v)) {
					r = rune(v)
				}
			}
		}
		if r < 0 {
			dst, b = append(dst, '&'), b[1:]
			continue
		}
		dst, b = utf8.AppendRune(dst, r), b[end+1:]
	}
}
