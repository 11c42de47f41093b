package dmarc_test

import (
	"math/bits"
	"net/netip"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestFingerprintIgnoresTheOrderOfRowsAndNothingElse(t *testing.T) {
	one := dmarc.Row{Source: netip.MustParseAddr("192.0.2.1"), Count: 3, HeaderFrom: "example.com", DKIM: dmarc.ResultPass}
	two := dmarc.Row{Source: netip.MustParseAddr("192.0.2.2"), Count: 4, HeaderFrom: "example.com", AuthSPF: []dmarc.SPFResult{{Domain: "example.com", Result: dmarc.ResultPass}}}
	rep := dmarc.AggregateReport{
		Reporter: dmarc.Reporter{OrgName: "Example Inc", Email: "noreply@example.net"}, ID: "1",
		Period: dmarc.Period{Begin: time.Unix(1700000000, 0), End: time.Unix(1700086399, 0)},
	}
	sum := func(rep dmarc.AggregateReport, rows ...dmarc.Row) dmarc.Digest {
		var f dmarc.Fingerprint
		for i := range rows {
			f.Add(&rows[i])
		}
		return f.Sum(&rep)
	}
	if sum(rep, one, two) != sum(rep, two, one) {
		t.Error("the order of rows changes the hash")
	}
	other := two
	other.Count = 5
	renamed := rep
	renamed.ID = "2"
	for name, d := range map[string]dmarc.Digest{
		"a row less": sum(rep, one), "a row twice": sum(rep, one, two, two), "another count": sum(rep, one, other), "another report": sum(renamed, one, two),
	} {
		if d == sum(rep, one, two) {
			t.Errorf("%s has the same hash", name)
		}
	}
}

func TestReporterKeyIsTheFoldedNameAndTheDomainOfTheAddress(t *testing.T) {
	for want, r := range map[string]dmarc.Reporter{
		"example inc|example.net": {OrgName: " Example INC ", Email: "No-Reply@Example.NET"},
		"|example.net":            {Email: "<a@example.net>"},
		"x|":                      {OrgName: "x", Email: "no address"},
	} {
		if got := r.Key(); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}

func TestEveryFlagIsDocumented(t *testing.T) {
	if want := bits.Len64(uint64(dmarc.FlagOverlaps)); len(dmarc.ReportFlagDocs) < want {
		t.Errorf("%d flags of reports are described, want at least %d", len(dmarc.ReportFlagDocs), want)
	}
	if got := (dmarc.FlagOrgNameDerived | dmarc.FlagOverlaps).Names(); len(got) != 2 || got[0] != "org_name_derived" || got[1] != "overlaps" {
		t.Errorf("names = %q", got)
	}
	if got := (dmarc.RowNoSource | dmarc.RowBadName).Names(); len(got) != 2 || got[0] != "no_source" || got[1] != "bad_name" {
		t.Errorf("names = %q", got)
	}
	seen := map[dmarc.Outcome]bool{}
	for _, d := range dmarc.OutcomeDocs {
		if seen[d.Outcome] || d.Text == "" {
			t.Errorf("outcome %s is described twice or not at all", d.Outcome)
		}
		seen[d.Outcome] = true
	}
}
