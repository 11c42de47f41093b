package parse

import (
	"bytes"
	"io"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// decode has the scanner read its input as UTF-8, as far as its encoding
// tells: a byte order mark, zeros between the bytes, or the declaration. It
// reports whether that is another encoding than UTF-8. Bytes that are no UTF-8
// remain; whoever takes a value sees to them.
func (s *scanner) decode() bool {
	for s.end < 512 && s.fill() {
	}
	head := s.buf[:min(s.end, 512)]
	var e encoding.Encoding
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		s.pos = 3
		return false
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		e = unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	case bytes.HasPrefix(head, []byte("<\x00")):
		e = unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case bytes.HasPrefix(head, []byte("\x00<")):
		e = unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	default:
		if e = declaredEncoding(head); e == nil {
			return false
		}
	}
	read := io.Reader(bytes.NewReader(bytes.Clone(s.buf[:s.end])))
	switch {
	case s.err != nil:
		read = io.MultiReader(read, brokenReader{s.err})
	case !s.eof:
		read = io.MultiReader(read, s.r)
	}
	s.r, s.end, s.eof, s.err = transform.NewReader(read, e.NewDecoder()), 0, false, nil
	return true
}

// brokenReader is a reader that has failed.
type brokenReader struct{ err error }

func (f brokenReader) Read([]byte) (int, error) { return 0, f.err }

// declaredEncoding returns the encoding that the XML declaration names, or nil
// for UTF-8, for ASCII, for none, and for one that cannot be true.
func declaredEncoding(head []byte) encoding.Encoding {
	declaration, ok := bytes.CutPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("<?xml"))
	declaration, _, ended := bytes.Cut(declaration, []byte{'>'})
	_, value, found := bytes.Cut(declaration, []byte("encoding"))
	value, equals := bytes.CutPrefix(bytes.TrimLeft(value, " \t\r\n"), []byte{'='})
	value = bytes.TrimLeft(value, " \t\r\n")
	if !ok || !ended || !found || !equals || len(value) == 0 || value[0] != '"' && value[0] != '\'' {
		return nil
	}
	name, _, closed := bytes.Cut(value[1:], value[:1])
	if !closed || len(name) > 40 {
		return nil
	}
	switch name := strings.ToLower(string(name)); name {
	case "utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf16", "utf-16le", "utf-16be":
		return nil
	default:
		e, err := htmlindex.Get(name)
		if err != nil {
			return nil
		}
		return e
	}
}
