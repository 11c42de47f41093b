package postgres

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// limit is how long a test waits for what happens within a second or two where nothing else goes on.
const limit = 10 * time.Minute

// events is a log whose messages can be waited for.
type events struct {
	messages chan string
}

func newEvents() *events { return &events{make(chan string, 1000)} }

func (e *events) Enabled(context.Context, slog.Level) bool { return true }
func (e *events) WithAttrs([]slog.Attr) slog.Handler       { return e }
func (e *events) WithGroup(string) slog.Handler            { return e }
func (e *events) Handle(_ context.Context, r slog.Record) error {
	e.messages <- r.Message
	return nil
}

func (e *events) await(t *testing.T, message string) {
	t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case got := <-e.messages:
			if got == message {
				return
			}
		case <-timeout:
			t.Fatalf("%q was never logged", message)
		}
	}
}

const isReady = "private PostgreSQL is ready"

// begin starts a server, skipping the test where there is no PostgreSQL.
func begin(t *testing.T, opts Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), opts)
	if errors.Is(err, ErrNotInstalled) && os.Getenv("DMARCD_TEST_REQUIRE") == "" {
		t.Skip("NOT TESTED: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { halt(t, s) })
	return s
}

func halt(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func pool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func execute(t *testing.T, db *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func ask(t *testing.T, db *pgxpool.Pool, sql string) string {
	t.Helper()
	var answer string
	if err := db.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// postmaster returns the process of the server in a data directory.
func postmaster(t *testing.T, dataDir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dataDir, clusterName, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestDataSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "by", "us")
	first := begin(t, Options{DataDir: dir})
	db := pool(t, first.URL())
	execute(t, db, "CREATE TABLE kept AS SELECT 'kept' AS word")
	db.Close()
	halt(t, first)
	if _, err := os.Stat(filepath.Join(dir, clusterName, "postmaster.pid")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Stop, postmaster.pid: %v", err)
	}

	second := begin(t, Options{DataDir: dir})
	if first.URL() != second.URL() {
		t.Errorf("the URL was %s and is %s", first.URL(), second.URL())
	}
	if got := ask(t, pool(t, second.URL()), "SELECT word FROM kept"); got != "kept" {
		t.Errorf("read %q", got)
	}
}

// A process that is being started has a copy of every open file for a moment.
func TestALockIsLetGoWhoeverElseHasItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := syscall.Dup(int(first.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(copied)
	unlock(first)
	second, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock(second)
}

func TestTheServerIsDurablePrivateAndModest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, Options{DataDir: dir, Settings: map[string]string{"work_mem": "5MB"}})
	db := pool(t, s.URL())
	for name, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
		"listen_addresses": "", "unix_socket_permissions": "0700", "jit": "off", "max_connections": "40",
		"server_encoding": "UTF8", "lc_collate": "C", "TimeZone": "UTC", "is_superuser": "off", "work_mem": "5MB",
	} {
		if got := ask(t, db, "SELECT current_setting('"+name+"')"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	info, err := os.Stat(filepath.Join(dir, clusterName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the folder of the socket has the mode %v", info.Mode())
	}
	pid := postmaster(t, dir)
	theirs, err := syscall.Getpgid(pid)
	if err != nil || theirs == syscall.Getpgrp() {
		t.Errorf("the server is in process group %d, %v; it must not be in ours", theirs, err)
	}
}

func TestStopMayBeCalledAgain(t *testing.T) {
	t.Parallel()
	s := begin(t, Options{DataDir: t.TempDir(), Ephemeral: true})
	if err := s.Err(); err != nil {
		t.Errorf("while it runs, Err is %v", err)
	}
	select {
	case <-s.Done():
		t.Error("Done while it runs")
	default:
	}
	halt(t, s)
	halt(t, s)
	<-s.Done()
	if err := s.Err(); err != nil {
		t.Errorf("after Stop, Err is %v", err)
	}
}

func TestStopInHasteKeepsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, Options{DataDir: dir})
	db := pool(t, s.URL())
	execute(t, db, "CREATE TABLE kept AS SELECT 'kept' AS word")
	db.Close()
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(now); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-s.Done()
	again := begin(t, Options{DataDir: dir})
	if got := ask(t, pool(t, again.URL()), "SELECT word FROM kept"); got != "kept" {
		t.Errorf("read %q", got)
	}
}

func TestAKilledServerComesBack(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), newEvents()
	s := begin(t, Options{DataDir: dir, Log: slog.New(log)})
	log.await(t, isReady)
	db := pool(t, s.URL())
	execute(t, db, "CREATE TABLE kept AS SELECT 'kept' AS word")
	for range 2 {
		old := postmaster(t, dir)
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		log.await(t, isReady)
		if err := db.Ping(t.Context()); err != nil { // finds that the pooled connection is dead
			t.Log("as it may be:", err)
		}
		if got := ask(t, db, "SELECT word FROM kept"); got != "kept" {
			t.Errorf("read %q", got)
		}
		if now := postmaster(t, dir); now == old {
			t.Errorf("process %d lives on", old)
		}
	}
}

func TestAServerThatCannotComeBackIsGivenUp(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), newEvents()
	s := begin(t, Options{DataDir: dir, Log: slog.New(log), Ephemeral: true, pause: time.Millisecond})
	pid := postmaster(t, dir)
	if err := os.Rename(s.cluster, s.cluster+".away"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(limit):
		t.Fatal("it is tried for ever")
	}
	if s.Err() == nil {
		t.Error("no error tells that the server is gone")
	}
	halt(t, s)
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatalf("the data directory is still locked: %v", err)
	}
	lock.Close()
}

func TestWhatPostgreSQLRefusesIsSaid(t *testing.T) {
	t.Parallel()
	begin(t, Options{DataDir: t.TempDir(), Ephemeral: true}) // or skip
	s, err := Start(t.Context(), Options{
		DataDir: t.TempDir(), Ephemeral: true, pause: time.Millisecond, Settings: map[string]string{"max_connections": "many"},
	})
	if err == nil {
		halt(t, s)
		t.Fatal("started with a setting that makes no sense")
	}
	if text := err.Error(); !strings.Contains(text, "max_connections") && !strings.Contains(text, "configuration file") {
		t.Errorf("err = %q", text)
	}
}

func TestAStartCutShortLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), newEvents()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for message := range log.messages {
			if message == "made a database cluster" {
				cancel()
				return
			}
		}
	}()
	s, err := Start(ctx, Options{DataDir: dir, Log: slog.New(log), Ephemeral: true})
	if err == nil { // it was quicker
		halt(t, s)
	} else if errors.Is(err, ErrNotInstalled) {
		begin(t, Options{DataDir: dir})
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want %v", err, context.Canceled)
	}
	if _, err := os.Stat(filepath.Join(dir, clusterName, "postmaster.pid")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("postmaster.pid: %v", err)
	}
	begin(t, Options{DataDir: dir, Ephemeral: true})
}

func TestTwoDoNotShareADataDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, Options{DataDir: dir, Ephemeral: true})
	_, err := Start(t.Context(), Options{DataDir: dir})
	want := InUseError{Dir: dir, PID: os.Getpid(), URL: s.URL()}
	got, ok := errors.AsType[*InUseError](err)
	if !ok || *got != want {
		t.Fatalf("err = %#v, want %#v", err, want)
	}
	if text := err.Error(); !strings.Contains(text, strconv.Itoa(os.Getpid())) || !strings.Contains(text, dir) {
		t.Errorf("the error does not say who and where: %q", text)
	}
	if got := ask(t, pool(t, got.URL), "SELECT current_database()::text"); got != database {
		t.Errorf("the URL leads to %q", got)
	}
}

func TestALongPathIsNoHindrance(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	s := begin(t, Options{DataDir: dir, Ephemeral: true})
	if got := ask(t, pool(t, s.URL()), "SELECT current_user::text"); got != role {
		t.Errorf("user %q", got)
	}
	config, err := pgx.ParseConfig(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	halt(t, s)
	if _, err := os.Lstat(config.Host); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", config.Host, err)
	}
}

func TestDataOfAnotherVersionAreNotTouched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	halt(t, begin(t, Options{DataDir: dir, Ephemeral: true}))
	version := filepath.Join(dir, clusterName, "PG_VERSION")
	if err := os.WriteFile(version, []byte("12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{DataDir: dir})
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "version 12") || !strings.Contains(err.Error(), "pg_upgrade") {
		t.Errorf("err = %v", err)
	}
	if text, err := os.ReadFile(version); string(text) != "12\n" {
		t.Errorf("PG_VERSION is now %q, %v", text, err)
	}
}

func TestAMissingServerIsExplained(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Start(t.Context(), Options{DataDir: dir, BinDir: t.TempDir()})
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "DMARCD_DATABASE_URL") {
		t.Errorf("err = %v", err)
	}
}

func TestAFolderOfSomethingElseIsNotTouched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine := filepath.Join(dir, clusterName, "mine")
	if err := os.Mkdir(filepath.Dir(mine), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Dir(mine), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Start(t.Context(), Options{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "not the data of a PostgreSQL") {
		t.Errorf("err = %v", err)
	}
	if text, err := os.ReadFile(mine); string(text) != "mine" {
		t.Errorf("the file is now %q, %v", text, err)
	}
}

func TestAStalePidFileOfALiveProcessIsNoHindrance(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, Options{DataDir: dir, Ephemeral: true})
	halt(t, s)
	stranger := s.account.command(context.Background(), "/bin/sleep", "600") // of the same user: PostgreSQL would not start beside it
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer stranger.Wait()
	defer stranger.Process.Kill()
	stale := []byte(strconv.Itoa(stranger.Process.Pid) + "\n" + s.cluster + "\n1700000000\n5432\n.\n\n  1 1\nready   \n")
	if err := s.writeFile("postmaster.pid", string(stale)); err != nil {
		t.Fatal(err)
	}
	begin(t, Options{DataDir: dir, Ephemeral: true})
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was stopped: %v", err)
	}
}

func TestAnOrphanIsStoppedAndReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := begin(t, Options{DataDir: dir})
	halt(t, s)

	// As a killed dmarcd leaves it where the system does not end it.
	path, file, err := s.reach(t.Context(), s.cluster)
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.account.command(context.Background(), filepath.Join(s.inst.bin, "postgres"), append([]string{"-D", path}, binding...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account.cred, Setsid: true}
	if file != nil {
		defer file.Close()
		cmd.ExtraFiles = []*os.File{file}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s.await(ctx, func() {})
	db := pool(t, s.URL())
	execute(t, db, "CREATE TABLE kept AS SELECT 'kept' AS word")

	again := begin(t, Options{DataDir: dir})
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the orphan was not stopped cleanly: %v", err)
		}
	case <-time.After(limit):
		t.Error("the orphan lives on")
	}
	if got := ask(t, pool(t, again.URL()), "SELECT word FROM kept"); got != "kept" {
		t.Errorf("read %q", got)
	}
}
