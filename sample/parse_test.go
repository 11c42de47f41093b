package sample_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/sample"
)

// Whoever reads the mailbox with parse.Message finds the truth, and in every
// mail what is to be expected of it.
func TestParserFindsTheTruth(t *testing.T) {
	racetest.Calm(t)
	days := 90
	if testing.Short() {
		days = 7
	}
	var truth sample.Truth
	got := newLedger(t)
	for m := range sample.Mailbox(sample.Options{Seed: 11, Now: noon, Days: days}, &truth) {
		got.takeByParser(m)
		if t.Failed() {
			t.Fatalf("in this mail:\n%.3000s", m.Raw)
		}
	}
	got.compare(truth)
}

// takeByParser takes a mail that is read by package parse.
func (l *ledger) takeByParser(m sample.Mail) {
	l.t.Helper()
	found, err := parse.Message(context.Background(), bytes.NewReader(m.Raw), "", parse.DefaultLimits)
	if err != nil {
		l.t.Error(err)
		return
	}
	defer found.Close()
	outcome := found.Outcome
	if len(found.Parts) > 0 {
		p := found.Parts[0]
		switch outcome = dmarc.OutcomeOK; {
		case len(found.Parts) > 1:
			l.t.Errorf("%d parts", len(found.Parts))
		case p.Aggregate != nil:
			l.parsed(p.Aggregate, m.Received)
		case p.Failure != nil:
			l.failure(p.Failure.ReportedDomain)
		case p.TLS != nil:
			successful, failed := p.TLS.Sessions()
			l.tls(p.TLS.Domain, successful, failed)
		default:
			outcome = p.Outcome
		}
	}
	if outcome.Read() != m.Expect.Read() || !outcome.Read() && outcome != m.Expect {
		l.t.Errorf("outcome %q, want %q", outcome, m.Expect)
	}
	if !outcome.Read() {
		l.truth.Mails[outcome]++
	}
}

// parsed takes an aggregate report.
func (l *ledger) parsed(rep *dmarc.AggregateReport, received time.Time) {
	l.t.Helper()
	e := &entry{domain: rep.Policy.Domain, by: rep.Reporter, id: rep.ID, period: rep.Period, content: rep.Hash, received: received}
	var sum dmarc.Tally
	for row, err := range rep.Rows {
		if err != nil {
			l.t.Error(err)
			return
		}
		e.rows = append(e.rows, row.Clone())
		sum.Add(row)
		want := dmarc.Agreed
		if row.Count == 0 {
			want = dmarc.VerdictMissing
		}
		// One site lists no signatures, so its verdicts cannot be followed.
		if got := row.Ours.Disagreement; got != want && rep.Reporter.OrgName != "meadow.example" {
			l.t.Errorf("%s disagrees (%v): %+v", rep.Reporter.OrgName, got, row)
		}
	}
	if sum != rep.Tally || rep.Dropped != (dmarc.Dropped{}) {
		l.t.Errorf("the report says %+v, its rows %+v; dropped %+v", rep.Tally, sum, rep.Dropped)
	}
	l.aggregate(e)
}
