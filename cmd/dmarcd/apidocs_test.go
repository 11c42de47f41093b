package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// apiAnswers are what the answer to an example of docs/api.md holds, by a part of the example.
var apiAnswers = map[string]string{
	"curl 'http://127.0.0.1:8080/api/v1/domains'": `"domain":"example.com"`, "limit=2": `"next":"`, "after=$next": `"items":[{"id"`,
	"Authorization": `"domain":"example.com"`, "aligned=false&interval=week": `"interval":"week"`, "disposition=reject&sort=-failed": `"items":[`,
	"subdomains=true&source=192.0.2.7": `"items":[`,
	"class=own&aligned=false":          `"reports":`, "domains?source=192.0.2.7": `"items":[`, "fields=domain,pass_rate": `{"domain":"example.com","pass_rate":`, "-o sources.csv": "",
	"format=ndjson": "", "format=csv&fields": "domain,org_name,begin,totals.messages\r\n", "If-None-Match": "304\n", "domian": `"query.domian"`, "report.xml.gz": `"added":1`,
}

// questionsOf are what an example asks, one after another.
func questionsOf(x example) []string {
	if strings.Contains(x.text, "$(") { // what one line sets the next uses
		return []string{x.text}
	}
	return strings.Split(x.text, "\n")
}

// answerTo is the one key in apiAnswers of a question, "" if there is none, or several.
func answerTo(question string) string {
	var keys []string
	for part := range apiAnswers {
		if strings.Contains(question, part) {
			keys = append(keys, part)
		}
	}
	if len(keys) != 1 {
		return ""
	}
	return keys[0]
}

// What docs/api.md shows can be done as it stands there.
func TestTheExamplesOfTheAPIWork(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("DMARCD_TEST_REQUIRE") != "" {
				t.Fatalf("%s is not installed: apt-get install %[1]s", tool)
			}
			t.Skipf("SKIPPED: %s, which examples use, is not installed", tool)
		}
	}
	p := &machine{t: t, dir: t.TempDir(), binary: build(t)}
	if err := os.Symlink(p.binary, p.dir+"/dmarcd"); err != nil {
		t.Fatal(err)
	}
	from := &customer{name: "alpha", address: "192.0.2.7", n: 1000}
	lately := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -3)
	p.put("report.xml.gz", packed(t, from.aggregate("by curl", "example.com", 5, lately)))
	address, database := porttest.FreeAddress(t), "DMARCD_DATABASE_URL="+pgtest.URL(t)
	failingCurl(t, p)
	env := []string{"HOME=" + p.dir, "PATH=" + p.dir + ":" + os.Getenv("PATH"), database}
	shell := func(text string) string {
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", strings.ReplaceAll(text, "127.0.0.1:8080", address))
		cmd.Dir, cmd.Env = p.dir, env
		out, err := cmd.Output()
		if refused := strings.Contains(text, "domian"); (err != nil) != refused {
			t.Errorf("%s: %v\n%s", text, err, out)
		}
		return string(out)
	}
	start := exec.Command(p.binary, "serve")
	start.Dir, start.Env = p.dir, append(env, "DMARCD_LISTEN="+address, "DMARCD_RECORDS_WATCH=false", "DMARCD_LOG_LEVEL=error")
	r := &running{t: t, cmd: start, base: "http://" + address, log: new(lockedBuffer)}
	start.Stdout, start.Stderr = r.log, r.log
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		start.Process.Kill()
		start.Wait()
	})
	r.await("it answers", func() bool { return r.status("/healthz") != 0 })
	for _, id := range []string{"first", "second", "third"} {
		p.post(r.base+"/api/v1/reports", from.aggregate(id, "example.com", 5, lately), http.StatusCreated)
	}
	asked := map[string]bool{}
	secret := ""
	for _, x := range examples(t, "docs/api.md") {
		for _, line := range questionsOf(x) {
			if strings.HasPrefix(line, "dmarcd token create") {
				secret = strings.TrimSpace(shell(line + " 2>/dev/null"))
				continue
			}
			said := answerTo(line)
			if asked[said] = true; said == "" {
				x.forgotten(t)
				continue
			}
			out := shell(strings.ReplaceAll(line, "dmarcd_…", secret))
			if !strings.Contains(out, apiAnswers[said]) {
				t.Errorf("%s: %s: no %s in\n%s", x, line, apiAnswers[said], out)
			}
			if strings.HasPrefix(out, "{") && strings.Contains(line, "curl") && !strings.Contains(line, "ndjson") && !json.Valid([]byte(out)) {
				t.Errorf("%s: %s: no JSON: %s", x, line, out)
			}
		}
	}
	for part := range apiAnswers {
		if !asked[part] {
			t.Errorf("docs/api.md has no example with %s", part)
		}
	}
	if csv, err := os.ReadFile(p.dir + "/sources.csv"); err != nil || !strings.HasPrefix(string(csv), "source,totals.messages,") {
		t.Errorf("sources.csv: %v %s", err, csv)
	}
}
