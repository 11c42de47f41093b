package sample

import (
	"fmt"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A scene is the domains that the reports are about, and today.
type scene struct {
	first   time.Time // midnight of the first day that is reported on
	today   time.Time
	domains []*domain
}

// A domain is a policy domain and what is sent in its name. Ages are in days
// before today.
type domain struct {
	name     string
	story    string  // its label
	stages   []stage // the oldest first
	senders  []sender
	silent   map[string]int // from which age on a reporter, by org_name, has sent nothing
	tls      tlsStory
	failures []int // ages of the days about which a failure report comes
}

// A stage is the policy that is published from an age on.
type stage struct {
	age int
	dmarc.PolicyPublished
}

// age returns how many days before today a time lies.
func (s *scene) age(at time.Time) int {
	return int(s.today.Sub(at.Truncate(aDay)) / aDay)
}

// policy returns what is published at an age.
func (d *domain) policy(age int) *dmarc.PolicyPublished {
	at := 0
	for i := range d.stages {
		if age <= d.stages[i].age {
			at = i
		}
	}
	return &d.stages[at].PolicyPublished
}

// newScene sets up the domains.
func newScene(opts Options) *scene {
	today := opts.Now.Truncate(aDay)
	s := &scene{first: today.AddDate(0, 0, -opts.Days), today: today}
	for i := range opts.Domains {
		story := stories[i%len(stories)]
		name, scale := story.label+".example", opts.Scale
		if round := i / len(stories); round > 0 {
			name = fmt.Sprintf("%s-%d.example", story.label, round+1)
			scale /= float64(1 + round) // few large domains, many small ones
		}
		d := story.tell(name)
		d.name, d.story = name, story.label
		for j := range d.stages {
			d.stages[j].Domain = name
		}
		for j := range d.senders {
			d.senders[j].perDay *= scale
		}
		s.domains = append(s.domains, d)
	}
	return s
}

// The stories, in the order in which domains get them.
var stories = []struct {
	label string
	tell  func(name string) *domain
}{
	{"acme", shop},
	{"north", firm},
	{"river", group},
	{"harbor", club},
	{"parked", parked},
}

// shop has everything that must be mended before a policy can be enforced: a
// billing service that was never aligned, and a newsletter service whose DKIM
// key has been gone for six days.
func shop(name string) *domain {
	own := ownServers(name, 3200, "192.0.2.10", "192.0.2.11", "2001:db8:10::25")
	own.growth = 0.3
	bounces := own
	bounces.perDay, bounces.mailFrom = 60, ""
	bounces.spf = []dmarc.SPFResult{{Domain: "mx1." + name, Scope: "helo", Result: dmarc.ResultPass}}
	letters := service(name, "mailgarden.example", "mg1", 4500, "198.51.100.16", 6)
	letters.growth, letters.peaks = 0.5, []time.Weekday{time.Tuesday, time.Thursday}
	customers := service(name, "rolodeck.example", "rd", 900, "198.51.100.40", 3)
	helpDesk := service(name, "answerline.example", "al2", 420, "198.51.100.48", 2)
	helpDesk.growth = 0.8
	billing := service(name, "paperplane.example", "", 380, "198.51.100.64", 2)
	billing.monthEnd = true
	const keyGone = 6
	news := service(name, "newsbird.example", "nb2", 1500, "198.51.100.80", 3)
	news.until = keyGone
	broken := withoutKey(news)
	broken.since, broken.until = keyGone, 0
	return &domain{
		stages: []stage{{0, published("none", "", "")}},
		senders: []sender{
			own, bounces, letters, customers, helpDesk, billing, news, broken,
			forwarders(name, 140), lists(name, 35), spoofers(name, 120, 60),
			campaign(name, 71, 3, 1500, 160), campaign(name, 38, 4, 2100, 240), campaign(name, 12, 2, 2600, 300),
		},
		tls:      tlsStory{sessions: 5200, expired: []int{41, 40, 39}},
		failures: []int{66, 38, 12, 3},
	}
}

// firm went from none by way of quarantine to reject, and lost none of its own
// mail on the way.
func firm(name string) *domain {
	helpDesk := service(name, "answerline.example", "al1", 120, "198.51.100.48", 2)
	letters := service(name, "mailgarden.example", "mg1", 250, "198.51.100.16", 4)
	letters.peaks = []time.Weekday{time.Wednesday}
	quarantine, half := published("quarantine", "", ""), 50
	gently := quarantine
	gently.Pct = &half
	return &domain{
		stages: []stage{{90, published("none", "", "")}, {62, gently}, {54, quarantine}, {24, published("reject", "", "")}},
		senders: []sender{
			ownServers(name, 550, "192.0.2.34", "2001:db8:22::25"), helpDesk, letters,
			forwarders(name, 30), lists(name, 6), spoofers(name, 60, 40),
			campaign(name, 80, 3, 700, 90), campaign(name, 50, 3, 900, 120), campaign(name, 17, 4, 1100, 150), campaign(name, 3, 2, 800, 120),
		},
		tls:      tlsStory{sessions: 640, badPolicy: []int{20, 19}},
		failures: []int{49, 16},
	}
}

// group sends from subdomains, has policies of their own for those, and a
// large reporter that has been silent for nine days.
func group(name string) *domain {
	shop := ownServers("shop."+name, 900, "192.0.2.66", "2001:db8:42::66")
	shop.growth = 0.6
	letters := service("news."+name, "mailgarden.example", "mg2", 700, "198.51.100.16", 4)
	letters.peaks = []time.Weekday{time.Friday}
	// An old application that nobody dares to touch: SPF only.
	old := ownServers("orders."+name, 140, "192.0.2.90")
	old.dkim = nil
	login := campaign(name, 57, 3, 1300, 150)
	login.from, login.made = "secure-login."+name, true
	parcel := campaign(name, 27, 4, 1700, 220)
	parcel.from, parcel.made = "parcel-service."+name, true
	return &domain{
		stages: []stage{{0, published("quarantine", "reject", "reject")}},
		senders: []sender{
			ownServers(name, 1600, "192.0.2.64", "192.0.2.65", "2001:db8:42::64", "2001:db8:42::65"), shop, letters, old,
			forwarders(name, 90), lists(name, 25), spoofers(name, 70, 50), login, parcel, campaign(name, 8, 2, 900, 120),
		},
		silent:   map[string]int{"Yahoo": 9},
		failures: []int{56, 26},
	}
}

// club sends little, and much of it through mailing lists; it has tested
// reject for long, and enforced it for twenty days. A scanner in its office
// has been forgotten.
func club(name string) *domain {
	letters := service(name, "newsbird.example", "nb1", 90, "198.51.100.80", 3)
	letters.peaks = []time.Weekday{time.Monday}
	scanner := ownServers(name, 8, "192.0.2.143")
	scanner.dkim = nil
	scanner.spf = []dmarc.SPFResult{{Domain: name, Scope: "mfrom", Result: dmarc.ResultSoftFail}}
	testing, enforced, yes, no := published("reject", "", ""), published("reject", "", ""), true, false
	testing.Testing, enforced.Testing = &yes, &no
	return &domain{
		stages: []stage{{90, testing}, {20, enforced}},
		senders: []sender{
			ownServers(name, 130, "192.0.2.130", "2001:db8:82::25"), letters, scanner,
			forwarders(name, 45), lists(name, 60), spoofers(name, 15, 20), campaign(name, 30, 2, 350, 60),
		},
		failures: []int{29},
	}
}

// parked sends no mail at all: whatever comes in its name is forged.
func parked(name string) *domain {
	policy := published("reject", "reject", "reject")
	policy.ADKIM, policy.ASPF = dmarc.AlignmentStrict, dmarc.AlignmentStrict
	invoices := campaign(name, 33, 3, 1900, 260)
	invoices.from, invoices.made = "invoices."+name, true
	return &domain{
		stages: []stage{{0, policy}},
		senders: []sender{
			spoofers(name, 40, 40), campaign(name, 76, 4, 1400, 200), campaign(name, 52, 2, 2300, 300), invoices, campaign(name, 6, 3, 2000, 280),
		},
	}
}

// published returns a policy, with nothing for subdomains where those are "".
func published(p, sp, np string) dmarc.PolicyPublished {
	all := 100
	return dmarc.PolicyPublished{
		ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed,
		P: dmarc.ParsePolicy(p), SP: dmarc.ParsePolicy(sp), NP: dmarc.ParsePolicy(np),
		Pct: &all, FO: "1",
	}
}
