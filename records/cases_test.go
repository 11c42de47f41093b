package records

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/records/knottest"
)

// A zoneCase is a domain with its zones, and what Check must find in them. All
// cases are looked up through a real resolver, which validates what real
// servers sign.
type zoneCase struct {
	name   string
	domain string // looked up: "corp.test". Below "test.", and a zone of its own
	// zone is the zone of domain, with names relative to it. SOA, name servers
	// and their addresses are added.
	zone string
	// others are more zones, by name, written alike. The same name may have
	// the same text in several cases.
	others   map[string]string
	bare     bool    // nothing is added to zone; without any text there is no such zone
	unsigned bool    // the zone of domain is not signed
	o        Options // what Lookup is told; the resolver is filled in
	want     []string
	not      []string

	// What in-memory zones cannot show is shown by real servers only.
	live    bool
	signing string // how zone is signed, in lines of a policy of Knot
	noDS    bool   // zone is signed, and its parent has no DS
	badDS   bool   // the parent has a DS of another key
	// fails are names for which, with all below them, there is no answer.
	fails []string
	// servers are what single name servers answer, by their addresses; all
	// others serve the zones.
	servers map[string]dns.HandlerFunc
}

// cases are those of all kinds; each file with cases adds its own.
var cases []zoneCase

// addCases adds cases. It returns true so that it can stand in a declaration.
func addCases(more ...zoneCase) bool {
	cases = append(cases, more...)
	return true
}

// apex is what is added to a zone: healthy in every way.
const apex = knottest.Apex

// zones returns the text of all zones of a case, by name.
func (c *zoneCase) zones() map[string]string {
	all := map[string]string{c.domain: c.zone}
	switch {
	case !c.bare:
		all[c.domain] = apex + c.zone
	case c.zone == "":
		delete(all, c.domain)
	}
	for name, text := range c.others {
		all[name] = apex + text
	}
	return all
}

// found returns the ids of findings.
func found(findings []Finding) map[string]bool {
	ids := map[string]bool{}
	for _, f := range findings {
		ids[f.ID] = true
	}
	return ids
}

// holdAgainst compares the findings with what a case wants.
func (c *zoneCase) holdAgainst(t *testing.T, findings []Finding) {
	t.Helper()
	complete(t, findings)
	ids := found(findings)
	for _, id := range c.want {
		if !ids[id] {
			t.Errorf("%s is not found", id)
		}
	}
	for _, id := range c.not {
		if ids[id] {
			t.Errorf("%s is found", id)
		}
	}
	if t.Failed() {
		for _, f := range findings {
			t.Logf("%s %s: %s", f.Severity, f.ID, f.What())
		}
	}
}

func TestCasesInMemory(t *testing.T) {
	for _, c := range cases {
		if c.live {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			r := newZoneResolver(t, c.zones())
			r.unsigned[c.domain] = c.unsigned
			o := c.o
			o.Resolver, o.Documentation = failing{r, c.fails}, true
			if o.Direct == nil {
				o.Direct = zoneServers{r}
			}
			p, err := Lookup(t.Context(), c.domain, o)
			if err != nil {
				t.Fatal(err)
			}
			c.holdAgainst(t, Check(p))
		})
	}
}

// zoneServers are the name servers of all zones of a resolver.
type zoneServers struct{ *zoneResolver }

func (s zoneServers) Ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16) Answer {
	a := s.Lookup(ctx, name, qtype)
	a.AA, a.AD, a.Server = true, false, server.String()
	return a
}

// A failing resolver answers SERVFAIL for some names, and all below them.
type failing struct {
	Resolver
	names []string
}

func (f failing) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	for _, n := range f.names {
		if dns.IsSubDomain(dns.Fqdn(n), dns.Fqdn(name)) {
			return Answer{Name: name, Type: qtype, Rcode: dns.RcodeServerFailure}
		}
	}
	return f.Resolver.Lookup(ctx, name, qtype)
}

// txt writes a TXT record for a zone, in strings of 255 octets.
func txt(owner, text string) string {
	var b strings.Builder
	b.WriteString(owner + " TXT")
	for len(text) > 255 {
		b.WriteString(" " + quoted(text[:255]))
		text = text[255:]
	}
	b.WriteString(" " + quoted(text) + "\n")
	return b.String()
}

func quoted(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\%03d`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return `"` + b.String() + `"`
}
