package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/sample"
)

// Three months of reports about a shop whose newsletter has lost its key: the
// command says so, in words and as JSON.
func TestAdviseSaysWhatReportsLetOneExpect(t *testing.T) {
	dir := t.TempDir()
	n := 0
	for mail := range sample.Mailbox(sample.Options{Seed: 1, Now: time.Now(), Domains: 2}, nil) {
		n++
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.eml", n)), mail.Raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + pgtest.URL(t), "DMARCD_LOG_LEVEL=error"}}
	w.run(t, "import", dir) // some of it is broken, which is part of the sample

	text := w.run(t, "advise", "Acme.Example.")
	for _, want := range []string{"acme.example   p=none", "Not ready for quarantine:", "Fix first", "1. newsbird.example", "Publish now", "_dmarc.acme.example"} {
		if !strings.Contains(text.stdout, want) {
			t.Errorf("no %q in\n%s", want, text.stdout)
		}
	}
	for args, want := range map[string][2]string{
		"acme.example":                          {"not_ready", "quarantine"},
		"--policy reject acme.example":          {"not_ready", "reject"},
		"north.example":                         {"done", "reject"},
		"--days 5 --policy reject acme.example": {"not_enough_evidence", "reject"},
	} {
		got := w.run(t, append([]string{"advise", "--format", "json"}, strings.Fields(args)...)...)
		var out struct {
			Verdict string `json:"verdict"`
			Target  struct {
				P string `json:"p"`
			} `json:"target"`
		}
		if err := json.Unmarshal([]byte(got.stdout), &out); err != nil || got.status != exitDone || out.Verdict != want[0] || out.Target.P != want[1] {
			t.Errorf("%s: %+v, %v, status %d; want %v\n%s", args, out, err, got.status, want, got.stderr)
		}
	}
	for args, status := range map[string]int{"never.example": exitFailed, "": exitUsage, "a b": exitUsage, "--days 0 acme.example": exitUsage, "--policy maybe acme.example": exitUsage, "not_a..domain": exitUsage} {
		if got := w.run(t, append([]string{"advise"}, strings.Fields(args)...)...); got.status != status || got.stdout != "" {
			t.Errorf("%q: status %d, want %d\n%s%s", args, got.status, status, got.stdout, got.stderr)
		}
	}
}
