package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// DirectoryOptions says which folder is watched, and what becomes of the files.
type DirectoryOptions struct {
	Path   string // absolute
	After  string // AfterNothing, AfterMove or AfterDelete
	Done   string // folder for AfterMove: files in which nothing was wrong
	Failed string // folder for the other files; "" leaves them
	// Settle is how long a file must have been left alone until it is taken to
	// be complete.
	Settle time.Duration
	Poll   time.Duration // between looks
	Limit  int64         // bytes of a message
	Log    *slog.Logger
}

// Directory is a mailbox of the files that appear in a folder, and in those
// below it: what dmarcd import reads. A file is taken in once it is complete, and
// moved or deleted only after the fates of all messages in it are committed.
// A file that changes afterwards is taken in again.
type Directory struct {
	opts  DirectoryOptions
	files Files

	mu   sync.Mutex
	seen [2]map[[16]byte]bool // files to pass over: of the last look, and of this one

	young map[string]youngFile // of the last look
}

// Bounds of what is remembered of files that stay. Those beyond are read and
// hashed at every look.
const (
	seenFiles  = 200_000
	youngFiles = 10_000
)

// A youngFile may not be complete.
type youngFile struct {
	state fileState
	since time.Time // when it was first seen in this state
}

// A fileState changes if a file does.
type fileState struct {
	size    int64
	changed time.Time
}

func stateOf(info fs.FileInfo) fileState { return fileState{info.Size(), info.ModTime()} }

// A watchedFile is a file that is being taken in.
type watchedFile struct {
	name  string
	state fileState // before it was read

	// The rest is guarded by Directory.mu.
	left    int  // messages without a fate
	whole   bool // all of its messages have been handed over
	failed  bool // something in it could not be read
	reports bool // all of its messages held reports
	retry   bool // it could not be opened; it stays, and is tried again
}

// NewDirectory returns a mailbox that looks when it is used.
func NewDirectory(opts DirectoryOptions) *Directory {
	opts.Path = filepath.Clean(opts.Path)
	return &Directory{opts: opts, files: Files{Limit: opts.Limit}, seen: [2]map[[16]byte]bool{{}, {}}}
}

// Name returns dmarc.MailboxDirectory.
func (d *Directory) Name() string { return dmarc.MailboxDirectory }

// Close does nothing.
func (d *Directory) Close() error { return nil }

// Wait returns when it is time for another look.
func (d *Directory) Wait(ctx context.Context) error {
	timer := time.NewTimer(d.opts.Poll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Each hands over the files that are complete and were not handed over before.
func (d *Directory) Each(ctx context.Context, _ dmarc.Place, handle func(context.Context, Message) error) error {
	root, err := os.OpenRoot(d.opts.Path)
	if err != nil {
		return fmt.Errorf("looking into %s: %w", d.opts.Path, err)
	}
	defer root.Close()
	below := func(name string) string { return strings.TrimPrefix(name, d.opts.Path+string(filepath.Separator)) }
	// A link must not lead out of the folder: whoever may write there could
	// have other files read.
	d.files.open = func(name string) (*os.File, error) { return root.Open(below(name)) }
	d.mu.Lock()
	d.seen = [2]map[[16]byte]bool{d.seen[1], {}}
	d.mu.Unlock()
	before := d.young
	d.young = map[string]youngFile{}
	var skip []string
	for _, folder := range []string{d.opts.Done, d.opts.Failed} {
		if folder != "" {
			skip = append(skip, filepath.Clean(folder))
		}
	}
	return walk(ctx, d.opts.Path, skip, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && name != d.opts.Path:
			return nil // it is gone by now
		case err != nil && name == d.opts.Path:
			return fmt.Errorf("looking into %s: %w", name, err)
		case err != nil:
			return handle(ctx, unreadable(name, err))
		case !entry.Type().IsRegular() && entry.Type()&fs.ModeSymlink == 0:
			return nil // opening a pipe would wait for its writer
		}
		info, err := root.Stat(below(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it is gone by now, or a link to nothing
		case err != nil:
			return handle(ctx, unreadable(name, err))
		case !info.Mode().IsRegular():
			return nil
		}
		state := stateOf(info)
		if d.passOver(name, state) || !d.complete(name, state, before) {
			return nil
		}
		return d.take(ctx, &watchedFile{name: name, state: state, reports: true}, handle)
	})
}

// passOver tells whether a file was taken in before and stays.
func (d *Directory) passOver(name string, state fileState) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := seenKey(name, state)
	if d.seen[0][k] {
		d.seen[1][k] = true
	}
	return d.seen[1][k]
}

func seenKey(name string, state fileState) [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", name, state.size, state.changed.UnixNano()))
	return [16]byte(sum[:16])
}

// complete tells whether a file was left alone for long enough: by its time, or
// since it was first seen as it is, if its time lies in the future.
func (d *Directory) complete(name string, state fileState, before map[string]youngFile) bool {
	now := time.Now()
	if now.Sub(state.changed) >= d.opts.Settle {
		return true
	}
	young, known := before[name]
	if !known || young.state != state {
		young = youngFile{state, now}
	}
	if now.Sub(young.since) >= d.opts.Settle {
		return true
	}
	if len(d.young) < youngFiles {
		d.young[name] = young
	}
	return false
}

// take hands over the messages of a file.
func (d *Directory) take(ctx context.Context, file *watchedFile, handle func(context.Context, Message) error) error {
	err := d.files.file(ctx, file.name, file, func(ctx context.Context, msg Message) error {
		if msg.Err != nil && msg.Err.Outcome == dmarc.OutcomeUnreadable {
			if _, err := os.Lstat(file.name); errors.Is(err, fs.ErrNotExist) {
				return nil // it is gone by now
			}
		}
		d.mu.Lock()
		file.left++
		d.mu.Unlock()
		return handle(ctx, msg)
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	file.whole = true
	if file.left == 0 {
		d.finish(file)
	}
	return nil
}

// Settle notes the fates of messages, and does what is configured with files
// of which all are known.
func (d *Directory) Settle(_ context.Context, done []Settled) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, s := range done {
		file, ok := s.Origin.(*watchedFile)
		if !ok {
			continue // a folder that could not be read
		}
		file.left--
		file.failed = file.failed || !s.Outcome.Harmless()
		file.reports = file.reports && s.Outcome.Read()
		file.retry = file.retry || s.Outcome == dmarc.OutcomeUnreadable
		if file.whole && file.left == 0 {
			errs = append(errs, d.finish(file))
		}
	}
	return errors.Join(errs...)
}

// finish moves or deletes a file, or sees to it that it is passed over from
// now on.
func (d *Directory) finish(file *watchedFile) error {
	info, err := os.Stat(file.name)
	if err != nil || stateOf(info) != file.state || file.retry {
		return nil // another look sees to it
	}
	switch {
	case d.opts.After == AfterDelete && file.reports:
		err = os.Remove(file.name)
	case d.opts.After == AfterMove && !file.failed:
		err = d.move(file.name, d.opts.Done)
	case d.opts.After != AfterNothing && file.failed && d.opts.Failed != "":
		err = d.move(file.name, d.opts.Failed)
	default:
		d.remember(file)
		return nil
	}
	if err != nil {
		d.remember(file)
	}
	return err
}

func (d *Directory) remember(file *watchedFile) {
	if n := len(d.seen[1]); n < seenFiles {
		d.seen[1][seenKey(file.name, file.state)] = true
	} else if n == seenFiles {
		d.opts.Log.Warn("so many files stay in the folder that some are read again at every look; let them be moved or deleted (directory.after)", "folder", d.opts.Path)
		d.seen[1][[16]byte{}] = true // said
	}
}

// move moves a file to a folder, under the same path as before. It replaces
// nothing: a name that is taken gets a number.
func (d *Directory) move(name, folder string) error {
	below, err := filepath.Rel(d.opts.Path, name)
	if err != nil {
		return err
	}
	target := filepath.Join(folder, below)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	for n := 1; ; n++ {
		free := target
		if n > 1 {
			free = fmt.Sprintf("%s.%d", target, n)
		}
		if _, err := os.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(name, free)
		} else if err != nil {
			return err
		}
	}
}
