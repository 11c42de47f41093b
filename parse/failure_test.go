package parse

import (
	"crypto/sha256"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func file(t testing.TB, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// failureReport returns the only report of a mail, without its hash.
func failureReport(t *testing.T, raw string) dmarc.FailureReport {
	t.Helper()
	_, failure, _, others := reports(read(t, raw, "", DefaultLimits))
	if len(failure) != 1 || len(others) > 0 {
		t.Fatalf("%d failure reports, want 1; besides: %+v", len(failure), others)
	}
	if failure[0].Hash.IsZero() {
		t.Error("the report has no hash")
	}
	r := *failure[0]
	r.Hash = dmarc.Digest{}
	return r
}

func part(typ, content string) dmarc.SamplePart {
	return dmarc.SamplePart{MediaType: typ, Size: int64(len(content)), Hash: sha256.Sum256([]byte(content))}
}

func TestFailureReportsAreReadWhole(t *testing.T) {
	for name, want := range map[string]dmarc.FailureReport{
		"gateway.eml": {
			ReporterDomain: "reporter.example", FeedbackType: "auth-failure", AuthFailure: []string{"dmarc", "signature"},
			UserAgent: "Lua/1.0", Version: "1.0", Delivery: "policy", DeliveryWord: "smg-policy-action",
			Arrival: at("2024-01-02T10:00:00Z"), ArrivalSource: "field", SourceIP: netip.MustParseAddr("192.0.2.7"),
			ReportedDomain: "example.com", ReportedURIs: []string{"http://bad.example/a"}, NullSender: true,
			RcptTo: []string{"reader@reporter.example", "other@reporter.example"}, Incidents: 3,
			AuthResults: []string{"dmarc=fail (p=none; dis=none) header.from=example.com"}, DKIMDomain: "example.com",
			Headers: []dmarc.HeaderField{
				{Name: "Received", Value: "from sender.example ([192.0.2.7]) by in.reporter.example; Tue, 02 Jan 2024 10:00:00 +0000"},
				{Name: "from", Value: "Büro <office@example.com>"},
				{Name: "Subject", Value: "Grüße"},
				{Name: "Date", Value: "Tue, 02 Jan 2024 10:59:58 +0100"},
				{Name: "Message-ID", Value: "<sample-1@example.com>"},
				{Name: "List-Unsubscribe", Value: "<mailto:u@example.com>"},
			},
			Body:  []dmarc.SamplePart{part("text/html", "<p>private</p>"), part("application/pdf", "hello")},
			Other: []dmarc.HeaderField{{Name: "Message-ID", Value: "<sample-1@example.com>"}},
		},
		"mixed-base64.eml": {
			ReporterDomain: "provider.example", FeedbackType: "auth-failure", AuthFailure: []string{"dmarc"}, Version: "1",
			Delivery: "delivered", DeliveryWord: "delivered", IdentityAlign: "spf,dkim",
			Arrival: at("2024-01-02T09:59:00Z"), ArrivalSource: "field", SourceIP: netip.MustParseAddr("192.0.2.8"),
			ReportedDomain: "example.com", MailFrom: "a@example.net", Incidents: 1,
			Headers: []dmarc.HeaderField{
				{Name: "From", Value: "Someone <info@example.com>"}, {Name: "Subject", Value: "Reminder"},
				{Name: "Date", Value: "Tue, 02 Jan 2024 09:58:00 +0000"}, {Name: "Message-ID", Value: "<m1@example.net>"},
			},
			Body:  []dmarc.SamplePart{part("text/plain", "body")},
			Flags: dmarc.FlagMissingFields,
		},
		"headers-only.eml": {
			ReporterDomain: "mx.reporter.example", FeedbackType: "auth-failure", AuthFailure: []string{"dmarc"},
			UserAgent: "OpenDMARC-Filter/1.4", Version: "1", Arrival: at("2024-01-02T10:00:00Z"), ArrivalSource: "mail",
			SourceIP: netip.MustParseAddr("2001:db8::7"), EnvelopeID: "4T0", MailFrom: "bounce@example.net", Incidents: 1,
			AuthResults: []string{"mx.reporter.example; dmarc=fail header.from=example.com"},
			Headers: []dmarc.HeaderField{
				{Name: "From", Value: `"" <>`}, {Name: "Date", Value: "not a date"}, {Name: "Subject", Value: "Hello"},
			},
		},
		"received-date.eml": {
			ReporterDomain: "reporter.example", FeedbackType: "auth-failure", AuthFailure: []string{"spf"}, Version: "1",
			Arrival: at("2024-01-02T10:00:00Z"), ArrivalSource: "field", SourceIP: netip.MustParseAddr("2001:db8::9"),
			ReportedDomain: "sub.example.com", Incidents: 1, SPFRecords: []string{`txt : example.com : "v=spf1 -all"`},
			Headers: []dmarc.HeaderField{{Name: "From", Value: "a@sub.example.com"}, {Name: "Message-ID", Value: "<1@example.com>"}},
			Other:   []dmarc.HeaderField{{Name: "DKIM-Selector-DNS", Value: `"v=DKIM1"`}},
			Flags:   dmarc.FlagAlias | dmarc.FlagDomainDerived,
		},
		"text-only.eml": {
			ReporterDomain: "gateway.example", FeedbackType: "auth-failure", AuthFailure: []string{"dmarc"},
			Delivery: "reject", DeliveryWord: "Reject", Arrival: at("2024-01-02T10:00:00Z"), ArrivalSource: "field",
			SourceIP: netip.MustParseAddr("192.0.2.9"), ReportedDomain: "example.com", Incidents: 1,
			Headers: []dmarc.HeaderField{
				{Name: "Received", Value: "from spoofer.example ([192.0.2.9]) by gateway.example; Tue, 02 Jan 2024 11:00:00 +0100"},
				{Name: "From", Value: `"You" <you@example.com>`}, {Name: "Subject", Value: "Offer"}, {Name: "Message-ID", Value: "<spoof@spoofer.example>"},
			},
			Other: []dmarc.HeaderField{{Name: "SPF Alignment", Value: "no"}, {Name: "DKIM Alignment", Value: "no"}},
		},
		"text-wrapped.eml": {
			ReporterDomain: "lists.example", FeedbackType: "auth-failure", AuthFailure: []string{"dmarc"},
			Arrival: at("2024-01-02T10:00:02Z"), ArrivalSource: "mail", SourceIP: netip.MustParseAddr("192.0.2.9"),
			ReportedDomain: "example.com", Incidents: 1,
			Other: []dmarc.HeaderField{{Name: "SPF Alignment", Value: "no"}},
			Flags: dmarc.FlagMissingFields,
		},
		"no-type.eml": {
			ReporterDomain: "reporter.example", FeedbackType: "auth-failure", AuthFailure: []string{"dmarc"}, Version: "1",
			Arrival: at("2024-01-02T12:00:00Z"), ArrivalSource: "mail", SourceIP: netip.MustParseAddr("192.0.2.3"),
			ReportedDomain: "example.com", Incidents: 1,
			Headers: []dmarc.HeaderField{{Name: "From", Value: "a@example.com"}, {Name: "Message-ID", Value: "<1@example.com>"}},
			Body:    []dmarc.SamplePart{part("text/plain", "text")},
			Flags:   dmarc.FlagMissingFields | dmarc.FlagDomainDerived,
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw := file(t, "failure", name)
			if got := failureReport(t, raw); !reflect.DeepEqual(got, want) {
				t.Errorf("report\n got %+v\nwant %+v", got, want)
			}
			for _, ending := range []string{"\r\n", "\r"} {
				if got := failureReport(t, strings.ReplaceAll(raw, "\n", ending)); !reflect.DeepEqual(got.Headers, want.Headers) || got.Arrival != want.Arrival {
					t.Errorf("with %q as line end\n got %+v\nwant %+v", ending, got, want)
				}
			}
		})
	}
}

func TestTheSampleMayStandAnywhere(t *testing.T) {
	arf := "Content-Type: message/feedback-report\n\nFeedback-Type: auth-failure\nAuth-Failure: dmarc\nSource-IP: 192.0.2.%\nReported-Domain: example.com\n"
	sample := func(n string) string {
		return "Content-Type: message/rfc822\n\nFrom: a@example.com\nSubject: " + n + "\n\nbody\n"
	}
	for name, test := range map[string]struct {
		raw  string
		want []string // source and subject
	}{
		"after the report":  {mixed(arf, sample("a")), []string{"192.0.2.% a"}},
		"before the report": {mixed(sample("a"), arf), []string{"192.0.2.% a"}},
		"as text":           {mixed(arf, strings.Replace(sample("a"), "message/rfc822", "text/rfc822-headers", 1)), []string{"192.0.2.% a"}},
		"in base64":         {mixed(arf, attached("message/rfc-822", "From: a@example.com\nSubject: a\n\nbody\n")), []string{"192.0.2.% a"}},
		"two of each":       {mixed(arf, sample("a"), strings.Replace(arf, "%", "2", 1), sample("b")), []string{"192.0.2.% a", "192.0.2.2 b"}},
		"nowhere":           {mixed(plain, arf), []string{"192.0.2.% "}},
	} {
		t.Run(name, func(t *testing.T) {
			_, failure, _, _ := reports(read(t, strings.Replace(test.raw, "192.0.2.%", "192.0.2.1", 1), "", DefaultLimits))
			var got []string
			for _, r := range failure {
				subject := ""
				for _, f := range r.Headers {
					if f.Name == "Subject" {
						subject = f.Value
					}
				}
				got = append(got, r.SourceIP.String()+" "+subject)
			}
			want := strings.ReplaceAll(strings.Join(test.want, "; "), "%", "1")
			if strings.Join(got, "; ") != want {
				t.Errorf("samples %q, want %q", strings.Join(got, "; "), want)
			}
		})
	}
}

func TestTheIdentityOfAFailureReport(t *testing.T) {
	raw := file(t, "failure", "gateway.eml")
	hash := func(raw string) dmarc.Digest {
		_, failure, _, _ := reports(read(t, raw, "", DefaultLimits))
		if len(failure) != 1 {
			t.Fatalf("%d failure reports, want 1", len(failure))
		}
		return failure[0].Hash
	}
	first := hash(raw)
	for name, test := range map[string]struct {
		old, new string
		same     bool
	}{
		"another way to the mailbox": {"id AA/11;", "id BB/12;", true},
		"another case of a name":     {"Reported-Domain: Example.COM.", "reported-domain: example.com", true},
		"another sample":             {"Message-ID: <sample-1@example.com>\nList", "Message-ID: <sample-2@example.com>\nList", false},
		"another source":             {"Source-IP: 192.0.2.7", "Source-IP: 192.0.2.6", false},
		"another reporter":           {"<dmarc-noreply@reporter.example>\nContent", "<dmarc-noreply@other.example>\nContent", false},
	} {
		changed := strings.Replace(raw, test.old, test.new, 1)
		if changed == raw {
			t.Fatalf("%s: nothing changed", name)
		}
		if same := hash(changed) == first; same != test.same {
			t.Errorf("%s: same identity %v, want %v", name, same, test.same)
		}
	}
}

func TestAFeedbackReportThatSaysNothing(t *testing.T) {
	check(t, read(t, mixed(plain, "Content-Type: message/feedback-report\n\nVersion: 1\n"), "", DefaultLimits),
		"2: missing_required: a feedback report without Feedback-Type")
}
