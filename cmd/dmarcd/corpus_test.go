package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// corpusDir holds real reports, with what is in each of them.
const corpusDir = "../../../shared/corpus"

// A corpusSum is what the manifest says about a file, and what the lines that
// dmarcd prints about it add up to.
type corpusSum struct {
	Aggregate, Failure, TLS                        int64
	Rows, Messages, DKIM, SPF, Either              int64
	None, Quarantine, Reject                       int64
	Policies, Successful, Failed                   int64
	OrgName, ReportID, Domain, Begin, End          string // of a single report
	AuthFailure, SourceIP, ReportedDomain, Arrival string
}

// A corpusLine is any line of parse --format ndjson.
type corpusLine struct {
	Source, Kind, Outcome, Reason string
	OrgName                       string `json:"org_name"`
	ReportID                      string `json:"report_id"`
	PolicyDomain                  string `json:"policy_domain"`
	Begin, End, Arrival           string
	Rows, Policies                int64
	Totals                        struct {
		Messages, None, Quarantine, Reject int64
		DMARCPass                          int64 `json:"dmarc_pass"`
		DKIMAligned                        int64 `json:"dkim_aligned"`
		SPFAligned                         int64 `json:"spf_aligned"`
		Successful                         int64 `json:"successful_sessions"`
		Failed                             int64 `json:"failed_sessions"`
	}
	ReportedDomain string   `json:"reported_domain"`
	SourceIP       string   `json:"source_ip"`
	AuthFailure    []string `json:"auth_failure"`
	Flags          []string
}

func TestCorpusIsPrintedAsItsManifestSays(t *testing.T) {
	f, err := os.Open(filepath.Join(corpusDir, "MANIFEST.tsv"))
	if err != nil {
		t.Skipf("SKIPPED: the corpus of real reports is not here: %v", err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes = '\t', true
	table, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var files []map[string]string
	args := []string{"parse", "--format", "ndjson"}
	for _, row := range table[1:] {
		file := map[string]string{}
		for i, column := range table[0] {
			file[column] = row[i]
		}
		files = append(files, file)
		args = append(args, file["path"])
	}

	t.Chdir(corpusDir)
	got := world{}.run(t, args...)
	if got.status != exitFailed || got.stderr != "" { // some files are to be refused
		t.Errorf("status %d, stderr %q", got.status, got.stderr)
	}
	lines := map[string][]corpusLine{} // by file
	d := json.NewDecoder(strings.NewReader(got.stdout))
	for d.More() {
		var line corpusLine
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		file, _, _ := strings.Cut(line.Source, "#")
		lines[file] = append(lines[file], line)
	}
	var mails corpusSum // of the accepted failure and TLS reports in mails
	for _, file := range files {
		if file["expect"] == "accept" && strings.HasSuffix(file["path"], ".eml") {
			mails.Failure += corpusNumber(t, file, "n_failure")
			mails.Policies += corpusNumber(t, file, "tls_policies")
			mails.Successful += corpusNumber(t, file, "tls_success")
			mails.Failed += corpusNumber(t, file, "tls_failure")
		}
	}
	for _, file := range files {
		t.Run(file["path"], func(t *testing.T) {
			checkCorpusFile(t, file, lines[file["path"]], mails)
		})
	}
}

func corpusNumber(t *testing.T, file map[string]string, column string) int64 {
	t.Helper()
	if file[column] == "" {
		return 0
	}
	n, err := strconv.ParseInt(file[column], 10, 64)
	if err != nil {
		t.Fatalf("column %s: %v", column, err)
	}
	return n
}

func checkCorpusFile(t *testing.T, file map[string]string, lines []corpusLine, mails corpusSum) {
	number := func(column string) int64 { return corpusNumber(t, file, column) }
	seconds := func(column string) string {
		if file[column] == "" {
			return ""
		}
		return time.Unix(number(column), 0).UTC().Format(time.RFC3339)
	}
	var got corpusSum
	for _, l := range lines {
		switch l.Kind {
		case "aggregate":
			got.Aggregate++
			got.OrgName, got.ReportID, got.Domain, got.Begin, got.End = l.OrgName, l.ReportID, l.PolicyDomain, l.Begin, l.End
		case "failure":
			got.Failure++
			got.AuthFailure, got.SourceIP, got.ReportedDomain, got.Arrival = strings.Join(l.AuthFailure, ","), l.SourceIP, l.ReportedDomain, l.Arrival
		case "tls":
			got.TLS++
			got.OrgName, got.ReportID, got.Begin, got.End = l.OrgName, l.ReportID, l.Begin, l.End
		case "none":
			if l.Outcome == "" || l.Reason == "" {
				t.Errorf("no report, and no reason: %+v", l)
			}
			continue
		default:
			t.Errorf("kind %q", l.Kind)
		}
		if l.Flags == nil {
			t.Errorf("flags are not a list: %+v", l)
		}
		s := l.Totals
		got.Rows += l.Rows
		got.Messages += s.Messages
		got.DKIM += s.DKIMAligned
		got.SPF += s.SPFAligned
		got.Either += s.DMARCPass
		got.None += s.None
		got.Quarantine += s.Quarantine
		got.Reject += s.Reject
		got.Policies += l.Policies
		got.Successful += s.Successful
		got.Failed += s.Failed
	}
	reports := got.Aggregate + got.Failure + got.TLS
	switch file["expect"] {
	case "reject":
		if reports > 0 || len(lines) == 0 {
			t.Errorf("%d reports in %d lines, want none and a reason: %s", reports, len(lines), file["why"])
		}
		return
	case "either":
		if file["kind"] == "failure" && reports > 0 {
			t.Errorf("%d reports, want none: %s", reports, file["why"])
		}
		return
	}

	want := corpusSum{
		Aggregate: number("n_aggregate"), Failure: number("n_failure"), TLS: number("n_tlsrpt"),
		Rows: number("records"), Messages: number("messages"), DKIM: number("dkim_pass"), SPF: number("spf_pass"), Either: number("either_pass"),
		None: number("disp_none"), Quarantine: number("disp_quarantine"), Reject: number("disp_reject"),
		Policies: number("tls_policies"), Successful: number("tls_success"), Failed: number("tls_failure"),
	}
	// The manifest counts the disposition "pass" as other, dmarcd as none.
	if strings.Contains(file["special"], "pass") || want.Aggregate > 1 {
		if got.None < want.None || got.None > want.None+number("disp_other") {
			t.Errorf("none: %d, want %d, and of others at most %d", got.None, want.None, number("disp_other"))
		}
		want.None = got.None
	}
	if file["container"] == "mbox" {
		// Here the manifest counts complaints as well, and leaves sessions out:
		// the mbox holds the mails of the corpus, which it tells more about.
		want.Failure, want.Policies, want.Successful, want.Failed = mails.Failure, mails.Policies, mails.Successful, mails.Failed
	}
	if reports == 1 {
		if got.TLS == 0 {
			want.Domain = file["domain"]
		}
		want.ReportID, want.Begin, want.End = file["report_id"], seconds("begin"), seconds("end")
		want.SourceIP, want.ReportedDomain, want.Arrival = file["source_ip"], file["reported_domain"], seconds("arrival")
		want.OrgName = file["org_name"]
		if want.OrgName == "" && got.Aggregate == 1 {
			want.OrgName = got.OrgName // derived, which its flag says
		}
		if got.Failure == 1 {
			if want.AuthFailure = file["auth_failure"]; want.AuthFailure == "" {
				want.AuthFailure = "dmarc"
			}
		}
	} else {
		got.OrgName, got.ReportID, got.Domain, got.Begin, got.End = "", "", "", "", ""
		got.AuthFailure, got.SourceIP, got.ReportedDomain, got.Arrival = "", "", "", ""
	}
	if got != want {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}
