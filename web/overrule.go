package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An Overruler keeps what operators say about whose a source is.
type Overruler interface {
	// Overrules returns what is said for a domain, and for all domains.
	Overrules(ctx context.Context, domain string) ([]dmarc.Overrule, error)
	// PutOverrule reports whether nothing was said about the network before; a
	// dmarc.Refusal says that it is not to be said here.
	PutOverrule(ctx context.Context, o *dmarc.Overrule) (added bool, err error)
	// DropOverrule returns dmarc.ErrNotFound if nothing was said.
	DropOverrule(ctx context.Context, domain string, network netip.Prefix) error
}

const (
	longestForm = 64 << 10 // bytes
	mostSaid    = mostAddresses
	longestNote = 500 // characters
)

// answers are the classes that an operator can say, with words for the buttons.
var answers = []struct{ Class, Label string }{
	{"own", "mine"}, {"service", "a service of mine"}, {"forwarder", "a forwarder"}, {"suspicious", "nobody I know"},
}

// A said is what a form says about sources.
type said struct {
	networks []netip.Prefix
	class    dmarc.Class
	note     string
	all      bool // for all domains
	drop     bool // take back what was said
}

// overrule serves POST /domains/{domain}/overrules: it says whose sources are,
// or takes that back, and leads back to where it was said.
func (s *site) overrule(w http.ResponseWriter, r *http.Request) {
	to, err := s.sayWhose(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *site) sayWhose(w http.ResponseWriter, r *http.Request) (to string, err error) {
	if err := s.origins.Check(r); err != nil {
		return "", errForeign
	}
	name, err := s.domainOf(r, "overrules")
	if err != nil {
		return "", err
	}
	r.Body = http.MaxBytesReader(w, r.Body, longestForm)
	if err := r.ParseForm(); err != nil {
		return "", badRequest{"the form cannot be read"}
	}
	f, err := readSaid(r.PostForm)
	if err != nil {
		return "", err
	}
	domain := name
	if f.all {
		domain = ""
	}
	for _, network := range f.networks {
		if f.drop {
			err = s.overruler.DropOverrule(r.Context(), domain, network)
			if errors.Is(err, dmarc.ErrNotFound) {
				err = nil // somebody else was quicker
			}
		} else {
			_, err = s.overruler.PutOverrule(r.Context(), &dmarc.Overrule{
				Domain: domain, Network: network, Class: f.class, Note: f.note, At: s.now().UTC().Truncate(time.Microsecond),
			})
		}
		if err != nil {
			return "", err
		}
	}
	if r.PostForm.Get("back") == "domain" {
		return s.link(domainPath(name, "")) + "#ask", nil
	}
	return s.link(domainPath(name, "source"), url.Values{"of": {r.PostForm.Get("of")}}) + "#say", nil
}

// readSaid reads what a form says. The error is a badRequest.
func readSaid(v url.Values) (f said, err error) {
	var bad badRequest
	for _, text := range v["network"] {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		p, err := readNetwork(text)
		if err != nil {
			bad = append(bad, fmt.Sprintf("%q %s", cut(plain(text), 60), err))
			continue
		}
		f.networks = append(f.networks, p)
	}
	f.drop, f.all = v.Get("drop") != "", v.Get("all") != ""
	f.note = strings.TrimSpace(plain(v.Get("note")))
	class, ok := dmarc.ParseClass(v.Get("class"))
	f.class = class
	switch {
	case len(bad) > 0:
	case len(f.networks) == 0:
		bad = append(bad, "no address is chosen")
	case len(f.networks) > mostSaid:
		bad = append(bad, fmt.Sprintf("more than %d addresses are chosen", mostSaid))
	case !f.drop && (!ok || class == dmarc.ClassUnknown):
		bad = append(bad, "it is not said whose it is: own, service, forwarder or suspicious")
	case len([]rune(f.note)) > longestNote:
		bad = append(bad, fmt.Sprintf("the note has more than %d characters", longestNote))
	}
	if len(bad) > 0 {
		return f, bad
	}
	return f, nil
}

// readNetwork reads an address, or a network that one owner can have.
func readNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if addr, err2 := netip.ParseAddr(text); err2 == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	least := 8
	if err == nil && p.Addr().Is6() {
		least = 16
	}
	switch {
	case err != nil || p.Addr().Is4In6():
		return p, errors.New("is no address and no network, such as 192.0.2.7 or 192.0.2.0/24")
	case p.Bits() < least:
		return p, errors.New("holds too many addresses to be anybody's")
	}
	return p.Masked(), nil
}

// errForeign is returned for a change that another site has asked the browser for.
var errForeign = errors.New("this change was asked for by another site")

// saidAbout returns what is said about any of some sources.
func saidAbout(all []dmarc.Overrule, lines []addressLine) []dmarc.Overrule {
	var out []dmarc.Overrule
	for _, o := range all {
		for i := range lines {
			if p := lines[i].prefix; p.IsValid() && o.Network.Bits() <= p.Bits() && o.Network.Contains(p.Addr()) {
				out = append(out, o)
				break
			}
		}
	}
	return out
}
