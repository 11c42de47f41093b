package browser

import (
	"context"
	"fmt"

	"github.com/chromedp/chromedp"
)

// look has axe look at everything of a page, and then at each menu that is open on it,
// which would hide what is below from it.
const look = `(async () => {
	getComputedStyle(document.body).color;
	await new Promise(requestAnimationFrame);
	document.getAnimations().forEach((a) => a.finish()); // colours that are on their way to others are there at once
	const menus = [...document.querySelectorAll("details[open]")].filter((d) => getComputedStyle(d.lastElementChild).position === "absolute");
	menus.forEach((d) => { d.open = false; });
	const found = [];
	for (const where of [document, ...menus]) {
		if (where !== document) where.open = true;
		found.push(...(await axe.run(where, { resultTypes: ["violations"] })).violations);
	}
	return found.map((v) => v.id + " (" + v.impact + "): " + v.help + ": " +
		v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + (n.any[0] ?? n.all[0] ?? n.none[0])?.message).join(" | "));
})()`

// Violations returns what the script axe finds on the page as it is in a window of this
// width and colours, and in the other colours: by all its rules both times, since colours
// may show and hide as well as paint. It leaves the window as it was.
func Violations(ctx context.Context, axe string, width int64, dark bool) (all []string, err error) {
	there, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`"axe" in window`))
	if err == nil && !there {
		_, err = chromedp.Run(ctx, chromedp.Evaluate[any](axe+";0"))
	}
	if err != nil {
		return nil, err
	}
	for _, dark := range []bool{dark, !dark} {
		if err := chromedp.Do(ctx, Window(width, 900, 1, dark)); err != nil {
			return nil, err
		}
		found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](look, chromedp.EvalAwaitPromise))
		if err != nil {
			return nil, err
		}
		for _, v := range found {
			all = append(all, fmt.Sprintf("%d wide, dark %v: %s", width, dark, v))
		}
	}
	return all, chromedp.Do(ctx, Window(width, 900, 1, dark))
}
