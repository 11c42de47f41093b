package advice

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Confidence tells how sure a class is.
type Confidence uint8

// Guess: ask. Likely: several things say so. Sure: it is proven or said by the
// operator.
const (
	Guess Confidence = iota
	Likely
	Sure
)

// String returns the word for how sure a class is, as in the API.
func (c Confidence) String() string { return [...]string{"guess", "likely", "sure"}[c] }

// A Classified source is one with a class and what speaks for it.
type Classified struct {
	*Source
	Class      dmarc.Class
	Confidence Confidence
	Clues      []string // most telling first, in words
	Summary    Summary
	Sender     *dmarc.Sender // of the catalogue; nil if unknown
	Name       string        // for people: of the sender, of the server, or the address
	// Group is equal for sources that one person mends: all addresses of a
	// service, or one server.
	Group string
	// As is the organization that it authenticates as, if not the domain's.
	As string
}

// Classify tells whose each source is. The order is that of the evidence.
func Classify(e *Evidence) []Classified {
	if f := e.found; f != nil {
		f.classify.Do(func() { f.sources = classify(e) })
		return f.sources
	}
	return classify(e)
}

func classify(e *Evidence) []Classified {
	d := newScene(e)
	out := make([]Classified, len(e.Sources))
	// As many processors work on it as there are.
	var workers sync.WaitGroup
	share := max(1, (len(out)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for first := 0; first < len(out); first += share {
		mine := *d
		mine.orgs, mine.spf, mine.signers = maps.Clone(d.orgs), counter[string, int64]{}, counter[string, int64]{}
		workers.Go(func() {
			for i := first; i < min(first+share, len(out)); i++ {
				out[i] = mine.classify(i)
			}
		})
	}
	workers.Wait()
	return out
}

// A scene is what all sources of a domain have in common. It is not for use by several
// goroutines: each has a copy, with orgs and counters of its own.
type scene struct {
	e         *Evidence
	summaries []Summary
	org       string
	passing   int64            // messages that passed, over all sources
	keys      map[keyName]*key // of the domain
	ownNets   map[netip.Prefix]bool
	orgs      map[string]string // organizational domains, by domain

	spf, signers counter[string, int64] // of the source in hand
}

// A key is a DKIM key of the domain.
type key struct {
	messages int64 // signed with it, and passed
	home     int64 // of those: from sources whose SPF is aligned
}

// A keyName is the name of a key; keys of subdomains are their own.
type keyName struct{ selector, domain string }

func (n keyName) String() string { return n.selector + "._domainkey." + n.domain }

func newScene(e *Evidence) *scene {
	d := &scene{e: e, org: dmarc.OrganizationalDomain(e.Domain), keys: make(map[keyName]*key), ownNets: make(map[netip.Prefix]bool), orgs: make(map[string]string)}
	d.summaries = make([]Summary, len(e.Sources))
	var reporters counter[int64, struct{}]
	for i := range e.Sources {
		src := &e.Sources[i]
		s := summarise(src, &reporters)
		d.summaries[i] = s
		d.passing += s.passing()
		aligned := s.Both+s.SPFOnly > s.Messages/2
		if aligned && src.Source.IsValid() {
			d.ownNets[neighbours(src.Source)] = true
		}
		for m, n := range src.Marks() {
			if m.Kind != dmarc.MarkDKIMPass || m.Selector == "" || !d.ours(m.Domain) {
				continue
			}
			name := keyName{m.Selector, m.Domain}
			k := d.keys[name]
			if k == nil {
				k = &key{}
				d.keys[name] = k
			}
			k.messages += n
			if aligned {
				k.home += n
			}
		}
	}
	return d
}

// neighbours returns the network of a source that one customer of a hosting
// company usually has to himself, or shares with few.
func neighbours(p netip.Prefix) netip.Prefix {
	bits := 24
	if p.Addr().Is6() {
		bits = 64
	}
	return netip.PrefixFrom(p.Addr(), min(bits, p.Bits())).Masked()
}

func (d *scene) ours(domain string) bool {
	return domain == d.e.Domain || d.orgOf(domain) == d.org
}

// orgOf returns the organizational domain of a domain. The same few domains
// come again and again.
func (d *scene) orgOf(domain string) string {
	org, ok := d.orgs[domain]
	if !ok {
		org = dmarc.OrganizationalDomain(domain)
		d.orgs[domain] = org
	}
	return org
}

// names is what authenticated the mail of a source.
type names struct {
	atHome, foreignKey int64  // passing signatures of the domain: by a key that own servers use, by another
	known              int64  // failing signatures by a key that passes for other sources
	invented           int64  // failing signatures by a key that never passed
	spf                string // the organization that SPF mostly passes for, if not the domain's
	spfMessages        int64
	signs              int64 // passing signatures of that same organization
	signer             string
	sender             *dmarc.Sender // whose names those are
}

func (d *scene) names(src *Source) names {
	var n names
	d.spf.reset()
	d.signers.reset()
	for m, messages := range src.Marks() {
		ours := d.ours(m.Domain)
		switch k := d.keys[keyName{m.Selector, m.Domain}]; {
		case m.Kind == dmarc.MarkSPFPass && !ours:
			*d.spf.of(d.orgOf(m.Domain)) += messages
			n.recognise(d.e.Senders, m.Domain)
		case m.Kind == dmarc.MarkDKIMPass && !ours:
			*d.signers.of(d.orgOf(m.Domain)) += messages
			n.recognise(d.e.Senders, m.Domain)
		case m.Kind == dmarc.MarkDKIMPass && k != nil && k.home*5 >= k.messages && k.home > 0:
			n.atHome += messages
		case m.Kind == dmarc.MarkDKIMPass && k != nil:
			n.foreignKey += messages
		case m.Kind == dmarc.MarkDKIMFail && k != nil:
			n.known += messages
		case m.Kind == dmarc.MarkDKIMFail && m.Selector != "":
			n.invented += messages
		}
	}
	n.spf, n.spfMessages = most(&d.spf)
	n.signer, _ = most(&d.signers)
	if n.spf != "" {
		n.signs = *d.signers.of(n.spf)
	}
	return n
}

func (n *names) recognise(known Senders, domain string) {
	if n.sender == nil && known != nil {
		n.sender = known.ByDomain(domain)
	}
}

// most returns the name with most messages.
func most(c *counter[string, int64]) (best string, n int64) {
	for i, k := range c.keys {
		if x := cmp.Compare(c.values[i], n); best == "" || x > 0 || x == 0 && k < best {
			best, n = k, c.values[i]
		}
	}
	return best, n
}

// classify applies the rules in order; the first that can tell decides.
func (d *scene) classify(i int) Classified {
	src := &d.e.Sources[i]
	c := Classified{Source: src, Summary: d.summaries[i], Sender: src.Identity.Sender}
	n := d.names(src)
	if src.Identity.By == "asn" && c.Sender != nil && c.Sender.Kind != dmarc.SenderService && c.Sender.Kind != dmarc.SenderGateway {
		c.Sender = nil // the network of a provider holds anybody's servers
	}
	if c.Sender == nil || c.Sender.Kind == dmarc.SenderHosting && n.sender != nil {
		c.Sender = n.sender
	}
	c.As = cmp.Or(n.spf, n.signer)
	c.Name = d.name(&c)
	for _, rule := range []func(*Classified, *names) bool{
		d.overruled, d.unreadable, d.namedAfterDomain, d.authorised, d.signed, d.failing,
	} {
		if rule(&c, &n) {
			break
		}
	}
	c.Group = c.Source.Source.String()
	if c.Class == dmarc.ClassService {
		if c.Sender != nil && c.Name == c.Sender.Name {
			c.Group = "sender " + c.Sender.ID
		} else if c.As != "" {
			c.Group, c.Name = "as "+c.As, c.As
		}
	}
	return c
}

// name returns what people call a source.
func (d *scene) name(c *Classified) string {
	switch {
	case !c.Source.Source.IsValid():
		return "unreadable address"
	case c.Sender != nil && c.Sender.Kind != dmarc.SenderHosting && c.Sender.Kind != dmarc.SenderISP:
		return c.Sender.Name
	case len(c.Identity.Names) > 0:
		return c.Identity.Names[0]
	case c.Source.Source.IsSingleIP():
		return c.Source.Source.Addr().String()
	}
	return c.Source.Source.String()
}

func (c *Classified) is(class dmarc.Class, sure Confidence, clues ...string) bool {
	c.Class, c.Confidence = class, sure
	c.Clues = append(c.Clues, clues...)
	return true
}

// The operator's word wins; the smallest network counts, and of equal ones the
// last that is said.
func (d *scene) overruled(c *Classified, _ *names) bool {
	best := -1
	for i, o := range d.e.Overrules {
		s := c.Source.Source
		if !s.IsValid() || !o.Network.IsValid() || o.Network.Bits() > s.Bits() || !o.Network.Contains(s.Addr()) {
			continue
		}
		if best < 0 || o.Network.Bits() >= d.e.Overrules[best].Network.Bits() {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	clue := "you said so"
	if note := d.e.Overrules[best].Note; note != "" {
		clue += ": " + note
	}
	return c.is(d.e.Overrules[best].Class, Sure, clue)
}

// Messages without a source are nobody's.
func (d *scene) unreadable(c *Classified, _ *names) bool {
	if c.Source.Source.IsValid() {
		return false
	}
	return c.is(dmarc.ClassUnknown, Guess, "the reports do not say from where these messages came")
}

// A server whose proven name lies within the domain is the owner's.
func (d *scene) namedAfterDomain(c *Classified, _ *names) bool {
	for _, name := range c.Identity.Names {
		if d.ours(name) {
			return c.is(dmarc.ClassOwn, Sure, fmt.Sprintf("its name is %s, and that name leads back to it", name))
		}
	}
	return false
}

// Mail that passes SPF for the domain itself comes from a server that the
// owner's SPF record names. It is a service where somebody else's signature or
// the catalogue says so.
func (d *scene) authorised(c *Classified, n *names) bool {
	s := &c.Summary
	spf := s.Both + s.SPFOnly
	if spf == 0 || spf*1000 < s.Messages {
		return false
	}
	if s.DKIMOnly > 4*spf && (s.Forwarding > 0 || s.Missed > 0 || c.Sender != nil && c.Sender.Kind == dmarc.SenderMailbox) {
		return false // it forwards, and sends a little itself
	}
	clue := fmt.Sprintf("%s of its %s messages pass SPF for your domain", count(spf), count(s.Messages))
	sure := Likely
	if s.Both > 0 || c.SPF == CoverYes || c.SPF == CoverShared || s.Reporters > 1 {
		sure = Sure
	}
	switch {
	case c.Sender != nil && c.Sender.Kind != dmarc.SenderHosting && c.Sender.Kind != dmarc.SenderISP && c.Sender.Kind != dmarc.SenderOther:
		return c.is(dmarc.ClassService, sure, "it is "+c.Sender.Name, clue)
	case s.SelfSigned*2 > s.Messages:
		return c.is(dmarc.ClassService, Likely, fmt.Sprintf("it signs as %s as well as for you", n.signer), clue)
	}
	return c.is(dmarc.ClassOwn, sure, clue)
}

// A scale weighs clues for one class against those for another.
type scale struct {
	weight float64
	clues  []weighed
}

type weighed struct {
	weight float64
	text   string
}

func (s *scale) add(weight float64, format string, args ...any) {
	s.weight += weight
	s.clues = append(s.clues, weighed{weight, fmt.Sprintf(format, args...)})
}

// told returns the clues that speak for the side that won, heaviest first.
func (s *scale) told(sign float64) []string {
	slices.SortStableFunc(s.clues, func(a, b weighed) int { return cmp.Compare(b.weight*sign, a.weight*sign) })
	var texts []string
	for _, c := range s.clues {
		if c.weight*sign > 0 {
			texts = append(texts, c.text)
		}
	}
	return texts
}

func (s *scale) confidence() Confidence {
	switch w := math.Abs(s.weight); {
	case w >= 4:
		return Sure
	case w >= 1.5:
		return Likely
	}
	return Guess
}

// Mail that carries a valid signature of the domain, and no SPF of it, comes
// from a service that has a key of its own, or was forwarded with the
// signature that it got elsewhere.
func (d *scene) signed(c *Classified, n *names) bool {
	s := &c.Summary
	if s.DKIMOnly == 0 {
		return false
	}
	var w scale
	switch {
	case n.atHome > n.foreignKey:
		w.add(-3, "it carries signatures of a key that your own servers use")
	case n.foreignKey > 0:
		w.add(2, "it signs for you with a key that your own servers do not use")
	}
	switch {
	case n.signs*2 > s.DKIMOnly:
		w.add(2, "it authenticates as %s as well, by DKIM and SPF", n.spf)
	case n.spfMessages*2 > s.Messages:
		w.add(0.5, "its bounces go to %s", n.spf)
	}
	if s.Missed > 0 {
		w.add(-2, "it passes on your MAIL FROM, for which SPF does not know it")
	}
	if s.Forwarding > 0 {
		w.add(-2, "reporters say that it forwards")
	}
	if s.Broken*20 > s.Messages && s.Broken < s.Messages {
		w.add(-1, "some of its signatures are broken, as changes on the way do")
	}
	switch share := float64(s.passing()) / float64(max(1, d.passing)); {
	case share >= 0.2:
		w.add(2, "it sends a large part of your mail")
	case share >= 0.02:
		w.add(0.5, "it sends some of your mail")
	case share < 0.002 && d.passing >= 1000:
		w.add(-0.5, "it sends very little")
	}
	switch c.SPF {
	case CoverYes:
		w.add(2, "your SPF record covers it")
	case CoverShared:
		w.add(1, "your SPF record covers the service that it belongs to")
	}
	d.weighSender(&w, c)
	d.weighElsewhere(&w, c)
	if w.weight > 0 {
		return c.is(dmarc.ClassService, w.confidence(), append(w.told(1), passing(s.DKIMOnly, s.Messages))...)
	}
	return c.is(dmarc.ClassForwarder, w.confidence(), append(w.told(-1), passing(s.DKIMOnly, s.Messages))...)
}

func passing(n, of int64) string {
	return fmt.Sprintf("%s of its %s messages pass by DKIM only", count(n), count(of))
}

func (d *scene) weighSender(w *scale, c *Classified) {
	if c.Sender == nil {
		return
	}
	switch c.Sender.Kind {
	case dmarc.SenderService:
		w.add(3, "it is %s, which sends for its customers", c.Sender.Name)
	case dmarc.SenderForwarder, dmarc.SenderList:
		w.add(-3, "it is %s, which forwards", c.Sender.Name)
	case dmarc.SenderMailbox:
		w.add(-1, "it is %s, whose users forward mail", c.Sender.Name)
	case dmarc.SenderGateway:
		w.add(-1, "it is %s, which filters mail on its way", c.Sender.Name)
	case dmarc.SenderISP:
		w.add(-0.5, "it belongs to %s", c.Sender.Name)
	}
}

func (d *scene) weighElsewhere(w *scale, c *Classified) {
	fwd, srv := c.Elsewhere[dmarc.ClassForwarder], c.Elsewhere[dmarc.ClassService]+c.Elsewhere[dmarc.ClassOwn]
	total := fwd + srv
	if total == 0 {
		return
	}
	lean := float64(srv-fwd) / float64(total) * min(3, 1+math.Log2(float64(total))/2)
	if lean < 0 {
		w.add(lean, "it forwards for other domains that you watch")
	} else if lean > 0 {
		w.add(lean, "it sends for other domains that you watch")
	}
}

// Mail that never passes is forwarded and changed, sent by a service that
// nobody set up, or forged.
func (d *scene) failing(c *Classified, n *names) bool {
	s := &c.Summary
	var w scale // towards forwarded
	if s.Forwarding > 0 {
		w.add(2+2*float64(s.Forwarding)/float64(s.Messages), "reporters say that it forwards")
	} else if s.Exempted*2 > s.Messages {
		w.add(1, "reporters made an exception for it")
	}
	if n.known > 0 {
		w.add(2.5, "its messages carry your signature by a key that passes elsewhere, broken on the way")
	}
	if n.invented > 0 && n.known == 0 {
		w.add(-1, "its messages carry signatures by a key that never passed")
	}
	if c.Sender != nil {
		switch c.Sender.Kind {
		case dmarc.SenderForwarder, dmarc.SenderList:
			w.add(2.5, "it is %s, which forwards", c.Sender.Name)
		case dmarc.SenderMailbox, dmarc.SenderGateway:
			w.add(0.5, "it is %s, through which mail is forwarded", c.Sender.Name)
		}
	}
	if fwd := c.Elsewhere[dmarc.ClassForwarder]; fwd > 0 {
		others := 0
		for class, k := range c.Elsewhere {
			if class != int(dmarc.ClassForwarder) && class != int(dmarc.ClassUnknown) {
				others += k
			}
		}
		if fwd > others {
			w.add(min(3, 1+math.Log2(float64(fwd))), "it forwards for other domains that you watch")
		}
	}
	if w.weight >= 1 {
		return c.is(dmarc.ClassForwarder, w.confidence(), w.told(1)...)
	}
	if c.SPF == CoverYes {
		return c.is(dmarc.ClassOwn, Likely, "your SPF record covers it, but its mail does not pass")
	}
	// Whoever is a customer of the same service can send from there.
	const shared = "your SPF record covers it, as it covers everybody who uses the same service"
	steady := s.Days >= 3 && s.Messages >= 10
	if s.Foreign*2 > s.Messages {
		who := n.spf
		if who == "" {
			who = n.signer
		}
		if c.Sender != nil && c.Sender.Kind == dmarc.SenderService && steady {
			return c.is(dmarc.ClassService, Likely, fmt.Sprintf("it is %s, sends steadily, and authenticates as itself and not as you", c.Sender.Name))
		}
		clues := []string{fmt.Sprintf("it authenticates as %s and not as you", cmp.Or(who, "somebody else"))}
		if c.SPF == CoverShared {
			clues = append(clues, shared)
		}
		if k := c.Elsewhere[dmarc.ClassService]; k > 0 {
			clues = append(clues, "it sends for other domains that you watch")
		}
		return c.is(dmarc.ClassUnknown, Guess, clues...)
	}
	if c.SPF == CoverShared {
		return c.is(dmarc.ClassUnknown, Guess, "nothing that it sends passes", shared)
	}
	if c.Source.Source.IsSingleIP() && s.Days >= 14 && s.Reporters >= 3 && len(c.Identity.Names) > 0 {
		return c.is(dmarc.ClassUnknown, Guess, fmt.Sprintf("it fails always, but has sent on %d days and has a name, %s: an old server?", s.Days, c.Identity.Names[0]))
	}
	if steady && c.Source.Source.IsSingleIP() && d.ownNets[neighbours(c.Source.Source)] {
		return c.is(dmarc.ClassUnknown, Guess, "it fails always, but is a neighbour of servers of yours")
	}
	clues := append([]string{"nothing that it sends passes, as you or as anybody"}, w.told(-1)...)
	sure := Likely
	if s.Missed*2 > s.Messages {
		clues = append(clues, "it uses your MAIL FROM, for which SPF does not know it")
	}
	if k := c.Elsewhere[dmarc.ClassSuspicious]; k > 0 {
		sure = Sure
		clues = append(clues, "it is suspicious for other domains that you watch")
	}
	if c.Identity.PTR == dmarc.LookupAbsent {
		clues = append(clues, "it has no name in DNS")
	}
	return c.is(dmarc.ClassSuspicious, sure, clues...)
}

// AskFirst returns the sources whose class only people can confirm, those with
// most messages first: unknown ones, and guesses. At most n.
func AskFirst(all []Classified, n int) []Classified {
	var ask []Classified
	for _, c := range all {
		if c.Source.Source.IsValid() && (c.Class == dmarc.ClassUnknown || c.Confidence == Guess && c.Class != dmarc.ClassSuspicious) {
			ask = append(ask, c)
		}
	}
	slices.SortStableFunc(ask, func(a, b Classified) int {
		return cmp.Or(cmp.Compare(b.Summary.Messages, a.Summary.Messages), strings.Compare(a.Name, b.Name))
	})
	return ask[:min(n, len(ask))]
}

// Busiest returns the sources, those with most messages first; of one class, if
// any is named.
func (a *Advice) Busiest(class *dmarc.Class) []Classified {
	var list []Classified
	for _, c := range a.Sources {
		if class == nil || c.Class == *class {
			list = append(list, c)
		}
	}
	slices.SortStableFunc(list, func(a, b Classified) int { return cmp.Compare(b.Summary.Messages, a.Summary.Messages) })
	return list
}
