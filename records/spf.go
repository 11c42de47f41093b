package records

import (
	"context"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/dmarc"
)

// SPFFound is what was found: the record of the domain with all that it leads
// to, as if no term matched. What a receiver finds for one address is told by
// checkHost.
type SPFFound struct {
	Root    *SPFNode // nil before a lookup
	Lookups int      // terms of the whole tree that a receiver counts; ten are allowed
	Voids   int      // those of them that find nothing for any sender; two are allowed
	Voids4  int      // that find nothing for senders with IPv4, Voids among them
	Voids6  int      // that find nothing for senders with IPv6, Voids among them
	Cut     bool     // the tree is larger than what was looked at

	Obsolete Answer      // records of type SPF
	Senders  []SPFSender // the domain's own, and whether they pass
	// Registrable answers for the registrable domains of names that do not
	// exist, by name.
	Registrable map[string]Answer

	// Where the domain has no record:
	Elsewhere []Answer // TXT of names at which one is published by mistake
	MX        Answer   // of the domain

	documentation bool // addresses of documentation are public
}

// An SPFNode is a domain whose record is in the tree.
type SPFNode struct {
	Domain   string
	Answer   Answer     // for TXT
	Texts    [][]string // its SPF records, as character-strings; one is right
	Record   *SPFRecord // nil unless there is one
	Branches []SPFBranch
}

// An SPFBranch is a term of a record, with what it leads to.
type SPFBranch struct {
	Term       SPFTerm
	Number     string         // its place in the tree: "3.1"
	Target     string         // the domain that it is about; "" if it is about none, or it depends on the message
	Unread     bool           // it stands behind all, or is a redirect beside all: it costs nothing
	PerMessage bool           // its macros depend on the message, and so does its result
	Loop       bool           // it leads back to a record that it is part of
	Cut        bool           // it was not looked up, because the tree is too large
	Void4      bool           // it finds nothing for senders with IPv4
	Void6      bool           // and for those with IPv6
	Hosts      []string       // of mx
	Nets       []netip.Prefix // that it stands for
	Answers    []Answer       // to its own questions
	Node       *SPFNode       // of include and redirect

	Own   int  // 1 if a receiver counts it
	Cost  int  // with all below it
	Total int  // of the tree up to and with it
	Over  bool // it is the one term too many
	Voids int  // how many terms find nothing up to and with it, if it is one of them
}

// An SPFSender is an own sender, checked as a receiver does.
type SPFSender struct {
	Sender  Sender
	Verdict SPFVerdict
}

// Bounds on the tree. What goes beyond any of them is a permerror many times over.
const (
	maxSPFQuestions = 150
	maxSPFInFlight  = 64
	maxSPFDepth     = 16
	maxSPFNodes     = 100
	maxSPFBranches  = 1000
	maxSPFOctets    = 256 << 10 // of records read
	maxSPFSenders   = 50
)

// A spfTree is a tree while it grows: level by level, with the questions of
// one level asked side by side.
type spfTree struct {
	ask func(ctx context.Context, name string, qtype uint16) Answer

	found   *SPFFound
	org     string // organizational domain of the root
	pending []spfWork

	nodes, branches, octets int

	mu    sync.Mutex // over the rest, once senders are checked
	asked map[spfQuestion]Answer
	left  int // questions that may still be asked
}

type spfQuestion struct {
	name  string
	qtype uint16
}

// A spfWork is some questions, and what is to be done with the answers.
type spfWork struct {
	questions []spfQuestion
	then      func(answers []Answer)
}

func (t *spfTree) after(then func(answers []Answer), questions ...spfQuestion) {
	t.pending = append(t.pending, spfWork{questions, then})
}

// grow asks until nothing is pending.
func (t *spfTree) grow(ctx context.Context) {
	for len(t.pending) > 0 {
		level := t.pending
		t.pending = nil
		var open []spfQuestion
		for _, w := range level {
			for _, q := range w.questions {
				if _, known := t.asked[q]; !known && t.left > 0 {
					t.left--
					t.asked[q] = Answer{}
					open = append(open, q)
				}
			}
		}
		answers := make([]Answer, len(open))
		var group errgroup.Group
		group.SetLimit(maxSPFInFlight)
		for i, q := range open {
			group.Go(func() error {
				answers[i] = t.ask(ctx, q.name, q.qtype)
				return nil
			})
		}
		_ = group.Wait() // none fails
		for i, q := range open {
			t.asked[q] = answers[i]
		}
		for _, w := range level {
			answers := make([]Answer, len(w.questions))
			for i, q := range w.questions {
				a, ok := t.asked[q]
				if !ok {
					t.found.Cut = true
					a = unasked(q)
				}
				answers[i] = a
			}
			w.then(answers)
		}
	}
}

const errUnasked = "not asked: the record leads to too many names"

func unasked(q spfQuestion) Answer {
	return Answer{Name: q.name, Type: q.qtype, Err: errUnasked}
}

// Lookup is that of Resolver: it remembers what the tree has asked.
func (t *spfTree) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	q := spfQuestion{name, qtype}
	t.mu.Lock()
	a, known := t.asked[q]
	if known || t.left == 0 {
		t.mu.Unlock()
		if !known {
			return unasked(q)
		}
		return a
	}
	t.left--
	t.mu.Unlock()
	a = t.ask(ctx, name, qtype)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked[q] = a
	return a
}

// open adds a domain to the tree. path is the domains that lead to it, and it.
func (t *spfTree) open(domain, number string, path []string) *SPFNode {
	n := &SPFNode{Domain: domain}
	t.nodes++
	t.after(func(answers []Answer) {
		n.Answer = answers[0]
		t.gone(&n.Answer)
		n.Texts = spfRecords(&n.Answer)
		if len(n.Texts) != 1 {
			return
		}
		if t.octets += len(strings.Join(n.Texts[0], "")); t.octets > maxSPFOctets && t.nodes > 1 {
			t.found.Cut = true
			return
		}
		n.Record = parseSPF(n.Texts[0])
		n.Branches = t.branch(n.Record, domain, number, path)
	}, spfQuestion{domain, dns.TypeTXT})
	return n
}

// branch follows the terms of a record.
func (t *spfTree) branch(r *SPFRecord, domain, number string, path []string) []SPFBranch {
	room := min(len(r.Terms), maxSPFBranches-t.branches)
	if room < len(r.Terms) {
		t.found.Cut = true
	}
	t.branches += room
	branches := make([]SPFBranch, room)
	hasAll, ended := r.term("all") != nil, false
	for i := range branches {
		b := &branches[i]
		b.Term = r.Terms[i]
		b.Number = number + itoa(i+1)
		switch {
		case b.Term.Name == "redirect":
			b.Unread = hasAll
		case !b.Term.modifier():
			b.Unread = ended
			ended = ended || b.Term.Name == "all"
		}
		if b.Term.Net.IsValid() {
			b.Nets = []netip.Prefix{b.Term.Net.Masked()}
		}
		if b.Term.counts() && !b.Unread {
			b.Own = 1
			t.follow(b, domain, path)
		}
	}
	return branches
}

// follow asks what a term leads to.
func (t *spfTree) follow(b *SPFBranch, domain string, path []string) {
	term := &b.Term
	b.Target = domain
	if term.Domain != "" {
		name, ok := staticName(term.Domain, domain)
		if !ok {
			b.Target, b.PerMessage = "", true
			return
		}
		if b.Target, ok = expandedName(name); !ok {
			b.Target = ""
			return
		}
	}
	switch term.Name {
	case "ptr":
		b.PerMessage = true
	case "exists":
		t.after(func(answers []Answer) {
			b.Answers = answers
			b.Void4 = answers[0].Absent()
			b.Void6 = b.Void4
			t.gone(&answers[0])
		}, spfQuestion{b.Target, dns.TypeA})
	case "a":
		t.after(func(answers []Answer) {
			b.Answers = answers
			b.Void4, b.Void6 = answers[0].Absent(), answers[1].Absent()
			b.addNets(answers)
			t.gone(&answers[0])
		}, spfQuestion{b.Target, dns.TypeA}, spfQuestion{b.Target, dns.TypeAAAA})
	case "mx":
		t.after(func(answers []Answer) {
			b.Answers = answers
			b.Void4 = answers[0].Absent()
			b.Void6 = b.Void4
			t.gone(&answers[0])
			b.Hosts = mxHosts(&answers[0])
			var questions []spfQuestion
			for _, host := range b.Hosts[:min(len(b.Hosts), spfHosts)] {
				questions = append(questions, spfQuestion{host, dns.TypeA}, spfQuestion{host, dns.TypeAAAA})
			}
			t.after(func(answers []Answer) {
				b.Answers = append(b.Answers, answers...)
				b.addNets(answers)
				for i := range answers {
					t.gone(&answers[i])
				}
			}, questions...)
		}, spfQuestion{b.Target, dns.TypeMX})
	case "include", "redirect":
		for _, name := range path {
			b.Loop = b.Loop || name == b.Target
		}
		switch {
		case b.Loop:
		case len(path) >= maxSPFDepth || t.nodes >= maxSPFNodes:
			b.Cut, t.found.Cut = true, true
		default:
			b.Node = t.open(b.Target, b.Number+".", append(path[:len(path):len(path)], b.Target))
		}
	}
}

// staticName expands what does not depend on a message.
func staticName(spec, domain string) (string, bool) {
	if strings.Trim(macroLetters(spec), "d") != "" {
		return "", false
	}
	name, err := expandMacros(spec, false, func(byte) string { return domain })
	return name, err == nil
}

func (b *SPFBranch) addNets(answers []Answer) {
	for _, addr := range addresses(answers...) {
		bits := b.Term.Bits4
		if addr.Is6() {
			bits = b.Term.Bits6
		}
		b.Nets = append(b.Nets, netip.PrefixFrom(addr, bits).Masked())
	}
}

// gone asks whether a name that does not exist can be registered.
func (t *spfTree) gone(a *Answer) {
	org := goneDomain(a)
	if org == "" || org == t.org {
		return
	}
	if _, known := t.found.Registrable[org]; known {
		return
	}
	t.found.Registrable[org] = Answer{}
	t.after(func(answers []Answer) { t.found.Registrable[org] = answers[0] }, spfQuestion{org, dns.TypeSOA})
}

// goneDomain returns the registrable domain of the name that an answer says
// does not exist: the one asked for, or the last of its aliases.
func goneDomain(a *Answer) string {
	if a.State != NXDomain {
		return ""
	}
	name := a.Name
	if len(a.Chain) > 0 {
		name = a.Chain[len(a.Chain)-1]
	}
	org := dmarc.OrganizationalDomain(strings.ToLower(strings.TrimSuffix(name, ".")))
	if !strings.Contains(org, ".") {
		return ""
	}
	return org
}

func gatherSPF(ctx context.Context, g *gatherer) {
	f := &g.p.SPF
	f.Registrable, f.documentation = map[string]Answer{}, g.o.Documentation
	domain := g.p.Domain
	t := &spfTree{
		ask: g.ask, found: f, org: dmarc.OrganizationalDomain(domain),
		asked: map[spfQuestion]Answer{}, left: maxSPFQuestions,
	}
	f.Root = t.open(domain, "", []string{domain})
	t.after(func(answers []Answer) { f.Obsolete = answers[0] }, spfQuestion{domain, dns.TypeSPF})
	t.grow(ctx)
	f.count()
	if len(f.Root.Texts) == 0 && f.Root.Answer.State != Failed {
		t.after(func(answers []Answer) { f.MX = answers[0] }, spfQuestion{domain, dns.TypeMX})
		for _, name := range []string{"_spf." + domain, "spf." + domain, domain + "." + domain} {
			if isDNSName(name) {
				t.after(func(answers []Answer) { f.Elsewhere = append(f.Elsewhere, answers[0]) }, spfQuestion{name, dns.TypeTXT})
			}
		}
		t.grow(ctx)
	}
	for _, s := range g.o.Senders {
		if s.Own && s.Addr.IsValid() && len(f.Senders) < maxSPFSenders {
			f.Senders = append(f.Senders, SPFSender{Sender: s})
		}
	}
	var group errgroup.Group
	group.SetLimit(maxSPFInFlight)
	for i := range f.Senders {
		group.Go(func() error {
			s := &f.Senders[i]
			helo := s.Sender.HELO
			if helo == "" {
				helo = domain
			}
			s.Verdict = checkHost(ctx, t, s.Sender.Addr, helo, "postmaster@"+domain, SPFOptions{Now: g.o.Now})
			return nil
		})
	}
	_ = group.Wait() // none fails
}

// count counts what receivers count, in the order in which they look terms up.
func (f *SPFFound) count() {
	f.Lookups, f.Voids, f.Voids4, f.Voids6 = 0, 0, 0, 0
	f.countNode(f.Root)
}

func (f *SPFFound) countNode(n *SPFNode) {
	for i := range n.Branches {
		b := &n.Branches[i]
		before := f.Lookups
		f.Lookups += b.Own
		b.Over = b.Own > 0 && f.Lookups == spfLookups+1
		if b.Node != nil {
			b.Void4 = b.Node.Answer.Absent()
			b.Void6 = b.Void4
		}
		if b.Void4 {
			f.Voids4++
		}
		if b.Void6 {
			f.Voids6++
		}
		if b.Void4 && b.Void6 {
			f.Voids++
			b.Voids = f.Voids
		}
		if b.Node != nil {
			f.countNode(b.Node)
		}
		b.Total, b.Cost = f.Lookups, f.Lookups-before
	}
	if n.Record == nil {
		return
	}
	for i := len(n.Branches); i < len(n.Record.Terms); i++ { // what was not looked at
		if n.Record.Terms[i].counts() {
			f.Lookups++
		}
	}
}
