package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/internal/racetest"
)

// newcomersSteps are the examples of CONTRIBUTING.md, by how they begin.
var newcomersSteps = []string{"make build\n", "p.line(", "go run ./cmd/dmarcd parse ", "go test ./cmd/dmarcd -run Parse -update\n", "make check\n"}

// What CONTRIBUTING.md has a newcomer do for a first change works, in a copy of the source.
func TestANewcomersFirstChange(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	var steps []string
	for i, x := range examples(t, "CONTRIBUTING.md") {
		if i == len(newcomersSteps) || !strings.HasPrefix(x.text, newcomersSteps[i]) {
			x.forgotten(t)
		}
		steps = append(steps, x.text)
	}
	if len(steps) != len(newcomersSteps) || t.Failed() {
		t.Fatalf("%d examples", len(steps))
	}
	dir := t.TempDir()
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum", "Makefile"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	folders, err := filepath.Glob(filepath.Join(source, "[a-z]*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if info, err := os.Stat(folder); err == nil && info.IsDir() && filepath.Base(folder) != "bin" {
			if err := os.CopyFS(filepath.Join(dir, filepath.Base(folder)), os.DirFS(folder)); err != nil {
				t.Fatal(err)
			}
		}
	}
	shell := func(text string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", text)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-trimpath", "CGO_ENABLED=0", // what was compiled elsewhere is not compiled again
			"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a.example", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a.example")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	run := func(text, want string) {
		t.Helper()
		if out, err := shell(text); err != nil || !strings.Contains(out, want) {
			t.Fatalf("%s: %v, no %q in\n%s", text, err, want, out)
		}
	}
	run("git init -q && git add cmd && git commit -qm before", "")
	run(strings.Replace(steps[0], "go test ./parse", "go vet ./parse", 1), "Aggregate report") // these tests are run anyway
	path := filepath.Join(dir, "cmd/dmarcd/text.go")
	code, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reportID := regexp.MustCompile(`(?m)^\s*p\.line\("Report ID".*\n`).FindIndex(code) // that of aggregate reports comes first
	if reportID == nil {
		t.Fatal("there is no line of the Report ID, below which it is to be")
	}
	changed := slices.Concat(code[:reportID[1]], []byte("\t"+steps[1]+"\n"), code[reportID[1]:])
	if err := os.WriteFile(path, changed, 0o644); err != nil {
		t.Fatal(err)
	}
	look, test, _ := strings.Cut(steps[2], "\n")
	run(look, "Version")
	if out, err := shell(test); err == nil || !strings.Contains(out, "parse.txt") {
		t.Errorf("%s: %v, and it does not tell of parse.txt\n%s", test, err, out)
	}
	run(steps[3], "+  Version")
	run(test, "ok  ")
	measured(t, steps[4]) // this is part of it
}
