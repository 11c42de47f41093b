package records

import (
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/dmarcd/dmarcd/dmarc"
)

// hasKnownSuffix reports whether a domain ends in a top-level name that is on
// the Public Suffix List.
func hasKnownSuffix(domain string) bool {
	name := strings.ToLower(strings.TrimSuffix(domain, "."))
	_, icann := publicsuffix.PublicSuffix(name[strings.LastIndexByte(name, '.')+1:])
	return icann
}

// limits judges what the whole tree costs.
func (j *spfJudge) limits() {
	f, domain := j.f, j.p.Domain
	facts := spfFacts(&f.Root.Answer)
	top, provider := j.costliest()
	crossing := "the whole"
	var voids, voids6, hopeless []string
	f.Root.walk(nil, func(n *SPFNode, way []spfStep) {
		for i := range n.Branches {
			b := &n.Branches[i]
			if b.Over {
				crossing = fmt.Sprintf("`%s` in the record of %s", shown(b.Term.Text), n.Domain)
			}
			switch {
			case b.Void4 && b.Void6:
				voids = append(voids, "`"+shown(b.Term.Text)+"`")
				voids6 = append(voids6, "`"+shown(b.Term.Text)+"`")
			case b.Void4:
				hopeless = append(hopeless, "`"+shown(b.Term.Text)+"`")
			case b.Void6:
				voids6 = append(voids6, "`"+shown(b.Term.Text)+"`")
			}
			j.branch(n, b, way)
		}
	})
	n := itoa(f.Lookups)
	switch {
	case f.Lookups > spfLookups:
		j.usual("spf.lookup_limit", domain, facts, "n", n, "top", top, "crossing", crossing, "provider", provider, "publish", j.slimmer())
	case f.Lookups > 8:
		j.usual("spf.lookup_near", domain, facts, "n", n, "top", top, "provider", provider, "publish", j.slimmer())
	case f.Lookups == 8:
		j.add("spf.lookup_near", Info, domain, facts, "n", n, "top", top, "provider", provider, "publish", j.slimmer())
	}
	voids4 := append(slices.Clone(voids), hopeless...)
	switch {
	case f.Voids > spfVoids:
		j.usual("spf.void_limit", domain, facts, "n", itoa(f.Voids), "terms", someOf(voids), "senders", "any sender", "publish", j.withoutVoids())
	case f.Voids4 > spfVoids:
		j.usual("spf.void_limit", domain, facts, "n", itoa(f.Voids4), "terms", someOf(voids4), "senders", "senders with IPv4")
	case f.Voids6 > spfVoids:
		// Hosts without IPv6 are common, and matter to senders with IPv6 only.
		j.add("spf.void_limit", Warning, domain, facts, "n", itoa(f.Voids6), "terms", someOf(voids6), "senders", "senders with IPv6")
	}
}

// slimmer is the domain's own record with fewer lookups, if it can have fewer.
func (j *spfJudge) slimmer() string {
	if text := j.f.Root.slimmer(j.own); text != "" {
		return zoneSPF(j.p.Domain, text)
	}
	return ""
}

// costliest tells the terms of the domain's own record that cost most, and
// whose they are.
func (j *spfJudge) costliest() (top, provider string) {
	var terms []*SPFBranch
	for i := range j.f.Root.Branches {
		if b := &j.f.Root.Branches[i]; b.Cost > 0 {
			terms = append(terms, b)
		}
	}
	slices.SortStableFunc(terms, func(a, b *SPFBranch) int { return b.Cost - a.Cost })
	provider = "a provider"
	var words []string
	for _, b := range terms[:min(len(terms), 3)] {
		words = append(words, fmt.Sprintf("`%s` (%d)", shown(b.Term.Text), b.Cost))
		if provider == "a provider" && b.Node != nil && !j.own(b.Target) {
			provider = dmarc.OrganizationalDomain(b.Target)
		}
	}
	return strings.Join(words, ", "), provider
}

// withoutVoids is the domain's own record without the terms that find nothing.
func (j *spfJudge) withoutVoids() string {
	var texts []string
	for i := range j.f.Root.Branches {
		if b := &j.f.Root.Branches[i]; b.Void4 && b.Void6 {
			texts = append(texts, b.Term.Text)
		}
	}
	return j.publish(j.f.Root, j.f.Root.Record.without(texts...))
}

// branch judges what a term leads to.
func (j *spfJudge) branch(n *SPFNode, b *SPFBranch, way []spfStep) {
	domain, text := j.p.Domain, shown(b.Term.Text)
	var facts []Fact
	for i := range b.Answers {
		facts = append(facts, spfFacts(&b.Answers[i])...)
		if b.Answers[i].State == Failed {
			j.unknown(&b.Answers[i])
		}
	}
	if b.Node != nil {
		facts = spfFacts(&b.Node.Answer)
		if b.Node.Answer.State == Failed {
			j.unknown(&b.Node.Answer)
		}
	}
	removed := j.publish(n, n.Record.without(b.Term.Text))
	answers := b.Answers
	if b.Node != nil {
		answers = append(answers[:len(answers):len(answers)], b.Node.Answer)
	}
	for i := range answers {
		org := goneDomain(&answers[i])
		if a, ok := j.f.Registrable[org]; ok && a.State == NXDomain {
			j.usual("spf.unregistered", domain, spfFacts(&answers[i], &a), "domain", org, "term", text, "where", n.Domain, "owner", j.owner(n.Domain), "publish", removed)
		}
	}
	switch {
	case b.Loop:
		chain := []string{}
		for _, s := range way {
			chain = append(chain, s.holder.Domain)
		}
		chain = append(chain, n.Domain, b.Target)
		j.usual("spf.loop", domain, spfFacts(&n.Answer), "chain", strings.Join(chain, " → "), "term", text, "where", n.Domain, "owner", j.owner(n.Domain), "publish", removed)
	case len(b.Hosts) > spfHosts:
		j.usual("spf.mx_over_10", domain, facts, "term", text, "n", itoa(len(b.Hosts)), "where", n.Domain, "owner", j.owner(n.Domain))
	case b.Node == nil && (b.Void4 && b.Void6 && j.f.Voids <= spfVoids || b.Void4 && !b.Void6):
		senders, state, advice := "any sender", "has no addresses", "Remove it, or correct the name."
		if b.Term.Name == "mx" {
			state = "has no mail hosts"
		}
		if !b.Void6 {
			senders, state, advice, removed = "senders with IPv4", "has no address of IPv4", "Write ip6 and the addresses in its place.", ""
		}
		if b.Answers[0].State == NXDomain {
			state = "does not exist"
		}
		j.usual("spf.void", domain, facts, "term", text, "where", n.Domain, "senders", senders, "target", shown(b.Target), "state", state,
			"advice", advice, "owner", j.owner(n.Domain), "publish", removed)
	}
	j.width(n, b, way, facts)
}

// width finds terms that let very many addresses pass.
func (j *spfJudge) width(n *SPFNode, b *SPFBranch, way []spfStep, facts []Fact) {
	if !passes(way, b) {
		return
	}
	domain, text := j.p.Domain, shown(b.Term.Text)
	removed := j.publish(n, n.Record.without(b.Term.Text))
	inRedirects := true
	for _, s := range way {
		inRedirects = inRedirects && s.branch.Term.Name == "redirect"
	}
	switch {
	case b.Term.Name == "all" && !inRedirects: // at the end of the domain's own record it is told by end
		advice := "The record must be mended by " + j.owner(n.Domain) + "; until then, take `" + shown(way[0].branch.Term.Text) + "` out of yours."
		j.usual("spf.plus_all", domain, spfFacts(&n.Answer), "term", text, "where", n.Domain, "advice", advice,
			"publish", j.publish(j.f.Root, j.f.Root.Record.without(way[0].branch.Term.Text)))
	case b.Term.Name == "exists" && len(b.Answers) > 0 && b.Answers[0].State == Found:
		j.add("spf.too_wide", Error, domain, facts, "term", text, "where", n.Domain, "n", "all", "owner", j.owner(n.Domain), "publish", removed)
	}
	var widest netip.Prefix
	for _, net := range b.Nets {
		if !widest.IsValid() || net.Bits()*32/net.Addr().BitLen() < widest.Bits()*32/widest.Addr().BitLen() {
			widest = net
		}
	}
	if !widest.IsValid() {
		return
	}
	severity := OK
	switch bits := widest.Bits(); {
	case bits == 0:
		severity = Error
	case widest.Addr().Is4() && bits < 12, widest.Addr().Is6() && bits < 24:
		severity = Warning
	default:
		return
	}
	j.add("spf.too_wide", severity, domain, facts, "term", text, "where", n.Domain, "n", addressCount(widest), "owner", j.owner(n.Domain), "publish", removed)
}

// addressCount is how many addresses a network has.
func addressCount(n netip.Prefix) string {
	bits := n.Addr().BitLen() - n.Bits()
	if bits > 32 {
		return fmt.Sprintf("2^%d", bits)
	}
	return new(big.Int).Lsh(big.NewInt(1), uint(bits)).String()
}

// includes judges the records that others lead to.
func (j *spfJudge) includes() {
	domain := j.p.Domain
	targets, order := map[string][]string{}, []string{}
	j.f.Root.walk(nil, func(n *SPFNode, way []spfStep) {
		if len(way) == 0 {
			return
		}
		last := way[len(way)-1]
		if last.branch.Term.Name == "include" {
			if targets[n.Domain] == nil {
				order = append(order, n.Domain)
			}
			targets[n.Domain] = append(targets[n.Domain], last.holder.Domain)
		}
		why := n.broken()
		if why == "" || n.Answer.State == Failed {
			return
		}
		if len(n.Texts) == 0 && j.own(last.holder.Domain) {
			j.leadsNowhere(n, last)
			return
		}
		// The term of the last own record on the way, and who must mend the rest.
		owned := way[0]
		for _, s := range way {
			if !j.own(s.holder.Domain) {
				break
			}
			owned = s
		}
		if owned.branch != last.branch {
			if len(n.Texts) == 0 {
				why = fmt.Sprintf("`%s` in the record of %s leads to %s, which has no SPF record", shown(last.branch.Term.Text), last.holder.Domain, n.Domain)
			} else {
				why = n.Domain + ": " + why
			}
		}
		holder := owned.holder
		j.usual("spf.include_broken", domain, spfFacts(&n.Answer), "term", shown(owned.branch.Term.Text), "target", owned.branch.Target, "why", why,
			"owner", j.owner(owned.branch.Target), "publish", j.publish(holder, holder.Record.without(owned.branch.Term.Text)))
	})
	for _, target := range order {
		if holders := targets[target]; len(holders) > 1 {
			where := []string{}
			for _, h := range holders {
				where = append(where, "by "+h)
			}
			j.usual("spf.include_twice", domain, nil, "target", target, "n", itoa(len(holders)), "where", someOf(where))
		}
	}
}

// leadsNowhere says that an own include or redirect finds no record.
func (j *spfJudge) leadsNowhere(n *SPFNode, last spfStep) {
	id := "spf.include_missing"
	if last.branch.Term.Name == "redirect" {
		id = "spf.redirect_missing"
	}
	state := "has no SPF record"
	if n.Answer.State == NXDomain {
		state = "does not exist"
	}
	r := last.holder.Record
	j.usual(id, j.p.Domain, spfFacts(&n.Answer), "term", shown(last.branch.Term.Text), "where", last.holder.Domain, "target", n.Domain, "state", state,
		"publish", j.publish(last.holder, r.without(last.branch.Term.Text)))
}

// sources says which own senders do not pass.
func (j *spfJudge) sources() {
	root := j.f.Root
	for _, s := range j.f.Senders {
		switch s.Verdict.Result.String() {
		case "fail", "softfail", "neutral":
		default:
			continue // passes, or says nothing about the sender
		}
		host := s.Sender.HELO
		if host == "" {
			host = "name unknown"
		}
		term := addressTerm(s.Sender.Addr)
		j.usual("spf.source_missing", j.p.Domain, spfFacts(&root.Answer), "ip", s.Sender.Addr.Unmap().String(), "host", shown(host),
			"result", s.Verdict.Result.String(), "term", term, "publish", zoneSPF(j.p.Domain, root.Record.with(term)))
	}
}

// ok says that all is well, if nothing contradicts.
func (j *spfJudge) ok() {
	for i := range j.findings {
		if j.findings[i].Severity == Error {
			return
		}
	}
	r := j.f.Root.Record
	all, redirect := r.term("all"), r.term("redirect")
	if j.f.Cut || j.incomplete || all == nil && redirect == nil || all != nil && all.Qualifier != '-' && all.Qualifier != '~' {
		return
	}
	j.usual("spf.ok", j.p.Domain, spfFacts(&j.f.Root.Answer), "n", itoa(j.f.Lookups), "v", itoa(j.f.Voids))
}
