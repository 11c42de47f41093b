package parse

import (
	"fmt"
	"testing"
)

// Names that have to share a place in the table cost nothing all the same, or
// it would be luck how much a report costs.
func TestNamesDoNotDriveEachOtherOut(t *testing.T) {
	var words interned
	together := func(sets int) (names [][]byte) {
		for i := 0; len(names) < places; i++ {
			if name := fmt.Appendf(nil, "n%d.example", i); hashOf(name)%uint64(sets) == 0 {
				names = append(names, name)
			}
		}
		return names
	}
	for what, read := range map[string]struct {
		names [][]byte
		one   func([]byte)
	}{
		"strings": {together(len(words.strings)), func(b []byte) { words.str(b) }},
		"domains": {together(len(words.domains)), func(b []byte) { words.domain(b) }},
	} {
		all := func() {
			for _, name := range read.names {
				read.one(name)
			}
		}
		all()
		if n := testing.AllocsPerRun(100, all); n != 0 {
			t.Errorf("%s: %v allocations where all are known", what, n)
		}
	}
}
