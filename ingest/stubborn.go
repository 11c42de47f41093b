package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A stubborn message is one at which the connection breaks, or falls silent.
// There are servers that announce a message to be larger than it is, and others
// that fall over it: it must not hold up those behind it for ever.
type stubborn struct {
	breaks int
	since  time.Time
	again  time.Time // when it is asked for next
}

// What a stubborn message is granted.
const (
	breaksInOrder = 3 // then the others are read first
	firstRest     = time.Minute
	lastRest      = time.Hour
	stubbornTime  = 24 * time.Hour // then it is given up
)

// blame notes that the connection broke when a message was due.
func (m *IMAP) blame(uid imap.UID) {
	if uid == 0 {
		return // all had come
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stubborn[uid]
	if s == nil {
		s = &stubborn{since: m.now()}
		m.stubborn[uid] = s
	}
	if s.breaks++; s.breaks >= breaksInOrder {
		s.again = m.now().Add(min(firstRest<<min(s.breaks-breaksInOrder, 10), lastRest))
		m.opts.Log.Warn("the connection broke again and again in the middle of a message; the others are read first", "mailbox", m.opts.Name, "uid", uid, "times", s.breaks, "again", s.again)
	}
}

// postpone takes out of what was found what is to be read after all others, and
// what was committed before them.
func (m *IMAP) postpone(found []imap.UID) (now, later []imap.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	there := make(map[imap.UID]bool, len(m.stubborn)+len(m.ahead))
	for _, uid := range found {
		s := m.stubborn[uid]
		switch {
		case m.ahead[uid]:
			there[uid] = true
		case s == nil:
			now = append(now, uid)
		case s.breaks < breaksInOrder:
			there[uid] = true
			now = append(now, uid)
		default:
			there[uid] = true
			later = append(later, uid)
		}
	}
	for uid := range m.stubborn {
		if !there[uid] {
			delete(m.stubborn, uid)
		}
	}
	for uid := range m.ahead {
		if !there[uid] {
			delete(m.ahead, uid)
		}
	}
	return now, later
}

// noteAhead remembers messages that are committed though one before them is
// not, so that they are not fetched at every look. mu is held.
func (m *IMAP) noteAhead(done []Settled) {
	if len(m.stubborn) == 0 {
		return
	}
	for _, d := range done {
		if uid := imap.UID(d.Place.UID); d.Place.UIDValidity == m.validity {
			m.ahead[uid] = true
		}
	}
}

// forget begins anew with a folder that gives its numbers to other messages.
func (m *IMAP) forget(validity uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.validity = validity
	m.stubborn, m.ahead, m.settled = map[imap.UID]*stubborn{}, map[imap.UID]bool{}, nil
}

// last reads the messages that were postponed, each for itself, or gives them
// up. The others of those that were found have been handed over.
func (m *IMAP) last(ctx context.Context, later, found []imap.UID, handle func(context.Context, Message) error) error {
	waits, left := false, len(later)
	for i, uid := range later {
		m.mu.Lock()
		s := *m.stubborn[uid]
		m.mu.Unlock()
		t := &tracker{validity: m.validity, uids: []imap.UID{uid}, done: map[imap.UID]bool{uid: false}}
		if !waits {
			t.beyond = found[len(found)-1]
			if i+1 < len(later) {
				at, _ := slices.BinarySearch(found, later[i+1])
				t.beyond = found[at-1]
			}
		} else {
			t.limit = later[0]
		}
		switch now := m.now(); {
		case now.Before(s.again):
			waits = true
			continue
		case now.Sub(s.since) >= stubbornTime:
			reason := fmt.Sprintf("the connection to the mail server broke %d times in the middle of it, for %v; it is still in the mailbox", s.breaks, now.Sub(s.since).Round(time.Minute))
			if err := handle(ctx, m.message(uid, t, Message{Err: &dmarc.Error{Outcome: dmarc.OutcomeUnreadable, Reason: reason}})); err != nil {
				return err
			}
		default:
			if err := m.fetch(ctx, []imap.UID{uid}, t, handle); err != nil {
				return err
			}
		}
		left--
		m.setBacklog(left)
	}
	return nil
}

// due is the message that a stream broke at: the one whose text was coming, or
// the first that had not come.
func (t *tracker) due(uid imap.UID, asked []imap.UID) imap.UID {
	if done, wanted := t.done[uid]; wanted && !done {
		return uid
	}
	for _, u := range asked {
		if !t.done[u] {
			return u
		}
	}
	return 0
}

// broke tells whether an error is that of a connection.
func broke(ctx context.Context, err error) bool {
	var refused *imap.Error
	return err != nil && ctx.Err() == nil && !errors.As(err, &refused) && !errors.Is(err, errNoRoom)
}
