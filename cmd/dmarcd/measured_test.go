package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// measured finds what a command makes, tests or measures, which takes too long to be done here: the target, and the tests.
func measured(t *testing.T, text string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		words, err := shellWords(line)
		for err == nil && len(words) > 0 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0]) { // TestSettingsInTheDocsExist knows the variables
			words = words[1:]
		}
		switch {
		case err != nil || len(words) < 2:
			t.Errorf("%s: what is it? %v", line, err)
		case words[0] == "make":
			cmd := exec.Command("make", append([]string{"-n"}, words[1:]...)...)
			cmd.Dir = "../.."
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		case words[0] == "go" && words[1] == "test":
			testsThere(t, line, words[2:])
		case words[0] == "go" && words[1] == "run" && len(words) > 2:
			if files, err := filepath.Glob("../../" + words[2] + "/*.go"); err != nil || len(files) == 0 {
				t.Errorf("%s: no program, %v", line, err)
			}
		default:
			t.Errorf("%s: what is it?", line)
		}
	}
}

// shellWords are the words of one command, as a shell would read it. What a shell would do more is an error.
func shellWords(line string) (words []string, err error) {
	word, quote, begun := "", rune(0), false
	for _, c := range line + " " {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '\'', quote != 0 && c != '$' && c != '`' && c != '\\':
			word += string(c)
		case quote == 0 && (c == '\'' || c == '"'):
			quote, begun = c, true
		case c == ' ':
			if begun {
				words = append(words, word)
			}
			word, begun = "", false
		case strings.ContainsRune("|&;<>()$`\\*?", c):
			return nil, fmt.Errorf("%c is for a shell", c)
		default:
			word, begun = word+string(c), true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is left open")
	}
	return words, nil
}

// testsThere finds the tests that go test is to run.
func testsThere(t *testing.T, line string, words []string) {
	t.Helper()
	kinds, chosen := map[string]*regexp.Regexp{}, map[string]string{"run": "Test|Fuzz|Example", "bench": "Benchmark"}
	var source bytes.Buffer
	for i := 0; i < len(words); i++ {
		flag, isFlag := strings.CutPrefix(words[i], "-")
		switch {
		case !isFlag:
			pattern := "/*_test.go"
			if strings.HasSuffix(words[i], "/...") {
				pattern = "/*" + pattern
			}
			files, err := filepath.Glob("../../" + strings.TrimSuffix(words[i], "/...") + pattern)
			if err != nil || len(files) == 0 {
				t.Errorf("%s: no tests in %s, %v", line, words[i], err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				source.Write(text)
			}
		case slices.Contains([]string{"v", "update"}, flag):
		case slices.Contains([]string{"run", "bench", "timeout", "benchtime"}, flag) && i+1 < len(words):
			if i++; chosen[flag] != "" {
				pattern, err := regexp.Compile(words[i])
				if err != nil {
					t.Errorf("%s: %v", line, err)
					return
				}
				kinds[flag] = pattern
			}
		default:
			t.Errorf("%s: does go test know -%s?", line, flag)
		}
	}
	if bytes.Contains([]byte(line), []byte("-update")) && !bytes.Contains(source.Bytes(), []byte(`("update", `)) {
		t.Errorf("%s: no test there knows -update", line)
	}
	for flag, pattern := range kinds {
		if pattern.String() == "^$" || pattern.String() == "NAME" { // none, and any
			continue
		}
		declared := regexp.MustCompile(`(?m)^func ((?:`+chosen[flag]+`)\w*)\(`).FindAllSubmatch(source.Bytes(), -1)
		if !slices.ContainsFunc(declared, func(m [][]byte) bool { return pattern.Match(m[1]) }) {
			t.Errorf("%s: -%s %s finds nothing", line, flag, pattern)
		}
	}
}
