package dmarc

import (
	"slices"
	"strings"
)

// A Scope is the domains that somebody may know of. The zero Scope is none.
type Scope struct {
	all     bool
	domains []string // sorted
}

// Everything is the scope of those who may know of every domain, and of what
// is of no domain.
var Everything = Scope{all: true}

// ScopeOf returns the scope of domains, as lower-case A-labels, and of all
// their subdomains.
func ScopeOf(domains ...string) Scope {
	domains = slices.Clone(domains)
	slices.Sort(domains)
	return Scope{domains: slices.Compact(domains)}
}

// All tells whether the scope is Everything.
func (s Scope) All() bool { return s.all }

// Domains returns the domains that the scope was made of; none for Everything.
func (s Scope) Domains() []string { return slices.Clone(s.domains) }

// With returns what is in one scope or the other.
func (s Scope) With(o Scope) Scope {
	if s.all || o.all {
		return Everything
	}
	return ScopeOf(append(s.Domains(), o.domains...)...)
}

// And returns what is in both scopes.
func (s Scope) And(o Scope) Scope {
	switch {
	case s.all:
		return o
	case o.all:
		return s
	}
	var both []string
	for _, d := range s.domains {
		if o.Covers(d) {
			both = append(both, d)
		}
	}
	for _, d := range o.domains {
		if s.Covers(d) {
			both = append(both, d)
		}
	}
	return ScopeOf(both...)
}

// Covers tells whether a domain is in the scope.
func (s Scope) Covers(domain string) bool {
	if s.all {
		return true
	}
	for domain != "" {
		if _, ok := slices.BinarySearch(s.domains, domain); ok {
			return true
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return false
}
