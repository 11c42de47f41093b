package records

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestSPFChecksAreEachRaisedAndNotRaisedBySomeCase(t *testing.T) {
	raised, spared := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		for _, id := range c.want {
			raised[id] = true
		}
		for _, id := range c.not {
			spared[id] = true
		}
	}
	for _, c := range allRules() {
		if strings.HasPrefix(c.ID, "spf.") && !(raised[c.ID] && spared[c.ID]) {
			t.Errorf("%s: a case raises it %v, another does not %v", c.ID, raised[c.ID], spared[c.ID])
		}
	}
}

func TestSPFTextsNameAllThatTheyTell(t *testing.T) {
	open := regexp.MustCompile(`\{[a-z]+\}`)
	for _, c := range cases {
		r := newZoneResolver(t, c.zones())
		for _, f := range checkSPF(gatheredSPF(t, r, c.domain, c.o.Senders...)) {
			if !strings.HasPrefix(f.ID, "spf.") {
				continue
			}
			for _, v := range f.Values { // macros look alike
				if open.MatchString(v.Text) {
					f.ID += " " + v.Name
				}
			}
			if strings.Contains(f.ID, " ") {
				continue
			}
			text := strings.Join([]string{f.What(), f.Why(), f.Fix()}, "\n")
			if name := open.FindString(text); name != "" {
				t.Errorf("%s: %s has no value for %s", c.name, f.ID, name)
			}
			if f.What() == "" || f.Why() == "" || f.Subject == "" {
				t.Errorf("%s: %s says too little", c.name, f.ID)
			}
			if line := f.Publish(); line != "" {
				rr, err := dns.NewRR(line)
				if err != nil {
					t.Errorf("%s: %s: %v in %s", c.name, f.ID, err, line)
					continue
				}
				a := Answer{RRs: []dns.RR{rr}}
				records := spfRecords(&a)
				if len(records) != 1 || len(parseSPF(records[0]).Problems) > 0 {
					t.Errorf("%s: %s publishes no valid record: %s", c.name, f.ID, line)
				}
			}
		}
	}
}

// published is what is found where the records of a domain are texts.
func spfPublished(t *testing.T, zone string, senders ...Sender) []Finding {
	return checkSPF(gatheredSPF(t, newZoneResolver(t, map[string]string{"corp.test": zone}), "corp.test", senders...))
}

func TestSPFLookupThatFailsIsNotAbsence(t *testing.T) {
	servfail := Answer{Rcode: dns.RcodeServerFailure, EDE: "22 (No Reachable Authority)"}
	for _, c := range []struct {
		name, zone, broken, want string
	}{
		{"the record", "", "corp.test TXT", "unknown dns.lookup_failed corp.test TXT SERVFAIL 22 (No Reachable Authority)"},
		{"an include", txt("@", "v=spf1 include:x.corp.test -all"), "x.corp.test TXT", "unknown dns.lookup_failed x.corp.test TXT SERVFAIL 22 (No Reachable Authority)"},
		{"a redirect", txt("@", "v=spf1 redirect=x.corp.test"), "x.corp.test TXT", "unknown dns.lookup_failed x.corp.test TXT SERVFAIL 22 (No Reachable Authority)"},
		{"an address", txt("@", "v=spf1 a:x.corp.test -all") + "x A 192.0.2.1\n", "x.corp.test AAAA", "unknown dns.lookup_failed x.corp.test AAAA SERVFAIL 22 (No Reachable Authority)"},
		{"a mail host", txt("@", "v=spf1 mx -all") + "@ MX 1 x\n", "x.corp.test", "unknown dns.lookup_failed x.corp.test A SERVFAIL 22 (No Reachable Authority); unknown dns.lookup_failed x.corp.test AAAA SERVFAIL 22 (No Reachable Authority)"},
		{"the obsolete type", txt("@", "v=spf1 -all"), "corp.test SPF", "ok spf.ok corp.test   "},
	} {
		r := newZoneResolver(t, map[string]string{"corp.test": c.zone})
		r.broken[c.broken] = servfail
		var got []string
		for _, f := range checkSPF(gatheredSPF(t, r, "corp.test")) {
			got = append(got, fmt.Sprintf("%s %s %s %s %s %s", f.Severity, f.ID, f.Subject, f.Value("type"), f.Value("rcode"), f.Value("ede")))
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, text, c.want)
		}
	}
}

func TestSPFSeveritiesDependOnHowBadItIs(t *testing.T) {
	eight := "v=spf1" + strings.Repeat(" a", 8) + " -all"
	for _, c := range []struct {
		zone, id string
		want     Severity
	}{
		{txt("@", eight) + "@ A 192.0.2.1\n@ AAAA 2001:db8::1\n", "spf.lookup_near", Info},
		{txt("@", strings.Replace(eight, "a", "a a", 1)) + "@ A 192.0.2.1\n@ AAAA 2001:db8::1\n", "spf.lookup_near", Warning},
		{txt("@", "v=spf1 ip4:192.0.0.0/11 -all"), "spf.too_wide", Warning},
		{txt("@", "v=spf1 ip6:2001:d00::/23 -all"), "spf.too_wide", Warning},
		{txt("@", "v=spf1 ip4:192.0.0.0/0 -all"), "spf.too_wide", Error},
		{txt("@", "v=spf1 ip6:2001:db8::/0 -all"), "spf.too_wide", Error},
		{txt("@", "v=spf1 a/0 -all") + "@ A 192.0.2.1\n", "spf.too_wide", Error},
		{txt("@", "v=spf1 exists:x.corp.test -all") + "x A 192.0.2.1\n", "spf.too_wide", Error},
		{txt("@", "v=spf1 mx ip4=192.0.2.1 -all"), "spf.syntax", Warning},
		{txt("@", "v=spf1 mx ip4;192.0.2.1 -all"), "spf.syntax", Error},
		{txt("@", "v=spf1 a a:x.corp.test a:y.corp.test -all") + "@ A 192.0.2.1\nx A 192.0.2.1\ny A 192.0.2.1\n", "spf.void_limit", Warning},
		{txt("@", "v=spf1 a:u.corp.test a:x.corp.test a:y.corp.test -all"), "spf.void_limit", Error},
	} {
		severity, ok := Severity(0), false
		for _, f := range spfPublished(t, c.zone) {
			if f.ID == c.id {
				severity, ok = f.Severity, true
			}
		}
		if !ok || severity != c.want {
			t.Errorf("%s: %s %v %s, want %s", c.zone, c.id, ok, severity, c.want)
		}
	}
}

func TestSPFRecordsToPublish(t *testing.T) {
	own := Sender{Addr: netip.MustParseAddr("2001:db8::25"), HELO: "out.corp.test", Own: true}
	long := "v=spf1" + strings.Repeat(" ip4:192.0.2.17", 20)
	for _, c := range []struct {
		name, zone string
		senders    []Sender
		id, want   string
	}{
		{"mail hosts", "@ MX 1 mx\n", nil, "spf.missing", `"v=spf1 mx ~all"`},
		{"mail hosts of a provider", "@ MX 1 corp-test.mail.protection.outlook.com.\n", []Sender{own}, "spf.missing", `"v=spf1 include:spf.protection.outlook.com ip6:2001:db8::25 ~all"`},
		{"no mail", "@ MX 0 .\n", nil, "spf.missing", `"v=spf1 -all"`},
		{"neither", "@ A 192.0.2.1\n", nil, "spf.missing", `"v=spf1 -all"`},
		{"what was meant", txt("@", "v=spf1;ip4:192.0.2.1;mx;-all"), nil, "spf.missing", `"v=spf1 ip4:192.0.2.1 mx -all"`},
		{"both say", txt("@", "v=spf1 mx ip4:192.0.2.1 -all") + txt("@", "v=spf1 ip4:192.0.2.1 include:x.test -all"), nil, "spf.multiple", `"v=spf1 mx ip4:192.0.2.1 include:x.test -all"`},
		{"the milder end", txt("@", "v=spf1 mx -all") + txt("@", "v=spf1 redirect=x.test") + txt("@", "v=spf1 a"), nil, "spf.multiple", `"v=spf1 mx include:x.test a ~all"`},
		{"two errors", txt("@", "v=spf1 ipv4:192.0.2.1 foo include: x.test – all"), nil, "spf.syntax", `"v=spf1 ip4:192.0.2.1 include:x.test -all"`},
		{"a source", txt("@", "v=spf1 mx -all"), []Sender{own}, "spf.source_missing", `"v=spf1 mx ip6:2001:db8::25 -all"`},
		{"a source without an end", txt("@", "v=spf1 mx"), []Sender{own}, "spf.source_missing", `"v=spf1 mx ip6:2001:db8::25"`},
		{"fewer lookups", txt("@", "v=spf1 a a mx ptr ~a:no.corp.test "+strings.Repeat("a:x%{d}.test ", 6)+"-all") + "@ A 192.0.2.1\n@ MX 1 mx\nmx A 192.0.2.2\n",
			nil, "spf.lookup_limit", `"v=spf1 ip4:192.0.2.1 ip4:192.0.2.2 -all"`},
		{"long", txt("@", long+" ?all"), nil, "spf.neutral_all",
			`"` + long[:6+16*15] + `" "` + long[6+16*15:] + ` ~all"`},
	} {
		got := ""
		for _, f := range spfPublished(t, c.zone, c.senders...) {
			if f.ID == c.id && got == "" {
				got = f.Publish()
			}
		}
		if want := "corp.test. IN TXT " + c.want; got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
	}
}

func TestSPFStringsThatLostTheirBlank(t *testing.T) {
	for _, c := range []struct {
		first, second string
		want          bool
	}{
		{"ip4:192.0.2.1", "mx", true},
		{"ip4:192.0.2.1", "-all", true},
		{"a", "mx", true},
		{"include:x.example.com", "include:y.example.com", true},
		{"include:x.example.com", "mx", true},
		{"include:x.example.com", "-all", true},
		{"ip4:192.0.2.1", "0", false},
		{"ip4:192.0.2.1", "/24", false},
		{"include:x.exa", "mple.com", false},
		{"include:x.example.co", "m", false},
		{"include:x.ex", "a", false},
		{"includ", "e:x.test", false},
		{"-", "all", false},
		{"~al", "l", false},
	} {
		if got := gluedTerm(c.first, c.second); got != c.want {
			t.Errorf("%q %q: %v, want %v", c.first, c.second, got, c.want)
		}
	}
}

func TestSPFNearMisses(t *testing.T) {
	for _, c := range []struct{ text, reason, meant string }{
		{"v=spf1 -all", "", ""},
		{"V=SPF1", "", ""},
		{"spf2.0/pra ?all", "", ""},
		{"v=DMARC1; p=none", "", ""},
		{"SPF is great", "", ""},
		{"spf 1 mx", "", ""},
		{"v=spf1ner", "", ""},
		{"spf1-token=abc", "", ""},
		{" v=spf1 mx -all", "a blank stands before it", "v=spf1 mx -all"},
		{"\tv=spf1 mx -all", "a blank stands before it", "v=spf1 mx -all"},
		{`"v=spf1 mx -all"`, "quotation marks are part of the text", "v=spf1 mx -all"},
		{"“v=spf1 mx –all”", "quotation marks are part of the text", "v=spf1 mx -all"},
		{"\ufeffv=spf1 mx -all", "an invisible byte order mark stands before it", "v=spf1 mx -all"},
		{"v=spf10 mx -all", `"0" follows the version in place of a blank`, "v=spf1 mx -all"},
		{"v=spf1,mx,-all", `"," follows the version in place of a blank`, "v=spf1 mx -all"},
		{"v=spf1; mx; -all", `";" follows the version in place of a blank`, "v=spf1 mx -all"},
		{"v=spf1-all", `"-" follows the version in place of a blank`, "v=spf1 -all"},
		{"v=spf2 mx -all", `it begins with "v=spf2" in place of v=spf1 and a blank`, "v=spf1 mx -all"},
		{"v=spfl mx -all", `it begins with "v=spfl" in place of v=spf1 and a blank`, "v=spf1 mx -all"},
		{"v=spf mx -all", `it begins with "v=spf" in place of v=spf1 and a blank`, "v=spf1 mx -all"},
		{"v = spf1 mx -all", `it begins with "v" in place of v=spf1 and a blank`, "v=spf1 mx -all"},
		{"spf1 mx -all", `it begins with "spf1" in place of v=spf1 and a blank`, "v=spf1 mx -all"},
		{"=spf1 mx -all", `it begins with "=spf1" in place of v=spf1 and a blank`, "v=spf1 mx -all"},
	} {
		if reason, meant := spfNearMiss([]string{c.text}); reason != c.reason || meant != c.meant {
			t.Errorf("%q: %q %q, want %q %q", c.text, reason, meant, c.reason, c.meant)
		}
	}
}
