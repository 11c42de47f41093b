package parse

import (
	"bufio"
	"bytes"
	"io"
)

// IsReportList tells by the beginning of a file whether it holds reports as
// parsedmarc writes them, which may be many: a JSON array, an object of arrays,
// or one object after the other.
func IsReportList(head []byte) bool {
	text := skipBlank(head)
	return len(text) > 0 && (text[0] == '{' || text[0] == '[') && sniffReports(text) != kindOther
}

// parsedmarcLists are the keys of an object of arrays.
var parsedmarcLists = []string{`"aggregate_reports"`, `"forensic_reports"`, `"failure_reports"`, `"smtp_tls_reports"`}

// parsedmarcKeys are those of an aggregate report or of a failure report.
var parsedmarcKeys = []string{`"report_metadata"`, `"policy_published"`, `"xml_schema"`, `"arrival_date_utc"`, `"parsed_sample"`, `"sample_headers_only"`}

// sniffReports tells whether JSON is what parsedmarc wrote.
func sniffReports(text []byte) kind {
	switch {
	case text[0] == '[':
		inner := bytes.TrimLeft(text[1:], " \t\r\n")
		if len(inner) > 0 && inner[0] == '{' && (holdsAny(inner, parsedmarcKeys...) || holdsAny(inner, `"organization_name"`, `"policies"`)) {
			return kindReportList
		}
	case holdsAny(text, parsedmarcLists...):
		return kindReportList
	case holdsAny(text, parsedmarcKeys...):
		return kindParsedmarc
	}
	return kindOther
}

// A ReportList takes the reports in a file of JSON apart as it streams by,
// without looking at what they say. Each is an object: one of an array, of an
// array in an object, or on its own.
type ReportList struct {
	r     *bufio.Reader
	pos   int64 // of the next byte
	level int   // objects and arrays around a report; -1 until the first byte is seen
	depth int
	err   error

	open         bool // a report is being read
	text, escape bool
}

// NewReportList returns the reports of a file.
func NewReportList(r io.Reader) *ReportList {
	return &ReportList{r: bufio.NewReaderSize(r, 64<<10), level: -1}
}

// Next skips what is left of the current report and returns the next one, or
// io.EOF. A report that breaks off is returned, and ends before its time.
func (l *ReportList) Next() (io.Reader, error) {
	if l.open {
		io.Copy(io.Discard, l)
	}
	for l.err == nil {
		next, err := l.r.Peek(1)
		if err != nil {
			l.err = err
			break
		}
		c := next[0]
		if l.level < 0 {
			switch {
			case c == '[':
				l.level = 1
			case c == '{' && l.wraps():
				l.level = 2
			case c == '{':
				l.level = 0
			}
		}
		if c == '{' && !l.text && l.depth == l.level {
			l.open = true
			return l, nil
		}
		l.r.Discard(1)
		l.look(c)
	}
	return nil, l.err
}

// wraps tells whether the object that begins here holds arrays of reports.
func (l *ReportList) wraps() bool {
	head, _ := l.r.Peek(64)
	head = bytes.TrimLeft(head, "{ \t\r\n")
	for _, key := range parsedmarcLists {
		if bytes.HasPrefix(head, []byte(key)) {
			return true
		}
	}
	return false
}

// look follows the structure by a byte.
func (l *ReportList) look(c byte) {
	l.pos++
	switch {
	case l.escape:
		l.escape = false
	case l.text && c == '\\':
		l.escape = true
	case c == '"':
		l.text = !l.text
	case l.text:
	case c == '{', c == '[':
		l.depth++
	case c == '}', c == ']':
		l.depth = max(l.depth-1, 0)
	}
}

// Read reads the current report.
func (l *ReportList) Read(p []byte) (int, error) {
	if !l.open {
		return 0, io.EOF
	}
	for n := range p {
		c, err := l.r.ReadByte()
		if err != nil {
			l.err, l.open = err, false
			return n, io.EOF
		}
		p[n] = c
		if l.look(c); !l.text && l.depth == l.level && (c == '}' || c == ']') {
			l.open = false
			return n + 1, io.EOF
		}
	}
	return len(p), nil
}
