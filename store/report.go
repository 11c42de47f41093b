package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// about is the metadata and the policy of a report, as the table keeps them.
type about struct {
	OrgName         string   `json:"org_name,omitempty"`
	Email           string   `json:"email,omitempty"`
	ExtraContact    string   `json:"extra_contact,omitempty"`
	Version         string   `json:"version,omitempty"`
	Namespace       string   `json:"namespace,omitempty"`
	Generator       string   `json:"generator,omitempty"`
	Errors          []string `json:"errors,omitempty"`
	DiscoveryMethod string   `json:"discovery_method,omitempty"`
	ADKIM           string   `json:"adkim,omitempty"`
	ASPF            string   `json:"aspf,omitempty"`
	P               string   `json:"p,omitempty"`
	SP              string   `json:"sp,omitempty"`
	NP              string   `json:"np,omitempty"`
	Pct             *int     `json:"pct,omitempty"`
	FO              string   `json:"fo,omitempty"`
	Testing         *bool    `json:"testing,omitempty"`
}

func aboutOf(rep *dmarc.AggregateReport) about {
	p := &rep.Policy
	a := about{
		OrgName: clean(rep.Reporter.OrgName), Email: clean(rep.Reporter.Email), ExtraContact: clean(rep.Reporter.ExtraContact),
		Version: clean(rep.Version), Namespace: clean(rep.Namespace), Generator: clean(rep.Generator),
		DiscoveryMethod: clean(p.DiscoveryMethod),
		ADKIM:           p.ADKIM.String(), ASPF: p.ASPF.String(), P: p.P.String(), SP: p.SP.String(), NP: p.NP.String(),
		Pct: p.Pct, FO: clean(p.FO), Testing: p.Testing,
	}
	for _, e := range rep.Errors {
		a.Errors = append(a.Errors, clean(e))
	}
	return a
}

func (a *about) policy(domain string) dmarc.PolicyPublished {
	return dmarc.PolicyPublished{
		Domain: domain, DiscoveryMethod: a.DiscoveryMethod,
		ADKIM: dmarc.ParseAlignmentMode(a.ADKIM), ASPF: dmarc.ParseAlignmentMode(a.ASPF),
		P: dmarc.ParsePolicy(a.P), SP: dmarc.ParsePolicy(a.SP), NP: dmarc.ParsePolicy(a.NP),
		Pct: a.Pct, FO: a.FO, Testing: a.Testing,
	}
}

// identity is what makes a report the same as another one.
type identity struct {
	domain, reporter int64
	id               string
	begin, end       int64
}

func (a *aggregate) identity() identity {
	if a.is == (identity{}) {
		a.is = identity{a.domain, a.reporter, clean(a.rep.ID), a.rep.Period.Begin.Unix(), a.rep.Period.End.Unix()}
	}
	return a.is
}

func compareIdentities(a, b identity) int {
	return cmp.Or(cmp.Compare(a.domain, b.domain), cmp.Compare(a.reporter, b.reporter), cmp.Compare(a.id, b.id),
		cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
}

// addReports inserts the aggregate reports of a batch, decides about those
// whose identity is taken, and adds the rows of those that count. Of several
// reports with one identity in a batch, each waits until the one before it is decided.
func (b *batch) addReports(ctx context.Context, tx pgx.Tx) error {
	for i := range b.ds {
		if b.fates[i].Known {
			continue
		}
		b.parts[i] = make([]ledgerPart, len(b.ds[i].Parts))
		for j := range b.ds[i].Parts {
			p := &b.ds[i].Parts[j]
			b.parts[i][j] = ledgerPart{Path: clean(p.Path), Kind: "none", Outcome: p.Outcome, Reason: clean(p.Reason)}
			if p.Aggregate == nil {
				continue
			}
			domain := b.domains[clean(p.Aggregate.Policy.Domain)]
			days, _ := p.Aggregate.Period.Attribute(b.ds[i].ReceivedAt.Truncate(time.Microsecond))
			if reason := b.tooOld(domain, days); reason != "" {
				b.parts[i][j].Kind, b.parts[i][j].Outcome, b.parts[i][j].Reason = "none", dmarc.OutcomeTooOld, reason
				continue
			}
			if b.horizons.noRows(domain, days.Main) {
				p.Aggregate.Flags |= dmarc.FlagRowsNotKept
			}
			b.reports = append(b.reports, &aggregate{
				delivery: i, part: j, rep: p.Aggregate,
				domain: domain, reporter: b.reporters[reporterKey(domain, p.Aggregate.Reporter)],
				days: days,
			})
		}
	}
	w := newRowWriter(b, tx)
	defer w.release()
	for waiting := b.reports; len(waiting) > 0; {
		wave, later := firstOfEach(waiting)
		if err := b.insertWave(ctx, tx, wave, w); err != nil {
			return err
		}
		// The rows of this wave must be there before one of them is replaced.
		if err := w.end(ctx); err != nil {
			return err
		}
		waiting = later
	}
	if err := b.flagNeighbours(ctx, tx); err != nil {
		return err
	}
	for _, a := range b.reports {
		b.parts[a.delivery][a.part] = ledgerPart{
			Path: clean(b.ds[a.delivery].Parts[a.part].Path), Kind: "aggregate",
			Report: reportKey(a.domain, a.id), Outcome: a.outcome, Reason: a.reason,
		}
	}
	return nil
}

// flagNeighbours flags the new reports whose period overlaps another report of
// the same reporter, and those of the same period that say the same under another
// name. Both count: only people can tell.
func (b *batch) flagNeighbours(ctx context.Context, tx pgx.Tx) error {
	var domains, ids, reporters []int64
	var begins, ends []time.Time
	var hashes [][]byte
	for _, a := range b.reports {
		if a.id != 0 && a.outcome != dmarc.OutcomeDuplicate && a.rep.Tally.Rows > 0 {
			domains, ids, reporters = append(domains, a.domain), append(ids, a.id), append(reporters, a.reporter)
			begins, ends, hashes = append(begins, a.rep.Period.Begin), append(ends, a.rep.Period.End), append(hashes, a.rep.RowsHash[:])
		}
	}
	if len(ids) == 0 {
		return nil
	}
	const sql = `
		WITH found AS (
			SELECT n.domain_id, n.id, o.flags
			FROM (
				SELECT ($1::bigint[])[i] AS domain_id, ($2::bigint[])[i] AS id, ($3::bigint[])[i] AS reporter_id,
					($4::timestamptz[])[i] AS begins_at, ($5::timestamptz[])[i] AS ends_at, rows_hash
				FROM unnest($6::bytea[]) WITH ORDINALITY AS n (rows_hash, i)
				OFFSET 0 -- each is computed once
			) AS n
			CROSS JOIN LATERAL (
				SELECT bit_or(CASE
					WHEN begins_at <> n.begins_at OR ends_at <> n.ends_at THEN $7::bigint
					WHEN rows_hash = n.rows_hash THEN $8::bigint
					ELSE 0 END) AS flags
				FROM reports
				WHERE domain_id = n.domain_id AND reporter_id = n.reporter_id AND active AND id <> n.id AND rows > 0
					AND begins_at < n.ends_at AND ends_at > n.begins_at AND begins_at > n.begins_at - interval '31 days'
			) AS o
			WHERE o.flags <> 0
		)
		UPDATE reports r
		SET flags = r.flags | found.flags
		FROM found
		WHERE r.domain_id = found.domain_id AND r.id = found.id AND r.active`
	if _, err := tx.Exec(ctx, sql, domains, ids, reporters, begins, ends, hashes, int64(dmarc.FlagOverlaps), int64(dmarc.FlagPossibleDoubleCount)); err != nil {
		return fmt.Errorf("looking for overlapping reports: %w", err)
	}
	return nil
}

// firstOfEach splits reports into the first of each identity, sorted, and the
// others in their order.
func firstOfEach(all []*aggregate) (first, later []*aggregate) {
	seen := make(map[identity]bool, len(all))
	for _, a := range all {
		if k := a.identity(); !seen[k] {
			seen[k] = true
			first = append(first, a)
		} else {
			later = append(later, a)
		}
	}
	slices.SortStableFunc(first, func(a, b *aggregate) int { return compareIdentities(a.identity(), b.identity()) })
	return first, later
}

func (b *batch) insertWave(ctx context.Context, tx pgx.Tx, wave []*aggregate, w *rowWriter) error {
	if err := b.insertReports(ctx, tx, wave, true); err != nil {
		return err
	}
	for _, a := range wave {
		if a.id == 0 {
			if err := w.idle(); err != nil {
				return err
			}
			if err := b.settle(ctx, tx, a, w); err != nil {
				return err
			}
			continue
		}
		a.outcome = dmarc.OutcomeOK
		if a.rep.Flags != 0 {
			a.outcome = dmarc.OutcomeOKWithFlags
			a.reason = strings.Join(a.rep.Flags.Names(), ", ")
		}
		if err := w.addReport(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// insertReports inserts reports and sets their numbers; those whose identity
// is taken keep 0.
func (b *batch) insertReports(ctx context.Context, tx pgx.Tx, wave []*aggregate, active bool) error {
	n := len(wave)
	var (
		domains, reporters, messageIDs, flags = make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
		ids, parts, abouts                    = make([]string, n), make([]string, n), make([]string, n)
		begins, ends, days, received          = make([]time.Time, n), make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
		hashes, rowHashes                     = make([][]byte, n), make([][]byte, n)
		dated                                 = make([]bool, n)
		numbers                               [12][]int64
	)
	for i := range numbers {
		numbers[i] = make([]int64, n)
	}
	at := make(map[identity]*aggregate, n)
	for i, a := range wave {
		at[a.identity()] = a
		d := &b.ds[a.delivery]
		text, err := json.Marshal(aboutOf(a.rep))
		if err != nil {
			return fmt.Errorf("report %s: %w", a.rep.ID, err)
		}
		domains[i], reporters[i], ids[i] = a.domain, a.reporter, clean(a.rep.ID)
		begins[i], ends[i] = a.rep.Period.Begin, a.rep.Period.End
		hashes[i], rowHashes[i] = a.rep.Hash[:], a.rep.RowsHash[:]
		days[i], dated[i] = a.days.Main, a.days.Dated
		received[i], messageIDs[i], parts[i] = d.ReceivedAt, b.fates[a.delivery].MessageID, clean(d.Parts[a.part].Path)
		flags[i], abouts[i] = int64(a.rep.Flags), string(text)
		t := &a.rep.Tally
		for c, v := range [...]int64{t.Rows, t.Messages, t.DMARCPass, t.DKIMAligned, t.SPFAligned, t.None, t.Quarantine, t.Reject,
			t.Pass, t.Unstated, a.rep.Dropped.Rows, a.rep.Dropped.Messages} {
			numbers[c][i] = v
		}
	}
	args := []any{active, domains, reporters, ids, begins, ends, hashes, days, dated, received, messageIDs, parts, flags, abouts}
	for _, c := range numbers {
		args = append(args, c)
	}
	args = append(args, rowHashes, n)
	// One index tells whether it is taken; the other unique ones need not be asked.
	arbiter := "(domain_id, reporter_id, begins_at, ends_at, report_id) WHERE active"
	if !active {
		arbiter = "(domain_id, reporter_id, begins_at, ends_at, report_id, hash) WHERE NOT active"
	}
	sql := `
		INSERT INTO reports (active, domain_id, reporter_id, report_id, begins_at, ends_at, hash, day, dated, received_at,
			message, part, flags, about, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass,
			unstated, rows_dropped, messages_dropped, rows_hash)
		SELECT $1, ($2::bigint[])[i], ($3::bigint[])[i], report_id, ($5::timestamptz[])[i], ($6::timestamptz[])[i], hash, ($8::date[])[i],
			($9::bool[])[i], ($10::timestamptz[])[i], ($11::bigint[])[i], part, ($13::bigint[])[i], about::jsonb,
			($15::bigint[])[i], ($16::bigint[])[i], ($17::bigint[])[i], ($18::bigint[])[i], ($19::bigint[])[i], ($20::bigint[])[i],
			($21::bigint[])[i], ($22::bigint[])[i], ($23::bigint[])[i], ($24::bigint[])[i], ($25::bigint[])[i], ($26::bigint[])[i],
			rows_hash
		FROM ROWS FROM (generate_series(1, $28::int), unnest($4::text[]), unnest($7::bytea[]), unnest($12::text[]), unnest($14::text[]),
			unnest($27::bytea[])) AS new (i, report_id, hash, part, about, rows_hash)
		ON CONFLICT ` + arbiter + ` DO NOTHING
		RETURNING id, domain_id, reporter_id, report_id, begins_at, ends_at`
	rows, _ := tx.Query(ctx, sql, args...)
	var id int64
	var k identity
	var begin, end time.Time
	_, err := pgx.ForEachRow(rows, []any{&id, &k.domain, &k.reporter, &k.id, &begin, &end}, func() error {
		k.begin, k.end = begin.Unix(), end.Unix()
		a := at[k]
		if a.id = id; active {
			b.changed = append(b.changed, change{domain: a.domain, report: id, revision: 1, day: a.days.Main})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("inserting %d reports: %w", n, err)
	}
	return nil
}

// stored is a report in the database, as far as deciding needs it.
type stored struct {
	id, reporter int64
	name         string // report_id
	hash         []byte
	active       bool
	chosen       bool // by an operator
	tally        dmarc.Tally
	day          time.Time
	received     time.Time
	period       dmarc.Period
	seen         int64
}

func (o *stored) identity(domain int64) identity {
	return identity{domain, o.reporter, o.name, o.period.Begin.Unix(), o.period.End.Unix()}
}

// lockReports returns reports of a domain that meet a condition, by number,
// and locks them.
func lockReports(ctx context.Context, tx pgx.Tx, where string, args ...any) ([]stored, error) {
	sql := `
		SELECT id, reporter_id, report_id, hash, active, chosen, day, received_at, begins_at, ends_at, seen, ` + strings.Join(tallyNames, ", ") + `
		FROM reports
		WHERE domain_id = $1 AND ` + where + `
		ORDER BY id
		FOR UPDATE`
	rows, _ := tx.Query(ctx, sql, args...)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o stored, err error) {
		into := []any{&o.id, &o.reporter, &o.name, &o.hash, &o.active, &o.chosen, &o.day, &o.received, &o.period.Begin, &o.period.End, &o.seen}
		err = row.Scan(append(into, scanTally(&o.tally)...)...)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading reports of the same identity: %w", err)
	}
	return all, nil
}

// lockIdentity returns all contents of one identity, by number, and locks them.
func lockIdentity(ctx context.Context, tx pgx.Tx, k identity) ([]stored, error) {
	return lockReports(ctx, tx, "reporter_id = $2 AND report_id = $3 AND begins_at = $4 AND ends_at = $5",
		k.domain, k.reporter, k.id, time.Unix(k.begin, 0), time.Unix(k.end, 0))
}

// settle decides about a report whose identity is taken. The same content is a
// duplicate. Of different contents the one with more messages counts, on a tie
// the later one; the other is kept without its rows.
func (b *batch) settle(ctx context.Context, tx pgx.Tx, a *aggregate, w *rowWriter) error {
	others, err := lockIdentity(ctx, tx, a.identity())
	if err != nil {
		return err
	}
	var active *stored
	for i := range others {
		o := &others[i]
		if bytes.Equal(o.hash, a.rep.Hash[:]) {
			if _, err := tx.Exec(ctx, "UPDATE reports SET seen = seen + 1 WHERE domain_id = $1 AND id = $2", a.domain, o.id); err != nil {
				return fmt.Errorf("counting a duplicate: %w", err)
			}
			a.id, a.outcome, a.reason = o.id, dmarc.OutcomeDuplicate, "this report was stored before"
			return nil
		}
		if o.active {
			active = o
		}
	}
	if active == nil {
		return fmt.Errorf("report %q: its identity is taken, but no other report is active", a.rep.ID)
	}

	a.outcome = dmarc.OutcomeConflict
	switch {
	case b.horizons.noRows(a.domain, active.day) && active.tally.Rows > 0:
		a.reason = fmt.Sprintf("another report of the same identity counts (%d messages, this one %d) and cannot be replaced: its rows are no longer kept", active.tally.Messages, a.rep.Tally.Messages)
		return b.insertReports(ctx, tx, []*aggregate{a}, false)
	case active.chosen:
		a.reason = fmt.Sprintf("another report of the same identity was chosen to count (%d messages, this one %d)", active.tally.Messages, a.rep.Tally.Messages)
		return b.insertReports(ctx, tx, []*aggregate{a}, false)
	case a.rep.Tally.Messages < active.tally.Messages:
		a.reason = fmt.Sprintf("another report of the same identity has more messages (%d, this one %d) and counts", active.tally.Messages, a.rep.Tally.Messages)
		return b.insertReports(ctx, tx, []*aggregate{a}, false)
	}
	a.reason = fmt.Sprintf("replaces another report of the same identity (%d messages, this one %d)", active.tally.Messages, a.rep.Tally.Messages)
	if err := b.retire(ctx, tx, a.domain, active); err != nil {
		return err
	}
	if err := b.insertReports(ctx, tx, []*aggregate{a}, true); err != nil {
		return err
	}
	return w.addReport(ctx, a)
}

// retire takes a report and its rows out of what counts.
func (b *batch) retire(ctx context.Context, tx pgx.Tx, domain int64, old *stored) error {
	days, _ := old.period.Attribute(old.received)
	err := eachVerdict(ctx, tx, domain, old.day, old.id, func(verdict dmarc.Verdict, messages, n int64) {
		b.rollup.addRow(domain, old.reporter, days, verdict, messages, -n)
	})
	if err != nil {
		return err
	}
	b.rollup.addReport(domain, old.reporter, days, -1)
	if _, err := tx.Exec(ctx, "DELETE FROM row_groups WHERE domain_id = $1 AND day = $2 AND report = $3", domain, old.day, old.id); err != nil {
		return fmt.Errorf("removing the rows of a replaced report: %w", err)
	}
	c := change{domain: domain, report: old.id, day: old.day}
	const sql = `
		UPDATE reports
		SET active = false, chosen = false, revision = revision + 1
		WHERE domain_id = $1 AND id = $2
		RETURNING revision`
	if err := tx.QueryRow(ctx, sql, domain, old.id).Scan(&c.revision); err != nil {
		return fmt.Errorf("retiring a replaced report: %w", err)
	}
	b.changed = append(b.changed, c)
	return nil
}

// reportKey is the name of a stored report for the outside.
func reportKey(domain, id int64) string {
	return strconv.FormatInt(domain, 10) + "-" + strconv.FormatInt(id, 10)
}

// parseReportKey reverses reportKey. Nothing has a name of another form, so
// that the error is dmarc.ErrNotFound.
func parseReportKey(key string) (domain, id int64, err error) {
	d, i, ok := strings.Cut(key, "-")
	domain, err1 := strconv.ParseInt(d, 10, 64)
	id, err2 := strconv.ParseInt(i, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("report %q: %w", key, dmarc.ErrNotFound)
	}
	return domain, id, nil
}
