package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/dmarcd/dmarcd/ingest"
)

// How often what is unchanged is kept, and how often it is looked what waits.
const (
	healthInterval  = time.Minute
	backlogInterval = 10 * time.Second
	noteTime        = 5 * time.Second // that keeping it may take
)

// notes tell what is worth to be kept of what happens again and again: that it fails
// or goes well again, and that it still happens.
type notes struct {
	mu   sync.Mutex
	last map[string]noted
}

type noted struct {
	failed   bool
	at       time.Time
	failures int64 // that were not kept
}

// worth reports whether a try is to be kept, and with how many failures.
func (n *notes) worth(name string, failed bool, now time.Time) (failures int64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, known := n.last[name]
	if failures = before.failures; failed {
		failures++
	}
	if known && before.failed == failed && now.Sub(before.at) < healthInterval {
		before.failures = failures
		n.last[name] = before
		return 0, false
	}
	n.last[name] = noted{failed: failed, at: now}
	return failures, true
}

// lost takes back that something was kept.
func (n *notes) lost(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.last, name)
}

// notePasses keeps how each pass goes, for people who look at it.
func (s *service) notePasses() {
	n := notes{last: map[string]noted{}}
	s.metrics.onPass = func(pass string, took time.Duration, err error) {
		if strings.HasPrefix(pass, "mailbox ") {
			return // see noteMailboxes
		}
		now := time.Now().UTC()
		failures, ok := n.worth(pass, err != nil, now)
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), noteTime)
		defer cancel()
		if e := s.store.PassTried(ctx, pass, now, took, err, failures); e != nil {
			s.log.Warn("it could not be kept how a pass went", "pass", pass, "error", e)
			n.lost(pass)
		}
	}
}

// noteMailboxes keeps how reading each mailbox goes, for those who look at it and
// those who are told when one cannot be read.
func (s *service) noteMailboxes(in *ingest.Ingester, boxes []ingest.Mailbox, configured []*mailbox) {
	n := notes{last: map[string]noted{}}
	fixes := make(map[string]func(error) string)
	for _, m := range configured {
		for _, box := range boxes {
			if b, ok := box.(*ingest.IMAP); ok && b.Name() == m.Name {
				fixes[m.Name] = func(err error) string { return m.fixOf(b.Reached(), err) }
			}
		}
	}
	hear := in.OnPass
	in.OnPass = func(mailbox string, took time.Duration, err error) {
		if hear != nil {
			hear(mailbox, took, err)
		}
		now := time.Now().UTC()
		if _, ok := n.worth(mailbox, err != nil, now); !ok {
			return
		}
		fix := ""
		if f := fixes[mailbox]; f != nil && err != nil {
			fix = f(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), noteTime)
		defer cancel()
		if e := s.store.MailboxTried(ctx, mailbox, now, took, err, fix); e != nil {
			s.log.Warn("it could not be kept how the mailbox is", "mailbox", mailbox, "error", e)
			n.lost(mailbox)
		}
	}
}

// fixOf says what to do about an error of reading the mailbox, "" if nothing is known
// to help. Once the folder is open, ports and passwords are not to blame.
func (m *mailbox) fixOf(step ingest.Step, err error) (fix string) {
	var refused *imap.Error
	if stepIndex(step) < stepIndex(ingest.StepFolder) || errors.As(err, &refused) {
		_, fix = m.trouble(context.Background(), step, err)
	} else {
		_, fix = networkTrouble(err, m.Address())
	}
	return fix
}

// noteBacklogs keeps what waits in each mailbox that this process reads, until ctx
// ends.
func (s *service) noteBacklogs(ctx context.Context, boxes []ingest.Mailbox) {
	last := make(map[string]int)
	for sleep(ctx, backlogInterval) {
		for _, box := range boxes {
			b, ok := box.(interface{ Backlog() (int, time.Time) })
			if !ok {
				continue
			}
			waiting, oldest := b.Backlog()
			if before, known := last[box.Name()]; known && before == waiting || !known && waiting == 0 {
				continue
			}
			if waiting == 0 {
				oldest = time.Time{}
			}
			if err := s.store.MailboxBacklog(ctx, box.Name(), waiting, oldest, time.Now().UTC()); err != nil {
				if ctx.Err() == nil {
					s.log.Warn("it could not be kept what waits in a mailbox", "mailbox", box.Name(), "error", err)
				}
				continue
			}
			last[box.Name()] = waiting
		}
	}
}
