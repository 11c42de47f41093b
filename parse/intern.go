package parse

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

func hashOf(b []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// str returns the text as a string.
func (t *interned) str(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	e := &t.strings[hashOf(b)%uint32(len(t.strings))]
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
	e := &t.domains[hashOf(b)%uint32(len(t.domains))]
	if e.raw != string(b) {
		e.raw = string(b)
		e.name, e.ok = domainName(e.raw)
	}
	return e.name, e.ok
}
