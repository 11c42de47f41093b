package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// How a server that ends by itself is started again: after pauses that double
// until it has lived for a while, and until it has failed so many times
// without ever having accepted a connection in between.
const (
	firstPause  = 100 * time.Millisecond
	longPause   = 300 // times the first: 30 s
	goodLife    = time.Minute
	firstTries  = 5  // in Start, where someone waits: 1.5 s
	laterTries  = 11 // with the data at hand before, or a killed server's children at work: about 100 s
	drainPeriod = 10 * time.Second
)

// supervise runs the server again and again until ctx ends, or it gives up.
// It reports once through ready.
func (s *Server) supervise(ctx context.Context, ready chan<- error) {
	// The server dies with the thread that started it, see command: this
	// goroutine keeps one for itself.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	defer s.close()

	tries, pause, failures := firstTries, s.opts.pause, 0
	for {
		var began time.Time
		err := s.live(ctx, func() {
			if tries == firstTries {
				ready <- nil
			}
			began, tries, failures = time.Now(), laterTries, 0
			s.log.Info("private PostgreSQL is ready", slog.String("version", s.inst.version), slog.String("dir", s.cluster))
		})
		if ctx.Err() != nil {
			return
		}
		if !began.IsZero() && time.Since(began) > goodLife {
			pause = s.opts.pause
		}
		if failures++; failures >= tries && (failures >= laterTries || !childrenAreLeft(err)) {
			s.err = fmt.Errorf("private PostgreSQL ended and cannot be started again: %w", err)
			if tries == firstTries {
				ready <- err
			}
			return
		}
		s.log.Warn("private PostgreSQL ended by itself, starting it again", slog.Any("err", err), slog.Duration("after", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, longPause*s.opts.pause)
	}
}

// childrenAreLeft reports whether a server could not start since children of one that was killed
// are at work. They end once they look up from what they do.
func childrenAreLeft(err error) bool {
	return err != nil && strings.Contains(err.Error(), "pre-existing shared memory block")
}

// live runs the server once, and returns when it and all its children have
// ended. It calls ready when the server accepts connections.
func (s *Server) live(ctx context.Context, ready func()) error {
	if err := s.evict(ctx); err != nil {
		return err
	}
	path, file, err := s.reach(ctx, s.cluster)
	if err != nil {
		return err
	}
	defer file.Close() // may be nil
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()

	cmd := s.account.command(context.Background(), filepath.Join(s.inst.bin, "postgres"), append([]string{"-D", path}, binding...)...)
	cmd.Stdout, cmd.Stderr = in, in
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	err = s.launch(ctx, cmd)
	in.Close()
	if err != nil {
		return err
	}

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.relay.copy(out)
	}()
	awaiting, cancel := context.WithCancel(ctx)
	awaited := make(chan struct{})
	go func() {
		defer close(awaited)
		s.await(awaiting, ready)
	}()

	err = cmd.Wait()
	s.mu.Lock()
	s.process = nil
	s.mu.Unlock()
	cancel()
	<-awaited
	select { // children hold the pipe: when it ends, they have
	case <-drained:
	case <-time.After(drainPeriod):
	}
	return s.relay.lastWords(err)
}

// launch starts the server so that Stop either sees it or has kept it from starting.
func (s *Server) launch(ctx context.Context, cmd *exec.Cmd) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process = cmd.Process
	return nil
}

// await calls ready once the server accepts connections.
func (s *Server) await(ctx context.Context, ready func()) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.AdminURL())
		if err == nil {
			conn.Close(ctx)
			s.relay.forget()
			ready()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
