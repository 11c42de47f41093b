package advice

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Blocker is a sender of the owner's whose mail the target would lose.
type Blocker struct {
	Group    string // of its sources, as in Classified
	Name     string
	Class    dmarc.Class
	Sources  []netip.Prefix
	Messages int64     // that would be lost
	ADay     float64   // of those, a day
	Since    time.Time // when it broke, if it was fine before; else zero
	// ADaySince is how many are lost a day since then, by the days for which
	// reports came; 0 if it was never fine.
	ADaySince float64
	Cause     string // what is wrong with it
	Fix       string // what to do about it
	Publish   []Publication
	// Removes is the share of the owner's loss that goes away with it.
	Removes float64
}

// SourcesOf returns the sources of a sender: of its name, as a blocker has it,
// or one source as it is listed, an address or a network.
func SourcesOf(sources []Classified, sender string) []netip.Prefix {
	var out []netip.Prefix
	for i := range sources {
		c := &sources[i]
		if strings.EqualFold(sender, c.Name) || strings.EqualFold(sender, c.Group) || c.Source.Source.IsValid() && sameSource(sender, c.Source.Source) {
			out = append(out, c.Source.Source)
		}
	}
	return out
}

func sameSource(text string, p netip.Prefix) bool {
	if addr, err := netip.ParseAddr(text); err == nil {
		return p.IsSingleIP() && addr.Unmap() == p.Addr()
	}
	q, err := netip.ParsePrefix(text)
	return err == nil && q.Masked() == p.Masked()
}

// worklist returns what to mend, those that lose most first.
func (j *judgement) worklist() []Blocker {
	var list []Blocker
	for _, g := range j.groups {
		if g.open() == 0 {
			continue
		}
		b := Blocker{Group: g.key, Name: g.name, Class: g.class, Messages: g.lost, ADay: j.perDay(g.lost)}
		if j.lost > 0 {
			b.Removes = float64(g.lost) / float64(j.lost)
		}
		for _, i := range g.sources {
			if j.sim.BySource[i].Affected() > 0 {
				b.Sources = append(b.Sources, j.sources[i].Source.Source)
			}
		}
		var after dayCount
		if b.Since, _, after = g.broke(j.end); !b.Since.IsZero() {
			b.ADaySince = float64(after.lost) / float64(j.reportDaysSince(b.Since))
		}
		j.remedy(g, &b)
		list = append(list, b)
	}
	return list
}

// remedy finds what is wrong with most of what a group loses, and what mends it.
func (j *judgement) remedy(g *group, b *Blocker) {
	f := &g.failing
	domain := j.signingDomain(g)
	worst := max(f.foreign, f.broken, f.missed, f.temporary, f.nothing)
	switch {
	case f.strict*2 > g.lost:
		b.Cause = "It passes under relaxed alignment, but your record asks for strict."
		b.Fix = "Remove adkim=s and aspf=s, or let it sign and send as exactly the domain in From."
		return
	case worst == f.broken:
		b.Cause = "Its DKIM signatures for your domain do not pass."
		if key := j.brokenKey(g); key != "" {
			b.Cause = fmt.Sprintf("Its DKIM signatures by the key %s do not pass.", key)
			b.Fix = fmt.Sprintf("Look whether %s is in DNS and is the key that %s signs with, and whether something changes its mail after signing.", key, g.name)
		} else {
			b.Fix = "Look whether its key is in DNS, and whether something changes its mail after signing."
		}
		if g.sender != nil && len(g.sender.Publish) > 0 {
			b.Publish = fill(g.sender.Publish, domain)
		}
		return
	case worst == f.temporary:
		b.Cause = "Checks of it failed for the moment: lookups of your records did not work."
		b.Fix = "Look whether the name servers of your domain answer quickly and everywhere."
		return
	}
	if g.sender != nil && g.sender.Fix != "" {
		b.Cause = fmt.Sprintf("It sends as %s, but neither signs nor takes bounces for your domain.", g.sender.Name)
		b.Fix = strings.ReplaceAll(g.sender.Fix, "{domain}", domain)
		b.Publish = fill(g.sender.Publish, domain)
		return
	}
	switch worst {
	case f.missed:
		b.Cause = "It uses your domain in MAIL FROM, but your SPF record does not cover it, and it does not sign."
		b.Fix = fmt.Sprintf("Sign its mail with DKIM for %s, and add %s to your SPF record.", domain, j.spfTerms(g))
	case f.foreign:
		as := g.as
		if as == "" {
			as = "somebody else"
		}
		b.Cause = fmt.Sprintf("It authenticates as %s, and not as you.", as)
		b.Fix = fmt.Sprintf("Ask %s to sign with DKIM for %s, with a key that you publish.", g.name, domain)
	default:
		b.Cause = "It neither signs nor passes SPF."
		b.Fix = fmt.Sprintf("Sign its mail with DKIM for %s, and let its MAIL FROM be a name of yours that SPF covers (%s).", domain, j.spfTerms(g))
	}
}

// signingDomain returns the author domain that most of the loss is sent as.
func (j *judgement) signingDomain(g *group) string {
	best, domain := int64(-1), j.e.Domain
	for author, n := range g.failing.author {
		name := author
		if author == "" || author == dmarc.OtherAuthors {
			name = j.e.Domain
		}
		if n > best || n == best && name < domain {
			best, domain = n, name
		}
	}
	return domain
}

// brokenKey returns the key of the domain whose signatures fail most.
func (j *judgement) brokenKey(g *group) string {
	var keys counter[string, int64]
	for _, i := range g.sources {
		for mark, messages := range j.sources[i].Marks() {
			if mark.Kind == dmarc.MarkDKIMFail && mark.Selector != "" {
				*keys.of(keyName{mark.Selector, mark.Domain}.String()) += messages
			}
		}
	}
	key, _ := most(&keys)
	return key
}

// spfTerms returns the terms that cover the addresses of a group.
func (j *judgement) spfTerms(g *group) string {
	var terms []string
	for _, i := range g.sources {
		p := j.sources[i].Source.Source
		if j.sim.BySource[i].Affected() == 0 || !p.IsValid() {
			continue
		}
		term := "ip4:"
		if p.Addr().Is6() {
			term = "ip6:"
		}
		if p.IsSingleIP() {
			term += p.Addr().String()
		} else {
			term += p.String()
		}
		terms = append(terms, term)
	}
	return list(terms, 4)
}

// fill puts the domain into templates of records.
func fill(templates []dmarc.Template, domain string) []Publication {
	var out []Publication
	for _, t := range templates {
		out = append(out, Publication{
			Name: strings.ReplaceAll(t.Name, "{domain}", domain), Type: t.Type, Value: strings.ReplaceAll(t.Value, "{domain}", domain),
		})
	}
	return out
}
