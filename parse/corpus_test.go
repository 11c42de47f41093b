package parse

import (
	"bytes"
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// corpusDir holds real reports, with what is in each of them.
const corpusDir = "../../shared/corpus"

type corpusLine map[string]string

func (c corpusLine) number(t *testing.T, column string) int64 {
	t.Helper()
	if c[column] == "" {
		return 0
	}
	n, err := strconv.ParseInt(c[column], 10, 64)
	if err != nil {
		t.Fatalf("column %s: %v", column, err)
	}
	return n
}

func corpus(t *testing.T) []corpusLine {
	t.Helper()
	f, err := os.Open(filepath.Join(corpusDir, "MANIFEST.tsv"))
	if err != nil {
		t.Skipf("SKIPPED: the corpus of real reports is not here: %v", err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var lines []corpusLine
	for _, row := range rows[1:] {
		line := corpusLine{}
		for i, name := range rows[0] {
			if i < len(row) {
				line[name] = row[i]
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// reports sorts what was found by kind.
func reports(f *Found) (aggregate []*dmarc.AggregateReport, failure []*dmarc.FailureReport, tls []*dmarc.TLSReport, others []dmarc.Part) {
	for _, p := range f.Parts {
		switch {
		case p.Aggregate != nil:
			aggregate = append(aggregate, p.Aggregate)
		case p.Failure != nil:
			failure = append(failure, p.Failure)
		case p.TLS != nil:
			tls = append(tls, p.TLS)
		default:
			others = append(others, p)
		}
	}
	return
}

func TestCorpusIsReadAsItsManifestSays(t *testing.T) {
	for _, line := range corpus(t) {
		if line["container"] == "mbox" {
			continue // package ingest takes those apart
		}
		t.Run(line["path"], func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(corpusDir, line["path"]))
			if err != nil {
				t.Fatal(err)
			}
			found, err := Message(context.Background(), bytes.NewReader(raw), filepath.Base(line["path"]), DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			defer found.Close()
			aggregate, failure, tls, others := reports(found)
			for _, p := range others {
				t.Logf("part %q: %s: %s", p.Path, p.Outcome, p.Reason)
				if p.Outcome == "" || p.Reason == "" {
					t.Errorf("part %q has no outcome or no reason", p.Path)
				}
			}
			if len(found.Parts) == 0 {
				t.Logf("%s: %s", found.Outcome, found.Reason)
				if found.Outcome == "" || found.Reason == "" {
					t.Error("a message without parts has no outcome or no reason")
				}
			}
			switch line["expect"] {
			case "reject":
				if n := len(aggregate) + len(failure) + len(tls); n > 0 {
					t.Errorf("%d reports, want none: %s", n, line["why"])
				}
			case "either":
				if line["kind"] == "failure" && len(failure) > 0 {
					t.Errorf("%d failure reports, want none: %s", len(failure), line["why"])
				}
			case "accept":
				checkAccepted(t, line, aggregate, failure, tls)
			}
		})
	}
}

func checkAccepted(t *testing.T, line corpusLine, aggregate []*dmarc.AggregateReport, failure []*dmarc.FailureReport, tls []*dmarc.TLSReport) {
	t.Helper()
	got := [3]int64{int64(len(aggregate)), int64(len(failure)), int64(len(tls))}
	if want := [3]int64{line.number(t, "n_aggregate"), line.number(t, "n_failure"), line.number(t, "n_tlsrpt")}; got != want {
		t.Fatalf("aggregate, failure and TLS reports: %v, want %v", got, want)
	}
	if len(aggregate) > 0 {
		checkAggregates(t, line, aggregate)
	}
	for _, r := range failure {
		type summary struct {
			Type, AuthFailure, Source, Domain string
			Arrival                           int64
		}
		got := summary{r.FeedbackType, strings.Join(r.AuthFailure, ","), r.SourceIP.String(), r.ReportedDomain, r.Arrival.Unix()}
		want := summary{line["feedback_type"], line["auth_failure"], line["source_ip"], line["reported_domain"], line.number(t, "arrival")}
		if want.AuthFailure == "" {
			want.AuthFailure = "dmarc"
		}
		if got != want {
			t.Errorf("failure report\n got %+v\nwant %+v", got, want)
		}
		if r.ArrivalSource != "field" || r.Hash.IsZero() || len(r.Headers) == 0 {
			t.Errorf("arrival source %q, hash %v, %d sample headers", r.ArrivalSource, r.Hash, len(r.Headers))
		}
	}
	for _, r := range tls {
		checkTLS(t, line, r)
	}
}

func checkAggregates(t *testing.T, line corpusLine, reports []*dmarc.AggregateReport) {
	t.Helper()
	var sum dmarc.Tally
	for _, r := range reports {
		sum.Merge(r.Tally)
	}
	want := dmarc.Tally{
		Rows: line.number(t, "records"), Messages: line.number(t, "messages"), DMARCPass: line.number(t, "either_pass"),
		DKIMAligned: line.number(t, "dkim_pass"), SPFAligned: line.number(t, "spf_pass"),
		None: line.number(t, "disp_none"), Quarantine: line.number(t, "disp_quarantine"), Reject: line.number(t, "disp_reject"),
	}
	// Here "pass" counts as none as well, in the manifest as other.
	if sum.None-sum.Pass != want.None || sum.Pass+sum.Unstated != line.number(t, "disp_other") {
		t.Errorf("dispositions: %+v, want none %d and other %d", sum, want.None, line.number(t, "disp_other"))
	}
	want.None, want.Pass, want.Unstated = sum.None, sum.Pass, sum.Unstated
	if sum != want {
		t.Errorf("tally\n got %+v\nwant %+v", sum, want)
	}
	if len(reports) != 1 {
		return
	}
	r := reports[0]
	type identity struct {
		ID, Domain string
		Begin, End int64
	}
	got := identity{r.ID, r.Policy.Domain, r.Period.Begin.Unix(), r.Period.End.Unix()}
	if want := (identity{line["report_id"], line["domain"], line.number(t, "begin"), line.number(t, "end")}); got != want {
		t.Errorf("identity\n got %+v\nwant %+v", got, want)
	}
	if org := line["org_name"]; org != "" && r.Reporter.OrgName != org {
		t.Errorf("org_name %q, want %q", r.Reporter.OrgName, org)
	}
	var again dmarc.Tally
	for row, err := range r.Rows {
		if err != nil {
			t.Fatal(err)
		}
		again.Add(row)
	}
	if again != r.Tally {
		t.Errorf("rows read again add up to %+v, want %+v", again, r.Tally)
	}
}

func checkTLS(t *testing.T, line corpusLine, r *dmarc.TLSReport) {
	t.Helper()
	type summary struct {
		Org, ID, Domains                      string
		Begin, End                            int64
		Policies, Successful, Failed, Details int64
	}
	s := summary{Org: r.OrgName, ID: r.ID, Begin: r.Period.Begin.Unix(), End: r.Period.End.Unix(), Policies: int64(len(r.Policies))}
	s.Successful, s.Failed = r.Sessions()
	var domains []string
	for _, p := range r.Policies {
		if p.Domain != "" && !slices.Contains(domains, p.Domain) {
			domains = append(domains, p.Domain)
		}
		for _, d := range p.Details {
			s.Details += d.FailedSessions
		}
	}
	s.Domains = strings.Join(domains, ",")
	want := summary{
		line["org_name"], line["report_id"], line["domain"], line.number(t, "begin"), line.number(t, "end"),
		line.number(t, "tls_policies"), line.number(t, "tls_success"), line.number(t, "tls_failure"), line.number(t, "tls_failed_details"),
	}
	if strings.HasSuffix(line["path"], "quirky-strings-for-numbers.json") {
		want.Details++ // the manifest counts a detail without a number as none, we as one
	}
	if s != want {
		t.Errorf("TLS report\n got %+v\nwant %+v", s, want)
	}
	if r.Hash.IsZero() || r.Period.Begin.Location() != time.UTC {
		t.Errorf("hash %v, zone %v", r.Hash, r.Period.Begin.Location())
	}
}

func TestCorpusLineEndsMakeNoDifference(t *testing.T) {
	if _, err := os.Stat(corpusDir); err != nil {
		t.Skipf("SKIPPED: the corpus of real reports is not here: %v", err)
	}
	var hashes []dmarc.Digest
	for _, name := range []string{"linkedin-lf.eml", "linkedin-crlf.eml"} {
		raw, err := os.ReadFile(filepath.Join(corpusDir, "failure", name))
		if err != nil {
			t.Fatal(err)
		}
		found, err := Message(context.Background(), bytes.NewReader(raw), name, DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		_, failure, _, _ := reports(found)
		if len(failure) != 1 {
			t.Fatalf("%s: %d failure reports, want 1", name, len(failure))
		}
		hashes = append(hashes, failure[0].Hash)
	}
	if hashes[0] != hashes[1] {
		t.Errorf("hashes differ: %v", hashes)
	}
}
