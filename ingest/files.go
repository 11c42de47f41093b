package ingest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// Files is a mailbox of reports that lie in files: messages, mbox, Maildir,
// reports on their own, and folders of any of them, taken in by name. "-" is
// Stdin.
type Files struct {
	Paths []string
	Stdin io.Reader
	Limit int64 // bytes of a message

	open func(name string) (*os.File, error) // nil for os.Open
	read atomic.Int64                        // bytes that have been handed over
	done atomic.Int64
}

// Done is how many bytes of the files hold messages with a fate. It may be called
// while the files are taken in.
func (f *Files) Done() int64 { return f.done.Load() }

// Total adds up the bytes of all files, without opening them; 0 if that
// cannot be known.
func (f *Files) Total(ctx context.Context) (total int64, err error) {
	for _, path := range f.Paths {
		if path == "-" {
			return 0, nil
		}
		unknown := false
		err := walk(ctx, path, nil, func(_ string, entry fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			info, err := entry.Info()
			switch {
			case err != nil:
			case info.Mode().IsRegular():
				total += info.Size()
			case info.Mode()&fs.ModeSymlink == 0:
				unknown = true
			}
			return nil
		})
		if unknown || err != nil {
			return 0, err
		}
	}
	return total, nil
}

// Name returns dmarc.MailboxImport.
func (f *Files) Name() string { return dmarc.MailboxImport }

// Settle notes how far the fates reach; files stay as they are.
func (f *Files) Settle(_ context.Context, done []Settled) error {
	for _, s := range done {
		if read, ok := s.Origin.(int64); ok {
			f.done.Store(read) // fates come in order
		}
	}
	return nil
}

// Wait waits for ever: there is nothing new.
func (f *Files) Wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// Close does nothing.
func (f *Files) Close() error { return nil }

// Each hands over every message in the files, in the order of the paths and,
// within folders, of names. A file that cannot be read is a message with Err. The
// messages of an mbox that holds several are named by "#" and their number.
func (f *Files) Each(ctx context.Context, _ dmarc.Place, next func(context.Context, Message) error) error {
	handle := func(ctx context.Context, msg Message) error {
		msg.Origin = f.read.Load()
		return next(ctx, msg)
	}
	for _, path := range f.Paths {
		if path == "-" {
			if err := f.stream(ctx, "-", f.Stdin, handle); err != nil {
				return err
			}
			continue
		}
		err := walk(ctx, path, nil, func(name string, _ fs.DirEntry, err error) error {
			if err != nil {
				return handle(ctx, unreadable(name, err))
			}
			return f.file(ctx, name, nil, handle)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// folderNames is how many names of a folder are held at once. A folder with more
// is gone through in pieces, each of which is in order.
const folderNames = 20_000

// walk visits a file, or all files below a folder, in the order of names. What is
// hidden, what a Maildir is still writing, and folders to skip are passed over.
func walk(ctx context.Context, path string, skip []string, visit func(name string, entry fs.DirEntry, err error) error) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return visit(path, nil, err)
	case !info.IsDir():
		return visit(path, fs.FileInfoToDirEntry(info), nil)
	}
	return walkFolder(ctx, path, skip, visit)
}

func walkFolder(ctx context.Context, dir string, skip []string, visit func(name string, entry fs.DirEntry, err error) error) error {
	folder, err := os.Open(dir)
	if err != nil {
		return visit(dir, nil, err)
	}
	defer folder.Close()
	for {
		entries, end := folder.ReadDir(folderNames)
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		for _, entry := range entries {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			name := filepath.Join(dir, entry.Name())
			switch {
			case strings.HasPrefix(entry.Name(), "."), entry.IsDir() && entry.Name() == "tmp" && isMaildir(dir):
				continue
			case entry.IsDir() && slices.Contains(skip, name):
			case entry.IsDir():
				err = walkFolder(ctx, name, skip, visit)
			default:
				err = visit(name, entry, nil)
			}
			if err != nil {
				return err
			}
		}
		switch {
		case end == io.EOF:
			return nil
		case end != nil:
			return visit(dir, nil, end)
		}
	}
}

func isMaildir(dir string) bool {
	for _, sub := range []string{"cur", "new"} {
		if info, err := os.Stat(filepath.Join(dir, sub)); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

func unreadable(name string, err error) Message {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // the name is said anyway
	}
	return Message{Name: name, Err: &dmarc.Error{Outcome: dmarc.OutcomeUnreadable, Reason: "the file cannot be read: " + err.Error()}}
}

// file hands over what one file holds, as messages with an origin.
func (f *Files) file(ctx context.Context, name string, origin any, handle func(context.Context, Message) error) error {
	if origin != nil {
		next := handle
		handle = func(ctx context.Context, msg Message) error {
			msg.Origin = origin
			return next(ctx, msg)
		}
	}
	open := os.Open
	if f.open != nil {
		open = f.open
	}
	file, err := open(name)
	if err != nil {
		return handle(ctx, unreadable(name, err))
	}
	info, err := file.Stat()
	if err != nil || info.IsDir() {
		file.Close()
		if err == nil { // a link to a folder
			return nil
		}
		return handle(ctx, unreadable(name, err))
	}
	if !info.Mode().IsRegular() {
		defer file.Close()
		return f.stream(ctx, name, file, handle)
	}
	if info.Size() <= smallFile {
		return f.small(ctx, name, file, info.Size(), handle)
	}
	head := make([]byte, 5)
	n, _ := file.ReadAt(head, 0)
	if string(head[:n]) == "From " {
		defer file.Close()
		return f.mbox(ctx, name, counting{file, &f.read}, handle)
	}
	if many, err := f.reports(ctx, name, counting{file, &f.read}, handle); many || err != nil {
		file.Close()
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		file.Close()
		return handle(ctx, unreadable(name, err))
	}
	f.read.Add(info.Size())
	if info.Size() > f.Limit {
		file.Close()
		return handle(ctx, Message{Name: name, Err: tooLarge(info.Size(), f.Limit, "limits.message")})
	}
	return handle(ctx, Message{Name: name, Raw: &openFile{file, info.Size()}})
}

// smallFile is what is read at once: most reports are smaller, and looked at several
// times.
const smallFile = 32 << 10

// small hands over what a small file holds, and closes it.
func (f *Files) small(ctx context.Context, name string, file *os.File, size int64, handle func(context.Context, Message) error) error {
	text := make([]byte, size)
	n, err := file.ReadAt(text, 0)
	file.Close()
	if err != nil && err != io.EOF {
		return handle(ctx, unreadable(name, err))
	}
	text = text[:n]
	if bytes.HasPrefix(text, []byte("From ")) {
		return f.mbox(ctx, name, counting{bytes.NewReader(text), &f.read}, handle)
	}
	if parse.IsReportList(text[:min(n, reportHead)]) {
		_, err := f.reports(ctx, name, counting{bytes.NewReader(text), &f.read}, handle)
		return err
	}
	f.read.Add(int64(n))
	if int64(n) > f.Limit {
		return handle(ctx, Message{Name: name, Err: tooLarge(int64(n), f.Limit, "limits.message")})
	}
	return handle(ctx, Message{Name: name, Raw: parse.Held(text)})
}

func tooLarge(size, limit int64, setting string) *dmarc.Error {
	return &dmarc.Error{Outcome: dmarc.OutcomeTooLarge, Reason: fmt.Sprintf("the message has %d bytes, the limit is %d (%s)", size, limit, setting)}
}

// counting counts the bytes that are read.
type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// An openFile is a message in a file of its own. It is read from there.
type openFile struct {
	*os.File
	size int64
}

func (f *openFile) Size() int64 { return f.size }

// stream hands over what comes from a pipe.
func (f *Files) stream(ctx context.Context, name string, r io.Reader, handle func(context.Context, Message) error) error {
	b := bufio.NewReaderSize(r, 64<<10)
	if head, _ := b.Peek(5); string(head) == "From " {
		return f.mbox(ctx, name, b, handle)
	}
	if many, err := f.reports(ctx, name, b, handle); many || err != nil {
		return err
	}
	raw, err := parse.NewSpool(b, f.Limit)
	var refused *dmarc.Error
	if errors.As(err, &refused) {
		return handle(ctx, Message{Name: name, Err: refused})
	}
	if err != nil {
		return handle(ctx, unreadable(name, err))
	}
	return handle(ctx, Message{Name: name, Raw: raw})
}

// reportHead is how much of a file tells whether it holds reports of parsedmarc.
const reportHead = 4 << 10

// reports hands over the reports of a file that parsedmarc wrote, each as a
// message of its own: such a file may hold those of years. It reports whether it was one; otherwise
// a reader that can peek has lost nothing.
func (f *Files) reports(ctx context.Context, name string, r io.Reader, handle func(context.Context, Message) error) (bool, error) {
	b, ok := r.(*bufio.Reader)
	if !ok {
		c := r.(counting)
		head := make([]byte, reportHead)
		n, _ := io.ReadFull(c.r, head)
		if !parse.IsReportList(head[:n]) {
			return false, nil
		}
		b = bufio.NewReader(counting{io.MultiReader(bytes.NewReader(head[:n]), c.r), c.n})
	} else if head, _ := b.Peek(reportHead); !parse.IsReportList(head) {
		return false, nil
	}
	list := parse.NewReportList(b)
	next, err := list.Next()
	for n := 1; err == nil; n++ {
		raw, spoolErr := parse.NewSpool(next, f.Limit)
		if next, err = list.Next(); err != nil && err != io.EOF {
			if raw != nil {
				raw.Close()
			}
			return true, handle(ctx, unreadable(name, err))
		}
		msg := Message{Name: fmt.Sprintf("%s#%d", name, n), Raw: raw}
		if n == 1 && err == io.EOF {
			msg.Name = name
		}
		var refused *dmarc.Error
		switch {
		case errors.As(spoolErr, &refused):
			msg.Raw, msg.Err = nil, refused
		case spoolErr != nil:
			return true, fmt.Errorf("reading %s: %w", name, spoolErr)
		}
		if err := handle(ctx, msg); err != nil {
			return true, err
		}
		if ctx.Err() != nil {
			return true, context.Cause(ctx)
		}
	}
	return true, nil
}

// mbox hands over the messages of an mbox.
func (f *Files) mbox(ctx context.Context, name string, r io.Reader, handle func(context.Context, Message) error) error {
	m := newMbox(r)
	for n := 1; ; n++ {
		body, more := m.next()
		if !more {
			break
		}
		raw, err := parse.NewSpool(body, f.Limit)
		if m.err != nil {
			break
		}
		// The rest of a message that is too large is skipped by next.
		msg := Message{Name: fmt.Sprintf("%s#%d", name, n), Raw: raw}
		if n == 1 && err == nil && m.atEnd() {
			msg.Name = name
		}
		var refused *dmarc.Error
		switch {
		case errors.As(err, &refused):
			msg.Raw, msg.Err = nil, refused
		case err != nil:
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if err := handle(ctx, msg); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if m.err != nil {
		return handle(ctx, unreadable(name, m.err))
	}
	return nil
}

// An mbox splits a file into messages, as it streams by. A line that begins
// with "From " after an empty line, or at the begin, begins a message. Lines that were
// quoted with ">" are given back as they were (mboxrd; the older mboxo quotes
// fewer lines the same way).
type mbox struct {
	r       *bufio.Reader
	err     error
	pending []byte // of the current message, not read yet
	begun   bool   // a From_ line was read
	ended   bool   // the current message is over
	empty   bool   // the last line was empty
	whole   bool   // the last piece ended a line
}

func newMbox(r io.Reader) *mbox {
	return &mbox{r: bufio.NewReaderSize(r, 64<<10), empty: true, whole: true}
}

// next skips what is left of the current message and returns the next one.
func (m *mbox) next() (io.Reader, bool) {
	if !m.begun {
		m.begun = true
		m.line() // the first From_ line
		for !m.whole && m.err == nil && !m.ended {
			m.line()
		}
	} else {
		io.Copy(io.Discard, m)
		if m.err != nil || m.atEnd() {
			return nil, false
		}
	}
	m.ended, m.empty = false, false
	m.pending = nil
	return m, m.err == nil
}

// atEnd reports whether nothing follows the current message.
func (m *mbox) atEnd() bool {
	_, err := m.r.Peek(1)
	return err != nil
}

// line returns the next line, or a piece of a very long one.
func (m *mbox) line() []byte {
	b, err := m.r.ReadSlice('\n')
	m.whole = err == nil
	if err == bufio.ErrBufferFull {
		err = nil
	}
	if err == io.EOF {
		m.ended = true
		err = nil
	}
	if err != nil {
		m.err = err
	}
	return b
}

// Read reads the current message.
func (m *mbox) Read(p []byte) (int, error) {
	for len(m.pending) == 0 {
		if m.err != nil {
			return 0, m.err
		}
		if m.ended {
			return 0, io.EOF
		}
		begins := m.whole
		b := m.line()
		if begins {
			if m.empty && bytes.HasPrefix(b, []byte("From ")) {
				for !m.whole && m.err == nil && !m.ended {
					m.line()
				}
				m.ended = true
				return 0, io.EOF
			}
			if quoted := bytes.TrimLeft(b, ">"); len(quoted) < len(b) && bytes.HasPrefix(quoted, []byte("From ")) {
				b = b[1:]
			}
			m.empty = len(bytes.TrimRight(b, "\r\n")) == 0
		}
		m.pending = b
	}
	n := copy(p, m.pending)
	m.pending = m.pending[n:]
	return n, nil
}
