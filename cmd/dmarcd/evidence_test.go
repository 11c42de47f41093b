package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/records/knottest"
	"github.com/dmarcd/dmarcd/sample"
	"github.com/dmarcd/dmarcd/sources"
	"github.com/dmarcd/dmarcd/store"
)

// dkimRecord returns a new key as a record of a zone, in strings of 255 octets.
func dkimRecord(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := "v=DKIM1; p=" + base64.StdEncoding.EncodeToString(der)
	return fmt.Sprintf("TXT %q %q", text[:255], text[255:])
}

// What reports prove is joined with what the domain publishes, through real
// servers: the database that reports are stored in, and DNS.
func TestWhatIsPublishedIsJoinedWithWhatReportsProve(t *testing.T) {
	key := dkimRecord(t)
	dns := knottest.Start(t, map[string]*knottest.Zone{"evid.test": {Text: knottest.Apex + `
@ MX 10 mx
mx A 192.0.2.5
@ TXT "v=spf1 mx include:crm.evid.test ip4:203.0.113.0/28 include:old.evid.test ~all"
crm TXT "v=spf1 ip4:198.51.100.0/24 -all"
old TXT "v=spf1 include:older.evid.test ip4:203.0.113.128/26 -all"
older TXT "v=spf1 ip4:203.0.113.192/26 -all"
_dmarc TXT "v=DMARC1; p=reject; rua=mailto:dmarc@evid.test"
_dmarc.eu TXT "v=DMARC1; p=none; psd=n"
a.eu A 192.0.2.9
s1._domainkey ` + key + `
s3._domainkey TXT "v=DKIM1; p="
`}, "other.test": {Text: knottest.Apex + "_dmarc TXT \"v=DMARC1; p=reject; rua=mailto:dmarc@other.test\"\nk._domainkey " + key + "\n"}}, nil)
	ctx := context.Background()
	url := pgtest.URL(t)
	db, err := store.Open(ctx, url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := migrations.Apply(ctx, db); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	senders, err := sources.Load()
	if err != nil {
		t.Fatal(err)
	}
	s := &service{log: log, db: db, store: store.New(db, log)}
	s.overrules = &overruler{store: s.store}
	s.adviser = &adviser{store: s.store, senders: senders, overrules: s.overrules, log: log}

	today := time.Now().UTC().Truncate(24 * time.Hour)
	row := func(source string, n int64, dkim string, spf dmarc.Result) dmarc.Row {
		selector, domain, _ := strings.Cut(dkim, "@")
		r := dmarc.Row{
			Source: netip.MustParseAddr(source), Count: n, HeaderFrom: "evid.test", EnvelopeFrom: "evid.test", Disposition: dmarc.DispositionNone,
			DKIM: dmarc.ResultFail, SPF: spf, AuthSPF: []dmarc.SPFResult{{Domain: "evid.test", Scope: "mfrom", Result: spf}},
		}
		if dkim != "" {
			r.DKIM, r.AuthDKIM = dmarc.ResultPass, []dmarc.DKIMResult{{Domain: domain, Selector: selector, Result: dmarc.ResultPass}}
		}
		return r
	}
	each := func(rows []dmarc.Row) iter.Seq2[*dmarc.Row, error] {
		return func(yield func(*dmarc.Row, error) bool) {
			for i := range rows {
				if !yield(&rows[i], nil) {
					return
				}
			}
		}
	}
	var deliveries []dmarc.Delivery
	report := func(org, domain string, day time.Time, rows ...dmarc.Row) {
		uid := uint32(len(deliveries) + 1)
		raw := fmt.Appendf(nil, "report %d", uid)
		place := dmarc.Place{UIDValidity: 1, UID: uid}
		received := day.Add(30 * time.Hour)
		if received.After(time.Now()) {
			received = time.Now()
		}
		rep := &dmarc.AggregateReport{
			Reporter: dmarc.Reporter{OrgName: org, Email: "noreply@" + strings.ToLower(org) + ".example"}, ID: fmt.Sprint(uid),
			Period: dmarc.Period{Begin: day, End: day.Add(24*time.Hour - time.Second)},
			Policy: dmarc.PolicyPublished{Domain: domain, P: dmarc.PolicyNone, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed},
		}
		var print dmarc.Fingerprint
		for i := range rows {
			rep.Tally.Add(&rows[i])
			print.Add(&rows[i])
		}
		rep.Hash, rep.RowsHash, rep.Rows = print.Sum(rep), print.Rows(), each(rows)
		deliveries = append(deliveries, dmarc.Delivery{
			Mailbox: "inbox", Place: place, Reached: place, Digest: sha256.Sum256(raw), Raw: bytes.NewReader(raw), Size: int64(len(raw)), ReceivedAt: received,
			Parts: []dmarc.Part{{Path: "1", Aggregate: rep}},
		})
	}
	for ago := 40; ago >= 1; ago-- {
		day := today.AddDate(0, 0, -ago)
		moved := dmarc.ResultPass // until somebody took 192.0.2.77 out of the record
		if ago <= 5 {
			moved = dmarc.ResultFail
		}
		report("Big", "evid.test", day,
			row("192.0.2.5", 100, "s1@evid.test", dmarc.ResultPass), row("198.51.100.7", 50, "s2@evid.test", dmarc.ResultPass),
			row("192.0.2.77", 20, "s1@evid.test", moved), row("192.0.2.5", 10, "s3@evid.test", dmarc.ResultPass),
			row("192.0.2.5", 7, "x@a.eu.evid.test", dmarc.ResultFail))
		if ago >= 12 {
			report("Quiet", "evid.test", day, row("192.0.2.5", 5, "s1@evid.test", dmarc.ResultPass))
		}
	}
	report("Big", "other.test", today.AddDate(0, 0, -1), row("192.0.2.200", 1, "k@other.test", dmarc.ResultPass))
	fates, err := s.store.Add(ctx, deliveries)
	if err != nil || len(fates) != len(deliveries) {
		t.Fatalf("%d fates, %v", len(fates), err)
	}
	if err := s.store.SummariseSources(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.store.SummariseFacts(ctx); err != nil {
		t.Fatal(err)
	}

	cfg := defaultConfig(&environ{})
	cfg.Resolver, cfg.Records.Selectors = dns.Unbound, []string{"k._domainkey.other.test"}
	w, err := s.newWatcher(cfg, sample.Policies{})
	if err != nil {
		t.Fatal(err)
	}
	look := func() *records.Result {
		t.Helper()
		if err := w.Pass(ctx); err != nil {
			t.Fatal(err)
		}
		r, err := s.store.Look(ctx, "evid.test")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := look()
	for _, f := range first.Findings {
		if f.ID == "dmarc.reported_differs" {
			t.Errorf("on the first look nobody knows since when the record is there: %s", f.What)
		}
	}
	// Nine days pass.
	if _, err := db.Exec(ctx, "UPDATE published SET first_seen = first_seen - interval '9 days'"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(ctx, "UPDATE looks SET next_at = now()"); err != nil {
		t.Fatal(err)
	}
	r := look()
	if !time.Now().UTC().Truncate(24 * time.Hour).Equal(today) {
		t.Skip("it became another day meanwhile, and the 30 days that are counted with it")
	}
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.ID+" "+f.Subject+": "+f.What)
	}
	since := today.AddDate(0, 0, -9).Format(time.DateOnly)
	yesterday := today.AddDate(0, 0, -1).Format(time.DateOnly)
	at := -1
	for _, want := range []struct{ id, text string }{
		{"spf.source_missing evid.test", "192.0.2.77"},
		{"dkim.missing s2._domainkey.evid.test", "s2"},
		{"dkim.revoked s3._domainkey.evid.test", "s3"},
		{"dkim.key_shared s1._domainkey.evid.test", "k._domainkey.other.test, s1._domainkey.evid.test"},
		{"dmarc.one_method evid.test", "203 messages of the last 30 days are aligned only for receivers that take the organizational domain from the Public Suffix List: evid.test authenticated as a.eu.evid.test."},
		{"spf.unused evid.test", "`include:old.evid.test` lets 2 networks"},
		{"spf.unused evid.test", "`ip4:203.0.113.0/28` lets 1 network send"},
		{"dmarc.reported_differs evid.test", "p=reject for evid.test since " + since + ", but Big still saw p=none on " + yesterday},
		{"reports.reporter_silent evid.test", "Quiet has sent no report about evid.test since the one for " + today.AddDate(0, 0, -12).Format(time.DateOnly)},
	} {
		found := -1
		for i, line := range got {
			if strings.HasPrefix(line, want.id+": ") && strings.Contains(line, want.text) {
				found = i
			}
		}
		if found < 0 {
			t.Errorf("no %s that tells %q", want.id, want.text)
		} else if strings.HasPrefix(want.id, "spf.unused") {
			if found < at {
				t.Errorf("%q stands before what saves more lookups", want.text)
			}
			at = found
		}
	}
	for _, f := range r.Findings {
		if f.Severity == "unknown" || f.ID == "dkim.bad_key" || f.ID == "dkim.missing" && strings.HasPrefix(f.Subject, "s1.") || f.ID == "spf.unused" && strings.Contains(f.What, "crm") {
			t.Errorf("found: %s %s", f.ID, f.What)
		}
	}
	if t.Failed() {
		t.Logf("found:\n%s", strings.Join(got, "\n"))
	}
}
