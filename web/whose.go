package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// askedFirst is how many senders a page asks about.
const askedFirst = 5

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
	Sources    []string // its first addresses
	group      string
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

// tallyOf counts the mail of a source in a period, and finds its last day.
func tallyOf(c *advice.Classified, p dmarc.Period) (t dmarc.Tally, last time.Time) {
	for i := range c.Days {
		d := &c.Days[i]
		if d.Day.Before(p.Begin) || !d.Day.Before(p.End) {
			continue
		}
		last = d.Day
		for k := range d.Cells {
			addCell(&t, &d.Cells[k])
		}
	}
	return t, last
}

func addCell(t *dmarc.Tally, c *dmarc.Cell) {
	var v dmarc.Verdict
	if c.Pattern.DKIM != dmarc.NotAligned {
		v |= dmarc.VerdictDKIM
	}
	if c.Pattern.SPF != dmarc.NotAligned {
		v |= dmarc.VerdictSPF
	}
	t.AddVerdict(v|dmarc.Verdict(c.Pattern.Disposition)<<4, 1, c.Messages)
}

// crewPage lists everybody who sends as a domain.
type crewPage struct {
	*crew
	Items []sender
	Class string // the class that is listed; "" for all
	All   string // address of the list of all classes
	pager
}

// whose serves /domains/{domain}/sources: who sends, by name and class.
func (s *site) whose(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "sources")
	if err != nil {
		return nil, err
	}
	path := domainPath(name, "sources")
	sp, choose, err := s.readPeriod(r, path, "class")
	if err != nil {
		return nil, err
	}
	e, err := s.evidenceFor(r.Context(), name, sp.Period)
	if err != nil {
		return s.unknownDomain(name, err)
	}
	p := &crewPage{crew: crewOf(e, advice.Classify(e), sp), All: s.link(path, sp.query(nil))}
	p.Class = strings.ToLower(strings.TrimSpace(r.URL.Query().Get("class")))
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
	after := r.URL.Query().Get("after")
	begin := 0
	if after != "" {
		if begin = slices.IndexFunc(list, func(x sender) bool { return x.Key == after }) + 1; begin == 0 {
			return nil, dmarc.ErrBadCursor
		}
	}
	end := min(len(list), begin+linesPerPage)
	p.Items = list[begin:end]
	next := dmarc.Cursor("")
	if end < len(list) {
		next = dmarc.Cursor(list[end-1].Key)
	}
	p.pager = s.pagerOf(path, v, dmarc.Cursor(after), next)
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
