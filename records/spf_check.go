package records

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// maxSPFFindings bounds the findings of one check about one domain.
const maxSPFFindings = 10

// A spfJudge collects what is wrong with the SPF of a domain.
type spfJudge struct {
	p        *Published
	f        *SPFFound
	org      string
	findings []Finding
	number   map[string]int
	seen     map[string]bool
	// incomplete is set where something could not be looked up.
	incomplete bool
}

func checkSPF(p *Published) []Finding {
	f := &p.SPF
	if f.Root == nil {
		return nil
	}
	j := &spfJudge{p: p, f: f, org: dmarc.OrganizationalDomain(p.Domain), number: map[string]int{}, seen: map[string]bool{}}
	j.obsolete()
	switch {
	case f.Root.Answer.State == Failed:
		j.unknown(&f.Root.Answer)
		return j.findings
	case len(f.Root.Texts) > 1:
		j.multiple()
	}
	meant := j.nearMisses()
	if len(f.Root.Texts) == 0 {
		j.missing(meant)
	}
	if len(f.Root.Texts) != 1 {
		return j.findings
	}
	j.size()
	f.Root.walk(nil, j.node)
	j.end()
	j.limits()
	j.includes()
	j.sources()
	j.ok()
	return j.findings
}

// add adds a finding about a name. Values are given as name, text, name, text.
func (j *spfJudge) add(id string, severity Severity, subject string, facts []Fact, values ...string) {
	f := Finding{ID: id, Severity: severity, Subject: subject, Facts: facts}
	key := id + " " + subject
	for i := 0; i < len(values); i += 2 {
		f.Values = append(f.Values, Value{values[i], values[i+1]})
		if values[i] != "publish" {
			key += "\x00" + values[i+1]
		}
	}
	if j.seen[key] || j.number[id] >= maxSPFFindings {
		return
	}
	j.seen[key] = true
	j.number[id]++
	j.findings = append(j.findings, f)
}

// usual adds a finding with the severity of the catalogue.
func (j *spfJudge) usual(id, subject string, facts []Fact, values ...string) {
	j.add(id, catalogue[id].Severity, subject, facts, values...)
}

// unknown says that a question had no answer for now. Failures that have a
// finding of their own are told with the name.
func (j *spfJudge) unknown(a *Answer) {
	j.incomplete = true
	if a.Err == errUnasked || a.Loop || a.Bogus || a.TCPFailed {
		return
	}
	j.add("dns.lookup_failed", Unknown, a.Name, spfFacts(a), "type", dns.TypeToString[a.Type], "rcode", whyFailed(*a), "ede", a.EDE)
}

// spfFacts tells answers as facts.
func spfFacts(answers ...*Answer) []Fact {
	var facts []Fact
	for _, a := range answers {
		facts = append(facts, factOf(*a))
	}
	return facts
}

// own reports whether a name belongs to the organization of the domain.
func (j *spfJudge) own(name string) bool { return dmarc.OrganizationalDomain(name) == j.org }

// owner says who can change a record.
func (j *spfJudge) owner(name string) string {
	if j.own(name) {
		return "you"
	}
	return "your provider " + dmarc.OrganizationalDomain(name)
}

// A spfStep is a term on the way to a record, and the domain whose record
// holds it.
type spfStep struct {
	holder *SPFNode
	branch *SPFBranch
}

// walk calls f for a record and all below it, with the way there.
func (n *SPFNode) walk(way []spfStep, f func(n *SPFNode, way []spfStep)) {
	f(n, way)
	for i := range n.Branches {
		if b := &n.Branches[i]; b.Node != nil {
			b.Node.walk(append(way[:len(way):len(way)], spfStep{n, b}), f)
		}
	}
}

// passes reports whether the terms on a way make mail pass.
func passes(way []spfStep, b *SPFBranch) bool {
	for _, s := range way {
		if s.branch.Term.Name == "include" && s.branch.Term.Qualifier != '+' {
			return false
		}
	}
	return b.Term.Qualifier == '+' && !b.Unread
}

// publish is the line of a zone file for a record of the organization; "" for
// another, which only its owner can change.
func (j *spfJudge) publish(n *SPFNode, text string) string {
	if !j.own(n.Domain) {
		return ""
	}
	return zoneSPF(n.Domain, text)
}

func (j *spfJudge) obsolete() {
	for _, strs := range txtStrings(&j.f.Obsolete) {
		j.usual("spf.obsolete", j.p.Domain, spfFacts(&j.f.Obsolete), "rr", "SPF "+shown(strings.Join(strs, "")))
	}
	for _, strs := range txtStrings(&j.f.Root.Answer) {
		if text := strings.Join(strs, ""); hasPrefixFold(text, "spf2.0/") {
			j.usual("spf.obsolete", j.p.Domain, spfFacts(&j.f.Root.Answer), "rr", "TXT "+shown(text))
		}
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// missing says that there is no record. What was meant to be one is the best
// suggestion.
func (j *spfJudge) missing(meant string) {
	text := meant
	if text == "" {
		text = suggestedSPF(j.p)
	}
	j.usual("spf.missing", j.p.Domain, spfFacts(&j.f.Root.Answer), "suggested", text, "publish", zoneSPF(j.p.Domain, text))
}

func (j *spfJudge) multiple() {
	var records []*SPFRecord
	for _, strs := range j.f.Root.Texts {
		records = append(records, parseSPF(strs))
	}
	text := mergedSPF(records)
	j.usual("spf.multiple", j.p.Domain, spfFacts(&j.f.Root.Answer), "n", itoa(len(records)), "merged", text, "publish", zoneSPF(j.p.Domain, text))
}

// seam returns the parts of a term on both sides of the end of a string.
func seam(strs []string, i int) (first, second string) {
	return lastWord(strings.Join(strs[:i+1], "")), firstWord(strings.Join(strs[i+1:], ""))
}

// node judges the text of one record of the organization.
func (j *spfJudge) node(n *SPFNode, way []spfStep) {
	if n.Record == nil || !j.own(n.Domain) {
		return
	}
	facts := spfFacts(&n.Answer)
	glued := j.glued(n, facts)
	j.problems(n, facts, glued)
	j.terms(n, facts)
}

// problems says what does not follow the grammar.
func (j *spfJudge) problems(n *SPFNode, facts []Fact, glued map[int]bool) {
	fixed := j.publish(n, n.Record.rewritten(unchanged))
	for i := range n.Record.Problems {
		p := &n.Record.Problems[i]
		if glued[p.Pos] {
			continue
		}
		effect, severity := "Receivers answer with a permanent error for all mail of the domain, even where another term would match.", Error
		if p.Harmless {
			effect, severity = "Receivers pass over it, so that it lets nobody pass.", Warning
		}
		advice := "Correct it or take it out."
		if p.Hint != "" {
			advice = "Write `" + shown(p.Hint) + "`."
		}
		pos := itoa(p.Pos)
		switch p.ID {
		case "spf.non_ascii":
			j.add(p.ID, severity, n.Domain, facts, "char", charText(p.Term), "pos", pos, "effect", effect, "advice", advice, "publish", fixed)
		case "spf.modifier_twice":
			name, _, _ := strings.Cut(strings.ToLower(p.Term), "=")
			j.add(p.ID, severity, n.Domain, facts, "name", name, "pos", pos, "effect", effect, "publish", fixed)
		default:
			j.add(p.ID, severity, n.Domain, facts, "term", shown(p.Term), "pos", pos, "hint", shown(p.Hint), "why", shown(p.Why), "effect", effect, "advice", advice, "publish", fixed)
		}
	}
}

// charText shows a character and tells its number.
func charText(c string) string {
	if r := []rune(c); len(r) == 1 && r[0] != '\ufffd' {
		return fmt.Sprintf("%s (U+%04X)", shown(c), r[0])
	}
	return fmt.Sprintf("%d", c[0])
}

// glued finds strings that meet in the middle of two terms. It returns the
// positions of the terms that came of it.
func (j *spfJudge) glued(n *SPFNode, facts []Fact) map[int]bool {
	found := map[int]bool{}
	strs := n.Texts[0]
	if len(strs) > 300 { // of 255 octets: longer than any answer
		return found
	}
	for i := range len(strs) - 1 {
		first, second := seam(strs, i)
		if first == "" || second == "" || !gluedTerm(first, second) {
			continue
		}
		pos := n.Record.Seams[i] - len(first) + 1
		found[pos] = true
		text := n.Record.Text
		at := n.Record.Seams[i]
		fixed := parseSPF([]string{text[:at] + " " + text[at:]}).rewritten(unchanged)
		j.usual("spf.strings_glued", n.Domain, facts, "term", shown(first+second), "first", shown(first), "second", shown(second), "publish", j.publish(n, fixed))
	}
	return found
}

// gluedTerm reports whether a term is two terms that lost the blank in
// between, and not one that was parted to fit into strings.
func gluedTerm(first, second string) bool {
	a, problem := parseSPFTerm(first)
	if problem != nil {
		return false
	}
	b, problem := parseSPFTerm(second)
	if problem != nil || b.modifier() && b.Name != "redirect" && b.Name != "exp" {
		return false
	}
	both, problem := parseSPFTerm(first + second)
	if problem != nil {
		return true
	}
	if both.modifier() && both.Name != "redirect" && both.Name != "exp" || a.Domain == "" {
		return false
	}
	// Both readings are valid: a domain that ends under no known suffix shows
	// which one was meant, and so does what looks like a term in the second.
	return strings.ContainsAny(second, ":=~?") || hasKnownSuffix(a.Domain) && !hasKnownSuffix(both.Domain)
}

// terms judges the terms of a record by themselves.
func (j *spfJudge) terms(n *SPFNode, facts []Fact) {
	var unread []string
	nets := map[netip.Prefix]string{}
	for i := range n.Branches {
		if t := &n.Branches[i].Term; t.Net.IsValid() {
			if _, twice := nets[t.Net.Masked()]; !twice {
				nets[t.Net.Masked()] = t.Text
			}
		}
	}
	written := map[string]bool{}
	for i := range n.Branches {
		b := &n.Branches[i]
		t := &b.Term
		text := shown(t.Text)
		switch {
		case b.Unread && t.Name == "redirect":
			j.usual("spf.redirect_and_all", n.Domain, facts, "term", text, "target", shown(t.Domain), "publish", j.publish(n, n.Record.without(t.Text)))
		case b.Unread:
			unread = append(unread, "`"+text+"`")
		}
		if t.Name == "ptr" {
			j.usual("spf.ptr", n.Domain, facts, "term", text, "publish", j.publish(n, n.Record.without(t.Text)))
		} else if b.PerMessage {
			j.usual("spf.macro", n.Domain, facts, "term", text, "n", itoa(b.Own))
		}
		key := strings.ToLower(strings.TrimPrefix(t.Text, "+"))
		if written[key] && !t.modifier() && t.Name != "include" && !b.Unread {
			j.usual("spf.untidy", n.Domain, facts, "term", text, "why", "stands twice", "advice", "Write it once.", "publish", j.publish(n, n.Record.once(key)))
		}
		if !written[key] && t.Net.IsValid() {
			j.net(n, t, nets, facts)
		}
		written[key] = true
	}
	if len(unread) > 0 {
		j.usual("spf.after_all", n.Domain, facts, "terms", someOf(unread), "publish", j.publish(n, n.Record.allLast()))
	}
}

// once leaves out all but the first of equal terms.
func (r *SPFRecord) once(key string) string {
	seen := false
	return r.rewritten(func(t *SPFTerm) string {
		if strings.ToLower(strings.TrimPrefix(t.Text, "+")) == key {
			if seen {
				return ""
			}
			seen = true
		}
		return t.Text
	})
}

// allLast moves all behind the mechanisms.
func (r *SPFRecord) allLast() string {
	end := ""
	text := r.rewritten(func(t *SPFTerm) string {
		if t.Name == "all" {
			if end == "" {
				end = t.Text
			}
			return ""
		}
		return t.Text
	})
	if text == "" {
		return ""
	}
	return text + " " + end
}

// net judges an ip4 or ip6 term.
func (j *spfJudge) net(n *SPFNode, t *SPFTerm, nets map[netip.Prefix]string, facts []Fact) {
	text, masked := shown(t.Text), t.Net.Masked()
	if unused, ok := neverSends(masked, j.f.documentation); ok {
		j.usual("spf.private_address", n.Domain, facts, "term", text, "net", unused.String(), "publish", j.publish(n, n.Record.without(t.Text)))
		return
	}
	qualifier := strings.TrimPrefix(string(t.Qualifier), "+")
	for bits := masked.Bits() - 1; bits > 0; bits-- {
		wider, _ := masked.Addr().Prefix(bits)
		other, ok := nets[wider]
		if ok && strings.TrimPrefix(other, "+") == qualifier+strings.TrimLeft(other, "+-~?") {
			j.usual("spf.untidy", n.Domain, facts, "term", text, "why", "is contained in `"+shown(other)+"`", "other", shown(other),
				"advice", "Drop it.", "publish", j.publish(n, n.Record.without(t.Text)))
			return
		}
	}
	if masked != t.Net {
		tidy := qualifier + t.Name + ":" + masked.String()
		j.usual("spf.untidy", n.Domain, facts, "term", text, "why", "means "+masked.String(), "net", masked.String(), "advice", "Write `"+tidy+"`.",
			"publish", j.publish(n, n.Record.rewritten(func(other *SPFTerm) string {
				if other.Text == t.Text {
					return tidy
				}
				return other.Text
			})))
	}
}

// neverSends returns the part of the address space that a network lies in, if
// no mail on the Internet comes from there (RFC 6890).
func neverSends(n netip.Prefix, documented bool) (netip.Prefix, bool) {
	inside := func(r netip.Prefix) bool { return r.Bits() <= n.Bits() && r.Contains(n.Addr()) }
	if documented && slices.ContainsFunc(documentation, inside) {
		return netip.Prefix{}, false
	}
	for _, ranges := range [][]netip.Prefix{documentation, notPublic} {
		if i := slices.IndexFunc(ranges, inside); i >= 0 {
			return ranges[i], true
		}
	}
	// Of IPv6, all outside of what is handed out.
	return n, n.Addr().Is6() && n.Bits() >= public6[0].Bits() && !within(n.Addr(), public6)
}

// size judges the length of the record and of the whole answer, as it is
// without signatures.
func (j *spfJudge) size() {
	root := j.f.Root
	answer := 12 + len(root.Domain) + 2 + 4
	for _, strs := range txtStrings(&root.Answer) {
		answer += 12 + len(strs) + len(strings.Join(strs, ""))
	}
	if n := len(root.Record.Text); n > 450 || answer > 512 {
		j.usual("spf.size", j.p.Domain, nil, "n", itoa(n), "answer", itoa(answer))
	}
}

// end judges what becomes of mail that nothing matched.
func (j *spfJudge) end() {
	n := j.f.Root
	for range maxSPFDepth { // through the redirects of the organization
		redirect := n.Record.term("redirect")
		if n.Record.term("all") != nil || redirect == nil {
			break
		}
		var next *SPFNode
		for i := range n.Branches {
			if b := &n.Branches[i]; b.Term.Pos == redirect.Pos {
				next = b.Node
			}
		}
		if next == nil || next.Record == nil {
			return // told by others, or not known
		}
		n = next
	}
	facts := spfFacts(&n.Answer)
	all := n.Record.term("all")
	if all == nil {
		// Not so where the end is there, with an error in it.
		text := n.Record.rewritten(unchanged)
		if r := parseSPF([]string{text}); text != "" && r.term("all") == nil && r.term("redirect") == nil {
			j.usual("spf.no_all", n.Domain, facts, "publish", j.publish(n, text+" ~all"))
		}
		return
	}
	soft := j.publish(n, n.Record.rewritten(func(t *SPFTerm) string {
		if t.Name == "all" {
			return "~all"
		}
		return t.Text
	}))
	switch all.Qualifier {
	case '?':
		j.usual("spf.neutral_all", n.Domain, facts, "term", shown(all.Text), "publish", soft)
	case '~':
		j.usual("spf.softfail", n.Domain, facts)
	case '+':
		advice := "End the record with `~all`, or with `-all` once reports show that nothing is missing."
		j.usual("spf.plus_all", j.p.Domain, facts, "term", shown(all.Text), "where", n.Domain, "advice", advice, "publish", soft)
	}
}
