package ingest

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// Take takes in one message that somebody brings, and returns its fate once it is
// committed. After an error nothing is stored, so that it can be brought again;
// a body over the limit gives one with the outcome too_large. Messages that come
// at the same time are committed together.
func (in *Ingester) Take(ctx context.Context, mailbox, name string, body io.Reader) (dmarc.Fate, error) {
	return in.TakeIf(ctx, mailbox, name, body, nil)
}

// TakeIf is Take for what is wanted only: an error of wanted about what was
// found is returned, and nothing is kept.
func (in *Ingester) TakeIf(ctx context.Context, mailbox, name string, body io.Reader, wanted func(*dmarc.Delivery) error) (dmarc.Fate, error) {
	raw, err := parse.NewSpool(body, in.Limits.Message)
	if err != nil {
		return dmarc.Fate{}, err
	}
	defer raw.Close()
	done, err := in.submissions.begin(ctx, in.workers())
	if err != nil {
		return dmarc.Fate{}, err
	}
	d, found, err := in.read(ctx, mailbox, Message{Raw: raw, Name: name})
	done()
	if err != nil {
		return dmarc.Fate{}, err
	}
	if found != nil {
		defer found.Close()
	}
	if wanted != nil {
		if err := wanted(&d); err != nil {
			return dmarc.Fate{}, err
		}
	}
	s := &submission{ctx: ctx, d: &d, done: make(chan struct{})}
	if in.submissions.add(s) {
		go in.commitSubmissions()
	}
	<-s.done // always comes, and until then the store may read
	return s.fate, s.err
}

// Waiting is how many messages somebody waits for that are not being stored yet.
func (in *Ingester) Waiting() int {
	in.submissions.mu.Lock()
	defer in.submissions.mu.Unlock()
	return len(in.submissions.waiting)
}

// Submissions are the messages that somebody waits for.
type submissions struct {
	once  sync.Once
	slots chan struct{} // for those that are being parsed

	mu         sync.Mutex
	waiting    []*submission
	committing bool
}

// A submission is a message that was parsed.
type submission struct {
	ctx  context.Context
	d    *dmarc.Delivery
	done chan struct{} // closed when the rest is set
	fate dmarc.Fate
	err  error
}

// begin waits for leave to parse a message.
func (q *submissions) begin(ctx context.Context, workers int) (done func(), err error) {
	q.once.Do(func() { q.slots = make(chan struct{}, workers) })
	select {
	case q.slots <- struct{}{}:
		return func() { <-q.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// add queues a submission, and reports whether nobody is committing.
func (q *submissions) add(s *submission) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, s)
	first := !q.committing
	q.committing = true
	return first
}

// next takes a batch from the queue; an empty one ends committing.
func (q *submissions) next(limit int64) (batch []*submission) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var rows, bytes int64
	for _, s := range q.waiting {
		n := rowsOf(s.d)
		if len(batch) > 0 && (rows+n > limit || bytes+s.d.Size > batchBytes || len(batch) >= batchMessages) {
			break
		}
		batch, rows, bytes = append(batch, s), rows+n, bytes+s.d.Size
	}
	q.waiting = q.waiting[len(batch):]
	q.committing = len(batch) > 0
	return batch
}

// commitSubmissions commits what waits, batch by batch: while one is on its way
// into the store, the next gathers.
func (in *Ingester) commitSubmissions() {
	for {
		batch := in.submissions.next(in.batchRows())
		if len(batch) == 0 {
			return
		}
		in.commitBatch(batch)
		for _, s := range batch {
			close(s.done)
		}
	}
}

func (in *Ingester) commitBatch(batch []*submission) {
	// It is given up only if everybody has.
	ctx, cancel := context.WithCancel(context.WithoutCancel(batch[0].ctx))
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(batch)))
	ds := make([]dmarc.Delivery, len(batch))
	for i, s := range batch {
		ds[i] = *s.d
		defer context.AfterFunc(s.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	fates, err := in.Store.Add(ctx, ds)
	for i, s := range batch {
		if err != nil {
			s.err = fmt.Errorf("storing a message: %w", err)
			continue
		}
		s.fate = fates[i]
		in.tell(s.d, s.fate)
	}
}
