package records

import (
	"context"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// gatherParked asks nothing that other kinds do not ask.
func gatherParked(context.Context, *gatherer) {}

// A policyView is what the DMARC policy of a domain comes to.
type policyView struct {
	known   bool // no lookup failed
	applies bool
	policy  dmarc.Policy // of the domain
	below   dmarc.Policy // of names below that exist, test mode aside
	record  *DMARCRecord
}

// viewPolicy returns the DMARC policy of a domain.
func viewPolicy(p *Published) policyView {
	if p.DMARC.Walk == nil || p.DMARC.Walk.Failed != nil {
		return policyView{}
	}
	e := p.DMARC.Policy
	view := policyView{known: true, applies: e.applies(), policy: e.Policy, record: e.Record}
	if view.below = e.Published; e.Record != nil && e.At == p.Domain && e.Record.SP != dmarc.PolicyUnknown && !e.Record.broken() {
		view.below = e.Record.SP
	}
	return view
}

// weakPolicy says why the DMARC policy does not keep forgers out, for the
// domain and what is below, or "".
func weakPolicy(p *Published) string {
	view := viewPolicy(p)
	if !view.known {
		return ""
	}
	if !view.applies {
		return "there is none"
	}
	pct, _ := view.record.tag("pct")
	switch {
	case view.record.Testing:
		return "it is a test (t=y)"
	case view.policy == dmarc.PolicyNone:
		return "it is none"
	case view.below == dmarc.PolicyNone:
		return "it is none for subdomains"
	case pct != "" && pct != "100":
		return "older receivers apply it to a part of the mail (pct=" + excerpt(pct) + ")"
	}
	return ""
}

// parked reports whether a domain has to do with mail neither as sender nor as
// receiver, as far as that is known.
func parked(p *Published) bool {
	m := &p.MX
	if len(m.Hosts) > 0 || len(m.Bad) > 0 || m.Left > 0 || !(m.Null || m.Answer.Absent()) || p.Sends == SendingYes {
		return false
	}
	return p.Sends == SendingNo || !spfAllows(p) && p.Hosts.TXT.State != Failed
}

// checkParked judges whether a domain without mail says so everywhere.
func checkParked(p *Published) []Finding {
	if !parked(p) {
		return nil
	}
	var missing, publish []string
	lack := func(what, record string) { missing, publish = append(missing, what), append(publish, record) }
	if !p.MX.Null {
		lack("a null MX", p.Domain+". IN MX 0 .")
	}
	if p.Hosts.TXT.State != Failed && !spfClosed(p) {
		lack("an SPF record that allows nobody", zoneTXT(p.Domain, "v=spf1 -all"))
	}
	if p.DKIM.Random.State != Failed && !p.revokesAll() {
		lack("a wildcard that revokes all DKIM keys", zoneTXT("*._domainkey."+p.Domain, "v=DKIM1; p="))
	}
	if view := viewPolicy(p); view.known && view.policy != dmarc.PolicyReject {
		lack("a DMARC policy of reject", zoneTXT("_dmarc."+p.Domain, "v=DMARC1; p=reject"))
	}
	if len(missing) == 0 {
		return nil
	}
	var v verdicts
	v.add("parked.open", p.Domain, "missing", strings.Join(missing, ", "), "publish", strings.Join(publish, "\n")).on(p.MX.Answer, p.Hosts.TXT, p.DKIM.Random)
	return v.all
}

var _ = register(Rule{
	ID: "parked.open", Record: "all", Severity: Warning, Reference: "RFC 7505; RFC 7208, section 10.1.2",
	Condition: "a domain without mail that does not say so everywhere",
	What:      "{subject} sends no mail, but can be forged. It lacks: {missing}.",
	Why:       "Forgers like domains that nobody looks after. These records make receivers refuse whatever claims to come from {subject}.",
	Fix:       "Publish what is missing.",
})
