package records

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestNamesThatLookDynamic(t *testing.T) {
	for _, c := range []struct {
		ip, name string
		want     bool
	}{
		// The address in any order, with any separator.
		{"192.0.2.7", "192-0-2-7.isp.net", true},
		{"192.0.2.7", "7.2.0.192.isp.net", true},
		{"192.0.2.7", "host192_0_2_7.isp.co.uk", true},
		{"192.0.2.7", "ip-0-192-7-2.isp.net", true},
		{"192.0.2.7", "ip192x0x2x7.isp.net", true},
		{"203.0.113.45", "45.113.0.203.static.isp.net", false},
		{"203.0.113.45", "static-203-0-113-45.isp.net", false},
		{"203.0.113.45", "203-0-113-45.isp.net", true},
		{"203.0.113.45", "203-0-113-46.isp.net", false},
		{"203.0.113.45", "1203-0-113-45.isp.net", false},
		{"203.0.113.45", "203-0-113-451.isp.net", false},
		// Padded, run together, as one number.
		{"192.0.2.7", "192-000-002-007.isp.net", true},
		{"192.0.2.7", "p192000002007.isp.net", true},
		{"192.0.2.7", "h007002000192.isp.net", true},
		{"203.0.113.45", "203011345.isp.net", true},
		{"203.0.113.45", "c3405803821.isp.net", true},
		{"1.2.3.4", "1234.isp.net", false},
		// Hexadecimal.
		{"192.0.2.7", "c0000207.isp.net", true},
		{"192.0.2.7", "070200C0.isp.net", true},
		{"192.0.2.7", "xc0-00-02-07.isp.net", true},
		{"192.0.2.7", "c0000208.isp.net", false},
		{"203.0.113.45", "pcb00712d.dip0.isp.net", true},
		// Words with a number.
		{"192.0.2.7", "dyn42.isp.net", true},
		{"192.0.2.7", "42.dyn.isp.net", true},
		{"192.0.2.7", "dhcp-17.campus.edu", true},
		{"192.0.2.7", "pool12-a.isp.net", true},
		{"192.0.2.7", "a12.adsl.isp.net", true},
		{"192.0.2.7", "cable7.isp.net", true},
		{"192.0.2.7", "ppp-9.isp.net", true},
		{"192.0.2.7", "client8.isp.net", true},
		{"192.0.2.7", "cust-77.isp.net", true},
		{"192.0.2.7", "dialup.isp.net", false},
		{"192.0.2.7", "dyn.isp.net", false},
		{"192.0.2.7", "static.dyn42.isp.net", false},
		{"192.0.2.7", "mx1.liverpool.ac.uk", false},
		{"192.0.2.7", "mail-pool3.sender.com", false},
		{"192.0.2.7", "mail1.client.sender.com", false},
		{"192.0.2.7", "mail1.dyn.isp.net", true},
		// The registrable domain is a name, not a place.
		{"192.0.2.7", "mail.pool24.com", false},
		{"192.0.2.7", "mail.cable1.net", false},
		{"192.0.2.7", "pool24.com", false},
		// Names of hosts for mail.
		{"192.0.2.7", "mail.corp.example", false},
		{"192.0.2.7", "mx2.corp.example", false},
		{"54.240.8.31", "a8-31.smtp-out.amazonses.com", false},
		{"209.85.128.54", "mail-wm1-f54.google.com", false},
		{"40.107.22.71", "mail-am6eur05on2071.outbound.protection.outlook.com", false},
		{"161.38.204.111", "m204-111.eu.mailgun.net", false},
		{"192.0.2.7", "o1.ptr123.corp.com", false},
		// IPv6.
		{"2001:db8:1:2:3:4:5:6", "2001-db8-1-2-3-4-5-6.isp.net", true},
		{"2001:db8::7", "2001-db8--7.isp.net", true},
		{"2001:db8::7", "2001-db8-0-0-0-0-0-7.isp.net", true},
		{"2001:db8::7", "20010db8000000000000000000000007.isp.net", true},
		{"2001:db8::7", "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.isp.net", true},
		{"2001:db8::a1b2:c3d4:e5f6:1234", "a1b2-c3d4-e5f6-1234.isp.net", true},
		{"2001:db8::7", "mail.corp.example", false},
		{"2001:db8::7", "mx7.corp.example", false},
		{"2001:db8::7", "2001-db8--8.isp.net", false},
	} {
		if got := looksDynamic(c.name, netip.MustParseAddr(c.ip)); got != c.want {
			t.Errorf("%s for %s: %t", c.name, c.ip, got)
		}
	}
}

func TestSPFSinglesAreOnlySingleAddressesThatPass(t *testing.T) {
	for record, want := range map[string]string{
		"v=spf1 ip4:192.0.2.1 +ip4:192.0.2.2/32 ip6:2001:db8::1 IP4:192.0.2.3 ip6:2001:db8::2/128 -all": "192.0.2.1 192.0.2.2 2001:db8::1 192.0.2.3 2001:db8::2",
		"v=spf1 ip4:192.0.2.0/24 -ip4:192.0.2.9 ?ip4:192.0.2.8 ~ip4:192.0.2.7 a mx include:x.test -all": "",
		"v=spf1 ip4:2001:db8::1 ip6:192.0.2.1 ip4:x ip4: ip4 ip6:fe80::1%eth0 ip4:192.0.2.1/x":          "",
		"v=spf2 ip4:192.0.2.1":  "",
		"v=spf10 ip4:192.0.2.1": "",
	} {
		r := newZoneResolver(t, map[string]string{"corp.test": txt("@", record)})
		var got []string
		for _, ip := range spfSingles(r.Lookup(t.Context(), "corp.test", dns.TypeTXT)) {
			got = append(got, ip.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q", record, got)
		}
	}
}

func TestSPFRecordsThatWereMadeForMail(t *testing.T) {
	for record, want := range map[string]string{
		"v=spf1 -all":                         "closed",
		"v=spf1 exp=why.corp.test -all":       "closed",
		"v=spf1 -ip4:192.0.2.1 -all":          "closed",
		"V=SPF1  -ALL mx":                     "closed",
		"v=spf1 ip4:192.0.2.1 -all":           "allows",
		"v=spf1 ~all":                         "allows",
		"v=spf1 ?all":                         "allows",
		"v=spf1 +all":                         "allows",
		"v=spf1 redirect=_spf.mailer.test":    "allows",
		"v=spf1 include:spf.mailer.test -all": "allows",
		"v=spf1":                              "",
		"v=spf1 -all nonsense":                "",
		"v=spf2 -all":                         "",
		"hello":                               "",
	} {
		p := lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": txt("@", record)}), "corp.test", Options{})
		got := ""
		if spfClosed(p) {
			got += "closed"
		}
		if spfAllows(p) {
			got += "allows"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", record, got, want)
		}
	}
}

func TestReverseLookupsThatFailAreUnknown(t *testing.T) {
	zones := map[string]string{"corp.test": "mail A 192.0.2.20\n" + txt("@", "v=spf1 ip4:192.0.2.20 -all"), "2.0.192.in-addr.arpa": "20 PTR mail.corp.test.\n20 PTR other.corp.test.\n"}
	for broken, confirmed := range map[string]string{
		"20.2.0.192.in-addr.arpa": "it is not known",
		"mail.corp.test":          "it is not known",
		"other.corp.test":         "true", // the other name is confirmed
		"":                        "true",
	} {
		r := newZoneResolver(t, zones)
		r.broken[broken] = Answer{Err: "timeout"}
		p := lookedUp(t, r, "corp.test", Options{})
		if got := checkHosts(p); len(got) > 0 {
			t.Errorf("%s fails: %q", broken, idsOf(got))
		}
		is, known := p.Hosts.Addresses[0].confirmed()
		got := fmt.Sprint(is)
		if !known {
			got = "it is not known"
		}
		if got != confirmed {
			t.Errorf("%s fails: confirmed: %s", broken, got)
		}
	}
}

func TestAnAddressThatTakesMailOnlyNeedsNoName(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": "@ MX 10 mx\nmx A 192.0.2.98\n" + txt("@", "v=spf1 ip4:192.0.2.99 -all")})
	got := checkHosts(lookedUp(t, r, "corp.test", Options{}))
	if want := []string{"error ptr.missing 192.0.2.99", "info ptr.missing 192.0.2.98"}; !slices.Equal(idsOf(got), want) {
		t.Fatalf("findings: %q", idsOf(got))
	}
	if publish := got[1].Publish(); publish != "98.2.0.192.in-addr.arpa. IN PTR mx.corp.test." {
		t.Errorf("to publish: %q", publish)
	}
}

func TestOnlySomeOfManyAddressesAndNamesAreLookedAt(t *testing.T) {
	var o Options
	var names strings.Builder
	for i := range 256 {
		o.Senders = append(o.Senders, Sender{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})})
		fmt.Fprintf(&names, "1 PTR n%d.corp.test.\n", i)
	}
	r := newZoneResolver(t, map[string]string{"corp.test": "", "2.0.192.in-addr.arpa": names.String()})
	p := lookedUp(t, r, "corp.test", o)
	if len(p.Hosts.Addresses) != maxHostAddresses || p.Hosts.Left != 256-maxHostAddresses {
		t.Errorf("%d addresses, %d left", len(p.Hosts.Addresses), p.Hosts.Left)
	}
	h := p.Hosts.Addresses[1]
	if len(h.Names) != maxReverseNames || h.More != 256-maxReverseNames {
		t.Errorf("%d names, %d more", len(h.Names), h.More)
	}
	for _, f := range checkHosts(p) {
		if f.ID == "ptr.not_confirmed" {
			t.Errorf("not confirmed, though not all names were looked at: %s", f.What())
		}
	}
}

func TestPrivateSendersAreNotLookedUp(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": txt("@", "v=spf1 ip4:10.0.0.1 -all")})
	p := lookedUp(t, r, "corp.test", Options{Senders: []Sender{{Addr: netip.MustParseAddr("192.168.1.1")}, {}, {Addr: netip.MustParseAddr("::ffff:192.0.2.5")}}})
	if len(p.Hosts.Addresses) != 1 || p.Hosts.Addresses[0].Addr != netip.MustParseAddr("192.0.2.5") {
		t.Errorf("looked up: %v", p.Hosts.Addresses)
	}
}
