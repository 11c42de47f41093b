package records

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Reported is what reports tell of a domain's mail.
type Reported struct {
	RelaxedOnly []string // sources whose mail is aligned by relaxed alignment only
	SPFOnly     []string // own sources that pass by SPF and are not signed

	// Sent are the addresses and networks that mail came from in the last 30
	// days, whoever sent it, and Days how many of these days reports tell of.
	Sent []netip.Prefix
	Days int

	// Policy is what the newest report says was published, PolicyAt the begin
	// of its period, and PolicyBy who says so.
	Policy   *dmarc.PolicyPublished
	PolicyAt time.Time
	PolicyBy string
	// RecordSince is since when history shows the DMARC record as it is; zero
	// where that is not known.
	RecordSince time.Time

	Silent []SilentReporter

	// Named are messages of the last 30 days that are not strictly aligned, by
	// the names that authenticated them, most messages first.
	Named []dmarc.NamedMail
}

// A SilentReporter is one who reported for weeks and does not any more, while
// others do.
type SilentReporter struct {
	Name    string
	LastDay time.Time // that it reported about
}

const (
	// evidenceDays are needed before a term of SPF is called unused.
	evidenceDays = 25
	// settleTime is how long a changed record may still be seen as it was.
	settleTime = 48 * time.Hour
)

// gatherEvidence asks nothing.
func gatherEvidence(_ context.Context, g *gatherer) { g.p.Reported = g.o.Reported }

// checkEvidence compares what is published with what reports tell.
func checkEvidence(p *Published) []Finding {
	r := p.Reported
	if r == nil {
		return nil
	}
	v := &verdicts{}
	r.checkUnused(v, p)
	r.checkPolicy(v, p)
	for _, s := range r.Silent[:min(len(r.Silent), maxTold)] {
		v.add("reports.reporter_silent", p.Domain, "reporter", excerpt(s.Name), "day", s.LastDay.Format(time.DateOnly))
	}
	return v.all
}

// checkUnused looks for terms of the SPF record that let addresses pass of
// which none sent any mail, those that cost the most lookups first.
func (r *Reported) checkUnused(v *verdicts, p *Published) {
	if r.Days < evidenceDays || len(r.Sent) == 0 || p.SPF.Root == nil || p.SPF.Root.Record == nil {
		return
	}
	type term struct {
		text         string
		saves        int
		nets         int
		used, unsure bool
	}
	terms := map[string]*term{}
	for _, b := range p.SPF.Root.Branches {
		if b.Term.Name == "all" || b.Unread {
			continue
		}
		// What depends on the message, or was not looked up, cannot be judged.
		terms[b.Term.Text] = &term{text: b.Term.Text, saves: b.Cost, unsure: b.unsure()}
	}
	for _, a := range p.SPF.allowed() {
		t := terms[a.Path[0]]
		if t == nil {
			continue
		}
		t.nets++
		t.used = t.used || slices.ContainsFunc(r.Sent, a.Net.Overlaps)
	}
	var unused []*term
	for _, t := range terms {
		if !t.used && !t.unsure && t.nets > 0 {
			unused = append(unused, t)
		}
	}
	slices.SortFunc(unused, func(a, b *term) int { return cmp.Or(cmp.Compare(b.saves, a.saves), cmp.Compare(a.text, b.text)) })
	for _, t := range unused[:min(len(unused), maxTold)] {
		networks := "networks"
		if t.nets == 1 {
			networks = "network"
		}
		v.add("spf.unused", p.Domain, "term", excerpt(t.text), "n", decimal(t.nets), "networks", networks, "saves", decimal(t.saves)).on(p.SPF.Root.Answer)
	}
}

// unsure reports whether something below a term depends on the message or was
// not looked up.
func (b *SPFBranch) unsure() bool {
	if b.PerMessage || b.Cut || b.Loop {
		return true
	}
	for i := range b.Answers {
		if b.Answers[i].State == Failed {
			return true
		}
	}
	if b.Node == nil {
		return false
	}
	if b.Node.Answer.State == Failed {
		return true
	}
	for i := range b.Node.Branches {
		if b.Node.Branches[i].unsure() {
			return true
		}
	}
	return false
}

// checkPolicy compares the policy in DNS with the one that reporters saw since
// it has been there.
func (r *Reported) checkPolicy(v *verdicts, p *Published) {
	view := viewPolicy(p)
	if r.Policy == nil || r.Policy.P == dmarc.PolicyUnknown || !view.known || view.record == nil || view.record.broken() || p.DMARC.Policy.At != p.Domain {
		return
	}
	if r.RecordSince.IsZero() || r.PolicyAt.Before(r.RecordSince.Add(settleTime)) {
		return
	}
	if view.record.P == r.Policy.P {
		return
	}
	v.add("dmarc.reported_differs", p.Domain, "published", view.record.P.String(), "reported", r.Policy.P.String(),
		"reporter", excerpt(r.PolicyBy), "day", r.PolicyAt.Format(time.DateOnly), "since", r.RecordSince.Format(time.DateOnly)).on(p.DMARC.answer(p.DMARC.Policy.At))
}

var _ = register(
	Rule{
		ID: "spf.unused", Record: "TXT + reports", Severity: Info, Reference: "RFC 7208, section 4.6.4",
		Condition: "a term lets addresses pass of which none sent anything in 30 days",
		What:      "`{term}` lets {n} {networks} send as {subject}, and nothing came from any of them in the last 30 days.",
		Why:       "What is not used costs lookups ({saves} here) and lets others in. Mail that is sent once a month or less would not show yet.",
		Fix:       "Ask who put it there; if nobody needs it, remove it.",
	},
	Rule{
		ID: "dmarc.reported_differs", Record: "TXT + reports", Severity: Warning, Reference: "RFC 9990, section 3.1.1.5",
		Condition: "reporters see another policy than the one in DNS, days after it changed",
		What:      "DNS has had p={published} for {subject} since {since}, but {reporter} still saw p={reported} on {day}.",
		Why:       "Some receivers get an old or another record: a name server that is not updated, a second view of the zone, or a cache that keeps it for too long.",
		Fix:       "Compare the answers of all your name servers, and the TTL of the record.",
	},
	Rule{
		ID: "reports.reporter_silent", Record: "reports", Severity: Info, Reference: "RFC 9990, section 3.5",
		Condition: "somebody who reported for weeks has stopped, while others go on",
		What:      "{reporter} has sent no report about {subject} since the one for {day}.",
		Why:       "What that receiver sees of your mail is missing from the numbers since.",
		Fix:       "Look whether its mail arrives (Messages shows what came in), and whether the address in rua= is still right.",
	},
)
