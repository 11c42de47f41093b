package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/sample"
)

const demoUsage = `Shows everything with nothing configured: a private PostgreSQL, an IMAP server with a mailbox of three months of generated
reports, the poller that reads it, dashboard and API. It runs until it is told to stop (Ctrl-C), and everything is gone
then, unless a data directory is named.`

// freshInterval is how often a new report arrives while the demo runs.
const freshInterval = 20 * time.Second

func runDemo(ctx context.Context, env *environ, args []string) (err error) {
	fs := env.flags("demo", "", demoUsage)
	listen := fs.String("listen", "127.0.0.1:8080", "`HOST:PORT` of dashboard and API; port 0 picks a free one")
	dir := fs.String("data-dir", "", "`DIRECTORY` for the database (default: a temporary one, removed at the end)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	cfg := defaultConfig(env)
	cfg.LogLevel = "warn"
	log := newLogger(env.stderr, cfg)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listening on %s: %w; name another address with --listen", *listen, err)
	}
	defer listener.Close()
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return usageError(fmt.Sprintf("--listen %s: the demo has no login and listens on loopback only, such as 127.0.0.1:8080", *listen))
	}
	cfg.DataDir, cfg.Failure.Store, cfg.ready = *dir, true, readyConns
	answerSooner()
	if *dir == "" {
		if cfg.DataDir, err = os.MkdirTemp("", "dmarcd-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(cfg.DataDir)
	} else if cfg.DataDir, err = filepath.Abs(*dir); err != nil {
		return err
	}

	began := time.Now()
	env.say("Starting a private PostgreSQL …")
	s, err := openService(ctx, cfg, log, postgres.Options{Ephemeral: *dir == ""}, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	// Nothing is asked beyond this machine: the domains of the demo are
	// published by a name server of its own.
	mails := sample.Options{Seed: 1, Now: began}
	if cfg.Resolver, err = sample.ServeDNS(ctx, mails); err != nil {
		return err
	}
	s.verifier.Resolver = resolverAt(cfg.Resolver)
	if s.watcher, err = s.newWatcher(cfg, sample.PoliciesOf(mails)); err != nil {
		return err
	}
	if s.identifier, err = s.newIdentifier(cfg); err != nil {
		return err
	}
	s.identifier.Rate = 1_000_000 // a second: the name server is of this process, and somebody waits
	env.say("Filling a mailbox with three months of reports …")
	var truth sample.Truth
	mailListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	password := rand.Text()
	server, err := sample.Serve(ctx, mailListener, "demo", password, sample.Mailbox(mails, &truth))
	if err != nil {
		mailListener.Close()
		return err
	}
	defer server.Close()
	makeRoom(server.Size())

	env.say("Reading it over IMAP …")
	box := ingest.NewIMAP(ingest.IMAPOptions{
		Name: "demo mailbox", Address: server.Addr().String(), Security: ingest.SecurityPlain, User: "demo", Password: password,
		Folder: "INBOX", Poll: time.Minute, Idle: true, Limit: cfg.Limits.Message, Log: log,
	})
	shown := env.startProgress("messages", truth.Mails.Total())
	count := s.ingester.OnFate
	s.ingester.Log = newLogger(discard{}, cfg) // broken messages are part of the show
	s.ingester.OnFate = func(d *dmarc.Delivery, f dmarc.Fate) {
		count(d, f)
		shown.add(1)
	}
	sum, err := s.ingester.Pass(ctx, box)
	s.ingester.Log, s.ingester.OnFate = log, count
	if err == nil {
		err = s.store.SummariseSources(ctx)
	}
	if err == nil {
		err = s.store.SummariseFacts(ctx)
	}
	if err == nil {
		err = s.watcher.Pass(ctx)
	}
	// The first verdicts tell which addresses there are, the second ones know
	// whose they are.
	for _, pass := range []func(context.Context) error{s.adviser.pass, s.identifier.Pass, s.adviser.pass} {
		if err == nil {
			err = pass(ctx)
		}
	}
	shown.stop()
	if err != nil {
		return err
	}
	env.say("%s messages read in %.1f s: %s reports with %s rows; %s duplicates; %s could not be read, and the dashboard says why.",
		grouped(int64(sum.Messages)), time.Since(began).Seconds(), grouped(int64(sum.Added)), grouped(sum.Rows), grouped(int64(sum.Duplicate)), grouped(int64(sum.Refused)))
	fmt.Fprintf(env.stdout, "http://%s/\n", listener.Addr())
	env.say("Open this address. Ctrl-C ends the demo.")

	go func() {
		for last := time.Now(); sleep(ctx, freshInterval); {
			now := time.Now()
			server.Append(sample.Fresh(mails, dmarc.Period{Begin: last.Truncate(time.Second), End: now.Truncate(time.Second)}, &truth))
			last = now
		}
	}()
	s.noteMailboxes(s.ingester, []ingest.Mailbox{box}, nil)
	s.notePasses()
	return s.serve(ctx, listener, []ingest.Mailbox{box})
}

// discard takes what nobody wants to see.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
