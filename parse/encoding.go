package parse

import (
	"bufio"
	"bytes"
	"io"
	"regexp"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

var encodingDeclared = regexp.MustCompile(`^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']`)

// decoded returns the text of an XML file as UTF-8, as far as its encoding
// tells: a byte order mark, zeros between the bytes, or the declaration. It reports
// whether that is another encoding than UTF-8. Bytes that are no UTF-8 remain; whoever takes
// a value sees to them.
func decoded(r io.Reader) (io.Reader, bool) {
	b := bufio.NewReaderSize(r, 4096)
	head, _ := b.Peek(512)
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		b.Discard(3)
		return b, false
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return transform.NewReader(b, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder()), true
	case bytes.HasPrefix(head, []byte("<\x00")):
		return transform.NewReader(b, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewDecoder()), true
	case bytes.HasPrefix(head, []byte("\x00<")):
		return transform.NewReader(b, unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewDecoder()), true
	}
	if e := declaredEncoding(head); e != nil {
		return transform.NewReader(b, e.NewDecoder()), true
	}
	return b, false
}

// declaredEncoding returns the encoding that the XML declaration names, or nil
// for UTF-8, for ASCII, for none, and for one that cannot be true.
func declaredEncoding(head []byte) encoding.Encoding {
	m := encodingDeclared.FindSubmatch(head)
	if m == nil {
		return nil
	}
	switch name := strings.ToLower(string(m[1])); name {
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
