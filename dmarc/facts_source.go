package dmarc

import (
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// SourceFacts is what one source did as a policy domain on some days, as SourceDays tell it,
// in a fifth of the memory and with little for the garbage collector to look at: cells and
// marks are counted by their kinds, which the sources of a domain share.
type SourceFacts struct {
	Source netip.Prefix // as in SourceDay

	kinds              *factKinds
	days               []dayEnd // ascending
	cells, marks       []counted
	allCells, allMarks []summed // over all days
}

// A dayEnd is a day, and where its cells and marks end among those of a source.
type dayEnd struct{ day, cells, marks int32 }

// A counted is how many messages of a day are of a kind: so many, or from large on, as
// many as factKinds.large has there.
type counted struct{ kind, messages uint32 }

const large = 1 << 31

// A summed is how many messages are of a kind.
type summed struct {
	kind     uint32
	messages int64
}

const secondsADay = 24 * 60 * 60

// dayNumber counts the days from 1970 on.
func dayNumber(day time.Time) int32 { return int32(day.Unix() / secondsADay) }

// A FactDay is one day of SourceFacts.
type FactDay struct {
	Day time.Time // midnight, UTC

	kinds        *factKinds
	cells, marks []counted
}

// Days yields the days on which the source sent, in ascending order.
func (s *SourceFacts) Days() iter.Seq[FactDay] {
	return func(yield func(FactDay) bool) {
		for i := range s.days {
			if !yield(s.day(i)) {
				return
			}
		}
	}
}

func (s *SourceFacts) day(i int) FactDay {
	end, begin := s.days[i], dayEnd{}
	if i > 0 {
		begin = s.days[i-1]
	}
	return FactDay{time.Unix(int64(end.day)*secondsADay, 0).UTC(), s.kinds, s.cells[begin.cells:end.cells], s.marks[begin.marks:end.marks]}
}

// NumDays returns on how many days the source sent.
func (s *SourceFacts) NumDays() int { return len(s.days) }

// First returns the first day on which the source sent; the zero time if there is none.
func (s *SourceFacts) First() time.Time {
	if len(s.days) == 0 {
		return time.Time{}
	}
	return s.day(0).Day
}

// Last returns the last day on which the source sent; the zero time if there is none.
func (s *SourceFacts) Last() time.Time {
	if len(s.days) == 0 {
		return time.Time{}
	}
	return s.day(len(s.days) - 1).Day
}

// Messages returns how many messages the source sent.
func (s *SourceFacts) Messages() int64 {
	var n int64
	for i := range s.allCells {
		n += s.allCells[i].messages
	}
	return n
}

// Cells yields the cells of all days, those of a kind as one, and how many messages each
// counts. Messages of the Cell itself is 0; nobody may change it.
func (s *SourceFacts) Cells() iter.Seq2[*Cell, int64] {
	return func(yield func(*Cell, int64) bool) {
		for i := range s.allCells {
			if !yield(&s.kinds.cells[s.allCells[i].kind], s.allCells[i].messages) {
				return
			}
		}
	}
}

// Marks yields the marks of all days, those of a kind as one, in the order in which they
// first came, and how many messages each counts. Messages of the Mark itself is 0; nobody
// may change it.
func (s *SourceFacts) Marks() iter.Seq2[*Mark, int64] {
	return func(yield func(*Mark, int64) bool) {
		for i := range s.allMarks {
			if !yield(&s.kinds.marks[s.allMarks[i].kind], s.allMarks[i].messages) {
				return
			}
		}
	}
}

// Size returns about how many bytes of memory the days take.
func (s *SourceFacts) Size() int {
	return len(s.days)*12 + (len(s.cells)+len(s.marks))*8 + (len(s.allCells)+len(s.allMarks))*16
}

// SourceDays returns the days one by one, with cells and marks of their own.
func (s *SourceFacts) SourceDays() []SourceDay {
	all := make([]SourceDay, 0, len(s.days))
	for f := range s.Days() {
		d := SourceDay{Day: f.Day, Source: s.Source, Cells: make([]Cell, 0, len(f.cells)), Marks: make([]Mark, 0, len(f.marks))}
		for c, n := range f.Cells() {
			cell := *c
			cell.Messages = n
			d.Cells = append(d.Cells, cell)
		}
		for m, n := range f.Marks() {
			mark := *m
			mark.Messages = n
			d.Marks = append(d.Marks, mark)
		}
		all = append(all, d)
	}
	return all
}

// Cells yields the cells, as SourceDay has them, and how many messages each counts. Messages
// of the Cell itself is 0; nobody may change it, as others of its kind are the same one.
func (d FactDay) Cells() iter.Seq2[*Cell, int64] {
	return func(yield func(*Cell, int64) bool) {
		for _, c := range d.cells {
			if !yield(&d.kinds.cells[c.kind], d.kinds.of(c)) {
				return
			}
		}
	}
}

// Marks yields the marks, as SourceDay has them, and how many messages each counts. Messages
// of the Mark itself is 0; nobody may change it, as others of its kind are the same one.
func (d FactDay) Marks() iter.Seq2[*Mark, int64] {
	return func(yield func(*Mark, int64) bool) {
		for _, m := range d.marks {
			if !yield(&d.kinds.marks[m.kind], d.kinds.of(m)) {
				return
			}
		}
	}
}

// FactsBySource returns what SourceDays tell, by source.
func FactsBySource(days []SourceDay) []SourceFacts {
	if !slices.IsSortedFunc(days, BySourceAndDay) {
		days = slices.Clone(days)
		slices.SortFunc(days, BySourceAndDay)
	}
	kinds := new(factKinds)
	var all []SourceFacts
	for i := range days {
		d := &days[i]
		if i == 0 || d.Source != days[i-1].Source {
			all = append(all, SourceFacts{Source: d.Source, kinds: kinds})
		}
		s := &all[len(all)-1]
		for _, c := range d.Cells {
			n := c.Messages
			c.Messages = 0
			s.cells = append(s.cells, kinds.count(kinds.cell(c), n))
		}
		for _, m := range d.Marks {
			n := m.Messages
			m.Messages = 0
			s.marks = append(s.marks, kinds.count(kinds.mark(m), n))
		}
		s.days = append(s.days, dayEnd{dayNumber(d.Day), int32(len(s.cells)), int32(len(s.marks))})
	}
	sumUp(all, kinds)
	return all
}

// sumUp sums cells and marks of each source over its days, when all kinds are known.
func sumUp(all []SourceFacts, kinds *factKinds) {
	kinds.cellAt, kinds.markAt = nil, nil
	var workers sync.WaitGroup
	for some := range slices.Chunk(all, shareOf(len(all))) {
		workers.Go(func() {
			cells, marks := newAdder(len(kinds.cells)), newAdder(len(kinds.marks))
			for i := range some {
				some[i].allCells = cells.add(some[i].cells, kinds)
				some[i].allMarks = marks.add(some[i].marks, kinds)
			}
		})
	}
	workers.Wait()
}

// An adder sums messages by kind.
type adder struct {
	at   []int    // by kind: the place of its sum, and one more; 0 for none
	sums []summed // in the order in which they first came
	room []summed // for results
}

func newAdder(kinds int) *adder { return &adder{at: make([]int, kinds)} }

func (a *adder) add(all []counted, kinds *factKinds) []summed {
	a.sums = a.sums[:0]
	for _, c := range all {
		at := a.at[c.kind]
		if at == 0 {
			a.sums = append(a.sums, summed{kind: c.kind})
			at = len(a.sums)
			a.at[c.kind] = at
		}
		a.sums[at-1].messages += kinds.of(c)
	}
	for _, s := range a.sums {
		a.at[s.kind] = 0
	}
	if len(a.sums) > len(a.room) {
		a.room = make([]summed, max(1024, len(a.sums)))
	}
	out := a.room[:len(a.sums):len(a.sums)]
	a.room = a.room[len(a.sums):]
	copy(out, a.sums)
	return out
}

// factKinds are kinds of cells and marks, each once, without Messages. Several may add to
// them at once; who reads them waits until all are there.
type factKinds struct {
	cells []Cell
	marks []Mark
	large []int64 // numbers of messages that counted has no room for

	mu     sync.Mutex
	cellAt map[Cell]uint32
	markAt map[Mark]uint32
}

// of returns how many messages are counted.
func (k *factKinds) of(c counted) int64 {
	if c.messages < large {
		return int64(c.messages)
	}
	return k.large[c.messages-large]
}

// count makes a counted of messages.
func (k *factKinds) count(kind uint32, messages int64) counted {
	if messages >= 0 && messages < large {
		return counted{kind, uint32(messages)}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.large = append(k.large, messages)
	return counted{kind, large + uint32(len(k.large)-1)}
}

// cell returns the number of a kind of cells, which is new or not.
func (k *factKinds) cell(c Cell) uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cellAt == nil {
		k.cellAt = make(map[Cell]uint32)
	}
	return numberOf(k.cellAt, &k.cells, c)
}

// mark returns the number of a kind of marks, which is new or not.
func (k *factKinds) mark(m Mark) uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.markAt == nil {
		k.markAt = make(map[Mark]uint32)
	}
	return numberOf(k.markAt, &k.marks, m)
}

func numberOf[K comparable](at map[K]uint32, all *[]K, k K) uint32 {
	n, ok := at[k]
	if !ok {
		n = uint32(len(*all))
		at[k] = n
		*all = append(*all, k)
	}
	return n
}
