package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/store"
)

// verify returns how much was compared, and the differences, a line each.
var hashes = regexp.MustCompile(`hash=[0-9a-f]{8}`)

func verify(t *testing.T, s *store.Store, rebuild bool) (store.Verification, []string) {
	t.Helper()
	var found []string
	v, err := s.Verify(context.Background(), store.VerifyOptions{Rebuild: rebuild, Found: func(d store.Difference) {
		found = append(found, hashes.ReplaceAllString(fmt.Sprintf("%s %s %s: %s -> %s", d.Table, d.Domain, d.Line, d.Stored, d.Computed), "hash=H"))
	}})
	if err != nil {
		t.Fatal(err)
	}
	return v, found
}

func change(t *testing.T, db *pgxpool.Pool, sql string) {
	t.Helper()
	tag, err := db.Exec(context.Background(), sql)
	if err != nil || tag.RowsAffected() == 0 {
		t.Fatalf("%s: %v, %d lines", sql, err, tag.RowsAffected())
	}
}

func TestVerifyFindsNothingInWhatWasStored(t *testing.T) {
	s, _ := open(t)
	r := rand.New(rand.NewPCG(5, 6))
	reports := random(r, 300)
	signed(r, reports)
	for i := 0; i < len(reports); i += 10 {
		var ds []dmarc.Delivery
		for j, r := range reports[i : i+10] {
			ds = append(ds, mail(uint32(i+j+1), r))
		}
		add(t, s, ds...)
		if i == 100 {
			if err := s.SummariseSources(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := s.SummariseFacts(context.Background()); err != nil {
				t.Fatal(err)
			}
			if v, found := verify(t, s, false); len(found) > 0 || v.Pending != 0 || v.Unreduced != 0 {
				t.Errorf("after the pass: %+v %q", v, found)
			}
		}
	}
	v, found := verify(t, s, false)
	if len(found) > 0 || v.Domains != 4 || v.Pending == 0 || v.Unreduced == 0 {
		t.Errorf("%+v %q", v, found)
	}
	for table, n := range v.Lines {
		if n == 0 {
			t.Errorf("nothing of %s was compared", table)
		}
	}
}

func TestVerifyNamesWhatIsWrongAndRebuildsIt(t *testing.T) {
	racetest.Calm(t)
	s, db := open(t)
	for i, r := range random(rand.New(rand.NewPCG(7, 8)), 60) {
		add(t, s, mail(uint32(i+1), r))
	}
	weekly := daily("week", row("192.0.2.1", 70, pass, fail, dmarc.DispositionNone))
	weekly.length = 7 * 24 * 3600e9
	add(t, s, mail(100, daily("1", row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone), row("192.0.2.2", 3, fail, fail, dmarc.DispositionReject)), weekly))
	if err := s.SummariseSources(context.Background()); err != nil {
		t.Fatal(err)
	}
	const of = " WHERE domain_id = (SELECT id FROM domains WHERE name = 'example.com')"
	for _, step := range []struct {
		sql  string
		want []string
	}{
		{"UPDATE reporter_days SET messages = messages + 1" + of + " AND day = '2026-02-05' AND verdict <> 0",
			[]string{"reporter_days example.com 2026-02-05, reporter R, verdict 17: messages=11 -> messages=10"}},
		{"DELETE FROM reporter_days" + of + " AND day = '2026-02-05' AND verdict <> 0",
			[]string{"reporter_days example.com 2026-02-05, reporter R, verdict 17:  -> rows=0 messages=10 estimated=10 reports=0"}},
		{"INSERT INTO reporter_days SELECT domain_id, day + 100, reporter_id, dated, verdict, 1, 2, 0, 0 FROM reporter_days" + of + " AND day = '2026-02-05' AND verdict = 17",
			[]string{"reporter_days example.com 2026-05-16, reporter R, verdict 17: rows=1 messages=2 -> rows=0 messages=0"}},
		{"UPDATE domain_days SET reject = 0, dmarc_pass = 9" + of + " AND day = '2026-02-03'",
			[]string{"domain_days example.com 2026-02-03: dmarc_pass=9 reject=0 -> dmarc_pass=15 reject=3"}},
		{"DELETE FROM domain_days" + of + " AND day = '2026-02-04'",
			[]string{"domain_days example.com 2026-02-04:  -> rows=0 messages=10 dmarc_pass=10 dkim_aligned=10 spf_aligned=0 none=10 quarantine=0 reject=0 pass=0 unstated=0 estimated=10 reports=0"}},
		{"UPDATE domain_months SET pass = 1" + of + " AND dated",
			[]string{"domain_months example.com 2026-02-01: pass=1 -> pass=0"}},
		{"UPDATE source_days SET none = 4" + of + " AND day = '2026-02-03' AND source = '192.0.2.1'",
			[]string{"source_days example.com 2026-02-03, 192.0.2.1: none=4 -> none=15"}},
		{"UPDATE source_days SET source = '192.0.2.9'" + of + " AND day = '2026-02-03' AND source = '192.0.2.2'",
			[]string{
				"source_days example.com 2026-02-03, 192.0.2.2:  -> rows=1 messages=3 dmarc_pass=0 dkim_aligned=0 spf_aligned=0 none=0 quarantine=0 reject=3 pass=0 unstated=0",
				"source_days example.com 2026-02-03, 192.0.2.9: rows=1 messages=3 dmarc_pass=0 dkim_aligned=0 spf_aligned=0 none=0 quarantine=0 reject=3 pass=0 unstated=0 -> ",
			}},
		{"UPDATE source_lists SET lines = replace(lines, ' 15 ', ' 14 ')" + of + " AND day = '2026-02-03'",
			[]string{"source_lists example.com 2026-02-03: lines=2 hash=H -> lines=2 hash=H"}},
		{"INSERT INTO source_lists SELECT domain_id, day + 100, dated, summarised, lines FROM source_lists" + of + " AND day = '2026-02-03'",
			[]string{"source_lists example.com 2026-05-14: lines=2 hash=H -> "}},
	} {
		change(t, db, step.sql)
		var id string
		if err := db.QueryRow(context.Background(), "SELECT id::text FROM reporters"+of).Scan(&id); err != nil {
			t.Fatal(err)
		}
		for i := range step.want {
			step.want[i] = strings.ReplaceAll(step.want[i], "reporter R", "reporter "+id)
		}
		if v, found := verify(t, s, true); !reflect.DeepEqual(found, step.want) || v.Rebuilt != v.Differences {
			t.Errorf("%s:\n%+v\n%q, want\n%q", step.sql, v, found, step.want)
		}
		if v, found := verify(t, s, false); len(found) > 0 || v.Pending > 0 {
			t.Errorf("%s: rebuilt, but %+v %q", step.sql, v, found)
		}
	}
	// Rows are the truth: what was said of the report cannot be computed.
	change(t, db, "UPDATE row_groups SET messages = messages[1:1], header_from_id = header_from_id[1:1], auth_id = auth_id[1:1], verdict = verdict[1:1], ours = ours[1:1], source = source[1:1]"+
		of+" AND source[2] = '192.0.2.2'")
	v, found := verify(t, s, true)
	if len(found) < 3 || v.Rebuilt != v.Differences-1 || !strings.Contains(strings.Join(found, "\n"), `("1"): rows=2 messages=8 reject=3 -> rows=1 messages=5 reject=0`) {
		t.Errorf("%+v %q", v, found)
	}
}

func TestVerifyCoversFactsAndSelectors(t *testing.T) {
	s, db := open(t)
	ctx := context.Background()
	signedBy := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	signedBy.AuthDKIM = []dmarc.DKIMResult{{Domain: "example.com", Selector: "s1", Result: pass}}
	refused, forged := row("192.0.2.2", 3, fail, fail, dmarc.DispositionReject), row("192.0.2.7", 2, fail, fail, dmarc.DispositionNone)
	refused.AuthDKIM, forged.AuthDKIM = nil, nil
	late := daily("2", forged)
	late.begin = late.begin.AddDate(0, 0, 9)
	add(t, s, mail(1, daily("1", signedBy, refused)), mail(2, late))
	for _, pass := range []func(context.Context) error{s.SummariseSources, s.SummariseFacts} {
		if err := pass(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		sql  string
		want []string
	}{
		{"UPDATE source_facts SET facts = (SELECT facts FROM source_facts WHERE source = '192.0.2.1') WHERE source = '192.0.2.2'",
			[]string{"source_facts example.com 2026-02-03, 192.0.2.2: messages=5 in 1 cells, N bytes -> messages=3 in 1 cells, N bytes"}},
		{"UPDATE source_facts SET facts = '\\xff' WHERE source = '192.0.2.2'",
			[]string{"source_facts example.com 2026-02-03, 192.0.2.2: N bytes that cannot be read -> messages=3 in 1 cells, N bytes"}},
		{"DELETE FROM source_facts WHERE source = '192.0.2.7'",
			[]string{"source_facts example.com 2026-02-12, 192.0.2.7:  -> messages=2 in 1 cells, N bytes"}},
		{"INSERT INTO source_facts SELECT domain_id, day + 100, kind, '192.0.2.0/24', facts FROM source_facts WHERE source = '192.0.2.2'",
			[]string{"source_facts example.com 2026-05-14, 192.0.2.0/24: messages=3 in 1 cells, N bytes -> "}},
		{"UPDATE fact_lists l SET facts = (SELECT facts FROM fact_lists WHERE day = '2026-02-12') WHERE day = '2026-02-03'",
			[]string{"fact_lists example.com 2026-02-03: messages=2 of 1 sources, N bytes -> messages=8 of 2 sources, N bytes"}},
		{"UPDATE fact_lists SET facts = '\\xff' WHERE day = '2026-02-12'",
			[]string{"fact_lists example.com 2026-02-12: N bytes that cannot be read -> messages=2 of 1 sources, N bytes"}},
		{"INSERT INTO fact_lists SELECT domain_id, day + 100, reduced, facts FROM fact_lists WHERE day = '2026-02-12'",
			[]string{"fact_lists example.com 2026-05-23: messages=2 of 1 sources, N bytes -> "}},
		{"UPDATE selector_days SET passed = 4, none = 6",
			[]string{`selector_days example.com 2026-02-03, "s1" at "example.com": passed=4 none=6 -> passed=5 none=5`}},
		{"UPDATE selector_days SET selector = 's9'", []string{
			`selector_days example.com 2026-02-03, "s1" at "example.com":  -> passed=5 rows=1 messages=5 dmarc_pass=5 dkim_aligned=5 spf_aligned=0 none=5 quarantine=0 reject=0 pass=0 unstated=0`,
			`selector_days example.com 2026-02-03, "s9" at "example.com": passed=5 rows=1 messages=5 dmarc_pass=5 dkim_aligned=5 spf_aligned=0 none=5 quarantine=0 reject=0 pass=0 unstated=0 -> `,
		}},
	} {
		change(t, db, step.sql)
		v, found := verify(t, s, true)
		for i := range found {
			found[i] = regexp.MustCompile(`\d+ bytes`).ReplaceAllString(found[i], "N bytes")
		}
		if !reflect.DeepEqual(found, step.want) || v.Rebuilt != v.Differences {
			t.Errorf("%s:\n%+v\n%q, want\n%q", step.sql, v, found, step.want)
		}
		if v, found := verify(t, s, false); len(found) > 0 || v.Unreduced > 0 || v.Lines["source_facts"] != 3 || v.Lines["fact_lists"] != 2 || v.Lines["selector_days"] != 1 {
			t.Errorf("%s: rebuilt, but %+v %q", step.sql, v, found)
		}
	}
}

func TestVerifyRunsBesideWriters(t *testing.T) {
	s, db := open(t)
	reports := random(rand.New(rand.NewPCG(9, 9)), 200)
	done := make(chan error)
	go func() {
		defer close(done)
		for i, r := range reports {
			if _, err := s.Add(context.Background(), []dmarc.Delivery{mail(uint32(i+1), r)}); err != nil {
				done <- err
				return
			}
			if i%20 == 19 {
				// Something to put right while others write. It locks in no order,
				// so that it may be what a deadlock ends.
				_, err := db.Exec(context.Background(), "UPDATE reporter_days SET messages = messages + 7 WHERE random() < 0.1")
				var pg *pgconn.PgError
				if err != nil && !(errors.As(err, &pg) && pg.Code == "40P01") {
					done <- err
					return
				}
			}
		}
	}()
	for running := true; running; {
		select {
		case err, open := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = open
		default:
			verify(t, s, true)
		}
	}
	verify(t, s, true)
	if v, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%+v %q", v, found)
	}
}
