package records

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/net/publicsuffix"
)

// maxMailHosts are the mail hosts that are looked at. Receivers of that many
// do not exist; a stranger's zone may hold thousands.
const maxMailHosts = 30

// MXFound is which hosts take mail for a domain: its MX records (RFC 5321, section 5.1), and the addresses of the
// hosts that they name.
type MXFound struct {
	Answer  Answer     // the MX records
	A, AAAA Answer     // of the domain itself, asked if there is no MX
	Hosts   []MailHost // in the order of preference, each once; not those that cannot be hosts
	Bad     []string   // what stands in place of a host name
	Twice   []string   // hosts that are listed more than once
	Null    bool       // a null MX (RFC 7505) is among the records
	Left    int        // hosts that were not looked at, for there are too many

	expected      []string // hosts that the operator named
	documentation bool     // addresses of documentation are public
}

// A MailHost is a host that takes mail for a domain.
type MailHost struct {
	Name       string
	Preference uint16
	A, AAAA    Answer
	// The registrable domain of a host that does not exist, and what was
	// answered for it and for the suffix that it is registered under. The
	// suffix is asked only if it is in no list.
	Registrable    string
	Domain, Suffix Answer
}

// addresses returns the addresses of a host.
func (h *MailHost) addresses() []netip.Addr { return addresses(h.A, h.AAAA) }

// placeholder reports whether a host stands in an MX only to show who owns
// the domain (RFC 6761, section 6.4).
func (h *MailHost) placeholder() bool {
	return h.Name == "invalid" || strings.HasSuffix(h.Name, ".invalid")
}

// readMX reads the hosts of an answer to MX.
func readMX(a Answer) MXFound {
	m := MXFound{Answer: a}
	var records []*dns.MX
	for _, rr := range a.RRs {
		if mx, ok := rr.(*dns.MX); ok {
			records = append(records, mx)
		}
	}
	slices.SortStableFunc(records, func(a, b *dns.MX) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(plainHost(a.Mx), plainHost(b.Mx)))
	})
	seen := map[string]bool{}
	for _, mx := range records {
		name := plainHost(mx.Mx)
		switch {
		case name == "":
			m.Null = true
		case seen[name]:
			if !slices.Contains(m.Twice, name) {
				m.Twice = append(m.Twice, name)
			}
		case len(m.Hosts) == maxMailHosts:
			m.Left++
		case !isHostName(name):
			m.Bad = append(m.Bad, name)
		default:
			m.Hosts = append(m.Hosts, MailHost{Name: name, Preference: mx.Preference})
		}
		seen[name] = true
	}
	if len(m.Bad) > maxMailHosts {
		m.Left += len(m.Bad) - maxMailHosts
		m.Bad = m.Bad[:maxMailHosts]
	}
	return m
}

// isHostName reports whether a name can be that of a mail host: two labels or
// more of letters, digits and hyphens (RFC 1123, section 2.1), and no address.
func isHostName(name string) bool {
	if len(name) > 253 || !strings.Contains(name, ".") {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				return false
			}
		}
	}
	return !digits(labels[len(labels)-1])
}

// mailHosts returns the mail hosts of a domain that can be looked up, without
// their addresses.
func mailHosts(ctx context.Context, g *gatherer) MXFound {
	m := readMX(g.ask(ctx, g.p.Domain, dns.TypeMX))
	m.Hosts = slices.DeleteFunc(m.Hosts, func(h MailHost) bool { return h.placeholder() })
	return m
}

func gatherMX(ctx context.Context, g *gatherer) {
	m := readMX(g.ask(ctx, g.p.Domain, dns.TypeMX))
	m.expected, m.documentation = g.o.MXHosts, g.o.Documentation
	if m.Answer.Absent() {
		askBoth(ctx, g, g.p.Domain, &m.A, &m.AAAA)
	}
	var wg sync.WaitGroup
	for i := range m.Hosts {
		h := &m.Hosts[i]
		if h.placeholder() {
			continue
		}
		wg.Go(func() {
			askBoth(ctx, g, h.Name, &h.A, &h.AAAA)
			if h.A.State == NXDomain {
				askRegistered(ctx, g, h)
			}
		})
	}
	wg.Wait()
	g.p.MX = m
}

// askBoth asks for the addresses of a name, of both families side by side.
func askBoth(ctx context.Context, g *gatherer, name string, a, aaaa *Answer) {
	var wg sync.WaitGroup
	wg.Go(func() { *a = g.ask(ctx, name, dns.TypeA) })
	wg.Go(func() { *aaaa = g.ask(ctx, name, dns.TypeAAAA) })
	wg.Wait()
}

// askRegistered asks whether somebody has registered the domain of a host.
func askRegistered(ctx context.Context, g *gatherer, h *MailHost) {
	name := h.Name
	if len(h.A.Chain) > 0 {
		name = h.A.Chain[len(h.A.Chain)-1]
	}
	registrable, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return // a public suffix itself
	}
	h.Registrable = registrable
	h.Domain = g.ask(ctx, registrable, dns.TypeNS)
	if suffix, listed := publicsuffix.PublicSuffix(registrable); !listed {
		h.Suffix = g.ask(ctx, suffix, dns.TypeNS)
	}
}

// unregistered reports whether a host lies in a domain that anyone may
// register: it does not exist, while what it would be registered under does.
func (h *MailHost) unregistered() bool {
	return h.Domain.State == NXDomain && (h.Suffix.Name == "" || h.Suffix.State == Found || h.Suffix.State == NoData)
}

func checkMX(p *Published) []Finding {
	var v verdicts
	m := &p.MX
	if m.Answer.State == Failed {
		return nil // of which checkName tells
	}
	if m.Answer.Absent() {
		checkNoMX(p, &v)
		return v.all
	}
	if m.Null {
		checkNullMX(p, &v)
	}
	for _, name := range m.Bad {
		v.add("mx.bad_name", p.Domain, "v", name).on(m.Answer)
	}
	for _, name := range m.Twice {
		v.add("mx.same_address", p.Domain, "a", name, "b", name).on(m.Answer)
	}
	for i := range m.Hosts {
		checkMailHost(p, &m.Hosts[i], &v)
	}
	checkMailHosts(p, &v)
	if m.Left > 0 {
		v.unknown(Answer{Name: p.Domain, Type: dns.TypeMX, Err: fmt.Sprintf("%d more mail hosts were not looked at", m.Left)})
	}
	return v.all
}

// checkNoMX judges a domain without MX records.
func checkNoMX(p *Published, v *verdicts) {
	m := &p.MX
	if ips := addresses(m.A, m.AAAA); len(ips) > 0 {
		null := p.Domain + ". IN MX 0 ."
		publish := p.Domain + ". IN MX 10 " + p.Domain + ".\n; or, if it takes no mail:\n; " + null
		if p.Sends == SendingNo {
			publish = null
		}
		v.add("mx.implicit", p.Domain, "ip", joinAddresses(ips), "publish", publish).on(m.Answer, m.A, m.AAAA)
		return
	}
	if m.A.State == Failed || m.AAAA.State == Failed {
		return
	}
	if sends, by := evidenceOfSending(p); sends && m.Answer.State != NXDomain {
		v.add("mx.none", p.Domain, "evidence", by).on(m.Answer, m.A, m.AAAA, p.Hosts.TXT)
	}
}

// checkNullMX judges a null MX (RFC 7505).
func checkNullMX(p *Published, v *verdicts) {
	m := &p.MX
	if others := len(m.Hosts) + len(m.Bad) + m.Left; others > 0 {
		var names []string
		for _, h := range m.Hosts {
			names = append(names, h.Name)
		}
		v.add("mx.null_and_others", p.Domain, "others", joinNames(append(names, m.Bad...))).on(m.Answer)
		return
	}
	if sends, by := evidenceOfSending(p); sends {
		v.add("mx.null_but_sends", p.Domain, "evidence", by).on(m.Answer, p.Hosts.TXT)
		return
	}
	v.add("mx.null", p.Domain).on(m.Answer)
}

// evidenceOfSending reports whether a domain sends mail, by what is known of
// its mail or by its SPF record, and which of them says so.
func evidenceOfSending(p *Published) (sends bool, by string) {
	switch p.Sends {
	case SendingYes:
		return true, "reports"
	case SendingNo:
		return false, ""
	}
	return spfAllows(p), "SPF"
}

// checkMailHost judges one host of the MX records.
func checkMailHost(p *Published, h *MailHost, v *verdicts) {
	m := &p.MX
	if h.placeholder() {
		v.add("mx.placeholder", h.Name, "host", h.Name).on(m.Answer)
		return
	}
	if len(m.expected) > 0 && !slices.ContainsFunc(m.expected, func(pattern string) bool { return matchesHost(pattern, h.Name) }) {
		v.add("mx.unexpected", h.Name, "host", h.Name).on(m.Answer)
	}
	ips := h.addresses()
	switch {
	case h.unregistered():
		v.add("mx.unregistered", h.Name, "host", h.Name, "domain", h.Registrable).on(m.Answer, h.A, h.Domain)
	case len(ips) == 0 && h.A.Absent() && h.AAAA.Absent():
		v.add("mx.unresolvable", h.Name, "host", h.Name).on(m.Answer, h.A, h.AAAA)
	}
	if chain := cmp.Or(len(h.A.Chain), len(h.AAAA.Chain)); chain > 1 {
		a := h.A
		if len(a.Chain) == 0 {
			a = h.AAAA
		}
		v.add("mx.cname", h.Name, "host", h.Name, "target", a.Chain[len(a.Chain)-1]).on(m.Answer, a)
	}
	for _, ip := range ips {
		switch {
		case classOf(ip) == addressMapped:
			v.add("mx.mapped_ipv6", h.Name, "host", h.Name, "ip", "::ffff:"+ip.Unmap().String()).on(h.AAAA)
		case !reachable(ip, m.documentation):
			v.add("mx.not_public", h.Name, "host", h.Name, "ip", ip.String()).on(h.A, h.AAAA)
		}
	}
	if len(addresses(h.A)) > 0 && h.AAAA.Absent() {
		v.add("mx.no_ipv6", h.Name, "host", h.Name).on(h.AAAA)
	}
}

// checkMailHosts judges the hosts of the MX records together.
func checkMailHosts(p *Published, v *verdicts) {
	m := &p.MX
	any4, unknown4 := false, m.Left > 0
	for _, h := range m.Hosts {
		any4 = any4 || len(addresses(h.A)) > 0
		unknown4 = unknown4 || !h.placeholder() && h.A.State == Failed
	}
	if !any4 && !unknown4 {
		for _, h := range m.Hosts {
			if len(addresses(h.AAAA)) > 0 {
				v.add("mx.no_ipv4", h.Name, "host", h.Name).on(h.A, h.AAAA)
			}
		}
	}
	real := slices.DeleteFunc(slices.Clone(m.Hosts), func(h MailHost) bool { return h.placeholder() })
	// Two addresses of one host, one of each family, are mostly one machine.
	if len(real) == 1 && m.Left == 0 && len(addresses(real[0].A)) <= 1 && len(addresses(real[0].AAAA)) <= 1 && len(real[0].addresses()) > 0 {
		v.add("mx.single", real[0].Name, "host", real[0].Name).on(m.Answer)
	}
	first := map[netip.Addr]string{}
	said := map[[2]string]bool{}
	for _, h := range real {
		for _, ip := range h.addresses() {
			other, seen := first[ip]
			if !seen {
				first[ip] = h.Name
			} else if pair := [2]string{other, h.Name}; other != h.Name && !said[pair] {
				said[pair] = true
				v.add("mx.same_address", h.Name, "a", other, "b", h.Name, "ip", ip.String()).on(h.A, h.AAAA)
			}
		}
	}
}

// matchesHost reports whether a name is a host, or, for a pattern that begins
// with "*.", a host one label below (RFC 8461, section 4.1).
func matchesHost(pattern, host string) bool {
	pattern, host = plainHost(pattern), plainHost(host)
	if parent, ok := strings.CutPrefix(pattern, "*."); ok {
		_, rest, _ := strings.Cut(host, ".")
		return rest == parent
	}
	return pattern == host
}

// Lists in texts are cut to what a person reads.
const maxListed = 10

func joinNames(names []string) string {
	if len(names) <= maxListed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
}

func joinAddresses(ips []netip.Addr) string {
	var names []string
	for _, ip := range ips {
		names = append(names, ip.String())
	}
	return joinNames(names)
}
