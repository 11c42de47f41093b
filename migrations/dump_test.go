package migrations_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

var dumpWith = flag.String("dump", "", "the dmarcd of an earlier version, by which a database is made for testdata")

// Each step of the schema but the newest has a database in testdata, as its dmarcd
// left it: make dump writes the one of the step before the newest. What is in
// them is brought up to date by tests of cmd/dmarcd.
func TestEveryEarlierStepHasADatabase(t *testing.T) {
	if *dumpWith != "" {
		dump(t, *dumpWith)
	}
	steps, err := filepath.Glob("*.sql")
	if err != nil || len(steps) < 25 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	for i := range len(steps) - 1 {
		name := fmt.Sprintf("%04d.sql.gz", i+1)
		if i+1 == 6 || i+1 == 9 {
			continue // they came with the step after them: no dmarcd knew only these
		}
		if _, err := os.Stat(filepath.Join("testdata", name)); err != nil {
			t.Errorf("%v: make it by the dmarcd that knew no later step, with make dump", err)
		}
	}
}

// dump has a dmarcd fill a database with some of everything that it can, and writes what it kept
// to testdata. What it has no word for is left out.
func dump(t *testing.T, dmarcd string) {
	url, dir := pgtest.URL(t), t.TempDir()
	address := porttest.FreeAddress(t)
	vars := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "DMARCD_DATABASE_URL=" + url, "DMARCD_FAILURE_STORE=true", "DMARCD_LISTEN=" + address,
		"DMARCD_RESOLVER=" + address, "DMARCD_DATA_DIR=" + filepath.Join(dir, "data"),
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(dmarcd, args...)
		cmd.Env = vars
		return cmd
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	number := func(sql string) (n int) {
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	folder := filepath.Join("..", "cmd", "dmarcd", "testdata")
	report := filepath.Join("..", "parse", "testdata", "parsedmarc", "report.xml")
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	// The same report with other numbers, and once more as a mail; a report of another month.
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conflict := put("conflict.xml", strings.Replace(string(text), "<count>", "<count>1", 1))
	again := put("again.eml", "From: a@reporter.example\r\nSubject: Report domain: example.com\r\nContent-Type: text/xml\r\n\r\n"+string(text))
	other := put("other.xml", `<feedback><report_metadata><org_name>R</org_name><email>a@r.example</email><report_id>other</report_id>
<date_range><begin>1772323200</begin><end>1772409599</end></date_range></report_metadata>
<policy_published><domain>example.org</domain><p>none</p></policy_published>
<record><row><source_ip>2001:db8::1</source_ip><count>5</count><policy_evaluated><disposition>quarantine</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row>
<identifiers><header_from>mail.example.org</header_from><envelope_from>bounce.example.net</envelope_from></identifiers>
<auth_results><spf><domain>bounce.example.net</domain><result>pass</result></spf></auth_results></record></feedback>`)
	for _, path := range []string{report, filepath.Join(folder, "aggregate.xml"), filepath.Join(folder, "tls.json"), filepath.Join(folder, "failure.eml"),
		filepath.Join(folder, "note.eml"), filepath.Join(folder, "truncated.xml"), conflict, again, other} {
		out, err := command("import", path).CombinedOutput()
		t.Logf("import %s: %v\n%s", path, err, out)
	}
	if n := number("SELECT count(*) FROM messages"); n < 8 {
		t.Fatalf("only %d messages were taken in", n)
	}
	step := number("SELECT max(number) FROM schema_steps")
	if step >= 13 {
		if out, err := command("token", "create", "--name", "grafana", "--role", "read", "--domain", "example.com").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	config := "log_level = \"info\"\n"
	if step >= 21 {
		config += "[[group]]\nname = \"acme\"\ndomains = [\"example.com\"]\n[[domain]]\nname = \"example.com\"\nlabels = [\"shop\"]\n"
	}
	if step >= 23 {
		config += fmt.Sprintf("[[stream]]\nname = \"siem\"\nto = %q\n", filepath.Join(dir, "stream.ndjson"))
	}
	vars = append(vars, "DMARCD_CONFIG="+put("dmarcd.toml", config))
	serve := command("serve")
	var said bytes.Buffer
	serve.Stderr = &said
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	// Its passes have done all they can, in five seconds and more.
	for tries := 0; tries < 100 && (tries < 25 || number("SELECT count(*) FROM domain_days WHERE changes <> summarised") > 0); tries++ {
		time.Sleep(200 * time.Millisecond)
	}
	serve.Process.Signal(syscall.SIGTERM)
	if err := serve.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	bin, _, err := postgres.Programs(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sql, err := exec.Command(filepath.Join(bin, "pg_dump"), "--no-owner", "--no-privileges", "--inserts", url).Output()
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	for line := range strings.Lines(string(sql)) {
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) { // words of psql
			w.Write([]byte(line))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", fmt.Sprintf("%04d.sql.gz", step)), packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
