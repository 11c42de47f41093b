package records

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/checks.md anew")

// chapters are the kinds of records in the order of the documentation, by the
// first words of ids.
var chapters = []struct {
	title string
	words string
}{
	{"The name in DNS", "dns"}, {"Name servers", "ns"}, {"SOA", "soa"}, {"DNSSEC", "dnssec"}, {"MX: hosts that take mail", "mx"},
	{"Hosts that send mail", "host ptr helo"}, {"SPF", "spf"}, {"DKIM", "dkim"}, {"DMARC", "dmarc"}, {"Where reports go", "rauth"},
	{"MTA-STS", "mtasts"}, {"TLS reports", "tlsrpt"}, {"DANE", "dane"}, {"BIMI", "bimi"}, {"CAA", "caa"}, {"Rules of large receivers", "bulk"}, {"Domains without mail", "parked"}, {"Reports", "reports"},
}

// checksDoc is docs/checks.md, made of the catalogue.
func checksDoc() string {
	var b strings.Builder
	b.WriteString(`# Checks of published records

<!-- Made of the catalogue in records/: go test ./records -run Documentation -update -->

` + "`dmarcd check DOMAIN...`" + ` looks up what a domain publishes for mail and judges it. Each check has an id that stays
the same, so scripts can rely on it. There are five outcomes:

| outcome | means |
|---|---|
| error | mail, reports or protection fail because of it |
| warning | it works by luck, or for now |
| info | worth knowing; on pages and terminals a note |
| ok | all is well; printed with ` + "`--all`" + ` |
| unknown | a lookup failed for now; nothing is called missing on that ground |

What stands in ‹angle brackets› is filled in from what was found. ‹subject› is the name, host or address that the finding is about.
`)
	told := map[string]bool{}
	for _, chapter := range chapters {
		titled := false
		for _, r := range allRules() {
			word, _, _ := strings.Cut(r.ID, ".")
			if !strings.Contains(" "+chapter.words+" ", " "+word+" ") {
				continue
			}
			if !titled {
				fmt.Fprintf(&b, "\n## %s\n", chapter.title)
				titled = true
			}
			told[r.ID] = true
			b.WriteString(section(r))
		}
	}
	for _, r := range allRules() {
		if !told[r.ID] {
			b.WriteString(section(r))
		}
	}
	return b.String()
}

func section(r Rule) string {
	var b strings.Builder
	fill := strings.NewReplacer("{", "‹", "}", "›", "<", "&lt;", "*", `\*`, "_", `\_`, "|", `\|`)
	sentence := strings.ToUpper(r.Condition[:1]) + r.Condition[1:]
	fmt.Fprintf(&b, "\n### `%s`\n\n**%s** · %s", r.ID, r.Severity, r.Record)
	if r.Reference != "" {
		fmt.Fprintf(&b, " · %s", r.Reference)
	}
	fmt.Fprintf(&b, "\n\n%s.\n\n> %s\n\n%s", fill.Replace(strings.TrimSuffix(sentence, ".")), fill.Replace(r.What), fill.Replace(r.Why))
	if r.Fix != "" {
		fmt.Fprintf(&b, " %s", fill.Replace(r.Fix))
	}
	b.WriteString("\n")
	if r.Publish != "" {
		fmt.Fprintf(&b, "\n    %s\n", strings.NewReplacer("{", "‹", "}", "›").Replace(r.Publish))
	}
	return b.String()
}

func TestTheDocumentationIsFresh(t *testing.T) {
	const path = "../docs/checks.md"
	if *update {
		if err := os.WriteFile(path, []byte(checksDoc()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != checksDoc() {
		t.Fatalf("%s is not what the catalogue says; run go test ./records -run Documentation -update", path)
	}
	for _, r := range allRules() {
		if !strings.Contains(string(text), "\n### `"+r.ID+"`\n") {
			t.Errorf("%s is not documented", r.ID)
		}
	}
}
