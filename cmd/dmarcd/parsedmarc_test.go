package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// History comes along from parsedmarc, and the mails that are still in the
// mailbox do not count once more.
func TestHistoryOfParsedmarcIsImportedOnce(t *testing.T) {
	t.Parallel()
	from := filepath.Join("..", "..", "parse", "testdata", "parsedmarc")
	var imported struct {
		Messages int            `json:"messages"`
		Reports  map[string]int `json:"reports"`
		Outcomes map[string]int `json:"outcomes"`
	}
	for _, order := range [][]string{{"aggregate-8.json", "report.xml", "combined.json", "lines.ndjson"}, {"report.xml", "combined.json"}, {"combined.json", "report.xml"}} {
		database := "DMARCD_DATABASE_URL=" + pgtest.URL(t)
		for _, name := range append(order, order...) {
			got := world{vars: []string{database}}.run(t, "import", "--format", "json", filepath.Join(from, name))
			if got.status != exitDone {
				t.Fatalf("%s: %+v", name, got)
			}
			if err := json.Unmarshal([]byte(got.stdout), &imported); err != nil {
				t.Fatal(err)
			}
		}
		// 17 messages in the report, and as many in another of combined.json and lines.ndjson.
		checked := world{vars: []string{database}}.run(t, "verify", "--format", "json")
		if checked.status != exitDone {
			t.Errorf("%v: %+v", order, checked)
		}
		if n := messagesOf(t, database, "example.com"); n != 34 {
			t.Errorf("%v: %d messages, want 34", order, n)
		}
	}
}

// A file of many reports is taken apart as it streams by: each is a message.
func TestAFileOfManyReportsIsManyMessages(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "parse", "testdata", "parsedmarc", "aggregate-9.json"))
	if err != nil {
		t.Fatal(err)
	}
	one := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(string(text)), "["), "]")
	var all []string
	for i := range 300 {
		all = append(all, strings.Replace(one, "2026-01-05.42", fmt.Sprint("id", i), 1))
	}
	path := writeFile(t, "aggregate.json", "["+strings.Join(all, ",\n")+"]")
	for _, w := range []struct {
		world
		arg string
	}{{world{vars: []string{"DMARCD_LIMITS_MESSAGE=64KiB"}}, path}, {world{stdin: "[" + strings.Join(all, ",\n") + "]"}, "-"}} {
		got := w.run(t, "parse", "--format", "ndjson", w.arg)
		if n := strings.Count(got.stdout, `"kind":"aggregate"`); n != 300 || got.status != exitDone || !strings.Contains(got.stdout, w.arg+"#300") {
			t.Errorf("%d reports, status %d: %.500s", n, got.status, got.stdout)
		}
	}
}

func messagesOf(t *testing.T, database, domain string) (n int64) {
	t.Helper()
	db, err := store.Open(t.Context(), strings.TrimPrefix(database, "DMARCD_DATABASE_URL="), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const sql = `SELECT coalesce(sum(messages), 0)::bigint FROM domain_days JOIN domains ON domains.id = domain_id WHERE name = $1`
	if err := db.QueryRow(t.Context(), sql, domain).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
