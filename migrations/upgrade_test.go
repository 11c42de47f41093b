package migrations_test

import (
	"compress/gzip"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// Databases of earlier versions, as pg_dump saved them after some reports were
// imported, are brought up to date with all that is in them. The number of a file is
// that of the last step that its dmarcd knew. One is added for each new step, with the
// dmarcd of before:
//
//	dmarcd import parse/testdata/parsedmarc/report.xml cmd/dmarcd/testdata/aggregate.xml cmd/dmarcd/testdata/tls.json ...
//	pg_dump --no-owner --no-privileges --inserts "$DMARCD_DATABASE_URL" | grep -v '^\\\(un\)\?restrict' | gzip -9n
func TestDatabasesOfEarlierVersionsAreUpgraded(t *testing.T) {
	dumps, err := filepath.Glob(filepath.Join("testdata", "*.sql.gz"))
	if err != nil || len(dumps) < 14 {
		t.Fatalf("%d databases, %v", len(dumps), err)
	}
	for _, path := range dumps {
		name := strings.TrimSuffix(filepath.Base(path), ".sql.gz")
		t.Run(name, func(t *testing.T) {
			known, err := strconv.Atoi(name)
			if err != nil {
				t.Fatal(err)
			}
			url := pgtest.URL(t)
			restore(t, url, path)
			db, err := store.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			steps, err := migrations.Apply(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			if len(steps) == 0 || steps[0].Number != known+1 {
				t.Errorf("applied %+v, want those after %d", steps, known)
			}
			s := store.New(db, slog.New(slog.DiscardHandler))
			if err := s.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			if err := s.SummariseSources(t.Context()); err != nil {
				t.Error(err)
			}
			if err := s.SummariseFacts(t.Context()); err != nil {
				t.Error(err)
			}
			v, err := s.Verify(t.Context(), store.VerifyOptions{Found: func(d store.Difference) { t.Errorf("%+v", d) }})
			if err != nil || v.Domains == 0 || v.Pending != 0 || v.Unreduced != 0 {
				t.Errorf("%+v, %v", v, err)
			}
			// What the reports that were imported say, by themselves and in the totals of their days.
			const reports, messages = 3, 1226
			var n, sum, days int64
			err = db.QueryRow(t.Context(), `
				SELECT count(*), sum(messages)::bigint, (SELECT sum(messages)::bigint FROM domain_days)
				FROM reports
				WHERE active`).Scan(&n, &sum, &days)
			if err != nil || n != reports || sum != messages || days != messages {
				t.Errorf("%d reports, %d messages, %d by day, %v; want %d and %d", n, sum, days, err, reports, messages)
			}
		})
	}
}

// restore loads a dump in SQL.
func restore(t *testing.T, url, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	sql, err := io.ReadAll(packed)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.PgConn().Exec(t.Context(), string(sql)).ReadAll(); err != nil {
		t.Fatal(err)
	}
}
