package web

import (
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	mostAddresses = 100 // of a sender that a page lists
	mostMarks     = 12
)

// senderPage is about one sender of a domain: an address, or a service with all
// of its addresses.
type senderPage struct {
	Domain    string
	Span      span
	Sender    sender
	Clues     []string
	CluesOf   string       // the busiest address, which they are of; "" if it is the only one
	CluesIn   dmarc.Period // that they are of
	Unit      unit
	Bins      []bin
	Volume    template.HTML
	Addresses []addressLine
	MoreLines int
	Marks     []markLine
	Reporters []pair64
	Elsewhere string    // how other domains of the installation class it
	Blocker   *workItem // what to mend, if the next step would lose mail of it
	Target    string    // the next step
	Days      int       // with reports about the domain, in the period that advice looks at
	Policy    string    // address of the page about the next step
	Said      []dmarc.Overrule
	Of        string // leads back to this sender, however it is classed
}

// ByDay tells whether a place of the chart is a day.
func (p *senderPage) ByDay() bool { return p.Unit == byDay }

// CluesTo is the last day that the clues are of.
func (p *senderPage) CluesTo() time.Time { return p.CluesIn.End.Add(-aDay) }

// An addressLine is one address of a sender.
type addressLine struct {
	Source    string
	Class     dmarc.Class
	Names     []string // in DNS, that lead back to it
	Unproven  []string // that do not
	Place     string   // organization and country
	Tally     dmarc.Tally
	First     time.Time
	Last      time.Time
	Elsewhere string
	prefix    netip.Prefix
}

// A markLine is what authenticated mail of a sender, or failed to.
type markLine struct {
	Word     string
	Name     string
	Messages int64
}

// A pair64 is a name with a number of messages.
type pair64 struct {
	Name     string
	Messages int64
}

// oneSender serves /domains/{domain}/source?of=…: an address, a network or the
// name of a sender.
func (s *site) oneSender(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "source")
	if err != nil {
		return nil, err
	}
	sp, choose, err := s.readPeriod(r, domainPath(name, "source"), "of")
	if err != nil {
		return nil, err
	}
	e, err := s.evidenceFor(r.Context(), name, sp.Period)
	if err != nil {
		return s.unknownDomain(name, err)
	}
	p := senderIn(e, r.URL.Query().Get("of"), sp)
	if p == nil {
		return nil, dmarc.ErrNotFound
	}
	p.Of = p.Addresses[0].Source
	if s.overruler != nil {
		said, err := s.overruler.Overrules(r.Context(), name)
		if err != nil {
			return nil, err
		}
		p.Said = saidAbout(said, p.Addresses)
	}
	p.Policy = s.link(domainPath(name, "policy"))
	return &view{Page: "source", Title: plain(p.Sender.Name) + " as " + name, Nav: "/", Span: sp, Choose: choose, Data: p}, nil
}

// senderIn finds a sender in the evidence, by its key or one of its addresses, or the
// network that an address is counted with; nil if it sent nothing.
func senderIn(e *advice.Evidence, key string, sp span) *senderPage {
	a := advice.For(e, advice.Options{})
	group := ""
	address, _ := netip.ParseAddr(key)
	for i := range a.Sources {
		c := &a.Sources[i]
		if keyOf(c) == key || sourceName(c.Source.Source) == key {
			group = c.Group
			break
		}
		if c.Source.Source.Contains(address) { // of a day with so many that networks are told
			group = c.Group
		}
	}
	if group == "" {
		return nil
	}
	p := &senderPage{Domain: e.Domain, Span: sp, Unit: unitFor(sp.Period), CluesIn: e.Period, Days: a.Days, Target: a.Target.String()}
	days := make(map[time.Time]*dmarc.Tally)
	marks := make(map[markLine]int64)
	reporters := make(map[string]int64)
	var elsewhere advice.Elsewhere
	var most int64 // messages of an address
	for i := range a.Sources {
		for d := range a.Sources[i].Days() { // what was reported at all
			if days[d.Day] == nil && !d.Day.Before(sp.Begin) && d.Day.Before(sp.End) {
				days[d.Day] = new(dmarc.Tally)
			}
		}
		c := &a.Sources[i]
		if c.Group != group {
			continue
		}
		if p.Sender.Addresses == 0 {
			p.Sender = senderOf(c)
		}
		if p.Sender.Addresses == 0 || c.Summary.Messages > most {
			p.Clues, p.CluesOf, most = c.Clues, sourceName(c.Source.Source), c.Summary.Messages
		}
		p.Sender.Addresses++
		line := addressLine{
			Source: sourceName(c.Source.Source), prefix: c.Source.Source, Class: c.Class, Names: c.Identity.Names, Unproven: c.Identity.Unproven,
			Place: placeOf(&c.Identity), First: c.Summary.First, Elsewhere: elsewhereText(c.Elsewhere),
		}
		for k, n := range c.Elsewhere {
			elsewhere[k] = max(elsewhere[k], n)
		}
		line.Tally, line.Last = tallyOf(c, sp.Period)
		p.Sender.Tally.Merge(line.Tally)
		if line.Last.After(p.Sender.Last) {
			p.Sender.Last = line.Last
		}
		p.Addresses = append(p.Addresses, line)
		for d := range c.Days() {
			t := days[d.Day]
			if t == nil {
				continue
			}
			for cell, messages := range d.Cells() {
				addCell(t, cell, messages)
				reporters[e.Reporters[cell.Reporter]] += messages
			}
			for m, messages := range d.Marks() {
				marks[markOf(m)] += messages
			}
		}
	}
	if p.Sender.Addresses == 1 {
		p.CluesOf = ""
	}
	p.Elsewhere = elsewhereText(elsewhere)
	p.draw(days)
	p.list(marks, reporters)
	for _, b := range a.Blockers {
		if b.Group == group {
			p.Blocker = &workItem{b, false}
		}
	}
	return p
}

// draw makes the chart of the sender's mail.
func (p *senderPage) draw(days map[time.Time]*dmarc.Tally) {
	all := make([]dmarc.DayTraffic, 0, len(days))
	for d, t := range days {
		all = append(all, dmarc.DayTraffic{Day: d, Tally: *t})
	}
	slices.SortFunc(all, func(a, b dmarc.DayTraffic) int { return a.Day.Compare(b.Day) })
	p.Bins = binned(all, p.Span.Period, p.Unit)
	if p.Sender.Tally.Messages > 0 {
		p.Volume = volumeChart(p.Bins, p.Unit, p.Span.Today, 200, failingOf(p.Sender.Class)...)
	}
}

// failingOf are the bands of what fails: of mail that is the owner's, what is to
// be mended, and of others in the colour of their class.
func failingOf(c dmarc.Class) []bandName {
	let, held := failFills(c)
	word := kinds[kindOf(c)].Verb
	return []bandName{{let, "failed, let through", false}, {held, "failed, " + word, false}}
}

// failFills are the classes of the colours of what fails: let through, and held.
func failFills(c dmarc.Class) (let, held string) {
	if isYours(c) {
		return bandNames[bandFix].Class, bandNames[bandLost].Class
	}
	kind := kinds[kindOf(c)]
	return kind.Fill, kind.Held
}

// list sorts what is shown in tables, busiest first.
func (p *senderPage) list(marks map[markLine]int64, reporters map[string]int64) {
	for m, n := range marks {
		m.Messages = n
		p.Marks = append(p.Marks, m)
	}
	slices.SortFunc(p.Marks, func(a, b markLine) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Word, b.Word), cmp.Compare(a.Name, b.Name))
	})
	p.Marks = p.Marks[:min(len(p.Marks), mostMarks)]
	for name, n := range reporters {
		p.Reporters = append(p.Reporters, pair64{name, n})
	}
	slices.SortFunc(p.Reporters, func(a, b pair64) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	p.Reporters = p.Reporters[:min(len(p.Reporters), reportersSeen)]
	slices.SortStableFunc(p.Addresses, func(a, b addressLine) int { return cmp.Compare(b.Tally.Messages, a.Tally.Messages) })
	if n := len(p.Addresses); n > mostAddresses {
		p.MoreLines = n - mostAddresses
		p.Addresses = p.Addresses[:mostAddresses]
	}
}

// markOf says what a mark is, without its number.
func markOf(m *dmarc.Mark) markLine {
	name := m.Domain
	if m.Selector != "" {
		name = m.Selector + "._domainkey." + m.Domain
	}
	switch m.Kind {
	case dmarc.MarkDKIMPass:
		return markLine{Word: "DKIM passes", Name: name}
	case dmarc.MarkDKIMFail:
		return markLine{Word: "DKIM fails", Name: name}
	}
	return markLine{Word: "SPF passes", Name: name}
}

// placeOf says to whom a network belongs, and where.
func placeOf(i *dmarc.SourceIdentity) string {
	var parts []string
	if i.Org != "" {
		parts = append(parts, i.Org)
	}
	if i.ASN != 0 {
		parts = append(parts, fmt.Sprintf("AS%d", i.ASN))
	}
	if i.Country != "" {
		parts = append(parts, i.Country)
	}
	return strings.Join(parts, ", ")
}

// elsewhereText says how other domains of the installation class a source.
func elsewhereText(e advice.Elsewhere) string {
	var parts []string
	for _, k := range kinds {
		if n := e[k.Class]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s for %s", k.Class, plural(int64(n), "domain", "domains")))
		}
	}
	return strings.Join(parts, ", ")
}

// Sayable tells whether it can be said whose the sender is: whoever has no
// address that can be read is nobody.
func (p *senderPage) Sayable() bool { return p.Addresses[0].prefix.IsValid() }
