package records

import (
	"net/netip"

	"github.com/miekg/dns"
)

// An addressClass says whether hosts on the Internet can reach an address.
type addressClass uint8

const (
	addressPublic addressClass = iota
	addressMapped              // ::ffff:0:0/96
	addressDocumentation
	addressNotPublic
)

// notPublic are the ranges of the special-purpose registries (RFC 6890) that
// are not reached from the Internet.
var notPublic = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

// public6 is what is handed out of IPv6 (RFC 4291, section 2.4). All else is
// loopback, link-local, local (RFC 4193), multicast or set aside.
var public6 = prefixes("2000::/3")

var documentation = prefixes("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func within(ip netip.Addr, ranges []netip.Prefix) bool {
	for _, r := range ranges {
		if r.Contains(ip) {
			return true
		}
	}
	return false
}

// classOf tells the class of an address.
func classOf(ip netip.Addr) addressClass {
	switch {
	case ip.Is4In6():
		return addressMapped
	case within(ip, documentation):
		return addressDocumentation
	case within(ip, notPublic), ip.Is6() && !within(ip, public6):
		return addressNotPublic
	}
	return addressPublic
}

// reachable reports whether hosts on the Internet reach an address, those of
// documentation too if they are taken as public.
func reachable(ip netip.Addr, documentation bool) bool {
	c := classOf(ip)
	return c == addressPublic || documentation && c == addressDocumentation
}

// addresses returns those of A and AAAA answers, in their order.
func addresses(answers ...Answer) []netip.Addr {
	var all []netip.Addr
	for _, a := range answers {
		for _, rr := range a.RRs {
			switch rr := rr.(type) {
			case *dns.A:
				if ip, ok := netip.AddrFromSlice(rr.A.To4()); ok {
					all = append(all, ip)
				}
			case *dns.AAAA:
				if ip, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
					all = append(all, ip)
				}
			}
		}
	}
	return all
}
