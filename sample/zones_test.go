package sample_test

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/sample"
)

// The zones say what the reports let one expect: policies, keys that sign,
// and no key where reports say that it is gone.
func TestZonesFitTheReports(t *testing.T) {
	opts := sample.Options{Seed: 1, Now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Domains: 7}
	server, err := sample.ServeDNS(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(network, name string, qtype uint16) (string, int) {
		t.Helper()
		c := &dns.Client{Net: network, Timeout: 10 * time.Second}
		m, _, err := c.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype), server)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, rr := range m.Answer {
			all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
		return strings.Join(all, " | "), m.Rcode
	}
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string // begin of the answer
		rcode int
	}{
		{"_dmarc.acme.example", dns.TypeTXT, `"v=DMARC1; p=none; rua=mailto:dmarc@acme.example"`, 0},
		{"_dmarc.north.example", dns.TypeTXT, `"v=DMARC1; p=reject; rua=`, 0},
		{"_dmarc.river.example", dns.TypeTXT, `"v=DMARC1; p=quarantine; sp=reject; np=reject; rua=`, 0},
		{"_DMARC.parked.example", dns.TypeTXT, `"v=DMARC1; p=reject; sp=reject; np=reject; adkim=s; aspf=s; rua=mailto:dmarc@namehouse.example"`, 0},
		{"_dmarc.acme-2.example", dns.TypeTXT, `"v=DMARC1; p=none`, 0},
		{"r2026._domainkey.acme.example", dns.TypeTXT, `"v=DKIM1; k=rsa; p=MIIB`, 0},
		{"e2026._domainkey.acme.example", dns.TypeTXT, `"v=DKIM1; k=ed25519; p=`, 0},
		{"mg1._domainkey.acme.example", dns.TypeTXT, `"v=DKIM1; k=rsa; p=MIIB`, 0},
		{"nb2._domainkey.acme.example", dns.TypeTXT, "", dns.RcodeNameError},
		{"anything._domainkey.parked.example", dns.TypeTXT, `"v=DKIM1; p="`, 0},
		{"_domainkey.acme.example", dns.TypeTXT, "", 0}, // a name between others exists
		{"north.example", dns.TypeTXT, `"v=spf1 ip4:192.0.2.34 ip6:2001:db8:22::25 include:_spf.mailgarden.example -all"`, 0},
		{"parked.example", dns.TypeMX, "0 .", 0},
		{"10.2.0.192.in-addr.arpa", dns.TypePTR, "out1.acme.example.", 0},
		{"www.google.com", dns.TypeA, "", dns.RcodeNameError},
	} {
		for _, network := range []string{"udp", "tcp"} {
			got, rcode := ask(network, c.name, c.qtype)
			if network == "udp" && got == "" && c.want != "" {
				continue // cut: TCP has it
			}
			if rcode != c.rcode || !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("%s %s over %s: %q, rcode %d; want %q, %d", c.name, dns.TypeToString[c.qtype], network, got, rcode, c.want, c.rcode)
			}
		}
	}
}
