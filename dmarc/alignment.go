package dmarc

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Alignment is our own verdict about a row, recomputed from the raw results of
// the report and today's Public Suffix List. It never overwrites the
// reporter's.
type Alignment struct {
	DKIM bool
	SPF  bool
	// HELO is true when SPF is aligned only by the HELO identity of a null
	// sender, which RFC 9989 no longer relies on: an uncertain pass.
	HELO         bool
	Disagreement Disagreement
}

// A Disagreement tells how our verdict differs from the reporter's.
type Disagreement uint8

// The classes of disagreement.
const (
	Agreed           Disagreement = iota
	PassWithoutProof              // reporter pass, ours fail: no passing result of the mechanism that passed is listed
	PassByOtherOrg                // reporter pass, ours fail: a passing result of another organization is listed
	FailDespiteProof              // reporter fail, ours pass
	VerdictMissing                // the reporter gave no readable verdict
)

// String returns the word for a disagreement; "" for none.
func (d Disagreement) String() string { return name(disagreementWords[:], int(d)) }

var disagreementWords = [...]string{"", "pass_without_proof", "pass_by_other_org", "fail_despite_proof", "verdict_missing"}

// DisagreementDocs says what each disagreement means.
var DisagreementDocs = []struct {
	Disagreement Disagreement
	Text         string
}{
	{PassWithoutProof, "the reporter says pass, but lists no passing result of the mechanism that passed: some leave results out"},
	{PassByOtherOrg, "the reporter says pass, but the passing results that it lists are of other organizations"},
	{FailDespiteProof, "the reporter says fail, but lists a passing result that is aligned: strict modes that it does not show, or a policy that changed"},
	{VerdictMissing, "the reporter gives no verdict that can be read"},
}

// OrganizationalDomain returns the organizational domain of a lower-case
// A-label domain by the Public Suffix List (RFC 7489, section 3.2): one label
// below the longest public suffix, by the list's ICANN and private rules. A
// name that is itself a suffix is its own.
func OrganizationalDomain(domain string) string {
	domain = strings.TrimSuffix(domain, ".")
	org, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return org
}

// An Aligner judges rows. It remembers organizational domains, since a report
// repeats few names in many rows; it is not for use by several goroutines.
type Aligner struct {
	orgs map[string]string
}

// maxOrgs bounds what an Aligner remembers.
const maxOrgs = 4096

func (a *Aligner) org(domain string) string {
	if org, ok := a.orgs[domain]; ok {
		return org
	}
	if a.orgs == nil || len(a.orgs) >= maxOrgs {
		a.orgs = make(map[string]string)
	}
	org := OrganizationalDomain(domain)
	a.orgs[domain] = org
	return org
}

// Aligned reports whether an authenticated domain is aligned with the author
// domain (RFC 9989, section 4.4). Empty names are aligned with nothing.
func (a *Aligner) Aligned(domain, author string, mode AlignmentMode) bool {
	switch {
	case domain == "" || author == "":
		return false
	case domain == author:
		return true
	case mode == AlignmentStrict:
		return false
	}
	return a.org(domain) == a.org(author)
}

// Judge recomputes alignment for a row under a published policy and compares
// the outcome with the reporter's.
func (a *Aligner) Judge(row *Row, policy *PolicyPublished) Alignment {
	var ours Alignment
	listed := false // a passing result of a mechanism that passed, they say
	for i := range row.AuthDKIM {
		r := &row.AuthDKIM[i]
		if r.Result != ResultPass || r.Domain == "" {
			continue
		}
		listed = listed || row.DKIM == ResultPass
		ours.DKIM = ours.DKIM || a.Aligned(r.Domain, row.HeaderFrom, policy.ADKIM)
	}
	mailFrom := false
	for i := range row.AuthSPF {
		r := &row.AuthSPF[i]
		if r.Result != ResultPass || r.Domain == "" {
			continue
		}
		listed = listed || row.SPF == ResultPass
		helo := r.Scope == "helo"
		if helo && !(row.NullSender || row.EnvelopeFrom == "") {
			continue
		}
		if a.Aligned(r.Domain, row.HeaderFrom, policy.ASPF) {
			ours.SPF = true
			mailFrom = mailFrom || !helo
		}
	}
	ours.HELO = ours.SPF && !mailFrom

	theirs, mine := row.Passes(), ours.DKIM || ours.SPF
	switch {
	case row.DKIM == ResultUnknown && row.SPF == ResultUnknown:
		ours.Disagreement = VerdictMissing
	case theirs && !mine && !listed:
		ours.Disagreement = PassWithoutProof
	case theirs && !mine:
		ours.Disagreement = PassByOtherOrg
	case !theirs && mine:
		ours.Disagreement = FailDespiteProof
	}
	return ours
}
