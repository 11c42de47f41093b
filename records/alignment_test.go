package records

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

func named(author, dkim, spf string, messages int64) dmarc.NamedMail {
	return dmarc.NamedMail{Author: author, DKIM: strings.Fields(dkim), SPF: strings.Fields(spf), Messages: messages}
}

var _ = addCases(
	zoneCase{name: "alignment: an organization of its own below", domain: "align-psd.test", zone: "a.eu A 192.0.2.9\n" + txt("_dmarc", "v=DMARC1; p=reject") + txt("_dmarc.eu", "v=DMARC1; p=none; psd=n"),
		o: Options{Reported: &Reported{Named: []dmarc.NamedMail{named("align-psd.test", "a.eu.align-psd.test", "", 12)}}}, want: []string{"dmarc.one_method"}},
	zoneCase{name: "alignment: one organization", domain: "align-one.test", zone: "a.eu A 192.0.2.9\n" + txt("_dmarc", "v=DMARC1; p=reject") + txt("_dmarc.eu", "v=DMARC1; p=none"),
		o: Options{Reported: &Reported{Named: []dmarc.NamedMail{named("align-one.test", "a.eu.align-one.test", "mailer.example", 12)}}}, not: []string{"dmarc.one_method"}},
	zoneCase{name: "alignment: the walk cannot be finished", domain: "align-fails.test", zone: "a.eu A 192.0.2.9\n" + txt("_dmarc", "v=DMARC1; p=reject"), fails: []string{"_dmarc.eu.align-fails.test"},
		o: Options{Reported: &Reported{Named: []dmarc.NamedMail{named("align-fails.test", "a.eu.align-fails.test", "", 12)}}}, want: []string{"dns.lookup_failed"}, not: []string{"dmarc.one_method"}},
)

// Mail is counted as aligned by one method only where the other would not align
// it, however many names it has.
func TestMailIsAlignedByOneMethodOrBoth(t *testing.T) {
	zones := map[string]string{
		"corp.test": apex + txt("_dmarc", "v=DMARC1; p=reject") + txt("_dmarc.eu", "v=DMARC1; p=none; psd=n") + "a.eu A 192.0.2.1\nhr A 192.0.2.2\n",
		"bank.test": apex + txt("_dmarc", "v=DMARC1; p=reject; psd=y") + "one A 192.0.2.5\nx.two A 192.0.2.6\n",
		"co.uk":     apex + txt("_dmarc", "v=DMARC1; p=reject") + "u A 192.0.2.3\nv A 192.0.2.4\n",
	}
	for name, c := range map[string]struct {
		domain, record string // record: that of the domain, if it is not as above
		mail           []dmarc.NamedMail
		want           string // of each finding: messages, and "list" or "walk"
	}{
		"one organization":                   {"corp.test", "", []dmarc.NamedMail{named("corp.test", "hr.corp.test", "", 5)}, ""},
		"two by the walk":                    {"corp.test", "", []dmarc.NamedMail{named("corp.test", "a.eu.corp.test", "", 5)}, "5 list"},
		"by SPF":                             {"corp.test", "", []dmarc.NamedMail{named("corp.test", "", "a.eu.corp.test", 5)}, "5 list"},
		"another name speaks for it as well": {"corp.test", "", []dmarc.NamedMail{named("corp.test", "a.eu.corp.test", "hr.corp.test", 5)}, ""},
		"a name of two may":                  {"corp.test", "", []dmarc.NamedMail{named("corp.test", "a.eu.corp.test hr.corp.test", "", 5)}, "up to 5 list"},
		"some for sure":                      {"corp.test", "", []dmarc.NamedMail{named("corp.test", "a.eu.corp.test hr.corp.test", "", 5), named("hr.corp.test", "eu.corp.test", "", 2)}, "2 to 7 list"},
		"within the smaller organization":    {"corp.test", "", []dmarc.NamedMail{named("eu.corp.test", "a.eu.corp.test", "", 5)}, ""},
		"strangers":                          {"corp.test", "", []dmarc.NamedMail{named("corp.test", "mailer.example", "bounce.mailer.example", 5)}, ""},
		"a suffix that publishes a record":   {"u.co.uk", "", []dmarc.NamedMail{named("u.co.uk", "v.co.uk", "", 5)}, "5 walk"},
		"both ways":                          {"corp.test", "v=DMARC1; p=none", []dmarc.NamedMail{named("corp.test", "a.eu.corp.test", "", 3)}, "3 list"},
		"strict alignment by DKIM":           {"corp.test", "v=DMARC1; p=reject; adkim=s", []dmarc.NamedMail{named("corp.test", "a.eu.corp.test", "", 5)}, ""},
		"strict by DKIM, SPF not":            {"corp.test", "v=DMARC1; p=reject; adkim=s", []dmarc.NamedMail{named("corp.test", "hr.corp.test", "a.eu.corp.test", 5)}, "5 list"},
		"names in capitals":                  {"corp.test", "", []dmarc.NamedMail{named("corp.test", "A.EU.Corp.Test", "", 5)}, "5 list"},
		"no names that can be":               {"corp.test", "", []dmarc.NamedMail{named("corp.test", "-.corp.test a..corp.test", "", 5)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			own := map[string]string{}
			for zone, text := range zones {
				own[zone] = text
				if c.record != "" && zone == c.domain {
					own[zone] = strings.Replace(text, "v=DMARC1; p=reject", c.record, 1)
				}
			}
			p := lookedUp(t, newZoneResolver(t, own), c.domain, Options{Reported: &Reported{Named: c.mail}})
			var got []string
			for _, f := range checkAlignment(p) {
				method := "list"
				if strings.Contains(f.Value("by"), "tree walk") {
					method = "walk"
				}
				got = append(got, f.Value("n")+" "+method)
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("%q, want %q; %+v", s, c.want, p.Alignment)
			}
		})
	}
}

// However many names there are, the questions are bounded, and what was not
// looked at is not judged.
func TestOnlySomeNamesAreLookedAtForAlignment(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": apex + txt("_dmarc", "v=DMARC1; p=reject")})
	var mail []dmarc.NamedMail
	for i := range 200 {
		mail = append(mail, named("corp.test", fmt.Sprintf("a.b%d.corp.test", i), "", 1))
	}
	o := Options{Resolver: r, Reported: &Reported{Named: mail}}
	g := newGatherer("corp.test", o)
	gatherAlignment(t.Context(), g)
	if n := g.resolver; n > maxAlignment {
		t.Errorf("%d questions", n)
	}
	g.p.Reported = o.Reported
	g.p.DMARC.Walk = walk("corp.test", func(name string) Answer { return r.Lookup(t.Context(), name, dns.TypeTXT) })
	g.p.DMARC.Policy = g.p.DMARC.Walk.policy(false)
	if f := checkAlignment(g.p); len(f) > 0 || len(g.p.Alignment.Left) < 100 {
		t.Errorf("%d left, findings %+v", len(g.p.Alignment.Left), f)
	}
}
