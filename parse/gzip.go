package parse

import (
	"bufio"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"github.com/dmarcd/dmarcd/dmarc"
)

// gzip reads the members of gzip data (RFC 1952, section 2.2). Usually there
// is one. Each may be a report of its own; when the first breaks off, all
// together are tried as one.
func (w *walker) gzip(p *payload) error {
	var before []dmarc.Part // the parts that the member before gave
	for n := 0; ; n++ {
		if n >= w.limits.Members {
			return w.failed(p.path, refusal(dmarc.OutcomeTooLarge, "more than %d gzip members (limits.members)", w.limits.Members))
		}
		mark := len(w.found.Parts)
		q := w.member(p, n, false)
		if err := w.read(q); err != nil || w.stopped {
			return err
		}
		parts := w.found.Parts[mark:]
		if n > 0 && len(parts) == 0 {
			setFlags(before, dmarc.FlagTrailingData) // it was no report
		}
		if q.seen.tail == tailMember && len(parts) > 0 && brokenOff(parts[len(parts)-1].Outcome) {
			for _, part := range parts {
				delete(w.paths, part.Path)
			}
			w.found.Parts = w.found.Parts[:mark]
			q = w.member(p, n, true)
			if err := w.read(q); err != nil {
				return err
			}
			parts = w.found.Parts[mark:]
		}
		if q.seen.tail == tailOther {
			setFlags(parts, dmarc.FlagTrailingData)
		}
		if q.seen.tail != tailMember {
			return nil
		}
		before = parts
	}
}

func brokenOff(o dmarc.Outcome) bool { return o == dmarc.OutcomeBadXML || o == dmarc.OutcomeBadJSON }

// setFlags sets flags on the reports among parts.
func setFlags(parts []dmarc.Part, flags dmarc.Flags) {
	for _, p := range parts {
		switch {
		case p.Aggregate != nil:
			p.Aggregate.Flags |= flags
		case p.TLS != nil:
			p.TLS.Flags |= flags
		case p.Failure != nil:
			p.Failure.Flags |= flags
		}
	}
}

// member returns the payload of one gzip member, or of all from it on.
func (w *walker) member(p *payload, n int, all bool) *payload {
	return w.inner(p, func(s *stream, q *payload) (io.Reader, error) {
		br := peekers.Get().(*bufio.Reader)
		br.Reset(s)
		if err := discardBlank(br); err != nil {
			letGo(br)
			return nil, corrupt("the gzip data", err)
		}
		g := &gzipReader{w: w, br: br, zr: gzipReaders.Get().(*gzip.Reader), all: all}
		err := g.next()
		for range n {
			if err == nil {
				_, err = io.Copy(io.Discard, &meter{w: w, seen: new(seen), r: g, packed: s.packed})
			}
			if err == nil {
				err = g.next()
			}
		}
		if err != nil {
			g.Close()
			return nil, err
		}
		g.seen = &q.seen
		return g, nil
	})
}

func discardBlank(br *bufio.Reader) error {
	for {
		c, err := br.ReadByte()
		if err != nil {
			return err
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return br.UnreadByte()
		}
	}
}

// gzipReaders are decompressors to be used again: they are large.
var gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}

// A gzipReader reads one member, or all that follow each other.
type gzipReader struct {
	w    *walker
	br   *bufio.Reader
	zr   *gzip.Reader
	all  bool
	seen *seen
}

func (g *gzipReader) Read(p []byte) (int, error) {
	if g.zr == nil {
		return 0, os.ErrClosed
	}
	for {
		n, err := g.zr.Read(p)
		if n > 0 && err == io.EOF {
			return n, nil
		}
		if err != io.EOF {
			return n, corrupt("the gzip data", err)
		}
		rest, _ := g.br.Peek(3)
		follows := tailNone
		switch {
		case string(rest) == "\x1f\x8b\x08":
			if g.all {
				if err := g.next(); err != nil {
					return 0, err
				}
				continue
			}
			follows = tailMember
		case len(rest) > 0:
			follows = tailOther
		}
		if g.seen != nil && !g.w.sealed.Load() {
			g.seen.tail = follows
		}
		return 0, io.EOF
	}
}

// Close gives the decompressor and its buffer back.
func (g *gzipReader) Close() error {
	if g.zr != nil {
		gzipReaders.Put(g.zr)
		letGo(g.br)
		g.zr, g.br = nil, nil
	}
	return nil
}

// next goes on to the next member.
func (g *gzipReader) next() error {
	err := g.zr.Reset(g.br)
	g.zr.Multistream(false)
	return corrupt("the gzip data", err)
}

// zlib reads zlib data (RFC 1950). Text can begin like it: what cannot be
// unpacked at all is none.
func (w *walker) zlib(p *payload) error {
	q := w.inner(p, func(s *stream, _ *payload) (io.Reader, error) {
		zr, err := zlib.NewReader(s)
		if err != nil {
			return nil, corrupt("the zlib data", err)
		}
		return corruptReader{zr, "the zlib data"}, nil
	})
	s, err := q.open()
	if err == nil {
		_, err = peek(s)
		s.Close()
	}
	if refusedFor(err) == dmarc.OutcomeCorruptArchive {
		return nil
	}
	return w.read(q)
}

// base64 reads text that is base64 of a report, although nothing says so.
func (w *walker) base64(p *payload) error {
	if p.base64 {
		return nil
	}
	q := *p
	q.base64, q.raw = true, nil
	q.open = func() (*stream, error) {
		s, err := p.open()
		if err != nil {
			return nil, err
		}
		return &stream{newBase64Reader(s), s.packed, s.close}, nil
	}
	return w.read(&q)
}
