package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/store"
)

const (
	firstWait      = 500 * time.Millisecond // before a database that does not answer is tried again
	longestWait    = 10 * time.Second
	schemaInterval = 5 * time.Second
)

// awaitService opens the database, as openService does, and begins. A database that does not answer, or goes
// away meanwhile, is waited for, as it may start together with us, and that is said. What will
// not get better by waiting is an error: a wrong password or certificate, a database that is not there.
func awaitService(ctx context.Context, cfg *config, log *slog.Logger) (*service, error) {
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		s, err := tryService(ctx, cfg, log)
		if err == nil || ctx.Err() != nil || !breaks(err) {
			return s, err
		}
		log.Warn("the database does not answer; it will be tried again", "error", err, "in", wait.String())
		if !sleep(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

func tryService(ctx context.Context, cfg *config, log *slog.Logger) (*service, error) {
	if url := cfg.DatabaseURL.reveal(); url != "" {
		if err := answers(ctx, url); err != nil {
			return nil, err
		}
	}
	s, err := openService(ctx, cfg, log, postgres.Options{}, false)
	if err != nil {
		return nil, err
	}
	if err := s.begin(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// answers finds out, within some seconds, whether a database answers.
func answers(ctx context.Context, url string) error {
	db, err := store.Open(ctx, url, 0)
	if err != nil {
		return err
	}
	defer db.Close()
	trying, cancel := context.WithTimeout(ctx, longestWait)
	defer cancel()
	return db.Ping(trying)
}

// breaks reports whether an error is of a connection to the database that could not be made, or broke
// off, and may be made later.
func breaks(err error) bool {
	var refused *pgconn.PgError
	var connecting *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &refused) || errors.As(err, &connecting) {
		return passes(err)
	}
	return errors.As(err, &network) || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// passes reports whether a failure to connect may be over in a while.
func passes(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		// Starting, stopping, or too many connections; others are refusals.
		return strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "08")
	}
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	return !errors.As(err, &certificate) && !errors.As(err, &authority) && !errors.As(err, &host) && !strings.Contains(err.Error(), "server refused TLS")
}

// watchSchema says when a newer dmarcd changes the database, and stops this one if it
// cannot work with that.
func (s *service) watchSchema(ctx context.Context, stop context.CancelCauseFunc) {
	said := migrations.Newest()
	for {
		steps, err := migrations.Status(ctx, s.db)
		var newer *migrations.NewerError
		if errors.As(err, &newer) {
			stop(err)
			return
		}
		if err == nil && steps[len(steps)-1].Number > said {
			said = steps[len(steps)-1].Number
			s.log.Warn("a newer dmarcd has changed the database; this one goes on, but should be replaced soon", "step", said, "known", migrations.Newest())
		}
		if !sleep(ctx, schemaInterval) {
			return
		}
	}
}
