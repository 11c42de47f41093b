package records

import (
	"net/netip"
	"strings"
)

// spfCase is a case with one SPF record and what else the zone holds.
func spfCase(name, record, zone string, want, not []string) zoneCase {
	return zoneCase{name: "spf " + name, domain: "spf-" + strings.ToLower(strings.ReplaceAll(name, " ", "-")) + ".test", zone: txt("@", record) + zone, want: want, not: not}
}

func ids(s string) []string { return strings.Fields(s) }

// hosts is n hosts with addresses, and a record that names them.
func hosts(n int) (record, zone string) {
	record = "v=spf1"
	for i := range n {
		record += " a:h" + itoa(i) + ".DOMAIN"
		zone += "h" + itoa(i) + " A 192.0.2." + itoa(i+1) + "\nh" + itoa(i) + " AAAA 2001:db8::" + itoa(i+1) + "\n"
	}
	return record, zone
}

// limitCase is a case with n terms to be looked up.
func limitCase(name string, n int, want, not []string) zoneCase {
	record, zone := hosts(n)
	c := spfCase(name, strings.ReplaceAll(record, "DOMAIN", "spf-"+strings.ReplaceAll(name, " ", "-")+".test")+" -all", zone, want, not)
	return c
}

const spfErrors = "spf.missing spf.multiple spf.near_miss spf.syntax spf.bad_address spf.non_ascii spf.strings_glued spf.size spf.lookup_limit spf.lookup_near " +
	"spf.void_limit spf.void spf.mx_over_10 spf.include_missing spf.include_broken spf.loop spf.include_twice spf.unregistered spf.plus_all spf.too_wide " +
	"spf.neutral_all spf.no_all spf.after_all spf.redirect_and_all spf.redirect_missing spf.modifier_twice spf.ptr spf.macro_bad spf.macro spf.private_address " +
	"spf.untidy spf.source_missing spf.obsolete dns.lookup_failed"

func with(c zoneCase, change func(c *zoneCase)) zoneCase {
	change(&c)
	return c
}

var _ = addCases(
	spfCase("good", "v=spf1 mx a:out.spf-good.test include:_spf.spf-good.test -all", `
@ MX 10 mx
mx A 192.0.2.1
mx AAAA 2001:db8::1
out A 192.0.2.2
out AAAA 2001:db8::2
`+txt("_spf", "v=spf1 ip4:198.51.100.0/24 ip6:2001:db8:5::/48 ~all"), ids("spf.ok"), ids(spfErrors+" spf.softfail")),
	spfCase("soft", "v=spf1 ip4:192.0.2.0/24 ~all", "", ids("spf.ok spf.softfail"), ids(spfErrors)),
	spfCase("redirect", "v=spf1 redirect=_spf.spf-redirect.test", txt("_spf", "v=spf1 ip4:192.0.2.0/24 -all"), ids("spf.ok"), ids(spfErrors+" spf.softfail")),
	spfCase("beside others", "v=spf1 -all", txt("@", "google-site-verification=x")+txt("@", "I am about v=spf1 records"), ids("spf.ok"), ids(spfErrors)),
	spfCase("split", "v=spf1 ip4:192.0.2.0/24 include:_spf."+strings.Repeat("long", 10)+".spf-split.test ip4:198.51.100.0/24 "+strings.Repeat("ip4:203.0.113.1 ", 1)+
		"ip4:203.0.113.2 ip4:203.0.113.3 ip4:203.0.113.4 ip4:203.0.113.5 ip4:203.0.113.6 ip4:203.0.113.7 ip4:203.0.113.8 ip4:203.0.113.9 ip4:203.0.113.10 -all",
		txt("_spf."+strings.Repeat("long", 10), "v=spf1 -all"), ids("spf.ok"), ids(spfErrors)),

	zoneCase{name: "spf missing", domain: "spf-missing.test", zone: "@ MX 10 mx\nmx A 192.0.2.1\n", want: ids("spf.missing"), not: ids("spf.ok spf.near_miss spf.multiple spf.no_all")},
	spfCase("multiple", "v=spf1 a -all", txt("@", "V=SPF1 mx ~all"), ids("spf.multiple"), ids("spf.ok spf.missing")),
	zoneCase{name: "spf blank first", domain: "spf-blank.test", zone: txt("@", " v=spf1 -all"), want: ids("spf.near_miss spf.missing"), not: ids("spf.ok")},
	zoneCase{name: "spf version 10", domain: "spf-ten.test", zone: txt("@", "v=spf10 mx -all"), want: ids("spf.near_miss spf.missing"), not: ids("spf.ok")},
	zoneCase{name: "spf quotes", domain: "spf-quotes.test", zone: txt("@", `"v=spf1 mx -all"`), want: ids("spf.near_miss spf.missing"), not: ids("spf.ok")},
	zoneCase{name: "spf byte order mark", domain: "spf-bom.test", zone: txt("@", "\ufeffv=spf1 mx -all"), want: ids("spf.near_miss spf.missing"), not: ids("spf.ok")},
	zoneCase{name: "spf wrong name", domain: "spf-name.test", zone: txt("_spf", "v=spf1 mx -all"), want: ids("spf.near_miss spf.missing"), not: ids("spf.ok")},
	spfCase("obsolete", "v=spf1 -all", txt("@", "spf2.0/pra ?all"), ids("spf.obsolete spf.ok"), ids("spf.near_miss")),
	spfCase("obsolete type", "v=spf1 -all", "@ SPF \"v=spf1 -all\"\n", ids("spf.obsolete spf.ok"), ids("spf.multiple")),
	spfCase("syntax", "v=spf1 mx inlcude:x.test -all", "", ids("spf.syntax"), ids("spf.ok spf.bad_address")),
	spfCase("syntax after all", "v=spf1 -all foo", "", ids("spf.syntax"), ids("spf.ok")),
	spfCase("syntax in own include", "v=spf1 include:_spf.spf-syntax-in-own-include.test -all", txt("_spf", "v=spf1 foo -all"), ids("spf.syntax spf.include_broken"), ids("spf.ok")),
	spfCase("bad address", "v=spf1 ip4:192.0.2.300 -all", "", ids("spf.bad_address"), ids("spf.ok spf.syntax")),
	spfCase("non ascii", "v=spf1 mx –all", "", ids("spf.non_ascii"), ids("spf.ok spf.syntax")),
	spfCase("size", "v=spf1"+strings.Repeat(" ip6:2001:db8:1234:1234::/64 ip4:192.0.2.0/24", 11)+" -all", "", ids("spf.size spf.ok"), nil),
	spfCase("answer size", "v=spf1 -all", txt("@", strings.Repeat("x", 250))+txt("@", strings.Repeat("y", 250)), ids("spf.size spf.ok"), nil),
	with(spfCase("glued", "", "", ids("spf.strings_glued"), ids("spf.ok spf.syntax spf.bad_address")), func(c *zoneCase) {
		c.zone = `@ TXT "v=spf1 ip4:192.0.2.1" "ip4:192.0.2.2 -all"`
	}),
	with(spfCase("glued version", "", "", ids("spf.strings_glued spf.missing"), ids("spf.ok")), func(c *zoneCase) {
		c.zone = `@ TXT "v=spf1" "mx -all"`
	}),
	with(spfCase("strings with a blank", "", "", ids("spf.ok"), ids(spfErrors)), func(c *zoneCase) {
		c.zone = `@ TXT "v=spf1 ip4:192.0.2.1 ip4:198.51." "100.2 " "-all"`
	}),
	spfCase("macro bad", "v=spf1 exists:%{z}.x.test -all", "", ids("spf.macro_bad"), ids("spf.ok spf.macro")),
	spfCase("macro", "v=spf1 exists:%{i}.x.test -all", "", ids("spf.macro spf.ok"), ids("spf.macro_bad spf.void spf.unregistered")),
	spfCase("macro of the domain", "v=spf1 include:_spf.%{d} -all", txt("_spf", "v=spf1 -all"), ids("spf.ok"), ids(spfErrors)),
	spfCase("modifier twice", "v=spf1 exp=a.x.test exp=b.x.test -all", "", ids("spf.modifier_twice"), ids("spf.ok")),

	limitCase("lookups 7", 7, ids("spf.ok"), ids("spf.lookup_near spf.lookup_limit")),
	limitCase("lookups 8", 8, ids("spf.ok spf.lookup_near"), ids("spf.lookup_limit")),
	limitCase("lookups 10", 10, ids("spf.ok spf.lookup_near"), ids("spf.lookup_limit")),
	limitCase("lookups 11", 11, ids("spf.lookup_limit"), ids("spf.ok spf.lookup_near")),
	spfCase("one void", "v=spf1 a:no.spf-one-void.test -all", "", ids("spf.void spf.ok"), ids("spf.void_limit spf.unregistered")),
	spfCase("three voids", "v=spf1 a:no.spf-three-voids.test mx exists:no2.spf-three-voids.test -all", "", ids("spf.void_limit"), ids("spf.void spf.ok")),
	spfCase("void for IPv4", "v=spf1 a -all", "@ AAAA 2001:db8::1\n", ids("spf.void spf.ok"), ids("spf.void_limit")),
	spfCase("without IPv6", "v=spf1 a -all", "@ A 192.0.2.1\n", ids("spf.ok"), ids("spf.void spf.void_limit")),
	spfCase("eleven mail hosts", "v=spf1 mx -all", func() string {
		zone := ""
		for i := range 11 {
			zone += "@ MX 10 m" + itoa(i) + "\nm" + itoa(i) + " A 192.0.2." + itoa(i+1) + "\n"
		}
		return zone
	}(), ids("spf.mx_over_10"), ids("spf.ok")),
	spfCase("ten mail hosts", "v=spf1 mx -all", func() string {
		zone := ""
		for i := range 10 {
			zone += "@ MX 10 m" + itoa(i) + "\nm" + itoa(i) + " A 192.0.2." + itoa(i+1) + "\n"
		}
		return zone
	}(), ids("spf.ok"), ids("spf.mx_over_10")),
	spfCase("include missing", "v=spf1 include:no.spf-include-missing.test -all", "", ids("spf.include_missing"), ids("spf.ok spf.unregistered spf.include_broken")),
	spfCase("include without SPF", "v=spf1 include:x.spf-include-without-spf.test -all", txt("x", "hello"), ids("spf.include_missing"), ids("spf.ok spf.unregistered")),
	with(spfCase("include broken", "v=spf1 include:spf-provider-broken.test -all", "", ids("spf.include_broken"), ids("spf.ok spf.syntax spf.include_missing")), func(c *zoneCase) {
		c.others = map[string]string{"spf-provider-broken.test": txt("@", "v=spf1 foo -all")}
	}),
	with(spfCase("include of two", "v=spf1 include:spf-provider-two.test -all", "", ids("spf.include_broken"), ids("spf.ok spf.multiple")), func(c *zoneCase) {
		c.others = map[string]string{"spf-provider-two.test": txt("@", "v=spf1 -all") + txt("@", "v=spf1 ~all")}
	}),
	with(spfCase("include broken below", "v=spf1 include:spf-provider-nested.test -all", "", ids("spf.include_broken"), ids("spf.ok spf.include_missing")), func(c *zoneCase) {
		c.others = map[string]string{"spf-provider-nested.test": txt("@", "v=spf1 include:no.spf-provider-nested.test -all")}
	}),
	spfCase("loop", "v=spf1 include:a.spf-loop.test -all", txt("a", "v=spf1 include:b.spf-loop.test -all")+txt("b", "v=spf1 redirect=spf-loop.test"), ids("spf.loop"), ids("spf.ok")),
	spfCase("include twice", "v=spf1 include:a.spf-include-twice.test include:b.spf-include-twice.test -all",
		txt("a", "v=spf1 include:c.spf-include-twice.test -all")+txt("b", "v=spf1 include:c.spf-include-twice.test -all")+txt("c", "v=spf1 -all"), ids("spf.include_twice spf.ok"), ids("spf.loop")),
	spfCase("unregistered", "v=spf1 include:_spf.spf-nobody-has-this.test -all", "", ids("spf.unregistered spf.include_missing"), ids("spf.ok")),
	with(spfCase("unregistered below", "v=spf1 include:spf-provider-old.test -all", "", ids("spf.unregistered spf.void"), nil), func(c *zoneCase) {
		c.others = map[string]string{"spf-provider-old.test": txt("@", "v=spf1 a:mail.spf-nobody-has-that.test -all")}
	}),
	spfCase("unregistered alias", "v=spf1 a:mail.spf-unregistered-alias.test -all", "mail CNAME x.spf-nobody-has-the-alias.test.\n", ids("spf.unregistered spf.void"), nil),
	spfCase("unregistered mail host", "v=spf1 mx -all", "@ MX 10 x.spf-nobody-has-the-host.test.\n", ids("spf.unregistered"), ids("spf.void")),
	spfCase("near miss beside", "v=spf1 mx -all", txt("@", " v=spf1 mx -all"), ids("spf.near_miss"), ids("spf.missing spf.multiple")),
	spfCase("plus all", "v=spf1 +all", "", ids("spf.plus_all"), ids("spf.ok spf.too_wide")),
	spfCase("bare all", "v=spf1 mx all", "", ids("spf.plus_all"), ids("spf.ok")),
	with(spfCase("plus all below", "v=spf1 include:spf-provider-open.test -all", "", ids("spf.plus_all"), ids("spf.ok")), func(c *zoneCase) {
		c.others = map[string]string{"spf-provider-open.test": txt("@", "v=spf1 +all")}
	}),
	with(spfCase("minus all below", "v=spf1 include:spf-provider-shut.test -all", "", ids("spf.ok"), ids("spf.plus_all")), func(c *zoneCase) {
		c.others = map[string]string{"spf-provider-shut.test": txt("@", "v=spf1 ip4:192.0.2.0/24 -all")}
	}),
	spfCase("everything", "v=spf1 ip4:0.0.0.0/0 -all", "", ids("spf.too_wide"), ids("spf.ok")),
	spfCase("too wide", "v=spf1 ip4:192.0.0.0/11 -all", "", ids("spf.too_wide spf.ok"), nil),
	spfCase("wide enough", "v=spf1 ip4:192.0.0.0/12 -ip4:128.0.0.0/1 -all", "", ids("spf.ok"), ids("spf.too_wide")),
	spfCase("neutral", "v=spf1 ip4:192.0.2.1 ?all", "", ids("spf.neutral_all"), ids("spf.ok spf.no_all")),
	spfCase("no all", "v=spf1 ip4:192.0.2.1", "", ids("spf.no_all"), ids("spf.ok spf.neutral_all")),
	spfCase("after all", "v=spf1 -all ip4:192.0.2.1 mx", "", ids("spf.after_all spf.ok"), ids("spf.void")),
	spfCase("redirect and all", "v=spf1 redirect=no.spf-redirect-and-all.test -all", "", ids("spf.redirect_and_all spf.ok"), ids("spf.redirect_missing spf.void")),
	spfCase("redirect missing", "v=spf1 redirect=no.spf-redirect-missing.test", "", ids("spf.redirect_missing"), ids("spf.ok spf.include_missing")),
	spfCase("ptr", "v=spf1 ptr -all", "", ids("spf.ptr spf.ok"), ids("spf.macro")),
	spfCase("private", "v=spf1 ip4:10.1.0.0/16 ip6:fe80::1 -all", "", ids("spf.private_address spf.ok"), nil),
	spfCase("untidy", "v=spf1 ip4:192.0.2.7/24 -all", "", ids("spf.untidy spf.ok"), nil),
	spfCase("contained", "v=spf1 ip4:192.0.2.7 ip4:192.0.2.0/24 -all", "", ids("spf.untidy spf.ok"), nil),
	spfCase("exception", "v=spf1 -ip4:192.0.2.7 ip4:192.0.2.0/24 -all", "", ids("spf.ok"), ids("spf.untidy")),
	with(spfCase("source missing", "v=spf1 ip4:192.0.2.1 ~all", "", ids("spf.source_missing"), nil), func(c *zoneCase) {
		c.o.Senders = []Sender{{Addr: netip.MustParseAddr("198.51.100.7"), HELO: "out.spf-source-missing.test", Own: true}}
	}),
	with(spfCase("source there", "v=spf1 ip4:192.0.2.1 ~all", "", nil, ids("spf.source_missing")), func(c *zoneCase) {
		c.o.Senders = []Sender{{Addr: netip.MustParseAddr("192.0.2.1"), Own: true}, {Addr: netip.MustParseAddr("198.51.100.7")}}
	}),
)
