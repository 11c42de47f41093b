package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	mostKept = 64 << 20         // bytes of evidence
	keptFor  = 10 * time.Minute // what other domains say of a source may be so old

	// What a verdict was computed from stays until its last day is over, if it takes long to
	// gather: bytes of it.
	worthKeeping = 256 << 10
	manySources  = 200 // take as much
)

// keptEvidence keeps evidence while it is asked for and nothing that it rests on
// changes: people go from page to page of one domain. Its zero value is ready.
type keptEvidence struct {
	mu   sync.Mutex
	all  map[evidenceKey]*keptOne
	size int
}

type evidenceKey struct {
	domain string
	period dmarc.Period
}

// A keptOne is the evidence about a domain in a period. Who holds its lock gathers it,
// for all who wait.
type keptOne struct {
	sync.Mutex
	evidence *advice.Evidence
	stamp    dmarc.Stamp
	at       time.Time // gathered

	// These belong to the lock of keptEvidence.
	asked time.Time // last
	until time.Time // it stays though nobody asks; the zero time if it does not
	size  int
}

// get returns what is kept under a key if it has this stamp, or else what gather returns.
func (k *keptEvidence) get(key evidenceKey, stamp dmarc.Stamp, gather func() (*advice.Evidence, error)) (*advice.Evidence, error) {
	now := time.Now()
	k.mu.Lock()
	one := k.all[key]
	if one == nil {
		one = new(keptOne)
		if k.all == nil {
			k.all = make(map[evidenceKey]*keptOne)
		}
		k.all[key] = one
	}
	one.asked = now
	stays := now.Before(one.until)
	k.mu.Unlock()
	one.Lock()
	defer one.Unlock()
	if one.evidence != nil && one.stamp == stamp && (stays || now.Sub(one.at) < keptFor) {
		return one.evidence, nil
	}
	e, err := gather()
	if err != nil {
		k.keep(key, one, nil, time.Time{})
		return nil, err
	}
	e.Keep()
	one.stamp, one.at = stamp, now
	if one.evidence = e; !k.keep(key, one, e, time.Time{}) {
		one.evidence = nil
	}
	return e, nil
}

// put keeps what a verdict was computed from, under the stamp that it has with that verdict,
// while people may ask for its period: until that ends.
func (k *keptEvidence) put(key evidenceKey, stamp dmarc.Stamp, e *advice.Evidence) {
	now := time.Now()
	k.keep(key, &keptOne{evidence: e, stamp: stamp, at: now, asked: now}, e, key.period.End)
}

// recall gathers again what the verdicts about large domains rest on, as far as half of the
// room goes: verdicts outlive the process that kept it.
func (a *adviser) recall(ctx context.Context, now time.Time, many int) error {
	const most = 100 // domains
	names, err := a.store.DomainsOfManySources(ctx, many, most)
	if err != nil {
		return err
	}
	for _, name := range names {
		if a.kept.bytes() > mostKept/2 {
			return nil
		}
		key := evidenceKey{name, lastDays(now, adviceDays)}
		if a.kept.has(key) {
			continue
		}
		stamp, err := a.store.EvidenceStamp(ctx, name)
		if err != nil {
			return err
		}
		e, err := a.gather(ctx, name, key.period)
		if errors.Is(err, dmarc.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		e.Keep()
		a.kept.put(key, stamp, e)
	}
	return nil
}

func (k *keptEvidence) bytes() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.size
}

func (k *keptEvidence) has(key evidenceKey) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all[key] != nil
}

// keep makes room for what is kept as one, and reports whether there is enough. Evidence
// without mail is gathered at once, and would not count.
func (k *keptEvidence) keep(key evidenceKey, one *keptOne, e *advice.Evidence, until time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.makeRoom(k.size)
	k.drop(key) // this one, or what others have gathered meanwhile
	if e == nil || e.Size() == 0 || e.Size() > mostKept {
		return false
	}
	one.size, one.until = e.Size(), until
	k.size += one.size
	for k.size > mostKept {
		var oldest evidenceKey
		for other, o := range k.all {
			if other != key && o.size > 0 && (k.all[oldest] == nil || o.asked.Before(k.all[oldest].asked)) {
				oldest = other
			}
		}
		k.drop(oldest)
	}
	if k.all == nil {
		k.all = make(map[evidenceKey]*keptOne)
	}
	k.all[key] = one
	return true
}

// makeRoom makes room in memory for what is kept now instead of before. The lock is held.
func (k *keptEvidence) makeRoom(before int) {
	if k.size != before {
		makeRoom(k.size - before)
	}
}

// drop forgets what is kept under a key. The lock is held.
func (k *keptEvidence) drop(key evidenceKey) {
	if one := k.all[key]; one != nil {
		k.size -= one.size
		one.size, one.until = 0, time.Time{}
		delete(k.all, key)
	}
}

// forget drops what nobody has asked for of late.
func (k *keptEvidence) forget(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer k.makeRoom(k.size)
	for key, one := range k.all {
		if now.Sub(one.asked) >= keptFor && !now.Before(one.until) {
			k.drop(key)
		}
	}
}

// Evidence returns all that is known about a domain in a period; dmarc.ErrNotFound
// for a domain without reports. Nothing is looked up. Others may have the same:
// nobody may change it.
func (a *adviser) Evidence(ctx context.Context, domain string, period dmarc.Period) (*advice.Evidence, error) {
	stamp, err := a.store.EvidenceStamp(ctx, domain) // before what is gathered: it may be newer
	if err != nil {
		return nil, err
	}
	return a.kept.get(evidenceKey{domain, period}, stamp, func() (*advice.Evidence, error) { return a.gather(ctx, domain, period) })
}
