package records

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"
)

// A servedPolicy is a Fetcher that gets one text, or fails.
type servedPolicy struct {
	body   string
	status int // 200 if it is 0
	err    error
}

func (s servedPolicy) FetchPolicy(ctx context.Context, host string) ([]byte, int, error) {
	if s.err != nil {
		return nil, 0, s.err
	}
	if s.status == 0 {
		s.status = 200
	}
	return []byte(s.body), s.status, nil
}

var mtastsIDs = []string{
	"mtasts.missing", "mtasts.several", "mtasts.syntax", "mtasts.host", "mtasts.fetch", "mtasts.policy", "mtasts.mx_uncovered", "mtasts.mx_certificate", "mtasts.mode",
}

const (
	policyStart = "version: STSv1\r\nmode: enforce\r\nmax_age: 604800\r\n"
	policyHost  = "mta-sts A 192.0.2.80\n"
)

var stsRecord = txt("_mta-sts", "v=STSv1; id=20260512;")

func mtastsCase(name, domain, zone string, served servedPolicy, want ...string) zoneCase {
	return zoneCase{
		name: name, domain: domain, zone: zone + twoMailHosts, want: want, not: others(mtastsIDs, want...),
		o: Options{Fetcher: served, Now: time.Date(2026, 5, 12, 0, 0, 0, 0, time.UTC)},
	}
}

// stsAuthority is the one that senders trust; its certificate is that of the
// mail hosts of two cases.
var stsAuthority = newAuthority("Trusted")

// probed adds what mail hosts show who are connected to.
func probed(c zoneCase, shown Probe) zoneCase {
	c.o.Probe, c.o.Roots, c.o.Now = shown, x509.NewCertPool(), time.Time{}
	c.o.Roots.AddCert(stsAuthority.cert)
	return c
}

var stsCert = stsAuthority.issue(time.Hour, "mx1.sts-shown.test", "mx2.sts-shown.test", "mx1.sts-name.test").Leaf

// plainHosts is a Probe of hosts that speak without TLS.
type plainHosts struct{}

func (plainHosts) Certificates(context.Context, string, netip.AddrPort) ([]*x509.Certificate, error) {
	return nil, errNoSTARTTLS
}

var _ = addCases(
	probed(mtastsCase("mail hosts with trusted certificates", "sts-shown.test", stsRecord+policyHost, servedPolicy{body: policyStart + "mx: *.sts-shown.test\n"}),
		shownChains{"mx1.sts-shown.test": {stsCert}, "mx2.sts-shown.test": {stsCert}}),
	probed(mtastsCase("a certificate for another name", "sts-name.test", stsRecord+policyHost, servedPolicy{body: policyStart + "mx: *.sts-name.test\n"}, "mtasts.mx_certificate"),
		shownChains{"mx1.sts-name.test": {stsCert}, "mx2.sts-name.test": {stsCert}}),
	probed(mtastsCase("a certificate that nobody trusts", "sts-self.test", stsRecord+policyHost, servedPolicy{body: policyStart + "mx: *.sts-self.test\n"}, "mtasts.mx_certificate"),
		shownChains{"mx1.sts-self.test": {newAuthority("Mine").issue(time.Hour, "mx1.sts-self.test").Leaf}}),
	probed(mtastsCase("a certificate that has expired", "sts-expired.test", stsRecord+policyHost, servedPolicy{body: policyStart + "mx: *.sts-expired.test\n"}, "mtasts.mx_certificate"),
		shownChains{"mx1.sts-expired.test": {stsAuthority.issue(-time.Hour, "mx1.sts-expired.test").Leaf}}),
	probed(mtastsCase("mail hosts without TLS", "sts-plain.test", stsRecord+policyHost, servedPolicy{body: policyStart + "mx: *.sts-plain.test\n"}, "mtasts.mx_certificate"), plainHosts{}),
	probed(mtastsCase("mail hosts that are not reached", "sts-unreached.test", stsRecord+policyHost, servedPolicy{body: policyStart + "mx: *.sts-unreached.test\n"}), shownChains{}),
	mtastsCase("a policy that covers all mail hosts", "sts-good.test", stsRecord+policyHost, servedPolicy{body: policyStart + "mx: *.sts-good.test\r\n"}),
	mtastsCase("no MTA-STS", "sts-none.test", "", servedPolicy{}, "mtasts.missing"),
	zoneCase{name: "no MTA-STS without mail", domain: "sts-no-mail.test", zone: "@ MX 0 .\n", not: mtastsIDs},
	mtastsCase("two records", "sts-several.test", stsRecord+txt("_mta-sts", "v=STSv1; id=2")+policyHost,
		servedPolicy{body: policyStart + "mx: *.sts-several.test\n"}, "mtasts.several"),
	mtastsCase("a record beside other texts", "sts-unrelated.test", stsRecord+txt("_mta-sts", "v=spf1 -all")+policyHost,
		servedPolicy{body: policyStart + "mx: *.sts-unrelated.test\n"}),
	mtastsCase("a record without id", "sts-no-id.test", txt("_mta-sts", "v=STSv1;")+policyHost, servedPolicy{body: policyStart + "mx: *.sts-no-id.test\n"}, "mtasts.syntax"),
	mtastsCase("an id with hyphens", "sts-bad-id.test", txt("_mta-sts", "v=STSv1; id=2026-05-12")+policyHost,
		servedPolicy{body: policyStart + "mx: *.sts-bad-id.test\n"}, "mtasts.syntax"),
	mtastsCase("a record in lower case", "sts-case.test", txt("_mta-sts", "v=stsv1; id=1"), servedPolicy{}, "mtasts.syntax"),
	mtastsCase("no host for the policy", "sts-no-host.test", stsRecord, servedPolicy{}, "mtasts.host"),
	mtastsCase("a policy that is not there", "sts-404.test", stsRecord+policyHost, servedPolicy{status: 404}, "mtasts.fetch"),
	mtastsCase("a policy that cannot be had", "sts-refused.test", stsRecord+policyHost, servedPolicy{err: errors.New("connection refused")}, "mtasts.fetch"),
	mtastsCase("a policy without mail hosts", "sts-no-mx.test", stsRecord+policyHost, servedPolicy{body: policyStart}, "mtasts.policy", "mtasts.mx_uncovered"),
	mtastsCase("a policy without one of the mail hosts", "sts-uncovered.test", stsRecord+policyHost, servedPolicy{body: policyStart + "mx: mx1.sts-uncovered.test\n"}, "mtasts.mx_uncovered"),
	mtastsCase("a policy of no effect", "sts-none-mode.test", stsRecord+policyHost, servedPolicy{body: "version: STSv1\nmode: none\nmax_age: 86400\n"}, "mtasts.mode"),
	mtastsCase("a policy that is only tested", "sts-testing.test", stsRecord+policyHost,
		servedPolicy{body: "version: STSv1\nmode: testing\nmax_age: 86400\nmx: *.sts-testing.test\n"}, "mtasts.mode"),
	mtastsCase("a policy that is kept for an hour", "sts-short.test", stsRecord+policyHost,
		servedPolicy{body: "version: STSv1\nmode: enforce\nmax_age: 3600\nmx: *.sts-short.test\n"}, "mtasts.mode"),
	zoneCase{name: "TLS reports are wanted", domain: "tlsrpt-good.test", zone: txt("_smtp._tls", "v=TLSRPTv1;rua=mailto:tls@corp.example,https://corp.example/tls") + twoMailHosts,
		not: []string{"tlsrpt.missing", "tlsrpt.invalid"}},
	zoneCase{name: "no TLS reports are wanted", domain: "tlsrpt-none.test", zone: twoMailHosts, want: []string{"tlsrpt.missing"}, not: []string{"tlsrpt.invalid"}},
	zoneCase{name: "two records of TLS reports", domain: "tlsrpt-several.test", want: []string{"tlsrpt.invalid"}, not: []string{"tlsrpt.missing"},
		zone: txt("_smtp._tls", "v=TLSRPTv1; rua=mailto:a@corp.example") + txt("_smtp._tls", "v=TLSRPTv1; rua=mailto:b@corp.example")},
	zoneCase{name: "TLS reports to nowhere", domain: "tlsrpt-no-rua.test", zone: txt("_smtp._tls", "v=TLSRPTv1;"), want: []string{"tlsrpt.invalid"}},
	zoneCase{name: "TLS reports by plain HTTP", domain: "tlsrpt-http.test", zone: txt("_smtp._tls", "v=TLSRPTv1; rua=http://corp.example/"), want: []string{"tlsrpt.invalid"}},
)
