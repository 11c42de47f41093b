package parse

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A scanner walks over the tags of an XML text in a window that slides over
// the input. It knows just enough XML for reports: names by their local part, no
// attributes, no entities of documents' own.
type scanner struct {
	r      io.Reader
	buf    []byte
	pos    int   // of the next byte in buf
	end    int   // of what is filled
	offset int64 // of buf[0] in the input
	eof    bool
	err    error // of the reader

	maxDepth  int
	maxLength int64 // of text between two tags
	lenient   bool

	names []byte // local names of the open elements
	marks []int  // where each begins in names

	name    []byte // of the tag that was met last; valid until next is called
	whole   []byte // that tag without its angle brackets; valid until next is called
	empty   bool   // it closes itself
	text    []byte // between the tags, as written; valid until next is called
	joined  []byte // scratch: text in pieces
	length  int64  // of all of its pieces
	raw     bool   // some of the text came from CDATA, where entities mean nothing
	literal bool   // some of it has markup that was taken as text
	cut     bool   // text beyond maxText was left out
}

type token uint8

const (
	tokenEOF token = iota
	tokenStart
	tokenEnd
)

const (
	windowSize = 64 << 10
	maxText    = 8 << 10  // bytes of text that are kept of one element
	maxTag     = 32 << 10 // bytes of a tag
)

var windows = sync.Pool{New: func() any { return new([windowSize]byte) }}

func newScanner(r io.Reader, limits *Limits, lenient bool) *scanner {
	return &scanner{r: r, buf: windows.Get().(*[windowSize]byte)[:], maxDepth: limits.Depth, maxLength: limits.Text, lenient: lenient}
}

// release gives the window back. Nothing can be read afterwards.
func (s *scanner) release() {
	if s.buf != nil {
		windows.Put((*[windowSize]byte)(s.buf))
		s.buf, s.pos, s.end, s.eof = nil, 0, 0, true
	}
}

// fill reads more behind what is there; it reports false if there is no more.
func (s *scanner) fill() bool {
	if s.eof {
		return false
	}
	if s.pos > 0 {
		copy(s.buf, s.buf[s.pos:s.end])
		s.offset += int64(s.pos)
		s.end -= s.pos
		s.pos = 0
	}
	if s.end == len(s.buf) {
		return false // a token fills the window
	}
	for tries := 0; tries < 100; tries++ {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		if err != nil {
			s.eof = true
			if err != io.EOF {
				s.err = err
			}
			return n > 0
		}
		if n > 0 {
			return true
		}
	}
	s.eof, s.err = true, io.ErrNoProgress
	return false
}

// at is the place in the input, for people.
func (s *scanner) at() int64 { return s.offset + int64(s.pos) }

func (s *scanner) bad(format string, args ...any) error {
	if s.err != nil {
		return s.err
	}
	return &dmarc.Error{Outcome: dmarc.OutcomeBadXML, Reason: fmt.Sprintf(format, args...) + fmt.Sprintf(" (byte %d)", s.at())}
}

func (s *scanner) hostile(format string, args ...any) error {
	return &dmarc.Error{Outcome: dmarc.OutcomeHostileXML, Reason: fmt.Sprintf(format, args...) + fmt.Sprintf(" (byte %d); such a report is never needed, ask the reporter", s.at())}
}

func (s *scanner) tooLong() error {
	return s.hostile("the text of an element is longer than %s (limits.text)", size(int64(s.maxLength)))
}

// next goes to the next tag. The text before it is in s.text.
func (s *scanner) next() (token, error) {
	s.raw, s.literal, s.cut = false, false, false
	// Nearly always text and tag are in the window, and nothing else.
	if i := bytes.IndexByte(s.buf[s.pos:s.end], '<'); i >= 0 && i <= maxText {
		s.text = s.buf[s.pos : s.pos+i]
		if tok := s.plainTag(s.pos + i); tok != tokenEOF {
			return tok, nil
		}
	}
	s.joined, s.length = s.joined[:0], 0
	tok, err := s.nextOdd()
	s.text = s.joined
	return tok, err
}

// nextOdd goes to the next tag, whatever stands before it.
func (s *scanner) nextOdd() (token, error) {
	for {
		if s.length > s.maxLength {
			return tokenEOF, s.tooLong()
		}
		i := bytes.IndexByte(s.buf[s.pos:s.end], '<')
		if i < 0 {
			s.addText(s.buf[s.pos:s.end])
			s.pos = s.end
			if !s.fill() {
				return tokenEOF, s.err
			}
			continue
		}
		s.addText(s.buf[s.pos : s.pos+i])
		s.pos += i
		for s.end-s.pos < 9 && s.fill() {
		}
		b := s.buf[s.pos:s.end]
		switch {
		case len(b) < 2:
			s.pos = s.end
			return tokenEOF, s.err
		case b[1] == '?':
			if err := s.skip("?>", "a processing instruction", nil); err != nil {
				return tokenEOF, err
			}
		case b[1] == '!':
			if err := s.declaration(b); err != nil {
				return tokenEOF, err
			}
		default:
			if tok := s.plainTag(s.pos); tok != tokenEOF {
				return tok, nil
			}
			tok, ok, err := s.oddTag()
			if ok || err != nil {
				return tok, err
			}
		}
	}
}

func (s *scanner) addText(b []byte) {
	s.length += int64(len(b))
	if room := maxText - len(s.joined); len(b) > room {
		b, s.cut = b[:room], true
	}
	s.joined = append(s.joined, b...)
}

// skip goes behind a closing mark, and gives what is before it to keep.
func (s *scanner) skip(mark, what string, keep func([]byte)) error {
	for {
		if i := bytes.Index(s.buf[s.pos:s.end], []byte(mark)); i >= 0 {
			if keep != nil {
				keep(s.buf[s.pos : s.pos+i])
			}
			s.pos += i + len(mark)
			return nil
		}
		// Leave what may be the beginning of the mark.
		if n := s.end - s.pos - (len(mark) - 1); n > 0 {
			if keep != nil {
				keep(s.buf[s.pos : s.pos+n])
			}
			s.pos += n
		}
		if s.length > s.maxLength {
			return s.tooLong()
		}
		if !s.fill() {
			return s.bad("%s does not end", what)
		}
	}
}

// declaration reads what begins with "<!".
func (s *scanner) declaration(b []byte) error {
	switch {
	case bytes.HasPrefix(b, []byte("<!--")):
		s.pos += 4
		return s.skip("-->", "a comment", nil)
	case bytes.HasPrefix(b, []byte("<![CDATA[")):
		s.pos += 9
		s.raw = true
		return s.skip("]]>", "a CDATA section", s.addText)
	}
	// A DOCTYPE without an internal subset is harmless.
	begin := s.at()
	for {
		if i := bytes.IndexAny(s.buf[s.pos:s.end], "[>"); i >= 0 {
			if s.buf[s.pos+i] == '[' || bytes.Contains(s.buf[s.pos:s.pos+i], []byte("ENTITY")) {
				return s.hostile("it declares entities")
			}
			s.pos += i + 1
			return nil
		}
		if s.at()-begin > maxTag || !s.fill() {
			return s.bad("a declaration does not end")
		}
	}
}

// plainTag reads a tag that is a name in angle brackets, or the end of what is
// open, from the '<' at a place. It returns tokenEOF and consumes nothing if
// there is another one, or not all of it.
func (s *scanner) plainTag(at int) token {
	n := bytes.IndexByte(s.buf[at+1:s.end], '>')
	if n <= 0 {
		return tokenEOF
	}
	inner := s.buf[at+1 : at+1+n]
	if inner[0] == '/' {
		if len(s.marks) == 0 || string(inner[1:]) != string(s.current()) {
			return tokenEOF
		}
		s.pop()
		s.name = inner[1:]
		s.pos = at + n + 2
		return tokenEnd
	}
	if !plainName(inner) || len(s.marks) >= s.maxDepth {
		return tokenEOF
	}
	s.name, s.whole, s.empty = inner, inner, false
	s.push(inner)
	s.pos = at + n + 2
	return tokenStart
}

// plainName tells whether a tag is a name of ASCII letters, digits and '_',
// and nothing else.
func plainName(b []byte) bool {
	if b[0] >= '0' && b[0] <= '9' {
		return false
	}
	for _, c := range b {
		if !inName[c] {
			return false
		}
	}
	return true
}

var inName = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
	}
	return t
}()

// oddTag reads a tag of any kind. In a lenient scan, markup that is no tag is
// taken as text: ok is false then.
func (s *scanner) oddTag() (tok token, ok bool, err error) {
	n := 0 // of the bytes before '>'
	quote := byte(0)
	for i := 1; ; i++ {
		if s.pos+i >= s.end {
			if i > maxTag || !s.fill() {
				return s.noTag("a tag does not end")
			}
		}
		c := s.buf[s.pos+i]
		if quote != 0 {
			if c == quote {
				quote = 0
			}
			continue
		}
		if c == '>' {
			n = i
			break
		}
		if c == '<' {
			return s.noTag("a tag begins within another one")
		}
		if (c == '"' || c == '\'') && i > 1 && s.buf[s.pos+1] != '/' && !s.lenient {
			quote = c
		}
	}
	inner := s.buf[s.pos+1 : s.pos+n]
	if len(inner) == 0 {
		return s.noTag("<> is no tag")
	}
	if inner[0] == '/' {
		if len(s.marks) == 0 {
			s.pos += n + 1
			return tokenEOF, false, nil // a stray end tag outside of everything
		}
		name := local(inner[1:])
		if open := s.current(); string(name) != string(open) {
			return s.noTag("</%s> closes <%s>", printable(name), printable(open))
		}
		s.pop()
		s.name = name
		s.pos += n + 1
		return tokenEnd, true, nil
	}
	s.empty = inner[len(inner)-1] == '/'
	name := local(inner)
	if len(name) == 0 || !nameStart(name[0]) || bytes.IndexByte(name, '@') >= 0 || bytes.IndexByte(name, '=') >= 0 || bytes.IndexByte(name, '/') >= 0 {
		return s.noTag("<%s> is no tag", printable(name))
	}
	if len(s.marks) >= s.maxDepth {
		return tokenEOF, false, s.hostile("elements are nested deeper than %d (limits.depth)", s.maxDepth)
	}
	s.name, s.whole = name, inner
	if !s.empty {
		s.push(name)
	}
	s.pos += n + 1
	return tokenStart, true, nil
}

// noTag takes a '<' as text in a lenient scan, and is an error otherwise.
func (s *scanner) noTag(format string, args ...any) (token, bool, error) {
	if !s.lenient || s.pos >= s.end {
		return tokenEOF, false, s.bad(format, args...)
	}
	s.literal = true
	s.addText(s.buf[s.pos : s.pos+1])
	s.pos++
	return tokenEOF, false, nil
}

func (s *scanner) push(name []byte) {
	s.marks = append(s.marks, len(s.names))
	s.names = append(s.names, name...)
}

func (s *scanner) pop() {
	s.names = s.names[:s.marks[len(s.marks)-1]]
	s.marks = s.marks[:len(s.marks)-1]
}

// current is the local name of the innermost open element.
func (s *scanner) current() []byte {
	if len(s.marks) == 0 {
		return nil
	}
	return s.names[s.marks[len(s.marks)-1]:]
}

// skipElement goes behind the end of the element whose start was met last.
func (s *scanner) skipElement() error {
	if s.empty {
		return nil
	}
	for depth := len(s.marks); ; {
		tok, err := s.next()
		switch {
		case err != nil:
			return err
		case tok == tokenEOF:
			return s.bad("the text breaks off within <%s>", printable(s.current()))
		case tok == tokenEnd && len(s.marks) < depth:
			return nil
		}
	}
}

// local returns the local part of the name at the begin of a tag.
func local(tag []byte) []byte {
	from := 0
	for i, c := range tag {
		switch c {
		case ' ', '\t', '\n', '\r':
			return tag[from:i]
		case '/':
			if i == len(tag)-1 {
				return tag[from:i]
			}
		case ':':
			from = i + 1
		}
	}
	return tag[from:]
}

func nameStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

// printable makes a name of a stranger fit for a message.
func printable(name []byte) string {
	s, _ := cut(cleanText(string(name[:min(len(name), 64)])), 40)
	return s
}

// namespace returns the namespace of the tag that was met last, if that tag
// declares it.
func (s *scanner) namespace() string {
	name, rest := s.whole, []byte(nil)
	if i := bytes.IndexAny(s.whole, " \t\r\n"); i >= 0 {
		name, rest = s.whole[:i], s.whole[i:]
	}
	want := "xmlns"
	if prefix, _, ok := bytes.Cut(name, []byte{':'}); ok {
		want += ":" + string(prefix)
	}
	for {
		key, after, ok := bytes.Cut(rest, []byte{'='})
		after = bytes.TrimSpace(after)
		if !ok || len(after) == 0 {
			return ""
		}
		value, rest2, ok := bytes.Cut(after[1:], after[:1])
		if !ok {
			return ""
		}
		if string(bytes.TrimSpace(key)) == want {
			s, _ := cut(cleanText(string(value)), maxName)
			return s
		}
		rest = rest2
	}
}
