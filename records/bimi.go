package records

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/net/publicsuffix"
)

// BIMIFound is which logo a domain asserts (draft-brand-indicators-for-message-identification).
type BIMIFound struct {
	Answer Answer // TXT of default._bimi, of the domain or else of its organizational domain
	Record BIMIRecord

	texts []string // that are meant to be records
}

// A BIMIRecord is an assertion record of BIMI
// (draft-brand-indicators-for-message-identification), as far as it can be
// read.
type BIMIRecord struct {
	Logo     string // l=
	Evidence string // a=
	Declined bool   // l= and a= are empty: no logo is wanted

	why string // what makes the record invalid, or ""
}

func gatherBIMI(ctx context.Context, g *gatherer) {
	f := BIMIFound{Answer: g.ask(ctx, "default._bimi."+g.p.Domain, dns.TypeTXT)}
	if organization, err := publicsuffix.EffectiveTLDPlusOne(g.p.Domain); f.Answer.Absent() && err == nil && organization != g.p.Domain {
		f.Answer = g.ask(ctx, "default._bimi."+organization, dns.TypeTXT)
	}
	for _, text := range texts(f.Answer) {
		if strings.HasPrefix(strings.ToLower(strings.Trim(text, " \t\"'")), "v=bimi") {
			f.texts = append(f.texts, text)
		}
	}
	if len(f.texts) == 1 {
		f.Record = parseBIMI(f.texts[0])
	}
	g.p.BIMI = f
}

// parseBIMI reads an assertion record.
func parseBIMI(text string) BIMIRecord {
	var r BIMIRecord
	tags, errs := parseTagList(text)
	logo, hasLogo := tagOf(tags, "l")
	evidence, hasEvidence := tagOf(tags, "a")
	r.Logo, r.Evidence = logo, evidence
	r.Declined = hasLogo && logo == "" && evidence == ""
	switch {
	case len(errs) > 0:
		r.why = errs[0].why
	case len(tags) == 0 || tags[0].name != "v" || tags[0].value != "BIMI1":
		r.why = "it does not begin with v=BIMI1;"
	case !hasLogo:
		r.why = "there is no l="
	case logo == "" && evidence != "":
		r.why = "l= is empty"
	case logo != "" && !isHTTPS(logo):
		r.why = fmt.Sprintf("l=%s is not an address that begins with https:", excerpt(logo))
	case hasEvidence && evidence != "" && !isHTTPS(evidence):
		r.why = fmt.Sprintf("a=%s is not an address that begins with https:", excerpt(evidence))
	}
	return r
}

func isHTTPS(text string) bool {
	u, err := url.Parse(text)
	return err == nil && strings.EqualFold(u.Scheme, "https") && u.Hostname() != "" && !strings.ContainsAny(text, " \t,")
}

// example returns the record to publish: with the addresses that are right,
// and others to be filled in.
func (f *BIMIFound) example() string {
	domain := strings.TrimPrefix(f.Answer.Name, "default._bimi.")
	logo, evidence := f.Record.Logo, f.Record.Evidence
	if !isHTTPS(logo) {
		logo = "https://" + domain + "/logo.svg"
	}
	if !isHTTPS(evidence) {
		evidence = "https://" + domain + "/logo.pem"
	}
	return zoneTXT(f.Answer.Name, "v=BIMI1; l="+logo+"; a="+evidence)
}

func checkBIMI(p *Published) []Finding {
	var v verdicts
	f := &p.BIMI
	name := f.Answer.Name
	switch {
	case f.Answer.State == Failed, len(f.texts) == 0:
		return nil // checkName tells what failed
	case len(f.texts) > 1:
		v.add("bimi.invalid", name, "why", fmt.Sprintf("there are %d records", len(f.texts)), "publish", f.example()).on(f.Answer)
		return v.all
	case f.Record.why != "":
		v.add("bimi.invalid", name, "why", f.Record.why, "publish", f.example()).on(f.Answer)
		return v.all
	case f.Record.Declined:
		return nil
	case f.Record.Evidence == "":
		v.add("bimi.invalid", name, "why", "a= names no mark certificate, without which Gmail, Apple and others show no logo", "publish", f.example()).on(f.Answer).Severity = Info
	}
	if why := weakPolicy(p); why != "" {
		v.add("bimi.dmarc_weak", p.Domain, "why", why).on(f.Answer)
	}
	return v.all
}

var _ = register(
	Rule{
		ID: "bimi.invalid", Record: "TXT", Severity: Warning, Reference: "draft-brand-indicators-for-message-identification, section 4",
		Condition: "several records, or none that is valid; or no mark certificate",
		What:      "The BIMI record at {subject} does not do all it should: {why}.",
		Why:       "Receivers that show logos show none, or fewer of them do.",
		Fix:       "Publish one record with the https address of the logo and of its mark certificate.",
	},
	Rule{
		ID: "bimi.dmarc_weak", Record: "TXT", Severity: Warning, Reference: "draft-brand-indicators-for-message-identification, section 7.1",
		Condition: "the DMARC policy does not reach quarantine",
		What:      "{subject} publishes a logo, but its DMARC policy does not allow to show it: {why}.",
		Why:       "Receivers show logos only where DMARC keeps forgers out, below the domain too.",
		Fix:       "Move p and sp to quarantine or reject when the reports allow it.",
	},
)
