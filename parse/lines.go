package parse

import (
	"bytes"
	"io"
)

const (
	lineWindow = 64 << 10
	longLine   = 16 << 10 // what is given of a line that does not fit the window
)

// lines reads a range of a blob line by line. A line ends with LF, CRLF or a
// bare CR. Of a line that is longer than the window only the beginning is
// given.
type lines struct {
	r    io.ReaderAt
	end  int64 // of the range
	base int64 // offset of buf[0]
	buf  []byte
	pos  int // in buf: the next line
	lf   int // in buf: the next LF at or after pos, len(buf) if there is none; -1 if not looked for
	eol  int // bytes of the line end that was taken last
	err  error
	long []byte
}

func newLines(r io.ReaderAt, start, end int64) *lines {
	return &lines{r: r, end: end, base: start, lf: -1}
}

// offset returns where the next line begins.
func (l *lines) offset() int64 { return l.base + int64(l.pos) }

// seek makes the line at an offset the next one.
func (l *lines) seek(off int64) {
	if off >= l.base && off <= l.base+int64(len(l.buf)) {
		l.pos, l.lf = int(off-l.base), -1
		return
	}
	l.base, l.buf, l.pos, l.lf = off, l.buf[:0], 0, -1
}

// next returns the next line without its end, valid until the next call, and
// false at the end of the range or after an error, which err then tells.
func (l *lines) next() ([]byte, bool) {
	for {
		line, size := l.cut()
		if size > 0 {
			l.pos += size
			l.eol = size - len(line)
			return line, true
		}
		if len(l.buf)-l.pos >= lineWindow {
			return l.skipLong()
		}
		if !l.fill() {
			if rest := l.buf[l.pos:]; l.err == nil && len(rest) > 0 {
				l.pos = len(l.buf)
				line := bytes.TrimSuffix(rest, []byte("\r"))
				l.eol = len(rest) - len(line)
				return line, true
			}
			return nil, false
		}
	}
}

// cut finds a whole line in the window: the line, and its length with its end,
// or 0.
func (l *lines) cut() ([]byte, int) {
	if l.lf < l.pos {
		l.lf = len(l.buf)
		if i := bytes.IndexByte(l.buf[l.pos:], '\n'); i >= 0 {
			l.lf = l.pos + i
		}
	}
	line := l.buf[l.pos:l.lf]
	if i := bytes.IndexByte(line, '\r'); i >= 0 {
		switch {
		case i+1 == len(line) && l.lf < len(l.buf):
			return line[:i], i + 2
		case i+2 == len(line) && line[i+1] == '\r' && l.lf < len(l.buf):
			return line[:i], i + 3 // CRLF that was made CRCRLF
		case i+2 < len(line), i+2 == len(line) && line[i+1] != '\r':
			return line[:i], i + 1 // a bare CR
		}
		return nil, 0 // the end of the window: LF may follow
	}
	if l.lf < len(l.buf) {
		return line, len(line) + 1
	}
	return nil, 0
}

// fill reads more behind the window, and reports whether there was more.
func (l *lines) fill() bool {
	at := l.base + int64(len(l.buf))
	want := min(l.end-at, lineWindow)
	if want <= 0 || l.err != nil {
		return false
	}
	if l.pos > 0 {
		l.base += int64(l.pos)
		l.buf = l.buf[:copy(l.buf, l.buf[l.pos:])]
		l.pos = 0
	}
	l.lf = -1
	if l.buf == nil {
		l.buf = make([]byte, 0, min(2*lineWindow, l.end-at))
	}
	have := len(l.buf)
	if cap(l.buf) < have+int(want) {
		l.buf = append(make([]byte, 0, 2*lineWindow), l.buf...)
	}
	n, err := l.r.ReadAt(l.buf[have:have+int(want)], at)
	l.buf = l.buf[:have+n]
	if err != nil && err != io.EOF {
		l.err = err
	} else if n == 0 {
		l.err = io.ErrUnexpectedEOF
	}
	return n > 0 && l.err == nil
}

// skipLong returns the beginning of a line that fills the window and skips the
// rest of it.
func (l *lines) skipLong() ([]byte, bool) {
	l.long = append(l.long[:0], l.buf[l.pos:l.pos+longLine]...)
	for {
		if l.buf[len(l.buf)-1] == '\r' { // keep it: LF may follow
			l.pos = len(l.buf) - 1
		} else {
			l.pos = len(l.buf)
		}
		if !l.fill() {
			l.pos, l.eol = len(l.buf), 0
			return l.long, l.err == nil
		}
		if rest, size := l.cut(); size > 0 {
			l.pos += size
			l.eol = size - len(rest)
			return l.long, true
		}
	}
}

// peek returns the next line without taking it. The line is valid until the
// next call; a line returned before may be gone.
func (l *lines) peek() ([]byte, bool) {
	at := l.offset()
	line, ok := l.next()
	if at >= l.base {
		l.pos = int(at - l.base) // lf was looked for from here
	} else {
		l.seek(at)
	}
	return line, ok
}
