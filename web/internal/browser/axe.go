package browser

import (
	"context"
	"fmt"

	"github.com/chromedp/chromedp"
)

// look has axe look at everything of a page, and colours at what colours change.
const (
	look    = settle + `axe.run(document, { resultTypes: ["violations"] })` + found
	colours = settle + `axe.run(document, { resultTypes: ["violations"], runOnly: ["color-contrast", "link-in-text-block"] })` + found

	// Colours that are on their way to others are there at once.
	settle = `(getComputedStyle(document.body).color, new Promise(requestAnimationFrame)).then(() => document.getAnimations().forEach((a) => a.finish())).then(() => `
	found  = `).then((r) => r.violations.map((v) =>
	v.id + " (" + v.impact + "): " + v.help + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + (n.any[0] ?? n.all[0] ?? n.none[0])?.message).join(" | ")))`
)

// Violations returns what the script axe finds on the page as it is in a window of this
// width and colours, and in the other colours. It leaves the window as it was.
func Violations(ctx context.Context, axe string, width int64, dark bool) ([]string, error) {
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[any](axe+";0")); err != nil {
		return nil, err
	}
	all, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](look, chromedp.EvalAwaitPromise))
	if err == nil {
		err = chromedp.Do(ctx, Window(width, 900, 1, !dark))
	}
	if err != nil {
		return nil, err
	}
	other, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](colours, chromedp.EvalAwaitPromise))
	if err == nil {
		err = chromedp.Do(ctx, Window(width, 900, 1, dark))
	}
	for _, v := range other {
		all = append(all, fmt.Sprintf("with dark %v: %s", !dark, v))
	}
	return all, err
}
