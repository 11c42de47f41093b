package parse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/dmarcd/dmarcd/dmarc"
)

// aggregate reads a report and its rows.
func aggregate(t testing.TB, r io.Reader) (*dmarc.AggregateReport, []dmarc.Row, error) {
	t.Helper()
	a := newAggregateReader(r, DefaultLimits, false)
	defer a.Close()
	var rows []dmarc.Row
	for row, err := range a.Rows() {
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, row.Clone())
	}
	rep, err := a.End()
	return rep, rows, err
}

// Every way to write the same report in XML is the same report.
func TestXMLIsReadHoweverItIsWritten(t *testing.T) {
	plain := report("x")
	want, _, err := aggregate(t, strings.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	utf16 := func(s string, big, mark bool) string {
		var b strings.Builder
		if mark {
			s = "\ufeff" + s
		}
		for _, r := range s {
			if big {
				b.WriteByte(byte(r >> 8))
			}
			b.WriteByte(byte(r))
			if !big {
				b.WriteByte(byte(r >> 8))
			}
		}
		return b.String()
	}
	replaced := strings.NewReplacer("<feedback>", `<d:feedback xmlns:d="urn:ietf:params:xml:ns:dmarc-2.0">`, "</feedback>", "</d:feedback>",
		"<record>", "<d:record>", "</record>", "</d:record>", "<count>", `<d:count a=">" b='</x>'>`, "</count>", "</d:count >")
	late := plain[strings.Index(plain, "  <report_metadata>"):strings.Index(plain, "  <record>")]
	for name, text := range map[string]string{
		"byte order mark":           "\ufeff" + plain,
		"blanks before":             " \r\n\t" + plain,
		"UTF-16 little end":         utf16(plain, false, true),
		"UTF-16 big end":            utf16(plain, true, true),
		"UTF-16 without mark":       utf16(plain, false, false),
		"UTF-16 big, without mark":  utf16(plain, true, false),
		"declared UTF-16":           strings.Replace(plain, "UTF-8", "UTF-16", 1),
		"version 1.1":               strings.Replace(plain, `version="1.0"`, `version="1.1"`, 1),
		"encoding us-ascii":         strings.Replace(plain, "UTF-8", "us-ascii", 1),
		"no declaration":            plain[strings.Index(plain, "<feedback>"):],
		"DOCTYPE":                   strings.Replace(plain, "<feedback>", `<!DOCTYPE feedback SYSTEM "http://hostile.example/x.dtd"><feedback>`, 1),
		"CDATA":                     strings.Replace(plain, "<report_id>x</report_id>", "<report_id><![CDATA[x]]></report_id>", 1),
		"CDATA in pieces":           strings.Replace(plain, ">noreply@reporter.example<", "><![CDATA[noreply@]]>reporter<![CDATA[.example]]><", 1),
		"comments":                  strings.ReplaceAll(plain, "<count>2</count>", "<!-- <count>7</count> --><count><!-- a -->2<!-- > --></count>"),
		"processing instructions":   strings.ReplaceAll(plain, "<count>2</count>", "<?php echo '<count>9</count>' ?><count>2</count>"),
		"numeric entities":          strings.Replace(plain, "<count>2</count>", "<count>&#50;</count>", 1),
		"hexadecimal entities":      strings.Replace(plain, "Reporter", "R&#x65;port&#X65;r", 1),
		"prefixes and attributes":   replaced.Replace(plain),
		"prefix without a name":     strings.NewReplacer("<row>", "<:row>", "</row>", "</:row>").Replace(plain),
		"carriage returns":          strings.ReplaceAll(plain, "\n", "\r\n"),
		"unknown elements":          strings.ReplaceAll(plain, "<row>", "<new><row><count>5</count></row></new><row><newer a='b'/>"),
		"empty elements":            strings.ReplaceAll(plain, "<row>", "<row><a/><b /><c></c>"),
		"metadata behind the rows":  strings.Replace(strings.Replace(plain, late, "", 1), "</feedback>", late+"</feedback>", 1),
		"text behind the end":       plain + "\n-- \nsent by mail",
		"elements around it":        strings.Replace(plain, "<feedback>", "<html><body><feedback>", 1) + "</body></html>",
		"text in front of it":       "This is a report: 1 < 2 & so on\n" + plain,
		"an ampersand in a comment": strings.Replace(plain, "<result>pass</result>", "<result>pass</result><human_result></human_result>", 1),
	} {
		t.Run(name, func(t *testing.T) {
			for reader, r := range map[string]io.Reader{"whole": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
				got, rows, err := aggregate(t, r)
				if err != nil {
					t.Fatalf("%s: %v", reader, err)
				}
				if got.Hash != want.Hash || len(rows) != 1 || rows[0].Count != 2 {
					t.Errorf("%s: another report: %+v %+v", reader, got, rows)
				}
			}
		})
	}
}

// A file that breaks off anywhere is refused and never taken for a shorter one.
func TestAFileThatBreaksOffIsRefused(t *testing.T) {
	text := strings.TrimSpace(report("x"))
	for n := range len(text) {
		for _, lenient := range []bool{false, true} {
			a := newAggregateReader(strings.NewReader(text[:n]), DefaultLimits, lenient)
			rep, err := a.End()
			a.Close()
			var refused *dmarc.Error
			if !errors.As(err, &refused) {
				t.Fatalf("cut after %d bytes, lenient %v: %+v, %v", n, lenient, rep, err)
			}
			if n > strings.Index(text, "<feedback>")+10 && refused.Outcome != dmarc.OutcomeBadXML {
				t.Errorf("cut after %d bytes: %v", n, err)
			}
		}
	}
}

func TestXMLThatIsRefused(t *testing.T) {
	deep := "<feedback>" + strings.Repeat("<a>", 40)
	for name, c := range map[string]struct {
		text string
		want *dmarc.Error
	}{
		"entities":          {"<!DOCTYPE f [<!ENTITY a 'b'>]>" + report("x"), &dmarc.Error{Outcome: dmarc.OutcomeHostileXML}},
		"parameter entity":  {"<!DOCTYPE f [ %x; ]><feedback>&a;</feedback>", &dmarc.Error{Outcome: dmarc.OutcomeHostileXML}},
		"ENTITY by itself":  {"<!ENTITY a 'b'>" + report("x"), &dmarc.Error{Outcome: dmarc.OutcomeHostileXML}},
		"nested deeply":     {deep, &dmarc.Error{Outcome: dmarc.OutcomeHostileXML}},
		"no feedback":       {"<html><body>hello</body></html>", errNotAggregate},
		"feedback is empty": {"<feedback/>", errNotAggregate},
		"empty tag":         {strings.Replace(report("x"), "<row>", "<><row>", 1), &dmarc.Error{Outcome: dmarc.OutcomeBadXML}},
		"crossed tags":      {strings.Replace(report("x"), "</count>", "</row>", 1), &dmarc.Error{Outcome: dmarc.OutcomeBadXML}},
		"endless tag":       {"<feedback><a " + strings.Repeat("x", 1<<20), &dmarc.Error{Outcome: dmarc.OutcomeBadXML}},
		"endless comment":   {"<feedback><!-- " + strings.Repeat("x", 1<<20), &dmarc.Error{Outcome: dmarc.OutcomeBadXML}},
		"broken id":         {strings.Replace(report("x<y"), "", "", 1), &dmarc.Error{Outcome: dmarc.OutcomeBadXML}},
		"no time":           {strings.Replace(report("x"), "1704067200", "yesterday", 1), &dmarc.Error{Outcome: dmarc.OutcomeMissing}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := aggregate(t, strings.NewReader(c.text))
			if !errors.Is(err, c.want) {
				t.Errorf("err = %v, want %v", err, c.want)
			}
		})
	}
}

// Broken markup in a row costs that row and no other. In what identifies the
// report it costs the report, as it does in every row.
func TestBrokenMarkupCostsNoMoreThanItMust(t *testing.T) {
	record := report("x")
	record = record[strings.Index(record, "  <record>"):strings.Index(record, "</feedback>")]
	broken := strings.Replace(record, "<header_from>example.com", "<header_from>ex<ample.com", 1)
	for name, c := range map[string]struct {
		text          string
		rows, dropped int
		ok            bool
	}{
		"in one row":   {strings.Replace(report("x"), "</feedback>", broken+"</feedback>", 1), 1, 1, true},
		"in every row": {strings.Replace(report("x"), record, broken+broken, 1), 0, 0, false},
		"in the id":    {report("x<y"), 0, 0, false},
		"an address":   {strings.Replace(report("x"), "noreply@reporter.example", "<noreply@reporter.example>", 1), 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			rep, err := readAggregate(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(c.text)), nil }, DefaultLimits, hints{})
			if (err == nil) != c.ok {
				t.Fatalf("err = %v", err)
			}
			if err == nil && (rep.Tally.Rows != int64(c.rows) || rep.Dropped.Rows != int64(c.dropped) || rep.Dropped.Messages != 2*int64(c.dropped) || rep.Flags&dmarc.FlagStrayMarkup == 0) {
				t.Errorf("%d rows, dropped %+v, flags %v", rep.Tally.Rows, rep.Dropped, rep.Flags.Names())
			}
		})
	}
}

func TestCountsAreReadExactly(t *testing.T) {
	for text, want := range map[string]struct {
		count int64
		ok    bool
		flags dmarc.RowFlags
	}{
		"<count>0</count>":                    {0, true, dmarc.RowZeroCount},
		"<count>1099511627776</count>":        {1 << 40, true, 0},
		"<count>1099511627777</count>":        {0, false, 0},
		"<count>99999999999999999999</count>": {0, false, 0},
		"<count>-1</count>":                   {0, false, 0},
		"<count>1e3</count>":                  {0, false, 0},
		"<count>15.0</count>":                 {15, true, 0},
		"<count>0x10</count>":                 {0, false, 0},
		"<count></count>":                     {1, true, dmarc.RowCountDerived},
		"":                                    {1, true, dmarc.RowCountDerived},
	} {
		rep, rows, err := aggregate(t, strings.NewReader(strings.Replace(report("x"), "<count>2</count>", text, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if want.ok {
			if len(rows) != 1 || rows[0].Count != want.count || rows[0].Flags != want.flags {
				t.Errorf("%s: %+v", text, rows)
			}
		} else if len(rows) != 0 || rep.Dropped.Rows != 1 || rep.Flags&dmarc.FlagRowsDropped == 0 {
			t.Errorf("%s: %+v, dropped %+v", text, rows, rep.Dropped)
		}
	}
}

// everything is all that a reader tells, as text to compare.
func everything(a *aggregateReader) (string, error) {
	defer a.Close()
	var b strings.Builder
	for row, err := range a.Rows() {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%+v\n", row)
	}
	rep, err := a.End()
	if err != nil {
		return "", err
	}
	copy := *rep
	copy.Rows = nil
	if copy.Policy.Pct != nil {
		fmt.Fprintf(&b, "pct %d", *copy.Policy.Pct)
	}
	if copy.Policy.Testing != nil {
		fmt.Fprintf(&b, "testing %v", *copy.Policy.Testing)
	}
	copy.Policy.Pct, copy.Policy.Testing = nil, nil
	fmt.Fprintf(&b, "%+v", copy)
	return b.String(), nil
}

// forgetful returns a reader that never learns what rows look like.
func forgetful(r io.Reader) *aggregateReader {
	a := newAggregateReader(r, DefaultLimits, false)
	*a.memory = memory{}
	a.shapes.steps = make([]step, maxSteps)
	return a
}

// Rows that look like the ones before are read as if they were the first.
func TestKnownRowsAreReadAsUnknownOnes(t *testing.T) {
	var texts [][]byte
	for _, dir := range []string{"testdata/deviations", filepath.Join(corpusDir, "aggregate")} {
		files, _ := filepath.Glob(filepath.Join(dir, "*.xml"))
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text)
		}
	}
	random := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		texts = append(texts, generated(random, 1+random.IntN(60)))
	}
	texts = append(texts, likeReal(3000))
	for i, text := range texts {
		want, wantErr := everything(forgetful(bytes.NewReader(text)))
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(text), "again": bytes.NewReader(text), "in pieces": iotest.HalfReader(bytes.NewReader(text))} {
			got, err := everything(newAggregateReader(r, DefaultLimits, false))
			if got != want || (err == nil) != (wantErr == nil) {
				t.Fatalf("text %d, read %s:\n%s, %v\ninstead of\n%s, %v\n%s", i, name, got, err, want, wantErr, text)
			}
		}
	}
}

// What a row looks like is learned: this is what makes reading fast.
func TestRowsAreLearned(t *testing.T) {
	a := newAggregateReader(bytes.NewReader(likeReal(2000)), DefaultLimits, false)
	defer a.Close()
	known, rows := 0, 0
	*a.memory = memory{}
	a.shapes.forget()
	for _, err := range a.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		rows++
		if len(a.shapes.trail) == 0 { // the row was not read tag by tag
			known++
		}
		a.shapes.trail = a.shapes.trail[:0]
	}
	if known < rows*99/100 {
		t.Errorf("of %d rows, %d were known", rows, known)
	}
}

// A row whose texts were too long says so, also where it repeats what is known from others.
func TestARowSaysThatItsTextsWereCut(t *testing.T) {
	row := func(n int, selector string) string {
		return fmt.Sprintf("<record><row><source_ip>192.0.2.%d</source_ip><count>1</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>"+
			"<identifiers><header_from>example.com</header_from></identifiers><auth_results><dkim><domain>example.com</domain><selector>%s</selector><result>pass</result></dkim></auth_results></record>", n, selector)
	}
	var b strings.Builder
	b.WriteString("<feedback><policy_published><domain>example.com</domain><p>none</p></policy_published>")
	long, rows := strings.Repeat("x", maxName+1), 2*restsFrom
	for n := range rows {
		b.WriteString(row(n%200, map[bool]string{true: long, false: "short"}[n%3 == 0]))
	}
	a := newAggregateReader(strings.NewReader(b.String()+"</feedback>"), DefaultLimits, false)
	defer a.Close()
	n := 0
	for r, err := range a.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		if cut := n%3 == 0; (r.Flags&dmarc.RowCut != 0) != cut || len(r.AuthDKIM[0].Selector) > maxName {
			t.Fatalf("row %d: flags %v, %d bytes", n, r.Flags.Names(), len(r.AuthDKIM[0].Selector))
		}
		n++
	}
	if n != rows {
		t.Errorf("%d rows, want %d", n, rows)
	}
}

// Rows cost no allocation each, and no memory that grows with their number.
func TestRowsCostNoMemory(t *testing.T) {
	few, many := likeReal(100), likeReal(10_100)
	// Pools let go of what they hold when garbage is collected, and with -race now
	// and then: the least of several runs.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	cost := func(text []byte) float64 {
		least := math.Inf(1)
		for range 10 {
			least = min(least, testing.AllocsPerRun(1, func() {
				a := newAggregateReader(bytes.NewReader(text), DefaultLimits, false)
				if _, err := a.End(); err != nil {
					t.Fatal(err)
				}
				a.Close()
			}))
		}
		return least
	}
	if a, b := cost(few), cost(many); (b-a)/10_000 > 0.001 {
		t.Errorf("%v allocations for 100 rows, %v for 10,100", a, b)
	}
}

func FuzzAggregate(f *testing.F) {
	for _, pattern := range []string{"testdata/deviations/*.xml", "../../shared/corpus/aggregate/*.xml"} {
		files, _ := filepath.Glob(pattern)
		for _, path := range files {
			if text, err := os.ReadFile(path); err == nil && len(text) < 20_000 {
				f.Add(text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		limits := fuzzLimits
		limits.Rows = 1000
		want, wantErr := everything(forgetful(bytes.NewReader(text)))
		if wantErr != nil && !errors.As(wantErr, new(*dmarc.Error)) {
			t.Errorf("err = %v", wantErr)
		}
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(text), "in pieces": iotest.HalfReader(bytes.NewReader(text))} {
			if got, err := everything(newAggregateReader(r, DefaultLimits, false)); got != want || (err == nil) != (wantErr == nil) {
				t.Errorf("read %s it is another report:\n%s, %v\ninstead of\n%s, %v", name, got, err, want, wantErr)
			}
		}
		if open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }; true {
			if rep, err := readAggregate(t.Context(), open, limits, hints{}); err == nil {
				var tally dmarc.Tally
				for row, err := range rep.Rows {
					if err != nil {
						t.Fatal(err)
					}
					tally.Add(row)
				}
				if tally != rep.Tally {
					t.Errorf("the rows add up to %+v, not %+v", tally, rep.Tally)
				}
			}
		}
	})
}
