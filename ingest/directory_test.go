package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
)

// watched returns a folder that is watched; files in it are complete at once.
func watched(t *testing.T, change func(*ingest.DirectoryOptions)) (string, *ingest.Directory) {
	t.Helper()
	dir := t.TempDir()
	opts := ingest.DirectoryOptions{Path: dir, Poll: time.Millisecond, Limit: 1 << 20, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	for _, folder := range []*string{&opts.Done, &opts.Failed} {
		if *folder != "" {
			*folder = filepath.Join(dir, *folder)
		}
	}
	return dir, ingest.NewDirectory(opts)
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// tree returns the files below a folder.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ = filepath.Rel(dir, name)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

var (
	goodMbox = "From a\n" + strings.ReplaceAll(string(reportMail("m1")), "\r", "") + "\nFrom b\n" + strings.ReplaceAll(string(reportMail("m2")), "\r", "")
	halfMbox = goodMbox + "\nFrom c\nContent-Type: text/xml\n\n<feedback>\n"
)

func fill(t *testing.T, dir string) {
	put(t, dir, "good.xml", reportXML("good"))
	put(t, dir, "sub/good.mbox", goodMbox)
	put(t, dir, "half.mbox", halfMbox)
	put(t, dir, "broken.xml", "<feedback>")
	put(t, dir, "hello.eml", "Subject: hello\n\nNo report.\n")
	put(t, dir, ".writing", "half a rep")
}

func TestFilesAreMovedOrDeletedOnceTheyAreStored(t *testing.T) {
	for _, c := range []struct {
		after, done, failed string
		want                []string
	}{
		{"", "", "", []string{".writing", "broken.xml", "good.xml", "half.mbox", "hello.eml", "sub/good.mbox"}},
		{ingest.AfterMove, "done", "failed", []string{".writing", "done/good.xml", "done/hello.eml", "done/sub/good.mbox", "failed/broken.xml", "failed/half.mbox"}},
		{ingest.AfterMove, "done", "", []string{".writing", "broken.xml", "done/good.xml", "done/hello.eml", "done/sub/good.mbox", "half.mbox"}},
		{ingest.AfterDelete, "", "", []string{".writing", "broken.xml", "half.mbox", "hello.eml"}},
		{ingest.AfterDelete, "", "failed", []string{".writing", "failed/broken.xml", "failed/half.mbox", "hello.eml"}},
	} {
		t.Run(c.after+" "+c.done+" "+c.failed, func(t *testing.T) {
			dir, box := watched(t, func(o *ingest.DirectoryOptions) { o.After, o.Done, o.Failed = c.after, c.done, c.failed })
			fill(t, dir)
			store := &memory{fail: errors.New("no disk")}
			in := ingester(store)
			before := tree(t, dir)
			if _, err := in.Pass(t.Context(), box); !errors.Is(err, store.fail) {
				t.Fatalf("err = %v", err)
			}
			if got := tree(t, dir); !slices.Equal(got, before) {
				t.Errorf("after a failure there are %v", got)
			}
			store.fail = nil
			sum, err := in.Pass(t.Context(), box)
			if err != nil || sum.Messages != 8 || len(store.took) != 7 { // m1 comes twice
				t.Fatalf("%+v, %v, %v", sum, store.ids(), err)
			}
			if got := tree(t, dir); !slices.Equal(got, c.want) {
				t.Errorf("there are %v, want %v", got, c.want)
			}
			// What stays is not read again.
			if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 0 {
				t.Errorf("second look: %+v, %v", sum, err)
			}
		})
	}
}

// After a restart, or a kill between commit and move, what stayed is known and
// moved; nothing is stored twice.
func TestARestartTakesNoFileInTwice(t *testing.T) {
	store := &memory{}
	in := ingester(store)
	dir, box := watched(t, nil)
	fill(t, dir)
	if _, err := in.Pass(t.Context(), box); err != nil {
		t.Fatal(err)
	}
	took, added := len(store.took), store.added
	again := ingest.NewDirectory(ingest.DirectoryOptions{Path: dir, After: ingest.AfterMove, Done: filepath.Join(dir, "done"), Limit: 1 << 20, Log: slog.New(slog.DiscardHandler)})
	sum, err := in.Pass(t.Context(), again)
	if err != nil || sum.Messages != 8 || sum.Known != 8 || len(store.took) != took || store.added != added {
		t.Errorf("%+v, %v; the store was given %d more", sum, err, store.added-added)
	}
	if got, want := tree(t, filepath.Join(dir, "done")), []string{"good.xml", "hello.eml", "sub/good.mbox"}; !slices.Equal(got, want) {
		t.Errorf("moved %v, want %v", got, want)
	}
}

// A file of the same name does not replace the one that was moved before.
func TestWhatWasMovedIsNotReplaced(t *testing.T) {
	dir, box := watched(t, func(o *ingest.DirectoryOptions) { o.After, o.Done = ingest.AfterMove, "done" })
	store := &memory{}
	for i := range 3 {
		put(t, dir, "report.xml", reportXML(fmt.Sprint(i)))
		if _, err := ingester(store).Pass(t.Context(), box); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := tree(t, dir), []string{"done/report.xml", "done/report.xml.2", "done/report.xml.3"}; !slices.Equal(got, want) {
		t.Errorf("there are %v, want %v", got, want)
	}
	if got := store.ids(); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("took %v", got)
	}
}

// A file that is still being written is left alone until it has settled: by its
// time, or, if that lies in the future, since it was first seen so.
func TestAFileIsTakenInOnceItHasSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, box := watched(t, func(o *ingest.DirectoryOptions) { o.Settle = 10 * time.Second })
		store := &memory{}
		in := ingester(store)
		look := func(want int) {
			t.Helper()
			sum, err := in.Pass(t.Context(), box)
			if err != nil || sum.Messages != want {
				t.Errorf("took %d messages, want %d; %v", sum.Messages, want, err)
			}
		}
		write := func(name, text string, changed time.Time) {
			put(t, dir, name, text)
			if err := os.Chtimes(filepath.Join(dir, name), changed, changed); err != nil {
				t.Fatal(err)
			}
		}
		whole := reportXML("slow")
		write("slow.xml", whole[:100], time.Now())
		write("old.xml", reportXML("old"), time.Now().Add(-time.Hour)) // as after a rename
		write("future.xml", reportXML("future"), time.Now().Add(time.Hour))
		look(1)
		time.Sleep(9 * time.Second)
		write("slow.xml", whole[:200], time.Now())
		look(0)
		time.Sleep(9 * time.Second)
		write("slow.xml", whole, time.Now())
		look(1) // future
		time.Sleep(9 * time.Second)
		look(0)
		time.Sleep(time.Second)
		look(1)
		if got := store.ids(); !slices.Equal(got, []string{"old", "future", "slow"}) {
			t.Errorf("took %v", got)
		}
		// One that changes afterwards is taken in again.
		write("old.xml", reportXML("older"), time.Now().Add(-time.Minute))
		look(1)
	})
}

// A file that changes while it is taken in is neither moved nor passed over.
func TestAFileThatChangesMeanwhileStays(t *testing.T) {
	dir, box := watched(t, func(o *ingest.DirectoryOptions) { o.After = ingest.AfterDelete })
	put(t, dir, "a.xml", reportXML("a"))
	in := ingester(&memory{})
	in.OnFate = func(d *dmarc.Delivery, _ dmarc.Fate) {
		if d.Size == int64(len(reportXML("a"))) {
			put(t, dir, "a.xml", reportXML("longer")) // between commit and deletion
		}
	}
	if _, err := in.Pass(t.Context(), box); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir); !slices.Equal(got, []string{"a.xml"}) {
		t.Fatalf("there are %v", got)
	}
	if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 1 || len(tree(t, dir)) != 0 {
		t.Errorf("%+v, %v, %v", sum, err, tree(t, dir))
	}
}

func TestAFolderThatIsGoneIsSaidAndNoMessage(t *testing.T) {
	dir, box := watched(t, nil)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	store := &memory{}
	if _, err := ingester(store).Pass(t.Context(), box); !errors.Is(err, fs.ErrNotExist) || len(store.took) != 0 {
		t.Errorf("%v, took %v", err, store.ids())
	}
}

// The folder is looked into again and again.
func TestAFileThatAppearsIsTakenIn(t *testing.T) {
	dir, box := watched(t, func(o *ingest.DirectoryOptions) { o.After, o.Done = ingest.AfterMove, "done" })
	in := ingester(&memory{})
	fates := make(chan string, 10)
	in.OnFate = func(d *dmarc.Delivery, f dmarc.Fate) { fates <- filepath.Base(d.Source) + " " + string(f.Outcome) }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- in.Run(ctx, box) }()
	for i := range 3 {
		put(t, dir, ".new", reportXML(fmt.Sprint(i)))
		name := fmt.Sprintf("%d.xml", i)
		if err := os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if got := <-fates; got != name+" ok" {
			t.Errorf("fate %q", got)
		}
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// A link within the folder is followed; one that leads out of it is not, which is
// said once.
func TestALinkOutOfTheFolderIsNotFollowed(t *testing.T) {
	for _, after := range []string{ingest.AfterNothing, ingest.AfterMove, ingest.AfterDelete} {
		dir, box := watched(t, func(o *ingest.DirectoryOptions) {
			if o.After = after; after == ingest.AfterMove {
				o.Done, o.Failed = "done", "failed"
			}
		})
		outside := t.TempDir()
		put(t, outside, "secret.xml", reportXML("secret"))
		put(t, dir, "sub/real.xml", reportXML("real"))
		for from, to := range map[string]string{
			"absolute.xml": filepath.Join(outside, "secret.xml"), "sub/relative.xml": "../../" + filepath.Base(outside) + "/secret.xml", "folder": outside,
			"within.xml": "sub/real.xml", "nothing.xml": "nowhere.xml", "loop.xml": "loop.xml",
		} {
			if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
				t.Fatal(err)
			}
		}
		store := &memory{}
		in := ingester(store)
		for range 3 {
			if _, err := in.Pass(t.Context(), box); err != nil {
				t.Fatal(err)
			}
		}
		got := map[string]int{}
		for _, d := range store.took {
			name, _ := filepath.Rel(dir, d.Source)
			got[name+" "+string(fateOf(&d))]++
		}
		want := map[string]int{"absolute.xml unreadable": 1, "folder unreadable": 1, "sub/relative.xml unreadable": 1, "loop.xml unreadable": 1, "sub/real.xml ok": 1}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after %q: %v, want %v", after, got, want)
		}
		if text, err := os.ReadFile(filepath.Join(outside, "secret.xml")); err != nil || string(text) != reportXML("secret") {
			t.Errorf("what is outside was touched: %v", err)
		}
	}
}

// A file that vanishes before it is opened leaves no trace, one that vanishes
// afterwards is taken in.
func TestAFileThatIsRemovedWhileItIsReadCostsNothing(t *testing.T) {
	dir, box := watched(t, func(o *ingest.DirectoryOptions) { o.After, o.Done = ingest.AfterMove, "done" })
	for i := range 4 {
		put(t, dir, fmt.Sprintf("%d.xml", i), reportXML(fmt.Sprint(i)))
	}
	var took []string
	err := box.Each(t.Context(), dmarc.Place{}, func(_ context.Context, msg ingest.Message) error {
		took = append(took, filepath.Base(msg.Name))
		if filepath.Base(msg.Name) == "1.xml" {
			for _, gone := range []string{"1.xml", "2.xml"} {
				if err := os.Remove(filepath.Join(dir, gone)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if msg.Err != nil {
			t.Errorf("%s: %v", msg.Name, msg.Err)
			return nil
		}
		defer msg.Raw.Close()
		if text, err := io.ReadAll(io.NewSectionReader(msg.Raw, 0, msg.Raw.Size())); err != nil || !strings.HasPrefix(string(text), "<feedback>") {
			t.Errorf("%s: %q, %v", msg.Name, text, err)
		}
		return box.Settle(t.Context(), []ingest.Settled{{Origin: msg.Origin, Outcome: dmarc.OutcomeOK}})
	})
	if err != nil || !slices.Equal(took, []string{"0.xml", "1.xml", "3.xml"}) {
		t.Errorf("took %v, %v", took, err)
	}
	if got := tree(t, dir); !slices.Equal(got, []string{"3.xml", "done/0.xml"}) && !slices.Equal(got, []string{"done/0.xml", "done/3.xml"}) {
		t.Errorf("there are %v", got)
	}
}

// A file that may not be read is said once, stays, and is taken in once it may be.
func TestAFileThatMayNotBeReadIsTriedAgain(t *testing.T) {
	dir, box := watched(t, func(o *ingest.DirectoryOptions) { o.After, o.Done, o.Failed = ingest.AfterMove, "done", "failed" })
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "a.xml", reportXML("a"))
	put(t, dir, "b.xml", reportXML("b"))
	if err := os.Chmod(filepath.Join(dir, "a.xml"), 0); err != nil {
		t.Fatal(err)
	}
	store := &memory{}
	in := ingester(store)
	for range 2 {
		if _, err := in.Pass(t.Context(), withoutPrivilege{box}); err != nil {
			t.Fatal(err)
		}
	}
	if got := store.ids(); !slices.Equal(got, []string{"unreadable", "b"}) || !strings.Contains(store.took[0].Reason, "permission denied") {
		t.Errorf("took %v: %+v", got, store.took)
	}
	if err := os.Chmod(filepath.Join(dir, "a.xml"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Pass(t.Context(), withoutPrivilege{box}); err != nil {
		t.Fatal(err)
	}
	if got := store.ids(); !slices.Equal(got, []string{"unreadable", "b", "a"}) {
		t.Errorf("then took %v", got)
	}
	if got := tree(t, dir); !slices.Equal(got, []string{"done/a.xml", "done/b.xml"}) {
		t.Errorf("there are %v", got)
	}
}

// withoutPrivilege is a folder that is read as somebody who may not read everything.
type withoutPrivilege struct{ *ingest.Directory }

func (w withoutPrivilege) Each(ctx context.Context, after dmarc.Place, handle func(context.Context, ingest.Message) error) error {
	if os.Getuid() == 0 {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			return err
		}
	}
	return w.Directory.Each(ctx, after, handle)
}

// A counter is a store that counts. Messages are looked for while others are
// added.
type counter struct {
	memory
	mu    sync.Mutex
	known map[dmarc.Digest]bool
}

func (c *counter) Known(_ context.Context, _ string, digests []dmarc.Digest) (map[dmarc.Digest]dmarc.Fate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked += len(digests)
	fates := map[dmarc.Digest]dmarc.Fate{}
	for _, d := range digests {
		if c.known[d] {
			fates[d] = dmarc.Fate{Outcome: dmarc.OutcomeNotAReport, Known: true}
		}
	}
	return fates, nil
}

func (c *counter) Add(_ context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fates := make([]dmarc.Fate, len(ds))
	for i := range ds {
		fates[i] = dmarc.Fate{Outcome: dmarc.OutcomeNotAReport, Known: c.known[ds[i].Digest]}
		c.known[ds[i].Digest] = true
	}
	return fates, nil
}

// A folder of many files, 25,000 or DMARCD_DIRECTORY_FILES, is taken in with little
// memory, and looked at again without reading any.
func TestManyFilesCostLittle(t *testing.T) {
	files := 25_000
	if n, err := strconv.Atoi(os.Getenv("DMARCD_DIRECTORY_FILES")); err == nil {
		files = n
	}
	dir, box := watched(t, nil)
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.txt", i)), fmt.Appendf(nil, "hello %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store := &counter{known: map[dmarc.Digest]bool{}}
	in := ingester(store)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	sum, err := in.Pass(t.Context(), box)
	if err != nil || sum.Messages != files || sum.Known != 0 || len(store.known) != files {
		t.Fatalf("%+v, %v", sum, err)
	}
	if more := (heap() - before) >> 20; more > 60 { // that of the test included
		t.Errorf("%d MiB more are in use", more)
	}
	store.asked = 0
	if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 0 || store.asked != 0 {
		t.Errorf("again: %+v, %v; %d files were read", sum, err, store.asked)
	}
	// After a restart each costs a hash, and none is parsed.
	again := ingest.NewDirectory(ingest.DirectoryOptions{Path: dir, Limit: 1 << 20, Log: slog.New(slog.DiscardHandler)})
	if sum, err := in.Pass(t.Context(), again); err != nil || sum.Messages != files || sum.Known != files || store.asked != files {
		t.Errorf("after a restart: %+v, %v; %d files were read", sum, err, store.asked)
	}
}
