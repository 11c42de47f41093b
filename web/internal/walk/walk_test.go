// Package walk goes through every page of a dashboard that is served by the
// real program, by its links, so that new pages are met by themselves.
package walk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/net/html"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/sample"
	"github.com/dmarcd/dmarcd/web/internal/browser"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// serve takes in reports as an operator would, serves them, and waits until
// every summary of them is made. It returns the address of the dashboard.
func serve(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "dmarcd")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "../../../cmd/dmarcd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	address := porttest.FreeAddress(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box, err := sample.Serve(t.Context(), l, "dmarc", "secret", func(func(sample.Mail) bool) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	environ := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DMARCD_CONFIG=" + os.DevNull, "DMARCD_DATA_DIR=" + filepath.Join(dir, "data"), "DMARCD_DATABASE_URL=" + pgtest.URL(t),
		"DMARCD_LISTEN=" + address, "DMARCD_LOG_FORMAT=text", "DMARCD_RECORDS_WATCH=false", "DMARCD_SOURCES_LOOKUP=false",
		"DMARCD_FAILURE_STORE=true", "DMARCD_FAILURE_SUBJECTS=true",
	}
	mail := filepath.Join(dir, "mail")
	if err := os.Mkdir(mail, 0o755); err != nil {
		t.Fatal(err)
	}
	reports(t, mail, time.Now())
	take := exec.Command(binary, "import", "--format", "json", mail)
	take.Env = environ
	if out, err := take.CombinedOutput(); take.ProcessState == nil || take.ProcessState.ExitCode() > 1 { // one file cannot be read, and is not meant to be
		t.Fatalf("importing: %v\n%s", err, out)
	} else if !bytes.Contains(out, []byte(`"added":1`)) {
		t.Fatalf("importing: %s", out)
	}
	// One mailbox is read, and one cannot be.
	config := filepath.Join(dir, "dmarcd.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "[[mailbox]]\nname = \"<b id=p>box\"\nurl = \"imap://dmarc@%s/INBOX\"\npassword = \"secret\"\n[[mailbox]]\nname = \"deaf\"\nurl = \"imap://dmarc@127.0.0.1:1/INBOX\"\npassword = \"secret\"\n", l.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	environ[slices.Index(environ, "DMARCD_CONFIG="+os.DevNull)] = "DMARCD_CONFIG=" + config
	var log bytes.Buffer
	run := exec.Command(binary, "serve")
	run.Env, run.Stdout, run.Stderr = environ, &log, &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.Process.Signal(syscall.SIGTERM)
		run.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	base := "http://" + address
	ready := func() bool {
		var list struct {
			Items []struct {
				Domain  string
				Verdict *string
			}
		}
		body, _, err := fetch(base + "/api/v1/domains")
		if err != nil || json.Unmarshal(body, &list) != nil || len(list.Items) != 2 {
			return false
		}
		for _, d := range list.Items {
			if d.Verdict == nil {
				return false
			}
		}
		body, _, err = fetch(base + "/api/v1/domains/" + owner + "/sources")
		return err == nil && bytes.Contains(body, []byte("198.51.100.107"))
	}
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if ready() {
			return base
		}
	}
	t.Fatal("the reports are not summarised")
	return ""
}

// fetch returns an answer and its kind.
func fetch(address string) (body []byte, kind string, err error) {
	r, err := http.Get(address)
	if err != nil {
		return nil, "", err
	}
	defer r.Body.Close()
	body, err = io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", address, r.Status)
	}
	return body, r.Header.Get("Content-Type"), err
}

// pages finds a page of each shape by following links, and holds each answer
// against what strangers planted.
func pages(t *testing.T, base string) []string {
	t.Helper()
	var found []string
	seen := map[string]bool{"/?": true}
	queue := []string{"/"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		body, kind, err := fetch(base + path)
		if err != nil {
			t.Errorf("a link leads nowhere: %v", err)
			continue
		}
		if !strings.HasPrefix(kind, "text/html") {
			continue
		}
		found = append(found, path)
		if bytes.Contains(body, []byte("<b id=p>")) {
			t.Errorf("%s has markup that a stranger planted", path)
		}
		root, err := html.Parse(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		here, _ := url.Parse(base + path)
		for n := range root.Descendants() {
			if n.Type != html.ElementNode || n.Data != "a" {
				continue
			}
			for _, a := range n.Attr {
				if a.Key != "href" {
					continue
				}
				to, err := here.Parse(a.Val)
				if err != nil {
					t.Errorf("%s has a link that is none: %q", path, a.Val)
					continue
				}
				if to.Scheme != "http" && to.Scheme != "mailto" && to.Scheme != "https" {
					t.Errorf("%s leads to %q", path, a.Val)
				}
				if to.Host != here.Host || strings.HasPrefix(to.Path, "/api/v1/") || strings.HasPrefix(to.Path, "/static/") {
					continue
				}
				to.Fragment = ""
				if s := browser.Shape(to); !seen[s] {
					seen[s] = true
					queue = append(queue, to.RequestURI())
				}
			}
		}
	}
	return found
}

// inspect looks for what must not be in the DOM, and returns all text.
const inspect = `(() => {
	document.querySelectorAll("details").forEach((d) => { d.open = true; });
	const out = { Text: document.body.innerText, Bad: [], Width: document.documentElement.scrollWidth };
	for (const el of document.querySelectorAll("#p, b[id], [onerror], [onclick], [onload], img[src=x], script:not([src])"))
		out.Bad.push("element " + el.outerHTML.slice(0, 120));
	const hidden = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
	const all = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
	for (let n = all.nextNode(); n; n = all.nextNode()) {
		if (n.nodeType === 3 && hidden.test(n.data)) out.Bad.push("text " + JSON.stringify(n.data.slice(0, 120)));
		if (n.nodeType !== 1) continue;
		for (const a of n.attributes)
			if (["title", "alt", "aria-label", "placeholder", "data-copy"].includes(a.name) && hidden.test(a.value))
				out.Bad.push(n.tagName + " " + a.name + "=" + JSON.stringify(a.value.slice(0, 120)));
	}
	out.Bad = out.Bad.slice(0, 5);
	return out;
})()`

// shown are fields that pages are known to show: what a stranger wrote there is
// seen as what it is.
var shown = []string{"<b id=p>org", "<b id=p>email", "b id=p>id", "<b id=p>key",
	"<b id=p>contact", "<b id=p>generator", "<b id=p>error", "<b id=p>reason", "<b id=p>comment", "<b id=p>dkimhuman", "<b id=p>spfhuman", "<b id=p>ip", "<b id=p>disposition",
	"<b id=p>tlsorg", "<b id=p>tlsid", "<b id=p>tlsreason", "<b id=p>tlspolicy", "<b id=p>tlscontact", "<b id=p>tlsmx", "<b id=p>tlshost", "<b id=p>tlshelo", "<b id=p>tlsip", "<b id=p>tlsmore", "<b id=p>tlsresult", "<b id=p>agent", "<b id=p>falignment", "<b id=p>fselector", "<b id=p>fsubject"} // the brackets around an id are its reporter's

// Every page can be used by everybody: axe finds nothing, in light and dark
// colours, nothing is wider than a telephone, it works by keys alone and without
// scripts, and what strangers wrote is text.
func TestEveryPageIsForEverybody(t *testing.T) {
	axe, err := os.ReadFile("../../testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	ctx, closeBrowser, err := browser.Open(ctx)
	if errors.Is(err, browser.ErrNone) && os.Getenv("DMARCD_TEST_REQUIRE") == "" {
		t.Skipf("SKIPPED, so the pages are not tried: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer closeBrowser()
	base := serve(t)
	agree(t, base)
	listsAgree(t, base)
	all := pages(t, base)
	for _, path := range singles(t, base) {
		if !slices.Contains(all, path) {
			all = append(all, path)
		}
	}
	if len(all) < 18 {
		t.Errorf("only %d pages are found: %q", len(all), all)
	}
	var text strings.Builder
	tried := make(map[string]bool)
	for _, path := range all {
		for _, w := range []struct {
			width int64
			dark  bool
		}{{1280, false}, {390, true}} {
			name := fmt.Sprintf("%s, %d wide, dark %v", path, w.width, w.dark)
			if err := chromedp.Do(ctx, browser.Window(w.width, 900, 1, w.dark), chromedp.Navigate(base+path)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := chromedp.Run(ctx, chromedp.Evaluate[struct {
				Text  string
				Bad   []string
				Width int64
			}](inspect))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			text.WriteString(got.Text)
			for _, bad := range got.Bad {
				t.Errorf("%s: a stranger planted %s", name, bad)
			}
			if got.Width > w.width {
				t.Errorf("%s: it is %d wide", name, got.Width)
			}
			violations, err := browser.Violations(ctx, string(axe), w.width, w.dark)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, v := range violations {
				t.Errorf("%s: %s", path, v)
			}
		}
		// Of pages of one kind one is enough.
		at, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(strings.NewReplacer(owner, "*", odd, "*").Replace(browser.Shape(at)), "?")
		if !tried[kind] {
			tried[kind] = true
			bare(t, ctx, base+path, path)
			byKeys(t, ctx, path)
			unfold(t, ctx, path)
		}
	}
	for _, planted := range shown {
		if !strings.Contains(text.String(), planted) {
			t.Errorf("no page shows what a stranger wrote: %s", planted)
		}
	}
}
