package advice

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// limits say how much evidence is enough, and how much loss too much. They are careful: a monthly
// sender has time to appear.
var limits = struct {
	daysQuarantine int     // own mail must have been seen over so many days
	daysReject     int     // before reject; a monthly sender has shown twice by then
	activeDays     int     // days with own mail, at least
	messages       int64   // own messages, at least
	reporters      int     // that saw own mail, at least
	loss           float64 // share of own mail that may be lost
	upper          float64 // and with 95 % confidence
	lossADay       float64 // or so few messages a day, with 95 % confidence
	silence        int     // days without reports that make evidence old
	settle         int     // days to look at after a change or a repair
	stepBack       float64 // share of own mail that receivers stop, beyond which to go back
	parked         int     // days of reports for a domain that sends nothing
}{
	daysQuarantine: 35, daysReject: 60, activeDays: 8, messages: 100, reporters: 3,
	loss: 0.001, upper: 0.005, lossADay: 0.1, silence: 7, settle: 14, stepBack: 0.01, parked: 30,
}

const day = 24 * time.Hour

// A judgement is the evidence as the rules look at it: the owner's mail, which
// is that of own sources and services, under the policy that is judged.
type judgement struct {
	e       *Evidence
	end     time.Time // the present
	current Policy
	target  Policy
	what    WhatIf // the target, with what is taken for mended
	sources []Classified
	sim     *Simulation // of the target
	now     *Simulation // of the current policy

	groups []*group // of the owner, those that lose most first
	// What is judged: the owner's mail since each sender was last repaired.
	days         map[time.Time]dayCount
	own, lost    int64
	authors      map[string]dayCount
	bound        Bound
	first, last  time.Time // days with own mail
	reporters    int       // that saw own mail
	reportDays   int       // days with any report
	firstReport  time.Time
	lastReport   time.Time
	stopped      map[time.Time]dayCount // own mail that was quarantined or rejected
	spfOnly      []*group               // that pass by SPF alone
	strictlyLost int64                  // own messages that only strict alignment loses
	change       *Change                // the last one
	heard        map[int64][]bool       // by reporter: the days since firstReport that it reported about
}

// A group is one or several sources that one person mends.
type group struct {
	key, name string
	class     dmarc.Class
	sender    *dmarc.Sender
	as        string
	sources   []int
	days      map[time.Time]dayCount // under the target
	messages  int64
	lost      int64
	spfOnly   int64
	passing   int64
	repaired  time.Time // the last day with a loss, if it is over; else zero
	failing   failing
}

// failing counts lost messages by what is wrong with them.
type failing struct {
	foreign, broken, missed, temporary, strict, nothing int64
	author                                              map[string]int64
}

func newJudgement(e *Evidence, sources []Classified, what WhatIf) *judgement {
	j := &judgement{
		e: e, end: e.Period.End, current: e.Published.Policy(), target: what.Policy, what: what, sources: sources,
		days: make(map[time.Time]dayCount),
	}
	j.sim = Simulate(e, sources, what)
	j.now = Simulate(e, sources, WhatIf{Policy: j.current})
	j.survey()
	for _, g := range j.groups {
		j.findRepair(g)
	}
	j.judge()
	slices.SortStableFunc(j.groups, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.open(), a.open()), cmp.Compare(b.messages, a.messages), cmp.Compare(a.name, b.name))
	})
	changes := e.Changes
	if changes == nil {
		changes = Changes(e.Sources)
	}
	if n := len(changes); n > 0 {
		j.change = &changes[n-1]
	}
	return j
}

func owners(c dmarc.Class) bool { return c == dmarc.ClassOwn || c == dmarc.ClassService }

// survey makes groups of the owner's sources, and looks when reports came.
func (j *judgement) survey() {
	at := make(map[string]*group)
	var reporters counter[int64, struct{}]
	var stops counter[time.Time, dayCount]
	j.listen()
	relaxed := j.what
	relaxed.Policy.ADKIM, relaxed.Policy.ASPF = dmarc.AlignmentRelaxed, dmarc.AlignmentRelaxed
	for i := range j.sources {
		c := &j.sources[i]
		if !owners(c.Class) {
			continue
		}
		g := at[c.Group]
		if g == nil {
			g = &group{key: c.Group, name: c.Name, class: c.Class, sender: c.Sender, as: c.As, days: make(map[time.Time]dayCount)}
			g.failing.author = make(map[string]int64)
			at[c.Group] = g
			j.groups = append(j.groups, g)
		}
		repaired := j.what.Repaired[c.Source.Source]
		g.sources = append(g.sources, i)
		g.spfOnly += c.Summary.SPFOnly
		g.passing += c.Summary.passing()
		for d := range c.Days() {
			sum, stopped := g.days[d.Day], stops.of(d.Day)
			for cell, messages := range d.Cells() {
				reporters.of(cell.Reporter)
				lost := j.what.fate(cell, messages, repaired, &j.current, j.e.Nonexistent).Affected()
				sum.messages += messages
				sum.lost += lost
				stopped.messages += messages
				if p := cell.Pattern.Disposition; p == dmarc.DispositionQuarantine || p == dmarc.DispositionReject {
					stopped.lost += messages
				}
				if lost > 0 {
					g.failing.add(cell, messages)
					if relaxed.fate(cell, messages, false, &j.current, j.e.Nonexistent).Affected() == 0 {
						g.failing.strict += lost
						j.strictlyLost += lost
					}
				}
			}
			g.days[d.Day] = sum
		}
	}
	for _, g := range j.groups {
		for _, d := range g.days {
			g.messages += d.messages
			g.lost += d.lost
		}
		if g.spfOnly*2 > g.passing {
			j.spfOnly = append(j.spfOnly, g)
		}
	}
	j.reporters, j.stopped = len(reporters.keys), stops.totals()
	if j.end.IsZero() && !j.lastReport.IsZero() {
		j.end = j.lastReport.Add(day)
	}
}

// listen notes who reported about which days.
func (j *judgement) listen() {
	first, n := Range(j.e.Sources)
	if n > 0 {
		j.firstReport, j.lastReport = first, first.AddDate(0, 0, n-1)
	}
	any := make([]bool, n)
	var heard counter[int64, []bool]
	for i := range j.sources {
		for d := range j.sources[i].Days() {
			at := int(d.Day.Sub(j.firstReport) / day)
			if !any[at] {
				any[at] = true
				j.reportDays++
			}
			for cell := range d.Cells() {
				of := heard.of(cell.Reporter)
				if *of == nil {
					*of = make([]bool, n)
				}
				(*of)[at] = true
			}
		}
	}
	j.heard = heard.totals()
}

func (f *failing) add(c *dmarc.Cell, messages int64) {
	f.author[c.Author] += messages
	switch h := c.Pattern.Hints; {
	case h&dmarc.HintTemporary != 0:
		f.temporary += messages
	case h&dmarc.HintDKIMBroken != 0:
		f.broken += messages
	case h&dmarc.HintSPFMissed != 0:
		f.missed += messages
	case h&(dmarc.HintDKIMForeign|dmarc.HintSPFForeign) != 0:
		f.foreign += messages
	default:
		f.nothing += messages
	}
}

// findRepair finds the end of a failure that is over: nothing was lost for
// some time, although the sender went on sending, and the addresses that lost
// most of it have passed since.
func (j *judgement) findRepair(g *group) {
	var last time.Time
	for d, n := range g.days {
		if n.lost > 0 && d.After(last) {
			last = d
		}
	}
	if last.IsZero() || j.end.Sub(last) <= time.Duration(limits.settle)*day {
		return
	}
	var messages int64
	var before dayCount
	active := 0
	for d, n := range g.days {
		switch {
		case !d.After(last):
			before.messages += n.messages
			before.lost += n.lost
		case n.messages > 0:
			messages += n.messages
			active++
		}
	}
	var recovered int64
	for _, i := range g.sources {
		if j.sources[i].Last().After(last) {
			recovered += j.sim.BySource[i].Affected()
		}
	}
	if messages >= 20 && active >= 3 && before.share() > limits.loss && recovered*2 >= before.lost {
		g.repaired = last
	}
}

// open returns what the group loses now: nothing if that is over.
func (g *group) open() int64 {
	if !g.repaired.IsZero() {
		return 0
	}
	return g.lost
}

// judge adds up what the owner's senders have done since they were repaired.
func (j *judgement) judge() {
	var authors counter[string, dayCount]
	for _, g := range j.groups {
		for d, n := range g.days {
			if !d.After(g.repaired) && !g.repaired.IsZero() {
				continue
			}
			sum := j.days[d]
			sum.messages += n.messages
			sum.lost += n.lost
			j.days[d] = sum
			j.own += n.messages
			j.lost += n.lost
		}
		for _, i := range g.sources {
			j.byAuthor(&j.sources[i], g.repaired, &authors)
		}
	}
	j.authors = authors.totals()
	list := make([]dayCount, 0, len(j.days))
	for d, n := range j.days {
		list = append(list, n)
		if j.first.IsZero() || d.Before(j.first) {
			j.first = d
		}
		if d.After(j.last) {
			j.last = d
		}
	}
	slices.SortFunc(list, func(a, b dayCount) int {
		return cmp.Or(cmp.Compare(a.messages, b.messages), cmp.Compare(a.lost, b.lost)) // sums must not depend on the order of a map
	})
	j.bound = bound(list)
}

func (j *judgement) byAuthor(c *Classified, since time.Time, authors *counter[string, dayCount]) {
	mended := j.what.Repaired[c.Source.Source]
	add := func(cells iter.Seq2[*dmarc.Cell, int64]) {
		for cell, messages := range cells {
			n := authors.of(cell.Author)
			n.messages += messages
			n.lost += j.what.fate(cell, messages, mended, &j.current, j.e.Nonexistent).Affected()
		}
	}
	if since.IsZero() {
		add(c.Cells())
		return
	}
	for d := range c.Days() {
		if d.Day.After(since) {
			add(d.Cells())
		}
	}
}

// perDay returns messages a day, over the days for which reports came.
func (j *judgement) perDay(n int64) float64 {
	if j.reportDays == 0 {
		return 0
	}
	return float64(n) / float64(j.reportDays)
}

// reportDaysSince returns for how many days reports came, from one of them on.
func (j *judgement) reportDaysSince(begin time.Time) int {
	n := 0
	for d := range j.sim.ByDay {
		if !d.Before(begin) {
			n++
		}
	}
	return n
}

// span returns over how many days own mail was seen.
func (j *judgement) span() int {
	if j.first.IsZero() {
		return 0
	}
	return int(j.last.Sub(j.first)/day) + 1
}

// since adds up the days from begin on.
func since(days map[time.Time]dayCount, begin time.Time) dayCount {
	var sum dayCount
	for d, n := range days {
		if !d.Before(begin) {
			sum.messages += n.messages
			sum.lost += n.lost
		}
	}
	return sum
}

func (n dayCount) share() float64 {
	if n.messages == 0 {
		return 0
	}
	return float64(n.lost) / float64(n.messages)
}

// Changes finds changes of the policy in force from the reports: the policy
// that most messages of a day were judged by, where it lasts for three days
// with reports. It tells what was in force: reject with t=y is quarantine.
func Changes(sources []Source) []Change {
	first, days := Range(sources)
	votes := make([][4]int64, days)
	for i := range sources {
		for d := range sources[i].Days() {
			of := &votes[d.Day.Sub(first)/day]
			for cell, messages := range d.Cells() {
				if cell.Author == "" {
					of[cell.Pattern.Policy&3] += messages
				}
			}
		}
	}
	type dated struct {
		day    time.Time
		policy dmarc.Policy
	}
	var list []dated
	for i, v := range votes {
		best := dmarc.PolicyUnknown
		for p := dmarc.PolicyNone; p <= dmarc.PolicyReject; p++ {
			if v[p] > v[best] || best == dmarc.PolicyUnknown && v[p] > 0 {
				best = p
			}
		}
		if best != dmarc.PolicyUnknown {
			list = append(list, dated{first.AddDate(0, 0, i), best})
		}
	}
	var changes []Change
	if len(list) == 0 {
		return changes
	}
	current := list[0].policy
	for i := 1; i+2 < len(list); i++ {
		if p := list[i].policy; p != current && list[i+1].policy == p && list[i+2].policy == p {
			changes = append(changes, Change{Day: list[i].day, From: current, To: p})
			current = p
		}
	}
	return changes
}
