package migrations

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// The schema is one that Citus can spread: every table has its place, what is
// of a domain begins its keys with it, and nothing refers across.
func TestEveryTableHasItsPlaceAmongMachines(t *testing.T) {
	db := pgtest.DB(t)
	if _, err := Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	const tables = `
		SELECT relname::text
		FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
		ORDER BY 1`
	rows, _ := db.Query(t.Context(), tables)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(slices.Concat(shape.reference, shape.distributed, shape.local)))
	slices.Sort(got)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("tables %q, with a place %q: name new ones in shape", got, want)
	}
	for _, table := range shape.distributed {
		var distributable bool
		const unique = `
			SELECT (SELECT attnotnull FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'domain_id')
				AND NOT EXISTS (
					SELECT FROM pg_index i
					WHERE i.indrelid = $1::text::regclass AND i.indisunique AND NOT EXISTS (
						SELECT FROM pg_attribute a
						WHERE a.attrelid = i.indrelid AND a.attname = 'domain_id' AND a.attnum = ANY (i.indkey)
					)
				)
				AND NOT EXISTS (
					SELECT FROM pg_constraint c
					WHERE c.conrelid = $1::text::regclass AND c.contype = 'f' AND c.confrelid::regclass::text <> ALL ($2)
				)`
		if err := db.QueryRow(t.Context(), unique, table, shape.reference).Scan(&distributable); err != nil || !distributable {
			t.Errorf("%s cannot be distributed: domain_id, a unique key without it, or a foreign key; %v", table, err)
		}
	}
	for _, table := range shape.local {
		var refers bool
		const foreign = `
			SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'f' AND confrelid::regclass::text = ANY ($2))`
		if err := db.QueryRow(t.Context(), foreign, table, shape.distributed).Scan(&refers); err != nil || refers {
			t.Errorf("%s refers to a table that is spread over machines; %v", table, err)
		}
	}
}

func TestADatabaseWithoutCitusIsNotDistributed(t *testing.T) {
	db := pgtest.DB(t)
	if _, err := Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if err := Distribute(t.Context(), db); !errors.Is(err, errNoCitus) || !strings.Contains(err.Error(), "citus") {
		t.Errorf("err = %v", err)
	}
}
