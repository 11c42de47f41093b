package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// Senders are listed by name with their class, over the period of the page and
// by what is known of a longer one.
func TestWhoSendsIsToldByNameAndClass(t *testing.T) {
	f := realistic()
	status, page := fetch(t, f, "/domains/acme.example?days=7")
	if status != http.StatusOK {
		t.Fatal(status)
	}
	says(t, page, "Own servers 13,800 2 senders", "Services 5,748 2 senders", "Only you can tell whose these are", "2001:db8::7 150 messages, 0 % passed.",
		"newsbird.example service 5,400 0 % 0 % 0 %", "crm.example service 348 69.0 %", "The same by address")
	if strings.Contains(page, "Suspicious</a>") {
		t.Error("those who sent nothing in the period are listed")
	}
	_, page = fetch(t, f, "/domains/acme.example/sources?class=suspicious")
	says(t, page, "Only suspicious senders. Show all classes", "198.51.100.134 suspicious")
	if strings.Contains(page, ">192.0.2.1<") {
		t.Error("senders of other classes are listed")
	}
	for path, want := range map[string]int{
		"/domains/acme.example/sources?class=nobody": 400, "/domains/acme.example/sources?after=nobody": 400,
		"/domains/never.example/sources": 404, "/domains/never.example/source?of=192.0.2.1": 404, "/domains/acme.example/source?of=192.0.2.77": 404, "/domains/acme.example/source": 404,
	} {
		if status, _ := fetch(t, f, path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

// An address that is counted with its network leads to the network, unless it is told itself.
func TestAnAddressLeadsToTheNetworkThatItIsCountedWith(t *testing.T) {
	sp := lastDays(30, now)
	e, err := counsel().Evidence(t.Context(), "acme.example", sp.Period)
	if err != nil {
		t.Fatal(err)
	}
	for i := range e.Sources {
		if e.Sources[i].Source == netip.MustParsePrefix("198.51.100.134/32") {
			e.Sources[i].Source = netip.MustParsePrefix("198.51.100.0/24")
		}
	}
	for key, want := range map[string]string{"198.51.100.200": "198.51.100.0/24", "198.51.100.127": "198.51.100.127", "203.0.113.77": ""} {
		got := ""
		if p := senderIn(e, key, sp); p != nil {
			got = p.Addresses[0].Source
		}
		if got != want {
			t.Errorf("%s leads to %q, want %q", key, got, want)
		}
	}
}

// The numbers by class add up to all messages of the facts, and to those of
// their senders.
func TestTheNumbersByClassAddUp(t *testing.T) {
	sp := lastDays(30, now)
	e, err := counsel().Evidence(t.Context(), "acme.example", lastDays(90, now).Period)
	if err != nil {
		t.Fatal(err)
	}
	all := advice.Classify(e)
	c := crewOf(e, all, sp)
	var byKind, bySender, want int64
	for _, k := range c.Kinds {
		byKind += k.Messages
	}
	for _, s := range c.Senders {
		bySender += s.Tally.Messages
	}
	for _, src := range e.Sources {
		for d := range src.Days() {
			if !d.Day.Before(sp.Begin) {
				for _, messages := range d.Cells() {
					want += messages
				}
			}
		}
	}
	if byKind != want || bySender != want || c.Tally.Messages != want || want == 0 {
		t.Errorf("%d by class, %d by sender, %d in all; want %d", byKind, bySender, c.Tally.Messages, want)
	}
	if len(c.Ask) != 1 || c.Ask[0].Key != "2001:db8::7" {
		t.Errorf("asks about %+v", c.Ask)
	}
}

func TestThousandsOfSendersComeInPages(t *testing.T) {
	f := crowd(1)
	f.advice = storm(300)
	seen := map[string]bool{}
	pages := 0
	for path := "/domains/customer-0000.example/sources?days=90"; path != ""; pages++ {
		status, page := fetch(t, f, path)
		if status != http.StatusOK {
			t.Fatalf("%s: %d", path, status)
		}
		path = ""
		_, links := words(t, page)
		for _, l := range links {
			u, err := url.Parse(l)
			if err != nil {
				t.Fatal(err)
			}
			if key := u.Query().Get("of"); key != "" {
				if seen[key] {
					t.Fatalf("%s is listed twice", key)
				}
				seen[key] = true
			}
			if u.Query().Get("after") != "" {
				path = l
			}
		}
	}
	if len(seen) != 600 || pages != 6 {
		t.Errorf("%d senders on %d pages", len(seen), pages)
	}
}

func TestOneSenderIsExplained(t *testing.T) {
	f := realistic()
	_, page := fetch(t, f, "/domains/acme.example/source?days=90&of="+url.QueryEscape("as newsbird.example"))
	says(t, page, "newsbird.example", "service", "80,100 messages as acme.example in the last 90 days; 91.0 % passed DMARC.", "Why it is classed as service", "What to mend",
		"Under p=quarantine it would lose 81 a day", "203.0.113.1", "SPF passes bounce.newsbird.example 80,100", "DKIM passes s1._domainkey.acme.example 72,900", "No other domain here knows it.")
	_, byAddress := fetch(t, f, "/domains/acme.example/source?days=90&of=203.0.113.1")
	if byAddress = strings.ReplaceAll(byAddress, "of=203.0.113.1", ""); !strings.Contains(byAddress, ">newsbird.example</bdi></h1>") {
		t.Error("an address of a service does not lead to it")
	}
	if _, page := fetch(t, f, "/domains/acme.example/source?of=192.0.2.1"); strings.Contains(page, "What to mend") {
		t.Error("a sender that is fine is to be mended")
	}
	_, page = fetch(t, f, "/domains/acme.example/source?of=2001:db8::7")
	if strings.Contains(page, "<script>alert") || !strings.Contains(page, "{{.}}") {
		t.Error("a stranger's name is markup, or missing")
	}
}

// Why a service is classed as it is rests on its busiest address, and on more days than are shown: its
// numbers are not those of the page.
func TestCluesSayWhatTheyAreOf(t *testing.T) {
	f := realistic()
	f.advice = advisers{"acme.example": tell("acme.example", dmarc.PolicyNone).
		send("203.0.113.1", byService, "newsbird.example", 10, 80, 0).send("203.0.113.2", byService, "newsbird.example", 900, 80, 0).send("192.0.2.1", byBoth, "", 700, 80, 0)}
	_, page := fetch(t, f, "/domains/acme.example/source?of="+url.QueryEscape("as newsbird.example"))
	says(t, page, "26,390 messages as acme.example in the last 30 days", "About 203.0.113.2, from 26 Aug 2026 to 23 Nov 2026:", "messages pass by DKIM only")
	_, page = fetch(t, f, "/domains/acme.example/source?of=192.0.2.1")
	says(t, page, "20,300 messages as acme.example in the last 30 days", " From 26 Aug 2026 to 23 Nov 2026:")
}

func TestHowOthersClassASource(t *testing.T) {
	var e advice.Elsewhere
	if got := elsewhereText(e); got != "" {
		t.Errorf("%q", got)
	}
	e[dmarc.ClassService], e[dmarc.ClassSuspicious] = 12, 1
	if got, want := elsewhereText(e), "service for 12\u00a0domains, suspicious for 1\u00a0domain"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := placeOf(&dmarc.SourceIdentity{Org: "Acme Networks", ASN: 64500, Country: "CH"}), "Acme Networks, AS64500, CH"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
