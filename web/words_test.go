package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestFlagsOfAMessageAreSaidInWords(t *testing.T) {
	for _, c := range []struct {
		outcome      dmarc.Outcome
		reason, want string
	}{
		{dmarc.OutcomeOKWithFlags, "trailing_data, no_rows", "bytes after the end of the compressed data were ignored; the report has no rows"},
		{dmarc.OutcomeOKWithFlags, "a_flag_of_tomorrow, no_rows", "a_flag_of_tomorrow; the report has no rows"},
		{dmarc.OutcomeBadXML, "no_rows, it says", "no_rows, it says"},
		{dmarc.OutcomeOKWithFlags, "", ""},
	} {
		if got := reasonText(c.outcome, c.reason); got != c.want {
			t.Errorf("%s of %s is %q, want %q", c.reason, c.outcome, got, c.want)
		}
	}
}

func TestWhatStandsBetweenBackticksIsCode(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"`mx` finds nothing, `a:x.example` neither.", "<bdi><code>mx</code> finds nothing, <code>a:x.example</code> neither.</bdi>"},
		{"`<b>` & co", "<bdi><code>&lt;b&gt;</code> &amp; co</bdi>"},
		{"one ` alone", "<bdi>one ` alone</bdi>"},
		{"`a\u202eb`", "<bdi><code>a�b</code></bdi>"},
		{"none", "<bdi>none</bdi>"},
	} {
		if got := string(marked(c.in, 100)); got != c.want {
			t.Errorf("%q is %q, want %q", c.in, got, c.want)
		}
	}
	if got, want := string(marked("`a name that is long` and more", 10)), "<bdi title=\"`a name that is long` and more\">`a n… more</bdi>"; got != want {
		t.Errorf("cut it is %q, want %q", got, want)
	}
}

// Fields of a card are laid out in a row, with gaps between what stands side by side in them.
func TestCommasOfACardStayWithTheirWords(t *testing.T) {
	f, _ := withReports(realistic(), 1, "")
	o := options(f)
	full := &office{f, ""}
	o.Intake, o.Keeper = full, full
	h := New(f, o)
	for path, list := range map[string]string{"/failures": "dmarc, bodyhash, odd", "/settings": "read, "} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		says(t, w.Body.String(), list)
		doc, err := html.Parse(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		for n := range doc.Descendants() {
			if n.Type == html.TextNode && strings.HasPrefix(strings.TrimSpace(n.Data), ",") && n.Parent.Data == "td" {
				t.Errorf("%s: a comma stands alone in a cell", path)
			}
		}
	}
}
