package records

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// A Destination is a host that reports are sent to, and whether it takes them
// (RFC 9990, section 4; RFC 9991, section 5).
type Destination struct {
	Host    string
	URIs    []ReportURI
	Ours    bool // one of our own addresses is there
	MX      Answer
	A, AAAA Answer

	// What follows is for hosts of another organization than the policy's.
	External  bool
	Unknown   bool   // a lookup failed, so that it is not known whether External
	Name      string // where the host authorises reports
	TooLong   bool   // Name cannot be in DNS
	Answer    Answer // for Name
	Overrides string // host that the authorisation names in place of Host, or ""
	Wildcard  bool   // the host authorises everyone, but not Name: Sibling hides the wildcard
	Sibling   string
}

// authorized reports whether the host takes reports.
func (d *Destination) authorized() bool {
	return !d.External || !d.TooLong && len(authorisations(d.Answer)) > 0 && d.Overrides == ""
}

// maxDestinations bounds how many hosts are looked at.
const maxDestinations = 10

func gatherDestinations(ctx context.Context, g *gatherer, d *DMARCFound) []Destination {
	e := &d.Policy
	if e.Record == nil {
		return nil
	}
	var all []Destination
	for _, u := range slices.Concat(e.Record.RUA, e.Record.RUF) {
		if u.Problem != "" || u.Host == "" {
			continue
		}
		i := slices.IndexFunc(all, func(d Destination) bool { return d.Host == u.Host })
		if i < 0 {
			if i = len(all); i == maxDestinations {
				break
			}
			all = append(all, Destination{Host: u.Host})
		}
		all[i].URIs = append(all[i].URIs, u)
		all[i].Ours = all[i].Ours || d.oursIn([]ReportURI{u})
	}
	txt := func(name string) Answer { return g.ask(ctx, name, dns.TypeTXT) }
	policy := d.Walk
	var wg sync.WaitGroup
	if e.At != policy.Name {
		wg.Go(func() { policy = walk(e.At, txt) })
	}
	hosts := make([]*TreeWalk, len(all))
	for i := range all {
		t := &all[i]
		for _, ask := range []struct {
			to    *Answer
			qtype uint16
		}{{&t.MX, dns.TypeMX}, {&t.A, dns.TypeA}, {&t.AAAA, dns.TypeAAAA}} {
			wg.Go(func() { *ask.to = g.ask(ctx, t.Host, ask.qtype) })
		}
		if t.Host == e.At {
			continue
		}
		t.Name = e.At + "._report._dmarc." + t.Host
		t.TooLong = len(t.Name) > 253
		wg.Go(func() { hosts[i] = walk(t.Host, txt) })
		if !t.TooLong {
			wg.Go(func() { t.Answer = txt(t.Name) })
		}
	}
	wg.Wait()
	for i := range all {
		t := &all[i]
		if t.Host == e.At {
			continue
		}
		// Only the same organization needs no authorisation.
		t.Unknown = policy.Failed != nil || hosts[i].Failed != nil
		t.External = t.Unknown || hosts[i].organizationalDomain() != policy.organizationalDomain()
		kept := authorisations(t.Answer)
		for _, text := range kept {
			for _, u := range ParseDMARC(text).RUA {
				if u.Problem == "" && u.Host != t.Host {
					t.Overrides = u.Host
				}
			}
		}
		if t.External && !t.TooLong && len(kept) == 0 && t.Answer.Absent() {
			wg.Go(func() { t.findWildcard(ctx, g, e.At) })
		}
	}
	wg.Wait()
	return all
}

// authorisations returns the texts that authorise reports: tag lists that
// begin with v=DMARC1.
func authorisations(a Answer) []string {
	return slices.DeleteFunc(texts(a), func(text string) bool { return !isDMARC(text) })
}

// findWildcard looks for a wildcard that would authorise everyone, and for the
// name that hides it (RFC 4592, section 3.3.1).
func (d *Destination) findWildcard(ctx context.Context, g *gatherer, at string) {
	base := "_report._dmarc." + d.Host
	labels := strings.Split(at, ".")
	var wildcard Answer
	between := make([]Answer, min(len(labels), 8))
	var wg sync.WaitGroup
	wg.Go(func() { wildcard = g.ask(ctx, "*."+base, dns.TypeTXT) })
	for i := range between {
		name := strings.Join(labels[len(labels)-1-i:], ".") + "." + base
		wg.Go(func() { between[i] = g.ask(ctx, name, dns.TypeTXT) })
	}
	wg.Wait()
	if len(authorisations(wildcard)) == 0 {
		return
	}
	for _, a := range between {
		if a.State == NoData || a.State == Found {
			d.Wildcard, d.Sibling = true, a.Name
			return
		}
	}
}

// checkDestinations judges where reports go.
func (d *DMARCFound) checkDestinations(v *verdicts) {
	at := d.Policy.At
	for i := range d.Destinations {
		t := &d.Destinations[i]
		if t.deaf() {
			v.add("dmarc.uri_undeliverable", policyName(at), "host", t.Host, "uri", excerpt(t.URIs[0].Text)).on(t.MX, t.A, t.AAAA)
		}
		if !t.External || t.Unknown {
			continue
		}
		shown := excerpt(t.URIs[0].Text)
		publish := zoneTXT(t.Name, "v=DMARC1")
		switch {
		case t.TooLong:
			v.add("rauth.too_long", policyName(at), "fqdn", t.Name, "host", t.Host, "n", decimal(len(t.Name)))
		case t.Overrides != "":
			v.add("rauth.foreign_override", policyName(at), "host", t.Host, "other", t.Overrides, "fqdn", t.Name, "publish", publish).on(t.Answer)
		case t.Answer.State == Failed || t.authorized():
		case t.Ours:
			v.add("rauth.ours_missing", policyName(at), "fqdn", t.Name, "host", t.Host, "uri", shown, "name", at, "publish", publish).on(t.Answer)
		case t.Wildcard:
			v.add("rauth.wildcard_hidden", policyName(at), "host", t.Host, "name", at, "sibling", t.Sibling, "fqdn", t.Name, "publish", publish).on(t.Answer)
		default:
			v.add("rauth.missing", policyName(at), "host", t.Host, "name", at, "fqdn", t.Name, "uri", shown, "publish", publish).on(t.Answer)
		}
	}
}

// deaf reports whether a host is known to take no mail.
func (d *Destination) deaf() bool {
	if !slices.ContainsFunc(d.URIs, func(u ReportURI) bool { return u.Scheme == "mailto" }) {
		return false
	}
	if d.MX.State == Found {
		mx, ok := d.MX.RRs[0].(*dns.MX)
		return ok && len(d.MX.RRs) == 1 && mx.Mx == "."
	}
	return d.MX.Absent() && d.A.Absent() && d.AAAA.Absent()
}
