package advice

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// healthy is a domain at p=none whose own mail all passes.
func healthy(days int) *world {
	return newWorld(days).send("192.0.2.1", own(), 100, 0, days, 1)
}

// Every reason, told by the mail that leads to it.
var reasonCases = []struct {
	reason  string
	effect  Effect
	verdict Verdict
	world   func() *world
	tell    func(*Evidence)
	target  dmarc.Policy
}{
	{reason: "nothing_lost", effect: Good, verdict: Ready, world: func() *world { return healthy(61) }},
	{reason: "enough_days", effect: Good, verdict: Ready, world: func() *world { return healthy(61) }, target: dmarc.PolicyReject},
	{reason: "enough_messages", effect: Good, verdict: Ready, world: func() *world { return healthy(61) }},
	{reason: "enough_reporters", effect: Good, verdict: Ready, world: func() *world { return healthy(61) }},
	{reason: "certain", effect: Good, verdict: Ready, world: func() *world { return healthy(61) }},
	{reason: "little_lost", effect: Good, verdict: Ready, world: func() *world {
		return healthy(61).send("192.0.2.1", ownBroken(), 1, 0, 3, 1).send("192.0.2.1", ownBroken(), 1, 60, 61, 1)
	}},
	{reason: "few_days", effect: Waits, verdict: NotEnough, world: func() *world { return healthy(34) }},
	{reason: "few_days", effect: Waits, verdict: NotEnough, world: func() *world { return healthy(59) }, target: dmarc.PolicyReject},
	{reason: "few_days", effect: Waits, verdict: NotEnough, world: func() *world { return newWorld(61).send("192.0.2.1", own(), 100, 0, 61, 9) }},
	{reason: "few_messages", effect: Waits, verdict: NotEnough, world: func() *world { return newWorld(61).send("192.0.2.1", own(), 1, 0, 61, 1) }},
	{reason: "few_reporters", effect: Waits, verdict: NotEnough, world: func() *world {
		w := newWorld(61)
		for d := range 61 {
			w.send("192.0.2.1", own(), 10, d, d+1, 100)
		}
		return w
	}},
	{reason: "uncertain", effect: Waits, verdict: NotEnough, world: func() *world {
		return newWorld(40).send("192.0.2.1", own(), 10, 0, 40, 2)
	}},
	{reason: "old_evidence", effect: Waits, verdict: NotEnough, world: func() *world {
		w := healthy(61)
		w.days = 75
		return w
	}},
	{reason: "reporter_silent", effect: Warns, verdict: Ready, world: func() *world {
		w := healthy(61)
		for d := range 45 { // a fifth one
			row, at := own(), start.AddDate(0, 0, d)
			row.Source, row.Count = netip.MustParseAddr("192.0.2.1"), 5
			w.facts.Add(&row, &w.policy, dmarc.Attribution{Days: []time.Time{at}, Main: at, Dated: true}, 5)
		}
		return w
	}},
	{reason: "rhythm", effect: Waits, verdict: NotEnough, world: func() *world {
		return healthy(61).send("203.0.113.1", service("mailer.example"), 500, 10, 61, 40)
	}, target: dmarc.PolicyReject},
	{reason: "recent_change", effect: Waits, verdict: NotEnough, world: func() *world {
		w := healthy(90)
		w.policy.P = dmarc.PolicyQuarantine
		return w.send("192.0.2.1", own(), 1000, 80, 90, 1)
	}},
	{reason: "change_was_right", effect: Good, verdict: Ready, world: func() *world {
		w := newWorld(100).send("192.0.2.1", own(), 100, 0, 40, 1)
		w.policy.P = dmarc.PolicyQuarantine
		return w.send("192.0.2.1", own(), 100, 40, 100, 1)
	}},
	{reason: "step_back", effect: Blocks, verdict: NotReady, world: func() *world {
		w := newWorld(100)
		w.policy.P = dmarc.PolicyReject
		return w.send("192.0.2.1", own(), 100, 0, 100, 1).send("192.0.2.1", stopped(dmarc.DispositionReject, ownBroken()), 30, 95, 100, 1)
	}},
	{reason: "loss", effect: Blocks, verdict: NotReady, world: func() *world { return healthy(61).send("192.0.2.1", ownBroken(), 1, 0, 61, 1) }},
	{reason: "new_failure", effect: Blocks, verdict: NotReady, world: func() *world {
		return newWorld(61).send("192.0.2.1", own(), 100_000, 0, 61, 1).send("203.0.113.1", service("mailer.example"), 50, 0, 55, 1).send("203.0.113.1", unaligned("mailer.example"), 50, 55, 61, 1)
	}},
	{reason: "strict_alignment", effect: Warns, verdict: NotReady, world: func() *world {
		w := healthy(61).send("203.0.113.1", from("news.acme.example", own()), 10, 0, 61, 1)
		w.policy.ADKIM, w.policy.ASPF = dmarc.AlignmentStrict, dmarc.AlignmentStrict
		return w
	}},
	{reason: "repaired", effect: Good, verdict: Ready, world: func() *world {
		return newWorld(80).send("192.0.2.1", own(), 100, 0, 80, 1).send("192.0.2.1", ownBroken(), 40, 0, 30, 1)
	}},
	{reason: "ask", effect: Warns, verdict: Ready, world: func() *world { return healthy(61).send("203.0.113.1", unaligned("stranger.example"), 50, 0, 61, 1) }},
	{reason: "forwarded", effect: Notes, verdict: Ready, world: func() *world { return healthy(61).send("203.0.113.1", forwardBroken(), 1, 0, 61, 3) }},
	{reason: "no_dkim", effect: Warns, verdict: Ready, world: func() *world {
		return healthy(61).send("192.0.2.2", spfOnly(), 50, 0, 61, 1).send("203.0.113.1", forwarded(), 1, 0, 61, 3)
	}},
	{reason: "stopped", effect: Notes, verdict: Ready, world: func() *world { return healthy(61).send("198.51.100.1", spoof(), 5000, 20, 23, 1) }},
	{reason: "rua_missing", effect: Warns, verdict: Ready, world: func() *world { return healthy(61) }, tell: func(e *Evidence) { e.Published.ReportsTo = false }},
	{reason: "inherited", effect: Notes, verdict: Ready, world: func() *world { return healthy(61) }, tell: func(e *Evidence) { e.Published.FoundAt = "example" }},
	{reason: "pct_removed", effect: Notes, verdict: Ready, world: func() *world { return healthy(61) }, tell: func(e *Evidence) { e.Published.Record = "v=DMARC1; p=none; pct=50" }},
	{reason: "lookup_failed", effect: Waits, verdict: NotEnough, world: func() *world { return healthy(61) }, tell: func(e *Evidence) { e.Published = Published{Unknown: true} }},
	{reason: "no_record", effect: Waits, verdict: NotEnough, world: func() *world { return newWorld(61) }, tell: func(e *Evidence) { e.Published = Published{} }},
	{reason: "subdomains_fail", effect: Notes, verdict: NotReady, world: newsFails},
	{reason: "split_subdomain", effect: Good, verdict: NotReady, world: newsFails},
	{reason: "domain_first", effect: Good, verdict: NotReady, world: func() *world {
		return newsFails().send("192.0.2.2", from("shop.acme.example", ownBroken()), 5, 0, 61, 1).send("192.0.2.2", own(), 5, 0, 61, 1)
	}},
	{reason: "subdomains_first", effect: Good, verdict: NotReady, world: func() *world { return healthy(61).send("192.0.2.1", ownBroken(), 1, 0, 61, 1) }},
	{reason: "test_first", effect: Notes, verdict: Ready, world: func() *world { return healthy(61).send("203.0.113.1", forwardBroken(), 5, 0, 61, 1) }},
	{reason: "done", effect: Good, verdict: Done, world: func() *world {
		w := newWorld(100)
		w.policy.P = dmarc.PolicyReject
		return w.send("192.0.2.1", own(), 100, 0, 100, 1)
	}},
	{reason: "no_reports", effect: Waits, verdict: NotEnough, world: func() *world { return newWorld(5) }},
	{reason: "parked", effect: Good, verdict: Ready, world: func() *world { return newWorld(40).send("198.51.100.1", spoof(), 5, 0, 40, 5) }},
	{reason: "parked_wait", effect: Waits, verdict: NotEnough, world: func() *world { return newWorld(20).send("198.51.100.1", spoof(), 5, 0, 20, 5) }},
	{reason: "steady_failing", effect: Waits, verdict: NotEnough, world: func() *world { return newWorld(40).send("198.51.100.1", spoof(), 50, 0, 40, 1) }},
}

// newsFails is a healthy domain of which one subdomain fails.
func newsFails() *world {
	return healthy(61).send("192.0.2.2", from("news.acme.example", ownBroken()), 20, 0, 61, 1).send("192.0.2.2", own(), 5, 0, 61, 1)
}

func TestEveryReasonIsGivenWhereItApplies(t *testing.T) {
	seen := make(map[string]bool)
	verdicts := make(map[Verdict]bool)
	for _, c := range reasonCases {
		t.Run(c.reason, func(t *testing.T) {
			e := c.world().evidence()
			if c.tell != nil {
				c.tell(e)
			}
			a := For(e, Options{Target: c.target})
			if effect, ok := ids(a)[c.reason]; !ok || effect != c.effect || a.Verdict != c.verdict {
				t.Errorf("%s, want %s by %s that %s\nreasons %q", a.Verdict, c.verdict, c.reason, c.effect, a.Reasons)
			}
			for _, r := range a.Reasons {
				if strings.Trim(r.Text[len(r.Text)-1:], ".?") != "" || strings.Contains(r.Text, "%!") || strings.Contains(r.Text, "  ") {
					t.Errorf("%s is no sentence: %q", r.ID, r.Text)
				}
			}
		})
		seen[c.reason], verdicts[c.verdict] = true, true
	}
	// Whoever adds a reason adds a case.
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		code, err := os.ReadFile(filepath.Clean(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"([a-z_]+)", (?:Blocks|Waits|Warns|Good|Notes)`).FindAllStringSubmatch(string(code), -1) {
			if !seen[m[1]] {
				t.Errorf("no case leads to the reason %q", m[1])
			}
		}
	}
	if len(verdicts) != 4 {
		t.Errorf("only the verdicts %v are led to", verdicts)
	}
}

func TestSpoofingChangesNoVerdict(t *testing.T) {
	for _, c := range reasonCases {
		e := c.world().evidence()
		if c.tell != nil {
			c.tell(e)
		}
		before := For(e, Options{Target: c.target})
		if before.Days == 0 || c.reason == "recent_change" || c.reason == "change_was_right" {
			continue // a storm brings the first reports; or has another policy on some days
		}
		w := c.world()
		for i := range 200 {
			address := netip.AddrFrom4([4]byte{byte(20 + i%40), byte(i), 7, 7}).String()
			for _, src := range e.Sources[:1] {
				days := src.SourceDays()
				n := int(days[i%len(days)].Day.Sub(start) / day)
				w.send(address, spoof(), 5000, n, n+1, 1)
			}
		}
		stormy := w.evidence()
		stormy.Published = e.Published
		after := For(stormy, Options{Target: c.target})
		if after.Verdict != before.Verdict {
			t.Errorf("%s: %s became %s: %q", c.reason, before.Verdict, after.Verdict, after.Reasons)
		}
		if after.LossADay != before.LossADay {
			t.Errorf("%s: the loss of own mail became %v from %v", c.reason, after.LossADay, before.LossADay)
		}
	}
}

func TestWhatToPublishNext(t *testing.T) {
	for _, c := range []struct {
		name   string
		world  func() *world
		record string // published; "" for that of the world
		tell   func(*Evidence)
		want   []string
	}{
		{"one level up, every other tag kept", func() *world { return healthy(61) }, "v=DMARC1;p=none ; fo=1;x-new=a;rua=mailto:a@acme.example; adkim=r", nil,
			[]string{"_dmarc.acme.example v=DMARC1; p=quarantine; fo=1; x-new=a; rua=mailto:a@acme.example; adkim=r"}},
		{"never pct", func() *world { return healthy(61) }, "v=DMARC1; p=none; pct=20; rua=mailto:a@acme.example", nil,
			[]string{"_dmarc.acme.example v=DMARC1; p=quarantine; rua=mailto:a@acme.example"}},
		{"tested first where mail is forwarded", func() *world { return healthy(61).send("203.0.113.1", forwardBroken(), 5, 0, 61, 1) }, "", nil,
			[]string{"_dmarc.acme.example v=DMARC1; p=quarantine; t=y; rua=mailto:dmarc@reports.example"}},
		{"the test ends", func() *world {
			w := newWorld(61)
			w.policy.P, w.policy.Testing = dmarc.PolicyQuarantine, new(bool)
			*w.policy.Testing = true
			return w.send("192.0.2.1", own(), 100, 0, 61, 1)
		}, "v=DMARC1; p=quarantine; t=y", func(e *Evidence) { e.Published.Testing = true },
			[]string{"_dmarc.acme.example v=DMARC1; p=quarantine"}},
		{"a subdomain is split off", newsFails, "", nil,
			[]string{"_dmarc.acme.example v=DMARC1; p=quarantine; rua=mailto:dmarc@reports.example", "_dmarc.news.acme.example v=DMARC1; p=none; rua=mailto:dmarc@reports.example"}},
		{"the domain before several subdomains", func() *world {
			return newsFails().send("192.0.2.2", from("shop.acme.example", ownBroken()), 5, 0, 61, 1)
		}, "", nil, []string{"_dmarc.acme.example v=DMARC1; p=quarantine; sp=none; rua=mailto:dmarc@reports.example"}},
		{"subdomains before the domain", func() *world { return healthy(61).send("192.0.2.1", ownBroken(), 1, 0, 61, 1) }, "", nil,
			[]string{"_dmarc.acme.example v=DMARC1; p=none; sp=quarantine; rua=mailto:dmarc@reports.example"}},
		{"and made-up subdomains, where none of them is used", func() *world { return healthy(61).send("192.0.2.1", ownBroken(), 1, 0, 61, 1) }, "",
			func(e *Evidence) { e.Nonexistent = func(name string) bool { return name != "news.acme.example" } },
			[]string{"_dmarc.acme.example v=DMARC1; p=none; sp=quarantine; np=reject; rua=mailto:dmarc@reports.example"}},
		{"but not where one of them may be made up", func() *world {
			return healthy(61).send("192.0.2.1", ownBroken(), 1, 0, 61, 1).send("192.0.2.1", from("news.acme.example", own()), 5, 0, 61, 1)
		}, "",
			func(e *Evidence) {
				e.Nonexistent = func(name string) bool { return name != "news.acme.example" }
				e.Unsure = func(name string) bool { return name == "news.acme.example" }
			}, []string{"_dmarc.acme.example v=DMARC1; p=none; sp=quarantine; rua=mailto:dmarc@reports.example"}},
		{"a domain that sends nothing goes to reject at once", func() *world { return newWorld(40).send("198.51.100.1", spoof(), 5, 0, 40, 5) }, "", nil,
			[]string{"_dmarc.acme.example v=DMARC1; p=reject; rua=mailto:dmarc@reports.example"}},
		{"back by one level", func() *world {
			w := newWorld(100)
			w.policy.P = dmarc.PolicyReject
			return w.send("192.0.2.1", own(), 100, 0, 100, 1).send("192.0.2.1", stopped(dmarc.DispositionReject, ownBroken()), 30, 95, 100, 1)
		}, "", nil, []string{"_dmarc.acme.example v=DMARC1; p=quarantine; rua=mailto:dmarc@reports.example"}},
		{"a first record", func() *world { return newWorld(61) }, "", func(e *Evidence) { e.Published = Published{} },
			[]string{"_dmarc.acme.example v=DMARC1; p=none; rua=mailto:dmarc@reports.example"}},
		{"a record of its own below the organization", func() *world { return healthy(61) }, "v=DMARC1; p=none; sp=none; np=reject; psd=n; rua=mailto:a@example",
			func(e *Evidence) { e.Published.FoundAt = "example" }, []string{"_dmarc.acme.example v=DMARC1; p=quarantine; rua=mailto:a@example"}},
		{"nothing while evidence is missing", func() *world { return healthy(10) }, "", nil, nil},
		{"subdomains last", func() *world {
			w := newWorld(100)
			w.policy.P, w.policy.SP = dmarc.PolicyReject, dmarc.PolicyNone
			return w.send("192.0.2.1", own(), 100, 0, 100, 1)
		}, "v=DMARC1; p=reject; sp=none", nil, []string{"_dmarc.acme.example v=DMARC1; p=reject; sp=quarantine"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := c.world().evidence()
			if c.record != "" {
				e.Published.Record = c.record
			}
			if c.tell != nil {
				c.tell(e)
			}
			a := For(e, Options{})
			var got []string
			for _, p := range a.Publish {
				got = append(got, p.Name+" "+p.Value)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") || (a.Next != nil) != (c.want != nil) {
				t.Errorf("publish\n got %q\nwant %q\nverdict %s, reasons %q", got, c.want, a.Verdict, a.Reasons)
			}
		})
	}
}

func TestWhatToMendFirst(t *testing.T) {
	w := healthy(61)
	w.send("203.0.113.1", service("mailer.example"), 10, 0, 61, 1).send("203.0.113.1", unaligned("mailer.example"), 30, 0, 61, 1)
	w.send("192.0.2.2", own(), 20, 0, 50, 1).send("192.0.2.2", ownBroken(), 20, 50, 61, 1)
	e := w.evidence()
	e.Senders = known{"mailer.example": mailer}
	a := For(e, Options{})
	if len(a.Blockers) != 2 {
		t.Fatalf("%+v", a.Blockers)
	}
	m, o := a.Blockers[0], a.Blockers[1]
	if m.Name != "Mailer" || m.Messages != 1830 || m.Fix != "Ask Mailer for a custom DKIM domain for acme.example." ||
		len(m.Publish) != 1 || m.Publish[0] != (Publication{"k2._domainkey.acme.example", "CNAME", "dkim.mailer.example"}) || !m.Since.IsZero() {
		t.Errorf("%+v", m)
	}
	if o.Name != "192.0.2.2" || o.Messages != 220 || !o.Since.Equal(start.AddDate(0, 0, 50)) || !strings.Contains(o.Cause, "k1._domainkey.acme.example") {
		t.Errorf("%+v", o)
	}
	if sum := m.Removes + o.Removes; sum < 0.999 || sum > 1.001 || m.Removes < 0.89 || m.Removes > 0.90 {
		t.Errorf("removes %v and %v", m.Removes, o.Removes)
	}
}

func TestTheFixFitsTheCause(t *testing.T) {
	missed := spoof()
	temporary := ownBroken()
	temporary.AuthDKIM[0].Result = dmarc.ResultTempError
	bare := dmarc.Row{HeaderFrom: "acme.example", DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail}
	for _, c := range []struct {
		name       string
		row        dmarc.Row
		cause, fix string
	}{
		{"MAIL FROM is yours", missed, "your SPF record does not cover it", "ip4:192.0.2.2"},
		{"somebody else's names", unaligned("x.example"), "authenticates as x.example", "sign with DKIM for acme.example"},
		{"a broken signature", ownBroken(), "k1._domainkey.acme.example do not pass", "in DNS"},
		{"lookups fail", temporary, "for the moment", "name servers"},
		{"nothing at all", bare, "neither signs", "ip4:192.0.2.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := For(healthy(61).send("192.0.2.2", own(), 2, 0, 61, 1).send("192.0.2.2", c.row, 9, 0, 61, 1).evidence(), Options{})
			if len(a.Blockers) != 1 || !strings.Contains(a.Blockers[0].Cause, c.cause) || !strings.Contains(a.Blockers[0].Fix, c.fix) {
				t.Errorf("%+v", a.Blockers)
			}
		})
	}
}
