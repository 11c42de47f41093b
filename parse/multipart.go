package parse

import (
	"bytes"
	"io"
	"strings"
)

// A section is a range of a blob.
type section struct {
	blob       io.ReaderAt
	start, end int64
}

func (s section) reader() io.Reader { return io.NewSectionReader(s.blob, s.start, s.end-s.start) }
func (s section) size() int64       { return s.end - s.start }
func (s section) lines() *lines     { return newLines(s.blob, s.start, s.end) }

// split returns the parts between the delimiters of a multipart (RFC 2046,
// section 5.1), at most limit of them, and whether there were more. The last
// delimiter may be missing, and parts after it count too. There are none when
// the boundary does not occur.
func split(s section, boundary string, limit int) (parts []section, more bool, err error) {
	l := s.lines()
	if boundary == "" {
		return nil, false, nil
	}
	delimiter := []byte("--" + boundary)
	open := int64(-1) // where the part began
	last := s.start   // where the line before ended, its line end left out
	for {
		at := l.offset()
		line, ok := l.next()
		if !ok {
			break
		}
		closing, is := isDelimiter(line, delimiter)
		if !is {
			last = l.offset() - int64(l.eol)
			continue
		}
		if open >= 0 {
			parts = append(parts, section{s.blob, open, min(max(open, last), at)})
			open = -1
		}
		if !closing {
			if len(parts) == limit {
				return parts, true, l.err
			}
			open = l.offset()
		}
		last = l.offset()
	}
	if open >= 0 && l.err == nil {
		parts = append(parts, section{s.blob, open, s.end})
	}
	return parts, false, l.err
}

// isDelimiter tells whether a line is a delimiter, and whether it is the last.
func isDelimiter(line, delimiter []byte) (closing, ok bool) {
	if !bytes.HasPrefix(line, delimiter) {
		return false, false
	}
	rest := bytes.TrimRight(line[len(delimiter):], " \t")
	if string(rest) == "--" {
		return true, true
	}
	return false, len(rest) == 0
}

// guessBoundary looks for a delimiter where the header names none, or one that
// does not occur: a line of two hyphens and more with a field of MIME after
// it, near the beginning.
func guessBoundary(s section) (string, error) {
	l := s.lines()
	for range 200 {
		line, ok := l.next()
		if !ok {
			break
		}
		if len(line) < 3 || len(line) > 200 || !bytes.HasPrefix(line, []byte("--")) {
			continue
		}
		boundary := strings.TrimRight(string(line[2:]), " \t")
		if boundary == "" {
			continue
		}
		next, ok := l.peek()
		if !ok {
			break
		}
		if name, _, ok := field(next); ok && strings.HasPrefix(squash(name), "content") {
			return boundary, nil
		}
	}
	return "", l.err
}
