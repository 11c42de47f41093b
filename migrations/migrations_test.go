package migrations

import (
	"context"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

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

// A dmarcd goes on with a database that a newer one has changed, unless that took
// away what this one may need, or did not say.
func TestADatabaseOfANewerVersionIsTakenIfItSaysSo(t *testing.T) {
	db := pgtest.DB(t)
	if _, err := Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	known := Newest()
	for i, c := range []struct {
		needs any
		taken bool
	}{{0, true}, {known, true}, {known + 1, false}, {nil, false}} {
		exec(t, db, "DELETE FROM schema_steps WHERE number > $1", known)
		exec(t, db, "INSERT INTO schema_steps (number, name, needs) VALUES ($1, 'tomorrow', 0), ($2, 'later', $3)", known+1, known+2, c.needs)
		for what, f := range map[string]func(context.Context, *pgxpool.Pool) ([]Step, error){"Apply": Apply, "Status": Status} {
			steps, err := f(t.Context(), db)
			var newer *NewerError
			if c.taken && err != nil || !c.taken && (!errors.As(err, &newer) || newer.Step != known+2 || !strings.Contains(err.Error(), "newer version")) {
				t.Errorf("%d: %s: %v", i, what, err)
			}
			if want := known + 2; c.taken && what == "Status" && (len(steps) != want || steps[want-1].Name != "later" || steps[want-1].AppliedAt.IsZero()) {
				t.Errorf("%d: %+v", i, steps)
			}
			if what == "Apply" && len(steps) != 0 {
				t.Errorf("%d: applied %+v", i, steps)
			}
		}
	}
}

// released is the newest step of the last release. The commit that a release is tagged
// at says so here.
const released = 25

// takes matches what an older dmarcd may stumble over.
var takes = regexp.MustCompile(`(?is)\b(?:DROP|RENAME|TRUNCATE|DELETE\s+FROM|SET\s+NOT\s+NULL|SET\s+SCHEMA|(?:SET\s+DATA\s+)?TYPE\s|ADD\s+(?:CONSTRAINT|CHECK|UNIQUE|PRIMARY|FOREIGN|EXCLUDE)|REVOKE|OR\s+REPLACE)`)

// notNull matches a column that an older dmarcd would not know to fill.
var notNull = regexp.MustCompile(`(?is)ADD\s+COLUMN\s+[^,;]*\bNOT\s+NULL\b[^,;]*`)

// uniqueOn matches an index that an older dmarcd would not know to keep to.
var uniqueOn = regexp.MustCompile(`(?is)CREATE\s+UNIQUE\s+INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?\w+\s+ON\s+(\w+)`)

// stumbles returns what a dmarcd of before may stumble over in a step.
func stumbles(sql string) []string {
	sql = regexp.MustCompile(`--[^\n]*`).ReplaceAllString(sql, "")
	all := takes.FindAllString(sql, -1)
	for _, column := range notNull.FindAllString(sql, -1) {
		if !regexp.MustCompile(`(?i)\b(?:DEFAULT|GENERATED)\b`).MatchString(column) {
			all = append(all, column)
		}
	}
	for _, m := range uniqueOn.FindAllStringSubmatch(sql, -1) {
		if !regexp.MustCompile(`(?i)CREATE\s+TABLE\s+` + m[1] + `\b`).MatchString(sql) {
			all = append(all, m[0])
		}
	}
	return all
}

// Two releases that follow each other run side by side: steps since the last one only add,
// or say who cannot work with what they take away, and that is nobody from the last release on.
func TestStepsLeaveWhatTheReleaseBeforeUses(t *testing.T) {
	all, err := steps()
	if err != nil || len(all) < released {
		t.Fatalf("%d steps, %v", len(all), err)
	}
	for _, step := range all[released:] {
		if found := stumbles(step.sql); len(found) > 0 && !needs.MatchString(step.sql) {
			t.Errorf("%04d_%s: an older dmarcd may stumble over %q. Say from which step on a dmarcd works with it, in a line \"-- needs: %d\"", step.Number, step.Name, found, released)
		}
		if step.Needs > released {
			t.Errorf("%04d_%s needs a dmarcd that knows step %d, but the last release knows %d: take away what it uses only after the next release", step.Number, step.Name, step.Needs, released)
		}
	}
	// The steps before were not held to that: they show what is found.
	for number, want := range map[int]bool{2: false, 4: false, 12: true, 18: true, 20: false, 21: true, 22: true, 25: false} {
		if found := stumbles(all[number-1].sql); len(found) > 0 != want {
			t.Errorf("step %d: found %q", number, found)
		}
	}
	for sql, want := range map[string]bool{
		"ALTER TABLE a ADD COLUMN b int NOT NULL":                             true,
		"ALTER TABLE a ADD COLUMN b int NOT NULL DEFAULT 0, ADD COLUMN c int": false,
		"ALTER TABLE a ALTER b TYPE text":                                     true,
		"CREATE UNIQUE INDEX x ON a (b)":                                      true,
		"CREATE TABLE a (b int NOT NULL);\nCREATE UNIQUE INDEX x ON a (b)":    false,
		"CREATE INDEX x ON a (b) -- DROP nothing":                             false,
	} {
		if found := stumbles(sql); len(found) > 0 != want {
			t.Errorf("%s: found %q", sql, found)
		}
	}
}

// applyBefore makes the schema as it was before a step.
func applyBefore(t *testing.T, db *pgxpool.Pool, name string) {
	t.Helper()
	all, err := Status(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, "CREATE TABLE schema_steps (number int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())")
	for _, step := range all {
		if step.Name == name {
			return
		}
		exec(t, db, step.sql)
		exec(t, db, "INSERT INTO schema_steps (number, name) VALUES ($1, $2)", step.Number, step.Name)
	}
	t.Fatalf("there is no step %s", name)
}

func exec(t *testing.T, db *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
}

func TestRowsFromBeforeTheyWereGroupedAreKept(t *testing.T) {
	db := pgtest.DB(t)
	applyBefore(t, db, "row_groups")
	exec(t, db, "CREATE TABLE rows_2026_02 PARTITION OF rows FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')")
	// Reports of 1 to 200 rows about three domains, with what may be missing now and then: in some in all rows.
	exec(t, db, `
		INSERT INTO rows (domain_id, report, messages, header_from_id, envelope_from_id, envelope_to_id, auth_id, day, flags, verdict, ours, source)
		SELECT report % 3, report, n * 3000000000, CASE WHEN report <> 5 THEN n % 7 END, CASE WHEN n % 2 = 0 THEN n END,
			CASE WHEN report = 6 AND n = 9 THEN 4 END, n % 5, CASE report WHEN 7 THEN '1970-01-01' ELSE '2026-02-01'::date + report END,
			CASE WHEN report = 4 THEN n % 3 ELSE 0 END, n % 64, n % 9,
			CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '2001:db8::'::inet + n ELSE '192.0.2.0'::inet + n END
		FROM generate_series(1, 9) AS report, generate_series(1, 200) AS n
		WHERE n <= 200 / report OR report = 8 AND n = 1`)
	read := func() []string {
		// As stored: the order within a report counts.
		rows, _ := db.Query(t.Context(), `
			SELECT report || ': ' || string_agg(r::text, ' ')
			FROM (SELECT * FROM rows) AS r
			GROUP BY domain_id, report
			ORDER BY report`)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := read()
	if len(before) != 9 {
		t.Fatalf("%d reports", len(before))
	}
	if _, err := Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	after := read()
	if !reflect.DeepEqual(after, before) {
		t.Errorf("rows\n%s\nbecame\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	var months string
	var groups, old int
	const state = `
		SELECT (SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'row_groups'::regclass),
			(SELECT count(*) FROM row_groups),
			(SELECT count(*) FROM pg_class WHERE relname LIKE 'rows\_%' OR relname = 'single_rows')`
	if err := db.QueryRow(t.Context(), state).Scan(&months, &groups, &old); err != nil {
		t.Fatal(err)
	}
	if months != "row_groups_2026_02 row_groups_before_2012" || groups > 30 || old != 0 {
		t.Errorf("months %q with %d groups; %d old tables", months, groups, old)
	}
}

func TestDaysThatNameMoreSourcesThanTodayAreSummarisedAnew(t *testing.T) {
	db := pgtest.DB(t)
	applyBefore(t, db, "top_sources")
	exec(t, db, "INSERT INTO horizons VALUES ('rows', '2026-02-01')")
	// Of four days with 100 or 101 sources, one has no rows any more.
	for day, n := range map[string]int{"2026-01-31": 101, "2026-02-01": 101, "2026-02-02": 100, "2026-02-03": 101} {
		exec(t, db, `INSERT INTO domain_days (day, domain_id, dated, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject,
			pass, unstated, estimated, reports, changes, summarised) VALUES ($1, 1, true, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7)`, day)
		exec(t, db, `INSERT INTO source_days (domain_id, day, dated, kind, source, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine,
			reject, pass, unstated) SELECT 1, $1, true, 0, '192.0.2.0'::inet + n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, $2::int) n`, day, n)
	}
	if _, err := Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	var pending string
	if err := db.QueryRow(t.Context(), "SELECT string_agg(day::text, ' ' ORDER BY day) FROM domain_days WHERE changes <> summarised").Scan(&pending); err != nil {
		t.Fatal(err)
	}
	if pending != "2026-02-01 2026-02-03" {
		t.Errorf("summarised anew: %s", pending)
	}
}

// Messages of one part take a shorter way to the same domain, which index and queries share.
func TestTheDomainOfAMessageIsThatOfAllItsParts(t *testing.T) {
	db := pgtest.DB(t)
	if _, err := Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	null := int64(-1)
	for parts, want := range map[string]int64{
		`[]`:                                          null,
		`[{"kind": "none"}]`:                          null,
		`[{"kind": "none", "report": ""}]`:            null,
		`[{"report": "7-1"}]`:                         7,
		`[{"report": "7-1"}, {"report": "7-2"}]`:      7,
		`[{"report": "7-1"}, {"report": "8-1"}]`:      0,
		`[{"report": "7-1"}, {"kind": "none"}]`:       null,
		`[{"report": "7-1"}, {"report": ""}]`:         null,
		`[{"report": "70-1", "path": "a.xml"}, null]`: null,
	} {
		var short, long int64
		const sql = "SELECT coalesce(message_domain($1::jsonb), -1), coalesce(message_domain_of_many($1::jsonb), -1)"
		if err := db.QueryRow(t.Context(), sql, parts).Scan(&short, &long); err != nil || short != want || long != want {
			t.Errorf("%s: %d and %d, %v; want %d", parts, short, long, err, want)
		}
	}
	const sql = "SET LOCAL enable_seqscan = off; EXPLAIN (FORMAT json) SELECT FROM messages m WHERE message_domain(m.parts) = 7 AND m.id < 9 ORDER BY m.id DESC LIMIT 1"
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	all, err := conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if plan := string(all[len(all)-1].Rows[0][0]); !strings.Contains(plan, `"messages_domain"`) {
		t.Errorf("the ledger of a domain is not read by its index: %s", plan)
	}
}
