package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres"
)

const (
	backupUsage = `Writes all that is in the database to a file, or to standard output for "-": reports, totals, ledger, mails as they came,
tokens. It may run while dmarcd serves. The configuration is not in it. It runs pg_dump, which is installed with PostgreSQL.`

	backupExamples = `Examples:
  dmarcd backup dmarcd.dump
  dmarcd backup - | DMARCD_DATABASE_URL=postgres://dmarcd@db.example.com/dmarcd dmarcd restore -`

	restoreUsage = `Fills an empty database with what dmarcd backup or pg_dump --format=custom wrote, read from a file or from standard input for
"-", and brings its schema up to date. All of it is restored, or nothing. dmarcd serve must not run on the database yet. It runs pg_restore,
which is installed with PostgreSQL.`

	restoreExamples = `Examples:
  dmarcd restore dmarcd.dump
  DMARCD_DATABASE_URL=postgres://db.example.com/dmarcd dmarcd restore my.dump`
)

func runBackup(ctx context.Context, env *environ, args []string) (err error) {
	fs := env.flags("backup", "PATH", backupUsage, backupExamples)
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	if fs.Arg(0) == "-" && isTerminal(env.stdout) {
		return usageError("a terminal is no place for a backup: name a file, or send standard output somewhere")
	}
	s, err := openDatabase(ctx, cfg, log, postgres.Options{}, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	step, err := schemaStep(ctx, s.db)
	if err != nil {
		return err
	}
	if step == 0 {
		return errors.New("the database holds nothing of dmarcd")
	}
	out := env.stdout
	if name := fs.Arg(0); name != "-" {
		// What is there already stays until the new one is whole.
		file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".part*")
		if err != nil {
			return err
		}
		defer os.Remove(file.Name())
		defer file.Close()
		if err := s.client(ctx, "pg_dump", nil, file, "--format=custom", "--no-owner", "--no-privileges"); err != nil {
			return err
		}
		size, err := file.Seek(0, io.SeekEnd)
		if err == nil {
			err = file.Sync()
		}
		if err == nil {
			err = os.Rename(file.Name(), name)
		}
		if err != nil {
			return err
		}
		env.say("%s: %s bytes, schema of step %d", name, grouped(size), step)
		return nil
	}
	return s.client(ctx, "pg_dump", nil, out, "--format=custom", "--no-owner", "--no-privileges")
}

func runRestore(ctx context.Context, env *environ, args []string) (err error) {
	fs := env.flags("restore", "PATH", restoreUsage, restoreExamples)
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	in := env.stdin
	if name := fs.Arg(0); name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	s, err := openDatabase(ctx, cfg, log, postgres.Options{}, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var tables int
	const sql = "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"
	if err := s.db.QueryRow(ctx, sql).Scan(&tables); err != nil {
		return fmt.Errorf("looking into the database: %w", err)
	}
	if tables > 0 {
		return fmt.Errorf("the database is not empty: %d tables and views are in it; restore into a new one", tables)
	}
	if err := s.client(ctx, "pg_restore", in, nil, "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"); err != nil {
		return err
	}
	step, err := schemaStep(ctx, s.db)
	if err == nil && step == 0 {
		err = errors.New("the backup was restored, but it is none of dmarcd")
	}
	if err != nil {
		return err
	}
	applied, err := migrations.Apply(ctx, s.db)
	if err != nil {
		return err
	}
	var reports, messages int64
	if err := s.db.QueryRow(ctx, "SELECT (SELECT count(*) FROM reports), (SELECT count(*) FROM messages)").Scan(&reports, &messages); err != nil {
		return err
	}
	env.say("%s and %s restored; %s applied. dmarcd verify compares all totals.",
		counted(reports, "report", "reports"), counted(messages, "message of the ledger", "messages of the ledger"), counted(int64(len(applied)), "migration", "migrations"))
	return nil
}

// schemaStep returns the newest step that a database has, also one that only a
// newer dmarcd knows; 0 if there is none.
func schemaStep(ctx context.Context, db *pgxpool.Pool) (step int, err error) {
	var there bool
	err = db.QueryRow(ctx, "SELECT to_regclass('schema_steps') IS NOT NULL").Scan(&there)
	if err == nil && there {
		err = db.QueryRow(ctx, "SELECT coalesce(max(number), 0) FROM schema_steps").Scan(&step)
	}
	if err != nil {
		err = fmt.Errorf("looking into the database: %w", err)
	}
	return step, err
}

// client runs a program of PostgreSQL against the database.
func (s *service) client(ctx context.Context, program string, in io.Reader, out io.Writer, args ...string) error {
	path, err := clientProgram(ctx, program)
	if err != nil {
		return err
	}
	address := s.db.Config().ConnString()
	cmd := exec.CommandContext(ctx, path, append(args, "--dbname="+forLibpq(address))...)
	cmd.Env = os.Environ()
	if c, err := pgx.ParseConfig(address); err == nil && c.Password != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+c.Password)
	}
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", path, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// clientProgram looks for a program beside the newest server of the machine,
// since one that is older than the server refuses to work, and then in PATH.
func clientProgram(ctx context.Context, name string) (string, error) {
	if bin, _, err := postgres.Programs(ctx, os.TempDir()); err == nil {
		if path := filepath.Join(bin, name); isProgram(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: install the client of PostgreSQL (postgresql-client), as new as the server or newer", name)
	}
	return path, nil
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

var wordsOfPgx = regexp.MustCompile(`(?i)\b(?:pool_\w+|default_query_exec_mode|statement_cache_capacity|description_cache_capacity|password)\s*=\s*(?:'(?:[^'\\]|\\.)*'|\S*)`)

// forLibpq makes an address fit for programs of PostgreSQL: without what
// only pgx knows, and without the password, since everybody may see arguments.
func forLibpq(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return strings.TrimSpace(wordsOfPgx.ReplaceAllString(address, ""))
	}
	q := u.Query()
	for name := range q {
		if wordsOfPgx.MatchString(name + "=") {
			q.Del(name)
		}
	}
	if u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20"); u.User != nil {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}
