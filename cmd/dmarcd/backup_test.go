package main

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// postgresProgram returns a program of the PostgreSQL that tests run.
func postgresProgram(t *testing.T, name string) string {
	t.Helper()
	bin, _, err := postgres.Programs(t.Context(), t.TempDir())
	if err != nil {
		if os.Getenv("DMARCD_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip("SKIPPED: ", err)
	}
	path := filepath.Join(bin, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	return path
}

// ofSystemd stands in for systemd: it starts and stops dmarcd serve, and returns once
// that is done.
const ofSystemd = `#!/bin/sh
set -e
case "$1 $2" in
"start dmarcd")
	dmarcd serve >>log 2>&1 &
	echo $! >pid
	until dmarcd healthcheck 2>/dev/null; do kill -0 $(cat pid); sleep 0.1; done
	;;
"stop dmarcd")
	kill $(cat pid)
	while ps -o stat= -p $(cat pid) | grep -q '^[^Z]'; do sleep 0.1; done
	;;
*) exit 2 ;;
esac
`

// backupSteps are the examples of docs/backup.md, by their first two words.
var backupSteps = []string{
	"dmarcd backup", "pg_dump --format=custom", "pg_dump --format=custom", "systemctl stop", "createdb --owner=dmarcd", "pg_restore --no-owner", "systemctl stop",
	"dmarcd doctor", "systemctl stop",
}

func firstWords(x example) string {
	words := strings.Fields(x.text)
	return strings.Join(words[:min(2, len(words))], " ")
}

// Every command of docs/backup.md is run in the order of the page, as it stands but for paths
// and addresses: on the private server first, then on another that its data moved to.
func TestTheCommandsOfThePageOnBackupsWork(t *testing.T) {
	t.Parallel()
	programs := filepath.Dir(postgresProgram(t, "pg_dump"))
	dir, err := os.MkdirTemp("/tmp", "dmarcd") // sockets want a short path, and PostgreSQL has to get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	binary, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"systemctl": []byte(ofSystemd), "dmarcd": binary, "bin/dmarcd": binary} {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	own, err := url.Parse(pgtest.Own(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	database := func(name string) string {
		u := *own
		u.Path = "/" + name
		return u.String()
	}
	vars := []string{
		"PATH=" + dir + ":" + programs + ":" + os.Getenv("PATH"), "DMARCD_DATA_DIR=" + filepath.Join(dir, "var/lib/dmarcd"),
		"DMARCD_LISTEN=" + porttest.FreeAddress(t), "DMARCD_CONFIG=/dev/null", "DMARCD_RESOLVER=" + resolving(t, rootZone), "PGHOST=" + own.Query().Get("host"), "PGUSER=postgres",
	}
	shell := func(text string, vars []string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", text)
		cmd.Dir, cmd.Env = dir, vars
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	run := func(text string, more ...string) string {
		t.Helper()
		for from, to := range map[string]string{
			"/var/lib/dmarcd": filepath.Join(dir, "var/lib/dmarcd"), "/usr/local/bin/": dir + "/", "postgres://dmarcd@db.example.com/dmarcd": "'" + database("dmarcd") + "'",
		} {
			text = strings.ReplaceAll(text, from, to)
		}
		out, err := shell(text, append(slices.Clip(vars), more...))
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("%s\n%v\n%s\n%s", text, err, out, log)
		}
		return out
	}
	report, err := filepath.Abs("../../parse/testdata/parsedmarc/report.xml")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { shell("systemctl stop dmarcd", vars) }()
	run("systemctl start dmarcd; dmarcd import " + report)
	var want string
	holds := func(when string, more ...string) {
		t.Helper()
		out := run("dmarcd export 2>/dev/null", more...)
		if want == "" {
			want = out
		}
		if strings.Count(out, "\n") != 3 || out != want { // the report, and its rows
			t.Fatalf("%s it holds\n%s\nwant\n%s", when, out, want)
		}
		run("dmarcd verify", more...)
	}
	holds("at first")
	run(`psql --dbname=postgres --command="CREATE ROLE dmarcd LOGIN" && createdb byhand`)
	byHand := "DMARCD_DATABASE_URL=" + database("byhand")
	var did []string
	for _, x := range examples(t, "docs/backup.md") {
		text, first := x.text, firstWords(x)
		if !slices.Contains(backupSteps, first) {
			x.forgotten(t)
			continue
		}
		switch did = append(did, first); {
		case first == "pg_dump --format=custom" && strings.Contains(text, "$"):
			run(text, "DMARCD_DATABASE_URL=host="+filepath.Join(dir, "var/lib/dmarcd/postgres")+" user=dmarcd dbname=dmarcd")
		case first == "pg_restore --no-owner":
			run(text, byHand)
			holds("restored by hand,", byHand)
		case first == "dmarcd doctor": // "set DMARCD_DATABASE_URL to the new database", says the page before it
			vars = append(vars, "DMARCD_DATABASE_URL="+database("dmarcd"))
			run(text)
			if err := os.RemoveAll(filepath.Join(dir, "var/lib/dmarcd/postgres")); err != nil {
				t.Error(err)
			}
			holds("moved,")
		default:
			run(text)
			if strings.HasSuffix(text, "systemctl start dmarcd") {
				holds("after " + first)
			}
		}
	}
	if !slices.Equal(did, backupSteps) {
		t.Errorf("the page has the commands %q, want %q", did, backupSteps)
	}
	// A backup is for the owner alone, and restored into what is empty only.
	if info, err := os.Stat(filepath.Join(dir, "dmarcd.dump")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	for _, c := range []struct{ text, want string }{
		{"dmarcd restore dmarcd.dump", "not empty"}, {"dmarcd backup no/such/folder/a.dump", "no such file"},
		{"createdb broken; head -c 5000 dmarcd.dump | DMARCD_DATABASE_URL='" + database("broken") + "' dmarcd restore -", "pg_restore"},
		{"DMARCD_DATABASE_URL='" + database("broken") + "' dmarcd backup x.dump", "nothing of dmarcd"},
	} {
		if out, err := shell(c.text, vars); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", c.text, err, out)
		}
	}
}

// What programs of PostgreSQL are given as address shows no password, and nothing that
// only pgx knows.
func TestAddressesForOtherProgramsHaveNoPassword(t *testing.T) {
	for address, want := range map[string]string{
		"postgres://a:s3cret@h:5/d?sslmode=require&pool_max_conns=5":        "postgres://a@h:5/d?sslmode=require",
		"postgres://h/d?password=s3cret&options=-c%20search_path%3Dx":       "postgres://h/d?options=-c%20search_path%3Dx",
		"postgresql:///d?host=%2Frun%2Fpg":                                  "postgresql:///d?host=%2Frun%2Fpg",
		"host=h user=a password=s3cret dbname=d":                            "host=h user=a  dbname=d",
		`host=h password = 's3\'cret x' pool_max_conns=4 dbname=d`:          "host=h   dbname=d",
		"postgres://a:s3%2Fcret@h1:5432,h2:5433/d?target_session_attrs=any": "postgres://a@h1:5432,h2:5433/d?target_session_attrs=any",
	} {
		if got := forLibpq(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
