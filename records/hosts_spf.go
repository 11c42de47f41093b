package records

import (
	"net/netip"
	"strings"
)

// spfTexts returns the SPF records of an answer (RFC 7208, section 4.5).
func spfTexts(a Answer) []string {
	var all []string
	for _, text := range texts(a) {
		if version, _, _ := strings.Cut(text, " "); strings.EqualFold(version, "v=spf1") {
			all = append(all, text)
		}
	}
	return all
}

// maxSingles is more than a record of any use holds.
const maxSingles = 200

// spfSingles returns the addresses that the SPF record of a domain names one
// by one, without following it.
func spfSingles(a Answer) []netip.Addr {
	records := spfTexts(a)
	if len(records) != 1 {
		return nil
	}
	var all []netip.Addr
	for term := range strings.FieldsSeq(records[0]) {
		name, value, _ := strings.Cut(strings.TrimPrefix(term, "+"), ":")
		bits := map[string]int{"ip4": 32, "ip6": 128}[strings.ToLower(name)]
		if bits == 0 || len(all) == maxSingles {
			continue
		}
		if !strings.Contains(value, "/") {
			if ip, err := netip.ParseAddr(value); err == nil && ip.BitLen() == bits && ip.Zone() == "" {
				all = append(all, ip)
			}
		} else if prefix, err := netip.ParsePrefix(value); err == nil && prefix.Bits() == bits && prefix.Addr().BitLen() == bits {
			all = append(all, prefix.Addr())
		}
	}
	return all
}

// spfAllows reports whether the domain has an SPF record that lets anybody
// send.
func spfAllows(p *Published) bool {
	for _, text := range spfTexts(p.Hosts.TXT) {
		if terms := strings.Fields(text)[1:]; len(terms) > 0 && !strings.EqualFold(terms[0], "-all") {
			return true
		}
	}
	return false
}

// spfClosed reports whether the SPF record of the domain lets nobody send.
func spfClosed(p *Published) bool {
	records := spfTexts(p.Hosts.TXT)
	if len(records) != 1 {
		return false
	}
	terms := strings.Fields(records[0])
	return len(terms) > 1 && strings.EqualFold(terms[1], "-all")
}
