package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// OverruleItem is the operator's word about a source or a network.
type OverruleItem struct {
	Network string     `json:"network" doc:"an address, or a network"`
	Class   string     `json:"class" enum:"own,service,forwarder,suspicious"`
	Note    string     `json:"note"`
	By      *string    `json:"by" doc:"who said so; null if that is not known"`
	At      *time.Time `json:"at" doc:"null if it stands in the configuration"`
	Scope   string     `json:"scope" enum:"domain,all" doc:"whether it is said for this domain or for all"`
	File    bool       `json:"file" doc:"it stands in the configuration, and is changed there"`
}

func overrule(o *dmarc.Overrule) OverruleItem {
	item := OverruleItem{Network: networkText(o.Network), Class: o.Class.String(), Note: o.Note, By: orNull(o.By), Scope: "domain", File: o.File}
	if o.Domain == "" {
		item.Scope = "all"
	}
	if !o.At.IsZero() {
		item.At = &o.At
	}
	return item
}

func networkText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// OverruleBody is what is said about a source.
type OverruleBody struct {
	Class string `json:"class" enum:"own,service,forwarder,suspicious" doc:"whose it is"`
	Note  string `json:"note,omitempty" maxLength:"500" doc:"why, for people"`
	By    string `json:"by,omitempty" maxLength:"255" doc:"who says so"`
}

// Network is the source that is spoken of.
type Network struct {
	Network string `path:"network" maxLength:"64" doc:"an address, or a network with its slash written as %2F" example:"192.0.2.0%2F24"`

	prefix netip.Prefix
}

// Resolve reads the network.
func (n *Network) Resolve(huma.Context) []error {
	p, err := readNetwork(strings.ReplaceAll(strings.ReplaceAll(n.Network, "%2F", "/"), "%2f", "/"))
	least := 8
	if err == nil && p.Addr().Is6() {
		least = 16
	}
	switch {
	case err != nil:
		return []error{&huma.ErrorDetail{Location: "path.network", Message: `is no address and no network, such as 192.0.2.7 or 192.0.2.0/24`, Value: n.Network}}
	case p.Bits() < least:
		return []error{&huma.ErrorDetail{Location: "path.network", Message: "holds too many addresses to be anybody's", Value: n.Network}}
	}
	n.prefix = p
	return nil
}

// readNetwork reads an address, or a network.
func readNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err == nil && p.Addr().Is4In6() {
		err = errors.New("a network of mapped addresses")
	}
	return p.Masked(), err
}

// OverruleList is what is said about the sources of a domain.
type OverruleList struct {
	Body struct {
		Items []OverruleItem `json:"items" nullable:"false"`
	}
}

// overruleRoutes registers what operators say, for a domain and for all.
func (a *API) overruleRoutes(h huma.API) {
	const words = " The smallest network that holds a source decides; of equal ones the configuration, then what is said for the domain, then what is said for all."
	list(a, h, itemsAtOnce, "/domains/{domain}/overrules", "list-overrules", "What operators say about sources", "What is said about whose sources are, for the domain and for all domains."+words, a.overrules)
	list(a, h, itemsAtOnce, "/overrules", "list-all-overrules", "What operators say for all domains", "What is said about whose sources are, for all domains."+words, a.overrulesOfAll)
	put := func(path, id, summary string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: http.MethodPut, Path: "/api/v1" + path, Summary: summary,
			Description: "Says whose a source or a network is. 201 if nothing was said about it before, 200 if that is replaced, 409 if the configuration says something. Verdicts follow." + words,
			Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
		}
	}
	register(h, put("/domains/{domain}/overrules/{network}", "put-overrule", "Say whose a source is"), a.putOverrule)
	register(h, put("/overrules/{network}", "put-overrule-of-all", "Say for all domains whose a source is"), a.putOverruleOfAll)
	drop := func(path, id, summary string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: http.MethodDelete, Path: "/api/v1" + path, Summary: summary,
			Description: "Takes back what was said about exactly this source or network.", DefaultStatus: http.StatusNoContent,
			Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
		}
	}
	register(h, drop("/domains/{domain}/overrules/{network}", "delete-overrule", "Take back whose a source is"), a.deleteOverrule)
	register(h, drop("/overrules/{network}", "delete-overrule-of-all", "Take back for all domains whose a source is"), a.deleteOverruleOfAll)
}

func (a *API) overrules(ctx context.Context, in *struct {
	Domain
	Shape
}) (*OverruleList, error) {
	return a.listOverrules(ctx, aLabel(in.Domain.Domain))
}

func (a *API) overrulesOfAll(ctx context.Context, _ *struct{ Shape }) (*OverruleList, error) {
	return a.listOverrules(ctx, "")
}

func (a *API) listOverrules(ctx context.Context, domain string) (*OverruleList, error) {
	if a.opts.Overrules == nil {
		return nil, noOverrules()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, err := a.opts.Overrules.Overrules(ctx, domain)
	if err != nil {
		return nil, a.problem(err, "listing what is said about sources")
	}
	var out OverruleList
	out.Body.Items = make([]OverruleItem, len(list))
	for i := range list {
		out.Body.Items[i] = overrule(&list[i])
	}
	return &out, nil
}

func noOverrules() error { return huma.Error503ServiceUnavailable("nothing can be overruled here") }

// overruled is what was said, and whether that was new.
type overruled struct {
	Status int
	Body   OverruleItem
}

func (a *API) putOverrule(ctx context.Context, in *struct {
	Domain
	Network
	Body OverruleBody
}) (*overruled, error) {
	return a.sayOverrule(ctx, aLabel(in.Domain.Domain), in.prefix, &in.Body)
}

func (a *API) putOverruleOfAll(ctx context.Context, in *struct {
	Network
	Body OverruleBody
}) (*overruled, error) {
	return a.sayOverrule(ctx, "", in.prefix, &in.Body)
}

func (a *API) sayOverrule(ctx context.Context, domain string, network netip.Prefix, body *OverruleBody) (*overruled, error) {
	if a.opts.Overrules == nil {
		return nil, noOverrules()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	class, _ := dmarc.ParseClass(body.Class)
	o := &dmarc.Overrule{Domain: domain, Network: network, Class: class, Note: body.Note, By: body.By, At: a.opts.Now().UTC().Truncate(time.Microsecond)}
	added, err := a.opts.Overrules.PutOverrule(ctx, o)
	if err != nil {
		return nil, a.problem(err, "saying whose a source is")
	}
	out := &overruled{http.StatusOK, overrule(o)}
	if added {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (a *API) deleteOverrule(ctx context.Context, in *struct {
	Domain
	Network
}) (*struct{}, error) {
	return a.dropOverrule(ctx, aLabel(in.Domain.Domain), in.prefix)
}

func (a *API) deleteOverruleOfAll(ctx context.Context, in *struct{ Network }) (*struct{}, error) {
	return a.dropOverrule(ctx, "", in.prefix)
}

func (a *API) dropOverrule(ctx context.Context, domain string, network netip.Prefix) (*struct{}, error) {
	if a.opts.Overrules == nil {
		return nil, noOverrules()
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if err := a.opts.Overrules.DropOverrule(ctx, domain, network); err != nil {
		return nil, a.problem(err, "taking back whose a source is")
	}
	return nil, nil
}
