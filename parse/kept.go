package parse

import (
	"iter"
	"net/netip"
	"sync"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Bounds of what is held of the rows of a report. The rows of a larger one are read
// again when they are asked for.
const (
	keptRows  = 16384
	keptRests = 4096
	usualRows = 16 // most reports are short
)

// kept holds the rows of a report. Most differ in nothing but address and count, so
// that the rest is held once.
type kept struct {
	rows  []keptRow
	rests []dmarc.Row
	index map[dmarc.RestHash]int32
	over  bool // there are too many: nothing is held

	// What the slices of rests are parts of.
	reasons []dmarc.Reason
	dkim    []dmarc.DKIMResult
	spf     []dmarc.SPFResult
}

// indexes are empty maps to be used again.
var indexes = sync.Pool{New: func() any { return make(map[dmarc.RestHash]int32, usualRows) }}

type keptRow struct {
	source netip.Addr
	count  int64
	flags  dmarc.RowFlags
	rest   int32
}

// add takes a row in, whose rest has this hash.
func (k *kept) add(row *dmarc.Row, hash dmarc.RestHash) {
	if k.over {
		return
	}
	i, ok := k.index[hash]
	if len(k.rows) == keptRows || !ok && len(k.rests) == keptRests {
		*k = kept{over: true}
		return
	}
	if !ok {
		if k.index == nil {
			k.index = indexes.Get().(map[dmarc.RestHash]int32)
			k.rows, k.rests = make([]keptRow, 0, usualRows), make([]dmarc.Row, 0, usualRows)
			k.dkim, k.spf = make([]dmarc.DKIMResult, 0, usualRows), make([]dmarc.SPFResult, 0, usualRows)
		}
		i = int32(len(k.rests))
		k.index[hash] = i
		k.rests = append(k.rests, *row)
		r := &k.rests[i]
		r.Reasons, k.reasons = moved(row.Reasons, k.reasons)
		r.AuthDKIM, k.dkim = moved(row.AuthDKIM, k.dkim)
		r.AuthSPF, k.spf = moved(row.AuthSPF, k.spf)
	}
	k.rows = append(k.rows, keptRow{row.Source, row.Count, row.Flags, i})
}

// moved copies a slice to the end of another one, which it becomes a part of.
func moved[T any](s, all []T) (part, longer []T) {
	if len(s) == 0 {
		return nil, all
	}
	n := len(all)
	all = append(all, s...)
	return all[n:len(all):len(all)], all
}

// judged returns the rows with our own verdict.
func (k *kept) judged(policy dmarc.PolicyPublished) iter.Seq2[*dmarc.Row, error] {
	if k.index != nil { // it is nil if there are no rows
		clear(k.index)
		indexes.Put(k.index)
		k.index = nil
	}
	var aligner dmarc.Aligner
	for i := range k.rests {
		r := &k.rests[i]
		r.Flags = 0
		judge(&aligner, r, &policy)
	}
	return func(yield func(*dmarc.Row, error) bool) {
		var row dmarc.Row
		for i := range k.rows {
			r := &k.rows[i]
			row = k.rests[r.rest]
			row.Source, row.Count = r.source, r.count
			row.Flags |= r.flags
			if !yield(&row, nil) {
				return
			}
		}
	}
}

// judge adds our own verdict to a row.
func judge(aligner *dmarc.Aligner, row *dmarc.Row, policy *dmarc.PolicyPublished) {
	row.Ours = aligner.Judge(row, policy)
	if foreign(row.HeaderFrom, policy.Domain) {
		row.Flags |= dmarc.RowForeignAuthor
	}
}
