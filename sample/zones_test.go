package sample_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/records"
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
		{"_mta-sts.acme.example", dns.TypeTXT, `"v=STSv1; id=`, 0},
		{"mta-sts.north.example", dns.TypeA, "203.0.113.240", 0},
		{"_mta-sts.river.example", dns.TypeTXT, "", dns.RcodeNameError},
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

// A domain publishes and serves the policy of MTA-STS that its TLS reports tell of, and what
// they name as its mail host is one.
func TestPoliciesAndHostsAreThoseOfTheTLSReports(t *testing.T) {
	opts := sample.Options{Seed: 1, Now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	server, err := sample.ServeDNS(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	client, err := records.NewClient(records.ClientOptions{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	served := sample.PoliciesOf(opts)
	published := map[string]*records.Result{}
	reports, hosts := 0, 0
	look := func(domain string) *records.Result {
		if r := published[domain]; r != nil {
			return r
		}
		p, err := records.Lookup(t.Context(), domain, records.Options{Resolver: client, Fetcher: served, Documentation: true})
		if err != nil {
			t.Fatal(err)
		}
		r := records.NewResult(p, records.Check(p))
		published[domain] = r
		for _, f := range r.Findings {
			if strings.HasPrefix(f.ID, "mtasts.") && f.Severity != "ok" {
				t.Errorf("%s: %s", domain, f.What)
			}
		}
		return r
	}
	take := func(report *dmarc.TLSReport) {
		reports++
		for _, policy := range report.Policies {
			body, status, _ := served.FetchPolicy(t.Context(), "mta-sts."+policy.Domain)
			if status != 200 || strings.Join(policy.Strings, "\r\n")+"\r\n" != string(body) {
				t.Errorf("%s is reported with %q and serves %d %q", policy.Domain, policy.Strings, status, body)
			}
			r := look(policy.Domain)
			for _, failure := range policy.Details {
				if failure.ReceivingIP == "" {
					continue
				}
				hosts++
				if !slices.ContainsFunc(r.Records.Hosts, func(h records.ResultHost) bool {
					return h.Address == failure.ReceivingIP && slices.Contains(h.MX, failure.ReceivingMXHost)
				}) {
					t.Errorf("%s has no mail host %s at %s", policy.Domain, failure.ReceivingMXHost, failure.ReceivingIP)
				}
			}
		}
	}
	for mail := range sample.Mailbox(opts, nil) {
		if !bytes.Contains(mail.Raw, []byte("TLS-Report-Domain: ")) {
			continue
		}
		found, err := parse.Message(t.Context(), bytes.NewReader(mail.Raw), "", parse.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range found.Parts {
			if part.TLS != nil {
				take(part.TLS)
			}
		}
		found.Close()
	}
	if reports < 10 || hosts == 0 || len(published) != 2 {
		t.Errorf("%d TLS reports about %d domains, with %d hosts", reports, len(published), hosts)
	}
}
