package store_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestWhatIsFoundOutAboutAMailIsKeptWithItsReports(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	body := "From: noreply@reporter.example\r\n\r\nreport"
	carried := func(uid uint32, from string, reports ...report) dmarc.Delivery {
		d := mail(uid, reports...)
		d.From, d.Raw = from, bytes.NewReader([]byte(body))
		return d
	}
	one := row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone)
	parked := carried(4, "a@b.example")
	parked.Parts = []dmarc.Part{{Path: "1", Outcome: dmarc.OutcomeUnauthenticated, Reason: "parked"}}
	add(t, s, carried(1, "noreply@reporter.example", daily("a", one)), carried(2, "other@reporter.example", daily("a", one)), carried(3, ""), parked,
		carried(5, "a@b.example"), carried(6, "", daily("b", one)), mail(7, daily("c", one)))

	due := func(now time.Time) (ids []int64) {
		t.Helper()
		list, err := s.Unverified(ctx, now, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if !m.Unverified || m.Transport != (dmarc.TransportVerdict{}) {
				t.Errorf("message %d: %+v", m.ID, m)
			}
			ids = append(ids, m.ID)
		}
		return ids
	}
	// Only mails that carried reports, or a report that was parked.
	now := time.Now().Add(time.Hour)
	if got := due(now); len(got) != 3 || got[0] != 1 || got[1] != 2 || got[2] != 4 {
		t.Fatalf("messages %v are due, want 1, 2 and 4", got)
	}
	r, err := s.OpenMessage(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); string(got) != body || err != nil {
		t.Errorf("message 1 is %q, %v", got, err)
	}

	keep := func(id int64, v dmarc.TransportVerdict) dmarc.TransportAuth {
		t.Helper()
		if err := s.Verified(ctx, id, v); err != nil {
			t.Fatal(err)
		}
		list, _, err := s.Reports(ctx, dmarc.ReportQuery{Scope: dmarc.Everything, Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 10}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.Report.ID == "a" {
				return r.Transport
			}
		}
		t.Fatal("no report a")
		return 0
	}
	bad := dmarc.TransportVerdict{Auth: dmarc.TransportFail, Reason: "its signature \x00does not verify"}
	good := dmarc.TransportVerdict{Auth: dmarc.TransportPass, Domain: "reporter.example", Reason: "DKIM"}
	// The report came in both messages, and is that of the first.
	if got := keep(2, bad); got != dmarc.TransportUnknown {
		t.Errorf("a bad copy makes the report %v", got)
	}
	if got := keep(1, bad); got != dmarc.TransportFail {
		t.Errorf("its own bad mail makes the report %v", got)
	}
	if got := keep(2, good); got != dmarc.TransportPass {
		t.Errorf("a good copy makes the report %v", got)
	}
	if err := s.VerifyLater(ctx, 4, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := due(now); len(got) != 0 {
		t.Errorf("messages %v are due, want none", got)
	}
	if got := due(now.Add(time.Hour)); len(got) != 1 || got[0] != 4 {
		t.Errorf("messages %v are due, want 4", got)
	}
	list, _, err := s.Messages(ctx, dmarc.MessageQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: 10}})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		want := map[int64]dmarc.TransportVerdict{1: bad, 2: good}[m.ID]
		want.Reason = strings.ReplaceAll(want.Reason, "\x00", "")
		if m.Transport != want || m.Unverified != (m.ID == 4) {
			t.Errorf("message %d: %+v, unverified %v; want %+v", m.ID, m.Transport, m.Unverified, want)
		}
	}
}
