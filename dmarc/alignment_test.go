package dmarc_test

import (
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestOrganizationalDomain(t *testing.T) {
	for domain, want := range map[string]string{
		"example.com":            "example.com",
		"mail.example.com":       "example.com",
		"a.b.c.example.co.uk":    "example.co.uk",
		"co.uk":                  "co.uk", // a public suffix is its own
		"www.ck":                 "www.ck",
		"user.github.io":         "user.github.io", // the private section counts
		"mail.user.github.io":    "user.github.io",
		"localhost":              "localhost",
		"host.invalid":           "host.invalid",
		"xn--bcher-kva.example.": "xn--bcher-kva.example",
	} {
		if got := dmarc.OrganizationalDomain(domain); got != want {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
}

func TestAlignmentIsJudgedFromTheRawResults(t *testing.T) {
	pass, fail := dmarc.ResultPass, dmarc.ResultFail
	dkim := func(domain string, r dmarc.Result) []dmarc.DKIMResult {
		return []dmarc.DKIMResult{{Domain: domain, Result: r}}
	}
	spf := func(domain, scope string, r dmarc.Result) []dmarc.SPFResult {
		return []dmarc.SPFResult{{Domain: domain, Scope: scope, Result: r}}
	}
	strict := dmarc.PolicyPublished{ADKIM: dmarc.AlignmentStrict, ASPF: dmarc.AlignmentStrict}
	for _, c := range []struct {
		name   string
		row    dmarc.Row
		policy dmarc.PolicyPublished
		want   dmarc.Alignment
	}{
		{"both aligned", dmarc.Row{HeaderFrom: "a.example.com", DKIM: pass, SPF: pass, AuthDKIM: dkim("example.com", pass), AuthSPF: spf("b.example.com", "mfrom", pass)},
			dmarc.PolicyPublished{}, dmarc.Alignment{DKIM: true, SPF: true}},
		{"a signature of another organization", dmarc.Row{HeaderFrom: "example.com", DKIM: fail, SPF: fail, AuthDKIM: dkim("example.net", pass)},
			dmarc.PolicyPublished{}, dmarc.Alignment{}},
		{"strict wants the same name", dmarc.Row{HeaderFrom: "a.example.com", DKIM: fail, SPF: fail, AuthDKIM: dkim("example.com", pass)},
			strict, dmarc.Alignment{}},
		{"strict is not in force everywhere", dmarc.Row{HeaderFrom: "a.example.com", DKIM: pass, SPF: fail, AuthDKIM: dkim("example.com", pass)},
			strict, dmarc.Alignment{Disagreement: dmarc.PassByOtherOrg}},
		{"a pass without any result", dmarc.Row{HeaderFrom: "example.com", DKIM: pass, SPF: fail},
			dmarc.PolicyPublished{}, dmarc.Alignment{Disagreement: dmarc.PassWithoutProof}},
		{"a failure despite a result", dmarc.Row{HeaderFrom: "example.com", DKIM: fail, SPF: fail, AuthDKIM: dkim("example.com", pass)},
			dmarc.PolicyPublished{}, dmarc.Alignment{DKIM: true, Disagreement: dmarc.FailDespiteProof}},
		{"no verdict", dmarc.Row{HeaderFrom: "example.com", AuthDKIM: dkim("example.com", pass)},
			dmarc.PolicyPublished{}, dmarc.Alignment{DKIM: true, Disagreement: dmarc.VerdictMissing}},
		{"HELO of a null sender is uncertain", dmarc.Row{HeaderFrom: "example.com", DKIM: fail, SPF: pass, NullSender: true, AuthSPF: spf("mx.example.com", "helo", pass)},
			dmarc.PolicyPublished{}, dmarc.Alignment{SPF: true, HELO: true}},
		{"HELO of another sender counts for nothing", dmarc.Row{HeaderFrom: "example.com", DKIM: fail, SPF: fail, EnvelopeFrom: "list.example.net", AuthSPF: spf("mx.example.com", "helo", pass)},
			dmarc.PolicyPublished{}, dmarc.Alignment{}},
		{"no author domain", dmarc.Row{DKIM: fail, SPF: fail, AuthDKIM: dkim("", pass)},
			dmarc.PolicyPublished{}, dmarc.Alignment{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a dmarc.Aligner
			if got := a.Judge(&c.row, &c.policy); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}
