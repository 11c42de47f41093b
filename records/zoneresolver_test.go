package records

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A zoneResolver answers from zones in memory as a validating resolver would
// from servers: CNAMEs followed, wildcards expanded, and NXDOMAIN told from an
// empty answer. Names outside of its zones do not exist.
type zoneResolver struct {
	zones map[string]map[string][]dns.RR // by origin, then by owner; owners without records are there as well
	// unsigned zones are answered without AD.
	unsigned map[string]bool
	// broken names are answered as given, whatever the type: by name, or by
	// name and type ("mx1.corp.test AAAA"). Name, Type and At are filled in.
	broken map[string]Answer

	mu    sync.Mutex
	asked map[string]int // how often, by name and type
}

// newZoneResolver reads zones, by their names without the final dot. Names in
// them are relative to the zone.
func newZoneResolver(t testing.TB, zones map[string]string) *zoneResolver {
	t.Helper()
	r := &zoneResolver{
		zones: map[string]map[string][]dns.RR{}, unsigned: map[string]bool{}, broken: map[string]Answer{}, asked: map[string]int{},
	}
	for origin, text := range zones {
		owners := map[string][]dns.RR{}
		parser := dns.NewZoneParser(strings.NewReader("$TTL 3600\n"+text), dns.Fqdn(origin), origin)
		for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
			name := plainName(rr.Header().Name)
			owners[name] = append(owners[name], rr)
			for name != origin && strings.Contains(name, ".") { // what is between a name and its zone exists
				_, name, _ = strings.Cut(name, ".")
				owners[name] = append(owners[name], nil...)
			}
		}
		if err := parser.Err(); err != nil {
			t.Fatalf("zone %s: %v", origin, err)
		}
		r.zones[origin] = owners
	}
	return r
}

func plainName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Lookup is that of Resolver.
func (r *zoneResolver) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	name = plainName(name)
	a := Answer{Name: name, Type: qtype, At: time.Unix(0, 0).UTC(), Server: "127.0.0.1:53"}
	question := name + " " + dns.TypeToString[qtype]
	r.mu.Lock()
	r.asked[question]++
	r.mu.Unlock()
	for _, key := range []string{question, name} {
		if b, ok := r.broken[key]; ok {
			b.Name, b.Type, b.At = a.Name, a.Type, a.At
			return b
		}
	}
	if err := ctx.Err(); err != nil {
		a.Err = err.Error()
		return a
	}
	a.AD, a.Size, a.TTL = true, 12+len(name)+2+4+11, time.Hour
	for at := name; ; {
		origin, rrs, exists := r.find(at, qtype)
		a.AD = a.AD && !r.unsigned[origin]
		var alias *dns.CNAME
		for _, rr := range rrs {
			a.Size += dns.Len(rr) - len(at) // the owner is compressed
			a.TTL = min(a.TTL, time.Duration(rr.Header().Ttl)*time.Second)
			if c, ok := rr.(*dns.CNAME); ok && qtype != dns.TypeCNAME {
				alias = c
			} else {
				a.RRs = append(a.RRs, rr)
			}
		}
		switch {
		case alias != nil && len(a.Chain) > 8:
			return Answer{Name: name, Type: qtype, At: a.At, Server: a.Server, Chain: a.Chain, Rcode: dns.RcodeServerFailure, Loop: true}
		case alias != nil:
			if a.Chain == nil {
				a.Chain = []string{name}
			}
			at = plainName(alias.Target)
			a.Chain = append(a.Chain, at)
			continue
		case len(a.RRs) > 0:
			a.State = Found
		case exists:
			a.State = NoData
		default:
			a.State, a.Rcode = NXDomain, dns.RcodeNameError
		}
		return a
	}
}

// find returns the records of a name, of a type or CNAME, the zone that it is
// in, and whether the name exists.
func (r *zoneResolver) find(name string, qtype uint16) (origin string, rrs []dns.RR, exists bool) {
	for zone := range maps.Keys(r.zones) {
		if (name == zone || strings.HasSuffix(name, "."+zone)) && len(zone) > len(origin) {
			origin = zone
			// The parent answers for DS (RFC 4035, section 3.1.4.1).
			if qtype == dns.TypeDS && name == zone {
				origin = ""
			}
		}
	}
	if origin == "" {
		return "", nil, qtype == dns.TypeDS && r.zones[name] != nil
	}
	owners := r.zones[origin]
	all, exists := owners[name]
	if !exists {
		// The wildcard of the closest encloser (RFC 4592, section 3.3.1).
		for encloser := name; encloser != origin; {
			_, encloser, _ = strings.Cut(encloser, ".")
			if _, ok := owners[encloser]; ok {
				all, exists = owners["*."+encloser]
				break
			}
		}
	}
	for _, rr := range all {
		if t := rr.Header().Rrtype; t == qtype || t == dns.TypeCNAME || qtype == dns.TypeANY {
			rr = dns.Copy(rr)
			rr.Header().Name = dns.Fqdn(name)
			rrs = append(rrs, rr)
		}
	}
	return origin, rrs, exists
}
