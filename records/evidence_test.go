package records

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func nets(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

const knownSince = 10 * 24 * time.Hour

// evidenceCase is a domain of which reports tell something.
func evidenceCase(name, zone string, r Reported, want, not []string) zoneCase {
	return zoneCase{name: "evidence " + name, domain: "evidence-" + name + ".test", zone: zone, o: Options{Reported: &r, Now: evidenceNow, Documentation: true}, want: want, not: not}
}

var evidenceNow = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)

func evidenceZone(name string) string {
	return "@ MX 10 mx\nmx A 192.0.2.5\n@ TXT \"v=spf1 mx include:crm.evidence-" + name + ".test ip4:192.0.2.16/28 ~all\"\n" +
		"crm TXT \"v=spf1 ip4:198.51.100.0/24 -all\"\n_dmarc TXT \"v=DMARC1; p=reject; rua=mailto:d@evidence-" + name + ".test\"\n"
}

func init() {
	yesterday := evidenceNow.AddDate(0, 0, -1)
	seen := func(p dmarc.Policy) *dmarc.PolicyPublished { return &dmarc.PolicyPublished{P: p} }
	cases = append(cases,
		evidenceCase("unused", evidenceZone("unused"), Reported{Sent: nets("192.0.2.5/32", "203.0.113.0/24"), Days: 30,
			Policy: seen(dmarc.PolicyNone), PolicyAt: yesterday, PolicyBy: "Reporter", RecordSince: evidenceNow.Add(-knownSince),
			Silent: []SilentReporter{{"Quiet Mail", evidenceNow.AddDate(0, 0, -12)}}},
			[]string{"spf.unused", "dmarc.reported_differs", "reports.reporter_silent"}, nil),
		evidenceCase("used", evidenceZone("used"), Reported{Sent: nets("192.0.2.5/32", "198.51.100.7/32", "192.0.2.0/24"), Days: 30,
			Policy: seen(dmarc.PolicyReject), PolicyAt: yesterday, RecordSince: evidenceNow.Add(-knownSince)},
			nil, []string{"spf.unused", "dmarc.reported_differs", "reports.reporter_silent"}),
		evidenceCase("broken", strings.Replace(evidenceZone("broken"), "p=reject", "p=nonsense", 1), Reported{Sent: nets("192.0.2.5/32"), Days: 30,
			Policy: seen(dmarc.PolicyReject), PolicyAt: yesterday, PolicyBy: "Reporter", RecordSince: evidenceNow.Add(-knownSince)},
			nil, []string{"dmarc.reported_differs"}),
		evidenceCase("untold", evidenceZone("untold"), Reported{Sent: nets("192.0.2.5/32"), Days: 30, PolicyAt: yesterday, PolicyBy: "Reporter",
			Policy: seen(dmarc.PolicyUnknown), RecordSince: evidenceNow.Add(-knownSince)}, nil, []string{"dmarc.reported_differs"}),
		evidenceCase("young", evidenceZone("young"), Reported{Sent: nets("192.0.2.5/32"), Days: 3,
			Policy: seen(dmarc.PolicyNone), PolicyAt: yesterday, PolicyBy: "Reporter", RecordSince: evidenceNow.Add(-24 * time.Hour)},
			nil, []string{"spf.unused", "dmarc.reported_differs"}),
	)
}

// Terms that nothing came from are told, those that cost the most first; what
// cannot be judged is left alone.
func TestUnusedTermsAreToldByWhatTheyCost(t *testing.T) {
	for name, c := range map[string]struct {
		spf  string
		sent []netip.Prefix
		days int
		want []string // term and lookups saved
	}{
		"nothing is used":           {"v=spf1 mx include:a.corp.test ip4:192.0.2.16/28 ~all", nets("203.0.113.1/32"), 30, []string{"include:a.corp.test 2", "mx 1", "ip4:192.0.2.16/28 0"}},
		"all is used":               {"v=spf1 mx include:a.corp.test ~all", nets("192.0.2.5/32", "198.51.100.0/26"), 30, nil},
		"no mail at all":            {"v=spf1 mx ~all", nil, 30, nil},
		"too few days":              {"v=spf1 mx ~all", nets("203.0.113.1/32"), 10, nil},
		"it depends on the message": {"v=spf1 exists:%{i}.corp.test include:m.corp.test ~all", nets("203.0.113.1/32"), 30, nil},
		"it could not be looked up": {"v=spf1 include:shaky.corp.test ~all", nets("203.0.113.1/32"), 30, nil},
		"all passes":                {"v=spf1 mx +all", nets("203.0.113.1/32"), 30, []string{"mx 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newZoneResolver(t, map[string]string{"corp.test": "@ TXT \"" + c.spf + "\"\n@ MX 10 mx\nmx A 192.0.2.5\na TXT \"v=spf1 a:b.corp.test -all\"\nb A 198.51.100.7\nm TXT \"v=spf1 exists:%{i}.corp.test -all\"\n"})
			r.broken["shaky.corp.test"] = Answer{State: Failed, Rcode: 2}
			p, err := Lookup(t.Context(), "corp.test", Options{Resolver: r, Documentation: true, Reported: &Reported{Sent: c.sent, Days: c.days}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range checkEvidence(p) {
				got = append(got, f.Value("term")+" "+f.Value("saves"))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
