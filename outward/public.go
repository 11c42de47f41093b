package outward

import "net/netip"

// notPublic are the networks of IPv4, and those within what is handed out of IPv6, that are not
// of the Internet: the registries of special addresses of IANA (RFC 6890), beside those for
// documentation, which nobody has. 168.63.129.16 is public by its number alone: there Azure serves
// what is of one machine.
var notPublic = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	"168.63.129.16/32",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

var (
	public6 = netip.MustParsePrefix("2000::/3") // RFC 4291, section 2.4
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// behind returns the address of IPv4 that a translator would connect to (RFC 6052).
func behind(addr netip.Addr) (netip.Addr, bool) {
	if !nat64.Contains(addr) {
		return netip.Addr{}, false
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}

// public tells whether an address is one of the Internet. One of IPv4 that is written as IPv6, for
// mapping or translation, is judged as what it stands for.
func public(addr netip.Addr) bool {
	addr = addr.Unmap()
	if inner, translated := behind(addr); translated {
		addr = inner
	}
	if !addr.IsValid() || addr.Zone() != "" || addr.Is6() && !public6.Contains(addr) {
		return false
	}
	for _, n := range notPublic {
		if n.Contains(addr) {
			return false
		}
	}
	return true
}
