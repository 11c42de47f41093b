package records

import (
	"sync"
	"time"
)

const (
	maxTTL    = time.Hour        // that an answer is remembered
	failedTTL = 30 * time.Second // that a failure is (RFC 2308, section 7)
)

// An answerCache remembers answers for their TTL. It keeps two generations:
// when the younger one is full, the older one is forgotten.
type answerCache struct {
	mu         sync.Mutex
	limit      int // octets of a generation
	size       int // of the younger one
	young, old map[question]remembered
}

type remembered struct {
	answer Answer
	until  time.Time
}

func newAnswerCache(octets int) *answerCache {
	return &answerCache{limit: octets / 2, young: map[question]remembered{}}
}

// cost is about what an answer takes in memory.
func cost(q question, a *Answer) int {
	n := 600 + len(q.name) + 4*a.Size + len(a.Err) + len(a.EDE)
	for _, name := range a.Chain {
		n += len(name) + 16
	}
	return n + 250*len(a.Referral)
}

func (c *answerCache) get(q question, now time.Time) (Answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.young[q]
	if !ok {
		if r, ok = c.old[q]; ok && now.Before(r.until) {
			delete(c.old, q)
			c.put(q, r)
		}
	}
	if !ok || !now.Before(r.until) {
		return Answer{}, false
	}
	return r.answer, true
}

func (c *answerCache) add(q question, a Answer, now time.Time) {
	ttl := min(a.TTL, maxTTL)
	if a.State == Failed {
		ttl = failedTTL
	}
	if ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(q, remembered{a, now.Add(ttl)})
}

func (c *answerCache) put(q question, r remembered) {
	n := cost(q, &r.answer)
	if c.size+n > c.limit {
		if n > c.limit {
			return
		}
		c.old, c.young, c.size = c.young, map[question]remembered{}, 0
	}
	c.size += n
	c.young[q] = r
}
