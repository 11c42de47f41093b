package store_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// The views have the columns that docs/sql.md names, in that order and of those
// types. Whoever has to change this test breaks programs of others.
func TestViewsHaveTheColumnsThatAreDocumented(t *testing.T) {
	_, db := open(t)
	text, err := os.ReadFile("../docs/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	view := ""
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			view = strings.TrimSpace(name)
			documented[view] = ""
		} else if m := regexp.MustCompile("^\\| `(\\w+)` \\| ([a-z ]+) \\|").FindStringSubmatch(line); m != nil {
			documented[view] += m[1] + " " + m[2] + "\n"
		}
	}
	const columns = `
		SELECT table_name::text, string_agg(column_name || ' ' || data_type || E'\n', '' ORDER BY ordinal_position)
		FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name LIKE 'v1\_%'
		GROUP BY 1`
	rows, _ := db.Query(t.Context(), columns)
	var name, list string
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&name, &list}, func() error {
		n++
		if documented[name] != list {
			t.Errorf("%s has\n%sand is documented as\n%s", name, list, documented[name])
		}
		return nil
	})
	if err != nil || n != len(documented) || n < 8 {
		t.Errorf("%d views, %d documented, %v", n, len(documented), err)
	}
}

// Every question of the dashboard is understood, and the sums are those of the
// store.
func TestTheDashboardAsksWhatTheViewsTell(t *testing.T) {
	s, db := open(t)
	add(t, s, mail(1, daily("1", row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone), row("192.0.2.2", 2, fail, fail, dmarc.DispositionReject)), daily("2", row("192.0.2.1", 3, fail, fail, dmarc.DispositionNone))))
	if err := s.SummariseSources(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tell(t.Context(), dmarc.Lease{}, &dmarc.Transition{Steps: []dmarc.Step{began("example.com")}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../deploy/grafana/dmarcd-sql.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ RawSQL string }
		}
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	filter := regexp.MustCompile(`\$__timeFilter\(([\w.]+)\)`)
	results := map[string][]map[string]any{}
	ask := func(title, sql string) {
		t.Helper()
		sql = filter.ReplaceAllString(sql, "$1 BETWEEN '2026-01-01T00:00:00Z' AND '2026-12-31T00:00:00Z'")
		rows, _ := db.Query(t.Context(), strings.ReplaceAll(sql, "$domain", "'example.com'"))
		got, err := pgx.CollectRows(rows, pgx.RowToMap)
		if err != nil {
			t.Errorf("%s: %v\n%s", title, err, sql)
		}
		results[title] = got
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			ask(p.Title, target.RawSQL)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Type == "query" {
			ask("$"+v.Name, v.Query)
		}
	}
	if len(results) < 9 {
		t.Errorf("only %d questions", len(results))
	}
	day := results["Messages a day"]
	if len(day) != 1 || !day[0]["time"].(time.Time).Equal(day1) || day[0]["passed"] != int64(5) || day[0]["failed, let through"] != int64(3) || day[0]["stopped"] != int64(2) {
		t.Errorf("messages a day: %v", day)
	}
	if rate := results["Pass rate"]; len(rate) != 1 || rate[0]["value"] != 0.5 || rate[0]["metric"] != "example.com" {
		t.Errorf("pass rate: %v", rate)
	}
	if senders := results["Senders"]; len(senders) != 2 || senders[0]["source"] != "192.0.2.1" || senders[0]["messages"] != int64(8) || senders[1]["stopped"] != int64(2) {
		t.Errorf("senders: %v", senders)
	}
	if r := results["Reports a day"]; len(r) != 1 || r[0]["value"] != int64(2) {
		t.Errorf("reports: %v", r)
	}
	if happened := results["What happened"]; len(happened) != 1 || happened[0]["title"] != "SPF of example.com" {
		t.Errorf("what happened: %v", happened)
	}
}
