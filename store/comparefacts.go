package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// storedFacts are the facts of a day as the tables have them.
type storedFacts struct {
	list      []byte // all sources in one piece; nil if it is not read
	sources   map[factKey][]byte
	selectors map[lineKey][]int64
}

type factKey struct {
	kind   int16
	source netip.Prefix
}

func (k factKey) String() string {
	if k.kind == kindUnreadable {
		return "no address"
	}
	if k.source.IsSingleIP() {
		return k.source.Addr().String()
	}
	return k.source.String()
}

type lineKey struct {
	kind int16
	selectorKey
}

func (k lineKey) String() string {
	if k.kind == kindOthers {
		return "all other keys"
	}
	return fmt.Sprintf("%q at %q", k.selector, k.signer)
}

var selectorColumns = slices.Concat([]string{"passed"}, tallyNames)

// stored returns lines as replace writes them.
func (l *factLines) stored() *storedFacts {
	f := &storedFacts{dmarc.AppendFactList(nil, l.sources), make(map[factKey][]byte), make(map[lineKey][]int64)}
	for i := range l.sources {
		kind, source := factSource(&l.sources[i])
		f.sources[factKey{kind, source}] = l.sources[i].AppendFacts(nil)
	}
	for i := range l.selectors {
		t := &l.selectors[i]
		f.selectors[lineKey{t.kind, selectorKey{clean(t.signer), clean(t.selector)}}] = []int64{t.passed, t.Rows, t.Messages, t.DMARCPass,
			t.DKIMAligned, t.SPFAligned, t.None, t.Quarantine, t.Reject, t.Pass, t.Unstated}
	}
	return f
}

// readFacts returns what the tables have of a day.
func readFacts(ctx context.Context, tx pgx.Tx, domain int64, day time.Time) (*storedFacts, error) {
	f := &storedFacts{nil, make(map[factKey][]byte), make(map[lineKey][]int64)}
	// A list that is not of the facts as they are is not read, and one of a day that
	// nothing else is known of should not be there.
	const list = `
		SELECT l.facts
		FROM fact_lists l
		LEFT JOIN domain_days t ON t.domain_id = l.domain_id AND t.day = l.day AND t.dated
		WHERE l.domain_id = $1 AND l.day = $2 AND l.reduced = coalesce(t.reduced, l.reduced)`
	if err := tx.QueryRow(ctx, list, domain, day).Scan(&f.list); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("reading fact_lists: %w", err)
	}
	var k factKey
	var facts []byte
	rows, _ := tx.Query(ctx, "SELECT kind, source, facts FROM source_facts WHERE domain_id = $1 AND day = $2", domain, day)
	_, err := pgx.ForEachRow(rows, []any{&k.kind, &k.source, &facts}, func() error {
		f.sources[k] = bytes.Clone(facts)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading source_facts: %w", err)
	}
	const sql = `
		SELECT kind, signer, selector, ARRAY[passed, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated]
		FROM selector_days
		WHERE domain_id = $1 AND day = $2`
	var l lineKey
	var sums []int64
	rows, _ = tx.Query(ctx, sql, domain, day)
	_, err = pgx.ForEachRow(rows, []any{&l.kind, &l.signer, &l.selector, &sums}, func() error {
		f.selectors[l] = slices.Clone(sums)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading selector_days: %w", err)
	}
	return f, nil
}

// compareFacts compares the days that the pass has reduced to facts since they
// changed last, one after the other. Days whose rows are no longer kept are taken as
// they are.
func (v *verifier) compareFacts(ctx context.Context, tx pgx.Tx, pending *int64) error {
	settled, err := settledDays(ctx, tx, v.domain, v.period)
	if err != nil {
		return err
	}
	const days = `
		SELECT day, coalesce(bool_or(changes <> reduced), false), count(changes) > 0
		FROM (
			SELECT day, changes, reduced FROM domain_days WHERE domain_id = @domain AND day >= @begin AND day < @end AND dated
			UNION ALL SELECT day, NULL, NULL FROM source_facts WHERE domain_id = @domain AND day >= @begin AND day < @end
			UNION ALL SELECT day, NULL, NULL FROM fact_lists WHERE domain_id = @domain AND day >= @begin AND day < @end
			UNION ALL SELECT day, NULL, NULL FROM selector_days WHERE domain_id = @domain AND day >= @begin AND day < @end
		) AS t
		GROUP BY day
		ORDER BY day`
	type state struct {
		Day            time.Time
		Pending, Known bool
	}
	rows, _ := tx.Query(ctx, days, pgx.NamedArgs{"domain": v.domain, "begin": v.period.Begin, "end": v.period.End})
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[state])
	if err != nil {
		return fmt.Errorf("finding the days of facts: %w", err)
	}
	for _, d := range all {
		switch {
		case settled(d.Day):
			continue
		case d.Pending:
			*pending++
			continue
		}
		stored, err := readFacts(ctx, tx, v.domain, d.Day)
		if err != nil {
			return err
		}
		computed := new(factLines)
		if d.Known {
			if computed, err = reduceDay(ctx, tx, v.domain, v.name, d.Day); err != nil {
				return err
			}
		}
		want := computed.stored()
		if !d.Known {
			want.list = nil
		}
		if same := v.differFacts(d.Day, stored, want); same || !v.o.Rebuild {
			continue
		}
		// The pass does the rest. A day that nothing is known of needs none.
		const mark = `
			UPDATE domain_days
			SET changes = changes + 1
			WHERE domain_id = $1 AND day = $2 AND dated`
		tag, err := tx.Exec(ctx, mark, v.domain, d.Day)
		if err == nil && tag.RowsAffected() == 0 {
			err = computed.replace(ctx, tx, v.domain, d.Day, 0)
		}
		if err != nil {
			return fmt.Errorf("rebuilding facts: %w", err)
		}
	}
	return nil
}

// differFacts tells of what differs, and reports whether nothing does.
func (v *verifier) differFacts(day time.Time, stored, computed *storedFacts) (same bool) {
	before := len(v.found)
	if stored.list != nil {
		v.lines["fact_lists"]++
		if !bytes.Equal(stored.list, computed.list) {
			v.differ(Difference{Table: "fact_lists", Line: day.Format(time.DateOnly), Stored: describeFactList(stored.list), Computed: describeFactList(computed.list)})
		}
	}
	each(stored.sources, computed.sources, func(k factKey, was, is []byte) {
		v.lines["source_facts"]++
		if was == nil || is == nil || !bytes.Equal(was, is) {
			v.differ(Difference{Table: "source_facts", Line: day.Format(time.DateOnly) + ", " + k.String(), Stored: describeFacts(was), Computed: describeFacts(is)})
		}
	})
	each(stored.selectors, computed.selectors, func(k lineKey, was, is []int64) {
		v.lines["selector_days"]++
		if was == nil || is == nil || !slices.Equal(was, is) {
			d := Difference{Table: "selector_days", Line: day.Format(time.DateOnly) + ", " + k.String()}
			d.Stored, d.Computed = differing(selectorColumns, was, is)
			v.differ(d)
		}
	})
	slices.SortStableFunc(v.found[before:], func(a, b Difference) int { return bytes.Compare([]byte(a.Table+a.Line), []byte(b.Table+b.Line)) })
	return len(v.found) == before
}

// each yields what two maps have under each key, nil for nothing.
func each[K comparable, T any](a, b map[K][]T, yield func(k K, a, b []T)) {
	for k, v := range a {
		yield(k, v, b[k])
	}
	for k, v := range b {
		if _, both := a[k]; !both {
			yield(k, nil, v)
		}
	}
}

// describeFactList says so much of the facts of a day that one can tell them apart.
func describeFactList(list []byte) string {
	if list == nil {
		return ""
	}
	var lists dmarc.FactLists
	err := lists.Add(time.Time{}, list)
	all, err2 := lists.Read()
	if err != nil || err2 != nil {
		return fmt.Sprintf("%d bytes that cannot be read", len(list))
	}
	var messages int64
	for i := range all {
		messages += all[i].Messages()
	}
	return fmt.Sprintf("messages=%d of %d sources, %d bytes", messages, len(all), len(list))
}

// describeFacts says so much of packed facts that one can tell them apart.
func describeFacts(facts []byte) string {
	if facts == nil {
		return ""
	}
	var d dmarc.SourceDay
	if err := d.ReadFacts(facts); err != nil {
		return fmt.Sprintf("%d bytes that cannot be read", len(facts))
	}
	var messages int64
	for _, c := range d.Cells {
		messages += c.Messages
	}
	return fmt.Sprintf("messages=%d in %d cells, %d bytes", messages, len(d.Cells), len(facts))
}
