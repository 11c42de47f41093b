package records

import "net/netip"

// reverse are the names of the addresses that cases of hosts use. They are in
// one zone, since several cases are served together.
var reverse = map[string]string{
	"2.0.192.in-addr.arpa": `
20 PTR mail.hosts-good.test.
21 PTR mail.hosts-unconfirmed.test.
22 PTR mail.hosts-helo.test.
23 PTR host-192-0-2-23.dsl.isp.test.
24 PTR host-192-0-2-24.dsl.isp.test.
24 PTR mail.hosts-dynamic-own.test.
25 PTR a.hosts-several.test.
25 PTR b.hosts-several.test.
26 PTR localhost.
27 PTR n01.hosts-many.test.
27 PTR n02.hosts-many.test.
27 PTR n03.hosts-many.test.
27 PTR n04.hosts-many.test.
27 PTR n05.hosts-many.test.
27 PTR n06.hosts-many.test.
27 PTR n07.hosts-many.test.
27 PTR n08.hosts-many.test.
27 PTR n09.hosts-many.test.
27 PTR n10.hosts-many.test.
27 PTR n11.hosts-many.test.
28 PTR mail.hosts-own.test.
30 PTR static-192-0-2-30.isp.test.
33 PTR a.hosts-several-helo.test.
33 PTR b.hosts-several-helo.test.
34 PTR mail.hosts-helo-label.test.
35 PTR mail.hosts-helo-address.test.
36 PTR mail.hosts-helo-localhost.test.
32 CNAME 32.classless
32.classless PTR mail.hosts-classless.test.
`,
	"isp.test": `
host-192-0-2-23.dsl A 192.0.2.23
host-192-0-2-24.dsl A 192.0.2.24
static-192-0-2-30 A 192.0.2.30
`,
}

var hostIDs = []string{
	"host.no_address", "host.address_missing", "ptr.missing", "ptr.not_confirmed", "ptr.helo_differs", "ptr.dynamic", "ptr.many", "ptr.ok",
	"helo.not_fqdn", "helo.unresolvable", "helo.no_spf",
}

func sender(ip, helo string, own bool) Options {
	return Options{Senders: []Sender{{Addr: netip.MustParseAddr(ip), HELO: helo, Own: own}}}
}

func hostCase(name, domain, zone string, o Options, want ...string) zoneCase {
	return zoneCase{name: name, domain: domain, zone: zone, others: reverse, o: o, want: want, not: others(hostIDs, want...)}
}

var heloSPF = txt("mail", "v=spf1 a -all")

var _ = addCases(
	hostCase("a sender with one confirmed name", "hosts-good.test", "mail A 192.0.2.20\n"+heloSPF, sender("192.0.2.20", "mail.hosts-good.test", true), "ptr.ok"),
	hostCase("an address of SPF without a name", "hosts-spf.test", txt("@", "v=spf1 ip4:192.0.2.99 -all"), Options{}, "ptr.missing"),
	hostCase("a mail host without a name", "hosts-mx.test", "@ MX 10 mx1\nmx1 A 192.0.2.98\n", Options{}, "ptr.missing"),
	hostCase("a name that resolves elsewhere", "hosts-unconfirmed.test", "mail A 198.51.100.21\n"+heloSPF,
		sender("192.0.2.21", "mail.hosts-unconfirmed.test", false), "ptr.not_confirmed"),
	hostCase("a name of one label", "hosts-label.test", txt("@", "v=spf1 ip4:192.0.2.26 -all"), Options{}, "ptr.not_confirmed"),
	hostCase("another name in HELO", "hosts-helo.test", "mail A 192.0.2.22\nout A 192.0.2.22\n"+txt("out", "v=spf1 a -all"),
		sender("192.0.2.22", "out.hosts-helo.test", true), "ptr.helo_differs"),
	hostCase("a name of a dial-up customer", "hosts-dynamic.test", "", sender("192.0.2.23", "", false), "ptr.dynamic"),
	hostCase("a name of a dial-up customer beside an own one", "hosts-dynamic-own.test", "mail A 192.0.2.24\n", sender("192.0.2.24", "", false)),
	hostCase("a name with the address that says static", "hosts-static.test", "", sender("192.0.2.30", "", false)),
	hostCase("several names without that of HELO", "hosts-several.test", "a A 192.0.2.25\nb A 192.0.2.25\nmail A 192.0.2.25\n"+heloSPF,
		sender("192.0.2.25", "mail.hosts-several.test", true), "ptr.many"),
	hostCase("several names with that of HELO", "hosts-several-helo.test", "a A 192.0.2.33\nb A 192.0.2.33\n"+txt("a", "v=spf1 a -all"),
		sender("192.0.2.33", "a.hosts-several-helo.test", false)),
	hostCase("eleven names", "hosts-many.test", "n01 A 192.0.2.27\n", sender("192.0.2.27", "", false), "ptr.many"),
	hostCase("a reverse zone of less than 256 addresses (RFC 2317)", "hosts-classless.test", "mail A 192.0.2.32\n"+heloSPF,
		sender("192.0.2.32", "mail.hosts-classless.test", true), "ptr.ok"),
	hostCase("HELO of one label", "hosts-helo-label.test", "mail A 192.0.2.34\n", sender("192.0.2.34", "mail", true), "helo.not_fqdn"),
	hostCase("an address in HELO", "hosts-helo-address.test", "mail A 192.0.2.35\n", sender("192.0.2.35", "[192.0.2.35]", true), "helo.not_fqdn"),
	hostCase("localhost in HELO", "hosts-helo-localhost.test", "mail A 192.0.2.36\n", sender("192.0.2.36", "localhost.localdomain", true), "helo.not_fqdn"),
	hostCase("HELO that does not resolve", "hosts-helo-gone.test", "", sender("192.0.2.99", "mail.hosts-helo-gone.test", false), "helo.unresolvable", "helo.no_spf", "ptr.missing"),
	hostCase("an own host without address", "hosts-own-gone.test", heloSPF, sender("192.0.2.99", "mail.hosts-own-gone.test", true), "helo.unresolvable", "host.no_address", "ptr.missing"),
	hostCase("an own host that sends from another address", "hosts-own.test", "mail A 198.51.100.28\n"+heloSPF,
		sender("192.0.2.28", "mail.hosts-own.test", true), "host.address_missing", "ptr.not_confirmed"),
	hostCase("no SPF for HELO", "hosts-helo-spf.test", "mail A 192.0.2.99\n", sender("192.0.2.99", "mail.hosts-helo-spf.test", true), "helo.no_spf", "ptr.missing"),
)
