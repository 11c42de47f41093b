package parse

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

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
	for i := range uint64(10_000) {
		compareGenerated(t, i)
	}
}

func FuzzOurReaderAgrees(f *testing.F) {
	f.Add(uint64(10_000))
	f.Fuzz(compareGenerated)
}

func compareGenerated(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(1, seed))
	if name := fmt.Sprintf("generated report %d", seed); !compare(t, name, generated(random, 1+random.IntN(30))) {
		t.Errorf("encoding/xml does not read %s", name)
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
