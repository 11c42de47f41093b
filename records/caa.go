package records

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// The bounds on CAA: hosts whose certificates are looked at, and labels of a
// name that are climbed.
const (
	maxCAAHosts  = 6
	maxCAALabels = 16
)

// CAAFound is which authorities may issue certificates (RFC 8659): for the domain first, then for
// the hosts that show one.
type CAAFound struct {
	Sets []CAASet
}

// A CAASet is the CAA records that hold for a name: those of the closest name
// from it upwards that has any (RFC 8659, section 3).
type CAASet struct {
	Name    string
	Answers []Answer // those asked, from Name upwards; the last one holds the records, or failed
}

// At returns the answer that holds the records; ok tells that there are some.
func (s *CAASet) At() (a Answer, ok bool) {
	if len(s.Answers) == 0 {
		return a, false
	}
	a = s.Answers[len(s.Answers)-1]
	return a, a.State == Found
}

func gatherCAA(ctx context.Context, g *gatherer) {
	names := []string{g.p.Domain}
	if g.o.Probe != nil {
		names = append(names, "mta-sts."+g.p.Domain)
		for _, h := range mailHosts(ctx, g).Hosts {
			names = append(names, h.Name)
		}
	}
	names = names[:min(len(names), 1+maxCAAHosts)]
	f := CAAFound{Sets: make([]CAASet, len(names))}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { f.Sets[i] = climbCAA(ctx, g, name) })
	}
	wg.Wait()
	g.p.CAA = f
}

// climbCAA asks for CAA records from a name upwards until there are some.
func climbCAA(ctx context.Context, g *gatherer, name string) CAASet {
	s := CAASet{Name: name}
	for at := name; at != "" && len(s.Answers) < maxCAALabels; _, at, _ = strings.Cut(at, ".") {
		a := g.ask(ctx, at, dns.TypeCAA)
		s.Answers = append(s.Answers, a)
		if !a.Absent() {
			break
		}
	}
	return s
}

// caaTags are the registered tags that are in use.
var caaTags = map[string]bool{
	"issue": true, "issuewild": true, "iodef": true, "issuemail": true, "issuevmc": true, "contactemail": true, "contactphone": true,
}

// badCAA says what is wrong with a record (RFC 8659, section 4), or "".
func badCAA(c *dns.CAA) string {
	tag, value := strings.ToLower(c.Tag), unescapeText(c.Value)
	switch {
	case tag == "" || strings.ContainsFunc(tag, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }):
		return "the tag holds more than letters and digits"
	case !caaTags[tag] && c.Flag&0x80 != 0:
		return "the tag is critical, but no CA knows it, so none may issue"
	case tag == "issue" || tag == "issuewild" || tag == "issuemail" || tag == "issuevmc":
		_, why := parseIssue(value)
		return why
	case tag == "iodef":
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "mailto" && u.Scheme != "http" && u.Scheme != "https" {
			return "the value is no mailto: or https: address"
		}
	}
	return ""
}

// parseIssue reads the value of issue and its like (RFC 8659, section 4.2).
// The issuer is "" if nobody may issue.
func parseIssue(value string) (issuer, why string) {
	issuer, parameters, _ := strings.Cut(value, ";")
	issuer = strings.Trim(issuer, " \t")
	for label := range strings.SplitSeq(issuer, ".") {
		bad := func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}
		if issuer != "" && (label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, bad)) {
			return "", fmt.Sprintf("%q is not the domain of a CA", excerpt(issuer))
		}
	}
	if strings.Trim(parameters, " \t") == "" {
		return strings.ToLower(issuer), ""
	}
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, text, ok := strings.Cut(strings.Trim(parameter, " \t"), "=")
		name, text = strings.TrimRight(name, " \t"), strings.TrimLeft(text, " \t")
		bad := func(r rune) bool { return r < '!' || r > '~' }
		if !ok || !isPolicyKey(name) || strings.ContainsAny(name, "_.") || strings.ContainsFunc(text, bad) {
			return "", fmt.Sprintf("%q is no parameter of the form name=value", excerpt(strings.Trim(parameter, " \t")))
		}
	}
	return strings.ToLower(issuer), ""
}

// issuersOf returns the CAs that may issue by a set of records; limited tells
// that others may not. Wildcard certificates have a tag of their own.
func issuersOf(a Answer, wildcard bool) (issuers []string, limited bool) {
	byTag := map[string][]string{}
	for _, rr := range a.RRs {
		if c, ok := rr.(*dns.CAA); ok {
			tag := strings.ToLower(c.Tag)
			issuer, _ := parseIssue(unescapeText(c.Value)) // a value that cannot be read allows nobody
			byTag[tag] = append(byTag[tag], issuer)
		}
	}
	if wildcard && byTag["issuewild"] != nil {
		return byTag["issuewild"], true
	}
	return byTag["issue"], byTag["issue"] != nil
}

// authorityDomains are the domains by which CAs know themselves in CAA records,
// by the organization in their certificates: those that most mail hosts use.
var authorityDomains = map[string][]string{
	"Let's Encrypt":         {"letsencrypt.org"},
	"Google Trust Services": {"pki.goog"},
	"DigiCert Inc":          {"digicert.com", "www.digicert.com", "digicert.ne.jp", "symantec.com", "geotrust.com", "rapidssl.com", "thawte.com", "quovadisglobal.com"},
	"DigiCert, Inc.":        {"digicert.com", "www.digicert.com", "digicert.ne.jp", "symantec.com", "geotrust.com", "rapidssl.com", "thawte.com", "quovadisglobal.com"},
	"Sectigo Limited":       {"sectigo.com", "usertrust.com", "trust-provider.com", "comodo.com", "comodoca.com"},
	"ZeroSSL":               {"sectigo.com", "zerossl.com"},
	"GlobalSign nv-sa":      {"globalsign.com"},
	"Amazon":                {"amazon.com", "amazontrust.com", "awstrust.com", "amazonaws.com", "aws.amazon.com"},
	"GoDaddy.com, Inc.":     {"godaddy.com", "starfieldtech.com"},
	"Entrust, Inc.":         {"entrust.net", "affirmtrust.com"},
	"Actalis S.p.A.":        {"actalis.it"},
	"Buypass AS-983163327":  {"buypass.com", "buypass.no"},
	"SSL Corporation":       {"ssl.com"},
	"SwissSign AG":          {"swisssign.com"},
	"Microsoft Corporation": {"microsoft.com"},
	"Hellenic Academic and Research Institutions CA": {"harica.gr"},
	"Deutsche Telekom Security GmbH":                 {"telesec.de"},
	"Asseco Data Systems S.A.":                       {"certum.pl", "certum.eu"},
	"Unizeto Technologies S.A.":                      {"certum.pl", "certum.eu"},
	"QuoVadis Limited":                               {"quovadisglobal.com", "digicert.com"},
}

// authorityOf returns the domains of the CA that issued a certificate; nil if
// it is not known.
func authorityOf(c *x509.Certificate) []string {
	for _, organization := range c.Issuer.Organization {
		if domains := authorityDomains[organization]; domains != nil {
			return domains
		}
	}
	return nil
}

// coveredByWildcard reports whether a certificate holds a host only by a
// wildcard.
func coveredByWildcard(c *x509.Certificate, host string) bool {
	return !slices.ContainsFunc(c.DNSNames, func(name string) bool { return plainHost(name) == host })
}

func checkCAA(p *Published) []Finding {
	var v verdicts
	if len(p.CAA.Sets) == 0 {
		return nil
	}
	own := &p.CAA.Sets[0]
	a, ok := own.At()
	switch {
	case ok:
		for _, rr := range a.RRs {
			c, isCAA := rr.(*dns.CAA)
			if why := ""; isCAA {
				if why = badCAA(c); why != "" {
					v.add("caa.invalid", a.Name, "rr", excerpt(fmt.Sprintf("%d %s %q", c.Flag, c.Tag, unescapeText(c.Value))), "why", why).on(a)
				}
			}
		}
	case a.State == Failed: // of which checkName tells
	default:
		values := []string{"name", p.Domain}
		if publish := suggestCAA(p); publish != "" {
			values = append(values, "publish", publish)
		}
		v.add("caa.none", p.Domain, values...).on(own.Answers...)
	}
	for i := range p.CAA.Sets[1:] {
		checkAuthority(p, &p.CAA.Sets[1+i], &v)
	}
	return v.all
}

// suggestCAA returns records for the authorities of the certificates that were
// seen of hosts in a domain; "" for none. Others cannot be guessed.
func suggestCAA(p *Published) string {
	var lines []string
	for _, s := range p.CAA.Sets[1:] {
		chain := certificatesOf(p, s.Name)
		if len(chain) == 0 || !isBelow(s.Name, p.Domain) {
			continue
		}
		if domains := authorityOf(chain[0]); domains != nil {
			lines = append(lines, fmt.Sprintf("%s. IN CAA 0 issue %q", p.Domain, domains[0]))
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// checkAuthority judges whether the CA of a host's certificate may renew it.
func checkAuthority(p *Published, s *CAASet, v *verdicts) {
	chain := certificatesOf(p, s.Name)
	a, ok := s.At()
	if len(chain) == 0 || !ok {
		return
	}
	domains := authorityOf(chain[0])
	wildcard := coveredByWildcard(chain[0], s.Name)
	issuers, limited := issuersOf(a, wildcard)
	if len(domains) == 0 || !limited || slices.ContainsFunc(issuers, func(ca string) bool { return slices.Contains(domains, ca) }) {
		return
	}
	tag := "issue"
	if wildcard {
		tag = "issuewild"
	}
	v.add("caa.blocks", s.Name, "host", s.Name, "ca", domains[0], "at", a.Name,
		"publish", fmt.Sprintf("%s. IN CAA 0 %s %q", a.Name, tag, domains[0])).on(a)
}

// certificatesOf returns the chain that a host showed, or nil.
func certificatesOf(p *Published, host string) []*x509.Certificate {
	if host == p.MTASTS.Host {
		return p.MTASTS.Certificates
	}
	for _, h := range p.DANE.Hosts {
		if h.Name == host {
			return h.Certificates
		}
	}
	return nil
}

var _ = register(
	Rule{
		ID: "caa.none", Record: "CAA", Severity: Info, Reference: "RFC 8659, section 3",
		Condition: "no CAA records up to the top",
		What:      "Any certification authority may issue certificates for {name}.",
		Why:       "One that is deceived issues a certificate to somebody else, who can then pretend to be your mail host.",
		Fix:       "Name every authority that issues certificates for {name} and below in a CAA record; others, and your own next renewal, are refused if one is left out.",
	},
	Rule{
		ID: "caa.invalid", Record: "CAA", Severity: Warning, Reference: "RFC 8659, sections 4.1 and 4.5",
		Condition: "a CAA record that cannot be read, or with an unknown critical tag",
		What:      "The CAA record {rr} at {subject} is not right: {why}.",
		Why:       "Authorities may refuse to issue, or do not know whom you want.",
		Fix:       "Correct or remove it.",
	},
	Rule{
		ID: "caa.blocks", Record: "CAA", Severity: Warning, Reference: "RFC 8659, section 4.2",
		Condition: "the CAA records forbid the CA that a host uses",
		What:      "The certificate of {host} is from {ca}, which the CAA records at {at} do not allow.",
		Why:       "It cannot be renewed; when it has expired, TLS with {host} fails.",
		Fix:       "Allow {ca}, or use an authority that is allowed.",
	},
)
