package main

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestConfigPrintsWhatIsInForceAndWhereItComesFrom(t *testing.T) {
	password := writeFile(t, "password", "x")
	path := writeFile(t, "dmarcd.toml", "log_level = \"warn\"\ndomains = [\"example.com\"]\n[limits]\nmessage = 1048576\n[[mailbox]]\nname = \"we say \\\"hi\\\"\"\nurl = \"imaps://a@b\"\n")
	got := world{vars: []string{"DMARCD_IMAP_PASSWORD_FILE=" + password, "DMARCD_DATA_DIR=/tmp"}}.run(t, "config", "--config", path)
	if got.status != exitDone || got.stderr != "" {
		t.Fatalf("%+v", got)
	}
	for _, line := range []string{
		`database_url = "" # default`,
		`data_dir = "/tmp" # environment DMARCD_DATA_DIR`,
		`log_level = "warn" # file ` + path + `:1`,
		`domains = ["example.com"] # file ` + path + `:2`,
		`message = "1MiB" # file ` + path + `:4`,
		`part = "48MiB" # default`,
		`name = "we say \"hi\"" # file ` + path + `:6`,
		`password = "" # default`,
		`password_file = "` + password + `" # environment DMARCD_IMAP_PASSWORD_FILE`,
		`poll = "5m" # default`,
	} {
		if !strings.Contains("\n"+got.stdout, "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, got.stdout)
		}
	}
	// What is printed says the same again, since the secret stands in a file.
	again := world{}.run(t, "config", "--config", writeFile(t, "dmarcd.toml", got.stdout))
	if again.status != exitDone {
		t.Fatalf("%+v", again)
	}
	withoutOrigins := func(s string) string {
		var b strings.Builder
		for line := range strings.Lines(s) {
			line, _, _ = strings.Cut(line, " #")
			b.WriteString(strings.TrimSpace(line) + "\n")
		}
		return b.String()
	}
	if withoutOrigins(again.stdout) != withoutOrigins(got.stdout) {
		t.Errorf("read again it is\n%s\nnot\n%s", again.stdout, got.stdout)
	}
}

func TestConfigCheckSaysThatAllIsWell(t *testing.T) {
	if got, want := (world{}).run(t, "config", "--check"), (result{exitDone, "", "The configuration is fine.\n"}); got != want {
		t.Errorf("%+v", got)
	}
}

func TestTheExampleIsFreshAndSaysTheDefaults(t *testing.T) {
	const path = "../../deploy/dmarcd.example.toml"
	if *update {
		if err := os.WriteFile(path, []byte(exampleConfig()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != exampleConfig() {
		t.Errorf("%s is not what the settings say; run go test ./cmd/dmarcd -run Example -update", path)
	}
	if got := (world{}).run(t, "config", "--example"); got.stdout != string(text) {
		t.Error("dmarcd config --example prints something else")
	}

	// With every # taken away, it says what is the default anyway.
	var all strings.Builder
	for line := range strings.Lines(string(text)) {
		if setting, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(setting, " ") {
			all.WriteString(setting)
		}
	}
	env := newEnviron(nil, nil, os.Stderr, nil)
	env.root = true
	got, err := env.loadConfig(writeFile(t, "dmarcd.toml", all.String()), valuesOnly)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig(env)
	for _, s := range slices.Concat(got.settings, newMailbox().settings, newTarget().settings, newGroup().settings, newDomain().settings, newNetwork().settings, newStream().settings) {
		if !strings.Contains(all.String(), "\n"+lastKey(s.key)+" = ") && !strings.HasPrefix(all.String(), s.key+" = ") {
			t.Errorf("the example lacks %s", s.full)
		}
	}
	for _, c := range []*config{got, want} {
		c.settings, c.File, c.Mailboxes, c.Targets = nil, "", nil, nil
		c.Groups, c.ByDomain, c.Networks, c.Streams = nil, nil, nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf(" got %+v\nwant %+v", got, want)
	}
}
