package web

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/dmarcd/dmarcd/web/internal/browser"
)

// The period is moved in the brush by pointer and keys; the address says it, and
// Back leads back. Senders are sorted, and opened to their addresses.
func TestThePeriodIsMovedInTheBrush(t *testing.T) {
	ctx, complaints := startBrowser(t)
	f := realistic()
	f.advice["acme.example"].send("203.0.113.2", byService, "newsbird.example", 7, 20, 10)
	site := serve(t, f)
	do := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatal(err)
		}
	}
	leadsTo := func(want string) {
		t.Helper()
		u, err := chromedp.Run(ctx, chromedp.Location())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimPrefix(u, site.URL); got != want {
			t.Errorf("leads to %s, want %s", got, want)
		}
	}
	text := func(selector string) string {
		t.Helper()
		s, err := chromedp.Run(ctx, chromedp.Text(selector))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const brush = "figure.brushing"
	do(browser.Window(1280, 1400, 1, false), chromedp.Navigate(site.URL+"/domains/acme.example"), chromedp.Focus(brush))
	do(chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft, chromedp.KeyModifiers(kb.ModifierShift)))
	if got, want := text(brush+" .readout"), "2026-10-11 to 2026-11-02 (UTC), 23 days: Enter shows them"; got != want {
		t.Errorf("the readout says %q, want %q", got, want)
	}
	if _, err := chromedp.RunResponse(ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
		t.Fatal(err)
	}
	leadsTo("/domains/acme.example?from=2026-10-11&to=2026-11-03")
	do(chromedp.NavigateBack())
	leadsTo("/domains/acme.example")

	type box struct{ Left, Top, Width, Height float64 }
	drag := func(first, last float64) { // days of the 371 that are shown
		t.Helper()
		plot, err := chromedp.Run(ctx, chromedp.Evaluate[box](fmt.Sprintf(`(() => {
			document.querySelector(%q).scrollIntoView({ block: "center" });
			const b = document.querySelector(%q + " .plot").getBoundingClientRect();
			return { Left: b.left, Top: b.top, Width: b.width, Height: b.height };
		})()`, brush, brush)))
		if err != nil {
			t.Fatal(err)
		}
		y, from, to := plot.Top+plot.Height/2, plot.Left+first/yearDays*plot.Width, plot.Left+last/yearDays*plot.Width
		_, err = chromedp.RunResponse(ctx,
			chromedp.MouseEvent(chromedp.MouseMoved, from, y),
			chromedp.MouseEvent(chromedp.MousePressed, from, y, chromedp.ButtonLeft),
			chromedp.MouseEvent(chromedp.MouseMoved, (from+to)/2, y, chromedp.ButtonLeft),
			chromedp.MouseEvent(chromedp.MouseMoved, to, y, chromedp.ButtonLeft),
			chromedp.MouseEvent(chromedp.MouseReleased, to, y, chromedp.ButtonLeft),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	drag(100.5, 139.5) // chooses days
	leadsTo("/domains/acme.example?from=2026-02-26&to=2026-04-07")
	drag(120.5, 150.5) // moves them
	leadsTo("/domains/acme.example?from=2026-03-28&to=2026-05-07")

	// Without the script, links do the same.
	click := func(selector string) {
		t.Helper()
		if _, err := chromedp.RunResponse(ctx, chromedp.Click(selector)); err != nil {
			t.Fatal(err)
		}
	}
	click(`.zoom a[rel="prev"]`)
	leadsTo("/domains/acme.example?from=2026-02-16&to=2026-03-28")
	click(`.brush a[aria-label="Sep 2026"]`)
	leadsTo("/domains/acme.example?from=2026-09-01&to=2026-10-01")

	do(chromedp.Navigate(site.URL + "/domains/acme.example/sources?days=90"))
	click(`thead th:nth-child(6) a`)
	leadsTo("/domains/acme.example/sources?days=90&sort=failed")
	// On a telephone there are no columns, and what they are sorted by can be chosen all the same.
	do(browser.Window(390, 900, 1, false), chromedp.Navigate(site.URL+"/domains/acme.example/sources?days=90"))
	click(`thead th:nth-child(6) a`)
	leadsTo("/domains/acme.example/sources?days=90&sort=failed")
	if got := text("thead"); !strings.HasPrefix(got, "Sender") || strings.Contains(got, "\n\n") {
		t.Errorf("one can sort by %q", got)
	}
	do(browser.Window(1280, 900, 1, false))
	do(chromedp.Click(".addresses summary"))
	if got := text(".addresses[open] ul"); !strings.Contains(got, "203.0.113.1") || !strings.Contains(got, "203.0.113.2") {
		t.Errorf("the addresses of the sender are %q", got)
	}
	for _, c := range complaints() {
		t.Error(c)
	}
}

// On a telephone the names in the picture of the flow stand on it: none covers another, or
// where a thin band begins or ends.
func TestNamesInTheFlowLeaveThinBandsToBeSeen(t *testing.T) {
	ctx, _ := startBrowser(t)
	site := serve(t, realistic())
	if err := chromedp.Do(ctx, browser.Window(390, 900, 1, false), chromedp.Navigate(site.URL+"/domains/acme.example")); err != nil {
		t.Fatal(err)
	}
	covered, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`(() => {
		const covered = [], boxes = [];
		const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
		for (const stop of document.querySelectorAll(".flow .stop")) {
			const post = stop.querySelector(".post").getBoundingClientRect();
			if (stop.matches(".thin")) boxes.push({ name: "a thin band", left: post.left, right: post.right + 24, top: post.top, bottom: post.bottom });
			if (stop.matches(".thin.to")) boxes.at(-1).left -= 24;
			for (const t of stop.querySelectorAll("text")) {
				const b = t.getBoundingClientRect();
				boxes.push({ name: t.textContent, left: b.left, right: b.right, top: b.top, bottom: b.bottom });
			}
		}
		boxes.forEach((a, i) => boxes.slice(0, i).forEach((b) => { if (meet(a, b)) covered.push(a.name + " and " + b.name); }));
		if (boxes.length < 12) covered.push("only " + boxes.length + " names");
		const figure = document.querySelector(".flowing"), note = figure.querySelector("figcaption").getBoundingClientRect();
		boxes.forEach((b) => { if (b.bottom > note.top) covered.push(b.name + " and what is said below"); });
		return covered;
	})()`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range covered {
		t.Errorf("these meet: %s", c)
	}
}
