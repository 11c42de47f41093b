package ingest_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/parse"
)

// A letter is a message that arrives some time after the one before.
type letter struct {
	after time.Duration
	rows  int
}

// A scripted mailbox hands over letters as they arrive, and then stalls.
type scripted struct {
	letters []letter
	places  bool // as IMAP has them
	stall   time.Duration
}

func (s scripted) Name() string                                   { return "scripted" }
func (s scripted) Close() error                                   { return nil }
func (s scripted) Settle(context.Context, []ingest.Settled) error { return nil }

func (s scripted) Wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s scripted) Each(ctx context.Context, _ dmarc.Place, handle func(context.Context, ingest.Message) error) error {
	for i, l := range s.letters {
		time.Sleep(l.after)
		raw, err := parse.NewSpool(strings.NewReader(reportOf(fmt.Sprint(i), l.rows)), 64<<20)
		if err != nil {
			return err
		}
		msg := ingest.Message{Raw: raw, Name: fmt.Sprint(i)}
		if s.places {
			msg.Place = dmarc.Place{UIDValidity: 1, UID: uint32(i + 1)}
			msg.Reached = msg.Place
		}
		if err := handle(ctx, msg); err != nil {
			return err
		}
	}
	time.Sleep(s.stall)
	return nil
}

// reportOf is a report of some rows.
func reportOf(id string, rows int) string {
	head, rest, _ := strings.Cut(reportXML(id), "<record>")
	row, _, _ := strings.Cut(rest, "</record>")
	var b strings.Builder
	b.WriteString(head)
	for i := range rows {
		addr := fmt.Sprintf("192.%d.%d.%d", i>>16&255, i>>8&255, i&255)
		b.WriteString("<record>" + strings.Replace(row, "192.0.2.1", addr, 1) + "</record>")
	}
	b.WriteString("</feedback>")
	return b.String()
}

// A diary is a store that notes when which batch came.
type diary struct {
	memory
	takes time.Duration // to commit

	mu      sync.Mutex
	began   time.Time
	entries []entry
}

type entry struct {
	at       time.Duration
	messages int
	rows     int64
}

func (d *diary) Add(ctx context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	e := entry{at: time.Since(d.began), messages: len(ds)}
	for _, delivery := range ds {
		for _, p := range delivery.Parts {
			e.rows += p.Aggregate.Tally.Rows
		}
	}
	d.mu.Lock()
	d.entries = append(d.entries, e)
	d.mu.Unlock()
	time.Sleep(d.takes)
	return d.memory.Add(ctx, ds)
}

// Time stands still here while anything is done, and passes only where all wait:
// what is compared is how long dmarcd chooses to wait.
func TestBatchesGrowToFiveThousandRowsOrASecondAndFurtherUnderLoad(t *testing.T) {
	const ms = time.Millisecond
	every := func(n int, after time.Duration, rows int) (list []letter) {
		for i := range n {
			l := letter{after, rows}
			if i == 0 {
				l.after = 0
			}
			list = append(list, l)
		}
		return list
	}
	for name, c := range map[string]struct {
		letters []letter
		stall   time.Duration
		takes   time.Duration
		want    []entry
	}{
		"a lone report goes at once":                      {every(1, 0, 1), 0, 0, []entry{{0, 1, 1}}},
		"a lone report goes though the mailbox stalls":    {every(1, 0, 1), time.Hour, 0, []entry{{1000 * ms, 1, 1}}},
		"five thousand rows go together":                  {every(12, ms, 1000), 0, 0, []entry{{4 * ms, 5, 5000}, {9 * ms, 5, 5000}, {11 * ms, 2, 2000}}},
		"and not more":                                    {every(3, ms, 3000), 0, 0, []entry{{1 * ms, 1, 3000}, {2 * ms, 1, 3000}, {2 * ms, 1, 3000}}},
		"a larger report goes alone":                      {[]letter{{0, 10}, {ms, 7000}, {ms, 10}}, 0, 0, []entry{{1 * ms, 1, 10}, {1 * ms, 1, 7000}, {2 * ms, 1, 10}}},
		"more go together while the store is busy":        {every(20, ms, 1000), 0, 10500 * time.Microsecond, []entry{{4 * ms, 5, 5000}, {14500 * time.Microsecond, 10, 10000}, {25 * ms, 5, 5000}}},
		"twenty thousand rows at most":                    {every(50, ms, 1000), 0, 100 * ms, []entry{{4 * ms, 5, 5000}, {104 * ms, 20, 20000}, {204 * ms, 20, 20000}, {304 * ms, 5, 5000}}},
		"none is held for longer than a second":           {every(7, 300*ms, 1), 0, 0, []entry{{1000 * ms, 4, 4}, {1800 * ms, 3, 3}}},
		"while one is committed the next grows and grows": {every(30, 300*ms, 1), 0, 5050 * ms, []entry{{1000 * ms, 4, 4}, {6050 * ms, 17, 17}, {11100 * ms, 9, 9}}},
	} {
		for _, places := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, places %t", name, places), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := &diary{began: time.Now(), takes: c.takes}
					in := ingester(store)
					sum, err := in.Pass(t.Context(), scripted{c.letters, places, c.stall})
					if err != nil || sum.Messages != len(c.letters) || !slices.Equal(store.entries, c.want) {
						t.Errorf("%+v, %v: batches of %v, want %v", sum, err, store.entries, c.want)
					}
				})
			})
		}
	}
}

// What somebody brings, by upload or SMTP, is not held to gather at all; what comes
// while the store is busy goes together, up to the bound.
func TestWhatIsBroughtGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &diary{began: time.Now(), takes: 100 * time.Millisecond}
		in := ingester(store)
		in.Workers = 20
		var all sync.WaitGroup
		take := func(id string, rows int) {
			all.Go(func() {
				if f, err := in.Take(t.Context(), dmarc.MailboxUpload, id, io.Reader(strings.NewReader(reportOf(id, rows)))); err != nil || f.Outcome != dmarc.OutcomeOK {
					t.Errorf("%+v, %v", f, err)
				}
			})
		}
		take("lone", 1)
		synctest.Wait()
		for i := range 12 {
			take(fmt.Sprint(i), 1000)
		}
		all.Wait()
		const ms = time.Millisecond
		if want := []entry{{0, 1, 1}, {100 * ms, 5, 5000}, {200 * ms, 5, 5000}, {300 * ms, 2, 2000}}; !slices.Equal(store.entries, want) {
			t.Errorf("batches of %v, want %v", store.entries, want)
		}
	})
}

// A file in the watched folder waits for the next look, and for nothing else.
func TestALoneFileIsTakenAtTheNextLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, box := watched(t, func(o *ingest.DirectoryOptions) { o.Poll = time.Second })
		store := &diary{began: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { ingester(store).Run(ctx, box) })
		time.Sleep(1300 * time.Millisecond)
		put(t, dir, "lone.xml", reportXML("lone"))
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []entry{{2 * time.Second, 1, 1}}; !slices.Equal(store.entries, want) {
			t.Errorf("batches of %v, want %v", store.entries, want)
		}
		cancel()
		running.Wait()
	})
}
