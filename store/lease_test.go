package store_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

// pair returns two stores on one database, as two processes have them.
func pair(t *testing.T, lease time.Duration) (a, b *store.Store) {
	t.Helper()
	a, db := open(t)
	b = store.New(db, slog.New(slog.DiscardHandler))
	a.LeaseTime, b.LeaseTime = lease, lease
	return a, b
}

func TestALeaseIsHeldByOneAtATime(t *testing.T) {
	// Where the machine stands still for longer than a lease holds, it is lost, as it should be:
	// then nothing is proven, and it is tried with one that holds for longer.
	for _, lease := range []time.Duration{400 * time.Millisecond, 4 * time.Second, 40 * time.Second} {
		if lost := takeTurns(t, lease); lost == nil {
			return
		} else {
			t.Logf("a lease of %v: %v", lease, lost)
		}
	}
	t.Error("no lease is held as long as the work takes")
}

// takeTurns has six work under a lease, one after another, and the first of them for longer than it holds without a sign of
// life. It returns what happened if one of them lost it.
func takeTurns(t *testing.T, lease time.Duration) (lost error) {
	t.Helper()
	a, b := pair(t, lease)
	var losing sync.Once
	var first atomic.Bool
	var holders, most atomic.Int64
	var epochs sync.Map
	var wg sync.WaitGroup
	for i := range 6 {
		s := a
		if i%2 == 1 {
			s = b
		}
		wg.Go(func() {
			err := s.Hold(t.Context(), "work", func(ctx context.Context, l dmarc.Lease) error {
				if n := holders.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer holders.Add(-1)
				if _, twice := epochs.LoadOrStore(l.Epoch, true); twice {
					t.Errorf("epoch %d was given twice", l.Epoch)
				}
				work := lease / 10
				if first.CompareAndSwap(false, true) {
					work = lease * 7 / 4
				}
				select {
				case <-time.After(work):
				case <-ctx.Done():
				}
				return context.Cause(ctx)
			})
			if errors.Is(err, dmarc.ErrLeaseLost) {
				losing.Do(func() { lost = err })
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if lost == nil && most.Load() != 1 {
		t.Errorf("%d held it at once", most.Load())
	}
	return lost
}

func TestWhoLostALeaseCommitsNothing(t *testing.T) {
	a, b := pair(t, 12*time.Second)
	ctx := context.Background()
	one := daily("1", row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone))
	err := a.Hold(ctx, "mailbox inbox", func(working context.Context, l dmarc.Lease) error {
		d := mail(1, one)
		d.Lease = l
		add(t, a, d)
		// This process seems dead to the others: they take over.
		if err := b.FreeLeases(ctx); err != nil {
			t.Fatal(err)
		}
		return b.Hold(ctx, "mailbox inbox", func(_ context.Context, theirs dmarc.Lease) error {
			late := mail(2, daily("2", one.rows...))
			late.Lease = l
			if _, err := a.Add(ctx, []dmarc.Delivery{late}); !errors.Is(err, dmarc.ErrLeaseLost) {
				t.Errorf("the stale batch: %v", err)
			}
			late.Lease = theirs
			if got := outcomes(add(t, b, late)); got[0] != dmarc.OutcomeOK {
				t.Errorf("the new owner: %v", got)
			}
			select {
			case <-working.Done():
			case <-time.After(10 * time.Minute):
				t.Error("the work went on")
			}
			return nil
		})
	})
	if !errors.Is(err, dmarc.ErrLeaseLost) {
		t.Errorf("err = %v", err)
	}
	if sum := summary(t, a, "example.com"); sum.Tally.Messages != 10 || sum.Reports != 2 {
		t.Errorf("%+v", sum)
	}
}

func TestALeaseThatIsGivenBackIsFreeAtOnce(t *testing.T) {
	a, b := pair(t, time.Hour)
	want := errors.New("of the work")
	if err := a.Hold(t.Context(), "work", func(context.Context, dmarc.Lease) error { return want }); err != want {
		t.Errorf("err = %v", err)
	}
	if err := b.Hold(t.Context(), "work", func(context.Context, dmarc.Lease) error { return nil }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a.Hold(t.Context(), "work", func(context.Context, dmarc.Lease) error {
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := b.Hold(ctx, "work", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting: %v", err)
		}
		return nil
	})
}
