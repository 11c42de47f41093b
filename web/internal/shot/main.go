// Shot writes a picture of a page:
//
//	go run ./web/internal/shot -width 1280 -height 900 -dark -out docs/screenshot.png http://127.0.0.1:8080/
//
// or of a page of each kind, at two widths and in light and dark colours:
//
//	go run ./web/internal/shot -all docs/screenshots http://127.0.0.1:8080/
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/dmarcd/dmarcd/web/internal/browser"
)

func main() {
	width := flag.Int("width", 1280, "of the window, in `pixels`")
	height := flag.Int("height", 900, "of the window, in `pixels`; 0 for the whole page")
	scale := flag.Float64("scale", 1, "pixels of the picture for one of the window")
	dark := flag.Bool("dark", false, "ask the page for its dark colours")
	out := flag.String("out", "", "the PNG `file` to write")
	all := flag.String("all", "", "the `folder` for pictures of a page of each kind that links lead to")
	wait := flag.Duration("timeout", 10*time.Minute, "how long it may take")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: shot [flags] -out FILE URL\n       shot -all FOLDER URL\n\nWrites a picture of a page. The flags:")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || (*out == "") == (*all == "") || *width < 1 || *height < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *wait)
	defer cancel()
	if *all != "" {
		if err := walk(ctx, flag.Arg(0), *all); err != nil {
			fmt.Fprintln(os.Stderr, "shot:", err)
			os.Exit(1)
		}
		return
	}
	if err := shoot(ctx, flag.Arg(0), *out, int64(*width), int64(*height), *scale, *dark); err != nil {
		fmt.Fprintln(os.Stderr, "shot:", err)
		os.Exit(1)
	}
}

// shoot writes a picture of a page to a file. The page must answer with 200.
func shoot(ctx context.Context, url, out string, width, height int64, scale float64, dark bool) error {
	if !strings.Contains(url, "://") {
		return fmt.Errorf("%q is no URL", url)
	}
	ctx, closeBrowser, err := browser.Open(ctx)
	if err != nil {
		return err
	}
	defer closeBrowser()
	capture := chromedp.CaptureScreenshot()
	if height == 0 {
		height, capture = 900, chromedp.FullScreenshot(100)
	}
	if err := chromedp.Do(ctx, browser.Window(width, height, scale, dark)); err != nil {
		return err
	}
	answer, err := chromedp.Run(ctx, chromedp.NavigateResponse(url))
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if answer == nil || answer.Status != http.StatusOK {
		return fmt.Errorf("%s does not answer with 200", url)
	}
	png, err := chromedp.Run(ctx, capture)
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return os.WriteFile(out, png, 0o644)
}
