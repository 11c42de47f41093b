package records

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// A WatchStore keeps what the domains publish.
type WatchStore interface {
	// DueDomains returns domains that are to be looked at again, those that
	// are due longest first. A domain that was never looked at is due.
	DueDomains(ctx context.Context, now time.Time, limit int) ([]string, error)
	// SaveLook keeps what was found, and what changed since the last look.
	SaveLook(ctx context.Context, look *Look) error
	// KeyNames returns the names under which DKIM keys were seen in any look,
	// by fingerprint of the key.
	KeyNames(ctx context.Context, fingerprints []string) (map[string][]string, error)
}

// A Look is what one look at a domain found.
type Look struct {
	Domain  string
	At      time.Time
	Next    time.Time // when to look again
	Result  *Result
	Records []RecordSet // that were answered
	Failed  bool        // some lookups failed: not all there is was seen
	Memory  Memory      // for the next look
	// Keys are the fingerprints of DKIM keys, by the names that hold them; ""
	// where there is none. What could not be looked up is left out.
	Keys map[string]string
}

// A Watcher looks again and again at what domains publish.
type Watcher struct {
	Store WatchStore
	// Evidence returns what reports tell of a domain, and everything else
	// that Lookup is told.
	Evidence func(ctx context.Context, domain string) (Options, error)
	Log      *slog.Logger
	Workers  int // domains at a time; 0 for 4
}

// A domain is looked at again when its records may have changed, but not all
// the time, and at least once a day. After a failed lookup it is sooner.
const (
	lookSoonest = time.Hour
	lookLatest  = 24 * time.Hour
	watchBatch  = 50
)

// Pass looks at every domain that is due. It may be cut short and run again.
func (w *Watcher) Pass(ctx context.Context) error {
	workers := w.Workers
	if workers <= 0 {
		workers = 4
	}
	for {
		due, err := w.Store.DueDomains(ctx, time.Now(), watchBatch)
		if err != nil || len(due) == 0 {
			return err
		}
		queue := make(chan string)
		errs := make(chan error, workers)
		var wg sync.WaitGroup
		looking, stop := context.WithCancel(ctx)
		for range workers {
			wg.Go(func() {
				for domain := range queue {
					if err := w.look(looking, domain); err != nil {
						errs <- fmt.Errorf("looking at %s: %w", domain, err)
						stop()
						return
					}
				}
			})
		}
	feed:
		for _, domain := range due {
			select {
			case queue <- domain:
			case <-looking.Done():
				break feed
			}
		}
		close(queue)
		wg.Wait()
		stop()
		select {
		case err := <-errs:
			return err
		default:
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (w *Watcher) look(ctx context.Context, domain string) error {
	o, err := w.Evidence(ctx, domain)
	if err != nil {
		return err
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	p, err := Lookup(ctx, domain, o)
	if err != nil {
		return err
	}
	look := &Look{Domain: domain, At: p.At, Records: p.Records, Memory: p.nextMemory(), Keys: p.DKIM.keys()}
	prints := slices.DeleteFunc(slices.Collect(maps.Values(look.Keys)), func(print string) bool { return print == "" })
	if len(prints) > 0 {
		if p.DKIM.Elsewhere, err = w.Store.KeyNames(ctx, prints); err != nil {
			return err
		}
	}
	look.Result = NewResult(p, Check(p))
	look.Next = p.At.Add(again(p))
	look.Failed = len(p.Failed) > 0
	return w.Store.SaveLook(ctx, look)
}

// again returns after how long to look again: once the shortest-lived record
// has expired, within bounds, and a little sooner or later by the name of the
// domain, so that looks spread. What may be mended within the hour, failed
// lookups and servers that are behind, is looked at soon.
func again(p *Published) time.Duration {
	wait := lookLatest
	for _, set := range p.Records {
		if len(set.Values) > 0 && set.TTL < wait {
			wait = set.TTL
		}
	}
	wait = max(wait, lookSoonest)
	if len(p.Failed) > 0 || len(p.Name.behind()) > 0 {
		wait = lookSoonest
	}
	h := fnv.New32a()
	h.Write([]byte(p.Domain))
	return wait - wait/5*time.Duration(h.Sum32()%1000)/1000
}
