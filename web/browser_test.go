package web

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/web/internal/browser"
)

// startBrowser starts a browser, and returns what it complained about since it
// was last asked: errors and words on the console, refused content, and
// requests to other hosts than this.
func startBrowser(t *testing.T) (ctx context.Context, complaints func() []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	ctx, closeBrowser, err := browser.Open(ctx)
	if errors.Is(err, browser.ErrNone) && os.Getenv("DMARCD_TEST_REQUIRE") == "" {
		t.Skipf("SKIPPED, so the pages are not tried: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeBrowser)
	var mu sync.Mutex
	var all []string
	complain := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, fmt.Sprintf(format, args...))
	}
	err = chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			complain("%s: %s %s", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL)
		case *runtime.EventConsoleAPICalled:
			complain("console: %s", ev.Type)
		case *runtime.EventExceptionThrown:
			complain("exception: %s", ev.ExceptionDetails.Text)
		case *network.EventRequestWillBeSent:
			if u, err := url.Parse(ev.Request.URL); err != nil || u.Hostname() != "127.0.0.1" && u.Scheme != "data" {
				complain("request to %s", ev.Request.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		got := all
		all = nil
		return got
	}
}

func serve(t *testing.T, f *fake) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(New(f, options(f)))
	t.Cleanup(s.Close)
	return s
}

func TestPagesFitTheirWindowAndAskNobodyElse(t *testing.T) {
	racetest.Calm(t)
	ctx, complaints := startBrowser(t)
	sites := map[string]*httptest.Server{
		"no": serve(t, &fake{}), "one": serve(t, crowd(1)), "some": serve(t, withLooks(realistic(), "acme.example", "")), "many": serve(t, crowd(5000)),
	}
	for _, c := range []struct {
		site, path string
		status     int64
	}{
		{"no", "/", 200},
		{"no", "/messages", 200},
		{"no", "/domains/never.example", 404},
		{"one", "/", 200},
		{"one", "/domains/customer-0000.example", 200},
		{"some", "/", 200},
		{"some", "/?q=acme", 200},
		{"some", "/?q=nothing-like-it", 200},
		{"some", "/?days=none", 400},
		{"some", "/domains/acme.example", 200},
		{"some", "/domains/acme.example?days=90", 200},
		{"some", "/domains/acme.example?days=365", 200},
		{"some", "/domains/acme.example?from=2026-10-01&to=2026-11-01", 200},
		{"some", "/domains/acme.example/senders", 200},
		{"some", "/domains/acme.example/reporters", 200},
		{"some", "/domains/acme.example/reports", 200},
		{"some", "/domains/acme.example/dns", 200},
		{"some", "/domains/river.example/dns", 200},
		{"some", "/domains/acme.example/policy", 200},
		{"some", "/domains/acme.example/policy?p=reject&sp=none&np=reject&t=y&days=180&mend=as+newsbird.example", 200},
		{"some", "/domains/north.example/policy", 200},
		{"some", "/domains/parked.example/policy", 200},
		{"some", "/domains/shop.acme.example/policy", 200},
		{"some", "/domains/newsletter-and-transactional-mail.departments.a-rather-long-name-for-a-company.example/policy", 200},
		{"some", "/domains/acme.example/policy?p=strictest", 400},
		{"some", "/domains/acme.example/sources", 200},
		{"some", "/domains/acme.example/source?of=203.0.113.1&days=90", 200},
		{"some", "/domains/acme.example/source?of=2001:db8::7", 200},
		{"some", "/domains/river.example?from=2026-11-16&to=2026-11-23", 200},
		{"some", "/domains/newsletter-and-transactional-mail.departments.a-rather-long-name-for-a-company.example", 200},
		{"some", "/messages", 200},
		{"many", "/", 200},
		{"many", "/domains/customer-0000.example/senders?all=1", 200},
		{"many", "/domains/customer-0000.example/policy", 200},
		{"many", "/domains/customer-0000.example/sources?days=90", 200},
	} {
		for _, w := range []struct {
			width int64
			dark  bool
		}{{1280, false}, {390, true}} { // axe looks at the colours of both, see internal/walk
			fits(ctx, t, complaints, sites[c.site], visit{c.site, c.path, c.status}, w.width, w.dark)
		}
	}
}

// A visit is to a page of a site, and what it should answer.
type visit struct {
	site, path string
	status     int64
}

// fits fails the test if a page is wider than its window, has text that is hard to
// read, or has anything that the browser complains about.
func fits(ctx context.Context, t *testing.T, complaints func() []string, site *httptest.Server, c visit, width int64, dark bool) {
	t.Helper()
	pictures := os.Getenv("DMARCD_TEST_PICTURES") // a folder, for people to look at them
	name := fmt.Sprintf("%s%s, %d, dark %v", c.site, c.path, width, dark)
	if err := chromedp.Do(ctx, browser.Window(width, 900, 1, dark)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	answer, err := chromedp.Run(ctx, chromedp.NavigateResponse(site.URL+c.path))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if answer.Status != c.status {
		t.Errorf("%s: status %d, want %d", name, answer.Status, c.status)
	}
	if width == 390 { // between a small telephone and a desk nothing reaches over the edge, either
		for _, other := range []int64{320, 700, 900, 961} {
			if err := chromedp.Do(ctx, browser.Window(other, 900, 1, dark)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if wide, err := chromedp.Run(ctx, chromedp.Evaluate[int64]("document.documentElement.scrollWidth")); err != nil || wide > other {
				t.Errorf("%s: at %d it is %d wide, %v", name, other, wide, err)
			}
		}
		if err := chromedp.Do(ctx, browser.Window(width, 900, 1, dark)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	got, err := chromedp.Run(ctx, chromedp.Evaluate[layout](measure))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got.Width > width || len(got.Over) > 0 {
		t.Errorf("%s: the page is %d wide; over the edge: %q", name, got.Width, got.Over)
	}
	for _, cut := range got.Cut {
		t.Errorf("%s: it does not fit where it stands: %s", name, cut)
	}
	if len(got.Broken) > 0 {
		t.Errorf("%s: names are broken into lines: %q", name, got.Broken)
	}
	if len(got.Ids) > 0 || len(got.Styles) > 0 {
		t.Errorf("%s: ids twice: %q; style attributes: %q", name, got.Ids, got.Styles)
	}
	if got.Dark != dark {
		t.Errorf("%s: the background is dark: %v", name, got.Dark)
	}
	for _, p := range got.Pale {
		t.Errorf("%s: contrast below 4.5: %s", name, p)
	}
	for _, complaint := range complaints() {
		if c.status == 200 || !strings.Contains(complaint, "Failed to load resource") {
			t.Errorf("%s: %s", name, complaint)
		}
	}
	if pictures != "" {
		capture := chromedp.FullScreenshot(100)
		if c.site == "many" { // too large a picture
			capture = chromedp.CaptureScreenshot()
		}
		png, err := chromedp.Run(ctx, capture)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		file := strings.NewReplacer("/", "_", "?", "_", "&", "_", "%", "_").Replace(fmt.Sprintf("%s%s-%d-%v.png", c.site, c.path, width, dark))
		if err := os.WriteFile(filepath.Join(pictures, file), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A layout is what the browser made of a page.
type layout struct {
	Width  int64    // of all that can be scrolled to
	Over   []string // what reaches over the right edge
	Cut    []string // what reaches over the edge of its column, or is cut in a list to choose from
	Broken []string // short names in tables that do not stay on a line
	Ids    []string // that are not unique
	Styles []string // elements with a style attribute
	Dark   bool     // the background
	Pale   []string // text with too little contrast
}

const measure = `(() => {
	const wide = document.documentElement.clientWidth;
	const out = { Width: document.documentElement.scrollWidth, Over: [], Cut: [], Broken: [], Ids: [], Styles: [], Dark: false, Pale: [] };
	const seen = new Set();
	const numbers = (colour) => {
		const c = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
		c.canvas.width = c.canvas.height = 1;
		c.fillStyle = colour;
		c.fillRect(0, 0, 1, 1);
		return [...c.getImageData(0, 0, 1, 1).data];
	};
	const memo = new Map();
	const rgb = (colour) => {
		if (!memo.has(colour)) memo.set(colour, numbers(colour));
		return memo.get(colour);
	};
	const light = (c) => {
		const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const ground = (el) => {
		for (; el; el = el.parentElement) {
			const c = rgb(getComputedStyle(el).backgroundColor);
			if (c[3] === 255) return c;
		}
		return [255, 255, 255, 255];
	};
	out.Dark = light(ground(document.body)) < 0.2;
	document.querySelectorAll("details").forEach((d) => { d.open = true; });
	for (const cell of [...document.querySelectorAll("td, tbody th")].slice(0, 1000)) {
		if (cell.closest(".scroll, .unseen") || !cell.checkVisibility()) continue;
		const text = document.createRange();
		text.selectNodeContents(cell);
		const over = text.getBoundingClientRect().right - cell.getBoundingClientRect().right + parseFloat(getComputedStyle(cell).paddingRight);
		if (over > 1) out.Cut.push(over.toFixed(0) + " px: " + cell.textContent.trim().slice(0, 60));
	}
	for (const name of [...document.querySelectorAll("td bdi, tbody th bdi")].slice(0, 1000)) {
		if (/\s|-/.test(name.textContent) || name.textContent.length > 16 || !name.checkVisibility()) continue;
		if (new Set([...name.getClientRects()].map((r) => Math.round(r.top))).size > 1) out.Broken.push(name.textContent);
	}
	for (const label of document.querySelectorAll(".chart.change .label")) {
		const over = label.getBoundingClientRect().right - label.nextElementSibling.getBoundingClientRect().left;
		if (over > 0) out.Cut.push(over.toFixed(0) + " px over what stands beside it: " + label.textContent);
	}
	let n = 0;
	for (const el of document.querySelectorAll("body *")) {
		if (el.id && seen.has(el.id)) out.Ids.push(el.id);
		if (el.id) seen.add(el.id);
		if (el.hasAttribute("style")) out.Styles.push(el.tagName);
		if (++n > 4000 || el.closest("svg .plot, .unseen, .scroll, pre, defs")) continue;
		const box = el.getBoundingClientRect();
		if (box.width > 0 && box.right > wide + 1) out.Over.push(el.tagName + "." + el.getAttribute("class") + " " + el.textContent.slice(0, 40));
		const own = [...el.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
		if (own && box.width > 0 && el.checkVisibility()) {
			const style = getComputedStyle(el);
			const a = light(rgb(el.closest("svg") ? style.fill : style.color)), b = light(ground(el));
			const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			if (contrast < 4.5) out.Pale.push(contrast.toFixed(2) + " " + el.tagName + " " + el.textContent.slice(0, 40));
		}
	}
	for (const list of document.querySelectorAll("select")) {
		const had = list.offsetWidth;
		list.style.width = list.style.maxWidth = "max-content";
		if (list.offsetWidth > had + 1 && list.offsetWidth < 320) // of words, and not of sentences
			out.Cut.push("the list " + list.name + " needs " + list.offsetWidth + " px and has " + had);
		list.style.width = list.style.maxWidth = "";
	}
	out.Cut = out.Cut.slice(0, 5);
	out.Width = document.documentElement.scrollWidth;
	document.querySelectorAll("details").forEach((d) => { d.open = false; });
	out.Over = out.Over.slice(0, 5);
	out.Broken = out.Broken.slice(0, 5);
	out.Pale = out.Pale.slice(0, 5);
	return out;
})()`

func TestTheDaysOfAChartAreChosenByKeysAndByDragging(t *testing.T) {
	ctx, complaints := startBrowser(t)
	site := serve(t, realistic())
	visit := func(path string) {
		t.Helper()
		err := chromedp.Do(ctx, browser.Window(1280, 900, 1, false), chromedp.Navigate(site.URL+path))
		if err != nil {
			t.Fatal(err)
		}
	}
	location := func() string {
		t.Helper()
		u, err := chromedp.Run(ctx, chromedp.Location())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(u, site.URL)
	}
	key := func(key string, shift bool) chromedp.Action[chromedp.Void] {
		if shift {
			return chromedp.KeyEvent(key, chromedp.KeyModifiers(kb.ModifierShift))
		}
		return chromedp.KeyEvent(key)
	}

	visit("/domains/acme.example")
	first := chromedp.Query("figure.timeline")
	if err := chromedp.Do(ctx, first, chromedp.Focus("figure.timeline"), key(kb.ArrowLeft, false), key(kb.ArrowLeft, false)); err != nil {
		t.Fatal(err)
	}
	said, err := chromedp.Run(ctx, chromedp.Text("figure.timeline .readout"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "Sun 22 Nov 2026 (UTC): "; !strings.HasPrefix(said, want) {
		t.Errorf("the readout says %q, want %q", said, want)
	}
	err = chromedp.Do(ctx, key(kb.ArrowLeft, true), key(kb.ArrowLeft, true))
	if err == nil {
		_, err = chromedp.RunResponse(ctx, key(kb.Enter, false))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, want := location(), "/domains/acme.example?from=2026-11-20&to=2026-11-23"; got != want {
		t.Errorf("keys lead to %s, want %s", got, want)
	}
	if err := chromedp.Do(ctx, chromedp.NavigateBack()); err != nil {
		t.Fatal(err)
	}
	if got, want := location(), "/domains/acme.example"; got != want {
		t.Errorf("Back leads to %s, want %s", got, want)
	}

	type box struct{ Left, Top, Width, Height float64 }
	plot, err := chromedp.Run(ctx, chromedp.Evaluate[box](`(() => {
		const b = document.querySelector("figure.timeline .plot").getBoundingClientRect();
		return { Left: b.left, Top: b.top, Width: b.width, Height: b.height };
	})()`))
	if err != nil {
		t.Fatal(err)
	}
	middle := func(day float64) float64 { return plot.Left + (day+0.5)/30*plot.Width }
	_, err = chromedp.RunResponse(ctx,
		chromedp.MouseEvent(chromedp.MouseMoved, middle(3), plot.Top+50),
		chromedp.MouseEvent(chromedp.MousePressed, middle(3), plot.Top+50, chromedp.ButtonLeft),
		chromedp.MouseEvent(chromedp.MouseMoved, middle(6), plot.Top+60, chromedp.ButtonLeft),
		chromedp.MouseEvent(chromedp.MouseMoved, middle(9), plot.Top+60, chromedp.ButtonLeft),
		chromedp.MouseEvent(chromedp.MouseReleased, middle(9), plot.Top+60, chromedp.ButtonLeft),
	)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := location(), "/domains/acme.example?from=2026-10-28&to=2026-11-04"; got != want {
		t.Errorf("dragging leads to %s, want %s", got, want)
	}
	for _, c := range complaints() {
		t.Error(c)
	}
}
