// Package operate works the pages of intake and settings of the real program as
// operators do, from an empty database on.
package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/sample"
	"github.com/dmarcd/dmarcd/web/internal/browser"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// widest is how wide a page is with everything open that can be opened.
const widest = `(() => {
	const closed = [...document.querySelectorAll("details:not([open])")];
	closed.forEach((d) => { d.open = true; });
	const width = document.documentElement.scrollWidth;
	closed.forEach((d) => { d.open = false; });
	return width;
})()`

const hostile = "<img src=x onerror=alert(1)>\u202egnp.xml"

// From an empty database to the first chart, to a message that is read again, tokens,
// and a notification that arrives: by pointer, by keys alone, and without scripts.
func TestAnOperatorGetsFromNothingToTheFirstChartAndOn(t *testing.T) {
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

	var mu sync.Mutex
	var told []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		told = append(told, string(body))
	}))
	defer hook.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mail, err := sample.Serve(ctx, l, "dmarc", "open sesame", func(func(sample.Mail) bool) {})
	if err != nil {
		t.Fatal(err)
	}
	defer mail.Close()

	p := build(t, fmt.Sprintf("[notify]\nspf_limit = false\n[sources]\nown = [\"192.0.2.128/25\"]\n[[target]]\nname = \"ops\"\nurl = %q\nprivate = true\n[[target]]\nname = \"deaf\"\nurl = \"http://127.0.0.1:1/\"\nprivate = true\n", hook.URL))
	p.start(t, "DMARCD_DOMAINS=acme.example")
	axe, err := os.ReadFile("../../testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	x := &person{t, ctx, p, string(axe)}
	x.run(browser.Window(1280, 900, 1, false))

	t.Run("what to publish, by keys alone", func(t *testing.T) {
		x.t = t
		x.visit("/")
		x.sees("No reports yet")
		x.sends(chromedp.Focus(`input[name="domain"]`), chromedp.KeyEvent("acme.example"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("dmarc@reports.test"), chromedp.KeyEvent(kb.Enter))
		x.sees("v=DMARC1; p=none; rua=mailto:dmarc@reports.test")
		x.sees("acme.example._report._dmarc.reports.test")
		x.sees("v=TLSRPTv1; rua=mailto:dmarc@reports.test")
		x.forEverybody()
	})
	t.Run("a mailbox is tried and not kept", func(t *testing.T) {
		x.t = t
		address := "imap://dmarc@" + l.Addr().String() + "/INBOX"
		for password, want := range map[string]string{"wrong": "It cannot be read.", "open sesame": "It can be read."} {
			x.visit("/start")
			x.sends(chromedp.SendKeys(`input[name="url"]`, address), chromedp.SendKeys(`input[name="password"]`, password), chromedp.KeyEvent(kb.Enter))
			x.sees(want)
			x.forEverybody()
			if page, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.documentElement.outerHTML`)); err != nil || strings.Contains(page, "sesame") {
				t.Errorf("the page has the password in it, %v", err)
			}
		}
		x.visit("/start")
		x.sends(chromedp.SendKeys(`input[name="url"]`, address), chromedp.SendKeys(`input[name="password"]`, "open sesame"), chromedp.KeyEvent(kb.Enter))
		x.sees("DMARCD_IMAP_URL=" + address)
		x.sees(`url = "` + address + `"`)
		x.forEverybody()
		if strings.Contains(p.log.String(), "sesame") {
			t.Error("the log has the password in it")
		}
	})
	t.Run("files are dropped, and each has its fate", func(t *testing.T) {
		x.t = t
		x.visit("/")
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](drop(map[string]string{
			"good.xml": report("1", "acme.example"), hostile: "<feedback><report_metadata>", "other.xml": report("2", "other.example"), "note.txt": "nothing",
		}))); err != nil {
			t.Fatal(err)
		}
		x.until("all files to be done", `document.querySelectorAll(".uploads li.done-with").length === 4`)
		x.sees("4 files done: 1 new report, and ")
		x.sees("1 new report with 1 row")
		x.sees("<img src=x onerror=alert(1)>\ufffdgnp.xml")
		x.forEverybody()
		if n, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.querySelectorAll("img").length`)); err != nil || n != 0 {
			t.Errorf("%d pictures came of a file's name, %v", n, err)
		}
		x.sends(chromedp.Click(".to-chart"))
		x.until("a chart", `location.pathname === "/domains/acme.example" && document.querySelector("svg.plot")`)
		x.sees("4,711")
	})
	t.Run("pages are told of what is new, and do not move", func(t *testing.T) {
		x.t = t
		x.visit("/intake")
		x.sees("No mailbox is read here.")
		x.sees(hostile[:28])
		x.run(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Run(ctx, chromedp.Evaluate[any](`(async () => {
				const source = new EventSource(document.body.dataset.live);
				await new Promise((done) => source.addEventListener("here", done));
				source.close();
				window.before = document.querySelector("#latest").getBoundingClientRect().top;
				return 0;
			})()`, chromedp.EvalAwaitPromise))
			return err
		}))
		p.bring(t, "late.xml", report("3", "acme.example"))
		x.until("word of it", `document.querySelector(".new-data a")`)
		if moved, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.querySelector("#latest").getBoundingClientRect().top !== window.before`)); err != nil || moved {
			t.Errorf("the page moved: %v, %v", moved, err)
		}
		x.sends(chromedp.Click(".new-data a"))
		x.sees("late.xml")
		// Of what people are told the page of all domains has word, and that of one report has not.
		x.visit("/")
		x.again("word of it", `document.querySelector(".new-data")?.textContent.includes("Something new was found.")`, func(int) { p.happens(t) })
		x.visit("/reports")
		x.again("word of reports alone", `document.querySelector(".new-data")?.textContent.includes("New reports have come in.")`, func(n int) {
			p.happens(t)
			time.Sleep(3 * time.Second) // for word of it, if there were one
			p.bring(t, "later.xml", report(fmt.Sprint("3-", n), "acme.example"))
		})
	})
	t.Run("a message is read again, and has one fate", func(t *testing.T) {
		x.t = t
		x.visit("/messages?outcome=unknown_domain")
		x.sees("other.xml")
		x.sends(chromedp.Click(`.ledger td a.line`))
		x.sees("If the domain is yours, add it to domains in the configuration")
		x.sends(chromedp.Click(`.acts button`))
		x.sees("It was read again. Its fate is what it was: unknown_domain.")
		x.forEverybody()
		at, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.pathname`))
		if err != nil {
			t.Fatal(err)
		}
		p.stop()
		p.start(t) // every domain is wanted now
		x.visit(at)
		x.sends(chromedp.Click(`.acts button`))
		x.sees("Its fate was unknown_domain, and now it is ok.")
		var list struct {
			Items []struct {
				File, Outcome string
				Parts         []struct{ Report *string }
			}
		}
		p.ask(t, "/api/v1/messages?limit=100", "", &list)
		n := 0
		for _, m := range list.Items {
			if m.File == "other.xml" {
				n++
				if m.Outcome != "ok" || len(m.Parts) != 1 || m.Parts[0].Report == nil {
					t.Errorf("%+v", m)
				}
			}
		}
		if n != 1 {
			t.Errorf("it stands %d times in the ledger", n)
		}
		x.visit("/messages?q=other.xml&first=2020-01-01")
		x.sees("other.xml")
		x.visit("/messages?q=no+such+file")
		x.sees("No message is of this kind.")
		x.visit("/messages?outcome=refused")
		x.sends(chromedp.SetValue(`select[name="outcome"]`, "bad_xml"), chromedp.Click(`.filter button`))
		x.sees("Read them again")
		x.sends(chromedp.Click(`.act button`))
		x.sees("1 message was read again; none of them has another fate now.")
		x.forEverybody()
		// Those beyond the first 200 come next, and not the first ones again.
		for i := range 210 {
			p.bring(t, "bad.xml", fmt.Sprintf("<feedback><report_metadata><org_name>%d", i))
		}
		x.visit("/messages?outcome=bad_xml")
		x.sends(chromedp.Click(`.act button`))
		x.sees("200 messages were read again; none of them has another fate now.")
		x.sends(chromedp.Click(`.act button`))
		x.sees("11 messages were read again; none of them has another fate now.")
	})
	var secret string
	t.Run("a token is made by keys alone, opens, and is revoked", func(t *testing.T) {
		x.t = t
		x.visit("/settings")
		x.sends(chromedp.Focus(`input[name="name"]`), chromedp.KeyEvent("Ann"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(" "),
			chromedp.Focus(`textarea[name="domains"]`), chromedp.KeyEvent("acme.example"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
		x.sees("It is shown this once, and kept nowhere.")
		x.forEverybody()
		secret = x.text("#secret")
		if code := p.ask(t, "/api/v1/domains", secret, nil); code != http.StatusOK {
			t.Errorf("with the token: %d", code)
		}
		x.visit("/settings")
		if strings.Contains(x.says(), secret[8:20]) {
			t.Error("the secret is shown again")
		}
		x.sees("read, upload")
		x.sends(chromedp.Focus(`input[name="name"]`), chromedp.KeyEvent("Bob"), chromedp.KeyEvent(kb.Enter))
		second := ""
		x.sees("A token for Bob")
		second = x.text("#secret")
		x.visit("/settings")
		x.sends(chromedp.Focus(`.sure summary`), chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
		x.sees("The token opens nothing any more.")
		x.forEverybody()
		if a, b := p.ask(t, "/api/v1/domains", second, nil), p.ask(t, "/api/v1/domains", secret, nil); a != http.StatusUnauthorized || b != http.StatusOK {
			t.Errorf("the revoked token: %d, the other: %d", a, b)
		}
		x.visit("/settings/audit?action=token.revoke")
		x.sees("Bob")
	})
	t.Run("a notification is tried, and a rule switched", func(t *testing.T) {
		x.t = t
		x.visit("/settings/notifications")
		x.sends(chromedp.Click(`tbody tr:nth-child(1) button`))
		x.sees("The test to ops was taken.")
		mu.Lock()
		tests := slices.DeleteFunc(slices.Clone(told), func(text string) bool { return strings.Contains(text, `"kind":"events"`) }) // as of the messages that were refused above
		mu.Unlock()
		if len(tests) != 1 || !strings.Contains(tests[0], "a test by dmarcd to the target ops") {
			t.Errorf("the target was told %q", tests)
		}
		x.sends(chromedp.Click(`tbody tr:nth-child(2) button`))
		x.sees("The test did not reach deaf:")
		x.forEverybody()
		if page := x.says(); strings.Contains(page, hook.URL+"/") && !strings.Contains(page, hook.URL+"/…") {
			t.Error("the page shows where webhooks go")
		}
		x.sends(chromedp.Click(`.rules tbody tr:nth-child(1) button`))
		x.sees("Nobody is told of it from now on.")
		x.until("the rule to be off", `document.querySelector(".rules tbody tr").innerText.includes("Switch on")`)
		x.sees("notify.spf_limit, file ")
		x.sees("set there")
	})
	t.Run("whose a network is", func(t *testing.T) {
		x.t = t
		x.visit("/settings/senders")
		x.sees("192.0.2.128/25")
		x.sends(chromedp.SendKeys(`.form input[name="network"]`, "198.51.100.0/24"), chromedp.SendKeys(`.form input[name="note"]`, "<b>us</b>"), chromedp.KeyEvent(kb.Enter))
		x.sees("It is kept")
		x.sees("<b>us</b>")
		x.sends(chromedp.SendKeys(`.form input[name="network"]`, "192.0.2.128/25"), chromedp.KeyEvent(kb.Enter))
		x.sees("The configuration says that 192.0.2.128/25 is own (sources.own), and wins")
		x.forEverybody()
		x.visit("/settings/senders")
		x.sends(chromedp.Click(`tbody button`))
		x.sees("It is forgotten.")
		x.visit("/settings/configuration")
		x.sees("sources.own")
	})
	t.Run("without scripts", func(t *testing.T) {
		x.t = t
		x.scripts(false)
		defer x.scripts(true)
		file := filepath.Join(t.TempDir(), "plain.xml")
		if err := os.WriteFile(file, []byte(report("4", "acme.example")), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"1 new report with 1 row", "there already"} {
			x.visit("/intake")
			x.sends(chromedp.SetUploadFiles(`#files`, []string{file}), chromedp.Click(`.drop button`))
			x.sees(want)
		}
	})
	t.Run("who may see one domain sees nothing of others", func(t *testing.T) {
		x.t = t
		p.stop()
		p.start(t, "DMARCD_ACCESS_TOKENS=true")
		x.visit("/intake")
		x.forEverybody()
		x.sends(chromedp.SendKeys(`input[name="token"]`, "dmarcd_wrong"), chromedp.KeyEvent(kb.Enter))
		x.sees("opens nothing")
		x.forEverybody()
		x.visit("/intake")
		x.sends(chromedp.SendKeys(`input[name="token"]`, secret), chromedp.KeyEvent(kb.Enter))
		x.sees("Every message taken in has one fate")
		x.sees("plain.xml")
		page := x.says()
		for _, hidden := range []string{"other.xml", "Mailboxes", "What is done by itself", "could not be read"} {
			if strings.Contains(page, hidden) {
				t.Errorf("the page says %q", hidden)
			}
		}
		for path, want := range map[string]string{
			"/settings": "This is for those who may change everything", "/settings/configuration": "This is for those who may see every domain", "/messages/2": "There is no such page",
		} {
			x.visit(path)
			if path != "/messages/2" {
				x.sees(want)
			}
			x.forEverybody()
		}
		x.visit("/intake")
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](drop(map[string]string{"theirs.xml": report("5", "other.example"), "ours.xml": report("6", "acme.example")}))); err != nil {
			t.Fatal(err)
		}
		x.sees("there is a report about a domain that you may not bring reports about; nothing was kept")
		x.sees("2 files done: 1 new report, and 1 file that could not be used.")
	})
	t.Run("every form, without scripts", func(t *testing.T) {
		x.t = t
		p.stop()
		p.start(t)
		x.scripts(false)
		defer x.scripts(true)
		x.everyForm()
	})
}
