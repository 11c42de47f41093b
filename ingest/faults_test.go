package ingest_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/ingest/dovecottest"
)

// wired returns a mailbox with so many reports of some kilobytes, and the wire
// to it.
func wired(t *testing.T, n int, change func(*ingest.IMAPOptions)) (s *dovecottest.Server, wire *dovecottest.Wire, box *ingest.IMAP, ids []string) {
	t.Helper()
	s = dovecottest.Start(t)
	for i := range n {
		s.Deliver(t, fmt.Sprintf("%04d.a.host", i), padded(i))
		ids = append(ids, fmt.Sprintf("r%03d", i))
	}
	wire = dovecottest.NewWire(t, s)
	box = mailboxAt(s, func(o *ingest.IMAPOptions) {
		o.Address = wire.Address
		if change != nil {
			change(o)
		}
	})
	t.Cleanup(func() { box.Close() })
	return s, wire, box, ids
}

// padded is a report of some kilobytes, as IMAP sends it. Each has a size of its own.
func padded(i int) []byte {
	text := string(reportMail(fmt.Sprintf("r%03d", i))) + strings.Repeat("<!-- padding -->\n", 200+i)
	return []byte(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n"))
}

// nth harms the nth literal.
func nth(n int64, f dovecottest.Fault) func(int64) *dovecottest.Fault {
	var seen atomic.Int64
	return func(size int64) *dovecottest.Fault {
		if seen.Add(1) == n {
			return &f
		}
		return nil
	}
}

// A server that falls silent in the middle of a message, and a connection that
// breaks there, cost time and nothing else; what happened is said.
func TestAMessageThatStopsInTheMiddleIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault dovecottest.Fault
		want  string
	}{
		{"silence", dovecottest.Fault{After: 1500, Stall: true}, "has sent nothing for 10s"},
		{"silence before the first byte", dovecottest.Fault{After: 0, Stall: true}, "has sent nothing for 10s"},
		{"cut", dovecottest.Fault{After: 1500}, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, wire, box, want := wired(t, 12, func(o *ingest.IMAPOptions) { o.Timeout = 10 * time.Second }) // a busy Dovecot answers later than at once
			store := &memory{}
			in := ingester(store)
			wire.OnLiteral(nth(6, c.fault))
			sum, err := in.Pass(t.Context(), box)
			if err == nil || !strings.Contains(err.Error(), c.want) || sum.Messages != 5 {
				t.Errorf("%d messages, %v; want 5, and %q", sum.Messages, err, c.want)
			}
			if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 7 {
				t.Errorf("then %d messages, %v; want 7", sum.Messages, err)
			}
			if got := store.ids(); !slices.Equal(got, want) {
				t.Errorf("took %v", got)
			}
		})
	}
}

// expunge removes messages as another session does.
func expunge(t *testing.T, s *dovecottest.Server, uids ...imap.UID) {
	c := client(t, s)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Error(err)
		return
	}
	set := imap.UIDSetNum(uids...)
	if err := c.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Error(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Error(err)
	}
}

// A message that another session expunges while the mailbox is read is passed
// over, whenever that happens; all others are taken in, and no fate is made up.
func TestAMessageThatIsExpungedMeanwhileIsPassedOver(t *testing.T) {
	for _, c := range []struct{ name, before string }{
		{"between the listing and the sizes", "RFC822.SIZE"},
		{"between the sizes and the texts", "BODY.PEEK[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, wire, box, ids := wired(t, 12, nil)
			var once atomic.Bool
			wire.OnCommand(func(line string) {
				if strings.Contains(line, c.before) && once.CompareAndSwap(false, true) {
					expunge(t, s, 1, 6, 7, 12)
				}
			})
			store := &memory{}
			in := ingester(store)
			want := slices.Concat(ids[1:5], ids[7:11])
			for range 2 {
				if _, err := in.Pass(t.Context(), box); err != nil {
					t.Fatal(err)
				}
				if got := store.ids(); !once.Load() || !slices.Equal(got, want) {
					t.Errorf("took %v, want %v", got, want)
				}
				box.Close() // the next session knows only what is left
			}
			s.Deliver(t, "9999.a.host", reportMail("new"))
			if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 1 {
				t.Errorf("%+v, %v", sum, err)
			}
		})
	}
}

// A mailbox whose UIDVALIDITY changes while messages are in flight is read
// again from its beginning: none is lost, and what is done with messages is
// done with those that it was meant for.
func TestAMailboxIsNumberedAnewWhileItIsRead(t *testing.T) {
	s, wire, box, ids := wired(t, 12, func(o *ingest.IMAPOptions) {
		o.Timeout, o.After = 5*time.Minute, ingest.AfterDelete
	})
	store := &memory{}
	in := ingester(store)
	wire.OnLiteral(nth(6, dovecottest.Fault{After: 100}))
	if sum, err := in.Pass(t.Context(), box); err == nil || sum.Messages != 5 {
		t.Fatalf("%d messages, %v", sum.Messages, err)
	}
	wire.OnLiteral(nil)
	old := store.place["box"]
	// Five are stored and not yet deleted, and the numbers change. A message
	// that is no report comes first now.
	s.Deliver(t, "0000.0.host", []byte("Subject: hello\r\n\r\nNo report.\r\n"))
	s.Renumber(t)
	first := client(t, s)
	data, err := first.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil || data.UIDValidity == old.UIDValidity || data.NumMessages != 13 {
		t.Fatalf("%+v, %v: not as it was meant", data, err)
	}
	sum, err := in.Pass(t.Context(), box)
	if err != nil || sum.Messages != 13 || sum.Known != 0 {
		t.Errorf("%+v, %v", sum, err)
	}
	// The same reports come again, which the store counts once.
	got := store.ids()[5:]
	slices.Sort(got)
	if want := append(slices.Clone(ids), string(dmarc.OutcomeNotAReport)); !reflect.DeepEqual(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("took %v", got)
	}
	box.Close()
	sum, err = in.Pass(t.Context(), box)
	if err != nil || sum.Messages != 0 {
		t.Errorf("once more: %+v, %v", sum, err)
	}
	box.Close()
}

// What was to be done with messages of the old numbers is not done with those
// that have their numbers now.
func TestNothingIsDoneWithMessagesOfOtherNumbers(t *testing.T) {
	s, wire, box, _ := wired(t, 3, func(o *ingest.IMAPOptions) { o.After, o.Idle, o.Poll = ingest.AfterDelete, false, time.Millisecond })
	in := ingester(&memory{})
	if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 3 {
		t.Fatalf("%+v, %v", sum, err)
	}
	wire.Cut() // before they are deleted
	s.Renumber(t)
	if err := box.Wait(t.Context()); err == nil {
		t.Error("the connection is cut, and nothing is said")
	}
	if err := box.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := messages(t, s, "INBOX"); n != 3 {
		t.Errorf("%d of 3 messages are left: some were deleted by numbers that are no longer theirs", n)
	}
}

// Dovecot announces a message to be larger than it is where the name of its
// file says so, and cuts the connection, however often it is asked. That holds up
// no other message, and is given up at last.
func TestAMessageThatIsShorterThanAnnouncedCostsNoOther(t *testing.T) {
	s := dovecottest.Start(t)
	for i := range 5 {
		name := fmt.Sprintf("%04d.a.host", i)
		if i == 2 {
			name += ",S=99999,W=99999"
		}
		s.Deliver(t, name, reportMail(fmt.Sprint(i)))
	}
	box := mailboxAt(s, nil)
	defer box.Close()
	now := time.Now()
	box.SetClock(func() time.Time { return now })
	store := &memory{}
	in := ingester(store)
	for i, step := range []struct {
		after  time.Duration
		breaks bool
		took   []string
		place  uint32
		fates  int // of this pass
	}{
		{0, true, []string{"0", "1"}, 2, 2},
		{time.Second, true, []string{"0", "1"}, 2, 0},
		{time.Second, true, []string{"0", "1"}, 2, 0},
		{time.Second, false, []string{"0", "1", "3", "4"}, 2, 2}, // the others
		{time.Second, false, []string{"0", "1", "3", "4"}, 2, 0}, // are not read again
		{time.Minute, true, []string{"0", "1", "3", "4"}, 2, 0},
		{time.Minute, false, []string{"0", "1", "3", "4", "5"}, 2, 1},
		{time.Hour, true, []string{"0", "1", "3", "4", "5"}, 2, 0},
		{24 * time.Hour, false, []string{"0", "1", "3", "4", "5", "unreadable"}, 6, 1},
		{time.Hour, false, []string{"0", "1", "3", "4", "5", "unreadable", "6"}, 7, 1},
	} {
		now = now.Add(step.after)
		switch i {
		case 6:
			s.Deliver(t, "0005.a.host", reportMail("5"))
		case 9:
			s.Deliver(t, "0006.a.host", reportMail("6"))
			box.Close() // Dovecot looks at a folder once a second
		}
		sum, err := in.Pass(t.Context(), box)
		if (err != nil) != step.breaks || sum.Messages != step.fates {
			t.Errorf("pass %d: %+v, %v", i, sum, err)
		}
		if got := store.ids(); !slices.Equal(got, step.took) || store.place["box"].UID != step.place {
			t.Errorf("pass %d: took %v up to %d, want %v up to %d", i, got, store.place["box"].UID, step.took, step.place)
		}
	}
	if n, _ := box.Backlog(); n != 0 {
		t.Errorf("%d messages are said to be left", n)
	}
	if got := store.took[5]; got.Place.UID != 3 || !strings.Contains(got.Reason, "the connection to the mail server broke 5 times in the middle of it") {
		t.Errorf("%+v", got)
	}
}

// A message at which the connection broke several times is read as soon as it
// can be, in its turn or after the others.
func TestAStubbornMessageThatComesAfterAllIsTakenIn(t *testing.T) {
	for _, breaks := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(breaks), func(t *testing.T) {
			_, wire, box, ids := wired(t, 5, nil)
			now := time.Now()
			box.SetClock(func() time.Time { return now })
			store := &memory{}
			in := ingester(store)
			left := breaks
			wire.OnLiteral(func(size int64) *dovecottest.Fault {
				if size == int64(len(padded(2))) && left > 0 {
					left--
					return &dovecottest.Fault{After: size / 2}
				}
				return nil
			})
			for range breaks + 1 {
				in.Pass(t.Context(), box)
				now = now.Add(time.Hour)
			}
			got := store.ids()
			if breaks > 2 {
				if want := slices.Concat(ids[:2], ids[3:], ids[2:3]); !slices.Equal(got, want) {
					t.Errorf("took %v, want %v", got, want)
				}
			} else if !slices.Equal(got, ids) {
				t.Errorf("took %v, want %v", got, ids)
			}
			if place := store.place["box"].UID; place != 5 || left != 0 {
				t.Errorf("reached %d, want 5; %d breaks are left", place, left)
			}
		})
	}
}
