package store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/store"
)

var ever = dmarc.Period{Begin: time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}

// filters are all that a question about one domain may be held to, but for sources.
func filters() (all []dmarc.Filter) {
	for _, subdomains := range []bool{false, true} {
		for _, reporter := range []string{"", "org1.example"} {
			for _, aligned := range []dmarc.Choice{dmarc.Either, dmarc.Yes, dmarc.No} {
				for d := dmarc.DispositionUnknown; d <= dmarc.DispositionPass; d++ {
					all = append(all, dmarc.Filter{Subdomains: subdomains, Reporter: reporter, Aligned: aligned, Disposition: d})
				}
			}
		}
	}
	return all
}

// family is a store whose domains are one and its subdomains, and one more. Sources
// have classes.
func family(t *testing.T) (*store.Store, *pgxpool.Pool) {
	s, db := open(t)
	fill(t, s, 31, 150)
	if err := s.SummariseFacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	for was, is := range map[string]string{"d0.example": "a.example", "d1.example": "www.a.example", "d2.example": "x.www.a.example", "d3.example": "ba.example"} {
		change(t, db, "UPDATE domains SET name = '"+is+"' WHERE name = '"+was+"'")
	}
	change(t, db, "INSERT INTO domain_sources SELECT DISTINCT domain_id, source, (CASE WHEN source < '192.0.1.0' THEN 1 ELSE 4 END)::smallint, 2::smallint, 0::smallint, 1::bigint FROM source_days WHERE kind = 0 AND source < '192.0.1.100'")
	change(t, db, "INSERT INTO domain_sources SELECT id, '192.0.1.0/24', 3::smallint, 1::smallint, 0::smallint, 1::bigint FROM domains")
	return s, db
}

// classed are the sources of each class in words; without an address a message is nobody's.
var classed = map[string]string{"own": " AND source < '192.0.1.0'", "suspicious": " AND source BETWEEN '192.0.1.0' AND '192.0.1.99'", "forwarder": " AND source > '192.0.1.99'"}

// holdsReports tests that a list has the reports that are wanted, by number; those that do
// not count have no rows.
func holdsReports(t *testing.T, s *store.Store, q dmarc.ReportQuery, want map[string]dmarc.Tally) {
	t.Helper()
	ids := map[string]bool{}
	for {
		page, next, err := s.Reports(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			if r.Active && r.Report.Tally.Messages > 0 {
				ids[r.ID[strings.Index(r.ID, "-")+1:]] = true
			}
		}
		if q.After = next; next == "" {
			break
		}
	}
	for id := range want {
		if !ids[id] {
			t.Errorf("reports %+v: %s is missing", q.Filter, id)
		}
	}
	if len(ids) != len(want) {
		t.Errorf("reports %+v: %d, want %d", q.Filter, len(ids), len(want))
	}
}

const rowTally = `count(*), coalesce(sum(messages), 0)::bigint,
	coalesce(sum(messages) FILTER (WHERE aligned), 0)::bigint,
	coalesce(sum(messages) FILTER (WHERE verdict & 1 <> 0), 0)::bigint,
	coalesce(sum(messages) FILTER (WHERE verdict & 2 <> 0), 0)::bigint,
	coalesce(sum(messages) FILTER (WHERE disposition IN ('none', 'pass')), 0)::bigint,
	coalesce(sum(messages) FILTER (WHERE disposition = 'quarantine'), 0)::bigint,
	coalesce(sum(messages) FILTER (WHERE disposition = 'reject'), 0)::bigint,
	coalesce(sum(messages) FILTER (WHERE disposition = 'pass'), 0)::bigint,
	coalesce(sum(messages) FILTER (WHERE disposition = ''), 0)::bigint`

// told are the rows of a domain in words, under a filter of whose they are.
func told(f dmarc.Filter) string {
	domain := "d.name = 'a.example'"
	if f.Subdomains {
		domain = "(d.name = 'a.example' OR d.name LIKE '%.a.example')"
	}
	reporter := ""
	if f.Reporter != "" {
		reporter = " AND p.org_name = '" + f.Reporter + "'"
	}
	return `(
		SELECT o.id AS report, r.source, r.messages, r.verdict & 255 AS verdict, r.verdict & 3 <> 0 AS aligned, p.org_name,
			(ARRAY['', 'none', 'quarantine', 'reject', 'pass'])[(r.verdict >> 4 & 7) + 1] AS disposition
		FROM rows r
		JOIN reports o ON o.domain_id = r.domain_id AND o.id = r.report
		JOIN reporters p ON p.domain_id = o.domain_id AND p.id = o.reporter_id
		JOIN domains d ON d.id = r.domain_id
		WHERE ` + domain + reporter + `) AS told`
}

// meets is what the verdict of a filter comes to, in words.
func meets(f dmarc.Filter) (aligned, disposition string) {
	aligned, disposition = "true", "true"
	switch f.Aligned {
	case dmarc.Yes:
		aligned = "aligned"
	case dmarc.No:
		aligned = "NOT aligned"
	}
	switch f.Disposition {
	case dmarc.DispositionUnknown:
	case dmarc.DispositionNone:
		disposition = "disposition IN ('none', 'pass')"
	default:
		disposition = "disposition = '" + f.Disposition.String() + "'"
	}
	return aligned, disposition
}

func tallyPlaces(t *dmarc.Tally) []any {
	return []any{&t.Rows, &t.Messages, &t.DMARCPass, &t.DKIMAligned, &t.SPFAligned, &t.None, &t.Quarantine, &t.Reject, &t.Pass, &t.Unstated}
}

// talliesByKey asks for lines of a key and a tally. Lines without messages are left
// out: whether they stand in a list depends on shares.
func talliesByKey(t *testing.T, db *pgxpool.Pool, sql string) map[string]dmarc.Tally {
	t.Helper()
	all := map[string]dmarc.Tally{}
	rows, _ := db.Query(t.Context(), sql)
	var key string
	var n dmarc.Tally
	if _, err := pgx.ForEachRow(rows, append([]any{&key}, tallyPlaces(&n)...), func() error {
		if n.Messages > 0 {
			all[key] = n
		}
		return nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
	return all
}

func TestWhatIsFilteredEqualsTheRowsThatAreMeant(t *testing.T) {
	racetest.Calm(t)
	s, db := family(t)
	ctx := context.Background()
	some := 0
	for _, f := range filters() {
		aligned, disposition := meets(f)
		q := dmarc.TrafficQuery{Domain: "a.example", Period: ever, Filter: f, Page: dmarc.Page{Limit: 100_000}}

		var want dmarc.Tally
		sql := "SELECT " + rowTally + " FROM " + told(f) + " WHERE " + aligned + " AND " + disposition
		if err := db.QueryRow(ctx, sql).Scan(tallyPlaces(&want)...); err != nil {
			t.Fatal(err)
		}
		if want.Messages > 0 {
			some++
		}
		sum, err := s.Summary(ctx, q)
		if err != nil || sum.Tally != want {
			t.Errorf("summary %+v: %+v, want %+v; %v", f, sum.Tally, want, err)
		}
		var days dmarc.Tally
		for _, d := range sum.Days {
			days.Merge(d.Tally)
		}
		if days.Merge(sum.Undated); days != want {
			t.Errorf("summary %+v: the days are %+v, want %+v", f, days, want)
		}

		having := " HAVING sum(messages) > 0 AND coalesce(sum(messages) FILTER (WHERE " + aligned + "), 0) > 0 AND coalesce(sum(messages) FILTER (WHERE " + disposition + "), 0) > 0"
		if f.Aligned == dmarc.Either && f.Disposition == dmarc.DispositionUnknown {
			having = ""
		}
		reporters, _, err := s.Reporters(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]dmarc.Tally{}
		for _, r := range reporters {
			if r.Tally.Messages > 0 {
				got[r.Reporter.OrgName] = r.Tally
			}
		}
		if want := talliesByKey(t, db, "SELECT org_name, "+rowTally+" FROM "+told(f)+" GROUP BY org_name"+having); !reflect.DeepEqual(got, want) {
			t.Errorf("reporters %+v: %v, want %v", f, got, want)
		}

		networks, classes := []string{""}, []string{""}
		if f.Aligned != dmarc.Yes && (f.Disposition == dmarc.DispositionUnknown || f.Disposition == dmarc.DispositionReject) {
			networks, classes = []string{"", "192.0.0.0/25", "192.0.1.7", "2001:db8::/32"}, []string{"", "own", "forwarder", "suspicious", "unknown"}
		}
		for _, network := range networks {
			q := q
			where := " WHERE source IS NOT NULL"
			if network != "" {
				where += " AND source <<= '" + network + "'"
				if q.Source, err = netip.ParsePrefix(network); err != nil {
					q.Source = netip.PrefixFrom(netip.MustParseAddr(network), 32)
				}
			}
			q.Exact = !q.Subdomains
			if q.Reporter != "" && !q.Exact {
				continue
			}
			for _, class := range classes {
				q, where := q, where
				if q.Class, q.Classed = dmarc.ParseClass(class); q.Classed {
					where += cmp.Or(classed[class], " AND false")
				}
				list, _, err := s.Sources(ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]dmarc.Tally{}
				for _, i := range list.Items {
					if i.Tally.Messages > 0 {
						got[i.Source.String()] = i.Tally
					}
				}
				if want := talliesByKey(t, db, "SELECT host(source), "+rowTally+" FROM "+told(f)+where+" GROUP BY source"+having); !reflect.DeepEqual(got, want) {
					t.Errorf("sources %+v: %d, want %d", q.Filter, len(got), len(want))
				}
				if int(list.Total) != len(list.Items) {
					t.Errorf("sources %+v: %d of %d", q.Filter, len(list.Items), list.Total)
				}
				if (network == "") == (class == "") || q.Subdomains {
					continue
				}
				// What is counted of senders, by day and by reporter. Without an address
				// a message is nobody's.
				where = strings.TrimPrefix(where, " WHERE source IS NOT NULL")
				if class == "unknown" {
					where = " AND source IS NULL"
				}
				whole := where + " AND " + aligned + " AND " + disposition
				var want dmarc.Tally
				if err := db.QueryRow(ctx, "SELECT "+rowTally+" FROM "+told(f)+" WHERE true"+whole).Scan(tallyPlaces(&want)...); err != nil {
					t.Fatal(err)
				}
				sum, err := s.Summary(ctx, q)
				var days dmarc.Tally
				for _, d := range sum.Days {
					days.Merge(d.Tally)
				}
				if days.Merge(sum.Undated); err != nil || sum.Tally != want || days != want {
					t.Errorf("summary %+v: %+v, and days %+v, want %+v; %v", q.Filter, sum.Tally, days, want, err)
				}
				var reports int64
				if err := db.QueryRow(ctx, "SELECT count(DISTINCT report) FROM "+told(f)+" WHERE true"+whole).Scan(&reports); err != nil || sum.Reports != reports {
					t.Errorf("summary %+v: %d reports, want %d; %v", q.Filter, sum.Reports, reports, err)
				}
				reporters, _, err := s.Reporters(ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				clear(got)
				for _, r := range reporters {
					if r.Tally.Messages > 0 {
						got[r.Reporter.OrgName] = r.Tally
					}
				}
				if want := talliesByKey(t, db, "SELECT org_name, "+rowTally+" FROM "+told(f)+" WHERE true"+where+" GROUP BY org_name"+having); !reflect.DeepEqual(got, want) {
					t.Errorf("reporters %+v: %v, want %v", q.Filter, got, want)
				}
			}
			for _, class := range classes {
				rq := dmarc.ReportQuery{Scope: dmarc.Everything, Domain: "a.example", Period: ever, Filter: f, Page: dmarc.Page{Limit: 7}}
				rq.Source = q.Source
				where := having
				if network != "" {
					where = cmp.Or(where, " HAVING true") + " AND bool_or(coalesce(source <<= '" + network + "', false))"
				}
				if rq.Class, rq.Classed = dmarc.ParseClass(class); rq.Classed {
					of := cmp.Or(classed[class], " AND source IS NULL")
					if network != "" {
						of += " AND coalesce(source <<= '" + network + "', false)"
					}
					where = cmp.Or(where, " HAVING true") + " AND bool_or(coalesce(true" + of + ", false))"
				}
				holdsReports(t, s, rq, talliesByKey(t, db, "SELECT report::text, "+rowTally+" FROM "+told(f)+" GROUP BY report"+where))
			}
		}
	}
	if some < 20 {
		t.Errorf("only %d filters leave something", some)
	}
}

func TestDomainsAreThoseWithTheMailThatIsMeant(t *testing.T) {
	s, db := family(t)
	for _, f := range filters() {
		if f.Subdomains {
			continue
		}
		aligned, disposition := meets(f)
		told := strings.Replace(told(f), "d.name = 'a.example'", "true", 1)
		told = strings.Replace(told, "SELECT o.id", "SELECT d.name AS domain, o.id", 1)
		sql := "SELECT domain, " + rowTally + " FROM " + told + " GROUP BY domain HAVING coalesce(sum(messages) FILTER (WHERE " + aligned + "), 0) > 0 AND coalesce(sum(messages) FILTER (WHERE " + disposition + "), 0) > 0"
		if f.Reporter != "" { // it is counted exactly
			sql = "SELECT domain, " + rowTally + " FROM " + told + " WHERE " + aligned + " AND " + disposition + " GROUP BY domain"
		}
		want := talliesByKey(t, db, sql)
		got := map[string]dmarc.Tally{}
		q := dmarc.DomainQuery{Scope: dmarc.Everything, Period: ever, Mail: f}
		for _, d := range pagesOf(t, "domains", func(p dmarc.Page) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
			q.Page = p
			return s.Domains(t.Context(), q)
		}, "") {
			if d.Tally.Messages > 0 {
				got[d.Domain] = d.Tally
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: %+v, want %+v", f, got, want)
		}
		if _, _, total, err := s.DomainsWithTotal(t.Context(), q); err != nil || total.Domains < len(want) {
			t.Errorf("%+v: %d in all, want %d; %v", f, total.Domains, len(want), err)
		}
	}
	for _, c := range []struct{ network, class, where string }{
		{"192.0.0.0/25", "", "source <<= '192.0.0.0/25'"}, {"192.0.1.3/32", "", "source = '192.0.1.3'"}, {"0.0.0.0/0", "", "family(source) = 4"},
		{"2001:db8::/32", "", "false"}, {"", "own", "class = 1"}, {"", "service", "false"}, {"192.0.0.0/30", "own", "source <<= '192.0.0.0/30' AND class = 1"},
	} {
		var f dmarc.Filter
		if c.network != "" {
			f.Source = netip.MustParsePrefix(c.network)
		}
		f.Class, f.Classed = dmarc.ParseClass(c.class)
		rows, _ := db.Query(t.Context(), "SELECT DISTINCT d.name FROM domain_sources x JOIN domains d ON d.id = x.domain_id WHERE "+c.where+" ORDER BY 1")
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		items, _, err := s.Domains(t.Context(), dmarc.DomainQuery{Scope: dmarc.Everything, Period: ever, Mail: f, Page: dmarc.Page{Limit: 100}})
		for _, d := range items {
			got = append(got, d.Domain)
		}
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: %q, want %q; %v", c, got, want, err)
		}
	}
}

// pagesOf reads a list to its end by pages of three, and returns its lines.
func pagesOf[T any](t *testing.T, name string, ask func(dmarc.Page) ([]T, dmarc.Cursor, error), sort string) (all []T) {
	t.Helper()
	page := dmarc.Page{Limit: 3, Sort: dmarc.Sort(sort)}
	for range 1000 {
		items, next, err := ask(page)
		if err != nil {
			t.Fatalf("%s by %s: %v", name, sort, err)
		}
		all = append(all, items...)
		if page.After = next; next == "" {
			return all
		}
	}
	t.Fatalf("%s by %s does not end", name, sort)
	return nil
}

// holdsTo tests that a list is the same in every order, and sorted in each.
func holdsTo[T any](t *testing.T, name string, ask func(dmarc.Page) ([]T, dmarc.Cursor, error), key func(T) string, orders map[string]func(T) any) {
	t.Helper()
	keysOf := func(items []T) (keys []string) {
		for _, i := range items {
			keys = append(keys, key(i))
		}
		return keys
	}
	usual := keysOf(pagesOf(t, name, ask, ""))
	if len(usual) < 4 || len(slices.Compact(slices.Sorted(slices.Values(usual)))) != len(usual) {
		t.Fatalf("%s: %q", name, usual)
	}
	for by, value := range orders {
		for _, down := range []string{"", "-"} {
			items := pagesOf(t, name, ask, down+by)
			if got := slices.Sorted(slices.Values(keysOf(items))); !slices.Equal(got, slices.Sorted(slices.Values(usual))) {
				t.Errorf("%s by %s%s: %q, want %q", name, down, by, got, usual)
			}
			for i := 1; i < len(items); i++ {
				a, b := value(items[i-1]), value(items[i])
				if down != "" {
					a, b = b, a
				}
				wrong := false
				switch x := a.(type) {
				case int64:
					wrong = x > b.(int64)
				case float64:
					wrong = x > b.(float64)
				case string:
					wrong = x > b.(string)
				case time.Time:
					wrong = x.After(b.(time.Time))
				case netip.Addr:
					wrong = b.(netip.Addr).Less(x)
				}
				if wrong {
					t.Errorf("%s by %s%s: %v before %v", name, down, by, value(items[i-1]), value(items[i]))
				}
			}
		}
	}
	for _, bad := range []string{"nothing", "--" + name, "-"} {
		if _, _, err := ask(dmarc.Page{Limit: 3, Sort: dmarc.Sort(bad)}); !errors.Is(err, dmarc.ErrBadSort) {
			t.Errorf("%s by %s: %v", name, bad, err)
		}
	}
	for _, cursor := range []string{"x", "", "MTIz", "MSAy", "MSAyIDM", "bnVsbCBudWxs", "TmFOIHg", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5IDEgMQ", "LTEgLTEgLTE", "AAAA", "JTAwIAA"} {
		for by := range orders {
			if _, _, err := ask(dmarc.Page{Limit: 3, Sort: dmarc.Sort(by), After: dmarc.Cursor(cursor)}); err != nil && !errors.Is(err, dmarc.ErrBadCursor) {
				t.Errorf("%s by %s after %q: %v", name, by, cursor, err)
			}
		}
	}
}

func rateOf(n dmarc.Tally) any {
	if rate, ok := n.PassRate(); ok {
		return rate
	}
	return -1.0
}

func TestListsAreSortedAndPagedInEveryOrder(t *testing.T) {
	racetest.Calm(t)
	s, _ := family(t)
	add(t, s, tlsAndFailure())
	ctx := context.Background()
	q := dmarc.TrafficQuery{Domain: "a.example", Period: ever, Filter: dmarc.Filter{Subdomains: true, Aligned: dmarc.No}}
	holdsTo(t, "domains", func(p dmarc.Page) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
		return s.Domains(ctx, dmarc.DomainQuery{Scope: dmarc.Everything, Period: february, Page: p})
	}, func(d dmarc.DomainTraffic) string { return d.Domain }, map[string]func(dmarc.DomainTraffic) any{
		"messages": func(d dmarc.DomainTraffic) any { return d.Tally.Messages }, "failed": func(d dmarc.DomainTraffic) any { return d.Tally.Messages - d.Tally.DMARCPass },
		"pass_rate": func(d dmarc.DomainTraffic) any { return rateOf(d.Tally) }, "reports": func(d dmarc.DomainTraffic) any { return d.Reports }, "domain": func(d dmarc.DomainTraffic) any { return d.Domain },
	})
	sources := map[string]func(dmarc.SourceTraffic) any{
		"messages": func(d dmarc.SourceTraffic) any { return d.Tally.Messages }, "failed": func(d dmarc.SourceTraffic) any { return d.Tally.Messages - d.Tally.DMARCPass },
		"pass_rate": func(d dmarc.SourceTraffic) any { return rateOf(d.Tally) }, "quarantine": func(d dmarc.SourceTraffic) any { return d.Tally.Quarantine }, "reject": func(d dmarc.SourceTraffic) any { return d.Tally.Reject },
		"first_day": func(d dmarc.SourceTraffic) any { return d.FirstDay }, "last_day": func(d dmarc.SourceTraffic) any { return d.LastDay }, "source": func(d dmarc.SourceTraffic) any { return d.Source },
	}
	for name, q := range map[string]dmarc.TrafficQuery{"sources": {Domain: q.Domain, Period: february, Filter: dmarc.Filter{Subdomains: true, Source: netip.MustParsePrefix("192.0.1.0/25")}},
		"exact sources": {Domain: q.Domain, Exact: true, Period: ever, Filter: dmarc.Filter{Reporter: "org1.example"}}} {
		holdsTo(t, name, func(p dmarc.Page) ([]dmarc.SourceTraffic, dmarc.Cursor, error) {
			q.Page = p
			list, next, err := s.Sources(ctx, q)
			return list.Items, next, err
		}, func(d dmarc.SourceTraffic) string { return d.Source.String() }, sources)
	}
	holdsTo(t, "reporters", func(p dmarc.Page) ([]dmarc.ReporterTraffic, dmarc.Cursor, error) {
		q.Page = p
		return s.Reporters(ctx, q)
	}, func(d dmarc.ReporterTraffic) string { return d.Reporter.OrgName }, map[string]func(dmarc.ReporterTraffic) any{
		"messages": func(d dmarc.ReporterTraffic) any { return d.Tally.Messages }, "pass_rate": func(d dmarc.ReporterTraffic) any { return rateOf(d.Tally) },
		"reports": func(d dmarc.ReporterTraffic) any { return d.Reports }, "last_day": func(d dmarc.ReporterTraffic) any { return d.LastDay }, "org_name": func(d dmarc.ReporterTraffic) any { return d.Reporter.OrgName },
		"failed": func(d dmarc.ReporterTraffic) any { return d.Tally.Messages - d.Tally.DMARCPass }, "quarantine": func(d dmarc.ReporterTraffic) any { return d.Tally.Quarantine },
		"reject": func(d dmarc.ReporterTraffic) any { return d.Tally.Reject },
	})
	for name, q := range map[string]dmarc.ReportQuery{
		"reports":             {Scope: dmarc.Everything, Domain: "a.example", Period: february, Filter: dmarc.Filter{Subdomains: true, Aligned: dmarc.Yes}},
		"reports of a source": {Scope: dmarc.Everything, Domain: "a.example", Period: ever, Filter: dmarc.Filter{Source: netip.MustParsePrefix("192.0.1.0/26")}},
	} {
		holdsTo(t, name, func(p dmarc.Page) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
			q.Page = p
			return s.Reports(ctx, q)
		}, func(d dmarc.ReportSummary) string { return d.ID }, map[string]func(dmarc.ReportSummary) any{
			"begin": func(d dmarc.ReportSummary) any { return d.Report.Period.Begin }, "messages": func(d dmarc.ReportSummary) any { return d.Report.Tally.Messages },
			"failed": func(d dmarc.ReportSummary) any { return d.Report.Tally.Messages - d.Report.Tally.DMARCPass },
		})
	}
	holdsTo(t, "messages", func(p dmarc.Page) ([]dmarc.LedgerEntry, dmarc.Cursor, error) {
		return s.Messages(ctx, dmarc.MessageQuery{Scope: dmarc.Everything, Domain: "a.example", Subdomains: true, Page: p})
	}, func(d dmarc.LedgerEntry) string { return fmt.Sprint(d.ID) }, map[string]func(dmarc.LedgerEntry) any{"id": func(d dmarc.LedgerEntry) any { return d.ID }})
}
