package records

import (
	"context"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// maxAuthors is how many subdomains are asked for.
const maxAuthors = 20

// An Author is a subdomain that mail names in From.
type Author struct {
	Name   string
	Exists bool // unless it is Unknown
	// Unknown is true where a lookup failed for now.
	Unknown bool
}

// gatherAuthors asks whether the subdomains that mail names exist. The answers
// are no part of what the domain is watched for: they tell of hosts.
func gatherAuthors(ctx context.Context, g *gatherer) {
	var names []string
	for _, name := range g.o.Authors {
		if name, err := domainName(name); err == nil && strings.HasSuffix(name, "."+g.p.Domain) && !slices.Contains(names, name) && len(names) < maxAuthors {
			names = append(names, name)
		}
	}
	authors := make([]Author, len(names))
	var group errgroup.Group
	for i, name := range names {
		group.Go(func() error {
			authors[i] = g.author(ctx, name)
			return nil
		})
	}
	_ = group.Wait() // none fails
	g.p.Authors = authors
}

// author tells whether a name exists: it does not if there are neither A nor
// AAAA nor MX (RFC 9989, section 3.2.13).
func (g *gatherer) author(ctx context.Context, name string) Author {
	a := Author{Name: name}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeMX, dns.TypeAAAA} {
		if !g.afford() {
			a.Unknown = true
			return a
		}
		switch answer := g.o.Resolver.Lookup(ctx, name, qtype); {
		case answer.State == Found:
			return Author{Name: name, Exists: true}
		case answer.State == Failed:
			a.Unknown = true
		case answer.State == NXDomain:
			return a // whatever the type (RFC 8020)
		}
	}
	return a
}

// afford counts a question to the resolver, and reports whether it may be asked.
func (g *gatherer) afford() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.resolver >= maxQuestions {
		return false
	}
	g.resolver++
	return true
}

// checkAuthors finds nothing wrong: subdomains need not exist.
func checkAuthors(*Published) []Finding { return nil }

// A ResultAuthor is a subdomain that mail names.
type ResultAuthor struct {
	Name   string `json:"name"`
	Exists *bool  `json:"exists"` // null where a lookup failed
}

func authorsOf(p *Published) []ResultAuthor {
	out := []ResultAuthor{}
	for _, a := range p.Authors {
		r := ResultAuthor{Name: a.Name}
		if !a.Unknown {
			r.Exists = &a.Exists
		}
		out = append(out, r)
	}
	return out
}

// Existence returns what tells of subdomains whether they exist; known is false
// for those that were not looked up, or could not be.
func (r *Result) Existence() func(name string) (exists, known bool) {
	known := make(map[string]bool)
	for _, a := range r.Records.Authors {
		if a.Exists != nil {
			known[a.Name] = *a.Exists
		}
	}
	return func(name string) (bool, bool) {
		exists, ok := known[name]
		return exists, ok
	}
}
