package records

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A MailZone is the organization's zone of a mail host, and whether it is
// signed.
type MailZone struct {
	Host string
	Zone string
	DS   Answer
}

// maxMailZones bounds how many mail hosts are looked at.
const maxMailZones = 10

func gatherMailZones(ctx context.Context, g *gatherer) []MailZone {
	own := dmarc.OrganizationalDomain(g.p.Domain)
	var zones []MailZone
	var wg sync.WaitGroup
	for _, rr := range g.ask(ctx, g.p.Domain, dns.TypeMX).RRs {
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		host, err := domainName(bareName(mx.Mx))
		zone := dmarc.OrganizationalDomain(host)
		if err != nil || zone == own || len(zones) == maxMailZones ||
			slices.ContainsFunc(zones, func(z MailZone) bool { return z.Zone == zone }) {
			continue
		}
		zones = append(zones, MailZone{Host: host, Zone: zone})
	}
	for i := range zones {
		wg.Go(func() { zones[i].DS = g.ask(ctx, zones[i].Zone, dns.TypeDS) })
	}
	wg.Wait()
	return zones
}

// Signatures that end soon are a sign of a signer that has stopped, but not
// where they are made for a few days only.
const (
	soonEnds      = 3 * 24 * time.Hour
	shortLifetime = 7 * 24 * time.Hour
)

// oldAlgorithms are those that must not be used any more (RFC 9904, RFC 9905).
var oldAlgorithms = map[uint8]bool{
	dns.RSAMD5: true, dns.DSA: true, dns.RSASHA1: true, dns.DSANSEC3SHA1: true, dns.RSASHA1NSEC3SHA1: true, dns.ECCGOST: true,
}

// checkDNSSEC judges how the zone is signed.
func (n *NameFound) checkDNSSEC(p *Published, v *verdicts) {
	if n.Zone == "" {
		return
	}
	for _, z := range n.MailZones {
		if z.DS.State == NoData {
			v.add("dnssec.mx_zone_unsigned", p.Domain, "mx", z.Host, "zone", z.Zone).on(z.DS)
		}
	}
	switch {
	case n.DS.Absent() && n.DNSKEY.Absent():
		v.add("dnssec.unsigned", n.Zone).on(n.DS, n.DNSKEY)
		return
	case n.DS.Absent() && n.DNSKEY.State == Found:
		var lines []string
		for _, rr := range n.DNSKEY.RRs {
			if key, ok := rr.(*dns.DNSKEY); ok && key.Flags&dns.SEP != 0 {
				if ds := key.ToDS(dns.SHA256); ds != nil {
					lines = append(lines, fmt.Sprintf("%s. IN DS %d %d %d %s", n.Zone, ds.KeyTag, ds.Algorithm, ds.DigestType, strings.ToUpper(ds.Digest)))
				}
			}
		}
		v.add("dnssec.no_ds", n.Zone, "publish", strings.Join(lines[:min(len(lines), maxTold)], "\n")).on(n.DS, n.DNSKEY)
	}
	n.checkSignatures(p, v)
	n.checkAlgorithms(v)
	for _, rr := range n.NSEC3PARAM.RRs {
		if param, ok := rr.(*dns.NSEC3PARAM); ok && (param.Iterations > 0 || param.SaltLength > 0) {
			salt := "no salt"
			if param.SaltLength > 0 {
				salt = "a salt"
			}
			v.add("dnssec.nsec3_iterations", n.Zone, "n", decimal(int(param.Iterations)), "salt", salt).on(n.NSEC3PARAM)
		}
	}
}

// checkSignatures looks for the signatures that end first.
func (n *NameFound) checkSignatures(p *Published, v *verdicts) {
	var first *Answer
	answers := []Answer{n.DNSKEY, n.ZoneSOA, n.NS, n.TXT, n.SOA}
	for i := range answers {
		a := &answers[i]
		if a.SigEnds.IsZero() || a.Chain != nil || a.SigEnds.Sub(a.SigBegins) < shortLifetime {
			continue
		}
		if first == nil || a.SigEnds.Before(first.SigEnds) {
			first = a
		}
	}
	if first != nil && first.SigEnds.Sub(p.At) < soonEnds {
		v.add("dnssec.expiring", n.Zone, "date", first.SigEnds.Format("2 January 2006 15:04 UTC"), "type", dns.TypeToString[first.Type]).on(*first)
	}
}

// checkAlgorithms looks for algorithms that are no longer to be used.
func (n *NameFound) checkAlgorithms(v *verdicts) {
	told := map[string]bool{}
	old := func(what string, a Answer) {
		if !told[what] && len(told) < maxTold {
			told[what] = true
			v.add("dnssec.old_algorithm", n.Zone, "alg", what).on(a)
		}
	}
	for _, rr := range n.DNSKEY.RRs {
		if key, ok := rr.(*dns.DNSKEY); ok && oldAlgorithms[key.Algorithm] {
			old(fmt.Sprintf("the key algorithm %d (%s)", key.Algorithm, dns.AlgorithmToString[key.Algorithm]), n.DNSKEY)
		}
	}
	for _, rr := range n.DS.RRs {
		if ds, ok := rr.(*dns.DS); ok && (ds.DigestType == dns.SHA1 || ds.DigestType == 3) {
			old(fmt.Sprintf("the DS digest %d (%s)", ds.DigestType, dns.HashToString[ds.DigestType]), n.DS)
		}
	}
}
