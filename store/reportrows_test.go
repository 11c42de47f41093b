package store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

// all reads the rows that a question is about, a page at a time.
func all(t *testing.T, s *store.Store, q dmarc.RowQuery) (rows []dmarc.Row, last dmarc.RowList) {
	t.Helper()
	for pages := 0; ; pages++ {
		list, next, err := s.ReportRows(context.Background(), q)
		if err != nil || pages > 1000 {
			t.Fatalf("page %d of %+v: %v", pages, q, err)
		}
		rows, last = append(rows, list.Items...), list
		if next == "" {
			return rows, last
		}
		q.After = next
	}
}

func TestRowsOfAReportAreSortedChosenAndPaged(t *testing.T) {
	s, _ := open(t)
	var rows []dmarc.Row
	for i := range 230 {
		r := row(fmt.Sprintf("192.0.2.%d", i%100), int64(1+i*7%40), fail, fail, dmarc.DispositionNone)
		switch {
		case i%5 == 0:
			r.DKIM, r.AuthDKIM[0].Result = pass, pass
		case i%5 == 1:
			r.Disposition = dmarc.DispositionReject
		case i%5 == 2:
			r.Source = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i))
		case i%5 == 3 && i%2 == 0:
			r.Source, r.SourceText, r.Flags = netip.Addr{}, "no address", dmarc.RowNoSource
		}
		if i%5 == 4 {
			r.Ours.Disagreement = dmarc.FailDespiteProof
		}
		rows = append(rows, r)
	}
	rep := daily("1", rows...)
	add(t, s, mail(1, rep), mail(2, daily("2", rows[:3]...)))
	list, _, err := s.Reports(context.Background(), dmarc.ReportQuery{Scope: dmarc.Everything, Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 5}})
	if err != nil || len(list) != 2 {
		t.Fatalf("%d reports, %v", len(list), err)
	}
	id := list[slices.IndexFunc(list, func(r dmarc.ReportSummary) bool { return r.Report.ID == "1" })].ID

	busiest := func(a, b dmarc.Row) int { return cmp.Compare(b.Count, a.Count) }
	passed := func(r dmarc.Row) bool { return r.Passes() }
	for name, c := range map[string]struct {
		q    dmarc.RowQuery
		keep func(dmarc.Row) bool
		less func(a, b dmarc.Row) int
	}{
		"busiest": {dmarc.RowQuery{}, nil, busiest},
		"failing": {dmarc.RowQuery{Order: dmarc.RowsFailing}, nil, func(a, b dmarc.Row) int {
			if passed(a) != passed(b) {
				return map[bool]int{true: 1, false: -1}[passed(a)]
			}
			return busiest(a, b)
		}},
		"source": {dmarc.RowQuery{Order: dmarc.RowsBySource}, nil, func(a, b dmarc.Row) int {
			if a.Source.IsValid() != b.Source.IsValid() {
				return map[bool]int{true: -1, false: 1}[a.Source.IsValid()]
			}
			return a.Source.Compare(b.Source)
		}},
		"stored":  {dmarc.RowQuery{Order: dmarc.RowsStored}, nil, func(a, b dmarc.Row) int { return 0 }},
		"passed":  {dmarc.RowQuery{Choice: dmarc.RowsPassed}, passed, busiest},
		"failed":  {dmarc.RowQuery{Choice: dmarc.RowsFailed}, func(r dmarc.Row) bool { return !passed(r) }, busiest},
		"stopped": {dmarc.RowQuery{Choice: dmarc.RowsStopped}, func(r dmarc.Row) bool { return r.Disposition == dmarc.DispositionReject }, busiest},
		"odd": {dmarc.RowQuery{Choice: dmarc.RowsOdd, Order: dmarc.RowsStored},
			func(r dmarc.Row) bool { return r.Flags != 0 || r.Ours.Disagreement != 0 }, func(a, b dmarc.Row) int { return 0 }},
		"network": {dmarc.RowQuery{Source: netip.MustParsePrefix("192.0.2.16/28"), Choice: dmarc.RowsFailed},
			func(r dmarc.Row) bool { return netip.MustParsePrefix("192.0.2.16/28").Contains(r.Source) && !passed(r) }, busiest},
		"address": {dmarc.RowQuery{Source: netip.MustParsePrefix("2001:db8::7/128")}, func(r dmarc.Row) bool { return r.Source == netip.MustParseAddr("2001:db8::7") }, busiest},
		"nobody":  {dmarc.RowQuery{Source: netip.MustParsePrefix("198.51.100.0/24")}, func(dmarc.Row) bool { return false }, busiest},
	} {
		want := slices.DeleteFunc(slices.Clone(rows), func(r dmarc.Row) bool { return c.keep != nil && !c.keep(r) })
		slices.SortStableFunc(want, c.less)
		c.q.Report, c.q.Page.Limit = id, 23
		got, list := all(t, s, c.q)
		if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d rows, want %d, or they are others\n%+v\n%+v", name, len(got), len(want), got[:min(3, len(got))], want[:min(3, len(want))])
		}
		var messages int64
		for _, r := range want {
			messages += r.Count
		}
		if list.Rows != int64(len(want)) || list.Messages != messages {
			t.Errorf("%s: %d rows and %d messages are counted, want %d and %d", name, list.Rows, list.Messages, len(want), messages)
		}
	}

	for _, cursor := range []dmarc.Cursor{"x", "MCAw", "MCAwIDAuMC4wLjAgKDk5OTk5OTk5OTk5OTksMSkgMQ", "MCAwIHggKDAsMSkgMQ"} {
		if _, _, err := s.ReportRows(context.Background(), dmarc.RowQuery{Report: id, Page: dmarc.Page{Limit: 1, After: cursor}}); !errors.Is(err, dmarc.ErrBadCursor) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
	for _, unknown := range []string{"1-999999", "999-1", "x"} {
		if _, _, err := s.ReportRows(context.Background(), dmarc.RowQuery{Report: unknown, Page: dmarc.Page{Limit: 1}}); !errors.Is(err, dmarc.ErrNotFound) {
			t.Errorf("report %q: %v", unknown, err)
		}
	}
}

// What is told of TLS is what the reports that count tell, and of a report with policies
// of several domains only what is in the scope.
func TestTLSSessionsAreSummedByDayPolicyAndFailure(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	second := tlsReport("2", 20, 6)
	second.Period.Begin, second.Period.End = day1.Add(24*time.Hour), day1.Add(48*time.Hour-time.Second)
	second.Policies[0].Details = []dmarc.TLSFailure{
		{ResultType: "sts-webpki-invalid", FailedSessions: 3, ReceivingMXHost: "mx2.example.com", FailureReasonCode: "old name"},
		{ResultType: "my-own-word", FailedSessions: 2},
	}
	second.Policies = append(second.Policies, dmarc.TLSPolicy{Type: "tlsa", Domain: "mx.elsewhere.example", Successful: 7, Failed: 1,
		Details: []dmarc.TLSFailure{{ResultType: "tlsa-invalid", FailedSessions: 1, ReceivingMXHost: "mx.elsewhere.example"}}})
	for i, rep := range []*dmarc.TLSReport{tlsReport("1", 5, 1), tlsReport("1", 9, 1), second} {
		d := mail(uint32(i + 1))
		d.Parts = []dmarc.Part{{Path: "2", TLS: rep}}
		add(t, s, d)
	}
	q := dmarc.TLSQuery{Scope: dmarc.Everything, Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 10}}
	got, err := s.TLSTraffic(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	day2 := day1.Add(24 * time.Hour)
	want := dmarc.TLSTraffic{
		Reports: 2, Successful: 36, Failed: 8, Unexplained: 1,
		Days: []dmarc.TLSDay{
			{Day: day1, Successful: 9, Failed: 1, ByResult: map[string]int64{"certificate-expired": 1}},
			{Day: day2, Successful: 27, Failed: 7, ByResult: map[string]int64{"sts-webpki-invalid": 3, "tlsa-invalid": 1, "": 2}},
		},
		Policies: []dmarc.TLSPolicyTraffic{
			{Type: "sts", Domain: "example.com", Strings: []string{"version: STSv1", "mode: testing"}, Successful: 29, Failed: 7, Reports: 2, LastDay: day2},
			{Type: "tlsa", Domain: "mx.elsewhere.example", Strings: []string{}, Successful: 7, Failed: 1, Reports: 1, LastDay: day2},
		},
		Failures: []dmarc.TLSFailureTraffic{
			{ResultType: "sts-webpki-invalid", MX: "mx2.example.com", Sessions: 3, Reporters: 1, FirstDay: day2, LastDay: day2, Reason: "old name"},
			{ResultType: "my-own-word", Sessions: 2, Reporters: 1, FirstDay: day2, LastDay: day2},
			{ResultType: "certificate-expired", MX: "mx.example.com", Sessions: 1, Reporters: 1, FirstDay: day1, LastDay: day1},
			{ResultType: "tlsa-invalid", MX: "mx.elsewhere.example", Sessions: 1, Reporters: 1, FirstDay: day2, LastDay: day2},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	q.Scope = dmarc.ScopeOf("example.com")
	if got, err := s.TLSTraffic(ctx, q); err != nil || got.Successful != 29 || got.Failed != 7 || len(got.Policies) != 1 || len(got.Failures) != 3 {
		t.Errorf("in the scope of one domain: %+v, %v", got, err)
	}
	for _, c := range []struct {
		scope              dmarc.Scope
		n                  int
		successful, failed int64
	}{{dmarc.Everything, 1, 36, 8}, {dmarc.ScopeOf("example.com"), 1, 29, 7}, {dmarc.ScopeOf("other.example"), 0, 0, 0}} {
		list, next, err := s.TLSDomains(ctx, dmarc.TLSQuery{Scope: c.scope, Period: february, Page: dmarc.Page{Limit: 1}})
		if err != nil || next != "" || len(list) != c.n || c.n > 0 && list[0] != (dmarc.TLSDomain{Domain: "example.com", Reports: 2, Successful: c.successful, Failed: c.failed, LastDay: day2}) {
			t.Errorf("%+v: %+v, next %q, %v", c.scope, list, next, err)
		}
	}
	if got, err := s.TLSTraffic(ctx, dmarc.TLSQuery{Scope: dmarc.Everything, Domain: "never.example", Period: february}); err != nil || got.Reports != 0 {
		t.Errorf("a domain without reports: %+v, %v", got, err)
	}
}
