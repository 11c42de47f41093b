package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Ledger returns messages of the ledger, oldest first.
func (s *Store) Ledger(ctx context.Context, q dmarc.RereadQuery) ([]dmarc.LedgerEntry, error) {
	const sql = selectLedger + `
		WHERE m.id > @after AND m.received_at >= @since AND (@outcome = '' OR m.outcome = @outcome)
		ORDER BY m.id
		LIMIT @limit`
	since := q.Since
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	rows, _ := s.db.Query(ctx, sql, pgx.NamedArgs{"after": q.After, "since": since, "outcome": string(q.Outcome), "limit": q.Limit})
	entries, err := pgx.CollectRows(rows, scanLedger)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	return entries, nil
}

// Archived returns the bytes of a message by their digest; dmarc.ErrNotFound
// if they are not kept. The caller closes the reader.
func (s *Store) Archived(ctx context.Context, digest dmarc.Digest) (io.ReadCloser, error) {
	return s.archived(ctx, digest)
}

// Progress returns how far a pass has come; 0 if it begins.
func (s *Store) Progress(ctx context.Context, pass string) (int64, error) {
	var position int64
	err := s.db.QueryRow(ctx, "SELECT position FROM progress WHERE name = $1", pass).Scan(&position)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("progress of %s: %w", pass, err)
	}
	return position, nil
}

// Forget lets a pass begin from the start the next time.
func (s *Store) Forget(ctx context.Context, pass string) error {
	if _, err := s.db.Exec(ctx, "DELETE FROM progress WHERE name = $1", pass); err != nil {
		return fmt.Errorf("progress of %s: %w", pass, err)
	}
	return nil
}

// Reread stores what archived messages say as they are read now, in one
// transaction: reports that were not read before are added, those that say
// something else are replaced whole, and the ledger is told. What cannot be read
// any more stays. Changes are in the order of messages and parts. A message that the
// database refuses gives a *dmarc.Error.
func (s *Store) Reread(ctx context.Context, all []dmarc.Reread, o dmarc.RereadOptions) ([]dmarc.Change, error) {
	done, err := s.write(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var r *reread
	err = s.retry(func() error {
		ds := make([]dmarc.Delivery, len(all))
		for i := range all {
			ds[i] = all[i].Delivery
		}
		r = &reread{batch: newBatch(s, ds)}
		r.again = true
		for i := range all {
			r.fates[i].MessageID = all[i].MessageID
		}
		return r.run(ctx, o)
	})
	if isData(err) {
		return nil, &dmarc.Error{Outcome: dmarc.OutcomeNotStored, Reason: "the database refused it: " + err.Error()}
	}
	if err != nil {
		return nil, fmt.Errorf("storing %d messages that were read again: %w", len(all), err)
	}
	if !o.DryRun {
		s.noteChange()
	}
	return r.changes, nil
}

// A reread is a batch of messages that the ledger knows.
type reread struct {
	*batch
	w       *rowWriter
	before  []ledgerLine
	changes []dmarc.Change
}

// A ledgerLine is the fate of a message as the ledger has it.
type ledgerLine struct {
	outcome, reason string
	parts           []ledgerPart
}

func (l *ledgerLine) part(path string) *ledgerPart {
	for i := range l.parts {
		if l.parts[i].Path == path {
			return &l.parts[i]
		}
	}
	return nil
}

// errDry ends the transaction of a dry run.
var errDry = errors.New("dry run")

func (r *reread) run(ctx context.Context, o dmarc.RereadOptions) error {
	if err := r.number(ctx); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, r.s.db, func(tx pgx.Tx) error {
		var err error
		if r.horizons, err = readHorizons(ctx, tx); err != nil {
			return err
		}
		if err := r.lockLedger(ctx, tx); err != nil {
			return err
		}
		// Those that came from the mailbox once more are kept now.
		if err := r.addRaw(ctx, tx); err != nil {
			return err
		}
		r.w = newRowWriter(r.batch, tx)
		defer r.w.release()
		for i := range r.ds {
			if err := r.message(ctx, tx, i); err != nil {
				return fmt.Errorf("message %d: %w", r.fates[i].MessageID, err)
			}
		}
		if err := r.flagNeighbours(ctx, tx); err != nil {
			return err
		}
		if err := r.rollup.write(ctx, tx); err != nil {
			return err
		}
		if err := r.tellStreams(ctx, tx); err != nil {
			return err
		}
		for i := range r.ds {
			if err := r.tellLedger(ctx, tx, i); err != nil {
				return err
			}
		}
		if o.DryRun {
			return errDry
		}
		if o.Pass == "" {
			return nil
		}
		const reached = `
			INSERT INTO progress (name, position)
			VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE
			SET position = excluded.position, updated_at = now()`
		_, err = tx.Exec(ctx, reached, o.Pass, o.Reached)
		return err
	})
	if errors.Is(err, errDry) {
		return nil
	}
	return err
}

// message stores what one message says now.
func (r *reread) message(ctx context.Context, tx pgx.Tx, i int) error {
	d, before := &r.ds[i], &r.before[i]
	now := make(map[string]bool, len(d.Parts))
	for j := range d.Parts {
		p := &d.Parts[j]
		path := clean(p.Path)
		now[path] = true
		old := before.part(path)
		var line ledgerPart
		var c dmarc.Change
		var err error
		switch {
		case p.Aggregate != nil:
			line, c, err = r.aggregate(ctx, tx, i, j, old)
		case p.TLS != nil:
			line, c, err = r.other(ctx, tx, i, p, old, "tls_reports", p.TLS.Domain, p.TLS.Hash, r.addTLS)
			c.Name = p.TLS.ID
		case p.Failure != nil:
			line, c, err = r.other(ctx, tx, i, p, old, "failure_reports", p.Failure.ReportedDomain, p.Failure.Hash, r.addFailure)
		default:
			line = ledgerPart{Kind: "none", Outcome: p.Outcome, Reason: clean(p.Reason)}
			c.Kind = dmarc.ChangeNone
			if old != nil && old.Report != "" {
				line = *old
				c = dmarc.Change{Kind: dmarc.ChangeRefused, Report: old.Report, Reason: fmt.Sprintf("%s: %s; what was stored is left", p.Outcome, p.Reason)}
			}
		}
		if err != nil {
			return err
		}
		line.Path = path
		r.parts[i] = append(r.parts[i], line)
		c.Message, c.Part = r.fates[i].MessageID, path
		r.changes = append(r.changes, c)
	}
	for _, old := range before.parts {
		if !now[old.Path] && old.Report != "" {
			r.parts[i] = append(r.parts[i], old)
			reason := "no report is found there now; what was stored is left"
			if len(d.Parts) == 0 {
				reason = fmt.Sprintf("%s: %s; what was stored is left", d.Outcome, d.Reason)
			}
			r.changes = append(r.changes, dmarc.Change{Message: r.fates[i].MessageID, Part: old.Path, Kind: dmarc.ChangeRefused, Report: old.Report, Reason: reason})
		}
	}
	return nil
}

// aggregate stores what an aggregate report says now. old is its line in the
// ledger, if there is one.
func (r *reread) aggregate(ctx context.Context, tx pgx.Tx, i, j int, old *ledgerPart) (ledgerPart, dmarc.Change, error) {
	rep := r.ds[i].Parts[j].Aggregate
	domain := r.domains[clean(rep.Policy.Domain)]
	a := &aggregate{delivery: i, part: j, rep: rep, domain: domain, reporter: r.reporters[reporterKey(domain, rep.Reporter)]}
	a.days, _ = rep.Period.Attribute(r.ds[i].ReceivedAt.Truncate(time.Microsecond))
	c := dmarc.Change{Name: rep.ID, After: rep.Tally}

	if reason := r.tooOld(domain, a.days); reason != "" {
		if old != nil && old.Report != "" {
			return *old, dmarc.Change{Name: rep.ID, Kind: dmarc.ChangeRefused, Report: old.Report, Reason: reason}, nil
		}
		return ledgerPart{Kind: "none", Outcome: dmarc.OutcomeTooOld, Reason: reason}, dmarc.Change{Name: rep.ID, Kind: dmarc.ChangeNone}, nil
	}
	if r.horizons.noRows(domain, a.days.Main) {
		rep.Flags |= dmarc.FlagRowsNotKept
	}
	prevDomain, prev, err := r.previous(ctx, tx, old)
	if err != nil {
		return ledgerPart{}, c, err
	}
	others, err := lockIdentity(ctx, tx, a.identity())
	if err != nil {
		return ledgerPart{}, c, err
	}
	var same *stored
	for k := range others {
		if bytes.Equal(others[k].hash, rep.Hash[:]) {
			same = &others[k]
		}
	}
	if prev != nil {
		c.Before = prev.tally
	}
	isSame := prev != nil && same != nil && prevDomain == domain && prev.id == same.id
	gone := prev != nil && prev.active && r.horizons.noRows(prevDomain, prev.day) && prev.tally.Rows > 0
	switch {
	case gone && isSame:
		return *old, dmarc.Change{Name: rep.ID, Kind: dmarc.ChangeNone, Report: old.Report}, nil
	case gone:
		c.Report, c.Kind = old.Report, dmarc.ChangeLeft
		c.Reason = "it is read otherwise now, but the rows that were counted are no longer kept, so that they cannot be taken back"
		return *old, c, nil
	case isSame:
		a.id = same.id
		changed, err := r.refresh(ctx, tx, a, same)
		c.Report, c.Kind = reportKey(domain, a.id), dmarc.ChangeNone
		if !changed || err != nil {
			return *old, c, err
		}
		c.Kind, c.Reason = dmarc.ChangeContent, "the same rows; details of them or of the header are read otherwise"
	case prev != nil && same == nil && prev.identity(prevDomain) == a.identity():
		a.id = prev.id
		if err := r.replace(ctx, tx, a, prev); err != nil {
			return ledgerPart{}, c, err
		}
		c.Report, c.Kind = reportKey(domain, a.id), dmarc.ChangeContent
		c.Reason = fmt.Sprintf("%d messages in %d rows before, %d in %d now", prev.tally.Messages, prev.tally.Rows, rep.Tally.Messages, rep.Tally.Rows)
	case prev != nil:
		// It has another name now, or says what another one says already.
		needs, err := r.remove(ctx, tx, prevDomain, prev, same)
		if err != nil {
			return ledgerPart{}, c, err
		}
		if needs != "" {
			c.Report, c.Kind, c.Needs = old.Report, dmarc.ChangeLeft, needs
			c.Reason = "it is read under another identity now, and another content of its old one has to count in its place first"
			return *old, c, nil
		}
		if err := r.insertWave(ctx, tx, []*aggregate{a}, r.w); err != nil {
			return ledgerPart{}, c, err
		}
		c.Report, c.Kind, c.Reason = reportKey(domain, a.id), dmarc.ChangeContent, "it is read under another identity now"
		r.reports = append(r.reports, a)
	default:
		if err := r.insertWave(ctx, tx, []*aggregate{a}, r.w); err != nil {
			return ledgerPart{}, c, err
		}
		c.Report, c.Kind, c.Reason = reportKey(domain, a.id), dmarc.ChangeAdded, a.reason
		if r.unreadable(i, old) {
			c.Kind = dmarc.ChangeReadable
		}
		r.reports = append(r.reports, a)
	}
	if err := r.w.end(ctx); err != nil {
		return ledgerPart{}, c, err
	}
	line := ledgerPart{Kind: "aggregate", Report: c.Report, Outcome: a.outcome, Reason: a.reason}
	if a.outcome == "" { // replaced in place
		line = flagged("aggregate", domain, a.id, rep.Flags)
		line.Reason = strings.TrimPrefix(line.Reason+"; "+c.Reason, "; ")
		a.outcome = line.Outcome
		r.reports = append(r.reports, a)
	}
	return line, c, nil
}

// previous returns the stored aggregate report that a line of the ledger
// names, or nil if there is none any more.
func (r *reread) previous(ctx context.Context, tx pgx.Tx, old *ledgerPart) (domain int64, prev *stored, err error) {
	if old == nil || old.Kind != "aggregate" || old.Report == "" {
		return 0, nil, nil
	}
	domain, id, err := parseReportKey(old.Report)
	if err != nil {
		return 0, nil, nil
	}
	found, err := lockReports(ctx, tx, "id = $2", domain, id)
	if err != nil || len(found) == 0 {
		return domain, nil, err
	}
	return domain, &found[0], nil
}

// neighbourFlags are set by comparison with other reports, not by reading.
const neighbourFlags = dmarc.FlagOverlaps | dmarc.FlagPossibleDoubleCount

// refresh replaces a report of the same hash if something is read otherwise that
// the hash does not cover.
func (r *reread) refresh(ctx context.Context, tx pgx.Tx, a *aggregate, old *stored) (changed bool, err error) {
	const sql = `
		SELECT about, flags, day, dated, rows_dropped, messages_dropped
		FROM reports
		WHERE domain_id = $1 AND id = $2`
	var was about
	var flags int64
	var day time.Time
	var dated bool
	var dropped dmarc.Dropped
	if err := tx.QueryRow(ctx, sql, a.domain, old.id).Scan(&was, &flags, &day, &dated, &dropped.Rows, &dropped.Messages); err != nil {
		return false, err
	}
	changed = !reflect.DeepEqual(was, aboutOf(a.rep)) || dmarc.Flags(flags)&^neighbourFlags != a.rep.Flags ||
		!day.Equal(a.days.Main) || dated != a.days.Dated || dropped != a.rep.Dropped
	if !changed && old.active {
		if changed, err = r.detailsDiffer(ctx, tx, a, old); err != nil {
			return false, err
		}
	}
	if !changed {
		return false, nil
	}
	return true, r.replace(ctx, tx, a, old)
}

// detailsDiffer tells whether the flags of rows, or the alignment that we
// computed, are not what they would be now.
func (r *reread) detailsDiffer(ctx context.Context, tx pgx.Tx, a *aggregate, old *stored) (bool, error) {
	type detail struct {
		flags int32
		ours  int16
	}
	counts := map[detail]int64{}
	for row, err := range a.rep.Rows {
		if err != nil {
			return false, err
		}
		counts[detail{int32(row.Flags), packAlignment(row.Ours)}]++
	}
	const sql = `
		SELECT flags, ours, count(*)
		FROM rows
		WHERE domain_id = $1 AND day = $2 AND report = $3
		GROUP BY flags, ours`
	rows, _ := tx.Query(ctx, sql, a.domain, old.day, old.id)
	var d detail
	var n int64
	_, err := pgx.ForEachRow(rows, []any{&d.flags, &d.ours, &n}, func() error {
		counts[d] -= n
		return nil
	})
	for _, n := range counts {
		if n != 0 {
			return true, err
		}
	}
	return false, err
}

// replace puts a new content into the place of a stored one of the same
// identity.
func (r *reread) replace(ctx context.Context, tx pgx.Tx, a *aggregate, old *stored) error {
	if old.active {
		if err := r.retire(ctx, tx, a.domain, old); err != nil {
			return err
		}
	}
	text, err := json.Marshal(aboutOf(a.rep))
	if err != nil {
		return err
	}
	args := pgx.NamedArgs{
		"domain": a.domain, "id": old.id, "hash": a.rep.Hash[:], "rows_hash": a.rep.RowsHash[:], "active": old.active, "chosen": old.chosen,
		"day": a.days.Main, "dated": a.days.Dated, "flags": int64(a.rep.Flags), "about": string(text),
		"rows_dropped": a.rep.Dropped.Rows, "messages_dropped": a.rep.Dropped.Messages,
	}
	sets := ""
	for i, v := range scanTally(&a.rep.Tally) {
		args[tallyNames[i]] = *v.(*int64)
		sets += ", " + tallyNames[i] + " = @" + tallyNames[i]
	}
	sql := `
		UPDATE reports
		SET hash = @hash, rows_hash = @rows_hash, active = @active, chosen = @chosen, day = @day, dated = @dated, flags = @flags,
			revision = revision + 1, about = @about::jsonb, rows_dropped = @rows_dropped, messages_dropped = @messages_dropped` + sets + `
		WHERE domain_id = @domain AND id = @id
		RETURNING revision`
	c := change{domain: a.domain, report: old.id, day: a.days.Main}
	if err := tx.QueryRow(ctx, sql, args).Scan(&c.revision); err != nil {
		return fmt.Errorf("replacing a report: %w", err)
	}
	// Each revision is told: of an earlier one, that it was overtaken is all that is seen.
	r.changed = append(r.changed, c)
	if !old.active {
		return nil
	}
	return r.w.addReport(ctx, a)
}

// remove takes a stored report away. If it counts and others came under its
// identity, it stays, and the one that has to count first is returned: the one
// that says what it says now, or else the largest.
func (r *reread) remove(ctx context.Context, tx pgx.Tx, domain int64, old, same *stored) (needs string, err error) {
	if old.active {
		others, err := lockIdentity(ctx, tx, old.identity(domain))
		if err != nil {
			return "", err
		}
		var best *stored
		for i := range others {
			o := &others[i]
			if same != nil && o.id == same.id {
				best = o
				break
			}
			if o.id != old.id && (best == nil || o.tally.Messages >= best.tally.Messages) {
				best = o
			}
		}
		if best != nil {
			return reportKey(domain, best.id), nil
		}
		if err := r.retire(ctx, tx, domain, old); err != nil {
			return "", err
		}
	}
	c := change{domain: domain, report: old.id, day: old.day, removed: true}
	const sql = `
		DELETE FROM reports
		WHERE domain_id = $1 AND id = $2
		RETURNING revision + 1`
	if err := tx.QueryRow(ctx, sql, domain, old.id).Scan(&c.revision); err != nil {
		return "", fmt.Errorf("removing a report: %w", err)
	}
	// That it does not count any more may not have been told yet: whoever tells it finds nothing.
	r.changed = append(r.changed, c)
	return "", nil
}

// other stores what a TLS or failure report says now.
func (r *reread) other(ctx context.Context, tx pgx.Tx, i int, p *dmarc.Part, old *ledgerPart, table, domainName string, hash dmarc.Digest,
	add func(context.Context, pgx.Tx, int, *dmarc.Part) (ledgerPart, error)) (line ledgerPart, c dmarc.Change, err error) {
	domain := r.domains[clean(domainName)]
	table = pgx.Identifier{table}.Sanitize()
	if old != nil && old.Report != "" && old.Kind+"_reports" == strings.Trim(table, `"`) {
		oldDomain, id, err := parseReportKey(old.Report)
		if err != nil {
			return line, c, err
		}
		var was []byte
		err = tx.QueryRow(ctx, "SELECT hash FROM "+table+" WHERE domain_id = $1 AND id = $2 FOR UPDATE", oldDomain, id).Scan(&was)
		if err == nil && oldDomain == domain && bytes.Equal(was, hash[:]) {
			return *old, dmarc.Change{Kind: dmarc.ChangeNone, Report: old.Report}, nil
		}
		if err == nil {
			if err := r.removeOther(ctx, tx, old.Kind, oldDomain, id); err != nil {
				return line, c, err
			}
			line, err = add(ctx, tx, i, p)
			return line, dmarc.Change{Kind: dmarc.ChangeContent, Report: line.Report, Reason: "it says something else now"}, err
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return line, c, fmt.Errorf("reading %s: %w", table, err)
		}
	}
	line, err = add(ctx, tx, i, p)
	c = dmarc.Change{Kind: dmarc.ChangeAdded, Report: line.Report, Reason: line.Reason}
	if r.unreadable(i, old) {
		c.Kind = dmarc.ChangeReadable
	}
	return line, c, err
}

// unreadable tells whether no report could be read before in a part, or in the
// message if there was no such part.
func (r *reread) unreadable(i int, old *ledgerPart) bool {
	if old != nil {
		return old.Report == ""
	}
	return !dmarc.Outcome(r.before[i].outcome).Read()
}

// removeOther takes a TLS or failure report away. If it counted, the largest of
// its identity counts instead.
func (r *reread) removeOther(ctx context.Context, tx pgx.Tx, kind string, domain, id int64) error {
	if kind == "failure" {
		_, err := tx.Exec(ctx, "DELETE FROM failure_reports WHERE domain_id = $1 AND id = $2", domain, id)
		return err
	}
	const sql = `
		WITH gone AS (
			DELETE FROM tls_reports
			WHERE domain_id = $1 AND id = $2
			RETURNING reporter_id, report_id, begins_at, ends_at, active
		)
		SELECT o.id
		FROM gone
		JOIN tls_reports o ON o.domain_id = $1 AND o.reporter_id = gone.reporter_id AND o.report_id = gone.report_id
			AND o.begins_at = gone.begins_at AND o.ends_at = gone.ends_at AND o.id <> $2
		WHERE gone.active
		ORDER BY o.successful + o.failed DESC, o.id DESC
		LIMIT 1`
	var next int64
	err := tx.QueryRow(ctx, sql, domain, id).Scan(&next)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = tx.Exec(ctx, "UPDATE tls_reports SET active = true WHERE domain_id = $1 AND id = $2", domain, next)
	}
	if err != nil {
		return fmt.Errorf("removing a TLS report: %w", err)
	}
	return nil
}
