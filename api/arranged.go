package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Arrangements keep how operators arrange domains and networks. They know who
// asks, and return dmarc.ErrForbidden to those who may not, and a dmarc.Refusal for
// what stands in the configuration.
type Arrangements interface {
	Groups(ctx context.Context, q dmarc.GroupQuery) ([]dmarc.GroupTraffic, dmarc.Cursor, error)
	// PutGroup reports whether there was no such group.
	PutGroup(ctx context.Context, g *dmarc.Group) (added bool, err error)
	DropGroup(ctx context.Context, name string) error
	DomainSettings(ctx context.Context, domain string) (dmarc.DomainSettings, error)
	PutDomainWords(ctx context.Context, domain string, w dmarc.DomainWords) error
	// NetworkLabels returns the names of networks for a domain, and for all; for
	// "" the latter alone.
	NetworkLabels(ctx context.Context, domain string) ([]dmarc.NetworkLabel, error)
	PutNetworkLabel(ctx context.Context, l *dmarc.NetworkLabel) (added bool, err error)
	DropNetworkLabel(ctx context.Context, domain string, network netip.Prefix) error
}

// arrangedRoutes registers how domains and networks are arranged.
func (a *API) arrangedRoutes(h huma.API) {
	const file = " What stands in the configuration file is changed there: 409 here."
	list(a, h, sumsAtOnce, "/groups", "list-groups", "Groups of domains", "Groups of domains, such as those of clients or brands, by name, each with sums of its domains in the period. A group holds the subdomains of its domains; ignored domains are in no sum.", a.groups)
	get(h, "/groups/{group}", "get-group", "One group of domains", "A group with sums of its domains in the period.", a.group)
	register(h, huma.Operation{
		OperationID: "put-group", Method: http.MethodPut, Path: "/api/v1/groups/{group}", Summary: "Make or change a group",
		Description: "Says which domains are in a group; their subdomains are in it as well. 201 if there was none of the name. Tokens and people whose scope names the group follow. For admins of all domains." + file,
		Errors:      []int{http.StatusConflict, http.StatusUnprocessableEntity},
	}, a.putGroup)
	register(h, huma.Operation{
		OperationID: "delete-group", Method: http.MethodDelete, Path: "/api/v1/groups/{group}", Summary: "Forget a group",
		Description: "Forgets a group, not its domains. Tokens for it open nothing through it any more. For admins of all domains." + file, DefaultStatus: http.StatusNoContent,
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, a.deleteGroup)
	get(h, "/domains/{domain}/settings", "get-domain-settings", "What holds for a domain", "Labels, whether the domain is ignored, and how long what is about it is kept, each with who said so: file for the configuration file, which wins, api, or default for what holds for all domains. Nothing of it is about subdomains. There need not be reports about the domain.", a.domainSettings)
	register(h, huma.Operation{
		OperationID: "put-domain-settings", Method: http.MethodPut, Path: "/api/v1/domains/{domain}/settings", Summary: "Say what holds for a domain",
		Description: "Says all that the API says about a domain: what is left out, or null, is not said any more. Answers with what holds now." + file + " What the file says alike may be repeated.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, a.putDomainSettings)
	list(a, h, itemsAtOnce, "/domains/{domain}/networks", "list-network-labels", "Labels of networks", "The labels of addresses and networks that send as the domain. Those for all domains are told to those who may see all of them.", a.networkLabels)
	list(a, h, itemsAtOnce, "/networks", "list-network-labels-of-all", "Labels of networks for all domains", "The labels of addresses and networks, whichever domain they send as. For those who may see all domains; others get an empty list.", a.networkLabelsOfAll)
	put := func(path, id, summary, description string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: http.MethodPut, Path: "/api/v1" + path, Summary: summary, Description: description + " 201 if it had none." + file,
			Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
		}
	}
	register(h, put("/domains/{domain}/networks/{network}", "put-network-labels", "Label a network", "Labels an address or a network that sends as the domain."), a.putNetworkLabels)
	register(h, put("/networks/{network}", "put-network-labels-of-all", "Label a network for all domains", "Labels an address or a network, whichever domain it sends as. For admins of all domains."), a.putNetworkLabelsOfAll)
	drop := func(path, id, summary string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: http.MethodDelete, Path: "/api/v1" + path, Summary: summary, Description: "Takes back the labels of exactly this source or network." + file, DefaultStatus: http.StatusNoContent,
			Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
		}
	}
	register(h, drop("/domains/{domain}/networks/{network}", "delete-network-labels", "Take back the labels of a network"), a.deleteNetworkLabels)
	register(h, drop("/networks/{network}", "delete-network-labels-of-all", "Take back the labels of a network for all domains"), a.deleteNetworkLabelsOfAll)
}

// Group narrows a list to the domains of a group.
type Group struct {
	Group string `query:"group" maxLength:"255" doc:"only domains of this group; a group that is not there has none"`
}

// GroupName is the group that is asked about.
type GroupName struct {
	Group string `path:"group" maxLength:"255" doc:"name of the group" example:"acme"`
}

// Resolve checks the name.
func (n *GroupName) Resolve(huma.Context) []error {
	if err := dmarc.CheckName(n.Group); err != nil {
		return []error{&huma.ErrorDetail{Location: "path.group", Message: err.Error(), Value: n.Group}}
	}
	return nil
}

// GroupItem is a group with what reports tell about its domains.
type GroupItem struct {
	Group       string         `json:"group"`
	Note        *string        `json:"note" doc:"for people; null for those who may not see all domains"`
	Domains     []string       `json:"domains" nullable:"false" doc:"with their subdomains; those that you may see"`
	From        string         `json:"from" enum:"file,api" doc:"file: it stands in the configuration file, which wins, and is changed there"`
	Members     int            `json:"members" doc:"domains and subdomains that there are reports about, without those that are ignored"`
	Totals      Totals         `json:"totals"`
	PassRate    *float64       `json:"pass_rate" doc:"share of messages that pass DMARC, 0 to 1; null without messages"`
	OwnMessages int64          `json:"own_messages" doc:"messages of own sources and services, of the periods that the verdicts are about"`
	OwnPassRate *float64       `json:"own_pass_rate" doc:"share of own_messages that pass DMARC; null without any"`
	Verdicts    map[string]int `json:"verdicts" doc:"members by verdict: ready, not_ready, not_enough_evidence, done, and not_judged for those without"`
}

func groupItem(g *dmarc.GroupTraffic) GroupItem {
	item := GroupItem{Group: g.Name, Note: orNull(g.Note), Domains: append([]string{}, g.Domains...), From: dmarc.OriginAPI.String(), Members: g.Members,
		Totals: totals(g.Tally), PassRate: passRate(g.Tally), OwnMessages: g.Own, Verdicts: map[string]int{"ready": 0, "not_ready": 0, "not_enough_evidence": 0, "done": 0, "not_judged": 0}}
	if g.File {
		item.From = dmarc.OriginFile.String()
	}
	if rate, ok := g.OwnPassRate(); ok {
		item.OwnPassRate = &rate
	}
	for verdict, n := range g.Verdicts {
		if verdict == "" {
			verdict = "not_judged"
		}
		item.Verdicts[verdict] += n
	}
	return item
}

func (a *API) groups(ctx context.Context, in *struct {
	Period
	Page
}) (*List[GroupItem], error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.opts.Arrangements.Groups(ctx, dmarc.GroupQuery{Period: in.period(in.at), Page: in.page()})
	if err != nil {
		return nil, a.problem(err, "listing groups")
	}
	return listOf(list, next, groupItem), nil
}

func noArrangements() error {
	return huma.Error503ServiceUnavailable("nothing can be arranged here")
}

func (a *API) group(ctx context.Context, in *struct {
	GroupName
	Period
}) (*struct{ Body GroupItem }, error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	item, err := a.oneGroup(ctx, in.Group, in.period(a.opts.Now()))
	if err != nil {
		return nil, a.problem(err, "group of domains")
	}
	return &struct{ Body GroupItem }{item}, nil
}

func (a *API) oneGroup(ctx context.Context, name string, period dmarc.Period) (GroupItem, error) {
	list, _, err := a.opts.Arrangements.Groups(ctx, dmarc.GroupQuery{Name: name, Period: period, Page: dmarc.Page{Limit: 1}})
	if err == nil && len(list) == 0 {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return GroupItem{}, err
	}
	return groupItem(&list[0]), nil
}

// arrangedGroup is a group, and whether that is new.
type arrangedGroup struct {
	Status int
	Body   GroupItem
}

func (a *API) putGroup(ctx context.Context, in *struct {
	GroupName
	Body struct {
		Domains []string `json:"domains" maxItems:"10000" nullable:"false" doc:"all that are in it, with their subdomains"`
		Note    string   `json:"note,omitempty" maxLength:"500" doc:"for people"`
	}
}) (*arrangedGroup, error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	g := &dmarc.Group{Name: in.Group, Note: in.Body.Note}
	for i, d := range in.Body.Domains {
		name, err := properDomain(d)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("a domain is none", &huma.ErrorDetail{Location: fmt.Sprintf("body.domains[%d]", i), Message: err.Error(), Value: d})
		}
		g.Domains = append(g.Domains, name)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	added, err := a.opts.Arrangements.PutGroup(ctx, g)
	if err != nil {
		return nil, a.problem(err, "saving a group")
	}
	out := &arrangedGroup{Status: http.StatusOK}
	if added {
		out.Status = http.StatusCreated
	}
	var none Period
	if out.Body, err = a.oneGroup(ctx, in.Group, none.period(a.opts.Now())); err != nil {
		return nil, a.problem(err, "reading a group")
	}
	return out, nil
}

// properDomain returns a domain as it is stored.
func properDomain(text string) (string, error) {
	name := strings.ToLower(aLabel(strings.TrimSpace(text)))
	_, err := netip.ParseAddr(name)
	if err == nil || len(name) > 253 || !strings.Contains(name, ".") || strings.ContainsFunc(name, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}) || strings.Contains("."+name+".", "..") {
		return "", fmt.Errorf("must be a domain, such as example.com")
	}
	return name, nil
}

func (a *API) deleteGroup(ctx context.Context, in *struct{ GroupName }) (*struct{}, error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if err := a.opts.Arrangements.DropGroup(ctx, in.Group); err != nil {
		return nil, a.problem(err, "forgetting a group")
	}
	return nil, nil
}

// DomainSettings are what holds for a domain.
type DomainSettings struct {
	Body struct {
		Domain       string   `json:"domain"`
		Groups       []string `json:"groups" nullable:"false" doc:"that it is in, by itself or by a domain above it"`
		Labels       []string `json:"labels" nullable:"false"`
		LabelsFrom   string   `json:"labels_from" enum:"file,api,default"`
		Ignored      bool     `json:"ignored" doc:"left out of lists, sums, notifications, looks at DNS and verdicts; its reports are taken in all the same"`
		IgnoredFrom  string   `json:"ignored_from" enum:"file,api,default"`
		RowsDays     int      `json:"retention_rows_days" doc:"how long the rows of its aggregate reports are kept, by whole months; 0: for ever"`
		RowsFrom     string   `json:"retention_rows_from" enum:"file,api,default"`
		RawDays      int      `json:"retention_raw_days" doc:"how long messages that hold nothing but reports about it are kept as they came, by whole months; 0: for ever"`
		RawFrom      string   `json:"retention_raw_from" enum:"file,api,default"`
		FailuresDays int      `json:"retention_failures_days" doc:"how long its failure reports are kept; 0: for ever"`
		FailuresFrom string   `json:"retention_failures_from" enum:"file,api,default"`
	}
}

func (a *API) domainSettings(ctx context.Context, in *struct{ Domain }) (*DomainSettings, error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	s, err := a.opts.Arrangements.DomainSettings(ctx, strings.ToLower(aLabel(in.Domain.Domain)))
	if err != nil {
		return nil, a.problem(err, "what holds for a domain")
	}
	days := func(d time.Duration) int { return int(d / (24 * time.Hour)) }
	var out DomainSettings
	b := &out.Body
	b.Domain, b.Groups, b.Labels, b.LabelsFrom = s.Domain, append([]string{}, s.Groups...), append([]string{}, s.Labels...), s.LabelsFrom.String()
	b.Ignored, b.IgnoredFrom = s.Ignored, s.IgnoredFrom.String()
	b.RowsDays, b.RowsFrom = days(s.Rows), s.RowsFrom.String()
	b.RawDays, b.RawFrom = days(s.Raw), s.RawFrom.String()
	b.FailuresDays, b.FailuresFrom = days(s.Failures), s.FailuresFrom.String()
	return &out, nil
}

// DomainWords are what is said about a domain.
type DomainWords struct {
	Labels       []string `json:"labels,omitempty" nullable:"true" maxItems:"50" doc:"words to find it by"`
	Ignored      *bool    `json:"ignored,omitempty" nullable:"true"`
	RowsDays     *int     `json:"retention_rows_days,omitempty" nullable:"true" minimum:"0" maximum:"36500" doc:"0 for ever, or at least 40"`
	RawDays      *int     `json:"retention_raw_days,omitempty" nullable:"true" minimum:"0" maximum:"36500" doc:"0 for ever"`
	FailuresDays *int     `json:"retention_failures_days,omitempty" nullable:"true" minimum:"0" maximum:"36500" doc:"0 for ever"`
}

func (a *API) putDomainSettings(ctx context.Context, in *struct {
	Domain
	Body DomainWords
}) (*DomainSettings, error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	name, err := properDomain(in.Domain.Domain)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("that is no domain", &huma.ErrorDetail{Location: "path.domain", Message: err.Error(), Value: in.Domain.Domain})
	}
	w := dmarc.DomainWords{Ignored: in.Body.Ignored, Raw: duration(in.Body.RawDays), Failures: duration(in.Body.FailuresDays), Rows: duration(in.Body.RowsDays)}
	if w.Labels, err = properLabels(in.Body.Labels); err != nil {
		return nil, err
	}
	if n := in.Body.RowsDays; n != nil && *n > 0 && *n < 40 {
		return nil, huma.Error422UnprocessableEntity("rows would be kept for too short a time", &huma.ErrorDetail{Location: "body.retention_rows_days", Message: "must be 0, or at least 40", Value: *n})
	}
	asking, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if err := a.opts.Arrangements.PutDomainWords(asking, name, w); err != nil {
		return nil, a.problem(err, "saving what holds for a domain")
	}
	return a.domainSettings(ctx, &struct{ Domain }{in.Domain})
}

func duration(days *int) *time.Duration {
	if days == nil {
		return nil
	}
	d := time.Duration(*days) * 24 * time.Hour
	return &d
}

// properLabels returns labels in order, nil for nil.
func properLabels(labels []string) ([]string, error) {
	for i, l := range labels {
		if err := dmarc.CheckName(l); err != nil {
			return nil, huma.Error422UnprocessableEntity("a label is none", &huma.ErrorDetail{Location: fmt.Sprintf("body.labels[%d]", i), Message: err.Error(), Value: l})
		}
	}
	if labels == nil {
		return nil, nil
	}
	return slices.Compact(slices.Sorted(slices.Values(labels))), nil
}

// NetworkItem is an address or a network with its labels.
type NetworkItem struct {
	Network string   `json:"network"`
	Labels  []string `json:"labels" nullable:"false"`
	Scope   string   `json:"scope" enum:"domain,all" doc:"whether it is labelled for this domain or for all"`
	From    string   `json:"from" enum:"file,api" doc:"file: it stands in the configuration file, which wins, and is changed there"`
}

func networkItem(l *dmarc.NetworkLabel) NetworkItem {
	item := NetworkItem{Network: networkText(l.Network), Labels: l.Labels, Scope: "domain", From: dmarc.OriginAPI.String()}
	if l.Domain == "" {
		item.Scope = "all"
	}
	if l.File {
		item.From = dmarc.OriginFile.String()
	}
	return item
}

// NetworkList is the networks that have labels.
type NetworkList struct {
	Body struct {
		Items []NetworkItem `json:"items" nullable:"false"`
	}
}

func (a *API) networkLabels(ctx context.Context, in *struct {
	Domain
	Shape
}) (*NetworkList, error) {
	return a.listNetworks(ctx, strings.ToLower(aLabel(in.Domain.Domain)))
}

func (a *API) networkLabelsOfAll(ctx context.Context, _ *struct{ Shape }) (*NetworkList, error) {
	return a.listNetworks(ctx, "")
}

func (a *API) listNetworks(ctx context.Context, domain string) (*NetworkList, error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, err := a.opts.Arrangements.NetworkLabels(ctx, domain)
	if err != nil {
		return nil, a.problem(err, "listing labels of networks")
	}
	var out NetworkList
	out.Body.Items = listOf(list, "", networkItem).Body.Items
	return &out, nil
}

// NetworkLabels are what a network is called.
type NetworkLabels struct {
	Labels []string `json:"labels" minItems:"1" maxItems:"50" nullable:"false"`
}

// labelled is a network with its labels, and whether it had none.
type labelled struct {
	Status int
	Body   NetworkItem
}

func (a *API) putNetworkLabels(ctx context.Context, in *struct {
	Domain
	Network
	Body NetworkLabels
}) (*labelled, error) {
	name, err := properDomain(in.Domain.Domain)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("that is no domain", &huma.ErrorDetail{Location: "path.domain", Message: err.Error(), Value: in.Domain.Domain})
	}
	return a.labelNetwork(ctx, name, in.prefix, in.Body.Labels)
}

func (a *API) putNetworkLabelsOfAll(ctx context.Context, in *struct {
	Network
	Body NetworkLabels
}) (*labelled, error) {
	return a.labelNetwork(ctx, "", in.prefix, in.Body.Labels)
}

func (a *API) labelNetwork(ctx context.Context, domain string, network netip.Prefix, labels []string) (*labelled, error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	labels, err := properLabels(labels)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	l := &dmarc.NetworkLabel{Domain: domain, Network: network, Labels: labels}
	added, err := a.opts.Arrangements.PutNetworkLabel(ctx, l)
	if err != nil {
		return nil, a.problem(err, "labelling a network")
	}
	out := &labelled{http.StatusOK, networkItem(l)}
	if added {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (a *API) deleteNetworkLabels(ctx context.Context, in *struct {
	Domain
	Network
}) (*struct{}, error) {
	return a.unlabelNetwork(ctx, strings.ToLower(aLabel(in.Domain.Domain)), in.prefix)
}

func (a *API) deleteNetworkLabelsOfAll(ctx context.Context, in *struct{ Network }) (*struct{}, error) {
	return a.unlabelNetwork(ctx, "", in.prefix)
}

func (a *API) unlabelNetwork(ctx context.Context, domain string, network netip.Prefix) (*struct{}, error) {
	if a.opts.Arrangements == nil {
		return nil, noArrangements()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if err := a.opts.Arrangements.DropNetworkLabel(ctx, domain, network); err != nil {
		return nil, a.problem(err, "taking back the labels of a network")
	}
	return nil, nil
}

// labelsOf returns what tells the labels of an address that sends as a domain.
func (a *API) labelsOf(ctx context.Context, domain string) (func(netip.Addr) []string, error) {
	var networks []dmarc.NetworkLabel
	if a.opts.Arrangements != nil {
		var err error
		if networks, err = a.opts.Arrangements.NetworkLabels(ctx, domain); err != nil {
			return nil, err
		}
	}
	return func(addr netip.Addr) []string {
		all := []string{}
		for i := range networks {
			if networks[i].Network.Contains(addr) {
				all = append(all, networks[i].Labels...)
			}
		}
		slices.Sort(all)
		return slices.Compact(all)
	}, nil
}
