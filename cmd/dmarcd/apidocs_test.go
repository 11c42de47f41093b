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
	env := []string{"HOME=" + p.dir, "PATH=" + p.dir + ":" + os.Getenv("PATH"), database}
	shell := func(text string) string {
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", strings.ReplaceAll(text, "127.0.0.1:8080", address))
		cmd.Dir, cmd.Env = p.dir, env
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", text, err)
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
	// What the answer to an example holds, by a part of the example.
	want := map[string]string{
		"curl 'http://127.0.0.1:8080/api/v1/domains'": `"domain":"example.com"`, "limit=2": `"next":"`, "after=$next": `"items":[{"id"`,
		"Authorization": `"domain":"example.com"`, "aligned=false&interval=week": `"interval":"week"`, "disposition=reject&sort=-failed": `"items":[`,
		"subdomains=true&source=192.0.2.7": `"items":[`,
		"class=own&aligned=false":          `"reports":`, "domains?source=192.0.2.7": `"items":[`, "fields=domain,pass_rate": `{"domain":"example.com","pass_rate":`, "-o sources.csv": "",
		"format=ndjson": "", "format=csv&fields": "domain,org_name,begin,totals.messages\r\n", "If-None-Match": "304\n", "domian": `"query.domian"`, "report.xml.gz": `"added":1`,
	}
	asked := map[string]bool{}
	secret := ""
	for _, text := range examples(t, "../../docs/api.md") {
		lines := strings.Split(text, "\n")
		if strings.Contains(text, "$(") { // what one line sets the next uses
			lines = []string{text}
		}
		for _, line := range lines {
			if strings.HasPrefix(line, "dmarcd token create") {
				secret = strings.TrimSpace(shell(line + " 2>/dev/null"))
				continue
			}
			out := shell(strings.ReplaceAll(line, "dmarcd_…", secret))
			said := ""
			for part := range want {
				if strings.Contains(line, part) {
					if said != "" {
						t.Errorf("%s holds %s and %s", line, said, part)
					}
					said = part
				}
			}
			if asked[said] = true; said == "" {
				t.Errorf("nobody looks at what this example answers: %s", line)
			} else if !strings.Contains(out, want[said]) {
				t.Errorf("%s: no %s in\n%s", line, want[said], out)
			}
			if strings.HasPrefix(out, "{") && strings.Contains(line, "curl") && !strings.Contains(line, "ndjson") && !json.Valid([]byte(out)) {
				t.Errorf("%s: no JSON: %s", line, out)
			}
		}
	}
	for part := range want {
		if !asked[part] {
			t.Errorf("docs/api.md has no example with %s", part)
		}
	}
	if csv, err := os.ReadFile(p.dir + "/sources.csv"); err != nil || !strings.HasPrefix(string(csv), "source,totals.messages,") {
		t.Errorf("sources.csv: %v %s", err, csv)
	}
}
