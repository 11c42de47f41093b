package dmarc

import (
	"encoding/binary"
	"net/netip"
	"slices"
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

// Add takes in the list of a day, of which it keeps a copy. Days come in ascending order,
// each once.
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

// Read returns the SourceDays of all lists by source and day. What is of one source lies
// together in memory.
func (l *FactLists) Read() ([]SourceDay, error) {
	// Each source in turn is read from the lists that have it: all of them have their
	// sources in this order.
	order, from := l.order()
	readers, left := make([]factReader, len(l.lists)), make([][]listedSource, len(l.lists))
	common := make([]FactReader, len(l.lists))
	known := make(map[string]string)
	for i := range l.lists {
		readers[i].b, left[i], common[i].known = l.lists[i].rest, l.lists[i].sources, known
		common[i].readCommon(&readers[i])
	}
	all, cells, marks := make([]SourceDay, 0, l.total.days), make([]Cell, l.total.cells), make([]Mark, l.total.marks)
	for _, source := range order {
		for range l.sizes[source].days {
			i := from[len(all)]
			d := SourceDay{Day: l.lists[i].day, Source: l.sources[source]}
			s := left[i][0]
			left[i] = left[i][1:]
			d.Cells, cells = cells[:s.cells:s.cells], cells[s.cells:]
			d.Marks, marks = marks[:s.marks:s.marks], marks[s.marks:]
			if !common[i].readCells(&readers[i], d.Cells) || !common[i].readMarks(&readers[i], d.Marks) {
				return nil, errFacts
			}
			all = append(all, d)
		}
	}
	for i := range readers {
		if readers[i].bad || len(readers[i].b) > 0 {
			return nil, errFacts
		}
	}
	return all, nil
}

// order returns the sources in ascending order, and for each of the SourceDays in which
// list it is.
func (l *FactLists) order() (sources, lists []int32) {
	sources, lists = make([]int32, len(l.sources)), make([]int32, l.total.days)
	for i := range sources {
		sources[i] = int32(i)
	}
	slices.SortFunc(sources, func(a, b int32) int { return compareSources(l.sources[a], l.sources[b]) })
	next := make([]int, len(l.sources)) // where what comes of a source goes
	n := 0
	for _, i := range sources {
		next[i] = n
		n += l.sizes[i].days
	}
	for i := range l.lists {
		for _, s := range l.lists[i].sources {
			lists[next[s.source]] = int32(i)
			next[s.source]++
		}
	}
	return sources, lists
}

// readCommon reads what the SourceDays of a list have in common.
func (f *FactReader) readCommon(r *factReader) {
	f.readNames(r)
	f.patterns = f.patterns[:0]
	for range r.length(1) {
		f.patterns = append(f.patterns, PatternOf(uint32(r.uvarint())))
	}
	f.reporters = f.reporters[:0]
	for range r.length(1) {
		f.reporters = append(f.reporters, r.varint())
	}
	f.kinds = f.kinds[:0]
	for range r.length(3) {
		f.kinds = append(f.kinds, Mark{Kind: MarkKind(r.byte()), Domain: r.name(f.names), Selector: r.name(f.names)})
	}
}

func (f *FactReader) readCells(r *factReader, cells []Cell) bool {
	b := r.b
	for i := range cells {
		var author, pattern, reporter, messages uint64
		if len(b) >= 4 && binary.LittleEndian.Uint32(b)&0x80808080 == 0 { // nearly always all are of one byte
			author, pattern, reporter, messages = uint64(b[0]), uint64(b[1]), uint64(b[2]), uint64(b[3])
			b = b[4:]
		} else {
			r.b = b
			author, pattern, reporter, messages = r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
			b = r.b
		}
		if author >= uint64(len(f.names)) || pattern >= uint64(len(f.patterns)) || reporter >= uint64(len(f.reporters)) {
			return false
		}
		cells[i] = Cell{f.names[author], f.patterns[pattern], f.reporters[reporter], int64(messages)}
	}
	r.b = b
	return !r.bad
}

func (f *FactReader) readMarks(r *factReader, marks []Mark) bool {
	for i := range marks {
		kind := r.uvarint()
		if kind >= uint64(len(f.kinds)) {
			return false
		}
		marks[i] = f.kinds[kind]
		marks[i].Messages = int64(r.uvarint())
	}
	return !r.bad
}
