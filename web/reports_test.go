package web

import (
	"net/http"
	"strings"
	"testing"
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
	for _, kept := range []string{`name="source" value="203.0.113.0/24"`, `<option selected>overlaps`, `<option value="no" selected>`} {
		if !strings.Contains(page, kept) {
			t.Errorf("the form forgets %s", kept)
		}
	}
	w := get(t, f, "/reports?flag=x&source=y&aligned=z&disposition=w")
	says(t, w.Body.String(), `flag is "x"`, `source is "y"`, `aligned is "z"`, `disposition is "w"`)
	if w.Code != http.StatusBadRequest {
		t.Errorf("status %d", w.Code)
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
