package records

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// MTASTSFound is the record of MTA-STS and the policy that it announces (RFC 8461).
type MTASTSFound struct {
	Answer Answer // TXT of _mta-sts
	ID     string // of the record, if it is valid
	Host   string // that serves the policy
	A      Answer // of Host, asked if there is a record
	AAAA   Answer

	Fetched   bool // whether the policy was asked for
	Status    int  // of HTTP; 0 if there was no answer
	Why       string
	Temporary bool // whether Why may be gone soon, or may lie at our side
	Policy    MTASTSPolicy
	// Certificates are the chain of Host, if it was connected to.
	Certificates []*x509.Certificate

	records []string // that count
	near    string   // a text that was meant to count
	roots   *x509.CertPool
}

// A Fetcher gets a policy over HTTPS (RFC 8461, section 3.3). Err says why
// there is none.
type Fetcher interface {
	FetchPolicy(ctx context.Context, host string) (body []byte, status int, err error)
}

// versioned returns the texts that begin with a version and a semicolon, as
// MTA-STS and TLS reporting have it (RFC 8461, section 3.1; RFC 8460,
// section 3), and the first of those that look as if they were meant to.
func versioned(all []string, version string) (records []string, near string) {
	for _, text := range all {
		if rest, ok := strings.CutPrefix(text, version); ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";") {
			records = append(records, text)
			continue
		}
		start := strings.ToLower(strings.Trim(text, " \t\"'"))
		if near == "" && strings.HasPrefix(start, strings.ToLower(strings.TrimRight(version, "0123456789"))) {
			near = text
		}
	}
	return records, near
}

// fieldOf returns the value of a field of such a record.
func fieldOf(record, name string) (value string, ok bool) {
	for field := range strings.SplitSeq(record, ";") {
		if value, ok := strings.CutPrefix(strings.Trim(field, " \t"), name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// validPolicyID reports whether a text can be the id of a policy.
func validPolicyID(id string) bool {
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return id != "" && len(id) <= 32
}

func gatherMTASTS(ctx context.Context, g *gatherer) {
	f := MTASTSFound{Host: "mta-sts." + g.p.Domain, Answer: g.ask(ctx, "_mta-sts."+g.p.Domain, dns.TypeTXT), roots: g.o.Roots}
	f.records, f.near = versioned(texts(f.Answer), "v=STSv1")
	if len(f.records) == 1 {
		if id, _ := fieldOf(f.records[0], "id"); validPolicyID(id) {
			f.ID = id
		}
	}
	if len(f.records) > 0 {
		askBoth(ctx, g, f.Host, &f.A, &f.AAAA)
		f.fetch(ctx, g)
	}
	g.p.MTASTS = f
}

// fetch gets the policy and looks at the certificate of its host.
func (f *MTASTSFound) fetch(ctx context.Context, g *gatherer) {
	ips := addresses(f.A, f.AAAA)
	if len(ips) == 0 || g.o.Fetcher == nil {
		return
	}
	f.Fetched = true
	body, status, err := g.o.Fetcher.FetchPolicy(ctx, f.Host)
	f.Status = status
	switch {
	case err != nil:
		f.Why, f.Temporary = excerpt(err.Error()), isTemporary(err)
	case status >= 300 && status < 400:
		f.Why = fmt.Sprintf("the answer is a redirect (%d), which is not followed", status)
	case status != http.StatusOK:
		f.Why = strings.TrimSpace(fmt.Sprintf("the answer is %d %s", status, http.StatusText(status)))
	default:
		f.Policy = parseMTASTSPolicy(body)
	}
	if g.o.Probe != nil && ctx.Err() == nil {
		// Without one, it is only not known who issued it.
		f.Certificates, _ = g.o.Probe.Certificates(ctx, f.Host, netip.AddrPortFrom(ips[0], 443))
	}
}

// isTemporary reports whether a failure to connect may be gone soon or lie at
// our side.
func isTemporary(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) ||
		errors.Is(err, errLookup)
}

// takesMail reports whether a domain takes mail; if that is not known, it does.
func takesMail(p *Published) bool {
	m := &p.MX
	switch {
	case m.Answer.State == Found:
		return !m.Null || len(m.Hosts) > 0
	case m.Answer.Absent() && m.A.Absent() && m.AAAA.Absent():
		return false
	}
	return !parked(p)
}

// mxNames returns the names of the hosts that take mail for a domain.
func mxNames(p *Published) []string {
	var names []string
	for _, h := range p.MX.Hosts {
		if !h.placeholder() {
			names = append(names, h.Name)
		}
	}
	if len(names) == 0 && p.MX.Answer.Absent() && len(addresses(p.MX.A, p.MX.AAAA)) > 0 {
		names = append(names, p.Domain)
	}
	return names
}

func checkMTASTS(p *Published) []Finding {
	var v verdicts
	f := &p.MTASTS
	name := "_mta-sts." + p.Domain
	id := p.At.UTC().Format("20060102T150405Z")
	record := zoneTXT(name, "v=STSv1; id="+id)
	switch {
	case f.Answer.State == Failed:
		return nil // of which checkName tells
	case len(f.records) == 0 && f.near != "":
		v.add("mtasts.syntax", name, "v", excerpt(f.near), "why", "it does not begin with v=STSv1;", "date", id, "publish", record).on(f.Answer)
		return v.all
	case len(f.records) == 0:
		if takesMail(p) {
			v.add("mtasts.missing", p.Domain, "host", f.Host, "publish", record+examplePolicy(p)).on(f.Answer)
		}
		return v.all
	case len(f.records) > 1:
		v.add("mtasts.several", name, "n", fmt.Sprint(len(f.records))).on(f.Answer)
	case f.ID == "":
		value, ok := fieldOf(f.records[0], "id")
		why := "it has no id"
		if ok {
			why = fmt.Sprintf("the id %q is not 1 to 32 letters and digits", excerpt(value))
		}
		v.add("mtasts.syntax", name, "v", excerpt(value), "why", why, "date", id, "publish", record).on(f.Answer)
	}
	f.checkPolicy(p, &v)
	return v.all
}

// checkPolicy judges the policy, and how it is served.
func (f *MTASTSFound) checkPolicy(p *Published, v *verdicts) {
	if len(addresses(f.A, f.AAAA)) == 0 {
		if f.A.Absent() && f.AAAA.Absent() {
			v.add("mtasts.host", f.Host, "host", f.Host).on(f.Answer, f.A, f.AAAA)
		}
		return
	}
	if !f.Fetched {
		return
	}
	if f.Why != "" {
		finding := v.add("mtasts.fetch", f.Host, "host", f.Host, "why", f.Why).on(f.A, f.AAAA)
		if f.Temporary {
			finding.Severity = Unknown
		}
		return
	}
	for _, e := range f.Policy.errs {
		where := "" // the whole
		if e.line > 0 {
			where = fmt.Sprintf(" in line %d", e.line)
		}
		v.add("mtasts.policy", f.Host, "host", f.Host, "n", fmt.Sprint(e.line), "where", where, "why", e.why)
	}
	if f.Policy.Mode == "enforce" || f.Policy.Mode == "testing" {
		for _, mx := range mxNames(p) {
			if !f.Policy.covers(mx) {
				v.add("mtasts.mx_uncovered", mx, "mx", mx, "mode", f.Policy.Mode).on(p.MX.Answer)
			}
		}
		f.checkCertificates(p, v)
	}
	short := f.Policy.MaxAge >= 0 && f.Policy.MaxAge < int((24*time.Hour).Seconds())
	if short || f.Policy.Mode == "testing" || f.Policy.Mode == "none" {
		finding := v.add("mtasts.mode", f.Host, "mode", f.Policy.Mode, "n", fmt.Sprint(f.Policy.MaxAge))
		if short {
			finding.Severity = Warning
		}
	}
}

// checkCertificates judges what the mail hosts showed as senders do that hold
// to the policy (RFC 8461, section 4.2).
func (f *MTASTSFound) checkCertificates(p *Published, v *verdicts) {
	for i := range p.DANE.Hosts {
		h := &p.DANE.Hosts[i]
		why := ""
		switch {
		case h.NoTLS:
			why = "it does not offer STARTTLS"
		case len(h.Certificates) > 0:
			why = distrust(h.Certificates, h.Name, f.roots, p.At)
		}
		if why == "" {
			continue // it is trusted, or was not seen
		}
		finding := v.add("mtasts.mx_certificate", h.Name, "mx", h.Name, "ip", h.Probed.String(), "why", why, "mode", f.Policy.Mode).on(h.A, h.AAAA)
		if f.Policy.Mode != "enforce" {
			finding.Severity = Warning
		}
	}
}

// distrust says why a chain is not that of a host, for those who trust roots;
// "" if it is.
func distrust(chain []*x509.Certificate, host string, roots *x509.CertPool, now time.Time) string {
	o := x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return excerpt(plainText(strings.TrimPrefix(err.Error(), "x509: "), 200))
	}
	return ""
}

// examplePolicy writes a policy for the mail hosts of a domain, as comments
// of a zone file.
func examplePolicy(p *Published) string {
	lines := []string{"", "served at https://mta-sts." + p.Domain + "/.well-known/mta-sts.txt:", "version: STSv1", "mode: testing"}
	names := mxNames(p)
	if len(names) == 0 {
		names = []string{"mail." + p.Domain}
	}
	for _, mx := range names {
		lines = append(lines, "mx: "+mx)
	}
	return strings.Join(append(lines, "max_age: 604800"), "\n; ")
}
