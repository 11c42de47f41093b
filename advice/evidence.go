// Package advice tells the owner of a domain who sends as it, what a stricter
// policy would cost, and what to do next. Evidence goes in, words and numbers
// come out: everything here is pure. It asks no database and no DNS, and reads
// no clock; the end of the period is its present.
package advice

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Evidence is all that a judgement about a domain rests on.
type Evidence struct {
	Domain    string
	Period    dmarc.Period // whole days in UTC
	Published Published
	Sources   []Source
	Reporters map[int64]string // names, by the numbers that cells have
	Overrules []Overrule       // the operator's word wins
	Senders   Senders          // recognises names; may be nil
	Changes   []Change         // of the published policy, ascending
	// Nonexistent reports whether a subdomain is known not to exist (RFC
	// 9989, section 3.2.13); nil if nothing is known.
	Nonexistent func(name string) bool
	// Unsure reports whether it is not known of a subdomain if it exists; nil if
	// Nonexistent knows all of them.
	Unsure func(name string) bool
	// RUA is the address at which dmarcd takes in reports, for records that
	// are made anew; "" if it is not known.
	RUA string

	found *found // nil unless it is kept
}

// found is what was found in evidence that is kept.
type found struct {
	classify, judge sync.Once
	sources         []Classified
	advice          *Advice
}

// Keep has Classify, and For without options, do their work once and return the same again
// later, which nobody may change then. The evidence must not change any more.
func (e *Evidence) Keep() { e.found = new(found) }

// Alone returns the evidence without what other domains say of sources.
func (e *Evidence) Alone() *Evidence {
	alone := *e
	alone.found = nil
	alone.Sources = slices.Clone(e.Sources)
	for i := range alone.Sources {
		alone.Sources[i].Elsewhere = Elsewhere{}
	}
	return &alone
}

// Size returns about how many bytes of memory the evidence takes, with what is found in it.
func (e *Evidence) Size() int {
	const source = 1500 // with its class and words
	n := len(e.Sources) * source
	for i := range e.Sources {
		n += e.Sources[i].Size()
	}
	return n
}

// Senders recognises known senders by the domains that they sign with and
// take bounces at, and may be asked by several goroutines. The catalogue of package
// sources is one.
type Senders interface {
	ByDomain(domain string) *dmarc.Sender // nil if unknown
}

// A Source is what one source did as the domain.
type Source struct {
	dmarc.SourceFacts
	Identity dmarc.SourceIdentity
	// SPF tells whether the SPF record of the domain covers the address.
	SPF Cover
	// Elsewhere is how the source is classed for other domains of this
	// installation.
	Elsewhere Elsewhere
}

// Cover tells whether an SPF record covers an address.
type Cover uint8

// CoverUnknown is for what was not looked up or could not be.
const (
	CoverUnknown Cover = iota
	CoverYes
	CoverNo
	CoverShared // by what a service publishes for all its customers
)

// Elsewhere counts other domains of the installation by how they class a
// source.
type Elsewhere [dmarc.NumClasses]int

// An Overrule is the operator's word about a source or a network.
type Overrule struct {
	Network netip.Prefix
	Class   dmarc.Class
	Note    string
}

// A Change is a change of the published policy, as first seen.
type Change struct {
	Day      time.Time
	From, To dmarc.Policy // p
}

// Published is the DMARC record that is in force for the domain.
type Published struct {
	Record  string // as published at FoundAt; "" if there is none
	FoundAt string // the name that has it, without "_dmarc."
	// Unknown is true when the lookup failed for now: nothing is called
	// missing on that ground.
	Unknown     bool
	P, SP, NP   dmarc.Policy
	Testing     bool
	ADKIM, ASPF dmarc.AlignmentMode
	ReportsTo   bool // rua is there
}

// Policy returns the published policy as one that can be replayed. Without a
// record nothing is applied.
func (p *Published) Policy() Policy {
	q := Policy{P: p.P, SP: p.SP, NP: p.NP, Testing: p.Testing, ADKIM: p.ADKIM, ASPF: p.ASPF}
	if q.P == dmarc.PolicyUnknown {
		q.P = dmarc.PolicyNone
	}
	return q
}

// Collect makes sources of the facts about a domain. What is known about a source
// otherwise is for the caller to add.
func Collect(facts []dmarc.SourceFacts) []Source {
	out := make([]Source, len(facts))
	for i := range facts {
		out[i].SourceFacts = facts[i]
	}
	return out
}

// Range returns the first day on which one of the sources sent, and how many days there
// are from it to the last one.
func Range(sources []Source) (first time.Time, days int) {
	var last time.Time
	for i := range sources {
		s := &sources[i]
		if s.NumDays() == 0 {
			continue
		}
		if f := s.First(); first.IsZero() || f.Before(first) {
			first = f
		}
		if l := s.Last(); l.After(last) {
			last = l
		}
	}
	if first.IsZero() {
		return first, 0
	}
	return first, int(last.Sub(first)/day) + 1
}

// A Summary counts the messages of a source.
type Summary struct {
	Messages   int64
	Both       int64 // DKIM and SPF aligned
	DKIMOnly   int64
	SPFOnly    int64
	Failing    int64 // neither
	Foreign    int64 // of those failing: authenticated as somebody else
	Exempted   int64 // with a reason for not applying the policy
	Forwarding int64 // of those: a reason that says forwarded
	Missed     int64 // MAIL FROM is the domain's, and SPF did not pass
	Broken     int64 // a signature of the domain did not pass, nor did another
	Temporary  int64 // a check failed for a moment
	SelfSigned int64 // a signature of another organization passed
	Reporters  int
	Days       int
	First      time.Time
	Last       time.Time
}

// passing returns the messages that passed DMARC.
func (s *Summary) passing() int64 { return s.Messages - s.Failing }

func summarise(src *Source, reporters *counter[int64, struct{}]) Summary {
	var s Summary
	reporters.reset()
	for c, n := range src.Cells() {
		s.add(c, n)
		reporters.of(c.Reporter)
	}
	s.Days, s.First, s.Last = src.NumDays(), src.First(), src.Last()
	s.Reporters = len(reporters.keys)
	return s
}

func (s *Summary) add(c *dmarc.Cell, n int64) {
	p := &c.Pattern
	s.Messages += n
	dkim, spf := p.DKIM != dmarc.NotAligned, p.SPF != dmarc.NotAligned
	switch {
	case dkim && spf:
		s.Both += n
	case dkim:
		s.DKIMOnly += n
	case spf:
		s.SPFOnly += n
	default:
		s.Failing += n
		if p.Hints&(dmarc.HintDKIMForeign|dmarc.HintSPFForeign) != 0 {
			s.Foreign += n
		}
	}
	if p.Overrides&dmarc.OverridesExempting != 0 {
		s.Exempted += n
	}
	if p.Overrides&dmarc.OverridesForwarding != 0 {
		s.Forwarding += n
	}
	if p.Hints&dmarc.HintSPFMissed != 0 {
		s.Missed += n
	}
	if p.Hints&dmarc.HintDKIMBroken != 0 && !dkim {
		s.Broken += n
	}
	if p.Hints&dmarc.HintTemporary != 0 && !dkim && !spf {
		s.Temporary += n
	}
	if p.Hints&dmarc.HintDKIMForeign != 0 {
		s.SelfSigned += n
	}
}
