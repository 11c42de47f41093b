package advice_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// What reports tell becomes what the checks of records are told.
func TestRecordsAreToldWhatReportsTell(t *testing.T) {
	now := time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)
	today := now.Truncate(24 * time.Hour)
	ago := func(days int) time.Time { return today.AddDate(0, 0, -days) }
	source := func(addr string, class dmarc.Class, p dmarc.Pattern, messages int64, days int) advice.Classified {
		prefix := netip.MustParsePrefix(addr)
		var all []dmarc.SourceDay
		var sum advice.Summary
		for d := range days {
			all = append(all, dmarc.SourceDay{Day: ago(d + 1), Source: prefix, Cells: []dmarc.Cell{{Pattern: p, Messages: messages}}})
			sum.Messages += messages
		}
		switch {
		case p.DKIM != dmarc.NotAligned && p.SPF != dmarc.NotAligned:
			sum.Both = sum.Messages
		case p.SPF != dmarc.NotAligned:
			sum.SPFOnly = sum.Messages
		default:
			sum.Failing = sum.Messages
		}
		src := &advice.Source{SourceFacts: dmarc.FactsBySource(all)[0]}
		return advice.Classified{Source: src, Class: class, Summary: sum, Name: addr}
	}
	marked := func(c advice.Classified, kind dmarc.MarkKind, domain string) advice.Classified {
		all := c.SourceDays()
		for i := range all {
			all[i].Marks = []dmarc.Mark{{Kind: kind, Domain: domain, Messages: all[i].Cells[0].Messages}}
		}
		c.SourceFacts = dmarc.FactsBySource(all)[0]
		return c
	}
	told := &advice.Told{
		Domain: "acme.example", Now: now,
		Sources: []advice.Classified{
			source("192.0.2.1/32", dmarc.ClassOwn, dmarc.Pattern{DKIM: dmarc.AlignedStrict, SPF: dmarc.AlignedStrict, Hints: dmarc.HintPassed}, 900, 30),
			marked(source("192.0.2.2/32", dmarc.ClassOwn, dmarc.Pattern{SPF: dmarc.AlignedRelaxed, Hints: dmarc.HintPassed}, 100, 30), dmarc.MarkSPFPass, "bounce.acme.example"),
			source("203.0.113.0/24", dmarc.ClassSuspicious, dmarc.Pattern{}, 5000, 2),
			marked(source("203.0.113.9/32", dmarc.ClassSuspicious, dmarc.Pattern{Hints: dmarc.HintDKIMForeign}, 14, 2), dmarc.MarkDKIMPass, "mailer.example"),
		},
		Keys: []dmarc.SelectorTraffic{
			{Domain: "acme.example", Selector: "s1", LastDay: ago(1), LastPassed: ago(1), Tally: dmarc.Tally{Rows: 40}},
			{Domain: "mail.acme.example", Selector: "gone", LastDay: ago(2), LastPassed: ago(40), Tally: dmarc.Tally{Rows: 9}},
			{Domain: "acme.example", Selector: "madeup", LastDay: ago(3), Tally: dmarc.Tally{Rows: 1}},
			{Domain: "mailer.example", Selector: "k1", LastDay: ago(1), LastPassed: ago(1), Tally: dmarc.Tally{Rows: 50}},
			{Domain: "acme.example", Selector: "", LastDay: ago(1), LastPassed: ago(1), Tally: dmarc.Tally{Rows: 50}},
		},
		Reporters: []dmarc.ReporterTraffic{
			{Reporter: dmarc.Reporter{OrgName: "Big"}, Reports: 80, LastDay: ago(1)},
			{Reporter: dmarc.Reporter{OrgName: "Quiet"}, Reports: 60, LastDay: ago(12)},
			{Reporter: dmarc.Reporter{OrgName: "Seldom"}, Reports: 3, LastDay: ago(50)},
		},
		Newest:    &dmarc.ReportSummary{Report: dmarc.AggregateReport{Reporter: dmarc.Reporter{OrgName: "Big"}, Period: dmarc.Period{Begin: ago(1)}, Policy: dmarc.PolicyPublished{P: dmarc.PolicyNone}}},
		Unchanged: map[string]time.Time{"_dmarc.acme.example TXT": ago(9), "s1._domainkey.acme.example TXT": ago(400)},
	}
	o := advice.ForRecords(told)
	wantKeys := []records.Selector{
		{Name: "s1", Domain: "acme.example", LastSeen: ago(1), LastSigned: ago(1), Unchanged: ago(400)},
		{Name: "gone", Domain: "mail.acme.example", LastSeen: ago(40), LastSigned: ago(2)},
	}
	if !slices.Equal(o.Selectors, wantKeys) {
		t.Errorf("keys %+v, want %+v", o.Selectors, wantKeys)
	}
	if want := []records.Sender{{Addr: netip.MustParseAddr("192.0.2.1"), Own: true}}; !slices.Equal(o.Senders, want) {
		t.Errorf("senders %+v, want %+v", o.Senders, want)
	}
	if o.Sends != records.SendingYes || o.Traffic != (records.Traffic{MessagesADay: 1000, SPF: true, Aligned: true}) {
		t.Errorf("sends %v, traffic %+v", o.Sends, o.Traffic)
	}
	r := o.Reported
	if want := "[{acme.example [] [bounce.acme.example] 3000} {acme.example [mailer.example] [] 28}]"; fmt.Sprint(r.Named) != want {
		t.Errorf("by names %v, want %v", r.Named, want)
	}
	got := fmt.Sprintln(r.RelaxedOnly, r.SPFOnly, len(r.Sent), r.Days, r.Policy.P, r.PolicyBy, r.RecordSince.Equal(ago(9)), r.Silent[0].Name, len(r.Silent))
	if want := fmt.Sprintln([]string{"192.0.2.2/32"}, []string{"192.0.2.2/32"}, 4, 30, dmarc.PolicyNone, "Big", true, "Quiet", 1); got != want {
		t.Errorf("reported %s, want %s", got, want)
	}

	silent := &advice.Told{Domain: "parked.example", Now: now, Sources: told.Sources[2:]}
	for d := range 31 {
		silent.Summary.Days = append(silent.Summary.Days, dmarc.DayTraffic{Day: ago(d)})
	}
	if o := advice.ForRecords(silent); o.Sends != records.SendingNo || len(o.Senders) != 0 || o.Traffic != (records.Traffic{}) {
		t.Errorf("a domain that only others use: %+v", o)
	}
	if o := advice.ForRecords(&advice.Told{Domain: "new.example", Now: now}); o.Sends != records.SendingUnknown || o.Reported.Policy != nil {
		t.Errorf("a domain that nothing is known of: %+v", o)
	}
}
