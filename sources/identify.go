package sources

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Resolver answers questions to DNS. It may be used by several goroutines.
type Resolver interface {
	// Lookup asks for the records of a type (PTR, A or AAAA) of an absolute
	// name. CNAMEs are followed; no error: failing is one of the states.
	Lookup(ctx context.Context, name string, qtype uint16) Answer
}

// An Answer is what came of a question.
type Answer struct {
	State dmarc.LookupState // found, absent or failed
	Names []string          // of PTR records
	Addrs []netip.Addr      // of A and AAAA records
}

// A Store knows the sending addresses and keeps what is found out about them.
type Store interface {
	// DueSources returns addresses that were never looked up, or whose DueAt
	// is past, the busiest first, with what is known about them.
	DueSources(ctx context.Context, now time.Time, limit int) ([]dmarc.IdentifiedSource, error)
	// PutIdentities keeps what was found out.
	PutIdentities(ctx context.Context, list []dmarc.IdentifiedSource) error
}

// An Identifier finds out whose addresses are.
type Identifier struct {
	Store     Store
	Resolver  Resolver
	Catalogue *Catalogue
	Networks  *Networks // nil if the operator names no databases
	Log       *slog.Logger
	Rate      int // questions to DNS a second, at most; 0 for DefaultRate
}

// Bounds of a pass.
const (
	DefaultRate = 20
	batch       = 200
	mostAPass   = 10_000 // addresses; the others are for the next pass
	workers     = 16
	mostNames   = 4 // of one address that are asked for
)

// After these times an answer is asked for again.
const (
	keepFound  = 30 * 24 * time.Hour
	keepAbsent = 7 * 24 * time.Hour
	keepFailed = time.Hour // and twice as long with every failure more, up to
	mostFailed = 7 * 24 * time.Hour
)

// Pass looks up the addresses that are due: their PTR names, whether those lead
// back, and their networks. It may be cut short and run again.
func (id *Identifier) Pass(ctx context.Context) error {
	if id.Networks != nil {
		id.Networks.refresh(id.Log)
	}
	rate := id.Rate
	if rate <= 0 {
		rate = DefaultRate
	}
	pace := &pace{gap: time.Second / time.Duration(rate)}
	for done := 0; done < mostAPass; {
		due, err := id.Store.DueSources(ctx, time.Now(), min(batch, mostAPass-done))
		if err != nil {
			return fmt.Errorf("finding addresses to identify: %w", err)
		}
		if len(due) == 0 {
			return nil
		}
		group, inner := errgroup.WithContext(ctx)
		group.SetLimit(workers)
		for i := range due {
			group.Go(func() error {
				known, err := id.identify(inner, pace, due[i])
				due[i] = known
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if err := id.Store.PutIdentities(ctx, due); err != nil {
			return fmt.Errorf("keeping identities: %w", err)
		}
		done += len(due)
	}
	return nil
}

// identify looks up one address. What was known stays where a lookup fails.
func (id *Identifier) identify(ctx context.Context, pace *pace, src dmarc.IdentifiedSource) (dmarc.IdentifiedSource, error) {
	next := dmarc.SourceIdentity{CheckedAt: time.Now().UTC()}
	keep := keepFound
	if public(src.Source) {
		var err error
		next.PTR, next.Names, next.Unproven, err = id.names(ctx, pace, src.Source)
		if err != nil {
			return src, err
		}
		switch next.PTR {
		case dmarc.LookupAbsent:
			keep = keepAbsent
		case dmarc.LookupFailed:
			next.Failures = src.Identity.Failures + 1
			keep = min(mostFailed, keepFailed<<min(next.Failures-1, 10))
			if len(src.Identity.Names) > 0 {
				next.Names, next.Unproven = src.Identity.Names, src.Identity.Unproven
			}
		}
		if id.Networks != nil {
			next.ASN, next.Org, next.Country = id.Networks.Lookup(src.Source)
		}
	}
	next.DueAt = next.CheckedAt.Add(keep)
	if id.Catalogue != nil {
		id.Catalogue.Recognise(&next)
	}
	src.Identity = next
	return src, nil
}

// names returns the PTR names of an address: those that lead back to it, and
// the others, which anyone can write who has the reverse zone. The error is
// that of ctx.
func (id *Identifier) names(ctx context.Context, pace *pace, addr netip.Addr) (state dmarc.LookupState, proven, unproven []string, err error) {
	ask := func(name string, qtype dnsmessage.Type) (Answer, error) {
		if err := pace.wait(ctx); err != nil {
			return Answer{}, err
		}
		a := id.Resolver.Lookup(ctx, name, uint16(qtype))
		return a, ctx.Err()
	}
	ptr, err := ask(reverseName(addr), dnsmessage.TypePTR)
	if err != nil {
		return 0, nil, nil, err
	}
	if ptr.State != dmarc.LookupFound {
		return ptr.State, nil, nil, nil
	}
	qtype := dnsmessage.TypeA
	if addr.Is6() {
		qtype = dnsmessage.TypeAAAA
	}
	failed := false
	asked := make(map[string]bool)
	for _, name := range ptr.Names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if !validName(name) || asked[name] || len(asked) >= mostNames {
			continue
		}
		asked[name] = true
		forward, err := ask(name, qtype)
		if err != nil {
			return 0, nil, nil, err
		}
		failed = failed || forward.State == dmarc.LookupFailed
		if forward.State == dmarc.LookupFound && slices.Contains(forward.Addrs, addr) {
			proven = append(proven, name)
		} else {
			unproven = append(unproven, name)
		}
	}
	slices.Sort(proven)
	slices.Sort(unproven)
	if failed && len(proven) == 0 {
		return dmarc.LookupFailed, nil, unproven, nil
	}
	return dmarc.LookupFound, proven, unproven, nil
}

// public reports whether DNS can tell anything about an address.
func public(a netip.Addr) bool {
	return a.IsValid() && !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified() && !a.IsMulticast()
}

// reverseName returns the absolute name at which PTR records of an address
// are (RFC 1035, section 3.5; RFC 3596, section 2.5).
func reverseName(a netip.Addr) string {
	var b strings.Builder
	bytes := a.AsSlice()
	for i := len(bytes) - 1; i >= 0; i-- {
		if a.Is4() {
			b.WriteString(strconv.Itoa(int(bytes[i])))
			b.WriteByte('.')
			continue
		}
		const digits = "0123456789abcdef"
		b.Write([]byte{digits[bytes[i]&15], '.', digits[bytes[i]>>4], '.'})
	}
	if a.Is4() {
		return b.String() + "in-addr.arpa."
	}
	return b.String() + "ip6.arpa."
}

// A pace lets things happen at most so often.
type pace struct {
	gap  time.Duration
	mu   sync.Mutex
	next time.Time
}

// wait returns when it is the caller's turn, or with the error of ctx.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.gap)
	p.mu.Unlock()
	if !at.After(now) {
		return ctx.Err()
	}
	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
