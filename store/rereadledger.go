package store

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// lockLedger reads what the ledger says of the messages, and keeps others from
// changing it meanwhile.
func (r *reread) lockLedger(ctx context.Context, tx pgx.Tx) error {
	ids := make([]int64, len(r.ds))
	at := make(map[int64]int, len(r.ds))
	for i := range r.ds {
		ids[i] = r.fates[i].MessageID
		at[ids[i]] = i
	}
	r.before = make([]ledgerLine, len(r.ds))
	const sql = `
		SELECT id, outcome, reason, parts
		FROM messages
		WHERE id = ANY ($1)
		ORDER BY id
		FOR UPDATE`
	rows, _ := tx.Query(ctx, sql, ids)
	var id int64
	var l ledgerLine
	_, err := pgx.ForEachRow(rows, []any{&id, &l.outcome, &l.reason, &l.parts}, func() error {
		r.before[at[id]] = l
		l = ledgerLine{}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	return nil
}

// longestHistory bounds the reason of a message that was read again and again.
const longestHistory = 2000

// tellLedger writes the fate of a message, if it changed. What it was stays in
// the reason.
func (r *reread) tellLedger(ctx context.Context, tx pgx.Tx, i int) error {
	was, f := &r.before[i], &r.fates[i]
	r.decide(i)
	if string(f.Outcome) == was.outcome && (reflect.DeepEqual(r.parts[i], was.parts) || len(r.parts[i])+len(was.parts) == 0) {
		return nil
	}
	reason := f.Reason
	if reason != "" {
		reason += "; "
	}
	reason += "read again on " + time.Now().UTC().Format(time.DateOnly) + ", before: " + was.outcome
	if was.reason != "" {
		reason += ": " + was.reason
	}
	if len(reason) > longestHistory {
		reason = strings.ToValidUTF8(reason[:longestHistory], "") + "…"
	}
	text, err := json.Marshal(r.parts[i])
	if err != nil {
		return err
	}
	if r.parts[i] == nil {
		text = []byte("[]")
	}
	const sql = `
		UPDATE messages
		SET outcome = $2, reason = $3, parts = $4::jsonb
		WHERE id = $1`
	if _, err := tx.Exec(ctx, sql, f.MessageID, string(f.Outcome), clean(reason), clean(string(text))); err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	return r.tellBytes(ctx, tx, i)
}

// tellBytes writes what is known of the bytes of a message that were not kept
// before.
func (r *reread) tellBytes(ctx context.Context, tx pgx.Tx, i int) error {
	d := &r.ds[i]
	if d.Raw == nil {
		return nil
	}
	const sql = `
		UPDATE messages
		SET digest = @digest, size = @size, message_id = @message_id, sender = @sender, subject = @subject, sent_at = @sent,
			verify_at = CASE WHEN @verifiable THEN received_at ELSE verify_at END
		WHERE id = @id`
	_, err := tx.Exec(ctx, sql, pgx.NamedArgs{
		"id": r.fates[i].MessageID, "digest": d.Digest[:], "size": d.Size, "message_id": clean(d.MessageID), "sender": clean(d.From),
		"subject": clean(d.Subject), "sent": sensible(d.Date), "verifiable": r.verifiable(i),
	})
	if err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	return nil
}
