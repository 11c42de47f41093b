package parse

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func allLines(t *testing.T, raw string) []string {
	t.Helper()
	l := newLines(strings.NewReader(raw), 0, int64(len(raw)))
	var got []string
	for {
		line, ok := l.next()
		if !ok {
			break
		}
		got = append(got, string(line))
	}
	if l.err != nil {
		t.Fatal(l.err)
	}
	return got
}

func TestLinesEndInManyWays(t *testing.T) {
	for raw, want := range map[string][]string{
		"":                  nil,
		"a":                 {"a"},
		"a\nb\n":            {"a", "b"},
		"a\r\nb\r\n":        {"a", "b"},
		"a\rb\r":            {"a", "b"},
		"a\r\r\nb\r\r\n":    {"a", "b"},
		"a\r\n\r\nb":        {"a", "", "b"},
		"a\r\rb":            {"a", "", "b"},
		"a\n\r\nb\n\n":      {"a", "", "b", ""},
		"a\r\n\rb\nc\r\n\n": {"a", "", "b", "c", ""},
	} {
		if got := allLines(t, raw); !slices.Equal(got, want) {
			t.Errorf("lines of %q: %q, want %q", raw, got, want)
		}
	}
}

func TestLinesLongerThanTheWindow(t *testing.T) {
	for n := lineWindow - 3; n <= lineWindow+3; n++ {
		for _, end := range []string{"\n", "\r\n", "\r", "\r\r\n"} {
			for _, long := range []int{n, 2 * n, 5 * n} {
				raw := "first" + end + strings.Repeat("x", long) + end + "last" + end
				got := allLines(t, raw)
				if len(got) != 3 || got[0] != "first" || got[2] != "last" || strings.Trim(got[1], "x") != "" {
					t.Fatalf("%d bytes and %q: %d lines", long, end, len(got))
				}
			}
		}
	}
}

func TestAPeekTakesNothing(t *testing.T) {
	raw := strings.Repeat("a\r", 70_000) + strings.Repeat("b", 200_000) + "\nend"
	l := newLines(strings.NewReader(raw), 0, int64(len(raw)))
	n := 0
	for {
		at := l.offset()
		peeked, ok1 := l.peek()
		seen := string(peeked)
		if l.offset() != at {
			t.Fatalf("line %d: a peek moved from %d to %d", n, at, l.offset())
		}
		line, ok2 := l.next()
		if ok1 != ok2 || seen != string(line) {
			t.Fatalf("line %d: peeked %.20q, %v, then %.20q, %v", n, seen, ok1, line, ok2)
		}
		if !ok2 {
			break
		}
		n++
	}
	if n != 70_002 {
		t.Errorf("%d lines, want 70002", n)
	}
}

func TestPartsAreWhatStandsBetweenDelimiters(t *testing.T) {
	long := strings.Repeat("x", 3*lineWindow)
	for name, test := range map[string]struct {
		raw  string
		want []string
	}{
		"usual":                 {"preamble\n--b\none\n--b\ntwo\nlines\n--b--\nepilogue\n", []string{"one", "two\nlines"}},
		"CRLF":                  {"--b\r\none\r\n\r\n--b \r\ntwo\r\n--b--\r\n", []string{"one\r\n", "two"}},
		"bare CR":               {"--b\rone\r--b\rtwo\r--b--\r", []string{"one", "two"}},
		"no end":                {"--b\none\n--b\ntwo", []string{"one", "two"}},
		"another begins alike":  {"--b\none\n--bb\n--b-\n--b\ntwo\n--b--\n", []string{"one\n--bb\n--b-", "two"}},
		"an empty part":         {"--b\n--b\n\n--b--", []string{"", ""}},
		"a line without an end": {"--b\n" + long + "\n--b\r\n" + long + "\r\n--b--", []string{long, long}},
		"none":                  {"text\n", nil},
	} {
		s := section{strings.NewReader(test.raw), 0, int64(len(test.raw))}
		parts, more, err := split(s, "b", 10)
		var got []string
		for _, p := range parts {
			b, err := io.ReadAll(p.reader())
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(b))
		}
		if err != nil || more || !slices.Equal(got, test.want) {
			t.Errorf("%s: parts %.60q, more %v, err %v, want %.60q", name, got, more, err, test.want)
		}
	}
}

func TestHeadersAreReadHoweverTheyLook(t *testing.T) {
	for name, test := range map[string]struct {
		raw, body string
		want      []string
	}{
		"usual":                   {"A: 1\nB: 2\n\nbody", "body", []string{"A=1", "B=2"}},
		"folded":                  {"A: 1\n 2\n\t3\n\nbody", "body", []string{"A=1 2 3"}},
		"folded at once":          {"A:\n 1\n\nbody", "body", []string{"A=1"}},
		"blanks before the colon": {"A : 1\n\nbody", "body", []string{"A=1"}},
		"no header":               {"\nbody", "body", nil},
		"no header nor blank":     {"body\nmore", "body\nmore", nil},
		"indented body":           {"  <feedback>\n  <a>", "  <feedback>\n  <a>", nil},
		"no blank line":           {"A: 1\nbody\nmore", "body\nmore", []string{"A=1"}},
		"junk between":            {"A: 1\njunk\nB: 2\n\nbody", "body", []string{"A=1", "B=2"}},
		"a line of mbox":          {"From a@b Tue Jan  2 03:04:05 2024\nA: 1\n\nbody", "body", []string{"A=1"}},
		"a blank line of blanks":  {"A: 1\n \t\nbody", "body", []string{"A=1"}},
		"blanks in a value":       {"A: 1\n \t\nB: 2\n\nbody", "body", []string{"A=1", "B=2"}},
		"cut off":                 {"A: 1\nB", "B", []string{"A=1"}},
		"no value":                {"A:\nB: \n\n", "", []string{"A=", "B="}},
		"a very long value":       {"A: " + strings.Repeat("x", 100_000) + "\nB: 2\n\nbody", "body", []string{"A=" + strings.Repeat("x", longLine-len("A: ")), "B=2"}},
	} {
		l := newLines(strings.NewReader(test.raw), 0, int64(len(test.raw)))
		var got []string
		n := readHeader(l, func(name, value string) { got = append(got, name+"="+value) })
		if body := test.raw[l.offset():]; !slices.Equal(got, test.want) || n != len(test.want) || body != test.body {
			t.Errorf("%s: %d fields %.60q and body %q, want %.60q and %q", name, n, got, body, test.want, test.body)
		}
	}
}

func TestParametersAreReadHoweverTheyLook(t *testing.T) {
	for value, want := range map[string]string{
		`text/plain`:                          `text/plain map[]`,
		`Text/XML; Charset="utf-8"`:           `text/xml map[charset:utf-8]`,
		`multipart/mixed; boundary="a;b=\"c"`: `multipart/mixed map[boundary:a;b="c]`,
		`multipart/mixed;boundary=a=b ; x`:    `multipart/mixed map[boundary:a=b]`,
		`multipart/mixed; boundary="open`:     `multipart/mixed map[boundary:open]`,
		`a/b; name=one two.xml; x=1`:          `a/b map[name:one two.xml x:1]`,
		`a/b; name=1; name=2`:                 `a/b map[name:1]`,
		`a/b (comment); name=1`:               `a/b map[name:1]`,
		`a/b;;; = ; =x; name=1`:               `a/b map[name:1]`,
		`a/b; name*1="l.gz"; name*0="r.xm"`:   `a/b map[name:r.xml.gz]`,
		`a/b; name*=utf-8''a%20%C3%BC`:        `a/b map[name:a ü]`,
		`a/b; name*=iso-8859-1'de'a%FC`:       `a/b map[name:aü]`,
		`a/b; name*0*=utf-8''a%20; name*1=b`:  `a/b map[name:a b]`,
		`a/b; name*=bad%zz`:                   `a/b map[name:bad%zz]`,
		`; name=x`:                            ` map[name:x]`,
		``:                                    ` map[]`,
	} {
		typ, params := parseParams(value)
		if got := fmt.Sprint(typ, " ", params); got != want {
			t.Errorf("parseParams(%q) = %s, want %s", value, got, want)
		}
	}
}

func TestTransferEncodingsAreUndoneLeniently(t *testing.T) {
	for _, test := range []struct{ encoding, raw, want string }{
		{"base64", "aGVsbG8=", "hello"},
		{"BASE64 ", "aGVs\r\n bG8", "hello"},
		{"base64", "aGVsbG8=aGVsbG8=", "hellohello"},
		{"base64", "a*G(V)s!b G8==", "hello"},
		{"base64", "--__", "\xfb\xef\xff"},
		{"base64", "=", ""},
		{"quoted-printable", "a=3Db=0a=\r\nc=\nd=  \re=", "a=b\ncde"},
		{"Quoted-Printable", "100% = x =ZZ =4", "100% = x =ZZ =4"},
		{"7bit", "a=3D", "a=3D"},
		{"x-unknown", "a=3D", "a=3D"},
		{"", "a=3D", "a=3D"},
	} {
		got, err := io.ReadAll(transferDecoder(test.encoding, strings.NewReader(test.raw)))
		if err != nil || string(got) != test.want {
			t.Errorf("%s of %q: %q, %v, want %q", test.encoding, test.raw, got, err, test.want)
		}
		// The same, a byte at a time.
		slow, err := io.ReadAll(transferDecoder(test.encoding, io.MultiReader(oneByOne(test.raw)...)))
		if err != nil || !bytes.Equal(slow, got) {
			t.Errorf("%s of %q byte by byte: %q, %v, want %q", test.encoding, test.raw, slow, err, got)
		}
	}
}

func oneByOne(s string) []io.Reader {
	var rs []io.Reader
	for i := range len(s) {
		rs = append(rs, strings.NewReader(s[i:i+1]))
	}
	return rs
}

func TestDatesAreReadHoweverTheyLook(t *testing.T) {
	for s, want := range map[string]string{
		"Tue, 02 Jan 2024 03:04:05 +0100":       "2024-01-02T02:04:05Z",
		"2 Jan 2024 03:04 GMT":                  "2024-01-02T03:04:00Z",
		"Tue, 2 Jan 2024 03:04:05 EST (winter)": "2024-01-02T08:04:05Z",
		"Fri, May 09 2017 16:30:41 -0800":       "2017-05-10T00:30:41Z",
		"Thu,  1 Oct 2010 19:15:24 +0900 (JST)": "2010-10-01T10:15:24Z",
		"Tue Jan  2 03:04:05 2024":              "2024-01-02T03:04:05Z",
		"2024-01-02T03:04:05":                   "2024-01-02T03:04:05Z",
		"2024-01-02T03:04:05.999+02:00":         "2024-01-02T01:04:05Z",
		"2024-01-02 03:04:05":                   "2024-01-02T03:04:05Z",
		"1704164645":                            "2024-01-02T03:04:05Z",
		"yesterday":                             "",
		"":                                      "",
		"Tue, 02 Jan 1066 03:04:05 +0100":       "",
	} {
		got := ""
		if d, ok := parseDate(s); ok {
			got = d.Format("2006-01-02T15:04:05Z07:00")
		}
		if got != want {
			t.Errorf("parseDate(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestASpoolKeepsWhatItIsGiven(t *testing.T) {
	for _, n := range []int{0, 1, spoolMemory - 1, spoolMemory, spoolMemory + 1, 3*spoolMemory + 7} {
		content := make([]byte, n)
		for i := range content {
			content[i] = byte(i * 7)
		}
		s, err := NewSpool(bytes.NewReader(content), int64(n))
		if err != nil {
			t.Fatal(err)
		}
		if (s.rest != nil) != (n > spoolMemory) {
			t.Errorf("%d bytes: a file %v", n, s.rest != nil)
		}
		got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
		if m, err := s.ReadAt(make([]byte, 10), int64(n)-3); n > 3 && (m != 3 || err != io.EOF) {
			t.Errorf("%d bytes: at the end read %d, %v, want 3, EOF", n, m, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestASpoolRefusesWhatIsTooLong(t *testing.T) {
	for _, limit := range []int64{0, 10, spoolMemory, spoolMemory + 10} {
		_, err := NewSpool(bytes.NewReader(make([]byte, limit+1)), limit)
		want := refusal("too_large", "more than %s (limits.message)", size(limit))
		if !reflect.DeepEqual(err, error(want)) {
			if err == nil || !strings.Contains(err.Error(), want.Error()) {
				t.Errorf("limit %d: err = %v, want %v", limit, err, want)
			}
		}
	}
}
