package records

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// soaZone returns the apex of a zone with its own SOA, name servers and the records
// of these.
func soaZone(soa, servers string) string {
	return "@ 3600 SOA " + soa + "\n" + servers
}

const (
	goodSOA     = "ns1 hostmaster 2026010100 7200 3600 1209600 3600"
	goodServers = "@ NS ns1\n@ NS ns2\nns1 A 192.0.2.53\nns2 A 198.51.100.53\nns1 AAAA 2001:db8:1::53\n"
)

// answering returns a server that answers with authority from records.
func answering(zone string, lines ...string) dns.HandlerFunc {
	var rrs []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR("$ORIGIN " + zone + ".\n" + line)
		if err != nil {
			panic(err)
		}
		rrs = append(rrs, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Authoritative = true
		for _, rr := range rrs {
			if rr.Header().Rrtype == q.Question[0].Qtype && strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
				m.Answer = append(m.Answer, rr)
			}
		}
		w.WriteMsg(m)
	}
}

func refusing(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetRcode(q, dns.RcodeRefused)
	w.WriteMsg(m)
}

// silent never answers.
func silent(dns.ResponseWriter, *dns.Msg) {}

// delegating answers like a parent that delegates a zone, and as every server
// of the zone itself would for other questions.
func delegating(zone string, lines ...string) dns.HandlerFunc {
	var ns, extra []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR("$ORIGIN " + zone + ".\n" + line)
		if err != nil {
			panic(err)
		}
		if rr.Header().Rrtype == dns.TypeNS {
			ns = append(ns, rr)
		} else {
			extra = append(extra, rr)
		}
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Ns, m.Extra = ns, extra
		w.WriteMsg(m)
	}
}

// lowFor is the memory of a TTL that has been low for some time.
func lowFor(key string, since time.Duration) *Memory {
	return &Memory{LowTTL: map[string]time.Time{key: time.Now().Add(-since)}}
}

const parentAddr = "203.0.113.1"

var healthy = []string{"dns.name_invalid", "dns.nxdomain", "dns.lookup_failed", "dns.txt_large", "dns.tcp_fails", "dns.wildcard_txt", "dns.cname_at_domain", "dns.cname_loop", "dns.ttl_low",
	"ns.single", "ns.same_network", "ns.unresolvable", "ns.cname", "ns.lame", "ns.no_answer", "ns.parent_child_differ", "ns.glue_differs", "ns.not_public", "ns.no_ipv6", "ns.open_resolver", "ns.answers_differ",
	"soa.serial_differs", "soa.timers", "soa.negative_ttl", "soa.names",
	"dnssec.unsigned", "dnssec.no_ds", "dnssec.bogus", "dnssec.expiring", "dnssec.old_algorithm", "dnssec.nsec3_iterations", "dnssec.mx_zone_unsigned"}

var _ = addCases(
	zoneCase{name: "name: healthy", domain: "n-ok.test", zone: mailHost + txt("@", "v=spf1 -all") + txt("_dmarc", "v=DMARC1; p=none"), live: true, not: healthy},
	zoneCase{name: "name: does not exist", domain: "no-such.n-exists.test", bare: true, zone: "", others: map[string]string{"n-exists.test": ""}, want: []string{"dns.nxdomain"}, not: []string{"dmarc.missing", "dns.name_invalid"}},
	zoneCase{name: "name: cannot be looked up", domain: "n-fails.test", zone: "@ A 192.0.2.1", fails: []string{"n-fails.test"}, want: []string{"dns.lookup_failed"},
		not: []string{"dns.nxdomain", "dmarc.missing", "dnssec.unsigned", "dnssec.no_ds", "ns.single", "dnssec.bogus"}},
	zoneCase{name: "name: large TXT", domain: "n-large.test", zone: txt("@", strings.Repeat("x", 250)) + txt("@", strings.Repeat("y", 1200)), want: []string{"dns.txt_large"}, not: []string{"dns.tcp_fails", "dns.lookup_failed"}},
	zoneCase{name: "name: TXT cut, and no TCP", domain: "n-notcp.test", zone: txt("@", "short"), live: true, want: []string{"dns.tcp_fails"}, servers: map[string]dns.HandlerFunc{"192.0.2.53": cutting}},
	zoneCase{name: "name: wildcard", domain: "n-wild.test", zone: txt("*", "v=spf1 -all"), want: []string{"dns.wildcard_txt"}},
	zoneCase{name: "name: alias", domain: "alias.n-alias.test", bare: true, zone: "", others: map[string]string{"n-alias.test": "alias CNAME host.n-aliased.test.", "n-aliased.test": "host A 192.0.2.1"},
		want: []string{"dns.cname_at_domain"}, not: []string{"dns.cname_loop"}},
	zoneCase{name: "name: alias of nothing", domain: "alias.n-dangling.test", bare: true, zone: "", others: map[string]string{"n-dangling.test": "alias CNAME no-such"},
		want: []string{"dns.cname_at_domain"}, not: []string{"dns.nxdomain"}},
	zoneCase{name: "name: aliases in a circle", domain: "n-loop.test", zone: "_dmarc CNAME a\na CNAME b\nb CNAME _dmarc", want: []string{"dns.cname_loop"}, not: []string{"dmarc.missing", "dns.lookup_failed", "dnssec.bogus"}},
	zoneCase{name: "name: low TTL", domain: "n-ttl.test", zone: "@ 60 MX 10 mx\nmx A 192.0.2.25", want: []string{"dns.ttl_low"}},
	zoneCase{name: "name: low TTL for some days", domain: "n-ttldays.test", zone: "@ 60 MX 10 mx\nmx A 192.0.2.25", o: Options{Memory: lowFor("n-ttldays.test MX", 48*time.Hour)}, not: []string{"dns.ttl_low"}},
	zoneCase{name: "name: low TTL for weeks", domain: "n-ttlweeks.test", zone: "@ 60 MX 10 mx\nmx A 192.0.2.25\n_dmarc 60 TXT \"v=DMARC1; p=none\"", o: Options{Memory: lowFor("n-ttlweeks.test MX", 8*24*time.Hour)}, want: []string{"dns.ttl_low"}},
	zoneCase{name: "name: low TTL of a key", domain: "n-ttlkey.test", zone: "s._domainkey 60 TXT \"v=DKIM1; p=\"", o: Options{Selectors: []Selector{{Name: "s"}}, Memory: lowFor("s._domainkey.n-ttlkey.test TXT", 8*24*time.Hour)}, want: []string{"dns.ttl_low"}},

	zoneCase{name: "name: healthy servers", domain: "n-servers.test", zone: mailHost + txt("@", "v=spf1 -all") + txt("_dmarc", "v=DMARC1; p=none"),
		not: slices.DeleteFunc(slices.Clone(healthy), func(id string) bool { return strings.HasPrefix(id, "dnssec.") })},
	zoneCase{name: "ns: one", domain: "n-single.test", bare: true, zone: soaZone(goodSOA, "@ NS ns1\nns1 A 192.0.2.53\n"), want: []string{"ns.single", "ns.no_ipv6"}, not: []string{"ns.same_network", "ns.provider"}},
	zoneCase{name: "ns: one network", domain: "n-net.test", bare: true, zone: soaZone(goodSOA, "@ NS ns1\n@ NS ns2\nns1 A 192.0.2.53\nns2 A 192.0.2.54\n"), want: []string{"ns.same_network"}, not: []string{"ns.single"}},
	zoneCase{name: "ns: names", domain: "n-names.test", bare: true, zone: soaZone(goodSOA, goodServers+"@ NS nowhere\n@ NS alias\n@ NS inside\nalias CNAME ns1\ninside A 10.0.0.1\n"),
		want: []string{"ns.unresolvable", "ns.cname", "ns.not_public"}, not: []string{"ns.provider"}},
	zoneCase{name: "ns: lame", domain: "n-lame.test", live: true, servers: map[string]dns.HandlerFunc{"192.0.2.53": refusing}, want: []string{"ns.lame"}, not: []string{"ns.no_answer", "ns.provider"}},
	zoneCase{name: "ns: silent", domain: "n-silent.test", live: true, servers: map[string]dns.HandlerFunc{"192.0.2.53": silent}, want: []string{"ns.no_answer"}, not: []string{"ns.lame"}},
	zoneCase{name: "ns: the parent lists others", domain: "n-child.n-parent.test", live: true, zone: mailHost, others: map[string]string{"n-parent.test": "ns1 A " + parentAddr + "\n"},
		servers: map[string]dns.HandlerFunc{parentAddr: delegating("n-child.n-parent.test", "@ NS ns1", "@ NS ns3.n-child", "ns1 A 192.0.2.77")},
		want:    []string{"ns.parent_child_differ", "ns.glue_differs"}, not: []string{"ns.provider"}},
	zoneCase{name: "ns: the parent agrees", domain: "n-child.n-agree.test", live: true, zone: mailHost, others: map[string]string{"n-agree.test": "ns1 A " + parentAddr + "\n"},
		servers: map[string]dns.HandlerFunc{parentAddr: delegating("n-child.n-agree.test", "@ NS ns1", "@ NS ns2", "ns1 A 192.0.2.53")},
		want:    []string{"ns.provider"}, not: []string{"ns.parent_child_differ", "ns.glue_differs"}},
	zoneCase{name: "ns: other answers", domain: "n-differ.test", live: true, zone: mailHost, servers: map[string]dns.HandlerFunc{
		"192.0.2.53": answering("n-differ.test", "@ 3600 SOA ns1 hostmaster 2026010099 7200 3600 1209600 3600", "@ MX 10 old")}, want: []string{"ns.answers_differ", "soa.serial_differs"}},
	zoneCase{name: "ns: open resolver", domain: "n-open.test", live: true, servers: map[string]dns.HandlerFunc{"192.0.2.53": recursing}, want: []string{"ns.open_resolver"}},

	zoneCase{name: "soa: timers and names", domain: "n-soa.test", bare: true, zone: soaZone("hidden host\\@master.n-soa.test. 2026010100 600 900 3600 30", goodServers),
		want: []string{"soa.timers", "soa.negative_ttl", "soa.names"}},
	zoneCase{name: "soa: a contact that is none", domain: "n-contact.test", bare: true, zone: soaZone("ns1 host\\@master.n-contact.test. 2026010100 7200 3600 1209600 3600", goodServers),
		want: []string{"soa.names"}, not: []string{"soa.timers", "soa.negative_ttl"}},
	zoneCase{name: "soa: a hidden primary", domain: "n-hidden.test", bare: true, zone: soaZone("hidden hostmaster 2026010100 7200 3600 1209600 3600", goodServers),
		want: []string{"soa.names"}, not: []string{"soa.timers", "soa.negative_ttl"}},
	zoneCase{name: "dnssec: unsigned", domain: "s-none.test", unsigned: true, live: true, want: []string{"dnssec.unsigned"}, not: []string{"dnssec.no_ds", "dnssec.bogus"}},
	zoneCase{name: "dnssec: no DS", domain: "s-nods.test", noDS: true, live: true, want: []string{"dnssec.no_ds"}, not: []string{"dnssec.unsigned", "dnssec.bogus"}},
	zoneCase{name: "dnssec: bogus", domain: "s-bogus.test", badDS: true, live: true, want: []string{"dnssec.bogus"}, not: []string{"dnssec.unsigned", "dmarc.missing", "dns.lookup_failed", "dns.nxdomain"}},
	zoneCase{name: "dnssec: signatures that end", domain: "s-ends.test", live: true, o: Options{Now: time.Now().Add(12 * 24 * time.Hour)}, want: []string{"dnssec.expiring"}},
	zoneCase{name: "dnssec: old algorithm", domain: "s-old.test", live: true, signing: "algorithm: rsasha1\nnsec3: off", want: []string{"dnssec.old_algorithm"}},
	zoneCase{name: "dnssec: NSEC3", domain: "s-nsec3.test", live: true, signing: "nsec3: on\nnsec3-iterations: 10\nnsec3-salt-length: 8", want: []string{"dnssec.nsec3_iterations"}, not: []string{"dnssec.old_algorithm"}},
	zoneCase{name: "dnssec: mail host elsewhere", domain: "s-mx.test", live: true, zone: "@ MX 10 mx.s-mxhost.co.uk.\n", others: map[string]string{"co.uk": "mx.s-mxhost A 192.0.2.25"}, want: []string{"dnssec.mx_zone_unsigned"}},
)

// cutting cuts off everything over UDP, and does not answer over TCP.
func cutting(w dns.ResponseWriter, q *dns.Msg) {
	if w.RemoteAddr().Network() == "tcp" {
		w.Close()
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative, m.Truncated = true, true
	w.WriteMsg(m)
}

// recursing answers everything, as it serves everyone.
func recursing(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if q.Question[0].Qtype == dns.TypeA {
		rr, _ := dns.NewRR(q.Question[0].Name + " A 192.0.2.4")
		m.Answer = append(m.Answer, rr)
	}
	w.WriteMsg(m)
}

func TestNamesThatCannotBeDomains(t *testing.T) {
	for _, name := range []string{"", ".", "a..test", "192.0.2.1", "2001:db8::1", "a_b.test", "-a.test", "a-.test", strings.Repeat("a", 64) + ".test",
		strings.Repeat("a.", 130) + "test", "corp.123", "xn--a.test\u00e4", "xn--zzzzzz999999.test", "a b.test", "corp.test;"} {
		p, err := Lookup(t.Context(), name, Options{Resolver: newZoneResolver(t, nil)})
		if err != nil {
			t.Fatal(err)
		}
		if ids := found(Check(p)); len(ids) != 1 || !ids["dns.name_invalid"] {
			t.Errorf("%q: found %v, want only dns.name_invalid", name, ids)
		}
	}
	for name, want := range map[string]string{"Corp.TEST.": "corp.test", " b\u00fccher.test ": "xn--bcher-kva.test", "r3---sn.test": "r3---sn.test", "com": "com"} {
		if got, err := domainName(name); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
}
