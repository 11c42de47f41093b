package web

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	askedFirst    = 5 // senders that a page asks about
	addressesSeen = 8 // of a sender in a list
)

// A sender is all addresses that one person mends, with its mail in a period.
type sender struct {
	Key        string // in addresses of pages
	Name       string
	Class      dmarc.Class
	Confidence advice.Confidence
	Clue       string // the most telling
	Addresses  int
	Tally      dmarc.Tally
	Last       time.Time
	Sources    []string  // its first addresses
	Place      string    // organization and country of the busiest address that is known
	Lines      []address // its busiest addresses
	group      string
	placed     int64 // messages of that address
}

// An address is one of a sender, or a network that stands for many.
type address struct {
	Source string
	Place  string
	Tally  dmarc.Tally
}

// keep adds an address to the busiest of a sender.
func (s *sender) keep(a address) {
	i, _ := slices.BinarySearchFunc(s.Lines, a, func(x, y address) int {
		return cmp.Or(cmp.Compare(y.Tally.Messages, x.Tally.Messages), cmp.Compare(x.Source, y.Source))
	})
	if i < addressesSeen {
		s.Lines = slices.Insert(s.Lines, i, a)
		s.Lines = s.Lines[:min(len(s.Lines), addressesSeen)]
	}
	if a.Place != "" && a.Tally.Messages > s.placed {
		s.Place, s.placed = a.Place, a.Tally.Messages
	}
}

// MoreLines returns how many addresses are not in Lines.
func (s *sender) MoreLines() int { return s.Addresses - len(s.Lines) }

// Trouble returns the class of the colour that its failing mail has.
func (s *sender) Trouble() string {
	let, _ := failFills(s.Class)
	return let
}

// A crew is everybody who sends as a domain, by class.
type crew struct {
	Domain  string
	Span    span
	Kinds   []kindShare
	Senders []sender // busiest first
	Ask     []sender // only the owner can tell whose these are
	Tally   dmarc.Tally
}

// A kindShare is a class and what it sends.
type kindShare struct {
	Class     string
	Fill      string
	Label     string
	Senders   int
	Addresses int
	Messages  int64
}

// Shown returns the busiest.
func (c *crew) Shown() []sender { return c.Senders[:min(topSenders, len(c.Senders))] }

// Rest returns how many are not among Shown, and what they send.
func (c *crew) Rest() (r struct {
	Senders  int
	Messages int64
}) {
	for _, s := range c.Senders[len(c.Shown()):] {
		r.Senders++
		r.Messages += s.Tally.Messages
	}
	return r
}

// evidenceFor gathers what classes in a period rest on: that of the period, and
// of at least as many days as advice looks at.
func (s *site) evidenceFor(ctx context.Context, domain string, p dmarc.Period) (*advice.Evidence, error) {
	if begin := p.End.AddDate(0, 0, -adviceDays); begin.Before(p.Begin) {
		p.Begin = begin
	}
	return s.adviser.Evidence(ctx, domain, p)
}

// crewOf sorts everybody who sent in a period by sender.
func crewOf(e *advice.Evidence, all []advice.Classified, sp span) *crew {
	c := &crew{Domain: e.Domain, Span: sp}
	at := make(map[string]int)
	for i := range all {
		t, last := tallyOf(&all[i], sp.Period)
		if t.Messages == 0 {
			continue
		}
		c.Tally.Merge(t)
		j, ok := at[all[i].Group]
		if !ok {
			j = len(c.Senders)
			at[all[i].Group] = j
			c.Senders = append(c.Senders, senderOf(&all[i]))
		}
		s := &c.Senders[j]
		s.Addresses++
		if len(s.Sources) < mostAddresses {
			s.Sources = append(s.Sources, sourceName(all[i].Source.Source))
		}
		s.keep(address{sourceName(all[i].Source.Source), placeOf(&all[i].Identity), t})
		s.Tally.Merge(t)
		if last.After(s.Last) {
			s.Last = last
		}
	}
	slices.SortStableFunc(c.Senders, func(a, b sender) int {
		return cmp.Or(cmp.Compare(b.Tally.Messages, a.Tally.Messages), cmp.Compare(a.Key, b.Key))
	})
	for _, k := range kinds {
		share := kindShare{Class: k.Class.String(), Fill: k.Fill, Label: k.Label}
		for _, s := range c.Senders {
			if s.Class == k.Class {
				share.Senders++
				share.Addresses += s.Addresses
				share.Messages += s.Tally.Messages
			}
		}
		if share.Senders > 0 {
			c.Kinds = append(c.Kinds, share)
		}
	}
	open := make(map[string]bool)
	for _, a := range advice.AskFirst(all, len(all)) {
		open[a.Group] = true
	}
	for _, s := range c.Senders { // busiest first, in this period
		if open[s.group] && len(c.Ask) < askedFirst {
			c.Ask = append(c.Ask, s)
		}
	}
	return c
}

func senderOf(c *advice.Classified) sender {
	s := sender{Key: keyOf(c), Name: c.Name, Class: c.Class, Confidence: c.Confidence, group: c.Group}
	if len(c.Clues) > 0 {
		s.Clue = c.Clues[0]
	}
	return s
}

// keyOf names the sender of a source in addresses of pages: an address without
// its length, a network, or the name of a service.
func keyOf(c *advice.Classified) string {
	if c.Group == c.Source.Source.String() {
		return sourceName(c.Source.Source)
	}
	return c.Group
}

// tallyOf counts the mail of a source in a period, and finds its last day. Its rows are
// not known.
func tallyOf(c *advice.Classified, p dmarc.Period) (t dmarc.Tally, last time.Time) {
	for cell, messages := range cellsIn(&c.SourceFacts, p) {
		addCell(&t, cell, messages)
	}
	if last = c.Last(); !last.Before(p.End) {
		last = time.Time{}
		for d := range c.Days() {
			if d.Day.Before(p.End) {
				last = d.Day
			}
		}
	}
	if last.Before(p.Begin) {
		last = time.Time{}
	}
	return t, last
}

// cellsIn yields the cells of a source in a period, some of them by day.
func cellsIn(s *dmarc.SourceFacts, p dmarc.Period) iter.Seq2[*dmarc.Cell, int64] {
	if !s.First().Before(p.Begin) && s.Last().Before(p.End) {
		return s.Cells()
	}
	return func(yield func(*dmarc.Cell, int64) bool) {
		for d := range s.Days() {
			if d.Day.Before(p.Begin) || !d.Day.Before(p.End) {
				continue
			}
			for cell, messages := range d.Cells() {
				if !yield(cell, messages) {
					return
				}
			}
		}
	}
}

func addCell(t *dmarc.Tally, c *dmarc.Cell, messages int64) {
	var v dmarc.Verdict
	if c.Pattern.DKIM != dmarc.NotAligned {
		v |= dmarc.VerdictDKIM
	}
	if c.Pattern.SPF != dmarc.NotAligned {
		v |= dmarc.VerdictSPF
	}
	if !c.Pattern.Passes() { // aligned, and too loosely for the domain's mode
		v = 0
	}
	t.AddVerdict(v|dmarc.Verdict(c.Pattern.Disposition)<<4, 0, messages)
}

// crewPage lists everybody who sends as a domain.
type crewPage struct {
	*crew
	Items []sender
	Class string // the class that is listed; "" for all
	All   string // address of the list of all classes
	Sort  string // the column that the list is sorted by
	Heads []head
	Whole string // address of the list on one page; "" if this is it
	Total int    // how many the list has
	pager
}

// A head is that of a column, and leads to the list sorted by it.
type head struct {
	Name    string
	Class   string
	URL     string // "" for a column that nothing is sorted by
	Current bool
	Up      bool // the least first
}

// A sorting is a way to sort senders.
type sorting struct {
	Key, Name, Class string
	Up               bool // the least first
	compare          func(a, b *sender) int
}

var sorts = []sorting{
	{"name", "Sender", "", true, func(a, b *sender) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) }},
	{"class", "Class", "", true, func(a, b *sender) int { return cmp.Compare(kindOf(a.Class), kindOf(b.Class)) }},
	{"messages", "Messages", "n", false, func(a, b *sender) int { return cmp.Compare(b.Tally.Messages, a.Tally.Messages) }},
	{"dkim", "DKIM aligned", "", true, func(a, b *sender) int {
		return lessShare(a.Tally.DKIMAligned, a.Tally.Messages, b.Tally.DKIMAligned, b.Tally.Messages)
	}},
	{"spf", "SPF aligned", "", true, func(a, b *sender) int {
		return lessShare(a.Tally.SPFAligned, a.Tally.Messages, b.Tally.SPFAligned, b.Tally.Messages)
	}},
	{"failed", "Passed", "n", false, func(a, b *sender) int { return cmp.Compare(failed(b.Tally), failed(a.Tally)) }},
	{"stopped", "Stopped", "n", false, func(a, b *sender) int { return cmp.Compare(stopped(b.Tally), stopped(a.Tally)) }},
	{"last", "Last seen", "n", false, func(a, b *sender) int { return b.Last.Compare(a.Last) }},
}

const bySender = "messages" // how senders are sorted unless the address says otherwise

// lessShare compares shares, the least first.
func lessShare(a, ofA, b, ofB int64) int {
	return cmp.Compare(float64(a)/float64(max(1, ofA)), float64(b)/float64(max(1, ofB)))
}

// headsOf returns the heads of a list of senders that is sorted by a column.
func (s *site) headsOf(path string, v url.Values, by string) []head {
	var out []head
	for _, c := range sorts {
		v.Del("sort")
		if c.Key != bySender {
			v.Set("sort", c.Key)
		}
		out = append(out, head{c.Name, c.Class, s.link(path, v), c.Key == by, c.Up})
	}
	v.Del("sort")
	return out
}

// Chunks returns the list in pieces that a browser lays out only as they are
// scrolled to.
func (p *crewPage) Chunks() (all []*crewPage) {
	for items := range slices.Chunk(p.Items, linesAtOnce) {
		c := *p
		c.Items = items
		all = append(all, &c)
	}
	return all
}

// Label names the senders of the class that is chosen.
func (p *crewPage) Label() string {
	for _, k := range kinds {
		if k.Class.String() != p.Class {
			continue
		}
		if k.Class == dmarc.ClassUnknown || k.Class == dmarc.ClassSuspicious {
			return p.Class + " senders"
		}
		return strings.ToLower(k.Label)
	}
	return p.Class
}

// SortedBy says how the list is sorted.
func (p *crewPage) SortedBy() string {
	return map[string]string{
		"name": "By name", "class": "By class", bySender: "Busiest first", "dkim": "Least aligned by DKIM first", "spf": "Least aligned by SPF first",
		"failed": "Those first that most fails of", "stopped": "Those first that most is stopped of", "last": "Last seen first",
	}[p.Sort]
}

// whose serves /domains/{domain}/sources: who sends, by name and class.
func (s *site) whose(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "sources")
	if err != nil {
		return nil, err
	}
	path := domainPath(name, "sources")
	sp, choose, err := s.readPeriod(r, path, "class", "sort", "all")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	by := cmp.Or(strings.ToLower(strings.TrimSpace(q.Get("sort"))), bySender)
	column := slices.IndexFunc(sorts, func(c sorting) bool { return c.Key == by })
	if column < 0 {
		return nil, badRequest{"sort is no column: it must be name, class, messages, dkim, spf, failed, stopped or last"}
	}
	e, err := s.evidenceFor(r.Context(), name, sp.Period)
	if err != nil {
		return s.unknownDomain(name, err)
	}
	p := &crewPage{crew: crewOf(e, advice.Classify(e), sp), All: s.link(path, sp.query(nil)), Sort: by}
	p.Class = strings.ToLower(strings.TrimSpace(q.Get("class")))
	v := sp.query(nil)
	list := p.Senders
	if p.Class != "" {
		class, ok := dmarc.ParseClass(p.Class)
		if !ok {
			return nil, badRequest{"class is no class: it must be own, service, forwarder, unknown or suspicious"}
		}
		v.Set("class", p.Class)
		list = slices.DeleteFunc(slices.Clone(list), func(x sender) bool { return x.Class != class })
	}
	if by != bySender {
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b sender) int { return sorts[column].compare(&a, &b) })
	}
	limit := linesPerPage
	whole := q.Has("all")
	if whole {
		limit = mostSenders
		v.Set("all", "1")
	}
	p.Heads = s.headsOf(path, v, by)
	if by != bySender {
		v.Set("sort", by)
	}
	p.Total = len(list)
	after := q.Get("after")
	begin := 0
	if after != "" {
		if begin = slices.IndexFunc(list, func(x sender) bool { return x.Key == after }) + 1; begin == 0 {
			return nil, dmarc.ErrBadCursor
		}
	}
	end := min(len(list), begin+limit)
	p.Items = list[begin:end]
	next := dmarc.Cursor("")
	if end < len(list) {
		next = dmarc.Cursor(list[end-1].Key)
	}
	p.pager = s.pagerOf(path, v, dmarc.Cursor(after), next)
	if !whole && (next != "" || after != "") {
		v.Set("all", "1")
		p.Whole = s.link(path, v)
	}
	return &view{Page: "whose", Title: "Who sends as " + name, Nav: "/", Span: sp, Choose: choose, Data: p}, nil
}

// senderLink returns the address of the page about a sender of a domain.
func (s *site) senderLink(domain, key string, sp span) string {
	return s.link(domainPath(domain, "source"), sp.query(url.Values{"of": {key}}))
}

// kindLink returns the address of the list of a domain's senders of a class.
func (s *site) kindLink(domain, class string, sp span) string {
	return s.link(domainPath(domain, "sources"), sp.query(url.Values{"class": {class}}))
}
