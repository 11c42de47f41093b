package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completed returns what bash offers for a line, with the cursor at its end.
func completed(t *testing.T, script, dir string, words ...string) []string {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("SKIPPED: bash is not installed")
	}
	const ask = `source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_dmarcd
printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.Command(bash, append([]string{"--norc", "-c", ask, "bash", script}, words...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	list := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(list)
	return list
}

func TestBashCompletesWhatThereIs(t *testing.T) {
	script := writeFile(t, "dmarcd.bash", (world{}).run(t, "completion", "bash").stdout)
	dir := t.TempDir()
	for _, name := range []string{"report one.xml", "other.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"dmarcd", "par"}, "parse"},
		{[]string{"dmarcd", "ver"}, "verify|version"},
		{[]string{"dmarcd", "parse", "--fo"}, "--format"},
		{[]string{"dmarcd", "parse", "--format", ""}, "ndjson|text"},
		{[]string{"dmarcd", "parse", "--format", "=", "n"}, "ndjson"},
		{[]string{"dmarcd", "advise", "--policy", ""}, "none|quarantine|reject"},
		{[]string{"dmarcd", "parse", "rep"}, "report one.xml"},
		{[]string{"dmarcd", "parse", "--config", "o"}, "other.txt"},
		{[]string{"dmarcd", "demo", "--data-dir", ""}, "folder"},
		{[]string{"dmarcd", "check", "--selector", "x"}, ""},
		{[]string{"dmarcd", "check", "x"}, ""},
		{[]string{"dmarcd", "help", "heal"}, "healthcheck"},
		{[]string{"dmarcd", "completion", ""}, "bash|fish|zsh"},
		{[]string{"dmarcd", "nothing", "-"}, ""},
	} {
		if got := strings.Join(completed(t, script, dir, c.words...), "|"); got != c.want {
			t.Errorf("%q: %q, want %q", c.words, got, c.want)
		}
	}
	for _, d := range describe() {
		for _, f := range d.flags {
			if got := completed(t, script, dir, "dmarcd", d.name, f.name); !slices.Contains(got, f.name) {
				t.Errorf("dmarcd %s %s: %q", d.name, f.name, got)
			}
		}
	}
}

func TestZshAndFishTakeTheirScripts(t *testing.T) {
	for shell, check := range map[string][]string{"zsh": {"-n"}, "fish": {"--no-execute"}} {
		got := world{}.run(t, "completion", shell)
		for _, d := range describe() {
			for _, f := range d.flags {
				if !strings.Contains(got.stdout, strings.TrimPrefix(f.name, "--")) || !strings.Contains(got.stdout, d.name) {
					t.Errorf("%s lacks %s %s", shell, d.name, f.name)
				}
			}
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("NOT RUN: %s is not installed", shell)
			continue
		}
		if out, err := exec.Command(path, append(check, writeFile(t, "script", got.stdout))...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
	if path, err := exec.LookPath("fish"); err == nil {
		script := writeFile(t, "dmarcd.fish", (world{}).run(t, "completion", "fish").stdout)
		out, err := exec.Command(path, "--no-config", "-c", "source "+script+"; complete -C 'dmarcd parse --format '").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ndjson") || strings.Contains(string(out), "script") {
			t.Errorf("%v: %s", err, out)
		}
	}
}

func TestCompletionKnowsItsShells(t *testing.T) {
	got := world{}.run(t, "completion", "bsh")
	if got.status != exitUsage || !strings.Contains(got.stderr, "did you mean bash?") {
		t.Errorf("%+v", got)
	}
}

func TestTheManualIsCleanAndWhole(t *testing.T) {
	page := world{}.run(t, "man").stdout
	file := writeFile(t, "dmarcd.1", page)
	plain := strings.NewReplacer(`\-`, "-", `\e`, `\`, `\&`, "").Replace(page)
	for _, d := range describe() {
		if !strings.Contains(plain, `.SS "`+strings.TrimSpace("dmarcd "+d.name+" [flags] "+d.operands)) {
			t.Errorf("lacks %s", d.name)
		}
		for _, f := range d.flags {
			if !strings.Contains(plain, `\fB`+strings.TrimSpace(f.name+" "+f.value)+`\fR`) {
				t.Errorf("%s lacks %s", d.name, f.name)
			}
		}
	}
	for _, s := range append(exampleDefaults().settings, newMailbox().settings...) {
		if !strings.Contains(plain, `\fB`+s.key+`\fR`) || !strings.Contains(plain, s.env) {
			t.Errorf("lacks %s", s.key)
		}
	}
	if path, err := exec.LookPath("mandoc"); err == nil {
		out, _ := exec.Command(path, "-T", "lint", "-W", "warning", file).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "missing date") { // a test is built from no commit
				t.Errorf("mandoc: %s", line)
			}
		}
	} else {
		t.Log("NOT RUN: mandoc is not installed")
	}
	if path, err := exec.LookPath("groff"); err == nil {
		if out, err := exec.Command(path, "-man", "-Tutf8", "-ww", "-z", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("groff: %v\n%s", err, out)
		}
	} else {
		t.Log("NOT RUN: groff is not installed")
	}
}
