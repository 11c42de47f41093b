package dmarc

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const factListVersion = 1

// AppendFactList appends the SourceDays of one day, which must be sorted by source, in a
// compact form for a store: what they have in common is written once, so that a cell takes
// four bytes or so.
func AppendFactList(b []byte, day []SourceDay) []byte {
	var names table[string]
	var patterns table[uint32]
	var reporters table[int64]
	var marks table[Mark]
	var sources, body []byte
	for i := range day {
		s := &day[i]
		addr := s.Source.Addr().AsSlice() // nil for none
		sources = append(sources, byte(len(addr)))
		sources = append(sources, addr...)
		if addr != nil {
			sources = append(sources, byte(s.Source.Bits()))
		}
		sources = binary.AppendUvarint(sources, uint64(len(s.Cells)))
		sources = binary.AppendUvarint(sources, uint64(len(s.Marks)))
		for j := range s.Cells {
			c := &s.Cells[j]
			body = binary.AppendUvarint(body, names.number(c.Author))
			body = binary.AppendUvarint(body, patterns.number(c.Pattern.Bits()))
			body = binary.AppendUvarint(body, reporters.number(c.Reporter))
			body = binary.AppendUvarint(body, uint64(c.Messages))
		}
		for _, m := range s.Marks {
			n := m.Messages
			m.Messages = 0
			body = binary.AppendUvarint(body, marks.number(m))
			body = binary.AppendUvarint(body, uint64(n))
		}
	}
	for i := range marks.all {
		names.number(marks.all[i].Domain)
		names.number(marks.all[i].Selector)
	}
	b = append(b, factListVersion)
	b = binary.AppendUvarint(b, uint64(len(day)))
	b = append(b, sources...)
	b = binary.AppendUvarint(b, uint64(len(names.all)))
	for _, name := range names.all {
		b = str(b, name)
	}
	b = binary.AppendUvarint(b, uint64(len(patterns.all)))
	for _, p := range patterns.all {
		b = binary.AppendUvarint(b, uint64(p))
	}
	b = binary.AppendUvarint(b, uint64(len(reporters.all)))
	for _, r := range reporters.all {
		b = binary.AppendVarint(b, r)
	}
	b = binary.AppendUvarint(b, uint64(len(marks.all)))
	for i := range marks.all {
		m := &marks.all[i]
		b = append(b, byte(m.Kind))
		b = binary.AppendUvarint(b, names.number(m.Domain))
		b = binary.AppendUvarint(b, names.number(m.Selector))
	}
	return append(b, body...)
}

// A table gives each value a number, in the order in which they first come.
type table[T comparable] struct {
	at  map[T]int
	all []T
}

func (t *table[T]) number(v T) uint64 {
	i, ok := t.at[v]
	if !ok {
		if t.at == nil {
			t.at = make(map[T]int)
		}
		i = len(t.all)
		t.at[v] = i
		t.all = append(t.all, v)
	}
	return uint64(i)
}

// FactLists gathers what AppendFactList wrote about days, to read them all with little
// memory. Its zero value is ready.
type FactLists struct {
	lists   []factList
	text    []byte           // of lists
	bytes   int              // of all that the sources did
	sources []netip.Prefix   // that came, each once
	at      map[string]int32 // their places, by how they are written
	sizes   []factSize       // of sources
	total   factSize
}

// A factList is the list of a day.
type factList struct {
	day     time.Time
	sources []listedSource
	rest    []byte // what the sources did
}

type listedSource struct{ source, cells, marks int32 } // its place in FactLists, and how much there is of it

// A factSize is how much there is of a source.
type factSize struct{ days, cells, marks int }

func (n *factSize) add(s *listedSource) {
	n.days++
	n.cells += int(s.cells)
	n.marks += int(s.marks)
}

// Add takes in the list of a day, of which it keeps a copy. Each day comes once.
func (l *FactLists) Add(day time.Time, list []byte) error {
	if len(l.text)+len(list) > cap(l.text) {
		l.text = make([]byte, 0, max(64<<10, len(list)))
	}
	begin := len(l.text)
	l.text = append(l.text, list...)
	r := factReader{b: l.text[begin:]}
	if r.byte() != factListVersion {
		return errFacts
	}
	if l.at == nil {
		l.at = make(map[string]int32)
	}
	f := factList{day: day, sources: make([]listedSource, r.length(3))}
	for i := range f.sources {
		before := r.b
		addr := r.take(int(r.byte()))
		bits := -1
		if len(addr) > 0 {
			bits = int(r.byte())
		}
		key := before[:len(before)-len(r.b)]
		at, ok := l.at[string(key)]
		if !ok {
			var source netip.Prefix
			if bits >= 0 {
				a, _ := netip.AddrFromSlice(addr)
				if source = netip.PrefixFrom(a, bits); !source.IsValid() {
					return errFacts
				}
			}
			at = int32(len(l.sources))
			l.at[string(key)] = at
			l.sources, l.sizes = append(l.sources, source), append(l.sizes, factSize{})
		}
		if i > 0 && compareSources(l.sources[f.sources[i-1].source], l.sources[at]) >= 0 {
			return errFacts
		}
		// As many bytes follow at least: memory is asked for by what is there.
		s := listedSource{at, int32(r.length(4)), int32(r.length(2))}
		f.sources[i] = s
		l.sizes[at].add(&s)
		l.total.add(&s)
	}
	if r.bad || 4*l.total.cells+2*l.total.marks > l.bytes+len(r.b) {
		return errFacts
	}
	f.rest = r.b
	l.bytes += len(r.b)
	l.lists = append(l.lists, f)
	return nil
}

// Read returns what all lists tell, by source. As many processors work on it as there are.
func (l *FactLists) Read() ([]SourceFacts, error) {
	slices.SortFunc(l.lists, func(a, b factList) int { return a.day.Compare(b.day) })
	kinds := new(factKinds)
	all, at := l.places(kinds)
	// Each reads some of the days, and writes of each source behind the days before.
	var readers sync.WaitGroup
	var failed atomic.Bool
	next := make([]factSize, len(l.sources))
	for lists := range slices.Chunk(l.lists, shareOf(len(l.lists))) {
		place := slices.Clone(next)
		for i := range lists {
			for _, s := range lists[i].sources {
				next[s.source].add(&s)
			}
		}
		readers.Go(func() {
			reader := listReader{kinds: kinds}
			for i := range lists {
				if !reader.read(&lists[i], all, at, place) {
					failed.Store(true)
				}
			}
		})
	}
	readers.Wait()
	if failed.Load() {
		return nil, errFacts
	}
	sumUp(all, kinds)
	return all, nil
}

// shareOf returns how many of n each of the processors takes.
func shareOf(n int) int {
	workers := runtime.GOMAXPROCS(0)
	return max(1, (n+workers-1)/workers)
}

// places returns the sources in ascending order, each with the room that it takes, and
// where each of l.sources is among them. What is of one source lies together in memory.
func (l *FactLists) places(kinds *factKinds) (all []SourceFacts, at []int32) {
	order := make([]int32, len(l.sources))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return compareSources(l.sources[a], l.sources[b]) })
	all, at = make([]SourceFacts, len(order)), make([]int32, len(order))
	days, cells, marks := make([]dayEnd, l.total.days), make([]counted, l.total.cells), make([]counted, l.total.marks)
	for i, source := range order {
		n := l.sizes[source]
		all[i] = SourceFacts{Source: l.sources[source], kinds: kinds, days: days[:n.days:n.days], cells: cells[:n.cells:n.cells], marks: marks[:n.marks:n.marks]}
		days, cells, marks = days[n.days:], cells[n.cells:], marks[n.marks:]
		at[source] = int32(i)
	}
	return all, at
}

// A listReader reads what the sources of lists did, one list after the other.
type listReader struct {
	FactReader
	kinds *factKinds

	// Of the list in hand: what it has in common, the kinds of its marks, and of cells that
	// came lately.
	patterns  []Pattern
	reporters []int64
	markKinds []uint32
	lately    [256]cellKind
}

// A cellKind is a kind of cells by the numbers that a list has for what it is made of.
type cellKind struct {
	author, pattern, reporter uint64
	kind                      uint32
	known                     bool
}

// read reads a list into the places that its sources have for it, and moves those on.
func (l *listReader) read(f *factList, all []SourceFacts, at []int32, place []factSize) bool {
	r := factReader{b: f.rest}
	l.begin(&r)
	day := dayNumber(f.day)
	for _, s := range f.sources {
		of, n := &all[at[s.source]], &place[s.source]
		begin := *n
		n.add(&s)
		of.days[begin.days] = dayEnd{day, int32(n.cells), int32(n.marks)}
		if !l.cells(&r, of.cells[begin.cells:n.cells]) || !l.marks(&r, of.marks[begin.marks:n.marks]) {
			return false
		}
	}
	return !r.bad && len(r.b) == 0
}

// begin reads what the sources of the next list have in common.
func (l *listReader) begin(r *factReader) {
	l.readNames(r)
	l.patterns = l.patterns[:0]
	for range r.length(1) {
		l.patterns = append(l.patterns, PatternOf(uint32(r.uvarint())))
	}
	l.reporters = l.reporters[:0]
	for range r.length(1) {
		l.reporters = append(l.reporters, r.varint())
	}
	l.markKinds = l.markKinds[:0]
	for range r.length(3) {
		m := Mark{Kind: MarkKind(r.byte()), Domain: r.name(l.names), Selector: r.name(l.names)}
		l.markKinds = append(l.markKinds, l.kinds.mark(m))
	}
	clear(l.lately[:])
}

func (l *listReader) cells(r *factReader, cells []counted) bool {
	b := r.b
	for i := range cells {
		var k cellKind
		var messages uint64
		if len(b) >= 4 && binary.LittleEndian.Uint32(b)&0x80808080 == 0 { // nearly always all are of one byte
			k.author, k.pattern, k.reporter, messages = uint64(b[0]), uint64(b[1]), uint64(b[2]), uint64(b[3])
			b = b[4:]
		} else {
			r.b = b
			k.author, k.pattern, k.reporter, messages = r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
			b = r.b
		}
		lately := &l.lately[(k.author*131+k.pattern*17+k.reporter)%uint64(len(l.lately))]
		if !lately.known || lately.author != k.author || lately.pattern != k.pattern || lately.reporter != k.reporter {
			if k.author >= uint64(len(l.names)) || k.pattern >= uint64(len(l.patterns)) || k.reporter >= uint64(len(l.reporters)) {
				return false
			}
			k.kind, k.known = l.kinds.cell(Cell{Author: l.names[k.author], Pattern: l.patterns[k.pattern], Reporter: l.reporters[k.reporter]}), true
			*lately = k
		}
		cells[i] = l.kinds.count(lately.kind, int64(messages))
	}
	r.b = b
	return !r.bad
}

func (l *listReader) marks(r *factReader, marks []counted) bool {
	b := r.b
	for i := range marks {
		var kind, messages uint64
		if len(b) >= 2 && b[0] < 0x80 && b[1] < 0x80 {
			kind, messages = uint64(b[0]), uint64(b[1])
			b = b[2:]
		} else {
			r.b = b
			kind, messages = r.uvarint(), r.uvarint()
			b = r.b
		}
		if kind >= uint64(len(l.markKinds)) {
			return false
		}
		marks[i] = l.kinds.count(l.markKinds[kind], int64(messages))
	}
	r.b = b
	return !r.bad
}
