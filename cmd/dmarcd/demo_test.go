package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// The demo runs as a user would run it, and shows what it says.
func TestTheDemoFillsTheDashboard(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), build(t), "demo", "--listen", "127.0.0.1:0")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	var said lockedBuffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	base, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no address: %v; %v\n%s", err, cmd.Wait(), said.String())
	}
	base = strings.TrimSuffix(base, "/\n")
	get := func(path string) string {
		t.Helper()
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
		}
		return string(body)
	}
	for path, want := range map[string]string{
		"/": "acme.example", "/domains/acme.example": "<svg", "/messages": "hostile_xml", "/readyz": "ready",
		"/api/v1/domains": `"domain":"acme.example"`, "/api/v1/failures": `"reported_domain"`, "/api/v1/tls?from=" + time.Now().AddDate(0, 0, -60).Format(time.DateOnly): `"policy_type"`,
		"/api/v1/domains/acme.example/sources": `"pending":false`, "/metrics": "dmarcd_messages_total",
		"/api/v1/domains/acme.example/checks": `"id":"dkim.missing"`, "/api/v1/domains/acme.example/selectors": `"selector":"r2026"`,
		"/api/v1/domains/acme.example/advice": `"verdict":"not_ready"`, "/api/v1/domains/north.example/advice?policy=reject": `"verdict":`,
		"/?days=30": "Needs you", "/domains/acme.example/policy": "Fix first", "/domains/river.example/policy": "Ready for reject", "/domains/north.example/policy": "Done: north.example",
		"/domains/parked.example/policy": "The short way", "/domains/acme.example/source?of=198.51.100.80": "What to mend", "/domains/acme.example/sources": "newsbird.example",
		"/intake": "demo mailbox", "/domains/acme.example/tls?days=90": "nothing to mend was found",
		"/domains/acme.example/dns": "nb2", "/domains/parked.example/dns": "not known",
	} {
		if !strings.Contains(get(path), want) {
			t.Errorf("%s: no %q", path, want)
		}
	}
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, said.String())
	}
}

// What dmarcd import stores of the real reports is what the manifest says, and
// importing them again adds nothing.
func TestImportedRealReportsGiveTheTotalsOfTheManifest(t *testing.T) {
	corpus, _ := filepath.Abs("../../../shared/corpus")
	text, err := os.ReadFile(filepath.Join(corpus, "MANIFEST.tsv"))
	if err != nil {
		t.Skip("SKIPPED: the real reports are not there: ../shared/corpus beside the repository")
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	column := map[string]int{}
	for i, name := range strings.Split(lines[0], "\t") {
		column[name] = i
	}
	var want, rows int64
	seen := map[string]bool{}
	for _, line := range lines[1:] {
		f := strings.Split(line, "\t")
		// Mails with several reports, and the mbox of all mails, repeat others.
		if f[column["expect"]] != "accept" || f[column["n_aggregate"]] != "1" {
			continue
		}
		key := strings.Join([]string{f[column["org_name"]], f[column["report_id"]], f[column["domain"]], f[column["begin"]], f[column["end"]]}, "|")
		if seen[key] {
			continue
		}
		seen[key] = true
		n, _ := strconv.ParseInt(f[column["messages"]], 10, 64)
		r, _ := strconv.ParseInt(f[column["records"]], 10, 64)
		want, rows = want+n, rows+r
	}

	url := pgtest.URL(t)
	vars := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}
	for try := range 2 {
		var out, said strings.Builder
		run(t.Context(), []string{"import", "--format", "json", corpus}, strings.NewReader(""), &out, &said, vars)
		var got importResult
		if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
			t.Fatalf("%v\n%s\n%s", err, out.String(), said.String())
		}
		if try == 1 && (got.Reports.Added != 0 || got.Rows != 0) {
			t.Errorf("the second time: %+v", got)
		}
	}
	db, err := store.Open(t.Context(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var messages, stored int64
	err = db.QueryRow(t.Context(), "SELECT sum(messages)::bigint, sum(rows)::bigint FROM reports WHERE active").Scan(&messages, &stored)
	if err != nil {
		t.Fatal(err)
	}
	var rolled int64
	if err := db.QueryRow(t.Context(), "SELECT sum(messages)::bigint FROM domain_days").Scan(&rolled); err != nil {
		t.Fatal(err)
	}
	if messages != want || stored != rows || rolled != want {
		t.Errorf("%d messages in %d rows, rolled up %d; want %d in %d", messages, stored, rolled, want, rows)
	}
}

// Copies of a report count once, of two reports under one name the larger
// counts, and reports that only look alike all count, in whatever order they come.
func TestWhatComesTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	dir := "../../parse/testdata/deviations"
	for _, c := range []struct {
		name     string
		files    []string
		messages int64
		reports  int
	}{
		{"a mail delivered twice", []string{"026-delivered-twice-first.eml", "026-delivered-twice-second.eml"}, 4, 1},
		{"one id on two days", []string{"091-same-id-first-day.xml", "091-same-id-second-day.xml"}, 8, 2},
		{"one id of two reporters", []string{"092-same-id-this-reporter.xml", "092-same-id-other-reporter.xml"}, 8, 2},
		{"two contents under one name", []string{"093-two-files-large.xml", "093-two-files-small.xml"}, 8, 1},
		{"sent again, packed otherwise", []string{"094-resent-first.xml", "094-resent-packed.eml"}, 4, 1},
	} {
		for _, files := range [][]string{c.files, {c.files[1], c.files[0]}, {c.files[0], c.files[1], c.files[0]}} {
			t.Run(c.name, func(t *testing.T) {
				url := pgtest.URL(t)
				vars := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}
				for _, name := range files {
					var out, said strings.Builder
					if status := run(t.Context(), []string{"import", filepath.Join(dir, name)}, strings.NewReader(""), &out, &said, vars); status != exitDone {
						t.Fatalf("%s: exit status %d\n%s%s", name, status, out.String(), said.String())
					}
				}
				db, err := store.Open(t.Context(), url, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				var reports int
				var messages, rolled int64
				if err := db.QueryRow(t.Context(), "SELECT count(*), sum(messages)::bigint FROM reports WHERE active").Scan(&reports, &messages); err != nil {
					t.Fatal(err)
				}
				if err := db.QueryRow(t.Context(), "SELECT sum(messages)::bigint FROM domain_days").Scan(&rolled); err != nil {
					t.Fatal(err)
				}
				if reports != c.reports || messages != c.messages || rolled != c.messages {
					t.Errorf("%d reports with %d messages, rolled up %d; want %d with %d", reports, messages, rolled, c.reports, c.messages)
				}
			})
		}
	}
}
