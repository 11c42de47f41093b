package store

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// verifiable tells whether a delivery is a mail that carried reports, which
// can be checked once it is stored.
func (b *batch) verifiable(i int) bool {
	if d := &b.ds[i]; d.Raw == nil || d.From == "" {
		return false
	}
	for _, p := range b.parts[i] {
		if p.Report != "" || p.Outcome == dmarc.OutcomeUnauthenticated {
			return true
		}
	}
	return false
}

// Unverified returns messages that carried reports and are due to be checked,
// those that are due longest first.
func (s *Store) Unverified(ctx context.Context, now time.Time, limit int) ([]dmarc.LedgerEntry, error) {
	rows, _ := s.db.Query(ctx, selectLedger+`
		WHERE m.verify_at <= $1
		ORDER BY m.verify_at
		LIMIT $2`, now, limit)
	due, err := pgx.CollectRows(rows, scanLedger)
	if err != nil {
		return nil, fmt.Errorf("finding messages that are to be checked: %w", err)
	}
	return due, nil
}

// OpenMessage returns the bytes of a message, or dmarc.ErrNotFound.
func (s *Store) OpenMessage(ctx context.Context, id int64) (io.ReadCloser, error) {
	entry, err := s.message(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.archived(ctx, entry.Digest)
}

// Verified keeps what was found out about the mail that a message is, with the
// message and with its reports. A report passes if any mail that carried it does.
func (s *Store) Verified(ctx context.Context, id int64, v dmarc.TransportVerdict) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		const sql = `
			UPDATE messages
			SET transport_auth = $2, transport_domain = $3, transport_reason = $4, verify_at = NULL
			WHERE id = $1
			RETURNING parts`
		var parts []ledgerPart
		if err := tx.QueryRow(ctx, sql, id, v.Auth, clean(v.Domain), clean(v.Reason)).Scan(&parts); err != nil {
			return err
		}
		if v.Auth == dmarc.TransportUnknown {
			return nil
		}
		for _, p := range parts {
			table := map[string]string{"aggregate": "reports", "tls": "tls_reports"}[p.Kind]
			domain, report, err := parseReportKey(p.Report)
			if table == "" || err != nil {
				continue
			}
			// Where the mail is not authentic, another one of the same report may be.
			sql := "UPDATE " + table + " SET transport_auth = $3 WHERE domain_id = $1 AND id = $2 AND ($4 OR message = $5)"
			if _, err := tx.Exec(ctx, sql, domain, report, v.Auth, v.Auth == dmarc.TransportPass, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keeping whether message %d is authentic: %w", id, err)
	}
	return nil
}

// VerifyLater puts the check of a message off.
func (s *Store) VerifyLater(ctx context.Context, id int64, at time.Time) error {
	if _, err := s.db.Exec(ctx, "UPDATE messages SET verify_at = $2 WHERE id = $1", id, at); err != nil {
		return fmt.Errorf("putting off the check of message %d: %w", id, err)
	}
	return nil
}
