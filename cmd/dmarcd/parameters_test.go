package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/net/html"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/store"
	"github.com/dmarcd/dmarcd/web"
)

// mark stands in texts that nobody but the test writes.
const mark = "zqx"

// unthought are values of parameters. Whatever has the mark wants to be more than a
// text: SQL, HTML, a header, a template, a path.
var unthought = []string{
	"", " ", "0", "-1", "1", "00", "1e9", "0x10", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "NaN", "1,2", "true", "null", "[]", "{}",
	"0001-01-01", "1970-01-01", "2026-02-30", "9998-12-31", "9999-12-31", "10000-01-01", "2026-01-01T00:00:00+23:59", "2026-06-01T24:00:00Z",
	"0.0.0.0/0", "::/0", "255.255.255.255", "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4/33", "2001:db8::/128", "1.2.3", "as 1.2.3.4", "as ",
	"'", "''; DROP TABLE domains; -- " + mark, "' OR '" + mark + "'='" + mark, `\'); SELECT ` + mark, "$1" + mark, "@domain" + mark, "%", "_%" + mark, `\`, "a\x00b",
	`"><` + mark + ` onload=1>`, `'` + mark + `='`, `" on` + mark + `="1`, `</title><script>` + mark + `</script>`, "javascript:" + mark, "<!--" + mark, "&lt;" + mark, "{{." + mark + "}}", `{"` + mark + `":1}`,
	"a\r\nX-" + mark + ": 1", "a\nb", "../../etc/" + mark, "//" + mark + ".test/", "https://" + mark + ".test", "=cmd|' /C " + mark + "'!A0", "\u202e" + mark, "\ufeff", "\xff\xfe", "é" + mark, "xn--" + mark, "a..b", ".", "..", "-",
	"totals.messages", "totals..", ".messages", "domain,domain,domain", strings.Repeat("a.", 150) + mark, strings.Repeat("9", 400), strings.Repeat("é", 300),
}

// statements are those that a store made, by their text: with what it was asked
// for first, and with what was made up last.
type statements struct {
	mu     sync.Mutex
	all    map[string][]any
	marked map[string][]any
	trips  atomic.Int64 // to the database
}

func (s *statements) add(sql string, args []any) {
	made := strings.Contains(fmt.Sprint(args...), mark)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[sql] == nil {
		s.all[sql] = append([]any{}, args...)
	}
	if made {
		s.marked[sql] = args
	}
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.trips.Add(1)
	s.add(d.SQL, d.Args)
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.trips.Add(1)
	return ctx
}

func (s *statements) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	s.add(d.SQL, d.Args)
}

func (*statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// traced has all that is asked go by a store whose statements are seen.
func (c *contract) traced(t *testing.T) {
	t.Helper()
	c.seen = &statements{all: map[string][]any{}, marked: map[string][]any{}}
	config := c.db.Config()
	config.ConnConfig.Tracer = c.seen
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	c.store = store.New(db, slog.New(slog.DiscardHandler))
	c.adviser.store, c.keeper.Store, c.overrules.store, c.arranged.Store = c.store, c.store, c.store, c.store
}

// oneTrip asks for a summary, which is what dashboards ask most.
func (c *contract) oneTrip(t *testing.T) {
	q := question{method: http.MethodGet, path: "/api/v1/domains/acme.example/summary"}
	c.ask(t, q, c.root) // which finds the number of the domain
	before := c.seen.trips.Load()
	if a := c.ask(t, q, c.root); a.status != http.StatusOK || !strings.Contains(string(a.body), `"series":[{`) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if n := c.seen.trips.Load() - before; n != 1 {
		t.Errorf("a summary is %d round trips", n)
	}
}

// anyParameter asks for everything with parameters that nobody would think of.
func (c *contract) anyParameter(t *testing.T) {
	seed, requests := uint64(1), 1200
	if text := os.Getenv("DMARCD_FUZZ_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
		requests = 20_000
	}
	random := rand.New(rand.NewPCG(seed, 2))
	pages := c.pages(t)
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	value := func(good []string) string {
		switch n := random.IntN(10); {
		case n < 4 && len(good) > 0:
			return pick(good)
		case n < 5 && len(good) > 0: // something good that was tampered with
			v := []byte(pick(good))
			if len(v) > 0 {
				v[random.IntN(len(v))] ^= 1 << random.IntN(7)
			}
			return string(v)
		case n < 6:
			return pick(unthought) + pick(unthought)
		}
		return pick(unthought)
	}
	cursors := c.cursors(t)
	statuses, shown := map[int]int{}, 0
	for range requests {
		var q question
		api := random.IntN(4) > 0
		if api {
			o := c.all[random.IntN(len(c.all))]
			q = question{method: o.method, path: c.filled(o, func(p *openapi3.Parameter) string { return value(c.values(o, p)) })}
			query := url.Values{}
			for _, p := range o.Parameters {
				if good := c.values(o, p.Value); p.Value.In == "query" && random.IntN(3) == 0 {
					if p.Value.Name == "after" {
						good = cursors
					}
					query.Add(p.Value.Name, value(good))
				}
			}
			if random.IntN(20) == 0 {
				query.Add(value(nil), value(nil))
			}
			q.path += "?" + query.Encode()
			if o.RequestBody != nil {
				q.body = c.body(t, o, random.IntN(2) == 0)
				for range random.IntN(3) {
					text, _ := json.Marshal(pick(unthought))
					q.body = strings.Replace(q.body, pick([]string{`"a `, `"own"`, `"alpha.example"`, ":"}), ":"+string(text), 1)
				}
			}
			if id, ok := strings.CutPrefix(q.path, "/api/v1/tokens/"); ok && strings.HasPrefix(id, "1?") {
				continue // the token that all of this is asked with
			}
		} else {
			p := pages.patterns[random.IntN(len(pages.patterns))]
			q = question{method: p.method, path: strings.NewReplacer("{domain}", url.PathEscape(value([]string{c.domain, "acme.example"})), "{name}", url.PathEscape(value(nil))).Replace(p.path)}
			query := url.Values{}
			for range random.IntN(4) {
				name := pick(pages.names)
				query.Add(name, value(pages.values[name]))
			}
			if q.method == http.MethodGet {
				q.path += "?" + query.Encode()
			} else {
				q.form = query.Encode()
			}
		}
		a := c.ask(t, q, c.root)
		statuses[a.status]++
		if a.status >= 499 {
			t.Errorf("%s %q %q: %d %.300s", q.method, q.path, q.body, a.status, a.body)
		}
		if _, ok := a.header["X-"+strings.ToUpper(mark[:1])+mark[1:]]; ok {
			t.Errorf("%s %q writes a header: %v", q.method, q.path, a.header)
		}
		if len(a.body) > 8<<20 {
			t.Errorf("%s %q: %d bytes", q.method, q.path, len(a.body))
		}
		switch kind := a.header.Get("Content-Type"); {
		case strings.HasPrefix(kind, "text/html"):
			if strings.Contains(string(a.body), mark) {
				shown++
			}
			for _, what := range injected(t, string(a.body)) {
				t.Errorf("%s %q: the page has %s in it", q.method, q.path, what)
			}
		case api && !strings.Contains(kind, "json") && !strings.HasPrefix(kind, "text/csv") && a.status >= 400:
			t.Errorf("%s %q: %d %s", q.method, q.path, a.status, kind)
		}
		if api && a.status >= 400 && a.status != http.StatusMethodNotAllowed {
			if err := c.conforms(t.Context(), q, false, a); err != nil && !strings.Contains(err.Error(), "no matching operation") {
				t.Errorf("%s %q %q: %v", q.method, q.path, q.body, err)
			}
		}
	}
	t.Logf("seed %d: %v", seed, statuses)
	if statuses[http.StatusOK] < requests/10 || statuses[http.StatusUnprocessableEntity] < requests/10 {
		t.Errorf("the requests are not mixed: %v", statuses)
	}
	if shown < 20 {
		t.Errorf("only %d pages show what they were asked for: nothing is proven", shown)
	}
	c.cheap(t)
}

// pages are the pages of the dashboard, and what parameters they take.
type dashboard struct {
	patterns []operation
	names    []string
	values   map[string][]string
}

// pages walks over the links and forms of the dashboard.
func (c *contract) pages(t *testing.T) *dashboard {
	t.Helper()
	d := &dashboard{values: map[string][]string{"q": {"a"}, "after": nil}}
	routes, ok := web.New(&access.Guard{}, web.Options{Adviser: &access.Guard{}, Overrules: &access.Guard{}}).(chi.Routes)
	if !ok {
		t.Fatal("the pages cannot be walked")
	}
	chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		d.patterns = append(d.patterns, operation{method: method, path: route})
		return nil
	})
	todo := []string{"/", "/messages", "/domains/" + c.domain, "/domains/acme.example"}
	for done := map[string]bool{}; len(todo) > 0 && len(done) < 60; {
		path := todo[0]
		todo = todo[1:]
		if done[path] {
			continue
		}
		done[path] = true
		root, err := html.Parse(strings.NewReader(string(c.ask(t, question{method: http.MethodGet, path: path}, c.root).body)))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			attr := map[string]string{}
			for _, a := range n.Attr {
				attr[a.Key] = a.Val
			}
			if name := attr["name"]; name != "" && n.Type == html.ElementNode && n.Data != "meta" {
				d.values[name] = append(d.values[name], attr["value"])
			}
			if to, err := url.Parse(attr["href"]); err == nil && to.Host == "" && strings.HasPrefix(to.Path, "/") {
				for name, v := range to.Query() {
					d.values[name] = append(d.values[name], v...)
				}
				if !strings.HasPrefix(to.Path, "/api") && !strings.HasPrefix(to.Path, "/static") {
					todo = append(todo, to.RequestURI())
				}
			}
		}
	}
	d.names = slices.Sorted(maps.Keys(d.values))
	if len(d.patterns) < 9 || len(d.names) < 8 {
		t.Fatalf("pages %v take %q", d.patterns, d.names)
	}
	return d
}

// cursors are what lists go on with.
func (c *contract) cursors(t *testing.T) (all []string) {
	for _, path := range []string{"domains", "reports", "messages", "tls", "domains/acme.example/sources", "domains/acme.example/reporters", "domains/acme.example/classes"} {
		var list struct{ Next *string }
		if a := c.ask(t, question{method: http.MethodGet, path: "/api/v1/" + path + "?limit=1"}, c.root); json.Unmarshal(a.body, &list) == nil && list.Next != nil {
			all = append(all, *list.Next)
		}
	}
	if len(all) < 3 {
		t.Fatalf("cursors %q", all)
	}
	return all
}

// injected lists what of a page nobody but the test can have written.
func injected(t *testing.T, page string) (all []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && strings.Contains(n.Data, mark) || n.Type == html.CommentNode && strings.Contains(n.Data, mark) ||
			n.Type == html.TextNode && strings.Contains(n.Data, mark) && n.Parent.Data == "script" {
			all = append(all, n.Data)
		}
		for _, a := range n.Attr {
			to := strings.TrimSpace(strings.ToLower(a.Val))
			leads := a.Key == "href" || a.Key == "src" || a.Key == "action" || a.Key == "formaction" || a.Key == "content"
			if strings.Contains(a.Key, mark) || strings.HasPrefix(a.Key, "on") || leads && (strings.HasPrefix(to, "javascript:") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, "https://"+mark)) {
				all = append(all, a.Key+"="+a.Val)
			}
		}
	}
	return all
}

// cheap holds statements to what they may be, and to what they may cost. Clocks of
// a machine that does something else tell nothing, so that blocks and rows are counted: both
// bounds are far below what takes a second.
func (c *contract) cheap(t *testing.T) {
	t.Helper()
	const maxBlocks, maxRows = 20_000, 200_000
	explained, worst := 0, [2]float64{}
	for sql, first := range c.seen.all {
		if strings.Contains(sql, mark) {
			t.Errorf("a parameter stands in a statement:\n%s", sql)
		}
		word := strings.ToUpper(strings.Fields(sql)[0])
		if upper := strings.ToUpper(sql); word != "SELECT" && word != "WITH" || strings.Contains(upper, "INSERT INTO") || strings.Contains(upper, "UPDATE ") || strings.Contains(upper, "DELETE FROM") {
			continue
		}
		for _, args := range [][]any{first, c.seen.marked[sql]} {
			if args == nil {
				continue
			}
			var text []byte
			if err := c.db.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) "+sql, args...).Scan(&text); err != nil {
				t.Errorf("%v\n%s", err, sql)
				continue
			}
			var plans []struct{ Plan node }
			if err := json.Unmarshal(text, &plans); err != nil {
				t.Fatal(err)
			}
			explained++
			blocks, rows := plans[0].Plan.Hit+plans[0].Plan.Read, plans[0].Plan.rows()
			worst[0], worst[1] = max(worst[0], blocks), max(worst[1], rows)
			if blocks > maxBlocks || rows > maxRows {
				t.Errorf("%.0f blocks and %.0f rows are read for %v by\n%s", blocks, rows, args, sql)
			}
		}
	}
	t.Logf("%d statements, %d plans; at most %.0f blocks and %.0f rows", len(c.seen.all), explained, worst[0], worst[1])
	if explained < 50 || len(c.seen.marked) < 5 {
		t.Errorf("only %d plans were looked at, and %d statements have something that was made up: nothing is proven", explained, len(c.seen.marked))
	}
}

// A node is one of a plan.
type node struct {
	Hit     float64 `json:"Shared Hit Blocks"`
	Read    float64 `json:"Shared Read Blocks"`
	Rows    float64 `json:"Actual Rows"`
	Loops   float64 `json:"Actual Loops"`
	Dropped float64 `json:"Rows Removed by Filter"`
	Plans   []node
}

// rows are those that all nodes make or look at.
func (n node) rows() float64 {
	sum := (n.Rows + n.Dropped) * n.Loops
	for _, p := range n.Plans {
		sum += p.rows()
	}
	return sum
}
