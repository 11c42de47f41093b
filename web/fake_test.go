package web

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// now is when the tests take place: a Monday evening.
var now = time.Date(2026, 11, 23, 19, 3, 0, 0, time.UTC)

func today() time.Time { return now.Truncate(aDay) }

// A fake is a store in memory. It answers as the real one does: whole days,
// busiest or newest first, a page at a time.
type fake struct {
	looks   map[string]*records.Result
	changes map[string][]dmarc.RecordChange

	all      []fakeDomain
	messages []dmarc.LedgerEntry
	singles
	err    error    // of every question
	advice advisers // nil for none
	said   *sayings // nil if nothing can be said

	mu       sync.Mutex // a page asks several things at once
	verdicts map[string]*dmarc.DomainVerdict
}

// verdict is what a pass would have kept.
func (f *fake) verdict(domain string) *dmarc.DomainVerdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.verdicts[domain]; v != nil || f.advice == nil {
		return v
	}
	e, err := f.advice.Evidence(context.Background(), domain, lastDays(adviceDays, now).Period)
	if err != nil {
		return nil
	}
	if f.verdicts == nil {
		f.verdicts = make(map[string]*dmarc.DomainVerdict)
	}
	f.verdicts[domain] = advice.For(e, advice.Options{}).Short(now)
	return f.verdicts[domain]
}

func (f *fake) Attention(_ context.Context, q dmarc.AttentionQuery) ([]dmarc.DomainVerdict, dmarc.Cursor, error) {
	if f.err != nil {
		return nil, "", f.err
	}
	var all []dmarc.DomainVerdict
	for _, d := range f.all {
		if v := f.verdict(d.name); v != nil {
			all = append(all, *v)
		}
	}
	slices.SortStableFunc(all, func(a, b dmarc.DomainVerdict) int {
		return cmp.Or(cmp.Compare(a.Attention, b.Attention), cmp.Compare(b.LossADay, a.LossADay))
	})
	return pageOf(all, q.Page)
}

// options are those of a dashboard about a store.
func options(store Store) Options {
	o := Options{Version: "1.2.3", Texts: texts{store}, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
	o.Included = func(domain string) string { return map[string]string{"crm.example": "Friends & Co"}[domain] }
	if f, ok := store.(*fake); ok && f.advice != nil {
		o.Adviser = f.advice
		if f.said != nil {
			o.Adviser, o.Overrules = listening{f.advice, f.said}, f.said
		}
	}
	return o
}

type fakeDomain struct {
	name      string
	published *dmarc.PolicyPublished
	days      []dmarc.DayTraffic
	undated   dmarc.Tally
	sources   []dmarc.SourceTraffic
	others    dmarc.Tally
	unknown   dmarc.Tally
	reporters []dmarc.ReporterTraffic
	reports   []dmarc.ReportSummary
	keys      []dmarc.SelectorTraffic
	otherKeys int64
	pending   bool
}

func (f *fake) find(name string) (*fakeDomain, error) {
	if f.err != nil {
		return nil, f.err
	}
	for i := range f.all {
		if f.all[i].name == name {
			return &f.all[i], nil
		}
	}
	return nil, fmt.Errorf("domain %q: %w", name, dmarc.ErrNotFound)
}

func within(days []dmarc.DayTraffic, p dmarc.Period) (in []dmarc.DayTraffic, sum dmarc.Tally) {
	for _, d := range days {
		if !d.Day.Before(p.Begin) && d.Day.Before(p.End) {
			in = append(in, d)
			sum.Merge(d.Tally)
		}
	}
	return in, sum
}

// pageOf cuts a page out of a list. Cursors are places.
func pageOf[T any](all []T, p dmarc.Page) ([]T, dmarc.Cursor, error) {
	if p.Limit < 1 {
		panic("a page without a limit")
	}
	first := 0
	if p.After != "" {
		var err error
		if first, err = strconv.Atoi(string(p.After)); err != nil || first < 0 || first > len(all) {
			return nil, "", dmarc.ErrBadCursor
		}
	}
	last := min(len(all), first+p.Limit)
	if last == len(all) {
		return all[first:last], "", nil
	}
	return all[first:last], dmarc.Cursor(strconv.Itoa(last)), nil
}

func (f *fake) Domains(_ context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
	if f.err != nil {
		return nil, "", f.err
	}
	return pageOf(f.listed(q), q.Page)
}

// DomainsWithTotal sums what Domains lists.
func (f *fake) DomainsWithTotal(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, dmarc.DomainsTotal, error) {
	var t dmarc.DomainsTotal
	t.Before, _ = strconv.Atoi(string(q.After))
	for _, d := range f.listed(q) {
		t.Domains++
		t.Messages += d.Tally.Messages
		t.DMARCPass += d.Tally.DMARCPass
		t.Stopped += classify(d.Tally)[4]
		if d.Published != nil && d.Published.P == dmarc.PolicyNone {
			t.None++
		}
		if v := d.Verdict; v != nil {
			t.Judged++
			t.Own += v.Own
			t.Passing += v.Passing
			t.LossADay += v.LossADay
		}
	}
	list, next, err := f.Domains(ctx, q)
	return list, next, t, err
}

// listed returns all domains of a query, in its order.
func (f *fake) listed(q dmarc.DomainQuery) []dmarc.DomainTraffic {
	var all []dmarc.DomainTraffic
	for _, d := range f.all {
		if !strings.Contains(d.name, q.Search) || q.Domain != "" && d.name != q.Domain && !(q.Subdomains && strings.HasSuffix(d.name, "."+q.Domain)) {
			continue
		}
		days, sum := within(d.days, q.Period)
		t := dmarc.DomainTraffic{Domain: d.name, Tally: sum, Reports: int64(len(days)), Published: d.published, Verdict: f.verdict(d.name)}
		for _, day := range d.days {
			if day.Tally.Messages > 0 {
				t.LastDay = day.Day
			}
		}
		if !q.Trend.Begin.IsZero() {
			t.Days, _ = within(d.days, q.Trend)
		}
		all = append(all, t)
	}
	urgency := func(d *dmarc.DomainTraffic) (dmarc.Attention, float64) {
		if v := d.Verdict; v != nil {
			return v.Attention, v.LossADay
		}
		return dmarc.AttentionNone + 1, 0
	}
	slices.SortStableFunc(all, func(a, b dmarc.DomainTraffic) int {
		if q.Urgent {
			attentionA, lossA := urgency(&a)
			attentionB, lossB := urgency(&b)
			if c := cmp.Or(cmp.Compare(attentionA, attentionB), cmp.Compare(lossB, lossA)); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(b.Tally.Messages, a.Tally.Messages), cmp.Compare(a.Domain, b.Domain))
	})
	return all
}

func (f *fake) Summary(_ context.Context, q dmarc.TrafficQuery) (dmarc.DomainSummary, error) {
	d, err := f.find(q.Domain)
	if err != nil {
		return dmarc.DomainSummary{}, err
	}
	s := dmarc.DomainSummary{Domain: d.name, Published: d.published, Verdict: f.verdict(d.name)}
	s.Days, s.Tally = within(d.days, q.Period)
	s.Reports = int64(len(s.Days)) * 14
	if len(s.Days) > 0 {
		s.Undated = d.undated
		s.Tally.Merge(d.undated)
	}
	return s, nil
}

func (f *fake) Sources(_ context.Context, q dmarc.TrafficQuery) (dmarc.SourceList, dmarc.Cursor, error) {
	d, err := f.find(q.Domain)
	if err != nil {
		return dmarc.SourceList{}, "", err
	}
	l := dmarc.SourceList{Total: int64(len(d.sources)), Others: d.others, Unknown: d.unknown, Pending: d.pending}
	var next dmarc.Cursor
	l.Items, next, err = pageOf(d.sources, q.Page)
	return l, next, err
}

func (f *fake) Reporters(_ context.Context, q dmarc.TrafficQuery) ([]dmarc.ReporterTraffic, dmarc.Cursor, error) {
	d, err := f.find(q.Domain)
	if err != nil {
		return nil, "", err
	}
	return pageOf(d.reporters, q.Page)
}

func (f *fake) Selectors(_ context.Context, q dmarc.TrafficQuery) (dmarc.SelectorList, dmarc.Cursor, error) {
	d, err := f.find(q.Domain)
	if err != nil {
		return dmarc.SelectorList{}, "", err
	}
	l := dmarc.SelectorList{Others: d.otherKeys}
	var next dmarc.Cursor
	l.Items, next, err = pageOf(d.keys, q.Page)
	return l, next, err
}

func (f *fake) Look(_ context.Context, domain string) (*records.Result, error) {
	if _, err := f.find(domain); err != nil {
		return nil, err
	}
	if r := f.looks[domain]; r != nil {
		return r, nil
	}
	return nil, dmarc.ErrNotFound
}

func (f *fake) RecordChanges(_ context.Context, domain string, q dmarc.ChangeQuery) ([]dmarc.RecordChange, dmarc.Cursor, error) {
	if _, err := f.find(domain); err != nil {
		return nil, "", err
	}
	return pageOf(f.changes[domain], q.Page)
}

func (f *fake) Messages(_ context.Context, q dmarc.MessageQuery) ([]dmarc.LedgerEntry, dmarc.Cursor, error) {
	if f.err != nil {
		return nil, "", f.err
	}
	var all []dmarc.LedgerEntry
	for _, m := range f.messages {
		if (q.Mailbox == "" || m.Mailbox == q.Mailbox) && (q.Outcome == "" || m.Outcome == q.Outcome) {
			all = append(all, m)
		}
	}
	return pageOf(all, q.Page)
}

// A life is how a domain's mail goes.
type life struct {
	name     string
	policy   dmarc.Policy
	busy     float64                           // messages on a working day
	fails    func(ago int) float64             // share of own mail that fails
	spoofed  func(ago int) float64             // messages of others a day
	silent   func(ago int) bool                // no reports
	guess    func(ago int) bool                // estimated
	sources  int                               // how many addresses
	stranger string                            // name of a reporter
	born     int                               // days ago
	tweak    func(d *fakeDomain, r *rand.Rand) // at last
}

// live makes a domain of its life, the same each time.
func live(l life) fakeDomain {
	rnd := rand.New(rand.NewPCG(uint64(len(l.name)), uint64(l.busy)))
	d := fakeDomain{name: l.name, published: &dmarc.PolicyPublished{
		Domain: l.name, P: l.policy, SP: l.policy, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed,
	}}
	var sum dmarc.Tally
	for ago := l.born; ago >= 0; ago-- {
		at := today().AddDate(0, 0, -ago)
		if l.silent != nil && l.silent(ago) {
			continue
		}
		n := l.busy * (0.85 + 0.3*rnd.Float64())
		if weekend(at) {
			n *= 0.3
		}
		if ago == 0 {
			n *= 0.1 // most reports about today are still to come
		}
		var t dmarc.Tally
		add := func(dkim, spf bool, disposition dmarc.Disposition, n float64) {
			var v dmarc.Verdict
			if dkim {
				v |= dmarc.VerdictDKIM
			}
			if spf {
				v |= dmarc.VerdictSPF
			}
			t.AddVerdict(v|dmarc.Verdict(disposition)<<4, 1, int64(math.Round(n)))
		}
		failing := 0.004
		if l.fails != nil {
			failing = l.fails(ago)
		}
		asked := map[dmarc.Policy]dmarc.Disposition{
			dmarc.PolicyNone: dmarc.DispositionNone, dmarc.PolicyQuarantine: dmarc.DispositionQuarantine, dmarc.PolicyReject: dmarc.DispositionReject,
		}[l.policy]
		add(true, true, dmarc.DispositionNone, n*(1-failing)*0.78)
		add(true, false, dmarc.DispositionNone, n*(1-failing)*0.17)
		add(false, true, dmarc.DispositionNone, n*(1-failing)*0.05)
		add(false, false, dmarc.DispositionNone, n*failing*0.4)
		add(false, false, asked, n*failing*0.6)
		if l.spoofed != nil {
			s := l.spoofed(ago) * (0.8 + 0.4*rnd.Float64())
			add(false, false, asked, s*0.93)
			add(false, false, dmarc.DispositionNone, s*0.07)
		}
		d.days = append(d.days, dmarc.DayTraffic{Day: at, Tally: t, Estimated: l.guess != nil && l.guess(ago)})
		if ago < 30 {
			sum.Merge(t)
		}
	}
	d.addSources(sum, l.sources, rnd)
	d.addReports(l.stranger, rnd)
	if l.tweak != nil {
		l.tweak(&d, rnd)
	}
	return d
}

// addSources shares the messages of a tally among n addresses.
func (d *fakeDomain) addSources(sum dmarc.Tally, n int, rnd *rand.Rand) {
	left := sum.Messages
	for i := range n {
		m := max(1, int64(float64(left)*0.42))
		if i > 12 {
			m = max(1, left/int64(2*(n-i)))
		}
		m = min(m, left)
		left -= m
		t := dmarc.Tally{Rows: 1, Messages: m, None: m}
		switch {
		case i%7 == 3:
			t.DKIMAligned = m * 81 / 100
		case i < 6:
			t.DKIMAligned, t.SPFAligned = m-m/900, m
		case i%3 == 0:
			t.DKIMAligned = m
		default:
			t.None, t.Reject = m/20, m-m/20
		}
		t.DMARCPass = max(t.DKIMAligned, t.SPFAligned)
		a := netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		if i > 9 || i == 4 {
			var b [16]byte
			copy(b[:], []byte{0x20, 0x01, 0x0d, 0xb8})
			b[6], b[7], b[14], b[15] = byte(rnd.Uint32()), byte(rnd.Uint32()), byte(i>>8), byte(i)
			a = netip.AddrFrom16(b)
		}
		d.sources = append(d.sources, dmarc.SourceTraffic{Source: a, Tally: t, FirstDay: today().AddDate(0, 0, -29), LastDay: today().AddDate(0, 0, -i%20)})
	}
	if left > 0 {
		d.others = dmarc.Tally{Rows: 1, Messages: left, Reject: left}
	}
}

// addReports invents who reported.
func (d *fakeDomain) addReports(stranger string, rnd *rand.Rand) {
	reporters := []dmarc.Reporter{
		{OrgName: "google.com", Email: "noreply-dmarc-support@google.com"},
		{OrgName: "Enterprise Outlook", Email: "dmarcreport@microsoft.com"},
		{OrgName: "Yahoo", Email: "dmarchelp@yahooinc.com"},
		{OrgName: "Fastmail Pty Ltd", Email: "reports@fastmaildmarc.com"},
		{OrgName: "mail.ru", Email: "dmarc_support@corp.mail.ru"},
		{OrgName: "GMX", Email: "noreply-dmarc@sicher.gmx.net"},
		{OrgName: "Comcast", Email: "dmarc@alerts.comcast.net"},
	}
	if stranger != "" {
		reporters = append(reporters, dmarc.Reporter{OrgName: stranger, Email: stranger})
	}
	for i, r := range reporters {
		m := int64(900_000) >> (2 * i)
		t := dmarc.Tally{Messages: m, DMARCPass: m * 97 / 100, DKIMAligned: m * 95 / 100, SPFAligned: m * 80 / 100, None: m - m/60, Reject: m / 60}
		d.reporters = append(d.reporters, dmarc.ReporterTraffic{Reporter: r, Tally: t, Reports: int64(30 - i), LastDay: today().AddDate(0, 0, -1-i%3)})
	}
	for i, day := range d.days {
		for j, r := range reporters {
			m := day.Tally.Messages >> (2 * j)
			t := dmarc.Tally{Messages: m, DMARCPass: m * 97 / 100}
			begin := day.Day
			d.reports = append(d.reports, dmarc.ReportSummary{
				ID: fmt.Sprintf("1-%d/%d", i, j), Active: true, ReceivedAt: begin.Add(30*time.Hour + time.Duration(rnd.IntN(9000))*time.Second),
				Report: dmarc.AggregateReport{
					Reporter: r, ID: strconv.FormatUint(rnd.Uint64(), 10), Tally: t, Policy: dmarc.PolicyPublished{Domain: d.name},
					Period: dmarc.Period{Begin: begin, End: begin.Add(aDay - time.Second)},
				},
			})
		}
	}
	slices.Reverse(d.reports)
}

const hostile = `"><script>alert(1)</script>` + "\u202egnp.\x00" + `' onload='x' {{.}}`

// realistic is a store of an ordinary installation: a year of mail.
func realistic() *fake {
	never := func(int) float64 { return 0 }
	return &fake{messages: ledger(), advice: counsel(), said: &sayings{}, all: []fakeDomain{
		live(life{
			name: "acme.example", policy: dmarc.PolicyQuarantine, busy: 52_000, born: 420, sources: 1112, stranger: hostile,
			fails: func(ago int) float64 {
				if ago < 6 {
					return 0.09 // a key was lost
				}
				return 0.006
			},
			spoofed: func(ago int) float64 {
				if ago >= 17 && ago <= 23 {
					return 9_000 * (1 - math.Abs(float64(ago-20))/5) // a campaign
				}
				return 300
			},
			silent: func(ago int) bool { return ago >= 62 && ago <= 66 || ago == 44 },
			guess:  func(ago int) bool { return ago >= 31 && ago <= 37 || ago >= 8 && ago <= 10 },
			tweak: func(d *fakeDomain, _ *rand.Rand) {
				d.published.SP = dmarc.PolicyReject
				d.undated = dmarc.Tally{Rows: 1, Messages: 312, DMARCPass: 300, DKIMAligned: 300, None: 312}
				d.unknown = dmarc.Tally{Rows: 1, Messages: 41, DMARCPass: 3, None: 41}
				d.pending = true
				d.otherKeys = 17
				for i, name := range []string{"k1", "s1", hostile, "old"} {
					k := dmarc.SelectorTraffic{Domain: d.name, Selector: name, Passed: 90_000 >> i, Tally: dmarc.Tally{Messages: 91_000 >> i, DMARCPass: 90_000 >> i, DKIMAligned: 90_000 >> i}, LastDay: today(), LastPassed: today()}
					if name == "old" {
						k.Passed, k.LastPassed = 0, time.Time{}
					}
					d.keys = append(d.keys, k)
				}
			},
		}),
		live(life{name: "north.example", policy: dmarc.PolicyReject, busy: 3_100, born: 300, sources: 14, fails: func(int) float64 { return 0.0003 }, spoofed: func(ago int) float64 { return 310 }}),
		live(life{name: "river.example", policy: dmarc.PolicyNone, busy: 900, born: 200, sources: 6, silent: func(ago int) bool { return ago < 9 }}),
		live(life{name: "shop.acme.example", policy: dmarc.PolicyNone, busy: 240, born: 60, sources: 5, spoofed: never, fails: func(int) float64 { return 0.21 }}),
		live(life{name: "newsletter-and-transactional-mail.departments.a-rather-long-name-for-a-company.example", policy: dmarc.PolicyQuarantine, busy: 40, born: 20, sources: 3, fails: never}),
		{name: "parked.example", published: &dmarc.PolicyPublished{Domain: "parked.example", P: dmarc.PolicyReject}},
	}}
}

// ledger is what came in of late.
func ledger() []dmarc.LedgerEntry {
	var all []dmarc.LedgerEntry
	for i := range 120 {
		e := dmarc.LedgerEntry{
			ID: int64(1000 - i), Mailbox: "dmarc@mail.example.com", Size: 4211, ReceivedAt: now.Add(-time.Duration(i) * 37 * time.Minute),
			From: "noreply-dmarc-support@google.com", Subject: "Report domain: acme.example Submitter: google.com Report-ID: 1847236458217",
			Outcome: dmarc.OutcomeOK, Reports: []dmarc.LedgerPart{{Path: "1", Kind: "aggregate", Report: "1-2", Outcome: dmarc.OutcomeOK}},
		}
		switch i % 17 {
		case 3:
			e.Outcome, e.Reason = dmarc.OutcomeBadXML, "the XML breaks off in <record> 214 at byte 65,536; the sender cut it, nothing of it is counted"
			e.Reports = []dmarc.LedgerPart{{Path: "2/google.com!acme.example!1763856000!1763942399.xml.gz", Kind: "none", Outcome: e.Outcome, Reason: e.Reason}}
		case 5:
			e.Outcome, e.Subject, e.From, e.Reports = dmarc.OutcomeNotAReport, "Win a holiday", "friend@spam.example", nil
			e.Reason = "mail without a report"
		case 8:
			e.Outcome, e.Reason = dmarc.OutcomeDuplicate, "stored before, with message 871"
		case 11:
			e.Mailbox, e.Source, e.From, e.Subject = dmarc.MailboxImport, "/var/backups/dmarc/2026/10/enterprise-outlook/protection.outlook.com!acme.example!1759276800!1759363200.xml.gz", "", ""
		case 13:
			e.Subject, e.From = hostile, hostile
		}
		all = append(all, e)
	}
	return all
}

// crowd is a store with a great many domains, and one with as many senders.
func crowd(n int) *fake {
	f := &fake{advice: storm(n)}
	for i := range n {
		f.all = append(f.all, fakeDomain{
			name:      fmt.Sprintf("customer-%04d.example", i),
			published: &dmarc.PolicyPublished{P: dmarc.Policy(1 + i%3)},
			days: []dmarc.DayTraffic{
				{Day: today().AddDate(0, 0, -2), Tally: dmarc.Tally{Messages: int64(10 + i), DMARCPass: int64(i), DKIMAligned: int64(i), None: int64(10 + i)}},
				{Day: today().AddDate(0, 0, -1), Tally: dmarc.Tally{Messages: 20, DMARCPass: 20, DKIMAligned: 20, None: 20}},
			},
		})
	}
	if n > 1 {
		f.verdicts = make(map[string]*dmarc.DomainVerdict)
		for i := range n {
			v := &dmarc.DomainVerdict{Domain: f.all[i].name, Verdict: "done", Policy: "p=reject", Attention: dmarc.AttentionNone, Sentence: "Done.", Own: 1000, Passing: 1000}
			switch i % 7 {
			case 1:
				v.Verdict, v.Attention, v.Blockers, v.LossADay, v.Passing = "not_ready", dmarc.AttentionNewFailure, 2, float64(i), 900
				v.Sentence = fmt.Sprintf("service-%d.example has failed since 18 November 2026: 4,210 of 4,711 messages did not pass; 100 %% of its mail passed before.", i)
			case 2, 3:
				v.Verdict, v.Attention, v.Next, v.Sentence = "ready", dmarc.AttentionReady, "p=quarantine", "Ready for quarantine: you would lose 0 a day of your own 11."
			case 4:
				v.Verdict, v.Attention, v.Own, v.Passing = "not_enough_evidence", dmarc.AttentionNone, 0, 0
			}
			f.verdicts[v.Domain] = v
		}
	}
	if n > 0 {
		d := &f.all[0]
		d.addSources(dmarc.Tally{Messages: 4_000_000}, n, rand.New(rand.NewPCG(1, 2)))
		for i := range n {
			d.reporters = append(d.reporters, dmarc.ReporterTraffic{
				Reporter: dmarc.Reporter{OrgName: fmt.Sprintf("Reporter %d", i), Email: fmt.Sprintf("dmarc@host-%d.example", i)},
				Tally:    dmarc.Tally{Messages: int64(n - i), DMARCPass: int64(n-i) / 2}, Reports: 3, LastDay: today(),
			})
		}
		d.addReports("", rand.New(rand.NewPCG(3, 4)))
	}
	return f
}
