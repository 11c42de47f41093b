package parse

import "hash/maphash"

// interned remembers strings, so that a report that repeats its names costs no
// memory for each. A name has few places where it can be: a flood of different
// names replaces others and never grows the table. There is more than one, so
// that names which are both used do not drive each other out.
type interned struct {
	strings [256][places]string
	domains [64][places]domain
}

const places = 4

type domain struct {
	raw, name string
	ok        bool
}

var seed = maphash.MakeSeed()

func hashOf(b []byte) uint64 { return maphash.Bytes(seed, b) }

// str returns the text as a string.
func (t *interned) str(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > maxName {
		return string(b)
	}
	set := &t.strings[hashOf(b)%uint64(len(t.strings))]
	for i := range set {
		if set[i] == string(b) {
			return set[i]
		}
	}
	copy(set[1:], set[:]) // the oldest one goes
	set[0] = string(b)
	return set[0]
}

// domain returns the text as domainName does.
func (t *interned) domain(b []byte) (string, bool) {
	if len(b) == 0 {
		return "", true
	}
	if len(b) > maxName {
		return domainName(string(b))
	}
	set := &t.domains[hashOf(b)%uint64(len(t.domains))]
	for i := range set {
		if set[i].raw == string(b) {
			return set[i].name, set[i].ok
		}
	}
	copy(set[1:], set[:])
	e := &set[0]
	e.raw = string(b)
	e.name, e.ok = domainName(e.raw)
	return e.name, e.ok
}
