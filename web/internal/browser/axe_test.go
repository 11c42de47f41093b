package browser

import (
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// What is there in one of the colours only is looked at by every rule, not by those
// about colours alone.
func TestEveryRuleIsHeldInBothColours(t *testing.T) {
	axe, err := os.ReadFile("../../testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	ctx, closeBrowser, err := Open(t.Context())
	if errors.Is(err, ErrNone) && os.Getenv("DMARCD_TEST_REQUIRE") == "" {
		t.Skipf("SKIPPED, so axe is not tried: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer closeBrowser()
	const page = `<!doctype html><html lang="en"><title>A page</title><style>
		:root { color-scheme: light dark } .light, .dark { display: none }
		@media (prefers-color-scheme: light) { .light { display: block } }
		@media (prefers-color-scheme: dark) { .dark { display: block } }
		</style><main><h1>A page</h1><input class="light"><input class="dark"></main></html>`
	if err := chromedp.Do(ctx, Window(800, 900, 1, false), chromedp.Navigate("data:text/html,"+url.PathEscape(page))); err != nil {
		t.Fatal(err)
	}
	found, err := Violations(ctx, string(axe), 800, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || !strings.HasPrefix(found[0], "800 wide, dark false: label ") || !strings.Contains(found[0], `"light"`) ||
		!strings.HasPrefix(found[1], "800 wide, dark true: label ") || !strings.Contains(found[1], `"dark"`) {
		t.Errorf("axe finds %q", found)
	}
}
