package records

import (
	"net/netip"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Coverage tells whether an SPF record lets an address pass.
type Coverage uint8

// CoverageUnknown is for what a look does not tell: a lookup failed, the term
// depends on the message, or everybody is let pass.
const (
	CoverageUnknown Coverage = iota
	CoverageNone
	CoverageOwn    // by terms of the owner's, which name few addresses
	CoverageShared // by what somebody else publishes for all his customers, or by a wide network
)

// SPFCoverage returns what tells of an address whether the SPF record of the
// domain let it pass when it was looked at. Nothing is asked. Limits of lookups
// are left out of account: whom the owner meant is what is told.
func (r *Result) SPFCoverage() func(netip.Addr) Coverage {
	spf := r.Records.SPF
	if spf == nil {
		return func(netip.Addr) Coverage { return CoverageUnknown }
	}
	if spf.Record == nil {
		return func(netip.Addr) Coverage { return CoverageNone }
	}
	s := storedSPF{org: dmarc.OrganizationalDomain(r.Domain)}
	root, _ := s.read(spf.Tree, 0)
	return func(addr netip.Addr) Coverage { return root.covers(addr.Unmap()) }
}

// A storedSPF reads the tree of a record back from its lines.
type storedSPF struct{ org string }

// A storedTerm is a term of it.
type storedTerm struct {
	name   string
	pass   bool // it lets pass what it matches
	unsure bool // what it matches is not all known
	shared bool
	nets   []netip.Prefix
	below  storedRecord // of include and redirect
}

type storedRecord []storedTerm

// read takes the lines of one record, and returns what is left.
func (s *storedSPF) read(lines []ResultSPFLine, depth int) (storedRecord, []ResultSPFLine) {
	var terms storedRecord
	for len(lines) > 0 && lines[0].Depth == depth {
		l := &lines[0]
		lines = lines[1:]
		qualifier, name, sep, value := splitTerm(l.Term)
		t := storedTerm{name: name, pass: qualifier == "" || qualifier == "+", nets: l.Nets}
		var below storedRecord
		if len(lines) > 0 && lines[0].Depth > depth {
			below, lines = s.read(lines, depth+1)
			t.below = below
		}
		switch name {
		case "all", "ip4", "ip6", "a", "mx", "include", "redirect", "exists", "ptr":
		default:
			continue
		}
		if l.Result == resultUnread {
			continue
		}
		switch name {
		case "exists", "ptr":
			t.unsure = true
		case "include", "redirect":
			t.shared = dmarc.OrganizationalDomain(strings.ToLower(value)) != s.org
			t.unsure = below == nil
		case "a":
			if sep == ":" {
				host, _ := cutCIDR(value)
				t.shared = dmarc.OrganizationalDomain(strings.ToLower(host)) != s.org
			}
		case "mx":
			for _, host := range l.Hosts {
				t.shared = t.shared || dmarc.OrganizationalDomain(host) != s.org
			}
		}
		t.unsure = t.unsure || l.Result == resultPerMessage || strings.Contains(l.Result, resultNotLookedUp) || strings.HasPrefix(l.Result, resultLoop) ||
			l.Result == resultTooLarge || l.Result == resultNoQuestion
		terms = append(terms, t)
	}
	return terms, lines
}

// Bits of a network that holds too many addresses to be one owner's.
const (
	wideIPv4 = 16
	wideIPv6 = 32
)

// covers looks for the first term that matches, as receivers do.
func (r storedRecord) covers(addr netip.Addr) Coverage {
	unsure := false
	var redirect *storedTerm
	for i := range r {
		t := &r[i]
		found := CoverageNone
		switch t.name {
		case "all":
			if t.pass || unsure {
				return CoverageUnknown
			}
			return CoverageNone
		case "redirect":
			redirect = t // where nothing else matches
			continue
		case "include":
			found = t.below.covers(addr)
		default:
			for _, n := range t.nets {
				if !n.Contains(addr) {
					continue
				}
				if found == CoverageNone {
					found = CoverageShared
				}
				if n.Bits() > wideIPv4 && addr.Is4() || n.Bits() > wideIPv6 && addr.Is6() {
					found = CoverageOwn
				}
			}
		}
		if t.unsure && found == CoverageNone || found == CoverageUnknown {
			unsure = true
			continue
		}
		if found == CoverageNone {
			continue
		}
		switch {
		case unsure && !t.pass:
			return CoverageUnknown
		case !t.pass:
			return CoverageNone
		case t.shared:
			return CoverageShared
		}
		return found
	}
	switch {
	case redirect != nil && !redirect.unsure:
		found := redirect.below.covers(addr)
		if found == CoverageOwn && redirect.shared {
			found = CoverageShared
		}
		if found == CoverageNone && unsure {
			return CoverageUnknown
		}
		return found
	case redirect != nil || unsure:
		return CoverageUnknown
	}
	return CoverageNone
}
