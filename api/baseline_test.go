package api_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/oasdiff/checker"
	"github.com/oasdiff/oasdiff/diff"
	"github.com/oasdiff/oasdiff/load"

	"github.com/dmarcd/dmarcd/internal/racetest"
)

// breaks lists what of a document breaks those who rely on an older one. What is
// answered never goes away, whether it was required or not; its words may become more.
func breaks(t *testing.T, before, after []byte) (all []string) {
	t.Helper()
	read := func(text []byte) *load.SpecInfo {
		doc, err := openapi3.NewLoader().LoadFromData(text)
		if err != nil {
			t.Fatal(err)
		}
		return &load.SpecInfo{Spec: doc}
	}
	found, sources, err := diff.GetWithOperationsSourcesMap(diff.NewConfig(), read(before), read(after))
	if err != nil {
		t.Fatal(err)
	}
	config := checker.NewConfig(checker.GetAllChecks(), checker.WithSeverityLevels(map[string]checker.Level{
		checker.ResponseOptionalPropertyRemovedId:     checker.ERR,
		checker.ResponsePropertyEnumValueAddedId:      checker.INFO,
		checker.APIOperationIdRemovedId:               checker.ERR,
		checker.RequestParameterDefaultValueChangedId: checker.ERR,
	}))
	for _, c := range checker.CheckBackwardCompatibilityUntilLevel(config, found, sources, checker.WARN) {
		all = append(all, fmt.Sprintf("%s %s: %s", c.GetOperation(), c.GetPath(), c.GetUncolorizedText(checker.NewDefaultLocalizer())))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

const baseline = "testdata/released.json"

// Nothing that scripts rely on since the last release is taken from them.
func TestTheAPIKeepsWhatItPromised(t *testing.T) {
	before, err := os.ReadFile(baseline)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range breaks(t, before, after) {
		t.Errorf("%s\nthis breaks those who use what %s says; add beside it instead", what, baseline)
	}
}

// What would break somebody is seen, and what is only added is not.
func TestBreakingTheAPIIsSeen(t *testing.T) {
	racetest.Calm(t)
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		old, new string
		want     string // "" for nothing
	}{
		"a field of an answer is renamed":  {`"dmarc_pass"`, `"dmarc_passed"`, "dmarc_pass"},
		"an optional field is taken away":  {`"instance"`, `"instances"`, "instance"},
		"a field changes its type":         {`"number"`, `"boolean"`, "number"},
		"a parameter becomes required":     {`"name": "search"`, `"required": true, "name": "search"`, "search"},
		"a field is added":                 {`"instance": {`, `"added": {"type": "string"}, "instance": {`, ""},
		"an operation is taken away":       {`"/api/v1/attention"`, `"/api/v1/attentions"`, "/api/v1/attention"},
		"a parameter is taken away":        {`"name": "exact"`, `"name": "precise"`, "exact"},
		"a word is taken away":             {`"week",`, ``, "week"},
		"a limit becomes lower":            {`"maximum": 1000,`, `"maximum": 100,`, "1000"},
		"another type of answer goes away": {`"text/csv"`, `"text/comma"`, "text/csv"},
		"a description changes":            {`of the stored report`, `of the report that is stored`, ""},
	} {
		changed := strings.ReplaceAll(string(text), c.old, c.new)
		if changed == string(text) {
			t.Errorf("%s: %s does not stand in the document", name, c.old)
			continue
		}
		found := breaks(t, text, []byte(changed))
		if told := strings.Contains(strings.Join(found, "\n"), c.want); c.want == "" && len(found) > 0 || c.want != "" && (len(found) == 0 || !told) {
			t.Errorf("%s: found %q", name, found)
		}
	}
}

// csvColumns returns the columns of each list, by its path, that a document tells.
func csvColumns(t *testing.T, name string) map[string][]string {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for path, item := range doc.Paths.Map() {
		if item.Get == nil {
			continue
		}
		for _, answer := range item.Get.Responses.Map() {
			if csv := answer.Value.Content["text/csv"]; csv != nil {
				if _, columns, ok := strings.Cut(csv.Schema.Value.Description, "The columns: "); ok {
					all[path] = strings.Split(columns, ", ")
				}
			}
		}
	}
	return all
}

// Those who take the columns of CSV by their place find them there: new ones come last.
func TestNewColumnsOfCSVComeLast(t *testing.T) {
	before, after := csvColumns(t, baseline), csvColumns(t, "openapi.json")
	if len(after) < 10 {
		t.Errorf("only %d lists tell their columns", len(after))
	}
	for path, columns := range before {
		if now := after[path]; len(now) < len(columns) || !slices.Equal(now[:len(columns)], columns) {
			t.Errorf("%s has the columns %q, and had %q", path, now, columns)
		}
	}
}
