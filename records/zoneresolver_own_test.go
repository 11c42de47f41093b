package records

import (
	"testing"

	"github.com/miekg/dns"
)

func TestZoneResolverAnswersAsADNSServerDoes(t *testing.T) {
	r := newZoneResolver(t, map[string]string{
		"corp.test":   "a.b TXT \"x\"\nwww CNAME host.other.test.\nloop CNAME loop\n*.w 60 TXT wild\nhas.w TXT own\ngone CNAME no.other.test.",
		"other.test":  "host A 192.0.2.1",
		"closed.test": "@ A 192.0.2.2",
	})
	r.unsigned["other.test"] = true
	r.broken["broken.corp.test"] = Answer{Rcode: dns.RcodeServerFailure, EDE: "22 (No Reachable Authority)"}
	for _, c := range []struct {
		name  string
		qtype uint16
		want  State
		n     int
		ad    bool
	}{
		{"a.b.corp.test", dns.TypeTXT, Found, 1, true},
		{"A.b.Corp.test.", dns.TypeTXT, Found, 1, true},
		{"b.corp.test", dns.TypeTXT, NoData, 0, true},
		{"c.corp.test", dns.TypeTXT, NXDomain, 0, true},
		{"www.corp.test", dns.TypeA, Found, 1, false},
		{"gone.corp.test", dns.TypeA, NXDomain, 0, false},
		{"loop.corp.test", dns.TypeA, Failed, 0, false},
		{"any.w.corp.test", dns.TypeTXT, Found, 1, true},
		{"x.has.w.corp.test", dns.TypeTXT, NXDomain, 0, true},
		{"broken.corp.test", dns.TypeMX, Failed, 0, false},
	} {
		a := r.Lookup(t.Context(), c.name, c.qtype)
		if a.State != c.want || len(a.RRs) != c.n || a.AD != c.ad {
			t.Errorf("%s %s: state %d, %d records, AD %v; want %d, %d, %v", c.name, dns.TypeToString[c.qtype], a.State, len(a.RRs), a.AD, c.want, c.n, c.ad)
		}
	}
}
