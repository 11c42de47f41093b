package web

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/web/internal/browser"
)

// People try policies by keyboard, and by pointer without scripts: each answer
// has an address of its own, its numbers are those of the API, and Back works.
func TestPoliciesAreTriedByKeysAndWithoutScripts(t *testing.T) {
	ctx, complaints := startBrowser(t)
	store := realistic()
	site := serve(t, store)
	location := func() string {
		t.Helper()
		u, err := chromedp.Run(ctx, chromedp.Location())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(u, site.URL+"/domains/acme.example/policy")
	}
	held := func() string {
		t.Helper()
		s, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector('[data-class="all"] td:nth-of-type(4)').textContent`))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	reject := count(adviceOf(t, "acme.example", advice.Options{Target: dmarc.PolicyReject}).Simulation.Affected)
	none := count(adviceOf(t, "acme.example", advice.Options{Target: dmarc.PolicyNone}).Simulation.Affected)

	// With keys only: from the first choice to the last, and Enter.
	err := chromedp.Do(ctx, browser.Window(1280, 900, 1, false), chromedp.Navigate(site.URL+"/domains/acme.example/policy"),
		chromedp.Focus(`input[name="p"][value="quarantine"]`), chromedp.KeyEvent(kb.ArrowRight))
	if err == nil {
		_, err = chromedp.RunResponse(ctx, chromedp.KeyEvent(kb.Enter))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, want := location(), "?p=reject&sp=&np=&adkim=r&aspf=r&days=90"; got != want {
		t.Errorf("keys lead to %s, want %s", got, want)
	}
	if got := held(); got != reject {
		t.Errorf("under reject %s would be held, want %s", got, reject)
	}
	copied, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.querySelectorAll(".publication button.copy:not([hidden])").length`))
	if err != nil || copied == 0 {
		t.Errorf("%d records can be copied, %v", copied, err)
	}
	if err := chromedp.Do(ctx, chromedp.NavigateBack()); err != nil {
		t.Fatal(err)
	}
	if got := location(); got != "" {
		t.Errorf("Back leads to %s", got)
	}

	// Without scripts: a sender is taken for mended, another policy is chosen.
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(site.URL+"/domains/acme.example/policy"),
		chromedp.Click(`input[name="mend"]`)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(`#work + p + ol + p button`)); err != nil {
		t.Fatal(err)
	}
	if got, want := location(), "?p=quarantine&sp=&np=&adkim=r&aspf=r&days=90&mend=as+newsbird.example"; got != want {
		t.Errorf("ticking leads to %s, want %s", got, want)
	}
	if said, err := chromedp.Run(ctx, chromedp.Text("#verdict")); err != nil || !strings.HasPrefix(said, "If newsbird.example were mended: Not ready for quarantine") {
		t.Errorf("%q, %v", said, err)
	}
	if err := chromedp.Do(ctx, chromedp.Click(`input[name="p"][value="none"]`)); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(`#replay button`)); err != nil {
		t.Fatal(err)
	}
	if got := held(); got != none || !strings.HasSuffix(location(), "&mend=as+newsbird.example") {
		t.Errorf("under none %s would be held, want %s; at %s", got, none, location())
	}

	// Without scripts, too, it is said whose a sender is, and taken back.
	if err := chromedp.Do(ctx, chromedp.Navigate(site.URL+"/domains/acme.example")); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(`.ask button[value="suspicious"]`)); err != nil {
		t.Fatal(err)
	}
	if said, _ := store.said.Overrules(ctx, "acme.example"); len(said) != 1 || said[0].Network.String() != "2001:db8::7/128" || said[0].Class != dmarc.ClassSuspicious {
		t.Errorf("said %+v", said)
	}
	if err := chromedp.Do(ctx, chromedp.Navigate(site.URL+"/domains/acme.example/source?of=2001:db8::7")); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(`.said-list button`)); err != nil {
		t.Fatal(err)
	}
	if said, _ := store.said.Overrules(ctx, "acme.example"); len(said) != 0 {
		t.Errorf("it is still said: %+v", said)
	}
	for _, c := range complaints() {
		t.Error(c)
	}
}
