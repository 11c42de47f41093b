package dmarc

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// A Digest is a SHA-256.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// A Fingerprint makes the content hash of an aggregate report while its rows
// stream by. It does not depend on their order, on compression or on white
// space: the digests of the rows are added up as numbers.
type Fingerprint struct {
	sum  [4]uint64
	rows uint64
	buf  []byte
}

// Add takes in a row.
func (f *Fingerprint) Add(r *Row) {
	b := f.buf[:0]
	b = append(b, r.Source.AsSlice()...)
	b = str(b, r.SourceText)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Count))
	b = append(b, byte(r.Disposition), byte(r.DKIM), byte(r.SPF), flag(r.NullSender))
	b = str(b, r.DispositionWord)
	b = str(b, r.HeaderFrom)
	b = str(b, r.EnvelopeFrom)
	b = str(b, r.EnvelopeTo)
	b = AppendAuthResults(b, r)
	f.buf = b

	digest := sha256.Sum256(b)
	var carry uint64
	for i := range f.sum {
		f.sum[i], carry = bits.Add64(f.sum[i], binary.LittleEndian.Uint64(digest[8*i:]), carry)
	}
	f.rows++
}

// Sum returns the content hash, given the header of the report.
func (f *Fingerprint) Sum(rep *AggregateReport) Digest {
	var b []byte
	b = str(b, rep.Reporter.Key())
	b = str(b, rep.ID)
	b = binary.BigEndian.AppendUint64(b, uint64(rep.Period.Begin.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(rep.Period.End.Unix()))
	p := &rep.Policy
	b = str(b, p.Domain)
	b = append(b, byte(p.ADKIM), byte(p.ASPF), byte(p.P), byte(p.SP), byte(p.NP))
	b = binary.BigEndian.AppendUint64(b, f.rows)
	for _, s := range f.sum {
		b = binary.BigEndian.AppendUint64(b, s)
	}
	return sha256.Sum256(b)
}

// Rows returns the hash of the rows alone. Reports of different names that
// have it in common say the same.
func (f *Fingerprint) Rows() Digest {
	b := binary.BigEndian.AppendUint64(nil, f.rows)
	for _, s := range f.sum {
		b = binary.BigEndian.AppendUint64(b, s)
	}
	return sha256.Sum256(b)
}

// AppendAuthResults appends the raw results and the reasons of a row in a form
// that is equal exactly if they are. It is a key, not for reading back.
func AppendAuthResults(b []byte, r *Row) []byte {
	for i := range r.AuthDKIM {
		a := &r.AuthDKIM[i]
		b = append(b, 'd', byte(a.Result))
		b = str(str(str(str(b, a.Domain), a.Selector), a.Word), a.Human)
	}
	for i := range r.AuthSPF {
		a := &r.AuthSPF[i]
		b = append(b, 's', byte(a.Result))
		b = str(str(str(str(b, a.Domain), a.Scope), a.Word), a.Human)
	}
	for i := range r.Reasons {
		b = str(str(append(b, 'r'), r.Reasons[i].Type), r.Reasons[i].Comment)
	}
	return b
}

// str appends a string and its length.
func str(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}
