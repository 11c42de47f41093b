package advice

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestNumbersForPeople(t *testing.T) {
	for got, want := range map[string]string{
		percent(0): "0 %", percent(1): "100 %", percent(0.5): "50.0 %", percent(0.99951): "99.95 %", percent(0.99996): "99.996 %",
		percent(0.0001): "0.01 %", percent(0.0004): "0.04 %", percent(0.123456): "12.3 %",
		count(0): "0", count(999): "999", count(1000): "1,000", count(1234567): "1,234,567",
		aDay(0): "0 a day", aDay(0.03): "fewer than 1 in 10 days", aDay(0.1): "0.1 a day", aDay(2): "2 a day", aDay(498.4): "498 a day",
		list([]string{"a"}, 3): "a", list([]string{"a", "b"}, 3): "a and b", list([]string{"a", "b", "c", "d"}, 3): "a, b, c and 1 more",
		plural(1, "day"): "1 day", plural(1200, "day"): "1,200 days",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAdviceForATerminal(t *testing.T) {
	w := healthy(61).send("203.0.113.1", service("mailer.example"), 10, 0, 61, 1).send("203.0.113.1", unaligned("mailer.example"), 30, 0, 61, 1)
	w.send("198.51.100.1", spoof(), 500, 20, 23, 1).send("203.0.113.8", unaligned("stranger.example"), 2, 0, 61, 1)
	e := w.evidence()
	e.Senders = known{"mailer.example": mailer}
	var b strings.Builder
	if err := Text(&b, For(e, Options{})); err != nil {
		t.Fatal(err)
	}
	const want = `acme.example   p=none   1 January 2026 – 2 March 2026 UTC, 61 days with reports

Not ready for quarantine: 1 sender of yours would lose 30 a day. Part of it is ready: p=none; sp=quarantine.

Under p=quarantine, from the mail of this period
                messages/day     lost today  would be lost
  own                    100              0              0
  service                 40              0             30
  unknown                  2              0              2
  suspicious (stopped)    25              0             25

Each policy, messages a day
                                            quarantined   rejected of them yours
  p=none (now)                                        0          0             0
  p=quarantine                                       57          0            30
  p=reject                                            0         57            30

Fix first, by messages at stake
  1. Mailer   30 a day, removes 100 %
     It sends as Mailer, but neither signs nor takes bounces for your domain.
     Ask Mailer for a custom DKIM domain for acme.example.
       k2._domainkey.acme.example CNAME dkim.mailer.example

Publish now
  _dmarc.acme.example TXT v=DMARC1; p=none; sp=quarantine; rua=mailto:dmarc@reports.example

Why we say so
  !  1 service of yours would lose 30 a day: 21.4 % of your own mail. Fix that first.
  ✓  Your mail has been seen over 61 days; 35 are needed.
  ✓  8,540 messages of yours were reported, 140 a day.
  ✓  Your mail was reported by 4 receivers.
  !  1 sender is unknown, and only you can tell whose it is: 2 messages a day would be lost. Begin
     with 203.0.113.8.
     25 messages a day in your name would be stopped, from 1 suspicious sender.
  ✓  No mail of yours as a subdomain would be lost. Protect subdomains first, which forgers like,
     while you mend the rest.

Ask whose these are, busiest first
  ?  203.0.113.8 (122 messages, unknown): it authenticates as stranger.example and not as you
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// A sender that broke eight days ago: the mean over the period says little.
func TestARateSinceItBrokeStandsBesideTheMean(t *testing.T) {
	w := newWorld(61).send("192.0.2.1", own(), 100_000, 0, 61, 1)
	w.send("203.0.113.1", service("mailer.example"), 50, 0, 53, 1).send("203.0.113.1", unaligned("mailer.example"), 61, 53, 61, 1)
	e := w.evidence()
	e.Period.End = e.Period.End.AddDate(0, 0, 2) // for which nothing was reported yet
	a := For(e, Options{})
	var b strings.Builder
	if err := Text(&b, a); err != nil {
		t.Fatal(err)
	}
	if want := "1. mailer.example   8 a day, 61 a day since 23 February 2026, removes 100 %"; !strings.Contains(b.String(), want) {
		t.Errorf("no %q in\n%s", want, b.String())
	}
	got := a.JSON().Blockers
	if len(got) != 1 || got[0].PerDay != 8 || got[0].DaySince == nil || *got[0].DaySince != 61 {
		t.Errorf("%+v", got)
	}
	a = For(healthy(61).send("192.0.2.1", ownBroken(), 1, 0, 61, 1).evidence(), Options{})
	if got := a.JSON().Blockers; len(got) != 1 || got[0].Since != nil || got[0].DaySince != nil {
		t.Errorf("never fine: %+v", got)
	}
}

// The policy in force comes first; what is taken for mended is so in those that
// are stricter.
func TestEachPolicyIsReplayed(t *testing.T) {
	w := healthy(61).send("203.0.113.1", unaligned("mailer.example"), 30, 0, 61, 1)
	w.policy.P, w.policy.SP = dmarc.PolicyQuarantine, dmarc.PolicyNone
	e := w.evidence()
	mended := map[netip.Prefix]bool{netip.MustParsePrefix("203.0.113.1/32"): true}
	for _, c := range []struct {
		o    Options
		want []Loss
	}{
		{Options{}, []Loss{{Quarantined: 1830}, {Quarantined: 1830}, {Rejected: 1830}}},
		{Options{Target: dmarc.PolicyNone}, []Loss{{Quarantined: 1830}, {Quarantined: 1830}, {Rejected: 1830}}},
		{Options{Repaired: mended}, []Loss{{Quarantined: 1830}, {}, {}}},
	} {
		a := For(e, c.o)
		var got []Loss
		var tags []string
		for _, s := range a.Policies() {
			if s.Total.Messages != a.Current.Total.Messages {
				t.Errorf("%s is of %d messages", s.Policy, s.Total.Messages)
			}
			got, tags = append(got, Loss{Quarantined: s.Total.Quarantined, Rejected: s.Total.Rejected}), append(tags, s.Policy.String())
		}
		if !slices.Equal(got, c.want) || !slices.Equal(tags, []string{"p=quarantine; sp=none", "p=quarantine; sp=quarantine", "p=reject; sp=reject"}) {
			t.Errorf("%+v: %q, %+v; want %+v", c.o, tags, got, c.want)
		}
	}
}

func TestAStrangersNameDoesNotReachTheTerminalRaw(t *testing.T) {
	w := healthy(61).send("203.0.113.8", unaligned("evil\x1b[2J\u202e.example"), 2, 0, 61, 1)
	var b strings.Builder
	if err := Text(&b, For(w.evidence(), Options{})); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\u202e") || !strings.Contains(b.String(), "evil") {
		t.Errorf("%q", b.String())
	}
}

func TestAdviceIsCompleteAsJSON(t *testing.T) {
	e := healthy(61).send("198.51.100.1", spoof(), 500, 20, 23, 1).evidence()
	b, err := json.Marshal(For(e, Options{Target: dmarc.PolicyReject}).JSON())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{
		`"domain":"acme.example"`, `"period":{"from":"2026-01-01","to":"2026-03-03"}`, `"published":{"p":"none","sp":null,"np":null,"t":false}`,
		`"verdict":"ready"`, `"next":{"p":"reject","sp":null,"np":null,"t":false}`, `"record":"v=DMARC1; p=reject; rua=mailto:dmarc@reports.example"`,
		`"blockers":[]`, `"affected_by_class":{"forwarder":0,"own":0,"service":0,"suspicious":1500,"unknown":0}`, `"affected":1500`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	b, err = json.Marshal(For(newWorld(3).evidence(), Options{}).JSON())
	if err != nil || !strings.Contains(string(b), `"next":null,"record":null,"publish":[]`) {
		t.Errorf("without evidence: %s, %v", b, err)
	}
}

func TestTheHeadlineSaysVerdictAndLoss(t *testing.T) {
	ask := healthy(61).send("203.0.113.1", unaligned("stranger.example"), 5, 0, 61, 1).evidence()
	for _, c := range []struct {
		e    *Evidence
		want string
	}{
		{healthy(61).evidence(), "Ready for quarantine: you would lose 0 a day of your own 100."},
		{ask, "Ready for quarantine: you would lose 0 a day of your own 100. Ask first whose 203.0.113.1 is."},
		{newWorld(40).send("198.51.100.1", spoof(), 5, 0, 40, 5).evidence(), "Ready for reject: acme.example sends no mail."},
		{newWorld(5).evidence(), "Not enough evidence for reject. No reports have come yet. The first come a day or two after rua is published."},
	} {
		if got := For(c.e, Options{}).Headline(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestASingleAddressIsWrittenWithoutItsLength(t *testing.T) {
	for p, want := range map[netip.Prefix]string{
		netip.MustParsePrefix("192.0.2.1/32"): "192.0.2.1", netip.MustParsePrefix("192.0.2.0/24"): "192.0.2.0/24", {}: "",
	} {
		if got := sourceText(p); got != want {
			t.Errorf("%v: %q, want %q", p, got, want)
		}
	}
}
