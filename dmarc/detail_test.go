package dmarc

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func TestWhatTellsAboutPeopleIsMasked(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "",
		"no address":           "no address",
		"anna@a.example":       "…@a.example",
		"<anna.b+c@a.example>": "<…@a.example>",
		`"an na"@a.example`:    "…@a.example",
		"spf=fail smtp.mailfrom=anna@a.example; dkim=pass header.i=@b.example": "spf=fail smtp.mailfrom=…@a.example; dkim=pass header.i=…@b.example",
		"for <anna@a.example>; Mon, 1 Jan":                                     "for <…@a.example>; Mon, 1 Jan",
		"anna@secret@a.example":                                                "…@…@a.example",
		"@":                                                                    "…@",
	} {
		if got := maskAddresses(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	whole := FailureReport{
		ReporterDomain: "reporter.example", AuthFailure: []string{"dmarc"}, SourceIP: netip.MustParseAddr("192.0.2.1"), ReportedDomain: "a.example",
		MailFrom: "anna.secret@a.example", RcptTo: []string{"secret@b.example", `"secret"@c.example`}, EnvelopeID: "secret", DKIMDomain: "a.example",
		DKIMIdentity: "secret@a.example", AuthResults: []string{"mx.b.example; spf=fail smtp.mailfrom=secret@a.example"}, ReportedURIs: []string{"https://x.example/secret"},
		Headers: []HeaderField{{"From", "Anna Secret <secret@a.example>"}, {"Subject", "my secret"}, {"Date", "Mon, 23 Nov 2026 10:00:00 +0000"}, {"Message-ID", "<secret@a.example>"},
			{"Received", "from mx.a.example by mx.b.example for <secret@b.example>"}, {"List-Unsubscribe", "<https://a.example/secret>"}, {"List-ID", "news.a.example"}, {"To", "Undisclosed Secret:;"}},
		Other: []HeaderField{{"X-Odd", "secret"}},
	}
	before, _ := json.Marshal(whole)
	masked, _ := json.Marshal(whole.Masked())
	if strings.Contains(strings.ToLower(string(masked)), "secret") {
		t.Errorf("masked: %s", masked)
	}
	for _, kept := range []string{"…@a.example", "…@b.example", "…@c.example", "192.0.2.1", "reporter.example", "Mon, 23 Nov 2026", "from mx.a.example by mx.b.example", "news.a.example", "X-Odd", "spf=fail"} {
		if !strings.Contains(string(masked), kept) {
			t.Errorf("masked, %q is gone: %s", kept, masked)
		}
	}
	if after, _ := json.Marshal(whole); string(after) != string(before) {
		t.Errorf("masking changed the report itself: %s", after)
	}
}
