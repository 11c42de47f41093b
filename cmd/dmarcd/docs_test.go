package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

// pages are the texts for operators and developers.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*", "deploy/*/*", "Dockerfile"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err == nil { // folders
				all[strings.TrimPrefix(name, "../../")] = string(text)
			}
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d pages", len(all))
	}
	return all
}

var (
	commandLine  = regexp.MustCompile("(?:^|[`\\s(/\"'])dmarcd ([a-z]+)((?: [^`\n|&;)>\"']*)?)")
	flagOf       = regexp.MustCompile(`(?:^|\s)--([a-z][a-z-]*)`)
	variable     = regexp.MustCompile(`DMARCD_[A-Z_0-9]+`)
	keyInTicks   = regexp.MustCompile("`([a-z_]+\\.[a-z_]+)`")
	codeBlock    = regexp.MustCompile("(?s)```toml\n(.*?)```")
	linkToFile   = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	inlineOrCode = regexp.MustCompile("(?m)`[^`\n]+`|^    .*$|^\\s*(?:\\$ )?(?:sudo )?(?:\\./)?(?:bin/)?dmarcd .*$")
)

// Every command line of the docs names a command and flags that there are.
func TestCommandsInTheDocsExist(t *testing.T) {
	known := map[string][]string{}
	for _, d := range describe() {
		for _, f := range d.flags {
			known[d.name] = append(known[d.name], strings.TrimPrefix(f.name, "--"))
		}
	}
	found := 0
	for page, text := range pages(t) {
		for _, code := range inlineOrCode.FindAllString(text, -1) {
			for _, m := range commandLine.FindAllStringSubmatch(code, -1) {
				flags, isCommand := known[m[1]]
				if !isCommand {
					if strings.Contains(code, "`dmarcd "+m[1]) {
						t.Errorf("%s: dmarcd has no command %q: %s", page, m[1], code)
					}
					continue
				}
				found++
				for _, f := range flagOf.FindAllStringSubmatch(m[2], -1) {
					if !slices.Contains(flags, f[1]) {
						t.Errorf("%s: dmarcd %s has no flag --%s: %s", page, m[1], f[1], code)
					}
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d command lines were found", found)
	}
}

// Every setting that the docs name exists, by key and by variable.
func TestSettingsInTheDocsExist(t *testing.T) {
	variables, settingKeys, groups := map[string]bool{"DMARCD_CONFIG": true}, map[string]bool{}, map[string]bool{}
	env := &environ{root: true, vars: map[string]string{}}
	for _, s := range append(defaultConfig(env).settings, newMailbox().settings...) {
		variables[s.env], settingKeys[s.key] = true, true
		if table, _, ok := strings.Cut(s.key, "."); ok {
			groups[table] = true
		}
	}
	tests := variablesOfTests(t)
	for page, text := range pages(t) {
		for _, name := range variable.FindAllString(text, -1) {
			if !variables[name] && !tests[name] && !strings.HasSuffix(name, "_") && name != "DMARCD_SETTING" {
				t.Errorf("%s: %s is no setting", page, name)
			}
		}
		if !strings.HasSuffix(page, ".md") {
			continue
		}
		for _, m := range keyInTicks.FindAllStringSubmatch(text, -1) {
			table, _, _ := strings.Cut(m[1], ".")
			if groups[table] && !settingKeys[m[1]] && !strings.Contains("docs/checks.md docs/metrics.md docs/advice.md ARCHITECTURE.md", page) && !goFile(m[1]) {
				t.Errorf("%s: %s is no setting", page, m[1])
			}
		}
	}
}

// variablesOfTests are those that only developers set.
func variablesOfTests(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, pattern := range []string{"*/*_test.go", "*/*/*_test.go", "*/groundtruth/*.go", "postgres/pgtest/*.go"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range askedFor.FindAllStringSubmatch(string(text), -1) {
				all[m[1]] = true
			}
		}
	}
	return all
}

var askedFor = regexp.MustCompile(`(?i:getenv|lookupenv)\("(DMARCD_[A-Z_]+)"\)`)

func goFile(name string) bool {
	return strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".toml") || strings.HasSuffix(name, ".md")
}

// The TOML in the docs is a configuration that dmarcd takes, but for files that
// are not there.
func TestConfigurationsInTheDocsAreTaken(t *testing.T) {
	found := 0
	for page, text := range pages(t) {
		if !strings.HasPrefix(page, "docs/") {
			continue
		}
		for _, m := range codeBlock.FindAllStringSubmatch(text, -1) {
			found++
			path := writeFile(t, "dmarcd.toml", m[1])
			_, err := newEnviron(nil, nil, os.Stderr, nil).loadConfig(path, valuesOnly)
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d configurations were found", found)
	}
}

// What the docs link to is there.
func TestLinksInTheDocsLeadSomewhere(t *testing.T) {
	for page, text := range pages(t) {
		if !strings.HasSuffix(page, ".md") {
			continue
		}
		for _, m := range linkToFile.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", "..", filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, m[1])
			}
		}
	}
}

// Each test that the page of threats names is there, and says so by its name alone.
func TestWhatStandsAgainstThreatsIsTested(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	there := declaredTests(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(text, -1)
	if len(named) < 50 {
		t.Errorf("%d tests are named", len(named))
	}
	for _, m := range named {
		if !there[string(m[1])] {
			t.Errorf("there is no %s", m[1])
		}
	}
	// A row of a table without a test is a threat that nothing stands against.
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| threat ") && !strings.Contains(line, "`Test") && !strings.Contains(line, "`Fuzz") {
			t.Errorf("no test holds this off: %s", line)
		}
	}
}

// The page of settings is made from the settings.
func TestThePageOfSettingsIsCurrent(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Settings\n\nEvery setting, in the configuration file and as an environment variable, which wins. `dmarcd config` shows what is in force and\n" +
		"where it comes from, `dmarcd config --check` names all mistakes at once, and `dmarcd config --example` prints a file to begin with.\n" +
		"This page is made from the program by `go test ./cmd/dmarcd -run Settings -update`.\n")
	write := func(s *setting, key string) {
		def := s.toml()
		switch {
		case s.required:
			def = "none: it must be given"
		case def == `""` || def == "[]":
			def = "empty"
		default:
			def = "`" + def + "`"
		}
		doc := strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(s.doc)
		fmt.Fprintf(&b, "| `%s` | %s%s | %s |", key, strings.ToUpper(doc[:1]), doc[1:], def)
		if s.env != "" {
			fmt.Fprintf(&b, " `%s` |", s.env)
		}
		b.WriteString("\n")
	}
	head := "\n| setting | does | default | variable |\n|---|---|---|---|\n"
	table := ""
	b.WriteString("\n## At the top of the file\n" + head)
	for _, s := range exampleDefaults().settings {
		name, key, nested := strings.Cut(s.key, ".")
		if !nested {
			name, key = "", name
		}
		if name != table {
			table = name
			fmt.Fprintf(&b, "\n## `[%s]`\n", name)
			for _, t := range tables {
				if t.name == name {
					fmt.Fprintf(&b, "\n%s\n", t.doc)
				}
			}
			b.WriteString(head)
		}
		write(s, key)
	}
	for _, list := range tableLists {
		doc := regexp.MustCompile(`docs/(\w+\.md)`).ReplaceAllString(list.doc, "[$1]($1)")
		fmt.Fprintf(&b, "\n## `[[%s]]`\n\n%s\n", list.name, doc)
		if list.name == "mailbox" {
			b.WriteString(head)
		} else {
			b.WriteString("\n| setting | does | default |\n|---|---|---|\n")
		}
		for _, s := range list.settings() {
			write(s, s.key)
		}
	}
	current(t, filepath.Join("..", "..", "docs", "settings.md"), b.String())
}

// Troubleshooting has a word about every outcome that is not harmless.
func TestTroubleshootingKnowsEveryOutcome(t *testing.T) {
	text := pages(t)["docs/troubleshooting.md"]
	for _, d := range dmarc.OutcomeDocs {
		if !d.Outcome.Harmless() && !strings.Contains(text, "`"+string(d.Outcome)+"`") {
			t.Errorf("docs/troubleshooting.md says nothing about %s", d.Outcome)
		}
	}
}

// The unit confines dmarcd as far as systemd can judge.
func TestTheUnitIsConfined(t *testing.T) {
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOT RUN: systemd-analyze is not installed")
	}
	out, err := exec.Command(path, "security", "--offline=yes", "--no-pager", filepath.Join("..", "..", "deploy", "dmarcd.service")).CombinedOutput()
	if err != nil && strings.Contains(string(out), "unrecognized option") {
		t.Skip("NOT RUN: systemd-analyze is too old for --offline")
	}
	m := regexp.MustCompile(`Overall exposure level for dmarcd.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("%v: %s", err, out)
	}
	if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level > 2 {
		t.Errorf("exposure %s, want at most 2", m[1])
	}
}
