package store_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/store"
)

func testDB(t testing.TB) *pgxpool.Pool {
	base := os.Getenv("DMARCD_TEST_DATABASE_URL")
	c, err := pgx.Connect(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	name := "t" + rand.Text()
	if _, err := c.Exec(t.Context(), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	c.Close(t.Context())
	db, err := store.Open(t.Context(), base+" dbname="+name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func open(t testing.TB) (*store.Store, *pgxpool.Pool) {
	t.Helper()
	db := testDB(t)
	if _, err := migrations.Apply(context.Background(), db); err != nil {
		t.Fatal(err)
	}
	return store.New(db, slog.New(slog.DiscardHandler)), db
}
