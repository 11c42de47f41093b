package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fixtures are inputs of every kind, in the order in which they are given.
var fixtures = []string{"aggregate.xml", "failure.eml", "note.eml", "tls.json", "truncated.xml", "nonexistent.eml", "aggregate.xml"}

func TestParsePrintsWhatIsInTheFiles(t *testing.T) {
	for golden, flags := range map[string][]string{
		"parse.ndjson":      {"--format", "ndjson"},
		"parse-full.ndjson": {"--format", "ndjson", "--full"},
		"parse.txt":         {},
		"parse-full.txt":    {"--full"},
	} {
		t.Run(golden, func(t *testing.T) {
			t.Chdir("testdata")
			got := world{}.run(t, append(append([]string{"parse"}, flags...), fixtures...)...)
			if got.status != exitFailed { // one is truncated, one is not there
				t.Errorf("status %d", got.status)
			}
			wantErr := ""
			if strings.HasSuffix(golden, ".txt") {
				wantErr = "Read 7 messages: 2 aggregate reports, 1 failure report, 1 TLS report, 1 without a report, 1 with a report that could not be read, 1 unreadable.\n"
			}
			if got.stderr != wantErr {
				t.Errorf("stderr %q, want %q", got.stderr, wantErr)
			}
			if *update {
				if err := os.WriteFile(golden, []byte(got.stdout), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.stdout != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.stdout, want)
			}
			if strings.HasSuffix(golden, ".ndjson") {
				for line := range strings.Lines(got.stdout) {
					if !json.Valid([]byte(line)) {
						t.Errorf("no JSON: %s", line)
					}
				}
			}
		})
	}
}

func TestParseNamesMessagesByWhereTheyLie(t *testing.T) {
	t.Chdir(t.TempDir())
	note := "From: a@example.com\nSubject: x\n\nHello.\n"
	for path, text := range map[string]string{
		"in/b/two.mbox":        "From a Mon Jan  5 00:00:00 2026\n" + note + "\nFrom b Mon Jan  5 00:00:00 2026\n" + note,
		"in/b/one.mbox":        "From a Mon Jan  5 00:00:00 2026\n" + note,
		"in/a.eml":             note,
		"in/maildir/cur/1:2,S": note,
		"in/maildir/new/2":     note,
		"in/maildir/tmp/3":     note,
		"in/.hidden":           note,
		"in/\x1b[2Jevil\n.eml": note,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	line := func(source string) string {
		return `{"source":"` + source + `","kind":"none","outcome":"not_a_report","reason":"no report in it"}` + "\n"
	}
	want := line(`in/\u001b[2Jevil\n.eml`) + line("in/a.eml") + line("in/b/one.mbox") + line("in/b/two.mbox#1") + line("in/b/two.mbox#2") +
		line("in/maildir/cur/1:2,S") + line("in/maildir/new/2") + line("in/b/one.mbox")
	got := world{}.run(t, "parse", "--format", "ndjson", "in", "in/b/one.mbox")
	if got != (result{exitDone, want, ""}) {
		t.Errorf("got %+v\nwant\n%s", got, want)
	}
	if text := (world{}).run(t, "parse", "in"); strings.Contains(text.stdout, "\x1b") || !strings.HasPrefix(text.stdout, `in/\x1b[2Jevil\n.eml`+"\n  Skipped (not_a_report): no report in it\n") {
		t.Errorf("%q", text.stdout)
	}
}

func TestParseReadsStandardInput(t *testing.T) {
	text, err := os.ReadFile("testdata/tls.json")
	if err != nil {
		t.Fatal(err)
	}
	got := world{stdin: string(text)}.run(t, "parse", "-", "--format=ndjson")
	if got.status != exitDone || !strings.HasPrefix(got.stdout, `{"source":"-","part":"","kind":"tls","org_name":"Receiver Ltd",`) || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}

func TestParseKnowsTheStatusOfWhatIsNoReport(t *testing.T) {
	report := "Content-Type: text/xml\n\n<feedback><report_metadata>"
	for _, c := range []struct {
		name, mail, outcome string
		status              int
	}{
		{"mail", "From: a@example.com\nSubject: x\n\nHello.\n", "not_a_report", exitDone},
		{"empty", "", "empty_report", exitDone},
		{"cut", "From: a@example.com\nMIME-Version: 1.0\n" + report, "bad_xml", exitFailed},
	} {
		got := world{stdin: c.mail}.run(t, "parse", "--format", "ndjson", "-")
		var line struct{ Source, Kind, Outcome, Reason string }
		if err := json.Unmarshal([]byte(got.stdout), &line); err != nil {
			t.Fatalf("%s: %v in %+v", c.name, err, got)
		}
		if got.status != c.status || line.Source != "-" || line.Kind != "none" || line.Outcome != c.outcome || line.Reason == "" {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestParseNamesALossBesideAReport(t *testing.T) {
	xml, err := os.ReadFile("testdata/aggregate.xml")
	if err != nil {
		t.Fatal(err)
	}
	part := func(content string) string { return "--b\nContent-Type: text/xml\n\n" + content + "\n" }
	mail := func(parts string) string {
		return "From: a@example.com\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + parts + "--b--\n"
	}
	for _, c := range []struct {
		parts  string
		kinds  string
		status int
	}{
		{part(string(xml)) + part(string(xml[:700])), "aggregate none", exitFailed},
		{part(string(xml[:700])) + part(string(xml[:800])), "none", exitFailed},
		{part(string(xml)) + "--b\nContent-Type: text/plain\n\nHello.\n", "aggregate", exitDone},
		{part(string(xml)) + part(string(xml)), "aggregate aggregate", exitDone},
	} {
		got := world{stdin: mail(c.parts)}.run(t, "parse", "--format", "ndjson", "-")
		var kinds []string
		d := json.NewDecoder(strings.NewReader(got.stdout))
		for d.More() {
			var line struct{ Kind, Part string }
			if err := d.Decode(&line); err != nil {
				t.Fatal(err)
			}
			if line.Part == "" {
				t.Errorf("a line without a part: %+v", got)
			}
			kinds = append(kinds, line.Kind)
		}
		if strings.Join(kinds, " ") != c.kinds || got.status != c.status {
			t.Errorf("want %s and %d, got %+v", c.kinds, c.status, got)
		}
	}
}

func TestParseObeysConfiguredLimits(t *testing.T) {
	got := world{vars: []string{"DMARCD_LIMITS_ROWS=2"}}.run(t, "parse", "--format", "ndjson", "testdata/aggregate.xml")
	if got.status != exitFailed || !strings.Contains(got.stdout, `"outcome":"too_large"`) || !strings.Contains(got.stdout, "limits.rows") {
		t.Errorf("%+v", got)
	}
}

func TestWhatStrangersWroteDoesNotReachTheTerminal(t *testing.T) {
	text := `{"organization-name": "evil\u001b[2J\u202eorg\u009b", "date-range": {"start-datetime": "2026-01-05T00:00:00Z", "end-datetime": "2026-01-06T00:00:00Z"},
		"contact-info": "x", "report-id": "id\n\u0007\u2028next", "policies": [{"policy": {"policy-type": "s\u001bts", "policy-domain": "example.com"},
		"summary": {"total-successful-session-count": 1, "total-failure-session-count": 1}, "failure-details": [{"result-type": "a\u001bb", "failed-session-count": 1}]}]}`
	for _, args := range [][]string{{"parse", "--full", "-"}, {"parse", "--full", "--format", "ndjson", "-"}} {
		got := world{stdin: text}.run(t, args...)
		if got.status != exitDone || !strings.Contains(got.stdout, "evil") {
			t.Errorf("%+v", got)
		}
		if strings.ContainsAny(got.stdout, "\x1b\x07\u009b\u202e\u2028\r") {
			t.Errorf("%q", got.stdout)
		}
	}
}

func TestEscapedJSONMeansTheSame(t *testing.T) {
	const text = "a\x7f\u0085\u009b\u200b\u202e\ufeff\u00a0ü🙂\U000e0001<&>\"\\\n"
	p := ndjsonPrinter{}
	if err := p.encode(text); err != nil {
		t.Fatal(err)
	}
	want := `"a\u007f\u0085\u009b\u200b\u202e\ufeff` + "\u00a0ü🙂" + `\udb40\udc01<&>\"\\\n"`
	if got := p.buf.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var back string
	if err := json.Unmarshal(p.buf.Bytes(), &back); err != nil || back != text {
		t.Errorf("it means %q (%v)", back, err)
	}
}

func TestParseFailsWhenItCannotWrite(t *testing.T) {
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"parse", "--full", filepath.Join("testdata", "aggregate.xml")}, strings.NewReader(""), fullDisk{}, &stderr, []string{"DMARCD_CONFIG=" + os.DevNull})
	if status != exitFailed || stderr.String() != "dmarcd parse: the disk is full\n" {
		t.Errorf("status %d, stderr %q", status, stderr.String())
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

var errFull = errors.New("the disk is full")
