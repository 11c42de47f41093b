package ingest

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// A sieve finds the messages that the ledger has by their digests before they are
// parsed: going over files again costs a hash each, and a question for many. What
// comes from IMAP, and is known by its place, passes through.
type sieve struct {
	in      *Ingester
	mailbox string
	next    func(context.Context, *read) error // gets the messages, in order

	incoming chan Message
	room     *semaphore.Weighted // for bytes in memory
	done     chan struct{}       // closed when incoming was dealt with
	once     sync.Once
	err      error // of next or the store; set before failed is closed
	failed   chan struct{}
}

// Bounds of what is asked about at once. Each message may hold an open file.
const (
	sieveMessages = 200
	sieveBytes    = 8 << 20 // in memory
)

func newSieve(in *Ingester, mailbox string, next func(context.Context, *read) error) *sieve {
	return &sieve{in: in, mailbox: mailbox, next: next, incoming: make(chan Message, sieveMessages), room: semaphore.NewWeighted(sieveBytes), done: make(chan struct{}), failed: make(chan struct{})}
}

// add takes a message from the mailbox.
func (s *sieve) add(ctx context.Context, msg Message) error {
	if msg.Place.UID != 0 {
		return s.next(ctx, &read{msg: msg, done: make(chan struct{})})
	}
	s.once.Do(func() { go s.run(ctx) })
	if err := s.room.Acquire(ctx, memory(msg)); err != nil {
		if msg.Raw != nil {
			msg.Raw.Close()
		}
		return context.Cause(ctx)
	}
	select {
	case <-s.failed:
		s.drop(msg)
		return s.err
	default:
	}
	select {
	case s.incoming <- msg:
		return nil
	case <-s.failed:
		s.drop(msg)
		return s.err
	}
}

// memory is how much of a message is in memory while it waits.
func memory(msg Message) int64 {
	if spool, ok := msg.Raw.(*parse.Spool); ok {
		return min(spool.Size(), sieveBytes)
	}
	return 0 // it is in a file of its own
}

// drop lets go of a message that is not handed over.
func (s *sieve) drop(msg Message) {
	s.room.Release(memory(msg))
	if msg.Raw != nil {
		msg.Raw.Close()
	}
}

// end deals with what is left. It returns the first error.
func (s *sieve) end(ctx context.Context, err error) error {
	s.once.Do(func() { go s.run(ctx) })
	close(s.incoming)
	<-s.done
	if s.err != nil {
		return s.err
	}
	return err
}

// run takes what is there, up to some bound, and asks about it.
func (s *sieve) run(ctx context.Context) {
	defer close(s.done)
	for msg := range s.incoming {
		batch := []Message{msg}
	gather:
		for len(batch) < sieveMessages {
			select {
			case msg, open := <-s.incoming:
				if !open {
					break gather
				}
				batch = append(batch, msg)
			default:
				break gather
			}
		}
		if err := s.pass(ctx, batch); err != nil {
			s.err = err
			close(s.failed)
			for msg := range s.incoming {
				s.drop(msg)
			}
			return
		}
	}
}

// pass hands a batch over, with the fates of those that are known.
func (s *sieve) pass(ctx context.Context, batch []Message) (err error) {
	defer func() { // of what was not handed over
		for _, msg := range batch {
			s.drop(msg)
		}
	}()
	digests := make([]dmarc.Digest, len(batch))
	errs := make([]error, len(batch))
	var hashing sync.WaitGroup
	slots := make(chan struct{}, s.in.workers())
	for i := range batch {
		if batch[i].Raw == nil {
			digests[i] = unreadDigest(batch[i])
			continue
		}
		slots <- struct{}{}
		hashing.Go(func() {
			errs[i] = digest(batch[i].Raw, &digests[i])
			<-slots
		})
	}
	hashing.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	known, err := s.in.Store.Known(ctx, s.mailbox, digests)
	if err != nil {
		return fmt.Errorf("looking for messages that are known: %w", err)
	}
	for len(batch) > 0 {
		msg := batch[0]
		batch = batch[1:]
		held := memory(msg)
		r := &read{msg: msg, done: make(chan struct{})}
		if fate, ok := known[digests[0]]; ok && errs[0] == nil {
			if msg.Raw != nil {
				msg.Raw.Close()
			}
			r.msg.Raw = nil
			r.known = &fate
			r.d = dmarc.Delivery{Mailbox: s.mailbox, Digest: digests[0], Source: msg.Name}
		} else if errs[0] == nil && msg.Raw != nil {
			d := digests[0]
			r.msg.digest = &d
		}
		digests, errs = digests[1:], errs[1:]
		err := s.next(ctx, r)
		s.room.Release(held)
		if err != nil {
			return err
		}
	}
	return nil
}
