package parse

import "hash/maphash"

// interned remembers strings, so that a report that repeats its names costs no
// memory for each. It is a direct-mapped table: a flood of different names
// replaces entries and never grows it.
type interned struct {
	strings [1024]string
	domains [256]struct {
		raw, name string
		ok        bool
	}
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
	e := &t.strings[hashOf(b)%uint64(len(t.strings))]
	if *e != string(b) {
		*e = string(b)
	}
	return *e
}

// domain returns the text as domainName does.
func (t *interned) domain(b []byte) (string, bool) {
	if len(b) == 0 {
		return "", true
	}
	if len(b) > maxName {
		return domainName(string(b))
	}
	e := &t.domains[hashOf(b)%uint64(len(t.domains))]
	if e.raw != string(b) {
		e.raw = string(b)
		e.name, e.ok = domainName(e.raw)
	}
	return e.name, e.ok
}
