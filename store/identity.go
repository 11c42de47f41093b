package store

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// identityColumns are in the order of scanIdentity.
const identityColumns = "source, nullif(due_at, '-infinity'), checked_at, failures, ptr, names, unproven, asn, org, country"

func scanIdentity(row pgx.Row, addr *netip.Addr, id *dmarc.SourceIdentity, rest ...any) error {
	var due, checked *time.Time
	var asn int64
	into := []any{addr, &due, &checked, &id.Failures, &id.PTR, &id.Names, &id.Unproven, &asn, &id.Org, &id.Country}
	err := row.Scan(append(into, rest...)...)
	id.ASN = uint32(asn)
	if due != nil {
		id.DueAt = *due
	}
	if checked != nil {
		id.CheckedAt = *checked
	}
	return err
}

// DueSources returns addresses to look up, with what is known about them:
// those that never were first, and of either kind the busiest first.
func (s *Store) DueSources(ctx context.Context, now time.Time, limit int) ([]dmarc.IdentifiedSource, error) {
	// Two questions, so that the index has each in order.
	const never = `
		SELECT ` + identityColumns + `
		FROM source_identities
		WHERE due_at = '-infinity'
		ORDER BY messages DESC, source
		LIMIT $1`
	due, err := s.identities(ctx, never, limit)
	if err == nil && len(due) < limit {
		const again = `
			SELECT ` + identityColumns + `
			FROM source_identities
			WHERE due_at > '-infinity' AND due_at <= $2
			ORDER BY messages DESC, source
			LIMIT $1`
		var more []dmarc.IdentifiedSource
		more, err = s.identities(ctx, again, limit-len(due), now)
		due = append(due, more...)
	}
	if err != nil {
		return nil, fmt.Errorf("finding addresses to look up: %w", err)
	}
	return due, nil
}

func (s *Store) identities(ctx context.Context, sql string, args ...any) ([]dmarc.IdentifiedSource, error) {
	rows, _ := s.db.Query(ctx, sql, args...)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (i dmarc.IdentifiedSource, err error) {
		err = scanIdentity(row, &i.Source, &i.Identity)
		return i, err
	})
}

// identityDelay is after what time verdicts follow whose an address turned out
// to be: others of the domain are looked up meanwhile.
const identityDelay = 10 * time.Minute

// PutIdentities keeps what was found out about addresses. Verdicts of the
// domains that they send for follow. An address that is not known any more is
// passed over.
func (s *Store) PutIdentities(ctx context.Context, list []dmarc.IdentifiedSource) error {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b dmarc.IdentifiedSource) int { return a.Source.Compare(b.Source) })
	var changed []netip.Addr
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		const keep = `
			UPDATE source_identities s
			SET due_at = @due, checked_at = @checked, failures = @failures, ptr = @ptr, names = @names, unproven = @unproven, asn = @asn,
				org = @org, country = @country
			FROM source_identities old
			WHERE s.source = @source AND old.source = s.source
			RETURNING (old.ptr, old.names, old.asn, old.org) IS DISTINCT FROM (s.ptr, s.names, s.asn, s.org)`
		batch := &pgx.Batch{}
		for i := range list {
			l := &list[i]
			id := &l.Identity
			batch.Queue(keep, pgx.NamedArgs{
				"source": l.Source, "due": id.DueAt, "checked": id.CheckedAt, "failures": id.Failures, "ptr": int16(id.PTR), "names": cleanAll(append([]string{}, id.Names...)),
				"unproven": cleanAll(append([]string{}, id.Unproven...)), "asn": int64(id.ASN), "org": clean(id.Org), "country": clean(id.Country),
			}).QueryRow(func(row pgx.Row) error {
				var differs bool
				err := ignoreNone(row.Scan(&differs))
				if differs {
					changed = append(changed, l.Source)
				}
				return err
			})
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err == nil && len(changed) > 0 {
		// A transaction of its own: who keeps a verdict locks it first, and the
		// addresses then.
		err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
			const follow = `
				UPDATE verdicts
				SET changes = changes + 1, due_at = $2
				WHERE due_at > $2 AND domain_id IN (SELECT domain_id FROM domain_sources WHERE source = ANY ($1::inet[]))`
			return changeVerdicts(ctx, tx, follow, changed, time.Now().Add(identityDelay))
		})
	}
	if err != nil {
		return fmt.Errorf("keeping whose addresses are: %w", err)
	}
	return nil
}

// KnownSources returns what the installation knows of addresses, and how a
// domain counts among those that class them: the counts are of other domains
// alone. Addresses that are not known are not in it.
func (s *Store) KnownSources(ctx context.Context, domain string, addrs []netip.Addr) (map[netip.Addr]dmarc.KnownSource, error) {
	id, err := s.domainID(ctx, domain)
	if err != nil {
		return nil, err
	}
	known := make(map[netip.Addr]dmarc.KnownSource, len(addrs))
	const sql = `
		SELECT ` + identityColumns + `, unknown, own, service, forwarder, suspicious
		FROM source_identities
		WHERE source = ANY ($1)`
	rows, _ := s.db.Query(ctx, sql, addrs)
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var a netip.Addr
		var k dmarc.KnownSource
		n := &k.Domains
		err := scanIdentity(row, &a, &k.Identity, &n[0], &n[1], &n[2], &n[3], &n[4])
		known[a] = k
		return struct{}{}, err
	})
	if err != nil {
		return nil, fmt.Errorf("whose the sources of %s are: %w", domain, err)
	}
	rows, _ = s.db.Query(ctx, "SELECT source, alone FROM domain_sources WHERE domain_id = $1", id)
	var source netip.Prefix
	var alone dmarc.Class
	_, err = pgx.ForEachRow(rows, []any{&source, &alone}, func() error {
		if k, ok := known[source.Addr()]; ok && source.IsSingleIP() {
			k.Domains[alone] = max(0, k.Domains[alone]-1)
			known[source.Addr()] = k
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sources of %s: %w", domain, err)
	}
	return known, nil
}

// SourceClasses returns the sources of a domain as the last verdict classed
// them, busiest first.
func (s *Store) SourceClasses(ctx context.Context, domain string) ([]dmarc.SourceClass, error) {
	id, err := s.domainID(ctx, domain)
	if err != nil {
		return nil, err
	}
	rows, _ := s.db.Query(ctx, "SELECT source, class, confidence, alone, messages FROM domain_sources WHERE domain_id = $1", id)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.SourceClass])
	if err != nil {
		return nil, fmt.Errorf("classes of the sources of %s: %w", domain, err)
	}
	slices.SortFunc(list, func(a, b dmarc.SourceClass) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), a.Source.Addr().Compare(b.Source.Addr()), cmp.Compare(a.Source.Bits(), b.Source.Bits()))
	})
	return list, nil
}
