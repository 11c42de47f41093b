package dmarc_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

var update = flag.Bool("update", false, "write the generated pages of docs anew")

// The page for users lists every outcome and flag there is.
func TestTheListOfOutcomesAndFlagsIsUpToDate(t *testing.T) {
	const path = "../docs/outcomes.md"
	var b strings.Builder
	b.WriteString(`# Outcomes and flags

What dmarcd says of messages and reports, in the ledger, in the API and in the output of ` + "`dmarcd parse`" + `. The words are a
closed set: none changes its meaning. This page is made from the program by ` + "`go test ./dmarc -update`" + `.

## Outcomes

Every message has exactly one outcome, with a reason in words. Every report in it has one, too. *Harmless* outcomes need nobody's
attention.

| outcome | harmless | meaning |
|---|---|---|
`)
	for _, d := range dmarc.OutcomeDocs {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", d.Outcome, map[bool]string{true: "yes", false: ""}[d.Outcome.Harmless()], d.Text)
	}
	b.WriteString(`
## Flags of reports

A report with flags was read and counts. The flags name what its sender did otherwise than the standards say, or what should be known
about its numbers.

| flag | meaning |
|---|---|
`)
	for _, d := range dmarc.ReportFlagDocs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", d.Name, d.Text)
	}
	b.WriteString(`
## Flags of rows

| flag | meaning |
|---|---|
`)
	for _, d := range dmarc.RowFlagDocs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", d.Name, d.Text)
	}
	b.WriteString(`
## Disagreement

Numbers follow the verdict of the reporter. Beside it dmarcd works alignment out anew from the results that the report lists, by the
modes that it shows and the Public Suffix List, and says where the two differ:

| word | meaning |
|---|---|
`)
	for _, d := range dmarc.DisagreementDocs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", d.Disagreement, d.Text)
	}
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is stale: go test ./dmarc -update", path)
	}
}
