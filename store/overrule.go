package store

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Overrules returns what operators say about the sources of a domain, those of
// all domains included; of those of all domains alone for "". By network, those
// of the domain last.
func (s *Store) Overrules(ctx context.Context, domain string) ([]dmarc.Overrule, error) {
	id, err := s.overruleDomain(ctx, domain)
	if err != nil {
		return nil, err
	}
	const sql = `
		SELECT domain_id, network, class, note, said_by, said_at
		FROM overrules
		WHERE domain_id IN (0, $1)
		ORDER BY network, domain_id`
	rows, _ := s.db.Query(ctx, sql, id)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o dmarc.Overrule, err error) {
		var of int64
		err = row.Scan(&of, &o.Network, &o.Class, &o.Note, &o.By, &o.At)
		if of != 0 {
			o.Domain = domain
		}
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("overrules of %q: %w", domain, err)
	}
	return list, nil
}

// AllOverrules returns what operators say about sources of the domains in a scope,
// and of all domains: that first, then by domain and network.
func (s *Store) AllOverrules(ctx context.Context, scope dmarc.Scope, page dmarc.Page) ([]dmarc.Overrule, dmarc.Cursor, error) {
	name, network, err := afterOverrule(page.After)
	if err != nil {
		return nil, "", err
	}
	args := pgx.NamedArgs{"name": name, "network": network, "limit": page.Limit + 1}
	within := ""
	if !scope.All() {
		ids, err := s.domainsIn(ctx, scope)
		if err != nil {
			return nil, "", err
		}
		within, args["within"] = " AND (o.domain_id = 0 OR o.domain_id = ANY (@within::bigint[]))", ids
	}
	sql := `
		SELECT coalesce(d.name, ''), o.network, o.class, o.note, o.said_by, o.said_at
		FROM overrules o
		LEFT JOIN domains d ON d.id = o.domain_id AND o.domain_id <> 0
		WHERE (coalesce(d.name, ''), o.network) > (@name, @network::cidr)` + within + `
		ORDER BY coalesce(d.name, ''), o.network
		LIMIT @limit`
	rows, _ := s.db.Query(ctx, sql, args)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o dmarc.Overrule, err error) {
		err = row.Scan(&o.Domain, &o.Network, &o.Class, &o.Note, &o.By, &o.At)
		return o, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing overrules: %w", err)
	}
	return pageOf(list, page.Limit, func(o dmarc.Overrule) dmarc.Overrule { return o },
		func(o dmarc.Overrule) dmarc.Cursor { return encodeCursor(o.Domain, o.Network.String()) })
}

// afterOverrule reads the cursor of a list that is sorted by domain and network.
func afterOverrule(c dmarc.Cursor) (name string, network netip.Prefix, err error) {
	if c == "" {
		return "", netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
	}
	text, err := base64.RawURLEncoding.DecodeString(string(c))
	name, last, ok := strings.Cut(string(text), " ")
	network, err2 := netip.ParsePrefix(last)
	if err != nil || err2 != nil || !ok || clean(name) != name {
		return "", network, dmarc.ErrBadCursor
	}
	return name, network, nil
}

// PutOverrule keeps what an operator says about a network, in the place of what
// was said before. It reports whether nothing was.
func (s *Store) PutOverrule(ctx context.Context, o *dmarc.Overrule) (added bool, err error) {
	id, err := s.overruleDomain(ctx, o.Domain)
	if err != nil {
		return false, err
	}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		const sql = `
			INSERT INTO overrules (domain_id, network, class, note, said_by, said_at)
			VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (domain_id, network) DO UPDATE
			SET class = excluded.class, note = excluded.note, said_by = excluded.said_by, said_at = excluded.said_at
			RETURNING xmax = 0`
		if err := tx.QueryRow(ctx, sql, id, o.Network.Masked(), int16(o.Class), clean(o.Note), clean(o.By), o.At).Scan(&added); err != nil {
			return err
		}
		return noteOverrule(ctx, tx, id)
	})
	if err != nil {
		return false, fmt.Errorf("overruling %s: %w", o.Network, err)
	}
	return added, nil
}

// DropOverrule forgets what an operator said about a network; dmarc.ErrNotFound
// if nothing was.
func (s *Store) DropOverrule(ctx context.Context, domain string, network netip.Prefix) error {
	id, err := s.overruleDomain(ctx, domain)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "DELETE FROM overrules WHERE domain_id = $1 AND network = $2", id, network.Masked())
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return dmarc.ErrNotFound
		}
		return noteOverrule(ctx, tx, id)
	})
	if err != nil {
		return fmt.Errorf("dropping what was said about %s: %w", network, err)
	}
	return nil
}

// overruleDomain returns the number of a domain: 0 stands for all.
func (s *Store) overruleDomain(ctx context.Context, name string) (int64, error) {
	if name == "" {
		return 0, nil
	}
	return s.domainID(ctx, name)
}

// noteOverrule has verdicts computed at once: that of a domain, or all.
func noteOverrule(ctx context.Context, tx pgx.Tx, domain int64) error {
	if domain != 0 {
		return noteVerdict(ctx, tx, domain, true)
	}
	return changeVerdicts(ctx, tx, "UPDATE verdicts SET changes = changes + 1, due_at = least(due_at, $1)", time.Now())
}
