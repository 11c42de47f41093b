package records

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"time"
)

// tlsa writes a TLSA record of a mail host, with data of so many octets.
func tlsa(host, kind string, octets int) string {
	return fmt.Sprintf("_25._tcp.%s TLSA %s %s\n", host, kind, strings.Repeat("ab", octets))
}

// shownChains is a Probe that knows what hosts show.
type shownChains map[string][]*x509.Certificate

func (s shownChains) Certificates(ctx context.Context, host string, server netip.AddrPort) ([]*x509.Certificate, error) {
	if s[host] == nil {
		return nil, errors.New("connection refused")
	}
	return s[host], nil
}

// An authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes an authority with the name of an organization.
func newAuthority(organization string) *authority {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{organization}, CommonName: organization + " CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &authority{cert, key}
}

// issue issues a certificate for names, which is valid for a time from now.
func (a *authority) issue(valid time.Duration, names ...string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
}

var daneIDs = []string{"dane.none", "dane.insecure", "dane.denial_broken", "dane.unusable", "dane.partial", "dane.mismatch"}

func daneCase(name, domain, zone string, want ...string) zoneCase {
	return zoneCase{name: name, domain: domain, zone: zone + twoMailHosts, want: want, not: others(daneIDs, want...)}
}

// hostCert is of a mail host of a case.
var hostCert = newAuthority("Let's Encrypt").issue(time.Hour, "mx1.dane-mismatch.test", "mx1.caa-blocks.test").Leaf

var _ = addCases(
	func() zoneCase {
		c := daneCase("a certificate that matches no TLSA", "dane-mismatch.test", tlsa("mx1", "3 1 1", 32)+tlsa("mx2", "3 1 1", 32), "dane.mismatch")
		c.o.Probe = shownChains{"mx1.dane-mismatch.test": {hostCert}}
		return c
	}(),
	zoneCase{
		name: "an authority that may not renew", domain: "caa-blocks.test", zone: "@ CAA 0 issue \"digicert.com\"\n" + twoMailHosts,
		o: Options{Probe: shownChains{"mx1.caa-blocks.test": {hostCert}}}, want: []string{"caa.blocks"}, not: []string{"caa.none", "caa.invalid"},
	},
	daneCase("TLSA for all mail hosts", "dane-good.test", tlsa("mx1", "3 1 1", 32)+tlsa("mx2", "3 1 2", 64)),
	daneCase("signed mail hosts without TLSA", "dane-none.test", "", "dane.none"),
	daneCase("TLSA for one of two mail hosts", "dane-partial.test", tlsa("mx1", "3 1 1", 32), "dane.partial"),
	daneCase("TLSA of public authorities only", "dane-pkix.test", tlsa("mx1", "1 1 1", 32)+tlsa("mx2", "3 1 1", 32), "dane.unusable"),
	daneCase("TLSA of a wrong length", "dane-length.test", tlsa("mx1", "3 1 1", 31)+tlsa("mx2", "3 1 1", 32), "dane.unusable"),
	daneCase("one usable TLSA beside others", "dane-mixed.test", tlsa("mx1", "1 1 1", 32)+tlsa("mx1", "3 1 1", 32)+tlsa("mx2", "3 1 1", 32)),
	daneCase("TLSA for an alias", "dane-alias.test", "@ MX 5 mail\nmail CNAME mx1\n"+tlsa("mx1", "3 1 1", 32)+tlsa("mx2", "3 1 1", 32)),
	func() zoneCase {
		c := daneCase("TLSA in a zone that is not signed", "dane-insecure.test", tlsa("mx1", "3 1 1", 32)+tlsa("mx2", "3 1 1", 32), "dane.insecure")
		c.unsigned = true
		return c
	}(),
	func() zoneCase {
		c := daneCase("TLSA that cannot be looked up", "dane-denial.test", tlsa("mx2", "3 1 1", 32), "dane.denial_broken")
		c.fails = []string{"_25._tcp.mx1.dane-denial.test"}
		return c
	}(),
	func() zoneCase {
		c := daneCase("no TLSA in a zone that is not signed", "dane-unsigned.test", "")
		c.unsigned = true
		return c
	}(),
)
