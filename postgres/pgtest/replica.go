package pgtest

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/postgres"
)

// A Replicated database is a primary and a streaming replica of it, two real
// servers that end with the test.
type Replicated struct {
	Primary, Replica *Server
}

// A Server is one server of a replicated database.
type Server struct {
	URL string // of a superuser

	t       testing.TB
	bin     string
	as      *syscall.Credential
	dir     string // of the sockets
	data    string
	port    string
	process *exec.Cmd // nil while it does not run
}

// Replicate starts a primary and a replica. The test is skipped if PostgreSQL
// is not installed, or fails if DMARCD_TEST_REQUIRE is set.
func Replicate(t testing.TB) *Replicated {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "replicated") // sockets want a short path
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
	server := func(name, port string) *Server {
		q := url.Values{"host": {dir}, "port": {port}, "user": {"postgres"}}
		return &Server{URL: "postgres:///postgres?" + q.Encode(), t: t, bin: bin, as: as, dir: dir, data: filepath.Join(dir, name), port: port}
	}
	r := &Replicated{server("primary", "5432"), server("replica", "5433")}
	r.Primary.run("initdb", "-D", r.Primary.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	r.Primary.Start()
	r.Replica.run("pg_basebackup", "-h", dir, "-p", r.Primary.port, "-U", "postgres", "-D", r.Replica.data, "-R", "-X", "stream", "-c", "fast", "--no-sync")
	r.Replica.Start()
	return r
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
	s.process = s.command("postgres", "-D", s.data, "-p", s.port, "-c", "listen_addresses=", "-c", "unix_socket_directories="+s.dir,
		"-c", "fsync=off", "-c", "wal_level=replica", "-c", "max_wal_senders=4", "-c", "shared_buffers=32MB", "-c", "max_connections=60")
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.Stop)
	for deadline := time.Now().Add(time.Minute); ; {
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

// Stop ends the server at once.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	s.process.Process.Signal(syscall.SIGQUIT)
	s.process.Wait()
	s.process = nil
}
