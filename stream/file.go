package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// stallTime is how long Lines waits for somebody who reads nothing.
const stallTime = 10 * time.Minute

// Lines writes events to somebody who reads them at once, such as standard output:
// what was written counts as received.
type Lines struct {
	W io.Writer

	writing chan error // tells when the last write is over
}

// Send writes events. If nobody has read what it writes within stallTime, it fails, so that
// whoever waits for it can let go of what they hold meanwhile. What was to be written
// still is before anything else.
func (l *Lines) Send(ctx context.Context, events []Event) error {
	stalled := time.NewTimer(stallTime)
	defer stalled.Stop()
	text := lines(events)
	for begun := false; ; {
		if l.writing == nil {
			if begun {
				return nil
			}
			begun, l.writing = true, make(chan error, 1)
			go func(over chan<- error) {
				_, err := l.W.Write(text)
				over <- err
			}(l.writing)
		}
		select {
		case err := <-l.writing:
			l.writing = nil
			if err != nil {
				return err
			}
		case <-stalled.C:
			return fmt.Errorf("nobody has read for %v what is written", stallTime)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Sync does nothing.
func (l *Lines) Sync(context.Context) error { return nil }

// Close does nothing.
func (l *Lines) Close() error { return nil }

func lines(events []Event) []byte {
	var b bytes.Buffer
	for _, e := range events {
		b.Write(e.JSON)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// A File adds events to a file. If that is moved away or removed, it goes on with a new one of
// the same name. A line that was broken off by a crash is taken away, since it is written again.
// Only one process may write: others are refused.
type File struct {
	Path string

	f    *os.File // nil: not open
	good int64    // bytes of it that are kept
}

// Send writes events at the end of the file.
func (f *File) Send(_ context.Context, events []Event) error {
	if err := f.current(); err != nil {
		return f.failed(err)
	}
	_, err := f.f.Write(lines(events))
	return f.failed(err)
}

// Sync waits until the file is on the disk.
func (f *File) Sync(context.Context) error {
	if f.f == nil {
		return nil
	}
	err := f.f.Sync()
	if err == nil {
		f.good, err = f.f.Seek(0, io.SeekEnd)
	}
	return f.failed(err)
}

// Close lets go of the file.
func (f *File) Close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}

// failed takes back what may be written in part.
func (f *File) failed(err error) error {
	if err == nil {
		return nil
	}
	if f.f != nil {
		if is, e := f.f.Stat(); e == nil && is.Size() > f.good {
			err = errors.Join(err, f.f.Truncate(f.good))
		}
		f.Close()
	}
	return fmt.Errorf("writing to %s: %w", f.Path, err)
}

// current opens the file, or opens it anew if another one has its name.
func (f *File) current() error {
	if f.f != nil {
		is, err := f.f.Stat()
		if err != nil {
			return err
		}
		named, err := os.Stat(f.Path)
		if err == nil && os.SameFile(is, named) {
			if is.Size() < f.good {
				f.good = is.Size() // it was emptied
			}
			return nil
		}
		if err := f.f.Sync(); err != nil {
			return err
		}
		f.Close()
	}
	_, missing := os.Stat(f.Path)
	file, err := os.OpenFile(f.Path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	if err := f.take(file); err != nil {
		file.Close()
		return err
	}
	f.f = file
	if missing != nil {
		return syncDirectory(filepath.Dir(f.Path))
	}
	return nil
}

// take locks a file, and takes away a line that was broken off.
func (f *File) take(file *os.File) error {
	if is, err := file.Stat(); err != nil {
		return err
	} else if !is.Mode().IsRegular() {
		return errors.New("it is no file")
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("another process writes to it")
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	whole, err := endOfLines(file, size)
	if err != nil {
		return err
	}
	if whole < size {
		if err := file.Truncate(whole); err != nil {
			return err
		}
	}
	f.good = whole
	return nil
}

// endOfLines returns where the last whole line of a file ends.
func endOfLines(r io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		begin := max(0, end-int64(len(buf)))
		n, err := r.ReadAt(buf[:end-begin], begin)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return begin + int64(i) + 1, nil
		}
		end = begin
	}
	return 0, nil
}

// syncDirectory lets the name of a new file survive a crash.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
