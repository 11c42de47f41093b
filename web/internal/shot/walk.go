package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/chromedp/chromedp"

	"github.com/dmarcd/dmarcd/web/internal/browser"
)

// tallest is how much of a long page is shown, in pixels.
const tallest = 2400

// walk follows links from the first page of a dashboard, and writes pictures of
// a page of each kind into a folder: as on a desk and on a telephone, in light and dark
// colours. Of several domains it shows the first.
func walk(ctx context.Context, base, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ctx, closeBrowser, err := browser.Open(ctx)
	if err != nil {
		return err
	}
	defer closeBrowser()
	root, err := url.Parse(base)
	if err != nil {
		return err
	}
	seen, names := map[string]bool{"/?": true}, map[string]int{}
	domain := ""
	queue := []string{"/"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		at, err := root.Parse(path)
		if err != nil {
			return err
		}
		if err := chromedp.Do(ctx, browser.Window(1280, 900, 1, false)); err != nil {
			return err
		}
		answer, err := chromedp.Run(ctx, chromedp.NavigateResponse(at.String()))
		if err != nil && strings.Contains(err.Error(), "ERR_ABORTED") {
			continue // a file to keep
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if answer == nil || answer.Status != http.StatusOK || answer.MimeType != "text/html" {
			continue
		}
		name := nameOf(at)
		if names[name]++; names[name] > 1 {
			continue // another of its kind
		}
		if err := inAllLooks(dir, name, func(width int64, dark bool) ([]byte, error) {
			return whole(ctx, at.String(), width, dark)
		}); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Fprintln(os.Stderr, path)
		links, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll("a[href]")].map((a) => new URL(a.getAttribute("href"), location).href)`))
		if err != nil {
			return err
		}
		for _, l := range links {
			to, err := url.Parse(l)
			if err != nil || to.Host != root.Host || strings.HasPrefix(to.Path, "/api/v1/") || strings.HasPrefix(to.Path, "/static/") {
				continue
			}
			to.Fragment = ""
			if d := ofDomain.FindString(to.Path); d != "" && domain == "" {
				domain = d
			} else if d != "" && d != domain {
				continue
			}
			if s := browser.Shape(to); !seen[s] {
				seen[s] = true
				queue = append(queue, to.RequestURI())
			}
		}
	}
	return beyondLinks(ctx, root, dir)
}

// inAllLooks writes the pictures of one page, as on a desk and on a telephone, in light and dark colours.
func inAllLooks(dir, name string, take func(width int64, dark bool) ([]byte, error)) error {
	for _, w := range []struct {
		width  int64
		dark   bool
		called string
	}{{1280, false, "desk-light"}, {1280, true, "desk-dark"}, {390, false, "phone-light"}, {390, true, "phone-dark"}} {
		png, err := take(w.width, w.dark)
		if err != nil {
			return err
		}
		if png, err = small(png); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-"+w.called+".png"), png, 0o644); err != nil {
			return err
		}
	}
	return nil
}

var ofDomain = regexp.MustCompile(`^/domains/[^/]+`)

// nameOf names the picture of a page: today, domain, domain-policy.
func nameOf(u *url.URL) string {
	path := u.Path
	if d := ofDomain.FindString(path); d != "" {
		path = "/domain" + strings.TrimPrefix(path, d)
	}
	var parts []string
	for _, p := range strings.Split(strings.Trim(path, "/"), "/") {
		if p != "" && strings.Trim(p, "0123456789-.") != "" {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return "today"
	}
	if strings.Trim(path[strings.LastIndex(path, "/"):], "/0123456789-.") == "" {
		parts = append(parts, "one")
	}
	return strings.Join(parts, "-")
}

// whole returns a picture of a page down to where it ends, or tallest.
func whole(ctx context.Context, address string, width int64, dark bool) ([]byte, error) {
	if err := chromedp.Do(ctx, browser.Window(width, 900, 1, dark), chromedp.Navigate(address)); err != nil {
		return nil, err
	}
	return shown(ctx, width, dark)
}

// shown returns a picture of the page that is there, down to where it ends, or tallest.
func shown(ctx context.Context, width int64, dark bool) ([]byte, error) {
	if err := chromedp.Do(ctx, browser.Window(width, 900, 1, dark)); err != nil {
		return nil, err
	}
	height, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.documentElement.scrollHeight`))
	if err != nil {
		return nil, err
	}
	if err := chromedp.Do(ctx, browser.Window(width, max(600, min(height, tallest)), 1, dark)); err != nil {
		return nil, err
	}
	// Colours that fade into those of the other look are there at once.
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[int64](`document.getAnimations().reduce((n, a) => (a.finish(), n + 1), 0)`)); err != nil {
		return nil, err
	}
	return chromedp.Run(ctx, chromedp.CaptureScreenshot())
}
