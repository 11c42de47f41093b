package dmarc

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A SourceDay is all that advice needs to know about what one source did as
// one policy domain on one day: enough to replay any policy exactly and to
// tell whose the source is, in a fraction of the rows. Rows are reduced to it
// by a FactReducer; SourceDays of the same source and day merge.
type SourceDay struct {
	Day time.Time // midnight, UTC
	// Source is a single address, or, after Fold, a network that stands for
	// addresses without any authentication. The zero Prefix is messages whose
	// source could not be read.
	Source netip.Prefix
	Cells  []Cell // sorted, distinct in all but Messages
	Marks  []Mark // busiest first, at most maxMarks
}

// A Cell counts messages that any policy treats alike.
type Cell struct {
	// Author is the author domain where it is a subdomain of the policy
	// domain, OtherAuthors beyond the first of a day, and "" for the policy
	// domain itself, or where the report does not say.
	Author   string
	Pattern  Pattern
	Reporter int64 // the number that whoever keeps the facts gives the reporter
	Messages int64
}

// OtherAuthors stands for subdomains beyond those that are kept by name.
const OtherAuthors = "*"

// A Pattern is what of a row decides about the fate of its messages, and what
// tells whose they are.
type Pattern struct {
	DKIM, SPF   Strength    // as far as the reporter's verdict and the raw results agree
	Disposition Disposition // what the reporter did
	// Policy is the one that applied to the author by the report: p, or sp
	// for a subdomain, lowered by t=y.
	Policy    Policy
	Sampled   bool // pct below 100, or t=y, which some receivers ignore: the policy applied to some messages only
	Overrides Overrides
	Hints     Hints
}

// Passes reports whether the messages passed DMARC by the reporter's verdict.
func (p Pattern) Passes() bool { return p.Hints&HintPassed != 0 }

// A Strength is how well an authenticated domain is aligned.
type Strength uint8

// Strict alignment (equal names) is also relaxed alignment (RFC 9989, section 4.4).
const (
	NotAligned Strength = iota
	AlignedRelaxed
	AlignedStrict
)

// Overrides are the reasons why a reporter did not apply the policy, as bits.
type Overrides uint8

// The types of RFC 9990 and RFC 7489. ARC is local_policy with arc=pass in its
// comment; test mode and sampling are no exceptions to the policy but parts of it.
const (
	OverrideForwarded Overrides = 1 << iota
	OverrideTrustedForwarder
	OverrideMailingList
	OverrideLocalPolicy
	OverrideARC
	OverrideSampledOut
	OverrideOther
)

// OverridesForwarding are those that say that mail was forwarded.
const OverridesForwarding = OverrideForwarded | OverrideTrustedForwarder | OverrideMailingList | OverrideARC

// OverridesExempting are those by which a receiver makes an exception.
const OverridesExempting = OverridesForwarding | OverrideLocalPolicy | OverrideOther

// Hints are what else a row tells, as bits.
type Hints uint8

// The hints of a pattern.
const (
	HintPassed      Hints = 1 << iota // by the reporter's verdict
	HintDKIMForeign                   // a signature of another organization passed
	HintSPFForeign                    // SPF passed for another organization
	HintSPFMissed                     // MAIL FROM is the author's organization, and SPF did not pass
	HintDKIMBroken                    // a signature of the author's organization did not pass
	HintTemporary                     // a check of the author's organization failed for a moment
	HintDisputed                      // the verdict does not follow from the raw results
	HintModeUntold                    // passed, and the report does not tell under which alignment modes
)

// Bits packs a pattern: equal patterns have equal bits.
func (p Pattern) Bits() uint32 {
	b := uint32(p.DKIM) | uint32(p.SPF)<<2 | uint32(p.Disposition)<<4 | uint32(p.Policy)<<7
	if p.Sampled {
		b |= 1 << 9
	}
	return b | uint32(p.Overrides)<<10 | uint32(p.Hints)<<18
}

// PatternOf is the inverse of Bits.
func PatternOf(b uint32) Pattern {
	return Pattern{
		DKIM: Strength(b & 3), SPF: Strength(b >> 2 & 3), Disposition: Disposition(b >> 4 & 7), Policy: Policy(b >> 7 & 3),
		Sampled: b>>9&1 != 0, Overrides: Overrides(b >> 10), Hints: Hints(b >> 18),
	}
}

// A Mark is a name that authenticated mail of a source.
type Mark struct {
	Kind     MarkKind
	Domain   string
	Selector string // of signatures, where the report tells
	Messages int64
}

// MarkKind tells what a mark was found by.
type MarkKind uint8

// Of signatures that failed only those of the author's organization are kept:
// anyone can write the others.
const (
	MarkDKIMPass MarkKind = iota + 1
	MarkDKIMFail
	MarkSPFPass
)

// Limits on what strangers can make us keep for a source and day.
const (
	maxMarks     = 12
	seenMarks    = 64 // while reducing
	maxAuthors   = 32
	maxAuthorLen = 253
)

// A FactReducer reduces the rows of the reports about one policy domain to
// SourceDays. Its zero value is ready; it is not for use by several goroutines.
type FactReducer struct {
	aligner Aligner
	days    map[factKey]*factDay
	parts   []int64
}

type factKey struct {
	day    int64 // seconds
	source netip.Addr
}

type factDay struct {
	cells   map[Cell]int64 // Messages of the key is 0
	marks   map[Mark]int64
	authors map[string]bool
}

// Add takes in a row of a report. Messages that count for no day (Attribution)
// are left out: they are no evidence of what happens now.
func (f *FactReducer) Add(row *Row, policy *PolicyPublished, days Attribution, reporter int64) {
	if !days.Dated || row.Count <= 0 {
		return
	}
	cell := Cell{Author: author(row.HeaderFrom, policy.Domain), Reporter: reporter}
	cell.Pattern = f.pattern(row, policy, cell.Author)
	if f.days == nil {
		f.days = make(map[factKey]*factDay)
	}
	f.parts = days.Share(row.Count, f.parts)
	for i, n := range f.parts {
		if n == 0 {
			continue
		}
		key := factKey{days.Days[i].Unix(), row.Source}
		d := f.days[key]
		if d == nil {
			d = &factDay{cells: make(map[Cell]int64), marks: make(map[Mark]int64), authors: make(map[string]bool)}
			f.days[key] = d
		}
		c := cell
		if c.Author != "" && !d.authors[c.Author] {
			if len(d.authors) >= maxAuthors {
				c.Author = OtherAuthors
			} else {
				d.authors[c.Author] = true
			}
		}
		d.cells[c] += n
		f.mark(d, row, n)
	}
}

// author returns the author domain as a cell keeps it.
func author(from, domain string) string {
	if len(from) > maxAuthorLen || !strings.HasSuffix(from, "."+domain) {
		return ""
	}
	return from
}

// pattern reduces a row. The reporter's verdict stands; the raw results tell
// what would be aligned strictly.
func (f *FactReducer) pattern(row *Row, policy *PolicyPublished, author string) Pattern {
	p := Pattern{Disposition: row.Disposition, Policy: EffectivePolicy(policy, author), Overrides: overrides(row)}
	p.Sampled = policy.Pct != nil && *policy.Pct < 100 || policy.Testing != nil && *policy.Testing
	from := row.HeaderFrom
	if from == "" {
		from = policy.Domain
	}
	var dkim, spf Strength
	for i := range row.AuthDKIM {
		r := &row.AuthDKIM[i]
		s := f.strength(r.Domain, from)
		switch {
		case r.Domain == "":
		case r.Result == ResultPass && s == NotAligned:
			p.Hints |= HintDKIMForeign
		case r.Result == ResultPass:
			dkim = max(dkim, s)
		case s != NotAligned && r.Result == ResultTempError:
			p.Hints |= HintTemporary
		case s != NotAligned && r.Result != ResultNone && r.Result != ResultUnknown:
			p.Hints |= HintDKIMBroken
		}
	}
	for i := range row.AuthSPF {
		r := &row.AuthSPF[i]
		helo := r.Scope == "helo"
		if r.Domain == "" || helo && !row.NullSender && row.EnvelopeFrom != "" {
			continue
		}
		s := f.strength(r.Domain, from)
		switch {
		case r.Result == ResultPass && s == NotAligned:
			p.Hints |= HintSPFForeign
		case r.Result == ResultPass:
			spf = max(spf, s)
		case s != NotAligned && r.Result == ResultTempError:
			p.Hints |= HintTemporary
		case s != NotAligned && r.Result != ResultUnknown:
			p.Hints |= HintSPFMissed
		}
	}
	p.DKIM = settle(row.DKIM, dkim, policy.ADKIM)
	p.SPF = settle(row.SPF, spf, policy.ASPF)
	if p.DKIM != dkim || p.SPF != spf {
		p.Hints |= HintDisputed
	}
	if row.Passes() || row.DKIM == ResultUnknown && row.SPF == ResultUnknown && (dkim > 0 || spf > 0) {
		p.Hints |= HintPassed
		if policy.ADKIM == AlignmentUnknown && p.DKIM == AlignedRelaxed || policy.ASPF == AlignmentUnknown && p.SPF == AlignedRelaxed {
			p.Hints |= HintModeUntold
		}
	}
	return p
}

func (f *FactReducer) strength(domain, from string) Strength {
	switch {
	case domain == "":
		return NotAligned
	case domain == from:
		return AlignedStrict
	case f.aligner.Aligned(domain, from, AlignmentRelaxed):
		return AlignedRelaxed
	}
	return NotAligned
}

// settle makes the strength that the raw results prove agree with a verdict
// that was reached under a mode: a pass is at least what the mode asks for, a
// failure is less.
func settle(verdict Result, proven Strength, mode AlignmentMode) Strength {
	need := AlignedRelaxed
	if mode == AlignmentStrict {
		need = AlignedStrict
	}
	switch {
	case verdict == ResultUnknown:
		return proven
	case verdict == ResultPass:
		return max(proven, need)
	case proven < need, mode == AlignmentUnknown && proven == AlignedRelaxed:
		return proven // too weak for the mode, or for the mode that was not told
	}
	return NotAligned
}

// EffectivePolicy returns the policy that applied to an author by a report: author is
// a subdomain of the policy domain, or "" for that itself. A report does not tell
// whether a subdomain exists, so np is not looked at.
func EffectivePolicy(policy *PolicyPublished, author string) Policy {
	p := policy.P
	if author != "" && policy.SP != PolicyUnknown {
		p = policy.SP
	}
	if policy.Testing != nil && *policy.Testing {
		p = p.Lowered()
	}
	return p
}

// Lowered returns the policy that t=y makes of p: one level less (RFC 9989,
// section 4.7).
func (p Policy) Lowered() Policy {
	if p > PolicyNone {
		return p - 1
	}
	return p
}

func overrides(row *Row) Overrides {
	var o Overrides
	for i := range row.Reasons {
		switch r := &row.Reasons[i]; r.Type {
		case "forwarded":
			o |= OverrideForwarded
		case "trusted_forwarder":
			o |= OverrideTrustedForwarder
		case "mailing_list":
			o |= OverrideMailingList
		case "local_policy":
			if strings.Contains(strings.ToLower(r.Comment), "arc=pass") {
				o |= OverrideARC
			} else {
				o |= OverrideLocalPolicy
			}
		case "sampled_out", "policy_test_mode":
			o |= OverrideSampledOut
		case "":
			// an empty element says nothing
		default:
			o |= OverrideOther
		}
	}
	return o
}

// mark notes the names that authenticated a row.
func (f *FactReducer) mark(d *factDay, row *Row, n int64) {
	note := func(m Mark) {
		if len(m.Domain) > maxAuthorLen || len(m.Selector) > maxAuthorLen {
			return
		}
		if _, ok := d.marks[m]; ok || len(d.marks) < seenMarks {
			d.marks[m] += n
		}
	}
	var seen [8]Mark // a signature that is listed twice counts once
	k := 0
	for i := range row.AuthDKIM {
		r := &row.AuthDKIM[i]
		m := Mark{Kind: MarkDKIMPass, Domain: r.Domain, Selector: r.Selector}
		switch {
		case r.Domain == "":
			continue
		case r.Result == ResultPass:
		case r.Result == ResultNone, r.Result == ResultUnknown, f.strength(r.Domain, row.HeaderFrom) == NotAligned:
			continue
		default:
			m.Kind = MarkDKIMFail
		}
		if k == len(seen) || slices.Contains(seen[:k], m) {
			continue
		}
		seen[k] = m
		k++
		note(m)
	}
	for i := range row.AuthSPF {
		if r := &row.AuthSPF[i]; r.Result == ResultPass && r.Domain != "" && r.Scope != "helo" {
			note(Mark{Kind: MarkSPFPass, Domain: r.Domain})
			break // RFC 9990 has one result of the MAIL FROM identity
		}
	}
}

// Days returns what was taken in, by day and source.
func (f *FactReducer) Days() []SourceDay {
	days := make([]SourceDay, 0, len(f.days))
	for key, d := range f.days {
		s := SourceDay{Day: time.Unix(key.day, 0).UTC(), Cells: make([]Cell, 0, len(d.cells))}
		if key.source.IsValid() {
			s.Source = netip.PrefixFrom(key.source.WithZone(""), key.source.BitLen())
		}
		for c, n := range d.cells {
			c.Messages = n
			s.Cells = append(s.Cells, c)
		}
		for m, n := range d.marks {
			m.Messages = n
			s.Marks = append(s.Marks, m)
		}
		s.order()
		days = append(days, s)
	}
	slices.SortFunc(days, ByDayAndSource)
	return days
}

// Take returns what was taken in, as Days does, and forgets it.
func (f *FactReducer) Take() []SourceDay {
	days := f.Days()
	clear(f.days)
	return days
}

// order sorts cells and marks, and drops the least marks.
func (s *SourceDay) order() {
	slices.SortFunc(s.Cells, compareCells)
	slices.SortFunc(s.Marks, func(a, b Mark) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Domain, b.Domain), cmp.Compare(a.Selector, b.Selector))
	})
	if len(s.Marks) > maxMarks {
		s.Marks = s.Marks[:maxMarks]
	}
}

func compareCells(a, b Cell) int {
	return cmp.Or(cmp.Compare(a.Author, b.Author), cmp.Compare(a.Pattern.Bits(), b.Pattern.Bits()), cmp.Compare(a.Reporter, b.Reporter))
}

// ByDayAndSource compares SourceDays, for a list in which each day lies together.
func ByDayAndSource(a, b SourceDay) int {
	return cmp.Or(a.Day.Compare(b.Day), compareSources(a.Source, b.Source))
}

// BySourceAndDay compares SourceDays, for a list in which each source lies together.
func BySourceAndDay(a, b SourceDay) int {
	return cmp.Or(compareSources(a.Source, b.Source), a.Day.Compare(b.Day))
}

func compareSources(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Messages returns how many messages the source sent on that day.
func (s *SourceDay) Messages() int64 {
	var n int64
	for i := range s.Cells {
		n += s.Cells[i].Messages
	}
	return n
}

// Merge adds what another SourceDay of the same day counts.
func (s *SourceDay) Merge(o SourceDay) {
	cells := append(slices.Clone(s.Cells), o.Cells...)
	slices.SortFunc(cells, compareCells)
	s.Cells = cells[:0]
	for _, c := range cells {
		if n := len(s.Cells); n > 0 && compareCells(s.Cells[n-1], c) == 0 {
			s.Cells[n-1].Messages += c.Messages
			continue
		}
		s.Cells = append(s.Cells, c)
	}
	marks := make(map[Mark]int64)
	for _, m := range slices.Concat(s.Marks, o.Marks) {
		n := m.Messages
		m.Messages = 0
		marks[m] += n
	}
	s.Marks = make([]Mark, 0, len(marks))
	for m, n := range marks {
		m.Messages = n
		s.Marks = append(s.Marks, m)
	}
	s.order()
}

// Fold bounds the sources of each day: beyond the keep busiest, those that
// nothing speaks for are merged into their network of 256 addresses (IPv6:
// the /48), and, should there be more than keep networks, into all addresses.
// No message is lost, and a policy replayed over the result has the same
// effect. The days must be sorted as Days returns them.
func Fold(days []SourceDay, keep int) []SourceDay {
	var out []SourceDay
	for len(days) > 0 {
		n := 1
		for n < len(days) && days[n].Day.Equal(days[0].Day) {
			n++
		}
		out = append(out, foldDay(days[:n], keep)...)
		days = days[n:]
	}
	return out
}

func foldDay(day []SourceDay, keep int) []SourceDay {
	if len(day) <= keep {
		return day
	}
	day = slices.Clone(day)
	slices.SortStableFunc(day, func(a, b SourceDay) int { return cmp.Compare(b.Messages(), a.Messages()) })
	out := make([]SourceDay, 0, keep)
	var rest []SourceDay
	for i := range day {
		// A network was folded before, and takes in more of its addresses.
		network := day[i].Source.IsValid() && !day[i].Source.IsSingleIP()
		if !network && (len(out) < keep || !day[i].Source.IsValid() || day[i].spokenFor()) {
			out = append(out, day[i])
		} else {
			rest = append(rest, day[i])
		}
	}
	networks := mergeBy(rest, func(p netip.Prefix) netip.Prefix {
		bits := 24
		if p.Addr().Is6() {
			bits = 48
		}
		return netip.PrefixFrom(p.Addr(), min(bits, p.Bits())).Masked()
	})
	if len(networks) > keep {
		networks = mergeBy(networks, func(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), 0).Masked() })
	}
	out = append(out, networks...)
	slices.SortFunc(out, ByDayAndSource)
	return out
}

// spokenFor reports whether anything but the source itself says that its
// messages belong to somebody.
func (s *SourceDay) spokenFor() bool {
	if len(s.Marks) > 0 {
		return true
	}
	for i := range s.Cells {
		p := &s.Cells[i].Pattern
		if p.DKIM != NotAligned || p.SPF != NotAligned || p.Overrides&OverridesExempting != 0 ||
			p.Hints&(HintPassed|HintDKIMForeign|HintSPFForeign) != 0 {
			return true
		}
	}
	return false
}

// mergeBy merges SourceDays of one day whose sources have the same key.
func mergeBy(days []SourceDay, key func(netip.Prefix) netip.Prefix) []SourceDay {
	at := make(map[netip.Prefix]int)
	var out []SourceDay
	for _, d := range days {
		k := key(d.Source)
		i, ok := at[k]
		if !ok {
			at[k] = len(out)
			out = append(out, SourceDay{Day: d.Day, Source: k, Cells: d.Cells, Marks: d.Marks})
			continue
		}
		out[i].Merge(d)
	}
	return out
}
