package records

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records/knottest"
)

const corp = `v=DMARC1; p=reject`

// The walks of RFC 9989, section 4.10, over real servers: who publishes what,
// and what that means for an author domain.
var walks = []struct {
	name    string
	records map[string]string // by name; several with a line each
	exists  []string          // names that exist besides
	fails   []string
	author  string
	at      string
	tag     string
	policy  dmarc.Policy
	org     string
	asked   string // "" is not looked at
	old     *ListedPolicy
}{
	{name: "own record", records: map[string]string{"corp.example": corp}, author: "corp.example",
		at: "corp.example", tag: "p", policy: dmarc.PolicyReject, org: "corp.example", asked: "corp.example example"},
	{name: "sub-domain without sp", records: map[string]string{"corp.example": corp}, exists: []string{"hr.corp.example"}, author: "hr.corp.example",
		at: "corp.example", tag: "p", policy: dmarc.PolicyReject, org: "corp.example", asked: "hr.corp.example corp.example example"},
	{name: "sub-domain with sp", records: map[string]string{"corp.example": corp + "; sp=none; np=reject"}, exists: []string{"hr.corp.example"}, author: "hr.corp.example",
		at: "corp.example", tag: "sp", policy: dmarc.PolicyNone, org: "corp.example"},
	{name: "sub-domain that does not exist", records: map[string]string{"corp.example": corp + "; sp=none; np=reject"}, author: "no-such.corp.example",
		at: "corp.example", tag: "np", policy: dmarc.PolicyReject, org: "corp.example"},
	{name: "empty name", records: map[string]string{"corp.example": corp + "; sp=none; np=reject"}, exists: []string{"x.dept.corp.example"}, author: "dept.corp.example",
		at: "corp.example", tag: "sp", policy: dmarc.PolicyNone, org: "corp.example"},
	{name: "the shortest name wins", records: map[string]string{"corp.example": "v=DMARC1; p=none; sp=quarantine", "eu.corp.example": corp}, exists: []string{"a.eu.corp.example"}, author: "a.eu.corp.example",
		at: "corp.example", tag: "sp", policy: dmarc.PolicyQuarantine, org: "corp.example", asked: "a.eu.corp.example eu.corp.example corp.example example"},
	{name: "psd=n stops", records: map[string]string{"corp.example": "v=DMARC1; p=none; sp=quarantine", "eu.corp.example": corp + "; psd=n"}, exists: []string{"a.eu.corp.example"}, author: "a.eu.corp.example",
		at: "eu.corp.example", tag: "p", policy: dmarc.PolicyReject, org: "eu.corp.example", asked: "a.eu.corp.example eu.corp.example"},
	{name: "public suffix operator", records: map[string]string{"bank.example": "v=DMARC1; p=reject; sp=quarantine; psd=y"}, exists: []string{"tiny.bank.example"}, author: "tiny.bank.example",
		at: "bank.example", tag: "sp", policy: dmarc.PolicyQuarantine, org: "tiny.bank.example", asked: "tiny.bank.example bank.example"},
	{name: "organization below a public suffix operator", records: map[string]string{"bank.example": "v=DMARC1; p=reject; sp=quarantine; psd=y", "giant.bank.example": "v=DMARC1; p=none"}, exists: []string{"m.giant.bank.example"}, author: "m.giant.bank.example",
		at: "giant.bank.example", tag: "p", policy: dmarc.PolicyNone, org: "giant.bank.example", asked: "m.giant.bank.example giant.bank.example bank.example"},
	{name: "ten labels", records: map[string]string{"corp.example": corp}, exists: []string{"a.b.c.d.e.f.g.h.corp.example"}, author: "a.b.c.d.e.f.g.h.corp.example",
		at: "corp.example", tag: "p", policy: dmarc.PolicyReject, org: "corp.example",
		asked: "a.b.c.d.e.f.g.h.corp.example d.e.f.g.h.corp.example e.f.g.h.corp.example f.g.h.corp.example g.h.corp.example h.corp.example corp.example example"},
	{name: "eight labels", author: "c.d.e.f.g.h.corp.example", org: "c.d.e.f.g.h.corp.example",
		asked: "c.d.e.f.g.h.corp.example d.e.f.g.h.corp.example e.f.g.h.corp.example f.g.h.corp.example g.h.corp.example h.corp.example corp.example example"},
	{name: "two records", records: map[string]string{"corp.example": corp + "\nv=DMARC1; p=none"}, author: "corp.example", org: "corp.example", asked: "corp.example example"},
	{name: "broken sp with rua", records: map[string]string{"corp.example": "v=DMARC1; p=quarantine; sp=block; rua=mailto:d@corp.example"}, author: "corp.example",
		at: "corp.example", tag: "p", policy: dmarc.PolicyNone, org: "corp.example"},
	{name: "test mode", records: map[string]string{"corp.example": "v=DMARC1; p=reject; sp=quarantine; t=y"}, author: "corp.example",
		at: "corp.example", tag: "p", policy: dmarc.PolicyQuarantine, org: "corp.example"},
	{name: "test mode of a sub-domain", records: map[string]string{"corp.example": "v=DMARC1; p=reject; sp=quarantine; t=y"}, exists: []string{"hr.corp.example"}, author: "hr.corp.example",
		at: "corp.example", tag: "sp", policy: dmarc.PolicyNone, org: "corp.example"},
	{name: "suffix of the list without psd", records: map[string]string{"co.uk": corp}, exists: []string{"u.co.uk"}, author: "u.co.uk",
		at: "co.uk", tag: "p", policy: dmarc.PolicyReject, org: "co.uk", old: &ListedPolicy{OrganizationalDomain: "u.co.uk"}},
	{name: "a name in the middle that cannot be looked up", records: map[string]string{"corp.example": corp}, exists: []string{"a.eu.corp.example"}, fails: []string{"_dmarc.eu.corp.example"}, author: "a.eu.corp.example"},
	{name: "broken p without rua", records: map[string]string{"corp.example": "v=DMARC1; p=nonsense"}, author: "corp.example",
		at: "corp.example", tag: "p", org: "corp.example"},
}

func TestWalksThroughRealServers(t *testing.T) {
	knottest.Require(t)
	zones := map[string]*knottest.Zone{"co.uk": {Text: apex, Unsigned: true}}
	var fails []string
	for i := range walks {
		c := &walks[i]
		// Each has zones of its own, so that one set of servers does for all.
		own := strings.NewReplacer("corp.example", fmt.Sprintf("corp%d.example", i), "bank.example", fmt.Sprintf("bank%d.example", i)).Replace
		for _, name := range []string{"corp.example", "bank.example"} {
			zones[own(name)] = &knottest.Zone{Text: apex, Unsigned: name == "bank.example"}
		}
		add := func(name, line string) {
			for origin, z := range zones {
				if rest, ok := strings.CutSuffix(name, "."+origin); ok {
					z.Text += rest + line
					return
				}
			}
			t.Fatalf("%s is in no zone", name)
		}
		for at, records := range c.records {
			for text := range strings.SplitSeq(records, "\n") {
				add("_dmarc."+own(at), txt("", own(text)))
			}
		}
		for _, name := range c.exists {
			add(own(name), " A 192.0.2.9\n")
		}
		for _, name := range c.fails {
			fails = append(fails, own(name))
		}
		c.author, c.at, c.org, c.asked = own(c.author), own(c.at), own(c.org), own(c.asked)
	}
	s := knottest.Start(t, zones, fails)
	client := client(t, s.Unbound)
	for _, c := range walks {
		t.Run(c.name, func(t *testing.T) {
			txt := func(name string) Answer { return client.Lookup(t.Context(), name, dns.TypeTXT) }
			w := walk(c.author, txt)
			if (w.Failed != nil) != (c.fails != nil) {
				t.Fatalf("the lookup that failed: %+v", w.Failed)
			}
			if w.Failed != nil {
				return
			}
			exists := client.Lookup(t.Context(), c.author, dns.TypeSOA)
			e := w.policy(exists.nonexistent())
			if e.At != c.at || e.Tag != c.tag || e.Policy != c.policy || e.OrganizationalDomain != c.org {
				t.Errorf("at %q, %s, %s, org %q; want %q, %s, %s, %q", e.At, e.Tag, e.Policy, e.OrganizationalDomain, c.at, c.tag, c.policy, c.org)
			}
			if c.asked != "" && !slices.Equal(w.Asked, strings.Fields(c.asked)) {
				t.Errorf("asked %v, want %s", w.Asked, c.asked)
			}
			if c.old != nil {
				old := listedPolicy(c.author, txt)
				if old != *c.old {
					t.Errorf("older receivers find %+v, want %+v", old, *c.old)
				}
			}
		})
	}
}

func TestDMARCRecordsAreReadAsReceiversDo(t *testing.T) {
	for _, c := range []struct {
		text string
		want *DMARCRecord
	}{
		{" v=DMARC1; p=none", nil},
		{"v=dmarc1; p=none", nil},
		{"v=DMARC10; p=none", nil},
		{"\"v=DMARC1; p=none\"", nil},
		{"p=none; v=DMARC1", nil},
		{"v=DMARC1\\; p=none", nil},
		{"", nil},
		{"V = DMARC1 ;p=Reject;", &DMARCRecord{P: dmarc.PolicyReject, Tags: []DMARCTag{{"p", "Reject"}}}},
		{"v=DMARC1", &DMARCRecord{}},
		{"v=DMARC1; p=none; sp=oops; ASPF=S; psd=N; t=Y; fo=1:d", &DMARCRecord{P: dmarc.PolicyNone, ASPF: dmarc.AlignmentStrict, PSD: 'n', Testing: true, FO: "1:d",
			Tags: []DMARCTag{{"p", "none"}, {"sp", "oops"}, {"aspf", "S"}, {"psd", "N"}, {"t", "Y"}, {"fo", "1:d"}}}},
		{"v=DMARC1; p=none, sp=none; p=reject; what; ; np=reject", &DMARCRecord{NP: dmarc.PolicyReject,
			Tags: []DMARCTag{{"p", "none, sp=none"}, {"np", "reject"}}, Unreadable: []string{"p=reject", "what", ""}}},
		{"v=DMARC1; fo=0:1; adkim=x", &DMARCRecord{Tags: []DMARCTag{{"fo", "0:1"}, {"adkim", "x"}}}},
	} {
		if want := c.want; want != nil {
			want.Text = c.text
			if want.ADKIM == 0 {
				want.ADKIM = dmarc.AlignmentRelaxed
			}
			if want.ASPF == 0 {
				want.ASPF = dmarc.AlignmentRelaxed
			}
			if want.PSD == 0 {
				want.PSD = 'u'
			}
			if want.FO == "" {
				want.FO = "0"
			}
		}
		if got := ParseDMARC(c.text); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", c.text, got, c.want)
		}
	}
}

func TestReportURIsAreTakenApart(t *testing.T) {
	for _, c := range []struct {
		text string
		want []ReportURI
	}{
		{"mailto:d@corp.test", []ReportURI{{Text: "mailto:d@corp.test", Scheme: "mailto", Address: "d@corp.test", Host: "corp.test"}}},
		{"MAILTO:a%2Cb@Corp.TEST!10m , https://r.test/x", []ReportURI{
			{Text: "MAILTO:a%2Cb@Corp.TEST", Scheme: "mailto", Size: "10m", Problem: "what stands before the @ is no mailbox"},
			{Text: "https://r.test/x", Scheme: "https", Host: "r.test"},
		}},
		{"d@corp.test", []ReportURI{{Text: "d@corp.test", Problem: "it has no scheme such as mailto:"}}},
		{"mailto:d", []ReportURI{{Text: "mailto:d", Scheme: "mailto", Problem: "it names no mail address"}}},
		{"mailto:d@corp.test!big", []ReportURI{{Text: "mailto:d@corp.test", Scheme: "mailto", Address: "d@corp.test", Host: "corp.test", Size: "big", Problem: "it holds a ! that is not written as %21"}}},
		{"mailto:d@corp.test?subject=x", []ReportURI{{Text: "mailto:d@corp.test?subject=x", Scheme: "mailto", Address: "d@corp.test", Host: "corp.test"}}},
		{"mailto:d@-x-.test", []ReportURI{{Text: "mailto:d@-x-.test", Scheme: "mailto", Problem: "what stands after the @ is no domain name: a label begins or ends with a hyphen"}}},
		{"", nil},
	} {
		if got := parseURIs(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", c.text, got, c.want)
		}
	}
}

func FuzzParseDMARC(f *testing.F) {
	for _, text := range []string{"v=DMARC1; p=none; rua=mailto:a@b.test!10m,https://x", " v=DMARC1", "\"v=DMARC1\\; p=none\"", "p=none,v=dmarc1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := ParseDMARC(text)
		reason, fixed := nearMiss(text)
		if r != nil && reason != "" {
			t.Errorf("%q is a record and looks like one", text)
		}
		if reason != "" && !isDMARC(fixed) {
			t.Errorf("%q is mended to %q, which is no record", text, fixed)
		}
		if r == nil {
			return
		}
		line := r.zone("corp.test")
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if again := ParseDMARC(texts(Answer{RRs: []dns.RR{rr}})[0]); again == nil || again.P != r.P || again.SP != r.SP {
			t.Errorf("%q became %q", text, line)
		}
	})
}
