package advice

import (
	"reflect"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestChangesAreThoseOfDNSAndWhatReportsAdd(t *testing.T) {
	at := func(n int) time.Time { return start.AddDate(0, 0, n) }
	none, quarantine, reject := dmarc.PolicyNone, dmarc.PolicyQuarantine, dmarc.PolicyReject
	record := func(text string) []string { return []string{text} }
	for _, c := range []struct {
		name     string
		seen     []RecordSets
		reported []Change
		want     []Change
	}{
		{"nothing", nil, nil, nil},
		{"only reports know", nil, []Change{{at(5), none, reject}}, []Change{{at(5), none, reject}}},
		{
			"both know of one", []RecordSets{{at(3).Add(7 * time.Hour), record(`"v=DMARC1; p=none"`), record(`"v=DMARC1; " "p=reject"`)}},
			[]Change{{at(5), none, reject}}, []Change{{at(3), none, reject}},
		},
		{
			"reports know of an older one", []RecordSets{{at(30), record(`"v=DMARC1; p=quarantine"`), record(`"v=DMARC1; p=reject"`)}},
			[]Change{{at(5), none, quarantine}, {at(31), quarantine, reject}}, []Change{{at(5), none, quarantine}, {at(30), quarantine, reject}},
		},
		{
			"other tags change nothing", []RecordSets{{at(3), record(`"v=DMARC1; p=reject"`), record(`"v=DMARC1; p=reject; rua=mailto:a@acme.example"`)}}, nil, nil,
		},
		{
			"t=y is one level less", []RecordSets{{at(3), record(`"v=DMARC1; p=quarantine; t=y"`), record(`"v=DMARC1; p=quarantine"`)}}, nil, []Change{{at(3), none, quarantine}},
		},
		{
			"a record that goes, among others", []RecordSets{{at(3), []string{`"other"`, `"v=DMARC1\; p=re\106ect"`}, []string{`"other"`, "alias of acme.example"}}}, nil, []Change{{at(3), reject, none}},
		},
		{
			"two records are none", []RecordSets{{at(3), record(`"v=DMARC1; p=reject"`), []string{`"v=DMARC1; p=reject"`, `"v=DMARC1; p=none"`}}}, nil, []Change{{at(3), reject, none}},
		},
	} {
		if got := MergeChanges(c.seen, c.reported); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// What one domain says of a source is not what others said of it.
func TestClassesAreKeptWithoutTheWordOfOthers(t *testing.T) {
	e := healthy(61).send("203.0.113.1", forwarded(), 1, 0, 61, 3).send("203.0.113.2", unaligned("mailer.example"), 30, 0, 61, 1).evidence()
	for i := range e.Sources {
		e.Sources[i].Elsewhere[dmarc.ClassForwarder] = 500
	}
	all := Classify(e)
	if c := source(t, all, "203.0.113.2"); c.Class != dmarc.ClassForwarder {
		t.Fatalf("the word of 500 domains makes %s of it: %q", c.Class, c.Clues)
	}
	got := make(map[string]dmarc.SourceClass)
	for _, c := range SourceClasses(e, all) {
		got[c.Source.Addr().String()] = c
	}
	for addr, want := range map[string][2]dmarc.Class{
		"192.0.2.1":   {dmarc.ClassOwn, dmarc.ClassOwn},
		"203.0.113.1": {dmarc.ClassForwarder, dmarc.ClassForwarder},
		"203.0.113.2": {dmarc.ClassForwarder, dmarc.ClassUnknown}, // alone it would be a guess
	} {
		if c := got[addr]; c.Class != want[0] || c.Alone != want[1] {
			t.Errorf("%s is %s, alone %s; want %s", addr, c.Class, c.Alone, want)
		}
	}
	if n := e.Sources[0].Elsewhere[dmarc.ClassForwarder]; n != 500 {
		t.Errorf("the evidence was changed: %d", n)
	}
}
