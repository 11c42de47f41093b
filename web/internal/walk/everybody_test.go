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

// A place is where the focus is.
type place struct {
	At   int
	What string
	Seen bool
}

// press presses a key, and tells where the focus is then.
func press(t *testing.T, ctx context.Context, name, key string, held ...chromedp.Modifier) (at place) {
	t.Helper()
	err := chromedp.Do(ctx, chromedp.KeyEvent(key, chromedp.KeyModifiers(held...)))
	if err == nil {
		at, err = chromedp.Run(ctx, chromedp.Evaluate[place](stop))
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return at
}

// byKeys goes through a page by the tab key, and back: everything can be reached, in the
// order in which it stands there, one sees where one is, and comes out at the end.
func byKeys(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	all, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](stops))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	// A date has a stop for each of day, month and year.
	again := func(at place, last int) bool { return at.At == last && strings.Contains(at.What, `type="date"`) }
	next := 0
	for range 5*len(all) + 3 {
		at := press(t, ctx, name, kb.Tab)
		if at.At == -1 || at.At == 0 && next > 1 {
			break
		}
		if again(at, next-1) {
			continue
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
		return
	}
	for range 5*len(all) + 3 {
		at := press(t, ctx, name, kb.Tab, kb.ModifierShift)
		if at.At == -1 && next == len(all) || again(at, next) {
			continue
		}
		if next == 0 { // it is left where it begins
			if at.At > 0 && at.At < len(all)-1 {
				t.Errorf("%s: back by keys from the begin one comes to %d, %s", name, at.At, at.What)
			}
			break
		}
		if at.At != next-1 {
			t.Errorf("%s: back by keys from %d one comes to %d, %s", name, next, at.At, at.What)
			return
		}
		if !at.Seen {
			t.Errorf("%s: back by keys, one does not see that the focus is at %s", name, at.What)
		}
		next--
	}
	if next != 0 {
		t.Errorf("%s: back by keys one reaches all but %d of %d", name, next, len(all))
	}
}

// A folded is something that opens on a page: the stops in it, and whether it lies over
// what follows.
type folded struct {
	What        string
	Menu, Open  bool
	First, Last int // stops in it; Last is beyond them
}

// folds finds what opens, one of each kind, and fold tells how it is with one of them.
const (
	folds = `(() => {
		const kinds = new Set();
		return [...document.querySelectorAll("summary")].filter((s) => {
			const kind = s.parentElement.className + " " + !!s.parentElement.querySelector("a, input, button, [tabindex]");
			return s.checkVisibility() && !kinds.has(kind) && kinds.add(kind);
		}).map((s, i) => { s.dataset.fold = i; return s.outerHTML.slice(0, 120); }).length;
	})()`
	fold = `(() => {
		const all = ` + stops + `;
		const s = document.querySelector("[data-fold='%d']"), d = s.parentElement;
		const inside = [...d.querySelectorAll("[data-stop]")].filter((el) => el !== s && el.checkVisibility()).map((el) => Number(el.dataset.stop));
		const first = Number(s.dataset.stop) + 1;
		return { What: s.outerHTML.slice(0, 120), Menu: getComputedStyle(d.lastElementChild).position === "absolute", Open: d.open,
			First: first, Last: Math.max(first - 1, ...inside) + 1 };
	})()`
)

// unfold opens what opens on a page, by Enter and by Space: what is in it can be reached,
// and it closes again. What lies over the page closes by Escape, and is not in the way of
// those who leave it; the focus is where it was.
func unfold(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	n, err := chromedp.Run(ctx, chromedp.Evaluate[int](folds))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for i := range n {
		how := func() folded {
			t.Helper()
			f, err := chromedp.Run(ctx, chromedp.Evaluate[folded](fmt.Sprintf(fold, i)))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return f
		}
		// is holds what opens to being open or closed, and the focus to a stop.
		is := func(after string, at place, open bool, stop int) {
			t.Helper()
			if f := how(); f.Open != open || at.At != stop || !at.Seen {
				t.Errorf("%s: %s is open %v after %s, want %v, and the focus at %d, %s, seen %v, want %d", name, f.What, f.Open, after, open, at.At, at.What, at.Seen, stop)
			}
		}
		if err := chromedp.Do(ctx, chromedp.Focus(fmt.Sprintf("[data-fold='%d']", i))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		own := how().First - 1
		for _, key := range []string{kb.Enter, " "} {
			is("it was opened", press(t, ctx, name, key), true, own)
			f := how()
			at := place{At: own, Seen: true}
			for next := f.First; next < f.Last; next++ {
				for was := at.At; at.At == was; { // of a date too
					at = press(t, ctx, name, kb.Tab)
				}
				is("a tab", at, true, next)
			}
			if f.Menu {
				is("Escape", press(t, ctx, name, kb.Escape), false, own)
				continue
			}
			for range 5 * (f.Last - f.First) {
				if at.At == own {
					break
				}
				at = press(t, ctx, name, kb.Tab, kb.ModifierShift)
			}
			is("it was closed", press(t, ctx, name, key), false, own)
		}
		if f := how(); f.Menu {
			at := press(t, ctx, name, kb.Enter)
			f = how()
			for range 5*(f.Last-f.First) + 1 {
				if at.At < own || at.At >= f.Last {
					break
				}
				at = press(t, ctx, name, kb.Tab)
			}
			if f := how(); f.Open && at.At >= 0 { // at the end of a page there is nothing for it to hide
				t.Errorf("%s: %s is open with the focus beyond it, at %s", name, f.What, at.What)
			}
		}
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
