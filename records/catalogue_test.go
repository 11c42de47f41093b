package records

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// allRules are the checks of the catalogue, sorted by id.
func allRules() []Rule {
	return slices.SortedFunc(maps.Values(catalogue), func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
}

// raisedElsewhere are checks that no zone can show, and the tests that do.
var raisedElsewhere = map[string]string{
	"dns.name_invalid": "TestNamesThatCannotBeDomains",
}

// Every check is raised by a case and not raised by another, and its texts
// name only values that it has.
func TestEveryCheckHasCases(t *testing.T) {
	wanted, unwanted := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		for _, id := range c.want {
			wanted[id] = true
		}
		for _, id := range c.not {
			unwanted[id] = true
		}
	}
	for id := range raisedElsewhere {
		wanted[id] = true
	}
	for _, r := range allRules() {
		if !wanted[r.ID] {
			t.Errorf("%s: no case raises it", r.ID)
		}
		if !unwanted[r.ID] {
			t.Errorf("%s: no case says that it is not raised", r.ID)
		}
		if r.Record == "" || r.Condition == "" || r.What == "" || r.Why == "" {
			t.Errorf("%s: a text is missing: %+v", r.ID, r)
		}
		if r.Fix == "" && r.Severity >= Warning {
			t.Errorf("%s: what to do is not said", r.ID)
		}
	}
	for id := range wanted {
		if catalogue[id].ID == "" {
			t.Errorf("%s is wanted by a case and is no check", id)
		}
	}
	for id := range unwanted {
		if catalogue[id].ID == "" {
			t.Errorf("%s is named by a case and is no check", id)
		}
	}
}

var placeholder = regexp.MustCompile(`\{[a-z_0-9]+\}`)

// complete complains of findings whose texts name values that they do not have.
func complete(t testing.TB, findings []Finding) {
	t.Helper()
	for _, f := range findings {
		if catalogue[f.ID].ID == "" {
			t.Errorf("%s is in no catalogue", f.ID)
		}
		for _, text := range []string{catalogue[f.ID].What, catalogue[f.ID].Why, catalogue[f.ID].Fix, catalogue[f.ID].Publish} {
			for _, name := range placeholder.FindAllString(text, -1) {
				if name != "{subject}" && !slices.ContainsFunc(f.Values, func(v Value) bool { return "{"+v.Name+"}" == name }) {
					t.Errorf("%s: its text names %s, and it has only %v", f.ID, name, f.Values)
				}
			}
		}
	}
}
