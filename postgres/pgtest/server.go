package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres"
)

// A Replicated database is a primary and a streaming replica of it, two real
// servers that end with the test.
type Replicated struct {
	Primary, Replica *Server
}

// A Server is a PostgreSQL of one test. It ends with it.
type Server struct {
	URL string // of a superuser

	t       testing.TB
	bin     string
	as      *syscall.Credential
	dir     string // of the sockets
	data    string
	port    string
	more    []string  // settings
	process *exec.Cmd // nil while it does not run
	ended   chan struct{}
}

// Replicate starts a primary and a replica. The test is skipped if PostgreSQL
// is not installed, or fails if DMARCD_TEST_REQUIRE is set.
func Replicate(t testing.TB) *Replicated {
	t.Helper()
	primary := newServer(t, "primary", "5432")
	copied := *primary
	replica := &copied
	replica.data, replica.port = filepath.Join(primary.dir, "replica"), "5433"
	replica.URL = replica.url()
	primary.initialise()
	primary.Start()
	replica.run("pg_basebackup", "-h", primary.dir, "-p", primary.port, "-U", "postgres", "-D", replica.data, "-R", "-X", "stream", "-c", "fast", "--no-sync")
	replica.Start()
	return &Replicated{primary, replica}
}

// Citus starts a cluster of one machine, and returns its URL. The test is
// skipped if Citus is not installed.
func Citus(t testing.TB) string {
	t.Helper()
	port := porttest.Free(t)
	s := newServer(t, "coordinator", port)
	library, err := s.command("pg_config", "--pkglibdir").Output()
	if err == nil {
		_, err = os.Stat(filepath.Join(strings.TrimSpace(string(library)), "citus.so"))
	}
	if err != nil {
		t.Skip("SKIPPED, AND NOT TESTED ON THIS MACHINE: the extension citus is not installed for the PostgreSQL in " + s.bin)
	}
	s.more = []string{"-c", "listen_addresses=127.0.0.1", "-c", "shared_preload_libraries=citus", "-c", "citus.node_conninfo=sslmode=disable", "-c", "max_prepared_transactions=60"}
	s.initialise()
	s.Start()
	conn, err := pgx.Connect(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"CREATE EXTENSION citus", "SELECT citus_set_coordinator_host('127.0.0.1', " + port + ")"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return s.URL
}

// Own starts a server that no other test uses, with further settings such as
// "max_connections=9". It can be stopped and started.
func Own(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := newServer(t, "own", "5432")
	s.set(settings)
	s.initialise()
	s.Start()
	return s
}

// OnDisk is Own with its data on a disk of so many bytes, of which it returns
// the folder. The test is skipped where no file system can be mounted.
func OnDisk(t testing.TB, bytes int64, settings ...string) (s *Server, disk string) {
	t.Helper()
	s = newServer(t, "disk", "5432")
	s.set(settings)
	disk = s.data
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("size=%d,mode=0755", bytes)
	if s.as != nil {
		options += fmt.Sprintf(",uid=%d,gid=%d", s.as.Uid, s.as.Gid)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "dmarcd-test", disk).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, AND NOT TESTED ON THIS MACHINE: what happens when the disk is full needs a disk of its own, and none can be mounted (root may): %v, %s", err, out)
	}
	t.Cleanup(func() {
		s.Stop()
		if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	s.data = filepath.Join(disk, "data")
	s.initialise()
	s.Start()
	return s, disk
}

func (s *Server) set(settings []string) {
	for _, v := range settings {
		s.more = append(s.more, "-c", v)
	}
}

// newServer returns a server that has no data yet.
func newServer(t testing.TB, name, port string) *Server {
	t.Helper()
	base := os.TempDir()
	if len(base) > len("/dev/shm") {
		base = "/tmp" // sockets want a short path
	}
	dir, err := os.MkdirTemp(base, "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bin, as, err := postgres.Programs(t.Context(), dir)
	if errors.Is(err, postgres.ErrNotInstalled) && os.Getenv("DMARCD_TEST_REQUIRE") == "" {
		t.Skip("NOT TESTED: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{t: t, bin: bin, as: as, dir: dir, data: filepath.Join(dir, name), port: port}
	s.URL = s.url()
	return s
}

func (s *Server) url() string {
	q := url.Values{"host": {s.dir}, "port": {s.port}, "user": {"postgres"}}
	return "postgres:///postgres?" + q.Encode()
}

func (s *Server) initialise() {
	s.t.Helper()
	s.run("initdb", "-D", s.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

func (s *Server) run(program string, args ...string) {
	s.t.Helper()
	if out, err := s.command(program, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// Start starts the server, and returns once it answers.
func (s *Server) Start() {
	s.t.Helper()
	s.process = s.command("postgres", append([]string{"-D", s.data, "-p", s.port, "-c", "listen_addresses=", "-c", "unix_socket_directories=" + s.dir,
		"-c", "fsync=off", "-c", "wal_level=replica", "-c", "max_wal_senders=4", "-c", "shared_buffers=32MB", "-c", "max_connections=60"}, s.more...)...)
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended, process := make(chan struct{}), s.process
	s.ended = ended
	go func() {
		process.Wait()
		close(ended)
	}()
	s.t.Cleanup(s.Stop)
	for deadline := time.Now().Add(10 * time.Minute); ; {
		conn, err := pgx.Connect(s.t.Context(), s.URL)
		if err == nil {
			conn.Close(context.Background())
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("PostgreSQL does not answer: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// running tells whether the server runs: it may have ended by itself.
func (s *Server) running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// Recover waits until the server answers again, and starts it where it has ended by itself, as it does
// if it cannot write its log.
func (s *Server) Recover() {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if !s.running() {
			s.t.Log("PostgreSQL has ended, and is started again")
			s.Stop()
			s.Start()
		}
		conn, err := pgx.Connect(s.t.Context(), s.URL)
		if err == nil {
			conn.Close(context.Background())
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("PostgreSQL does not answer: %v", err)
		}
	}
}

// Process returns the number of its first process, 0 while it does not run.
func (s *Server) Process() int {
	if !s.running() {
		return 0
	}
	return s.process.Process.Pid
}

// Socket returns the path that it listens at, and nowhere else.
func (s *Server) Socket() string { return filepath.Join(s.dir, ".s.PGSQL."+s.port) }

// Stop ends the server at once.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	s.process.Process.Signal(syscall.SIGQUIT)
	<-s.ended
	s.process = nil
}
