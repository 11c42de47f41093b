package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// sortedWeek is a week of mail by whose it is, with all that the picture can
// show, and what reports counted on its days.
func sortedWeek() ([]dmarc.DayTraffic, dmarc.Period, map[time.Time]*mix) {
	days, p := aWeek()
	mixes := make(map[time.Time]*mix)
	for i, d := range days {
		if d.Tally.Messages == 0 {
			continue
		}
		m := new(mix)
		own, service, forwarder, unknown, suspicious := &m[0], &m[1], &m[2], &m[3], &m[4]
		own[0][0], service[1][0], forwarder[1][0] = 150, 90, 12
		if i == 0 {
			service[authNeither][0] = 20
		}
		if i == 2 {
			own[2][0], service[authNeither][fateReject], unknown[authNeither][fateQuarantine] = 30, 45, 9
			suspicious[authNeither] = [4]int64{60, 40, 80, 3}
		}
		mixes[d.Day] = m
	}
	return days, p, mixes
}

func TestVolumeIsDrawnByWhoseTheMailIs(t *testing.T) {
	days, p, mixes := sortedWeek()
	bins := binned(days, p, byDay)
	all, _, unsorted := mixBins(bins, days, mixes)
	if unsorted == 0 {
		t.Error("nothing is left to be sorted, and the picture does not show it")
	}
	lines := []policyLine{{p.Begin.AddDate(0, 0, 1), "p=quarantine"}, {p.Begin.AddDate(0, 0, 2), "p=reject"}, {p.Begin.AddDate(0, 0, 6), "p=none"}, {p.End, "p=never"}}
	svg := stackChart(bins, byDay, today(), 200, stack{"Messages a day.", bandNames, func(i int) []int64 { return all[i].bands() }, lines})
	golden(t, "classes.svg", svg)
	if n := strings.Count(string(svg), `class="policy"`); n != 3 {
		t.Errorf("%d changes of the policy are drawn, want the 3 of the period", n)
	}
}

// What is drawn of a day is all that was counted of it, however much of it is
// sorted yet, and no message is in two bands.
func TestTheBandsOfADayAreAllItsMessages(t *testing.T) {
	days, p, mixes := sortedWeek()
	bins := binned(days, p, byDay)
	all, sum, _ := mixBins(bins, days, mixes)
	var bands, counted int64
	for i := range bins {
		for _, n := range all[i].bands() {
			bands += n
		}
		if got, want := all[i].total(), bins[i].Tally.Messages; got != want {
			t.Errorf("%s: %d messages are drawn, %d were counted", isoDay(bins[i].From), got, want)
		}
		counted += bins[i].Tally.Messages
	}
	var ways int64
	for _, w := range flowsOf(&sum) {
		ways += w.Messages
	}
	if bands != counted || ways != counted || counted == 0 {
		t.Errorf("%d in bands, %d on ways; %d were counted", bands, ways, counted)
	}
	// What passed is as much as reports counted, too.
	var passed int64
	for k := range sum {
		for a := range authNeither {
			for _, n := range sum[k][a] {
				passed += n
			}
		}
	}
	var want int64
	for _, d := range days {
		want += d.Tally.DMARCPass
	}
	if passed != want {
		t.Errorf("%d passed, want %d", passed, want)
	}
}

// What facts say of a day is drawn by the class of its sender, and by the
// reporter's verdict.
func TestMailIsSortedByClassAndVerdict(t *testing.T) {
	sp := lastDays(30, now)
	e, err := counsel().Evidence(t.Context(), "acme.example", lastDays(90, now).Period)
	if err != nil {
		t.Fatal(err)
	}
	var sum mix
	for _, m := range mixDays(advice.Classify(e), sp.Period) {
		sum.add(m)
	}
	// 2,300 a day of its own servers, until yesterday; newsbird passed until 8 days ago.
	want := []int64{29 * 2300, 21*900 + 29*40, 8*900 + 29*18, 0}
	if got := sum.bands()[:4]; !slices.Equal(got, want) {
		t.Errorf("own, services, failing and lost are %v, want %v", got, want)
	}
	strict := dmarc.Pattern{DKIM: dmarc.AlignedRelaxed}
	if authOf(strict) != authNeither {
		t.Error("what is aligned too loosely for the domain passes")
	}
}

func TestTheFlowOfMailIsDrawnAsBands(t *testing.T) {
	days, p, mixes := sortedWeek()
	_, sum, _ := mixBins(binned(days, p, byDay), days, mixes)
	ways := flowsOf(&sum)
	if len(ways) <= mostBands {
		t.Fatalf("%d ways, too few to be gathered", len(ways))
	}
	svg := flowChart(&sum, ways)
	golden(t, "flow.svg", svg)
	if n := strings.Count(string(svg), `class="way `); n != mostBands {
		t.Errorf("%d bands, want %d", n, mostBands)
	}
	few := new(mix)
	few[0][0][0] = 1_000_000
	few[4][authNeither][fateReject] = 1
	golden(t, "flow-two.svg", flowChart(few, flowsOf(few)))
	if got := flowChart(new(mix), nil); got != "" {
		t.Errorf("no mail is drawn as %s", got)
	}
}

func TestTheBrushShowsAYearAndItsMonths(t *testing.T) {
	f := realistic()
	sp := lastDays(30, now)
	days, _ := within(f.all[0].days, longAround(sp))
	link := func(p dmarc.Period) string { return "/x?from=" + isoDay(p.Begin) + "&to=" + isoDay(p.End) }
	golden(t, "brush.svg", brushChart(days, longAround(sp), sp, link))
	long := lastDays(3000, now)
	golden(t, "brush-years.svg", brushChart(days, longAround(long), long, link))
}

func TestThePeriodIsMovedByLinksToo(t *testing.T) {
	page := get(t, realistic(), "/domains/acme.example?from=2026-10-01&to=2026-10-31").Body.String()
	_, links := words(t, page)
	for _, want := range []string{
		"/domains/acme.example?from=2026-09-01&to=2026-10-01", "/domains/acme.example?from=2026-10-31&to=2026-11-24", // cut at today
		"/domains/acme.example?from=2026-10-16&to=2026-10-31", "/domains/acme.example?from=2026-09-01&to=2026-10-31",
		"/domains/acme.example?from=2026-03-01&to=2026-04-01",
	} {
		if !slices.Contains(links, want) {
			t.Errorf("no link to %s", want)
		}
	}
	if page := get(t, realistic(), "/domains/acme.example?days=30").Body.String(); strings.Contains(page, `rel="next"`) {
		t.Error("a link leads beyond today")
	}
}

// The page of a domain shows by whose the mail is, says what went silent, which
// keys sign and what is below it.
func TestADomainShowsItsMailInPictures(t *testing.T) {
	f := realistic()
	c := f.advice["acme.example"]
	c.reporters[1000] = "Lakeside"
	at := func(ago int) {
		day := today().AddDate(0, 0, -ago)
		row := dmarc.Row{Count: 5, HeaderFrom: "news.acme.example", DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone,
			AuthDKIM: []dmarc.DKIMResult{{Domain: "acme.example", Selector: "k1", Result: dmarc.ResultPass}}}
		c.facts.Add(&row, &c.policy, dmarc.Attribution{Days: []time.Time{day}, Main: day, Dated: true}, 1000)
	}
	for ago := 20; ago < 60; ago++ {
		at(ago)
	}
	page := get(t, f, "/domains/acme.example?days=90").Body.String()
	says(t, page,
		"Where it comes from, and what becomes of it", "Own servers DKIM and SPF let through", "Services neither aligned let through",
		"Your own mail that passes", "Day Messages Passed Yours, passed Own Services Yours, failing Yours, lost Forwarders Unknown Suspicious Stopped",
		"silent Lakeside has sent no reports for 20 days; the last were about 3 Nov 2026.",
		"k1._domainkey.acme.example 91,000 98.9 %", "never", "17 signatures with other keys are summed",
		"shop.acme.example 0 no mail seen 11,588 78.9 %", "news.acme.example 200 100 % none: it has no record of its own",
	)
	f.advice["acme.example"].facts = dmarc.FactReducer{}
	says(t, get(t, f, "/domains/acme.example?days=90").Body.String(), "of the last reports are still being sorted by sender, and stand under unknown.")
}

func TestWhoeverWasNeverRegularIsNotMissed(t *testing.T) {
	for name, c := range map[string]struct {
		from, to int // days ago that the reporter reported on
		others   int // the last day that others did
		want     int
	}{
		"regular, and silent":       {60, 20, 0, 1},
		"silent since six days":     {60, 6, 0, 0},
		"silent since seven":        {60, 7, 0, 1},
		"only thirteen days of it":  {32, 20, 0, 0},
		"all others are silent too": {60, 20, 9, 0},
	} {
		a := tell("acme.example", dmarc.PolicyNone)
		a.reporters = map[int64]string{7: "quiet", 1: "a", 2: "b", 3: "c", 4: "d"}
		a.send("192.0.2.1", byBoth, "", 10, 89, c.others)
		row := dmarc.Row{Count: 1, HeaderFrom: "acme.example", DKIM: dmarc.ResultPass}
		for ago := c.from; ago >= c.to; ago-- {
			day := today().AddDate(0, 0, -ago)
			a.facts.Add(&row, &a.policy, dmarc.Attribution{Days: []time.Time{day}, Main: day, Dated: true}, 7)
		}
		e, err := advisers{"acme.example": a}.Evidence(t.Context(), "acme.example", lastDays(90, now).Period)
		if err != nil {
			t.Fatal(err)
		}
		if got := quietReporters(e, today().Add(aDay)); len(got) != c.want || len(got) > 0 && got[0].Name != "quiet" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What fails of the owner's mail is told apart from what fails of others, by
// colour and words.
func TestFailingMailOfASenderIsToBeMended(t *testing.T) {
	f := realistic()
	service := get(t, f, "/domains/acme.example/source?of=203.0.113.1&days=90").Body.String()
	forged := get(t, f, "/domains/acme.example/source?of=198.51.100.110&days=90").Body.String()
	if !strings.Contains(service, `class="area fix"`) || strings.Contains(service, `class="area let"`) || !strings.Contains(service, `<rect class="fix"`) {
		t.Error("a service's failing mail has not the colour of what to mend")
	}
	if !strings.Contains(forged, `class="area let"`) || strings.Contains(forged, `class="area fix"`) {
		t.Error("a forger's failing mail has the colour of what to mend")
	}
	if open := get(t, f, "/domains/acme.example/source?of=2001:db8::7&days=90").Body.String(); !strings.Contains(open, `class="area unknown"`) || strings.Contains(open, `class="area let"`) {
		t.Error("failing mail of a sender that nobody knows has the colour of forgery")
	}
}

// Senders are sorted by any column, and show their addresses.
func TestSendersAreSortedByTheAddress(t *testing.T) {
	f := realistic()
	f.advice["acme.example"].send("203.0.113.2", byService, "newsbird.example", 7, 20, 10)
	first := func(query string) string {
		page := get(t, f, "/domains/acme.example/sources?"+query).Body.String()
		_, after, ok := strings.Cut(page, "<tbody>")
		if !ok {
			t.Fatalf("%s lists nothing", query)
		}
		_, after, _ = strings.Cut(after, "<bdi")
		_, after, _ = strings.Cut(after, ">")
		name, _, _ := strings.Cut(after, "<")
		return name
	}
	for query, want := range map[string]string{
		"": "192.0.2.1", "sort=messages": "192.0.2.1", "sort=name": "192.0.2.1", "sort=failed": "newsbird.example", "sort=class": "192.0.2.1",
		"sort=failed&class=service": "newsbird.example", "sort=messages&class=unknown": "2001:db8::7",
	} {
		if got := first(query); got != want {
			t.Errorf("%q: first is %s, want %s", query, got, want)
		}
	}
	page := get(t, f, "/domains/acme.example/sources?sort=failed&days=90").Body.String()
	says(t, page, "Those first that most fails of.", "2 addresses", "203.0.113.2 70 messages, 100 % passed")
	if !strings.Contains(page, `aria-sort="descending"><a href="/domains/acme.example/sources?days=90&amp;sort=failed">Passed</a>`) {
		t.Error("the column is not marked, or leads elsewhere")
	}
	if w := get(t, f, "/domains/acme.example/sources?sort=luck"); w.Code != http.StatusBadRequest {
		t.Errorf("a column that is none answers with %d", w.Code)
	}
	// Every page of a sorted list is sorted the same way.
	f = crowd(1)
	f.advice = storm(150)
	seen := 0
	path := "/domains/customer-0000.example/sources?days=90&sort=name"
	for last := ""; path != ""; {
		page := get(t, f, path).Body.String()
		path = ""
		_, links := words(t, page)
		for _, l := range links {
			if _, of, ok := strings.Cut(l, "/source?"); ok && !strings.Contains(l, "#") {
				_, key, _ := strings.Cut(of, "of=")
				if key < last {
					t.Errorf("%s comes after %s", key, last)
				}
				last = key
				seen++
			}
			if strings.Contains(l, "after=") {
				path = l
			}
		}
	}
	if seen != 300 {
		t.Errorf("%d senders are listed, want 300", seen)
	}
}
