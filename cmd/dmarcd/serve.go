package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/api"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/store"
	"github.com/dmarcd/dmarcd/web"
)

const serveUsage = `Polls the configured mailboxes, stores the reports in them, and serves dashboard and API until it is told to stop
(SIGTERM, SIGINT or SIGHUP): then it finishes what is in hand. The configuration is read when it starts, so that a change of it
takes a restart; certificates that were renewed are read by themselves. Without DMARCD_DATABASE_URL it runs a private
PostgreSQL in the data directory.`

// readyConns are kept open by what serves people: as many as a page uses. To open one and to ask
// the first question on it takes longer than most answers.
const readyConns = 6

// drainTime is how long requests in hand may take once the service stops.
const drainTime = 4 * time.Second

func runServe(ctx context.Context, env *environ, args []string) error {
	env.listens = true
	fs := env.flags("serve", "", serveUsage)
	fs.Bool("insecure", false, "listen where others can reach it although nobody is asked who they are")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	cfg.ready = readyConns
	answerSooner()
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening on %s: %w; set listen (DMARCD_LISTEN) to another address", cfg.Listen, err)
	}
	defer listener.Close()
	s, err := awaitService(ctx, cfg, log)
	if ctx.Err() != nil && s == nil {
		return nil // it was told to stop
	}
	if err != nil {
		return err
	}
	for _, open := range []func(*service) (*door, error){cfg.openSMTP, cfg.openTLSRPT} {
		d, err := open(s)
		if err != nil {
			return errors.Join(err, s.close())
		}
		if d != nil {
			defer d.listener.Close()
			s.doors = append(s.doors, d)
		}
	}
	var boxes []ingest.Mailbox
	for _, m := range cfg.Mailboxes {
		box, err := m.open(cfg, log)
		if err != nil {
			return errors.Join(err, s.close())
		}
		boxes = append(boxes, box)
	}
	if folder := cfg.openDirectory(log); folder != nil {
		boxes = append(boxes, folder)
	}
	if cfg.Records.Watch {
		if s.watcher, err = s.newWatcher(cfg, nil); err != nil {
			log.Warn("what the domains publish is not looked at; name a resolver (DMARCD_RESOLVER)", "error", err)
		}
	}
	if cfg.Sources.Lookup {
		if s.identifier, err = s.newIdentifier(cfg); err != nil {
			log.Warn("whose sending addresses are is not looked up; name a resolver (DMARCD_RESOLVER)", "error", err)
		}
	}
	if !cfg.authenticates() && (len(cfg.HTTP.Proxies) > 0 || cfg.HTTP.Prefix != "" || cfg.HTTP.URL != "") {
		log.Warn("there is a proxy in front, and dmarcd asks nobody who they are: whoever the proxy lets through may see and change everything; access.tokens = true asks everybody")
	}
	s.domainMeters = s.metrics.watchDomains(cfg.MetricsDomains)
	if s.teller, err = s.newTeller(cfg); err != nil {
		return errors.Join(err, s.close())
	}
	if s.streams, err = s.newStreams(cfg, env.stdout); err != nil {
		return errors.Join(err, s.close())
	}
	s.noteMailboxes(s.ingester, boxes, cfg.Mailboxes)
	s.notePasses()
	if len(boxes) == 0 && len(s.doors) == 0 {
		log.Warn("no mailbox is configured: set DMARCD_IMAP_URL, or add [[mailbox]] to the configuration; reports can be uploaded meanwhile")
	}
	challenges, err := s.openACME(cfg)
	if err != nil {
		return errors.Join(err, s.close())
	}
	if challenges != nil {
		defer challenges.listener.Close()
		s.doors = append(s.doors, challenges)
	}
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	log.Info("serving", "address", scheme+listener.Addr().String()+s.edge.Base+"/", "mailboxes", len(boxes), "version", version)
	return errors.Join(s.serve(ctx, listener, boxes), s.close())
}

// begin does what asks the database before anything is served.
func (s *service) begin(ctx context.Context, cfg *config) error {
	if err := s.store.Arrange(ctx, cfg.arrangements()); err != nil {
		return err
	}
	if s.private != nil {
		// Nobody else polls with this database: a lease is of one that died.
		if err := s.store.FreeLeases(ctx); err != nil {
			return err
		}
	}
	if cfg.authenticates() {
		return s.adviseTokens(ctx)
	}
	return nil
}

// serve runs everything until ctx ends or something fails that cannot be
// helped. What is in hand is finished.
func (s *service) serve(ctx context.Context, listener net.Listener, boxes []ingest.Mailbox) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	s.ingester.Leases = &meteredLeases{s.store, s.metrics}
	s.metrics.watchMailboxes(boxes)
	for _, box := range boxes {
		wg.Go(func() {
			if err := s.ingester.Run(ctx, box); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("mailbox %s: %w", box.Name(), err))
			}
		})
	}
	wg.Go(func() { s.noteBacklogs(ctx, boxes) })
	wg.Go(func() { s.watchSchema(ctx, cancel) })
	wg.Go(func() { s.live.Run(ctx) })
	wg.Go(func() { s.alone(ctx, "pass sources", s.summarise) })
	wg.Go(func() { s.every(ctx, time.Hour, "retention", s.expire) })
	if s.verifier != nil {
		wg.Go(func() { s.every(ctx, 10*time.Second, "transport", s.verifier.Pass) })
	}
	if s.watcher != nil {
		wg.Go(func() { s.every(ctx, 30*time.Second, "records", s.watcher.Pass) })
	}
	if s.domainMeters != nil {
		wg.Go(func() { s.meterDomains(ctx, s.domainMeters) })
	}
	if s.teller != nil {
		wg.Go(func() { s.tell(ctx, s.teller) })
	}
	for _, st := range s.streams {
		wg.Go(func() { s.stream(ctx, st) })
	}
	if s.identifier != nil {
		wg.Go(func() { s.every(ctx, time.Minute, "identities", s.identifier.Pass) })
	}
	wg.Go(func() { s.every(ctx, 10*time.Second, "verdicts", s.adviser.pass) })
	if s.replica != nil {
		wg.Go(func() { s.followReplica(ctx) })
	}
	if s.private != nil {
		wg.Go(func() {
			select {
			case <-s.private.Done():
				cancel(fmt.Errorf("private PostgreSQL: %w", s.private.Err()))
			case <-ctx.Done():
			}
		})
	}

	server := &http.Server{
		Handler:           s.handler(),
		TLSConfig:         s.tls,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	wg.Go(func() {
		serve := server.Serve
		if s.tls != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("HTTP server: %w", err))
		}
	})
	if s.certificates != nil {
		wg.Go(func() {
			if err := s.certificates.Keep(ctx); err != nil {
				cancel(err)
			}
		})
	}
	for _, d := range s.doors {
		s.log.Info("receiving", "by", d.name, "address", d.listener.Addr().String())
		wg.Go(func() {
			if err := d.Serve(d.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("receiving by %s: %w", d.name, err))
			}
		})
	}
	<-ctx.Done()
	s.log.Info("stopping")
	drain, stop := context.WithTimeout(context.Background(), drainTime)
	defer stop()
	for _, d := range s.doors {
		wg.Go(func() { d.Shutdown(drain) })
	}
	if err := server.Shutdown(drain); err != nil {
		server.Close()
	}
	wg.Wait()
	for _, box := range boxes {
		box.Close()
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// handler serves API and dashboard.
func (s *service) handler() http.Handler {
	r := chi.NewRouter()
	var reads access.Store = s.store
	opts := api.Options{Log: s.log, Version: version, Metrics: s.metrics.registry}
	if s.replica != nil {
		reads, opts.Ready = s.replica, func() string { return replicaLine(s.replica.State()) }
	}
	guard := &access.Guard{
		Store: reads, Intake: &ingest.Rereader{Ingester: s.ingester, Archive: s.store, Fetch: s.setup.fetch},
		Keeper: s.keeper, Adviser: s.adviser, Said: s.overrules, Arranged: s.arranged, Setup: s.setup,
	}
	opts.Advise, opts.Evidence, opts.Keeper, opts.Overrules = guard.Advise, guard.Evidence, s.keeper, guard
	opts.Arrangements = guard
	included := func(domain string) string {
		if known := s.adviser.senders.ByInclude(domain); known != nil {
			return known.Name
		}
		return ""
	}
	pages := web.New(guard, web.Options{Log: s.log, Version: version, Adviser: guard, Overrules: guard, Arranged: guard, Texts: guard, Intake: guard, Keeper: s.keeper, Live: s.live, Included: included, Gate: s.gate, Base: s.edge.Base})
	r.Mount("/", s.gate.Let(pages))
	r.Handle("/login", s.gate.Login(pages))
	r.Handle("/static/*", pages)
	if _, address := s.gate.Provider(); address != "" {
		r.Get(access.ProviderPath, s.gate.BeginLogin)
		r.Get(access.CallbackPath, s.gate.FinishLogin)
	}
	h := api.New(guard, guard, opts)
	r.Handle("/api", s.gate.Let(h))
	r.Handle("/api/*", s.gate.Let(h))
	r.Handle("/healthz", h)
	r.Handle("/readyz", h)
	r.Handle("/metrics", s.gate.Metrics(h))
	for path, h := range s.tlsReports {
		r.Handle(path, h)
	}
	return s.edge.Wrap(r)
}

// replicaLine says how the replica is, for /readyz.
func replicaLine(state store.ReplicaState) string {
	if state.Used {
		return fmt.Sprintf("replica: used, %.1f s behind\n", state.Lag.Seconds())
	}
	return fmt.Sprintf("replica: not used, the database itself is read; %.1f s behind\n", state.Lag.Seconds())
}
