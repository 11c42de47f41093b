package parse

import (
	"bufio"
	"io"
	"strings"
)

// transferDecoder undoes a Content-Transfer-Encoding (RFC 2045, section 6)
// and never fails on content. Unknown encodings are taken as none.
func transferDecoder(encoding string, r io.Reader) io.Reader {
	switch transferEncoding(encoding) {
	case "base64":
		return newBase64Reader(r)
	case "quoted-printable":
		return &quotedReader{r: bufio.NewReader(r)}
	}
	return r
}

// transferEncoding returns base64, quoted-printable or "".
func transferEncoding(word string) string {
	word = strings.ToLower(strings.Trim(word, " \t\r\n\"';"))
	switch {
	case strings.HasPrefix(word, "base64"), strings.HasPrefix(word, "x-base64"), word == "b":
		return "base64"
	case strings.HasPrefix(word, "quoted"):
		return "quoted-printable"
	}
	return ""
}

// base64Values maps a byte to its six bits; 64 is padding, 255 anything else.
var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i)
	}
	t['-'], t['_'] = 62, 63 // RFC 4648, section 5
	t['='] = 64
	return t
}()

// A base64Reader decodes base64 however it is wrapped: bytes outside the
// alphabet are skipped, padding may be missing, and padded blocks may follow
// each other.
type base64Reader struct {
	r    io.Reader
	in   [4096]byte
	out  []byte // decoded and not yet read
	buf  [3100]byte
	bits uint32
	n    int // sextets in bits
	err  error
}

func newBase64Reader(r io.Reader) io.Reader { return &base64Reader{r: r} }

func (d *base64Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.r.Read(d.in[:])
		d.decode(d.in[:n])
		if err != nil {
			d.flush()
			d.err = err
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

func (d *base64Reader) decode(in []byte) {
	d.out = d.buf[:0]
	for _, c := range in {
		v := base64Values[c]
		switch {
		case v < 64:
			d.bits = d.bits<<6 | uint32(v)
			if d.n++; d.n == 4 {
				d.out = append(d.out, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
				d.n, d.bits = 0, 0
			}
		case v == 64:
			d.flush()
		}
	}
}

// flush gives out the whole bytes of a group that was not completed.
func (d *base64Reader) flush() {
	switch d.n {
	case 2:
		d.out = append(d.out, byte(d.bits>>4))
	case 3:
		d.out = append(d.out, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.n, d.bits = 0, 0
}

// A quotedReader decodes quoted-printable. An equals sign that stands for
// nothing is kept as it is.
type quotedReader struct {
	r *bufio.Reader
}

// maxSoftBreak is how many blanks may stand between a = and the end of its
// line.
const maxSoftBreak = 64

func (d *quotedReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c, err := d.r.ReadByte()
		if err != nil {
			if n > 0 && err == io.EOF {
				return n, nil
			}
			return n, err
		}
		if c != '=' {
			p[n] = c
			n++
			continue
		}
		next, _ := d.r.Peek(2)
		if len(next) == 2 {
			hi, lo := unhex(next[0]), unhex(next[1])
			if hi < 16 && lo < 16 {
				p[n] = hi<<4 | lo
				n++
				d.r.Discard(2)
				continue
			}
		}
		if k, ok := d.softBreak(); ok {
			d.r.Discard(k)
			continue
		}
		p[n] = '='
		n++
	}
	return n, nil
}

// softBreak returns the length of what remains of a soft line break, blanks
// included, and false if there is none.
func (d *quotedReader) softBreak() (int, bool) {
	next, _ := d.r.Peek(maxSoftBreak)
	for i, c := range next {
		switch c {
		case ' ', '\t':
		case '\n':
			return i + 1, true
		case '\r':
			if i+1 < len(next) && next[i+1] == '\n' {
				return i + 2, true
			}
			return i + 1, true
		default:
			return 0, false
		}
	}
	return len(next), len(next) < maxSoftBreak // = and blanks at the end of the text
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
