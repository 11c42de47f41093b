package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

var errLongHeader = errors.New("the header is too long")

// readHeader reads up to the empty line behind the header, which is included,
// and added where the message ends before it.
func readHeader(r *bufio.Reader) ([]byte, error) {
	var head bytes.Buffer
	for whole := true; ; {
		line, err := r.ReadSlice('\n')
		if head.Len()+len(line) > maxHeader {
			return nil, errLongHeader
		}
		head.Write(line)
		if err == io.EOF {
			if len(line) > 0 {
				head.WriteString("\r\n")
			}
			head.WriteString("\r\n")
			return head.Bytes(), nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return nil, err
		}
		if whole && len(bytes.TrimRight(line, "\r\n")) == 0 {
			return head.Bytes(), nil
		}
		whole = err == nil
	}
}

// lines turns lone line feeds into CRLF, as mail has them on its way: what is
// signed (RFC 6376, section 3.4).
type lines struct {
	r       *bufio.Reader
	pending bool // a line feed waits
	cr      bool // the last byte was CR
}

func (l *lines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if l.pending {
			p[n] = '\n'
			l.pending = false
			n++
			continue
		}
		if n > 0 && l.r.Buffered() == 0 {
			return n, nil
		}
		c, err := l.r.ReadByte()
		if err != nil {
			return n, err
		}
		if c == '\n' && !l.cr {
			c, l.pending = '\r', true
		}
		p[n] = c
		l.cr = c == '\r' && !l.pending
		n++
	}
	return n, nil
}

// serial lets only one caller at a time through.
func serial(lookup func(string) ([]string, error)) func(string) ([]string, error) {
	var mu sync.Mutex
	return func(name string) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		return lookup(name)
	}
}
