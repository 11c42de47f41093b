package store_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// signed gives rows of random reports signatures, results and reasons to tell
// apart.
func signed(r *rand.Rand, reports []report) {
	word := func(words ...string) string { return words[r.IntN(len(words))] }
	for i := range reports {
		domain := reports[i].domain
		for j := range reports[i].rows {
			row := &reports[i].rows[j]
			row.HeaderFrom = word(domain, "news."+domain, "")
			row.EnvelopeFrom, row.NullSender = word(domain, "bounce.mailer.example", ""), false
			row.AuthDKIM, row.AuthSPF, row.Reasons = nil, nil, nil
			for range r.IntN(3) {
				row.AuthDKIM = append(row.AuthDKIM, dmarc.DKIMResult{Domain: word(domain, "mailer.example"), Selector: word("s1", "s2", ""), Result: []dmarc.Result{pass, fail}[r.IntN(2)]})
			}
			if r.IntN(3) > 0 {
				row.AuthSPF = []dmarc.SPFResult{{Domain: word(domain, "bounce."+domain, "bounce.mailer.example"), Result: []dmarc.Result{pass, fail}[r.IntN(2)]}}
			}
			if r.IntN(5) == 0 {
				row.Reasons = []dmarc.Reason{{Type: word("forwarded", "local_policy"), Comment: word("", "arc=pass")}}
			}
		}
	}
}

// Facts and selectors are what one gets from the rows, whatever way they went
// and whatever else was stored in between.
func TestFactsAreThoseOfTheRows(t *testing.T) {
	s, db := open(t)
	ctx := context.Background()
	r := rand.New(rand.NewPCG(21, 22))
	reports := random(r, 200)
	signed(r, reports)
	for i := range reports {
		if i%20 == 0 { // of several days
			reports[i].length = time.Duration(2+r.IntN(9)) * 24 * time.Hour
		}
	}
	// Reporters have their numbers once they are stored.
	for i := 0; i < len(reports); i += 20 {
		for j, rep := range reports[i : i+20] {
			add(t, s, mail(uint32(i+j+1), rep))
		}
		if err := s.SummariseFacts(ctx); err != nil {
			t.Fatal(err)
		}
	}

	numbers := map[string]int64{}
	rows, _ := db.Query(ctx, "SELECT d.name || ' ' || r.org_name, r.id FROM reporters r JOIN domains d ON d.id = r.domain_id")
	var name string
	var id int64
	for rows.Next() {
		if err := rows.Scan(&name, &id); err != nil {
			t.Fatal(err)
		}
		numbers[name] = id
	}
	// What counts is known from the list of reports that do.
	active := map[string]bool{}
	whole := dmarc.Period{Begin: time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
	list, _, err := s.Reports(ctx, dmarc.ReportQuery{Scope: dmarc.Everything, Period: whole, Page: dmarc.Page{Limit: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if l.Active {
			active[l.Report.Hash.String()] = true
		}
	}
	reducers := map[string]*dmarc.FactReducer{}
	type key struct{ domain, signer, selector string }
	type sum struct{ messages, passed int64 }
	keys := map[key]sum{}
	for _, rep := range reports {
		a := rep.aggregate()
		if !active[a.Hash.String()] {
			continue
		}
		active[a.Hash.String()] = false // the same twice counts once
		days, _ := a.Period.Attribute(received)
		f := reducers[rep.domain]
		if f == nil {
			f = &dmarc.FactReducer{}
			reducers[rep.domain] = f
		}
		for i := range rep.rows {
			row := &rep.rows[i]
			f.Add(row, &a.Policy, days, numbers[rep.domain+" "+rep.org])
			seen := map[key]bool{}
			valid := map[key]bool{}
			for _, d := range row.AuthDKIM {
				k := key{rep.domain, d.Domain, d.Selector}
				seen[k], valid[k] = true, valid[k] || d.Result == pass
			}
			for k := range seen {
				if !days.Dated {
					continue
				}
				v := keys[k]
				v.messages += row.Count
				if valid[k] {
					v.passed += row.Count
				}
				keys[k] = v
			}
		}
	}
	for domain, f := range reducers {
		facts, err := s.Facts(ctx, domain, whole)
		if err != nil {
			t.Fatal(err)
		}
		var got []dmarc.SourceDay
		for i := range facts {
			got = append(got, facts[i].SourceDays()...)
		}
		want := f.Days()
		slices.SortFunc(got, func(a, b dmarc.SourceDay) int {
			return cmp.Or(a.Day.Compare(b.Day), a.Source.Addr().Compare(b.Source.Addr()))
		})
		if len(want) == 0 || len(got) != len(want) {
			t.Fatalf("%s: %d facts, want %d", domain, len(got), len(want))
		}
		for i := range want {
			if !reflect.DeepEqual(plain(got[i]), plain(want[i])) {
				t.Fatalf("%s, fact %d:\n%s, want\n%s", domain, i, plain(got[i]), plain(want[i]))
			}
		}
		list, _, err := s.Selectors(ctx, dmarc.TrafficQuery{Domain: domain, Period: whole, Page: dmarc.Page{Limit: 100}})
		if err != nil || list.Pending || list.Others != 0 {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, l := range list.Items {
			k := key{domain, l.Domain, l.Selector}
			if got := (sum{l.Tally.Messages, l.Passed}); got != keys[k] || l.LastPassed.IsZero() != (l.Passed == 0) {
				t.Errorf("%+v: %+v, want %+v", k, l, keys[k])
			}
			delete(keys, k)
		}
	}
	for k := range keys {
		t.Errorf("the key %+v is not listed", k)
	}
}

func plain(d dmarc.SourceDay) string {
	return fmt.Sprintf("%s %s\n%+v\n%+v", d.Day.Format(time.DateOnly), d.Source, d.Cells, d.Marks)
}

// The facts of a domain are the same however many of its days are in one piece.
func TestFactsAreTheSameInOnePieceAndInMany(t *testing.T) {
	s, db := open(t)
	fill(t, s, 23, 60)
	if err := s.SummariseFacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := dmarc.Period{Begin: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	read := func() string {
		facts, err := s.Facts(t.Context(), "d1.example", whole)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for i := range facts {
			for _, d := range facts[i].SourceDays() {
				fmt.Fprintln(&all, plain(d))
			}
		}
		return all.String()
	}
	want := read()
	if strings.Count(want, "\n") < 100 {
		t.Fatalf("only these are compared:\n%s", want)
	}
	// What another dmarcd left behind is not read.
	for _, sql := range []string{
		"UPDATE fact_lists SET facts = '\\x', reduced = reduced - 1 WHERE domain_id % 2 = (day - '2026-01-01'::date) % 2",
		"DELETE FROM fact_lists WHERE day < '2026-02-10'",
		"DELETE FROM fact_lists",
	} {
		change(t, db, sql)
		if got := read(); got != want {
			t.Errorf("%s:\n%s, want\n%s", sql, got, want)
		}
	}
	// A pass makes those that are missing, and no longer of the facts.
	change(t, db, "UPDATE fact_lists_made SET domain_id = 0")
	if err := s.SummariseFacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, found := verify(t, s, false)
	if len(found) > 0 || v.Lines["fact_lists"] == 0 {
		t.Errorf("%+v %q", v, found)
	}
	change(t, db, "DELETE FROM source_facts")
	if got := read(); got != want {
		t.Errorf("from pieces alone:\n%s, want\n%s", got, want)
	}
}

// Sources and keys that strangers make up cost a bounded number of lines, and
// no message is lost.
func TestMadeUpSourcesAndKeysAreFolded(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	var rows []dmarc.Row
	for i := range 12_000 {
		r := row("192.0.2.1", 1, fail, fail, dmarc.DispositionNone)
		r.Source = netip.AddrFrom4([4]byte{10, byte(i >> 12), byte(i >> 4), byte(i << 4)})
		r.AuthDKIM = []dmarc.DKIMResult{{Domain: "attacker.example", Selector: fmt.Sprint("s", i), Result: fail}}
		rows = append(rows, r)
	}
	good := row("192.0.2.7", 3, pass, pass, dmarc.DispositionNone)
	rows = append(rows, good)
	add(t, s, mail(1, daily("1", rows...)))
	if err := s.SummariseFacts(ctx); err != nil {
		t.Fatal(err)
	}
	facts, err := s.Facts(ctx, "example.com", february)
	if err != nil {
		t.Fatal(err)
	}
	var messages int64
	found := false
	for i := range facts {
		messages += facts[i].Messages()
		found = found || facts[i].Source == netip.MustParsePrefix("192.0.2.7/32")
	}
	if messages != 12_003 || !found || len(facts) > 2000 {
		t.Errorf("%d facts about %d messages, the good source among them: %v", len(facts), messages, found)
	}
	list, _, err := s.Selectors(ctx, dmarc.TrafficQuery{Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 1000}})
	if err != nil || len(list.Items) != 200 {
		t.Fatalf("%d selectors, %v", len(list.Items), err)
	}
	sum := list.Others
	for _, l := range list.Items {
		sum += l.Tally.Messages
	}
	if sum != 12_003 || list.Items[0].Selector != "s1" || list.Items[0].Passed != 3 {
		t.Errorf("%d messages with signatures, first %+v", sum, list.Items[0])
	}
}

// A day is reduced from its own rows: however many other days a domain has, none
// of theirs are read.
func TestADayIsReducedFromItsOwnRows(t *testing.T) {
	s, db := open(t)
	fill(t, s, 22, 60)
	traced, r := recorded(t, db)
	if err := traced.SummariseFacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "SET LOCAL enable_seqscan = off"); err != nil { // as with many rows
		t.Fatal(err)
	}
	scans := 0
	for _, q := range r.asked {
		if !strings.Contains(q.SQL, "FROM row_groups") {
			continue
		}
		rows, _ := tx.Query(t.Context(), "EXPLAIN (COSTS OFF) "+q.SQL, q.Args...)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%v\n%s", err, q.SQL)
		}
		for i, line := range lines {
			if !strings.Contains(line, "row_groups") || !strings.Contains(line, "Index") {
				continue
			}
			scans++
			if i+1 == len(lines) || !strings.Contains(lines[i+1], "Index Cond: ") || !strings.Contains(lines[i+1], "(day >= ") && !strings.Contains(lines[i+1], "(day = ") {
				t.Fatalf("days are not told apart by the index:\n%s", strings.Join(lines, "\n"))
			}
		}
	}
	if scans == 0 {
		t.Error("no plan reads rows by an index")
	}
}
