package parse

import (
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/dmarcd/dmarcd/dmarc"
)

// jsonText is how long a string or a number may be: far more than any field,
// and room for a policy in one string.
const jsonText = 256 << 10

// A jsonGuard passes one JSON object on and makes it fit for json.Decoder,
// which keeps a whole value in memory: it bounds the length of strings and the
// depth, and removes white space between values. Control characters within strings
// become blanks. It ends with the object; what follows is only noticed.
type jsonGuard struct {
	r        io.Reader
	maxDepth int
	longest  int // bytes of a string or a number

	buf    []byte
	in     []byte // read and not yet looked at
	depth  int
	run    int // length of the string, number or word so far
	text   bool
	escape bool
	begun  bool
	done   bool
	rest   bool // something follows the object
	err    error
}

func newJSONGuard(r io.Reader, maxDepth int) *jsonGuard {
	return &jsonGuard{r: r, maxDepth: maxDepth, longest: jsonText, buf: make([]byte, 8<<10)}
}

func (g *jsonGuard) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if g.done {
			return n, io.EOF
		}
		if len(g.in) == 0 {
			if n > 0 {
				return n, nil
			}
			if g.err != nil {
				return n, g.err
			}
			var m int
			m, g.err = g.r.Read(g.buf)
			g.in = g.buf[:m]
			continue
		}
		c := g.in[0]
		g.in = g.in[1:]
		keep, err := g.look(&c)
		if err != nil {
			g.err, g.in = err, nil
			return n, err
		}
		if keep {
			p[n] = c
			n++
		}
	}
	return n, nil
}

// look follows the text by one byte and tells whether to pass it on.
func (g *jsonGuard) look(c *byte) (bool, error) {
	if g.run++; g.run > g.longest {
		return false, refusal(dmarc.OutcomeTooLarge, "a value in JSON is longer than %s", size(int64(g.longest)))
	}
	if g.text {
		switch {
		case g.escape:
			g.escape = false
		case *c == '\\':
			g.escape = true
		case *c == '"':
			g.text, g.run = false, 0
		}
		if *c < ' ' {
			*c = ' '
		}
		return true, nil
	}
	switch *c {
	case ' ', '\t', '\r', '\n':
		g.run = 0
		return false, nil
	case '"':
		g.text = true
		g.run = 0
	case '{', '[':
		g.begun = true
		g.run = 0
		if g.depth++; g.depth > g.maxDepth {
			return false, refusal(dmarc.OutcomeTooLarge, "JSON nested deeper than %d (limits.depth)", g.maxDepth)
		}
	case '}', ']':
		g.run = 0
		g.depth--
		g.done = g.depth <= 0
	case ',', ':':
		g.run = 0
	default:
		if !g.begun { // a byte order mark
			return false, nil
		}
	}
	return true, nil
}

// trailing tells whether something other than white space follows the object.
// It reads to the end, so that the source is seen whole.
func (g *jsonGuard) trailing() (bool, error) {
	for {
		if len(strings.TrimSpace(string(g.in))) > 0 {
			g.rest = true
		}
		if g.err == io.EOF {
			return g.rest, nil
		}
		if g.err != nil {
			return g.rest, g.err
		}
		var n int
		n, g.err = g.r.Read(g.buf)
		g.in = g.buf[:n]
	}
}

// jsonValues reads values as they come, whatever their type should be.
type jsonValues struct {
	d *json.Decoder
}

func (j *jsonValues) next() (json.Token, error) {
	t, err := j.d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return t, err
}

// object calls f for each key of an object, with the decoder at its value. Of
// an array of objects the first is read; anything else is an object without
// keys.
func (j *jsonValues) object(f func(key string) error) error {
	t, err := j.next()
	if err != nil {
		return err
	}
	return j.objectFrom(t, f)
}

// objectFrom is object when the first token was read.
func (j *jsonValues) objectFrom(t json.Token, f func(key string) error) error {
	switch t {
	case json.Delim('{'):
		for j.d.More() {
			key, err := j.next()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			if err := f(jsonKey(name)); err != nil {
				return err
			}
		}
		_, err := j.next()
		return err
	case json.Delim('['):
		first := true
		for j.d.More() {
			t, err := j.next()
			if err != nil {
				return err
			}
			if first && t == json.Delim('{') {
				first = false
				err = j.objectFrom(t, f)
			} else {
				err = j.skipFrom(t)
			}
			if err != nil {
				return err
			}
		}
		_, err := j.next()
		return err
	}
	return nil
}

// each calls f with the first token of every element of an array. A value that
// is no array counts as its only element, null as none.
func (j *jsonValues) each(f func(first json.Token) error) error {
	t, err := j.next()
	if err != nil {
		return err
	}
	if t == nil {
		return nil
	}
	if t != json.Delim('[') {
		return f(t)
	}
	for j.d.More() {
		if t, err = j.next(); err != nil {
			return err
		}
		if err := f(t); err != nil {
			return err
		}
	}
	_, err = j.next()
	return err
}

// skip passes over a value.
func (j *jsonValues) skip() error {
	t, err := j.next()
	if err != nil {
		return err
	}
	return j.skipFrom(t)
}

func (j *jsonValues) skipFrom(t json.Token) error {
	depth := 0
	for {
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
		var err error
		if t, err = j.next(); err != nil {
			return err
		}
	}
}

// text returns a value as text: "" for null, the first element of an array,
// and nothing of an object.
func (j *jsonValues) text() (string, error) {
	text, first := "", true
	err := j.each(func(t json.Token) error {
		if s, ok := scalar(t); ok {
			if first {
				text = s
			}
			first = false
			return nil
		}
		return j.skipFrom(t)
	})
	return text, err
}

// scalar returns the text of a value that is neither object nor array.
func scalar(t json.Token) (string, bool) {
	switch v := t.(type) {
	case string:
		return strings.ToValidUTF8(v, string(utf8.RuneError)), true
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	case nil:
		return "", true
	}
	return "", false
}

// jsonKey makes spellings of a key equal.
func jsonKey(key string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(key)), "_", "-")
}
