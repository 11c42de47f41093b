package advice

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// What the reports say that records are compared with.
const (
	maxOwnSenders   = 20
	maxKeys         = 50
	maxReported     = 20
	maxSent         = 5000
	maxNamed        = 200
	keyReporters    = 2    // a key that never passed is looked at if so many days know of it
	steadyReports   = 20   // of a reporter that is missed
	silentAfter     = 7    // days
	nearlyAll       = 0.95 // of messages
	silentDomainFor = 30   // days with reports, before a domain is one that sends nothing
)

// A Told is what is known of a domain from reports, for the checks of its
// records.
type Told struct {
	Domain    string
	Now       time.Time
	Sources   []Classified            // of the last 30 days
	Keys      []dmarc.SelectorTraffic // of the last 90 days
	Reporters []dmarc.ReporterTraffic // of the last 90 days
	Summary   dmarc.DomainSummary     // of the last 90 days
	Newest    *dmarc.ReportSummary    // the newest report; nil for none
	Unchanged map[string]time.Time    // since when record sets are as they are, by "name TYPE"
}

// ForRecords returns what checks of records are told beside the domain.
func ForRecords(t *Told) records.Options {
	o := records.Options{Now: t.Now, Reported: &records.Reported{RecordSince: t.Unchanged["_dmarc."+t.Domain+" TXT"]}}
	t.keys(&o)
	t.senders(&o)
	t.traffic(&o)
	t.authors(&o)
	t.policy(o.Reported)
	t.silent(o.Reported)
	t.named(o.Reported)
	return o
}

// keys are those that sign for the domain. Anyone can name a key, so that one
// has to have passed, or to be known of several days.
func (t *Told) keys(o *records.Options) {
	org := dmarc.OrganizationalDomain(t.Domain)
	for i := range t.Keys {
		k := &t.Keys[i]
		if k.Selector == "" || dmarc.OrganizationalDomain(k.Domain) != org || k.LastPassed.IsZero() && k.Tally.Rows < keyReporters {
			continue
		}
		s := records.Selector{Name: k.Selector, Domain: k.Domain, LastSeen: k.LastPassed, LastSigned: k.LastDay}
		s.Unchanged = t.Unchanged[s.Selected()+" TXT"]
		if o.Selectors = append(o.Selectors, s); len(o.Selectors) == maxKeys {
			return
		}
	}
}

// senders are the addresses that mail came from, and those of them that are
// the owner's.
func (t *Told) senders(o *records.Options) {
	days := map[time.Time]bool{}
	own := make([]*Classified, 0, len(t.Sources))
	for i := range t.Sources {
		c := &t.Sources[i]
		for d := range c.Days() {
			days[d.Day] = true
		}
		if c.Source.Source.IsValid() && len(o.Reported.Sent) < maxSent {
			o.Reported.Sent = append(o.Reported.Sent, c.Source.Source)
		}
		if owners(c.Class) && c.Source.Source.IsSingleIP() {
			own = append(own, c)
		}
	}
	o.Reported.Days = len(days)
	slices.SortStableFunc(own, func(a, b *Classified) int { return cmp.Compare(b.Summary.Messages, a.Summary.Messages) })
	for _, c := range own {
		s := &c.Summary
		if c.Class == dmarc.ClassOwn && s.Both+s.DKIMOnly > 0 && len(o.Senders) < maxOwnSenders {
			o.Senders = append(o.Senders, records.Sender{Addr: c.Source.Source.Addr(), Own: true})
		}
		r := o.Reported
		if s.SPFOnly > s.Messages/2 && c.Class == dmarc.ClassOwn && len(r.SPFOnly) < maxReported {
			r.SPFOnly = append(r.SPFOnly, c.Name)
		}
		if relaxedOnly(c) && len(r.RelaxedOnly) < maxReported {
			r.RelaxedOnly = append(r.RelaxedOnly, c.Name)
		}
	}
}

// authors are the subdomains that own mail names, the busiest first.
func (t *Told) authors(o *records.Options) {
	counts := make(map[string]int64)
	for i := range t.Sources {
		c := &t.Sources[i]
		if !owners(c.Class) {
			continue
		}
		for cell, messages := range c.Cells() {
			if cell.Author != "" && cell.Author != dmarc.OtherAuthors {
				counts[cell.Author] += messages
			}
		}
	}
	o.Authors = slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}

// relaxedOnly reports whether most messages of a source pass, and would not if
// alignment were strict.
func relaxedOnly(c *Classified) bool {
	var relaxed int64
	for cell, messages := range c.Cells() {
		p := cell.Pattern
		if p.Passes() && p.DKIM != dmarc.AlignedStrict && p.SPF != dmarc.AlignedStrict {
			relaxed += messages
		}
	}
	return 2*relaxed > c.Summary.Messages
}

// named counts the messages whose alignment rests on organizational domains.
func (t *Told) named(r *records.Reported) {
	var c dmarc.NameCounter
	for i := range t.Sources {
		for d := range t.Sources[i].Days() {
			c.Add(d, t.Domain)
		}
	}
	r.Named = c.Mail()
	r.Named = r.Named[:min(len(r.Named), maxNamed)]
}

// traffic tells whether the domain sends, and how.
func (t *Told) traffic(o *records.Options) {
	var all, spf, dkim, aligned int64
	for i := range t.Sources {
		c := &t.Sources[i]
		if !owners(c.Class) {
			continue
		}
		for cell, n := range c.Cells() {
			p := cell.Pattern
			all += n
			if p.SPF != dmarc.NotAligned || p.Hints&dmarc.HintSPFForeign != 0 {
				spf += n
			}
			if p.DKIM != dmarc.NotAligned || p.Hints&dmarc.HintDKIMForeign != 0 {
				dkim += n
			}
			if p.Passes() {
				aligned += n
			}
		}
	}
	nearly := func(n int64) bool { return float64(n) >= nearlyAll*float64(all) }
	if days := int64(o.Reported.Days); days > 0 && all > 0 {
		o.Traffic = records.Traffic{MessagesADay: int(all / days), SPF: nearly(spf), DKIM: nearly(dkim), Aligned: nearly(aligned)}
	}
	switch sum := &t.Summary; {
	case all > 0:
		o.Sends = records.SendingYes
	case sum.Tally.DMARCPass == 0 && len(sum.Days) >= silentDomainFor:
		o.Sends = records.SendingNo
	}
}

func (t *Told) policy(r *records.Reported) {
	if n := t.Newest; n != nil {
		p := n.Report.Policy
		r.Policy, r.PolicyAt, r.PolicyBy = &p, n.Report.Period.Begin, n.Report.Reporter.OrgName
	}
}

// silent finds reporters who are missed.
func (t *Told) silent(r *records.Reported) {
	var last time.Time
	for i := range t.Reporters {
		if day := t.Reporters[i].LastDay; day.After(last) {
			last = day
		}
	}
	for i := range t.Reporters {
		o := &t.Reporters[i]
		if o.Reports >= steadyReports && o.LastDay.Before(last.AddDate(0, 0, -silentAfter)) {
			r.Silent = append(r.Silent, records.SilentReporter{Name: o.Reporter.OrgName, LastDay: o.LastDay})
		}
	}
	slices.SortFunc(r.Silent, func(a, b records.SilentReporter) int {
		return cmp.Or(b.LastDay.Compare(a.LastDay), cmp.Compare(a.Name, b.Name))
	})
}
