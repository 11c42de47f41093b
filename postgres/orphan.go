package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// How long a server may take to stop before it is told more firmly.
const (
	fastStop      = 60 * time.Second
	immediateStop = 10 * time.Second
)

// evict stops a server that a killed dmarcd left in our cluster, and removes
// what would keep a new one from starting. It is called with the lock held.
func (s *Server) evict(ctx context.Context) error {
	path := filepath.Join(s.cluster, "postmaster.pid")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 || !isPostmaster(pid, s.cluster) {
		// The number may belong to any process by now, and PostgreSQL would
		// not start beside one of the same user. Should a child of the dead
		// server be left, PostgreSQL sees that by the shared memory.
		s.log.Info("removing a stale postmaster.pid", slog.String("dir", s.cluster))
		return os.Remove(path)
	}

	s.log.Info("stopping a PostgreSQL left from an earlier run", slog.Int("pid", pid))
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, fastStop}, {syscall.SIGQUIT, immediateStop}, {syscall.SIGKILL, immediateStop}} {
		if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stopping the PostgreSQL left from an earlier run (process %d): %w", pid, err)
		}
		gone, err := waitGone(ctx, pid, s.cluster, step.wait)
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("the PostgreSQL left from an earlier run (process %d) does not stop", pid)
}

// waitGone waits until a server has ended. It is not our child: there is
// nothing to wait on, so it is looked for.
func waitGone(ctx context.Context, pid int, cluster string, limit time.Duration) (bool, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(limit)
	for isPostmaster(pid, cluster) {
		select {
		case <-tick.C:
		case <-timeout:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	return true, nil
}
