package records

// Addresses of cases: documentation, so that no test talks to anyone.
const twoMailHosts = `
@ MX 10 mx1
@ MX 20 mx2
mx1 A 192.0.2.10
mx1 AAAA 2001:db8:1::10
mx2 A 198.51.100.10
mx2 AAAA 2001:db8:2::10
`

// mxIDs are the findings that a healthy domain has none of.
var mxIDs = []string{
	"mx.none", "mx.implicit", "mx.null", "mx.null_and_others", "mx.null_but_sends", "mx.cname", "mx.unresolvable", "mx.unregistered", "mx.bad_name",
	"mx.not_public", "mx.mapped_ipv6", "mx.no_ipv4", "mx.no_ipv6", "mx.single", "mx.same_address", "mx.unexpected", "mx.placeholder",
}

// others returns the findings of a list without some.
func others(list []string, but ...string) []string {
	var all []string
	for _, id := range list {
		is := false
		for _, b := range but {
			is = is || id == b
		}
		if !is {
			all = append(all, id)
		}
	}
	return all
}

func mxCase(name, domain, zone string, o Options, want ...string) zoneCase {
	return zoneCase{name: name, domain: domain, zone: zone, o: o, want: want, not: others(mxIDs, want...)}
}

var _ = addCases(
	mxCase("two mail hosts of both families", "mx-healthy.test", twoMailHosts, Options{MXHosts: []string{"*.mx-healthy.test"}}),
	mxCase("no mail host, but SPF lets somebody send", "mx-none.test", txt("@", "v=spf1 ip4:192.0.2.1 -all"), Options{}, "mx.none"),
	mxCase("no mail host, but reports show mail", "mx-none-reports.test", "", Options{Sends: SendingYes}, "mx.none"),
	mxCase("no mail host, and SPF lets nobody send", "mx-none-closed.test", txt("@", "v=spf1 -all"), Options{}),
	mxCase("no mail host, but an address", "mx-implicit.test", "@ A 192.0.2.80\n", Options{}, "mx.implicit"),
	mxCase("a null MX", "mx-null.test", "@ MX 0 .\n"+txt("@", "v=spf1 -all"), Options{}, "mx.null"),
	mxCase("a null MX beside a mail host", "mx-null-others.test", "@ MX 0 .\n"+twoMailHosts, Options{}, "mx.null_and_others"),
	mxCase("a null MX, but SPF lets somebody send", "mx-null-spf.test", "@ MX 0 .\n"+txt("@", "v=spf1 include:spf.mailer.test ~all"), Options{}, "mx.null_but_sends"),
	mxCase("a null MX, but reports show mail", "mx-null-sends.test", "@ MX 0 .\n", Options{Sends: SendingYes}, "mx.null_but_sends"),
	mxCase("a null MX, and the operator knows that nothing is sent", "mx-null-no.test", "@ MX 0 .\n"+txt("@", "v=spf1 mx ~all"), Options{Sends: SendingNo}, "mx.null"),
	mxCase("a mail host that is an alias", "mx-cname.test", "@ MX 10 mail\nmail CNAME mx1\n"+twoMailHosts, Options{}, "mx.cname", "mx.same_address"),
	mxCase("a mail host without address", "mx-unresolvable.test", "@ MX 10 gone\n"+twoMailHosts, Options{}, "mx.unresolvable"),
	mxCase("a mail host with other records only", "mx-no-address.test", "@ MX 10 text\ntext TXT \"x\"\n"+twoMailHosts, Options{}, "mx.unresolvable"),
	mxCase("a mail host in a domain that nobody has registered", "mx-unregistered.test", "@ MX 30 mx.nobody-has-registered-this.com.\n"+twoMailHosts, Options{}, "mx.unregistered"),
	mxCase("an alias to a domain that nobody has registered", "mx-unregistered-alias.test", "@ MX 30 mx\nmx CNAME mx.nobody-has-registered-this.com.\n"+twoMailHosts, Options{},
		"mx.unregistered", "mx.cname"),
	mxCase("a mail host below a top that does not exist", "mx-no-top.test", "@ MX 30 mail.office.localdomain.\n"+twoMailHosts, Options{}, "mx.unresolvable"),
	mxCase("an address for a mail host", "mx-address.test", "@ MX 5 192.0.2.10.\n"+twoMailHosts, Options{}, "mx.bad_name"),
	mxCase("a single label for a mail host", "mx-label.test", "@ MX 5 mail.\n"+twoMailHosts, Options{}, "mx.bad_name"),
	mxCase("an underscore in a mail host", "mx-underscore.test", "@ MX 5 my_mail\nmy_mail A 192.0.2.11\n"+twoMailHosts, Options{}, "mx.bad_name"),
	mxCase("a private address", "mx-private.test", "mx2 A 10.0.0.5\n"+twoMailHosts, Options{}, "mx.not_public"),
	mxCase("a local IPv6 address", "mx-ula.test", "mx2 AAAA fd00::5\n"+twoMailHosts, Options{}, "mx.not_public"),
	mxCase("an IPv4 address written as IPv6", "mx-mapped.test", "mx2 AAAA ::ffff:192.0.2.99\n"+twoMailHosts, Options{}, "mx.mapped_ipv6"),
	mxCase("IPv6 only", "mx-ipv6.test", "@ MX 10 mx1\n@ MX 20 mx2\nmx1 AAAA 2001:db8:1::10\nmx2 AAAA 2001:db8:2::10\n", Options{}, "mx.no_ipv4"),
	mxCase("the only mail host has no address", "mx-gone.test", "@ MX 10 gone\n", Options{}, "mx.unresolvable"),
	mxCase("one mail host without IPv6", "mx-ipv4.test", "@ MX 30 mx3\nmx3 A 203.0.113.10\n"+twoMailHosts, Options{}, "mx.no_ipv6"),
	mxCase("one mail host without IPv4, others have it", "mx-mixed.test", "@ MX 30 mx3\nmx3 AAAA 2001:db8:3::10\n"+twoMailHosts, Options{}),
	mxCase("a single mail host", "mx-single.test", "@ MX 10 mx1\nmx1 A 192.0.2.10\nmx1 AAAA 2001:db8:1::10\n", Options{}, "mx.single"),
	mxCase("a single mail host of several machines", "mx-many.test", "@ MX 10 mx1\nmx1 A 192.0.2.10\nmx1 A 192.0.2.11\nmx1 AAAA 2001:db8:1::10\n", Options{}),
	mxCase("two names of one machine", "mx-same.test", "@ MX 30 mx3\nmx3 A 192.0.2.10\nmx3 AAAA 2001:db8:3::10\n"+twoMailHosts, Options{}, "mx.same_address"),
	mxCase("one host listed twice", "mx-twice.test", "@ MX 30 mx1\n"+twoMailHosts, Options{}, "mx.same_address"),
	mxCase("a mail host that the operator did not name", "mx-unexpected.test", twoMailHosts, Options{MXHosts: []string{"mx1.mx-unexpected.test"}}, "mx.unexpected"),
	mxCase("a mail host that only shows who owns the domain", "mx-placeholder.test", "@ MX 32767 ms12345.msv1.invalid.\n"+twoMailHosts, Options{}, "mx.placeholder"),
)
