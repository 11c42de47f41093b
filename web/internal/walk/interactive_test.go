package walk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/sample/large"
	"github.com/dmarcd/dmarcd/web/internal/browser"
)

// interactive is when a page answers to people, in milliseconds after it was asked
// for: it is loaded, its scripts have run, and a frame that follows is drawn.
const interactive = `new Promise((done) => {
	const drawn = () => requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0));
	document.readyState === "complete" ? drawn() : addEventListener("load", drawn);
})`

// BenchmarkInteractive opens pages of an installation with 5,000 domains, one of which
// has 5,000 sources, in Chromium, from the real program. It tells the time until the
// first byte, and until the page answers to people.
func BenchmarkInteractive(b *testing.B) {
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	ctx, closeBrowser, err := browser.Open(ctx)
	if errors.Is(err, browser.ErrNone) {
		b.Skip("SKIPPED: no Chromium")
	}
	if err != nil {
		b.Fatal(err)
	}
	defer closeBrowser()
	base := serveLarge(b)
	if err := chromedp.Do(ctx, browser.Window(1280, 900, 1, false)); err != nil {
		b.Fatal(err)
	}
	for _, path := range []string{"/", "/domains/" + large.Domain, "/domains/" + large.Domain + "/sources", "/domains/" + large.Domain + "/sources?all=1",
		"/domains/" + large.Domain + "/senders?all=1", "/domains/" + large.Domain + "/policy"} {
		b.Run(strings.ReplaceAll(path[1:], "/", "_"), func(b *testing.B) {
			var first, ready float64
			for b.Loop() {
				if err := chromedp.Do(ctx, chromedp.Navigate(base+path)); err != nil {
					b.Fatal(err)
				}
				at, err := chromedp.Run(ctx, chromedp.Evaluate[float64](interactive, chromedp.EvalAwaitPromise))
				if err != nil {
					b.Fatal(err)
				}
				byte1, err := chromedp.Run(ctx, chromedp.Evaluate[float64](`performance.getEntriesByType("navigation")[0].responseStart`))
				if err != nil {
					b.Fatal(err)
				}
				first, ready = first+byte1, ready+at
			}
			b.ReportMetric(first/float64(b.N), "first-byte-ms")
			b.ReportMetric(ready/float64(b.N), "interactive-ms")
		})
	}
}

// serveLarge serves a large installation, and waits until its passes are through.
func serveLarge(b *testing.B) string {
	dir := b.TempDir()
	binary := filepath.Join(dir, "dmarcd")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "../../../cmd/dmarcd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("building: %v\n%s", err, out)
	}
	address, database := porttest.FreeAddress(b), pgtest.URL(b)
	environ := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DMARCD_CONFIG=" + os.DevNull, "DMARCD_DATA_DIR=" + filepath.Join(dir, "data"), "DMARCD_DATABASE_URL=" + database,
		"DMARCD_LISTEN=" + address, "DMARCD_RECORDS_WATCH=false", "DMARCD_SOURCES_LOOKUP=false", "DMARCD_LOG_LEVEL=error",
	}
	migrate := exec.Command(binary, "migrate")
	migrate.Env = environ
	if out, err := migrate.CombinedOutput(); err != nil {
		b.Fatalf("migrating: %v\n%s", err, out)
	}
	db, err := pgxpool.New(b.Context(), database)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(db.Close)
	if err := large.Fill(b.Context(), db, time.Now()); err != nil {
		b.Fatal(err)
	}
	run := exec.Command(binary, "serve")
	run.Env, run.Stderr = environ, os.Stderr
	if err := run.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		run.Process.Signal(syscall.SIGTERM)
		run.Wait()
	})
	const open = `
		SELECT (SELECT count(*) FROM domains d WHERE d.name <> '' AND NOT EXISTS (SELECT FROM verdicts v WHERE v.domain_id = d.id AND v.computed_at IS NOT NULL)) +
			(SELECT count(*) FROM domain_days WHERE changes <> summarised OR changes <> reduced) + 365 - (SELECT count(*) FROM fact_lists)`
	for range 1200 {
		var n int
		if err := db.QueryRow(b.Context(), open).Scan(&n); err != nil {
			b.Fatal(err)
		}
		if n == 0 {
			if _, err := db.Exec(b.Context(), "VACUUM ANALYZE"); err != nil {
				b.Fatal(err)
			}
			return "http://" + address
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.Fatal(fmt.Errorf("the passes are not through"))
	return ""
}
