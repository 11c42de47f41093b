// Package postgres speaks to initdb and postgres: it runs a private PostgreSQL
// server for those who have none. The server keeps its data in a folder of
// dmarcd's data directory, listens on a Unix socket in that folder only, where
// nobody but dmarcd gets in, and lives and ends with dmarcd.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Names in a private server. The role owns the database and is no superuser,
// so that a mistake in SQL stays within the database.
const (
	superuser = "postgres"
	role      = "dmarcd"
	database  = "dmarcd"
)

// Options say what a server is like. Only DataDir is needed.
type Options struct {
	// DataDir is dmarcd's data directory. It is made if it is missing; the
	// cluster is its folder postgres.
	DataDir string
	// Log gets what is worth knowing about the server, and its own log: as
	// warnings and errors what matters, at debug level the rest.
	Log *slog.Logger
	// User is who runs the server when dmarcd is root, since PostgreSQL
	// refuses to be run by root. Empty: the owner of the data if there are
	// some, else the first of postgres, dmarcd and nobody that exists.
	User string
	// BinDir is where initdb and postgres are. Empty: they are looked for in
	// PATH and in the usual places, and the newest usable version is taken.
	BinDir string
	// Settings of PostgreSQL, in addition to our own and winning over them.
	Settings map[string]string
	// Ephemeral says that the data may be lost when the machine stops. It
	// makes everything faster. For demos and tests.
	Ephemeral bool

	pause time.Duration // before a server that ended is first started again; 0: firstPause
}

// A Server is a private PostgreSQL that runs.
type Server struct {
	opts    Options
	log     *slog.Logger
	account *account
	inst    installation
	cluster string
	socket  socketDir
	lock    *os.File
	relay   *relay

	done chan struct{} // closed when the server has ended for good; err is set before
	err  error

	cancel  context.CancelFunc // no further life begins
	mu      sync.Mutex
	process *os.Process // the life that is going on, if any
}

// Start makes the cluster if there is none yet, starts the server, makes the
// database, and returns once it accepts connections. It takes over what an
// earlier run left behind, however that ended. The server stays until Stop;
// ctx is for the start only.
//
// The error wraps ErrNotInstalled if there is no PostgreSQL that can be used,
// and is an *InUseError if another dmarcd uses the data directory; both say
// what to do.
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	if opts.DataDir == "" {
		return nil, errors.New("no data directory")
	}
	if opts.DataDir, err = filepath.Abs(opts.DataDir); err != nil {
		return nil, err
	}
	if opts.pause == 0 {
		opts.pause = firstPause
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		opts:    opts,
		log:     opts.Log,
		cluster: filepath.Join(opts.DataDir, clusterName),
		relay:   &relay{log: opts.Log, now: time.Now},
		done:    make(chan struct{}),
	}
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711 // another user has to pass
	}
	if err := os.MkdirAll(opts.DataDir, mode); err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(opts.DataDir); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.close()
		return nil, err
	}

	ready := make(chan error, 1)
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go s.supervise(life, ready)
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err == nil {
		err = s.makeDatabase(ctx)
	}
	if err != nil {
		stopped, cancel := context.WithTimeout(context.WithoutCancel(ctx), fastStop)
		defer cancel()
		return nil, errors.Join(err, s.Stop(stopped))
	}
	return s, nil
}

// prepare does all that comes before the server is started.
func (s *Server) prepare(ctx context.Context) error {
	var err error
	if s.account, err = accountFor(s.cluster, s.opts.User); err != nil {
		return err
	}
	major, err := clusterMajor(s.cluster)
	if err != nil {
		return err
	}
	if s.inst, err = s.account.find(ctx, s.opts.BinDir, major); err != nil {
		return err
	}
	s.clearUnfinished()
	if major == 0 {
		if err := s.makeCluster(ctx); err != nil {
			return fmt.Errorf("making a database cluster in %s: %w", s.cluster, err)
		}
	}
	if err := os.Chmod(s.cluster, 0o700); err != nil { // the socket is in it
		return err
	}
	if err := s.configure(); err != nil {
		return fmt.Errorf("configuring %s: %w", s.cluster, err)
	}
	if s.socket, err = openSocketDir(s.cluster); err != nil {
		return err
	}
	return note(s.lock, s.URL())
}

// close releases what a server that has ended, or never began, holds.
func (s *Server) close() {
	s.socket.close()
	unlock(s.lock)
}

// URL returns a connection URL of the database, for pgx. It stays the same
// while the server lives and whenever it is started again.
func (s *Server) URL() string { return s.url(role, database) }

// AdminURL returns a connection URL of the superuser, who may do everything,
// and of a database that belongs to nobody.
func (s *Server) AdminURL() string { return s.url(superuser, "postgres") }

func (s *Server) url(user, database string) string {
	query := url.Values{"host": {s.socket.path}, "port": {"5432"}}
	u := url.URL{Scheme: "postgres", User: url.User(user), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// Done returns a channel that is closed when the server has ended for good:
// stopped by Stop, or because it could not be started again. Then Err tells.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the server ended for good, and nil while it has not, or if
// it was stopped by Stop.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// ErrHaste is returned for a server that was stopped without writing its buffers.
// Nothing that was committed is lost, but the next start takes longer.
var ErrHaste = errors.New("stopped in haste")

// Stop ends all sessions, stops the server and waits until it has stopped. If
// ctx ends before that, the server is stopped anyway, and ErrHaste is returned.
// Stop may be called again.
func (s *Server) Stop(ctx context.Context) error {
	s.relay.quiet.Store(true)
	s.cancel()
	if s.opts.Ephemeral {
		s.signal(syscall.SIGQUIT) // nothing has to be written
	} else {
		s.signal(syscall.SIGINT)
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		s.signal(signal)
		select {
		case <-s.done:
			return fmt.Errorf("private PostgreSQL: %w: %w", ErrHaste, context.Cause(ctx))
		case <-time.After(immediateStop):
		}
	}
	return errors.New("private PostgreSQL: it does not stop")
}

// signal signals the server if it runs.
func (s *Server) signal(signal syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.Signal(signal) // it may just have ended: the supervisor sees that
	}
}

// makeDatabase makes the role and the database unless they are there.
func (s *Server) makeDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.AdminURL())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, step := range []struct{ exists, create string }{
		{"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = '" + role + "')", "CREATE ROLE " + role + " LOGIN"},
		{"SELECT EXISTS (SELECT FROM pg_database WHERE datname = '" + database + "')", "CREATE DATABASE " + database + " OWNER " + role},
	} {
		var exists bool
		if err := conn.QueryRow(ctx, step.exists).Scan(&exists); err != nil {
			return err
		}
		if exists {
			continue
		}
		if _, err := conn.Exec(ctx, step.create); err != nil {
			return fmt.Errorf("%s: %w", step.create, err)
		}
	}
	return nil
}
