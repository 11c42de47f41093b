package store_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// open returns a store on a database of its own. What the store asks is watched.
func open(t testing.TB) (*store.Store, *pgxpool.Pool) {
	t.Helper()
	url := pgtest.Copy(t, "migrated", func(url string) {
		db, err := store.Open(context.Background(), url, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := migrations.Apply(context.Background(), db); err != nil {
			t.Fatal(err)
		}
	})
	db, err := store.Open(context.Background(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	config := db.Config()
	config.ConnConfig.Tracer = watch(t)
	watched, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watched.Close)
	return store.New(watched, slog.New(slog.DiscardHandler)), watched
}
