package records

var caaIDs = []string{"caa.none", "caa.invalid", "caa.blocks"}

func caaCase(name, domain, zone string, want ...string) zoneCase {
	return zoneCase{name: name, domain: domain, zone: zone, want: want, not: others(caaIDs, want...)}
}

var bimiIDs = []string{"bimi.invalid", "bimi.dmarc_weak"}

func bimiCase(name, domain, zone string, want ...string) zoneCase {
	return zoneCase{name: name, domain: domain, zone: zone, want: want, not: others(bimiIDs, want...)}
}

var (
	strong   = txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:d@corp.example")
	wholeLog = txt("default._bimi", "v=BIMI1; l=https://corp.example/logo.svg; a=https://corp.example/logo.pem")
)

var _ = addCases(
	caaCase("one authority may issue", "caa-good.test", "@ CAA 0 issue \"letsencrypt.org; validationmethods=dns-01\"\n@ CAA 0 iodef \"mailto:ca@corp.example\"\n"),
	caaCase("nobody may issue", "caa-nobody.test", "@ CAA 0 issue \";\"\n"),
	caaCase("any authority may issue", "caa-none.test", "", "caa.none"),
	caaCase("an unknown critical tag", "caa-critical.test", "@ CAA 128 tbs \"unknown\"\n@ CAA 0 issue \"letsencrypt.org\"\n", "caa.invalid"),
	caaCase("an unknown tag that is not critical", "caa-other.test", "@ CAA 0 tbs \"unknown\"\n"),
	caaCase("an authority by its URL", "caa-url.test", "@ CAA 0 issue \"https://letsencrypt.org\"\n", "caa.invalid"),
	zoneCase{name: "what the domain above allows", domain: "sub.caa-above.test", zone: "", others: map[string]string{"caa-above.test": "@ CAA 0 issue \"letsencrypt.org\"\n"},
		not: caaIDs},

	bimiCase("a logo with certificate, and a policy of reject", "bimi-good.test", wholeLog+strong),
	bimiCase("no logo", "bimi-none.test", strong),
	bimiCase("two records", "bimi-several.test", wholeLog+txt("default._bimi", "v=BIMI1; l=https://corp.example/2.svg")+strong, "bimi.invalid"),
	bimiCase("a logo over plain HTTP", "bimi-http.test", txt("default._bimi", "v=BIMI1; l=http://corp.example/logo.svg; a=https://corp.example/logo.pem")+strong, "bimi.invalid"),
	bimiCase("a logo without certificate", "bimi-plain.test", txt("default._bimi", "v=BIMI1; l=https://corp.example/logo.svg; a=;")+strong, "bimi.invalid"),
	bimiCase("no logo is wanted", "bimi-declined.test", txt("default._bimi", "v=BIMI1; l=; a=;")),
	bimiCase("a policy of none", "bimi-weak.test", wholeLog+txt("_dmarc", "v=DMARC1; p=none; rua=mailto:d@corp.example"), "bimi.dmarc_weak"),
	bimiCase("no policy", "bimi-no-dmarc.test", wholeLog, "bimi.dmarc_weak"),
	bimiCase("a policy of none for sub-domains", "bimi-sp.test", wholeLog+txt("_dmarc", "v=DMARC1; p=reject; sp=none; rua=mailto:d@corp.example"), "bimi.dmarc_weak"),
	bimiCase("a policy that is only tested", "bimi-test.test", wholeLog+txt("_dmarc", "v=DMARC1; p=reject; t=y; rua=mailto:d@corp.example"), "bimi.dmarc_weak"),

	zoneCase{name: "a large sender with all it needs", domain: "bulk-good.test", zone: strong,
		o: Options{Traffic: Traffic{MessagesADay: 9000, SPF: true, DKIM: true, Aligned: true}}, not: []string{"bulk.sender"}},
	zoneCase{name: "a large sender without DKIM", domain: "bulk-dkim.test", zone: strong,
		o: Options{Traffic: Traffic{MessagesADay: 9000, SPF: true, Aligned: true}}, want: []string{"bulk.sender"}},
	zoneCase{name: "a large sender without DMARC", domain: "bulk-dmarc.test",
		o: Options{Traffic: Traffic{MessagesADay: 9000, SPF: true, DKIM: true, Aligned: true}}, want: []string{"bulk.sender"}},
	zoneCase{name: "a small sender", domain: "bulk-small.test", o: Options{Traffic: Traffic{MessagesADay: 5000}}, not: []string{"bulk.sender"}},

	zoneCase{name: "a domain without mail that says so everywhere", domain: "parked-closed.test", not: []string{"parked.open"},
		zone: "@ MX 0 .\n" + txt("@", "v=spf1 -all") + txt("*._domainkey", "v=DKIM1; p=") + txt("_dmarc", "v=DMARC1; p=reject")},
	zoneCase{name: "a domain without mail that says so everywhere but in MX", domain: "parked-no-mx.test", want: []string{"parked.open"},
		zone: txt("@", "v=spf1 -all") + txt("*._domainkey", "v=DKIM1; p=") + txt("_dmarc", "v=DMARC1; p=reject")},
	zoneCase{name: "a null MX and nothing else", domain: "parked-open.test", zone: "@ MX 0 .\n", want: []string{"parked.open"}},
	zoneCase{name: "a domain with a web site only", domain: "parked-web.test", zone: "@ A 192.0.2.80\n", want: []string{"parked.open", "mx.implicit"},
		not: []string{"mtasts.missing", "tlsrpt.missing"}},
	zoneCase{name: "a domain that takes mail", domain: "parked-mail.test", zone: twoMailHosts, not: []string{"parked.open"}},
	zoneCase{name: "a domain that sends without taking mail", domain: "parked-sends.test", zone: "@ MX 0 .\n", o: Options{Sends: SendingYes}, not: []string{"parked.open"}},
	zoneCase{name: "a domain whose SPF record lets somebody send", domain: "parked-spf.test", zone: txt("@", "v=spf1 mx -all"), not: []string{"parked.open"}},
	zoneCase{name: "the same, but the operator knows better", domain: "parked-known.test", zone: txt("@", "v=spf1 mx -all"), o: Options{Sends: SendingNo}, want: []string{"parked.open"}},
)
