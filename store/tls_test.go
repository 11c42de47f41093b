package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func tlsReport(id string, successful, failed int64) *dmarc.TLSReport {
	rep := &dmarc.TLSReport{
		OrgName: "Reporter", Contact: "tls@reporter.example", ID: id, Domain: "example.com",
		Period: dmarc.Period{Begin: day1, End: day1.Add(24*time.Hour - time.Second)},
		Policies: []dmarc.TLSPolicy{{
			Type: "sts", Domain: "example.com", Strings: []string{"version: STSv1", "mode: testing"}, MXHosts: []string{"mx.example.com"},
			Successful: successful, Failed: failed,
			Details: []dmarc.TLSFailure{{ResultType: "certificate-expired", FailedSessions: failed, ReceivingMXHost: "mx.example.com"}},
		}},
	}
	rep.Hash = sha256.Sum256([]byte{byte(successful), byte(failed)})
	return rep
}

func TestTLSReportsAreKeptByTheRulesOfAggregateReports(t *testing.T) {
	s, _ := open(t)
	for i, step := range []struct {
		rep  *dmarc.TLSReport
		want dmarc.Outcome
		n    int64 // successful sessions of the report that counts
	}{
		{tlsReport("1", 5, 1), dmarc.OutcomeOK, 5},
		{tlsReport("1", 5, 1), dmarc.OutcomeDuplicate, 5},
		{tlsReport("1", 4, 1), dmarc.OutcomeConflict, 5},
		{tlsReport("1", 9, 1), dmarc.OutcomeConflict, 9},
		{tlsReport("1", 4, 1), dmarc.OutcomeDuplicate, 9},
	} {
		d := mail(uint32(i + 1))
		d.Parts = []dmarc.Part{{Path: "2", TLS: step.rep}}
		if fates := add(t, s, d); fates[0].Outcome != step.want {
			t.Errorf("step %d: %s (%s), want %s", i, fates[0].Outcome, fates[0].Reason, step.want)
		}
		list, _, err := s.TLS(context.Background(), dmarc.TLSQuery{Scope: dmarc.Everything, Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 5}})
		if err != nil || len(list) != 1 || list[0].Report.Policies[0].Successful != step.n {
			t.Errorf("step %d: %+v, %v; want one report with %d sessions", i, list, err, step.n)
		}
	}
	list, _, err := s.TLS(context.Background(), dmarc.TLSQuery{Scope: dmarc.Everything, Period: february, Page: dmarc.Page{Limit: 5}})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d reports, %v", len(list), err)
	}
	if want := tlsReport("1", 9, 1); !reflect.DeepEqual(list[0].Report, *want) {
		t.Errorf("%+v, want %+v", list[0].Report, *want)
	}
	// Each is there by its ID, the one that counts and those that do not.
	active := 0
	for id := 1; ; id++ {
		one, err := s.TLSReport(t.Context(), fmt.Sprintf("%s-%d", strings.Split(list[0].ID, "-")[0], id))
		if errors.Is(err, dmarc.ErrNotFound) {
			if id != 4 {
				t.Errorf("%d reports", id-1)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if one.Active {
			active++
			if !reflect.DeepEqual(one, list[0]) || one.MessageID == 0 || one.Part != "2" {
				t.Errorf("by its ID %+v, in the list %+v", one, list[0])
			}
		} else if one.Counting != list[0].ID {
			t.Errorf("%s does not count; %q does, and not %q", one.ID, list[0].ID, one.Counting)
		}
	}
	if active != 1 {
		t.Errorf("%d count", active)
	}
	if _, err := s.TLSReport(t.Context(), "x"); !errors.Is(err, dmarc.ErrNotFound) {
		t.Errorf("no ID: %v", err)
	}
}

func TestAFailureReportComesBackAsItWasAndIsCountedWhenItComesAgain(t *testing.T) {
	s, _ := open(t)
	want := dmarc.FailureReport{
		ReporterDomain: "reporter.example", FeedbackType: "auth-failure", AuthFailure: []string{"dmarc"},
		Arrival: day1, ArrivalSource: "field", SourceIP: netip.MustParseAddr("192.0.2.1"), ReportedDomain: "example.com",
		Incidents: 1, Headers: []dmarc.HeaderField{{Name: "From", Value: "a@example.com"}}, Hash: sha256.Sum256([]byte("1")), Flags: dmarc.FlagAlias,
	}
	for i, outcome := range []dmarc.Outcome{dmarc.OutcomeOKWithFlags, dmarc.OutcomeDuplicate} {
		rep := want
		d := mail(uint32(i + 1))
		d.Parts = []dmarc.Part{{Path: "2", Failure: &rep}}
		if fates := add(t, s, d); fates[0].Outcome != outcome {
			t.Errorf("delivery %d: %s, want %s", i+1, fates[0].Outcome, outcome)
		}
	}
	list, next, err := s.Failures(context.Background(), dmarc.FailureQuery{Scope: dmarc.Everything, Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 1}})
	if err != nil || len(list) != 1 || next != "" {
		t.Fatalf("%d reports, next %q, %v", len(list), next, err)
	}
	if !reflect.DeepEqual(list[0].Report, want) || list[0].Seen != 2 {
		t.Errorf("%+v, want %+v seen twice", list[0], want)
	}
}

func TestTheLedgerIsListedNewestFirst(t *testing.T) {
	s, _ := open(t)
	good := daily("1", row("192.0.2.1", 5, pass, pass, dmarc.DispositionNone))
	bad := mail(2)
	bad.Outcome, bad.Reason, bad.Subject = dmarc.OutcomeNotAReport, "an automatic reply", "I am away"
	partly := mail(3, daily("3", good.rows...))
	partly.Parts = append(partly.Parts, dmarc.Part{Path: "2", Outcome: dmarc.OutcomeBadXML, Reason: "it breaks off"})
	file := mail(0, good)
	file.Mailbox, file.Place, file.Reached, file.Source = dmarc.MailboxImport, dmarc.Place{}, dmarc.Place{}, "a.xml"
	add(t, s, mail(1, good), bad, partly, file)
	again := add(t, s, file)
	if !again[0].Known {
		t.Errorf("the same file again: %+v", again)
	}

	type line struct {
		mailbox string
		outcome dmarc.Outcome
		reason  string
		parts   int
	}
	var got []line
	q := dmarc.MessageQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: 3}}
	for {
		list, next, err := s.Messages(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			got = append(got, line{e.Mailbox, e.Outcome, e.Reason, len(e.Reports)})
		}
		if next == "" {
			break
		}
		q.After = next
	}
	want := []line{
		{"import", dmarc.OutcomeDuplicate, "this report was stored before", 1},
		{"inbox", dmarc.OutcomeBadXML, "part 2 of 2 parts: it breaks off", 2},
		{"inbox", dmarc.OutcomeNotAReport, "an automatic reply", 0},
		{"inbox", dmarc.OutcomeOK, "", 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ledger\n%v, want\n%v", got, want)
	}
	if list, _, err := s.Messages(context.Background(), dmarc.MessageQuery{Scope: dmarc.Everything, Mailbox: "inbox", Outcome: dmarc.OutcomeBadXML, Page: dmarc.Page{Limit: 3}}); err != nil || len(list) != 1 {
		t.Errorf("filtered: %d lines, %v", len(list), err)
	}
}
