package records

import (
	"maps"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// A Memory is what one look at a domain leaves for the next: what only time can
// tell.
type Memory struct {
	// LowTTL is since when TTLs have been under five minutes, by name and type:
	// "example.com MX".
	LowTTL map[string]time.Time `json:"low_ttl,omitempty"`
	// Behind are the name servers that have an older serial than another, as
	// "ns1.example.com (192.0.2.53)".
	Behind map[string]Lag `json:"behind,omitempty"`
}

// A Lag is the serial of a server that is behind, and since when it has been
// at that one.
type Lag struct {
	Serial uint32    `json:"serial"`
	Since  time.Time `json:"since"`
}

// Low TTLs are for the days of a change, not for weeks; servers follow each
// other within the hour.
const (
	lowTTL     = 5 * time.Minute
	lowTTLTime = 7 * 24 * time.Hour
	serialTime = time.Hour
)

// nextMemory returns what is to be remembered of a look. What could not be seen
// this time is remembered as it was; what nobody asks for any more is forgotten.
func (p *Published) nextMemory() Memory {
	m := Memory{LowTTL: map[string]time.Time{}, Behind: map[string]Lag{}}
	if p.memory != nil {
		maps.Copy(m.LowTTL, p.memory.LowTTL)
		maps.DeleteFunc(m.LowTTL, func(key string, _ time.Time) bool { return !p.watchesTTL(key) })
	}
	for _, a := range p.atSource() {
		key := ttlKey(a)
		switch {
		case a.State == Failed:
		case a.State != Found || a.TTL >= lowTTL:
			delete(m.LowTTL, key)
		case m.LowTTL[key].IsZero():
			m.LowTTL[key] = p.At
		}
	}
	answered := map[string]bool{}
	for name := range p.Name.serving() {
		answered[name] = true
	}
	for name, a := range p.Name.behind() {
		m.Behind[name] = p.lag(name, a)
	}
	if p.memory != nil {
		for name, lag := range p.memory.Behind {
			if p.Name.asked && !answered[name] && p.Name.lists(name) {
				m.Behind[name] = lag
			}
		}
	}
	return m
}

// watchesTTL reports whether a TTL is looked at, by its name and type.
func (p *Published) watchesTTL(key string) bool {
	switch key {
	case p.Domain + " MX", p.Domain + " TXT", policyName(p.Domain) + " TXT":
		return true
	}
	return slices.ContainsFunc(p.DKIM.Selectors, func(s SelectorFound) bool { return s.Selected()+" TXT" == key })
}

func ttlKey(a Answer) string { return a.Name + " " + dns.TypeToString[a.Type] }

// lag returns since when a server has been at the serial that it has.
func (p *Published) lag(name string, a *AskedServer) Lag {
	lag := Lag{serialOf(a), a.SOA.At}
	if p.memory != nil {
		if before, ok := p.memory.Behind[name]; ok && before.Serial == lag.Serial {
			lag.Since = before.Since
		}
	}
	return lag
}

// atSource returns the answers about mail whose TTLs have not run down: those
// of a name server, and those of the resolver whose TTLs are not low even so.
func (p *Published) atSource() []Answer {
	var all []Answer
	for _, a := range p.Name.serving() {
		all = append(all, a.MX, a.TXT, a.DMARC)
		break // the others say the same, or checkSame tells
	}
	for i := range p.DKIM.Selectors {
		s := &p.DKIM.Selectors[i]
		switch {
		case s.Source.Name != "":
			all = append(all, s.Source)
		case s.Answer.State != Found || s.Answer.TTL >= lowTTL:
			all = append(all, s.Answer)
		}
	}
	return all
}

// checkTTL looks at TTLs where they have not run down yet.
func checkTTL(p *Published, v *verdicts) {
	for _, a := range p.atSource() {
		if a.State != Found || a.TTL >= lowTTL {
			continue
		}
		if p.memory != nil {
			since := p.memory.LowTTL[ttlKey(a)]
			if since.IsZero() || p.At.Sub(since) < lowTTLTime {
				continue
			}
		}
		v.add("dns.ttl_low", a.Name, "type", dns.TypeToString[a.Type], "ttl", decimal(int(a.TTL/time.Second))).on(a)
	}
}

// serialOf returns the serial of a server that serves the zone.
func serialOf(a *AskedServer) uint32 {
	if soa, ok := a.SOA.RRs[0].(*dns.SOA); ok {
		return soa.Serial
	}
	return 0
}

// newest returns the server with the newest serial (RFC 1982), the first of
// several.
func (n *NameFound) newest() (name string, serial uint32) {
	for at, a := range n.serving() {
		if s := serialOf(a); name == "" || int32(s-serial) > 0 {
			name, serial = at, s
		}
	}
	return name, serial
}

// behind returns the servers whose serial is older than that of another.
func (n *NameFound) behind() map[string]*AskedServer {
	_, newest := n.newest()
	late := map[string]*AskedServer{}
	for name, a := range n.serving() {
		if serialOf(a) != newest {
			late[name] = a
		}
	}
	return late
}

// lists reports whether a server, by its name and address, is among those that
// were asked.
func (n *NameFound) lists(name string) bool {
	for i := range n.Servers {
		s := &n.Servers[i]
		for j := range s.Addresses {
			if calledServer(s, &s.Addresses[j]) == name {
				return true
			}
		}
	}
	return false
}

// checkSerials tells of the server that is behind for longest.
func checkSerials(p *Published, v *verdicts) {
	n := &p.Name
	newest, serial := n.newest()
	var late string
	var server *AskedServer
	var longest Lag
	for name, a := range n.serving() {
		if serialOf(a) == serial {
			continue
		}
		if lag := p.lag(name, a); server == nil || lag.Since.Before(longest.Since) {
			late, server, longest = name, a, lag
		}
	}
	if server == nil {
		return
	}
	f := v.add("soa.serial_differs", n.Zone, "ns1", newest, "a", decimal(int(serial)), "ns2", late, "b", decimal(int(longest.Serial))).on(server.SOA)
	if server.SOA.At.Sub(longest.Since) < serialTime {
		f.Severity = Info // it may be on its way
	}
}
