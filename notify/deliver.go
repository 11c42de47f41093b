package notify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An Outbox keeps messages until they are delivered.
type Outbox interface {
	// ClaimDelivery begins an attempt to deliver the oldest message to a target
	// that is due, and keeps others from it for a time; nil if there is none.
	ClaimDelivery(ctx context.Context, target string, hold time.Duration) (*dmarc.OutgoingMessage, error)
	Delivered(ctx context.Context, m *dmarc.OutgoingMessage) error
	NotDelivered(ctx context.Context, m *dmarc.OutgoingMessage, why string, again time.Duration) error
	GiveUp(ctx context.Context, after time.Duration) ([]dmarc.OutgoingMessage, error)
}

// A Sender sends messages to one target. Its errors hold no secrets.
type Sender interface {
	Send(ctx context.Context, m *dmarc.OutgoingMessage) error
}

// An errorAfter is an error of somebody who says when to come again.
type errorAfter struct {
	error
	wait time.Duration
}

func (e *errorAfter) Unwrap() error { return e.error }

// A Deliverer delivers what is in the outbox.
type Deliverer struct {
	Outbox  Outbox
	Senders map[string]Sender // by target
	// GiveUpAfter is how long a message is tried to be delivered.
	GiveUpAfter time.Duration
	Log         *slog.Logger
	// OnAttempt hears of each attempt: sent, failed or given_up.
	OnAttempt func(target, result string)
}

// How long one attempt may take, and how long nobody else makes one: whoever dies
// in it is replaced after that.
const (
	sendTime  = 45 * time.Second
	claimTime = 2 * time.Minute
	// maxAtOnce bounds a pass, so that it ends.
	maxAtOnce = 50
)

// Bounds of the pause after a failed attempt.
const (
	firstPause = 30 * time.Second
	lastPause  = time.Hour
)

// pause returns how long to wait after some attempts that failed, a little more
// or less, so that not all come at once to a server that was away.
func pause(attempts int) time.Duration {
	p := lastPause
	if attempts < 8 {
		p = min(lastPause, firstPause<<(attempts-1))
	}
	return p*3/4 + rand.N(p/2)
}

// Pass delivers what is due, to all targets side by side, and to each until it
// fails. That a target cannot be reached is no error of the pass: it is kept with the
// message, which is tried again.
func (d *Deliverer) Pass(ctx context.Context) error {
	gone, err := d.Outbox.GiveUp(ctx, d.GiveUpAfter)
	if err != nil {
		return err
	}
	for i := range gone {
		d.Log.Error("a message could not be delivered, and is given up", "target", gone[i].Target, "message", gone[i].Key, "attempts", gone[i].Attempts, "since", gone[i].At)
		d.attempted(gone[i].Target, "given_up")
	}
	errs := make([]error, 0, len(d.Senders))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, sender := range d.Senders {
		wg.Go(func() {
			if err := d.target(ctx, name, sender); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (d *Deliverer) target(ctx context.Context, name string, sender Sender) error {
	for range maxAtOnce {
		m, err := d.Outbox.ClaimDelivery(ctx, name, claimTime)
		if err != nil || m == nil {
			return err
		}
		sending, cancel := context.WithTimeout(ctx, sendTime)
		err = sender.Send(sending, m)
		cancel()
		// What was sent is kept as sent, also while the service stops.
		keeping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		if err == nil {
			err = d.Outbox.Delivered(keeping, m)
			cancel()
			if err != nil {
				return err
			}
			d.attempted(name, "sent")
			d.Log.Info("a message was delivered", "target", name, "message", m.Key, "events", len(m.Events), "attempt", m.Attempts)
			continue
		}
		again := pause(m.Attempts)
		var later *errorAfter
		if errors.As(err, &later) {
			again = max(again, min(later.wait, lastPause))
		}
		if ctx.Err() != nil {
			again = 0 // it was cut short by the end of the service
		}
		kept := d.Outbox.NotDelivered(keeping, m, err.Error(), again)
		cancel()
		if kept != nil || ctx.Err() != nil {
			return errors.Join(kept, ctx.Err())
		}
		d.attempted(name, "failed")
		d.Log.Warn("a message could not be delivered; it is tried again", "target", name, "message", m.Key, "attempt", m.Attempts, "pause", again.Round(time.Second), "error", err)
		// The next one would probably fail as well, and others wait for the end of
		// the pass.
		return nil
	}
	return nil
}

func (d *Deliverer) attempted(target, result string) {
	if d.OnAttempt != nil {
		d.OnAttempt(target, result)
	}
}
