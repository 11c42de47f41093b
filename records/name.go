package records

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// NameFound is what was found about the domain itself and its delegation.
type NameFound struct {
	Invalid string // why the domain is no name; nothing was looked up then
	SOA     Answer // of the domain; tells whether it exists
	CNAME   Answer // of the domain
	TXT     Answer // of the domain
	Random  Answer // TXT of a name below that nobody publishes

	Zone       string // that holds the domain; "" if it is not known
	ZoneSOA    Answer
	NS         Answer // of the zone
	DS         Answer // of the zone
	DNSKEY     Answer // of the zone
	NSEC3PARAM Answer // of the zone
	Parent     string // zone that delegates Zone; "" if it is not known
	Servers    []NameServer
	// Delegation is what the parent's servers say about Zone: the names of its
	// servers, and addresses. Nil if it is not known.
	Delegation []dns.RR
	MailZones  []MailZone

	documentation bool // addresses of documentation are public
	asked         bool // name servers were asked directly
}

// maxAncestors bounds how many names above the domain are asked for a zone.
const maxAncestors = 8

// ancestors returns the names above a name, the closest first.
func ancestors(name string) []string {
	var all []string
	for {
		_, above, ok := strings.Cut(name, ".")
		if !ok || len(all) == maxAncestors {
			return all
		}
		name = above
		all = append(all, name)
	}
}

func gatherName(ctx context.Context, g *gatherer) {
	n, domain := &g.p.Name, g.p.Domain
	n.documentation = g.o.Documentation
	label := g.o.RandomLabel
	if label == "" {
		label = "x" + strings.ToLower(rand.Text()[:15])
	}
	// All that may be wanted of the names above is asked for at once: which of
	// them is a zone is known afterwards.
	above := ancestors(domain)
	soas := make([]Answer, len(above))
	var wg sync.WaitGroup
	ask := func(to *Answer, name string, qtype uint16) {
		wg.Go(func() { *to = g.ask(ctx, name, qtype) })
	}
	for i, name := range above {
		ask(&soas[i], name, dns.TypeSOA)
		wg.Go(func() { g.ask(ctx, name, dns.TypeNS) })
	}
	ask(&n.SOA, domain, dns.TypeSOA)
	ask(&n.CNAME, domain, dns.TypeCNAME)
	ask(&n.TXT, domain, dns.TypeTXT)
	ask(&n.Random, label+"."+domain, dns.TypeTXT)
	for _, qtype := range []uint16{dns.TypeNS, dns.TypeDS, dns.TypeDNSKEY, dns.TypeNSEC3PARAM} {
		wg.Go(func() { g.ask(ctx, domain, qtype) })
	}
	wg.Go(func() { n.MailZones = gatherMailZones(ctx, g) })
	wg.Wait()

	zones := append([]Answer{n.SOA}, soas...)
	at := apexOf(zones)
	if at < 0 {
		return
	}
	n.Zone, n.ZoneSOA = zones[at].Name, zones[at]
	if above := apexOf(zones[at+1:]); above >= 0 && zones[at].State != Failed {
		n.Parent = zones[at+1+above].Name
	}
	if n.Zone == domain || strings.Contains(n.Zone, ".") {
		ask(&n.DS, n.Zone, dns.TypeDS)
		ask(&n.DNSKEY, n.Zone, dns.TypeDNSKEY)
		ask(&n.NSEC3PARAM, n.Zone, dns.TypeNSEC3PARAM)
		wg.Go(func() { gatherServers(ctx, g) })
		wg.Wait()
	}
}

// apexOf returns the first answer that is the SOA of its own name, or -1. One
// that failed before that leaves it open.
func apexOf(soas []Answer) int {
	for i, a := range soas {
		switch {
		case a.State == Found && a.Chain == nil:
			return i
		case a.State == Failed:
			return -1
		}
	}
	return -1
}

// nonexistent reports whether the domain is known not to exist. Any type
// shows it (RFC 8020).
func (n *NameFound) nonexistent() bool {
	return n.SOA.nonexistent() || n.TXT.nonexistent() || n.CNAME.nonexistent()
}

func checkName(p *Published) []Finding {
	n := &p.Name
	v := &verdicts{}
	if n.Invalid != "" {
		v.add("dns.name_invalid", excerpt(p.Domain), "why", n.Invalid)
		return v.all
	}
	if n.nonexistent() {
		v.add("dns.nxdomain", p.Domain).on(n.SOA, n.TXT)
		return v.all
	}
	n.checkFailed(p, v)
	if n.CNAME.State == Found {
		if c, ok := n.CNAME.RRs[0].(*dns.CNAME); ok {
			v.add("dns.cname_at_domain", p.Domain, "target", bareName(c.Target)).on(n.CNAME)
		}
	}
	dmarc := Answer{}
	if p.DMARC.Walk != nil {
		dmarc = p.DMARC.answer(p.Domain)
	}
	for _, a := range []Answer{n.TXT, dmarc} {
		if a.State == Found && a.Size > 512 {
			f := v.add("dns.txt_large", a.Name, "n", decimal(a.Size), "limit", "512").on(a)
			f.Severity = Info
			if a.Size > udpSize {
				f.Severity, f.Values[1].Text = Warning, decimal(udpSize)
			}
		}
	}
	if n.Random.State == Found {
		v.add("dns.wildcard_txt", p.Domain, "text", excerpt(strings.Join(texts(n.Random), " | "))).on(n.Random)
	}
	n.checkServers(p, v)
	checkTTL(p, v)
	checkSOA(p, v)
	n.checkDNSSEC(p, v)
	return v.all
}

// checkFailed tells of lookups that failed, whatever they were for.
func (n *NameFound) checkFailed(p *Published, v *verdicts) {
	bogus := map[string]bool{}
	for _, a := range p.Failed {
		switch {
		case a.Loop:
			if !slices.ContainsFunc(v.all, func(f Finding) bool { return f.ID == "dns.cname_loop" && f.Subject == a.Name }) {
				v.add("dns.cname_loop", a.Name, "chain", strings.Join(a.Chain, " -> ")).on(a)
			}
		case a.Bogus:
			zone := a.Name
			if zone == p.Domain || strings.HasSuffix(zone, "."+p.Domain) {
				zone = p.Domain
			}
			if !bogus[zone] && len(bogus) < maxTold {
				bogus[zone] = true
				v.add("dnssec.bogus", zone, "ede", cmp.Or(a.EDE, "no reason is given")).on(a)
			}
		case a.TCPFailed:
			v.add("dns.tcp_fails", a.Name, "ns", a.Server, "type", dns.TypeToString[a.Type]).on(a)
		default:
			v.unknown(a)
		}
	}
}

// domainName returns a domain in lower-case A-labels without the final dot, or
// says why it is no name of a host.
func domainName(text string) (string, error) {
	name := strings.TrimSuffix(strings.TrimSpace(text), ".")
	if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", errors.New("it is not a valid internationalized name")
		}
		name = ascii
	}
	name = strings.ToLower(name)
	if name == "" {
		return "", errors.New("it is empty")
	}
	if len(name) > 253 {
		return "", fmt.Errorf("it has %d octets, and a name may have 253", len(name))
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", errors.New("it is an address")
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		switch {
		case label == "":
			return "", errors.New("a label is empty")
		case len(label) > 63:
			return "", fmt.Errorf("a label has %d octets, and may have 63", len(label))
		case label[0] == '-' || label[len(label)-1] == '-':
			return "", errors.New("a label begins or ends with a hyphen")
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return "", errors.New("it holds what is neither letter, digit nor hyphen")
			}
		}
		if strings.HasPrefix(label, "xn--") {
			if _, err := idna.Lookup.ToUnicode(label); err != nil {
				return "", errors.New("a label that begins with xn-- stands for no text")
			}
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", errors.New("the last label is a number")
	}
	return name, nil
}
