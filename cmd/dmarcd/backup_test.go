package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

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

func runProgram(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// What docs/backup.md says, word for word: of the private server while it runs,
// into a database of one's own.
func TestTheBackupOfThePrivateServerMovesToAnother(t *testing.T) {
	dump, load := postgresProgram(t, "pg_dump"), postgresProgram(t, "pg_restore")
	dir, err := os.MkdirTemp("/tmp", "dmarcd") // sockets want a short path, and PostgreSQL has to get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	server, err := postgres.Start(t.Context(), postgres.Options{DataDir: dir, Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(context.WithoutCancel(t.Context()))
	from := "DMARCD_DATABASE_URL=" + server.URL()
	if got := (world{vars: []string{from}}).run(t, "import", filepath.Join("..", "..", "parse", "testdata", "parsedmarc", "report.xml")); got.status != exitDone {
		t.Fatalf("%+v", got)
	}
	file := filepath.Join(t.TempDir(), "dmarcd.dump")
	runProgram(t, dump, "--format=custom", "--no-owner", "--file="+file, "host="+filepath.Join(dir, "postgres")+" user=dmarcd dbname=dmarcd")
	to := pgtest.URL(t)
	runProgram(t, load, "--no-owner", "--dbname="+to, file)
	restored := "DMARCD_DATABASE_URL=" + to
	for _, args := range [][]string{{"migrate"}, {"verify"}, {"doctor", "--quiet"}} {
		got := world{vars: []string{restored, "DMARCD_LISTEN=127.0.0.1:0", "DMARCD_RESOLVER=" + resolving(t, rootZone)}}.run(t, args...)
		if got.status != exitDone {
			t.Errorf("dmarcd %q: %+v", args, got)
		}
	}
	if got, want := messagesOf(t, restored, "example.com"), messagesOf(t, from, "example.com"); got != want || want == 0 {
		t.Errorf("%d messages, want %d", got, want)
	}
	// The same again counts once.
	if got := (world{vars: []string{restored}}).run(t, "import", filepath.Join("..", "..", "parse", "testdata", "parsedmarc", "report.xml")); got.status != exitDone {
		t.Errorf("%+v", got)
	}
	if got, want := messagesOf(t, restored, "example.com"), messagesOf(t, from, "example.com"); got != want {
		t.Errorf("%d messages after importing again, want %d", got, want)
	}
}
