package records

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// lookBook keeps looks in memory.
type lookBook struct {
	mu      sync.Mutex
	domains []string
	next    map[string]time.Time
	looks   []*Look
	fail    error
	keys    map[string][]string // names, by fingerprint
}

func (b *lookBook) DueDomains(_ context.Context, now time.Time, limit int) (due []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.domains {
		if at, ok := b.next[d]; (!ok || !at.After(now)) && len(due) < limit {
			due = append(due, d)
		}
	}
	return due, nil
}

func (b *lookBook) SaveLook(_ context.Context, look *Look) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	b.looks = append(b.looks, look)
	b.next[look.Domain] = look.Next
	return nil
}

func (b *lookBook) KeyNames(_ context.Context, fingerprints []string) (map[string][]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := map[string][]string{}
	for _, print := range fingerprints {
		names[print] = b.keys[print]
	}
	return names, nil
}

// lateResolver answers after a while that nothing exists, or fails.
type lateResolver struct {
	mu     sync.Mutex
	failed bool
}

func (r *lateResolver) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	select {
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := Answer{Name: name, Type: qtype, State: NoData, TTL: 2 * time.Hour, At: time.Now()}
	if r.failed {
		a.State, a.Rcode = Failed, dns.RcodeServerFailure
	}
	return a
}

// Every domain is looked at when its time has come, within a day, and not all
// at the same moment; after failed lookups sooner.
func TestEveryDomainIsLookedAtInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &lookBook{next: map[string]time.Time{}}
		for i := range 120 {
			book.domains = append(book.domains, fmt.Sprintf("d%d.example", i))
		}
		resolver := &lateResolver{}
		w := &Watcher{Store: book, Log: slog.New(slog.DiscardHandler), Evidence: func(context.Context, string) (Options, error) {
			return Options{Resolver: resolver, RandomLabel: "random"}, nil
		}}
		if err := w.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		moments := map[time.Duration]bool{}
		for _, look := range book.looks {
			wait := look.Next.Sub(look.At)
			if seen[look.Domain] || wait < 19*time.Hour || wait > 24*time.Hour || look.Failed || look.Result.Domain != look.Domain {
				t.Errorf("%s: again after %v", look.Domain, wait)
			}
			seen[look.Domain], moments[wait] = true, true
			for _, set := range look.Records {
				if slices.Contains([]string{"SOA", "RRSIG"}, set.Type) || len(set.Values) > 0 {
					t.Errorf("%s: kept %+v", look.Domain, set)
				}
			}
		}
		if len(seen) != 120 || len(moments) < 60 {
			t.Errorf("%d domains were looked at, %d different times to look again", len(seen), len(moments))
		}
		if err := w.Pass(t.Context()); err != nil || len(book.looks) != 120 {
			t.Errorf("at once again: %d looks, %v", len(book.looks), err)
		}
		time.Sleep(24 * time.Hour)
		resolver.failed = true
		if err := w.Pass(t.Context()); err != nil || len(book.looks) != 240 {
			t.Errorf("a day later: %d looks, %v", len(book.looks), err)
		}
		for _, look := range book.looks[120:] {
			if wait := look.Next.Sub(look.At); !look.Failed || wait < 48*time.Minute || wait > time.Hour {
				t.Errorf("%s failed, again after %v", look.Domain, wait)
			}
		}
	})
}

// Thousands of domains that all came at once are looked at a few at a time, and
// are spread over hours from then on.
func TestThousandsOfDomainsAreNoBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3000
		book := &lookBook{next: map[string]time.Time{}}
		for i := range n {
			book.domains = append(book.domains, fmt.Sprintf("d%d.example", i))
		}
		resolver := &lateResolver{}
		var at, most atomic.Int64
		w := &Watcher{Store: book, Log: slog.New(slog.DiscardHandler), Evidence: func(context.Context, string) (Options, error) {
			most.Store(max(most.Load(), at.Add(1)))
			defer at.Add(-1)
			time.Sleep(time.Millisecond)
			return Options{Resolver: resolver, RandomLabel: "random"}, nil
		}}
		if err := w.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(book.looks) != n || most.Load() > 4 {
			t.Errorf("%d looks, %d at a time", len(book.looks), most.Load())
		}
		minutes := map[time.Time]int{}
		for _, next := range book.next {
			minutes[next.Truncate(10*time.Minute)]++
		}
		for at, due := range minutes {
			if due > n/10 {
				t.Errorf("%d domains are due within ten minutes, at %v", due, at)
			}
		}
		if len(minutes) < 20 {
			t.Errorf("the next looks are spread over %d times ten minutes", len(minutes))
		}
	})
}

func TestALookThatCannotBeKeptEndsThePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &lookBook{domains: []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example"}, next: map[string]time.Time{}, fail: errors.New("no space")}
		w := &Watcher{Store: book, Log: slog.New(slog.DiscardHandler), Evidence: func(context.Context, string) (Options, error) {
			return Options{Resolver: &lateResolver{}}, nil
		}}
		if err := w.Pass(t.Context()); !errors.Is(err, book.fail) {
			t.Errorf("err = %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		book.fail = nil
		cancel()
		if err := w.Pass(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
	})
}

// What is kept of a look is what a zone file would say.
func TestASnapshotHoldsWhatWasPublished(t *testing.T) {
	set := setOf(&Answer{Name: "example.com", Type: dns.TypeTXT, State: Found, TTL: time.Hour, Chain: []string{"alias.example.net"}, RRs: []dns.RR{
		mustRR(t, `alias.example.net. 60 IN TXT "v=spf1 " "-all"`), mustRR(t, `alias.example.net. 60 IN TXT "a\"b"`), mustRR(t, `alias.example.net. 60 IN TXT "a\"b"`),
	}})
	want := []string{`"a\"b"`, `"v=spf1 " "-all"`, "alias of alias.example.net"}
	if set.Name != "example.com" || set.Type != "TXT" || !slices.Equal(set.Values, want) {
		t.Errorf("%+v, want %q", set, want)
	}
}

func mustRR(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}
