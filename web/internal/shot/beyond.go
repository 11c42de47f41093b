package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/dmarcd/dmarcd/web/internal/browser"
)

// A page that no link leads to: what is done on the page at path, and what is true once it is there.
type beyond struct{ name, path, do, there string }

var beyonds = []beyond{
	{"start", "/start", "0", "true"},
	{"error", "/nothing-is-here", "0", "true"},
	{"settings-token", "/settings", `(() => {
		const form = document.querySelector("form[action$='/settings/tokens']");
		form.querySelector("[name=name]").value = "Ann";
		form.requestSubmit();
		return 0;
	})()`, `location.pathname.endsWith("/settings/tokens") && document.readyState === "complete"`},
	{"intake-upload", "/intake", "(() => {" + chooseFiles + `input.dispatchEvent(new Event("change", { bubbles: true })); return 0; })()`,
		`document.querySelectorAll(".uploads li").length === 2 && !document.querySelector(".uploads progress")`},
	{"intake-uploaded", "/intake", "(() => {" + chooseFiles + `input.form.submit(); return 0; })()`, // as without scripts
		`location.pathname.endsWith("/intake/upload") && document.readyState === "complete"`},
}

// chooseFiles chooses two files that hold no report.
const chooseFiles = `
	const files = new DataTransfer();
	files.items.add(new File(["<feedback><report_metadata>"], "cut-off.xml"));
	files.items.add(new File(["Dear postmaster, how are you?"], "letter.txt"));
	const input = document.querySelector("form[data-upload] input[type=file]");
	input.files = files.files;
`

// beyondLinks writes pictures of the pages that no link leads to.
func beyondLinks(ctx context.Context, root *url.URL, dir string) error {
	for _, b := range beyonds {
		at, err := root.Parse(b.path)
		if err != nil {
			return err
		}
		if err := chromedp.Do(ctx, browser.Window(1280, 900, 1, false), chromedp.Navigate(at.String())); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[int64](b.do)); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		for there := false; !there; time.Sleep(50 * time.Millisecond) {
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", b.name, ctx.Err())
			}
			there, _ = chromedp.Run(ctx, chromedp.Evaluate[bool](b.there)) // while a page gives way to the next, it cannot be asked
		}
		if err := inAllLooks(dir, b.name, func(width int64, dark bool) ([]byte, error) { return shown(ctx, width, dark) }); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Fprintln(os.Stderr, b.name)
	}
	return nil
}
