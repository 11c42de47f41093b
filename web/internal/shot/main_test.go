package main

import (
	"context"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/web/internal/browser"
)

func TestAPictureHasTheSizeAndTheColoursAskedFor(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
			<style>html { background: #fff } body { margin: 0; height: 2000px } @media (prefers-color-scheme: dark) { html { background: #000 } }</style>`)
	}))
	defer site.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	for _, c := range []struct {
		width, height int64
		scale         float64
		dark          bool
		x, y          int // of the picture
		light         uint32
	}{
		{320, 200, 1, false, 320, 200, 0xffff},
		{320, 200, 2, true, 640, 400, 0},
		{320, 0, 1, false, 320, 2000, 0xffff},
	} {
		out := filepath.Join(t.TempDir(), "shot.png")
		err := shoot(ctx, site.URL+"/", out, c.width, c.height, c.scale, c.dark)
		if errors.Is(err, browser.ErrNone) && os.Getenv("DMARCD_TEST_REQUIRE") == "" {
			t.Skipf("SKIPPED, so no picture is taken: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		r, _, _, _ := picture.At(10, 10).RGBA()
		if size := picture.Bounds().Size(); size.X != c.x || size.Y != c.y || r != c.light {
			t.Errorf("%+v: the picture is %d by %d, light %#x", c, size.X, size.Y, r)
		}
	}
	if err := shoot(ctx, site.URL+"/nowhere", filepath.Join(t.TempDir(), "none.png"), 320, 200, 1, false); err == nil {
		t.Error("a picture of a page that is not there")
	}
}
