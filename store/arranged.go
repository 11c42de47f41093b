package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Arrange keeps what the configuration file says about domains and networks, in
// the place of what it said before. What was said by the API stays, and holds again
// where the file says nothing any more.
func (s *Store) Arrange(ctx context.Context, a *dmarc.Arrangements) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		// Of several processes, one after the other.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('dmarcd arrangements', 0))"); err != nil {
			return err
		}
		for _, table := range []string{"domain_groups", "domain_settings", "network_labels"} {
			if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE file"); err != nil {
				return err
			}
		}
		for i := range a.Groups {
			if _, err := putGroup(ctx, tx, &a.Groups[i], true); err != nil {
				return err
			}
		}
		for _, name := range slices.Sorted(maps.Keys(a.Domains)) {
			if err := putWords(ctx, tx, name, a.Domains[name], true); err != nil {
				return err
			}
		}
		for i := range a.Networks {
			if _, err := putNetworkLabel(ctx, tx, &a.Networks[i], true); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.noteIgnored(ctx)
	}
	if err != nil {
		return fmt.Errorf("keeping what the configuration says about domains: %w", err)
	}
	return nil
}

// noteIgnored writes to the domains which of them are ignored. A domain that
// came at the moment when that was said would not know otherwise.
func (s *Store) noteIgnored(ctx context.Context) error {
	rows, _ := s.db.Query(ctx, "SELECT name FROM arranged_domains WHERE ignored")
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("reading which domains are ignored: %w", err)
	}
	if _, err := s.db.Exec(ctx, "UPDATE domains SET ignored = name = ANY ($1::text[]) WHERE ignored <> (name = ANY ($1::text[]))", names); err != nil {
		return fmt.Errorf("noting which domains are ignored: %w", err)
	}
	return nil
}

// Group returns a group; dmarc.ErrNotFound if there is none of the name.
func (s *Store) Group(ctx context.Context, name string) (dmarc.Group, error) {
	rows, _ := s.db.Query(ctx, "SELECT name, note, domains, file FROM arranged_groups WHERE name = $1", clean(name))
	g, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[dmarc.Group])
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return g, fmt.Errorf("group %q: %w", name, err)
	}
	return g, nil
}

// GroupDomains returns the domains of groups, without those that lie below
// others. Groups that are not there have none.
func (s *Store) GroupDomains(ctx context.Context, names []string) ([]string, error) {
	const sql = `
		SELECT DISTINCT unnest(domains)
		FROM arranged_groups
		WHERE name = ANY ($1)`
	rows, _ := s.db.Query(ctx, sql, names)
	domains, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("finding the domains of groups: %w", err)
	}
	return domains, nil
}

// PutGroup keeps a group in the place of what it was before, and reports whether
// it is new. A dmarc.Refusal says that it stands in the configuration.
func (s *Store) PutGroup(ctx context.Context, g *dmarc.Group) (added bool, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) (err error) {
		if err := refuseGroup(ctx, tx, g.Name); err != nil {
			return err
		}
		added, err = putGroup(ctx, tx, g, false)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("group %q: %w", g.Name, err)
	}
	return added, nil
}

func putGroup(ctx context.Context, tx pgx.Tx, g *dmarc.Group, file bool) (added bool, err error) {
	const sql = `
		INSERT INTO domain_groups (name, file, note, domains)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (name, file) DO UPDATE
		SET note = excluded.note, domains = excluded.domains
		RETURNING xmax = 0`
	domains := append([]string{}, dmarc.ScopeOf(g.Domains...).Domains()...)
	err = tx.QueryRow(ctx, sql, clean(g.Name), file, clean(g.Note), domains).Scan(&added)
	return added, err
}

func refuseGroup(ctx context.Context, tx pgx.Tx, name string) error {
	var fixed bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM domain_groups WHERE name = $1 AND file)", clean(name)).Scan(&fixed)
	if err == nil && fixed {
		err = dmarc.Refusal("it stands in the configuration file, which wins; change its [[group]] there")
	}
	return err
}

// DropGroup forgets a group; dmarc.ErrNotFound if there is none of the name. A
// dmarc.Refusal says that it stands in the configuration.
func (s *Store) DropGroup(ctx context.Context, name string) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := refuseGroup(ctx, tx, name); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "DELETE FROM domain_groups WHERE name = $1 AND NOT file", clean(name))
		if err == nil && tag.RowsAffected() == 0 {
			err = dmarc.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("dropping the group %q: %w", name, err)
	}
	return nil
}

// DomainWords returns what the configuration file and the API say about a domain,
// and the groups that it is in.
func (s *Store) DomainWords(ctx context.Context, domain string) (file, api dmarc.DomainWords, groups []string, err error) {
	if file, api, err = readWords(ctx, s.db, domain); err != nil {
		return file, api, nil, err
	}
	const sql = `
		SELECT name
		FROM arranged_groups
		WHERE domains && $1
		ORDER BY name`
	rows, _ := s.db.Query(ctx, sql, upwards(domain))
	if groups, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return file, api, nil, fmt.Errorf("finding the groups of %s: %w", domain, err)
	}
	return file, api, groups, nil
}

func readWords(ctx context.Context, db querier, domain string) (file, api dmarc.DomainWords, err error) {
	const sql = `
		SELECT file, labels, ignored, keep_rows, keep_raw, keep_failures
		FROM domain_settings
		WHERE name = $1`
	rows, _ := db.Query(ctx, sql, clean(domain))
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
		var w dmarc.DomainWords
		var inFile bool
		var days [3]*int32
		if err := row.Scan(&inFile, &w.Labels, &w.Ignored, &days[0], &days[1], &days[2]); err != nil {
			return none, err
		}
		w.Rows, w.Raw, w.Failures = durationOf(days[0]), durationOf(days[1]), durationOf(days[2])
		if inFile {
			file = w
		} else {
			api = w
		}
		return none, nil
	})
	if err != nil {
		return file, api, fmt.Errorf("reading what is said about %s: %w", domain, err)
	}
	return file, api, nil
}

func durationOf(days *int32) *time.Duration {
	if days == nil {
		return nil
	}
	d := time.Duration(*days) * 24 * time.Hour
	return &d
}

func daysOf(d *time.Duration) *int32 {
	if d == nil {
		return nil
	}
	days := int32((*d + 24*time.Hour - 1) / (24 * time.Hour)) // never shorter than was asked for
	return &days
}

// PutDomainWords keeps what is said about a domain by the API, in the place of
// what was said before. A dmarc.Refusal says that something of it stands in the
// configuration otherwise.
func (s *Store) PutDomainWords(ctx context.Context, domain string, w dmarc.DomainWords) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		file, _, err := readWords(ctx, tx, domain)
		if err != nil {
			return err
		}
		if fixed := w.Contradicts(file); len(fixed) > 0 {
			return dmarc.Refusal("the configuration file says otherwise about " + strings.Join(fixed, ", ") + ", and wins; change the [[domain]] there, or leave that out")
		}
		if err := putWords(ctx, tx, domain, w, false); err != nil {
			return err
		}
		ignored := dmarc.SettleDomain(domain, file, w).Ignored
		_, err = tx.Exec(ctx, "UPDATE domains SET ignored = $2 WHERE name = $1 AND ignored <> $2", clean(domain), ignored)
		return err
	})
	if err != nil {
		return fmt.Errorf("settings of %s: %w", domain, err)
	}
	return nil
}

func putWords(ctx context.Context, tx pgx.Tx, domain string, w dmarc.DomainWords, file bool) error {
	if w.Labels == nil && w.Ignored == nil && w.Rows == nil && w.Raw == nil && w.Failures == nil {
		_, err := tx.Exec(ctx, "DELETE FROM domain_settings WHERE name = $1 AND file = $2", clean(domain), file)
		return err
	}
	const sql = `
		INSERT INTO domain_settings (name, file, labels, ignored, keep_rows, keep_raw, keep_failures)
		VALUES (@name, @file, @labels, @ignored, @rows, @raw, @failures)
		ON CONFLICT (name, file) DO UPDATE
		SET labels = excluded.labels, ignored = excluded.ignored, keep_rows = excluded.keep_rows, keep_raw = excluded.keep_raw, keep_failures = excluded.keep_failures`
	_, err := tx.Exec(ctx, sql, pgx.NamedArgs{
		"name": clean(domain), "file": file, "labels": w.Labels, "ignored": w.Ignored, "rows": daysOf(w.Rows), "raw": daysOf(w.Raw), "failures": daysOf(w.Failures),
	})
	return err
}

// NetworkLabels returns the names of networks that send as a domain, those of all
// domains included; of those of all domains alone for "". By network.
func (s *Store) NetworkLabels(ctx context.Context, domain string) ([]dmarc.NetworkLabel, error) {
	const sql = `
		SELECT DISTINCT ON (network, domain) domain, network, labels, file
		FROM network_labels
		WHERE domain IN ('', $1)
		ORDER BY network, domain, file DESC`
	rows, _ := s.db.Query(ctx, sql, clean(domain))
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[dmarc.NetworkLabel])
	if err != nil {
		return nil, fmt.Errorf("names of networks: %w", err)
	}
	return list, nil
}

// PutNetworkLabel names a network in the place of what it was called before, and
// reports whether it had no name. A dmarc.Refusal says that its name stands in the
// configuration.
func (s *Store) PutNetworkLabel(ctx context.Context, l *dmarc.NetworkLabel) (added bool, err error) {
	err = pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) (err error) {
		if err := refuseNetwork(ctx, tx, l.Domain, l.Network); err != nil {
			return err
		}
		added, err = putNetworkLabel(ctx, tx, l, false)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("naming %s: %w", l.Network, err)
	}
	return added, nil
}

func putNetworkLabel(ctx context.Context, tx pgx.Tx, l *dmarc.NetworkLabel, file bool) (added bool, err error) {
	const sql = `
		INSERT INTO network_labels (domain, network, file, labels)
		VALUES ($1, $2, $3, $4)
		ON CONFLICT (domain, network, file) DO UPDATE
		SET labels = excluded.labels
		RETURNING xmax = 0`
	err = tx.QueryRow(ctx, sql, clean(l.Domain), l.Network.Masked(), file, l.Labels).Scan(&added)
	return added, err
}

func refuseNetwork(ctx context.Context, tx pgx.Tx, domain string, network netip.Prefix) error {
	var fixed bool
	const sql = `
		SELECT EXISTS (SELECT FROM network_labels WHERE domain = $1 AND network = $2 AND file)`
	err := tx.QueryRow(ctx, sql, clean(domain), network.Masked()).Scan(&fixed)
	if err == nil && fixed {
		err = dmarc.Refusal("its labels stand in the configuration file, which wins; change its [[network]] there")
	}
	return err
}

// DropNetworkLabel forgets the names of a network; dmarc.ErrNotFound if it has
// none. A dmarc.Refusal says that they stand in the configuration.
func (s *Store) DropNetworkLabel(ctx context.Context, domain string, network netip.Prefix) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := refuseNetwork(ctx, tx, domain, network); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, "DELETE FROM network_labels WHERE domain = $1 AND network = $2 AND NOT file", clean(domain), network.Masked())
		if err == nil && tag.RowsAffected() == 0 {
			err = dmarc.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("dropping the labels of %s: %w", network, err)
	}
	return nil
}

// upwards returns a domain and what lies above it.
func upwards(domain string) []string {
	var all []string
	for domain = clean(domain); domain != ""; _, domain, _ = strings.Cut(domain, ".") {
		all = append(all, domain)
	}
	return all
}
