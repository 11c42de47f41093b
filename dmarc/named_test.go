package dmarc

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// What is counted is what a report told: which names can have aligned the
// messages of a row, and nothing of those that are aligned strictly.
func TestMailIsCountedByTheNamesThatAuthenticatedIt(t *testing.T) {
	day := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	sign := func(domains ...string) (all []DKIMResult) {
		for _, d := range domains {
			all = append(all, DKIMResult{Domain: d, Selector: "s", Result: ResultPass})
		}
		return all
	}
	spf := func(domain string) []SPFResult {
		return []SPFResult{{Domain: domain, Scope: "mfrom", Result: ResultPass}}
	}
	for name, c := range map[string]struct {
		rows []Row
		want string
	}{
		"strict": {[]Row{{Count: 9, HeaderFrom: "corp.test", DKIM: ResultPass, SPF: ResultFail, AuthDKIM: sign("corp.test", "a.corp.test")}}, "[]"},
		"relaxed": {[]Row{{Count: 3, HeaderFrom: "corp.test", DKIM: ResultPass, SPF: ResultPass, AuthDKIM: sign("a.corp.test"), AuthSPF: spf("b.corp.test")}},
			"[{corp.test [a.corp.test] [b.corp.test] 3}]"},
		"foreign": {[]Row{{Count: 3, HeaderFrom: "corp.test", DKIM: ResultFail, SPF: ResultFail, AuthDKIM: sign("mailer.example"), AuthSPF: spf("bounce.example")}},
			"[{corp.test [mailer.example] [bounce.example] 3}]"},
		"relaxed and foreign": {[]Row{{Count: 3, HeaderFrom: "hr.corp.test", DKIM: ResultPass, SPF: ResultFail, AuthDKIM: sign("a.corp.test", "mailer.example"), AuthSPF: spf("bounce.example")}},
			"[{hr.corp.test [a.corp.test] [bounce.example] 3}]"},
		"nothing": {[]Row{{Count: 3, HeaderFrom: "corp.test", DKIM: ResultFail, SPF: ResultFail}}, "[]"},
		"a verdict by another method": {[]Row{{Count: 3, HeaderFrom: "corp.test", DKIM: ResultFail, SPF: ResultFail, AuthDKIM: sign("a.corp.test")}},
			"[{corp.test [a.corp.test] [] 3}]"},
		"two kinds of mail of one source": {[]Row{
			{Count: 3, HeaderFrom: "corp.test", DKIM: ResultPass, SPF: ResultFail, AuthDKIM: sign("a.corp.test")},
			{Count: 4, HeaderFrom: "corp.test", DKIM: ResultFail, SPF: ResultFail, AuthDKIM: sign("mailer.example")},
			{Count: 5, HeaderFrom: "corp.test", DKIM: ResultPass, SPF: ResultFail, AuthDKIM: sign("corp.test")},
		}, "[{corp.test [mailer.example] [] 4} {corp.test [a.corp.test] [] 3}]"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := &PolicyPublished{Domain: "corp.test", P: PolicyReject, ADKIM: AlignmentRelaxed, ASPF: AlignmentRelaxed}
			attribution, _ := Period{Begin: day, End: day.Add(24*time.Hour - 1)}.Attribute(day.Add(30 * time.Hour))
			var f FactReducer
			for i := range c.rows {
				c.rows[i].Source = netip.MustParseAddr("192.0.2.1")
				f.Add(&c.rows[i], policy, attribution, 1)
			}
			var count NameCounter
			facts := FactsBySource(f.Days())
			for i := range facts {
				for d := range facts[i].Days() {
					count.Add(d, "corp.test")
				}
			}
			if got := fmt.Sprint(count.Mail()); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
