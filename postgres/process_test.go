package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/internal/racetest"
)

// The test binary plays other processes when this variable names a part.
const partVariable = "DMARCD_TEST_PART"

func TestMain(m *testing.M) {
	switch os.Getenv(partVariable) {
	case "":
		os.Exit(m.Run())
	case "holder":
		playHolder(os.Args[1])
	case "client":
		playClient(os.Args[1])
	}
}

// playHolder runs a server, says so, and stays until it is killed.
func playHolder(dir string) {
	ctx := context.Background()
	s, err := Start(ctx, Options{DataDir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	conn, err := pgx.Connect(ctx, s.URL())
	if err == nil {
		_, err = conn.Exec(ctx, "CREATE TABLE kept AS SELECT 'kept' AS word")
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// playClient connects, and says how that went.
func playClient(url string) {
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(context.Background())
	fmt.Println("connected")
}

// part returns a command that plays a part.
func part(t *testing.T, program, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), partVariable+"="+name)
	cmd.Stderr = t.Output()
	return cmd
}

func executable(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func needPostgreSQL(t *testing.T) {
	t.Helper()
	_, err := (&account{}).find(t.Context(), "", 0)
	if err != nil && os.Getenv("DMARCD_TEST_REQUIRE") == "" {
		t.Skip("NOT TESTED: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// holdAndKill kills a process that runs a server, and returns the server's.
func holdAndKill(t *testing.T, dir string) int {
	t.Helper()
	holder := part(t, executable(t), "holder", dir)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer holder.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	return postmaster(t, dir)
}

func TestAKilledDmarcdIsFollowedByTheNext(t *testing.T) {
	t.Parallel()
	needPostgreSQL(t)
	dir := t.TempDir()
	old := holdAndKill(t, dir)

	s := begin(t, Options{DataDir: dir})
	if isPostmaster(old, s.cluster) {
		t.Errorf("the old server, process %d, lives on", old)
	}
	if got := ask(t, pool(t, s.URL()), "SELECT word FROM kept"); got != "kept" {
		t.Errorf("read %q", got)
	}
}

func TestPostgreSQLEndsWithAKilledDmarcd(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a process with its parent")
	}
	needPostgreSQL(t)
	dir := t.TempDir()
	old := holdAndKill(t, dir)
	if gone, err := waitGone(t.Context(), old, filepath.Join(dir, clusterName), limit); !gone || err != nil {
		t.Errorf("process %d lives on: %v", old, err)
	}
	if _, err := os.Stat(filepath.Join(dir, clusterName, "postmaster.pid")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was not stopped cleanly: postmaster.pid: %v", err)
	}
}

// A child that a killed server leaves behind is waited for.
func TestAChildOfAKilledServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("its children are found on Linux only")
	}
	needPostgreSQL(t)
	dir := t.TempDir()
	s := begin(t, Options{DataDir: dir})
	old := postmaster(t, dir)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", old))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.Fields(string(text))[0])
	if err == nil {
		err = syscall.Kill(child, syscall.SIGSTOP)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(child, syscall.SIGCONT)
	s.cancel() // it is not started again
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()

	log := newEvents()
	started := make(chan error, 1)
	go func() {
		next, err := Start(t.Context(), Options{DataDir: dir, Log: slog.New(log)})
		if err == nil {
			t.Cleanup(func() { halt(t, next) })
		}
		started <- err
	}()
	for tries := 0; tries < firstTries; {
		select {
		case err := <-started:
			t.Fatalf("it does not wait: %v", err)
		case got := <-log.messages:
			if strings.Contains(got, "starting it again") {
				tries++
			}
		}
	}
	syscall.Kill(child, syscall.SIGCONT)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

func TestAHalfMadeClusterIsMadeAnew(t *testing.T) {
	t.Parallel()
	needPostgreSQL(t)
	dir := t.TempDir()
	holder := part(t, executable(t), "holder", dir)
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Process.Kill()
	pattern := filepath.Join(dir, unfinished+"*", "PG_VERSION") // initdb is at work
	for deadline := time.Now().Add(limit); ; {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("initdb never began")
		}
		runtime.Gosched()
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	holder.Wait()

	halt(t, begin(t, Options{DataDir: dir}))
	// One that could not be cleared away when the cluster was made.
	if err := os.MkdirAll(filepath.Join(dir, unfinished+"old", "base", "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	// What the initdb that lost its parent still writes to may outlast a start,
	// but not the initdb.
	for deadline := time.Now().Add(limit); ; {
		halt(t, begin(t, Options{DataDir: dir}))
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		got := strings.Join(names, " ")
		if got == "dmarcd.lock postgres" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("in the data directory are %s", got)
		}
	}
}

// openToAll returns a folder that every user may pass, whatever TMPDIR is.
func openToAll(t *testing.T) string {
	t.Helper()
	for _, base := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		dir, err := os.MkdirTemp(base, "dmarcd-open-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		open := true
		for up := dir; up != "/"; up = filepath.Dir(up) {
			info, err := os.Stat(up)
			open = open && err == nil && info.Mode()&0o001 != 0
		}
		if open {
			return dir
		}
	}
	t.Fatal("no folder for temporary files is open to all users")
	return ""
}

// copyProgram puts the test binary where every user can run it.
func copyProgram(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "postgres.test")
	// By another process: what this one has open for writing, one that is started beside it has as
	// well for a moment, and a program that is open for writing cannot be run.
	if out, err := exec.Command("cp", executable(t), path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func credential(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can play several users")
	}
}

func TestOtherUsersCannotConnect(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := openToAll(t)
	program := copyProgram(t, dir)
	s := begin(t, Options{DataDir: filepath.Join(dir, "data"), Ephemeral: true})
	if !strings.Contains(s.URL(), "data%2Fpostgres") {
		t.Fatalf("the socket is not in the cluster: %s", s.URL())
	}
	for _, c := range []struct {
		user string
		cred *syscall.Credential
		want string
	}{
		{"root, who runs dmarcd", nil, "connected"},
		{"the user who runs PostgreSQL", s.account.cred, "Peer authentication failed"},
		{"daemon", credential(t, "daemon"), "permission denied"},
	} {
		for _, url := range []string{s.URL(), s.AdminURL()} {
			cmd := part(t, program, "client", url)
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred}
			out, err := cmd.Output()
			if err != nil || !strings.Contains(strings.ToLower(string(out)), strings.ToLower(c.want)) {
				t.Errorf("%s: %q, %v, want %q", c.user, out, err, c.want)
			}
		}
	}
}

func TestFoldersThatOnlyRootPassesAreNoHindrance(t *testing.T) {
	t.Parallel()
	needRoot(t)
	open := openToAll(t)
	closed := filepath.Join(open, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{open, closed} {
		s := begin(t, Options{DataDir: filepath.Join(parent, "data"), Ephemeral: true})
		if got := ask(t, pool(t, s.URL()), "SELECT current_user::text"); got != role {
			t.Errorf("in %s: user %q", parent, got)
		}
		path, file, err := s.reach(t.Context(), s.cluster)
		if err != nil {
			t.Fatal(err)
		}
		file.Close() // may be nil
		if direct := path == s.cluster; direct != (parent == open) {
			t.Errorf("in %s the cluster is reached by %s", parent, path)
		}
		if info, err := os.Stat(closed); err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("the closed folder has the mode %v now, %v", info.Mode(), err)
		}
	}
}

func TestTheOwnerOfTheDataRunsTheServer(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	owner := func() uint32 {
		info, err := os.Stat(filepath.Join(dir, clusterName))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	nobody := credential(t, "nobody").Uid
	halt(t, begin(t, Options{DataDir: dir, Ephemeral: true, User: "nobody"}))
	if got := owner(); got != nobody {
		t.Errorf("the data belong to user %d, want %d", got, nobody)
	}
	halt(t, begin(t, Options{DataDir: dir, Ephemeral: true}))
	if got := owner(); got != nobody {
		t.Errorf("then the data belong to user %d, want %d", got, nobody)
	}
	for _, name := range []string{"daemon", "root", "no-such-user"} {
		if s, err := Start(t.Context(), Options{DataDir: dir, User: name}); err == nil {
			halt(t, s)
			t.Errorf("%s ran a server on the data of nobody", name)
		}
	}
	if err := os.Chown(filepath.Join(dir, clusterName), 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "chown") {
		t.Errorf("data of root: err = %v", err)
	}
}

// Root may do something in the directory of a service, which finds all of it
// its own afterwards.
func TestTheOwnerOfTheDirectoryRunsTheServer(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir, nobody := t.TempDir(), credential(t, "nobody").Uid
	if err := os.Chown(dir, int(nobody), int(nobody)); err != nil {
		t.Fatal(err)
	}
	halt(t, begin(t, Options{DataDir: dir, Ephemeral: true}))
	for _, name := range []string{clusterName, "dmarcd.lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != nobody {
			t.Errorf("%s belongs to user %d, want %d", name, got, nobody)
		}
	}
}

// Everything above again, as a user without rights.
func TestAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	needRoot(t)
	dir := openToAll(t)
	program := copyProgram(t, dir)
	cred := credential(t, "nobody")
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, int(cred.Uid), int(cred.Gid)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.timeout=40m", "-test.v", "-test.run=Data|Killed") // which start, stop and follow servers
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "XDG_RUNTIME_DIR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestDataSurviveARestart") {
		t.Errorf("%v\n%s", err, out)
	}
}
