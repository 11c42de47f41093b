package records

import (
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Result is what was found for a domain, in the form in which it is kept and
// shown.
type Result struct {
	Domain       string          `json:"domain"`
	CheckedAt    time.Time       `json:"checked_at"`
	Records      ResultRecords   `json:"records"`
	Findings     []ResultFinding `json:"findings"`
	LookupFailed []string        `json:"lookup_failed"` // name and type of each lookup that failed
}

// A ResultFinding is a finding. Message is What, under the name that checks of
// other programs use.
type ResultFinding struct {
	ID        string            `json:"id"`
	Severity  string            `json:"severity"`
	Subject   string            `json:"subject"`
	Value     string            `json:"value"` // the first of Values
	Message   string            `json:"message"`
	What      string            `json:"what"`
	Why       string            `json:"why"`
	Fix       string            `json:"fix"`
	Publish   string            `json:"publish"`
	Reference string            `json:"reference"`
	Values    map[string]string `json:"values"`
	Facts     []ResultFact      `json:"facts"`
}

// A ResultFact is an answer of DNS that a finding rests on.
type ResultFact struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Answer string `json:"answer"`
}

// ResultRecords are what a domain publishes, by kind.
type ResultRecords struct {
	Name  *ResultName  `json:"name"`  // null where the domain is no name
	DMARC *ResultDMARC `json:"dmarc"` // null where a lookup failed
	SPF   *ResultSPF   `json:"spf"`   // null where the lookup failed
	ResultMail
	Authors []ResultAuthor `json:"authors"` // subdomains that own mail names in From
	Sets    []ResultSet    `json:"sets"`    // everything that was answered, by name and type
}

// A ResultSet is the records of one name and type.
type ResultSet struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	Values []string `json:"values"` // as in a zone file; empty if it is proven that there are none
	TTL    int64    `json:"ttl"`    // seconds
}

// ResultSPF is the SPF record of a domain and what evaluating it costs (RFC 7208, section 4.6.4).
type ResultSPF struct {
	Record      *string         `json:"record"` // null unless there is one alone
	Lookups     int             `json:"lookups"`
	VoidLookups int             `json:"void_lookups"`
	Tree        []ResultSPFLine `json:"tree"`
}

// ResultSPFLine is a term of the tree, with the lookups it costs.
type ResultSPFLine struct {
	Depth  int            `json:"depth"` // 0 for the terms of the domain's own record
	Number string         `json:"number"`
	Term   string         `json:"term"`
	Own    int            `json:"own"`
	Cost   int            `json:"cost"` // with all below it
	Total  int            `json:"total"`
	Result string         `json:"result"`
	Hosts  []string       `json:"hosts"`
	Nets   []netip.Prefix `json:"nets"` // at most 100
	More   int            `json:"more"` // networks that are left out
	Over   bool           `json:"over"` // it is the term that crosses the limit
	Void   int            `json:"void"` // it is the first, second, ... that finds nothing; 0 if it is none
}

// ResultName is whether a domain exists, and the zone that it is in.
type ResultName struct {
	Exists      *bool    `json:"exists"` // null where a lookup failed
	Zone        string   `json:"zone"`
	NameServers []string `json:"name_servers"`
	Signed      *bool    `json:"signed"`
}

// ResultDMARC is the policy that receivers apply to mail of a domain, and where they find it (RFC 9989,
// section 4.10). What is null is not there, or could not be looked up.
type ResultDMARC struct {
	FoundAt              *string             `json:"found_at"`
	Record               *string             `json:"record"`
	Tag                  *string             `json:"tag"`
	EffectivePolicy      *string             `json:"effective_policy"`
	OrganizationalDomain string              `json:"organizational_domain"`
	RFC7489              ResultListed        `json:"rfc7489"` // what receivers of before RFC 9989 find
	Destinations         []ResultDestination `json:"destinations"`
	// Names are those that authenticate mail of the domain, as far as reports
	// tell, and the names in From.
	Names []ResultOrganization `json:"names"`
}

// ResultOrganization is the organizational domain of a name.
type ResultOrganization struct {
	Name                 string  `json:"name"`
	OrganizationalDomain *string `json:"organizational_domain"` // null where a lookup failed
	RFC7489              string  `json:"rfc7489"`               // by the Public Suffix List
}

// ResultListed is the policy that receivers of RFC 7489 apply, who go by the Public Suffix List.
type ResultListed struct {
	FoundAt              *string `json:"found_at"`
	EffectivePolicy      *string `json:"effective_policy"`
	OrganizationalDomain string  `json:"organizational_domain"`
}

// A ResultDestination is a host that reports are to go to, and whether it says that it takes them (RFC
// 9990, section 4): null where that could not be looked up.
type ResultDestination struct {
	Host       string   `json:"host"`
	URIs       []string `json:"uris"`
	External   bool     `json:"external"`
	Authorized *bool    `json:"authorized"`
}

// maxShown bounds how many addresses of one thing a Result lists.
const maxShown = 100

// NewResult returns what was found, with the texts of the findings.
func NewResult(p *Published, findings []Finding) *Result {
	out := &Result{Domain: p.Domain, CheckedAt: p.At.Truncate(time.Second), Findings: []ResultFinding{}, LookupFailed: []string{}}
	for i := range findings {
		f := &findings[i]
		j := ResultFinding{
			ID: f.ID, Severity: f.Severity.String(), Subject: f.Subject, Message: f.What(), What: f.What(), Why: f.Why(), Fix: f.Fix(),
			Publish: f.Publish(), Reference: f.Reference(), Values: map[string]string{}, Facts: []ResultFact{},
		}
		for i, v := range f.Values {
			if i == 0 {
				j.Value = v.Text
			}
			j.Values[v.Name] = v.Text
		}
		for _, fact := range f.Facts {
			j.Facts = append(j.Facts, ResultFact(fact))
		}
		out.Findings = append(out.Findings, j)
	}
	for _, a := range p.Failed {
		out.LookupFailed = append(out.LookupFailed, a.Name+" "+dns.TypeToString[a.Type])
	}
	out.Records = ResultRecords{Name: nameOf(p), DMARC: dmarcOf(p), SPF: spfOf(p), ResultMail: mailOf(p), Authors: authorsOf(p), Sets: []ResultSet{}}
	for _, set := range p.Records {
		out.Records.Sets = append(out.Records.Sets, ResultSet{set.Name, set.Type, set.Values, int64(set.TTL / time.Second)})
	}
	return out
}

func nameOf(p *Published) *ResultName {
	n := &p.Name
	if n.Invalid != "" {
		return nil
	}
	out := &ResultName{Zone: n.Zone, NameServers: []string{}}
	if gone := n.nonexistent(); gone || n.SOA.State != Failed {
		exists := !gone
		out.Exists = &exists
	}
	for i := range n.Servers {
		out.NameServers = append(out.NameServers, n.Servers[i].Name)
	}
	if n.Zone != "" && n.DS.State != Failed {
		signed := n.DS.State == Found
		out.Signed = &signed
	}
	return out
}

func spfOf(p *Published) *ResultSPF {
	root := p.SPF.Root
	if root == nil || root.Answer.State == Failed {
		return nil
	}
	out := &ResultSPF{Lookups: p.SPF.Lookups, VoidLookups: p.SPF.Voids, Tree: []ResultSPFLine{}}
	if len(root.Texts) == 1 {
		text := strings.Join(root.Texts[0], "")
		out.Record = &text
	}
	for _, l := range p.SPF.lines() {
		line := ResultSPFLine{l.Depth, l.Number, l.Text, l.Own, l.Cost, l.Total, l.Result, listOrEmpty(l.Names), l.Nets[:min(len(l.Nets), maxShown)], max(len(l.Nets)-maxShown, 0), l.Over, l.Void}
		if line.Nets == nil {
			line.Nets = []netip.Prefix{}
		}
		out.Tree = append(out.Tree, line)
	}
	return out
}

func dmarcOf(p *Published) *ResultDMARC {
	d := &p.DMARC
	if d.Walk == nil || d.Walk.Failed != nil {
		return nil
	}
	e := &d.Policy
	out := &ResultDMARC{
		OrganizationalDomain: e.OrganizationalDomain,
		RFC7489:              ResultListed{wordOrNull(d.Listed.At), policyOrNull(d.Listed.Policy), d.Listed.OrganizationalDomain},
		Destinations:         []ResultDestination{},
		Names:                []ResultOrganization{},
	}
	for _, n := range p.Alignment.Names {
		out.Names = append(out.Names, ResultOrganization{n.Name, wordOrNull(n.Walk), n.Listed})
	}
	if e.Record != nil {
		out.FoundAt, out.Record, out.Tag, out.EffectivePolicy = &e.At, &e.Record.Text, &e.Tag, policyOrNull(e.Policy)
	}
	for i := range d.Destinations {
		to := &d.Destinations[i]
		j := ResultDestination{Host: to.Host, External: to.External, URIs: []string{}}
		for _, u := range to.URIs {
			j.URIs = append(j.URIs, u.Text)
		}
		if !to.Unknown && (!to.External || to.TooLong || to.Answer.State != Failed) {
			authorized := to.authorized()
			j.Authorized = &authorized
		}
		out.Destinations = append(out.Destinations, j)
	}
	return out
}

func policyOrNull(p dmarc.Policy) *string { return wordOrNull(p.String()) }

func wordOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func listOrEmpty(items []string) []string {
	if items == nil {
		return []string{}
	}
	return items
}
