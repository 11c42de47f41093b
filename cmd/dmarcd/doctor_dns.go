package main

import (
	"cmp"
	"context"
	"strings"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/records"
)

// resolver asks the resolver for the root, which is signed.
func (d *doctor) resolver(ctx context.Context, x *findings) {
	client, err := records.NewClient(records.ClientOptions{Server: d.cfg.Resolver})
	if err != nil {
		x.wrong("name one with resolver (DMARCD_RESOLVER)", "%v", err)
		return
	}
	const fix = "name one that validates with resolver (DMARCD_RESOLVER), such as an Unbound on this machine"
	servers := strings.Join(client.Servers(), ", ")
	switch root := client.Lookup(ctx, "", dns.TypeSOA); {
	case root.State == records.Failed:
		x.wrong(fix, "%s does not answer: %s", servers, cmp.Or(root.Err, dns.RcodeToString[root.Rcode]))
	case !root.AD:
		x.note(fix, "%s answers, and does not validate DNSSEC: broken signatures are not seen, and DANE counts for nothing", servers)
	default:
		x.ok("%s answers, and validates DNSSEC", servers)
	}
}

// ours are the addresses that reports reach us by: those that are configured,
// or else those that the configuration shows.
func (c *config) ours() []string {
	if len(c.ReportAddresses) > 0 {
		return c.ReportAddresses
	}
	var list []string
	for _, m := range c.Mailboxes {
		if strings.Contains(m.User, "@") {
			list = append(list, m.User)
		}
	}
	for _, r := range c.SMTP.Recipients {
		if !strings.HasPrefix(r, "@") {
			list = append(list, r)
		}
	}
	return list
}

// authorization looks whether a domain asks for reports, that they are sent to
// us, and that those whom they are sent to take them.
func (d *doctor) authorization(ctx context.Context, domain string, x *findings) {
	client, err := records.NewClient(records.ClientOptions{Server: d.cfg.Resolver})
	if err != nil {
		x.unknown("name a resolver with resolver (DMARCD_RESOLVER)", "%v", err)
		return
	}
	ours := d.cfg.ours()
	p, err := records.Lookup(ctx, domain, records.Options{Resolver: client, ReportAddresses: ours, Now: d.now()})
	if err != nil {
		x.unknown("try again", "not all could be looked up in time: %v", err)
		return
	}
	sound := true
	seen := false
	for _, f := range records.Check(p) {
		about := strings.HasPrefix(f.ID, "rauth.") || strings.HasPrefix(f.ID, "dmarc.uri_") || f.ID == "dmarc.missing" ||
			f.ID == "dmarc.several" || f.ID == "dmarc.rua_missing" || f.ID == "dmarc.rua_not_ours" || f.ID == "dmarc.near_miss" || f.ID == "dmarc.misplaced" ||
			f.ID == "dns.nxdomain"
		seen = true
		if !about || f.Severity == records.OK || f.Severity == records.Info {
			continue
		}
		sound = false
		fix := f.Fix()
		if text := f.Publish(); text != "" {
			fix += " " + text
		}
		switch {
		case f.Severity == records.Unknown:
			x.unknown("try again; look at the resolver", "%s", f.What())
		case f.Severity == records.Error, f.ID == "dmarc.rua_missing", f.ID == "dmarc.rua_not_ours":
			x.wrong(fix, "%s", f.What())
		default:
			x.note(fix, "%s", f.What())
		}
	}
	switch {
	case !sound:
	case p.DMARC.Walk == nil || p.DMARC.Walk.Failed != nil || !seen:
		x.unknown("try again; look at the resolver", "the policy could not be looked up")
	case len(ours) == 0:
		x.note("name the addresses that reports reach you by in report_addresses (DMARCD_REPORT_ADDRESSES)", "reports are asked for; whether they are sent to you is not known")
	default:
		x.ok("reports are sent to you, and whoever gets them takes them")
	}
}
