package parse

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
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

// plainFeedback is a report as encoding/xml reads it.
type plainFeedback struct {
	XMLName  xml.Name `xml:"feedback"`
	Version  string   `xml:"version"`
	Metadata struct {
		OrgName   string   `xml:"org_name"`
		Email     string   `xml:"email"`
		Extra     string   `xml:"extra_contact_info"`
		ID        string   `xml:"report_id"`
		Begin     string   `xml:"date_range>begin"`
		End       string   `xml:"date_range>end"`
		Errors    []string `xml:"error"`
		Generator string   `xml:"generator"`
	} `xml:"report_metadata"`
	Policies []struct {
		Domain    string `xml:"domain"`
		ADKIM     string `xml:"adkim"`
		ASPF      string `xml:"aspf"`
		P         string `xml:"p"`
		SP        string `xml:"sp"`
		NP        string `xml:"np"`
		Pct       string `xml:"pct"`
		FO        string `xml:"fo"`
		Testing   string `xml:"testing"`
		Discovery string `xml:"discovery_method"`
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
			Human    string `xml:"human_result"`
		} `xml:"auth_results>dkim"`
		AuthSPF []struct {
			Domain string `xml:"domain"`
			Scope  string `xml:"scope"`
			Result string `xml:"result"`
			Human  string `xml:"human_result"`
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
	free := func(what, got, want string) {
		want, _ = cut(cleanText(strings.TrimSpace(want)), maxComment)
		same(what, strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(want), " "))
	}
	free("version", rep.Version, plain.Version)
	free("extra_contact_info", rep.Reporter.ExtraContact, m.Extra)
	free("generator", rep.Generator, m.Generator)
	free("errors", strings.Join(rep.Errors, " "), strings.Join(m.Errors, " "))
	p := plain.Policies[0]
	free("fo", rep.Policy.FO, p.FO)
	free("discovery_method", rep.Policy.DiscoveryMethod, lower(p.Discovery))
	testing := map[string]string{"y": "true", "n": "false"}[lower(p.Testing)]
	if rep.Policy.Testing == nil {
		same("testing", "", testing)
	} else {
		same("testing", strconv.FormatBool(*rep.Policy.Testing), testing)
	}
	word("np", rep.Policy.NP, "", p.NP)
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
			free(at("reason comment"), reasons[0].Comment, reason.Comment)
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
			free(at("dkim human_result"), dkim[0].Human, d.Human)
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
			free(at("spf human_result"), row.AuthSPF[j].Human, s.Human)
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
	for i := range 10_000 {
		if !compare(t, fmt.Sprintf("generated report %d", i), generated(random, 1+random.IntN(30))) {
			t.Errorf("encoding/xml does not read generated report %d", i)
		}
	}
}

// generated writes a report of any kind. Every other one is written as
// programs write them: the same markup around each value.
func generated(r *rand.Rand, rows int) []byte {
	var b bytes.Buffer
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	steady := r.IntN(2) == 0
	habits := make(map[string]string)
	style := func(of string, words ...string) string {
		if !steady {
			return pick(words...)
		}
		if _, ok := habits[of]; !ok {
			habits[of] = pick(words...)
		}
		return habits[of]
	}
	element := func(name, value string) {
		if value == "" && style("absent "+name, "", "x") == "" {
			return
		}
		if value == "" && style("empty "+name, "", "x") == "" {
			fmt.Fprintf(&b, "<%s/>", name)
			return
		}
		fmt.Fprintf(&b, "%s<%s%s>%s", style("before "+name, "", " ", "\n\t"), name, style("in "+name, "", "", ` lang="en"`), pick("", "", " ", "\n"))
		if !strings.Contains(value, "]]>") && r.IntN(20) == 0 {
			fmt.Fprintf(&b, "<![CDATA[%s]]>", value)
		} else {
			xml.EscapeText(&b, []byte(value))
		}
		if r.IntN(50) == 0 {
			b.WriteString("<!-- > -->")
		}
		fmt.Fprintf(&b, "%s</%s>%s", pick("", "", " "), name, style("after "+name, "", "\n"))
	}
	open := func(name string) { fmt.Fprintf(&b, "<%s>%s", name, style("open "+name, "", "\n", "<!-- x -->")) }
	end := func(name string) { fmt.Fprintf(&b, "</%s>\n", name) }
	name := func() string {
		return pick("", "a.example", "B.Example", "mail.c.example.", "xn--bcher-kva.example", "bücher.example", "d.co.uk", "_x.example", strings.Repeat("a", 63)+".example", "no name")
	}
	human := func() string { return pick("", "", "all is well", "a < b & \"c\"", "gr\u00fcn\u200b", "1\n2\t3") }
	open("feedback")
	element("version", pick("", "1.0", "0.1"))
	open("report_metadata")
	element("org_name", pick("Works", "A & B", `"Q" <q>`, "Ünïcode", "日本"))
	element("email", pick("a@b.example", ""))
	element("extra_contact_info", pick("", "https://b.example/?a=1&b=2"))
	element("report_id", strconv.Itoa(r.Int()))
	open("date_range")
	element("begin", "1767225600")
	element("end", pick("1767311999", "1767312000"))
	end("date_range")
	for range r.IntN(3) {
		element("error", pick("", "DNS is down", "<none>"))
	}
	element("generator", pick("", "Sweeper 2.0"))
	end("report_metadata")
	open("policy_published")
	element("domain", "Shop.Example")
	element("adkim", pick("r", "s", ""))
	element("aspf", pick("r", "S", ""))
	element("p", pick("none", "Quarantine", "reject"))
	element("sp", pick("none", "", "reject"))
	element("np", pick("", "Reject"))
	element("pct", pick("0", "50", "100"))
	element("fo", pick("", "0", "1:d:s"))
	element("testing", pick("", "y", "n"))
	element("discovery_method", pick("", "psl", "treewalk"))
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
		element("extra", pick("", "1", "2"))
		open("auth_results")
		for range r.IntN(3) {
			open("dkim")
			element("domain", name())
			element("selector", pick("", "s1", "Sel.2026"))
			element("result", pick("pass", "fail", "neutral", "policy", "temperror", "permerror", "none", "unknown"))
			element("human_result", human())
			end("dkim")
		}
		for range r.IntN(2) {
			open("spf")
			element("domain", name())
			element("scope", pick("mfrom", "helo", ""))
			element("result", pick("pass", "softfail", "neutral", "none", "temperror", "fail", "error"))
			element("human_result", human())
			end("spf")
		}
		end("auth_results")
		end("record")
	}
	end("feedback")
	return b.Bytes()
}

// likeReal writes a report as large reporters do: sources of both kinds, with
// none to two signatures, forwarded mail, and other people's domains among them.
func likeReal(rows int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	var b bytes.Buffer
	b.WriteString(report("x")[:strings.Index(report("x"), "  <record>")])
	for range rows {
		source := fmt.Sprintf("10.%d.%d.%d", r.IntN(256), r.IntN(256), r.IntN(256))
		if r.IntN(8) == 0 {
			source = fmt.Sprintf("2001:db8:%x::%x", r.IntN(1<<16), r.IntN(1<<16))
		}
		reason := ""
		if r.IntN(6) == 0 {
			reason = "\n        <reason>\n          <type>" + pick("forwarded", "local_policy") + "</type>\n          <comment></comment>\n        </reason>"
		}
		fmt.Fprintf(&b, `  <record>
    <row>
      <source_ip>%s</source_ip>
      <count>%d</count>
      <policy_evaluated>
        <disposition>%s</disposition>
        <dkim>%s</dkim>
        <spf>%s</spf>%s
      </policy_evaluated>
    </row>
    <identifiers>
      <envelope_from>%s</envelope_from>
      <header_from>example.com</header_from>
    </identifiers>
    <auth_results>
`, source, 1+r.IntN(300), pick("none", "none", "quarantine"), pick("pass", "pass", "fail"), pick("pass", "fail"), reason, pick("example.com", "bounce.mailer.example", "lists.example.org"))
		for range r.IntN(3) {
			fmt.Fprintf(&b, "      <dkim>\n        <domain>%s</domain>\n        <result>%s</result>\n        <selector>%s</selector>\n      </dkim>\n",
				pick("example.com", "mailer.example"), pick("pass", "pass", "fail"), pick("s1", "s2", "google"))
		}
		fmt.Fprintf(&b, "      <spf>\n        <domain>%s</domain>\n        <result>%s</result>\n      </spf>\n    </auth_results>\n  </record>\n",
			pick("example.com", "bounce.mailer.example"), pick("pass", "softfail", "fail"))
	}
	b.WriteString("</feedback>\n")
	return b.Bytes()
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
