package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
)

// What a domain publishes is looked at once reports about it are there, and is
// joined with what they tell.
func TestServeLooksAtWhatDomainsPublish(t *testing.T) {
	resolver := resolving(t, `
. SOA a. b. 1 7200 3600 1209600 3600
example.com. SOA ns.example.com. hostmaster.example.com. 1 7200 3600 1209600 3600
example.com. MX 10 mx.example.com.
example.com. TXT "v=spf1 mx ip4:198.51.100.0/24 -all"
mx.example.com. A 192.0.2.1
_dmarc.example.com. TXT "v=DMARC1; p=reject; rua=mailto:dmarc@example.com"
`)
	imap := dovecottest.Start(t)
	imap.Deliver(t, "1.M1P1.host", []byte(reportMail(t, "one", 5, "")))
	r := start(t, build(t), freeAddress(t), []string{
		"DMARCD_DATA_DIR=" + filepath.Join(t.TempDir(), "data"), "DMARCD_RESOLVER=" + resolver, "DMARCD_RECORDS_WATCH=true", "DMARCD_RECORDS_SELECTORS=s9",
		"DMARCD_IMAP_URL=imap://" + dovecottest.User + "@" + imap.Address + "/INBOX", "DMARCD_IMAP_PASSWORD=" + dovecottest.Password, "DMARCD_IMAP_NAME=reports",
	})
	var checks struct {
		Domain   string `json:"domain"`
		Findings []struct {
			ID      string `json:"id"`
			Subject string `json:"subject"`
		} `json:"findings"`
		Records struct {
			SPF struct {
				Lookups int `json:"lookups"`
			} `json:"spf"`
		} `json:"records"`
	}
	for range 3000 {
		if r.ask("/api/v1/domains/example.com/checks", &checks) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	var found []string
	for _, f := range checks.Findings {
		found = append(found, f.ID+" "+f.Subject)
	}
	for _, want := range []string{"dmarc.ok example.com", "dkim.missing s9._domainkey.example.com", "spf.ok example.com"} {
		if !slices.Contains(found, want) {
			t.Errorf("%q is not among %q", want, found)
		}
	}
	if checks.Domain != "example.com" || checks.Records.SPF.Lookups != 1 {
		t.Errorf("%+v", checks)
	}
	var history struct {
		Items []fmt.Stringer `json:"items"`
	}
	if !r.ask("/api/v1/domains/example.com/checks/history", &history) || len(history.Items) != 0 {
		t.Errorf("history: %+v", history)
	}
	if code := r.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d\n%s", code, r.log)
	}
}
