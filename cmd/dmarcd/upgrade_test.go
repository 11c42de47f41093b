package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// Holdings are what a database tells of itself, in its own tables or by the API.
type holdings struct {
	Days     map[string]int64 // messages of each domain and day
	Passed   map[string]int64 // of these by domain
	Messages int              // in the ledger
	Reports  int              // that count
	Conflict int              // that do not
	Failures int
	TLS      int
}

// A database of each earlier step of the schema, as its dmarcd left it, is brought up to
// date with all that is in it: the API answers what the tables said before, all
// totals are those of the rows, and it goes on from there.
func TestDatabasesOfEachEarlierStepAreUpgraded(t *testing.T) {
	names, err := filepath.Glob("../../migrations/*.sql")
	if err != nil || len(names) < 25 {
		t.Fatalf("%d steps, %v", len(names), err)
	}
	for known := 1; known < len(names); known++ {
		t.Run(fmt.Sprintf("%04d", known), func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			before := restoreStep(t, url, names, known)
			s := openTest(t, url)
			s.ingester.KeepFailures = true
			if err := s.store.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			pass := func() {
				t.Helper()
				for _, f := range []func(context.Context) error{s.store.SummariseSources, s.store.SummariseFacts} {
					if err := f(t.Context()); err != nil {
						t.Error(err)
					}
				}
				v, err := s.store.Verify(t.Context(), store.VerifyOptions{Found: func(d store.Difference) { t.Errorf("%+v", d) }})
				if err != nil || v.Domains == 0 || v.Pending != 0 || v.Unreduced != 0 {
					t.Errorf("%+v, %v", v, err)
				}
			}
			pass()
			h := s.handler()
			if after := holdingsByAPI(t, h); !reflect.DeepEqual(after, before) {
				t.Errorf("the API says\n%+v\nand the tables said before\n%+v", after, before)
			}
			// What it knows counts no more, what it does not know does.
			text, err := os.ReadFile("../../parse/testdata/parsedmarc/report.xml")
			if err != nil {
				t.Fatal(err)
			}
			again := http.StatusOK
			if known < 10 {
				// Its hash was another then, so that it stands beside itself, and counts once.
				again = http.StatusCreated
				before.Conflict++
			}
			for _, c := range []struct {
				report string
				status int
			}{{string(text), again}, {aReport("after the upgrade"), http.StatusCreated}, {aReport("after the upgrade"), http.StatusOK}} {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/reports", strings.NewReader(c.report)))
				if w.Code != c.status {
					t.Errorf("an upload is answered %d, want %d: %s", w.Code, c.status, w.Body)
				}
			}
			pass()
			before.Days["example.com 2026-01-01"] += 2
			before.Passed["example.com"] += 2
			before.Messages += 2 // the same file is one message
			before.Reports++
			if after := holdingsByAPI(t, h); !reflect.DeepEqual(after, before) {
				t.Errorf("then the API says\n%+v\nwant\n%+v", after, before)
			}
		})
	}
}

// restoreStep loads the database of a step into an empty one, and returns what its tables
// tell. A step that no dmarcd stopped at is made from the one before it, as if
// an upgrade had been cut short there.
func restoreStep(t *testing.T, url string, names []string, step int) holdings {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	run := func(sql string) {
		t.Helper()
		if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	dumped := step
	if step == 6 || step == 9 {
		dumped--
	}
	file, err := os.Open(fmt.Sprintf("../../migrations/testdata/%04d.sql.gz", dumped))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	sql, err := io.ReadAll(packed)
	if err != nil {
		t.Fatal(err)
	}
	run(string(sql))
	run("SELECT set_config('search_path', 'public', false)") // dumps leave it empty
	for ; dumped < step; dumped++ {
		text, err := os.ReadFile(names[dumped])
		if err != nil {
			t.Fatal(err)
		}
		run(string(text))
		run(fmt.Sprintf("INSERT INTO schema_steps (number, name) VALUES (%d, 'cut short')", dumped+1))
	}
	var newest int
	tells := holdings{Days: map[string]int64{}, Passed: map[string]int64{}}
	err = conn.QueryRow(t.Context(), `
		SELECT (SELECT max(number) FROM schema_steps), (SELECT count(*) FROM messages), count(*) FILTER (WHERE active), count(*) FILTER (WHERE NOT active),
			(SELECT count(*) FROM failure_reports), (SELECT count(*) FROM tls_reports)
		FROM reports`).Scan(&newest, &tells.Messages, &tells.Reports, &tells.Conflict, &tells.Failures, &tells.TLS)
	if err != nil || newest != step || tells.Reports == 0 || tells.TLS == 0 {
		t.Fatalf("step %d, %+v, %v", newest, tells, err)
	}
	var domain, day string
	var messages, passed int64
	rows, _ := conn.Query(t.Context(), "SELECT name, day::text, messages, dmarc_pass FROM domain_days JOIN domains ON domains.id = domain_id WHERE dated")
	_, err = pgx.ForEachRow(rows, []any{&domain, &day, &messages, &passed}, func() error {
		tells.Days[domain+" "+day] += messages
		tells.Passed[domain] += passed
		return nil
	})
	if err != nil || len(tells.Days) < 2 {
		t.Fatalf("%+v, %v", tells, err)
	}
	return tells
}

// holdingsByAPI asks for the same.
func holdingsByAPI(t *testing.T, h http.Handler) holdings {
	t.Helper()
	const period = "from=2010-01-01&to=2030-01-01"
	tells := holdings{Days: map[string]int64{}, Passed: map[string]int64{}}
	count := func(path string) int {
		t.Helper()
		var list struct{ Items []json.RawMessage }
		if code := call(t, h, "GET", path, &list); code != http.StatusOK {
			t.Fatalf("%s: %d", path, code)
		}
		return len(list.Items)
	}
	tells.Messages = count("/api/v1/messages?limit=1000&" + period)
	tells.Conflict = count("/api/v1/reports?inactive=true&limit=1000&" + period)
	tells.Reports = count("/api/v1/reports?limit=1000&"+period) - tells.Conflict
	tells.Failures, tells.TLS = count("/api/v1/failures?"+period), count("/api/v1/tls?"+period)
	var domains struct {
		Items []struct {
			Domain string
			Totals struct {
				Messages  int64
				DMARCPass int64 `json:"dmarc_pass"`
			}
		}
	}
	call(t, h, "GET", "/api/v1/domains?"+period, &domains)
	for _, d := range domains.Items {
		if d.Totals.Messages == 0 {
			continue // it is known by other reports
		}
		var summary struct {
			Series []struct {
				Day    string
				Totals struct{ Messages int64 }
			}
		}
		call(t, h, "GET", "/api/v1/domains/"+d.Domain+"/summary?interval=day&"+period, &summary)
		var sum int64
		for _, day := range summary.Series {
			if day.Totals.Messages > 0 {
				tells.Days[d.Domain+" "+day.Day] = day.Totals.Messages
				sum += day.Totals.Messages
			}
		}
		tells.Passed[d.Domain] = d.Totals.DMARCPass
		if sum != d.Totals.Messages {
			t.Errorf("%s: %d messages by day, %d in all", d.Domain, sum, d.Totals.Messages)
		}
	}
	return tells
}
