package sample

import (
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Truth is what the reports of a mailbox add up to, if nothing is lost and
// nothing counted twice. It is kept while the mail is written, apart from the
// text of the mail, so that whoever reads the mail can be compared with it.
type Truth struct {
	Total     Account
	Domains   map[string]*DomainAccount
	Reporters map[string]*Account // by dmarc.Reporter.Key

	TLS      map[string]TLSAccount // by dmarc.TLSReport.Domain
	Failures map[string]int64      // failure reports, by reported domain

	Mails Outcomes
}

// An Account is what reports add up to.
type Account struct {
	Tally   dmarc.Tally
	Reports int64 // each of them once
}

// A DomainAccount is what the reports about one domain add up to.
type DomainAccount struct {
	Account
	// Days are keyed by midnight UTC. Messages count as
	// dmarc.Period.Attribute tells, the share of each row rounded by itself;
	// rows count for the main day of their report.
	Days      map[time.Time]dmarc.Tally
	Estimated map[time.Time]bool  // days that have shares of longer periods
	Reporters map[string]*Account // by dmarc.Reporter.Key
}

// A TLSAccount is what TLS reports about one domain add up to.
type TLSAccount struct {
	Reports            int64
	Successful, Failed int64 // sessions
}

// Outcomes counts mails by what should become of them; see Mail.Expect.
type Outcomes map[dmarc.Outcome]int64

func (o *Outcomes) add(outcome dmarc.Outcome) {
	if *o == nil {
		*o = Outcomes{}
	}
	(*o)[outcome]++
}

// Total returns how many mails there are.
func (o Outcomes) Total() int64 {
	var n int64
	for _, c := range o {
		n += c
	}
	return n
}

// addReport counts an aggregate report.
func (t *Truth) addReport(r *report) {
	if t.Domains == nil {
		t.Domains, t.Reporters = make(map[string]*DomainAccount), make(map[string]*Account)
	}
	d := t.Domains[r.domain.name]
	if d == nil {
		d = &DomainAccount{
			Days:      make(map[time.Time]dmarc.Tally),
			Estimated: make(map[time.Time]bool),
			Reporters: make(map[string]*Account),
		}
		t.Domains[r.domain.name] = d
	}
	accounts := []*Account{&t.Total, &d.Account, account(t.Reporters, r.by.Key()), account(d.Reporters, r.by.Key())}
	for _, a := range accounts {
		a.Reports++
	}

	days, _ := r.written().Attribute(r.at)
	var parts []int64
	for i := range r.rows {
		row := &r.rows[i]
		for _, a := range accounts {
			a.Tally.Add(row)
		}
		if !days.Dated {
			continue
		}
		parts = days.Share(row.Count, parts)
		for j, day := range days.Days {
			tally := d.Days[day]
			var rows int64
			if day.Equal(days.Main) {
				rows = 1
			}
			tally.AddVerdict(row.Verdict(), rows, parts[j])
			if rows != 0 || parts[j] != 0 {
				d.Days[day] = tally
			}
			if days.Estimated && parts[j] != 0 {
				d.Estimated[day] = true
			}
		}
	}
}

func account(m map[string]*Account, key string) *Account {
	a := m[key]
	if a == nil {
		a = new(Account)
		m[key] = a
	}
	return a
}

func (t *Truth) addTLS(domain string, successful, failed int64) {
	if t.TLS == nil {
		t.TLS = make(map[string]TLSAccount)
	}
	a := t.TLS[domain]
	a.Reports++
	a.Successful += successful
	a.Failed += failed
	t.TLS[domain] = a
}

func (t *Truth) addFailure(domain string) {
	if t.Failures == nil {
		t.Failures = make(map[string]int64)
	}
	t.Failures[domain]++
}
