package records

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// maxSelectors are the selectors of a domain that are looked at. Anyone may
// sign with a name that he made up.
const maxSelectors = 50

// DKIMFound is which keys are published for the selectors that were asked for (RFC 6376, section 3.6).
type DKIMFound struct {
	Selectors []SelectorFound
	Left      int    // selectors that were not looked at, for there are too many
	Random    Answer // TXT of a selector that nobody has published
	Parents   []ParentFound
	// Elsewhere are names that were not looked at here and hold one of the keys,
	// by fingerprint. Lookup leaves it to whoever keeps keys to fill this in.
	Elsewhere map[string][]string
}

// A ParentFound is the name that all selectors of a domain are below.
type ParentFound struct {
	Domain  string
	Answer  Answer   // TXT of "_domainkey"
	Servers []Answer // of some of the name servers themselves
}

// maxParentServers are the name servers of a domain that are asked directly.
const maxParentServers = 4

// A SelectorFound is a selector and what was published under it.
type SelectorFound struct {
	Selector
	Answer Answer // TXT
	Key    DKIMKey
	Text   string // the record, if there is one alone
	// Source is what a name server answered, where the TTL at the resolver is
	// low, as it may have run down.
	Source Answer
}

// keys returns the fingerprints of the keys, by the names that were looked at;
// "" where there is none. What could not be looked up is left out.
func (f *DKIMFound) keys() map[string]string {
	keys := map[string]string{}
	for i := range f.Selectors {
		if s := &f.Selectors[i]; s.Answer.State != Failed {
			keys[s.Selected()] = s.Key.fingerprint()
		}
	}
	return keys
}

// Selected returns the name that holds the key.
func (s *Selector) Selected() string { return s.Name + "._domainkey." + s.Domain }

// A Selector is a name of DKIM keys, and what is known of its use.
type Selector struct {
	Name       string
	Domain     string    // d=, the domain itself or another one that is aligned with it; "": the domain itself
	LastSeen   time.Time // in a report that passed; zero if never
	LastSigned time.Time // in any report, whatever it said; zero: as LastSeen
	Unchanged  time.Time // since when the record is as it is, as far as was looked; zero if that is not known
	Configured bool      // by the operator
}

// A selector that was not seen for longer is not in use.
const selectorInUse = 30 * 24 * time.Hour

// isSelector reports whether a name can be that of a selector: labels of
// letters, digits, hyphens and, as some have it, underscores.
func isSelector(name string) bool {
	return isHostName("x." + strings.ReplaceAll(name, "_", "x") + ".x")
}

// lastUse returns when mail was last signed with a selector.
func (s *Selector) lastUse() time.Time {
	if s.LastSigned.After(s.LastSeen) {
		return s.LastSigned
	}
	return s.LastSeen
}

// lastUseText says when mail was last signed with a selector.
func (s *Selector) lastUseText() string {
	if s.lastUse().IsZero() {
		return "not yet"
	}
	return s.lastUse().UTC().Format(time.DateOnly)
}

// months returns how many whole months lie between two times.
func months(from, to time.Time) int {
	n := 12*(to.Year()-from.Year()) + int(to.Month()) - int(from.Month())
	if to.Day() < from.Day() {
		n--
	}
	return n
}

// inUse reports whether mail was signed with a selector in the last 30 days.
func (s *Selector) inUse(now time.Time) bool {
	return !s.lastUse().IsZero() && now.Sub(s.lastUse()) <= selectorInUse
}

func gatherDKIM(ctx context.Context, g *gatherer) {
	f := DKIMFound{}
	seen := map[string]bool{}
	for _, s := range g.o.Selectors {
		s.Name, s.Domain = plainHost(s.Name), plainHost(cmp.Or(s.Domain, g.p.Domain))
		switch {
		case !isSelector(s.Name) || !isHostName(s.Domain) || seen[s.Selected()]:
		case len(f.Selectors) == maxSelectors:
			f.Left++
		default:
			f.Selectors = append(f.Selectors, SelectorFound{Selector: s})
			if !slices.ContainsFunc(f.Parents, func(p ParentFound) bool { return p.Domain == s.Domain }) {
				f.Parents = append(f.Parents, ParentFound{Domain: s.Domain})
			}
		}
		seen[s.Selected()] = true
	}
	var wg sync.WaitGroup
	for i := range f.Selectors {
		wg.Go(func() {
			s := &f.Selectors[i]
			s.Answer = g.ask(ctx, s.Selected(), dns.TypeTXT)
			if records := texts(s.Answer); len(records) == 1 {
				s.Text, s.Key = records[0], parseDKIMKey(records[0])
			}
		})
	}
	for i := range f.Parents {
		wg.Go(func() { f.Parents[i].gather(ctx, g, &f) })
	}
	wg.Go(func() {
		label := g.o.RandomLabel
		if label == "" {
			label = "x" + strings.ToLower(rand.Text())
		}
		f.Random = g.ask(ctx, label+"._domainkey."+g.p.Domain, dns.TypeTXT)
	})
	wg.Wait()
	g.p.DKIM = f
}

// gather asks whether there is anything below the name: the resolver, and name
// servers of the domain, since it takes a single one to deny it. One of these
// is asked for keys whose TTL is low, too.
func (p *ParentFound) gather(ctx context.Context, g *gatherer, f *DKIMFound) {
	name := "_domainkey." + p.Domain
	p.Answer = g.ask(ctx, name, dns.TypeTXT)
	if g.o.Direct == nil {
		return
	}
	servers := nsNames(g.ask(ctx, p.Domain, dns.TypeNS).RRs)
	servers = servers[:min(len(servers), maxParentServers)]
	p.Servers = make([]Answer, len(servers))
	var wg sync.WaitGroup
	for i, server := range servers {
		wg.Go(func() {
			ips := addresses(g.ask(ctx, server, dns.TypeA), g.ask(ctx, server, dns.TypeAAAA))
			if len(ips) == 0 || !reachable(ips[0], g.o.Documentation) {
				return
			}
			if i == 0 {
				f.askSource(ctx, g, p.Domain, ips[0])
			}
			p.Servers[i] = g.askServer(ctx, address(ips[0]), name, dns.TypeTXT)
			p.Servers[i].Server = server
		})
	}
	wg.Wait()
}

// askSource asks a name server of a domain for keys whose TTL is low.
func (f *DKIMFound) askSource(ctx context.Context, g *gatherer, domain string, server netip.Addr) {
	var wg sync.WaitGroup
	for i := range f.Selectors {
		s := &f.Selectors[i]
		if s.Domain != domain {
			continue
		}
		wg.Go(func() {
			a := g.ask(ctx, s.Selected(), dns.TypeTXT)
			if a.State == Found && a.TTL < lowTTL && len(a.Chain) == 0 {
				s.Source = g.askServer(ctx, address(server), s.Selected(), dns.TypeTXT)
			}
		})
	}
	wg.Wait()
}

func checkDKIM(p *Published) []Finding {
	var v verdicts
	f := &p.DKIM
	if len(f.Selectors) == 0 {
		v.add("dkim.no_selector", p.Domain)
	}
	for i := range f.Selectors {
		checkSelector(p, &f.Selectors[i], &v)
	}
	if f.Left > 0 {
		v.unknown(Answer{Name: "_domainkey." + p.Domain, Type: dns.TypeTXT, Err: fmt.Sprintf("%d more selectors were not looked at", f.Left)})
	}
	checkWildcardKey(p, &v)
	checkSharedKeys(p, &v)
	checkEd25519Alone(p, &v)
	checkBrokenParents(p, &v)
	return v.all
}

// checkSelector judges the record of one selector.
func checkSelector(p *Published, s *SelectorFound, v *verdicts) {
	name := s.Selected()
	used := s.inUse(p.At)
	switch {
	case s.Answer.State == Failed:
		return
	case s.Answer.Absent() && len(s.Answer.Chain) > 0:
		v.add("dkim.cname_dangling", name, "fqdn", name, "target", s.Answer.Chain[len(s.Answer.Chain)-1]).on(s.Answer)
		return
	case s.Answer.Absent():
		if used || s.Configured {
			v.add("dkim.missing", name, "sel", s.Name, "fqdn", name).on(s.Answer)
		}
		return
	case len(s.Answer.RRs) > 1:
		v.add("dkim.several", name, "fqdn", name, "n", fmt.Sprint(len(s.Answer.RRs))).on(s.Answer)
		return
	}
	good := true
	for _, problem := range s.Key.problems {
		values := append([]string{"sel", s.Name}, problem.values...)
		if fixed := valueOf(problem.values, "fixed"); fixed != "" {
			values = append(values, "publish", zoneTXT(name, fixed))
		}
		f := v.add(problem.id, name, values...).on(s.Answer)
		good = good && f.Severity < Warning
	}
	if s.Key.Revoked {
		f := v.add("dkim.revoked", name, "sel", s.Name, "date", s.lastUseText()).on(s.Answer)
		// Mail that was signed before the key was revoked says nothing.
		if !used || !s.lastUse().After(s.Unchanged) {
			f.Severity = Info
		}
		return
	}
	if !s.Key.valid() {
		return
	}
	if !s.Unchanged.IsZero() && p.At.After(s.Unchanged.AddDate(1, 0, 0)) {
		v.add("dkim.key_old", name, "sel", s.Name, "n", fmt.Sprint(months(s.Unchanged.UTC(), p.At.UTC()))).on(s.Answer)
	}
	if !s.lastUse().IsZero() && !used {
		v.add("dkim.unused", name, "sel", s.Name, "date", s.lastUseText(), "publish", zoneTXT(name, "v=DKIM1; p=")).on(s.Answer)
	}
	if good {
		v.add("dkim.ok", name, "sel", s.Name, "type", s.Key.Type, "bits", fmt.Sprint(s.Key.Bits), "date", s.lastUseText()).on(s.Answer)
	}
}

// valueOf returns a text by its name, from names and texts in turn.
func valueOf(values []string, name string) string {
	for i := 0; i < len(values); i += 2 {
		if values[i] == name {
			return values[i+1]
		}
	}
	return ""
}

// checkWildcardKey judges whether made-up selectors have a key.
func checkWildcardKey(p *Published, v *verdicts) {
	random := p.DKIM.Random
	records := texts(random)
	if len(records) == 0 || p.revokesAll() && p.Sends != SendingYes {
		return
	}
	v.add("dkim.wildcard", "_domainkey."+p.Domain, "name", "_domainkey."+p.Domain, "text", excerpt(records[0])).on(random)
}

// revokesAll reports whether every selector of a domain is revoked by a
// wildcard.
func (p *Published) revokesAll() bool {
	records := texts(p.DKIM.Random)
	if len(records) != 1 {
		return false
	}
	k := parseDKIMKey(records[0])
	return k.Revoked && len(k.problems) == 0
}

// checkSharedKeys judges whether keys stand under several names, those that
// are known from elsewhere among them.
func checkSharedKeys(p *Published, v *verdicts) {
	names := map[string][]string{}
	for i := range p.DKIM.Selectors {
		s := &p.DKIM.Selectors[i]
		if fingerprint := s.Key.fingerprint(); fingerprint != "" {
			names[fingerprint] = append(names[fingerprint], s.Selected())
		}
	}
	for i := range p.DKIM.Selectors {
		s := &p.DKIM.Selectors[i]
		fingerprint := s.Key.fingerprint()
		if fingerprint == "" || names[fingerprint] == nil {
			continue
		}
		all := append(names[fingerprint], p.DKIM.Elsewhere[fingerprint]...)
		delete(names, fingerprint)
		slices.Sort(all)
		if all = slices.Compact(all); len(all) > 1 {
			v.add("dkim.key_shared", s.Selected(), "names", joinNames(all), "n", fmt.Sprint(len(all))).on(s.Answer)
		}
	}
}

// checkEd25519Alone judges whether all mail is signed with ed25519 only.
func checkEd25519Alone(p *Published, v *verdicts) {
	var signing []string
	var answers []Answer
	for i := range p.DKIM.Selectors {
		s := &p.DKIM.Selectors[i]
		if !s.inUse(p.At) {
			continue
		}
		if s.Answer.State == Failed || s.Key.valid() && s.Key.Type == "rsa" && s.Key.Bits > 0 {
			return
		}
		if s.Key.Type == "ed25519" && s.Key.valid() {
			signing = append(signing, s.Name)
			answers = append(answers, s.Answer)
		}
	}
	if len(signing) > 0 && p.DKIM.Left == 0 {
		v.add("dkim.ed25519_alone", p.Domain, "sel", joinNames(signing)).on(answers...)
	}
}

// checkBrokenParents judges whether a zone denies a name that has names below.
func checkBrokenParents(p *Published, v *verdicts) {
	for i := range p.DKIM.Parents {
		parent := &p.DKIM.Parents[i]
		below := slices.IndexFunc(p.DKIM.Selectors, func(s SelectorFound) bool {
			return s.Domain == parent.Domain && s.Answer.State == Found
		})
		if below < 0 {
			continue
		}
		var denying []string
		var denial Answer
		for _, a := range parent.Servers {
			if a.State == NXDomain && a.AA {
				denying, denial = append(denying, a.Server), a
			}
		}
		if len(denying) == 0 && parent.Answer.State == NXDomain {
			denying, denial = []string{"a name server"}, parent.Answer
		}
		if len(denying) > 0 {
			name := "_domainkey." + parent.Domain
			s := &p.DKIM.Selectors[below]
			v.add("dkim.ent_broken", name, "name", name, "below", s.Selected(), "ns", joinNames(denying)).on(denial, s.Answer)
		}
	}
}
