package records

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

// storedCoverage keeps a look at a domain as the database does, and reads it
// back.
func storedCoverage(t *testing.T, r Resolver, domain string) func(netip.Addr) Coverage {
	t.Helper()
	text, err := json.Marshal(NewResult(gatheredSPF(t, r, domain), nil))
	if err != nil {
		t.Fatal(err)
	}
	var look Result
	if err := json.Unmarshal(text, &look); err != nil {
		t.Fatal(err)
	}
	look.Domain = domain
	return look.SPFCoverage()
}

// Whom a stored look says to be covered passes a check, and nobody else does.
func TestStoredSPFCoversWhomACheckLetsPass(t *testing.T) {
	zones := maps.Clone(acme)
	zones["plain.test"] = txt("@", "v=spf1 a:www.plain.test -ip4:203.0.113.3 ?ip4:203.0.113.4 ip4:203.0.113.0/29 mx include:a.crm.test -all") +
		"www A 192.0.2.9\nwww AAAA 2001:db8::9\n@ MX 10 mx\n@ MX 20 mx.crm.test.\nmx A 192.0.2.10\n"
	zones["crm.test"] += "mx A 192.0.2.11\n"
	zones["moved.test"] = txt("@", "v=spf1 ip4:192.0.2.20 redirect=plain.test")
	zones["own.test"] = txt("@", "v=spf1 include:spf.own.test ~all") + txt("spf", "v=spf1 ip4:192.0.2.30 ip6:2001:db8:1::/48 ~all")
	r := newZoneResolver(t, zones)
	random := rand.New(rand.NewPCG(1, 2))
	for _, domain := range []string{"plain.test", "moved.test", "own.test", "crm.test", "a.crm.test", "nothing.test"} {
		covers := storedCoverage(t, r, domain)
		told := 0
		for range 3000 {
			addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(random.IntN(256))})
			switch random.IntN(4) {
			case 0:
				addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(64))})
			case 1:
				addr = netip.AddrFrom4([4]byte{198, 51, byte(99 + random.IntN(3)), byte(random.IntN(256))})
			case 2:
				addr = netip.MustParseAddr([]string{"2001:db8::7", "2001:db8::9", "2001:db8:1::1", "2001:db9::1"}[random.IntN(4)])
			}
			got, passes := covers(addr), checkHost(t.Context(), r, addr, domain, "postmaster@"+domain, SPFOptions{}).Result == dmarc.ResultPass
			if got == CoverageUnknown {
				continue
			}
			told++
			if passes != (got == CoverageOwn || got == CoverageShared) {
				t.Fatalf("%s: %s is covered: %d, passes: %v", domain, addr, got, passes)
			}
		}
		// Only crm.test has a term that depends on the message.
		if told < 3000 && domain != "crm.test" || told == 0 {
			t.Errorf("%s: only %d of 3000 can be told", domain, told)
		}
	}
	for domain, want := range map[string]map[string]Coverage{
		"plain.test": {"192.0.2.9": CoverageOwn, "203.0.113.3": CoverageNone, "203.0.113.4": CoverageNone, "203.0.113.5": CoverageOwn, "203.0.113.7": CoverageOwn, "203.0.113.50": CoverageShared, "192.0.2.10": CoverageShared},
		"moved.test": {"192.0.2.20": CoverageOwn, "192.0.2.9": CoverageShared},
		"own.test":   {"192.0.2.30": CoverageOwn, "2001:db8:1::5": CoverageOwn, "192.0.2.31": CoverageNone},
	} {
		covers := storedCoverage(t, r, domain)
		for addr, want := range want {
			if got := covers(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s covers %s: %d, want %d", domain, addr, got, want)
			}
		}
	}
}

// What was not known when it was looked at is not known later, and who lets
// everybody pass says nothing of anybody.
func TestStoredSPFSaysWhatItDoesNotKnow(t *testing.T) {
	zones := map[string]string{
		"all.test":   txt("@", "v=spf1 ip4:192.0.2.1 -ip4:192.0.2.2 +all"),
		"wide.test":  txt("@", "v=spf1 ip4:10.0.0.0/8 ip6:2001:d00::/24 -all"),
		"fails.test": txt("@", "v=spf1 a:down.fails.test include:gone.test ip4:192.0.2.1 -ip4:192.0.2.2 -all"),
		"many.test":  txt("@", "v=spf1 ip4:192.0.2.1 exists:%{i}.many.test ~all"),
		"two.test":   txt("@", "v=spf1 -all") + txt("@", "v=spf1 ip4:192.0.2.1 -all"),
	}
	r := newZoneResolver(t, zones)
	r.broken["down.fails.test"] = Answer{State: Failed, Rcode: 2}
	for domain, want := range map[string]map[string]Coverage{
		"all.test":   {"192.0.2.1": CoverageOwn, "192.0.2.2": CoverageNone, "192.0.2.3": CoverageUnknown},
		"wide.test":  {"10.1.2.3": CoverageShared, "2001:db8::1": CoverageShared, "192.0.2.1": CoverageNone},
		"fails.test": {"192.0.2.1": CoverageOwn, "192.0.2.2": CoverageUnknown, "192.0.2.3": CoverageUnknown},
		"many.test":  {"192.0.2.1": CoverageOwn, "192.0.2.3": CoverageUnknown},
		"two.test":   {"192.0.2.1": CoverageNone},
	} {
		covers := storedCoverage(t, r, domain)
		for addr, want := range want {
			if got := covers(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s covers %s: %d, want %d", domain, addr, got, want)
			}
		}
	}
	if got := (&Result{}).SPFCoverage()(netip.MustParseAddr("192.0.2.1")); got != CoverageUnknown {
		t.Errorf("a failed look covers: %d", got)
	}
}
