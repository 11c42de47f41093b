package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/store"
)

var received = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A report is described by what the tests vary.
type report struct {
	domain, org, id string
	begin           time.Time
	length          time.Duration
	rows            []dmarc.Row
}

// aggregate makes the report that a parser would make of it.
func (r report) aggregate() *dmarc.AggregateReport {
	rep := &dmarc.AggregateReport{
		Reporter: dmarc.Reporter{OrgName: r.org, Email: "noreply@" + r.org},
		ID:       r.id,
		Period:   dmarc.Period{Begin: r.begin, End: r.begin.Add(r.length)},
		Policy:   dmarc.PolicyPublished{Domain: r.domain, P: dmarc.PolicyNone, ADKIM: dmarc.AlignmentRelaxed},
	}
	var f dmarc.Fingerprint
	for i := range r.rows {
		rep.Tally.Add(&r.rows[i])
		f.Add(&r.rows[i])
	}
	rep.Hash, rep.RowsHash = f.Sum(rep), f.Rows()
	rep.Rows = func(yield func(*dmarc.Row, error) bool) {
		for i := range r.rows {
			if !yield(&r.rows[i], nil) {
				return
			}
		}
	}
	return rep
}

type blob []byte

func (b blob) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(b).ReadAt(p, off) }
func (b blob) Size() int64                             { return int64(len(b)) }

// mail makes a delivery from a mailbox that carries reports.
func mail(uid uint32, reports ...report) dmarc.Delivery {
	raw := blob(fmt.Sprintf("mail %d", uid))
	place := dmarc.Place{UIDValidity: 7, UID: uid}
	d := dmarc.Delivery{
		Mailbox: "inbox", Place: place, Reached: place, Digest: sha256.Sum256(raw), Raw: raw, Size: raw.Size(), ReceivedAt: received,
	}
	for i, r := range reports {
		d.Parts = append(d.Parts, dmarc.Part{Path: fmt.Sprint(i + 1), Aggregate: r.aggregate()})
	}
	return d
}

func add(t *testing.T, s *store.Store, ds ...dmarc.Delivery) []dmarc.Fate {
	t.Helper()
	fates, err := s.Add(context.Background(), ds)
	if err != nil {
		t.Fatal(err)
	}
	return fates
}

func outcomes(fates []dmarc.Fate) (all []dmarc.Outcome) {
	for _, f := range fates {
		all = append(all, f.Outcome)
	}
	return all
}

func row(source string, n int64, dkim, spf dmarc.Result, d dmarc.Disposition) dmarc.Row {
	return dmarc.Row{Source: netip.MustParseAddr(source), Count: n, DKIM: dkim, SPF: spf, Disposition: d, HeaderFrom: "example.com", EnvelopeFrom: "bounce.example.com",
		AuthDKIM: []dmarc.DKIMResult{{Domain: "example.com", Selector: "s1", Result: dkim}}}
}

const (
	pass = dmarc.ResultPass
	fail = dmarc.ResultFail
)

var day1 = time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC)

func daily(id string, rows ...dmarc.Row) report {
	return report{"example.com", "reporter.example", id, day1, 24*time.Hour - time.Second, rows}
}

var february = dmarc.Period{Begin: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}

func summary(t *testing.T, s *store.Store, domain string) dmarc.DomainSummary {
	t.Helper()
	sum, err := s.Summary(context.Background(), dmarc.TrafficQuery{Domain: domain, Period: february})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestAReportIsCountedOnceHoweverOftenItComes(t *testing.T) {
	s, _ := open(t)
	rep := daily("1", row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone), row("192.0.2.2", 2, fail, fail, dmarc.DispositionReject))
	want := dmarc.Tally{Rows: 2, Messages: 7, DMARCPass: 5, DKIMAligned: 5, None: 5, Reject: 2}

	first := add(t, s, mail(1, rep))
	if got := outcomes(first); !reflect.DeepEqual(got, []dmarc.Outcome{dmarc.OutcomeOK}) || first[0].Added != 1 || first[0].Rows != 2 {
		t.Errorf("first: %+v", first)
	}
	if again := add(t, s, mail(1, rep)); !again[0].Known || again[0].Outcome != dmarc.OutcomeOK || again[0].Added != 0 {
		t.Errorf("the same message: %+v", again)
	}
	if again := add(t, s, mail(2, rep), mail(3, rep)); !reflect.DeepEqual(outcomes(again), []dmarc.Outcome{dmarc.OutcomeDuplicate, dmarc.OutcomeDuplicate}) {
		t.Errorf("other messages with the same report: %+v", again)
	}
	both := add(t, s, mail(4, daily("2", rep.rows...), daily("2", rep.rows...)))
	if both[0].Added != 1 || both[0].Duplicate != 1 || both[0].Outcome != dmarc.OutcomeOK {
		t.Errorf("twice in one message: %+v", both)
	}
	want.Merge(want)
	sum := summary(t, s, "example.com")
	if sum.Tally != want || sum.Reports != 2 || len(sum.Days) != 1 || !sum.Days[0].Day.Equal(day1) {
		t.Errorf("summary = %+v, want %+v on one day", sum, want)
	}
	place, err := s.Place(context.Background(), "inbox")
	if err != nil || place != (dmarc.Place{UIDValidity: 7, UID: 4}) {
		t.Errorf("place = %+v, %v", place, err)
	}
}

func TestOfConflictingReportsTheLargerCountsAndOnATieTheLater(t *testing.T) {
	s, _ := open(t)
	small := daily("1", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))
	large := daily("1", row("192.0.2.1", 6, pass, fail, dmarc.DispositionNone), row("192.0.2.1", 3, fail, fail, dmarc.DispositionNone))
	equal := daily("1", row("192.0.2.9", 9, fail, fail, dmarc.DispositionQuarantine))
	for i, step := range []struct {
		add  report
		want dmarc.Outcome
		sum  dmarc.Tally
	}{
		{small, dmarc.OutcomeOK, dmarc.Tally{Rows: 1, Messages: 5, DMARCPass: 5, DKIMAligned: 5, SPFAligned: 5, None: 5}},
		{large, dmarc.OutcomeConflict, dmarc.Tally{Rows: 2, Messages: 9, DMARCPass: 6, DKIMAligned: 6, None: 9}},
		{small, dmarc.OutcomeDuplicate, dmarc.Tally{Rows: 2, Messages: 9, DMARCPass: 6, DKIMAligned: 6, None: 9}},
		{equal, dmarc.OutcomeConflict, dmarc.Tally{Rows: 1, Messages: 9, Quarantine: 9}},
		{large, dmarc.OutcomeDuplicate, dmarc.Tally{Rows: 1, Messages: 9, Quarantine: 9}},
	} {
		fates := add(t, s, mail(uint32(i+1), step.add))
		if got := outcomes(fates); got[0] != step.want {
			t.Errorf("step %d: %s (%s), want %s", i, got[0], fates[0].Reason, step.want)
		}
		if sum := summary(t, s, "example.com"); sum.Tally != step.sum || sum.Reports != 1 {
			t.Errorf("step %d: %+v, want %+v", i, sum, step.sum)
		}
	}
	// All three in one batch come to the same.
	s2, _ := open(t)
	add(t, s2, mail(1, small), mail(2, large, small), mail(3, equal))
	if got, want := summary(t, s2, "example.com").Tally, summary(t, s, "example.com").Tally; got != want {
		t.Errorf("in one batch: %+v, want %+v", got, want)
	}
}

func TestReportsThatOverlapOrSayTheSameAreFlagged(t *testing.T) {
	s, db := open(t)
	one, two := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone), row("192.0.2.2", 2, fail, fail, dmarc.DispositionReject)
	weekly := daily("week", one, two)
	weekly.length = 7 * 24 * time.Hour
	other := daily("other reporter", one)
	other.org = "another.example"
	exclusive := daily("ends at midnight", two)
	exclusive.begin, exclusive.length = day1.AddDate(0, 0, -1), 24*time.Hour
	add(t, s, mail(1, daily("first", one)), mail(2, daily("same rows", one), daily("other rows", two)))
	add(t, s, mail(3, other), mail(4, exclusive), mail(5, weekly), mail(6, daily("first", one)))
	rows, _ := db.Query(context.Background(), "SELECT report_id, flags FROM reports ORDER BY id")
	got := map[string]dmarc.Flags{}
	var id string
	var flags int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &flags}, func() error {
		got[id] = dmarc.Flags(flags)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// Of two in one batch, each is another report of the other.
	want := map[string]dmarc.Flags{
		"first": 0, "same rows": dmarc.FlagPossibleDoubleCount, "other rows": 0, "other reporter": 0, "ends at midnight": 0, "week": dmarc.FlagOverlaps,
	}
	got["first"] &^= dmarc.FlagPossibleDoubleCount
	if !reflect.DeepEqual(got, want) {
		t.Errorf("flags = %v, want %v", got, want)
	}
	list, _, err := s.Reports(context.Background(), dmarc.ReportQuery{Scope: dmarc.Everything, Domain: "example.com", Flags: dmarc.FlagOverlaps | dmarc.FlagNoRows, Period: february, Page: dmarc.Page{Limit: 9}})
	if err != nil || len(list) != 1 || list[0].Report.ID != "week" {
		t.Errorf("reports that overlap: %d, %v", len(list), err)
	}
}

func TestAMessageThatTheDatabaseRefusesIsSetAside(t *testing.T) {
	s, _ := open(t)
	good := daily("1", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))
	broken := mail(2, daily("2", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone)))
	broken.Parts[0].Aggregate.Rows = func(yield func(*dmarc.Row, error) bool) {
		yield(nil, &dmarc.Error{Outcome: dmarc.OutcomeBadXML, Reason: "it breaks off"})
	}
	unfit := mail(3, daily("3", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone)))
	unfit.Parts[0].Aggregate.Period.End = time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC) // no timestamp of PostgreSQL
	fates := add(t, s, mail(1, good), broken, unfit, mail(4, daily("4", good.rows...)))
	want := []dmarc.Outcome{dmarc.OutcomeOK, dmarc.OutcomeBadXML, dmarc.OutcomeNotStored, dmarc.OutcomeOK}
	if got := outcomes(fates); !reflect.DeepEqual(got, want) {
		t.Errorf("outcomes = %v, want %v", got, want)
	}
	if got := summary(t, s, "example.com"); got.Tally.Messages != 10 || got.Reports != 2 {
		t.Errorf("summary = %+v", got)
	}
	entries, _, err := s.Messages(context.Background(), dmarc.MessageQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: 10}})
	if err != nil || len(entries) != 4 {
		t.Errorf("%d lines in the ledger, %v", len(entries), err)
	}
}

func TestTextThatPostgreSQLCannotHoldIsCleaned(t *testing.T) {
	s, _ := open(t)
	rep := daily("nul\x00 and \xff", dmarc.Row{
		Count: 1, SourceText: "X.\x00X", HeaderFrom: "a\x00\xfe.example", EnvelopeTo: "\xff", DispositionWord: "\x00odd",
		Reasons: []dmarc.Reason{{Type: "local_policy", Comment: "\x00\xff"}},
	})
	rep.org = "org\x00\xff"
	if got := outcomes(add(t, s, mail(1, rep))); got[0] != dmarc.OutcomeOK {
		t.Errorf("outcome = %s", got[0])
	}
}

func TestTheArchiveGivesBackTheBytes(t *testing.T) {
	s, _ := open(t)
	raw := make(blob, 5<<20)
	src := rand.NewChaCha8([32]byte{1})
	src.Read(raw)
	d := mail(1, daily("1", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone)))
	d.Raw, d.Digest, d.Size = raw, sha256.Sum256(raw), raw.Size()
	add(t, s, d, mail(2, daily("2")))
	reports, _, err := s.Reports(context.Background(), dmarc.ReportQuery{Scope: dmarc.Everything, Period: february, Page: dmarc.Page{Limit: 10}})
	if err != nil || len(reports) != 2 {
		t.Fatalf("%d reports, %v", len(reports), err)
	}
	for _, rep := range reports {
		want := []byte(raw)
		if rep.Report.ID == "2" {
			want = []byte("mail 2")
		}
		r, entry, err := s.Raw(context.Background(), rep.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, want) || entry.Size != int64(len(want)) {
			t.Errorf("report %s: %d bytes, %v; want %d", rep.Report.ID, len(got), err, len(want))
		}
	}
	if _, _, err := s.Raw(context.Background(), "9-9"); !errors.Is(err, dmarc.ErrNotFound) {
		t.Errorf("unknown report: %v", err)
	}
}

func TestAStoredReportComesBackAsItWas(t *testing.T) {
	s, _ := open(t)
	want := report{"example.com", "reporter.example", "1", day1, 24 * time.Hour, []dmarc.Row{
		{
			Source: netip.MustParseAddr("2001:db8::1"), Count: 5, Disposition: dmarc.DispositionPass, DKIM: pass, SPF: fail,
			Reasons:    []dmarc.Reason{{Type: "local_policy", Comment: "arc=pass"}},
			HeaderFrom: "example.com", EnvelopeFrom: "bounce.example.net", EnvelopeTo: "example.org",
			AuthDKIM: []dmarc.DKIMResult{{Domain: "example.com", Selector: "k1", Result: pass}, {Domain: "example.net", Result: dmarc.ResultPermError, Word: "error", Human: "no key"}},
			AuthSPF:  []dmarc.SPFResult{{Domain: "bounce.example.net", Scope: "mfrom", Result: dmarc.ResultSoftFail}},
			Ours:     dmarc.Alignment{DKIM: true, Disagreement: dmarc.VerdictMissing}, Flags: dmarc.RowUnknownWords,
		},
		{SourceText: "X.X.X.X", Count: 2, DispositionWord: "odd", NullSender: true, Flags: dmarc.RowNoSource},
		{Source: netip.MustParseAddr("192.0.2.1"), SPF: pass, DKIM: fail, Disposition: dmarc.DispositionNone, HeaderFrom: "example.com"},
	}}
	add(t, s, mail(1, want))
	list, _, err := s.Reports(context.Background(), dmarc.ReportQuery{Scope: dmarc.Everything, Domain: "example.com", Filter: dmarc.Filter{Reporter: "reporter.example"}, Period: february, Page: dmarc.Page{Limit: 10}})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d reports, %v", len(list), err)
	}
	got, err := s.Report(context.Background(), list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	var rows []dmarc.Row
	for r, err := range got.Report.Rows {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r.Clone())
	}
	for i := range want.rows {
		w := want.rows[i].Clone()
		if i >= len(rows) || !reflect.DeepEqual(rows[i], w) {
			t.Errorf("row %d:\n%+v, want\n%+v", i, rows, w)
		}
	}
	wantRep := want.aggregate()
	got.Report.Rows, wantRep.Rows = nil, nil
	if !reflect.DeepEqual(got.Report, *wantRep) {
		t.Errorf("report\n%+v, want\n%+v", got.Report, *wantRep)
	}
}

func TestCursorsOfStrangersAreRefused(t *testing.T) {
	s, _ := open(t)
	add(t, s, mail(1, daily("1", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))))
	ctx := context.Background()
	for _, c := range []dmarc.Cursor{"x", "!!", "MTIz", "LTk5OTk5OTk5OTk5OTk5OTk5OTkgMSAx", "OTIyMzM3MjAzNjg1NDc3NTgwNyAxIDE", "MQB4"} {
		page := dmarc.Page{After: c, Limit: 5}
		_, _, e1 := s.Reports(ctx, dmarc.ReportQuery{Scope: dmarc.Everything, Period: february, Page: page})
		_, _, e2 := s.Failures(ctx, dmarc.FailureQuery{Scope: dmarc.Everything, Period: february, Page: page})
		_, _, e3 := s.TLS(ctx, dmarc.TLSQuery{Scope: dmarc.Everything, Period: february, Page: page})
		_, _, e4 := s.Sources(ctx, dmarc.TrafficQuery{Domain: "example.com", Period: february, Page: page})
		for i, err := range []error{e1, e2, e3, e4} {
			if !errors.Is(err, dmarc.ErrBadCursor) {
				t.Errorf("cursor %q, list %d: %v", c, i, err)
			}
		}
	}
}

func TestAChosenReportStaysWhateverComesLater(t *testing.T) {
	s, _ := open(t)
	small := daily("1", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))
	large := daily("1", row("192.0.2.1", 9, fail, fail, dmarc.DispositionNone))
	larger := daily("1", row("192.0.2.1", 50, fail, fail, dmarc.DispositionNone))
	add(t, s, mail(1, small), mail(2, large))
	ctx := context.Background()
	list, _, err := s.Reports(ctx, dmarc.ReportQuery{Scope: dmarc.Everything, Inactive: true, Period: february, Page: dmarc.Page{Limit: 10}})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d reports, %v", len(list), err)
	}
	var refusal dmarc.Refusal
	if err := s.Activate(ctx, list[0].ID, large.aggregate(), true); !errors.As(err, &refusal) {
		t.Errorf("with other content: %v", err)
	}
	if err := s.Activate(ctx, list[0].ID, small.aggregate(), true); err != nil {
		t.Fatal(err)
	}
	if fates := add(t, s, mail(3, larger)); fates[0].Outcome != dmarc.OutcomeConflict {
		t.Errorf("%+v", fates)
	}
	if sum := summary(t, s, "example.com"); sum.Tally.Messages != 5 || sum.Reports != 1 {
		t.Errorf("%+v", sum)
	}
	others, _, err := s.Alternatives(ctx, list[0].ID, dmarc.Page{Limit: 10})
	if err != nil || len(others) != 2 || others[0].Active || others[1].Active || others[0].Report.Tally.Messages != 50 {
		t.Errorf("alternatives: %+v, %v", others, err)
	}
	if _, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%q", found)
	}
}

// A group that is larger than a quarter of a page would be kept in two places.
func TestGroupsOfRowsFitIntoAQuarterOfAPage(t *testing.T) {
	s, db := open(t)
	var all [3][]dmarc.Row
	for i := range 500 {
		r := row(fmt.Sprintf("198.51.%d.%d", i/250, i%250+1), 1, pass, pass, dmarc.DispositionNone)
		all[0] = append(all[0], r)
		r.Source = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))
		all[1] = append(all[1], r)
		r.Flags, r.EnvelopeFrom, r.EnvelopeTo = dmarc.RowForeignAuthor, "bounce.example.com", "example.org"
		if i%3 == 0 {
			r.Source, r.EnvelopeFrom, r.EnvelopeTo = netip.MustParseAddr("192.0.2.1"), "", ""
		}
		all[2] = append(all[2], r)
	}
	for i, rows := range all {
		add(t, s, mail(uint32(i+1), daily(fmt.Sprint(i), rows...)))
	}
	var rows, groups, elsewhere int
	const sizes = `
		SELECT (SELECT count(*) FROM rows), (SELECT count(*) FROM row_groups), sum(pg_relation_size(c.reltoastrelid))
		FROM pg_inherits i
		JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'row_groups'::regclass`
	if err := db.QueryRow(t.Context(), sizes).Scan(&rows, &groups, &elsewhere); err != nil {
		t.Fatal(err)
	}
	if rows != 1500 || groups > 70 || elsewhere != 0 {
		t.Errorf("%d rows in %d groups, %d bytes elsewhere", rows, groups, elsewhere)
	}
}
