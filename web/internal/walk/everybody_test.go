package walk

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// stops numbers what can be focused on a page, and says what it is.
const stops = `(() => {
	const groups = new Set();
	return [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")].filter((el) => {
		if (el.disabled || el.type === "hidden" || el.tabIndex < 0 || !el.checkVisibility()) return false;
		if (el.type !== "radio") return true;
		const group = el.form?.id + " " + el.name; // one of them stands for all
		return groups.has(group) ? false : groups.add(group);
	}).map((el, i) => {
		(el.type === "radio" ? [...document.getElementsByName(el.name)] : [el]).forEach((e) => { e.dataset.stop = i; });
		return el.outerHTML.slice(0, 120);
	});
})()`

// stop tells where the focus is, -1 for nowhere, and whether one sees it.
const stop = `(() => {
	const el = document.activeElement;
	if (!el || el === document.body || el === document.documentElement) return { At: -1, Seen: true };
	const style = getComputedStyle(el), box = el.getBoundingClientRect();
	return {
		At: Number(el.dataset.stop ?? -2), What: el.outerHTML.slice(0, 120),
		Seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 && box.width > 0 && box.bottom > 0 && box.top < innerHeight,
	};
})()`

// byKeys goes through a page by the tab key: everything can be reached, in the order in
// which it stands there, one sees where one is, and comes out at the end.
func byKeys(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	all, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](stops))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	next := 0
	for range 5*len(all) + 3 {
		if err := chromedp.Do(ctx, chromedp.KeyEvent(kb.Tab)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		at, err := chromedp.Run(ctx, chromedp.Evaluate[struct {
			At   int
			What string
			Seen bool
		}](stop))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if at.At == -1 || at.At == 0 && next > 1 {
			break
		}
		if at.At == next-1 && strings.Contains(at.What, `type="date"`) {
			continue // it has a stop for each of day, month and year
		}
		if at.At != next {
			t.Errorf("%s: by keys one comes to %d, %s, and not to %d of %d", name, at.At, at.What, next, len(all))
			if at.At < next {
				return
			}
		}
		if !at.Seen {
			t.Errorf("%s: one does not see that the focus is at %s", name, at.What)
		}
		next = at.At + 1
	}
	if next != len(all) {
		t.Errorf("%s: by keys one reaches %d of %d; the next is %s", name, next, len(all), all[next])
	}
}

// A gist is what a page must have with scripts and without.
type gist struct {
	Title              string
	Rows, Links, Forms int
	Words              int
	Dead               []string // what does nothing without scripts
}

const gistOf = `(() => {
	const main = document.querySelector("main");
	const dead = [...document.querySelectorAll("button, a")].filter((el) => el.checkVisibility() &&
		(el.localName === "a" ? !el.getAttribute("href") : !el.form && !el.hasAttribute("popovertarget") && !el.hasAttribute("commandfor")));
	const title = document.querySelector("h1")?.cloneNode(true);
	title?.querySelectorAll("button").forEach((b) => b.remove()); // a comfort
	return {
		Title: title?.textContent.trim() ?? "",
		Rows: main.querySelectorAll("tr").length,
		Links: main.querySelectorAll("a[href]").length,
		Forms: main.querySelectorAll("form[action], form[method]").length,
		Words: main.innerText.split(/\s+/).length,
		Dead: dead.slice(0, 3).map((el) => el.outerHTML.slice(0, 120)),
	};
})()`

// bare opens a page without scripts: it has the same lines, links and forms, says as
// much, and shows nothing that would do nothing.
func bare(t *testing.T, ctx context.Context, address, name string) {
	t.Helper()
	scripts := func(on bool) (g gist) {
		t.Helper()
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		if err == nil {
			err = chromedp.Do(ctx, chromedp.Navigate(address))
		}
		if err == nil {
			g, err = chromedp.Run(ctx, chromedp.Evaluate[gist](gistOf))
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return g
	}
	without := scripts(false)
	with := scripts(true)
	for _, dead := range without.Dead {
		t.Errorf("%s: without scripts this does nothing: %s", name, dead)
	}
	without.Dead, with.Dead = nil, nil
	say := func(g gist) string {
		return fmt.Sprintf("%q, %d rows, %d links, %d forms", g.Title, g.Rows, g.Links, g.Forms)
	}
	if say(without) != say(with) || without.Title == "" || 10*without.Words < 9*with.Words {
		t.Errorf("%s: without scripts it has %s, %d words; with scripts %s, %d", name, say(without), without.Words, say(with), with.Words)
	}
}
