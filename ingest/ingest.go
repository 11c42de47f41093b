// Package ingest takes messages from mailboxes, lets parse read them, and
// hands what they hold to a store, batch by batch. Nothing is lost and nothing
// is counted twice: a mailbox changes only after the store has committed.
package ingest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// A Store keeps what was found.
type Store interface {
	// Place returns how far a mailbox has been read.
	Place(ctx context.Context, mailbox string) (dmarc.Place, error)
	// Known returns the fates of those messages of a mailbox that the ledger
	// has by their digests.
	Known(ctx context.Context, mailbox string, digests []dmarc.Digest) (map[dmarc.Digest]dmarc.Fate, error)
	// Add commits deliveries in one transaction and returns their fates in
	// the same order.
	Add(ctx context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error)
}

// A Message is what a mailbox hands over.
type Message struct {
	Place      dmarc.Place // zero if it does not come from IMAP
	Reached    dmarc.Place // everything up to here has been handed over, this message included
	Raw        Raw         // nil if Err is set
	Name       string      // of the file; "" for IMAP
	ReceivedAt time.Time   // by the mailbox; now if zero
	Err        *dmarc.Error
	// Origin is what the mailbox itself knows the message by; it comes back in
	// Settled.
	Origin any

	digest *dmarc.Digest // of Raw, if it is known already
}

// Raw is the bytes of a message, to be closed once they are not needed.
type Raw interface {
	dmarc.Blob
	io.Closer
}

// A Settled message has a fate.
type Settled struct {
	Place   dmarc.Place
	Origin  any
	Outcome dmarc.Outcome
}

// A Mailbox hands over messages.
type Mailbox interface {
	Name() string
	// Each hands over what lies behind a place, in order. It stops at the
	// first error of handle and returns it.
	Each(ctx context.Context, after dmarc.Place, handle func(context.Context, Message) error) error
	// Settle does with messages what is configured, once their fates are
	// committed.
	Settle(ctx context.Context, done []Settled) error
	// Wait returns when something new may be there.
	Wait(ctx context.Context) error
	Close() error
}

// An Ingester takes in messages. Its fields are set before it is used.
type Ingester struct {
	Store  Store
	Log    *slog.Logger
	Limits parse.Limits
	// Accepts tells whether reports about a policy domain are wanted; nil
	// accepts all. The others are parked.
	Accepts func(domain string) bool
	// RequireAuthentic parks the reports in mails until these have been found
	// authentic. What the operator brings counts at once.
	RequireAuthentic bool
	KeepFailures     bool // store failure reports
	FailureSubjects  bool // with the subjects of the samples
	Workers          int  // messages that are parsed side by side; 0: one for each processor
	// BatchRows is after how many rows a batch is committed, 0 for 5,000. While the
	// one before is on its way it grows further, up to four times as many.
	BatchRows int
	// Leases lets Run share mailboxes with other processes; nil if there are
	// none.
	Leases Leases
	// OnFate is told of every message after its commit, one at a time for each
	// mailbox.
	OnFate func(d *dmarc.Delivery, f dmarc.Fate)
	// OnRead is told how long a message took to be read, several at a time;
	// OnPass how long Run took to pass over a mailbox, and what came of it.
	OnRead func(d *dmarc.Delivery, took time.Duration)
	OnPass func(mailbox string, took time.Duration, err error)

	submissions submissions
}

// Bounds of what is in hand.
const (
	batchAge      = time.Second
	batchBytes    = 8 << 20
	batchMessages = 500
	batchGrowth   = 4               // times BatchRows, while there is another one on its way
	graceTime     = 5 * time.Second // to commit what is in hand once the context has ended
)

// A Summary is what a pass did.
type Summary struct {
	Messages, Known                     int
	Added, Duplicate, Conflict, Refused int
	Rows                                int64
	Outcomes                            map[dmarc.Outcome]int
}

func (s *Summary) add(f dmarc.Fate) {
	s.Messages++
	if f.Known {
		s.Known++
	}
	s.Added += f.Added
	s.Duplicate += f.Duplicate
	s.Conflict += f.Conflict
	s.Refused += f.Refused
	s.Rows += f.Rows
	if s.Outcomes == nil {
		s.Outcomes = make(map[dmarc.Outcome]int)
	}
	s.Outcomes[f.Outcome]++
}

// A read is a message that is being parsed.
type read struct {
	msg   Message
	done  chan struct{} // closed when the rest is set
	d     dmarc.Delivery
	found *parse.Found
	err   error
	known *dmarc.Fate // of a message that the ledger has
}

func (r *read) close() {
	<-r.done
	if r.found != nil {
		r.found.Close()
	}
	if r.msg.Raw != nil {
		r.msg.Raw.Close()
	}
}

// rowsOf is how many rows a message brings.
func rowsOf(d *dmarc.Delivery) (n int64) {
	for i := range d.Parts {
		if a := d.Parts[i].Aggregate; a != nil {
			n += a.Tally.Rows
		}
	}
	return n
}

// Pass takes in everything that lies behind the place that was reached, and
// returns when nothing more waits. Messages are parsed side by side and committed in
// order. After an error nothing is lost: the next pass begins behind the last
// commit. When ctx ends, what is in hand is committed if that can be done soon.
func (in *Ingester) Pass(ctx context.Context, box Mailbox) (Summary, error) {
	return in.pass(ctx, box, dmarc.Lease{})
}

// pass is Pass under a lease, if it is not zero.
func (in *Ingester) pass(ctx context.Context, box Mailbox, l dmarc.Lease) (Summary, error) {
	var sum Summary
	after, err := in.Store.Place(ctx, box.Name())
	if err != nil {
		return sum, err
	}
	fetching, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	workers := in.workers()
	unread := make(chan *read)
	ordered := make(chan *read, 4*workers)
	var fetchErr error
	var parsing sync.WaitGroup
	for range workers {
		parsing.Go(func() {
			for r := range unread {
				r.d, r.found, r.err = in.read(fetching, box.Name(), r.msg)
				close(r.done)
			}
		})
	}
	hand := func(ctx context.Context, r *read) error {
		if r.known != nil {
			close(r.done)
			ordered <- r
			return nil
		}
		select {
		case unread <- r:
		case <-ctx.Done():
			if r.msg.Raw != nil {
				r.msg.Raw.Close()
			}
			return context.Cause(ctx)
		}
		ordered <- r // is always drained
		return nil
	}
	go func() {
		defer close(ordered)
		defer close(unread)
		sieve := newSieve(in, box.Name(), hand)
		fetchErr = box.Each(fetching, after, sieve.add)
		fetchErr = sieve.end(fetching, fetchErr)
	}()
	err = in.collect(ctx, box, l, ordered, &sum)
	if err != nil {
		stop(err)
	}
	for r := range ordered {
		r.close()
	}
	parsing.Wait()
	if err == nil {
		err = fetchErr
	}
	return sum, err
}

func (in *Ingester) workers() int {
	if in.Workers > 0 {
		return in.Workers
	}
	return runtime.GOMAXPROCS(0)
}

func (in *Ingester) batchRows() int64 {
	if in.BatchRows > 0 {
		return int64(in.BatchRows)
	}
	return 5000
}

// collect makes batches of messages and commits them, in order. While one is on its
// way into the store, the next gathers.
func (in *Ingester) collect(ctx context.Context, box Mailbox, l dmarc.Lease, ordered <-chan *read, sum *Summary) error {
	commits := make(chan []*read)
	failed := make(chan struct{})
	ended := make(chan struct{})
	var failure error
	go func() {
		defer close(ended)
		for batch := range commits {
			// Nothing may be committed behind what was not.
			if failure == nil {
				if failure = in.commit(ctx, box, l, batch, sum); failure != nil {
					close(failed)
				}
			}
			closeAll(batch)
		}
	}()
	err := in.gather(ctx, ordered, commits, failed)
	close(commits)
	<-ended
	if failure != nil {
		return failure
	}
	return err
}

func closeAll(batch []*read) {
	for _, r := range batch {
		r.close()
	}
}

// gather makes batches until there is no more to read, or committing failed.
func (in *Ingester) gather(ctx context.Context, ordered <-chan *read, commits chan<- []*read, failed <-chan struct{}) error {
	limit := in.batchRows()
	var batch []*read
	var rows, bytes int64
	var due <-chan time.Time // when the batch has gathered for long enough
	var ripe chan<- []*read  // where it goes from then on, as soon as there is room
	var reading *read        // next in order
	defer func() { closeAll(batch) }()
	sent := func() {
		batch, rows, bytes = nil, 0, 0
		due, ripe = nil, nil
	}
	flush := func() {
		if len(batch) == 0 {
			return
		}
		select {
		case commits <- batch:
			sent()
		case <-failed:
		}
	}
	offer := func() { // it may go, but need not wait
		select {
		case commits <- batch:
			sent()
		default:
			ripe = commits
		}
	}
	for {
		next, read := ordered, (<-chan struct{})(nil)
		if reading != nil {
			next, read = nil, reading.done
		}
		select {
		case r, open := <-next:
			if !open {
				flush()
				return nil
			}
			reading = r
			continue
		case <-due:
			due, ripe = nil, commits
			continue
		case ripe <- batch:
			sent()
			continue
		case <-failed:
			if reading != nil {
				reading.close()
			}
			return nil // collect knows why
		case <-read:
		}
		r := reading
		reading = nil
		if r.err != nil {
			r.close()
			if ctx.Err() != nil {
				flush() // the message was cut short; those before it were not
			}
			return r.err
		}
		n := rowsOf(&r.d)
		switch {
		case len(batch) == 0:
		case rows+n > batchGrowth*limit:
			flush()
		case rows+n > limit:
			offer()
		}
		if len(batch) == 0 {
			due = time.After(batchAge)
		}
		batch, rows, bytes = append(batch, r), rows+n, bytes+r.d.Size
		switch {
		case rows >= batchGrowth*limit || bytes >= batchBytes || len(batch) >= batchMessages:
			flush()
		case rows >= limit:
			offer()
		}
	}
}

// commit adds a batch to the store, and settles its messages in the mailbox.
func (in *Ingester) commit(ctx context.Context, box Mailbox, l dmarc.Lease, batch []*read, sum *Summary) error {
	if len(batch) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceTime)
		defer cancel()
		ctx = grace
	}
	ds := make([]dmarc.Delivery, 0, len(batch))
	for _, r := range batch {
		if r.known == nil {
			d := r.d
			d.Lease = l
			ds = append(ds, d)
		}
	}
	added, err := in.Store.Add(ctx, ds)
	if err != nil {
		return fmt.Errorf("storing %d messages: %w", len(ds), err)
	}
	fates, settled := make([]dmarc.Fate, len(batch)), make([]Settled, len(batch))
	for i, r := range batch {
		if r.known != nil {
			fates[i] = *r.known
		} else {
			fates[i], added = added[0], added[1:]
		}
		settled[i] = Settled{r.d.Place, r.msg.Origin, fates[i].Outcome}
	}
	if err := box.Settle(ctx, settled); err != nil {
		// Everything is stored, so that this is only untidy.
		in.Log.Warn("messages are stored but could not be marked, moved or deleted in the mailbox; they stay as they are", "mailbox", box.Name(), "messages", len(settled), "error", err)
	}
	for i, r := range batch {
		sum.add(fates[i])
		in.tell(&r.d, fates[i])
	}
	return nil
}

// tell says what became of a message.
func (in *Ingester) tell(d *dmarc.Delivery, f dmarc.Fate) {
	if !f.Outcome.Harmless() && !f.Known {
		in.Log.Warn("a message was set aside", "mailbox", d.Mailbox, "uid", d.Place.UID, "file", d.Source,
			"message_id", d.MessageID, "outcome", f.Outcome, "reason", f.Reason)
	}
	if in.OnFate != nil {
		in.OnFate(d, f)
	}
}

// Back-off after errors.
const (
	firstPause = time.Second
	lastPause  = 5 * time.Minute
)

// Run passes over a mailbox whenever something new may be there, until ctx
// ends. After an error it tries again, at first after a second, and every five
// minutes at last, unless there is progress. With Leases, it waits while another
// process reads the mailbox.
func (in *Ingester) Run(ctx context.Context, box Mailbox) error {
	if in.Leases == nil {
		return in.poll(ctx, box, dmarc.Lease{})
	}
	for ctx.Err() == nil {
		err := in.Leases.Hold(ctx, "mailbox "+box.Name(), func(ctx context.Context, l dmarc.Lease) error {
			defer box.Close()
			return in.poll(ctx, box, l)
		})
		if err != nil && ctx.Err() == nil {
			in.Log.Warn("the mailbox is not read by this process any more", "mailbox", box.Name(), "error", err)
		}
	}
	return nil
}

// poll is Run for a mailbox that nobody else reads.
func (in *Ingester) poll(ctx context.Context, box Mailbox, l dmarc.Lease) error {
	pause := firstPause
	for {
		began := time.Now()
		sum, err := in.pass(ctx, box, l)
		if in.OnPass != nil && ctx.Err() == nil {
			in.OnPass(box.Name(), time.Since(began), err)
		}
		if sum.Messages > 0 {
			in.Log.Info("mailbox read", "mailbox", box.Name(), "messages", sum.Messages, "reports", sum.Added, "duplicates", sum.Duplicate, "refused", sum.Refused, "rows", sum.Rows)
		}
		if err == nil || sum.Messages > 0 {
			pause = firstPause
		}
		if err == nil {
			err = box.Wait(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			continue
		}
		in.Log.Error("the mailbox cannot be read; it is tried again", "mailbox", box.Name(), "pause", pause, "error", err)
		box.Close()
		timer := time.NewTimer(pause + rand.N(pause/4))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, lastPause)
	}
}
