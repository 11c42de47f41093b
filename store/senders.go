package store

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

var sourceSorts = tallied("source", "inet", map[string]order{
	"quarantine": {by: "quarantine", kind: "bigint"},
	"reject":     {by: "reject", kind: "bigint"},
	"first_day":  dayNumber("first"),
	"last_day":   dayNumber("last"),
	"source":     {by: "source", kind: "inet"},
})

// Sources returns the addresses that sent mail as a domain, busiest first. A filter
// leaves out those that sent no such mail; it does not concern the sums of what is not listed.
func (s *Store) Sources(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SourceList, dmarc.Cursor, error) {
	var list dmarc.SourceList
	ids, o, behind, args, err := s.trafficList(ctx, &q, sourceSorts)
	if err != nil {
		return list, "", err
	}
	var lines []sourceLine
	switch {
	case q.Exact && (q.Subdomains || len(ids) != 1):
		return list, "", errOneDomain
	case q.Exact:
		lines, err = s.exactSources(ctx, ids[0], &q, &o, behind, args, &list)
	case q.Reporter != "":
		return list, "", dmarc.Refusal("what one reporter saw of a source stands in the rows alone; ask for all sources, which reads them")
	default:
		listed := false
		if len(ids) == 1 && !q.Classed {
			lines, listed, err = s.listedSources(ctx, ids[0], &q, &o, &list)
		}
		if err == nil && !listed {
			lines, err = s.namedSources(ctx, ids, &q, &o, behind, args, &list)
		}
	}
	if err != nil {
		return list, "", fmt.Errorf("sources of %s: %w", q.Domain, err)
	}
	var next dmarc.Cursor
	list.Items, next, err = pageOf(lines, q.Limit, func(l sourceLine) dmarc.SourceTraffic { return l.SourceTraffic },
		func(l sourceLine) dmarc.Cursor { return placeCursor(l.place, l.Source.String()) })
	return list, next, err
}

// A sourceLine is a line in the list of sources.
type sourceLine struct {
	dmarc.SourceTraffic
	place string // by what it is sorted
}

// namedSources reads the sources that are kept by name, from source_days, and what
// else there is. For one domain listedSources is quicker.
func (s *Store) namedSources(ctx context.Context, ids []int64, q *dmarc.TrafficQuery, o *order, behind string, args pgx.NamedArgs, list *dmarc.SourceList) ([]sourceLine, error) {
	one := isOneOf("t.domain_id", ids, args) + " AND t.day >= @begin AND t.day < @end"
	rest := `
		SELECT kind,` + tally + `
		FROM source_days t
		WHERE ` + one + ` AND kind > 0
		GROUP BY kind`
	rows, _ := s.db.Query(ctx, rest, args)
	var kind dmarc.SourceKind
	var t dmarc.Tally
	_, err := pgx.ForEachRow(rows, append([]any{&kind}, scanTally(&t)...), func() error {
		if kind == dmarc.SourceOthers {
			list.Others = t
		} else {
			list.Unknown = t
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	pending := `
		SELECT EXISTS (
			SELECT FROM domain_days t
			WHERE ` + one + ` AND changes <> summarised
		)`
	if err := s.db.QueryRow(ctx, pending, args).Scan(&list.Pending); err != nil {
		return nil, err
	}
	which := talliesOf(&q.Filter, "")
	classes, where := classesOf(&q.Filter, "t", args)
	from := "(SELECT t.* FROM source_days t" + classes + " WHERE " + one + " AND t.kind = 0" + where + sourceOf(&q.Filter, "t.source", args) + ") AS t"
	// The sums that are needed neither for the order nor for the filter are made of
	// the page only.
	needed := ""
	for _, column := range tallyNames {
		if strings.Contains(o.by+which, column) {
			needed += ", sum(t." + column + ")::bigint AS " + column
		}
	}
	if strings.Contains(o.by, "first") {
		needed += ", min(t.day) AS first"
	}
	if strings.Contains(o.by, "last") {
		needed += ", max(t.day) AS last"
	}
	sql := `
		WITH named AS (
			SELECT t.source` + needed + `
			FROM ` + from + `
			GROUP BY t.source
		), wanted AS (
			SELECT *
			FROM named
			WHERE true` + which + `
		), page AS (
			SELECT source, ` + o.by + ` AS sorted
			FROM wanted
			WHERE ` + behind + `
			ORDER BY ` + o.clause() + `
			LIMIT @limit
		), lines AS (
			SELECT t.source, min(page.sorted::text) AS place, min(t.day) AS first, max(t.day) AS last, ` + summed(tallyNames) + `
			FROM ` + from + `
			JOIN page ON page.source = t.source
			GROUP BY t.source
		)
		SELECT n.total, l.source, coalesce(l.place, ''), coalesce(l.first, @begin), coalesce(l.last, @begin), ` + coalesced("l", tallyNames) + `
		FROM (SELECT count(*) AS total FROM wanted) AS n
		LEFT JOIN lines l ON true
		ORDER BY (l.place)::` + o.kind + o.direction() + `, l.source`
	var lines []sourceLine
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		// A prepared plan does not know how long the period is, takes it for short,
		// and would look into the index for each source of the page.
		if _, err := tx.Exec(ctx, "SET LOCAL enable_nestloop = off"); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, sql, args)
		var l sourceLine
		var source *netip.Addr // none on an empty page
		_, err := pgx.ForEachRow(rows, append([]any{&list.Total, &source, &l.place, &l.FirstDay, &l.LastDay}, scanTally(&l.Tally)...), func() error {
			if source != nil {
				l.Source = *source
				lines = append(lines, l)
			}
			return nil
		})
		return err
	})
	return lines, err
}
