package records

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/net/publicsuffix"
)

// The bounds on the work for hosts: addresses of a domain, and names of an
// address. RFC 7208, section 4.6.4, stops at ten names as well.
const (
	maxHostAddresses = 40
	maxReverseNames  = 10
)

// HostsFound is the addresses that take or send mail for a domain, and their names (PTR).
type HostsFound struct {
	TXT       Answer // of the domain, where SPF names addresses
	Addresses []HostAddress
	Left      int // addresses that were not looked at, for there are too many
}

// A HostAddress is an address that takes or sends mail for a domain, and what
// it is called.
type HostAddress struct {
	Addr   netip.Addr
	MX     []string // mail hosts that have it
	SPF    bool     // named singly in the SPF record
	Sender bool     // known to send
	Own    bool     // the operator's own host

	PTR   Answer
	Names []ReverseName // at most ten of PTR
	More  int           // names beyond

	HELO         string // lower-case; "" if it is not known
	HELOA        Answer // addresses of HELO, asked if it is a host name
	HELOAAAA     Answer
	HELOTXT      Answer // asked if HELO is the operator's to change
	organization string // of the domain that was looked up
}

// A ReverseName is what an address is called, and the addresses of that name
// of the same family.
type ReverseName struct {
	Name    string
	Forward Answer // not asked if the name cannot be that of a host
}

// A Sender is an address that is known to send for a domain.
type Sender struct {
	Addr netip.Addr
	HELO string // "" if it is not known
	Own  bool   // the operator's own host, not a service
}

// sends reports whether an address sends mail, as far as that is known.
func (h *HostAddress) sends() bool { return h.Sender || h.SPF }

// confirms reports whether a name resolves back to an address.
func (n *ReverseName) confirms(ip netip.Addr) bool {
	return slices.Contains(addresses(n.Forward), ip)
}

// confirmed reports whether a name of the address resolves back to it (RFC
// 8601, section 3, "iprev"). It is not known if a lookup failed that could
// have shown it.
func (h *HostAddress) confirmed() (confirmed, known bool) {
	if h.PTR.State == Failed {
		return false, false
	}
	known = h.More == 0
	for _, n := range h.Names {
		if n.confirms(h.Addr) {
			return true, true
		}
		if n.Forward.Name != "" && n.Forward.State == Failed {
			known = false
		}
	}
	return false, known
}

func gatherHosts(ctx context.Context, g *gatherer) {
	f := HostsFound{TXT: g.ask(ctx, g.p.Domain, dns.TypeTXT)}
	f.Addresses, f.Left = hostAddresses(ctx, g, f.TXT)
	organization, err := publicsuffix.EffectiveTLDPlusOne(g.p.Domain)
	if err != nil {
		organization = g.p.Domain
	}
	var wg sync.WaitGroup
	for i := range f.Addresses {
		h := &f.Addresses[i]
		h.organization = organization
		wg.Go(func() { lookHost(ctx, g, h) })
	}
	wg.Wait()
	g.p.Hosts = f
}

// hostAddresses returns the addresses to look at, each once: those that are
// known to send first.
func hostAddresses(ctx context.Context, g *gatherer, txt Answer) (all []HostAddress, left int) {
	at := map[netip.Addr]int{}
	get := func(ip netip.Addr) *HostAddress {
		ip = ip.Unmap().WithZone("")
		if !ip.IsValid() || !reachable(ip, g.o.Documentation) {
			return nil
		}
		i, ok := at[ip]
		if !ok {
			if len(all) == maxHostAddresses {
				left++
				return nil
			}
			i = len(all)
			at[ip] = i
			all = append(all, HostAddress{Addr: ip})
		}
		return &all[i]
	}
	for _, s := range g.o.Senders {
		if h := get(s.Addr); h != nil {
			h.Sender, h.Own = true, h.Own || s.Own
			if h.HELO == "" {
				h.HELO = plainHost(s.HELO)
			}
		}
	}
	for _, ip := range spfSingles(txt) {
		if h := get(ip); h != nil {
			h.SPF = true
		}
	}
	hosts := mailHosts(ctx, g).Hosts
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() { askBoth(ctx, g, hosts[i].Name, &hosts[i].A, &hosts[i].AAAA) })
	}
	wg.Wait()
	for _, m := range hosts {
		for _, ip := range m.addresses() {
			if h := get(ip); h != nil && !slices.Contains(h.MX, m.Name) {
				h.MX = append(h.MX, m.Name)
			}
		}
	}
	return all, left
}

// lookHost asks what an address is called, and for the name that it says in
// HELO.
func lookHost(ctx context.Context, g *gatherer, h *HostAddress) {
	var wg sync.WaitGroup
	wg.Go(func() {
		reverse, err := dns.ReverseAddr(h.Addr.String())
		if err != nil {
			return
		}
		h.PTR = g.ask(ctx, plainHost(reverse), dns.TypePTR)
		for _, rr := range h.PTR.RRs {
			if ptr, ok := rr.(*dns.PTR); ok {
				h.Names = append(h.Names, ReverseName{Name: plainHost(ptr.Ptr)})
			}
		}
		slices.SortFunc(h.Names, func(a, b ReverseName) int { return strings.Compare(a.Name, b.Name) })
		if h.More = len(h.Names) - maxReverseNames; h.More > 0 {
			h.Names = h.Names[:maxReverseNames]
		}
		h.More = max(h.More, 0)
		family := dns.TypeA
		if h.Addr.Is6() {
			family = dns.TypeAAAA
		}
		var names sync.WaitGroup
		for i := range h.Names {
			if n := &h.Names[i]; isHostName(n.Name) {
				names.Go(func() { n.Forward = g.ask(ctx, n.Name, family) })
			}
		}
		names.Wait()
	})
	if isHostName(h.HELO) && !isLocal(h.HELO) {
		wg.Go(func() { askBoth(ctx, g, h.HELO, &h.HELOA, &h.HELOAAAA) })
		if h.Own || isBelow(h.HELO, h.organization) {
			wg.Go(func() { h.HELOTXT = g.ask(ctx, h.HELO, dns.TypeTXT) })
		}
	}
	wg.Wait()
}

// isBelow reports whether a name is a domain or below it.
func isBelow(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// isLocal reports whether a name means the machine that says it.
func isLocal(name string) bool {
	return isBelow(name, "localhost") || isBelow(name, "localdomain")
}

func checkHosts(p *Published) []Finding {
	var v verdicts
	f := &p.Hosts
	for i := range f.Addresses {
		checkHELO(&f.Addresses[i], &v)
		checkPTR(&f.Addresses[i], &v)
	}
	if f.Left > 0 {
		v.unknown(Answer{Name: p.Domain, Type: dns.TypePTR, Err: fmt.Sprintf("%d more addresses were not looked at", f.Left)})
	}
	return v.all
}

// checkHELO judges the name that an address says in HELO.
func checkHELO(h *HostAddress, v *verdicts) {
	if h.HELO == "" {
		return
	}
	if !isHostName(h.HELO) || isLocal(h.HELO) {
		v.add("helo.not_fqdn", h.HELO, "helo", h.HELO, "ip", h.Addr.String())
		return
	}
	ips := addresses(h.HELOA, h.HELOAAAA)
	failed := h.HELOA.State == Failed || h.HELOAAAA.State == Failed
	switch {
	case len(ips) == 0 && !failed:
		v.add("helo.unresolvable", h.HELO, "helo", h.HELO, "ip", h.Addr.String()).on(h.HELOA, h.HELOAAAA)
		if h.Own {
			v.add("host.no_address", h.HELO, "host", h.HELO, "ip", h.Addr.String(), "publish", addressRecord(h.HELO, h.Addr)).on(h.HELOA, h.HELOAAAA)
		}
	case len(ips) > 0 && h.Own && !slices.Contains(ips, h.Addr) && (h.HELOA.State != Failed || !h.Addr.Is4()) && (h.HELOAAAA.State != Failed || !h.Addr.Is6()):
		v.add("host.address_missing", h.HELO, "host", h.HELO, "ip", h.Addr.String(), "addrs", joinAddresses(ips),
			"publish", addressRecord(h.HELO, h.Addr)).on(h.HELOA, h.HELOAAAA)
	}
	if h.HELOTXT.Name != "" && h.HELOTXT.State != Failed && len(spfRecords(&h.HELOTXT)) == 0 {
		v.add("helo.no_spf", h.HELO, "helo", h.HELO).on(h.HELOTXT)
	}
}

// addressRecord writes an address record in the form of a zone file.
func addressRecord(host string, ip netip.Addr) string {
	if ip.Is4() {
		return host + ". IN A " + ip.String()
	}
	return host + ". IN AAAA " + ip.String()
}

// checkPTR judges what an address is called.
func checkPTR(h *HostAddress, v *verdicts) {
	ip := h.Addr.String()
	if h.PTR.State == Failed {
		return
	}
	if len(h.Names) == 0 {
		host := h.suggestedName()
		f := v.add("ptr.missing", ip, "ip", ip, "host", host, "publish", h.PTR.Name+". IN PTR "+host+".").on(h.PTR)
		if !h.sends() {
			f.Severity = Info
		}
		return
	}
	var names, confirmed []string
	answers := []Answer{h.PTR}
	for i := range h.Names {
		n := &h.Names[i]
		names = append(names, n.Name)
		if n.confirms(h.Addr) {
			confirmed = append(confirmed, n.Name)
		}
		if n.Forward.Name != "" {
			answers = append(answers, n.Forward)
		}
	}
	if isConfirmed, known := h.confirmed(); !isConfirmed && known {
		v.add("ptr.not_confirmed", ip, "ip", ip, "name", joinNames(names), "addrs", forwardAddresses(h)).on(answers...)
	} else if !isConfirmed && h.More > 0 {
		v.unknown(Answer{Name: h.PTR.Name, Type: dns.TypePTR, Err: fmt.Sprintf("%d more names were not looked at", h.More)})
	}
	checkDynamic(h, v)
	helo := h.HELO != "" && slices.Contains(confirmed, h.HELO)
	switch {
	case h.More > 0, len(names) > 1 && isHostName(h.HELO) && !slices.Contains(names, h.HELO):
		v.add("ptr.many", ip, "ip", ip, "n", fmt.Sprint(len(names)+h.More), "names", joinNames(names)).on(h.PTR)
	case len(confirmed) == 1 && len(names) == 1 && isHostName(h.HELO) && !isLocal(h.HELO) && !helo:
		v.add("ptr.helo_differs", ip, "ip", ip, "ptr", confirmed[0], "helo", h.HELO).on(answers...)
	case len(confirmed) == 1 && helo:
		v.add("ptr.ok", ip, "ip", ip, "ptr", confirmed[0]).on(answers...)
	}
}

// checkDynamic judges whether an address is called like one of a dial-up
// customer. A name of one's own beside it makes up for that.
func checkDynamic(h *HostAddress, v *verdicts) {
	for i := range h.Names {
		n := &h.Names[i]
		own := n.Name == h.HELO || isBelow(n.Name, h.organization) || slices.Contains(h.MX, n.Name)
		// One that could not be looked up may be confirmed.
		if own && !looksDynamic(n.Name, h.Addr) && (n.confirms(h.Addr) || n.Forward.Name != "" && n.Forward.State == Failed) {
			return
		}
	}
	for _, n := range h.Names {
		if looksDynamic(n.Name, h.Addr) {
			ip := h.Addr.String()
			host := h.suggestedName()
			v.add("ptr.dynamic", ip, "ip", ip, "ptr", n.Name, "publish", h.PTR.Name+". IN PTR "+host+".").on(h.PTR)
			return
		}
	}
}

// suggestedName is what an address had better be called.
func (h *HostAddress) suggestedName() string {
	switch {
	case isHostName(h.HELO) && !isLocal(h.HELO):
		return h.HELO
	case len(h.MX) > 0:
		return h.MX[0]
	}
	return "mail." + h.organization
}

// forwardAddresses lists what the names of an address resolve to.
func forwardAddresses(h *HostAddress) string {
	var all []netip.Addr
	for _, n := range h.Names {
		all = append(all, addresses(n.Forward)...)
	}
	if len(all) == 0 {
		return "no address"
	}
	return joinAddresses(all)
}
