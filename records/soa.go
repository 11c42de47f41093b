package records

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// checkSOA judges the SOA record of the zone.
func checkSOA(p *Published, v *verdicts) {
	n := &p.Name
	if n.ZoneSOA.State != Found || n.NS.State != Found {
		return
	}
	soa, ok := n.ZoneSOA.RRs[0].(*dns.SOA)
	if !ok {
		return
	}
	checkSerials(p, v)
	for _, timer := range []struct {
		field   string
		value   uint32
		wrong   bool
		advised string
	}{
		{"refresh", soa.Refresh, soa.Refresh < 1200 || soa.Refresh > 86400, "1200 to 86400"},
		{"retry", soa.Retry, soa.Retry >= soa.Refresh, "less than refresh"},
		{"expire", soa.Expire, soa.Expire < 604800, "at least 604800"},
	} {
		if timer.wrong {
			v.add("soa.timers", n.Zone, "field", timer.field, "v", decimal(int(timer.value)), "range", timer.advised).on(n.ZoneSOA)
		}
	}
	negative := soa.Minttl
	for _, a := range n.serving() { // where TTLs have not run down
		negative = min(negative, a.SOA.RRs[0].Header().Ttl)
	}
	if negative > 86400 || negative < 60 {
		v.add("soa.negative_ttl", n.Zone, "v", decimal(int(negative))).on(n.ZoneSOA)
	}
	if why := wrongContact(soa.Mbox); why != "" {
		v.add("soa.names", n.Zone, "field", "contact", "value", excerpt(bareName(soa.Mbox)), "why", why,
			"fix", "Write the contact as user.domain, with the @ replaced by a dot.").on(n.ZoneSOA)
	}
	if mname := bareName(soa.Ns); !slices.Contains(nsNames(n.NS.RRs), mname) {
		v.add("soa.names", n.Zone, "field", "primary server", "value", excerpt(mname), "why", "it is not a name server of the zone",
			"fix", "Nothing is to be done if that is a hidden primary; else name the server that the zone is edited on.").on(n.ZoneSOA)
	}
}

// wrongContact says why a RNAME is no mailbox (RFC 1035, section 8), or "".
func wrongContact(rname string) string {
	labels := dns.SplitDomainName(rname)
	switch {
	case strings.Contains(unescapeText(rname), "@"):
		return "it holds an @"
	case len(labels) < 2:
		return "it names no mailbox"
	}
	if _, err := domainName(strings.Join(labels[1:], ".")); err != nil {
		return "what follows its first label is no domain name"
	}
	return ""
}
