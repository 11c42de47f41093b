package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/acme"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/sources"
	"github.com/dmarcd/dmarcd/store"
	"github.com/dmarcd/dmarcd/stream"
	"github.com/dmarcd/dmarcd/transport"
	"github.com/dmarcd/dmarcd/web"
)

// A service is what the commands that store reports have in common: a database
// that is up to date, a store on it, and an ingester that fills it.
type service struct {
	log          *slog.Logger
	private      *postgres.Server // nil with a database of one's own
	db           *pgxpool.Pool
	store        *store.Store
	ingester     *ingest.Ingester
	verifier     *transport.Verifier // of the mails that carry reports; nil for none
	adviser      *adviser
	overrules    *overruler
	arranged     *arranger
	identifier   *sources.Identifier // of the addresses that send; nil for none
	gate         *access.Gate        // tells who makes a request
	keeper       *access.Keeper
	setup        *setup
	live         *web.Live          // tells pages of what is new
	edge         *access.Edge       // where requests come in
	tls          *tls.Config        // nil for plain HTTP
	certificates *acme.Certificates // by ACME; nil for none
	watcher      *records.Watcher   // of what the domains publish; nil for none
	metrics      *meters            // of every stage
	teller       *teller            // of what people want to be told; nil for none
	domainMeters *domainMeters      // of volume and pass rate; nil for none
	streams      []*stream.Streamer

	retention store.Retention
	replica   *store.Replica // nil if there is none
	copy      *pgxpool.Pool  // of the replica
	doors     []*door        // that others bring reports by

	tlsReports map[string]http.Handler // takes them at the address of the API, by path
}

// stopTime is how long the private server may take to stop. With drainTime, and
// the time in which ingest commits what is in hand, it stays below ten seconds.
const stopTime = 3 * time.Second

// openDatabase connects to the configured database, or starts the private one.
// With share, a private one that another dmarcd runs already will do.
func openDatabase(ctx context.Context, cfg *config, log *slog.Logger, private postgres.Options, share bool) (*service, error) {
	s := &service{log: log}
	url := cfg.DatabaseURL.reveal()
	if url == "" {
		private.DataDir, private.Log = cfg.DataDir, log
		server, err := postgres.Start(ctx, private)
		var inUse *postgres.InUseError
		switch {
		case errors.As(err, &inUse) && inUse.URL != "" && share:
			log.Info("using the private PostgreSQL of the dmarcd that runs already", "pid", inUse.PID)
			url = inUse.URL
		case err != nil:
			return nil, fmt.Errorf("private PostgreSQL in %s: %w", filepath.Join(cfg.DataDir, "postgres"), err)
		default:
			s.private, url = server, server.URL()
		}
	}
	db, err := store.Open(ctx, url, cfg.ready)
	if err != nil {
		s.close()
		return nil, err
	}
	s.db = db
	return s, nil
}

// openService opens the database, brings its schema up to date, and prepares
// taking in reports.
func openService(ctx context.Context, cfg *config, log *slog.Logger, private postgres.Options, share bool) (*service, error) {
	s, err := openDatabase(ctx, cfg, log, private, share)
	if err != nil {
		return nil, err
	}
	steps, err := migrations.Apply(ctx, s.db)
	if err != nil {
		s.close()
		return nil, err
	}
	for _, step := range steps {
		log.Info("migration applied", "number", step.Number, "name", step.Name)
	}
	s.store = store.New(s.db, log)
	s.store.RefuseLate = cfg.Late == "refuse"
	s.setup, s.live = newSetup(cfg, s.store), web.NewLive(s.store.Newest, log)
	s.retention = cfg.Retention
	s.openAccess(cfg)
	if url := cfg.ReadURL.reveal(); url != "" {
		if s.copy, err = store.Open(ctx, url, cfg.ready); err != nil {
			return nil, errors.Join(fmt.Errorf("replica: %w", err), s.close())
		}
		s.replica = store.NewReplica(s.store, s.copy, cfg.ReadLag)
	}
	s.ingester = &ingest.Ingester{
		Store: s.store, Log: log, Limits: cfg.Limits, Workers: cfg.Ingest.Workers, BatchRows: cfg.Ingest.BatchRows,
		KeepFailures: cfg.Failure.Store, FailureSubjects: cfg.Failure.Subjects, RequireAuthentic: cfg.Transport.Require,
	}
	if cfg.Transport.Check || cfg.Transport.Require {
		rereader := &ingest.Rereader{Ingester: s.ingester, Archive: s.store}
		s.verifier = &transport.Verifier{Store: s.store, Resolver: net.DefaultResolver, Trusted: cfg.Transport.Trusted, Release: rereader.Release, Log: log}
	}
	senders, err := sources.Load(cfg.Sources.Catalogue...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sources.catalogue: %w", err), s.close())
	}
	s.overrules = &overruler{s.store, cfg.overrules()}
	s.arranged = &arranger{s.store, cfg.Retention}
	s.adviser = &adviser{store: s.store, senders: senders, overrules: s.overrules, log: log}
	if len(cfg.ReportAddresses) > 0 {
		s.adviser.rua = cfg.ReportAddresses[0]
	}
	s.metrics = newMeters(s.ingester, s.db)
	if s.replica != nil {
		s.metrics.watchReplica(s.replica, s.copy)
	}
	if len(cfg.Domains) > 0 {
		s.ingester.Accepts = func(domain string) bool { return slices.Contains(cfg.Domains, domain) }
	}
	return s, nil
}

// close lets go of the database, and stops a private one.
func (s *service) close() error {
	if s.copy != nil {
		s.copy.Close()
	}
	if s.db != nil {
		s.db.Close()
	}
	if s.private == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err := s.private.Stop(ctx)
	if errors.Is(err, postgres.ErrHaste) {
		s.log.Warn("the private PostgreSQL had no time to write its buffers; nothing is lost, but its next start takes longer", "error", err)
		return nil
	}
	return err
}

// alone does something as the only one of all processes on the database,
// until ctx ends.
func (s *service) alone(ctx context.Context, what string, do func(context.Context, dmarc.Lease)) {
	leases := &meteredLeases{s.store, s.metrics}
	for ctx.Err() == nil {
		err := leases.Hold(ctx, what, func(ctx context.Context, l dmarc.Lease) error {
			do(ctx, l)
			return nil
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("this process does not do it any more", "what", what, "error", err)
		}
	}
}

// summarise follows the store with the passes that are kept off the write
// path, until ctx ends. Under load it leaves the database most of its time.
func (s *service) summarise(ctx context.Context, _ dmarc.Lease) {
	const (
		settle = 500 * time.Millisecond // for more of the same batch
		idle   = 20 * time.Second       // for what other processes committed
		share  = 4                      // of the time is left to others
	)
	for ctx.Err() == nil {
		began := time.Now()
		if err := s.metrics.metered(ctx, "sources", s.store.SummariseSources); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Error("a pass failed; it will be tried again", "pass", "sources", "error", err)
		}
		if err := s.metrics.metered(ctx, "facts", s.store.SummariseFacts); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Error("a pass failed; it will be tried again", "pass", "facts", "error", err)
		}
		if !sleep(ctx, max(settle, share*time.Since(began))) {
			return
		}
		select {
		case <-s.store.Changed():
		case <-time.After(idle):
		case <-ctx.Done():
		}
	}
}

// every makes passes, as the only one of all processes on the database, until
// ctx ends: one at once, and then one in each interval. A pass that fails is
// tried again with the next.
func (s *service) every(ctx context.Context, interval time.Duration, what string, pass func(context.Context) error) {
	s.underLease(ctx, interval, what, func(ctx context.Context, _ dmarc.Lease) error { return pass(ctx) })
}

// underLease is every for passes that prove with the lease that what they keep
// is still theirs to keep.
func (s *service) underLease(ctx context.Context, interval time.Duration, what string, pass func(context.Context, dmarc.Lease) error) {
	s.alone(ctx, "pass "+what, func(ctx context.Context, l dmarc.Lease) {
		s.passes(ctx, interval, what, func(ctx context.Context) error { return pass(ctx, l) })
	})
}

// passes makes passes until ctx ends.
func (s *service) passes(ctx context.Context, interval time.Duration, what string, pass func(context.Context) error) {
	for {
		if err := s.metrics.metered(ctx, what, pass); err != nil && ctx.Err() == nil {
			s.log.Error("a pass failed; it will be tried again", "pass", what, "error", err)
		}
		if !sleep(ctx, interval) {
			return
		}
	}
}

// expire makes the partitions of the months to come and removes what is not to
// be kept any longer.
func (s *service) expire(ctx context.Context) error {
	now := time.Now()
	if err := s.store.Prepare(ctx, now); err != nil {
		return err
	}
	return s.store.Expire(ctx, s.retention, now)
}

// followReplica looks at the replica every second, until ctx ends.
func (s *service) followReplica(ctx context.Context) {
	for {
		looking, cancel := context.WithTimeout(ctx, 5*time.Second)
		s.replica.Check(looking)
		cancel()
		if !sleep(ctx, time.Second) {
			return
		}
	}
}

// sleep waits, and reports false if ctx ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
