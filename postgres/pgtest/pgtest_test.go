package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	ctx := t.Context()
	a, b := pgtest.DB(t), pgtest.DB(t)
	if _, err := a.Exec(ctx, "CREATE TABLE domains (name text)"); err != nil {
		t.Fatal(err)
	}
	var there bool
	if err := b.QueryRow(ctx, "SELECT to_regclass('domains') IS NOT NULL").Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there {
		t.Error("the table of one database is in the other")
	}
}

func TestADatabaseIsDroppedAfterItsTest(t *testing.T) {
	var name string
	t.Run("a test that leaves a connection open", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), pgtest.URL(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	var exists bool
	if err := pgtest.DB(t).QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		t.Fatal(err)
	}
	if name == "" || exists {
		t.Errorf("database %q is there still", name)
	}
}

func BenchmarkURL(b *testing.B) {
	for b.Loop() {
		pgtest.URL(b)
	}
}
