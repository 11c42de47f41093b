package records

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// AlignmentFound is what the organizational domains are of the names that
// authenticate the mail of a domain.
type AlignmentFound struct {
	Names []NameOrg // authors and names that authenticated mail, most mail first
	// Left are names that were not looked at, for there are too many.
	Left map[string]bool
}

// A NameOrg is the organizational domain of a name by each of the two methods.
type NameOrg struct {
	Name   string
	Walk   string // by the tree walk of RFC 9989; "" where a lookup failed
	Listed string // by the Public Suffix List, as RFC 7489 has it
}

// maxAlignment bounds the names that records are asked of for the sake of
// alignment.
const maxAlignment = 60

// gatherAlignment walks from the authors and from the names by which their mail
// may be aligned. A name that is not below the organizational domain of the
// author, by one method or the other, is aligned by neither.
func gatherAlignment(ctx context.Context, g *gatherer) {
	if g.o.Reported == nil || len(g.o.Reported.Named) == 0 {
		return
	}
	txt := func(name string) Answer { return g.ask(ctx, name, dns.TypeTXT) }
	w := walk(g.p.Domain, txt)
	if w.Failed != nil {
		return
	}
	tops := []string{w.organizationalDomain(), dmarc.OrganizationalDomain(g.p.Domain)}
	f := &g.p.Alignment
	f.Left = map[string]bool{}
	known, asked := map[string]bool{}, map[string]bool{}
	add := func(name string) {
		name = plainHost(name)
		if known[name] || !isHostName(name) || !slices.ContainsFunc(tops, func(top string) bool { return atOrBelow(name, top) }) {
			return
		}
		known[name] = true
		var more []string
		for _, at := range walkNames(name) {
			if !asked[at] {
				more = append(more, at)
			}
		}
		if len(asked)+len(more) > maxAlignment {
			f.Left[name] = true
			return
		}
		for _, at := range more {
			asked[at] = true
		}
		f.Names = append(f.Names, NameOrg{Name: name, Listed: dmarc.OrganizationalDomain(name)})
	}
	add(g.p.Domain)
	for _, m := range g.o.Reported.Named {
		for _, name := range slices.Concat([]string{m.Author}, m.DKIM, m.SPF) {
			add(name)
		}
	}
	var wg sync.WaitGroup
	for i := range f.Names {
		wg.Go(func() {
			if w := walk(f.Names[i].Name, txt); w.Failed == nil {
				f.Names[i].Walk = w.organizationalDomain()
			}
		})
	}
	wg.Wait()
}

// atOrBelow reports whether a name is another one or below it.
func atOrBelow(name, top string) bool { return name == top || strings.HasSuffix(name, "."+top) }

// Whether messages are aligned: each carries some of several names.
type alignment uint8

const (
	notAligned alignment = iota
	maybeAligned
	isAligned
)

// A methodCount counts messages that are aligned by one method only.
type methodCount struct {
	sure, perhaps int64
	pairs         []string
}

// checkAlignment counts the mail that is aligned by one method only.
func checkAlignment(p *Published) []Finding {
	d, f := &p.DMARC, &p.Alignment
	if p.Reported == nil || len(f.Names) == 0 || d.Walk == nil || d.Walk.Failed != nil || d.Policy.Record == nil {
		return nil
	}
	orgs := map[string]*NameOrg{}
	for i := range f.Names {
		orgs[f.Names[i].Name] = &f.Names[i]
	}
	var listed, walked methodCount
	for i := range p.Reported.Named {
		f.count(&p.Reported.Named[i], orgs, d.Policy.Record, &listed, &walked)
	}
	v := &verdicts{}
	for _, c := range []struct {
		methodCount
		by, other string
	}{
		{listed, "take the organizational domain from the Public Suffix List", "find it by the DNS tree walk of RFC 9989"},
		{walked, "find the organizational domain by the DNS tree walk of RFC 9989", "take it from the Public Suffix List"},
	} {
		if c.sure+c.perhaps > 0 {
			v.add("dmarc.one_method", p.Domain, "n", c.text(), "by", c.by, "other", c.other, "pairs", strings.Join(c.pairs[:min(len(c.pairs), maxTold)], "; ")).on(d.Walk.Answers...)
		}
	}
	return v.all
}

// text says how many messages there are.
func (c *methodCount) text() string {
	sure, most := strconv.FormatInt(c.sure, 10), strconv.FormatInt(c.sure+c.perhaps, 10)
	switch {
	case c.perhaps == 0:
		return sure
	case c.sure == 0:
		return "up to " + most
	}
	return sure + " to " + most
}

// count adds messages to those that are aligned by one of the methods only.
func (f *AlignmentFound) count(m *dmarc.NamedMail, orgs map[string]*NameOrg, r *DMARCRecord, listed, walked *methodCount) {
	author := orgs[m.Author]
	if author == nil || author.Walk == "" {
		return
	}
	var by [2]alignment // by the list, by the walk
	var differ []string // names by which the methods differ
	listedOnly := false
	for _, mechanism := range []struct {
		names []string
		mode  dmarc.AlignmentMode
	}{{m.DKIM, r.ADKIM}, {m.SPF, r.ASPF}} {
		aligned := [2]int{}
		for _, name := range mechanism.names {
			name = plainHost(name)
			is := [2]bool{name == author.Name, name == author.Name}
			if org := orgs[name]; org != nil && mechanism.mode != dmarc.AlignmentStrict {
				if org.Walk == "" {
					return // not known for now
				}
				is = [2]bool{org.Listed == author.Listed, org.Walk == author.Walk}
			} else if f.Left[name] {
				return
			}
			if is[0] != is[1] {
				differ, listedOnly = append(differ, name), listedOnly || is[0]
			}
			for i := range is {
				if is[i] {
					aligned[i]++
				}
			}
		}
		for i, n := range aligned {
			switch {
			case n == 0:
			case n == len(mechanism.names):
				by[i] = isAligned
			default:
				by[i] = max(by[i], maybeAligned)
			}
		}
	}
	if len(differ) == 0 || by[0] == isAligned && by[1] == isAligned {
		return
	}
	c := walked
	if by[0] > by[1] || by[0] == by[1] && listedOnly {
		c = listed
	}
	if by[0] != maybeAligned && by[1] != maybeAligned {
		c.sure += m.Messages
	} else {
		c.perhaps += m.Messages
	}
	for _, name := range differ {
		if pair := author.Name + " authenticated as " + name; !slices.Contains(c.pairs, pair) {
			c.pairs = append(c.pairs, pair)
		}
	}
}

var _ = register(Rule{
	ID: "dmarc.one_method", Record: "TXT + reports", Severity: Warning, Reference: "RFC 9989, section 4.10.2; RFC 7489, section 3.2",
	Condition: "mail that is aligned by the tree walk and not by the Public Suffix List, or the other way round",
	What:      "{n} messages of the last 30 days are aligned only for receivers that {by}: {pairs}.",
	Why:       "For receivers that {other} they fail DMARC, unless something else speaks for them.",
	Fix:       "Sign them with d= the domain in their From, or send them with that domain in MAIL FROM: equal names are aligned by either method. If psd= stands in one of your records by mistake, remove it.",
})
