package dmarc

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// NamedMail is messages of an author domain that are not strictly aligned, and
// the names that authenticated them: whether they are aligned depends on what
// the organizational domains of these names are. Each message carries some of
// the names of a mechanism, and not always all of them.
type NamedMail struct {
	Author    string
	DKIM, SPF []string // sorted, each once
	Messages  int64
}

// A NameCounter counts messages by the names that authenticated them. Its zero
// value is ready.
type NameCounter struct {
	aligner Aligner
	counted map[string]*NamedMail
}

// Add takes in what a source did on a day as a policy domain. Messages that are
// strictly aligned are left out, as are those that no name speaks for.
func (c *NameCounter) Add(d FactDay, domain string) {
	for cell, messages := range d.Cells() {
		p, author := cell.Pattern, cmp.Or(cell.Author, domain)
		if author == OtherAuthors || p.DKIM == AlignedStrict || p.SPF == AlignedStrict {
			continue
		}
		m := NamedMail{
			Author: author,
			DKIM:   c.names(d, MarkDKIMPass, author, p, p.DKIM, HintDKIMForeign),
			SPF:    c.names(d, MarkSPFPass, author, p, p.SPF, HintSPFForeign),
		}
		if len(m.DKIM)+len(m.SPF) == 0 {
			continue
		}
		key := m.Author + "\n" + strings.Join(m.DKIM, " ") + "\n" + strings.Join(m.SPF, " ")
		known := c.counted[key]
		if known == nil {
			if c.counted == nil {
				c.counted = make(map[string]*NamedMail)
			}
			known = &m
			c.counted[key] = known
		}
		known.Messages += messages
	}
}

// names returns the names of a source that messages of a pattern can be
// authenticated by. Where the verdict does not follow from the raw results, all
// can.
func (c *NameCounter) names(d FactDay, kind MarkKind, author string, p Pattern, s Strength, foreign Hints) []string {
	var names []string
	for m := range d.Marks() {
		if m.Kind != kind {
			continue
		}
		aligned := c.aligner.Aligned(m.Domain, author, AlignmentRelaxed)
		switch {
		case p.Hints&HintDisputed != 0:
		case s == AlignedRelaxed && aligned && m.Domain != author:
		case s == NotAligned && !aligned && p.Hints&foreign != 0:
		default:
			continue
		}
		names = append(names, m.Domain)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Mail returns what was counted, most messages first.
func (c *NameCounter) Mail() []NamedMail {
	all := make([]NamedMail, 0, len(c.counted))
	for _, key := range slices.Sorted(maps.Keys(c.counted)) {
		all = append(all, *c.counted[key])
	}
	slices.SortStableFunc(all, func(a, b NamedMail) int { return cmp.Compare(b.Messages, a.Messages) })
	return all
}
