package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

// An arranger keeps how operators arrange domains, and knows what holds for those
// about which they say nothing.
type arranger struct {
	*store.Store
	general store.Retention
}

// DomainSettings returns what holds for a domain.
func (a *arranger) DomainSettings(ctx context.Context, domain string) (dmarc.DomainSettings, error) {
	file, said, groups, err := a.DomainWords(ctx, domain)
	if err != nil {
		return dmarc.DomainSettings{}, err
	}
	s := dmarc.SettleDomain(domain, file, said)
	s.Groups = append(s.Groups, groups...)
	for _, k := range []struct {
		to      *time.Duration
		by      dmarc.Origin
		general time.Duration
	}{{&s.Rows, s.RowsFrom, a.general.Rows}, {&s.Raw, s.RawFrom, a.general.Raw}, {&s.Failures, s.FailuresFrom, a.general.Failures}} {
		if k.by == dmarc.OriginDefault {
			*k.to = k.general
		}
	}
	return s, nil
}

// A groupConfig is a group of domains.
type groupConfig struct {
	listed
	Name, Note string
	Domains    []string
}

func newGroup() *groupConfig {
	g := &groupConfig{Domains: []string{}}
	g.settings = []*setting{
		{key: "name", doc: "name of the group", example: `"acme"`, required: true, value: textValue(&g.Name, dmarc.CheckName)},
		{key: "domains", doc: "domains in it, with their subdomains", example: `["acme.example", "acme.org"]`, required: true, value: listValue(&g.Domains, readDomain)},
		{key: "note", doc: "words about it, for people", example: `"ACME Ltd., contract 4711"`, value: textValue(&g.Note, nil)},
	}
	g.in("group")
	return g
}

// A domainConfig is what holds for one domain.
type domainConfig struct {
	listed
	Name                string
	Labels              []string
	Ignored             bool
	Rows, Raw, Failures *time.Duration // nil: as for all domains
}

func newDomain() *domainConfig {
	d := &domainConfig{Labels: []string{}}
	d.settings = []*setting{
		{key: "name", doc: "the domain; its subdomains have entries of their own", example: `"acme.example"`, required: true, value: textValue(&d.Name, nil)},
		{key: "labels", doc: "words to find it by", example: `["vip", "parked"]`, value: listValue(&d.Labels, readLabel)},
		{key: "ignored", doc: "leave it out of lists, sums, notifications, looks at DNS and verdicts; its reports are taken in all the same", value: boolValue(&d.Ignored)},
		{key: "retention_rows", doc: "how long the rows of its aggregate reports are kept, rather than retention.rows", value: optionalKeepValue(&d.Rows, 40*hoursOfDay)},
		{key: "retention_raw", doc: "how long messages that hold nothing but reports about it are kept as they came, rather than retention.raw", value: optionalKeepValue(&d.Raw, hoursOfDay)},
		{key: "retention_failures", doc: "how long its failure reports are kept, rather than retention.failures", value: optionalKeepValue(&d.Failures, hoursOfDay)},
	}
	d.setting("name").set = func(text string) (err error) {
		d.Name, err = readDomain(text)
		return err
	}
	d.in("domain")
	return d
}

// words returns what is said about the domain.
func (d *domainConfig) words() (w dmarc.DomainWords) {
	if d.given("labels") {
		w.Labels = sorted(d.Labels)
	}
	if d.given("ignored") {
		w.Ignored = &d.Ignored
	}
	w.Rows, w.Raw, w.Failures = d.Rows, d.Raw, d.Failures
	return w
}

func sorted(words []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(words)))
}

// A networkConfig names an address or a network.
type networkConfig struct {
	listed
	Network, Domain, Class string
	Labels                 []string
}

func newNetwork() *networkConfig {
	n := &networkConfig{Labels: []string{}}
	n.settings = []*setting{
		{key: "network", doc: "an address or a network that sends", example: `"192.0.2.0/24"`, required: true, value: textValue(&n.Network, nil)},
		{key: "labels", doc: "what to call it", example: `["newsletter"]`, value: listValue(&n.Labels, readLabel)},
		{key: "class", doc: "whose it is: own, service, forwarder or suspicious; empty: what the reports tell", example: `"own"`, value: choiceValue(&n.Class, "", "own", "service", "forwarder", "suspicious")},
		{key: "domain", doc: "whose sources are meant; empty: those of all domains", example: `"acme.example"`, value: textValue(&n.Domain, nil)},
	}
	n.setting("network").set = func(text string) (err error) {
		n.Network, err = readNetwork(text)
		return err
	}
	n.setting("domain").set = func(text string) (err error) {
		if n.Domain = ""; text != "" {
			n.Domain, err = readDomain(text)
		}
		return err
	}
	n.in("network")
	return n
}

func readLabel(text string) (string, error) {
	if err := dmarc.CheckName(text); err != nil {
		return "", fmt.Errorf("each of them %w; %q is none", err, text)
	}
	return text, nil
}

// readDomains is readDomain for lists that may name groups of domains as well.
func readDomains(text string) (string, error) {
	if name, ok := strings.CutPrefix(text, dmarc.OfGroup); ok {
		if err := dmarc.CheckName(name); err != nil {
			return "", fmt.Errorf("the name of the group %q %w", name, err)
		}
		return text, nil
	}
	return readDomain(text)
}

// checkArranged looks at what the lists say about domains and networks.
func (l *loader) checkArranged() {
	missing := func(e *listed, key, what string) bool {
		if s := e.setting(key); s.origin.level == fromDefault || !s.refused && (s.toml() == `""` || s.toml() == "[]") {
			l.wrong(e.at(key), "is missing; "+what)
			return true
		}
		return e.setting(key).refused
	}
	twice := func(seen map[string]bool, e *listed, key, name string) {
		if seen[name] {
			l.wrong(e.at(key), "another entry is about "+shown(name)+" already; write one for both")
		}
		seen[name] = true
	}
	seen := map[string]bool{}
	for _, g := range l.cfg.Groups {
		if !missing(&g.listed, "name", "give each group a name") {
			twice(seen, &g.listed, "name", g.Name)
		}
		missing(&g.listed, "domains", "name the domains that are in the group")
		if len(g.Domains) > dmarc.MaxGroupDomains {
			l.wrong(g.at("domains"), fmt.Sprintf("are more than %d; make several groups", dmarc.MaxGroupDomains))
		}
	}
	seen = map[string]bool{}
	for _, d := range l.cfg.ByDomain {
		if !missing(&d.listed, "name", "say which domain is meant") {
			twice(seen, &d.listed, "name", d.Name)
		}
	}
	seen = map[string]bool{}
	for _, n := range l.cfg.Networks {
		if !missing(&n.listed, "network", "say which address or network is meant") {
			twice(seen, &n.listed, "network", strings.TrimSpace(n.Network+" "+n.Domain))
		}
		if len(n.Labels) == 0 && n.Class == "" && !n.setting("labels").refused && !n.setting("class").refused {
			l.wrong(n.at("labels"), "is missing, and so is class: say what to call it, or whose it is")
		}
	}
}

// arrangements returns what the file says about domains and networks.
func (c *config) arrangements() *dmarc.Arrangements {
	a := &dmarc.Arrangements{Domains: make(map[string]dmarc.DomainWords)}
	for _, g := range c.Groups {
		a.Groups = append(a.Groups, dmarc.Group{Name: g.Name, Note: g.Note, Domains: g.Domains, File: true})
	}
	for _, d := range c.ByDomain {
		a.Domains[d.Name] = d.words()
	}
	for _, n := range c.Networks {
		if p, err := network(n.Network); err == nil && len(n.Labels) > 0 {
			a.Networks = append(a.Networks, dmarc.NetworkLabel{Domain: n.Domain, Network: p, Labels: sorted(n.Labels), File: true})
		}
	}
	return a
}

// optionalKeepValue is how long something is kept, or "" where nothing is said.
func optionalKeepValue(p **time.Duration, least time.Duration) value {
	var d time.Duration
	v := keepValue(&d, least)
	return value{
		types: v.types,
		set: func(text string) error {
			if *p = nil; text == "" {
				return nil
			}
			err := v.set(text)
			if err == nil {
				*p = &d
			}
			return err
		},
		toml: func() string {
			if *p == nil {
				return `""`
			}
			return v.toml()
		},
	}
}
