package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

var update = flag.Bool("update", false, "write what is generated anew")

// A world is what a test runs dmarcd in.
type world struct {
	vars  []string // beside those that keep the test off this machine's configuration
	stdin string
}

type result struct {
	status         int
	stdout, stderr string
}

func (w world) run(t *testing.T, args ...string) result {
	t.Helper()
	vars := append([]string{"DMARCD_CONFIG=" + os.DevNull, "XDG_STATE_HOME=" + t.TempDir()}, w.vars...)
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, strings.NewReader(w.stdin), &stdout, &stderr, vars)
	return result{status, stdout.String(), stderr.String()}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryCommandExplainsItself(t *testing.T) {
	for _, c := range commands() {
		t.Run(c.name, func(t *testing.T) {
			byFlag := world{}.run(t, c.name, "--help")
			if byFlag.status != exitDone || byFlag.stderr != "" {
				t.Errorf("--help: status %d, stderr %q", byFlag.status, byFlag.stderr)
			}
			if want := "Usage: dmarcd " + c.name + " [flags]"; !strings.HasPrefix(byFlag.stdout, want) {
				t.Errorf("usage begins %.80q, want %q", byFlag.stdout, want)
			}
			if byName := (world{}).run(t, "help", c.name); byName != byFlag {
				t.Errorf("dmarcd help %s says something else: %+v", c.name, byName)
			}
			wrong := world{}.run(t, c.name, "--no-such-flag")
			if wrong.status != exitUsage || wrong.stdout != "" || !strings.Contains(wrong.stderr, "--no-such-flag") {
				t.Errorf("an unknown flag: %+v", wrong)
			}
			if all := (world{}).run(t, "--help"); !strings.Contains(all.stdout, "\n  "+c.name) || all.status != exitDone {
				t.Errorf("the overview lacks %s", c.name)
			}
		})
	}
}

func TestWrongUsageNamesTheFix(t *testing.T) {
	for _, c := range []struct {
		args   string
		stderr string
	}{
		{"prase x", "dmarcd: unknown command \"prase\"; did you mean parse?\n\"dmarcd help\" lists the commands.\n"},
		{"xyzzy", "dmarcd: unknown command \"xyzzy\"\n\"dmarcd help\" lists the commands.\n"},
		{"help prase", "dmarcd help: unknown command \"prase\"; did you mean parse?\n\"dmarcd help --help\" explains it.\n"},
		{"parse", "dmarcd parse: needs PATH...\n\"dmarcd parse --help\" explains it.\n"},
		{"parse --fromat text x", "dmarcd parse: unknown flag --fromat; did you mean --format?\n\"dmarcd parse --help\" explains it.\n"},
		{"parse x --format", "dmarcd parse: --format needs a value: --format text|ndjson\n\"dmarcd parse --help\" explains it.\n"},
		{"parse x --format=xml", "dmarcd parse: --format \"xml\": not one of the choices; want text|ndjson\n\"dmarcd parse --help\" explains it.\n"},
		{"version 1", "dmarcd version: takes no arguments, but got \"1\"\n\"dmarcd version --help\" explains it.\n"},
		{"help parse config", "dmarcd help: takes one argument, but got \"config\" as well\n\"dmarcd help --help\" explains it.\n"},
	} {
		got := world{}.run(t, strings.Fields(c.args)...)
		if want := (result{exitUsage, "", c.stderr}); got != want {
			t.Errorf("dmarcd %s\n got %+v\nwant %+v", c.args, got, want)
		}
	}
	if got := (world{}).run(t); got.status != exitUsage || got.stdout != "" || got.stderr != overview(usualWidth) {
		t.Errorf("no arguments: %+v", got)
	}
}

func TestFlagsStandAnywhereBeforeTwoDashes(t *testing.T) {
	fs := newEnviron(nil, nil, nil, nil).flags("test", "PATH...", "")
	name := fs.String("name", "", "`NAME`")
	yes := fs.Bool("yes", false, "")
	no := fs.Bool("no", true, "")
	if err := fs.Parse([]string{"a", "--name", "-x", "-", "-yes", "b", "--no=false", "--", "--name", "c"}); err != nil {
		t.Fatal(err)
	}
	got := []string{*name, strings.Join(fs.Args(), " ")}
	if got[0] != "-x" || got[1] != "a - b --name c" || !*yes || *no {
		t.Errorf("name and operands %q, yes %v, no %v", got, *yes, *no)
	}
}

func TestVersionSaysWhatItIs(t *testing.T) {
	text := world{}.run(t, "version")
	if text.status != exitDone || !strings.HasPrefix(text.stdout, "dmarcd "+version+"\ncommit ") {
		t.Errorf("%+v", text)
	}
	var v map[string]string
	got := world{}.run(t, "version", "--format", "json")
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || v["version"] != version || v["go"] == "" || v["platform"] == "" {
		t.Errorf("%+v: %v", got, err)
	}
	if flag := (world{}).run(t, "--version"); flag != text {
		t.Errorf("--version: %+v", flag)
	}
}

func TestVersionOfTheLinkerWins(t *testing.T) {
	built := &debug.BuildInfo{
		Main:     debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "abc"}},
	}
	for _, c := range []struct {
		version, commit         string
		info                    *debug.BuildInfo
		wantVersion, wantCommit string
	}{
		{"v9", "fff", built, "v9", "fff"},
		{"", "", built, "v1.2.3", "abc-dirty"},
		{"", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "devel", ""},
		{"", "", &debug.BuildInfo{}, "devel", ""},
	} {
		if v, commit := stamp(c.version, c.commit, c.info); v != c.wantVersion || commit != c.wantCommit {
			t.Errorf("%+v: %q %q", c, v, commit)
		}
	}
}

func TestTheFirstSignalCancels(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		ctx, stop := withSignals(context.Background())
		if err := syscall.Kill(syscall.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		if cause := context.Cause(ctx).Error(); !strings.Contains(cause, sig.String()) {
			t.Errorf("cause %q does not name %v", cause, sig)
		}
		stop()
	}
}

// TestMain runs dmarcd itself when a test asks for a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("DMARCD_TEST_MAIN") == "1" {
		main()
	}
	pgtest.Main(m, removeBuilt)
}

// process is a dmarcd in a process of its own.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = []string{"DMARCD_TEST_MAIN=1", "DMARCD_CONFIG=" + os.DevNull, "XDG_STATE_HOME=" + t.TempDir()}
	return cmd
}

// A terminal that is closed ends what was begun there in good order, unless that was begun by
// nohup: then it goes on.
func TestAClosedTerminalInterruptsUnlessThatIsIgnored(t *testing.T) {
	interrupt(t, waiting(t), "hangup", syscall.SIGHUP)
	cmd := waiting(t)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`}, cmd.Args...)
	interrupt(t, cmd, "terminated", syscall.SIGHUP, syscall.SIGTERM)
}

func TestAnInterruptedCommandFailsAndSaysSo(t *testing.T) {
	interrupt(t, waiting(t), "terminated", syscall.SIGTERM)
}

// waiting is a command that prints a line, and then waits for more.
func waiting(t *testing.T) *exec.Cmd {
	t.Helper()
	return process(t, "parse", "--format", "ndjson", "testdata/aggregate.xml", "-")
}

// interrupt sends signals to a command that waits, which has to name one of them.
func interrupt(t *testing.T, cmd *exec.Cmd, names string, signals ...syscall.Signal) {
	t.Helper()
	stdin, err := cmd.StdinPipe() // stays open: the command waits for it
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var first [1]byte
	if _, err := stdout.Read(first[:]); err != nil { // the first report is out
		t.Fatal(err)
	}
	for _, sig := range signals {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != exitFailed || !strings.Contains(stderr.String(), "dmarcd parse: interrupted before it was done ("+names) {
		t.Errorf("status %d, stderr %q", status, stderr.String())
	}
}
