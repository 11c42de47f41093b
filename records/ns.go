package records

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A NameServer is a server that a zone or its parent lists.
type NameServer struct {
	Name      string
	InZone    bool // the zone lists it
	InParent  bool // the parent does
	A, AAAA   Answer
	Addresses []AskedServer // that were asked directly
}

// An AskedServer is what a server answered itself, at one of its addresses.
type AskedServer struct {
	Addr           netip.Addr
	SOA, NS        Answer // of the zone
	MX, TXT, DMARC Answer // of the domain
	Recurses       bool   // it resolves foreign names for anyone
}

// A recursion test is what a Direct resolver may offer besides.
type recursionTest interface {
	Recurses(ctx context.Context, server netip.AddrPort, name string) bool
}

// Bounds on what is asked directly.
const (
	maxServers     = 13 // names
	maxServerAddrs = 16 // addresses of all of them
	maxParentAddrs = 3
)

// foreignName is one that is in nobody's zone but the root servers' own.
const foreignName = "a.root-servers.net"

// nsNames returns the names in NS records, sorted, each once.
func nsNames(rrs []dns.RR) []string {
	var names []string
	for _, rr := range rrs {
		if ns, ok := rr.(*dns.NS); ok {
			names = append(names, bareName(ns.Ns))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// gatherServers asks for the name servers of the zone, and asks them and those
// of the parent directly.
func gatherServers(ctx context.Context, g *gatherer) {
	n := &g.p.Name
	n.NS = g.ask(ctx, n.Zone, dns.TypeNS)
	for _, name := range nsNames(n.NS.RRs) {
		if len(n.Servers) < maxServers {
			n.Servers = append(n.Servers, NameServer{Name: name, InZone: true})
		}
	}
	n.asked = g.o.Direct != nil
	var wg sync.WaitGroup
	left := &budget{left: maxServerAddrs}
	for i := range n.Servers {
		wg.Go(func() { n.Servers[i].gather(ctx, g, left) })
	}
	if n.asked && n.Parent != "" {
		wg.Go(func() { n.Delegation = gatherDelegation(ctx, g, n.Parent, n.Zone) })
	}
	wg.Wait()
	known := len(n.Servers)
	for _, name := range nsNames(n.Delegation) {
		i := slices.IndexFunc(n.Servers, func(s NameServer) bool { return s.Name == name })
		if i < 0 && len(n.Servers) < maxServers {
			n.Servers = append(n.Servers, NameServer{Name: name})
			i = len(n.Servers) - 1
		}
		if i >= 0 {
			n.Servers[i].InParent = true
		}
	}
	for i := known; i < len(n.Servers); i++ {
		wg.Go(func() { n.Servers[i].gather(ctx, g, left) })
	}
	wg.Wait()
}

// A budget is shared by what is done side by side.
type budget struct {
	mu   sync.Mutex
	left int
}

func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left--
	return b.left >= 0
}

// gather looks a server up and asks it.
func (s *NameServer) gather(ctx context.Context, g *gatherer, left *budget) {
	var wg sync.WaitGroup
	wg.Go(func() { s.A = g.ask(ctx, s.Name, dns.TypeA) })
	wg.Go(func() { s.AAAA = g.ask(ctx, s.Name, dns.TypeAAAA) })
	wg.Wait()
	if g.o.Direct == nil {
		return
	}
	for _, addr := range addresses(s.A, s.AAAA) {
		// Others are inside of somebody's network: they are none of our business.
		if reachable(addr, g.o.Documentation) && left.take() {
			s.Addresses = append(s.Addresses, AskedServer{Addr: addr})
		}
	}
	n := &g.p.Name
	for i := range s.Addresses {
		a := &s.Addresses[i]
		for _, ask := range []struct {
			to    *Answer
			name  string
			qtype uint16
		}{{&a.SOA, n.Zone, dns.TypeSOA}, {&a.NS, n.Zone, dns.TypeNS}, {&a.MX, g.p.Domain, dns.TypeMX}, {&a.TXT, g.p.Domain, dns.TypeTXT}, {&a.DMARC, policyName(g.p.Domain), dns.TypeTXT}} {
			wg.Go(func() { *ask.to = g.askServer(ctx, address(a.Addr), ask.name, ask.qtype) })
		}
		if test, ok := g.o.Direct.(recursionTest); ok {
			wg.Go(func() { a.Recurses = test.Recurses(ctx, address(a.Addr), foreignName) })
		}
	}
	wg.Wait()
}

// gatherDelegation asks servers of the parent what they say about a zone.
func gatherDelegation(ctx context.Context, g *gatherer, parent, zone string) []dns.RR {
	var addrs []netip.Addr
	servers := nsNames(g.ask(ctx, parent, dns.TypeNS).RRs)
	servers = servers[:min(len(servers), maxParentAddrs)]
	found := make([][2]Answer, len(servers))
	var wg sync.WaitGroup
	for i, server := range servers {
		wg.Go(func() { found[i][0] = g.ask(ctx, server, dns.TypeA) })
		wg.Go(func() { found[i][1] = g.ask(ctx, server, dns.TypeAAAA) })
	}
	wg.Wait()
	for _, family := range []int{0, 1} {
		for i := range found {
			for _, addr := range addresses(found[i][family]) {
				if reachable(addr, g.o.Documentation) && len(addrs) < maxParentAddrs {
					addrs = append(addrs, addr)
				}
			}
		}
	}
	answers := make([]Answer, len(addrs))
	for i, addr := range addrs {
		wg.Go(func() { answers[i] = g.askServer(ctx, address(addr), zone, dns.TypeNS) })
	}
	wg.Wait()
	for _, a := range answers {
		// One with authority speaks as a server of the zone, not of its parent.
		if len(a.Referral) > 0 && bareName(a.Referral[0].Header().Name) == zone {
			return a.Referral
		}
	}
	return nil
}

// authoritative reports whether a server serves the zone at an address.
func (a *AskedServer) authoritative() bool { return a.SOA.State == Found && a.SOA.AA }

// silent reports whether a server did not answer at all.
func (a *AskedServer) silent() bool {
	return a.SOA.State == Failed && a.SOA.Rcode == 0 && a.SOA.Referral == nil
}

// deafFamilies returns the families of addresses over which no server answers
// us, which says more about our network than about theirs.
func (n *NameFound) deafFamilies() map[string]bool {
	deaf := map[string]bool{}
	for i := range n.Servers {
		for j := range n.Servers[i].Addresses {
			a := &n.Servers[i].Addresses[j]
			silent, known := deaf[familyOf(a.Addr)]
			deaf[familyOf(a.Addr)] = a.silent() && (silent || !known)
		}
	}
	return deaf
}

func familyOf(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func (n *NameFound) checkServers(p *Published, v *verdicts) {
	if n.NS.State != Found {
		return
	}
	before := len(v.all)
	names := nsNames(n.NS.RRs)
	if len(names) == 1 {
		v.add("ns.single", n.Zone, "ns", names[0]).on(n.NS)
	}
	n.checkAddresses(v)
	if !n.asked {
		return
	}
	deaf := n.deafFamilies()
	for _, family := range []string{"IPv4", "IPv6"} {
		if deaf[family] {
			f := v.add("dns.lookup_failed", n.Zone, "type", "SOA", "rcode", "none of its name servers answers us over "+family, "ede", "")
			f.Severity = Unknown
		}
	}
	for i := range n.Servers {
		s := &n.Servers[i]
		for j := range s.Addresses {
			a := &s.Addresses[j]
			at := calledServer(s, a)
			switch {
			case a.silent() && deaf[familyOf(a.Addr)]:
			case a.silent():
				v.add("ns.no_answer", s.Name, "zone", n.Zone, "ip", a.Addr.String(), "why", whyFailed(a.SOA)).on(a.SOA)
			case !a.authoritative():
				what := "answers without authority"
				if a.SOA.Rcode != 0 {
					what = "answers " + dns.RcodeToString[a.SOA.Rcode]
				} else if a.SOA.Referral != nil {
					what = "refers to other servers"
				}
				v.add("ns.lame", s.Name, "zone", n.Zone, "ip", a.Addr.String(), "answer", what).on(a.SOA)
			}
			if a.Recurses {
				v.add("ns.open_resolver", s.Name, "ip", a.Addr.String())
			}
			for _, answer := range []Answer{a.TXT, a.DMARC, a.MX} {
				if answer.TCPFailed {
					v.add("dns.tcp_fails", answer.Name, "ns", at, "type", dns.TypeToString[answer.Type]).on(answer)
				}
			}
		}
	}
	n.checkDelegation(v)
	n.checkSame(v)
	bad := slices.ContainsFunc(v.all[before:], func(f Finding) bool { return f.Severity >= Warning })
	if !bad && n.Delegation != nil {
		provider := map[string]bool{}
		for _, name := range names {
			provider[dmarc.OrganizationalDomain(name)] = true
		}
		var all []string
		for name := range provider {
			all = append(all, name)
		}
		slices.Sort(all)
		v.add("ns.provider", n.Zone, "provider", listed(all), "n", decimal(len(names))).on(n.NS)
	}
}

// checkAddresses judges the addresses of name servers.
func (n *NameFound) checkAddresses(v *verdicts) {
	nets := map[string]bool{}
	family := map[bool]bool{}
	ipv6, known := false, true
	for i := range n.Servers {
		s := &n.Servers[i]
		if a := firstAlias(s.A, s.AAAA); a != nil {
			v.add("ns.cname", s.Name, "zone", n.Zone, "target", a.Chain[len(a.Chain)-1]).on(*a)
		}
		addrs := addresses(s.A, s.AAAA)
		if len(addrs) == 0 && s.A.Absent() && s.AAAA.Absent() {
			v.add("ns.unresolvable", s.Name, "zone", n.Zone).on(s.A, s.AAAA)
		}
		known = known && s.A.State != Failed && s.AAAA.State != Failed
		for _, addr := range addrs {
			if !reachable(addr, n.documentation) {
				v.add("ns.not_public", s.Name, "ip", addr.String(), "zone", n.Zone).on(s.A, s.AAAA)
			}
			bits := 24
			if addr.Is6() {
				bits, ipv6 = 48, true
			}
			net, err := addr.Prefix(bits)
			if err == nil {
				nets[net.String()], family[addr.Is6()] = true, true
			}
		}
	}
	if known && len(n.Servers) > 1 && len(nets) > 0 && len(nets) == len(family) {
		var all []string
		for net := range nets {
			all = append(all, net)
		}
		slices.Sort(all)
		v.add("ns.same_network", n.Zone, "net", strings.Join(all, " and ")).on(n.NS)
	}
	if known && !ipv6 && len(nets) > 0 {
		v.add("ns.no_ipv6", n.Zone).on(n.NS)
	}
}

func firstAlias(answers ...Answer) *Answer {
	for i := range answers {
		if len(answers[i].Chain) > 1 {
			return &answers[i]
		}
	}
	return nil
}

// checkDelegation compares what the parent says with the zone.
func (n *NameFound) checkDelegation(v *verdicts) {
	if n.Delegation == nil {
		return
	}
	parent, child := nsNames(n.Delegation), nsNames(n.NS.RRs)
	if !slices.Equal(parent, child) {
		v.add("ns.parent_child_differ", n.Zone, "parent", listed(parent), "child", listed(child)).on(n.NS)
	}
	for i := range n.Servers {
		s := &n.Servers[i]
		var glue []netip.Addr
		for _, rr := range n.Delegation {
			if bareName(rr.Header().Name) == s.Name {
				glue = append(glue, addresses(Answer{RRs: []dns.RR{rr}})...)
			}
		}
		inside := s.Name == n.Zone || strings.HasSuffix(s.Name, "."+n.Zone)
		if len(glue) == 0 || !inside || s.A.State == Failed || s.AAAA.State == Failed {
			continue
		}
		own := addresses(s.A, s.AAAA)
		// A referral may leave some glue out; what it has must be right.
		wrong := slices.DeleteFunc(glue, func(a netip.Addr) bool { return slices.Contains(own, a) })
		if len(wrong) > 0 {
			v.add("ns.glue_differs", s.Name, "zone", n.Zone, "glue", joinAddrs(wrong), "addr", joinAddrs(own)).on(s.A, s.AAAA)
		}
	}
}

func joinAddrs(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	if all == nil {
		return "no address"
	}
	return listed(all)
}

// calledServer is how a server is called, at one of its addresses.
func calledServer(s *NameServer, a *AskedServer) string {
	return fmt.Sprintf("%s (%s)", s.Name, a.Addr)
}

// serving yields the servers that answer with authority, and how to call them.
func (n *NameFound) serving() iter.Seq2[string, *AskedServer] {
	return func(yield func(string, *AskedServer) bool) {
		for i := range n.Servers {
			s := &n.Servers[i]
			for j := range s.Addresses {
				a := &s.Addresses[j]
				if a.authoritative() && !yield(calledServer(s, a), a) {
					return
				}
			}
		}
	}
}

// checkSame compares what the servers say about the domain.
func (n *NameFound) checkSame(v *verdicts) {
	for _, kind := range []struct {
		name string
		of   func(*AskedServer) Answer
		keep string // of texts: how they begin
	}{
		{"MX", func(a *AskedServer) Answer { return a.MX }, ""},
		{"SPF", func(a *AskedServer) Answer { return a.TXT }, "v=spf1"},
		{"DMARC", func(a *AskedServer) Answer { return a.DMARC }, "v=dmarc1"},
	} {
		first, said := "", ""
		for name, a := range n.serving() {
			answer := kind.of(a)
			if answer.State == Failed || !answer.AA {
				continue
			}
			if says := recordSet(answer, kind.keep); first == "" {
				first, said = name, says
			} else if said != says {
				v.add("ns.answers_differ", n.Zone, "type", kind.name, "ns1", first, "a", excerpt(said), "ns2", name, "b", excerpt(says)).on(answer)
				break
			}
		}
	}
}

// recordSet is the records of an answer as a text that does not depend on
// their order.
func recordSet(a Answer, keep string) string {
	var all []string
	for _, rr := range a.RRs {
		text := strings.TrimPrefix(rr.String(), rr.Header().String())
		if keep != "" {
			text = texts(Answer{RRs: []dns.RR{rr}})[0]
			if !strings.HasPrefix(strings.ToLower(text), keep) {
				continue
			}
		}
		all = append(all, text)
	}
	slices.Sort(all)
	if all == nil {
		return "nothing"
	}
	return strings.Join(all, ", ")
}
