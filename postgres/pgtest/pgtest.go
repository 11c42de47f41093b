// Package pgtest gives tests databases of a real PostgreSQL: an empty one for
// each test, on a private server for each test binary, or on the server that
// DMARCD_TEST_DATABASE_URL names.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/postgres"
)

var private struct {
	sync.Mutex
	managed bool // by Main
	dir     string
	server  *postgres.Server
	err     error
}

// templates are the databases that others are copied from, by name.
var templates struct {
	sync.Mutex
	admin string
	made  map[string]string
}

// Main runs the tests, stops the server if one of them needed it, does what else is to
// be done after them, and exits. Call it from TestMain.
func Main(m *testing.M, after ...func() error) {
	private.managed = true
	code := m.Run()
	err := errors.Join(dropTemplates(), stop())
	for _, f := range after {
		err = errors.Join(err, f())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func stop() error {
	private.Lock()
	defer private.Unlock()
	if private.dir == "" {
		return nil
	}
	var err error
	if private.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		err = private.server.Stop(ctx)
	}
	return errors.Join(err, os.RemoveAll(private.dir))
}

// URL returns the URL of a database that is new and empty, and is dropped when
// the test has ended. The test is skipped if PostgreSQL is not installed, or
// fails if DMARCD_TEST_REQUIRE is set.
func URL(t testing.TB) string {
	t.Helper()
	admin, owner := server(t)
	name := "test_" + strings.ToLower(rand.Text())
	create(t, admin, owner, name, "template0")
	t.Cleanup(func() { execute(t, admin, "DROP DATABASE "+name+" WITH (FORCE)") })
	return withDatabase(t, admin, owner, name)
}

// Copy returns the URL of a database as URL does, but one that has in it what
// fill does to an empty one. That is done once for each name: all others
// are copies, which take a tenth of a second.
func Copy(t testing.TB, name string, fill func(url string)) string {
	t.Helper()
	admin, owner := server(t)
	templates.Lock()
	defer templates.Unlock()
	from, ok := templates.made[name]
	if !ok {
		from = "template_" + strings.ToLower(rand.Text())
		create(t, admin, owner, from, "template0")
		if templates.made == nil {
			templates.admin, templates.made = admin, map[string]string{}
		}
		filled := false
		defer func() {
			if !filled {
				execute(t, admin, "DROP DATABASE IF EXISTS "+from+" WITH (FORCE)")
			}
		}()
		fill(withDatabase(t, admin, owner, from))
		filled = true
		templates.made[name] = from
	}
	copied := "test_" + strings.ToLower(rand.Text())
	// Whoever filled it may not be gone yet.
	execute(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+from+"'")
	create(t, admin, owner, copied, from)
	t.Cleanup(func() { execute(t, admin, "DROP DATABASE "+copied+" WITH (FORCE)") })
	return withDatabase(t, admin, owner, copied)
}

func create(t testing.TB, admin, owner, name, template string) {
	t.Helper()
	sql := "CREATE DATABASE " + name + " TEMPLATE " + template
	if owner != "" {
		sql += " OWNER " + owner
	}
	// To copy files takes less than to log every page. PostgreSQL 14 does nothing else, and has no word for it.
	conn := connect(t, admin)
	defer conn.Close(context.Background())
	if !strings.HasPrefix(conn.PgConn().ParameterStatus("server_version"), "14.") {
		sql += " STRATEGY FILE_COPY"
	}
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// dropTemplates leaves no database behind on a server that is not ours.
func dropTemplates() error {
	templates.Lock()
	defer templates.Unlock()
	if os.Getenv("DMARCD_TEST_DATABASE_URL") == "" || templates.made == nil {
		return nil
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, templates.admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, name := range templates.made {
		_, dropErr := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		err = errors.Join(err, dropErr)
	}
	return err
}

// DB returns a pool of connections to a database as URL gives it.
func DB(t testing.TB) *pgxpool.Pool {
	t.Helper()
	db, err := pgxpool.New(t.Context(), URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// server returns the URL of someone who may make databases, and the role that
// shall own them, "" for the same.
func server(t testing.TB) (admin, owner string) {
	t.Helper()
	if given := os.Getenv("DMARCD_TEST_DATABASE_URL"); given != "" {
		return given, ""
	}
	private.Lock()
	defer private.Unlock()
	if !private.managed {
		t.Fatal("pgtest: TestMain does not call pgtest.Main")
	}
	if private.dir == "" {
		private.server, private.err = start()
	}
	if err := private.err; errors.Is(err, postgres.ErrNotInstalled) && os.Getenv("DMARCD_TEST_REQUIRE") == "" {
		t.Skip("NOT TESTED: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return private.server.AdminURL(), "dmarcd"
}

// start starts the server; private is locked.
func start() (*postgres.Server, error) {
	removeOld()
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	private.dir = dir
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	return postgres.Start(ctx, postgres.Options{
		DataDir:   dir,
		Ephemeral: true,
		Settings:  map[string]string{"max_connections": "200"},
	})
}

const prefix = "dmarcd-test-"

// removeOld removes what test binaries left that were killed. Their servers have
// ended with them.
func removeOld() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < time.Hour { // one may just be starting
			continue
		}
		lock, err := os.Open(filepath.Join(dir, "dmarcd.lock"))
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			os.RemoveAll(dir)
		}
		lock.Close()
	}
}

func execute(t testing.TB, admin, sql string) {
	t.Helper()
	conn := connect(t, admin)
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func connect(t testing.TB, admin string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), admin) // the context of a test has ended at its cleanup
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// withDatabase returns a connection URL with another database, and with
// another user if one is given. It may be in words, as "host=… user=…", too.
func withDatabase(t testing.TB, base, user, database string) string {
	t.Helper()
	if !strings.HasPrefix(base, "postgres://") && !strings.HasPrefix(base, "postgresql://") {
		return base + " dbname=" + database
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + database
	if user != "" {
		u.User = url.User(user)
	}
	return u.String()
}
