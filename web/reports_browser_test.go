package web

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/web/internal/browser"
)

func TestPagesOfReportsFitTheirWindow(t *testing.T) {
	racetest.Calm(t)
	ctx, complaints := startBrowser(t)
	full, id := withReports(withLooks(realistic(), "acme.example", ""), 5000, "")
	one, _ := withReports(realistic(), 1, strings.Repeat(hostile, 3))
	sites := map[string]*httptest.Server{"no": serve(t, &fake{}), "full": serve(t, full), "single": serve(t, one)}
	single := "/reports/" + url.PathEscape(id)
	windows := []struct {
		width int64
		dark  bool
	}{{1280, false}, {390, true}, {1280, true}, {390, false}}
	if os.Getenv("DMARCD_TEST_PICTURES") == "" {
		windows = windows[:2]
	}
	for _, c := range []visit{
		{"no", "/reports", 200}, {"no", "/failures", 200}, {"no", "/tls", 200}, {"no", "/domains/never.example/tls", 200},
		{"single", single, 200}, {"single", "/domains/acme.example/tls", 200}, {"single", "/failures/7-0?show=whole", 200}, {"single", "/reports", 200},
		{"full", "/reports?reporter=Yahoo&domain=acme.example&days=90", 200}, {"full", "/domains/acme.example/reports", 200},
		{"full", single, 200}, {"full", single + "?show=failed&sort=source&source=203.0.113.0/24", 200}, {"full", single + "?sort=nonsense", 400},
		{"full", single + "b", 200}, {"full", single + "/text", 200}, {"full", single + "b/text", 404},
		{"full", "/failures", 200}, {"full", "/failures/7-0", 200}, {"full", "/tls", 200}, {"full", "/domains/acme.example/tls", 200},
		{"full", "/domains/acme.example/tls?days=365", 200}, {"full", "/tls/9-0", 200}, {"single", "/tls/9-0", 200}, {"full", "/tls/9-0/text", 200}, {"full", "/tls/9-9", 404},
	} {
		for _, w := range windows {
			fits(ctx, t, complaints, sites[c.site], c, w.width, w.dark)
		}
	}
}

// What a reader does with reports: filter, sort, page, look into one, go back; and
// the same without JavaScript.
func TestReportsAreReadAsAUserWould(t *testing.T) {
	racetest.Calm(t)
	ctx, complaints := startBrowser(t)
	f, id := withReports(realistic(), 5000, "")
	site := serve(t, f)
	report := "/reports/" + url.PathEscape(id)
	text := func(selector string) string {
		t.Helper()
		s, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector)))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(spaced(s)), " ")
	}
	// A link to a part of the page that it leads to gives no answer to wait for, so
	// the address is.
	follow := func(action chromedp.Action[chromedp.Void], want string) {
		t.Helper()
		if err := chromedp.Do(ctx, action); err != nil {
			t.Fatal(err)
		}
		at := ""
		for at != site.URL+want {
			var err error
			if at, err = chromedp.Run(ctx, chromedp.Evaluate[string](`document.readyState === "complete" ? location.href : ""`)); err != nil && ctx.Err() != nil {
				t.Fatalf("leads to %s, want %s", at, want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	has := func(selector, want string) {
		t.Helper()
		if got := text(selector); !strings.Contains(got, want) {
			t.Errorf("%s says %q, not %q", selector, got, want)
		}
	}
	run := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatal(err)
		}
	}
	scripts := func(on bool) {
		run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
			return err
		}))
	}

	run(browser.Window(1280, 900, 1, false))
	for _, on := range []bool{true, false} {
		scripts(on)
		run(chromedp.Navigate(site.URL + "/"))
		follow(chromedp.Click(`nav a[href="/reports"]`), "/reports")
		run(chromedp.SetValue(`input[name="reporter"]`, "Yahoo"))
		follow(chromedp.Click(`.filter button`), "/reports?domain=&reporter=Yahoo&source=&disposition=&aligned=&class=&flag=")
		has(".lead", "reports of Yahoo of your domains in the last 30 days")
		has(".reports tbody", "Yahoo")
		if strings.Contains(text(".reports tbody"), "Comcast") {
			t.Error("the filter leaves others in")
		}
		follow(chromedp.Click(`.filter a`), "/reports")
		follow(chromedp.Click(`.reports tbody tr:nth-child(1) td:nth-child(4) a`), report)
		has(".lead", "33.4 % of 2,436,510 messages passed DMARC as acme.example")
		has("#rows ~ .said", "1 to 50 of 5,000 rows with 2,436,510 messages, most messages first.")
		follow(chromedp.Click(`.pager a[rel="next"]`), report+"?after=50#rows")
		follow(chromedp.Click(`.pager a[rel="first"]`), report+"#rows")
		follow(chromedp.Click(`thead th:nth-child(3) a`), report+"?sort=failing#rows")
		if got, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("[aria-sort]").innerText`)); err != nil || got != "Verdict" {
			t.Errorf("sorted by %q, %v", got, err)
		}
		run(browser.Window(390, 900, 1, false), chromedp.Navigate(site.URL+report)) // without columns, too
		follow(chromedp.Click(`thead th:nth-child(3) a`), report+"?sort=failing#rows")
		run(browser.Window(1280, 900, 1, false))
		run(chromedp.SetValue(`select[name="show"]`, "passed"), chromedp.SetValue(`input[name="source"]`, "203.0.113.0/25"))
		follow(chromedp.Click(`.filter button`), report+"?sort=failing&show=passed&source=203.0.113.0%2F25#rows")
		var rows, messages int64
		for _, r := range f.rows[id] {
			if a := r.Source; a.Is4() && a.As4()[2] == 113 && a.As4()[3] < 128 && r.Passes() {
				rows++
				messages += r.Count
			}
		}
		has("#rows ~ .said", fmt.Sprintf("of %d rows (5,000 in all) with %s messages", rows, count(messages)))
		follow(chromedp.NavigateBack(), report+"?sort=failing#rows")
		follow(chromedp.Click(`.about a[href$="/text"]`), report+"/text")
		has("pre", "<feedback>")
		follow(chromedp.NavigateBack(), report+"?sort=failing#rows")

		run(chromedp.Navigate(site.URL + "/reports"))
		follow(chromedp.Click(`.tabs a:nth-child(2)`), "/failures")
		run(chromedp.SetValue(`input[name="source"]`, "198.51.100.7"))
		follow(chromedp.Click(`.filter button`), "/failures?domain=&source=198.51.100.7")
		follow(chromedp.Click(`.failures tbody a`), "/failures/7-7")
		has("main", "…@acme.example")
		if strings.Contains(text("main"), "secret") {
			t.Error("what tells about people is not masked")
		}
		follow(chromedp.Click(`.head .more a`), "/failures/7-7?show=whole")
		has("main", "anna.secret@acme.example")
		follow(chromedp.Click(`.head .more a`), "/failures/7-7")

		run(chromedp.Navigate(site.URL + "/domains/acme.example/reports"))
		follow(chromedp.Click(`.tabs a:nth-child(3)`), "/domains/acme.example/tls")
		has(".lead", "99.2 % of 30,096 sessions with the mail servers of acme.example")
		has(".results", "Certificate expired certificate-expired 180 sessions")
		follow(chromedp.Click(`.period a:nth-child(2)`), "/domains/acme.example/tls?days=90")
	}
	scripts(true)
	for _, c := range complaints() {
		t.Error(c)
	}
}

// What is printed is on white, whatever colours the screen has, and fits on a sheet.
func TestPagesArePrintedOnWhite(t *testing.T) {
	ctx, _ := startBrowser(t)
	site := serve(t, withLooks(realistic(), "acme.example", ""))
	paper := chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Media: "print", Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
		})
		return err
	})
	for _, path := range []string{"/", "/domains/acme.example", "/domains/acme.example/policy", "/domains/acme.example/sources", "/domains/acme.example/senders", "/domains/acme.example/dns"} {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(718, 1046), paper, chromedp.Navigate(site.URL+path)); err != nil { // A4 with margins of a centimetre
			t.Fatal(err)
		}
		wrong, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`(() => {
			const wrong = [], seen = new Set();
			if (document.documentElement.scrollWidth > 718) wrong.push("it is " + document.documentElement.scrollWidth + " wide");
			for (const el of document.querySelectorAll("body *")) {
				if (!el.checkVisibility() || el.closest(".unseen, defs")) continue;
				const style = getComputedStyle(el);
				for (const colour of el.matches(".weekend, .so-far") ? [style.fill] : [style.backgroundColor]) {
					const [r, g, b, a] = colour.match(/[\d.]+/g).map(Number);
					if (a !== 0 && (r + g + b) * (colour.startsWith("color(") ? 255 : 1) < 3 * 128) seen.add(el.tagName + " " + el.getAttribute("class") + " " + colour);
				}
			}
			return wrong.concat([...seen].slice(0, 5));
		})()`))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range wrong {
			t.Errorf("%s: %s", path, w)
		}
	}
}

// Times are told in the zone of the reader, written as those of UTC are, which stand in the title.
func TestTimesAreThoseOfTheReader(t *testing.T) {
	racetest.Calm(t)
	ctx, _ := startBrowser(t)
	f, _ := withReports(realistic(), 1, "")
	site := serve(t, f)
	zone := chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Kolkata"})
		return err
	})
	if err := chromedp.Do(ctx, zone, chromedp.Navigate(site.URL+"/failures")); err != nil {
		t.Fatal(err)
	}
	shown, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`(() => { const t = document.querySelector("time"); return [t.dateTime, t.textContent, t.title]; })()`))
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, shown[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := at.Add(5*time.Hour+30*time.Minute).Format("2 Jan 2006, 15:04") + nbsp + "+05:30"; shown[1] != want || shown[2] != clock(at) {
		t.Errorf("it is shown as %q with the title %q, want %q and %q", shown[1], shown[2], want, clock(at))
	}
}
