// Package store speaks SQL: it keeps reports in PostgreSQL and answers what
// pages and API ask. Summaries come from rollups that change in the
// transaction of the rows, never from the rows.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/migrations"
)

// A Store keeps reports. It may be used by several goroutines, and several
// processes may use one database.
type Store struct {
	// LeaseTime is how long a lease holds without a sign of life; 0 for 20
	// seconds. It is set before the store is used.
	LeaseTime time.Duration
	// RefuseLate refuses reports about days whose rows are no longer kept.
	// Otherwise they are counted in totals. It is set before the store is used.
	RefuseLate bool

	db  *pgxpool.Pool
	log *slog.Logger

	dict       dictionary
	partitions partitions
	cleared    cleared

	// writers bounds how many transactions add at once. Each holds a
	// connection and now and then asks for a second one: were all connections
	// held by such, none would go on.
	writers chan struct{}
	// streams bounds how many streams read at once, for the same reason, and
	// since each may wait for its receiver meanwhile.
	streams chan struct{}
	// readers bounds how many reports are read row by row at once, since each may
	// wait for whoever asked for it.
	readers chan struct{}

	mu        sync.Mutex
	mailboxes map[string]int64

	changed chan struct{} // a batch was committed
}

// Bounds of connections: minConns leaves one for a writer, one for the pass,
// one for the second of either, and one to read with.
const (
	minConns   = 4
	usualConns = 12
	maxWriters = 4
)

// New returns a store on a database that is migrated.
func New(db *pgxpool.Pool, log *slog.Logger) *Store {
	return &Store{
		db:        db,
		log:       log,
		writers:   make(chan struct{}, max(1, min(maxWriters, db.Config().MaxConns-3))),
		streams:   make(chan struct{}, max(1, db.Config().MaxConns/3)),
		readers:   make(chan struct{}, max(1, db.Config().MaxConns/3)),
		mailboxes: make(map[string]int64),
		changed:   make(chan struct{}, 1),
	}
}

// Open connects to a database, and keeps so many connections ready for whoever asks next; others
// are let go of after five minutes without work. Just-in-time compilation is off: it costs more
// than it gives for queries as short as ours.
func Open(ctx context.Context, url string, ready int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	params := config.ConnConfig.RuntimeParams
	params["jit"] = "off"
	params["timezone"] = "UTC"
	if params["application_name"] == "" {
		params["application_name"] = "dmarcd"
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = usualConns
	}
	config.MaxConns = max(config.MaxConns, minConns)
	config.MinConns = min(max(config.MinConns, ready), config.MaxConns)
	config.MaxConnIdleTime = 5 * time.Minute
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		return nil
	}
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	return db, nil
}

// Ready returns nil if the database answers and has today's schema.
func (s *Store) Ready(ctx context.Context) error {
	steps, err := migrations.Status(ctx, s.db)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if step.AppliedAt.IsZero() {
			return fmt.Errorf("migration %04d_%s is not applied: run dmarcd migrate", step.Number, step.Name)
		}
	}
	return nil
}

// Place returns how far a mailbox has been read; the zero Place if it is new.
func (s *Store) Place(ctx context.Context, mailbox string) (dmarc.Place, error) {
	const sql = `
		SELECT uid_validity, uid
		FROM mailboxes
		WHERE name = $1`
	var p dmarc.Place
	err := s.db.QueryRow(ctx, sql, mailbox).Scan(&p.UIDValidity, &p.UID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return p, fmt.Errorf("place in mailbox %s: %w", mailbox, err)
	}
	return p, nil
}

// mailboxID returns the number of a mailbox, and makes one for a new name.
func (s *Store) mailboxID(ctx context.Context, name string) (int64, error) {
	s.mu.Lock()
	id, ok := s.mailboxes[name]
	s.mu.Unlock()
	if ok {
		return id, nil
	}
	const sql = `
		WITH new AS (
			INSERT INTO mailboxes (name)
			VALUES ($1)
			ON CONFLICT DO NOTHING
			RETURNING id
		)
		SELECT id FROM new
		UNION ALL
		SELECT id FROM mailboxes WHERE name = $1`
	// A row that another transaction is adding at this moment is seen by the
	// second try.
	err := pgx.ErrNoRows
	for try := 0; try < 3 && errors.Is(err, pgx.ErrNoRows); try++ {
		err = s.db.QueryRow(ctx, sql, name).Scan(&id)
	}
	if err != nil {
		return 0, fmt.Errorf("mailbox %s: %w", name, err)
	}
	s.mu.Lock()
	s.mailboxes[name] = id
	s.mu.Unlock()
	return id, nil
}

// Changed receives a value after something was committed, for passes that
// follow up. Several commits may give one value.
func (s *Store) Changed() <-chan struct{} { return s.changed }

func (s *Store) noteChange() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// clean makes text fit for PostgreSQL: valid UTF-8 without NUL. Parsers see to
// that already; this is the last gate.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// isData reports whether the database refused values rather than failing
// itself: errors of the classes data exception, integrity constraint and
// program limit.
func isData(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) < 2 {
		return false
	}
	switch pg.Code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}

// isRace reports whether a transaction lost against another one and will do
// if it is tried again.
func isRace(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "40001", "40P01", "23505", "55P03": // serialization, deadlock, unique, lock not available
		return true
	case "23514": // the month of a row was given up just now
		return pg.ConstraintName == "" && (pg.TableName == "row_groups" || pg.TableName == "raw_messages")
	}
	return false
}

// execer is a pool or a transaction that is written to.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
