package web

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// published is what a look found, and changes since, with a text of strangers
// in every place that can hold one.
func published(domain, text string) (*records.Result, []dmarc.RecordChange) {
	word := func(s string) *string { return &s }
	bits, no := 1024, false
	r := &records.Result{
		Domain: domain, CheckedAt: now.Add(-4 * time.Minute), LookupFailed: []string{"mx2." + domain + " AAAA", "old." + domain + " TXT"},
		Findings: []records.ResultFinding{
			{ID: "mx.no_ipv6", Severity: "info", What: "mx1." + domain + " has no IPv6 address." + text, Why: "Some senders have nothing else." + text},
			{ID: "spf.lookup_limit", Severity: "error", Subject: domain, What: "11 of 10 lookups." + text, Why: "Receivers answer permerror." + text, Fix: "Remove what is not used." + text,
				Publish: domain + `. IN TXT "v=spf1 mx -all` + text + `"`, Reference: "RFC 7208, section 4.6.4", Facts: []records.ResultFact{{Name: domain + text, Type: "TXT", Answer: `"v=spf1 …` + text + `"`}}},
			{ID: "dkim.rsa_1024", Severity: "warning", What: "s1 has 1024 bits." + text, Why: "2048 is advised."},
			{ID: "dns.lookup_failed", Severity: "unknown", What: "old could not be looked up." + text, Why: "It is tried again."},
			{ID: "dmarc.ok", Severity: "ok", What: domain + " is protected." + text, Why: "Good."},
			{ID: "spf.untidy", Severity: "info", What: "A term is contained in another." + text, Why: "It is not needed."},
		},
	}
	r.Records.SPF = &records.ResultSPF{Record: word("v=spf1 include:crm.example mx -all" + text), Lookups: 11, VoidLookups: 1, Tree: []records.ResultSPFLine{
		{Number: "1", Term: "include:crm.example" + text, Own: 1, Cost: 10, Total: 10},
		{Depth: 1, Number: "1.1", Term: "a:gone.crm.example", Own: 1, Cost: 1, Total: 2, Result: "finds nothing (NXDOMAIN)" + text, Void: 1},
		{Depth: 1, Number: "1.2", Term: "ip4:198.51.100.0/24", Total: 2, Nets: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::5/128")}, More: 3},
		{Number: "2", Term: "mx", Own: 1, Cost: 1, Total: 11, Over: true, Hosts: []string{"mx1." + domain + text}},
	}}
	r.Records.DKIM = []records.ResultKey{{Selector: "s1" + text, Name: "s1._domainkey." + domain, Record: word("v=DKIM1; p=" + strings.Repeat("A", 300) + text), Type: word("rsa"), Bits: &bits}, {Selector: "old", Name: "old._domainkey." + domain}}
	r.Records.Hosts = []records.ResultHost{{Address: "192.0.2.7", MX: []string{"mx1." + domain + text}, Sends: true, PTR: []string{"host-192-0-2-7.isp.example" + text}, FCrDNS: &no}, {Address: "2001:db8::7", Sends: true}}
	return r, []dmarc.RecordChange{{SeenAt: now.Add(-50 * time.Hour), Name: "_dmarc." + domain + text, Type: "TXT", Before: []string{`"v=DMARC1; p=none` + text + `"`, "same"}, After: []string{`"v=DMARC1; p=quarantine"` + text, "same"}}}
}

func withLooks(f *fake, domain, text string) *fake {
	if f.looks == nil {
		f.looks, f.changes = map[string]*records.Result{}, map[string][]dmarc.RecordChange{}
	}
	f.looks[domain], f.changes[domain] = published(domain, text)
	return f
}

// The page begins with how bad it is, then says what is wrong with each kind of
// record, the worst first, and what to publish.
func TestWhatADomainPublishesBeginsWithTheWorst(t *testing.T) {
	f := withLooks(realistic(), "acme.example", "")
	w := get(t, f, "/domains/acme.example/dns")
	text, links := words(t, w.Body.String())
	at := 0
	for _, want := range []string{
		"DNS of acme.example", "1 error · 1 warning · 1 not known · 2 notes · 1 fine", "Checked 4 minutes ago", "2 lookups failed",
		"SPF error 11 of 10 lookups. Receivers answer permerror. Remove what is not used.", `acme.example. IN TXT "v=spf1 mx -all"`, "spf.lookup_limit · RFC 7208, section 4.6.4", "note A term is contained",
		"DKIM warning s1 has 1024 bits.", "DNS unknown old could not be looked up.", "MX note mx1.acme.example has no IPv6",
		"What SPF allows 11 of 10 lookups, 1 of them finds nothing (2 may).", "1 include:crm.example Friends & Co 10 10", "1.1 a:gone.crm.example 1 2 finds nothing (NXDOMAIN)", "198.51.100.0/24 2001:db8::5 and 3 more", "The eleventh: receivers give up here.",
		"DKIM keys", "rsa 1024 bits", "no record", "Hosts", "takes mail as mx1.acme.example; sends mail host-192-0-2-7.isp.example does not lead back", "could not be looked up",
		"1 check is fine", "dmarc.ok", "What changed", "_dmarc.acme.example TXT", `gone: "v=DMARC1; p=none"`, `new: "v=DMARC1; p=quarantine"`,
	} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("%q is not behind what should stand before it in\n%s", want, text)
		}
		at += i
	}
	if strings.Contains(text, "same") {
		t.Error("a value that stayed is shown as a change")
	}
	if _, from := words(t, get(t, f, "/domains/acme.example").Body.String()); !slices.Contains(from, "/domains/acme.example/dns") {
		t.Errorf("the page of the domain does not lead there: %q", from)
	}
	if !slices.Contains(links, "/domains/acme.example") {
		t.Errorf("no way back among %q", links)
	}
}

func TestBeforeTheFirstLookThePageSaysWhenItComes(t *testing.T) {
	text, _ := words(t, get(t, realistic(), "/domains/acme.example/dns").Body.String())
	for _, want := range []string{"Nobody has looked yet.", "dmarcd check acme.example", "Nothing has changed"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if w := get(t, realistic(), "/domains/never.example/dns"); w.Code != 404 {
		t.Errorf("a domain that nothing is known of: %d", w.Code)
	}
}

func TestAnAgeIsSaidInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", 90 * time.Second: "just now", 4 * time.Minute: "4 minutes ago", 119 * time.Minute: "119 minutes ago", 5 * time.Hour: "5 hours ago", 72 * time.Hour: "3 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
