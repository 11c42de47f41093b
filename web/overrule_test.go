package web

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

// post sends a form, as the page of the dashboard itself does unless header says
// otherwise.
func post(t *testing.T, f *fake, path string, v url.Values, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(v.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	New(f, options(f)).ServeHTTP(w, r)
	return w
}

func TestOperatorsSayWhoseASourceIsAndTakeItBack(t *testing.T) {
	f := realistic()
	const path = "/domains/acme.example/overrules"
	w := post(t, f, path, url.Values{"network": {"203.0.113.1", "2001:DB8::7"}, "class": {"service"}, "note": {" they send\u202e the news\n"}, "of": {"203.0.113.1"}})
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/domains/acme.example/source?of=203.0.113.1#say" {
		t.Fatalf("%d to %s: %s", w.Code, w.Header().Get("Location"), w.Body)
	}
	want := []dmarc.Overrule{
		{Domain: "acme.example", Network: netip.MustParsePrefix("203.0.113.1/32"), Class: dmarc.ClassService, Note: "they send\ufffd the news", At: now},
		{Domain: "acme.example", Network: netip.MustParsePrefix("2001:db8::7/128"), Class: dmarc.ClassService, Note: "they send\ufffd the news", At: now},
	}
	if !reflect.DeepEqual(f.said.all, want) {
		t.Errorf("said %+v", f.said.all)
	}
	_, page := fetch(t, f, "/domains/acme.example/source?of=2001:db8::7")
	says(t, page, "service", "You said so: they send\ufffd the news.", "2001:db8::7 service says somebody, 23 Nov 2026", "Take back")
	if _, page := fetch(t, f, "/domains/acme.example"); strings.Contains(page, "Only you can tell") {
		t.Error("it is asked again")
	}
	w = post(t, f, path, url.Values{"network": {"2001:db8::7"}, "drop": {"1"}, "back": {"domain"}})
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/domains/acme.example#ask" || len(f.said.all) != 1 {
		t.Errorf("%d to %s, left %+v", w.Code, w.Header().Get("Location"), f.said.all)
	}
	if w := post(t, f, path, url.Values{"network": {"2001:db8::7"}, "drop": {"1"}}); w.Code != http.StatusSeeOther {
		t.Errorf("taken back twice: %d", w.Code)
	}
	post(t, f, path, url.Values{"network": {"198.51.100.0/24"}, "class": {"suspicious"}, "all": {"1"}, "of": {"198.51.100.7"}})
	if o := f.said.all[1]; o.Domain != "" || o.Network.Bits() != 24 || o.Class != dmarc.ClassSuspicious {
		t.Errorf("for all domains: %+v", o)
	}
}

func TestWhatCannotBeSaidChangesNothing(t *testing.T) {
	const path = "/domains/acme.example/overrules"
	good := url.Values{"network": {"203.0.113.1"}, "class": {"own"}}
	with := func(name string, values ...string) url.Values {
		v := without(good, name)
		v[name] = values
		return v
	}
	many := make([]string, mostSaid+1)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, byte(i), 1}).String()
	}
	for name, v := range map[string]url.Values{
		"no address": with("network", ""), "no network": with("network", hostile), "a zone": with("network", "fe80::1%eth0"), "too much": with("network", "10.0.0.0/7"),
		"the whole internet": with("network", "::/0"), "no class": with("class"), "unknown": with("class", "unknown"), "nonsense": with("class", hostile),
		"a long note": with("note", strings.Repeat("ü", longestNote+1)), "too many": with("network", many...), "too large": with("note", strings.Repeat("x", longestForm)),
	} {
		f := realistic()
		if w := post(t, f, path, v); w.Code != http.StatusBadRequest || len(f.said.all) != 0 || strings.Contains(w.Body.String(), "<script>alert") {
			t.Errorf("%s: %d, said %+v", name, w.Code, f.said.all)
		}
	}
	f := realistic()
	for name, header := range map[string][]string{
		"another site": {"Sec-Fetch-Site", "cross-site"}, "a sibling": {"Sec-Fetch-Site", "same-site"}, "another origin": {"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
	} {
		if w := post(t, f, path, good, header...); w.Code != http.StatusForbidden || len(f.said.all) != 0 {
			t.Errorf("%s: %d, said %+v", name, w.Code, f.said.all)
		}
	}
	for err, status := range map[error]int{dmarc.Refusal("the configuration says so"): http.StatusConflict, dmarc.ErrForbidden: http.StatusForbidden, dmarc.ErrNotFound: http.StatusNotFound} {
		f.said.err = err
		if w := post(t, f, path, good); w.Code != status {
			t.Errorf("%v: %d, want %d", err, w.Code, status)
		}
	}
	if w := get(t, f, path); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("asked by GET: %d", w.Code)
	}
	f.said = nil
	if w := post(t, f, path, good); w.Code != http.StatusNotFound {
		t.Errorf("where nothing can be said: %d", w.Code)
	}
}
