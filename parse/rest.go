package parse

import (
	"bytes"
	"hash/maphash"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Most rows of a large report differ from some row before in nothing but the
// address and the count. rests remembers what stands behind the count, letter
// for letter, together with the row it makes. It is a direct-mapped table, and
// holds for one report: what a text means depends on the report it stands in.
type rests struct {
	table []rest
	era   uint32 // counts the reports
	next  *rest  // becomes the rest of the row that is being read,
	left  int    // if it ends with so many bytes of the window left
	early dmarc.RowFlags

	// Where rests differ as much as addresses do, looking for them is a
	// waste. So it is tried with a few rows, and with all only while that pays.
	tries, hits int
	resume      int64 // the row to try again with
}

// A rest is a row without its address and its count.
type rest struct {
	era   uint32 // of the report it is of; 0 while it is not whole
	step  int32  // of the shape, behind the count
	text  []byte
	row   dmarc.Row
	flags dmarc.RowFlags
	hash  dmarc.RestHash
}

const (
	restsFrom = 256  // rows; shorter reports are not worth it
	restTries = 256  // rows after which the hits are counted
	restPause = 8192 // rows without a try, if less than half of them were hits
	maxRests  = 512  // entries
	maxRest   = 1024 // bytes
	maxParts  = 4    // reasons, and results of either mechanism
)

// makeRests returns a table whose entries have room for what they may hold.
func makeRests() []rest {
	table := make([]rest, maxRests)
	text := make([]byte, maxRests*maxRest)
	reasons := make([]dmarc.Reason, maxRests*maxParts)
	dkim := make([]dmarc.DKIMResult, maxRests*maxParts)
	spf := make([]dmarc.SPFResult, maxRests*maxParts)
	for i := range table {
		r := &table[i]
		r.text = text[i*maxRest : i*maxRest : (i+1)*maxRest]
		from, to := i*maxParts, (i+1)*maxParts
		r.row.Reasons, r.row.AuthDKIM, r.row.AuthSPF = reasons[from:from:to], dkim[from:from:to], spf[from:from:to]
	}
	return table
}

// forget empties the table.
func (t *rests) forget() {
	t.next = nil
	t.tries, t.hits, t.resume = 0, 0, restsFrom
	if t.era++; t.era == 0 {
		clear(t.table)
		t.era++
	}
}

// readKnownRest reads the rest of a row whose address and count were read, if
// it is known, and returns its length. Otherwise it returns 0.
func (a *aggregateReader) readKnownRest(step int32, window []byte) int {
	t := &a.rests
	t.next = nil
	if a.rows <= t.resume || !a.row.Source.IsValid() || a.bad {
		return 0
	}
	if t.tries++; t.tries > restTries {
		if 2*t.hits < t.tries {
			t.resume = a.rows + restPause
		}
		t.tries, t.hits = 0, 0
	}
	n := endOfRow(window)
	if n < 0 {
		return 0
	}
	if t.table == nil {
		t.table = makeRests()
	}
	text := window[:n]
	r := &t.table[maphash.Bytes(seed, text)%maxRests]
	if r.era == t.era && r.step == step && string(r.text) == string(text) {
		r.row.Source, r.row.Count, r.row.Ours = a.row.Source, a.row.Count, dmarc.Alignment{}
		r.row.Flags = r.flags | a.row.Flags
		a.row, a.rest = &r.row, r
		t.hits++
		return n
	}
	// Now, because reading changes the text.
	r.era, r.step, r.text = 0, step, append(r.text[:0], text...)
	t.next, t.left, t.early = r, len(window)-n, a.row.Flags
	return 0
}

// keepRest remembers the rest of the row that was read just now, with so many
// bytes of the window left behind it.
func (a *aggregateReader) keepRest(left int) {
	t := &a.rests
	r := t.next
	t.next = nil
	if r == nil || t.left != left || a.bad || len(a.row.Reasons) > maxParts || len(a.row.AuthDKIM) > maxParts || len(a.row.AuthSPF) > maxParts {
		return
	}
	reasons, dkim, spf := r.row.Reasons[:0], r.row.AuthDKIM[:0], r.row.AuthSPF[:0]
	r.row, r.flags = *a.row, a.row.Flags&^t.early
	r.row.Reasons = append(reasons, a.row.Reasons...)
	r.row.AuthDKIM = append(dkim, a.row.AuthDKIM...)
	r.row.AuthSPF = append(spf, a.row.AuthSPF...)
	r.hash = a.fingerprint.Rest(&r.row)
	r.era = t.era
	a.rest = r // the hash serves this row, too
}

// endOfRow returns how long the text is up to the end tag of the row, or -1 if
// it is not seen. The letter that is looked for is rare in other tags.
func endOfRow(text []byte) int {
	text = text[:min(len(text), maxRest)]
	for from := 0; ; {
		i := bytes.IndexByte(text[from:], 'c')
		if i < 0 {
			return -1
		}
		i += from
		if from = i + 1; i >= 4 && len(text)-i >= 5 && string(text[i-4:i+5]) == "</record>" {
			return i + 5
		}
	}
}
