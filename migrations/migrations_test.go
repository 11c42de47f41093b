package migrations

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestSeveralProcessesMayApplyAtOnce(t *testing.T) {
	db := pgtest.DB(t)
	before, err := Status(t.Context(), db)
	if err != nil || len(before) == 0 || !before[0].AppliedAt.IsZero() {
		t.Fatalf("before: %+v, %v", before, err)
	}
	var wg sync.WaitGroup
	applied := make([]int, 4)
	for i := range applied {
		wg.Go(func() {
			steps, err := Apply(context.Background(), db)
			if err != nil {
				t.Error(err)
			}
			applied[i] = len(steps)
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range applied {
		sum += n
	}
	if sum != len(before) {
		t.Errorf("steps applied by each: %v, want %d in all", applied, len(before))
	}
	after, err := Status(t.Context(), db)
	if err != nil || after[len(after)-1].AppliedAt.IsZero() {
		t.Errorf("after: %+v, %v", after, err)
	}
}

func TestADatabaseOfANewerVersionIsRefused(t *testing.T) {
	db := pgtest.DB(t)
	if _, err := Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), "INSERT INTO schema_steps (number, name) VALUES (9999, 'tomorrow')"); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(t.Context(), db); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("err = %v", err)
	}
}
