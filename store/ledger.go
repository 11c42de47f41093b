package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// ledgerPart is a part of a message as the ledger keeps it.
type ledgerPart struct {
	Path    string        `json:"path,omitempty"`
	Kind    string        `json:"kind"`
	Report  string        `json:"report,omitempty"`
	Outcome dmarc.Outcome `json:"outcome"`
	Reason  string        `json:"reason,omitempty"`
}

// skipKnown marks the deliveries that the ledger has already, or that stand in
// this batch twice. The unique keys of the ledger see to those that another process
// adds meanwhile: the transaction fails and is tried again.
func (b *batch) skipKnown(ctx context.Context, db querier) error {
	n := len(b.ds)
	// Each is looked for in its index (LIMIT), whatever the planner thinks of the size of the table.
	const (
		byPlace = `
			SELECT w.n, m.id, m.outcome, m.reason
			FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w (n, mailbox_id, uid_validity, uid)
			CROSS JOIN LATERAL (
				SELECT id, outcome, reason
				FROM messages
				WHERE mailbox_id = w.mailbox_id AND uid_validity = w.uid_validity AND uid = w.uid AND uid <> 0
				LIMIT 1
			) AS m`
		byDigest = `
			SELECT w.n, m.id, m.outcome, m.reason
			FROM unnest($1::int[], $2::bigint[], $3::bytea[]) AS w (n, mailbox_id, digest)
			CROSS JOIN LATERAL (
				SELECT id, outcome, reason
				FROM messages
				WHERE mailbox_id = w.mailbox_id AND digest = w.digest AND uid = 0
				LIMIT 1
			) AS m`
	)
	var placed, others struct {
		numbers   []int32
		mailboxes []int64
	}
	var validities, uids []int64
	var digests [][]byte
	for i := range b.ds {
		d := &b.ds[i]
		at := &others
		if d.Place.UID != 0 {
			at = &placed
			validities, uids = append(validities, int64(d.Place.UIDValidity)), append(uids, int64(d.Place.UID))
		} else {
			digests = append(digests, d.Digest[:])
		}
		at.numbers, at.mailboxes = append(at.numbers, int32(i)), append(at.mailboxes, b.mailboxes[i])
	}
	ask := func(sql string, args ...any) error {
		rows, _ := db.Query(ctx, sql, args...)
		var i int32
		var id int64
		var outcome, reason string
		_, err := pgx.ForEachRow(rows, []any{&i, &id, &outcome, &reason}, func() error {
			b.fates[i] = dmarc.Fate{MessageID: id, Known: true, Outcome: dmarc.Outcome(outcome), Reason: reason}
			return nil
		})
		if err != nil {
			return fmt.Errorf("looking up messages in the ledger: %w", err)
		}
		return nil
	}
	if len(uids) > 0 {
		if err := ask(byPlace, placed.numbers, placed.mailboxes, validities, uids); err != nil {
			return err
		}
	}
	if len(digests) > 0 {
		if err := ask(byDigest, others.numbers, others.mailboxes, digests); err != nil {
			return err
		}
	}
	type key struct {
		mailbox int64
		place   dmarc.Place
		digest  dmarc.Digest
	}
	seen := make(map[key]bool, n)
	for i := range b.ds {
		k := key{mailbox: b.mailboxes[i], place: b.ds[i].Place}
		if k.place.UID == 0 {
			k.digest = b.ds[i].Digest
		}
		if seen[k] && !b.fates[i].Known {
			b.fates[i] = dmarc.Fate{Known: true, Outcome: dmarc.OutcomeDuplicate, Reason: "the same message stands before it"}
		}
		seen[k] = true
	}
	return nil
}

// messageIDs draws a number in the ledger for each delivery.
func (b *batch) messageIDs(ctx context.Context, tx pgx.Tx) ([]int64, error) {
	const sql = `
		WITH s AS MATERIALIZED (
			SELECT pg_get_serial_sequence('messages', 'id')::regclass AS ids
		)
		SELECT nextval(ids)
		FROM s, generate_series(1, $1)`
	rows, _ := tx.Query(ctx, sql, len(b.ds))
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("numbering messages: %w", err)
	}
	return ids, nil
}

// addLedger writes one line for each delivery that is not known.
func (b *batch) addLedger(ctx context.Context, tx pgx.Tx) error {
	var (
		ids, mailboxes, validities, uids, sizes []int64
		digests                                 [][]byte
		messageIDs, senders, subjects, sources  []string
		outcomes, reasons, parts                []string
		sent                                    []*time.Time
		received                                []time.Time
		due                                     []*time.Time
	)
	for i := range b.ds {
		d, f := &b.ds[i], &b.fates[i]
		if f.Known {
			continue
		}
		b.decide(i)
		text, err := json.Marshal(b.parts[i])
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		if b.parts[i] == nil {
			text = []byte("[]")
		}
		ids = append(ids, f.MessageID)
		mailboxes = append(mailboxes, b.mailboxes[i])
		validities = append(validities, int64(d.Place.UIDValidity))
		uids = append(uids, int64(d.Place.UID))
		sizes = append(sizes, d.Size)
		digests = append(digests, d.Digest[:])
		messageIDs = append(messageIDs, clean(d.MessageID))
		senders = append(senders, clean(d.From))
		subjects = append(subjects, clean(d.Subject))
		sources = append(sources, clean(d.Source))
		outcomes = append(outcomes, string(f.Outcome))
		reasons = append(reasons, clean(f.Reason))
		parts = append(parts, clean(string(text)))
		sent = append(sent, sensible(d.Date))
		received = append(received, d.ReceivedAt)
		if due = append(due, nil); b.verifiable(i) {
			due[len(due)-1] = &d.ReceivedAt
		}
	}
	if len(ids) == 0 {
		return nil
	}
	const sql = `
		INSERT INTO messages (id, mailbox_id, uid_validity, uid, digest, size, message_id, sender, subject, source,
			sent_at, received_at, outcome, reason, parts, verify_at)
		OVERRIDING SYSTEM VALUE
		SELECT ($1::bigint[])[i], ($2::bigint[])[i], ($3::bigint[])[i], ($4::bigint[])[i], digest, ($6::bigint[])[i], message_id, sender,
			subject, source, sent_at, ($12::timestamptz[])[i], outcome, reason, parts::jsonb, verify_at
		FROM ROWS FROM (generate_series(1, $17::int), unnest($5::bytea[]), unnest($7::text[]), unnest($8::text[]), unnest($9::text[]),
			unnest($10::text[]), unnest($11::timestamptz[]), unnest($13::text[]), unnest($14::text[]), unnest($15::text[]),
			unnest($16::timestamptz[]))
			AS new (i, digest, message_id, sender, subject, source, sent_at, outcome, reason, parts, verify_at)`
	_, err := tx.Exec(ctx, sql, ids, mailboxes, validities, uids, digests, sizes, messageIDs, senders, subjects, sources,
		sent, received, outcomes, reasons, parts, due, len(ids))
	if err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	return nil
}

// sensible returns the time that a mail gives, or nil if it gives none that
// can be kept.
func sensible(t time.Time) *time.Time {
	if t.IsZero() || t.Year() < 1970 || t.Year() > 9999 {
		return nil
	}
	return &t
}

// decide makes the fate of a message out of the fates of its parts. What went wrong
// comes first, so that it is seen.
func (b *batch) decide(i int) {
	d, f := &b.ds[i], &b.fates[i]
	if len(b.parts[i]) == 0 {
		f.Outcome, f.Reason = d.Outcome, d.Reason
		if !f.Outcome.Harmless() {
			f.Refused++
		}
		return
	}
	worst := slices.MinFunc(b.parts[i], func(x, y ledgerPart) int { return cmp.Compare(rank(x.Outcome), rank(y.Outcome)) })
	f.Outcome, f.Reason = worst.Outcome, worst.Reason
	if n := len(b.parts[i]); n > 1 && !worst.Outcome.Read() {
		f.Reason = fmt.Sprintf("part %s of %d parts: %s", worst.Path, n, worst.Reason)
	}
	for _, p := range b.parts[i] {
		switch p.Outcome {
		case dmarc.OutcomeOK, dmarc.OutcomeOKWithFlags:
			f.Added++
		case dmarc.OutcomeDuplicate:
			f.Duplicate++
		case dmarc.OutcomeConflict:
			f.Conflict++
		default:
			if !p.Outcome.Harmless() {
				f.Refused++
			}
		}
	}
}

// rank orders outcomes of parts: lower is told first.
func rank(o dmarc.Outcome) int {
	switch o {
	case dmarc.OutcomeConflict:
		return 1
	case dmarc.OutcomeOKWithFlags:
		return 2
	case dmarc.OutcomeOK:
		return 3
	case dmarc.OutcomeDuplicate:
		return 4
	case dmarc.OutcomeNotKept:
		return 5
	}
	if o.Harmless() {
		return 6
	}
	return 0
}

// message returns one line of the ledger.
func (s *Store) message(ctx context.Context, id int64) (dmarc.LedgerEntry, error) {
	rows, _ := s.db.Query(ctx, selectLedger+" WHERE m.id = $1", id)
	e, err := pgx.CollectExactlyOneRow(rows, scanLedger)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return e, fmt.Errorf("message %d: %w", id, err)
	}
	return e, nil
}

const selectLedger = `
	SELECT m.id, b.name, m.uid_validity, m.uid, m.digest, m.size, m.message_id, m.sender, m.subject, m.source,
		m.sent_at, m.received_at, m.outcome, m.reason, m.parts, m.transport_auth, m.transport_domain, m.transport_reason,
		m.verify_at IS NOT NULL
	FROM messages m
	JOIN mailboxes b ON b.id = m.mailbox_id`

func scanLedger(row pgx.CollectableRow) (e dmarc.LedgerEntry, err error) {
	var digest []byte
	var sent *time.Time
	var parts []ledgerPart
	var outcome string
	err = row.Scan(&e.ID, &e.Mailbox, &e.Place.UIDValidity, &e.Place.UID, &digest, &e.Size, &e.MessageID, &e.From, &e.Subject,
		&e.Source, &sent, &e.ReceivedAt, &outcome, &e.Reason, &parts, &e.Transport.Auth, &e.Transport.Domain, &e.Transport.Reason,
		&e.Unverified)
	if err != nil {
		return e, err
	}
	copy(e.Digest[:], digest)
	e.Outcome = dmarc.Outcome(outcome)
	if sent != nil {
		e.Date = *sent
	}
	for _, p := range parts {
		e.Reports = append(e.Reports, dmarc.LedgerPart(p))
	}
	return e, nil
}

// nearestMessages are the next messages that hold reports about a domain d alone.
const nearestMessages = `
		CROSS JOIN LATERAL (
			SELECT m.id
			FROM messages m
			JOIN mailboxes b ON b.id = m.mailbox_id
			WHERE message_domain(m.parts) = d.id AND @where
			ORDER BY m.id@direction
			LIMIT @limit
		) AS nearest`

// messagesWithin holds the ledger to messages in which there are reports alone,
// all about some domains. The newest of each domain are found at the end of an index.
const messagesWithin = ` AND m.id IN (
		SELECT nearest.id
		FROM unnest(@within::bigint[]) AS d (id)` + nearestMessages + `
		UNION ALL
		SELECT m.id
		FROM messages m
		JOIN mailboxes b ON b.id = m.mailbox_id
		WHERE message_domain(m.parts) = 0 AND @where AND NOT EXISTS (
			SELECT
			FROM jsonb_array_elements(m.parts) AS p
			WHERE split_part(p->>'report', '-', 1)::bigint <> ALL (@within::bigint[])
		)
	)`

// messagesAbout holds it to messages with a report about one of some domains, whatever
// else there is in them.
const messagesAbout = ` AND m.id IN (
		SELECT nearest.id
		FROM unnest(@about::bigint[]) AS d (id)` + nearestMessages + `
		UNION ALL
		(
			SELECT m.id
			FROM messages m
			JOIN mailboxes b ON b.id = m.mailbox_id
			WHERE message_domain(m.parts) = 0 AND @where AND EXISTS (
				SELECT
				FROM jsonb_array_elements(m.parts) AS p
				WHERE nullif(split_part(p->>'report', '-', 1), '')::bigint = ANY (@about::bigint[])
			)
			ORDER BY m.id@direction
			LIMIT @limit
		)
		UNION ALL
		(
			SELECT m.id
			FROM messages m
			JOIN mailboxes b ON b.id = m.mailbox_id
			WHERE message_domain(m.parts) IS NULL AND @where AND EXISTS (
				SELECT
				FROM jsonb_array_elements(m.parts) AS p
				WHERE nullif(split_part(p->>'report', '-', 1), '')::bigint = ANY (@about::bigint[])
			)
			ORDER BY m.id@direction
			LIMIT @limit
		)
	)`

// Messages returns lines of the ledger, newest first.
func (s *Store) Messages(ctx context.Context, q dmarc.MessageQuery) ([]dmarc.LedgerEntry, dmarc.Cursor, error) {
	up, err := ascending(q.Sort, "id")
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"limit": q.Limit + 1}
	where, err := afterOf(q.After, "m.id", up, args)
	if err != nil {
		return nil, "", err
	}
	where += during(q.Period, "m.received_at", args)
	if q.Mailbox != "" {
		where, args["mailbox"] = where+" AND b.name = @mailbox", clean(q.Mailbox)
	}
	if q.Outcome != "" {
		where, args["outcome"] = where+" AND m.outcome = @outcome", clean(string(q.Outcome))
	}
	more, floor, err := s.messagesLike(ctx, &q, args)
	if err != nil {
		return nil, "", err
	}
	where += more
	fill := strings.NewReplacer("@where", where, "@direction", direction(up))
	list := where
	if !q.Scope.All() {
		if args["within"], err = s.domainsIn(ctx, q.Scope); err != nil {
			return nil, "", err
		}
		list += fill.Replace(messagesWithin)
	}
	if q.Domain != "" {
		args["about"], err = s.domainsOf(ctx, q.Domain, q.Subdomains)
		if errors.Is(err, dmarc.ErrNotFound) {
			return []dmarc.LedgerEntry{}, "", nil
		}
		if err != nil {
			return nil, "", err
		}
		list += fill.Replace(messagesAbout)
	}
	sql := selectLedger + `
		WHERE ` + list + `
		ORDER BY m.id` + direction(up) + `
		LIMIT @limit`
	rows, _ := s.db.Query(ctx, sql, args)
	lines, err := pgx.CollectRows(rows, scanLedger)
	if err != nil {
		return nil, "", fmt.Errorf("listing messages: %w", err)
	}
	items, next, err := pageOf(lines, q.Limit, func(e dmarc.LedgerEntry) dmarc.LedgerEntry { return e },
		func(e dmarc.LedgerEntry) dmarc.Cursor { return numberCursor(e.ID) })
	if next == "" && floor > 0 {
		next = numberCursor(floor)
	}
	return items, next, err
}

// textWindow is how many numbers of the ledger one question looks through for a
// text.
const textWindow = 100_000

// messagesLike is a condition for a single message, those that were not read, or
// those with a text in them, and adds its arguments. For a text, floor is the message
// before which it was not looked for, though there are some; else 0.
func (s *Store) messagesLike(ctx context.Context, q *dmarc.MessageQuery, args pgx.NamedArgs) (where string, floor int64, err error) {
	if q.ID != 0 {
		where, args["id"] = where+" AND m.id = @id", q.ID
	}
	if q.Refused {
		where += " AND m." + refused
	}
	if q.Text == "" {
		return where, 0, nil
	}
	after, err := afterNumber(q.After)
	if err != nil {
		return "", 0, err
	}
	const window = `
		SELECT top.id, EXISTS (SELECT FROM messages WHERE id < top.id - $2)
		FROM (SELECT coalesce(max(id), 0) AS id FROM messages WHERE id < $1) AS top`
	var top int64
	var more bool
	if err := s.db.QueryRow(ctx, window, after, textWindow).Scan(&top, &more); err != nil {
		return "", 0, fmt.Errorf("listing messages: %w", err)
	}
	if args["floor"] = top - textWindow; more {
		floor = top - textWindow
	}
	subject := "position(@text in lower(m.subject)) > 0"
	if q.HideSubjects {
		subject += ` AND NOT m.parts @> '[{"kind": "failure"}]'`
	}
	args["text"] = strings.ToLower(clean(q.Text))
	return where + ` AND m.id >= @floor AND (` + subject + ` OR position(@text in lower(m.sender)) > 0
			OR position(@text in lower(m.source)) > 0 OR position(@text in lower(m.message_id)) > 0)`, floor, nil
}
