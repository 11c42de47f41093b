package records

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestPoliciesOfMTASTSAreReadLineByLine(t *testing.T) {
	for _, c := range []struct {
		body string
		want string // mode, age, mail hosts, and what is wrong
	}{
		{"version: STSv1\r\nmode: enforce\r\nmx: mx1.corp.example\r\nmx: *.corp.example\r\nmax_age: 604800\r\n", "enforce 604800 mx1.corp.example,*.corp.example"},
		{"version:STSv1\nmode:testing\nmx:MX1.corp.example\nmax_age:0", "testing 0 mx1.corp.example"},
		{"version: STSv1  \nmode: none\t\nmax_age: 86400\n\n\n", "none 86400 "},
		{"max_age: 1\nmx: a.b\nmode: enforce\nversion: STSv1\nx-note: anything\n", "enforce 1 a.b"},
		{"version: STSv1\nmode: enforce\nmode: none\nmx: a.b\nmax_age: 1\nmax_age: x\n", "enforce 1 a.b"},
		{"", " -1  [1: it is empty] [0: version is missing] [0: mode is missing] [0: max_age is missing] [0: mx is missing]"},
		{"version: STSv2\nmode: enforce\nmx: a.b\nmax_age: 1", `enforce 1 a.b [1: the version is "STSv2", not STSv1]`},
		{"version: STSv1\nmode: Enforce\nmx: a.b\nmax_age: 1", ` 1 a.b [2: the mode is "Enforce", not enforce, testing or none]`},
		{"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 31557601", "enforce 31557601 a.b [4: max_age is 31557601, over 31557600]"},
		{"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 31557600", "enforce 31557600 a.b"},
		{"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: -1", `enforce -1 a.b [4: max_age is "-1", not a number of seconds]`},
		{"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 1d", `enforce -1 a.b [4: max_age is "1d", not a number of seconds]`},
		{"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 99999999999999999999", `enforce -1 a.b [4: max_age is "99999999999999999999", not a number of seconds]`},
		{"version: STSv1\nmode: enforce\nmx: 192.0.2.1\nmax_age: 1", `enforce 1  [3: "192.0.2.1" is not the name of a mail host]`},
		{"version: STSv1\nmode: enforce\nmx: a.*.b\nmax_age: 1", `enforce 1  [3: "a.*.b" is not the name of a mail host]`},
		{"version: STSv1\n\nmode: enforce\nmx\nmx: \nmax_age: 1\nmx: a.b", `enforce 1 a.b [2: it is empty] [4: "mx" has no colon] [5: mx has no value]`},
		{"<html>\n<a href=\"x:y\">", " -1  [1: \"<html>\" has no colon] [2: \"<a href=\\\"x\" is not a name of a field] [0: version is missing] [0: mode is missing] [0: max_age is missing] [0: mx is missing]"},
		{"\ufeffversion: STSv1\nmode: none\nmax_age: 1", "none 1  [1: it holds a character that is not allowed] [0: version is missing]"},
	} {
		p := parseMTASTSPolicy([]byte(c.body))
		got := fmt.Sprintf("%s %d %s", p.Mode, p.MaxAge, strings.Join(p.MX, ","))
		for _, e := range p.errs {
			got += fmt.Sprintf(" [%d: %s]", e.line, e.why)
		}
		if got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.body, got, c.want)
		}
	}
}

func TestAPolicyCoversHosts(t *testing.T) {
	for _, c := range []struct {
		pattern, host string
		want          bool
	}{
		{"mx.corp.example", "mx.corp.example", true},
		{"MX.corp.example", "mx.Corp.example", true},
		{"mx.corp.example", "mx2.corp.example", false},
		{"*.corp.example", "mx.corp.example", true},
		{"*.corp.example", "a.mx.corp.example", false},
		{"*.corp.example", "corp.example", false},
		{"*.corp.example", "xcorp.example", false},
	} {
		p := MTASTSPolicy{MX: []string{c.pattern}}
		if got := p.covers(c.host); got != c.want {
			t.Errorf("%s covers %s: %t", c.pattern, c.host, got)
		}
	}
}

func TestRecordsOfMTASTSNameTheIDOrNothing(t *testing.T) {
	for _, c := range []struct {
		texts []string
		want  string
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{[]string{"v=STSv1;id=1"}, "1"},
		{[]string{"v=STSv1 ; id=1 ; x=y"}, "1"},
		{[]string{"other", "v=STSv1; id=1", "v=STSv2; id=3"}, "1"},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 32)}, strings.Repeat("a", 32)},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 33)}, "mtasts.syntax"},
		{[]string{"v=STSv1; id=a b"}, "mtasts.syntax"},
		{[]string{"v=STSv1; id="}, "mtasts.syntax"},
		{[]string{"v=STSv1; ID=1"}, "mtasts.syntax"},
		{[]string{"v=STSv1;"}, "mtasts.syntax"},
		{[]string{"v=STSv1"}, "mtasts.syntax"},
		{[]string{"v=STSv1 id=1"}, "mtasts.syntax"},
		{[]string{" v=STSv1; id=1"}, "mtasts.syntax"},
		{[]string{"\"v=STSv1; id=1\""}, "mtasts.syntax"},
		{[]string{"v=STSv1; id=1", "v=STSv1; id=1;"}, "mtasts.several"},
		{[]string{"v=TLSRPTv1; rua=mailto:a@b.c"}, "mtasts.missing"},
	} {
		var zone strings.Builder
		for _, text := range c.texts {
			zone.WriteString(txt("_mta-sts", text))
		}
		p := lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": zone.String() + "mta-sts A 192.0.2.1\n@ MX 10 mx\nmx A 192.0.2.2\n"}), "corp.test", Options{})
		got := p.MTASTS.ID
		for _, f := range checkMTASTS(p) {
			got = f.ID
		}
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.texts, got, c.want)
		}
	}
}

func TestLookupsOfMTASTSThatFailAreUnknown(t *testing.T) {
	zones := map[string]string{"corp.test": stsRecord + policyHost + twoMailHosts}
	for _, broken := range []string{"_mta-sts.corp.test", "mta-sts.corp.test", "mta-sts.corp.test AAAA", "corp.test MX"} {
		r := newZoneResolver(t, zones)
		r.broken[broken] = Answer{Rcode: dns.RcodeServerFailure}
		p := lookedUp(t, r, "corp.test", Options{Fetcher: servedPolicy{body: policyStart + "mx: mx1.corp.test\nmx: mx2.corp.test"}})
		if got := checkMTASTS(p); len(got) > 0 {
			t.Errorf("%s fails: %q", broken, idsOf(got))
		}
	}
}

func TestTheRecordAndPolicyToPublish(t *testing.T) {
	p := lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": twoMailHosts}), "corp.test", Options{Now: time.Date(2026, 5, 12, 8, 30, 0, 0, time.UTC)})
	got := checkMTASTS(p)
	const want = `_mta-sts.corp.test. IN TXT "v=STSv1; id=20260512T083000Z"
; served at https://mta-sts.corp.test/.well-known/mta-sts.txt:
; version: STSv1
; mode: testing
; mx: mx1.corp.test
; mx: mx2.corp.test
; max_age: 604800`
	if len(got) != 1 || got[0].Publish() != want {
		t.Fatalf("to publish:\n%s", got[0].Publish())
	}
	var lines []string
	for line := range strings.Lines(want) {
		if text, ok := strings.CutPrefix(line, "; "); ok && !strings.Contains(text, "https") {
			lines = append(lines, text)
		}
	}
	if policy := parseMTASTSPolicy([]byte(strings.Join(lines, ""))); len(policy.errs) > 0 || !policy.covers("mx1.corp.test") {
		t.Errorf("the policy is not valid: %v", policy.errs)
	}
}

func TestRecordsOfTLSReports(t *testing.T) {
	for text, want := range map[string]string{
		"v=TLSRPTv1; rua=mailto:a@corp.example":                              "",
		"v=TLSRPTv1;rua=mailto:a@corp.example?subject=x,https://b.c/d ; x":   "",
		"v=TLSRPTv1; rua=MAILTO:a@corp.example":                              "",
		"v=TLSRPTv1; rua=":                                                   "there is no rua",
		"v=TLSRPTv1; x=y":                                                    "there is no rua",
		"v=TLSRPTv1; rua=a@corp.example":                                     `"a@corp.example" has neither mailto: nor https: before it`,
		"v=TLSRPTv1; rua=mailto:corp.example":                                `"mailto:corp.example" holds no mail address`,
		"v=TLSRPTv1; rua=mailto:a@corp.example!10m":                          `"mailto:a@corp.example!10m" is not a URI`,
		"v=TLSRPTv1; rua=http://corp.example":                                `"http://corp.example" is neither mailto: nor https:`,
		"v=TLSRPTv1; rua=https:/x":                                           `"https:/x" names no host`,
		"v=TLSRPTv1; rua=mailto:a@corp.example,,mailto:b@c.example":          "rua holds an empty destination",
		"v=TLSRPTv1; rua=mailto:a@b.c" + strings.Repeat(",mailto:a@b.c", 20): "rua names more than 20 destinations",
		"v=TLSRPTv1":                            `"v=TLSRPTv1" does not begin with v=TLSRPTv1;`,
		"v=tlsrptv1; rua=mailto:a@corp.example": `"v=tlsrptv1; rua=mailto:a@corp.example" does not begin with v=TLSRPTv1;`,
	} {
		p := lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": txt("_smtp._tls", text)}), "corp.test", Options{})
		if p.TLSRPT.why != want {
			t.Errorf("%s: %q", text, p.TLSRPT.why)
		}
	}
}

func TestTLSReportsAreMissedMoreWhereTLSIsEnforced(t *testing.T) {
	for zone, want := range map[string][]string{
		twoMailHosts:                            {"info tlsrpt.missing corp.test"},
		twoMailHosts + stsRecord:                {"warning tlsrpt.missing corp.test"},
		twoMailHosts + tlsa("mx1", "3 1 1", 32): {"warning tlsrpt.missing corp.test"},
		"@ MX 0 .\n":                            nil,
	} {
		p := lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": zone}), "corp.test", Options{})
		if got := idsOf(checkTLSRPT(p)); !slices.Equal(got, want) {
			t.Errorf("%s: %q", zone, got)
		}
	}
	r := newZoneResolver(t, map[string]string{"corp.test": twoMailHosts})
	r.broken["_smtp._tls.corp.test"] = Answer{Err: "timeout"}
	if got := checkTLSRPT(lookedUp(t, r, "corp.test", Options{})); len(got) > 0 {
		t.Errorf("the lookup fails: %q", idsOf(got))
	}
	p := lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": twoMailHosts}), "corp.test", Options{ReportAddresses: []string{"in@reports.example"}})
	if got, want := checkTLSRPT(p)[0].Publish(), `_smtp._tls.corp.test. IN TXT "v=TLSRPTv1; rua=mailto:in@reports.example"`; got != want {
		t.Errorf("to publish: %s", got)
	}
}

func FuzzMTASTSPolicy(f *testing.F) {
	f.Add([]byte(policyStart + "mx: *.corp.example\r\n"))
	f.Add([]byte("version: STSv1\nmode: none\nmax_age: 99999999999\nmx:\n:\n\n"))
	f.Add([]byte("\xff\xfe<html>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p := parseMTASTSPolicy(body)
		if len(p.errs) > maxPolicyErrors || len(p.MX) > maxPolicyMX {
			t.Errorf("%d errors, %d mail hosts", len(p.errs), len(p.MX))
		}
		if len(p.errs) == 0 && (p.Mode == "" || p.MaxAge < 0 || p.MaxAge > maxPolicyAge || p.Mode != "none" && len(p.MX) == 0) {
			t.Errorf("%q is valid: %+v", body, p)
		}
	})
}

func FuzzTLSRPT(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a@corp.example,https://b.c/d")
	f.Add("v=TLSRPTv1;rua=,;rua=:\x00!")
	f.Fuzz(func(t *testing.T, record string) {
		uris, why := parseTLSRPT(record)
		if (why == "") == (len(uris) == 0) || len(uris) > maxTLSRPTURIs {
			t.Errorf("%q: %q, %q", record, uris, why)
		}
	})
}

// How bad it is depends on whether senders enforce the policy, and on what may be
// gone soon.
func TestSeveritiesOfMTASTSDependOnTheMode(t *testing.T) {
	zone := apex + twoMailHosts + stsRecord + policyHost
	for name, c := range map[string]struct {
		served servedPolicy
		probe  Probe
		want   []string
	}{
		"enforced":              {servedPolicy{body: policyStart + "mx: *.corp.test\n"}, plainHosts{}, []string{"error mtasts.mx_certificate", "error mtasts.mx_certificate"}},
		"tested":                {servedPolicy{body: "version: STSv1\nmode: testing\nmax_age: 604800\nmx: *.corp.test\n"}, plainHosts{}, []string{"warning mtasts.mx_certificate", "warning mtasts.mx_certificate", "info mtasts.mode"}},
		"none":                  {servedPolicy{body: "version: STSv1\nmode: none\nmax_age: 604800\n"}, plainHosts{}, []string{"info mtasts.mode"}},
		"for an hour":           {servedPolicy{body: "version: STSv1\nmode: enforce\nmax_age: 3600\nmx: *.corp.test\n"}, nil, []string{"warning mtasts.mode"}},
		"a line that is wrong":  {servedPolicy{body: policyStart + "mx: *.corp.test\nmx: a b\n"}, nil, []string{"error mtasts.policy in line 5"}},
		"a policy that is not":  {servedPolicy{body: "version: STSv1\nmax_age: 604800\nmx: *.corp.test\n"}, nil, []string{"error mtasts.policy"}},
		"not there":             {servedPolicy{status: 404}, nil, []string{"error mtasts.fetch"}},
		"no answer for now":     {servedPolicy{err: context.DeadlineExceeded}, nil, []string{"unknown mtasts.fetch"}},
		"nobody listens for it": {servedPolicy{err: errors.New("connection refused")}, nil, []string{"error mtasts.fetch"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range checkMTASTS(lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": zone}), "corp.test", Options{Fetcher: c.served, Probe: c.probe})) {
				got = append(got, strings.TrimSpace(f.Severity.String()+" "+f.ID+f.Value("where")))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
