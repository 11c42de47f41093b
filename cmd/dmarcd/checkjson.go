package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// checkJSON is what dmarcd check prints about a domain.
type checkJSON struct {
	Domain       string        `json:"domain"`
	CheckedAt    time.Time     `json:"checked_at"`
	Records      recordsJSON   `json:"records"`
	Findings     []findingJSON `json:"findings"`
	LookupFailed []string      `json:"lookup_failed"` // name and type of each lookup that failed
}

// findingJSON is a finding. Message is What, under the name that checks of
// other programs use.
type findingJSON struct {
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
	Facts     []factJSON        `json:"facts"`
}

type factJSON struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Answer string `json:"answer"`
}

// recordsJSON is what a domain publishes, by kind.
type recordsJSON struct {
	Name  *nameJSON    `json:"name"`  // null where the domain is no name
	DMARC *dmarcJSON   `json:"dmarc"` // null where a lookup failed
	SPF   *spfTreeJSON `json:"spf"`   // null where the lookup failed
	mailJSON
}

type spfTreeJSON struct {
	Record      *string       `json:"record"` // null unless there is one alone
	Lookups     int           `json:"lookups"`
	VoidLookups int           `json:"void_lookups"`
	Tree        []spfLineJSON `json:"tree"`
}

// spfLineJSON is a term of the tree, with the lookups it costs.
type spfLineJSON struct {
	Number string         `json:"number"`
	Term   string         `json:"term"`
	Own    int            `json:"own"`
	Cost   int            `json:"cost"` // with all below it
	Total  int            `json:"total"`
	Result string         `json:"result"`
	Hosts  []string       `json:"hosts"`
	Nets   []netip.Prefix `json:"nets"`
}

type nameJSON struct {
	Exists      *bool    `json:"exists"` // null where a lookup failed
	Zone        string   `json:"zone"`
	NameServers []string `json:"name_servers"`
	Signed      *bool    `json:"signed"`
}

type dmarcJSON struct {
	FoundAt              *string           `json:"found_at"`
	Record               *string           `json:"record"`
	Tag                  *string           `json:"tag"`
	EffectivePolicy      *string           `json:"effective_policy"`
	OrganizationalDomain string            `json:"organizational_domain"`
	RFC7489              listedJSON        `json:"rfc7489"` // what receivers of before RFC 9989 find
	Destinations         []destinationJSON `json:"destinations"`
}

type listedJSON struct {
	FoundAt              *string `json:"found_at"`
	EffectivePolicy      *string `json:"effective_policy"`
	OrganizationalDomain string  `json:"organizational_domain"`
}

type destinationJSON struct {
	Host       string   `json:"host"`
	URIs       []string `json:"uris"`
	External   bool     `json:"external"`
	Authorized *bool    `json:"authorized"`
}

// printJSON prints a domain as one line.
func (c *checker) printJSON(p *records.Published, findings []records.Finding) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(checkedJSON(p, findings))
}

func checkedJSON(p *records.Published, findings []records.Finding) checkJSON {
	out := checkJSON{Domain: p.Domain, CheckedAt: p.At.Truncate(time.Second), Findings: []findingJSON{}, LookupFailed: []string{}}
	for i := range findings {
		f := &findings[i]
		j := findingJSON{
			ID: f.ID, Severity: f.Severity.String(), Subject: f.Subject, Message: f.What(), What: f.What(), Why: f.Why(), Fix: f.Fix(),
			Publish: f.Publish(), Reference: f.Reference(), Values: map[string]string{}, Facts: []factJSON{},
		}
		for i, v := range f.Values {
			if i == 0 {
				j.Value = v.Text
			}
			j.Values[v.Name] = v.Text
		}
		for _, fact := range f.Facts {
			j.Facts = append(j.Facts, factJSON(fact))
		}
		out.Findings = append(out.Findings, j)
	}
	for _, a := range p.Failed {
		out.LookupFailed = append(out.LookupFailed, a.Name+" "+dns.TypeToString[a.Type])
	}
	out.Records = recordsJSON{Name: nameOf(p), DMARC: dmarcOf(p), SPF: spfOf(p), mailJSON: mailOf(p)}
	return out
}

func nameOf(p *records.Published) *nameJSON {
	n := &p.Name
	if n.Invalid != "" {
		return nil
	}
	out := &nameJSON{Zone: n.Zone, NameServers: []string{}}
	if gone := n.Nonexistent(); gone || n.SOA.State != records.Failed {
		exists := !gone
		out.Exists = &exists
	}
	for i := range n.Servers {
		out.NameServers = append(out.NameServers, n.Servers[i].Name)
	}
	if n.Zone != "" && n.DS.State != records.Failed {
		signed := n.DS.State == records.Found
		out.Signed = &signed
	}
	return out
}

func spfOf(p *records.Published) *spfTreeJSON {
	root := p.SPF.Root
	if root == nil || root.Answer.State == records.Failed {
		return nil
	}
	out := &spfTreeJSON{Lookups: p.SPF.Lookups, VoidLookups: p.SPF.Voids, Tree: []spfLineJSON{}}
	if len(root.Texts) == 1 {
		text := strings.Join(root.Texts[0], "")
		out.Record = &text
	}
	for _, l := range p.SPF.Lines() {
		line := spfLineJSON{l.Number, l.Text, l.Own, l.Cost, l.Total, l.Result, list(l.Names), l.Nets}
		if line.Nets == nil {
			line.Nets = []netip.Prefix{}
		}
		out.Tree = append(out.Tree, line)
	}
	return out
}

func dmarcOf(p *records.Published) *dmarcJSON {
	d := &p.DMARC
	if d.Walk == nil || d.Walk.Failed != nil {
		return nil
	}
	e := &d.Policy
	out := &dmarcJSON{
		OrganizationalDomain: e.OrganizationalDomain,
		RFC7489:              listedJSON{word(d.Listed.At), policyOrNull(d.Listed.Policy), d.Listed.OrganizationalDomain},
		Destinations:         []destinationJSON{},
	}
	if e.Record != nil {
		out.FoundAt, out.Record, out.Tag, out.EffectivePolicy = &e.At, &e.Record.Text, &e.Tag, policyOrNull(e.Policy)
	}
	for i := range d.Destinations {
		to := &d.Destinations[i]
		j := destinationJSON{Host: to.Host, External: to.External, URIs: []string{}}
		for _, u := range to.URIs {
			j.URIs = append(j.URIs, u.Text)
		}
		if !to.Unknown && (!to.External || to.TooLong || to.Answer.State != records.Failed) {
			authorized := to.Authorized()
			j.Authorized = &authorized
		}
		out.Destinations = append(out.Destinations, j)
	}
	return out
}

func policyOrNull(p dmarc.Policy) *string { return word(p.String()) }
