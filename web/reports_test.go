package web

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestReportsAreChosenByWhatIsInThem(t *testing.T) {
	f, _ := withReports(realistic(), 40, "")
	for query, want := range map[string]int{
		"?domain=acme.example&days=1":                                          9, // eight reporters, and another content of one
		"?domain=acme.example&days=1&flag=overlaps":                            2,
		"?domain=acme.example&days=1&flag=any&inactive=1":                      1,
		"?domain=acme.example&days=1&flag=no_rows":                             0,
		"?domain=acme.example&days=1&disposition=reject&source=203.0.113.0/24": 1,
		"?domain=acme.example&days=1&source=192.0.2.1":                         0,
		"?domain=acme.example&days=1&aligned=no&reporter=Yahoo":                1,
	} {
		page := get(t, f, "/reports"+query).Body.String()
		if got := strings.Count(page, `<tr><th scope="row">`); got != want {
			t.Errorf("%s: %d reports, want %d", query, got, want)
		}
	}
	page := get(t, f, "/reports?flag=overlaps&source=203.0.113.0/24&aligned=no").Body.String()
	says(t, page, "the period overlaps another report of this reporter (overlaps)")
	for _, kept := range []string{`name="source" value="203.0.113.0/24"`, `<option value="overlaps" selected>`, `<option value="no" selected>`} {
		if !strings.Contains(page, kept) {
			t.Errorf("the form forgets %s", kept)
		}
	}
	w := get(t, f, "/reports?flag=x&source=y&aligned=z&disposition=w&class=v&sort=u")
	says(t, w.Body.String(), `flag is "x"`, `source is "y"`, `aligned is "z"`, `disposition is "w"`, `class is "v"`, `sort is "u"`)
	if w.Code != http.StatusBadRequest {
		t.Errorf("status %d", w.Code)
	}
}

// Reports of one domain are sorted by their columns, by links that keep the filter; those of all
// come newest first, whatever an address says.
func TestReportsOfADomainAreSortedByTheirColumns(t *testing.T) {
	f, _ := withReports(realistic(), 40, "")
	const base = "/domains/acme.example/reports?days=30&reporter=Yahoo"
	cell := regexp.MustCompile(`(?s)data-label="Messages">.*?>([0-9,.]+)( [a-z]+)?<`)
	first := func(path string) (said, number string) {
		t.Helper()
		page := get(t, f, path).Body.String()
		m := cell.FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("%s: no reports\n%s", path, page)
		}
		return page, m[1]
	}
	holds := func(page string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("the page has no %s", w)
			}
		}
	}
	page, _ := first(base)
	holds(page, "Newest first, by the begin of their period.", `aria-sort="descending"><a href="/domains/acme.example/reports?reporter=Yahoo">Period`,
		`<a href="/domains/acme.example/reports?reporter=Yahoo&amp;sort=messages">Messages`)
	q := dmarc.ReportQuery{Domain: "acme.example", Period: lastDays(30, now).Period, Page: dmarc.Page{Limit: 1, Sort: "-messages"}}
	q.Reporter = "Yahoo"
	all, _, err := f.Reports(t.Context(), q)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	page, most := first(base + "&sort=messages")
	holds(page, "Most messages first.", `<input type="hidden" name="sort" value="messages">`, `aria-sort="descending"><a href="/domains/acme.example/reports?reporter=Yahoo&amp;sort=messages">Messages`)
	if want := short(all[0].Report.Tally.Messages); most != want {
		t.Errorf("the first has %s messages, want %s", most, want)
	}
	if page, _ = first("/reports?days=30&sort=messages"); strings.Contains(page, "aria-sort") || !strings.Contains(page, "Newest first") {
		t.Error("reports of all domains are sorted")
	}
	page, _ = first("/reports?days=30&domain=acme.example&sort=failed&class=own")
	holds(page, "Most failed messages first.", `<option value="own" selected>`)
}

// A list leads to one TLS report, which tells all that is in it.
func TestATLSReportIsShownWhole(t *testing.T) {
	f, _ := withReports(realistic(), 3, "")
	if page := get(t, f, "/domains/acme.example/tls").Body.String(); !strings.Contains(page, `<a href="/tls/9-0">`) {
		t.Error("the list does not lead to its reports")
	}
	w := get(t, f, "/tls/9-0")
	says(t, w.Body.String(),
		"TLS report of google.com", "tls@google.com", "2026-11-00T00:00:00Z", "MTA-STS", "*.acme.example", "mx3.example", "mode: enforce", "900 sessions", "42 sessions",
		"certificate expired", "certificate-expired", "40", "mx2.acme.example", "203.0.113.25", "calls itself mail2.acme.example", "192.0.2.9", "X509_V_ERR_CERT_HAS_EXPIRED", "see log", "DANE (TLSA)", "3 1 1 0d6fce3d")
	_, links := words(t, w.Body.String())
	for _, want := range []string{"/tls/9-0/text", "/tls/9-0/download", "/api/v1/tls/9-0"} {
		if !slices.Contains(links, want) {
			t.Errorf("it does not lead to %s: %q", want, links)
		}
	}
	says(t, get(t, f, "/tls/9-0/text").Body.String(), `{"organization-name": "", "policies": []}`)
	w = get(t, f, "/tls/9-0/download")
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Content-Disposition") != `attachment; filename="report-9-0.json"` || !strings.HasPrefix(w.Body.String(), "{") {
		t.Errorf("the file: %v %s", w.Header(), w.Body)
	}
	// What tells of others is not handed out as it came.
	f.tls[0].Partial = true
	if _, links := words(t, get(t, f, "/tls/9-0").Body.String()); slices.Contains(links, "/tls/9-0/text") {
		t.Error("the page leads to the text")
	}
	for _, path := range []string{"/tls/9-0/text", "/tls/9-99", "/tls/9-99/text", "/tls/9-99/download"} {
		if w := get(t, f, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
}

func TestFailureReportsAreForThoseWithTheRole(t *testing.T) {
	f, _ := withReports(realistic(), 3, "")
	for path, want := range map[string]string{"/failures/7-1": "7-1 false", "/failures/7-1?show=whole": "7-1 true"} {
		f.readings = nil
		if w := get(t, f, path); w.Code != http.StatusOK || strings.Join(f.readings, ",") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s: status %d, read as %q, want %s", path, w.Code, f.readings, want)
		}
	}
	f.noRole = true
	for _, path := range []string{"/failures", "/failures/7-1", "/domains/acme.example/failures"} {
		w := get(t, f, path)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: status %d", path, w.Code)
		}
		says(t, w.Body.String(), "This page is not for you")
	}
}
