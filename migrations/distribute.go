package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// shape says where each table is kept when the database is spread over
// machines with Citus. The schema is the same with and without.
var shape = struct {
	reference   []string // copied to every machine
	distributed []string // by domain_id, all together: what is of a domain lies on one machine
	local       []string // on the coordinator
}{
	reference: []string{"domains"},
	distributed: []string{
		"reporters", "names", "auth_results", "reports", "row_groups", "reporter_days", "domain_days", "domain_months", "source_days", "source_lists",
		"source_facts", "fact_lists", "selector_days", "looks", "published", "published_changes", "dkim_keys", "verdicts", "domain_sources",
		"tls_reports", "failure_reports",
	},
	local: []string{
		"schema_steps", "mailboxes", "messages", "raw_messages", "leases", "progress", "horizons", "tokens", "keys", "audit",
		"episodes", "events", "deliveries", "mailbox_health", "source_identities", "overrules", "domain_groups", "domain_settings",
		"network_labels", "streams", "report_changes", "stream_clock", "pass_health", "rule_switches", "source_lists_made", "fact_lists_made",
	},
}

// errNoCitus is returned for a database that cannot be spread over machines;
// what wraps it says why.
var errNoCitus = errors.New("this database cannot be distributed")

// Distribute spreads the tables of a migrated database over the machines of a
// Citus cluster, by domain, in one transaction. Tables that are spread already stay
// as they are.
func Distribute(ctx context.Context, db *pgxpool.Pool) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Release()
	var created, available bool
	const extension = `
		SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'),
			EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citus')`
	if err := conn.QueryRow(ctx, extension).Scan(&created, &available); err != nil {
		return fmt.Errorf("looking for Citus: %w", err)
	}
	switch {
	case !available:
		return fmt.Errorf("%w: its PostgreSQL has no extension citus. Install Citus 12 or newer on all machines, or leave the database as it is: everything works on one machine", errNoCitus)
	case !created:
		return fmt.Errorf("%w: the extension citus is installed, but not created in it. As superuser run CREATE EXTENSION citus here and on the workers, and add them with citus_add_node", errNoCitus)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockKey)); err != nil {
			return fmt.Errorf("waiting for other migrations: %w", err)
		}
		// Foreign keys to a copied table want one connection to each machine.
		if _, err := tx.Exec(ctx, "SET LOCAL citus.multi_shard_modify_mode TO 'sequential'"); err != nil {
			return err
		}
		for _, table := range shape.reference {
			if err := spread(ctx, tx, table, "SELECT create_reference_table($1)", table); err != nil {
				return err
			}
		}
		first := shape.distributed[0]
		for _, table := range shape.distributed {
			with := first
			if table == first {
				with = "none"
			}
			if err := spread(ctx, tx, table, "SELECT create_distributed_table($1, 'domain_id', colocate_with => $2)", table, with); err != nil {
				return err
			}
		}
		return nil
	})
}

// spread distributes a table unless it is distributed already.
func spread(ctx context.Context, tx pgx.Tx, table, sql string, args ...any) error {
	var done bool
	const known = `
		SELECT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = $1::text::regclass AND partmethod IN ('h', 'n') AND repmodel <> 's')`
	if err := tx.QueryRow(ctx, known, table).Scan(&done); err != nil {
		return fmt.Errorf("looking at %s: %w", table, err)
	}
	if done {
		return nil
	}
	if _, err := tx.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("distributing %s: %w", table, err)
	}
	return nil
}
