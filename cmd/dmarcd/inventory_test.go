package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/dmarcd/dmarcd/internal/racetest"
)

// An example stands on a page of the documentation as code.
type example struct {
	page string // from the root of the source
	line int    // of the page, on which it begins
	text string
}

// String says where it stands.
func (x example) String() string { return fmt.Sprintf("%s:%d", x.page, x.line) }

// first is its first line.
func (x example) first() string {
	line, _, _ := strings.Cut(x.text, "\n")
	return line
}

// forgotten fails for an example that no test runs, and says what to do.
func (x example) forgotten(t *testing.T) {
	t.Helper()
	t.Errorf("%s: nobody runs this example. Have a test run it, which testsOfExamples names, or put it into notRun with the reason:\n%s", x, x.text)
}

// What no test can run: a line, a whole example, or the begin of one (with …), and why.
var notRun = []struct{ page, text, why string }{
	{"README.md", "apt-get update && apt-get install --no-install-recommends --yes ca-certificates git make", "deploy/new-machine.sh runs it on a machine with nothing installed"},
	{"README.md", "export PATH=$PATH:/usr/local/go/bin", "deploy/new-machine.sh runs it where Go lies there"},
	{"README.md", "git clone https://github.com/dmarcd/dmarcd && cd dmarcd", "tests do without the network; deploy/new-machine.sh clones this source"},
	{"README.md", "go build ./cmd/dmarcd", "it would write into the source; build does it, with -o"},
	{"CONTRIBUTING.md", "git clone https://github.com/dmarcd/dmarcd && cd dmarcd", "tests do without the network; TestANewcomersFirstChange copies this source"},
	{"ARCHITECTURE.md", "mailbox → message…", "two pictures"},
	{"ARCHITECTURE.md", "cmd → ingest…", "a picture; TestImportsFollowTheFlow holds it against the code"},
	{"docs/install.md", "git clone https://github.com/dmarcd/dmarcd && cd dmarcd", "tests do without the network; deploy/new-machine.sh clones this source"},
	{"docs/install.md", "make build", "TestANewcomersFirstChange runs it in a copy, since it writes into the source"},
	{"docs/install.md", "systemctl edit dmarcd        # for what differs from the unit, such as a port below 1024", "opens an editor, and wants systemd; deploy/new-machine.sh runs the unit"},
	{"docs/install.md", "journalctl -u dmarcd -f", "wants systemd, and goes on for ever"},
	{"docs/install.md", "docker build -t dmarcd .", "wants Docker; TestNothingButTheImageIsNeeded reads the Dockerfile"},
	{"docs/install.md", "kubectl apply -f deploy/kubernetes.yaml", "wants a cluster; TestTheKubernetesManifestIsSound reads the manifest"},
	{"docs/intake.md", "dmarc@example.com    lmtp:unix:/run/dmarcd/lmtp.sock", "a line of a table of Postfix; what it leads to is used by TestExamplesOfTheDocumentationWork"},
	{"docs/mailboxes.md", "New-ServicePrincipal -AppId CLIENT_ID -ObjectId OBJECT_ID -DisplayName dmarcd", "of Exchange Online"},
	{"docs/mailboxes.md", "Add-MailboxPermission -Identity dmarc@contoso.com -User OBJECT_ID -AccessRights FullAccess", "of Exchange Online"},
	{"docs/scaling.md", "rows a day  = domains…", "a formula"},
}

// leaves says whether an entry of notRun leaves nothing of an example, and otherwise the lines that it leaves.
func leaves(text, of string) (rest string, found bool) {
	if begin, ok := strings.CutSuffix(text, "…"); ok {
		if strings.HasPrefix(of, begin) {
			return "", true
		}
		return of, false
	}
	lines := strings.Split(of, "\n")
	left := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return line == text })
	return strings.Join(left, "\n"), len(left) < len(lines)
}

// testsOfExamples are the tests that run examples, the pages whose examples they run, and which of them they know how to
// run. The last one has the pages that no other has.
func testsOfExamples() []testOfExamples {
	return []testOfExamples{
		{TestExamplesOfTheDocumentationWork, []string{"README.md", "docs/intake.md"}, func(x example) bool { return exampleOfIntake(x.text) != nil }},
		{TestTheExamplesOfTheAPIWork, []string{"docs/api.md"}, func(x example) bool {
			return !slices.ContainsFunc(questionsOf(x), func(q string) bool { return !strings.HasPrefix(q, "dmarcd token create") && answerTo(q) == "" })
		}},
		{TestTheCommandsOfThePageOnBackupsWork, []string{"docs/backup.md"}, func(x example) bool { return slices.Contains(backupSteps, firstWords(x)) }},
		{TestTheExamplesOfCheckingZonesWork, []string{"docs/zones.md"}, func(x example) bool {
			return slices.ContainsFunc(zoneChecks, func(begin string) bool { return strings.HasPrefix(x.text, begin) })
		}},
		{TestANewcomersFirstChange, []string{"CONTRIBUTING.md"}, func(x example) bool {
			return slices.ContainsFunc(newcomersSteps, func(begin string) bool { return strings.HasPrefix(x.text, begin) })
		}},
		{TestEveryExampleOfTheDocumentationIsRun, nil, func(x example) bool { return kindOf(x) != nil }},
	}
}

type testOfExamples struct {
	run   func(*testing.T)
	pages []string
	knows func(example) bool
}

// testOfPage is the test that runs the examples of a page.
func testOfPage(page string) testOfExamples {
	all := testsOfExamples()
	if i := slices.IndexFunc(all, func(c testOfExamples) bool { return slices.Contains(c.pages, page) }); i >= 0 {
		return all[i]
	}
	return all[len(all)-1]
}

// documents are the pages that examples stand on, with their texts.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	read := func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(filepath.ToSlash(path), "../../")] = string(text)
	}
	top, err := filepath.Glob("../../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range top {
		read(path)
	}
	err = filepath.WalkDir("../../docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".md") {
			read(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// examples are those of a page that are run, without the lines that are not.
func examples(t *testing.T, page string) (all []example) {
	t.Helper()
	every, _ := readExamples(page, documents(t)[page])
	for _, x := range every {
		for _, n := range notRun {
			if n.page == page {
				x.text, _ = leaves(n.text, x.text)
			}
		}
		if x.text != "" {
			all = append(all, x)
		}
	}
	return all
}

// readExamples returns what stands on a page as code: fenced, or indented after an empty line. What may be code by its
// look and is not told apart from text by these rules is odd.
func readExamples(page, text string) (all []example, odd []string) {
	var x example
	fence, indent, between, last := "", "", "", ""
	end := func() {
		if x.line > 0 {
			all = append(all, x)
		}
		x, between = example{}, ""
	}
	add := func(i int, line string) {
		if x.line == 0 {
			x = example{page, i, ""}
		} else {
			x.text += "\n"
		}
		rest := line
		for n := 0; n < len(indent) && strings.HasPrefix(rest, " "); n++ {
			rest = rest[1:]
		}
		x.text, between = x.text+between+rest, ""
	}
	for i, line := range strings.Split(text, "\n") {
		bare := strings.TrimLeft(line, " ")
		deep := strings.HasPrefix(line, "    ")
		switch {
		case fence != "" && strings.TrimRight(bare, fence[:1]+" ") == "" && strings.HasPrefix(bare, fence):
			end()
			fence = ""
		case fence != "":
			add(i+1, line)
		case strings.HasPrefix(bare, "```") || strings.HasPrefix(bare, "~~~"):
			end()
			fence, indent = bare[:len(bare)-len(strings.TrimLeft(bare, bare[:1]))], line[:len(line)-len(bare)]
		case bare == "":
			if x.line > 0 {
				between += "\n"
			}
		case x.line > 0 && deep && (between == "" || strings.HasPrefix(line, indent)):
			add(i+1, line)
		case deep && strings.TrimSpace(last) == "":
			end()
			indent = line[:len(line)-len(bare)]
			add(i+1, line)
		default:
			end()
			if deep || strings.HasPrefix(bare, "\t") || strings.Contains(line, "<pre") {
				odd = append(odd, fmt.Sprintf("%s:%d: is this code? Then indent it by spaces after an empty line, or fence it; if not, indent it by less: %s", page, i+1, line))
			}
		}
		last = line
	}
	if fence != "" {
		odd = append(odd, fmt.Sprintf("%s: a fence is left open", page))
	}
	end()
	return all, odd
}

// Every example of the documentation is run by a test, or it is said why not.
func TestEveryExampleHasATestThatRunsIt(t *testing.T) {
	used := make([]bool, len(notRun))
	pages := map[string]bool{}
	found := 0
	for page, text := range documents(t) {
		all, odd := readExamples(page, text)
		for _, line := range odd {
			t.Error(line)
		}
		for _, x := range all {
			found, pages[page] = found+1, true
			for i, n := range notRun {
				if n.page == page {
					rest, here := leaves(n.text, x.text)
					x.text, used[i] = rest, used[i] || here
				}
			}
			if x.text != "" && !testOfPage(page).knows(x) {
				x.forgotten(t)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d examples were found", found)
	}
	for i, n := range notRun {
		if !used[i] {
			t.Errorf("%s has no example any more like %q: take it out of notRun", n.page, n.text)
		}
	}
	there := declaredTests(t)
	for _, n := range notRun {
		for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(n.why, -1) {
			if !there[name] {
				t.Errorf("%q is not run because of %s, which is not there", n.text, name)
			}
		}
	}
	for _, c := range testsOfExamples() {
		for _, page := range c.pages {
			if !pages[page] {
				t.Errorf("%s runs the examples of %s, which has none", runtime.FuncForPC(reflect.ValueOf(c.run).Pointer()).Name(), page)
			}
		}
	}
}

// What looks like code is found as code, at its line, or is odd.
func TestExamplesAreFoundWhereverTheyStand(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"text\n\n    a\n    b\n\ntext", "3 a|b"},
		{"    a\n\n\n      b\n\n    c", "1 a|||  b||c"},
		{"1. list\n\n       a\n\n   ```sh\n   b\n\n     c\n   ```\n", "3 a, 6 b||  c"},
		{"```sh\na\n```\n~~~~\nb\n~~~\n```\n~~~~\ntext", "2 a, 5 b|~~~|```"},
		{"    a\n```\nb\n```\n\n    c\ntext\n\n    d", "1 a, 3 b, 6 c, 9 d"},
		{"text\n    a", "odd"},
		{"text\n\n\ta", "odd"},
		{"<pre>a</pre>", "odd"},
		{"```\na", "odd, 2 a"},
	} {
		all, odd := readExamples("p", c.text)
		var got []string
		for range odd {
			got = append(got, "odd")
		}
		for _, x := range all {
			got = append(got, fmt.Sprintf("%d %s", x.line, strings.ReplaceAll(x.text, "\n", "|")))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
	for _, c := range []struct{ text, of, want string }{
		{"b", "a\nb\nc", "a\nc"}, {"b", "b", ""}, {"b", "bc", "bc"}, {"a…", "ab\nc", ""}, {"b…", "ab", "ab"},
	} {
		if got, found := leaves(c.text, c.of); got != c.want || found == (got == c.of) {
			t.Errorf("%q of %q leaves %q, %v", c.text, c.of, got, found)
		}
	}
}

// Whatever stands in the text of a page, or in the help, as a command of dmarcd is one that dmarcd takes, with these flags and words; make and
// go test find what they are asked for, records can be published, and settings can be set so.
func TestWhatStandsInTheTextCanBeDone(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	env := &environ{root: true, vars: map[string]string{}}
	all := append(defaultConfig(env).settings, newMailbox().settings...)
	for _, list := range tableLists {
		all = append(all, list.settings()...)
	}
	span, found := regexp.MustCompile("`([^`\n]+)`"), map[string]int{}
	for page, text := range documents(t) {
		lines := strings.Split(text, "\n")
		examples, _ := readExamples(page, text)
		for _, x := range examples {
			clear(lines[x.line-1:][:1+strings.Count(x.text, "\n")])
		}
		for i, line := range lines {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				continue
			}
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				code := strings.ReplaceAll(m[1], `\|`, "|")
				switch first, _, _ := strings.Cut(code, " "); {
				case first == code:
				case strings.TrimPrefix(first, "./") == "dmarcd":
					found["command"]++
					command, _, _ := strings.Cut(code, " | ")
					if err := takes(strings.Fields(command)[1:]); err != nil {
						t.Errorf("%s:%d: `%s`: %v", page, i+1, code, err)
					}
				case first == "make" || strings.HasPrefix(code, "go test ") || strings.HasPrefix(code, "go run "):
					found["measure"]++
					measured(t, code)
				case isRecord.MatchString(code):
					found["record"]++
					publish(t, code)
				default:
					if m := asSetting.FindStringSubmatch(code); m != nil {
						found["setting"]++
						if !slices.ContainsFunc(all, func(s *setting) bool {
							return (s.key == m[1] || strings.HasSuffix(s.key, "."+m[1])) && takesTOML(s, m[2])
						}) {
							t.Errorf("%s:%d: no setting can be `%s`", page, i+1, code)
						}
					}
				}
			}
		}
	}
	// The help of a command, and with it the manual, shows how it is used.
	for _, d := range describe() {
		for _, line := range regexp.MustCompile(`(?m)^  (?:.*\| )?dmarcd (.*)$`).FindAllStringSubmatch(strings.Join(d.more, "\n"), -1) {
			found["help"]++
			command := regexp.MustCompile(` +(\||>|&&).*`).ReplaceAllString(line[1], "")
			words, err := shellWords(command)
			if err == nil {
				err = takes(words)
			}
			if err != nil {
				t.Errorf("dmarcd help %s: dmarcd %s: %v", d.name, line[1], err)
			}
		}
	}
	if found["help"] < 20 || found["command"] < 40 || found["measure"] < 10 || found["record"] < 1 || found["setting"] < 8 {
		t.Errorf("only these were found: %v", found)
	}
}

var asSetting = regexp.MustCompile(`^([a-z_]+(?:\.[a-z_]+)?) = (.+)$`)

// takes returns what a command of dmarcd has against its arguments, without running it.
func takes(args []string) error {
	c := findCommand(args[0])
	if c == nil {
		return fmt.Errorf("there is no command %s", args[0])
	}
	var fs *flagSet
	env := newEnviron(strings.NewReader(""), io.Discard, io.Discard, nil)
	env.described = func(f *flagSet) { fs = f }
	c.run(context.Background(), env, nil)
	env.described = nil
	if err := fs.Parse(args[1:]); err != nil {
		if usage := usageError(""); !errors.As(err, &usage) || !strings.HasPrefix(string(usage), "needs ") { // the text may leave out on what
			return err
		}
	}
	return nil
}

// takesTOML tells whether a setting can have a value as it is written in the file.
func takesTOML(s *setting, text string) bool {
	var v struct{ V any }
	if _, err := toml.Decode("V = "+text, &v); err != nil {
		return false
	}
	kind, set := "", fmt.Sprint(v.V)
	switch v := v.V.(type) {
	case string:
		kind = "s"
	case int64:
		kind = "i"
	case bool:
		kind = "b"
	case []any:
		kind, set = "a", strings.Trim(fmt.Sprintln(v...), "\n")
		set = strings.ReplaceAll(set, " ", ",")
	}
	return kind != "" && strings.Contains(s.types, kind) && s.set(set) == nil
}

// declaredTests are the names of all tests.
func declaredTests(t *testing.T) map[string]bool {
	t.Helper()
	there := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return there
}

// Packages import each other as ARCHITECTURE.md draws it: each arrow is an import, and no import goes where no arrows lead.
func TestImportsFollowTheFlow(t *testing.T) {
	racetest.Calm(t)
	page := documents(t)["ARCHITECTURE.md"]
	all, _ := readExamples("ARCHITECTURE.md", page)
	at := slices.IndexFunc(all, func(x example) bool { return strings.HasPrefix(x.text, "cmd → ingest") })
	if at < 0 {
		t.Fatal("the picture of imports is not there")
	}
	arrows := map[string]map[string]bool{}
	for _, flow := range regexp.MustCompile(` {3,}|\n`).Split(all[at].text, -1) {
		steps := strings.Split(flow, " → ")
		for i := range len(steps) - 1 {
			for _, from := range strings.Split(steps[i], ", ") {
				for _, to := range strings.Split(steps[i+1], ", ") {
					if arrows[from] == nil {
						arrows[from] = map[string]bool{}
					}
					arrows[from][to] = true
				}
			}
		}
	}
	leads := func(from, to string) bool {
		reached := []string{from}
		for i := 0; i < len(reached); i++ {
			for next := range arrows[reached[i]] {
				if next == to {
					return true
				}
				if !slices.Contains(reached, next) {
					reached = append(reached, next)
				}
			}
		}
		return false
	}
	files, err := filepath.Glob("../../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	own, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string]map[string]bool{}
	for _, path := range append(files, own...) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		from := "cmd"
		if dir := filepath.Dir(path); dir != "." {
			from = filepath.Base(dir)
		}
		var file *ast.File
		if file, err = goparser.ParseFile(token.NewFileSet(), path, nil, goparser.ImportsOnly); err != nil {
			t.Fatal(err)
		}
		if imports[from] == nil {
			imports[from] = map[string]bool{}
		}
		for _, i := range file.Imports {
			to, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), "github.com/dmarcd/dmarcd/")
			if imports[from][to] = true; ours && !leads(from, to) {
				t.Errorf("%s imports %s, and no arrows lead there", path, to)
			}
		}
	}
	for from := range arrows {
		for to := range arrows[from] {
			if !imports[from][to] {
				t.Errorf("there is an arrow from %s to %s, and no import", from, to)
			}
		}
	}
}
