package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// How much is kept of a domain and day. Sources beyond are folded as
// dmarc.Fold says, and keys beyond are kept as a sum.
const (
	keptSources   = 500
	sourcesAtOnce = 20 * keptSources // in memory
	keptSelectors = 200
	seenSelectors = 5000 // that are told apart in memory
	bodiesAtHand  = 4096 // raw results that are kept decoded
)

// SummariseFacts brings source_facts, fact_lists and selector_days up to date with the
// days that changed since the last pass, each once, as SummariseSources does.
func (s *Store) SummariseFacts(ctx context.Context) error {
	p := &dayPass{name: "facts", seen: "reduced", make: reduceChanged, after: func(ctx context.Context, tx pgx.Tx, d changedDay) error {
		return noteVerdict(ctx, tx, d.Domain, false)
	}}
	if err := p.follow(ctx, s); err != nil {
		return err
	}
	return s.packOldDays(ctx)
}

// reduceChanged makes the facts of a day anew. What counts for no day is no evidence. Of a
// day whose rows are gone, the facts stay as they were; late reports add nothing to them.
func reduceChanged(ctx context.Context, tx pgx.Tx, d changedDay, settled bool) error {
	switch {
	case !d.Dated:
		return nil
	case settled:
		return repackDay(ctx, tx, d.Domain, d.Day, d.changes)
	}
	lines, err := reduceDay(ctx, tx, d.Domain, d.Name, d.Day)
	if err != nil {
		return err
	}
	return lines.replace(ctx, tx, d.Domain, d.Day, d.changes)
}

// factLines are what the tables hold about a day of a domain.
type factLines struct {
	sources   []dmarc.SourceDay
	selectors []selectorLine
}

type selectorKey struct{ signer, selector string }

type selectorLine struct {
	selectorKey
	kind   int16
	own    bool // a key of the domain's organization that passed
	passed int64
	dmarc.Tally
}

// Kinds of lines: see the tables.
const (
	kindNamed      = 0
	kindUnreadable = 1
	kindOthers     = 2
)

// A countedReport is a report whose rows count for a day.
type countedReport struct {
	reporter int64
	policy   dmarc.PolicyPublished
	days     dmarc.Attribution
	day      time.Time // that its rows are kept under
	long     bool      // its counts are shared among days
}

// countedReports returns the reports with a share in a day of a domain.
func countedReports(ctx context.Context, tx pgx.Tx, domain int64, name string, day time.Time) (map[int64]*countedReport, error) {
	const sql = `
		SELECT id, reporter_id, about, begins_at, ends_at, received_at, day
		FROM reports
		WHERE domain_id = $1 AND active AND dated
			AND begins_at >= $2::date - 32 AND begins_at < $2::date + 2
			AND (day = $2 OR ends_at - begins_at > interval '25 hours')`
	rows, _ := tx.Query(ctx, sql, domain, day)
	var id, reporter int64
	var text about
	var sent dmarc.Period
	var received, kept time.Time
	all := make(map[int64]*countedReport)
	_, err := pgx.ForEachRow(rows, []any{&id, &reporter, &text, &sent.Begin, &sent.End, &received, &kept}, func() error {
		days, _ := sent.Attribute(received)
		if days.Dated && slices.ContainsFunc(days.Days, day.Equal) {
			all[id] = &countedReport{reporter, text.policy(name), days, kept, days.Estimated}
		}
		text = about{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the reports of a day: %w", err)
	}
	return all, nil
}

// reduceDay computes the facts of a day from its rows, one source after the
// other.
func reduceDay(ctx context.Context, tx pgx.Tx, domain int64, name string, day time.Time) (*factLines, error) {
	reports, err := countedReports(ctx, tx, domain, name, day)
	if err != nil {
		return nil, err
	}
	long, days := []int64{}, []time.Time{day}
	for id, r := range reports {
		if r.long {
			long, days = append(long, id), append(days, r.day)
		}
	}
	// Shares are rounded row by row, so that rows of long reports are kept
	// apart by their count.
	sql := `
		WITH taken AS (
			SELECT source, report, auth_id, header_from_id, envelope_from_id, verdict,
				CASE WHEN report = ANY (@long) THEN messages ELSE 0 END AS each,
				count(*) AS rows, sum(messages)::bigint AS messages
			FROM ` + singleRows("domain_id = @domain AND day = ANY (@days) AND day >= @first AND day <= @last AND (day = @day OR report = ANY (@long))",
		"source", "auth_id", "header_from_id", "envelope_from_id", "verdict", "messages") + `
			WHERE day = @day AND verdict & @odd = 0 OR report = ANY (@long)
			GROUP BY 1, 2, 3, 4, 5, 6, 7
		)
		SELECT t.source, t.report, t.auth_id, a.body, coalesce(f.name, ''), coalesce(e.name, ''), t.envelope_from_id IS NOT NULL,
			t.verdict, t.each, t.rows, t.messages
		FROM taken t
		JOIN auth_results a ON a.domain_id = @domain AND a.id = t.auth_id
		LEFT JOIN names f ON f.domain_id = @domain AND f.id = t.header_from_id
		LEFT JOIN names e ON e.domain_id = @domain AND e.id = t.envelope_from_id
		ORDER BY t.source, t.report, t.auth_id, t.header_from_id, t.envelope_from_id, t.verdict, t.each`
	rows, err := tx.Query(ctx, sql, pgx.NamedArgs{"domain": domain, "day": day, "odd": verdictUndated | verdictEstimated, "long": long, "days": days,
		"first": slices.MinFunc(days, time.Time.Compare), "last": slices.MaxFunc(days, time.Time.Compare)})
	if err != nil {
		return nil, fmt.Errorf("reading rows: %w", err)
	}
	defer rows.Close()
	d := &dayReducer{day: day, foldAt: sourcesAtOnce, org: dmarc.OrganizationalDomain(name), selectors: make(map[selectorKey]*selectorLine), bodies: make(map[int64]*authBody)}
	for rows.Next() {
		var report, auth, each, n, messages int64
		var source *netip.Addr
		var body []byte
		var verdict int16
		var known bool
		row := &d.row
		*row = dmarc.Row{Reasons: row.Reasons[:0], AuthDKIM: row.AuthDKIM[:0], AuthSPF: row.AuthSPF[:0]}
		if err := rows.Scan(&source, &report, &auth, &body, &row.HeaderFrom, &row.EnvelopeFrom, &known, &verdict, &each, &n, &messages); err != nil {
			return nil, fmt.Errorf("reading rows: %w", err)
		}
		r := reports[report]
		if r == nil {
			continue // it does not count
		}
		if source != nil {
			row.Source = *source
		}
		row.NullSender = known && row.EnvelopeFrom == ""
		v := dmarc.Verdict(verdict & verdictMask)
		row.Disposition, row.DKIM, row.SPF = v.Disposition(), resultOf(v, dmarc.VerdictDKIM, dmarc.VerdictDKIMUnknown), resultOf(v, dmarc.VerdictSPF, dmarc.VerdictSPFUnknown)
		if err := d.fill(auth, body); err != nil {
			return nil, err
		}
		d.add(r, v, each, n, messages)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading rows: %w", err)
	}
	return d.lines(), nil
}

// A dayReducer reduces the rows of a day, sorted by source.
type dayReducer struct {
	day       time.Time
	org       string // organizational domain of the domain
	own       int    // how many of selectors are own
	row       dmarc.Row
	source    netip.Addr // of the rows that are being reduced
	facts     dmarc.FactReducer
	sources   []dmarc.SourceDay
	foldAt    int // how many sources are folded: twice as many as are left, so that it costs little
	selectors map[selectorKey]*selectorLine
	others    selectorLine
	bodies    map[int64]*authBody
	share     []int64
}

// fill takes the raw results of the row from what the dictionary has.
func (d *dayReducer) fill(id int64, text []byte) error {
	body := d.bodies[id]
	if body == nil {
		body = new(authBody)
		if err := json.Unmarshal(text, body); err != nil {
			return fmt.Errorf("raw results %d: %w", id, err)
		}
		if len(d.bodies) >= bodiesAtHand {
			clear(d.bodies)
		}
		d.bodies[id] = body
	}
	body.fill(&d.row)
	return nil
}

// add takes in n equal rows of a report: of each messages if it is a long one.
func (d *dayReducer) add(r *countedReport, v dmarc.Verdict, each, n, messages int64) {
	if d.row.Source != d.source {
		d.flush()
		d.source = d.row.Source
	}
	here, counted := messages, n
	if r.long {
		i := slices.IndexFunc(r.days.Days, d.day.Equal)
		d.share = r.days.Share(each, d.share)
		here = n * d.share[i]
		if !d.day.Equal(r.days.Main) {
			counted = 0 // rows count for the main day
		}
		d.row.Count = each
		for range n {
			d.facts.Add(&d.row, &r.policy, r.days, r.reporter)
		}
	} else {
		d.row.Count = messages
		d.facts.Add(&d.row, &r.policy, r.days, r.reporter)
	}
	if here == 0 && counted == 0 {
		return
	}
	for i := range d.row.AuthDKIM {
		a := &d.row.AuthDKIM[i]
		key := selectorKey{a.Domain, a.Selector}
		twice := func(o dmarc.DKIMResult) bool { return o.Domain == key.signer && o.Selector == key.selector }
		if a.Domain == "" || slices.ContainsFunc(d.row.AuthDKIM[:i], twice) {
			continue
		}
		// Anyone can name keys, and only the domain's owner can make its keys
		// pass: those are never crowded out.
		valid := slices.ContainsFunc(d.row.AuthDKIM[i:], func(o dmarc.DKIMResult) bool { return twice(o) && o.Result == dmarc.ResultPass })
		own := valid && dmarc.OrganizationalDomain(a.Domain) == d.org
		line := d.selectors[key]
		switch {
		case line != nil:
		case own && d.own < seenSelectors || len(d.selectors)-d.own < seenSelectors:
			line = &selectorLine{selectorKey: key}
			d.selectors[key] = line
		default:
			line = &d.others
		}
		if own && !line.own && line != &d.others {
			line.own = true
			d.own++
		}
		line.AddVerdict(v, counted, here)
		if valid {
			line.passed += here
		}
	}
}

// flush takes the facts of a source over.
func (d *dayReducer) flush() {
	for _, s := range d.facts.Take() {
		if s.Day.Equal(d.day) {
			d.sources = append(d.sources, s)
		}
	}
	if len(d.sources) >= d.foldAt {
		d.sources = dmarc.Fold(d.sources, keptSources)
		d.foldAt = 2*len(d.sources) + sourcesAtOnce
	}
}

func (d *dayReducer) lines() *factLines {
	d.flush()
	out := &factLines{sources: dmarc.Fold(d.sources, keptSources)}
	slices.SortFunc(out.sources, dmarc.ByDayAndSource)
	for _, line := range d.selectors {
		out.selectors = append(out.selectors, *line)
	}
	slices.SortFunc(out.selectors, func(a, b selectorLine) int {
		if a.own != b.own {
			return sign(a.own)
		}
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.signer, b.signer), cmp.Compare(a.selector, b.selector))
	})
	others := d.others
	for len(out.selectors) > keptSelectors {
		last := out.selectors[len(out.selectors)-1]
		others.Merge(last.Tally)
		others.passed += last.passed
		out.selectors = out.selectors[:len(out.selectors)-1]
	}
	if others.Messages > 0 {
		others.kind = kindOthers
		out.selectors = append(out.selectors, others)
	}
	return out
}

// replace writes the lines of a day in the place of those that are there; reduced is
// what domain_days has for them, 0 for a day that it does not have.
func (l *factLines) replace(ctx context.Context, tx pgx.Tx, domain int64, day time.Time, reduced int64) error {
	for _, table := range []string{"source_facts", "fact_lists", "selector_days"} {
		if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE domain_id = $1 AND day = $2", domain, day); err != nil {
			return err
		}
	}
	if reduced != 0 {
		if err := writeFactList(ctx, tx, domain, day, reduced, l.sources); err != nil {
			return err
		}
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"source_facts"}, []string{"domain_id", "day", "kind", "source", "facts"},
		pgx.CopyFromSlice(len(l.sources), func(i int) ([]any, error) {
			kind, source := factSource(&l.sources[i])
			return []any{domain, day, kind, source, l.sources[i].AppendFacts(nil)}, nil
		}))
	if err != nil {
		return fmt.Errorf("writing facts: %w", err)
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"selector_days"}, slices.Concat([]string{"domain_id", "day", "kind", "signer", "selector", "passed"}, tallyNames),
		pgx.CopyFromSlice(len(l.selectors), func(i int) ([]any, error) {
			t := &l.selectors[i]
			return []any{domain, day, t.kind, clean(t.signer), clean(t.selector), t.passed, t.Rows, t.Messages, t.DMARCPass, t.DKIMAligned, t.SPFAligned,
				t.None, t.Quarantine, t.Reject, t.Pass, t.Unstated}, nil
		}))
	if err != nil {
		return fmt.Errorf("writing selectors: %w", err)
	}
	return nil
}

// factSource returns kind and source as the table has them.
func factSource(s *dmarc.SourceDay) (kind int16, source netip.Prefix) {
	if !s.Source.IsValid() {
		return kindUnreadable, netip.PrefixFrom(netip.IPv6Unspecified(), 128)
	}
	return kindNamed, s.Source
}

var selectorSorts = tallied("key", "text", map[string]order{
	"passed":   {by: "passed", kind: "bigint"},
	"last_day": dayNumber("last"),
	"key":      {by: "key", kind: "text"},
})

// Selectors returns the DKIM keys that signed mail of a domain, busiest first.
func (s *Store) Selectors(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SelectorList, dmarc.Cursor, error) {
	var list dmarc.SelectorList
	ids, o, behind, args, err := s.trafficList(ctx, &q, selectorSorts)
	if err != nil {
		return list, "", err
	}
	one := isOneOf("domain_id", ids, args) + " AND day >= @begin AND day < @end"
	rest := `
		SELECT coalesce((SELECT sum(messages) FROM selector_days
				WHERE ` + one + ` AND kind = 2), 0)::bigint,
			EXISTS (SELECT FROM domain_days WHERE ` + one + ` AND changes <> reduced)`
	if err := s.db.QueryRow(ctx, rest, args).Scan(&list.Others, &list.Pending); err != nil {
		return list, "", fmt.Errorf("selectors of %s: %w", q.Domain, err)
	}
	sql := `
		WITH keys AS (
			SELECT signer, selector, signer || ' ' || selector AS key, max(day) AS last, max(day) FILTER (WHERE passed > 0) AS last_passed,
				sum(passed)::bigint AS passed, ` + summed(tallyNames) + `
			FROM selector_days
			WHERE ` + one + ` AND kind = 0
			GROUP BY signer, selector
		)
		SELECT signer, selector, last, last_passed, passed, ` + strings.Join(tallyNames, ", ") + `, (` + o.by + `)::text, ` + o.by + ` AS sorted
		FROM keys
		WHERE ` + behind + talliesOf(&q.Filter, "") + `
		ORDER BY ` + o.clause() + `
		LIMIT @limit`
	type line struct {
		dmarc.SelectorTraffic
		place string
	}
	rows, _ := s.db.Query(ctx, sql, args)
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
		var passed *time.Time
		into := append([]any{&l.Domain, &l.Selector, &l.LastDay, &passed, &l.Passed}, scanTally(&l.Tally)...)
		err = row.Scan(append(into, &l.place, nil)...)
		if passed != nil {
			l.LastPassed = *passed
		}
		return l, err
	})
	if err != nil {
		return list, "", fmt.Errorf("selectors of %s: %w", q.Domain, err)
	}
	var next dmarc.Cursor
	list.Items, next, err = pageOf(lines, q.Limit, func(l line) dmarc.SelectorTraffic { return l.SelectorTraffic },
		func(l line) dmarc.Cursor { return placeCursor(l.place, l.Domain+" "+l.Selector) })
	return list, next, err
}

// ReporterNames returns who the reporters of a domain are, by the numbers that
// facts have.
func (s *Store) ReporterNames(ctx context.Context, domain string) (map[int64]string, error) {
	id, err := s.domainID(ctx, domain)
	if err != nil {
		return nil, err
	}
	rows, _ := s.db.Query(ctx, "SELECT id, org_name FROM reporters WHERE domain_id = $1", id)
	names := make(map[int64]string)
	var number int64
	var name string
	_, err = pgx.ForEachRow(rows, []any{&number, &name}, func() error {
		names[number] = name
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reporters of %s: %w", domain, err)
	}
	return names, nil
}
