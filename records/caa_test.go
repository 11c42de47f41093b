package records

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestCAARecordsSayWhatIsWrongWithThem(t *testing.T) {
	for text, want := range map[string]string{
		`0 issue "letsencrypt.org"`:            "",
		`0 ISSUE "letsencrypt.org"`:            "",
		`128 issue "letsencrypt.org"`:          "",
		`0 issue ";"`:                          "",
		`0 issue ""`:                           "",
		`0 issue " ca.example ; a=b ; c = d "`: "",
		`0 issue "ca.example; accounturi=https://ca.example/a?b=c"`: "",
		`0 issuewild "ca.example"`:                                  "",
		`0 issuemail "ca.example"`:                                  "",
		`0 iodef "mailto:ca@corp.example"`:                          "",
		`0 iodef "https://corp.example/"`:                           "",
		`0 future "anything"`:                                       "",
		`1 future "anything"`:                                       "",
		`128 future "anything"`:                                     "the tag is critical, but no CA knows it, so none may issue",
		`0 issue "https://ca.example"`:                              `"https://ca.example" is not the domain of a CA`,
		`0 issue "ca_example.org"`:                                  `"ca_example.org" is not the domain of a CA`,
		`0 issue "ca..example"`:                                     `"ca..example" is not the domain of a CA`,
		`0 issue "ca.example; validationmethods"`:                   `"validationmethods" is no parameter of the form name=value`,
		`0 issue "ca.example; a=b, c=d"`:                            `"a=b, c=d" is no parameter of the form name=value`,
		`0 iodef "ca@corp.example"`:                                 "the value is no mailto: or https: address",
	} {
		rr, err := dns.NewRR("corp.test. CAA " + text)
		if err != nil {
			t.Fatal(err)
		}
		if got := badCAA(rr.(*dns.CAA)); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestRecordsThatForbidTheCAOfAHost(t *testing.T) {
	letsEncrypt, unknown := newAuthority("Let's Encrypt"), newAuthority("Nobody in particular")
	for _, c := range []struct {
		name string
		caa  string
		ca   *authority
		for_ string // of the certificate
		want string // what is to be published
	}{
		{"allowed", `@ CAA 0 issue "letsencrypt.org"`, letsEncrypt, "mx1.corp.test", ""},
		{"allowed with parameters, among others", "@ CAA 0 issue \"other.example\"\n@ CAA 0 issue \"LetsEncrypt.org; a=b\"", letsEncrypt, "mx1.corp.test", ""},
		{"no records", "", letsEncrypt, "mx1.corp.test", ""},
		{"records that limit nobody", `@ CAA 0 iodef "mailto:ca@corp.example"`, letsEncrypt, "mx1.corp.test", ""},
		{"another CA", `@ CAA 0 issue "digicert.com"`, letsEncrypt, "mx1.corp.test", `corp.test. IN CAA 0 issue "letsencrypt.org"`},
		{"nobody", `@ CAA 0 issue ";"`, letsEncrypt, "mx1.corp.test", `corp.test. IN CAA 0 issue "letsencrypt.org"`},
		{"closer to the host", "@ CAA 0 issue \"letsencrypt.org\"\nmx1 CAA 0 issue \"digicert.com\"", letsEncrypt, "mx1.corp.test", `mx1.corp.test. IN CAA 0 issue "letsencrypt.org"`},
		{"wildcards", "@ CAA 0 issue \"letsencrypt.org\"\n@ CAA 0 issuewild \";\"", letsEncrypt, "*.corp.test", `corp.test. IN CAA 0 issuewild "letsencrypt.org"`},
		{"wildcards, but the certificate is none", "@ CAA 0 issue \"letsencrypt.org\"\n@ CAA 0 issuewild \";\"", letsEncrypt, "mx1.corp.test", ""},
		{"wildcards by issue", `@ CAA 0 issue "digicert.com"`, letsEncrypt, "*.corp.test", `corp.test. IN CAA 0 issuewild "letsencrypt.org"`},
		{"a CA that is not known", `@ CAA 0 issue "digicert.com"`, unknown, "mx1.corp.test", ""},
	} {
		cert := c.ca.issue(time.Hour, c.for_).Leaf
		r := newZoneResolver(t, map[string]string{"corp.test": "@ MX 10 mx1\nmx1 A 192.0.2.10\n" + c.caa + "\n"})
		got := ""
		for _, f := range checkCAA(lookedUp(t, r, "corp.test", Options{Probe: shownChains{"mx1.corp.test": {cert}}})) {
			if f.ID == "caa.blocks" {
				got = f.Publish()
			}
		}
		if got != c.want {
			t.Errorf("%s: to publish %q", c.name, got)
		}
	}
}

func TestTheHostOfThePolicyIsHeldAgainstCAA(t *testing.T) {
	cert := newAuthority("Let's Encrypt").issue(time.Hour, "mta-sts.corp.test").Leaf
	r := newZoneResolver(t, map[string]string{"corp.test": "@ CAA 0 issue \"digicert.com\"\n" + stsRecord + policyHost})
	o := Options{Probe: shownChains{"mta-sts.corp.test": []*x509.Certificate{cert}}, Fetcher: servedPolicy{body: policyStart}}
	if got, want := idsOf(checkCAA(lookedUp(t, r, "corp.test", o))), []string{"warning caa.blocks mta-sts.corp.test"}; !slices.Equal(got, want) {
		t.Errorf("findings: %q", got)
	}
}

func TestTheAuthoritiesToNameAreThoseInUse(t *testing.T) {
	own := newAuthority("Let's Encrypt").issue(time.Hour, "mx1.corp.test").Leaf
	foreign := newAuthority("DigiCert Inc").issue(time.Hour, "mx.host.test").Leaf
	r := newZoneResolver(t, map[string]string{"corp.test": "@ MX 10 mx1\n@ MX 20 mx.host.test.\nmx1 A 192.0.2.10\n", "host.test": "mx A 192.0.2.11\n"})
	for probe, want := range map[*shownChains]string{
		{"mx1.corp.test": {own}, "mx.host.test": {foreign}}: `corp.test. IN CAA 0 issue "letsencrypt.org"`,
		{"mx.host.test": {foreign}}:                         "", // whose zone has CAA records of its own
		{}:                                                  "",
	} {
		got := checkCAA(lookedUp(t, r, "corp.test", Options{Probe: *probe}))
		if len(got) != 1 || got[0].ID != "caa.none" || got[0].Publish() != want {
			t.Errorf("%v: to publish %q", probe, got[0].Publish())
		}
	}
}

func TestCAAIsClimbedToTheTop(t *testing.T) {
	zones := map[string]string{"test": "", "corp.test": "a.b TXT x\n"}
	r := newZoneResolver(t, zones)
	p := lookedUp(t, r, "a.b.corp.test", Options{})
	var asked []string
	for _, a := range p.CAA.Sets[0].Answers {
		asked = append(asked, a.Name)
	}
	if want := []string{"a.b.corp.test", "b.corp.test", "corp.test", "test"}; !slices.Equal(asked, want) {
		t.Errorf("asked: %q", asked)
	}
	r = newZoneResolver(t, zones)
	r.broken["corp.test CAA"] = Answer{Rcode: dns.RcodeServerFailure}
	if got := checkCAA(lookedUp(t, r, "a.b.corp.test", Options{})); len(got) > 0 {
		t.Errorf("a lookup on the way fails: %q", idsOf(got))
	}
}

func TestBIMIRecordsSayWhatIsWrongWithThem(t *testing.T) {
	for text, want := range map[string]string{
		"v=BIMI1; l=https://corp.example/logo.svg; a=https://corp.example/logo.pem": "",
		"v=BIMI1;l=https://corp.example/logo.svg":                                   "",
		"v=BIMI1; l=; a=;": "",
		"v=BIMI1; l=":      "",
		"v=BIMI1; l=https://corp.example/logo.svg; avp=brand; x=y": "",
		"v=bimi1; l=https://corp.example/logo.svg":                 "it does not begin with v=BIMI1;",
		"l=https://corp.example/logo.svg; v=BIMI1":                 "it does not begin with v=BIMI1;",
		"v=BIMI1": "there is no l=",
		"v=BIMI1; a=https://corp.example/logo.pem":                                  "there is no l=",
		"v=BIMI1; l=; a=https://corp.example/logo.pem":                              "l= is empty",
		"v=BIMI1; l=http://corp.example/logo.svg":                                   "l=http://corp.example/logo.svg is not an address that begins with https:",
		"v=BIMI1; l=https://a.example/1.svg,https://a.example/2.svg":                "l=https://a.example/1.svg,https://a.example/2.svg is not an address that begins with https:",
		"v=BIMI1; l=https://corp.example/logo.svg; a=self":                          "a=self is not an address that begins with https:",
		"v=BIMI1; l=https://corp.example/logo.svg; l=https://corp.example/logo.svg": "the tag l stands twice",
		"v=BIMI1 l=https://corp.example/logo.svg":                                   "it does not begin with v=BIMI1;",
		"v=BIMI1; https://corp.example/logo.svg":                                    `"https://corp.example/logo.svg" has no =`,
	} {
		if got := parseBIMI(text); got.why != want {
			t.Errorf("%s: %q", text, got.why)
		}
	}
}

func TestTheLogoOfTheOrganizationIsTakenForWhatIsBelow(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": txt("default._bimi", "v=BIMI1; l=http://corp.example/logo.svg") + "sub TXT x\n" + strong})
	if got, want := idsOf(checkBIMI(lookedUp(t, r, "sub.corp.test", Options{}))), []string{"warning bimi.invalid default._bimi.corp.test"}; !slices.Equal(got, want) {
		t.Errorf("findings: %q", got)
	}
}

func TestWhatCannotBeLookedUpMakesNothingWeakOrOpen(t *testing.T) {
	zones := map[string]string{"corp.test": "@ MX 0 .\n" + wholeLog}
	for broken, want := range map[string]string{
		"_dmarc.corp.test":               "an SPF record that allows nobody, a wildcard that revokes all DKIM keys",
		"corp.test TXT":                  "",
		"random._domainkey.corp.test":    "an SPF record that allows nobody, a DMARC policy of reject",
		"corp.test MX":                   "",
		"nothing.fails.at.all.corp.test": "an SPF record that allows nobody, a wildcard that revokes all DKIM keys, a DMARC policy of reject",
	} {
		r := newZoneResolver(t, zones)
		r.broken[broken] = Answer{Rcode: dns.RcodeServerFailure}
		p := lookedUp(t, r, "corp.test", Options{RandomLabel: "random"})
		missing := ""
		for _, f := range checkParked(p) {
			missing = f.Value("missing")
		}
		if missing != want {
			t.Errorf("%s fails: missing %q", broken, missing)
		}
		if got := idsOf(checkBIMI(p)); broken == "_dmarc.corp.test" && len(got) != 0 {
			t.Errorf("%s fails: %q", broken, got)
		}
	}
	r := newZoneResolver(t, zones)
	r.broken["default._bimi.corp.test"] = Answer{Err: "timeout"}
	if got := checkBIMI(lookedUp(t, r, "corp.test", Options{})); len(got) > 0 {
		t.Errorf("the logo cannot be looked up: %q", idsOf(got))
	}
}

func TestLargeSendersLackWhatIsKnownToBeMissing(t *testing.T) {
	all := Traffic{MessagesADay: 5001, SPF: true, DKIM: true, Aligned: true}
	reversed := map[string]string{"corp.test": strong + "mail A 192.0.2.20\n", "2.0.192.in-addr.arpa": "20 PTR mail.corp.test.\n21 PTR mail.corp.test.\n"}
	for _, c := range []struct {
		name    string
		sender  string
		broken  string
		change  func(*Traffic)
		missing string
	}{
		{"nothing", "192.0.2.20", "", func(*Traffic) {}, ""},
		{"a name that is not confirmed", "192.0.2.21", "", func(*Traffic) {}, "Gmail and Yahoo: a confirmed reverse name for every sending address"},
		{"a name that cannot be looked up", "192.0.2.21", "mail.corp.test", func(*Traffic) {}, ""},
		{"a policy that cannot be looked up", "192.0.2.20", "_dmarc.corp.test", func(*Traffic) {}, ""},
		{"alignment", "192.0.2.20", "", func(t *Traffic) { t.Aligned = false }, "Gmail, Yahoo and Outlook.com: alignment of SPF or DKIM with From"},
		{"all of it", "192.0.2.22", "", func(t *Traffic) { *t = Traffic{MessagesADay: 5001} },
			"Gmail, Yahoo and Outlook.com: SPF, DKIM, alignment of SPF or DKIM with From, a confirmed reverse name for every sending address"},
		{"little mail", "192.0.2.22", "", func(t *Traffic) { *t = Traffic{MessagesADay: 5000} }, ""},
	} {
		r := newZoneResolver(t, reversed)
		r.broken[c.broken] = Answer{Err: "timeout"}
		o := sender(c.sender, "", false)
		o.Traffic = all
		c.change(&o.Traffic)
		got := ""
		for _, f := range checkBulk(lookedUp(t, r, "corp.test", o)) {
			got = f.Value("provider") + ": " + f.Value("missing")
		}
		if got != c.missing {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func FuzzCAA(f *testing.F) {
	f.Add("issue", "letsencrypt.org; a=b", uint8(0))
	f.Add("iodef", "mailto:x", uint8(128))
	f.Add("", "\\", uint8(255))
	f.Fuzz(func(t *testing.T, tag, value string, flag uint8) {
		c := &dns.CAA{Flag: flag, Tag: tag, Value: value}
		badCAA(c)
		issuer, why := parseIssue(value)
		if why != "" && issuer != "" {
			t.Errorf("%q names %q, though %s", value, issuer, why)
		}
		issuers, limited := issuersOf(Answer{RRs: []dns.RR{c}}, false)
		if limited != (strings.ToLower(tag) == "issue") || limited != (len(issuers) > 0) {
			t.Errorf("%q %q: %q, %t", tag, value, issuers, limited)
		}
	})
}

func FuzzBIMI(f *testing.F) {
	f.Add("v=BIMI1; l=https://corp.example/logo.svg; a=https://corp.example/logo.pem")
	f.Add("v=BIMI1; l=; a=;")
	f.Fuzz(func(t *testing.T, text string) {
		r := parseBIMI(text)
		if r.why == "" && !r.Declined && !isHTTPS(r.Logo) {
			t.Errorf("%q is valid: %+v", text, r)
		}
	})
}
