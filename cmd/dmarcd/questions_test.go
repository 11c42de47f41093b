package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
	"github.com/dmarcd/dmarcd/web"
)

// questions are the queries that a store asked.
type questions struct {
	mu    sync.Mutex
	asked []pgx.TraceQueryStartData
}

func (q *questions) add(sql string, args []any) {
	word, _, _ := strings.Cut(strings.TrimSpace(sql), " ")
	switch strings.ToUpper(strings.Fields(word)[0]) {
	case "SELECT", "WITH":
		q.mu.Lock()
		defer q.mu.Unlock()
		q.asked = append(q.asked, pgx.TraceQueryStartData{SQL: sql, Args: args})
	}
}

func (q *questions) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	q.add(d.SQL, d.Args)
	return ctx
}

func (*questions) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (q *questions) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (q *questions) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	q.add(d.SQL, d.Args)
}

func (*questions) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// explained returns the tables that the plans of all queries since the last
// time read, and how many queries there were.
func (q *questions) explained(t *testing.T, db *pgxpool.Pool) (tables []string, n int) {
	t.Helper()
	q.mu.Lock()
	asked := q.asked
	q.asked = nil
	q.mu.Unlock()
	for _, a := range asked {
		var text []byte
		if err := db.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+a.SQL, a.Args...).Scan(&text); err != nil {
			t.Fatalf("%v\n%s", err, a.SQL)
		}
		for _, part := range strings.Split(string(text), `"Relation Name": "`)[1:] {
			name, _, _ := strings.Cut(part, `"`)
			tables = append(tables, name)
		}
	}
	slices.Sort(tables)
	return slices.Compact(tables), len(asked)
}

// EXPLAIN of everything that pages and API ask shows rollups and never rows, but
// for what is about single rows: the exact tail of sources, and one report.
func TestNoPageAndNoCallReadsRows(t *testing.T) {
	s := openAccess(t, pgtest.URL(t), func(c *config) { c.Access.Tokens = false })
	take := func(body string) {
		t.Helper()
		if fate, err := s.ingester.Take(t.Context(), dmarc.MailboxUpload, "", strings.NewReader(body)); err != nil || !fate.Outcome.Read() {
			t.Fatalf("%+v, %v", fate, err)
		}
	}
	for i := range 60 {
		take(aReport(fmt.Sprint(i)))
	}
	take(strings.ReplaceAll(aReport("1"), "<count>2<", "<count>3<")) // a conflict
	take(aTLSReport("1", "example.com"))
	for _, pass := range []func(context.Context) error{s.store.SummariseSources, s.store.SummariseFacts} {
		if err := pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.db.Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	plain, q := s.db, &questions{}
	traced := plain.Config()
	traced.ConnConfig.Tracer = q
	db, err := pgxpool.NewWithConfig(t.Context(), traced)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s.store = store.New(db, slog.New(slog.DiscardHandler))
	s.adviser.store, s.keeper.Store, s.overrules.store, s.arranged.Store = s.store, s.store, s.store, s.store
	h := s.handler()
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "127.0.0.1"
		h.ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Body)
		return w.Code, string(body)
	}

	// Every path that can be asked for.
	var doc struct {
		Paths map[string]map[string]struct{ Parameters []struct{ Name string } }
	}
	if _, body := get("/api/v1/openapi.json"); json.Unmarshal([]byte(body), &doc) != nil {
		t.Fatal(body)
	}
	var paths []string
	periods := map[string]bool{} // of the API, that can be asked about a period
	for path, methods := range doc.Paths {
		if get, ok := methods["get"]; ok {
			paths = append(paths, path)
			for _, p := range get.Parameters {
				periods[path] = periods[path] || p.Name == "from"
			}
		}
	}
	pages := len(paths)
	routes, ok := web.New(s.store, web.Options{Log: s.log, Adviser: s.adviser, Texts: &access.Guard{}}).(chi.Routes)
	if !ok {
		t.Fatal("the pages cannot be listed")
	}
	chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method == http.MethodGet && !strings.HasPrefix(route, "/static/") {
			paths = append(paths, route)
		}
		return nil
	})
	if pages = len(paths) - pages; pages < 7 || len(paths) < 25 {
		t.Fatalf("only these were found: %q", paths)
	}
	var list struct{ Items []struct{ ID string } }
	if _, body := get("/api/v1/reports?from=2025-12-01&to=2026-03-01"); json.Unmarshal([]byte(body), &list) != nil || len(list.Items) == 0 {
		t.Fatal(body)
	}
	q.explained(t, plain)

	const period = "?from=2025-12-01&to=2026-03-01"
	read := func(path string) []string {
		t.Helper()
		path = strings.NewReplacer("{domain}", "example.com", "{id}", list.Items[0].ID, "{group}", "clients").Replace(path)
		code, body := get(path)
		if code != http.StatusOK && code != http.StatusNotFound { // as before the first look
			t.Errorf("%s: status %d: %.300s", path, code, body)
		}
		tables, n := q.explained(t, plain)
		if n == 0 {
			t.Errorf("%s asks nothing", path)
		}
		var rows []string
		for _, table := range tables {
			if strings.HasPrefix(table, "row_groups") {
				rows = append(rows, table)
			}
		}
		return rows
	}
	for _, path := range paths {
		variants := []string{""}
		if periods[path] || !strings.HasPrefix(path, "/api/") {
			variants = append(variants, period)
		}
		if strings.HasSuffix(path, "/summary") {
			variants = append(variants, period+"&interval=week", period+"&interval=month")
		}
		if path == "/" || path == "/api/v1/domains" {
			variants = append(variants, "?from=2025-01-01&to=2026-12-01")
		}
		for _, v := range variants {
			if rows := read(path + v); len(rows) > 0 && !strings.HasPrefix(path, "/api/v1/reports/{id}") && path != "/reports/{id}" {
				t.Errorf("%s reads %q", path+v, rows)
			}
		}
	}
	// The exact tail does: what is shown above can be seen at all.
	if rows := read("/api/v1/domains/{domain}/sources" + period + "&exact=true"); len(rows) == 0 {
		t.Error("the exact sources read no rows: nothing is proven")
	}
}
