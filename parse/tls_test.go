package parse

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

// tlsOf returns the only report of a message, without its hash.
func tlsOf(t *testing.T, raw, name string) dmarc.TLSReport {
	t.Helper()
	found := read(t, raw, name, DefaultLimits)
	_, _, tls, _ := reports(found)
	if len(tls) != 1 || len(found.Parts) != 1 {
		t.Fatalf("found %v, want one TLS report", summary(found))
	}
	if tls[0].Hash.IsZero() {
		t.Error("the report has no hash")
	}
	r := *tls[0]
	r.Hash = dmarc.Digest{}
	return r
}

func TestTLSReportsAreReadWhole(t *testing.T) {
	day := dmarc.Period{Begin: at("2024-01-01T00:00:00Z"), End: at("2024-01-01T23:59:59Z")}
	for name, want := range map[string]dmarc.TLSReport{
		"full.json": {
			OrgName: "Reporter Inc.", Contact: "tls@reporter.example", ID: "2024-01-01_example.com", Domain: "example.com", Period: day,
			Policies: []dmarc.TLSPolicy{{
				Type: "sts", Strings: []string{"version: STSv1", "mode: testing", "mx: *.mail.example.com", "max_age: 86400"},
				Domain: "example.com", MXHosts: []string{"*.mail.example.com"}, Successful: 5326, Failed: 303,
				Details: []dmarc.TLSFailure{
					{ResultType: "certificate-expired", SendingMTAIP: "2001:db8:abcd:12::1", ReceivingMXHost: "mx1.mail.example.com", FailedSessions: 100},
					{ResultType: "starttls-not-supported", SendingMTAIP: "2001:db8:abcd:13::1", ReceivingIP: "203.0.113.56", ReceivingMXHost: "mx2.mail.example.com",
						ReceivingMXHELO: "mx2", FailedSessions: 203, AdditionalInfo: "https://reports.example/info?id=5065427", FailureReasonCode: "X509_V_ERR"},
				},
			}},
		},
		"microsoft.json": {
			OrgName: "Big Vendor", Contact: "tls@vendor.example", ID: "133485+example.com+", Domain: "example.com",
			Period: dmarc.Period{Begin: at("2024-01-01T00:00:00Z"), End: at("2024-01-02T00:00:00Z")},
			Policies: []dmarc.TLSPolicy{{
				Type: "tlsa", Strings: []string{"3 1 1 AA", "3 1 1 BB"}, Domain: "example.com", Successful: 4, Failed: 3,
				Details: []dmarc.TLSFailure{{ResultType: "certificate-expired", FailedSessions: 3}},
			}},
		},
		"odd.json": {
			OrgName: "Odd", ID: "7", Domain: "example.com", Period: day,
			Policies: []dmarc.TLSPolicy{{
				Type: "sts", Strings: []string{"version: STSv1"}, Domain: "example.com", MXHosts: []string{"mx.example.com", "*.b.example.com"},
				Successful: 42, Failed: 7, Details: []dmarc.TLSFailure{{ResultType: "flux-error", FailedSessions: 1, AdditionalInfo: "x"}},
			}},
			Flags: dmarc.FlagUnknownWords | dmarc.FlagMissingFields | dmarc.FlagCountsDiffer | dmarc.FlagTrailingData | dmarc.FlagAlias,
		},
		"empty.json": {OrgName: "Reporter", ID: "e", Period: day},
	} {
		t.Run(name, func(t *testing.T) {
			raw := file(t, "tls", name)
			for how, message := range map[string]string{
				"bare": raw, "gzip": gzipped(t, raw), "UTF-8 with a mark": "\xef\xbb\xbf" + raw,
				"indented": strings.NewReplacer(":", " :\n\t", "{", "{\r\n").Replace(strings.ReplaceAll(raw, ": ", ":")),
			} {
				if how == "indented" && name != "empty.json" {
					continue // it would change strings
				}
				if how == "indented" {
					message = strings.ReplaceAll(raw, ",", " ,\n\n\t")
				}
				if got := tlsOf(t, message, ""); !reflect.DeepEqual(got, want) {
					t.Errorf("%s\n got %+v\nwant %+v", how, got, want)
				}
			}
		})
	}
}

func TestATLSReportTakesWhatItLacksFromAround(t *testing.T) {
	const noDomain = `{"organization-name":"R","date-range":{"start-datetime":"2024-01-01T00:00:00Z","end-datetime":"2024-01-02T00:00:00Z"},"report-id":"1","policies":[{"policy":{"policy-type":"no-policy-found"},"summary":{"total-successful-session-count":1}}]}`
	const bare = `{"policies":[]}`
	const name = "reporter.example!example.org!1704067200!1704153599!1.json"
	fields := "From: a@mailer.example\nSubject: Report Domain: Example.NET; Submitter: sub.example Report-ID: <s1@x>\n"
	body := func(json string) string {
		return "Content-Type: application/tlsrpt+json; name=\"" + name + "\"\n\n" + json
	}
	for how, test := range map[string]struct{ raw, file, want string }{
		"the file name":     {noDomain, name, "R 1 example.org [domain_derived]"},
		"the subject":       {fields + body(noDomain), "", "R 1 example.net [domain_derived]"},
		"TLS-Report-Domain": {"TLS-Report-Domain: example.com\n" + fields + body(noDomain), "", "R 1 example.com [domain_derived]"},
		"nothing":           {noDomain, "", "R 1  [missing_fields]"},
		"everything":        {"TLS-Report-Submitter: tls.example\n" + fields + body(bare), "", "tls.example s1@x example.net [org_name_derived report_id_derived period_derived domain_derived]"},
		"the name for all":  {bare, name, "reporter.example hash example.org [org_name_derived report_id_derived period_derived domain_derived]"},
		"the sender of the mail": {"From: a@mailer.example\n" + strings.Replace(body(noDomain), `"organization-name":"R",`, "", 1), "",
			"reporter.example 1 example.org [org_name_derived domain_derived]"},
	} {
		r := tlsOf(t, test.raw, test.file)
		id, _, _ := strings.Cut(r.ID, ":")
		if got := fmt.Sprintf("%s %s %s %v", r.OrgName, id, r.Domain, r.Flags.Names()); got != test.want {
			t.Errorf("%s: %q, want %q", how, got, test.want)
		}
	}
}

func TestTheHashOfATLSReportIsThatOfItsContent(t *testing.T) {
	raw := file(t, "tls", "full.json")
	hash := func(raw string) dmarc.Digest {
		_, _, tls, _ := reports(read(t, raw, "", DefaultLimits))
		if len(tls) != 1 {
			t.Fatalf("%d TLS reports, want 1", len(tls))
		}
		return tls[0].Hash
	}
	first := hash(raw)
	for name, test := range map[string]struct {
		old, new string
		same     bool
	}{
		"white space":       {"\n", "\n\n", true},
		"a number as text":  {"5326", `"5326"`, true},
		"a name in capital": {`"example.com"`, `"EXAMPLE.com."`, true},
		"a list of one":     {`["*.mail.example.com"]`, `"*.mail.example.com"`, true},
		"another number":    {"5326", "5327", false},
		"another detail":    {`"failed-session-count": 100`, `"failed-session-count": 101`, false},
	} {
		changed := strings.Replace(raw, test.old, test.new, 1)
		if changed == raw {
			t.Fatalf("%s: nothing changed", name)
		}
		if same := hash(changed) == first; same != test.same {
			t.Errorf("%s: same hash %v, want %v", name, same, test.same)
		}
	}
}

func TestJSONThatIsNoTLSReport(t *testing.T) {
	pad := strings.Repeat(" ", 5000)
	for name, test := range map[string]struct{ raw, want string }{
		"it breaks off":            {`{"report-id":"1","policies":[{"policy":`, ": bad_json: the JSON breaks off"},
		"it breaks off in a text":  {`{"report-id":"1`, ": bad_json: the JSON breaks off"},
		"no JSON inside":           {`{"report-id":1,,}`, ": bad_json: no JSON: invalid character ',' after object key:value pair"},
		"a key of none":            {`{"a":1,` + pad + `"b":2}`, "not_a_report: JSON that is no TLS report"},
		"no date-range":            {`{"organization-name":"R","report-id":"1"}`, ": missing_required: a TLS report without a date-range that can be read"},
		"no name":                  {`{"report-id":"1","date-range":{"start-datetime":"2024-01-01T00:00:00Z","end-datetime":"2024-01-02T00:00:00Z"}}`, ": missing_required: a TLS report without organization-name"},
		"an object where text was": {`{"organization-name":{"a":["R"]},"report-id":"1"}`, ": missing_required: a TLS report without organization-name"},
	} {
		found := read(t, test.raw, "", DefaultLimits)
		if got := strings.Join(summary(found), "; "); !strings.HasPrefix(got, test.want[:min(len(test.want), 20)]) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		} else if !strings.Contains(name, "inside") && got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
