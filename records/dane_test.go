package records

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// record makes a TLSA record for a certificate.
func record(t testing.TB, usage, selector, matching uint8, cert *x509.Certificate) *dns.TLSA {
	t.Helper()
	data, err := dns.CertificateToDANE(selector, matching, cert)
	if err != nil {
		t.Fatal(err)
	}
	return &dns.TLSA{Usage: usage, Selector: selector, MatchingType: matching, Certificate: strings.ToUpper(data)}
}

func TestCertificatesMatchTLSARecords(t *testing.T) {
	ca, foreign := newAuthority("One"), newAuthority("Two")
	good := ca.issue(time.Hour, "mx.corp.example").Leaf
	expired := ca.issue(-time.Hour, "mx.corp.example").Leaf
	other := ca.issue(time.Hour, "www.other.example").Leaf
	chain := []*x509.Certificate{good, ca.cert}
	for _, c := range []struct {
		name   string
		record *dns.TLSA
		chain  []*x509.Certificate
		want   bool
	}{
		{"the key", record(t, 3, 1, 1, good), chain, true},
		{"the key, SHA-512", record(t, 3, 1, 2, good), chain, true},
		{"the whole certificate", record(t, 3, 0, 0, good), chain, true},
		{"another key", record(t, 3, 1, 1, other), chain, false},
		{"the key of an expired certificate for another name", record(t, 3, 1, 1, expired), []*x509.Certificate{expired}, true},
		{"its authority for usage 3", record(t, 3, 1, 1, ca.cert), chain, false},
		{"its authority", record(t, 2, 0, 1, ca.cert), chain, true},
		{"its authority, which the host does not send", record(t, 2, 0, 1, ca.cert), []*x509.Certificate{good}, false},
		{"its authority, which the record holds", record(t, 2, 0, 0, ca.cert), []*x509.Certificate{good}, true},
		{"another authority", record(t, 2, 0, 1, foreign.cert), chain, false},
		{"another authority that the host sends along", record(t, 2, 0, 1, foreign.cert), append(slices.Clone(chain), foreign.cert), false},
		{"its authority, but an expired certificate", record(t, 2, 0, 1, ca.cert), []*x509.Certificate{expired, ca.cert}, false},
		{"its authority, but for another name", record(t, 2, 0, 1, ca.cert), []*x509.Certificate{other, ca.cert}, false},
	} {
		if got := matchesTLSA([]*dns.TLSA{c.record}, c.chain, []string{"mx.corp.example", "corp.example"}); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	if matchesTLSA([]*dns.TLSA{record(t, 3, 1, 1, other), record(t, 3, 1, 1, good)}, chain, nil) != true {
		t.Error("one record of several is enough")
	}
	if matchesTLSA([]*dns.TLSA{record(t, 3, 1, 1, good)}, nil, nil) {
		t.Error("no certificate matches nothing")
	}
}

func TestTLSARecordsThatSendersCanUse(t *testing.T) {
	cert := newAuthority("One").cert
	whole, key := hex.EncodeToString(cert.Raw), hex.EncodeToString(cert.RawSubjectPublicKeyInfo)
	for text, want := range map[string]string{
		"3 1 1 " + strings.Repeat("ab", 32): "",
		"2 0 2 " + strings.Repeat("ab", 64): "",
		"3 0 0 " + whole:                    "",
		"2 1 0 " + key:                      "",
		"3 0 0 " + key:                      "the data is not a certificate or key",
		"3 1 0 " + whole:                    "the data is not a certificate or key",
		"0 1 1 " + strings.Repeat("ab", 32): "the usage 0 is not for mail",
		"1 1 1 " + strings.Repeat("ab", 32): "the usage 1 is not for mail",
		"4 1 1 " + strings.Repeat("ab", 32): "the usage 4 is not for mail",
		"3 2 1 " + strings.Repeat("ab", 32): "the selector 2 is not known",
		"3 1 3 " + strings.Repeat("ab", 32): "the matching type 3 is not known",
		"3 1 1 " + strings.Repeat("ab", 64): "a SHA-256 has 32 octets, not 64",
		"3 1 2 " + strings.Repeat("ab", 32): "a SHA-512 has 64 octets, not 32",
	} {
		rr, err := dns.NewRR("x. TLSA " + text)
		if err != nil {
			t.Fatal(err)
		}
		if got := unusableTLSA(rr.(*dns.TLSA)); got != want {
			t.Errorf("%.20s: %q", text, got)
		}
	}
}

func TestTheCertificateOfAMailHostIsHeldAgainstTLSA(t *testing.T) {
	ca := newAuthority("One")
	cert, other := ca.issue(time.Hour, "mx1.corp.test").Leaf, ca.issue(time.Hour, "mx1.corp.test").Leaf
	data, err := dns.CertificateToDANE(1, 1, cert)
	if err != nil {
		t.Fatal(err)
	}
	r := newZoneResolver(t, map[string]string{"corp.test": "@ MX 10 mx1\nmx1 A 192.0.2.10\nmx1 AAAA 2001:db8::10\n_25._tcp.mx1 TLSA 3 1 1 " + data + "\n"})
	for _, c := range []struct {
		shows []*x509.Certificate
		want  []string
	}{
		{[]*x509.Certificate{cert}, nil},
		{nil, nil}, // it could not be connected to: nothing is known
		{[]*x509.Certificate{other}, []string{"error dane.mismatch mx1.corp.test"}},
	} {
		p := lookedUp(t, r, "corp.test", Options{Probe: shownChains{"mx1.corp.test": c.shows}})
		got := checkDANE(p)
		if !slices.Equal(idsOf(got), c.want) {
			t.Errorf("findings: %q, want %q", idsOf(got), c.want)
		}
		if h := p.DANE.Hosts[0]; (h.Why == "connection refused") != (c.shows == nil) {
			t.Errorf("why there is no certificate: %q", h.Why)
		}
		if len(got) == 1 {
			fixed, _ := dns.CertificateToDANE(1, 1, other)
			if want := "_25._tcp.mx1.corp.test. IN TLSA 3 1 1 " + fixed; got[0].Publish() != want {
				t.Errorf("to publish: %s", got[0].Publish())
			}
		}
	}
}

func TestLookupsOfDANEThatFail(t *testing.T) {
	zones := map[string]string{"corp.test": twoMailHosts + tlsa("mx1", "3 1 1", 32) + tlsa("mx2", "3 1 1", 32)}
	servfail := Answer{Rcode: dns.RcodeServerFailure, EDE: "6 (DNSSEC Bogus)"}
	for _, c := range []struct {
		broken   map[string]Answer
		unsigned bool
		want     []string
	}{
		{map[string]Answer{"_25._tcp.mx1.corp.test": servfail}, false, []string{"error dane.denial_broken mx1.corp.test"}},
		{map[string]Answer{"_25._tcp.mx1.corp.test": {Bogus: true}}, false, []string{"error dane.denial_broken mx1.corp.test"}},
		{map[string]Answer{"_25._tcp.mx1.corp.test": {Err: "timeout"}}, false, nil},
		{map[string]Answer{"_25._tcp.mx1.corp.test": {Rcode: dns.RcodeRefused}}, false, nil},
		{map[string]Answer{"_25._tcp.mx1.corp.test": servfail, "_25._tcp.mx2.corp.test": servfail}, true, nil},
		{map[string]Answer{"mx1.corp.test": servfail}, false, nil},
		{map[string]Answer{"corp.test MX": servfail}, false, nil},
	} {
		r := newZoneResolver(t, zones)
		r.unsigned["corp.test"] = c.unsigned
		for name, a := range c.broken {
			r.broken[name] = a
		}
		if got := idsOf(checkDANE(lookedUp(t, r, "corp.test", Options{}))); !slices.Equal(got, c.want) {
			t.Errorf("%v: %q", c.broken, got)
		}
	}
}

func TestEveryLinkToTLSAMustBeValidated(t *testing.T) {
	zones := map[string]string{
		"corp.test": "@ MX 10 mail.host.test.\n",
		"host.test": "mail A 192.0.2.10\nmail AAAA 2001:db8::10\n_25._tcp.mail TLSA 3 1 1 " + strings.Repeat("ab", 32) + "\n",
	}
	for unsigned, want := range map[string]string{"": "", "corp.test": "the MX answer", "host.test": "the address of mail.host.test"} {
		r := newZoneResolver(t, zones)
		r.unsigned[unsigned] = true
		got := ""
		for _, f := range checkDANE(lookedUp(t, r, "corp.test", Options{})) {
			got += f.ID + " " + f.Value("what")
		}
		if want != "" {
			want = "dane.insecure " + want
		}
		if got != want {
			t.Errorf("%q is not signed: %q", unsigned, got)
		}
	}
}

func TestOnlySomeMailHostsAreConnectedTo(t *testing.T) {
	var zone strings.Builder
	for i := range 20 {
		fmt.Fprintf(&zone, "@ MX %d mx%d\nmx%d A 192.0.2.%d\n", i, i, i, i+1)
	}
	n := 0
	for _, h := range lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": zone.String()}), "corp.test", Options{Probe: shownChains{}}).DANE.Hosts {
		if h.Probed.IsValid() {
			n++
		}
	}
	if n != maxProbed {
		t.Errorf("%d hosts", n)
	}
}
