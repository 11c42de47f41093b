package dmarc

import (
	"encoding/binary"
	"errors"
	"slices"
)

// errFacts is returned for bytes that AppendFacts did not write.
var errFacts = errors.New("these bytes are no packed facts")

const factsVersion = 1

// mostNames is how many names a FactReader knows.
const mostNames = 10_000

// AppendFacts appends the cells and marks of a SourceDay in a compact form for
// a store: a few bytes a cell.
func (s *SourceDay) AppendFacts(b []byte) []byte {
	var names []string
	number := func(name string) uint64 {
		i := slices.Index(names, name)
		if i < 0 {
			i = len(names)
			names = append(names, name)
		}
		return uint64(i)
	}
	var body []byte
	body = binary.AppendUvarint(body, uint64(len(s.Cells)))
	for i := range s.Cells {
		c := &s.Cells[i]
		body = binary.AppendUvarint(body, number(c.Author))
		body = binary.AppendUvarint(body, uint64(c.Pattern.Bits()))
		body = binary.AppendVarint(body, c.Reporter)
		body = binary.AppendUvarint(body, uint64(c.Messages))
	}
	body = binary.AppendUvarint(body, uint64(len(s.Marks)))
	for i := range s.Marks {
		m := &s.Marks[i]
		body = append(body, byte(m.Kind))
		body = binary.AppendUvarint(body, number(m.Domain))
		body = binary.AppendUvarint(body, number(m.Selector))
		body = binary.AppendUvarint(body, uint64(m.Messages))
	}
	b = append(b, factsVersion)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = str(b, name)
	}
	return append(b, body...)
}

// ReadFacts reads the cells and marks that AppendFacts wrote.
func (s *SourceDay) ReadFacts(b []byte) error {
	r := FactReader{single: true}
	return r.Read(s, b)
}

// A FactReader reads what AppendFacts wrote, of many SourceDays in turn: names that come
// again are kept once, and memory is asked for in large pieces. Its zero value is ready; it
// is not for use by several goroutines.
type FactReader struct {
	known map[string]string
	names []string
	cells []Cell
	marks []Mark

	single bool // of one SourceDay: no larger pieces
}

// slab is for how many cells or marks memory is asked for at once.
const slab = 1024

// take cuts n values off a slab; a new one is made where too few are left.
func take[T any](all *[]T, n int, single bool) []T {
	if n == 0 || single || n > slab {
		return make([]T, n)
	}
	if n > len(*all) {
		*all = make([]T, slab)
	}
	out := (*all)[:n:n]
	*all = (*all)[n:]
	return out
}

// Read reads the cells and marks of s from b, of which it keeps nothing.
func (f *FactReader) Read(s *SourceDay, b []byte) error {
	r := factReader{b: b}
	if r.byte() != factsVersion {
		return errFacts
	}
	f.readNames(&r)
	names := f.names
	cells := take(&f.cells, r.length(4), f.single)
	for i := range cells {
		cells[i] = Cell{Author: r.name(names), Pattern: PatternOf(uint32(r.uvarint())), Reporter: r.varint(), Messages: int64(r.uvarint())}
	}
	marks := take(&f.marks, r.length(4), f.single)
	for i := range marks {
		marks[i] = Mark{Kind: MarkKind(r.byte()), Domain: r.name(names), Selector: r.name(names), Messages: int64(r.uvarint())}
	}
	if r.bad || len(r.b) > 0 {
		return errFacts
	}
	s.Cells, s.Marks = cells, marks
	return nil
}

func (f *FactReader) readNames(r *factReader) {
	f.names = f.names[:0]
	for range r.length(1) {
		text := r.text()
		name, ok := f.known[string(text)]
		if !ok {
			name = string(text)
			if len(f.known) >= mostNames {
				clear(f.known)
			}
			if f.known == nil {
				f.known = make(map[string]string)
			}
			f.known[name] = name
		}
		f.names = append(f.names, name)
	}
}

// A factReader reads packed values; after the first that is not there, bad is
// true and all values are zero.
type factReader struct {
	b   []byte
	bad bool
}

func (r *factReader) fail() {
	r.b, r.bad = nil, true
}

func (r *factReader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *factReader) uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := r.b[0]
		r.b = r.b[1:]
		return uint64(v)
	}
	return r.longUvarint()
}

func (r *factReader) longUvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *factReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// length reads how many things of at least size bytes follow.
func (r *factReader) length(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *factReader) text() []byte { return r.take(r.length(1)) }

// take reads n bytes.
func (r *factReader) take(n int) []byte {
	if n > len(r.b) {
		r.fail()
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *factReader) name(names []string) string {
	i := r.uvarint()
	if i >= uint64(len(names)) {
		r.fail()
		return ""
	}
	return names[i]
}
