package main

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/records"
)

// What a domain publishes is looked at once reports about it are there, and is
// joined with what they tell.
func TestServeLooksAtWhatDomainsPublish(t *testing.T) {
	t.Parallel()
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
	r := start(t, build(t), porttest.FreeAddress(t), []string{
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
	r.await("what it publishes is looked at", func() bool { return r.ask("/api/v1/domains/example.com/checks", &checks) })
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

// Configured selectors are of every domain or of one; one that reports tell of as
// well keeps what they tell.
func TestConfiguredSelectorsAreOfTheirDomain(t *testing.T) {
	seen := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	o := records.Options{Selectors: []records.Selector{
		{Name: "k1", Domain: "example.com", LastSeen: seen}, {Name: "s1", Domain: "example.com", LastSeen: seen},
	}}
	addSelectors(&o, []string{"s1", "s2._domainkey.example.com", "s3._domainkey.mail.example.com", "s4._domainkey.example.org", "s5._domainkey.notexample.com"}, "Example.com.")
	want := []records.Selector{
		{Name: "s1", Domain: "example.com", LastSeen: seen, Configured: true}, {Name: "s2", Domain: "example.com", Configured: true},
		{Name: "s3", Domain: "mail.example.com", Configured: true}, {Name: "k1", Domain: "example.com", LastSeen: seen},
	}
	if !slices.Equal(o.Selectors, want) {
		t.Errorf("%+v, want %+v", o.Selectors, want)
	}
}

// Mail hosts are connected to only if that is asked for, and private addresses
// only if they are named.
func TestMailHostsAreConnectedToOnlyIfAsked(t *testing.T) {
	cfg := defaultConfig(&environ{})
	if p := cfg.prober(); p != nil {
		t.Error("it connects, although nobody asked")
	}
	cfg.Records.Probe = true
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	asked := make(chan struct{})
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			close(asked)
			conn.Close()
		}
	}()
	at := netip.MustParseAddrPort(listener.Addr().String())
	if _, err := cfg.prober().Certificates(t.Context(), "mx.example.com", at); err == nil || !strings.Contains(err.Error(), "is not a public address") {
		t.Errorf("loopback: %v", err)
	}
	cfg.Records.ProbeAlso = []string{"127.0.0.0/8"}
	if _, err := cfg.prober().Certificates(t.Context(), "mx.example.com", at); err == nil || strings.Contains(err.Error(), "is not a public address") {
		t.Errorf("loopback, allowed: %v", err)
	}
	<-asked
}
