package advice

import (
	"net/netip"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Policy is a DMARC record as far as it decides about mail. Unknown SP and
// NP mean that the record does not have them.
type Policy struct {
	P, SP, NP   dmarc.Policy
	Testing     bool
	ADKIM, ASPF dmarc.AlignmentMode
}

// applied returns the policy that applies to an author: "" for the domain itself,
// or the name of a subdomain (RFC 9989, section 4.10.1).
func (p *Policy) applied(author string, nonexistent bool) dmarc.Policy {
	q := p.P
	if author != "" {
		switch {
		case nonexistent && p.NP != dmarc.PolicyUnknown:
			q = p.NP
		case p.SP != dmarc.PolicyUnknown:
			q = p.SP
		}
	}
	if p.Testing {
		q = q.Lowered()
	}
	return q
}

// Passes reports whether messages of a pattern pass DMARC under the alignment
// modes of the policy. A report that does not tell the modes was made under
// those in force: its verdict stands where the policy is no stricter.
func (p *Policy) Passes(c *dmarc.Pattern, inForce *Policy) bool {
	return enough(c.DKIM, p.ADKIM) || enough(c.SPF, p.ASPF) ||
		c.Hints&dmarc.HintModeUntold != 0 && !stricter(p.ADKIM, inForce.ADKIM) && !stricter(p.ASPF, inForce.ASPF)
}

func stricter(a, b dmarc.AlignmentMode) bool {
	return a == dmarc.AlignmentStrict && b != dmarc.AlignmentStrict
}

func enough(s dmarc.Strength, mode dmarc.AlignmentMode) bool {
	if mode == dmarc.AlignmentStrict {
		return s == dmarc.AlignedStrict
	}
	return s != dmarc.NotAligned
}

// A Loss counts what a policy does to messages.
type Loss struct {
	Messages    int64
	Quarantined int64
	Rejected    int64
	// Spared messages fail, but their receivers made an exception, and would
	// again: they are not among those quarantined or rejected.
	Spared int64
}

// Affected returns the messages that are quarantined or rejected.
func (l Loss) Affected() int64 { return l.Quarantined + l.Rejected }

func (l *Loss) merge(o Loss) {
	l.Messages += o.Messages
	l.Quarantined += o.Quarantined
	l.Rejected += o.Rejected
	l.Spared += o.Spared
}

// A WhatIf is a policy to replay, with some sources taken as repaired.
type WhatIf struct {
	Policy   Policy
	Repaired map[netip.Prefix]bool
	// Exempt are subdomains that have a record of their own with p=none.
	Exempt map[string]bool
}

// A Simulation is what a policy would have done to the messages of a period.
type Simulation struct {
	Policy     Policy
	Total      Loss
	ByClass    [dmarc.NumClasses]Loss
	BySource   []Loss // in the order of the sources
	ByReporter map[int64]Loss
	ByDay      map[time.Time]Loss
	ByAuthor   map[string]Loss // "" is the domain itself
}

// Own returns what happens to the mail of own sources and services.
func (s *Simulation) Own() Loss {
	l := s.ByClass[dmarc.ClassOwn]
	l.merge(s.ByClass[dmarc.ClassService])
	return l
}

// Simulate replays a policy over the evidence.
func Simulate(e *Evidence, sources []Classified, w WhatIf) *Simulation {
	s := &Simulation{Policy: w.Policy, BySource: make([]Loss, len(sources))}
	var reporters counter[int64, Loss]
	first, n := Range(e.Sources)
	days, seen := make([]Loss, n), make([]bool, n)
	var authors counter[string, Loss]
	inForce := e.Published.Policy()
	for i := range sources {
		src := &sources[i]
		repaired := w.Repaired[src.Source.Source]
		for c, messages := range src.Cells() {
			l := w.fate(c, messages, repaired, &inForce, e.Nonexistent)
			reporters.of(c.Reporter).merge(l)
			authors.of(c.Author).merge(l)
			s.BySource[i].merge(l)
		}
		for d := range src.Days() {
			at := d.Day.Sub(first) / day
			for c, messages := range d.Cells() {
				days[at].merge(w.fate(c, messages, repaired, &inForce, e.Nonexistent))
			}
			seen[at] = true
		}
		s.ByClass[src.Class].merge(s.BySource[i])
		s.Total.merge(s.BySource[i])
	}
	s.ByReporter, s.ByDay, s.ByAuthor = reporters.totals(), make(map[time.Time]Loss), authors.totals()
	for i, l := range days {
		if seen[i] {
			s.ByDay[first.AddDate(0, 0, i)] = l
		}
	}
	return s
}

// fate replays the policy for messages of a kind.
func (w *WhatIf) fate(c *dmarc.Cell, messages int64, repaired bool, inForce *Policy, nonexistent func(string) bool) Loss {
	l := Loss{Messages: messages}
	if repaired || w.exempt(c.Author) || w.Policy.Passes(&c.Pattern, inForce) {
		return l
	}
	missing := c.Author != "" && c.Author != dmarc.OtherAuthors && nonexistent != nil && nonexistent(c.Author)
	p := w.Policy.applied(c.Author, missing)
	switch {
	case p != dmarc.PolicyQuarantine && p != dmarc.PolicyReject:
	case c.Pattern.Overrides&dmarc.OverridesExempting != 0:
		l.Spared = messages
	case p == dmarc.PolicyQuarantine:
		l.Quarantined = messages
	default:
		l.Rejected = messages
	}
	return l
}

// exempt reports whether the author has a record of its own, or stands below a
// subdomain that has (RFC 9989, section 4.10.1: only its own record counts).
func (w *WhatIf) exempt(author string) bool { return len(w.Exempt) > 0 && w.Exempt[author] }

// Agreement compares what the policies of the time say with what reporters did.
type Agreement struct {
	Agree       int64
	Explained   int64 // the reporter gives a reason, or applied pct
	Unexplained int64
	Unstated    int64 // no disposition
}

// Agree replays over every cell the policy that was published when it was
// reported, and compares with the disposition.
func Agree(sources []Source) Agreement {
	var a Agreement
	for i := range sources {
		for c, messages := range sources[i].Cells() {
			p := &c.Pattern
			want := dmarc.DispositionNone
			if !p.Passes() {
				switch p.Policy {
				case dmarc.PolicyQuarantine:
					want = dmarc.DispositionQuarantine
				case dmarc.PolicyReject:
					want = dmarc.DispositionReject
				}
			}
			switch got := p.Disposition; {
			case got == dmarc.DispositionUnknown || p.Policy == dmarc.PolicyUnknown:
				a.Unstated += messages
			case got == want || want == dmarc.DispositionNone && got == dmarc.DispositionPass:
				a.Agree += messages
			case p.Overrides != 0 || p.Sampled:
				a.Explained += messages
			default:
				a.Unexplained += messages
			}
		}
	}
	return a
}

// stricter returns the policies above the present one in the order in which
// they are taken: each is at least as strict as the one before.
func (p Policy) stricter() []Policy {
	var out []Policy
	for next := max(p.P, dmarc.PolicyNone); next <= dmarc.PolicyReject; next++ {
		q := p
		q.P, q.Testing = next, false
		if q.SP != dmarc.PolicyUnknown {
			q.SP = max(q.SP, next)
		}
		if q.NP != dmarc.PolicyUnknown {
			q.NP = max(q.NP, next)
		}
		if q != p {
			out = append(out, q)
		}
	}
	return out
}

// String returns the tags that decide: p=reject; sp=none; t=y.
func (p Policy) String() string {
	var b strings.Builder
	b.WriteString("p=" + p.P.String())
	if p.SP != dmarc.PolicyUnknown {
		b.WriteString("; sp=" + p.SP.String())
	}
	if p.NP != dmarc.PolicyUnknown {
		b.WriteString("; np=" + p.NP.String())
	}
	if p.Testing {
		b.WriteString("; t=y")
	}
	if p.ADKIM == dmarc.AlignmentStrict {
		b.WriteString("; adkim=s")
	}
	if p.ASPF == dmarc.AlignmentStrict {
		b.WriteString("; aspf=s")
	}
	return b.String()
}
