package records

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// maxProbed are the mail hosts that are connected to.
const maxProbed = 5

// DANEFound is which certificates mail hosts are to show (DANE, RFC 7672), and which they do.
type DANEFound struct {
	MX    Answer
	Hosts []DANEHost
}

// A DANEHost is a mail host, the TLSA records for it, and its certificate.
type DANEHost struct {
	Name    string
	A, AAAA Answer
	TLSA    Answer // asked if the host has an address

	Probed netip.Addr // that was connected to; invalid if none was
	// Certificates are the chain of the host, its own first; Why tells why
	// there is none.
	Certificates []*x509.Certificate
	Why          string
	NoTLS        bool // it does not offer STARTTLS
}

func gatherDANE(ctx context.Context, g *gatherer) {
	m := mailHosts(ctx, g)
	f := DANEFound{MX: m.Answer, Hosts: make([]DANEHost, len(m.Hosts))}
	var wg sync.WaitGroup
	for i := range m.Hosts {
		h := &f.Hosts[i]
		h.Name = m.Hosts[i].Name
		wg.Go(func() {
			askBoth(ctx, g, h.Name, &h.A, &h.AAAA)
			if len(addresses(h.A, h.AAAA)) == 0 {
				return
			}
			h.TLSA = askTLSA(ctx, g, h)
			if g.o.Probe != nil && i < maxProbed {
				h.probe(ctx, g)
			}
		})
	}
	wg.Wait()
	g.p.DANE = f
}

// askTLSA asks for the TLSA records of a host: of the name that its alias ends
// at, and else of its own (RFC 7672, section 2.2.2).
func askTLSA(ctx context.Context, g *gatherer, h *DANEHost) Answer {
	if a := h.address(); a.AD && len(a.Chain) > 0 {
		if tlsa := g.ask(ctx, "_25._tcp."+a.Chain[len(a.Chain)-1], dns.TypeTLSA); !tlsa.Absent() {
			return tlsa
		}
	}
	return g.ask(ctx, "_25._tcp."+h.Name, dns.TypeTLSA)
}

// address returns an answer that holds addresses of a host.
func (h *DANEHost) address() Answer {
	if h.A.State == Found {
		return h.A
	}
	return h.AAAA
}

// probe connects to the host to see its certificate.
func (h *DANEHost) probe(ctx context.Context, g *gatherer) {
	h.Probed = addresses(h.A, h.AAAA)[0]
	var err error
	if h.Certificates, err = g.o.Probe.Certificates(ctx, h.Name, netip.AddrPortFrom(h.Probed, 25)); err != nil {
		h.Why, h.NoTLS = excerpt(err.Error()), errors.Is(err, errNoSTARTTLS)
	}
}

// any reports whether a mail host has TLSA records.
func (f *DANEFound) any() bool {
	return slices.ContainsFunc(f.Hosts, func(h DANEHost) bool { return h.TLSA.State == Found })
}

// tlsaOf returns the TLSA records of an answer that senders can use (RFC
// 7672, section 3.1), and why the others cannot be used.
func tlsaOf(a Answer) (usable []*dns.TLSA, why []string) {
	for _, rr := range a.RRs {
		t, ok := rr.(*dns.TLSA)
		if !ok {
			continue
		}
		if w := unusableTLSA(t); w != "" {
			why = append(why, fmt.Sprintf("%d %d %d: %s", t.Usage, t.Selector, t.MatchingType, w))
		} else {
			usable = append(usable, t)
		}
	}
	return usable, why
}

// unusableTLSA says why senders cannot use a record, or "".
func unusableTLSA(t *dns.TLSA) string {
	data, err := hex.DecodeString(t.Certificate)
	switch {
	case t.Usage != 2 && t.Usage != 3:
		return fmt.Sprintf("the usage %d is not for mail", t.Usage)
	case t.Selector > 1:
		return fmt.Sprintf("the selector %d is not known", t.Selector)
	case t.MatchingType > 2:
		return fmt.Sprintf("the matching type %d is not known", t.MatchingType)
	case err != nil || len(data) == 0:
		return "there is no data"
	case t.MatchingType == 1 && len(data) != 32:
		return fmt.Sprintf("a SHA-256 has 32 octets, not %d", len(data))
	case t.MatchingType == 2 && len(data) != 64:
		return fmt.Sprintf("a SHA-512 has 64 octets, not %d", len(data))
	}
	if t.MatchingType == 0 {
		if t.Selector == 0 {
			_, err = x509.ParseCertificate(data)
		} else {
			_, err = x509.ParsePKIXPublicKey(data)
		}
		if err != nil {
			return "the data is not a certificate or key"
		}
	}
	return ""
}

// matchesTLSA reports whether the chain of a host matches one of its TLSA
// records (RFC 7672, section 3.2). Names are those that its certificate may
// be for, where a record names an authority.
func matchesTLSA(records []*dns.TLSA, chain []*x509.Certificate, names []string) bool {
	if len(chain) == 0 {
		return false
	}
	for _, t := range records {
		t := dns.Copy(t).(*dns.TLSA)
		t.Certificate = strings.ToLower(t.Certificate)
		if t.Usage == 3 {
			if t.Verify(chain[0]) == nil {
				return true
			}
			continue
		}
		for _, authority := range authorities(t, chain) {
			if t.Verify(authority) == nil && issuedBy(authority, chain, names) {
				return true
			}
		}
	}
	return false
}

// authorities returns the certificates that a record of usage 2 may be for:
// those that the host sent, and the one that the record itself holds.
func authorities(t *dns.TLSA, chain []*x509.Certificate) []*x509.Certificate {
	if t.Selector == 0 && t.MatchingType == 0 {
		data, err := hex.DecodeString(t.Certificate)
		if authority, parseErr := x509.ParseCertificate(data); err == nil && parseErr == nil {
			return append(slices.Clone(chain), authority)
		}
	}
	return chain
}

// issuedBy reports whether the first certificate of a chain comes from an
// authority and is for one of the names.
func issuedBy(authority *x509.Certificate, chain []*x509.Certificate, names []string) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(authority)
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, name := range names {
		if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between}); err == nil {
			return true
		}
	}
	return false
}

// weakLink says what of the chain from the MX to the TLSA records is not
// validated (RFC 7672, section 2.2), or "".
func (f *DANEFound) weakLink(h *DANEHost) string {
	switch {
	case !f.MX.AD:
		return "the MX answer"
	case !h.address().AD:
		return "the address of " + h.Name
	case !h.TLSA.AD:
		return "the TLSA answer"
	}
	return ""
}

func checkDANE(p *Published) []Finding {
	var v verdicts
	f := &p.DANE
	protects := slices.ContainsFunc(f.Hosts, func(h DANEHost) bool {
		usable, _ := tlsaOf(h.TLSA)
		return len(usable) > 0 && f.weakLink(&h) == ""
	})
	for i := range f.Hosts {
		h := &f.Hosts[i]
		switch {
		case h.TLSA.Name == "": // no address that is known: nothing to protect
		case h.TLSA.State == Failed:
			// Senders look for TLSA records only of hosts in signed zones.
			refused := h.TLSA.Bogus || h.TLSA.Rcode == dns.RcodeServerFailure && h.TLSA.Err == ""
			if refused && !h.TLSA.Loop && h.address().AD {
				v.add("dane.denial_broken", h.Name, "mx", h.Name, "ede", h.TLSA.EDE).on(h.address(), h.TLSA)
			}
		case h.TLSA.State == Found:
			f.checkTLSA(p, h, &v)
		case protects:
			v.add("dane.partial", h.Name, "mx", h.Name).on(h.TLSA)
		case f.MX.AD && h.address().AD && !f.any():
			v.add("dane.none", h.Name, append([]string{"mx", h.Name}, h.suggestion()...)...).on(f.MX, h.address(), h.TLSA)
		}
	}
	return v.all
}

// suggestion returns the record to publish for the key that a host shows.
func (h *DANEHost) suggestion() []string {
	if len(h.Certificates) == 0 {
		return nil
	}
	data, err := dns.CertificateToDANE(1, 1, h.Certificates[0])
	if err != nil {
		return nil
	}
	return []string{"publish", "_25._tcp." + h.Name + ". IN TLSA 3 1 1 " + data}
}

// checkTLSA judges the TLSA records of a host.
func (f *DANEFound) checkTLSA(p *Published, h *DANEHost, v *verdicts) {
	usable, why := tlsaOf(h.TLSA)
	if weak := f.weakLink(h); weak != "" {
		v.add("dane.insecure", h.Name, "mx", h.Name, "what", weak).on(f.MX, h.address(), h.TLSA)
	}
	if len(usable) == 0 {
		v.add("dane.unusable", h.Name, append([]string{"mx", h.Name, "why", joinNames(why)}, h.suggestion()...)...).on(h.TLSA)
		return
	}
	names := []string{h.Name, strings.TrimPrefix(h.TLSA.Name, "_25._tcp."), p.Domain}
	if len(h.Certificates) > 0 && !matchesTLSA(usable, h.Certificates, names) {
		v.add("dane.mismatch", h.Name, append([]string{"mx", h.Name, "ip", h.Probed.String()}, h.suggestion()...)...).on(h.TLSA)
	}
}

var _ = register(
	Rule{
		ID: "dane.none", Record: "TLSA", Severity: Info, Reference: "RFC 7672, section 2.2",
		Condition: "a signed mail host without TLSA records",
		What:      "{mx} has no TLSA record, although its zone is signed.",
		Why:       "With one, senders would deliver over TLS only, and to nobody who pretends to be {mx}.",
		Fix:       "Publish a TLSA record for the key of {mx}. Change it before the key changes.",
	},
	Rule{
		ID: "dane.insecure", Record: "TLSA", Severity: Warning, Reference: "RFC 7672, section 2.2",
		Condition: "TLSA records without a validated chain from the MX to them",
		What:      "The TLSA records of {mx} are not used, since {what} is not protected by DNSSEC.",
		Why:       "Senders trust TLSA records only if everything from the MX to them is signed.",
		Fix:       "Sign that zone, or have its DS record published by the registrar.",
	},
	Rule{
		ID: "dane.denial_broken", Record: "TLSA", Severity: Error, Reference: "RFC 7672, section 2.1.2",
		Condition: "the lookup of TLSA records fails in a signed zone",
		What:      "The name servers of {mx} do not answer validly whether there are TLSA records. {ede}",
		Why:       "Senders that use DANE cannot rule out an attack and do not deliver to {mx}.",
		Fix:       "Correct the signatures of the zone, or the name servers that fail for names with underscores.",
	},
	Rule{
		ID: "dane.unusable", Record: "TLSA", Severity: Error, Reference: "RFC 7672, section 3.1.3; RFC 6698, section 2.1",
		Condition: "no TLSA record that senders can use",
		What:      "None of the TLSA records of {mx} can be used ({why}).",
		Why:       "Senders deliver without checking the certificate, or not at all.",
		Fix:       "Publish a record 3 1 1: the SHA-256 of the public key of the host.",
	},
	Rule{
		ID: "dane.partial", Record: "TLSA", Severity: Warning, Reference: "RFC 7672, section 2.2",
		Condition: "some mail hosts have no TLSA records",
		What:      "{mx} has no TLSA record, while other mail hosts of the domain have.",
		Why:       "An attacker makes senders use the host that is not protected.",
		Fix:       "Publish TLSA records for {mx} too.",
	},
	Rule{
		ID: "dane.mismatch", Record: "TLSA", Severity: Error, Reference: "RFC 7672, section 3.2",
		Condition: "the certificate of a mail host matches no TLSA record",
		What:      "The certificate that {mx} shows at {ip} matches none of its TLSA records.",
		Why:       "Senders that use DANE do not deliver to {mx}.",
		Fix:       "Publish a TLSA record for the key in use now, and keep the old one until it has expired from caches.",
	},
)
