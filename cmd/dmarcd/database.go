package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/store"
)

const (
	firstWait      = 500 * time.Millisecond // before a database that does not answer is tried again
	longestWait    = 10 * time.Second
	schemaInterval = 5 * time.Second
)

// awaitDatabase waits until a database answers, as it may start together with us, and says
// so. What will not get better by waiting is an error: a wrong password or
// certificate, a database that is not there.
func awaitDatabase(ctx context.Context, url string, log *slog.Logger) error {
	db, err := store.Open(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		trying, cancel := context.WithTimeout(ctx, longestWait)
		err := db.Ping(trying)
		cancel()
		if err == nil || ctx.Err() != nil || !passes(err) {
			return err
		}
		log.Warn("the database does not answer; it will be tried again", "error", err, "in", wait.String())
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
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
