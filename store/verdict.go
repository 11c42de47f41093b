package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// How often verdicts are computed: at least once a day, and not more often
// than in some minutes, however many reports arrive.
const (
	verdictLatest  = 24 * time.Hour
	verdictSoonest = 5 * time.Minute
)

// maxClasses is how many sources of a domain are kept with their class.
const maxClasses = 5000

// DueVerdicts returns domains whose verdict is to be computed, by their
// number, after a number.
func (s *Store) DueVerdicts(ctx context.Context, now time.Time, after int64, limit int) ([]dmarc.DueVerdict, error) {
	const sql = `
		SELECT d.id, d.name, coalesce(v.changes, 0)
		FROM domains d
		LEFT JOIN verdicts v ON v.domain_id = d.id
		WHERE d.name <> '' AND NOT d.ignored AND d.id > $2 AND (v.due_at IS NULL OR v.due_at <= $1)
		ORDER BY d.id
		LIMIT $3`
	rows, _ := s.db.Query(ctx, sql, now, after, limit)
	due, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.DueVerdict])
	if err != nil {
		return nil, fmt.Errorf("finding verdicts to compute: %w", err)
	}
	return due, nil
}

// EvidenceStamp returns what changes whenever a verdict about a domain may change;
// dmarc.ErrNotFound for an unknown domain.
func (s *Store) EvidenceStamp(ctx context.Context, domain string) (dmarc.Stamp, error) {
	const sql = `
		SELECT coalesce(v.changes, 0), v.computed_at
		FROM domains d
		LEFT JOIN verdicts v ON v.domain_id = d.id
		WHERE d.name = $1`
	var stamp dmarc.Stamp
	var computed *time.Time
	err := s.db.QueryRow(ctx, sql, clean(domain)).Scan(&stamp.Changes, &computed)
	if errors.Is(err, pgx.ErrNoRows) {
		return stamp, dmarc.ErrNotFound
	}
	if err != nil {
		return stamp, fmt.Errorf("looking whether evidence about %s has changed: %w", domain, err)
	}
	if computed != nil {
		stamp.Judged = computed.UnixMicro()
	}
	return stamp, nil
}

// DomainsOfManySources returns domains whose last verdict is about at least so many sources,
// those with most first.
func (s *Store) DomainsOfManySources(ctx context.Context, least, limit int) ([]string, error) {
	const sql = `
		SELECT d.name
		FROM (
			SELECT domain_id, count(*) AS sources
			FROM domain_sources
			GROUP BY domain_id
			HAVING count(*) >= $1
			ORDER BY sources DESC
			LIMIT $2
		) AS many
		JOIN domains d ON d.id = many.domain_id
		ORDER BY many.sources DESC, d.name`
	rows, _ := s.db.Query(ctx, sql, least, limit)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("looking for domains with many sources: %w", err)
	}
	return names, nil
}

// noteVerdict says that something changed that the verdict about a domain
// depends on. With at once, somebody waits for it.
func noteVerdict(ctx context.Context, tx pgx.Tx, domain int64, atOnce bool) error {
	const sql = `
		INSERT INTO verdicts AS v (domain_id)
		VALUES ($1)
		ON CONFLICT (domain_id) DO UPDATE
		SET changes = v.changes + 1, due_at = least(v.due_at, CASE WHEN $2 THEN $3 ELSE greatest($3, v.soonest_at) END)`
	_, err := tx.Exec(ctx, sql, domain, atOnce, time.Now())
	return err
}

// changeVerdicts changes many verdicts, one transaction at a time: two that lock
// them in another order would wait for each other.
func changeVerdicts(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('dmarcd verdicts', 0))"); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, sql, args...)
	return err
}

// SaveVerdict keeps a verdict with the classes it rests on. What changed since
// due was read has it computed again.
func (s *Store) SaveVerdict(ctx context.Context, due dmarc.DueVerdict, v *dmarc.DomainVerdict, classes []dmarc.SourceClass) error {
	h := fnv.New32a()
	h.Write([]byte(due.Domain))
	wait := verdictLatest - verdictLatest/5*time.Duration(h.Sum32()%1000)/1000 // so that they spread
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		const keep = `
			INSERT INTO verdicts AS v (domain_id, computed_at, soonest_at, due_at, verdict, policy, target, next, attention, sentence, blockers, ask, days,
				loss_a_day, by_class, own, passing)
			VALUES (@domain, @at, @soonest, @due, @verdict, @policy, @target, @next, @attention, @sentence, @blockers, @ask, @days,
				@loss, @by_class, @own, @passing)
			ON CONFLICT (domain_id) DO UPDATE
			SET computed_at = excluded.computed_at, soonest_at = excluded.soonest_at, verdict = excluded.verdict, policy = excluded.policy, target = excluded.target,
				next = excluded.next, attention = excluded.attention, sentence = excluded.sentence, blockers = excluded.blockers,
				ask = excluded.ask, days = excluded.days, loss_a_day = excluded.loss_a_day, by_class = excluded.by_class,
				own = excluded.own, passing = excluded.passing,
				due_at = CASE WHEN v.changes = @changes THEN excluded.due_at ELSE excluded.soonest_at END`
		_, err := tx.Exec(ctx, keep, pgx.NamedArgs{
			"domain": due.ID, "at": v.ComputedAt, "soonest": v.ComputedAt.Add(verdictSoonest), "due": v.ComputedAt.Add(wait), "verdict": v.Verdict, "policy": v.Policy, "target": v.Target, "next": v.Next,
			"attention": int16(v.Attention), "sentence": clean(v.Sentence), "blockers": v.Blockers, "ask": v.Ask, "days": v.Days,
			"loss": v.LossADay, "by_class": v.ByClass[:], "own": v.Own, "passing": v.Passing, "changes": due.Changes,
		})
		if err != nil {
			return err
		}
		return saveClasses(ctx, tx, due.ID, classes)
	})
	if err != nil {
		return fmt.Errorf("keeping the verdict about %s: %w", due.Domain, err)
	}
	return nil
}

// PostponeVerdict has a verdict that could not be computed tried again later.
func (s *Store) PostponeVerdict(ctx context.Context, due dmarc.DueVerdict, until time.Time) error {
	const sql = `
		INSERT INTO verdicts (domain_id, due_at)
		VALUES ($1, $2)
		ON CONFLICT (domain_id) DO UPDATE
		SET due_at = excluded.due_at`
	if _, err := s.db.Exec(ctx, sql, due.ID, until); err != nil {
		return fmt.Errorf("postponing the verdict about %s: %w", due.Domain, err)
	}
	return nil
}

// saveClasses keeps the classes of a domain in the place of those before, and
// lets the installation know of the difference.
func saveClasses(ctx context.Context, tx pgx.Tx, domain int64, classes []dmarc.SourceClass) error {
	next := make(map[netip.Prefix]dmarc.SourceClass)
	classes = slices.Clone(classes)
	slices.SortFunc(classes, func(a, b dmarc.SourceClass) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), a.Source.Addr().Compare(b.Source.Addr()), cmp.Compare(a.Source.Bits(), b.Source.Bits()))
	})
	for _, c := range classes {
		if !c.Source.IsValid() {
			continue
		}
		if len(next) == maxClasses {
			break
		}
		c.Messages = 1 << max(0, bits.Len64(uint64(c.Messages))-1)
		next[c.Source] = c
	}
	before := make(map[netip.Prefix]dmarc.SourceClass)
	rows, _ := tx.Query(ctx, "SELECT source, class, confidence, alone, messages FROM domain_sources WHERE domain_id = $1", domain)
	var c dmarc.SourceClass
	_, err := pgx.ForEachRow(rows, []any{&c.Source, &c.Class, &c.Confidence, &c.Alone, &c.Messages}, func() error {
		before[c.Source] = c
		return nil
	})
	if err != nil {
		return err
	}
	d := make(shift)
	var gone []netip.Prefix
	var fresh []dmarc.SourceClass
	for source, old := range before {
		if next[source] == old {
			continue
		}
		if _, kept := next[source]; !kept {
			gone = append(gone, source)
		}
		d.add(&old, -1)
	}
	for source, c := range next {
		if before[source] != c {
			fresh = append(fresh, c)
			d.add(&c, 1)
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM domain_sources WHERE domain_id = $1 AND source = ANY ($2)", domain, gone); err != nil {
		return err
	}
	n := len(fresh)
	sources, class, confidence, alone, messages := make([]netip.Prefix, n), make([]int16, n), make([]int16, n), make([]int16, n), make([]int64, n)
	for i, c := range fresh {
		sources[i], class[i], confidence[i], alone[i], messages[i] = c.Source, int16(c.Class), int16(c.Confidence), int16(c.Alone), c.Messages
	}
	const keep = `
		INSERT INTO domain_sources (domain_id, source, class, confidence, alone, messages)
		SELECT $1, f.* FROM unnest($2::inet[], $3::smallint[], $4::smallint[], $5::smallint[], $6::bigint[]) AS f
		ON CONFLICT (domain_id, source) DO UPDATE
		SET class = excluded.class, confidence = excluded.confidence, alone = excluded.alone, messages = excluded.messages`
	if n > 0 {
		if _, err := tx.Exec(ctx, keep, domain, sources, class, confidence, alone, messages); err != nil {
			return err
		}
	}
	return d.apply(ctx, tx)
}

// A shift is by how much the counts of addresses change.
type shift map[netip.Addr]*shifted

type shifted struct {
	messages int64
	domains  [dmarc.NumClasses]int32
}

func (d shift) add(c *dmarc.SourceClass, sign int) {
	if !c.Source.IsSingleIP() {
		return // it stands for many
	}
	addr := c.Source.Addr()
	if d[addr] == nil {
		d[addr] = &shifted{}
	}
	d[addr].messages += int64(sign) * c.Messages
	d[addr].domains[c.Alone] += int32(sign)
}

// apply adds the difference, in the order of addresses, so that transactions
// cannot wait for each other. What no domain has any more is forgotten.
func (d shift) apply(ctx context.Context, tx pgx.Tx) error {
	var addrs []netip.Addr
	for a, s := range d {
		if *s != (shifted{}) {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	messages := make([]int64, len(addrs))
	var counts [dmarc.NumClasses][]int32
	for i, a := range addrs {
		messages[i] = d[a].messages
		for class, n := range d[a].domains {
			counts[class] = append(counts[class], n)
		}
	}
	const add = `
		INSERT INTO source_identities AS s (source, messages, unknown, own, service, forwarder, suspicious)
		SELECT * FROM unnest($1::inet[], $2::bigint[], $3::int[], $4::int[], $5::int[], $6::int[], $7::int[])
		ON CONFLICT (source) DO UPDATE
		SET messages = s.messages + excluded.messages, unknown = s.unknown + excluded.unknown, own = s.own + excluded.own,
			service = s.service + excluded.service, forwarder = s.forwarder + excluded.forwarder, suspicious = s.suspicious + excluded.suspicious`
	if _, err := tx.Exec(ctx, add, addrs, messages, counts[0], counts[1], counts[2], counts[3], counts[4]); err != nil {
		return err
	}
	const forget = `
		DELETE FROM source_identities
		WHERE source = ANY ($1) AND unknown + own + service + forwarder + suspicious <= 0`
	_, err := tx.Exec(ctx, forget, addrs)
	return err
}

// verdictColumns are in the order of scanVerdict.
const verdictColumns = `v.computed_at, v.verdict, v.policy, v.target, v.next, v.attention, v.sentence, v.blockers, v.ask, v.days,
	v.loss_a_day, v.by_class, v.own, v.passing`

func scanVerdict(row pgx.Row, v *dmarc.DomainVerdict, first ...any) error {
	var byClass []int64
	err := row.Scan(append(first, &v.ComputedAt, &v.Verdict, &v.Policy, &v.Target, &v.Next, &v.Attention, &v.Sentence, &v.Blockers, &v.Ask,
		&v.Days, &v.LossADay, &byClass, &v.Own, &v.Passing)...)
	copy(v.ByClass[:], byClass)
	return err
}

// verdictOf is a question for the verdict about a domain.
const verdictOf = "SELECT " + verdictColumns + " FROM verdicts v WHERE v.domain_id = $1 AND v.computed_at IS NOT NULL"

// readVerdict reads what verdictOf answers: nil if there is no verdict yet.
func readVerdict(row pgx.Row, domain string) (*dmarc.DomainVerdict, error) {
	v := &dmarc.DomainVerdict{Domain: domain}
	err := scanVerdict(row, v)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return v, err
}

// Attention returns the domains by what deserves attention today: the most
// urgent first, and of those the ones that would lose most.
func (s *Store) Attention(ctx context.Context, q dmarc.AttentionQuery) ([]dmarc.DomainVerdict, dmarc.Cursor, error) {
	attention, loss, after, err := afterAttention(q.After)
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"attention": attention, "loss": loss, "after": after, "limit": q.Limit + 1}
	within, err := s.within(ctx, q.Scope, "v.domain_id", args)
	if err != nil {
		return nil, "", err
	}
	one, err := s.ofDomain(ctx, "v.domain_id", q.Domain, q.Subdomains, args)
	if errors.Is(err, dmarc.ErrNotFound) {
		return []dmarc.DomainVerdict{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	within += one
	if q.Verdict != "" {
		within, args["verdict"] = within+" AND v.verdict = @verdict", clean(q.Verdict)
	}
	if q.Only {
		within, args["reason"] = within+" AND v.attention = @reason", int16(q.Reason)
	}
	sql := `
		SELECT d.id, d.name, ` + verdictColumns + `
		FROM verdicts v
		JOIN domains d ON d.id = v.domain_id
		WHERE v.computed_at IS NOT NULL AND NOT d.ignored AND (v.attention, -v.loss_a_day, v.domain_id) > (@attention, -@loss::double precision, @after)` + within + `
		ORDER BY v.attention, v.loss_a_day DESC, v.domain_id
		LIMIT @limit`
	type line struct {
		dmarc.DomainVerdict
		id int64
	}
	rows, _ := s.db.Query(ctx, sql, args)
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
		err = scanVerdict(row, &l.DomainVerdict, &l.id, &l.Domain)
		return l, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("what deserves attention: %w", err)
	}
	return pageOf(lines, q.Limit, func(l line) dmarc.DomainVerdict { return l.DomainVerdict },
		func(l line) dmarc.Cursor { return attentionCursor(l.Attention, l.LossADay, l.id) })
}
