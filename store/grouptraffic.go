package store

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Groups returns groups by name, with what reports tell about their domains.
func (s *Store) Groups(ctx context.Context, q dmarc.GroupQuery) ([]dmarc.GroupTraffic, dmarc.Cursor, error) {
	after, err := afterName(q.After)
	if err != nil {
		return nil, "", err
	}
	const sql = `
		SELECT name, note, domains, file
		FROM arranged_groups
		WHERE name > $1 AND ($2 = '' OR name = $2)
		ORDER BY name`
	rows, _ := s.db.Query(ctx, sql, after, clean(q.Name))
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.Group])
	if err != nil {
		return nil, "", fmt.Errorf("listing groups: %w", err)
	}
	var list []dmarc.GroupTraffic
	var wanted dmarc.Scope
	in := make(map[string][]int) // groups by the domains that they name
	for _, g := range all {
		within := g.Scope().And(q.Scope)
		if g.Domains = within.Domains(); len(g.Domains) == 0 && !q.Scope.All() {
			continue
		}
		for _, d := range g.Domains {
			in[d] = append(in[d], len(list))
		}
		wanted = wanted.With(within)
		list = append(list, dmarc.GroupTraffic{Group: g, Verdicts: map[string]int{}})
		if len(list) > q.Limit {
			break
		}
	}
	err = s.sumsOf(ctx, wanted, q.Period, func(l *groupLine) {
		var seen []int // a group may name a domain and one below it
		for _, d := range upwards(l.name) {
			for _, i := range in[d] {
				if !slices.Contains(seen, i) {
					seen = append(seen, i)
					l.addTo(&list[i])
				}
			}
		}
	})
	if err != nil {
		return nil, "", fmt.Errorf("summing groups: %w", err)
	}
	return pageOf(list, q.Limit, func(g dmarc.GroupTraffic) dmarc.GroupTraffic { return g }, func(g dmarc.GroupTraffic) dmarc.Cursor { return encodeCursor(g.Name) })
}

// A groupLine is what a domain adds to the groups that it is in.
type groupLine struct {
	name         string
	tally        dmarc.Tally
	verdict      string // "" if there is none yet
	own, passing int64
}

func (l *groupLine) addTo(g *dmarc.GroupTraffic) {
	g.Members++
	g.Tally.Merge(l.tally)
	g.Own += l.own
	g.Passing += l.passing
	g.Verdicts[l.verdict]++
}

// sumsOf yields the domains of a scope that are not ignored, with their sums.
func (s *Store) sumsOf(ctx context.Context, scope dmarc.Scope, period dmarc.Period, take func(*groupLine)) error {
	args := pgx.NamedArgs{}
	within, err := s.within(ctx, scope, "domain_id", args)
	if err != nil {
		return err
	}
	sql := `
		WITH sums AS (
			SELECT domain_id, ` + summed(tallyNames) + `
			FROM (` + trafficOf(period, tallyNames, within, args) + `) AS parts
			GROUP BY domain_id
		)
		SELECT d.name, coalesce(v.verdict, ''), coalesce(v.own, 0), coalesce(v.passing, 0), ` + coalesced("t", tallyNames) + `
		FROM domains d
		LEFT JOIN sums t ON t.domain_id = d.id
		LEFT JOIN verdicts v ON v.domain_id = d.id AND v.computed_at IS NOT NULL
		WHERE d.id = ANY (@within::bigint[]) AND NOT d.ignored`
	rows, _ := s.db.Query(ctx, sql, planned, args)
	var l groupLine
	_, err = pgx.ForEachRow(rows, append([]any{&l.name, &l.verdict, &l.own, &l.passing}, scanTally(&l.tally)...), func() error {
		take(&l)
		return nil
	})
	return err
}

// afterName reads the cursor of a list that is sorted by name.
func afterName(c dmarc.Cursor) (string, error) {
	text, err := base64.RawURLEncoding.DecodeString(string(c))
	if err != nil || clean(string(text)) != string(text) {
		return "", dmarc.ErrBadCursor
	}
	return string(text), nil
}

// labelled returns the domains that have a label.
func (s *Store) labelled(ctx context.Context, label string) ([]string, error) {
	rows, _ := s.db.Query(ctx, "SELECT name FROM arranged_domains WHERE $1 = ANY (labels)", clean(label))
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("finding domains with a label: %w", err)
	}
	return names, nil
}

// arranged fills in the groups and labels of domains.
func (s *Store) arranged(ctx context.Context, lines []domainLine) error {
	if len(lines) == 0 {
		return nil
	}
	at := make(map[string]*domainLine, len(lines))
	names, above := make([]string, len(lines)), []string{}
	for i := range lines {
		l := &lines[i]
		l.Groups, l.Labels = []string{}, []string{}
		at[l.Domain], names[i] = l, l.Domain
		above = append(above, upwards(l.Domain)...)
	}
	batch := &pgx.Batch{}
	const labels = `
		SELECT name, labels
		FROM arranged_domains
		WHERE name = ANY ($1) AND labels <> '{}'`
	batch.Queue(labels, names).Query(func(rows pgx.Rows) error {
		var name string
		var labels []string
		_, err := pgx.ForEachRow(rows, []any{&name, &labels}, func() error {
			at[name].Labels = labels
			return nil
		})
		return err
	})
	// Members outside of the page are of no interest.
	const groups = `
		SELECT g.name, array_agg(m.domain)
		FROM arranged_groups g, unnest(g.domains) AS m (domain)
		WHERE g.domains && $1 AND m.domain = ANY ($1)
		GROUP BY g.name
		ORDER BY g.name`
	batch.Queue(groups, above).Query(func(rows pgx.Rows) error {
		var name string
		var members []string
		_, err := pgx.ForEachRow(rows, []any{&name, &members}, func() error {
			scope := dmarc.ScopeOf(members...)
			for i := range lines {
				if scope.Covers(lines[i].Domain) {
					lines[i].Groups = append(lines[i].Groups, name)
				}
			}
			return nil
		})
		return err
	})
	if err := s.db.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("reading how domains are arranged: %w", err)
	}
	return nil
}
