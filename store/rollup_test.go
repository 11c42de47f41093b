package store_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// random makes reports as unlike as they come: of a day, some hours, a week, a
// year, the past, the future; some share an identity.
func random(rnd *rand.Rand, n int) (all []report) {
	results := []dmarc.Result{pass, fail, dmarc.ResultUnknown}
	for i := range n {
		r := report{
			domain: fmt.Sprintf("d%d.example", rnd.IntN(4)), org: fmt.Sprintf("org%d.example", rnd.IntN(5)), id: fmt.Sprint(rnd.IntN(n)),
			begin: day1.Add(time.Duration(rnd.IntN(20*24)) * time.Hour), length: 24*time.Hour - time.Second,
		}
		switch rnd.IntN(10) {
		case 0:
			r.length = time.Duration(rnd.IntN(10*24)) * time.Hour
		case 1:
			r.length = 366 * 24 * time.Hour
		case 2:
			r.begin = time.Date(1979, 1, 1, rnd.IntN(30), 0, 0, 0, time.UTC)
		case 3:
			r.begin = received.AddDate(0, 0, 2+rnd.IntN(40))
		}
		for range rnd.IntN(12) {
			row := dmarc.Row{
				Count: rnd.Int64N(100), DKIM: results[rnd.IntN(3)], SPF: results[rnd.IntN(3)], Disposition: dmarc.Disposition(rnd.IntN(5)),
				HeaderFrom: fmt.Sprintf("h%d.example", rnd.IntN(3)),
			}
			if rnd.IntN(10) > 0 {
				row.Source = netip.AddrFrom4([4]byte{192, 0, byte(rnd.IntN(2)), byte(i*7 + rnd.IntN(200))})
			}
			r.rows = append(r.rows, row)
		}
		all = append(all, r)
	}
	return all
}

// expectation is what the store must say, computed from reports one by one.
type expectation struct {
	dated, undated map[string]map[time.Time]dmarc.Tally // domain → day
	sources        map[string]map[string]dmarc.Tally    // domain → address
	reporters      map[string]map[string]dmarc.Tally    // domain → org_name
}

func expect(active iter.Seq[report]) expectation {
	e := expectation{map[string]map[time.Time]dmarc.Tally{}, map[string]map[time.Time]dmarc.Tally{}, map[string]map[string]dmarc.Tally{}, map[string]map[string]dmarc.Tally{}}
	for r := range active {
		a, _ := r.aggregate().Period.Attribute(received)
		days := e.dated
		if !a.Dated {
			days = e.undated
		}
		for _, row := range r.rows {
			for i, n := range a.Share(row.Count, nil) {
				var rows int64
				if a.Days[i].Equal(a.Main) {
					rows = 1
				}
				plus(days, r.domain, a.Days[i], row.Verdict(), rows, n)
				plus(e.reporters, r.domain, r.org, row.Verdict(), rows, n)
				if row.Source.IsValid() {
					plus(e.sources, r.domain, row.Source.String(), row.Verdict(), rows, n)
				} else {
					plus(e.sources, r.domain, "", row.Verdict(), rows, n)
				}
			}
		}
	}
	return e
}

func plus[K comparable](m map[string]map[K]dmarc.Tally, domain string, k K, v dmarc.Verdict, rows, n int64) {
	if m[domain] == nil {
		m[domain] = map[K]dmarc.Tally{}
	}
	t := m[domain][k]
	t.AddVerdict(v, rows, n)
	m[domain][k] = t
}

func TestRollupsEqualTheRowsWhateverComesInWhateverOrderAtOnce(t *testing.T) {
	s, db := open(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	reports := random(rnd, 400)

	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w * 100; i < (w+1)*100; i += 10 {
				var ds []dmarc.Delivery
				for j := range 10 {
					d := mail(uint32(i+j+1), reports[i+j])
					d.Mailbox = fmt.Sprint("box", w)
					ds = append(ds, d)
				}
				if _, err := s.Add(context.Background(), ds); err != nil {
					t.Error(err)
				}
				if w == 0 {
					if err := s.SummariseSources(context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
		}()
	}
	wg.Wait()
	if err := s.SummariseSources(context.Background()); err != nil {
		t.Fatal(err)
	}

	// Which of several reports of one identity counts depends on the order in
	// which they came: the database says which.
	active := map[string]bool{}
	rows, err := db.Query(context.Background(), "SELECT hash FROM reports WHERE active")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var hash []byte
		if err := rows.Scan(&hash); err != nil {
			t.Fatal(err)
		}
		active[string(hash)] = true
	}
	most := map[string]int64{} // messages of the largest report of each identity
	chosen := map[string]report{}
	for _, r := range reports {
		rep := r.aggregate()
		k := fmt.Sprint(r.domain, r.org, r.id, rep.Period)
		most[k] = max(most[k], rep.Tally.Messages)
		if active[string(rep.Hash[:])] {
			chosen[k] = r
		}
	}
	if len(chosen) != len(most) || len(active) != len(chosen) {
		t.Errorf("%d identities, %d of them active, %d active hashes", len(most), len(chosen), len(active))
	}
	for k, r := range chosen {
		if n := r.aggregate().Tally.Messages; n != most[k] {
			t.Errorf("%s: a report with %d messages counts, another has %d", k, n, most[k])
		}
	}
	want := expect(func(yield func(report) bool) {
		for _, r := range chosen {
			if !yield(r) {
				return
			}
		}
	})

	ever := dmarc.Period{Begin: time.Unix(0, 0).UTC(), End: received.AddDate(1, 0, 0)}
	for domain := range want.reporters {
		sum, err := s.Summary(context.Background(), dmarc.TrafficQuery{Domain: domain, Period: ever})
		if err != nil {
			t.Fatal(err)
		}
		dated := map[time.Time]dmarc.Tally{}
		for _, d := range sum.Days {
			if d.Tally != (dmarc.Tally{}) {
				dated[d.Day] = d.Tally
			}
		}
		if w := nonzero(want.dated[domain]); !reflect.DeepEqual(dated, w) {
			t.Errorf("%s: days\n%v, want\n%v", domain, dated, w)
		}
		var undated dmarc.Tally
		for _, t := range want.undated[domain] {
			undated.Merge(t)
		}
		if sum.Undated != undated {
			t.Errorf("%s: undated %+v, want %+v", domain, sum.Undated, undated)
		}

		reporters := map[string]dmarc.Tally{}
		q := dmarc.TrafficQuery{Domain: domain, Period: ever, Page: dmarc.Page{Limit: 2}}
		for {
			items, next, err := s.Reporters(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range items {
				reporters[r.Reporter.OrgName] = r.Tally
			}
			if next == "" {
				break
			}
			q.After = next
		}
		if !reflect.DeepEqual(nonzero(reporters), nonzero(want.reporters[domain])) {
			t.Errorf("%s: reporters\n%v, want\n%v", domain, reporters, want.reporters[domain])
		}

		sources := map[string]dmarc.Tally{}
		q = dmarc.TrafficQuery{Domain: domain, Period: ever, Page: dmarc.Page{Limit: 7}}
		for {
			list, next, err := s.Sources(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			if list.Pending || list.Others != (dmarc.Tally{}) {
				t.Errorf("%s: pending %v, others %+v", domain, list.Pending, list.Others)
			}
			sources[""] = list.Unknown
			for _, r := range list.Items {
				sources[r.Source.String()] = r.Tally
			}
			if next == "" {
				if int64(len(sources)-1) != list.Total {
					t.Errorf("%s: %d sources over all pages, total says %d", domain, len(sources)-1, list.Total)
				}
				break
			}
			q.After = next
		}
		if w := want.sources[domain]; !reflect.DeepEqual(nonzero(sources), nonzero(w)) {
			t.Errorf("%s: sources\n%v, want\n%v", domain, sources, w)
		}
	}

	// All domains at a glance: the same totals, over pages.
	var names []string
	q := dmarc.DomainQuery{Scope: dmarc.Everything, Period: ever, Trend: ever, Page: dmarc.Page{Limit: 1}}
	for {
		items, next, err := s.Domains(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range items {
			names = append(names, d.Domain)
			sum, _ := s.Summary(context.Background(), dmarc.TrafficQuery{Domain: d.Domain, Period: ever})
			if d.Tally != sum.Tally || d.Reports != sum.Reports || !reflect.DeepEqual(d.Days, sum.Days) {
				t.Errorf("%s: %+v, want %+v", d.Domain, d, sum)
			}
		}
		if next == "" {
			break
		}
		q.After = next
	}
	if len(names) != 4 {
		t.Errorf("domains = %v", names)
	}
}

func nonzero[K comparable](m map[K]dmarc.Tally) map[K]dmarc.Tally {
	out := map[K]dmarc.Tally{}
	for k, t := range m {
		if t != (dmarc.Tally{}) {
			out[k] = t
		}
	}
	return out
}

func TestSourcesBeyondTheBusiestAreSummed(t *testing.T) {
	s, _ := open(t)
	var rows []dmarc.Row
	for i := range 300 {
		rows = append(rows, row(fmt.Sprintf("198.51.%d.%d", i/250, i%250+1), int64(1000-i), pass, pass, dmarc.DispositionNone))
	}
	add(t, s, mail(1, daily("1", rows...)))
	list, _, err := s.Sources(context.Background(), dmarc.TrafficQuery{Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 1000}})
	if err != nil || !list.Pending || len(list.Items) != 0 {
		t.Errorf("before the pass: %+v, %v", list, err)
	}
	if err := s.SummariseSources(context.Background()); err != nil {
		t.Fatal(err)
	}
	list, _, err = s.Sources(context.Background(), dmarc.TrafficQuery{Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 1000}})
	if err != nil || list.Pending || len(list.Items) != 100 || list.Total != 100 {
		t.Fatalf("%d of %d sources, pending %v, %v", len(list.Items), list.Total, list.Pending, err)
	}
	sum := list.Others
	for _, i := range list.Items {
		sum.Merge(i.Tally)
	}
	if want := summary(t, s, "example.com").Tally; sum != want || list.Others.Rows != 200 {
		t.Errorf("sources and others = %+v, want %+v", sum, want)
	}
}
