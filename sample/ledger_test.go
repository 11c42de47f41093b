package sample_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/sample"
)

// A ledger adds up reports, and knows what is a copy of what.
type ledger struct {
	t       *testing.T
	reports map[string]*entry
	truth   sample.Truth
}

// An entry is an aggregate report.
type entry struct {
	domain   string
	by       dmarc.Reporter
	id       string
	period   dmarc.Period
	rows     []dmarc.Row
	content  any // what is equal for copies
	received time.Time
}

func (e *entry) messages() (n int64) {
	for i := range e.rows {
		n += e.rows[i].Count
	}
	return n
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, reports: map[string]*entry{}, truth: sample.Truth{
		Domains: map[string]*sample.DomainAccount{}, Reporters: map[string]*sample.Account{},
		TLS: map[string]sample.TLSAccount{}, Failures: map[string]int64{}, Mails: sample.Outcomes{},
	}}
}

// takeByLibrary takes a mail that is read by the standard library. What is not
// to be a report is taken at its word.
func (l *ledger) takeByLibrary(m sample.Mail) {
	l.t.Helper()
	if !m.Expect.Read() {
		l.truth.Mails[m.Expect]++
		return
	}
	f, tls, failure := read(l.t, m)
	switch {
	case failure != "":
		l.failure(failure)
	case tls != nil:
		p := tls.Policies[0]
		l.tls(p.Policy.Domain, p.Summary.Successful, p.Summary.Failed)
	default:
		l.aggregate(&entry{domain: f.Policy.Domain, by: f.reporter(), id: f.ID, period: f.period(l.t), rows: f.rows(), content: f, received: m.Received})
	}
}

func (l *ledger) failure(domain string) {
	l.truth.Failures[domain]++
	l.truth.Mails[dmarc.OutcomeOK]++
}

func (l *ledger) tls(domain string, successful, failed int64) {
	a := l.truth.TLS[domain]
	a.Reports++
	a.Successful += successful
	a.Failed += failed
	l.truth.TLS[domain] = a
	l.truth.Mails[dmarc.OutcomeOK]++
}

func (l *ledger) aggregate(e *entry) {
	key := fmt.Sprint(e.domain, "|", e.by.Key(), "|", e.id, "|", e.period)
	old, outcome := l.reports[key], dmarc.OutcomeConflict
	switch {
	case old == nil:
		outcome = dmarc.OutcomeOK
	case reflect.DeepEqual(old.content, e.content):
		outcome = dmarc.OutcomeDuplicate
	}
	if old == nil || outcome == dmarc.OutcomeConflict && e.messages() >= old.messages() {
		l.reports[key] = e
	}
	l.truth.Mails[outcome]++
}

func (l *ledger) compare(want sample.Truth) {
	l.t.Helper()
	for _, e := range l.reports {
		d := l.truth.Domains[e.domain]
		if d == nil {
			d = &sample.DomainAccount{Days: map[time.Time]dmarc.Tally{}, Estimated: map[time.Time]bool{}, Reporters: map[string]*sample.Account{}}
			l.truth.Domains[e.domain] = d
		}
		var sum dmarc.Tally
		days, _ := e.period.Attribute(e.received)
		for i := range e.rows {
			sum.Add(&e.rows[i])
			for j, n := range days.Share(e.rows[i].Count, nil) {
				tally, rows := d.Days[days.Days[j]], int64(0)
				if days.Days[j].Equal(days.Main) {
					rows = 1
				}
				tally.AddVerdict(e.rows[i].Verdict(), rows, n)
				if rows+n > 0 {
					d.Days[days.Days[j]] = tally
				}
				if days.Estimated && n > 0 {
					d.Estimated[days.Days[j]] = true
				}
			}
		}
		key := e.by.Key()
		for _, a := range []*sample.Account{&l.truth.Total, &d.Account, at(l.truth.Reporters, key), at(d.Reporters, key)} {
			a.Tally.Merge(sum)
			a.Reports++
		}
	}
	got := l.truth
	if got.Total != want.Total {
		l.t.Errorf("total:\n%+v, want\n%+v", got.Total, want.Total)
	}
	same(l.t, "reporters", got.Reporters, want.Reporters)
	same(l.t, "TLS reports", got.TLS, want.TLS)
	same(l.t, "failure reports", got.Failures, want.Failures)
	same(l.t, "mails", got.Mails, want.Mails)
	for name := range want.Domains {
		g, w := got.Domains[name], want.Domains[name]
		if g == nil || g.Account != w.Account {
			l.t.Errorf("%s:\n%+v, want\n%+v", name, g, w.Account)
			continue
		}
		same(l.t, name+", days", g.Days, w.Days)
		same(l.t, name+", estimated days", g.Estimated, w.Estimated)
		same(l.t, name+", reporters", g.Reporters, w.Reporters)
	}
	if len(got.Domains) != len(want.Domains) {
		l.t.Errorf("%d domains, want %d", len(got.Domains), len(want.Domains))
	}
}

func at(m map[string]*sample.Account, key string) *sample.Account {
	if m[key] == nil {
		m[key] = new(sample.Account)
	}
	return m[key]
}

// same compares maps entry by entry.
func same[K comparable, V any, M ~map[K]V](t *testing.T, what string, got, want M) {
	t.Helper()
	for k := range want {
		if !reflect.DeepEqual(got[k], want[k]) {
			t.Errorf("%s, %v:\n%+v, want\n%+v", what, k, got[k], want[k])
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: unexpected %v: %+v", what, k, got[k])
		}
	}
}
