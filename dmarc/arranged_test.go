package dmarc_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestTwoScopesHaveInCommonWhatBothCover(t *testing.T) {
	some := dmarc.ScopeOf("a.example", "x.b.example", "c.example")
	for _, c := range []struct {
		with dmarc.Scope
		want []string
	}{
		{dmarc.Everything, []string{"a.example", "c.example", "x.b.example"}},
		{dmarc.Scope{}, nil},
		{dmarc.ScopeOf("d.example"), nil},
		{dmarc.ScopeOf("a.example", "b.example"), []string{"a.example", "x.b.example"}},
		{dmarc.ScopeOf("www.c.example", "y.b.example", "example"), []string{"a.example", "c.example", "www.c.example", "x.b.example"}},
	} {
		for _, got := range []dmarc.Scope{some.And(c.with), c.with.And(some)} {
			if !slices.Equal(got.Domains(), c.want) || got.All() {
				t.Errorf("%v and %v: %v, want %v", some, c.with, got, c.want)
			}
		}
	}
	if !dmarc.Everything.And(dmarc.Everything).All() {
		t.Error("everything and everything is less")
	}
}

func TestWhatTheFileSaysAboutADomainWins(t *testing.T) {
	yes, month, ever := true, 720*time.Hour, time.Duration(0)
	api := dmarc.DomainWords{Labels: []string{"a"}, Ignored: &yes, Rows: &month}
	file := dmarc.DomainWords{Labels: []string{}, Rows: &ever, Failures: &month}
	got := dmarc.SettleDomain("a.example", file, api)
	want := dmarc.DomainSettings{Domain: "a.example", Groups: []string{}, Labels: []string{}, LabelsFrom: dmarc.OriginFile, Ignored: true, IgnoredFrom: dmarc.OriginAPI,
		RowsFrom: dmarc.OriginFile, Failures: month, FailuresFrom: dmarc.OriginFile}
	if !reflect.DeepEqual(got, want) {
		t.Errorf(" got %+v\nwant %+v", got, want)
	}
	if got := api.Contradicts(file); !slices.Equal(got, []string{"labels", "retention_rows"}) {
		t.Errorf("contradictions: %q", got)
	}
	if got := file.Contradicts(file); got != nil {
		t.Errorf("it contradicts itself: %q", got)
	}
	for name, good := range map[string]bool{"acme": true, "ACME Ltd.": true, "müller 2": true, "": false, " a": false, "a ": false, "a@b": false, "a+b": false, "a=b": false, "a,b": false, "-a": false, strings.Repeat("x", 65): false} {
		if err := dmarc.CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
