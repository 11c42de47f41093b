package parse

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func readParsedmarc(t *testing.T, text string, change ...func(*Limits)) *Found {
	t.Helper()
	limits := DefaultLimits
	for _, f := range change {
		f(&limits)
	}
	found, err := readMessage(context.Background(), bytes.NewReader([]byte(text)), "aggregate.json", limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { found.Close() })
	return found
}

func parsedmarcFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "parsedmarc", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func rowsOf(t *testing.T, rep *dmarc.AggregateReport) []dmarc.Row {
	t.Helper()
	var rows []dmarc.Row
	for row, err := range rep.Rows {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row.Clone())
	}
	return rows
}

// What parsedmarc wrote of a report says the same as the report itself: who,
// what, when, and every row.
func TestParsedmarcSaysTheSameAsTheReport(t *testing.T) {
	xml, err := os.ReadFile(filepath.Join("testdata", "parsedmarc", "report.xml"))
	if err != nil {
		t.Fatal(err)
	}
	original, err := readMessage(context.Background(), bytes.NewReader(xml), "", DefaultLimits)
	if err != nil || len(original.Parts) != 1 {
		t.Fatal(original, err)
	}
	defer original.Close()
	want := original.Parts[0].Aggregate
	for _, name := range []string{"aggregate-8.json", "aggregate-9.json", "combined.json", "lines.ndjson"} {
		t.Run(name, func(t *testing.T) {
			found := readParsedmarc(t, parsedmarcFile(t, name))
			if len(found.Parts) == 0 || found.Parts[0].Aggregate == nil {
				t.Fatalf("%+v", found)
			}
			got := found.Parts[0].Aggregate
			if got.Reporter != want.Reporter || got.ID != want.ID || got.Period != want.Period || got.Policy.Domain != want.Policy.Domain || got.Policy.P != want.Policy.P || got.Tally != want.Tally {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if got.Flags&(dmarc.FlagReduced|dmarc.FlagMetadataAfterRows) != dmarc.FlagReduced {
				t.Errorf("flags %q", got.Flags.Names())
			}
			if got, want := fmt.Sprintf("%+v", rowsOf(t, got)), fmt.Sprintf("%+v", rowsOf(t, want)); got != want {
				t.Errorf("rows\n got %s\nwant %s", got, want)
			}
		})
	}
}

// Version 9 tells the times of rows in UTC; those of older versions are local
// to a machine that only the operator knows.
func TestTheTimesOfParsedmarcAreLocal(t *testing.T) {
	const begin, end = `"begin_date": "2026-01-04 19:00:00"`, `"end_date": "2026-01-05 18:59:59"`
	old := strings.NewReplacer(`"begin_date": "2026-01-05 00:00:00"`, begin, `"end_date": "2026-01-05 23:59:59"`, end).Replace(parsedmarcFile(t, "aggregate-8.json"))
	day := dmarc.Period{Begin: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 1, 5, 23, 59, 59, 0, time.UTC)}
	local := dmarc.Period{Begin: time.Date(2026, 1, 4, 19, 0, 0, 0, time.UTC), End: time.Date(2026, 1, 5, 18, 59, 59, 0, time.UTC)}
	zone := func(name string) func(*Limits) { return func(l *Limits) { l.Zone = name } }
	for _, c := range []struct {
		name, text, zone string
		want             dmarc.Period
	}{
		{"old, zone not told", old, "", local},
		{"old, zone told", old, "America/New_York", day},
		{"new, zone not told", parsedmarcFile(t, "aggregate-9.json"), "", day},
		{"new, wrong zone told", parsedmarcFile(t, "aggregate-9.json"), "Asia/Tokyo", day},
	} {
		if got := readParsedmarc(t, c.text, zone(c.zone)).Parts[0].Aggregate.Period; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A report of some days is written as rows for each day; their counts add up,
// and the period is that of the report.
func TestParsedmarcSplitsLongReports(t *testing.T) {
	got := readParsedmarc(t, parsedmarcFile(t, "normalized.json")).Parts[0].Aggregate
	want := dmarc.Period{Begin: time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 1, 7, 0, 0, 0, 0, time.UTC)}
	if got.Period != want || got.Tally.Messages != 10 || got.Tally.Rows != 2 {
		t.Errorf("%v, %+v", got.Period, got.Tally)
	}
}

func TestParsedmarcFailureAndTLSReports(t *testing.T) {
	found := readParsedmarc(t, parsedmarcFile(t, "forensic.json"))
	if len(found.Parts) != 1 || found.Parts[0].Failure == nil {
		t.Fatalf("%+v", found)
	}
	f := found.Parts[0].Failure
	if f.ReportedDomain != "example.com" || f.SourceIP.String() != "192.0.2.10" || !slices.Equal(f.AuthFailure, []string{"dmarc"}) ||
		!f.Arrival.Equal(time.Date(2026, 1, 5, 9, 20, 27, 0, time.UTC)) || f.Delivery != "policy" || f.MailFrom != "sender@example.com" || f.Flags&dmarc.FlagReduced == 0 {
		t.Errorf("%+v", f)
	}
	if !slices.ContainsFunc(f.Headers, func(h dmarc.HeaderField) bool { return h.Name == "Subject" && h.Value == "Übersicht" }) {
		t.Errorf("headers of the sample: %+v", f.Headers)
	}
	found = readParsedmarc(t, parsedmarcFile(t, "smtp_tls.json"))
	if len(found.Parts) != 1 || found.Parts[0].TLS == nil {
		t.Fatalf("%+v", found)
	}
	got := found.Parts[0].TLS
	original := readParsedmarc(t, parsedmarcFile(t, "tls-report.json")).Parts[0].TLS
	got.Flags, original.Flags = 0, 0
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", original); a != b {
		t.Errorf("\n got %s\nwant %s", a, b)
	}
}

func TestWhatIsWrongInParsedmarcIsSaid(t *testing.T) {
	whole := parsedmarcFile(t, "aggregate-9.json")
	for _, c := range []struct {
		name, text string
		want       dmarc.Outcome
	}{
		{"breaks off", whole[:len(whole)-200], dmarc.OutcomeBadJSON},
		{"no dates", strings.NewReplacer("begin_date", "x", "end_date", "x", "interval_begin", "x", "interval_end", "x").Replace(whole), dmarc.OutcomeMissing},
		{"too deep", `[{"report_metadata":` + strings.Repeat("[", 100), dmarc.OutcomeTooLarge},
		{"long value", `[{"report_metadata":{"org_name":"` + strings.Repeat("x", 300<<10) + `"}}]`, dmarc.OutcomeTooLarge},
	} {
		found := readParsedmarc(t, c.text)
		if len(found.Parts) != 1 || found.Parts[0].Outcome != c.want {
			t.Errorf("%s: %+v", c.name, found)
		}
	}
	if found := readParsedmarc(t, "[]"); found.Outcome != dmarc.OutcomeNotAReport {
		t.Errorf("no reports: %+v", found)
	}
}

// What somebody sends does not cost more for being in many pieces.
func TestAMessageHoldsABoundedNumberOfReports(t *testing.T) {
	found := readParsedmarc(t, "["+strings.Repeat(`{"xml_schema":"1"},`, maxReports+5)+`{"xml_schema":"1"}]`)
	last := found.Parts[len(found.Parts)-1]
	if len(found.Parts) != maxReports+1 || last.Outcome != dmarc.OutcomeTooLarge {
		t.Errorf("%d parts, the last %+v", len(found.Parts), last)
	}
}

func TestRowsOfALargeReportAreReadAgain(t *testing.T) {
	rows := keptRows + 10
	var b strings.Builder
	b.WriteString(`[{"report_metadata":{"org_name":"o","org_email":"a@b.example","report_id":"1","begin_date":"2026-01-05 00:00:00","end_date":"2026-01-06 00:00:00"},"policy_published":{"domain":"example.com","p":"none"},"records":[`)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"source":{"ip_address":"192.0.%d.%d"},"count":1,"policy_evaluated":{"disposition":"none","dkim":"pass","spf":"fail"},"identifiers":{"header_from":"example.com"}}`, i/256, i%256)
	}
	b.WriteString("]}]")
	rep := readParsedmarc(t, b.String()).Parts[0].Aggregate
	for range 2 {
		if got := rowsOf(t, rep); len(got) != rows || rep.Tally.DKIMAligned != int64(rows) {
			t.Errorf("%d rows, %+v", len(got), rep.Tally)
		}
	}
}

// However a file is cut into pieces, its reports come out as they went in.
func TestReportsAreTakenApart(t *testing.T) {
	objects := []string{`{"xml_schema":"draft","a":"]}\"{[","b":[{"c":{}}]}`, `{"xml_schema":"draft"}`, `{"xml_schema":"draft","d":[1,2,{}]}`}
	for _, c := range []struct{ name, text string }{
		{"an array", " [" + strings.Join(objects, " ,\n") + "]"},
		{"lines", strings.Join(objects, "\n")},
		{"an object of arrays", `{ "aggregate_reports": [` + objects[0] + `,` + objects[1] + `], "forensic_reports": [], "smtp_tls_reports": [` + objects[2] + `]}`},
	} {
		list := NewReportList(strings.NewReader(c.text))
		var got []string
		for {
			r, err := list.Next()
			if err == io.EOF {
				break
			}
			if len(got) == 1 { // one is left half read
				io.CopyN(io.Discard, r, 3)
				got = append(got, objects[1])
				continue
			}
			text, err := io.ReadAll(r)
			if err != nil || !json.Valid(text) {
				t.Fatalf("%s: %q, %v", c.name, text, err)
			}
			got = append(got, string(text))
		}
		if !slices.Equal(got, objects) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func FuzzParsedmarc(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "parsedmarc", "*.*json"))
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sound(t, text, "aggregate.json")
		list := NewReportList(bytes.NewReader(text))
		total := 0
		for {
			r, err := list.Next()
			if err != nil {
				break
			}
			one, _ := io.ReadAll(r)
			if total += len(one); len(one) == 0 || one[0] != '{' || total > len(text) {
				t.Fatalf("%q of %q", one, text)
			}
		}
	})
}
