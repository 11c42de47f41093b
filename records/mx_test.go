package records

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// lookedUp looks a domain up in zones in memory.
func lookedUp(t *testing.T, r *zoneResolver, domain string, o Options) *Published {
	t.Helper()
	o.Resolver, o.Documentation = r, true
	p, err := Lookup(t.Context(), domain, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// idsOf returns severity, id and subject of findings.
func idsOf(findings []Finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, fmt.Sprintf("%s %s %s", f.Severity, f.ID, f.Subject))
	}
	return all
}

func TestAFailedLookupOfAMailHostProvesNothing(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": "@ MX 10 mx1\n@ MX 20 mx2\nmx1 A 192.0.2.10\nmx1 AAAA 2001:db8::10\nmx2 A 192.0.2.11\n"})
	r.broken["mx2.corp.test"] = Answer{Rcode: dns.RcodeServerFailure, EDE: "22 (No Reachable Authority)"}
	p := lookedUp(t, r, "corp.test", Options{})
	if got := checkMX(p); len(got) > 0 {
		t.Errorf("findings: %q", idsOf(got))
	}
	want := []string{"unknown dns.lookup_failed mx2.corp.test", "unknown dns.lookup_failed mx2.corp.test"}
	got := slices.DeleteFunc(Check(p), func(f Finding) bool { return f.ID != "dns.lookup_failed" || f.Subject != "mx2.corp.test" })
	if !slices.Equal(idsOf(got), want) {
		t.Fatalf("findings: %q, want %q", idsOf(got), want)
	}
	if got[0].Value("type") != "A" || got[1].Value("type") != "AAAA" || got[0].Value("rcode") != "SERVFAIL" || got[0].Value("ede") != "22 (No Reachable Authority)" {
		t.Errorf("values: %v, %v", got[0].Values, got[1].Values)
	}
}

func TestMXLookupsThatFailAreUnknownAndNotMissing(t *testing.T) {
	for _, broken := range []string{"corp.test MX", "corp.test A", "corp.test AAAA", "corp.test TXT"} {
		r := newZoneResolver(t, map[string]string{"corp.test": "www A 192.0.2.1\n" + txt("@", "v=spf1 mx -all")})
		r.broken[broken] = Answer{Err: "timeout"}
		p := lookedUp(t, r, "corp.test", Options{})
		for _, f := range checkMX(p) {
			if f.Severity != Unknown {
				t.Errorf("%s fails: %s", broken, f.What())
			}
		}
	}
}

func TestOnlySomeOfManyMailHostsAreLookedAt(t *testing.T) {
	var zone strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&zone, "@ MX 10 mx%04d\nmx%04d A 192.0.2.10\n", i, i)
	}
	r := newZoneResolver(t, map[string]string{"corp.test": zone.String()})
	p := lookedUp(t, r, "corp.test", Options{})
	if len(p.MX.Hosts) != maxMailHosts || p.MX.Left != 2000-maxMailHosts {
		t.Errorf("%d mail hosts, %d left", len(p.MX.Hosts), p.MX.Left)
	}
	last := checkMX(p)
	if f := last[len(last)-1]; f.ID != "dns.lookup_failed" || f.Value("rcode") != "1970 more mail hosts were not looked at" {
		t.Errorf("the last finding is %s %v", f.ID, f.Values)
	}
	if n := len(r.asked); n > maxQuestions {
		t.Errorf("%d questions", n)
	}
}

func TestOnlyNamesOfHostsAreTakenForSuch(t *testing.T) {
	for name, want := range map[string]bool{
		"mx.corp.test": true, "a.b": true, "xn--bcher-kva.example": true, "1and1.com": true, "mx-1.c.de": true,
		"mx": false, "": false, ".": false, "a..b": false, "-a.b": false, "a-.b": false, "a_b.c": false, "192.0.2.1": false, "mx.123": false,
		"2001:db8::1": false, `a\032b.c`: false, "müller.de": false, strings.Repeat("a", 64) + ".b": false,
		strings.Repeat("abcdefgh.", 28) + "x": true, strings.Repeat("abcdefgh.", 29) + "x": false,
	} {
		if got := isHostName(name); got != want {
			t.Errorf("isHostName(%q) = %t", name, got)
		}
	}
}

func TestClassesOfAddresses(t *testing.T) {
	for text, want := range map[string]addressClass{
		"8.8.8.8": addressPublic, "1.1.1.1": addressPublic, "2a00:1450:4001::1": addressPublic, "172.32.0.1": addressPublic, "100.128.0.1": addressPublic,
		"192.0.2.1": addressDocumentation, "198.51.100.1": addressDocumentation, "203.0.113.1": addressDocumentation,
		"2001:db8::1": addressDocumentation, "3fff::1": addressDocumentation,
		"::ffff:8.8.8.8": addressMapped, "::ffff:10.0.0.1": addressMapped,
		"10.1.2.3": addressNotPublic, "172.16.0.1": addressNotPublic, "172.31.255.255": addressNotPublic, "192.168.1.1": addressNotPublic,
		"127.0.0.1": addressNotPublic, "169.254.1.1": addressNotPublic, "100.64.0.1": addressNotPublic, "0.0.0.0": addressNotPublic,
		"192.0.0.1": addressNotPublic, "198.18.0.1": addressNotPublic, "224.0.0.1": addressNotPublic, "240.0.0.1": addressNotPublic, "255.255.255.255": addressNotPublic,
		"::": addressNotPublic, "::1": addressNotPublic, "fe80::1": addressNotPublic, "fc00::1": addressNotPublic, "fd12::1": addressNotPublic,
		"ff02::1": addressNotPublic, "100::1": addressNotPublic, "fec0::1": addressNotPublic, "2002:a00:1::1": addressNotPublic, "64:ff9b:1::1": addressNotPublic,
	} {
		if got := classOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s has class %d, want %d", text, got, want)
		}
	}
	if reachable(netip.MustParseAddr("192.0.2.1"), false) || !reachable(netip.MustParseAddr("192.0.2.1"), true) || reachable(netip.MustParseAddr("10.0.0.1"), true) {
		t.Error("the switch for documentation is for documentation only")
	}
}

func TestTextsAreJoinedWithoutSeparatorAndUnescaped(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": `@ TXT "a \"b\" \\ " "\195\188;\001"` + "\n@ TXT \"second\"\n"})
	got := texts(r.Lookup(t.Context(), "corp.test", dns.TypeTXT))
	want := []string{"a \"b\" \\ \xc3\xbc;\x01", "second"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestZoneTXTIsReadBackAsItWas(t *testing.T) {
	for _, text := range []string{"", "v=spf1 -all", strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("b", 700), "a\"b\\c\x00\xff;"} {
		rr, err := dns.NewRR(zoneTXT("x.corp.test", text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := texts(Answer{RRs: []dns.RR{rr}}); len(got) != 1 || got[0] != text {
			t.Errorf("%q is read back as %q", text, got)
		}
	}
}

// ofMail reports whether a check is one of mail hosts, keys, TLS and the rest.
func ofMail(id string) bool {
	kind, _, _ := strings.Cut(id, ".")
	return slices.Contains([]string{"mx", "host", "ptr", "helo", "dkim", "mtasts", "tlsrpt", "dane", "bimi", "caa", "bulk", "parked"}, kind)
}

func TestEveryMailCheckSaysWhatWhyAndWhatToDo(t *testing.T) {
	n := 0
	for _, c := range allRules() {
		if !ofMail(c.ID) {
			continue
		}
		n++
		for what, text := range map[string]string{"What": c.What, "Why": c.Why, "Condition": c.Condition, "Record": c.Record} {
			if text == "" {
				t.Errorf("%s has no %s", c.ID, what)
			}
		}
		if c.Fix == "" && c.Severity > Info {
			t.Errorf("%s has no Fix", c.ID)
		}
	}
	if n != 76 {
		t.Errorf("%d checks of mail are registered", n)
	}
}

// TestNoTextIsLeftWithBraces looks at what every case finds.
func TestNoTextIsLeftWithBraces(t *testing.T) {
	for _, c := range cases {
		if c.live {
			continue
		}
		r := newZoneResolver(t, c.zones())
		r.unsigned[c.domain] = c.unsigned
		o := c.o
		o.Now = time.Date(2026, 5, 12, 0, 0, 0, 0, time.UTC)
		for _, f := range Check(lookedUp(t, r, c.domain, o)) {
			if !ofMail(f.ID) {
				continue
			}
			for _, text := range []string{f.What(), f.Why(), f.Fix(), f.Publish()} {
				strangers := slices.ContainsFunc(f.Values, func(v Value) bool { return strings.ContainsAny(v.Text, "{}") })
				if strings.ContainsAny(text, "{}") && !strangers {
					t.Errorf("%s: %q", f.ID, text)
				}
			}
			for line := range strings.Lines(f.Publish()) {
				if rr, err := dns.NewRR(line); err != nil {
					t.Errorf("%s is to publish %q: %v", f.ID, line, err)
				} else if rr == nil && !strings.HasPrefix(line, ";") {
					t.Errorf("%s is to publish nothing", f.ID)
				}
			}
		}
	}
}
