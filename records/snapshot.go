package records

import (
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// A RecordSet is the records of one name and type, as they were seen.
type RecordSet struct {
	Name   string   // lower-case A-label, without the final dot
	Type   string   // "TXT"
	Values []string // as in a zone file, sorted; none if it is proven that there are none
	TTL    time.Duration
}

// watched are the types whose changes are worth telling. Serials and
// signatures change all the time.
var watched = []uint16{
	dns.TypeNS, dns.TypeDS, dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypePTR, dns.TypeTXT, dns.TypeTLSA, dns.TypeCAA,
}

// maxSet bounds the octets that are kept of one record set.
const maxSet = 16 << 10

// snapshot returns the record sets that were asked for and answered, by name
// and type. What failed is left out: nothing is known about it.
func (g *gatherer) snapshot() []RecordSet {
	var all []RecordSet
	for q, a := range g.answers {
		if q.server.IsValid() || a.answer.State == Failed || !slices.Contains(watched, q.qtype) {
			continue
		}
		if g.o.RandomLabel != "" && slices.Contains(strings.Split(q.name, "."), g.o.RandomLabel) {
			continue // nobody publishes it; an answer is a wildcard, which is watched by its findings
		}
		all = append(all, setOf(&a.answer))
	}
	slices.SortFunc(all, func(a, b RecordSet) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Type, b.Type)
	})
	return all
}

func setOf(a *Answer) RecordSet {
	set := RecordSet{Name: a.Name, Type: dns.TypeToString[a.Type], Values: []string{}, TTL: a.TTL}
	size := 0
	for _, rr := range a.RRs {
		// The text of a record is its header, a tab, and its data.
		value := strings.TrimSpace(strings.TrimPrefix(rr.String(), rr.Header().String()))
		if size += len(value); size > maxSet {
			set.Values = append(set.Values, "…")
			break
		}
		set.Values = append(set.Values, value)
	}
	if len(a.Chain) > 0 {
		set.Values = append(set.Values, "alias of "+a.Chain[len(a.Chain)-1])
	}
	slices.Sort(set.Values)
	set.Values = slices.Compact(set.Values)
	return set
}
