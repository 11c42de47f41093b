// Package browser runs Chromium without a window, for tests and screenshots.
package browser

import (
	"context"
	"errors"
	"os/exec"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// ErrNone means that no browser is installed.
var ErrNone = errors.New("no Chromium is installed: deploy/install-deps.sh test installs it, or says how")

// programs are what is looked for, the best first. The headless shell is the same
// Chromium without what draws windows, and starts in a third of the processor time.
var programs = []string{"chromium-headless-shell", "headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

// Open starts a browser that speaks to nobody on its own. The context is for
// chromedp; close ends the browser.
func Open(ctx context.Context) (browser context.Context, closeBrowser func(), err error) {
	var path string
	for _, name := range programs {
		if path, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, nil, ErrNone
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // as root there is none
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true),
		// Going back loads the page again, which can be waited for.
		chromedp.Flag("disable-features", "Translate,BackForwardCache"),
	)
	allocator, stopAllocator := chromedp.NewExecAllocator(ctx, options...)
	browser, stopBrowser := chromedp.NewContext(allocator)
	closeBrowser = func() { stopBrowser(); stopAllocator() }
	if err := chromedp.Do(browser); err != nil {
		closeBrowser()
		return nil, nil, err
	}
	return browser, closeBrowser, nil
}

// Window sets the size of the window and which colours pages are asked for.
func Window(width, height int64, scale float64, dark bool) chromedp.Action[chromedp.Void] {
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	colours := func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}
	return chromedp.Steps(chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale)), chromedp.Func(colours))
}
