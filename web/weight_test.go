package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"golang.org/x/net/html"

	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/web/internal/browser"
)

// heavy are the pages with most on them, of an installation with 5,000 domains,
// one of which has 5,000 senders that are seen again and again, and as many forgers.
var heavy = []string{
	"/", "/?by=volume&days=365", "/?q=customer",
	"/domains/customer-0000.example", "/domains/customer-0000.example?days=365",
	"/domains/customer-0000.example/sources?days=90", "/domains/customer-0000.example/sources?days=90&all=1&sort=failed",
	"/domains/customer-0000.example/senders?all=1", "/domains/customer-0000.example/reporters", "/domains/customer-0000.example/reports",
	"/domains/customer-0000.example/policy", "/domains/customer-0000.example/source?of=as+service-1.example&days=90",
}

// A page is light, whatever there is: at most 300 kB on its way with all that
// it needs, and no more elements than a browser lays out at once.
func TestPagesOfLargeInstallationsAreLight(t *testing.T) {
	racetest.Calm(t)
	f := crowd(5000)
	h := New(f, options(f))
	ask := func(path string) (compressed int) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Header().Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: %d, %q", path, w.Code, w.Header().Get("Content-Encoding"))
		}
		return w.Body.Len()
	}
	for _, path := range heavy {
		page := get(t, f, path).Body.String()
		bytes := ask(path)
		for _, link := range assetsOf(t, page) {
			bytes += ask(link)
		}
		elements := 0
		root, err := html.Parse(strings.NewReader(page))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			if n.Type == html.ElementNode {
				elements++
			}
		}
		most := 6_000
		if strings.Contains(path, "all=1") { // asked for, and said to be long
			most = 180_000
		}
		t.Logf("%s: %d bytes, %d elements", path, bytes, elements)
		if bytes > 300_000 || elements > most {
			t.Errorf("%s: %d bytes and %d elements, want at most 300,000 and %d", path, bytes, elements, most)
		}
	}
}

// assetsOf returns what a page loads.
func assetsOf(t *testing.T, page string) (all []string) {
	t.Helper()
	_, links := words(t, page)
	for _, l := range links {
		if strings.HasPrefix(l, "/static/") {
			all = append(all, l)
		}
	}
	return all
}

// BenchmarkDrawn tells how long it takes from asking for a page until it
// has been drawn and answers to a key, in a browser without a window.
func BenchmarkDrawn(b *testing.B) {
	ctx, closeBrowser, err := browser.Open(b.Context())
	if err != nil {
		b.Skip("SKIPPED: ", err)
	}
	defer closeBrowser()
	f := crowd(5000)
	site := httptest.NewServer(New(f, options(f)))
	defer site.Close()
	if err := chromedp.Do(ctx, browser.Window(1280, 900, 1, false)); err != nil {
		b.Fatal(err)
	}
	for _, path := range heavy {
		b.Run(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "_"), func(b *testing.B) {
			var server, drawn float64
			for b.Loop() {
				if err := chromedp.Do(ctx, chromedp.Navigate(site.URL+path)); err != nil {
					b.Fatal(err)
				}
				// After two frames everything has been drawn, and what waited for
				// the main thread has had its turn.
				t, err := chromedp.Run(ctx, chromedp.Evaluate[struct{ Server, Drawn float64 }](`new Promise((done) =>
					requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => {
						const n = performance.getEntriesByType("navigation")[0];
						done({ Server: n.responseStart - n.requestStart, Drawn: Math.max(n.loadEventEnd, performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0) });
					}))))`, chromedp.EvalAwaitPromise))
				if err != nil {
					b.Fatal(err)
				}
				server += t.Server
				drawn += t.Drawn
			}
			b.ReportMetric(drawn/float64(b.N), "interactive-ms")
			b.ReportMetric(server/float64(b.N), "server-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
