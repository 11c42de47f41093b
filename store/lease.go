package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// usualLease is how long a lease holds without a sign of life. A sign is given
// every quarter of it, and others look as often: a process that dies is
// replaced within one and a quarter of it.
const usualLease = 20 * time.Second

func (s *Store) leaseTime() time.Duration {
	if s.LeaseTime > 0 {
		return s.LeaseTime
	}
	return usualLease
}

// holderName tells people which process holds a lease.
var holderName = func() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s, process %d, %s", clean(host), os.Getpid(), rand.Text()[:8])
}()

// Hold waits until a lease is free, and works under it. The context of the work
// ends when the lease is lost, and what is added under it afterwards is refused. The
// error is that of the work, or dmarc.ErrLeaseLost.
func (s *Store) Hold(ctx context.Context, name string, work func(ctx context.Context, l dmarc.Lease) error) error {
	name = clean(name)
	lease, until, err := s.awaitLease(ctx, name)
	if err != nil {
		return err
	}
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		s.renew(working, lease, until, stop)
	}()
	err = work(working, lease)
	lost := errors.Is(context.Cause(working), dmarc.ErrLeaseLost)
	stop(nil)
	<-beating
	if lost {
		return fmt.Errorf("%s: %w", name, dmarc.ErrLeaseLost)
	}
	// Others need not wait until it has run out.
	const release = `
		UPDATE leases
		SET expires_at = '-infinity'
		WHERE name = $1 AND epoch = $2`
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, e := s.db.Exec(last, release, lease.Name, lease.Epoch); e != nil {
		s.log.Warn("a lease could not be given back and has to run out", "lease", name, "error", e)
	}
	return err
}

// awaitLease returns the lease, and until when it holds by the clock of this
// process.
func (s *Store) awaitLease(ctx context.Context, name string) (dmarc.Lease, time.Time, error) {
	told := ""
	for {
		asked := time.Now()
		epoch, holder, err := s.tryLease(ctx, name)
		switch {
		case ctx.Err() != nil:
			return dmarc.Lease{}, time.Time{}, ctx.Err()
		case err != nil:
			s.log.Warn("a lease cannot be had now; it is tried again", "lease", name, "error", err)
		case epoch > 0:
			s.log.Debug("lease taken", "lease", name, "epoch", epoch)
			return dmarc.Lease{Name: name, Epoch: epoch}, asked.Add(s.leaseTime()), nil
		case holder != told:
			told = holder
			s.log.Info("another dmarcd does this; this one waits", "lease", name, "holder", holder)
		}
		pause := s.leaseTime() / 4
		timer := time.NewTimer(pause - mathrand.N(pause/4))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// tryLease takes a lease that is free or has run out, and returns its epoch, or
// 0 and who holds it.
func (s *Store) tryLease(ctx context.Context, name string) (epoch int64, holder string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.leaseTime()/2)
	defer cancel()
	const take = `
		INSERT INTO leases AS l (name, epoch, holder, expires_at)
		VALUES ($1, 1, $2, clock_timestamp() + $3::interval)
		ON CONFLICT (name) DO UPDATE
		SET epoch = l.epoch + 1, holder = excluded.holder, expires_at = clock_timestamp() + $3::interval
		WHERE l.expires_at < clock_timestamp()
		RETURNING epoch`
	err = s.db.QueryRow(ctx, take, name, holderName, s.leaseTime()).Scan(&epoch)
	if !errors.Is(err, pgx.ErrNoRows) {
		return epoch, "", err
	}
	err = s.db.QueryRow(ctx, "SELECT holder FROM leases WHERE name = $1", name).Scan(&holder)
	return 0, holder, err
}

// renew gives signs of life until ctx ends. If none gets through, it stops the
// work before others may begin it.
func (s *Store) renew(ctx context.Context, l dmarc.Lease, until time.Time, stop context.CancelCauseFunc) {
	tick := time.NewTicker(s.leaseTime() / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		const sql = `
			UPDATE leases
			SET expires_at = clock_timestamp() + $3::interval
			WHERE name = $1 AND epoch = $2`
		asking, cancel := context.WithDeadline(ctx, until)
		tag, err := s.db.Exec(asking, sql, l.Name, l.Epoch, s.leaseTime())
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && tag.RowsAffected() == 1:
			until = asked.Add(s.leaseTime())
		case err == nil, !time.Now().Before(until):
			stop(dmarc.ErrLeaseLost)
			return
		default:
			s.log.Warn("no sign of life could be given for a lease", "lease", l.Name, "error", err)
		}
	}
}

// FreeLeases lets go of all leases. It is for a database of which is known that
// no other process uses it.
func (s *Store) FreeLeases(ctx context.Context) error {
	if _, err := s.db.Exec(ctx, "UPDATE leases SET expires_at = '-infinity'"); err != nil {
		return fmt.Errorf("freeing leases: %w", err)
	}
	return nil
}

// fence makes the transaction fail unless its leases are still held: it is the
// last thing before the commit. The lock keeps others from taking over in
// between.
func (b *batch) fence(ctx context.Context, tx pgx.Tx) error {
	var leases []dmarc.Lease
	for i := range b.ds {
		if l := b.ds[i].Lease; l.Name != "" && !slices.Contains(leases, l) {
			leases = append(leases, l)
		}
	}
	slices.SortFunc(leases, func(a, b dmarc.Lease) int { return strings.Compare(a.Name, b.Name) })
	for _, l := range leases {
		if err := holds(ctx, tx, l); err != nil {
			return err
		}
	}
	return nil
}

// holds makes a transaction fail unless a lease is still held; the empty one always is.
func holds(ctx context.Context, tx pgx.Tx, lease dmarc.Lease) error {
	if lease.Name == "" {
		return nil
	}
	var epoch int64
	err := tx.QueryRow(ctx, "SELECT epoch FROM leases WHERE name = $1 FOR SHARE", clean(lease.Name)).Scan(&epoch)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && epoch != lease.Epoch {
		return fmt.Errorf("%s: %w", lease.Name, dmarc.ErrLeaseLost)
	}
	if err != nil {
		return fmt.Errorf("checking a lease: %w", err)
	}
	return nil
}
