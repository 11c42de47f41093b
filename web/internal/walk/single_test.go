package walk

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// read reads an answer of the API.
func read(t *testing.T, address string, into any) {
	t.Helper()
	body, _, err := fetch(address)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
}

// singles are the pages about the reports in which strangers planted something:
// links lead to others of their kind first.
func singles(t *testing.T, base string) []string {
	t.Helper()
	var reports, failures struct{ Items []struct{ ID string } }
	var tls struct {
		Items []struct {
			ID      string
			OrgName string `json:"org_name"`
		}
	}
	read(t, base+"/api/v1/reports?domain="+odd, &reports)
	read(t, base+"/api/v1/failures", &failures)
	read(t, base+"/api/v1/tls?domain="+owner, &tls)
	var hostile string
	for _, r := range tls.Items {
		if strings.Contains(r.OrgName, "tlsorg") {
			hostile = "/tls/" + url.PathEscape(r.ID)
		}
	}
	if len(reports.Items) != 1 || len(failures.Items) == 0 || hostile == "" {
		t.Fatalf("%d hostile reports, %d failure reports, and of TLS %q of %d", len(reports.Items), len(failures.Items), hostile, len(tls.Items))
	}
	report, failure := "/reports/"+url.PathEscape(reports.Items[0].ID), "/failures/"+url.PathEscape(failures.Items[0].ID)
	return []string{report, report + "/text", failure, failure + "?show=whole", "/domains/" + owner + "/tls", hostile, hostile + "/text"}
}

var markup = regexp.MustCompile(`<[^>]*>`)

// says fails the test unless a page says something, whatever is between the words.
func says(t *testing.T, address string, want ...string) {
	t.Helper()
	body, _, err := fetch(address)
	if err != nil {
		t.Error(err)
		return
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(markup.ReplaceAllString(string(body), ""), "\u00a0", " ")), " ")
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q", address, w)
		}
	}
}

// thousands writes a number as pages do.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// agree holds the numbers of pages about reports against those of the API.
func agree(t *testing.T, base string) {
	t.Helper()
	var reports struct {
		Items []struct {
			ID     string
			Totals struct{ Messages, DMARC_Pass, Quarantine, Reject, Rows int64 }
		}
	}
	read(t, base+"/api/v1/reports?domain="+owner+"&limit=2", &reports)
	if len(reports.Items) != 2 {
		t.Fatalf("%d reports", len(reports.Items))
	}
	for _, r := range reports.Items {
		var one struct {
			Rows []struct {
				Count     int64
				DKIM, SPF *string
			}
		}
		read(t, base+"/api/v1/reports/"+r.ID, &one)
		var messages, failed, rows int64
		for _, row := range one.Rows {
			messages += row.Count
			if (row.DKIM == nil || *row.DKIM != "pass") && (row.SPF == nil || *row.SPF != "pass") {
				failed += row.Count
				rows++
			}
		}
		if messages != r.Totals.Messages || int64(len(one.Rows)) != r.Totals.Rows || rows == 0 {
			t.Fatalf("the rows of report %s give %d messages, its sums %+v", r.ID, messages, r.Totals)
		}
		page := base + "/reports/" + r.ID
		says(t, page, "of "+thousands(messages)+" messages passed DMARC as "+owner, thousands(r.Totals.DMARC_Pass)+" passed", thousands(failed)+" failed",
			thousands(r.Totals.Quarantine+r.Totals.Reject)+" quarantined or rejected", fmt.Sprintf("1 to %d of %d rows with %s messages", len(one.Rows), len(one.Rows), thousands(messages)))
		says(t, page+"?show=failed", fmt.Sprintf("of %d rows (%d in all) with %s messages", rows, len(one.Rows), thousands(failed)))
	}
	var tls struct {
		Items []struct {
			ID     string
			Totals struct {
				Successful int64 `json:"successful_sessions"`
				Failed     int64 `json:"failed_sessions"`
			}
		}
	}
	read(t, base+"/api/v1/tls?domain="+owner, &tls)
	var ok, failed int64
	for _, r := range tls.Items {
		ok, failed = ok+r.Totals.Successful, failed+r.Totals.Failed
		says(t, base+"/tls/"+r.ID, "of "+thousands(r.Totals.Successful+r.Totals.Failed)+" sessions with the mail servers of "+owner)
	}
	if ok == 0 || failed == 0 {
		t.Fatalf("%d and %d sessions", ok, failed)
	}
	says(t, base+"/domains/"+owner+"/tls", "of "+thousands(ok+failed)+" sessions with the mail servers of "+owner, "; "+thousands(failed)+" failed.")
	says(t, base+"/tls", owner+" "+thousands(ok+failed))
}
