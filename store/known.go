package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Known returns the fates of those messages of a mailbox that the ledger has by
// their digests. Messages from IMAP are known by their places, and never among them.
func (s *Store) Known(ctx context.Context, mailbox string, digests []dmarc.Digest) (map[dmarc.Digest]dmarc.Fate, error) {
	bytes := make([][]byte, len(digests))
	for i := range digests {
		bytes[i] = digests[i][:]
	}
	const sql = `
		SELECT m.digest, m.id, m.outcome, m.reason
		FROM mailboxes b
		CROSS JOIN unnest($2::bytea[]) AS w (digest)
		CROSS JOIN LATERAL (
			SELECT digest, id, outcome, reason
			FROM messages
			WHERE mailbox_id = b.id AND digest = w.digest AND uid = 0
			LIMIT 1 -- so that each is looked for in the index, whatever the planner thinks of the size of the table
		) AS m
		WHERE b.name = $1`
	rows, _ := s.db.Query(ctx, sql, mailbox, bytes)
	known := make(map[dmarc.Digest]dmarc.Fate)
	var digest []byte
	var id int64
	var outcome, reason string
	_, err := pgx.ForEachRow(rows, []any{&digest, &id, &outcome, &reason}, func() error {
		known[dmarc.Digest(digest)] = dmarc.Fate{MessageID: id, Known: true, Outcome: dmarc.Outcome(outcome), Reason: reason}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking up messages in the ledger: %w", err)
	}
	return known, nil
}
