package parse

import (
	"bytes"
	"io"
	"mime"
	"net/url"
	"sort"
	"strconv"
	"strings"

	"github.com/emersion/go-message/charset"
)

const (
	fieldName  = 128      // bytes of a field name; longer is no name
	fieldValue = 16 << 10 // bytes of a value that are kept
	fileName   = 1000     // bytes of a file name
)

// readHeader reads a field block (RFC 5322, section 2.2) and leaves the lines
// at the body. It gives every field to emit, unfolded and otherwise as
// written. It puts up with anything: lines that are no field between fields,
// continuations of nothing, a blank line that is missing. It returns the number
// of fields.
func readHeader(l *lines, emit func(name, value string)) int {
	var (
		name  string
		value []byte
		n     int
		body  = l.offset() // where the body begins if there is no header
	)
	done := func() {
		if name != "" {
			emit(name, strings.TrimSpace(string(value)))
		}
		name, value = "", value[:0]
	}
	defer done()
	for {
		at := l.offset()
		line, ok := l.next()
		switch {
		case !ok && n == 0:
			l.seek(body)
			return n
		case !ok || len(line) == 0:
			return n
		}
		if line[0] == ' ' || line[0] == '\t' {
			text := bytes.TrimSpace(line)
			if len(text) == 0 && !l.atField() {
				return n // a blank line made of blanks
			}
			if name != "" && len(value)+len(text) < fieldValue {
				value = append(append(value, ' '), text...)
			}
			continue
		}
		if key, text, ok := field(line); ok {
			done()
			n++
			name = key
			value = append(value[:0], text[:min(len(text), fieldValue)]...)
			continue
		}
		// No field: a stray line if a field follows, else the body.
		if l.atField() {
			done()
			continue
		}
		if n > 0 {
			body = at
		}
		l.seek(body)
		return n
	}
}

// atField tells whether the next line is a field.
func (l *lines) atField() bool {
	line, ok := l.peek()
	if !ok {
		return false
	}
	_, _, ok = field(line)
	return ok
}

// field splits a line into name and value.
func field(line []byte) (name string, value []byte, ok bool) {
	i := bytes.IndexByte(line[:min(len(line), fieldName+1)], ':')
	if i <= 0 {
		return "", nil, false
	}
	key := bytes.TrimRight(line[:i], " \t")
	for j, c := range key {
		switch {
		case isLetter(c) && c != '_':
		case j > 0 && ('0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'):
		default:
			return "", nil, false
		}
	}
	if len(key) == 0 {
		return "", nil, false
	}
	return string(key), line[i+1:], true
}

// squash makes the different spellings of a field name equal: Content-Type,
// ContentType, content_type.
func squash(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == '_' || r == '.':
			return -1
		case 'A' <= r && r <= 'Z':
			return r | 0x20
		}
		return r
	}, name)
}

// A header is the fields of a message or part that matter here, by squashed
// name: the first that is not empty.
type header map[string]string

// headerFields are the names of the fields that matter.
var headerFields = map[string]bool{
	"contenttype": true, "contenttransferencoding": true, "contentdisposition": true,
	"messageid": true, "from": true, "subject": true, "date": true, "returnpath": true,
	"autosubmitted": true, "xautoreply": true, "xautorespond": true, "xfailedrecipients": true,
	"xappleunsubscribe": true, "precedence": true,
	"tlsreportdomain": true, "tlsreportsubmitter": true,
	"received": true, "to": true, "mimeversion": true, "deliveredto": true, "feedbacktype": true,
}

// collect reads the header of a mail.
func collect(l *lines) header {
	return collectFields(l, func(key string) bool { return headerFields[key] })
}

// collectContent reads the header of a part: the fields about its content.
func collectContent(l *lines) header {
	return collectFields(l, func(key string) bool { return headerFields[key] && strings.HasPrefix(key, "content") })
}

func collectFields(l *lines, wanted func(key string) bool) header {
	h := header{}
	readHeader(l, func(name, value string) {
		key := squash(name)
		if value == "" || !wanted(key) {
			return
		}
		old, ok := h[key]
		if !ok || key == "contenttype" && isMultipart(value) && !isMultipart(old) {
			h[key] = value
		}
	})
	return h
}

func isMultipart(contentType string) bool {
	typ, params := parseParams(contentType)
	return strings.HasPrefix(typ, "multipart/") && params["boundary"] != ""
}

// mail tells whether the header is one of a mail.
func (h header) mail() bool {
	for _, key := range []string{"from", "subject", "date", "received", "messageid", "to", "contenttype", "mimeversion", "returnpath", "deliveredto"} {
		if h[key] != "" {
			return true
		}
	}
	return false
}

// contentType returns the media type, lower-case, "" if none is declared, and
// its parameters.
func (h header) contentType() (string, map[string]string) { return parseParams(h["contenttype"]) }

// fileName returns the name that the part gives to itself, or "".
func (h header) fileName() string {
	_, params := parseParams(h["contentdisposition"])
	name := params["filename"]
	if name == "" {
		_, params = h.contentType()
		name = params["name"]
	}
	name, _ = textField(name, fileName)
	return name
}

// parseParams reads a value such as that of Content-Type, with whatever is
// wrong with it: the first of several parameters of a name counts, pieces of
// RFC 2231 are joined.
func parseParams(value string) (string, map[string]string) {
	word, rest, _ := strings.Cut(value, ";")
	word = strings.ToLower(strings.TrimSpace(word))
	if i := strings.IndexAny(word, " \t(,"); i >= 0 {
		word = word[:i]
	}
	word = strings.Trim(word, `"'`)
	params := map[string]string{}
	var pieces []piece
	for range 100 {
		if rest = strings.TrimLeft(rest, " \t;,"); rest == "" {
			break
		}
		var name, text string
		name, text, rest = param(rest)
		name = strings.ToLower(name)
		if name == "" {
			continue
		}
		if base, star, ok := strings.Cut(name, "*"); ok {
			pieces = append(pieces, newPiece(base, star, text))
			continue
		}
		if params[name] == "" {
			params[name] = text
		}
	}
	joinPieces(params, pieces)
	return word, params
}

// param takes one parameter from the front of a string.
func param(s string) (name, value, rest string) {
	i := strings.IndexAny(s, "=;")
	if i < 0 || s[i] == ';' {
		if i < 0 {
			return "", "", ""
		}
		return "", "", s[i+1:]
	}
	name, s = strings.TrimSpace(s[:i]), strings.TrimLeft(s[i+1:], " \t")
	if s == "" || s[0] != '"' {
		value, rest, _ = strings.Cut(s, ";")
		return name, strings.TrimSpace(value), rest
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return name, b.String(), s[i+1:]
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	// The closing quote is missing: what stands before the next semicolon.
	value, rest, _ = strings.Cut(s[1:], ";")
	return name, strings.TrimSpace(value), rest
}

// A piece is a part of a parameter value as RFC 2231 splits them.
type piece struct {
	name    string
	n       int
	encoded bool
	text    string
}

// newPiece makes a piece of what stands before and after the first star.
func newPiece(base, star, text string) piece {
	p := piece{name: strings.TrimSpace(base), text: text}
	number, encoded := strings.CutSuffix(star, "*")
	p.encoded = encoded || star == ""
	if n, err := strconv.Atoi(number); err == nil {
		p.n = n
	}
	return p
}

// joinPieces adds the values that were split to params.
func joinPieces(params map[string]string, pieces []piece) {
	sort.SliceStable(pieces, func(i, j int) bool { return pieces[i].n < pieces[j].n })
	joined := map[string]string{}
	sets := map[string]string{}
	for _, p := range pieces {
		text := p.text
		if p.encoded {
			if _, ok := joined[p.name]; !ok {
				if set, rest, ok := strings.Cut(text, "'"); ok {
					if _, rest, ok = strings.Cut(rest, "'"); ok {
						sets[p.name], text = set, rest
					}
				}
			}
			if plain, err := url.PathUnescape(text); err == nil {
				text = plain
			}
		}
		joined[p.name] += text
	}
	for name, text := range joined {
		if params[name] != "" || name == "" {
			continue
		}
		if set := sets[name]; set != "" {
			if r, err := charset.Reader(set, strings.NewReader(text)); err == nil {
				if b, err := io.ReadAll(r); err == nil {
					text = string(b)
				}
			}
		}
		params[name] = text
	}
}

// decodeText returns the text of a header value for people: encoded words
// (RFC 2047) decoded, white space made single, control characters gone.
// Charsets that nobody knows are kept as they came.
func decodeText(s string) string {
	d := mime.WordDecoder{CharsetReader: func(name string, r io.Reader) (io.Reader, error) {
		name, _, _ = strings.Cut(name, "*") // a language may follow (RFC 2231, section 5)
		if decoded, err := charset.Reader(name, r); err == nil {
			return decoded, nil
		}
		return r, nil
	}}
	if text, err := d.DecodeHeader(s); err == nil {
		s = text
	}
	return cleanText(strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " "))
}

// textField is decodeText cut to a length; the second result tells whether it
// had to be cut.
func textField(s string, max int) (string, bool) { return cut(decodeText(s), max) }
