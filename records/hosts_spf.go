package records

import "net/netip"

// maxSingles is more than a record of any use holds.
const maxSingles = 200

// spfSingles returns the addresses that the SPF record of a domain lets send
// one by one, without following it.
func spfSingles(a Answer) []netip.Addr {
	records := spfRecords(&a)
	if len(records) != 1 {
		return nil
	}
	var all []netip.Addr
	for _, t := range parseSPF(records[0]).Terms {
		if (t.Name == "ip4" || t.Name == "ip6") && t.Qualifier == '+' && t.Net.IsSingleIP() && len(all) < maxSingles {
			all = append(all, t.Net.Addr())
		}
	}
	return all
}

// spfAllows reports whether the domain has an SPF record that was made for
// mail: one that does more than refuse.
func spfAllows(p *Published) bool {
	for _, strs := range spfRecords(&p.Hosts.TXT) {
		for _, t := range parseSPF(strs).Terms {
			if t.Name == "redirect" || !t.modifier() && t.Qualifier != '-' {
				return true
			}
			if t.Name == "all" {
				break
			}
		}
	}
	return false
}

// spfClosed reports whether the SPF record of the domain lets nobody send.
func spfClosed(p *Published) bool {
	records := spfRecords(&p.Hosts.TXT)
	if len(records) != 1 {
		return false
	}
	r := parseSPF(records[0])
	return r.valid() && r.term("all") != nil && !spfAllows(p)
}
