package web

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// numbersOf reads the table by class: messages, held today, would be held.
func numbersOf(t *testing.T, page string) map[string][3]int64 {
	t.Helper()
	out := map[string][3]int64{}
	for _, m := range regexp.MustCompile(`<tr data-class="(\w+)"><th scope="row">[^<]*</th>(.*?)</tr>`).FindAllStringSubmatch(page, -1) {
		cells := regexp.MustCompile(`>([^<]*)</td>`).FindAllStringSubmatch(m[2], -1)
		var n [3]int64
		for i, at := range []int{0, 2, 3} {
			v, err := strconv.ParseInt(strings.ReplaceAll(cells[at][1], ",", ""), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			n[i] = v
		}
		out[m[1]] = n
	}
	return out
}

func fetch(t *testing.T, store *fake, path string) (int, string) {
	t.Helper()
	w := get(t, store, path)
	return w.Code, w.Body.String()
}

func adviceOf(t *testing.T, domain string, o advice.Options) advice.JSON {
	t.Helper()
	e, err := counsel().Evidence(t.Context(), domain, lastDays(adviceDays, now).Period)
	if err != nil {
		t.Fatal(err)
	}
	return advice.For(e, o).JSON()
}

// The numbers of the page are those of the API, class by class.
func TestThePageOfAPolicyHasTheNumbersOfTheAPI(t *testing.T) {
	store := realistic()
	for domain := range counsel() {
		for query, target := range map[string]dmarc.Policy{"": dmarc.PolicyUnknown, "?p=reject": dmarc.PolicyReject, "?p=none": dmarc.PolicyNone, "?p=quarantine&t=n": dmarc.PolicyQuarantine} {
			want := adviceOf(t, domain, advice.Options{Target: target})
			status, page := fetch(t, store, "/domains/"+domain+"/policy"+query)
			if status != http.StatusOK {
				t.Fatalf("%s%s: %d", domain, query, status)
			}
			if want.Simulation.Messages == 0 {
				if !strings.Contains(page, "No reports in this period") {
					t.Errorf("%s: nothing is said about having no reports", domain)
				}
				continue
			}
			got := numbersOf(t, page)
			var all [3]int64
			for class, n := range got {
				if class == "all" {
					continue
				}
				if n[1] != want.Current.AffectedByClass[class] || n[2] != want.Simulation.AffectedByClass[class] {
					t.Errorf("%s%s: %s %v, want %d and %d", domain, query, class, n, want.Current.AffectedByClass[class], want.Simulation.AffectedByClass[class])
				}
				for i := range all {
					all[i] += n[i]
				}
			}
			if all != [3]int64{want.Simulation.Messages, want.Current.Affected, want.Simulation.Affected} || all != got["all"] {
				t.Errorf("%s%s: all %v, want %+v", domain, query, all, want.Simulation)
			}
			if headline := escaped(spoken(want.Headline)); !strings.Contains(page, headline) {
				t.Errorf("%s%s: no %q", domain, query, want.Headline)
			}
			for _, r := range want.Reasons {
				if !strings.Contains(page, ">"+r.ID+"</code>") || !strings.Contains(page, escaped(spoken(r.Text))) {
					t.Errorf("%s%s: no reason %s", domain, query, r.ID)
				}
			}
			for _, b := range want.Blockers {
				if !strings.Contains(page, escaped(spoken(b.Cause))) || !strings.Contains(page, escaped(spoken(b.Fix))) {
					t.Errorf("%s%s: nothing about %s", domain, query, b.Source)
				}
			}
			for _, r := range want.Publish {
				if !strings.Contains(page, escaped(r.Value)) {
					t.Errorf("%s%s: no record %s", domain, query, r.Value)
				}
			}
		}
	}
}

// escaped is text as a template writes it, of strangers, too.
func escaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;", "+", "&#43;").Replace(plain(s))
}

func TestWhatIsMendedIsReplayed(t *testing.T) {
	store := realistic()
	_, page := fetch(t, store, "/domains/acme.example/policy")
	groups := regexp.MustCompile(`name="mend" value="([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(groups) != 2 || groups[0][1] != "as newsbird.example" {
		t.Fatalf("blockers %q", groups)
	}
	before := numbersOf(t, page)["service"]
	_, page = fetch(t, store, "/domains/acme.example/policy?mend="+url.QueryEscape(groups[0][1]))
	one := numbersOf(t, page)["service"]
	if !strings.Contains(page, "If <bdi>newsbird.example</bdi> were mended: Not ready") || one[2] != before[2]-900*8 || one[0] != before[0] {
		t.Errorf("%v of %v are left once the first is mended", one, before)
	}
	_, page = fetch(t, store, "/domains/acme.example/policy?p=reject&mend="+url.QueryEscape(groups[0][1])+"&mend="+url.QueryEscape(groups[1][1]))
	if both := numbersOf(t, page)["service"]; !strings.Contains(page, "If the 2 senders that are ticked were mended: Ready for reject") || both[2] != 0 {
		t.Errorf("%v is left once both are mended", both)
	}
	if n := strings.Count(page, `name="mend"`); n != 2 || strings.Count(page, " checked") != 3 {
		t.Errorf("%d senders can be unticked; %d are checked with the policy", n, strings.Count(page, " checked"))
	}
	_, page = fetch(t, store, "/domains/acme.example/policy?mend=nobody")
	if numbersOf(t, page)["service"] != before || strings.Contains(page, "were mended") {
		t.Error("a sender that blocks nothing was mended")
	}
}

func TestTheAddressSaysThePolicy(t *testing.T) {
	published := advice.Policy{P: dmarc.PolicyNone, SP: dmarc.PolicyReject, NP: dmarc.PolicyReject, ADKIM: dmarc.AlignmentStrict, ASPF: dmarc.AlignmentRelaxed, Testing: true}
	for query, want := range map[string]advice.Policy{
		"p=quarantine": {P: dmarc.PolicyQuarantine, SP: dmarc.PolicyReject, NP: dmarc.PolicyReject, ADKIM: dmarc.AlignmentStrict, ASPF: dmarc.AlignmentRelaxed},
		"p=reject&sp=&np=none&t=y&adkim=r&aspf=s": {P: dmarc.PolicyReject, NP: dmarc.PolicyNone, Testing: true, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentStrict},
		"p=+Reject+&sp=none&np=&t=n":              {P: dmarc.PolicyReject, SP: dmarc.PolicyNone, ADKIM: dmarc.AlignmentStrict, ASPF: dmarc.AlignmentRelaxed},
	} {
		q, _ := url.ParseQuery(query)
		f, set, err := readPolicyForm(q)
		if err != nil || !f.Named || f.Days != adviceDays {
			t.Fatalf("%s: %+v, %v", query, f, err)
		}
		if got := set(published); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	if f, _, err := readPolicyForm(url.Values{"sp": {"none"}, "days": {"35"}}); err != nil || f.Named || f.Days != 35 {
		t.Errorf("without p: %+v, %v", f, err)
	}
	store := realistic()
	for _, query := range []string{"p=maybe", "p=reject&sp=x", "np=1", "t=yes", "adkim=relaxed", "aspf=", "days=0", "days=3661", "days=x"} {
		status, page := fetch(t, store, "/domains/acme.example/policy?"+query)
		if wrong := query != "aspf="; wrong != (status == http.StatusBadRequest) || wrong && !strings.Contains(page, "it must be") {
			t.Errorf("%s: %d", query, status)
		}
	}
	many := "mend=" + strings.Repeat("&mend=x", 3)
	for i := range mostMended + 1 {
		many += "&mend=" + strconv.Itoa(i)
	}
	if status, _ := fetch(t, store, "/domains/acme.example/policy?"+many); status != http.StatusBadRequest {
		t.Errorf("more than %d senders: %d", mostMended, status)
	}
	if status, _ := fetch(t, store, "/domains/never.example/policy"); status != http.StatusNotFound {
		t.Errorf("a domain that nobody knows: %d", status)
	}
}

func TestADomainThatSendsNothingHasAShortWay(t *testing.T) {
	_, page := fetch(t, realistic(), "/domains/parked.example/policy")
	for _, want := range []string{"Ready for reject: parked.example sends no mail.", "The short way", "v=DMARC1; p=reject; rua=mailto:dmarc@parked.example", "v=spf1 -all", "0 ."} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
}

// What changes did is told change by change, the latest first.
func TestWhatChangesOfThePolicyDid(t *testing.T) {
	e, err := counsel().Evidence(t.Context(), "north.example", lastDays(adviceDays, now).Period)
	if err != nil {
		t.Fatal(err)
	}
	got := policyHistory(e, advice.Classify(e))
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	reject, quarantine := got[0], got[1]
	if reject.To != dmarc.PolicyReject || reject.From != dmarc.PolicyQuarantine || !reject.Day.Equal(today().AddDate(0, 0, -40)) {
		t.Errorf("%+v", reject)
	}
	if quarantine.Before != (policyEra{Days: 19, Own: 19 * 700, Passed: 19 * 700, Others: 19 * 90}) ||
		quarantine.After != (policyEra{Days: 28, Own: 28 * 700, Passed: 28 * 700, Others: 28 * 90, OthersStopped: 28 * 90}) {
		t.Errorf("%+v", quarantine)
	}
}

// Names of strangers are text, in the page and in its charts.
func TestStrangersCannotWriteThePageOfAPolicy(t *testing.T) {
	store := realistic()
	for _, path := range []string{"/domains/acme.example/policy", "/domains/acme.example/policy?mend=" + url.QueryEscape(hostile), "/domains/acme.example/policy?p=" + url.QueryEscape(hostile)} {
		_, page := fetch(t, store, path)
		if strings.Contains(page, "<script>alert") || strings.Contains(page, "\u202e") || strings.Contains(page, "\x00") {
			t.Errorf("%s: a stranger's markup is in the page", path)
		}
		if path == "/domains/acme.example/policy" && !strings.Contains(page, "&lt;script&gt;alert(1)") {
			t.Errorf("%s: the name of the reporter is not shown", path)
		}
	}
}

func TestWithoutAnAdviserThereIsNoPageOfAdvice(t *testing.T) {
	store := realistic()
	store.advice = nil
	if status, _ := fetch(t, store, "/domains/acme.example/policy"); status != http.StatusNotFound {
		t.Errorf("status %d", status)
	}
	if _, page := fetch(t, store, "/domains/acme.example"); strings.Contains(page, "/policy") {
		t.Error("the page of the domain links to it")
	}
}

func TestBeforeAndAfterAreDrawn(t *testing.T) {
	loss := func(n, q, r int64) advice.Loss { return advice.Loss{Messages: n, Quarantined: q, Rejected: r} }
	golden(t, "change.svg", changeChart([]classLoss{
		{"own", "Own servers", "own", "lost", "lost", loss(25_000, 0, 0), loss(25_000, 0, 0), 10},
		{"service", "Services", "service", "lost", "lost", loss(100_000, 0, 0), loss(100_000, 3, 0), 10},
		{"forwarder", "Forwarders", "forwarder", "lost-forwarder", "lost", loss(900, 300, 0), loss(900, 0, 300), 10},
		{"unknown", "Unknown", "unknown", "lost-unknown", "lost", loss(10, 0, 10), loss(10, 0, 0), 10},
		{"suspicious", "Suspicious", "let", "stopped", "stopped", loss(12_000_000, 0, 0), loss(12_000_000, 0, 11_999_999), 10},
	}))
	if changeChart(nil) != "" {
		t.Error("nothing is drawn of nothing")
	}
	e, err := counsel().Evidence(t.Context(), "acme.example", lastDays(30, now).Period)
	if err != nil {
		t.Fatal(err)
	}
	all := advice.Classify(e)
	what := advice.WhatIf{Policy: advice.Policy{P: dmarc.PolicyReject}}
	reported := advice.Simulate(e, all, what).ByDay
	services := advice.Simulate(e, ofClass(all, dmarc.ClassService), what).ByDay
	golden(t, "lost.svg", lostChart(lostBins(services, reported, e.Period, byDay), byDay, "lost", "Services", 72))
}

func TestSharesAreSeen(t *testing.T) {
	for _, c := range []struct {
		loss            advice.Loss
		delivered, held float64
	}{
		{advice.Loss{Messages: 100}, 100, 0},
		{advice.Loss{Messages: 100, Rejected: 100}, 0, 100},
		{advice.Loss{Messages: 1e9, Quarantined: 1}, 99.2, 0.8},
		{advice.Loss{Messages: 1e9, Quarantined: 1e9 - 1}, 0.8, 99.2},
		{advice.Loss{Messages: 4, Quarantined: 1, Rejected: 1}, 50, 50},
	} {
		delivered, held := shares(c.loss)
		if d, h := delivered-c.delivered, held-c.held; d > 1e-6 || d < -1e-6 || h > 1e-6 || h < -1e-6 {
			t.Errorf("%+v: %v and %v", c.loss, delivered, held)
		}
	}
}

func TestRatesADay(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.01: "<0.1", 0.094: "<0.1", 0.1: "0.1", 1: "1", 4.25: "4.2", 9.94: "9.9", 9.96: "10", 1234.4: "1,234", 2_500_000: "2.5\u00a0M"} {
		if got := rate(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0\u00a0%", 1: "100\u00a0%", 1e-9: "<0.1\u00a0%", 1 - 1e-9: ">99.9\u00a0%", 0.5: "50.0\u00a0%"} {
		if got := fraction(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

// The page is quick with thousands of senders, and small enough for a telephone.
func TestThePageOfAPolicyWithThousandsOfSenders(t *testing.T) {
	store := crowd(1)
	store.advice = storm(5000)
	status, page := fetch(t, store, "/domains/customer-0000.example/policy")
	var want advice.JSON
	e, _ := storm(5000).Evidence(t.Context(), "customer-0000.example", lastDays(adviceDays, now).Period)
	want = advice.For(e, advice.Options{}).JSON()
	text, _ := json.Marshal(want.Headline)
	if status != http.StatusOK || !strings.Contains(page, escaped(spoken(want.Headline))) {
		t.Errorf("status %d, no %s", status, text)
	}
	if n := strings.Count(page, `name="mend"`); len(want.Blockers) != 5000 || n != workShown || len(page) > 300_000 {
		t.Errorf("%d of %d blockers are listed in %d bytes", n, len(want.Blockers), len(page))
	}
	says(t, page, "and 4,950 more senders, which would lose")
	last := want.Blockers[4999].Source
	if _, page := fetch(t, store, "/domains/customer-0000.example/policy?mend="+url.QueryEscape("as "+last)); strings.Count(page, `name="mend"`) != workShown+1 {
		t.Errorf("%s is ticked and not listed", last)
	}
}
