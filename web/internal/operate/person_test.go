package operate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/web/internal/browser"
)

// A program is dmarcd as it is served to operators.
type program struct {
	binary  string
	environ []string
	base    string
	log     *log
	run     *exec.Cmd

	database string
}

// A log is written by the program and read by a test.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// build makes the program, with a database of its own.
func build(t *testing.T, config string) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{binary: filepath.Join(dir, "dmarcd"), log: &log{}, database: pgtest.URL(t)}
	make := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", p.binary, "../../../cmd/dmarcd")
	make.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	file := filepath.Join(dir, "dmarcd.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := porttest.FreeAddress(t)
	p.base = "http://" + address
	p.environ = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DMARCD_CONFIG=" + file, "DMARCD_DATA_DIR=" + filepath.Join(dir, "data"), "DMARCD_DATABASE_URL=" + p.database,
		"DMARCD_LISTEN=" + address, "DMARCD_LOG_FORMAT=text", "DMARCD_RECORDS_WATCH=false", "DMARCD_SOURCES_LOOKUP=false",
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	return p
}

// start serves, with more said by variables, until stop.
func (p *program) start(t *testing.T, more ...string) {
	t.Helper()
	p.run = exec.Command(p.binary, "serve")
	p.run.Env, p.run.Stdout, p.run.Stderr = append(slices.Clone(p.environ), more...), p.log, p.log
	if err := p.run.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if r, err := http.Get(p.base + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
	}
	t.Fatal("it is not ready")
}

func (p *program) stop() {
	if p.run != nil {
		p.run.Process.Signal(syscall.SIGTERM)
		p.run.Wait()
		p.run = nil
	}
}

// ask asks the API.
func (p *program) ask(t *testing.T, path, token string, into any) int {
	t.Helper()
	r, _ := http.NewRequest(http.MethodGet, p.base+path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if into != nil {
		if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return answer.StatusCode
}

// A person sits at a browser.
type person struct {
	t   *testing.T
	ctx context.Context
	p   *program
	axe string
}

// forEverybody has axe look at the page as it is now, on a screen and on a telephone:
// after a form was sent there is one that no link leads to. Nothing is wider than the
// window.
func (x *person) forEverybody(what ...string) {
	x.t.Helper()
	for _, width := range []int64{390, 1280} {
		x.run(browser.Window(width, 900, 1, false))
		wide, err := chromedp.Run(x.ctx, chromedp.Evaluate[int64](widest))
		if err != nil {
			x.t.Fatal(err)
		}
		if wide > width {
			x.t.Errorf("%s at %d it is %d wide", what, width, wide)
		}
		violations, err := browser.Violations(x.ctx, x.axe, width, false)
		if err != nil {
			x.t.Fatal(err)
		}
		for _, v := range violations {
			x.t.Error(what, v)
		}
	}
}

func (x *person) run(actions ...chromedp.Action[chromedp.Void]) {
	x.t.Helper()
	if err := chromedp.Do(x.ctx, actions...); err != nil {
		x.t.Fatal(err)
	}
}

func (x *person) visit(path string) { x.t.Helper(); x.run(chromedp.Navigate(x.p.base + path)) }

// until waits until an expression is true on a page.
func (x *person) until(what, expression string) {
	x.t.Helper()
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		// While one page follows another there is nothing to be asked.
		if ok, err := chromedp.Run(x.ctx, chromedp.Evaluate[bool](`document.readyState === "complete" && !!(`+expression+`)`)); err == nil && ok {
			return
		}
	}
	x.t.Fatalf("%s does not come about; the page says:\n%s", what, x.says())
}

// sends does what sends a form, and waits for the page that answers: the one before may
// say the same.
func (x *person) sends(actions ...chromedp.Action[chromedp.Void]) {
	x.t.Helper()
	if _, err := chromedp.Run(x.ctx, chromedp.Evaluate[bool](`window.before = true`)); err != nil {
		x.t.Fatal(err)
	}
	x.run(actions...)
	x.until("an answer", `!window.before`)
}

// again does something until it has an effect: a page may begin to listen only after the
// first time.
func (x *person) again(what, effect string, do func(n int)) {
	x.t.Helper()
	for n := range 20 {
		do(n)
		for range 50 {
			if ok, err := chromedp.Run(x.ctx, chromedp.Evaluate[bool](`!!(`+effect+`)`)); err == nil && ok {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	x.t.Fatalf("%s does not come about; the page says:\n%s", what, x.says())
}

// sees waits until the page says something.
func (x *person) sees(text string) {
	x.t.Helper()
	quoted, _ := json.Marshal(text)
	x.until("to see "+text, `document.body.textContent.replace(/[\s\u00a0]+/g, " ").includes(`+string(quoted)+`)`)
}

func (x *person) says() string {
	text, err := chromedp.Run(x.ctx, chromedp.Evaluate[string](`document.body.innerText.replace(/[\s\u00a0]+/g, " ")`))
	if err != nil {
		x.t.Fatal(err)
	}
	return text
}

func (x *person) text(selector string) string {
	x.t.Helper()
	text, err := chromedp.Run(x.ctx, chromedp.TextContent(selector))
	if err != nil {
		x.t.Fatal(err)
	}
	return text
}

func (x *person) scripts(on bool) {
	x.run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	}))
}

// report is an aggregate report.
func report(id, domain string) string {
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -2)
	return fmt.Sprintf(`<feedback><report_metadata><org_name>beta.test</org_name><email>a@beta.test</email><report_id>%s</report_id><date_range><begin>%d</begin><end>%d</end></date_range></report_metadata>
<policy_published><domain>%s</domain><p>none</p></policy_published><record><row><source_ip>192.0.2.1</source_ip><count>4711</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>pass</spf></policy_evaluated></row>
<identifiers><header_from>%[4]s</header_from></identifiers><auth_results><spf><domain>%[4]s</domain><result>pass</result></spf></auth_results></record></feedback>`, id, day.Unix(), day.Unix()+86399, domain)
}

// bring uploads by the API.
func (p *program) bring(t *testing.T, name, text string) {
	t.Helper()
	r, err := http.Post(p.base+"/api/v1/reports?filename="+name, "application/xml", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, r.Body)
	r.Body.Close()
}

// happens lets something happen that people are told of.
func (p *program) happens(t *testing.T) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), p.database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(t.Context()))
	if _, err := db.Exec(t.Context(), "INSERT INTO events (at, rule, domain, subject, phase, problem, title, body) VALUES (now(), 'verdict_changed', 'acme.example', '', 'once', false, 'The verdict', '')"); err != nil {
		t.Fatal(err)
	}
}

// drop lets files fall on the page, as a hand does that has dragged them there.
func drop(files map[string]string) string {
	text, _ := json.Marshal(files)
	return `(() => {
		const data = new DataTransfer();
		for (const [name, text] of Object.entries(` + string(text) + `)) data.items.add(new File([text], name));
		for (const type of ["dragenter", "dragover", "drop"])
			document.querySelector("main").dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: data }));
		return true;
	})()`
}

// everyForm sends a form of each kind that a page has which links lead to, right or wrong:
// the answer is a page for people.
func (x *person) everyForm() {
	x.t.Helper()
	seen, tried := map[string]bool{}, map[string]int{}
	for queue := []string{"/", "/start"}; len(queue) > 0 && len(seen) < 120; {
		path := queue[0]
		queue = queue[1:]
		answer, err := http.Get(x.p.base + path)
		if err != nil {
			x.t.Fatal(err)
		}
		answer.Body.Close()
		if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
			continue // it is saved as a file
		}
		x.visit(path)
		found, err := chromedp.Run(x.ctx, chromedp.Evaluate[struct {
			Links []string
			Forms []sent
		}](`(() => {`+fill+` return {
			links: [...document.links].filter(a => a.origin == location.origin && !/^\/(api|static)\//.test(a.pathname)).map(a => a.pathname + a.search),
			forms: [...document.forms].map((f, i) => ({form: i, method: (f.getAttribute("method") || "get"), action: new URL(f.getAttribute("action") || "", location).pathname, valid: f.checkValidity()})),
		}})()`))
		if err != nil {
			x.t.Fatalf("%s: %v", path, err)
		}
		for _, link := range found.Links {
			if at, err := url.Parse(link); err == nil && !seen[browser.Shape(at)] {
				seen[browser.Shape(at)] = true
				queue = append(queue, link)
			}
		}
		for _, f := range found.Forms {
			at := &url.URL{Path: f.Action}
			kind := f.Method + " " + strings.Replace(browser.Shape(at), "other.example", "acme.example", 1)
			if tried[kind] > 0 || f.Action == "/intake/upload" { // files are sent without scripts above
				continue
			}
			if !f.Valid {
				x.t.Errorf("%s on %s cannot be sent", kind, path)
				continue
			}
			tried[kind]++
			x.visit(path)
			x.scripts(true) // in what answers, since axe is one; this page has none
			press := fmt.Sprintf(`(() => {`+fill+` window.before = true
				const f = document.forms[%d];
				(f.querySelector("button, [type=submit]") || document.querySelector("button[form=" + f.id + "]")).click(); return true })()`, f.Form)
			if _, err := chromedp.Run(x.ctx, chromedp.Evaluate[bool](press)); err != nil {
				x.t.Fatalf("%s on %s: %v", kind, path, err)
			}
			x.until(kind+" on "+path+" to be answered", `!window.before && document.contentType === "text/html" && document.querySelector("main h1") && document.body.innerText.length > 100`)
			if page := x.says(); strings.HasPrefix(page, "{") || strings.Contains(page, "This page cannot be shown now") {
				x.t.Errorf("%s on %s is answered by %.200s", kind, path, page)
			}
			x.forEverybody(kind, "on", path)
			x.scripts(false)
		}
	}
	posts := 0
	for kind := range tried {
		if strings.HasPrefix(kind, "post") {
			posts++
		}
	}
	x.t.Logf("%d pages, %d kinds of forms, of which %d change something", len(seen), len(tried), posts)
	if posts < 9 {
		x.t.Errorf("only %d kinds of forms that change something were sent: %v", posts, tried)
	}
}

// A sent is a form of a page.
type sent struct {
	Form   int
	Method string
	Action string
	Valid  bool // with what is wanted filled in somehow
}

// fill fills in what forms want, with something that may be wrong.
const fill = `for (const f of document.forms) for (const e of f.elements) if (e.required && e.type != "file") {
	if (e.type == "radio" || e.type == "checkbox") e.checked = true;
	else if (!e.value) e.value = e.type == "number" ? "7" : e.type == "date" ? "2026-01-01" : e.name == "url" ? "imap://a@127.0.0.1:1/INBOX" : "192.0.2.77";
}`
