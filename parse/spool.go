package parse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dmarcd/dmarcd/dmarc"
)

// spoolMemory is how much of a spool is kept in memory.
const spoolMemory = 1 << 20

// A Spool is a copy of what a reader gave: up to 1 MiB in memory, the rest in a
// temporary file that has no name any more, so that it vanishes with the
// process. It is a dmarc.Blob, and may be read by several goroutines.
type Spool struct {
	head []byte
	rest *os.File // what follows head; nil if nothing does
	size int64
}

// NewSpool reads r to its end. A limit that is exceeded gives a *dmarc.Error
// with the outcome too_large that names limits.message; other errors are those
// of the reader or of the file.
func NewSpool(r io.Reader, limit int64) (*Spool, error) {
	s := &Spool{}
	if err := s.add(&bounded{r: r, left: limit, limit: limit, setting: "limits.message"}); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Held returns a spool of bytes that are in memory already. They belong to it.
func Held(b []byte) *Spool { return &Spool{head: b, size: int64(len(b))} }

// add appends what r gives up to its end.
func (s *Spool) add(r io.Reader) error {
	if s.rest == nil {
		head := bytes.NewBuffer(s.head)
		_, err := io.Copy(head, io.LimitReader(r, spoolMemory-s.size))
		s.head = head.Bytes()
		s.size = int64(len(s.head))
		if err != nil || s.size < spoolMemory {
			return err
		}
		var next [1]byte // a file is worth it only if something follows
		if _, err := io.ReadFull(r, next[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		r = io.MultiReader(bytes.NewReader(next[:]), r)
		if s.rest, err = os.CreateTemp("", "dmarcd-"); err != nil {
			return fmt.Errorf("spooling: %w", err)
		}
		if err := os.Remove(s.rest.Name()); err != nil {
			return fmt.Errorf("spooling: %w", err)
		}
	}
	n, err := io.Copy(s.rest, r)
	s.size += n
	if err != nil {
		return fmt.Errorf("spooling: %w", err)
	}
	return nil
}

// Size returns how many bytes there are.
func (s *Spool) Size() int64 { return s.size }

// ReadAt reads as io.ReaderAt says.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("spool: negative offset")
	}
	n := 0
	if off < int64(len(s.head)) {
		n = copy(p, s.head[off:])
	}
	if n == len(p) {
		return n, nil
	}
	if s.rest == nil {
		return n, io.EOF
	}
	m, err := s.rest.ReadAt(p[n:], off+int64(n)-int64(len(s.head)))
	return n + m, err
}

// Close releases memory and file. The spool cannot be read afterwards.
func (s *Spool) Close() error {
	s.head, s.size = nil, 0
	if s.rest == nil {
		return nil
	}
	f := s.rest
	s.rest = nil
	return f.Close()
}

// bounded reads at most limit bytes; one more is an error that names the
// setting.
type bounded struct {
	r       io.Reader
	left    int64
	limit   int64
	setting string
}

func (b *bounded) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.left < 0 {
		return 0, b.err()
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, b.err()
	}
	return n, err
}

func (b *bounded) err() error {
	return refusal(dmarc.OutcomeTooLarge, "more than %s (%s)", size(b.limit), b.setting)
}

// refusal makes the error for what a stranger sent and we do not read.
func refusal(outcome dmarc.Outcome, format string, args ...any) *dmarc.Error {
	return &dmarc.Error{Outcome: outcome, Reason: fmt.Sprintf(format, args...)}
}
