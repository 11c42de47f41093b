package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/store"
)

// Differences between the clock of this machine and that of the database.
const (
	clockNote  = 2 * time.Second
	clockWrong = time.Minute
)

// oldestPostgres is what dmarcd works with, as server_version_num.
const oldestPostgres = 140000

// databaseName is which database is used, without secrets.
func (c *config) databaseName() string {
	if url := c.DatabaseURL.reveal(); url != "" {
		return databasePlace(url)
	}
	return "private, in " + filepath.Join(c.DataDir, "postgres")
}

// databasePlace is where a connection string leads.
func databasePlace(url string) string {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return "(unreadable)" // the configuration was checked
	}
	c := config.ConnConfig
	if strings.HasPrefix(c.Host, "/") {
		return c.Database + " in " + c.Host
	}
	return c.Database + " on " + net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
}

// database tries the database. What it opens stays open for the mailboxes,
// until the doctor is closed.
func (d *doctor) database(ctx context.Context, x *findings) {
	defer close(d.opened)
	private := d.cfg.DatabaseURL.empty()
	if private {
		if _, err := os.Stat(filepath.Join(d.cfg.DataDir, "postgres", "PG_VERSION")); err != nil {
			bin, _, err := postgres.Programs(ctx, d.cfg.DataDir)
			if err != nil {
				x.wrong("install PostgreSQL 14 or newer, or set database_url (DMARCD_DATABASE_URL) to one that runs elsewhere", "%v", firstLine(err))
				return
			}
			x.ok("there is none yet; dmarcd serve makes it, with the programs in %s", bin)
			return
		}
	}
	db, err := openDatabase(ctx, d.cfg, quietLog(), postgres.Options{}, true)
	if err != nil {
		x.wrong("look at the reason; the private server of another dmarcd may be in the way, or the folder may belong to another user", "it does not start: %v", err)
		return
	}
	d.db = db
	asked := time.Now()
	var number int
	var version, user string
	var readOnly bool
	var clock time.Time
	err = db.db.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_user::text,
			pg_is_in_recovery() OR current_setting('transaction_read_only')::bool, clock_timestamp()`).
		Scan(&number, &version, &user, &readOnly, &clock)
	took := time.Since(asked)
	if err != nil {
		message, fix := databaseTrouble(err)
		x.wrong(fix, "%s", message)
		return
	}
	switch {
	case number < oldestPostgres:
		x.wrong("use PostgreSQL 14 or newer", "it is PostgreSQL %s, which is too old", version)
		return
	case readOnly:
		x.wrong("point database_url (DMARCD_DATABASE_URL) at the primary, or take default_transaction_read_only away", "PostgreSQL %s takes no writes: it is a standby, or set to read only", version)
		return
	}
	x.ok("PostgreSQL %s answers in %s, as user %s", version, took.Round(100*time.Microsecond), user)
	d.schema(ctx, x, db.db, user)
	d.clock(x, clock, asked.Add(took/2))
}

// schema looks at the steps of the schema, and whether more could be applied.
func (d *doctor) schema(ctx context.Context, x *findings, db *pgxpool.Pool, user string) {
	steps, err := migrations.Status(ctx, db)
	if err != nil {
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			message, fix := databaseTrouble(err)
			x.wrong(fix, "%s", message)
		} else {
			x.wrong("run the newer dmarcd, or restore the backup that was made before it ran", "%v", err)
		}
		return
	}
	missing := 0
	for _, step := range steps {
		if step.AppliedAt.IsZero() {
			missing++
		}
	}
	lacks, err := privileges(ctx, db, missing > 0)
	switch {
	case err != nil:
		x.unknown("look at the log of PostgreSQL", "asking for privileges: %v", err)
	case lacks != "":
		x.wrong("let the tables belong to "+user+", or grant what is missing; the owner of the database can", "the user %s %s", user, lacks)
	default:
		x.ok("the user %s has the privileges that are needed", user)
	}
	switch {
	case missing == len(steps):
		x.ok("the schema is empty; dmarcd serve fills it when it starts")
	case missing > 0:
		x.wrong("back up the database, then run dmarcd migrate; dmarcd serve applies them as well when it starts",
			"the schema is old: %d of %d steps are not applied, the first is %04d %s", missing, len(steps), steps[len(steps)-missing].Number, steps[len(steps)-missing].Name)
	default:
		d.usable = true
		x.ok("all %d steps of the schema are applied", len(steps))
	}
}

// privileges returns what the user of the connection may not do and has to,
// "" for nothing. To change the schema it has to be the owner.
func privileges(ctx context.Context, db *pgxpool.Pool, change bool) (string, error) {
	var create, connect, temporary bool
	var schema *string
	err := db.QueryRow(ctx, `
		SELECT current_schema()::text, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
			has_database_privilege(current_database(), 'CONNECT'), has_database_privilege(current_database(), 'TEMPORARY')`).
		Scan(&schema, &create, &connect, &temporary)
	switch {
	case err != nil:
		return "", err
	case schema == nil:
		return "has no schema to put tables in (search_path names none that exists and may be used)", nil
	case !create:
		return "may not make tables in schema " + *schema + " (GRANT CREATE ON SCHEMA)", nil
	case !temporary:
		return "may not make temporary tables (GRANT TEMPORARY ON DATABASE)", nil
	}
	rows, _ := db.Query(ctx, `
		SELECT relname::text, pg_has_role(relowner, 'USAGE'),
			has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
				AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
		FROM pg_class
		WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
		ORDER BY relname`)
	var name string
	var owner, use bool
	lacks := ""
	_, err = pgx.ForEachRow(rows, []any{&name, &owner, &use}, func() error {
		switch {
		case lacks != "":
		case !use:
			lacks = "may not read and write the table " + name
		case !owner:
			lacks = "does not own the table " + name + ", and makes and drops partitions"
			if change {
				lacks = "does not own the table " + name + ", which steps of the schema change"
			}
		}
		return nil
	})
	return lacks, err
}

// clock compares the clock of this machine with that of the database.
func (d *doctor) clock(x *findings, theirs, ours time.Time) {
	apart := theirs.Sub(ours.Add(time.Until(d.now()))).Abs()
	const fix = "let both machines keep time by NTP (timedatectl set-ntp true)"
	switch {
	case apart >= clockWrong:
		x.wrong(fix, "the clock of this machine and that of the database are %s apart: certificates, tokens and what is due are judged wrongly", apart.Round(time.Second))
	case apart >= clockNote:
		x.note(fix, "the clock of this machine and that of the database are %s apart", apart.Round(100*time.Millisecond))
	default:
		x.ok("its clock agrees with that of this machine")
	}
}

// databaseTrouble says why a database cannot be used, and what to do.
func databaseTrouble(err error) (message, fix string) {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		message = fmt.Sprintf("PostgreSQL refuses: %s (SQLSTATE %s)", refused.Message, refused.Code)
		switch refused.Code {
		case "28P01", "28000":
			return message, "look at user and password in database_url (DMARCD_DATABASE_URL), and at pg_hba.conf of the server"
		case "3D000":
			return message, "create the database: createdb -O USER DATABASE"
		case "53300":
			return message, "raise max_connections, or end connections of others"
		case "57P03":
			return message, "wait until PostgreSQL has started"
		case "42501":
			return message, "grant what is missing, or let the user own the tables"
		}
		return message, "look at the log of PostgreSQL"
	}
	message, fix = networkTrouble(err, "PostgreSQL")
	var connecting *pgconn.ConnectError
	if fix == "" && errors.As(err, &connecting) {
		fix = "look at host and port in database_url (DMARCD_DATABASE_URL), and whether PostgreSQL runs there and listens (listen_addresses)"
	}
	return message, fix
}

// firstLine is the beginning of what is said at length elsewhere.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimSuffix(line, ".")
}

// replica looks at the database that pages are read from.
func (d *doctor) replica(ctx context.Context, x *findings) {
	select {
	case <-d.opened:
	case <-ctx.Done():
	}
	if d.db == nil || !d.usable {
		x.unknown("mend the database first", "it is compared with the database, which cannot be used")
		return
	}
	db, err := store.Open(ctx, d.cfg.ReadURL.reveal(), 0)
	if err == nil {
		defer db.Close()
		err = db.Ping(ctx)
	}
	if err != nil {
		message, fix := databaseTrouble(err)
		x.wrong(strings.ReplaceAll(strings.ReplaceAll(fix, "database_url", "database_read_url"), "DMARCD_DATABASE_URL", "DMARCD_DATABASE_READ_URL"), "%s; the database itself is read meanwhile", message)
		return
	}
	r := store.NewReplica(store.New(d.db.db, quietLog()), db, d.cfg.ReadLag)
	switch state := r.Check(ctx); {
	case !state.Used:
		x.wrong("see whether it still follows: SELECT * FROM pg_stat_replication on the primary", "it is %s behind, and database_read_lag allows %s: the database itself is read meanwhile", state.Lag.Round(time.Millisecond), d.cfg.ReadLag)
	default:
		x.ok("it is %s behind", state.Lag.Round(time.Millisecond))
	}
}

// close lets go of what was opened.
func (d *doctor) close() error {
	select {
	case <-d.opened:
		if d.db != nil {
			return d.db.close()
		}
	default: // still opening: it ends with the process
	}
	return nil
}
