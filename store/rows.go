package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// rowsAtOnce is how many rows go into one COPY: their names are looked up
// together.
const rowsAtOnce = 5000

// A rowWriter streams rows into the database. It holds rowsAtOnce of them,
// whatever the size of the reports.
type rowWriter struct {
	b  *batch
	tx pgx.Tx

	rows   []waitingRow
	names  map[inDomain]int64
	auths  map[authKey]int64
	bodies map[authKey][]byte
	keys   map[string]authKey // by what digests are made from
	buf    []byte
}

// A waitingRow is a row whose names are not numbered yet.
type waitingRow struct {
	domain, report, messages             int64
	headerFrom, envelopeFrom, envelopeTo string
	nullSender                           bool
	auth                                 authKey
	day                                  time.Time
	flags                                int32
	verdict, ours                        int16
	source                               netip.Addr
}

func newRowWriter(b *batch, tx pgx.Tx) *rowWriter {
	w := &rowWriter{b: b, tx: tx}
	w.clear()
	return w
}

func (w *rowWriter) clear() {
	w.rows = w.rows[:0]
	w.names = make(map[inDomain]int64)
	w.auths = make(map[authKey]int64)
	w.bodies = make(map[authKey][]byte)
	w.keys = make(map[string]authKey)
}

// addReport adds the rows of a report, and counts it and them in the rollup.
func (w *rowWriter) addReport(ctx context.Context, a *aggregate) error {
	late := w.b.horizons.noRows(a.days.Main)
	if !late {
		if err := w.b.s.ensureMonth(ctx, "rows", a.days.Main); err != nil {
			return err
		}
	}
	w.b.rollup.addReport(a.domain, a.reporter, a.days, 1)
	var tally dmarc.Tally
	for row, err := range a.rep.Rows {
		if err != nil {
			return fmt.Errorf("report %q: %w", a.rep.ID, err)
		}
		tally.Add(row)
		verdict := row.Verdict()
		w.b.rollup.addRow(a.domain, a.reporter, a.days, verdict, row.Count, 1)
		if late {
			continue
		}
		auth, err := w.auth(a.domain, row)
		if err != nil {
			return err
		}
		r := waitingRow{
			domain: a.domain, report: a.id, messages: row.Count,
			headerFrom: clean(row.HeaderFrom), envelopeFrom: clean(row.EnvelopeFrom), envelopeTo: clean(row.EnvelopeTo),
			nullSender: row.NullSender, auth: auth, day: a.days.Main,
			flags: int32(row.Flags), verdict: packVerdict(verdict, a.days), ours: packAlignment(row.Ours), source: row.Source,
		}
		w.name(a.domain, r.headerFrom, false)
		w.name(a.domain, r.envelopeFrom, r.nullSender)
		w.name(a.domain, r.envelopeTo, false)
		w.rows = append(w.rows, r)
		if len(w.rows) == rowsAtOnce {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
	}
	if tally != a.rep.Tally {
		return fmt.Errorf("report %q: its rows give %+v, its sums %+v", a.rep.ID, tally, a.rep.Tally)
	}
	w.b.fates[a.delivery].Rows += tally.Rows
	return nil
}

func (w *rowWriter) name(domain int64, name string, null bool) {
	if name != "" || null {
		w.names[inDomain{domain, name}] = 0
	}
}

// auth returns the key of the raw results of a row, and remembers their body
// if they are new.
func (w *rowWriter) auth(domain int64, row *dmarc.Row) (authKey, error) {
	w.buf = binary.BigEndian.AppendUint64(w.buf[:0], uint64(domain))
	w.buf = appendAuthKey(w.buf, row)
	if k, ok := w.keys[string(w.buf)]; ok {
		return k, nil
	}
	k := authKey{domain, authDigest(w.buf[8:])}
	body, err := encodeAuth(row)
	if err != nil {
		return k, fmt.Errorf("raw results: %w", err)
	}
	w.keys[string(w.buf)] = k
	w.auths[k] = 0
	w.bodies[k] = body
	return k, nil
}

// flush numbers the names of the waiting rows and copies them.
func (w *rowWriter) flush(ctx context.Context) error {
	if len(w.rows) == 0 {
		return nil
	}
	if err := w.b.s.nameIDs(ctx, w.names); err != nil {
		return err
	}
	if err := w.b.s.authIDs(ctx, w.auths, w.bodies); err != nil {
		return err
	}
	columns := []string{"domain_id", "report", "messages", "header_from_id", "envelope_from_id", "envelope_to_id", "auth_id",
		"day", "flags", "verdict", "ours", "source"}
	i := 0
	values := make([]any, len(columns))
	_, err := w.tx.CopyFrom(ctx, pgx.Identifier{"rows"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if i == len(w.rows) {
			return nil, nil
		}
		r := &w.rows[i]
		i++
		values[0], values[1], values[2] = r.domain, r.report, r.messages
		values[3] = w.number(r.domain, r.headerFrom, false)
		values[4] = w.number(r.domain, r.envelopeFrom, r.nullSender)
		values[5] = w.number(r.domain, r.envelopeTo, false)
		values[6], values[7], values[8], values[9], values[10] = w.auths[r.auth], r.day, r.flags, r.verdict, r.ours
		values[11] = nil
		if r.source.IsValid() {
			values[11] = r.source
		}
		return values, nil
	}))
	if err != nil {
		return fmt.Errorf("copying rows: %w", err)
	}
	w.clear()
	return nil
}

// number returns the number of a name, or nil for none. The empty name stands
// for a null sender.
func (w *rowWriter) number(domain int64, name string, null bool) any {
	if name == "" && !null {
		return nil
	}
	return w.names[inDomain{domain, name}]
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
// stored, as they come from the database.
func (s *Store) rowsOf(ctx context.Context, domain, id int64, day time.Time) iter.Seq2[*dmarc.Row, error] {
	const sql = `
		SELECT r.messages, r.flags, r.verdict, r.ours, r.source, coalesce(f.name, ''), coalesce(e.name, ''),
			r.envelope_from_id IS NOT NULL, coalesce(t.name, ''), a.body
		FROM rows r
		JOIN auth_results a ON a.domain_id = r.domain_id AND a.id = r.auth_id
		LEFT JOIN names f ON f.domain_id = r.domain_id AND f.id = r.header_from_id
		LEFT JOIN names e ON e.domain_id = r.domain_id AND e.id = r.envelope_from_id
		LEFT JOIN names t ON t.domain_id = r.domain_id AND t.id = r.envelope_to_id
		WHERE r.domain_id = $1 AND r.day = $2 AND r.report = $3`
	return func(yield func(*dmarc.Row, error) bool) {
		rows, err := s.db.Query(ctx, sql, domain, day, id)
		if err != nil {
			yield(nil, fmt.Errorf("rows of report %s: %w", reportKey(domain, id), err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var r dmarc.Row
			var verdict, ours int16
			var flags int32
			var source *netip.Addr
			var known bool
			var body authBody
			err := rows.Scan(&r.Count, &flags, &verdict, &ours, &source, &r.HeaderFrom, &r.EnvelopeFrom, &known, &r.EnvelopeTo, &body)
			if err != nil {
				yield(nil, fmt.Errorf("rows of report %s: %w", reportKey(domain, id), err))
				return
			}
			if source != nil {
				r.Source = *source
			}
			r.NullSender = known && r.EnvelopeFrom == ""
			r.Flags = dmarc.RowFlags(flags)
			r.Ours = unpackAlignment(ours)
			v := dmarc.Verdict(verdict & verdictMask)
			r.Disposition = v.Disposition()
			r.DKIM = resultOf(v, dmarc.VerdictDKIM, dmarc.VerdictDKIMUnknown)
			r.SPF = resultOf(v, dmarc.VerdictSPF, dmarc.VerdictSPFUnknown)
			body.fill(&r)
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
