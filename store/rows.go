package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// rowsAtOnce is how many rows go into one COPY: their names are looked up
// together.
const rowsAtOnce = 5000

// A rowWriter streams rows into the database. It holds no more than twice
// rowsAtOnce of them, whatever the size of the reports: while some are copied, the
// next ones are read. It is let go of in the end.
type rowWriter struct {
	b  *batch
	tx pgx.Tx
	*rowMemory
	copying chan error // of the COPY that runs; nil if none does
}

// A rowMemory is what rowWriters hand on to each other.
type rowMemory struct {
	rows   []waitingRow
	names  words[inDomain]
	index  map[inDomain]int32 // of names, as they stand in the rows
	auths  words[authKey]
	bodies map[authKey][]byte // of those that are not remembered
	keys   map[string]int32   // numbers in auths, by what digests are made from
	buf    []byte
	groups [2]groupEncoder
}

var rowMemories = sync.Pool{New: func() any {
	return &rowMemory{index: make(map[inDomain]int32), bodies: make(map[authKey][]byte), keys: make(map[string]int32)}
}}

// A waitingRow is a row whose names stand in the lists of its writer.
type waitingRow struct {
	domain, report, messages             int64
	headerFrom, envelopeFrom, envelopeTo int32 // noWord for none
	auth                                 int32
	day                                  int32 // since 2000
	flags                                int32
	verdict, ours                        int16
	source                               netip.Addr
}

// words are those that waiting rows use, each once, and their numbers.
type words[K comparable] struct {
	list []K
	ids  []int64 // 0 if it is not known yet
}

const noWord = -1

// add appends a word, and returns its place.
func (w *words[K]) add(k K, id int64) int32 {
	w.list, w.ids = append(w.list, k), append(w.ids, id)
	return int32(len(w.list) - 1)
}

func (w *words[K]) clear() {
	clear(w.list)
	w.list, w.ids = w.list[:0], w.ids[:0]
}

// number asks a dictionary for the numbers that are not known yet.
func (w *words[K]) number(ask func(map[K]int64) error) error {
	asked := make(map[K]int64)
	for i, k := range w.list {
		if w.ids[i] == 0 {
			asked[k] = 0
		}
	}
	if len(asked) == 0 {
		return nil
	}
	if err := ask(asked); err != nil {
		return err
	}
	for i, k := range w.list {
		if w.ids[i] == 0 {
			w.ids[i] = asked[k]
		}
	}
	return nil
}

func newRowWriter(b *batch, tx pgx.Tx) *rowWriter {
	return &rowWriter{b: b, tx: tx, rowMemory: rowMemories.Get().(*rowMemory)}
}

// release waits until nothing is copied any more, and gives back what is held. The
// writer cannot be used afterwards.
func (w *rowWriter) release() {
	w.idle() // whoever needs to know has asked
	w.clear()
	rowMemories.Put(w.rowMemory)
	w.rowMemory = nil
}

func (w *rowWriter) clear() {
	w.rows = w.rows[:0]
	w.names.clear()
	w.auths.clear()
	clear(w.index)
	clear(w.bodies)
	clear(w.keys)
}

// addReport adds the rows of a report, and counts it and them in the rollup. The
// transaction must not be used otherwise before idle, unless there was an error.
func (w *rowWriter) addReport(ctx context.Context, a *aggregate) (err error) {
	defer func() {
		if err != nil {
			w.idle()
		}
	}()
	late := w.b.horizons.noRows(a.domain, a.days.Main)
	if !late {
		if err := w.b.ensureMonth(ctx, "row_groups", a.days.Main); err != nil {
			return err
		}
	}
	w.b.rollup.addReport(a.domain, a.reporter, a.days, 1)
	var tally dmarc.Tally
	var sums [verdictMask + 1]counts
	day := pgDay(a.days.Main)
	for row, err := range a.rep.Rows {
		if err != nil {
			return fmt.Errorf("report %q: %w", a.rep.ID, err)
		}
		tally.Add(row)
		verdict := row.Verdict()
		if a.days.Estimated {
			w.b.rollup.addRow(a.domain, a.reporter, a.days, verdict, row.Count, 1)
		} else {
			sums[verdict&verdictMask].add(counts{rows: 1, messages: row.Count})
		}
		if late {
			continue
		}
		auth, err := w.auth(a.domain, row)
		if err != nil {
			return err
		}
		w.rows = append(w.rows, waitingRow{
			domain: a.domain, report: a.id, messages: row.Count,
			headerFrom: w.name(a.domain, row.HeaderFrom, false), envelopeFrom: w.name(a.domain, row.EnvelopeFrom, row.NullSender),
			envelopeTo: w.name(a.domain, row.EnvelopeTo, false), auth: auth, day: day,
			flags: int32(row.Flags), verdict: packVerdict(verdict, a.days), ours: packAlignment(row.Ours), source: row.Source,
		})
		if len(w.rows) == rowsAtOnce {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
	}
	for verdict, c := range sums {
		if c.rows > 0 {
			w.b.rollup.add(cell{a.domain, a.days.Main, a.reporter, a.days.Dated, dmarc.Verdict(verdict)}, c)
		}
	}
	if tally != a.rep.Tally {
		return fmt.Errorf("report %q: its rows give %+v, its sums %+v", a.rep.ID, tally, a.rep.Tally)
	}
	w.b.fates[a.delivery].Rows += tally.Rows
	return nil
}

// name returns the place of a name in the list. The empty name stands for a
// null sender.
func (w *rowWriter) name(domain int64, name string, null bool) int32 {
	if name == "" && !null {
		return noWord
	}
	k := inDomain{domain, name}
	i, ok := w.index[k]
	if !ok {
		cleaned := inDomain{domain, clean(name)}
		i = w.names.add(cleaned, recall(&w.b.s.dict, &w.b.s.dict.names, cleaned))
		w.index[k] = i
	}
	return i
}

// auth returns the place in the list of the raw results of a row, and keeps their
// body unless their number is remembered.
func (w *rowWriter) auth(domain int64, row *dmarc.Row) (int32, error) {
	w.buf = binary.BigEndian.AppendUint64(w.buf[:0], uint64(domain))
	w.buf = appendAuthKey(w.buf, row)
	if i, ok := w.keys[string(w.buf)]; ok {
		return i, nil
	}
	k := authKey{domain, authDigest(w.buf[8:])}
	id := recall(&w.b.s.dict, &w.b.s.dict.auths, k)
	if id == 0 {
		body, err := encodeAuth(row)
		if err != nil {
			return 0, fmt.Errorf("raw results: %w", err)
		}
		w.bodies[k] = body
	}
	i := w.auths.add(k, id)
	w.keys[string(w.buf)] = i
	return i, nil
}

// flush numbers the names of the waiting rows and begins to copy them. The
// transaction must not be used otherwise before idle.
func (w *rowWriter) flush(ctx context.Context) error {
	if len(w.rows) == 0 {
		return nil
	}
	if err := w.names.number(func(m map[inDomain]int64) error { return w.b.s.nameIDs(ctx, m) }); err != nil {
		return err
	}
	if err := w.auths.number(func(m map[authKey]int64) error { return w.b.s.authIDs(ctx, m, w.bodies) }); err != nil {
		return err
	}
	g := &w.groups[0]
	g.encode(w.rows, w.names.ids, w.auths.ids)
	w.clear()
	if err := w.idle(); err != nil {
		return err
	}
	w.groups[0], w.groups[1] = w.groups[1], w.groups[0]
	text := w.groups[1].buf
	copying := make(chan error, 1)
	w.copying = copying
	go func() { copying <- copyGroups(ctx, w.tx.Conn(), text) }()
	return nil
}

// end copies all that waits.
func (w *rowWriter) end(ctx context.Context) error {
	if err := w.flush(ctx); err != nil {
		return err
	}
	return w.idle()
}

// idle waits until what was flushed is copied.
func (w *rowWriter) idle() error {
	if w.copying == nil {
		return nil
	}
	err := <-w.copying
	w.copying = nil
	if err != nil {
		return fmt.Errorf("copying rows: %w", err)
	}
	return nil
}

// The bits of the column verdict: below, the reporter's verdict; above, how the
// period of its report counts.
const (
	verdictMask      = 0x7f
	verdictUndated   = 0x100
	verdictEstimated = 0x200
)

func packVerdict(v dmarc.Verdict, days dmarc.Attribution) int16 {
	p := int16(v)
	if !days.Dated {
		p |= verdictUndated
	}
	if days.Estimated {
		p |= verdictEstimated
	}
	return p
}

// The bits of the column ours.
const (
	oursDKIM = 1 << iota
	oursSPF
	oursHELO
	oursDisagreement // and above
)

func packAlignment(a dmarc.Alignment) int16 {
	v := int16(a.Disagreement) * oursDisagreement
	if a.DKIM {
		v |= oursDKIM
	}
	if a.SPF {
		v |= oursSPF
	}
	if a.HELO {
		v |= oursHELO
	}
	return v
}

func unpackAlignment(v int16) dmarc.Alignment {
	return dmarc.Alignment{
		DKIM: v&oursDKIM != 0, SPF: v&oursSPF != 0, HELO: v&oursHELO != 0,
		Disagreement: dmarc.Disagreement(v / oursDisagreement),
	}
}

// rowsOf yields the rows of a stored report, in the order in which they were
// stored, as they come from the database. Names are looked up row by row, since
// a join would not keep the order. Some may be ranged over at once; others wait.
func (s *Store) rowsOf(ctx context.Context, domain, id int64, day time.Time) iter.Seq2[*dmarc.Row, error] {
	const sql = `
		SELECT messages, flags, verdict, ours, source,
			coalesce((SELECT name FROM names WHERE domain_id = $1 AND id = header_from_id), ''),
			coalesce((SELECT name FROM names WHERE domain_id = $1 AND id = envelope_from_id), ''),
			envelope_from_id IS NOT NULL,
			coalesce((SELECT name FROM names WHERE domain_id = $1 AND id = envelope_to_id), ''),
			(SELECT body FROM auth_results WHERE domain_id = $1 AND id = auth_id)
		FROM rows
		WHERE domain_id = $1 AND day = $2 AND report = $3`
	return func(yield func(*dmarc.Row, error) bool) {
		select {
		case s.readers <- struct{}{}:
			defer func() { <-s.readers }()
		case <-ctx.Done():
			yield(nil, fmt.Errorf("rows of report %s: %w", reportKey(domain, id), ctx.Err()))
			return
		}
		rows, err := s.db.Query(ctx, sql, domain, day, id)
		if err != nil {
			yield(nil, fmt.Errorf("rows of report %s: %w", reportKey(domain, id), err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r dmarc.Row
			if err := scanRow(rows, &r); err != nil {
				yield(nil, fmt.Errorf("rows of report %s: %w", reportKey(domain, id), err))
				return
			}
			if !yield(&r, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, fmt.Errorf("rows of report %s: %w", reportKey(domain, id), err))
		}
	}
}

func resultOf(v, pass, unknown dmarc.Verdict) dmarc.Result {
	switch {
	case v&pass != 0:
		return dmarc.ResultPass
	case v&unknown != 0:
		return dmarc.ResultUnknown
	}
	return dmarc.ResultFail
}
