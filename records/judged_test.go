package records

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// answerOf is an answer with records of one name, as in a zone file.
func answerOf(t *testing.T, name string, qtype uint16, lines ...string) Answer {
	t.Helper()
	a := Answer{Name: name, Type: qtype, State: NoData}
	for _, line := range lines {
		a.State, a.RRs = Found, append(a.RRs, mustRR(t, line))
	}
	return a
}

const (
	goodKey = "corp.test. DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="
	zoneKey = "corp.test. DNSKEY 256 3 13 oJMRESz5E4gYzS/q6XDrvU1qMPYIjCWzJaOau8XNEZeqCYKD5ar0IRd8KqXXFJkqmVfRvMGPmM1x8fGAa2XhSA=="
	goodDS  = "corp.test. DS 12345 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE3B1E4D0B1B8D4A4B5E5E5A5A"
)

// How a zone is signed is judged record by record.
func TestSignaturesAndKeysAreJudged(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		ds, keys, nsec3 []string
		ends            time.Duration // of signatures, from now
		lasts           time.Duration
		want            string
	}{
		"healthy":             {[]string{goodDS}, []string{goodKey, zoneKey}, []string{"corp.test. NSEC3PARAM 1 0 0 -"}, 10 * 24 * time.Hour, 14 * 24 * time.Hour, ""},
		"unsigned":            {nil, nil, nil, 0, 0, "dnssec.unsigned"},
		"no DS":               {nil, []string{goodKey, zoneKey}, nil, 10 * 24 * time.Hour, 14 * 24 * time.Hour, "dnssec.no_ds"},
		"soon at an end":      {[]string{goodDS}, []string{goodKey}, nil, 71 * time.Hour, 14 * 24 * time.Hour, "dnssec.expiring"},
		"not yet":             {[]string{goodDS}, []string{goodKey}, nil, 73 * time.Hour, 14 * 24 * time.Hour, ""},
		"made for some days":  {[]string{goodDS}, []string{goodKey}, nil, 24 * time.Hour, 6 * 24 * time.Hour, ""},
		"an old algorithm":    {[]string{goodDS}, []string{strings.Replace(goodKey, " 13 ", " 5 ", 1)}, nil, 10 * 24 * time.Hour, 14 * 24 * time.Hour, "dnssec.old_algorithm the key algorithm 5 (RSASHA1)"},
		"two of one kind":     {[]string{goodDS}, []string{strings.Replace(goodKey, " 13 ", " 7 ", 1), strings.Replace(zoneKey, " 13 ", " 7 ", 1)}, nil, 10 * 24 * time.Hour, 14 * 24 * time.Hour, "dnssec.old_algorithm the key algorithm 7 (RSASHA1-NSEC3-SHA1)"},
		"a DS by SHA-1":       {[]string{"corp.test. DS 12345 13 1 0123456789ABCDEF0123456789ABCDEF01234567"}, []string{goodKey}, nil, 10 * 24 * time.Hour, 14 * 24 * time.Hour, "dnssec.old_algorithm the DS digest 1 (SHA1)"},
		"iterations":          {[]string{goodDS}, []string{goodKey}, []string{"corp.test. NSEC3PARAM 1 0 10 -"}, 10 * 24 * time.Hour, 14 * 24 * time.Hour, "dnssec.nsec3_iterations 10 no salt"},
		"a salt":              {[]string{goodDS}, []string{goodKey}, []string{"corp.test. NSEC3PARAM 1 0 0 AABB"}, 10 * 24 * time.Hour, 14 * 24 * time.Hour, "dnssec.nsec3_iterations 0 a salt"},
		"no zone that we saw": {nil, nil, nil, 0, 0, "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Published{Domain: "corp.test", At: now}
			n := &p.Name
			n.DS, n.DNSKEY = answerOf(t, "corp.test", dns.TypeDS, c.ds...), answerOf(t, "corp.test", dns.TypeDNSKEY, c.keys...)
			n.NSEC3PARAM = answerOf(t, "corp.test", dns.TypeNSEC3PARAM, c.nsec3...)
			if c.lasts > 0 {
				n.DNSKEY.SigEnds = now.Add(c.ends)
				n.DNSKEY.SigBegins = n.DNSKEY.SigEnds.Add(-c.lasts)
				n.ZoneSOA = Answer{SigEnds: n.DNSKEY.SigEnds.Add(time.Hour), SigBegins: n.DNSKEY.SigBegins}
			}
			if c.want != "nothing" {
				n.Zone = "corp.test"
			}
			v := &verdicts{}
			n.checkDNSSEC(p, v)
			var got []string
			for _, f := range v.all {
				got = append(got, strings.TrimSpace(f.ID+" "+strings.TrimSpace(f.Value("alg")+" "+f.Value("n")+" "+f.Value("salt"))))
				if publish := f.Value("publish"); f.ID == "dnssec.no_ds" && (!strings.HasPrefix(publish, "corp.test. IN DS ") || strings.Count(publish, "\n") != 0) {
					t.Errorf("to publish: %q, want the DS of the one key that signs keys", publish)
				}
			}
			if s := strings.Join(got, ", "); s != strings.Replace(c.want, "nothing", "", 1) {
				t.Errorf("%q, want %q", s, c.want)
			}
		})
	}
}

// What name servers answer themselves is judged server by server.
func TestNameServersAreJudged(t *testing.T) {
	soa := func(lines ...string) Answer {
		a := answerOf(t, "corp.test", dns.TypeSOA, append(lines, "corp.test. SOA ns1.corp.test. h.corp.test. 7 7200 3600 1209600 3600")...)
		a.AA = true
		return a
	}
	silent := Answer{Name: "corp.test", Type: dns.TypeSOA, Err: "no answer in time"}
	type server struct {
		name string
		a    AskedServer
	}
	at := func(name, ip string, change func(*AskedServer)) server {
		a := AskedServer{Addr: netip.MustParseAddr(ip), SOA: soa(), MX: answerOf(t, "corp.test", dns.TypeMX, "corp.test. MX 10 mx.corp.test.")}
		a.MX.AA = true
		if change != nil {
			change(&a)
		}
		return server{name, a}
	}
	good := at("ns1.corp.test", "192.0.2.1", nil)
	for name, c := range map[string]struct {
		servers    []server
		delegation []string // records of the parent; nil: it is not known
		want       []string
	}{
		"healthy": {[]server{good, at("ns2.corp.test", "198.51.100.1", nil)}, []string{"corp.test. NS ns1.corp.test.", "corp.test. NS ns2.corp.test.", "ns1.corp.test. A 192.0.2.1"}, []string{"ns.provider"}},
		"silent":  {[]server{good, at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) { a.SOA = silent })}, nil, []string{"ns.no_answer ns2.corp.test no answer in time"}},
		"all are silent, over IPv4 as IPv6 may be": {[]server{at("ns1.corp.test", "192.0.2.1", func(a *AskedServer) { a.SOA = silent }), at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) { a.SOA = silent })}, nil,
			[]string{"dns.lookup_failed corp.test"}},
		"refuses": {[]server{good, at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) { a.SOA = Answer{Rcode: dns.RcodeRefused} })}, nil, []string{"ns.lame ns2.corp.test answers REFUSED"}},
		"refers": {[]server{good, at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) { a.SOA = Answer{Referral: []dns.RR{mustRR(t, "test. NS a.test.")}} })}, nil,
			[]string{"ns.lame ns2.corp.test refers to other servers"}},
		"without authority": {[]server{good, at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) { a.SOA.AA = false })}, nil, []string{"ns.lame ns2.corp.test answers without authority"}},
		"resolves for all":  {[]server{good, at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) { a.Recurses = true })}, nil, []string{"ns.open_resolver ns2.corp.test"}},
		"cuts and has no TCP": {[]server{good, at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) { a.TXT = Answer{Name: "corp.test", Type: dns.TypeTXT, TCPFailed: true} })}, nil,
			[]string{"dns.tcp_fails corp.test"}},
		"another MX": {[]server{good, at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) { a.MX.RRs = []dns.RR{mustRR(t, "corp.test. MX 10 old.corp.test.")} })}, nil, []string{"ns.answers_differ corp.test"}},
		"another MX, without authority": {[]server{good, at("ns2.corp.test", "198.51.100.1", func(a *AskedServer) {
			a.MX.AA, a.MX.RRs = false, []dns.RR{mustRR(t, "corp.test. MX 10 old.corp.test.")}
		})}, nil, nil},
		"the parent lists another": {[]server{good, at("ns2.corp.test", "198.51.100.1", nil)}, []string{"corp.test. NS ns1.corp.test.", "corp.test. NS ns3.corp.test."}, []string{"ns.parent_child_differ corp.test"}},
		"glue of before": {[]server{good, at("ns2.corp.test", "198.51.100.1", nil)}, []string{"corp.test. NS ns1.corp.test.", "corp.test. NS ns2.corp.test.", "ns1.corp.test. A 192.0.2.77", "ns2.corp.test. A 198.51.100.1"},
			[]string{"ns.glue_differs ns1.corp.test"}},
		"glue that could not be compared": {[]server{at("ns1.corp.test", "192.0.2.1", nil), at("ns2.corp.test", "198.51.100.1", nil)},
			[]string{"corp.test. NS ns1.corp.test.", "corp.test. NS ns2.corp.test.", "ns1.corp.test. A 192.0.2.1"}, []string{"ns.provider"}},
		"one network": {[]server{good, at("ns2.corp.test", "192.0.2.2", nil)}, nil, []string{"ns.same_network corp.test"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Published{Domain: "corp.test"}
			n := &p.Name
			n.Zone, n.asked, n.documentation = "corp.test", true, true
			var lines []string
			for _, s := range c.servers {
				lines = append(lines, "corp.test. NS "+s.name+".")
				n.Servers = append(n.Servers, NameServer{Name: s.name, A: answerOf(t, s.name, dns.TypeA, s.name+". A "+s.a.Addr.String()), AAAA: answerOf(t, s.name, dns.TypeAAAA), Addresses: []AskedServer{s.a}})
			}
			n.NS = answerOf(t, "corp.test", dns.TypeNS, lines...)
			for _, line := range c.delegation {
				n.Delegation = append(n.Delegation, mustRR(t, line))
			}
			v := &verdicts{}
			n.checkServers(p, v)
			var got []string
			for _, f := range v.all {
				switch f.ID {
				case "ns.no_ipv6":
				case "ns.provider":
					got = append(got, f.ID)
				default:
					got = append(got, strings.TrimSpace(f.ID+" "+f.Subject+" "+f.Value("answer")+f.Value("why")))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A lookup that failed is told by what is behind it, once for a zone whose
// signatures are wrong.
func TestFailedLookupsAreToldByWhatIsBehindThem(t *testing.T) {
	p := &Published{Domain: "corp.test", Failed: []Answer{
		{Name: "a.corp.test", Type: dns.TypeA, Loop: true, Chain: []string{"a.corp.test", "b.corp.test"}},
		{Name: "a.corp.test", Type: dns.TypeAAAA, Loop: true, Chain: []string{"a.corp.test", "b.corp.test"}},
		{Name: "corp.test", Type: dns.TypeMX, Bogus: true}, {Name: "x.corp.test", Type: dns.TypeTXT, Bogus: true}, {Name: "mx.other.test", Type: dns.TypeA, Bogus: true},
		{Name: "corp.test", Type: dns.TypeTXT, TCPFailed: true, Server: "192.0.2.53:53"},
		{Name: "corp.test", Type: dns.TypeNS, Rcode: dns.RcodeServerFailure},
	}}
	v := &verdicts{}
	p.Name.checkFailed(p, v)
	var got []string
	for _, f := range v.all {
		got = append(got, f.Severity.String()+" "+f.ID+" "+f.Subject)
	}
	want := []string{"error dns.cname_loop a.corp.test", "error dnssec.bogus corp.test", "error dnssec.bogus mx.other.test", "error dns.tcp_fails corp.test", "unknown dns.lookup_failed corp.test"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
