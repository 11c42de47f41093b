package parse

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/dmarcd/dmarcd/dmarc"
)

// aggregate reads a report and its rows.
func aggregate(t testing.TB, r io.Reader) (*dmarc.AggregateReport, []dmarc.Row, error) {
	t.Helper()
	a := NewAggregateReader(r, DefaultLimits)
	defer a.s.release()
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
			a.s.release()
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
		"no feedback":       {"<html><body>hello</body></html>", ErrNotAggregate},
		"feedback is empty": {"<feedback/>", ErrNotAggregate},
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

// plainFeedback is a report as encoding/xml reads it.
type plainFeedback struct {
	XMLName  xml.Name `xml:"feedback"`
	Metadata struct {
		OrgName string `xml:"org_name"`
		Email   string `xml:"email"`
		ID      string `xml:"report_id"`
		Begin   string `xml:"date_range>begin"`
		End     string `xml:"date_range>end"`
	} `xml:"report_metadata"`
	Policies []struct {
		Domain string `xml:"domain"`
		ADKIM  string `xml:"adkim"`
		ASPF   string `xml:"aspf"`
		P      string `xml:"p"`
		SP     string `xml:"sp"`
		Pct    string `xml:"pct"`
	} `xml:"policy_published"`
	Records []struct {
		Source      string `xml:"row>source_ip"`
		Count       string `xml:"row>count"`
		Disposition string `xml:"row>policy_evaluated>disposition"`
		DKIM        string `xml:"row>policy_evaluated>dkim"`
		SPF         string `xml:"row>policy_evaluated>spf"`
		Reasons     []struct {
			Type    string `xml:"type"`
			Comment string `xml:"comment"`
		} `xml:"row>policy_evaluated>reason"`
		Identifiers struct {
			HeaderFrom   string `xml:"header_from"`
			EnvelopeFrom string `xml:"envelope_from"`
			EnvelopeTo   string `xml:"envelope_to"`
		} `xml:"identifiers"`
		AuthDKIM []struct {
			Domain   string `xml:"domain"`
			Selector string `xml:"selector"`
			Result   string `xml:"result"`
		} `xml:"auth_results>dkim"`
		AuthSPF []struct {
			Domain string `xml:"domain"`
			Scope  string `xml:"scope"`
			Result string `xml:"result"`
		} `xml:"auth_results>spf"`
	} `xml:"record"`
}

// compare reads a report with encoding/xml and compares every field with what
// our reader says. It reports false where encoding/xml gives up.
func compare(t *testing.T, name string, text []byte) bool {
	var plain plainFeedback
	if xml.Unmarshal(text, &plain) != nil || plain.XMLName.Local != "feedback" || len(plain.Policies) == 0 {
		return false
	}
	rep, rows, err := aggregate(t, bytes.NewReader(text))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return true
	}
	same := func(what, got, want string) {
		if got != want {
			t.Errorf("%s: %s is %q, encoding/xml says %q", name, what, got, want)
		}
	}
	lower := func(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
	// Of words that no standard knows, ours are in a field of their own.
	word := func(what string, got fmt.Stringer, own, want string) {
		if want = lower(want); own == "" && want != "unknown" {
			same(what, got.String(), want)
		}
	}
	domain := func(what, got, want string) {
		if want = strings.TrimSuffix(lower(want), "."); want != "not.evaluated" {
			if d, ok := domainName(want); ok {
				want = d
			}
			same(what, got, want)
		}
	}
	m := plain.Metadata
	same("org_name", rep.Reporter.OrgName, strings.TrimSpace(m.OrgName))
	same("email", rep.Reporter.Email, strings.TrimSpace(m.Email))
	if id := strings.TrimSpace(m.ID); !strings.HasPrefix(id, "<") {
		same("report_id", rep.ID, id)
	}
	seconds := func(s string) string {
		s, _, _ = strings.Cut(strings.TrimSpace(s), ".")
		return s
	}
	if m.Begin != "" {
		same("begin", strconv.FormatInt(rep.Period.Begin.Unix(), 10), seconds(m.Begin))
		same("end", strconv.FormatInt(rep.Period.End.Unix(), 10), seconds(m.End))
	}
	p := plain.Policies[0]
	domain("policy domain", rep.Policy.Domain, p.Domain)
	word("p", rep.Policy.P, "", p.P)
	word("sp", rep.Policy.SP, "", p.SP)
	word("adkim", rep.Policy.ADKIM, "", p.ADKIM)
	word("aspf", rep.Policy.ASPF, "", p.ASPF)
	if rep.Policy.Pct != nil {
		same("pct", strconv.Itoa(*rep.Policy.Pct), strings.TrimSpace(p.Pct))
	}
	if len(rows) != len(plain.Records) {
		if rep.Dropped.Rows == 0 {
			t.Errorf("%s: %d rows, encoding/xml says %d", name, len(rows), len(plain.Records))
		}
		return true
	}
	for i, row := range rows {
		r := plain.Records[i]
		at := func(what string) string { return fmt.Sprintf("row %d: %s", i+1, what) }
		if row.Source.IsValid() {
			same(at("source_ip"), row.Source.String(), lower(r.Source))
		} else {
			same(at("source_ip"), row.SourceText, strings.TrimSpace(r.Source))
		}
		if row.Flags&dmarc.RowCountDerived == 0 {
			same(at("count"), strconv.FormatInt(row.Count, 10), seconds(r.Count))
		}
		word(at("disposition"), row.Disposition, row.DispositionWord, r.Disposition)
		if row.Flags&dmarc.RowUnknownWords == 0 {
			word(at("dkim"), row.DKIM, "", r.DKIM)
			word(at("spf"), row.SPF, "", r.SPF)
		}
		if rep.Flags&dmarc.FlagAlias == 0 {
			domain(at("header_from"), row.HeaderFrom, r.Identifiers.HeaderFrom)
			domain(at("envelope_from"), row.EnvelopeFrom, r.Identifiers.EnvelopeFrom)
			domain(at("envelope_to"), row.EnvelopeTo, r.Identifiers.EnvelopeTo)
		}
		reasons := row.Reasons
		for _, reason := range r.Reasons {
			if strings.TrimSpace(reason.Type) == "" && strings.TrimSpace(reason.Comment) == "" {
				continue // left out, or text that ours takes for the type
			}
			if len(reasons) == 0 {
				t.Errorf("%s: %s", name, at("a reason is missing"))
				break
			}
			same(at("reason type"), reasons[0].Type, lower(reason.Type))
			if !strings.ContainsAny(reason.Comment, "\a\u200b") {
				same(at("reason comment"), strings.Join(strings.Fields(reasons[0].Comment), " "), strings.Join(strings.Fields(reason.Comment), " "))
			}
			reasons = reasons[1:]
		}
		dkim := row.AuthDKIM
		for _, d := range r.AuthDKIM {
			if lower(d.Domain) == "not.evaluated" {
				continue
			}
			if len(dkim) == 0 {
				t.Errorf("%s: %s", name, at("a DKIM result is missing"))
				break
			}
			domain(at("dkim domain"), dkim[0].Domain, d.Domain)
			same(at("dkim selector"), dkim[0].Selector, strings.TrimSpace(d.Selector))
			word(at("dkim result"), dkim[0].Result, dkim[0].Word, d.Result)
			dkim = dkim[1:]
		}
		if len(row.AuthSPF) != len(r.AuthSPF) {
			t.Errorf("%s: %s", name, at("another number of SPF results"))
			continue
		}
		for j, s := range r.AuthSPF {
			domain(at("spf domain"), row.AuthSPF[j].Domain, s.Domain)
			same(at("spf scope"), row.AuthSPF[j].Scope, lower(s.Scope))
			word(at("spf result"), row.AuthSPF[j].Result, row.AuthSPF[j].Word, s.Result)
		}
	}
	return true
}

// What encoding/xml can read, ours reads alike, field for field.
func TestOurReaderAgreesWithEncodingXML(t *testing.T) {
	agreed := 0
	for _, dir := range []string{"testdata/deviations", filepath.Join(corpusDir, "aggregate")} {
		files, _ := filepath.Glob(filepath.Join(dir, "*.xml"))
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if compare(t, filepath.Base(path), text) {
				agreed++
			}
		}
	}
	if agreed < 50 {
		t.Errorf("only %d files could be compared", agreed)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		if !compare(t, fmt.Sprintf("generated report %d", i), generated(random, 1+random.IntN(30))) {
			t.Errorf("encoding/xml does not read generated report %d", i)
		}
	}
}

// generated writes a report of any kind.
func generated(r *rand.Rand, rows int) []byte {
	var b bytes.Buffer
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	element := func(name, value string) {
		if value == "" && r.IntN(2) == 0 {
			return
		}
		fmt.Fprintf(&b, "%s<%s%s>%s", pick("", " ", "\n\t"), name, pick("", "", ` lang="en"`), pick("", "", " ", "\n"))
		xml.EscapeText(&b, []byte(value))
		fmt.Fprintf(&b, "%s</%s>%s", pick("", "", " "), name, pick("", "\n"))
	}
	open := func(name string) { fmt.Fprintf(&b, "<%s>%s", name, pick("", "\n", "<!-- x -->")) }
	end := func(name string) { fmt.Fprintf(&b, "</%s>\n", name) }
	name := func() string {
		return pick("", "a.example", "B.Example", "mail.c.example.", "xn--bcher-kva.example", "d.co.uk", "_x.example", strings.Repeat("a", 63)+".example")
	}
	open("feedback")
	open("report_metadata")
	element("org_name", pick("Works", "A & B", `"Q" <q>`, "Ünïcode", "日本"))
	element("email", pick("a@b.example", ""))
	element("report_id", strconv.Itoa(r.Int()))
	open("date_range")
	element("begin", "1767225600")
	element("end", pick("1767311999", "1767312000"))
	end("date_range")
	end("report_metadata")
	open("policy_published")
	element("domain", "Shop.Example")
	element("adkim", pick("r", "s", ""))
	element("aspf", pick("r", "S", ""))
	element("p", pick("none", "Quarantine", "reject"))
	element("sp", pick("none", "", "reject"))
	element("pct", pick("0", "50", "100"))
	end("policy_published")
	for range rows {
		open("record")
		open("row")
		element("source_ip", pick("192.0.2.1", "2001:db8::1", "", "X.X.X.X", fmt.Sprintf("198.51.100.%d", r.IntN(256))))
		element("count", strconv.Itoa(1+r.IntN(1000)))
		open("policy_evaluated")
		element("disposition", pick("none", "quarantine", "REJECT", "pass"))
		element("dkim", pick("pass", "fail", "Pass"))
		element("spf", pick("pass", "fail"))
		for range r.IntN(3) {
			open("reason")
			element("type", pick("forwarded", "local_policy", "Other"))
			element("comment", pick("", "arc=pass & more", "x <y> z"))
			end("reason")
		}
		end("policy_evaluated")
		end("row")
		open("identifiers")
		element("envelope_to", name())
		element("header_from", name())
		element("envelope_from", name())
		end("identifiers")
		open("auth_results")
		for range r.IntN(3) {
			open("dkim")
			element("domain", name())
			element("selector", pick("", "s1", "Sel.2026"))
			element("result", pick("pass", "fail", "neutral", "policy", "temperror", "permerror", "none", "unknown"))
			end("dkim")
		}
		for range r.IntN(2) {
			open("spf")
			element("domain", name())
			element("scope", pick("mfrom", "helo", ""))
			element("result", pick("pass", "softfail", "neutral", "none", "temperror", "fail", "error"))
			end("spf")
		}
		end("auth_results")
		end("record")
	}
	end("feedback")
	return b.Bytes()
}

// likeReal writes a report as large reporters do.
func likeReal(rows int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	record := report("x")
	record = record[strings.Index(record, "  <record>"):strings.Index(record, "</feedback>")]
	begin, end := strings.Index(report("x"), "  <record>"), "</feedback>\n"
	var b bytes.Buffer
	b.WriteString(report("x")[:begin])
	for range rows {
		b.WriteString(strings.Replace(record, "192.0.2.1", fmt.Sprintf("10.%d.%d.%d", r.IntN(256), r.IntN(256), r.IntN(256)), 1))
	}
	b.WriteString(end)
	return b.Bytes()
}

// Rows cost no allocation each, and no memory that grows with their number.
func TestRowsCostNoMemory(t *testing.T) {
	few, many := likeReal(100), likeReal(10_100)
	cost := func(text []byte) float64 {
		return testing.AllocsPerRun(5, func() {
			a := NewAggregateReader(bytes.NewReader(text), DefaultLimits)
			if _, err := a.End(); err != nil {
				t.Fatal(err)
			}
			a.s.release()
		})
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
		var hashes [2]dmarc.Digest
		var errs [2]error
		for i, r := range []io.Reader{bytes.NewReader(text), iotest.HalfReader(bytes.NewReader(text))} {
			a := NewAggregateReader(r, limits)
			rep, err := a.End()
			a.s.release()
			if errs[i] = err; err == nil {
				hashes[i] = rep.Hash
				if rep.Tally.Messages < 0 || rep.Tally.DMARCPass > rep.Tally.Messages {
					t.Errorf("tally %+v", rep.Tally)
				}
			} else if !errors.As(err, new(*dmarc.Error)) {
				t.Errorf("err = %v", err)
			}
		}
		if (errs[0] == nil) != (errs[1] == nil) || hashes[0] != hashes[1] {
			t.Errorf("read in pieces it is another report: %v, %v", errs[0], errs[1])
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

func BenchmarkAggregate(b *testing.B) {
	for _, rows := range []int{15, 5000} {
		text := likeReal(rows)
		b.Run(fmt.Sprintf("rows=%d/ours", rows), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				a := NewAggregateReader(bytes.NewReader(text), DefaultLimits)
				if _, err := a.End(); err != nil {
					b.Fatal(err)
				}
				a.s.release()
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
		b.Run(fmt.Sprintf("rows=%d/encoding-xml", rows), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				var plain plainFeedback
				if err := xml.Unmarshal(text, &plain); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	runtime.GC()
}
