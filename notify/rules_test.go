package notify

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

var today = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

func ago(days int) time.Time { return today.AddDate(0, 0, -days) }

// A story plays what a rule sees from one look to the next, and says in words what
// people are told.
type story struct {
	open map[key]dmarc.Episode
}

func (s *story) look(now time.Time, judge func(open map[key]dmarc.Episode) []sighting) string {
	if s.open == nil {
		s.open = make(map[key]dmarc.Episode)
	}
	var told []string
	for _, step := range transit(s.open, judge(s.open), now) {
		k := key{step.Event.Rule, step.Event.Domain, step.Event.Subject}
		if step.Event.Phase == dmarc.EventBegan {
			s.open[k] = step.Episode
		} else {
			delete(s.open, k)
		}
		if !step.Quiet {
			told = append(told, string(step.Event.Phase)+": "+step.Event.Title)
		}
	}
	return strings.Join(told, "; ")
}

func TestSPFNearItsLimitIsToldOnceAndWhenThereIsRoomAgain(t *testing.T) {
	set := DefaultSettings()
	var s story
	for _, c := range []struct {
		lookups int
		want    string
	}{
		{7, ""},
		{8, ""}, // near, but not told yet
		{9, "began: acme.example: SPF is near its limit"},
		{9, ""},
		{8, ""}, // neither
		{9, ""},
		{-1, ""}, // it could not be looked up
		{12, ""},
		{8, ""},
		{7, "over: acme.example: SPF has room again"},
		{7, ""},
		{8, ""},
		{11, "began: acme.example: SPF is over its limit"},
	} {
		got := s.look(today, func(open map[key]dmarc.Episode) []sighting {
			return set.judgeLook(&dmarc.LookDevelopment{Domain: "acme.example", Lookups: c.lookups}, open)
		})
		if got != c.want {
			t.Errorf("%d lookups: told %q, want %q", c.lookups, got, c.want)
		}
	}
}

func TestABrokenRecordIsMendedOnlyWhenThatIsSeen(t *testing.T) {
	set := DefaultSettings()
	var s story
	broken := []dmarc.LookError{{Check: "dmarc.none", Subject: "acme.example", What: "there is no DMARC record", Fix: "publish one"}}
	for _, c := range []struct {
		name   string
		errors []dmarc.LookError
		failed bool
		want   string
	}{
		{"all is well", nil, false, ""},
		{"it breaks", broken, false, "began: acme.example: a record is broken"},
		{"it stays so", broken, false, ""},
		{"DNS does not answer", nil, true, ""},
		{"it is mended", nil, false, "over: acme.example: a record is mended"},
		{"it stays so", nil, false, ""},
		{"it breaks again", broken, true, "began: acme.example: a record is broken"},
	} {
		got := s.look(today, func(open map[key]dmarc.Episode) []sighting {
			return set.judgeLook(&dmarc.LookDevelopment{Domain: "acme.example", Lookups: -1, Failed: c.failed, Errors: c.errors}, open)
		})
		if got != c.want {
			t.Errorf("%s: told %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAFallenPassRateIsMeasuredAgainstWhatWasUsualBefore(t *testing.T) {
	set := DefaultSettings()
	var s story
	source := func(recent, recentPassed, before, beforePassed int64) *dmarc.Developments {
		return &dmarc.Developments{Domain: "acme.example", Sources: []dmarc.SourceDevelopment{
			{Source: netip.MustParseAddr("192.0.2.1"), Recent: dmarc.Passing{Messages: recent, Passed: recentPassed}, Before: dmarc.Passing{Messages: before, Passed: beforePassed}},
			// Of a forger: it never passed, and counts for nothing.
			{Source: netip.MustParseAddr("192.0.2.66"), Recent: dmarc.Passing{Messages: 100_000}, Before: dmarc.Passing{Messages: 100_000}},
		}}
	}
	for _, c := range []struct {
		name string
		d    *dmarc.Developments
		want string
	}{
		{"as usual", source(1000, 990, 10_000, 9_900), ""},
		{"4 points less", source(1000, 950, 10_000, 9_900), ""},
		{"little mail", source(50, 0, 10_000, 9_900), ""},
		{"9 points less", source(1000, 900, 10_000, 9_900), "began: acme.example: less of your own mail passes"},
		{"4 points less", source(1000, 950, 10_000, 9_900), ""},
		{"what was usual has come down with it", source(1000, 910, 10_000, 9_100), ""},
		{"little mail", source(50, 50, 10_000, 9_100), ""},
		{"2 points less than what was usual", source(1000, 970, 10_000, 9_100), "over: acme.example: your own mail passes again"},
		{"as usual", source(1000, 970, 10_000, 9_100), ""},
	} {
		got := s.look(today, func(open map[key]dmarc.Episode) []sighting { return set.judgePassRate(c.d, open) })
		if got != c.want {
			t.Errorf("%s: told %q, want %q", c.name, got, c.want)
		}
	}
}

func TestClassedSourcesAreTheDomainsOwn(t *testing.T) {
	d := &dmarc.Developments{Domain: "acme.example", Sources: []dmarc.SourceDevelopment{
		{Class: dmarc.ClassOwn, Recent: dmarc.Passing{Messages: 10, Passed: 9}, Before: dmarc.Passing{Messages: 100, Passed: 50}},
		{Class: dmarc.ClassService, Recent: dmarc.Passing{Messages: 20, Passed: 1}, Before: dmarc.Passing{Messages: 200, Passed: 10}},
		{Class: dmarc.ClassForwarder, Recent: dmarc.Passing{Messages: 40, Passed: 40}, Before: dmarc.Passing{Messages: 400, Passed: 400}},
		{Class: dmarc.ClassSuspicious, Recent: dmarc.Passing{Messages: 80}, Before: dmarc.Passing{Messages: 800}},
		{Class: dmarc.ClassUnknown, Recent: dmarc.Passing{Messages: 160, Passed: 160}, Before: dmarc.Passing{Messages: 1600, Passed: 1600}},
	}}
	recent, before := own(d)
	if recent != (dmarc.Passing{Messages: 30, Passed: 10}) || before != (dmarc.Passing{Messages: 300, Passed: 60}) {
		t.Errorf("own sources did %+v lately and %+v before", recent, before)
	}
}

func TestAReporterIsMissedOnceAndWelcomedBackOnce(t *testing.T) {
	set := DefaultSettings()
	var s story
	others := dmarc.ReporterDevelopment{Name: "google.com", Last: ago(-30), Days: 28} // goes on all the time
	for _, c := range []struct {
		name string
		day  time.Time
		last time.Time
		days int
		also []dmarc.ReporterDevelopment
		want string
	}{
		{"it reports", ago(0), ago(1), 28, []dmarc.ReporterDevelopment{others}, ""},
		{"silent for six days", ago(-5), ago(1), 28, []dmarc.ReporterDevelopment{others}, ""},
		{"nobody reports: that is another matter", ago(-6), ago(1), 28, nil, ""},
		{"it was rare", ago(-6), ago(1), 5, []dmarc.ReporterDevelopment{others}, ""},
		{"silent for seven", ago(-6), ago(1), 28, []dmarc.ReporterDevelopment{others}, "began: acme.example: Yahoo has stopped reporting"},
		{"silent for nine", ago(-8), ago(1), 28, []dmarc.ReporterDevelopment{others}, ""},
		{"an old report comes late", ago(-8), ago(0), 28, []dmarc.ReporterDevelopment{others}, ""},
		{"it is back", ago(-9), ago(-8), 3, []dmarc.ReporterDevelopment{others}, "over: acme.example: Yahoo reports again"},
		{"it stays", ago(-10), ago(-9), 4, []dmarc.ReporterDevelopment{others}, ""},
	} {
		d := &dmarc.Developments{Domain: "acme.example", Reporters: append([]dmarc.ReporterDevelopment{{Name: "Yahoo", Last: c.last, Days: c.days}}, c.also...)}
		got := s.look(c.day, func(open map[key]dmarc.Episode) []sighting { return set.judgeReporters(d, c.day, open) })
		if got != c.want {
			t.Errorf("%s: told %q, want %q", c.name, got, c.want)
		}
	}
}

func TestASourceIsNewOnce(t *testing.T) {
	set := DefaultSettings()
	judge := func(d *dmarc.Developments, day time.Time) func(map[key]dmarc.Episode) []sighting {
		return func(open map[key]dmarc.Episode) []sighting {
			var of []dmarc.Episode
			for _, e := range open {
				of = append(of, e)
			}
			return set.judgeSources(d, day, of)
		}
	}
	source := func(first time.Time, messages, passed int64) *dmarc.Developments {
		return &dmarc.Developments{Domain: "acme.example", First: ago(400), Sources: []dmarc.SourceDevelopment{
			{Source: netip.MustParseAddr("2001:db8::1"), First: first, Week: dmarc.Passing{Messages: messages, Passed: passed}},
		}}
	}
	young := source(ago(1), 1000, 0)
	young.First = ago(10)
	var s story
	for _, c := range []struct {
		name string
		d    *dmarc.Developments
		day  time.Time
		want string
	}{
		{"a domain of ten days: everything is new", young, ago(0), ""},
		{"it is old", source(ago(60), 1000, 0), ago(0), ""},
		{"it sends little", source(ago(1), 99, 0), ago(0), ""},
		{"it sends much", source(ago(1), 100, 0), ago(0), "began: acme.example: a new sender whose mail fails"},
		{"a day later", source(ago(1), 5000, 3000), ago(-1), ""},
		{"less again", source(ago(1), 50, 0), ago(-5), ""},
		{"it goes on", source(ago(1), 500, 0), ago(-50), ""},
		{"it is known for long", source(ago(-3), 0, 0), ago(-98), ""},
		{"after months of silence", source(ago(-210), 100, 100), ago(-212), "began: acme.example: a new sender"},
	} {
		if got := s.look(c.day, judge(c.d, c.day)); got != c.want {
			t.Errorf("%s: told %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAMailboxIsMissedAfterSomeTime(t *testing.T) {
	set := DefaultSettings()
	var s story
	at := func(minutes int) time.Time { return today.Add(time.Duration(minutes) * time.Minute) }
	for _, c := range []struct {
		name string
		now  time.Time
		h    dmarc.MailboxHealth
		want string
	}{
		{"it is read", at(0), dmarc.MailboxHealth{OK: at(0), Seen: at(0)}, ""},
		{"it fails", at(5), dmarc.MailboxHealth{OK: at(0), Failing: at(5), Error: "connection refused", Seen: at(5)}, ""},
		{"it is read again", at(10), dmarc.MailboxHealth{OK: at(10), Seen: at(10)}, ""},
		{"it fails for long", at(50), dmarc.MailboxHealth{OK: at(10), Failing: at(20), Error: "connection refused", Seen: at(50)}, "began: Mailbox reports cannot be read"},
		{"and on", at(60), dmarc.MailboxHealth{OK: at(10), Failing: at(20), Error: "timeout", Seen: at(60)}, ""},
		{"it is read again", at(70), dmarc.MailboxHealth{OK: at(70), Seen: at(70)}, "over: Mailbox reports can be read again"},
		{"it fails for long", at(200), dmarc.MailboxHealth{OK: at(70), Failing: at(100), Error: "no such user", Seen: at(200)}, "began: Mailbox reports cannot be read"},
		{"nobody reads it any more", at(200 + 25*60), dmarc.MailboxHealth{OK: at(70), Failing: at(100), Error: "no such user", Seen: at(200)}, ""},
		{"it is configured again", at(10_000), dmarc.MailboxHealth{OK: at(10_000), Seen: at(10_000)}, ""},
	} {
		c.h.Mailbox = "reports"
		got := s.look(c.now, func(open map[key]dmarc.Episode) []sighting { return []sighting{set.judgeMailbox(&c.h, c.now, open)} })
		if got != c.want {
			t.Errorf("%s: told %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRefusedMessagesAreToldOfUntilThereAreHalfAsMany(t *testing.T) {
	set := DefaultSettings()
	var s story
	for _, c := range []struct {
		messages int64
		want     string
	}{
		{0, ""}, {9, ""}, {10, "began: 10 messages refused in a day"}, {12, ""}, {6, ""}, {10, ""}, {5, "over: Messages are read again"}, {9, ""}, {11, "began: 11 messages refused in a day"},
	} {
		got := s.look(today, func(map[key]dmarc.Episode) []sighting {
			return []sighting{set.judgeRefused(map[dmarc.Outcome]int64{dmarc.OutcomeBadXML: c.messages})}
		})
		if got != c.want {
			t.Errorf("%d messages: told %q, want %q", c.messages, got, c.want)
		}
	}
}

func TestOnlyChangesOfRecordsAboutMailAreTold(t *testing.T) {
	change := func(name, kind string, before, after []string) *dmarc.ChangedRecord {
		return &dmarc.ChangedRecord{Domain: "mail.acme.example", RecordChange: dmarc.RecordChange{SeenAt: today, Name: name, Type: kind, Before: before, After: after}}
	}
	for _, c := range []struct {
		name  string
		c     *dmarc.ChangedRecord
		title string // "" for not worth it
	}{
		{"policy", change("_dmarc.mail.acme.example", "TXT", []string{`"v=DMARC1; p=none"`}, []string{`"v=DMARC1; p=reject"`}), "mail.acme.example: the TXT record of _dmarc.mail.acme.example has changed"},
		{"key gone", change("k1._domainkey.acme.example", "TXT", []string{`"v=DKIM1; p=x"`}, nil), "mail.acme.example: the TXT record of k1._domainkey.acme.example is gone"},
		{"new SPF", change("mail.acme.example", "TXT", []string{`"google-site-verification=1"`}, []string{`"v=spf1 -all"`, `"google-site-verification=1"`}), "mail.acme.example: there is a TXT record at mail.acme.example now"},
		{"proof for a service", change("mail.acme.example", "TXT", []string{`"v=spf1 -all"`}, []string{`"google-site-verification=1"`, `"v=spf1 -all"`}), ""},
		{"address", change("mx.acme.example", "A", []string{"192.0.2.1"}, []string{"192.0.2.2"}), ""},
		{"of others", change("_spf.service.example", "TXT", []string{`"v=spf1 ip4:192.0.2.1 -all"`}, []string{`"v=spf1 -all"`}), ""},
		{"order", change("acme.example", "MX", []string{"10 a.", "20 b."}, []string{"20 b.", "10 a."}), ""},
	} {
		e, worth := changeEvent(c.c)
		if !worth {
			e.Title = ""
		}
		if e.Title != c.title {
			t.Errorf("%s: %q, want %q", c.name, e.Title, c.title)
		}
	}
}

func TestRulesKeepToTheirDomains(t *testing.T) {
	set := DefaultSettings()
	set.Domains[dmarc.RuleSPFLimit] = []string{"acme.example"}
	set.On[dmarc.RuleRecordBroke] = false
	for domain, want := range map[string]bool{"acme.example": true, "mail.acme.example": true, "notacme.example": false, "example": false} {
		if got := len(set.judgeLook(&dmarc.LookDevelopment{Domain: domain, Lookups: 9, Errors: []dmarc.LookError{{Check: "x"}}}, nil)) == 1; got != want {
			t.Errorf("%s is looked at: %v, want %v", domain, got, want)
		}
	}
}

func TestAFloodBecomesOneMessageThatCounts(t *testing.T) {
	var events []dmarc.Event
	for i := range 5000 {
		e := dmarc.Event{ID: int64(i + 1), At: today, Rule: dmarc.RuleReporterStopped, Domain: fmt.Sprintf("c%d.example", i), Phase: dmarc.EventBegan, Title: fmt.Sprintf("c%d.example: Yahoo has stopped reporting", i), Text: strings.Repeat("x", 5000)}
		if i == 4321 {
			e.Rule, e.Problem, e.Title = dmarc.RuleRecordBroke, true, "c4321.example: a record is broken"
		}
		events = append(events, e)
	}
	n := &Notifier{Targets: []Target{{Name: "ops"}, {Name: "one", Domains: []string{"c7.example"}}, {Name: "none", Rules: []dmarc.NotifyRule{dmarc.RuleMailbox}}}}
	out, err := n.compose(events)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != 2 || out[0].Target != "ops" || len(out[0].Events) != 5000 || out[1].Target != "one" || !reflect.DeepEqual(out[1].Events, []int64{8}) {
		t.Fatalf("%d messages", len(out))
	}
	m := compose(events, "https://dmarc.example")
	if want := "4,999 reporters have stopped, 1 record is broken"; m.Title != want {
		t.Errorf("title %q, want %q", m.Title, want)
	}
	if len(m.Events) != eventsInJSON || m.Events[0].Rule != "record_broke" || m.Events[0].Link != "https://dmarc.example/domains/c4321.example/dns" || m.Count != 5000 {
		t.Errorf("%d events, first %+v", len(m.Events), m.Events[0])
	}
	if !strings.HasSuffix(m.Text, "And 4,980 more: 4,980 reporters have stopped.\nAll of them: https://dmarc.example") || len(out[0].Body) > 1<<20 {
		t.Errorf("%d bytes, text ends %q", len(out[0].Body), m.Text[len(m.Text)-100:])
	}
}

func TestStrangersCannotShapeMessages(t *testing.T) {
	d := &dmarc.Developments{Domain: "acme.example", Reporters: []dmarc.ReporterDevelopment{
		{Name: "evil\r\nBcc: all@example.com\x1b[31m\u202e", Last: ago(10), Days: 28}, {Name: "google.com", Last: ago(1), Days: 28},
	}}
	set := DefaultSettings()
	steps := transit(nil, set.judgeReporters(d, today, nil), today)
	if len(steps) != 1 {
		t.Fatalf("%d steps", len(steps))
	}
	e := &steps[0].Event
	if strings.ContainsFunc(e.Title, func(r rune) bool { return r < ' ' || r == '\u202e' }) || strings.ContainsAny(e.Text, "\r\x1b\u202e") {
		t.Errorf("title %q, text %q", e.Title, e.Text)
	}
}

func TestEveryRuleHasWordsToBeCountedBy(t *testing.T) {
	for _, r := range dmarc.NotifyRules {
		if len(kinds[r]) == 0 {
			t.Errorf("%s has none", r)
		}
	}
	if len(kinds) != len(dmarc.NotifyRules) || !slices.IsSorted(services()) {
		t.Errorf("%d rules", len(kinds))
	}
}

func TestAVerdictIsToldOnceItHasLasted(t *testing.T) {
	open := make(map[key]dmarc.Episode)
	hour := func(n int) time.Time { return today.Add(time.Duration(n) * time.Hour) }
	for _, c := range []struct {
		name            string
		now             time.Time
		target, verdict string
		want            string
	}{
		{"the first one", hour(0), "p=quarantine", "not_ready", ""},
		{"as before", hour(1), "p=quarantine", "not_ready", ""},
		{"ready, for now", hour(2), "p=quarantine", "ready", ""},
		{"not after all", hour(10), "p=quarantine", "not_ready", ""},
		{"ready again", hour(11), "p=quarantine", "ready", ""},
		{"it lasts", hour(34), "p=quarantine", "ready", ""},
		{"for a day", hour(35), "p=quarantine", "ready", "acme.example: ready for p=quarantine"},
		{"and on", hour(36), "p=quarantine", "ready", ""},
		{"the owner moves on", hour(40), "p=reject", "not_enough_evidence", ""},
		{"for a day", hour(64), "p=reject", "not_enough_evidence", ""},
		{"something fails", hour(65), "p=reject", "not_ready", ""},
		{"for a day", hour(90), "p=reject", "not_ready", "acme.example: not ready for p=reject any more"},
		{"the owner moves back, ready", hour(91), "p=quarantine", "ready", ""},
		{"for a day", hour(120), "p=quarantine", "ready", "acme.example: ready for p=quarantine"},
	} {
		var episodes []dmarc.Episode
		for _, e := range open {
			episodes = append(episodes, e)
		}
		var told []string
		for _, step := range judgeVerdict(&dmarc.DomainVerdict{Domain: "acme.example", Target: c.target, Verdict: c.verdict, Sentence: "x"}, episodes, c.now) {
			k := key{step.Event.Rule, step.Event.Domain, step.Event.Subject}
			if _, isOpen := open[k]; isOpen != (step.Event.Phase == dmarc.EventOver) {
				t.Fatalf("%s: %s of %q, which is open: %v", c.name, step.Event.Phase, k.subject, isOpen)
			}
			if step.Event.Phase == dmarc.EventOver {
				delete(open, k)
			} else {
				open[k] = step.Episode
			}
			if !step.Quiet {
				told = append(told, step.Event.Title)
			}
		}
		if got := strings.Join(told, "; "); got != c.want {
			t.Errorf("%s: told %q, want %q", c.name, got, c.want)
		}
		if len(open) > 2 {
			t.Errorf("%s: %d episodes are open", c.name, len(open))
		}
	}
}
