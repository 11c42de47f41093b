package parse

import "bytes"

// shapes remembers what rows looked like. One program writes all rows of a
// report, so that nearly all of them have the same markup, byte for byte, around
// other values. Such a row need not be taken apart again: it is enough to compare the
// markup and to pick the values out of it.
//
// The markup seen so far is a tree of steps. It is learned from rows that were
// read tag by tag, and whatever does not match it is read that way.
type shapes struct {
	steps   []step // steps[0] is the root
	markup  []byte // of all steps, one behind the other
	longest int    // bytes of a row

	trail []stop // of the row that is being learned
	begin int    // where it begins in the window
	base  int64  // where the window was then
	lost  bool   // it cannot be learned
}

// A step is some markup, and the field whose value follows it.
type step struct {
	from, to    int32 // the markup
	next, other int32 // the step behind it, and another one in place of it; 0 for none
	field       rowField
	value       bool // a value follows; otherwise the markup says all
}

// A stop is where the markup of a row is interrupted by a value.
type stop struct {
	begin, end int // of the value, in the row
	field      rowField
	value      bool
}

// A hostile report must not make the others slow: how much is remembered.
const (
	maxSteps        = 512
	maxAlternatives = 8 // to a step
	maxMarkup       = 64 << 10
)

// full reports whether nothing more can be learned.
func (m *shapes) full() bool { return len(m.steps) >= maxSteps || len(m.markup) >= maxMarkup }

// forget makes room.
func (m *shapes) forget() {
	m.steps = append(m.steps[:0], step{})
	m.markup, m.longest = m.markup[:0], 0
}

// watch begins to learn the row whose start tag was met last.
func (m *shapes) watch(s *scanner) {
	m.trail, m.begin, m.base = m.trail[:0], s.pos, s.offset
	m.lost = s.lenient || s.empty || m.full()
}

// value notes the value of an element whose start tag ended at a place, and
// whose end tag was met last.
func (m *shapes) value(s *scanner, f rowField, begin int) {
	if m.lost {
		return
	}
	if m.lost = s.offset != m.base; m.lost {
		return
	}
	text := s.buf[begin:s.pos]
	end := bytes.IndexByte(text, '<')
	if end < 0 || end > maxText || text[end+1] != '/' || bytes.IndexByte(text[end+1:], '<') >= 0 {
		m.lost = true // a comment, CDATA or an element is in it
		return
	}
	m.trail = append(m.trail, stop{begin: begin - m.begin, end: begin - m.begin + end, field: f, value: true})
}

// skipped notes an element that means nothing to us. If there is only text in
// it, that may be another one in another row.
func (m *shapes) skipped(s *scanner, begin int) {
	if m.lost || s.offset != m.base {
		return // learn will see it
	}
	if text := s.buf[begin:s.pos]; bytes.Count(text, []byte{'<'}) == 1 {
		m.value(s, fieldNone, begin)
	}
}

// mark notes a field that the markup itself tells, up to the last tag.
func (m *shapes) mark(s *scanner, f rowField) {
	if m.lost {
		return
	}
	at := s.pos - m.begin
	m.trail = append(m.trail, stop{begin: at, end: at, field: f})
}

// learn adds the row that was watched, and whose end tag was met last.
func (m *shapes) learn(s *scanner) {
	if m.lost || s.offset != m.base {
		return
	}
	row := s.buf[m.begin:s.pos]
	m.longest = max(m.longest, len(row))
	at, from := int32(0), 0
	for _, t := range m.trail {
		markup := row[from:t.begin]
		from = t.end
		before, last, tries := at, int32(0), 0
		for at = m.steps[before].next; at != 0; at = m.steps[at].other {
			if st := &m.steps[at]; st.field == t.field && st.value == t.value && string(m.markup[st.from:st.to]) == string(markup) {
				break
			}
			last = at
			tries++
		}
		if at != 0 {
			continue
		}
		if tries >= maxAlternatives || m.full() {
			return
		}
		at = int32(len(m.steps))
		begin := int32(len(m.markup))
		m.markup = append(m.markup, markup...)
		m.steps = append(m.steps, step{from: begin, to: int32(len(m.markup)), field: t.field, value: t.value})
		if last != 0 {
			m.steps[last].other = at
		} else {
			m.steps[before].next = at
		}
	}
}

// readKnown reads the row whose start tag was met last, if its markup is
// known. Otherwise nothing is consumed, and the row holds some of its values.
func (a *aggregateReader) readKnown() bool {
	s, m := a.s, &a.shapes
	if s.empty || m.longest == 0 {
		return false
	}
	if s.end-s.pos < m.longest+m.longest/2 {
		s.fill() // or rows would be cut at the end of each window
	}
	s.literal, s.cut = false, false
	rest := s.buf[s.pos:s.end]
	var field rowField
	var value []byte
	for i, n := m.steps[0].next, 0; ; n++ {
		var st *step
		for ; ; i = st.other {
			if i == 0 {
				return false
			}
			st = &m.steps[i]
			if n := int(st.to - st.from); n <= len(rest) && string(rest[:n]) == string(m.markup[st.from:st.to]) {
				rest = rest[n:]
				break
			}
		}
		a.set(field, value) // now it is known to end here
		switch {
		case n == 2 && field == fieldCount:
			if n := a.readKnownRest(i, rest); n > 0 {
				s.pos = s.end - len(rest) + n
				s.pop()
				return true
			}
		case field == fieldSource || field == fieldCount:
			a.rests.next = nil // it would not be a rest
		}
		field, value = st.field, nil
		if field == fieldRowEnd {
			s.pos = s.end - len(rest)
			s.pop()
			a.keepRest(len(rest))
			return true
		}
		if st.value {
			n := 0
			for n < len(rest) && inText[rest[n]] {
				n++
			}
			plain := n < len(rest) && rest[n] == '<' && (n == 0 || rest[0] != ' ' && rest[n-1] != ' ')
			if !plain {
				n = bytes.IndexByte(rest, '<')
			}
			if n < 0 || n > maxText {
				return false
			}
			if value, rest = rest[:n], rest[n:]; !plain {
				value = a.clean(value, false)
			}
		}
		i = st.next
	}
}
