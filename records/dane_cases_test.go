package records

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// tlsa writes a TLSA record of a mail host, with data of so many octets.
func tlsa(host, kind string, octets int) string {
	return fmt.Sprintf("_25._tcp.%s TLSA %s %s\n", host, kind, strings.Repeat("ab", octets))
}

// shown is a Probe that knows what hosts show.
type shown map[string][]*x509.Certificate

func (s shown) Certificates(ctx context.Context, host string, server netip.AddrPort) ([]*x509.Certificate, error) {
	if s[host] == nil {
		return nil, errors.New("connection refused")
	}
	return s[host], nil
}

var daneIDs = []string{"dane.none", "dane.insecure", "dane.denial_broken", "dane.unusable", "dane.partial", "dane.mismatch"}

func daneCase(name, domain, zone string, want ...string) zoneCase {
	return zoneCase{name: name, domain: domain, zone: zone + twoMailHosts, want: want, not: others(daneIDs, want...)}
}

var _ = addCases(
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
