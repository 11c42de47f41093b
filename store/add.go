package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Add commits deliveries in one transaction: ledger, reports, rows, rollups,
// raw messages and the places in their mailboxes. Deliveries that the ledger
// knows change nothing. Fates are in the order of the deliveries. If a batch
// fails for what it holds, its deliveries are tried alone, and one that the
// database refuses is recorded as not stored; an error means that nothing of
// the rest was committed, and that the same batch may be given again.
func (s *Store) Add(ctx context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	if len(ds) == 0 {
		return nil, nil
	}
	done, err := s.write(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	fates, err := s.addAll(ctx, ds)
	if err == nil {
		s.noteChange()
	}
	return fates, err
}

// write waits until one more may write, and returns what to call at the end.
func (s *Store) write(ctx context.Context) (done func(), err error) {
	select {
	case s.writers <- struct{}{}:
		return func() { <-s.writers }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *Store) addAll(ctx context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	fates, err := s.addRetrying(ctx, ds)
	var refused *dmarc.Error
	switch {
	case err == nil:
		return fates, nil
	case !isData(err) && !errors.As(err, &refused):
		return nil, err
	case len(ds) > 1:
		s.log.Warn("a batch was refused; trying its messages one by one", "messages", len(ds), "error", err)
		fates = make([]dmarc.Fate, 0, len(ds))
		for i := range ds {
			f, err := s.addAll(ctx, ds[i:i+1])
			if err != nil {
				return nil, err
			}
			fates = append(fates, f...)
		}
		return fates, nil
	}
	d := ds[0]
	d.Outcome, d.Reason = dmarc.OutcomeNotStored, "the database refused it: "+err.Error()
	if refused != nil {
		d.Outcome, d.Reason = refused.Outcome, refused.Reason
	}
	d.Parts = nil
	return s.addRetrying(ctx, []dmarc.Delivery{d})
}

// tries is how often a transaction that lost against another one is tried.
const tries = 5

func (s *Store) addRetrying(ctx context.Context, ds []dmarc.Delivery) (fates []dmarc.Fate, err error) {
	err = s.retry(func() error {
		b := newBatch(s, ds)
		fates = b.fates
		return b.add(ctx)
	})
	if err != nil {
		return nil, err
	}
	return fates, nil
}

// retry does something again that lost a race.
func (s *Store) retry(do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || try == tries || !isRace(err) {
			return err
		}
		s.log.Debug("a transaction lost a race and is tried again", "error", err)
	}
}

// A batch is deliveries on their way into the database.
type batch struct {
	s     *Store
	ds    []dmarc.Delivery
	fates []dmarc.Fate

	mailboxes []int64            // of each delivery
	domains   map[string]int64   // numbers of policy domains
	again     bool               // the messages are known, and read again
	reporters map[inDomain]int64 // numbers of reporters, by key
	reports   []*aggregate       // in the order of the deliveries
	parts     [][]ledgerPart     // of each delivery, as written to the ledger
	horizons  horizons
	rollup    rollup
	months    map[tableMonth]bool // of which the partitions are there
	packing   sync.WaitGroup
	packed    [][]byte // messages that are compressed already
	changed   []change // reports that count otherwise than before
}

// An aggregate is an aggregate report on its way.
type aggregate struct {
	delivery, part int
	rep            *dmarc.AggregateReport
	domain         int64
	reporter       int64
	days           dmarc.Attribution
	is             identity // once it was asked for
	id             int64
	outcome        dmarc.Outcome
	reason         string
}

func newBatch(s *Store, ds []dmarc.Delivery) *batch {
	return &batch{
		s:         s,
		ds:        ds,
		fates:     make([]dmarc.Fate, len(ds)),
		mailboxes: make([]int64, len(ds)),
		domains:   make(map[string]int64),
		reporters: make(map[inDomain]int64),
		parts:     make([][]ledgerPart, len(ds)),
		months:    make(map[tableMonth]bool),
	}
}

func (b *batch) add(ctx context.Context) error {
	for i := range b.ds {
		id, err := b.s.mailboxID(ctx, b.ds[i].Mailbox)
		if err != nil {
			return err
		}
		b.mailboxes[i] = id
	}
	if err := b.skipKnown(ctx, b.s.db); err != nil {
		return err
	}
	b.beginPacking()
	defer b.packing.Wait()
	if err := b.number(ctx); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, b.s.db, func(tx pgx.Tx) (err error) {
		if b.horizons, err = readHorizons(ctx, tx); err != nil {
			return err
		}
		ids, err := b.messageIDs(ctx, tx)
		if err != nil {
			return err
		}
		for i := range b.ds {
			if !b.fates[i].Known {
				b.fates[i].MessageID = ids[i]
			}
		}
		if err := b.addReports(ctx, tx); err != nil {
			return err
		}
		if err := b.addOthers(ctx, tx); err != nil {
			return err
		}
		if err := b.rollup.write(ctx, tx); err != nil {
			return err
		}
		if err := b.addRaw(ctx, tx); err != nil {
			return err
		}
		if err := b.addLedger(ctx, tx); err != nil {
			return err
		}
		if err := b.movePlaces(ctx, tx); err != nil {
			return err
		}
		if err := b.tellStreams(ctx, tx); err != nil {
			return err
		}
		return b.fence(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("adding %d messages: %w", len(b.ds), err)
	}
	return nil
}

// number finds the numbers of domains and reporters, and decides for which
// days each report counts.
func (b *batch) number(ctx context.Context) error {
	about := make(map[inDomain]dmarc.Reporter)
	type wanted struct {
		domain   string
		reporter dmarc.Reporter
	}
	var all []wanted
	var failures []string // the domains of failure reports
	collect := func() {
		all, failures = nil, nil
		for i := range b.ds {
			if b.fates[i].Known {
				continue
			}
			for j := range b.ds[i].Parts {
				p := &b.ds[i].Parts[j]
				switch {
				case p.Aggregate != nil:
					all = append(all, wanted{p.Aggregate.Policy.Domain, p.Aggregate.Reporter})
				case p.TLS != nil:
					all = append(all, wanted{p.TLS.Domain, p.TLS.Reporter()})
				case p.Failure != nil:
					failures = append(failures, clean(p.Failure.ReportedDomain))
				}
			}
		}
	}
	collect()
	for _, domain := range failures {
		b.domains[domain] = 0
	}
	for _, w := range all {
		b.domains[clean(w.domain)] = 0
	}
	if err := b.s.domainIDs(ctx, b.domains); err != nil {
		return err
	}
	if err := b.adopt(ctx); err != nil {
		return err
	}
	collect() // reporters may have other names now
	for _, w := range all {
		k := reporterKey(b.domains[clean(w.domain)], w.reporter)
		b.reporters[k] = 0
		about[k] = w.reporter
	}
	return b.s.reporterIDs(ctx, b.reporters, about)
}

func reporterKey(domain int64, r dmarc.Reporter) inDomain {
	return inDomain{domain, clean(r.Key())}
}

// addOthers adds the TLS and failure reports of a batch. There are few, so
// they go one by one.
func (b *batch) addOthers(ctx context.Context, tx pgx.Tx) error {
	for i := range b.ds {
		if b.fates[i].Known {
			continue
		}
		for j := range b.ds[i].Parts {
			p := &b.ds[i].Parts[j]
			var line ledgerPart
			var err error
			switch {
			case p.TLS != nil:
				line, err = b.addTLS(ctx, tx, i, p)
			case p.Failure != nil:
				line, err = b.addFailure(ctx, tx, i, p)
			default:
				continue
			}
			if err != nil {
				return err
			}
			line.Path = clean(p.Path)
			b.parts[i][j] = line
		}
	}
	return nil
}

// flagged is the outcome of a report that was added.
func flagged(kind string, domain, id int64, flags dmarc.Flags) ledgerPart {
	p := ledgerPart{Kind: kind, Report: reportKey(domain, id), Outcome: dmarc.OutcomeOK}
	if flags != 0 {
		p.Outcome = dmarc.OutcomeOKWithFlags
		for i, name := range flags.Names() {
			if i > 0 {
				p.Reason += ", "
			}
			p.Reason += name
		}
	}
	return p
}

// movePlaces moves the places of mailboxes forward. The rows of mailboxes are
// locked in order.
func (b *batch) movePlaces(ctx context.Context, tx pgx.Tx) error {
	reached := make(map[int64]dmarc.Place)
	for i := range b.ds {
		if p := b.ds[i].Reached; p.UIDValidity != 0 {
			reached[b.mailboxes[i]] = p
		}
	}
	ids := make([]int64, 0, len(reached))
	for id := range reached {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		const sql = `
			UPDATE mailboxes
			SET uid = CASE WHEN uid_validity = @validity THEN greatest(uid, @uid) ELSE @uid END,
				uid_validity = @validity
			WHERE id = @id`
		_, err := tx.Exec(ctx, sql, pgx.NamedArgs{"id": id, "validity": int64(reached[id].UIDValidity), "uid": int64(reached[id].UID)})
		if err != nil {
			return fmt.Errorf("moving the place in a mailbox: %w", err)
		}
	}
	return nil
}
