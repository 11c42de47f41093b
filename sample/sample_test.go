package sample_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/sample"
)

// noon is the present of all tests.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func TestSumsOfTheMailAreTheTruth(t *testing.T) {
	racetest.Calm(t)
	var truth sample.Truth
	got := newLedger(t)
	for m := range sample.Mailbox(sample.Options{Seed: 7, Now: noon, Days: 14}, &truth) {
		got.takeByLibrary(m)
	}
	got.compare(truth)
}

func TestEqualOptionsGiveEqualMailInTheOrderOfArrival(t *testing.T) {
	digest := func(seed uint64, now time.Time) (string, int) {
		h, n := sha256.New(), 0
		var last time.Time
		for m := range sample.Mailbox(sample.Options{Seed: seed, Now: now, Days: 5}, nil) {
			if m.Received.Before(last) || m.Received.After(now) {
				t.Fatalf("mail %d was received %v, after one of %v", n, m.Received, last)
			}
			last = m.Received
			fmt.Fprintf(h, "%v %d %s", m.Received, len(m.Raw), m.Raw)
			n++
		}
		return fmt.Sprintf("%x", h.Sum(nil)), n
	}
	one, n := digest(1, noon)
	if n < 100 {
		t.Errorf("%d mails in five days", n)
	}
	if again, _ := digest(1, noon.In(time.FixedZone("", 3600))); again != one {
		t.Error("the same options gave other mail")
	}
	if other, _ := digest(2, noon); other == one {
		t.Error("another seed gave the same mail")
	}
}

func TestMailboxIsThatOfNinetyDaysInTheLifeOfFiveDomains(t *testing.T) {
	racetest.Calm(t)
	if testing.Short() {
		t.Skip("SKIPPED: writes the whole mailbox")
	}
	var truth sample.Truth
	var messages int
	for m := range sample.Mailbox(sample.Options{Seed: 1, Now: noon}, &truth) {
		messages += len(m.Raw)
	}
	if n := truth.Mails.Total(); n < 4000 || n > 6500 {
		t.Errorf("%d mails", n)
	}
	if messages > 40<<20 {
		t.Errorf("%d bytes of mail", messages)
	}
	rate := func(name string, from, to int) (rate float64, tally dmarc.Tally) {
		for age := to; age <= from; age++ {
			tally.Merge(truth.Domains[name].Days[noon.Truncate(24*time.Hour).AddDate(0, 0, -age)])
		}
		rate, _ = tally.PassRate()
		return rate, tally
	}
	// acme.example enforces nothing, and a service of it has failed for six days.
	before, _ := rate("acme.example", 25, 14)
	after, tally := rate("acme.example", 6, 2)
	if before-after < 0.05 || tally.Quarantine+tally.Reject != 0 {
		t.Errorf("acme.example: %.3f before the key was gone, %.3f after; %+v", before, after, tally)
	}
	// north.example went from none to quarantine to reject.
	if _, tally := rate("north.example", 80, 70); tally.Quarantine+tally.Reject != 0 {
		t.Errorf("north.example, at none: %+v", tally)
	}
	if _, tally := rate("north.example", 51, 40); tally.Quarantine == 0 || tally.Reject != 0 {
		t.Errorf("north.example, at quarantine: %+v", tally)
	}
	if _, tally := rate("north.example", 15, 5); tally.Reject == 0 || tally.Quarantine != 0 {
		t.Errorf("north.example, at reject: %+v", tally)
	}
	// parked.example sends nothing.
	if all := truth.Domains["parked.example"].Tally; all.DMARCPass != 0 || all.Reject == 0 {
		t.Errorf("parked.example: %+v", all)
	}
	for name, d := range truth.Domains {
		if len(d.Days) < 85 {
			t.Errorf("%s: mail on %d days", name, len(d.Days))
		}
	}
	for _, outcome := range []dmarc.Outcome{dmarc.OutcomeDuplicate, dmarc.OutcomeConflict, dmarc.OutcomeNotAReport, dmarc.OutcomeEmptyReport, dmarc.OutcomeComplaint,
		dmarc.OutcomeUnsupported, dmarc.OutcomeCorruptArchive, dmarc.OutcomeBadXML, dmarc.OutcomeBadJSON, dmarc.OutcomeHostileXML, dmarc.OutcomeBomb} {
		if truth.Mails[outcome] == 0 {
			t.Errorf("no mail is to be %s", outcome)
		}
	}
	if tls := truth.TLS["acme.example"]; tls.Failed == 0 || tls.Successful < tls.Failed {
		t.Errorf("TLS of acme.example: %+v", tls)
	}
}

func TestYahooFallsSilentAboutOneDomain(t *testing.T) {
	racetest.Calm(t)
	last := map[string]time.Time{}
	for m := range sample.Mailbox(sample.Options{Seed: 1, Now: noon, Days: 11}, nil) {
		if !m.Expect.Read() {
			continue
		}
		if f, _, _ := read(t, m); f != nil && f.Org == "Yahoo" {
			last[f.Policy.Domain] = f.period(t).Begin
		}
	}
	today := noon.Truncate(24 * time.Hour)
	want := map[string]time.Time{
		"acme.example": today.AddDate(0, 0, -1), "north.example": today.AddDate(0, 0, -1), "river.example": today.AddDate(0, 0, -9),
		"harbor.example": today.AddDate(0, 0, -1), "parked.example": today.AddDate(0, 0, -1),
	}
	if !reflect.DeepEqual(last, want) {
		t.Errorf("last reports: %v, want %v", last, want)
	}
}

// Every quirk that the styles are for is there.
func TestStylesHaveTheirQuirks(t *testing.T) {
	racetest.Calm(t)
	seen := map[string]bool{}
	ids := map[string]string{}
	note := func(quirk string, is bool) { seen[quirk] = seen[quirk] || is }
	look := func(m sample.Mail) {
		if !m.Expect.Read() {
			return
		}
		f, _, _ := read(t, m)
		if f == nil {
			return
		}
		p, raw := f.period(t), string(m.Raw)
		note("a mail that is nothing but an archive", strings.Contains(raw, "Content-Type: application/zip") && !strings.Contains(raw, "multipart/"))
		note("a subject in encoded words", strings.Contains(raw, "Subject: =?utf-8?B?"))
		note("a folded subject", strings.Contains(raw, "\r\n Submitter: "))
		note("a body in HTML", strings.Contains(raw, "text/html"))
		note("a misspelt field", strings.Contains(raw, "\r\nContentType: "))
		note("a file name without quotes", strings.Contains(raw, "filename=amazonses.com"))
		note("an inclusive end", p.End.Unix()%60 == 59)
		note("an exclusive end", p.End.Unix()%86400 == 0)
		note("a local midnight in the east", p.Begin.Hour() == 23)
		note("a local midnight in the west", p.Begin.Hour() == 6 && p.End.Sub(p.Begin) == 24*time.Hour)
		note("a period of hours", p.End.Sub(p.Begin) < 7*time.Hour)
		note("a period of a week", p.End.Sub(p.Begin) == 7*24*time.Hour)
		note("a blank in a number", f.End != strings.TrimSpace(f.End))
		note("the namespace of RFC 9990", f.XMLName.Space == "urn:ietf:params:xml:ns:dmarc-2.0")
		note("the namespace of RFC 7489", f.XMLName.Space == "http://dmarc.org/dmarc-xml/0.1")
		note("testing", f.Policy.Testing == "y")
		note("an id that two reporters share", ids[f.ID] != "" && ids[f.ID] != f.Org)
		ids[f.ID] = f.Org
		for _, r := range f.Records {
			note("the recipient", r.EnvelopeTo != "")
			note("two signatures", len(r.Signatures) == 2)
			note("a signature without a selector", len(r.Signatures) > 0 && r.Signatures[0].Selector == "")
			note("a signature without a domain", len(r.Signatures) > 0 && r.Signatures[0].Domain == "")
			note("a lost key", len(r.Signatures) > 0 && r.Signatures[0].Result == "permerror")
			note("DKIM without signatures", r.DKIM == "pass" && len(r.Signatures) == 0)
			note("capitals", r.SPF == "Fail")
			note("disposition pass", r.Disposition == "pass")
			note("a blank before a word", r.Disposition == " quarantine")
			note("a row of nothing", r.Count == 0 && r.Source == "")
			note("IPv6", strings.Contains(r.Source, ":"))
			note("a subdomain", strings.Count(r.From, ".") == 2)
			note("sampled_out", slices.Contains(r.Reasons, "sampled_out"))
			note("policy_test_mode", slices.Contains(r.Reasons, "policy_test_mode"))
			note("mailing_list", slices.Contains(r.Reasons, "mailing_list"))
			note("local_policy", slices.Contains(r.Reasons, "local_policy"))
			note("trusted_forwarder", slices.Contains(r.Reasons, "trusted_forwarder"))
		}
	}
	for _, days := range []int{62, 2} { // what was long ago, and what is new
		left := 600
		for m := range sample.Mailbox(sample.Options{Seed: 1, Now: noon, Days: days}, nil) {
			look(m)
			if left--; left == 0 {
				break
			}
		}
	}
	for _, quirk := range slices.Sorted(maps.Keys(seen)) {
		if !seen[quirk] {
			t.Errorf("there is never %s", quirk)
		}
	}
}

func TestMoreDomainsTellTheSameStories(t *testing.T) {
	var truth sample.Truth
	for range sample.Mailbox(sample.Options{Seed: 3, Now: noon, Days: 3, Domains: 12}, &truth) {
	}
	want := []string{"acme-2.example", "acme-3.example", "acme.example", "harbor-2.example", "harbor.example", "north-2.example", "north-3.example",
		"north.example", "parked-2.example", "parked.example", "river-2.example", "river.example"}
	if got := slices.Sorted(maps.Keys(truth.Domains)); !slices.Equal(got, want) {
		t.Errorf("domains = %v, want %v", got, want)
	}
}

func TestFreshReportIsAboutThePeriodThatHasEnded(t *testing.T) {
	opts := sample.Options{Seed: 1}
	period := dmarc.Period{Begin: noon.Add(-time.Minute), End: noon}
	var truth sample.Truth
	m := sample.Fresh(opts, period, &truth)
	got := newLedger(t)
	got.takeByLibrary(m)
	got.compare(truth)
	f, _, _ := read(t, m)
	if p := f.period(t); p != period || !m.Received.Equal(noon) || truth.Total.Tally.Messages == 0 {
		t.Errorf("period %v, received %v, %d messages", p, m.Received, truth.Total.Tally.Messages)
	}
	if again := sample.Fresh(opts, period, nil); !reflect.DeepEqual(again, m) {
		t.Error("the same period gave another report")
	}
	next := sample.Fresh(opts, dmarc.Period{Begin: noon, End: noon.Add(time.Minute)}, nil)
	if g, _, _ := read(t, next); g.ID == f.ID {
		t.Errorf("two reports have the id %s", g.ID)
	}
}

func BenchmarkMailbox(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for m := range sample.Mailbox(sample.Options{Seed: 1, Now: noon}, nil) {
			n += len(m.Raw)
		}
		b.SetBytes(int64(n))
	}
}
