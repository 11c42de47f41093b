package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The folders in a data directory: the cluster, and clusters in the making.
const (
	clusterName = "postgres"
	unfinished  = "postgres.new-"
)

// clusterMajor returns the major version that made a cluster, and 0 if there
// is none yet. A cluster is complete as soon as it has its name.
func clusterMajor(cluster string) (int, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if err == nil {
		major, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return 0, fmt.Errorf("%s/PG_VERSION: not a version: %.20q", cluster, text)
		}
		return major, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err := os.Remove(cluster); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s is not the data of a PostgreSQL, and not empty: move it out of the way", cluster)
	}
	return 0, nil
}

// clearUnfinished removes the clusters that killed runs left half made. What
// an initdb is still writing to, for the moment until it sees that nobody
// waits for it, is left to the next start. It is called with the lock held.
func (s *Server) clearUnfinished() {
	left, _ := filepath.Glob(filepath.Join(escapeGlob(s.opts.DataDir), unfinished+"*"))
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			s.log.Warn("a half-made database is left behind until the next start", slog.String("dir", dir), slog.Any("err", err))
		}
	}
}

// makeCluster makes a new cluster under another name and renames it when it is
// complete and on disk, so that what a killed run leaves is never taken for one.
func (s *Server) makeCluster(ctx context.Context) error {
	started := time.Now()
	dir, err := os.MkdirTemp(s.opts.DataDir, unfinished) // 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // nothing is there once it is renamed
	if cred := s.account.cred; cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	path, file, err := s.reach(ctx, dir)
	if err != nil {
		return err
	}
	args := []string{
		"--pgdata=" + path, "--username=" + superuser, "--auth=reject", // until pg_hba.conf is ours
		"--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	if s.opts.Ephemeral {
		args = append(args, "--no-sync")
	} else {
		args = append(args, "--data-checksums")
	}
	cmd := s.account.command(ctx, filepath.Join(s.inst.bin, "initdb"), args...)
	if file != nil {
		defer file.Close()
		cmd.ExtraFiles = []*os.File{file}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) } // with its children
	cmd.WaitDelay = 10 * time.Second
	runtime.LockOSThread() // or it could be interrupted with the thread
	err = cmd.Run()
	runtime.UnlockOSThread()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("initdb: %w: %s", err, lastLines(out.String(), 5))
	}
	if err := includeOurs(dir); err != nil {
		return err
	}
	if err := os.Rename(dir, s.cluster); err != nil {
		return err
	}
	if err := syncDir(s.opts.DataDir); err != nil {
		return err
	}
	s.log.Debug("made a database cluster", slog.String("dir", s.cluster), slog.Duration("took", time.Since(started)))
	return nil
}

// includeOurs has the postgresql.conf that initdb wrote end in reading ours.
// initdb has tried out there what this machine can do.
func includeOurs(cluster string) error {
	root, err := os.OpenRoot(cluster)
	if err != nil {
		return err
	}
	defer root.Close()
	file, err := root.OpenFile("postgresql.conf", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteString("\ninclude '" + confName + "'\n"); err != nil {
		return err
	}
	return file.Sync()
}

// reach returns a path by which the account gets into a folder of its own, and
// a file that must be handed to the command if the path leads through it: the
// folders above may be closed to anyone but root.
func (s *Server) reach(ctx context.Context, dir string) (string, *os.File, error) {
	if s.account.cred == nil {
		return dir, nil, nil
	}
	probe := s.account.command(ctx, filepath.Join(s.inst.bin, "postgres"), "--version")
	probe.Dir = dir
	err := probe.Run()
	if err == nil {
		return dir, nil, nil
	}
	path, ok := throughDescriptor()
	if !ok {
		return "", nil, fmt.Errorf("%s, who runs PostgreSQL, cannot get into %s: %w. Let others pass through the folders above it (chmod o+x), "+
			"or choose another data directory", s.account.name, dir, err)
	}
	file, err := os.Open(dir)
	return path, file, err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func escapeGlob(path string) string { return globEscaper.Replace(path) }

// lastLines returns the last lines of a program's output on one line, for an error.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
