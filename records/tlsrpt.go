package records

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/miekg/dns"
)

// TLSRPTFound is where a domain wants TLS reports (RFC 8460, section 3).
type TLSRPTFound struct {
	Answer Answer   // TXT of _smtp._tls
	URIs   []string // where reports go, if the record is valid

	records []string // that count
	why     string   // what is wrong with them, or ""
	address string   // that is suggested
}

// maxTLSRPTURIs are the destinations that are read.
const maxTLSRPTURIs = 20

func gatherTLSRPT(ctx context.Context, g *gatherer) {
	f := TLSRPTFound{Answer: g.ask(ctx, "_smtp._tls."+g.p.Domain, dns.TypeTXT)}
	f.address = "reports@" + g.p.Domain
	if len(g.o.ReportAddresses) > 0 {
		f.address = g.o.ReportAddresses[0]
	}
	var near string
	f.records, near = versioned(texts(f.Answer), "v=TLSRPTv1")
	switch {
	case len(f.records) > 1:
		f.why = fmt.Sprintf("there are %d records", len(f.records))
	case len(f.records) == 1:
		f.URIs, f.why = parseTLSRPT(f.records[0])
	case near != "":
		f.why = fmt.Sprintf("%q does not begin with v=TLSRPTv1;", excerpt(near))
	}
	g.p.TLSRPT = f
}

// parseTLSRPT reads a record of TLS reporting (RFC 8460, section 3). It
// returns where reports go, and what makes the record invalid, or "".
func parseTLSRPT(record string) (uris []string, why string) {
	rua, ok := fieldOf(record, "rua")
	if !ok || strings.Trim(rua, " \t") == "" {
		return nil, "there is no rua"
	}
	for part := range strings.SplitSeq(rua, ",") {
		if len(uris) == maxTLSRPTURIs {
			return nil, fmt.Sprintf("rua names more than %d destinations", maxTLSRPTURIs)
		}
		part = strings.Trim(part, " \t")
		if why := badReportURI(part); why != "" {
			return nil, why
		}
		uris = append(uris, part)
	}
	return uris, ""
}

// badReportURI says what makes a text no destination of TLS reports, or "".
func badReportURI(text string) string {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return "rua holds an empty destination"
	case err != nil || strings.Contains(text, "!") || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Sprintf("%q is not a URI", excerpt(text))
	case strings.EqualFold(u.Scheme, "mailto"):
		local, domain, ok := strings.Cut(u.Opaque, "@")
		if domain, _, _ = strings.Cut(domain, "?"); !ok || local == "" || !isHostName(domain) {
			return fmt.Sprintf("%q holds no mail address", excerpt(text))
		}
	case strings.EqualFold(u.Scheme, "https"):
		if u.Hostname() == "" {
			return fmt.Sprintf("%q names no host", excerpt(text))
		}
	case u.Scheme == "":
		return fmt.Sprintf("%q has neither mailto: nor https: before it", excerpt(text))
	default:
		return fmt.Sprintf("%q is neither mailto: nor https:", excerpt(text))
	}
	return ""
}

func checkTLSRPT(p *Published) []Finding {
	var v verdicts
	f := &p.TLSRPT
	name := "_smtp._tls." + p.Domain
	publish := zoneTXT(name, "v=TLSRPTv1; rua=mailto:"+f.address)
	switch {
	case f.Answer.State == Failed: // of which checkName tells
	case f.why != "":
		v.add("tlsrpt.invalid", name, "why", f.why, "publish", publish).on(f.Answer)
	case len(f.records) == 0:
		used := len(p.MTASTS.records) > 0 || p.DANE.any()
		if !used && !takesMail(p) {
			break
		}
		finding := v.add("tlsrpt.missing", p.Domain, "publish", publish).on(f.Answer)
		if used {
			finding.Severity = Warning
		}
	}
	return v.all
}

var _ = register(
	Rule{
		ID: "tlsrpt.missing", Record: "TXT", Severity: Info, Reference: "RFC 8460, section 3",
		Condition: "no record for TLS reports",
		What:      "{subject} asks for no TLS reports.",
		Why:       "Nobody tells you when senders cannot deliver over TLS; with MTA-STS or DANE that means lost mail.",
		Fix:       "Publish where reports go.",
	},
	Rule{
		ID: "tlsrpt.invalid", Record: "TXT", Severity: Error, Reference: "RFC 8460, section 3",
		Condition: "several records, or none that is valid",
		What:      "The record for TLS reports at {subject} is not valid: {why}.",
		Why:       "Senders take it as none and send no reports.",
		Fix:       "Publish one record that names where reports go by mailto: or https:.",
	},
)
