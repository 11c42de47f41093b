package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

// A recorder keeps the queries that a store asks, some of them at the same time.
type recorder struct {
	mu    sync.Mutex
	asked []pgx.TraceQueryStartData
}

func (r *recorder) note(q pgx.TraceQueryStartData) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, q)
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	sql := strings.ToUpper(strings.TrimSpace(q.SQL))
	if strings.HasPrefix(sql, "SELECT") || strings.HasPrefix(sql, "WITH") {
		r.note(q)
	}
	return ctx
}

func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (r *recorder) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	r.note(pgx.TraceQueryStartData{SQL: q.SQL, Args: q.Args})
}

func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// recorded returns a store on a database whose queries are recorded.
func recorded(t *testing.T, db *pgxpool.Pool) (*store.Store, *recorder) {
	t.Helper()
	r := &recorder{}
	config := db.Config()
	config.ConnConfig.Tracer = r
	traced, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(traced.Close)
	return store.New(traced, slog.New(slog.DiscardHandler)), r
}

// A plan is a node of what EXPLAIN says.
type plan struct {
	Relation string `json:"Relation Name"`
	Hit      int64  `json:"Shared Hit Blocks"`
	Read     int64  `json:"Shared Read Blocks"`
	Plans    []plan
}

func (p plan) relations() (all []string) {
	if p.Relation != "" {
		all = append(all, p.Relation)
	}
	for _, child := range p.Plans {
		all = append(all, child.relations()...)
	}
	return all
}

// explain returns the tables that recorded queries read, and how many blocks
// of them.
func explain(t *testing.T, db *pgxpool.Pool, r *recorder) (tables []string, blocks int64) {
	t.Helper()
	for _, q := range r.asked {
		var out []struct{ Plan plan }
		var text []byte
		if err := db.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+q.SQL, q.Args...).Scan(&text); err != nil {
			t.Fatalf("%v\n%s", err, q.SQL)
		}
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, out[0].Plan.relations()...)
		blocks += out[0].Plan.Hit + out[0].Plan.Read
	}
	r.asked = nil
	slices.Sort(tables)
	return slices.Compact(tables), blocks
}

// questions are what pages and API ask about one domain.
func questions(domain string, period dmarc.Period) map[string]func(*store.Store) error {
	ctx := context.Background()
	q := dmarc.TrafficQuery{Domain: domain, Period: period, Page: dmarc.Page{Limit: 100}}
	return map[string]func(*store.Store) error{
		"summary":   func(s *store.Store) error { _, err := s.Summary(ctx, q); return err },
		"reporters": func(s *store.Store) error { _, _, err := s.Reporters(ctx, q); return err },
		"sources":   func(s *store.Store) error { _, _, err := s.Sources(ctx, q); return err },
		"filtered summary": func(s *store.Store) error {
			q := q
			q.Filter = dmarc.Filter{Reporter: "org1.example", Aligned: dmarc.No, Disposition: dmarc.DispositionReject}
			_, err := s.Summary(ctx, q)
			return err
		},
		"filtered reporters": func(s *store.Store) error {
			q := q
			q.Sort, q.Filter = "-failed", dmarc.Filter{Aligned: dmarc.No}
			_, _, err := s.Reporters(ctx, q)
			return err
		},
		"filtered sources": func(s *store.Store) error {
			q := q
			q.Sort, q.Filter = "-failed", dmarc.Filter{Source: netip.MustParsePrefix("192.0.0.0/16"), Aligned: dmarc.No, Classed: true, Class: dmarc.ClassOwn}
			_, _, err := s.Sources(ctx, q)
			return err
		},
		"filtered reports": func(s *store.Store) error {
			f := dmarc.Filter{Aligned: dmarc.No, Source: netip.MustParsePrefix("192.0.0.0/24")}
			_, _, err := s.Reports(ctx, dmarc.ReportQuery{Scope: dmarc.Everything, Domain: domain, Period: period, Filter: f, Page: q.Page})
			return err
		},
		"reports": func(s *store.Store) error {
			_, _, err := s.Reports(ctx, dmarc.ReportQuery{Scope: dmarc.Everything, Domain: domain, Period: period, Page: q.Page})
			return err
		},
		"tls": func(s *store.Store) error {
			_, _, err := s.TLS(ctx, dmarc.TLSQuery{Scope: dmarc.Everything, Domain: domain, Period: period, Page: q.Page})
			return err
		},
		"failures": func(s *store.Store) error {
			_, _, err := s.Failures(ctx, dmarc.FailureQuery{Scope: dmarc.Everything, Domain: domain, Period: period, Page: q.Page})
			return err
		},
	}
}

func fill(t *testing.T, s *store.Store, seed uint64, n int) {
	t.Helper()
	reports := random(rand.New(rand.NewPCG(seed, 1)), n)
	for i := 0; i < n; i += 50 {
		var ds []dmarc.Delivery
		for j, r := range reports[i:min(i+50, n)] {
			ds = append(ds, mail(uint32(i+j+1), r))
		}
		add(t, s, ds...)
	}
	if err := s.SummariseSources(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestSummariesNeverReadRows(t *testing.T) {
	s, db := open(t)
	fill(t, s, 21, 300)
	if _, err := db.Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	ask := questions("d1.example", year)
	ask["domains"] = func(s *store.Store) error {
		_, _, err := s.Domains(context.Background(), dmarc.DomainQuery{Scope: dmarc.Everything, Period: year, Trend: february, Page: dmarc.Page{Limit: 10}})
		return err
	}
	if _, err := s.PutGroup(t.Context(), &dmarc.Group{Name: "both", Domains: []string{"d1.example", "d2.example"}}); err != nil {
		t.Fatal(err)
	}
	ask["groups"] = func(s *store.Store) error {
		_, _, err := s.Groups(context.Background(), dmarc.GroupQuery{Scope: dmarc.Everything, Period: year, Page: dmarc.Page{Limit: 10}})
		return err
	}
	ask["attention"] = func(s *store.Store) error {
		_, _, err := s.Attention(context.Background(), dmarc.AttentionQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: 10}})
		return err
	}
	ask["evidence"] = func(s *store.Store) error {
		ctx, domain := context.Background(), "d1.example"
		_, err1 := s.Facts(ctx, domain, year)
		_, err2 := s.KnownSources(ctx, domain, []netip.Addr{netip.MustParseAddr("192.0.2.1")})
		_, err3 := s.ReporterNames(ctx, domain)
		_, err4 := s.Overrules(ctx, domain)
		_, _, err5 := s.RecordChanges(ctx, domain, dmarc.ChangeQuery{Page: dmarc.Page{Limit: 10}})
		if _, err := s.Look(ctx, domain); !errors.Is(err, dmarc.ErrNotFound) {
			return err
		}
		return errors.Join(err1, err2, err3, err4, err5)
	}
	// What is last published stands in a report: one of them is read.
	rollups := map[string][]string{
		"domains":   {"domain_days", "domain_groups", "domain_months", "domain_settings", "domains", "reports", "verdicts"},
		"groups":    {"domain_groups", "domain_months", "domains", "verdicts"},
		"summary":   {"domain_days", "domains", "reports", "verdicts"},
		"attention": {"domains", "verdicts"},
		"evidence":  {"domain_days", "domain_sources", "domains", "fact_lists", "looks", "overrules", "published_changes", "reporters", "source_identities"},
		"reporters": {"domains", "reporter_days", "reporters"},
		"sources":   {"domain_days", "domains", "source_lists"},

		"filtered summary":   {"domains", "reporter_days", "reporters", "reports", "verdicts"},
		"filtered reporters": {"domains", "reporter_days", "reporters"},
		"filtered sources":   {"domain_days", "domain_sources", "domains", "source_days"},
	}
	for name, want := range rollups {
		traced, r := recorded(t, db) // one that remembers nothing
		if err := ask[name](traced); err != nil {
			t.Fatal(err)
		}
		if len(r.asked) == 0 {
			t.Fatalf("%s: nothing was asked", name)
		}
		if tables, _ := explain(t, db, r); !reflect.DeepEqual(tables, want) {
			t.Errorf("%s reads %q, want %q", name, tables, want)
		}
	}
}

// What one domain costs does not depend on how many others there are.
func TestOneDomainCostsTheSameHoweverManyOthersThereAre(t *testing.T) {
	s, db := open(t)
	fill(t, s, 22, 300)
	add(t, s, tlsAndFailure())
	measure := func() map[string]int64 {
		if _, err := db.Exec(t.Context(), "VACUUM ANALYZE"); err != nil {
			t.Fatal(err)
		}
		blocks := map[string]int64{}
		for name, ask := range questions("d1.example", year) {
			traced, r := recorded(t, db) // one that remembers nothing
			if err := ask(traced); err != nil {
				t.Fatal(err)
			}
			_, blocks[name] = explain(t, db, r)
		}
		return blocks
	}
	before := measure()
	// A hundred times as much of others.
	for _, sql := range []string{
		"INSERT INTO domains (name) SELECT 'other' || n || '.example' FROM generate_series(1, 400) n",
		"INSERT INTO domain_days SELECT day, d.id, dated, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, estimated, reports, 1, 1 FROM domain_days x, domains d WHERE d.name LIKE 'other%' AND x.domain_id % 4 = d.id % 4 ON CONFLICT DO NOTHING",
		"INSERT INTO reporters (domain_id, key, org_name, email) SELECT d.id, key, org_name, email FROM reporters x, domains d WHERE d.name LIKE 'other%' AND x.domain_id % 4 = d.id % 4 ON CONFLICT DO NOTHING",
		"INSERT INTO reporter_days SELECT d.id, day, reporter_id, dated, verdict, rows, messages, estimated, reports FROM reporter_days x, domains d WHERE d.name LIKE 'other%' AND x.domain_id % 4 = d.id % 4 ON CONFLICT DO NOTHING",
		"INSERT INTO source_days SELECT d.id, day, dated, kind, source, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated FROM source_days x, domains d WHERE d.name LIKE 'other%' AND x.domain_id % 4 = d.id % 4 ON CONFLICT DO NOTHING",
		"INSERT INTO source_lists SELECT d.id, day, dated, summarised, lines FROM source_lists x, domains d WHERE d.name LIKE 'other%' AND x.domain_id % 4 = d.id % 4 ON CONFLICT DO NOTHING",
		"INSERT INTO reports (domain_id, reporter_id, report_id, begins_at, ends_at, hash, active, day, dated, received_at, message, part, flags, about, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, rows_dropped, messages_dropped) SELECT d.id, reporter_id, report_id, begins_at, ends_at, hash, active, day, dated, received_at, message, part, flags, about, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, rows_dropped, messages_dropped FROM reports x, domains d WHERE d.name LIKE 'other%' AND x.domain_id % 4 = d.id % 4 ON CONFLICT DO NOTHING",
		"INSERT INTO tls_reports (domain_id, reporter_id, report_id, begins_at, ends_at, hash, active, received_at, message, part, flags, contact, successful, failed, policies) SELECT d.id, reporter_id, report_id, begins_at, ends_at, hash, active, received_at, message, part, flags, contact, successful, failed, policies FROM tls_reports x, domains d WHERE d.name LIKE 'other%'",
		"INSERT INTO failure_reports (domain_id, hash, arrived_at, received_at, message, part, flags, body) SELECT d.id, hash, arrived_at, received_at, message, part, flags, body FROM failure_reports x, domains d WHERE d.name LIKE 'other%'",
	} {
		change(t, db, sql)
	}
	after := measure()
	for name, n := range before {
		// A deeper index costs a few blocks.
		if got := after[name]; got > n+n/2+20 {
			t.Errorf("%s read %d blocks, and %d with a hundred times as much of others", name, n, got)
		}
	}
	t.Logf("blocks before %v, after %v", before, after)
}

func tlsAndFailure() dmarc.Delivery {
	d := mail(9000)
	d.Parts = []dmarc.Part{
		{Path: "1", Failure: &dmarc.FailureReport{ReportedDomain: "d1.example", Arrival: day1, Hash: dmarc.Digest{1}}},
		{Path: "2", TLS: &dmarc.TLSReport{Domain: "d1.example", OrgName: "org", ID: "1", Period: dmarc.Period{Begin: day1, End: day1.AddDate(0, 0, 1)}, Hash: dmarc.Digest{2}}},
	}
	return d
}

func TestAllSourcesAreOneQueryAway(t *testing.T) {
	s, _ := open(t)
	fill(t, s, 23, 200)
	var many []dmarc.Row
	for i := range 400 {
		many = append(many, row(fmt.Sprintf("198.51.%d.%d", i/250, i%250+1), int64(1+i%7), pass, pass, dmarc.DispositionNone))
	}
	big := daily("big", append(many, dmarc.Row{Count: 3, SourceText: "X.X.X.X"})...)
	big.domain = "d1.example"
	add(t, s, mail(5000, big))
	want := map[string]dmarc.Tally{}
	for _, period := range []dmarc.Period{year, {Begin: day1.AddDate(0, 0, 3), End: day1.AddDate(0, 0, 9)}} {
		sum, err := s.Summary(context.Background(), dmarc.TrafficQuery{Domain: "d1.example", Period: period})
		if err != nil {
			t.Fatal(err)
		}
		var all dmarc.Tally
		clear(want)
		q := dmarc.TrafficQuery{Domain: "d1.example", Period: period, Exact: true, Page: dmarc.Page{Limit: 90}}
		for {
			list, next, err := s.Sources(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range list.Items {
				if _, twice := want[i.Source.String()]; twice {
					t.Errorf("%s stands on two pages", i.Source)
				}
				want[i.Source.String()] = i.Tally
				all.Merge(i.Tally)
			}
			if next == "" {
				all.Merge(list.Unknown)
				if list.Total != int64(len(want)) || list.Others != (dmarc.Tally{}) {
					t.Errorf("%d addresses, total says %d; others %+v", len(want), list.Total, list.Others)
				}
				break
			}
			q.After = next
		}
		if all != sum.Tally {
			t.Errorf("from %s: sources %+v, want %+v", period.Begin, all, sum.Tally)
		}
	}
}

func TestPeriodsAreCoveredByMonthsAndDays(t *testing.T) {
	s, _ := open(t)
	fill(t, s, 24, 300)
	rnd := rand.New(rand.NewPCG(25, 1))
	for range 60 {
		begin := time.Date(2025, 12, 1+rnd.IntN(120), 0, 0, 0, 0, time.UTC)
		period := dmarc.Period{Begin: begin, End: begin.AddDate(0, 0, 1+rnd.IntN(100))}
		items, _, err := s.Domains(context.Background(), dmarc.DomainQuery{Scope: dmarc.Everything, Period: period, Page: dmarc.Page{Limit: 10}})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range items {
			sum, err := s.Summary(context.Background(), dmarc.TrafficQuery{Domain: d.Domain, Period: period})
			if err != nil {
				t.Fatal(err)
			}
			if d.Tally != sum.Tally || d.Reports != sum.Reports {
				t.Errorf("%s from %s to %s: %+v in %d reports, want %+v in %d", d.Domain, period.Begin, period.End, d.Tally, d.Reports, sum.Tally, sum.Reports)
			}
		}
	}
}
