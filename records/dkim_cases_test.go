package records

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"time"

	"github.com/miekg/dns"
)

// rsaKey is an RSA public key of so many bits; nobody has the other half, for
// its modulus is no product of two primes.
func rsaKey(bits int) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(int64(bits)|1)), E: 65537}
}

// spki is a public key in base64, as p= holds it.
func spki(key any) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

var (
	rsa2048    = spki(rsaKey(2048))
	ed25519Key = ed25519.PublicKey("an ed25519 key is 32 octets long")
	bareEd     = base64.StdEncoding.EncodeToString(ed25519Key)
	barePKCS1  = base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(rsaKey(2048)))
)

// dkimNow is when cases of DKIM are looked up.
var dkimNow = time.Date(2026, 5, 12, 0, 0, 0, 0, time.UTC)

// selectors makes options of selectors that were seen yesterday.
func selectors(names ...string) Options {
	o := Options{Now: dkimNow, RandomLabel: "nobody-has-published-this"}
	for _, name := range names {
		o.Selectors = append(o.Selectors, Selector{Name: name, LastSeen: dkimNow.AddDate(0, 0, -1)})
	}
	return o
}

var dkimIDs = []string{
	"dkim.no_selector", "dkim.missing", "dkim.several", "dkim.syntax", "dkim.revoked", "dkim.bad_key", "dkim.key_type", "dkim.rsa_short", "dkim.rsa_1024",
	"dkim.rsa_large", "dkim.pkcs1", "dkim.ed25519_length", "dkim.ed25519_alone", "dkim.sha1", "dkim.service", "dkim.testing", "dkim.flags", "dkim.wildcard",
	"dkim.cname_dangling", "dkim.key_shared", "dkim.key_old", "dkim.unused", "dkim.ent_broken", "dkim.ok",
}

func dkimCase(name, domain, zone string, o Options, want ...string) zoneCase {
	return zoneCase{name: name, domain: domain, zone: zone, o: o, want: want, not: others(dkimIDs, want...)}
}

// keyCase is a case of one record under the selector s.
func keyCase(name, domain, record string, want ...string) zoneCase {
	return dkimCase(name, domain, txt("s._domainkey", record), selectors("s"), want...)
}

var _ = addCases(
	keyCase("an RSA key of 2048 bits", "dkim-good.test", "v=DKIM1; k=rsa; p="+rsa2048, "dkim.ok"),
	keyCase("a key without version, with blanks in it", "dkim-blanks.test", "p="+rsa2048[:60]+" "+rsa2048[60:]+" ; n=a note", "dkim.ok"),
	keyCase("an ed25519 key alone", "dkim-ed25519.test", "v=DKIM1; k=ed25519; p="+bareEd, "dkim.ok", "dkim.ed25519_alone"),
	dkimCase("an ed25519 key beside RSA", "dkim-both.test", txt("s._domainkey", "v=DKIM1; k=ed25519; p="+bareEd)+txt("r._domainkey", "v=DKIM1; p="+rsa2048),
		selectors("s", "r"), "dkim.ok"),
	dkimCase("an ed25519 key that nobody uses any more", "dkim-ed-unused.test", txt("s._domainkey", "v=DKIM1; k=ed25519; p="+bareEd),
		Options{Now: dkimNow, Selectors: []Selector{{Name: "s", LastSeen: dkimNow.AddDate(0, -2, 0)}}}, "dkim.ok", "dkim.unused"),
	dkimCase("a bad key that has not changed for years", "dkim-bad-old.test", txt("s._domainkey", "v=DKIM1; p=AAAA"),
		Options{Now: dkimNow, Selectors: []Selector{{Name: "s", LastSeen: dkimNow.AddDate(0, -2, 0), Unchanged: dkimNow.AddDate(-2, 0, 0)}}}, "dkim.bad_key"),
	dkimCase("no selector known", "dkim-none.test", "", Options{}, "dkim.no_selector"),
	dkimCase("a selector in use without record", "dkim-missing.test", "", selectors("s"), "dkim.missing"),
	dkimCase("a selector of the operator without record", "dkim-missing-set.test", "", Options{Selectors: []Selector{{Name: "s", Configured: true}}}, "dkim.missing"),
	dkimCase("a selector that was last seen long ago without record", "dkim-gone.test", "",
		Options{Now: dkimNow, Selectors: []Selector{{Name: "s", LastSeen: dkimNow.AddDate(0, -2, 0)}}}),
	dkimCase("two records", "dkim-several.test", txt("s._domainkey", "v=DKIM1; p="+rsa2048)+txt("s._domainkey", "v=DKIM1; p="), selectors("s"), "dkim.several"),
	keyCase("a part without =", "dkim-syntax.test", "v=DKIM1; rsa; p="+rsa2048, "dkim.syntax"),
	keyCase("a tag twice", "dkim-twice.test", "v=DKIM1; p="+rsa2048+"; k=rsa; k=rsa", "dkim.syntax"),
	keyCase("v not first", "dkim-v-last.test", "k=rsa; v=DKIM1; p="+rsa2048, "dkim.syntax"),
	keyCase("another version", "dkim-v2.test", "v=DKIM2; p="+rsa2048, "dkim.syntax"),
	keyCase("no p", "dkim-no-p.test", "v=DKIM1; k=rsa", "dkim.syntax"),
	keyCase("a revoked key in use", "dkim-revoked.test", "v=DKIM1; p=", "dkim.revoked"),
	keyCase("a key that is not base64", "dkim-base64.test", "v=DKIM1; p=MIIB**", "dkim.bad_key"),
	keyCase("a key that was cut", "dkim-cut.test", "v=DKIM1; p="+rsa2048[:200], "dkim.bad_key"),
	keyCase("an unknown type", "dkim-type.test", "v=DKIM1; k=dsa; p="+rsa2048, "dkim.key_type"),
	keyCase("an RSA key that calls itself ed25519", "dkim-type-rsa.test", "v=DKIM1; k=ed25519; p="+rsa2048, "dkim.key_type"),
	keyCase("an ed25519 key without its type", "dkim-type-ed.test", "v=DKIM1; p="+bareEd, "dkim.key_type"),
	keyCase("512 bits", "dkim-512.test", "v=DKIM1; p="+spki(rsaKey(512)), "dkim.rsa_short"),
	keyCase("1024 bits", "dkim-1024.test", "v=DKIM1; p="+spki(rsaKey(1024)), "dkim.rsa_1024"),
	keyCase("4096 bits", "dkim-4096.test", "v=DKIM1; p="+spki(rsaKey(4096)), "dkim.rsa_large", "dkim.ok"),
	keyCase("a key in the form of PKCS#1", "dkim-pkcs1.test", "v=DKIM1; p="+barePKCS1, "dkim.pkcs1"),
	keyCase("an ed25519 key in its DER form", "dkim-ed-der.test", "v=DKIM1; k=ed25519; p="+spki(ed25519Key), "dkim.ed25519_length"),
	keyCase("SHA-1 only", "dkim-sha1.test", "v=DKIM1; h=sha1; p="+rsa2048, "dkim.sha1"),
	keyCase("SHA-1 and SHA-256", "dkim-sha256.test", "v=DKIM1; h=sha1 : sha256; p="+rsa2048, "dkim.ok"),
	keyCase("not for mail", "dkim-service.test", "v=DKIM1; s=tlsrpt; p="+rsa2048, "dkim.service"),
	keyCase("for mail by name", "dkim-email.test", "v=DKIM1; s=email; p="+rsa2048, "dkim.ok"),
	keyCase("a test", "dkim-test.test", "v=DKIM1; t=y; p="+rsa2048, "dkim.testing"),
	keyCase("strict, and tags of old", "dkim-flags.test", "v=DKIM1; t=s; g=*; p="+rsa2048, "dkim.flags", "dkim.ok"),
	dkimCase("a wildcard key", "dkim-wildcard.test", txt("*._domainkey", "v=DKIM1; p="+rsa2048), selectors(), "dkim.no_selector", "dkim.wildcard"),
	dkimCase("a wildcard that revokes, without mail", "dkim-wildcard-revoked.test", txt("*._domainkey", "v=DKIM1; p="), selectors(), "dkim.no_selector"),
	dkimCase("a wildcard that revokes, with mail", "dkim-wildcard-mail.test", txt("*._domainkey", "v=DKIM1; p=")+txt("s._domainkey", "v=DKIM1; p="+rsa2048),
		Options{Now: dkimNow, Sends: SendingYes, Selectors: selectors("s").Selectors}, "dkim.ok", "dkim.wildcard"),
	dkimCase("an alias of a key", "dkim-alias.test", "s._domainkey CNAME k.provider\n"+txt("k.provider", "v=DKIM1; p="+rsa2048), selectors("s"), "dkim.ok"),
	dkimCase("an alias of nothing", "dkim-dangling.test", "s._domainkey CNAME k.provider\n", selectors("s"), "dkim.cname_dangling"),
	dkimCase("one key under two selectors", "dkim-shared.test", txt("s._domainkey", "v=DKIM1; p="+rsa2048)+txt("r._domainkey", "k=rsa; p="+rsa2048), selectors("s", "r"),
		"dkim.ok", "dkim.key_shared"),
	dkimCase("a key that has not changed for years", "dkim-old.test", txt("s._domainkey", "v=DKIM1; p="+rsa2048),
		Options{Now: dkimNow, Selectors: []Selector{{Name: "s", LastSeen: dkimNow, Unchanged: dkimNow.AddDate(-2, 0, 0)}}}, "dkim.ok", "dkim.key_old"),
	dkimCase("a key that is no longer in use", "dkim-unused.test", txt("s._domainkey", "v=DKIM1; p="+rsa2048),
		Options{Now: dkimNow, Selectors: []Selector{{Name: "s", LastSeen: dkimNow.AddDate(0, 0, -31)}}}, "dkim.ok", "dkim.unused"),
	dkimCase("a revoked key that is no longer in use", "dkim-revoked-old.test", txt("s._domainkey", "v=DKIM1; p="),
		Options{Now: dkimNow, Selectors: []Selector{{Name: "s", LastSeen: dkimNow.AddDate(0, -2, 0)}}}, "dkim.revoked"),
	func() zoneCase {
		c := dkimCase("a name server that denies what keys are below", "dkim-ent.test", txt("s._domainkey", "v=DKIM1; p="+rsa2048), selectors("s"), "dkim.ok", "dkim.ent_broken")
		c.live, c.servers = true, map[string]dns.HandlerFunc{"192.0.2.53": denying}
		return c
	}(),
)

// denying denies every name, as the server of the zone.
func denying(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetRcode(q, dns.RcodeNameError)
	m.Authoritative = true
	w.WriteMsg(m)
}
