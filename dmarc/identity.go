package dmarc

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/zeebo/xxh3"
)

// A Digest is a SHA-256.
type Digest [sha256.Size]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// A Fingerprint makes the content hash of an aggregate report while its rows
// stream by. It does not depend on their order, on compression or on white
// space: 128-bit hashes of the rows are added up as numbers. They tell contents
// apart, and need not withstand forgers: whoever can send a report under
// another's identity has no use for one that is taken for a copy.
type Fingerprint struct {
	sum  xxh3.Uint128 // two sums, without a carry between them
	rows uint64
	buf  []byte
}

// A RestHash is the hash of all that identifies a row but its address and its
// count: what rows of one report often have in common.
type RestHash = xxh3.Uint128

// Reset begins the hash of another report.
func (f *Fingerprint) Reset() { f.sum, f.rows = xxh3.Uint128{}, 0 }

// Add takes in a row.
func (f *Fingerprint) Add(r *Row) { f.AddRest(r, f.Rest(r)) }

// AddRest takes in a row whose Rest is known.
func (f *Fingerprint) AddRest(r *Row, rest RestHash) {
	b := binary.BigEndian.AppendUint64(f.buf[:0], rest.Hi)
	b = binary.BigEndian.AppendUint64(b, rest.Lo)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Count))
	b = append(b, byte(r.Source.BitLen()))
	if r.Source.IsValid() {
		ip := r.Source.As16()
		b = append(b, ip[:]...)
	}
	f.buf = b

	h := xxh3.Hash128(b)
	f.sum.Hi += h.Hi
	f.sum.Lo += h.Lo
	f.rows++
}

// Rest returns the RestHash of a row.
func (f *Fingerprint) Rest(r *Row) RestHash {
	f.buf = appendRest(f.buf[:0], r)
	return xxh3.Hash128(f.buf)
}

func appendRest(b []byte, r *Row) []byte {
	b = append(b, byte(r.Disposition), byte(r.DKIM), byte(r.SPF), flag(r.NullSender))
	b = str(b, r.SourceText)
	b = str(b, r.DispositionWord)
	b = str(b, r.HeaderFrom)
	b = str(b, r.EnvelopeFrom)
	b = str(b, r.EnvelopeTo)
	return AppendAuthResults(b, r)
}

func (f *Fingerprint) appendSum(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, f.sum.Hi)
	return binary.BigEndian.AppendUint64(b, f.sum.Lo)
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
	b = f.appendSum(b)
	return sha256.Sum256(b)
}

// Rows returns the hash of the rows alone. Reports of different names that
// have it in common say the same.
func (f *Fingerprint) Rows() Digest {
	b := binary.BigEndian.AppendUint64(nil, f.rows)
	b = f.appendSum(b)
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
