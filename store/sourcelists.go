package store

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/dmarcd/dmarcd/dmarc"
)

// listedDays is a query for what source_lists has to hold about days of a domain, by
// source_days: where is a condition on the days t. A day without sources has an
// empty list.
func listedDays(where string) string {
	return `
		SELECT t.domain_id, t.day, t.dated, t.summarised, coalesce(string_agg(
			concat_ws(' ', n.kind, host(n.source), ` + columnsOf("n", tallyNames) + `) || E'\n', '' ORDER BY n.kind, n.messages DESC, n.source) FILTER (WHERE n.day IS NOT NULL), '') AS lines
		FROM domain_days t
		LEFT JOIN source_days n ON n.domain_id = t.domain_id AND n.day = t.day AND n.dated = t.dated
		WHERE ` + where + `
		GROUP BY t.domain_id, t.day, t.dated, t.summarised`
}

// listSources writes the list of a day as its sources stand.
func listSources(ctx context.Context, tx pgx.Tx, d changedDay) error {
	sql := `
		INSERT INTO source_lists (domain_id, day, dated, summarised, lines)` + listedDays("t.domain_id = $1 AND t.day = $2 AND t.dated = $3") + `
		ON CONFLICT (domain_id, day, dated) DO UPDATE
		SET summarised = excluded.summarised, lines = excluded.lines`
	_, err := tx.Exec(ctx, sql, d.Domain, d.Day, d.Dated)
	return err
}

// listedAtOnce is for how many domains one pass makes the lists that are missing.
const listedAtOnce = 500

// listOldDays makes the lists of days that were summarised before there were lists.
func (s *Store) listOldDays(ctx context.Context) error {
	for range listedAtOnce {
		more := false
		err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
			const next = `
				SELECT d.id
				FROM domains d, source_lists_made m
				WHERE d.id > m.domain_id
				ORDER BY d.id
				LIMIT 1`
			rows, _ := tx.Query(ctx, next)
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil || len(ids) == 0 {
				return err
			}
			more = true
			// A list that is there is as new, or newer.
			sql := `
				INSERT INTO source_lists (domain_id, day, dated, summarised, lines)` + listedDays("t.domain_id = $1 AND t.summarised <> 0") + `
				ON CONFLICT (domain_id, day, dated) DO NOTHING`
			if _, err := tx.Exec(ctx, sql, ids[0]); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "UPDATE source_lists_made SET domain_id = greatest(domain_id, $1)", ids[0])
			return err
		})
		if err != nil {
			return fmt.Errorf("listing the sources of days: %w", err)
		}
		if !more {
			break
		}
	}
	return nil
}

// listedSources reads the sources of one domain that are kept by name from
// source_lists, as namedSources reads them from source_days. It reports false if
// a list is not there, or not up to date.
func (s *Store) listedSources(ctx context.Context, domain int64, q *dmarc.TrafficQuery, o *order, list *dmarc.SourceList) ([]sourceLine, bool, error) {
	best := bestSources{order: o, limit: q.Limit + 1}
	if err := best.behind(q.After); err != nil {
		return nil, false, err
	}
	const sql = `
		SELECT t.day, t.changes <> t.summarised, l.summarised IS DISTINCT FROM t.summarised AND t.summarised <> 0, l.lines
		FROM domain_days t
		LEFT JOIN source_lists l ON l.domain_id = t.domain_id AND l.day = t.day AND l.dated = t.dated
		WHERE t.domain_id = $1 AND t.day >= $2 AND t.day < $3
		ORDER BY t.day`
	rows, _ := s.db.Query(ctx, sql, domain, q.Period.Begin, q.Period.End)
	var day time.Time
	var pending, missing, anyMissing bool
	var lines pgtype.DriverBytes // good until the next row
	sum := listSum{days: int(q.Period.End.Sub(q.Period.Begin) / (24 * time.Hour))}
	_, err := pgx.ForEachRow(rows, []any{&day, &pending, &missing, &lines}, func() error {
		list.Pending = list.Pending || pending
		anyMissing = anyMissing || missing
		return sum.add(day, lines)
	})
	if err != nil || anyMissing {
		return nil, false, err
	}
	list.Others, list.Unknown = sum.others, sum.unknown
	for i := range sum.lines {
		if t := sum.lines[i].traffic(); wants(&q.Filter, &t) {
			list.Total++
			best.add(&t)
		}
	}
	return best.page(), true, nil
}

// A placedSource is a source with what it is sorted by: one of the numbers, or else
// its address.
type placedSource struct {
	dmarc.SourceTraffic
	count int64
	rate  float64
}

// listedBy give sources the numbers that they are sorted by, as sourceSorts do.
var listedBy = map[string]func(*placedSource){
	"messages": func(p *placedSource) { p.count = p.Tally.Messages },
	"failed":   func(p *placedSource) { p.count = p.Tally.Messages - p.Tally.DMARCPass },
	"pass_rate": func(p *placedSource) {
		if p.rate = -1; p.Tally.Messages != 0 {
			p.rate = float64(p.Tally.DMARCPass) / float64(p.Tally.Messages)
		}
	},
	"quarantine": func(p *placedSource) { p.count = p.Tally.Quarantine },
	"reject":     func(p *placedSource) { p.count = p.Tally.Reject },
	"first_day":  func(p *placedSource) { p.count = p.FirstDay.Unix() / 86400 },
	"last_day":   func(p *placedSource) { p.count = p.LastDay.Unix() / 86400 },
	"source":     func(*placedSource) {},
}

// bestSources gathers the first sources of an order behind a cursor.
type bestSources struct {
	*order
	limit int
	after *placedSource // nil for no cursor
	all   []*placedSource
	next  placedSource // that may be among them
	full  bool         // all[limit-1] is the last one that may be wanted
}

func (b *bestSources) behind(c dmarc.Cursor) error {
	if c == "" {
		return nil
	}
	fields, err := textsOf(c, 2)
	if err != nil {
		return err
	}
	place, err := b.value(b.kind, fields[0])
	if err != nil {
		return err
	}
	name, err := b.value(b.nameKind, fields[1])
	if err != nil {
		return err
	}
	b.after = &placedSource{SourceTraffic: dmarc.SourceTraffic{Source: name.(netip.Addr)}}
	switch place := place.(type) {
	case int64:
		b.after.count = place
	case float64:
		b.after.rate = place
	}
	return nil
}

func (b *bestSources) compare(x, y *placedSource) int {
	c := cmp.Compare(x.count, y.count)
	switch b.kind {
	case "inet":
		c = x.Source.Compare(y.Source)
	case "double precision":
		c = cmp.Compare(x.rate, y.rate)
	}
	if b.down {
		c = -c
	}
	if c != 0 {
		return c
	}
	return x.Source.Compare(y.Source)
}

func (b *bestSources) add(t *dmarc.SourceTraffic) {
	p := &b.next
	*p = placedSource{SourceTraffic: *t}
	listedBy[b.key](p)
	if b.after != nil && b.compare(p, b.after) <= 0 || b.full && b.compare(p, b.all[b.limit-1]) >= 0 {
		return
	}
	kept := *p
	if b.all = append(b.all, &kept); len(b.all) >= 4*b.limit {
		b.cut()
	}
}

func (b *bestSources) cut() {
	slices.SortFunc(b.all, b.compare)
	if len(b.all) >= b.limit {
		b.all, b.full = b.all[:b.limit], true
	}
}

func (b *bestSources) page() []sourceLine {
	b.cut()
	lines := make([]sourceLine, len(b.all))
	for i, p := range b.all {
		lines[i].SourceTraffic = p.SourceTraffic
		switch b.kind {
		case "bigint":
			lines[i].place = strconv.FormatInt(p.count, 10)
		case "inet":
			lines[i].place = netip.PrefixFrom(p.Source, p.Source.BitLen()).String() // as the database writes it
		default:
			lines[i].place = strconv.FormatFloat(p.rate, 'g', -1, 64)
		}
	}
	return lines
}

// A listSum adds lists up.
type listSum struct {
	days            int              // about how many lists there will be
	at              map[string]int32 // the place of an address in lines
	lines           []listLine
	others, unknown dmarc.Tally
}

// A listLine is what lists say of a source.
type listLine struct {
	source      netip.Addr
	first, last int32 // days since 1970
	tally       dmarc.Tally
}

const secondsADay = 24 * 60 * 60

func (l *listLine) traffic() dmarc.SourceTraffic {
	day := func(n int32) time.Time { return time.Unix(int64(n)*secondsADay, 0).UTC() }
	return dmarc.SourceTraffic{Source: l.source, FirstDay: day(l.first), LastDay: day(l.last), Tally: l.tally}
}

// add takes in the list of a day; days come in ascending order.
func (s *listSum) add(day time.Time, list []byte) error {
	if s.at == nil && len(list) > 0 {
		n := bytes.Count(list, []byte{'\n'}) * s.days / 2 // as most sources come again
		s.at, s.lines = make(map[string]int32, n), make([]listLine, 0, n)
	}
	number := int32(day.Unix() / secondsADay)
	for text := string(list); len(text) > 0; {
		end := strings.IndexByte(text, '\n')
		if end < 0 {
			end = len(text)
		}
		line := text[:end]
		text = text[min(end+1, len(text)):]
		space := strings.IndexByte(line[min(2, len(line)):], ' ') + 2
		var n [10]int64
		if len(line) < 3 || line[1] != ' ' || space < 3 || !readNumbers(line[space+1:], n[:]) {
			return fmt.Errorf("the list of sources of %s has %q, which dmarcd never wrote: run dmarcd verify --rebuild", day.Format(time.DateOnly), line)
		}
		source := line[2:space]
		t := dmarc.Tally{Rows: n[0], Messages: n[1], DMARCPass: n[2], DKIMAligned: n[3], SPFAligned: n[4], None: n[5], Quarantine: n[6], Reject: n[7], Pass: n[8], Unstated: n[9]}
		switch dmarc.SourceKind(line[0] - '0') {
		case dmarc.SourceOthers:
			s.others.Merge(t)
			continue
		case dmarc.SourceUnknown:
			s.unknown.Merge(t)
			continue
		}
		i, ok := s.at[source]
		if !ok {
			addr, err := netip.ParseAddr(source)
			if err != nil {
				return fmt.Errorf("the list of sources of %s: %w", day.Format(time.DateOnly), err)
			}
			i = int32(len(s.lines))
			s.at[source] = i
			s.lines = append(s.lines, listLine{source: addr, first: number, last: number, tally: t})
			continue
		}
		l := &s.lines[i]
		l.last = number
		l.tally.Merge(t)
	}
	return nil
}

// readNumbers reads as many numbers as there is room for, with a space between them.
func readNumbers(b string, n []int64) bool {
	at := 0
	for i := range n {
		negative := at < len(b) && b[at] == '-' // as a sum of what came late may be
		if negative {
			at++
		}
		begin := at
		for at < len(b) && b[at]-'0' <= 9 {
			n[i] = n[i]*10 + int64(b[at]-'0')
			at++
		}
		if negative {
			n[i] = -n[i]
		}
		if at == begin || i+1 < len(n) && (at == len(b) || b[at] != ' ') {
			return false
		}
		at++ // the space
	}
	return at == len(b)+1
}

// wants tells whether a line of a list is one that a filter is for, as talliesOf and
// sourceOf have it.
func wants(f *dmarc.Filter, t *dmarc.SourceTraffic) bool {
	switch {
	case f.Source.IsValid() && !f.Source.Contains(t.Source),
		f.Aligned == dmarc.Yes && t.Tally.DMARCPass <= 0,
		f.Aligned == dmarc.No && t.Tally.Messages <= t.Tally.DMARCPass:
		return false
	}
	switch f.Disposition {
	case dmarc.DispositionNone:
		return t.Tally.None > 0
	case dmarc.DispositionQuarantine:
		return t.Tally.Quarantine > 0
	case dmarc.DispositionReject:
		return t.Tally.Reject > 0
	case dmarc.DispositionPass:
		return t.Tally.Pass > 0
	}
	return true
}

// compareLists compares source_lists with source_days, of days whose sources do not
// differ: the pass lists those anew. A list that is not there, or is older and so not read, is none that differs.
func (v *verifier) compareLists(ctx context.Context, tx pgx.Tx) error {
	stale := map[string]bool{}
	for _, d := range v.found {
		if d.Table == "source_days" {
			day, _, _ := strings.Cut(d.Line, ",")
			stale[day] = true
		}
	}
	sql := `
		SELECT l.day, l.dated, l.lines, e.lines
		FROM source_lists l
		LEFT JOIN (` + listedDays("t.domain_id = $1 AND t.day >= $2 AND t.day < $3") + `) AS e ON e.day = l.day AND e.dated = l.dated
		WHERE l.domain_id = $1 AND l.day >= $2 AND l.day < $3 AND l.summarised = coalesce(e.summarised, l.summarised)
		ORDER BY l.day, l.dated`
	rows, _ := tx.Query(ctx, sql, v.domain, v.period.Begin, v.period.End)
	k := cell{domain: v.domain}
	var was string
	var is *string
	var differ []changedDay
	_, err := pgx.ForEachRow(rows, []any{&k.day, &k.dated, &was, &is}, func() error {
		if stale[k.line()] {
			return nil
		}
		v.lines["source_lists"]++
		if is == nil || was != *is {
			d := Difference{Table: "source_lists", Line: k.line(), Stored: describeList(was)}
			if is != nil {
				d.Computed = describeList(*is)
			}
			v.differ(d)
			differ = append(differ, changedDay{Domain: k.domain, Day: k.day, Dated: k.dated})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("comparing source_lists: %w", err)
	}
	if !v.o.Rebuild {
		return nil
	}
	for _, d := range differ {
		_, err := tx.Exec(ctx, "DELETE FROM source_lists WHERE domain_id = $1 AND day = $2 AND dated = $3", d.Domain, d.Day, d.Dated)
		if err == nil {
			err = listSources(ctx, tx, d)
		}
		if err != nil {
			return fmt.Errorf("rebuilding source_lists: %w", err)
		}
	}
	return nil
}

// describeList tells what is in a list: how much, and which.
func describeList(lines string) string {
	h := fnv.New32a()
	h.Write([]byte(lines))
	return fmt.Sprintf("lines=%d hash=%08x", strings.Count(lines, "\n"), h.Sum32())
}
