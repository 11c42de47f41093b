package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// allDomains are the questions that are put to all machines at once, by the function
// of the store that asks and the table. Everything else names its domain, or is joined
// by it.
var allDomains = map[string]string{
	"domains domain_months":               "a sum by domain, which each machine makes of its own",
	"domains domain_days":                 "a sum by domain, which each machine makes of its own",
	"domains verdicts":                    "the list of domains by urgency: one line of each, summed where it is joined with its traffic",
	"Attention verdicts":                  "the list of domains by urgency: the first page of each machine, by an index",
	"Reports reports":                     "the newest of all domains: the first page of each machine, by an index",
	"TLSDomains tls_reports":              "a sum by domain, which each machine makes of its own",
	"ActiveDomains domain_days":           "the set of domains with mail of late",
	"KeyNames dkim_keys":                  "a key that several domains use is looked for in all of them",
	"DueDomains looks":                    "a pass looks for its work",
	"DueVerdicts verdicts":                "a pass looks for its work",
	"DomainsOfManySources domain_sources": "a sum by domain, which each machine makes of its own",
	"LookDevelopments looks":              "a pass looks for its work",
	"ChangedRecords published_changes":    "a pass looks for its work",
	"follow domain_days":                  "a pass looks for its work, which is then done by domain",
	"expireFailures failure_reports":      "retention looks for what is old, which is then deleted by domain",
	"expireTLS tls_reports":               "retention looks for what is old, which is then deleted by domain",
	"expireTotals domain_days":            "retention looks for what is old, which is then deleted by domain",
	"expireMonths domain_months":          "retention looks for what is old, which is then deleted by domain",
	"storedBefore reports":                "a stream that begins reads all that is stored: a page of each machine, by the primary key",
	"changeVerdicts verdicts":             "an operator's rule about a source may concern every domain",
}

// A shardWatch looks at every statement that the store sends while tests run: of each
// table that is spread over machines by domain, it must touch what is of one domain, or
// stand in allDomains.
type shardWatch struct {
	mu   sync.Mutex
	seen map[string]bool
	bad  []string
}

// watch returns a watch that fails a test at its end.
func watch(t testing.TB) *shardWatch {
	w := &shardWatch{seen: map[string]bool{}}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, bad := range w.bad {
			t.Error(bad)
		}
	})
	return w
}

func (w *shardWatch) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	w.look(q.SQL)
	return ctx
}

func (w *shardWatch) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (w *shardWatch) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	for _, q := range b.Batch.QueuedQueries {
		w.look(q.SQL)
	}
	return ctx
}

func (w *shardWatch) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (w *shardWatch) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (w *shardWatch) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, c pgx.TraceCopyFromStartData) context.Context {
	w.look("INSERT INTO " + strings.Join(c.TableName, ".") + " (" + strings.Join(c.ColumnNames, ", ") + ")")
	return ctx
}

func (w *shardWatch) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

func (w *shardWatch) look(sql string) {
	asker := askingFunction()
	if asker == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[asker+sql] {
		return
	}
	w.seen[asker+sql] = true
	for _, table := range offDomain(sql) {
		if allDomains[asker+" "+table] == "" {
			w.bad = append(w.bad, fmt.Sprintf("%s asks every machine for %s:\n%s", asker, table, sql))
		}
	}
}

// method takes the name out of "…/store.(*Store).Domains.func1".
var method = regexp.MustCompile(`^.*/store\.(?:\(\*?\w+\)\.)?(\w+).*$`)

// askingFunction is the function of the store that sends a statement, "" if it is a
// test or a migration that does.
func askingFunction() string {
	var pcs [40]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if dir := filepath.Base(filepath.Dir(f.File)); strings.Contains(f.Function, "dmarcd/") && !strings.Contains(f.Function, "shardWatch") {
			if dir != "store" || strings.HasSuffix(f.File, "_test.go") {
				return ""
			}
			return method.ReplaceAllString(f.Function, "$1")
		}
		if !more {
			return ""
		}
	}
}

// spreadTables are those that migrations place on machines by domain_id.
var spreadTables = sync.OnceValue(func() (tables []string) {
	source, err := os.ReadFile("../migrations/distribute.go")
	if err != nil {
		panic(err)
	}
	list := regexp.MustCompile(`(?s)distributed: \[\]string\{(.*?)\}`).FindSubmatch(source)
	for _, m := range regexp.MustCompile(`"(\w+)"`).FindAllSubmatch(list[1], -1) {
		tables = append(tables, string(m[1]))
	}
	return tables
})

var (
	tableUse   = regexp.MustCompile(`(?i)\b(FROM|JOIN|INTO|UPDATE|USING)\s+([a-z_]+)(?:\s+(?:AS\s+)?([a-z_]+))?`)
	notAliases = []string{"where", "set", "on", "using", "join", "left", "group", "order", "limit", "values", "select", "for", "cross", "and", "returning", "union", "offset", "having", "full", "right", "inner", "as"}
)

// offDomain returns the tables of a statement that lie by domain, and are neither
// asked for one nor joined with another by it. To be joined with domains, which every
// machine has whole, is not enough unless that is asked for one.
func offDomain(sql string) (bad []string) {
	oneDomain := regexp.MustCompile(`(?i)\bd\.(id|name) = ([@$]|ANY)`).MatchString(sql)
	for _, m := range tableUse.FindAllStringSubmatch(sql, -1) {
		table, alias := strings.ToLower(m[2]), strings.ToLower(m[3])
		if !slices.Contains(spreadTables(), table) || slices.Contains(bad, table) {
			continue
		}
		if alias == "" || slices.Contains(notAliases, alias) {
			alias = table
		}
		if strings.EqualFold(m[1], "INTO") && regexp.MustCompile(`(?is)INTO\s+`+table+`[^(]*\([^)]*\bdomain_id\b`).MatchString(sql) {
			continue
		}
		column := `(?:^|[^.\w])(?:` + alias + `\.)?domain_id`
		found := regexp.MustCompile(`(?i)`+column+`(?:,[^()]*\))?\s*(?:=|IN\b)\s*(\S+)`).FindAllStringSubmatch(sql, -1)
		found = append(found, regexp.MustCompile(`(?i)(\S+)\s*=\s*`+alias+`\.domain_id\b`).FindAllStringSubmatch(sql, -1)...)
		found = append(found, regexp.MustCompile(`(?i)USING\s*\([^)]*(\bdomain_id\b)`).FindAllStringSubmatch(sql, -1)...)
		if !slices.ContainsFunc(found, func(f []string) bool { return oneDomain || strings.TrimRight(f[1], ")") != "d.id" }) {
			bad = append(bad, table)
		}
	}
	return bad
}

func TestWhatEveryMachineIsAskedIsTold(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT sum(rows) FROM domain_days WHERE domain_id = $1 AND day > $2":                                "",
		"SELECT sum(rows) FROM domain_days WHERE day > $2":                                                   "domain_days",
		"SELECT * FROM reports r JOIN domains d ON d.id = r.domain_id WHERE r.begins_at > $1":                "reports",
		"SELECT * FROM reports r JOIN domains d ON d.id = r.domain_id WHERE d.id = $1":                       "",
		"SELECT * FROM reports r JOIN row_groups g ON g.report_id = r.id WHERE r.domain_id = @domain":        "row_groups",
		"SELECT * FROM reports r JOIN row_groups g ON g.domain_id = r.domain_id WHERE r.domain_id = @domain": "",
		"DELETE FROM reports WHERE id = $1":                                                                  "reports",
		"DELETE FROM reports WHERE (domain_id, id) = ($1, $2)":                                               "",
		"UPDATE looks SET next_at = $1":                                                                      "looks",
		"INSERT INTO names (name) VALUES ($1)":                                                               "names",
		"INSERT INTO names (domain_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING":                         "",
		"SELECT * FROM messages WHERE id = $1":                                                               "",
	} {
		if got := strings.Join(offDomain(sql), " "); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
	if len(spreadTables()) < 15 {
		t.Errorf("the tables that are spread: %q", spreadTables())
	}
	s, db := open(t)
	fill(t, s, 5, 50)
	w := db.Config().ConnConfig.Tracer.(*shardWatch)
	if len(w.seen) < 20 {
		t.Errorf("%d statements were looked at", len(w.seen))
	}
	if _, err := db.Exec(t.Context(), "SELECT FROM reports"); err != nil { // of a test: nobody's concern
		t.Error(err)
	}
}
