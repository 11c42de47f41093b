package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// within is a condition that holds a list to the domains of a scope by the
// column of their numbers, and adds its argument.
func (s *Store) within(ctx context.Context, scope dmarc.Scope, column string, args pgx.NamedArgs) (string, error) {
	if scope.All() {
		return "", nil
	}
	ids, err := s.domainsIn(ctx, scope)
	args["within"] = ids
	return " AND " + column + " = ANY (@within::bigint[])", err
}

// domainsIn returns the numbers of the domains of a scope, subdomains included.
func (s *Store) domainsIn(ctx context.Context, scope dmarc.Scope) ([]int64, error) {
	// After a name and its dot comes whatever is less than the name and '/',
	// the character after the dot.
	const sql = `
		SELECT id
		FROM domains
		WHERE name = ANY ($1)
		UNION
		SELECT d.id
		FROM unnest($1::text[]) AS above (name)
		JOIN domains d ON reverse(d.name) COLLATE "C" >= reverse(above.name) || '.' AND reverse(d.name) COLLATE "C" < reverse(above.name) || '/'`
	names := scope.Domains()
	for i := range names {
		names[i] = clean(names[i])
	}
	rows, _ := s.db.Query(ctx, sql, names)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("finding the domains of a scope: %w", err)
	}
	return ids, nil
}

// DomainOfReport returns the domain that a stored report of an id is or would
// be about, whether it is there or not; dmarc.ErrNotFound if there is no such domain.
func (s *Store) DomainOfReport(ctx context.Context, id string) (string, error) {
	domain, _, err := parseReportKey(id)
	if err != nil {
		return "", err
	}
	var name string
	err = s.db.QueryRow(ctx, "SELECT name FROM domains WHERE id = $1", domain).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("report %s: %w", id, err)
	}
	return name, nil
}
