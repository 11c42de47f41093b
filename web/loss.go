package web

import (
	"cmp"
	"fmt"
	"html/template"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// kinds are the classes of sources in the order in which people read them.
var kinds = []struct {
	Class dmarc.Class
	Label string
	Fill  string // of what is delivered
	Held  string // of what is quarantined or rejected
	Verb  string // what happens to that, for people
}{
	{dmarc.ClassOwn, "Own servers", "own", "lost", "lost"},
	{dmarc.ClassService, "Services", "service", "lost", "lost"},
	{dmarc.ClassForwarder, "Forwarders", "forwarder", "lost-forwarder", "lost"},
	{dmarc.ClassUnknown, "Unknown", "unknown", "lost-unknown", "lost"},
	{dmarc.ClassSuspicious, "Suspicious", "let", "stopped", "stopped"},
}

// kindOf returns the place of a class in kinds.
func kindOf(c dmarc.Class) int {
	for i := range kinds {
		if kinds[i].Class == c {
			return i
		}
	}
	return len(kinds) - 1
}

// A classLoss is what happens to the mail of a class, today and under the
// policy that is tried.
type classLoss struct {
	Class, Label, Fill, Held, Verb string
	Now, Then                      advice.Loss
	Days                           int
}

// More returns how many messages a day more are quarantined or rejected.
func (l *classLoss) More() float64 { return perDay(l.Then.Affected()-l.Now.Affected(), l.Days) }

// asToday is left out where it is narrow: the bars show it.
const asToday = ", as today"

// Change says that in words.
func (l *classLoss) Change() string {
	switch more := l.More(); {
	case more > 0:
		return "+" + rate(more) + " a day " + l.Verb
	case more < 0:
		return "−" + rate(-more) + " a day " + l.Verb
	case l.Then.Affected() > 0:
		return rate(perDay(l.Then.Affected(), l.Days)) + " " + l.Verb + asToday
	}
	return "nothing " + l.Verb
}

// A lossPanel is what a policy takes from a class, day by day.
type lossPanel struct {
	classLoss
	Chart template.HTML
	Bins  []bin
}

// A senderLoss is what a policy takes from one sender.
type senderLoss struct {
	Name, Class, Label, Held string
	Key                      string // in addresses of pages
	Addresses                int
	Messages, Now, Then      int64
	Days                     int
}

// A reporterLoss is what a policy takes from the mail that one reporter sees.
type reporterLoss struct {
	Name                  string
	Own, Others, Stopped  int64 // would be quarantined or rejected; Others: of forwarders and unknown ones
	OwnMessages, Messages int64
	Days                  int
}

func perDay(n int64, days int) float64 { return float64(n) / float64(max(1, days)) }

// rate writes a number of messages a day as exactly as is of use.
func rate(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.095:
		return "<0.1"
	case v < 9.95:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	}
	return short(int64(v + 0.5))
}

// losses replays the policy class by class.
func (p *policyPage) losses(e *advice.Evidence, what advice.WhatIf) {
	u := unitFor(e.Period)
	reported := p.Tried.Simulation.ByDay
	reporters := make(map[string]*reporterLoss)
	for k, kind := range kinds {
		now, then := p.Real.Current.ByClass[kind.Class], p.Tried.Simulation.ByClass[kind.Class]
		if then.Messages == 0 {
			continue
		}
		l := classLoss{kind.Class.String(), kind.Label, kind.Fill, kind.Held, kind.Verb, now, then, p.Days}
		p.Classes = append(p.Classes, l)
		sim := advice.Simulate(e, ofClass(p.Real.Sources, kind.Class), what)
		for id, loss := range sim.ByReporter {
			addReporter(reporters, e.Reporters[id], k, loss, p.Days)
		}
		if then.Affected() == 0 {
			continue
		}
		bins := lostBins(sim.ByDay, reported, e.Period, u)
		p.Panels = append(p.Panels, lossPanel{l, lostChart(bins, u, kind.Held, kind.Label, 72), bins})
	}
	p.Picture = changeChart(p.Classes)
	p.senders()
	for _, r := range reporters {
		p.Reporters = append(p.Reporters, *r)
	}
	slices.SortFunc(p.Reporters, func(a, b reporterLoss) int {
		return cmp.Or(cmp.Compare(b.Own, a.Own), cmp.Compare(b.OwnMessages, a.OwnMessages), cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	if n := len(p.Reporters); n > reportersSeen {
		p.MoreReports = n - reportersSeen
		p.Reporters = p.Reporters[:reportersSeen]
	}
}

func ofClass(all []advice.Classified, class dmarc.Class) []advice.Classified {
	var out []advice.Classified
	for _, c := range all {
		if c.Class == class {
			out = append(out, c)
		}
	}
	return out
}

func addReporter(m map[string]*reporterLoss, name string, kind int, l advice.Loss, days int) {
	r := m[name]
	if r == nil {
		r = &reporterLoss{Name: name, Days: days}
		m[name] = r
	}
	r.Messages += l.Messages
	switch kinds[kind].Held {
	case "lost":
		r.Own += l.Affected()
		r.OwnMessages += l.Messages
	case "stopped":
		r.Stopped += l.Affected()
	default:
		r.Others += l.Affected()
	}
}

// senders lists who loses most, suspicious ones apart: theirs is no loss.
func (p *policyPage) senders() {
	at := make(map[string]*senderLoss)
	for i := range p.Real.Sources {
		c := &p.Real.Sources[i]
		then := p.Tried.Simulation.BySource[i]
		if c.Class == dmarc.ClassSuspicious || then.Affected() == 0 && p.Real.Current.BySource[i].Affected() == 0 {
			continue
		}
		kind := kinds[kindOf(c.Class)]
		key := c.Class.String() + " " + c.Group
		l := at[key]
		if l == nil {
			l = &senderLoss{Name: c.Name, Key: keyOf(c), Class: kind.Fill, Label: c.Class.String(), Held: kind.Held, Days: p.Days}
			at[key] = l
		}
		l.Addresses++
		l.Messages += then.Messages
		l.Then += then.Affected()
		l.Now += p.Real.Current.BySource[i].Affected()
	}
	for _, l := range at {
		p.Senders = append(p.Senders, *l)
	}
	owner := func(l *senderLoss) bool { return l.Held == "lost" }
	slices.SortFunc(p.Senders, func(a, b senderLoss) int {
		if owner(&a) != owner(&b) {
			if owner(&a) {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Then, a.Then), cmp.Compare(b.Now, a.Now), cmp.Compare(a.Name, b.Name))
	})
	if n := len(p.Senders); n > sourcesShown {
		p.MoreSenders = n - sourcesShown
		p.Senders = p.Senders[:sourcesShown]
	}
}

// lostBins sorts what is lost into bins; days that were reported without a
// loss are zero, and the others are gaps.
func lostBins(lost, reported map[time.Time]advice.Loss, period dmarc.Period, u unit) []bin {
	days := make([]dmarc.DayTraffic, 0, len(reported))
	for d := range reported {
		l := lost[d]
		days = append(days, dmarc.DayTraffic{Day: d, Tally: dmarc.Tally{Messages: l.Messages, Quarantine: l.Quarantined, Reject: l.Rejected}})
	}
	slices.SortFunc(days, func(a, b dmarc.DayTraffic) int { return a.Day.Compare(b.Day) })
	return binned(days, period, u)
}

// lostChart draws how many messages a day a policy would take from a class.
func lostChart(bins []bin, u unit, class, label string, height float64) template.HTML {
	lost := func(b bin) float64 { return b.perDay(stopped(b.Tally)) }
	peak := 0.0
	for _, b := range bins {
		peak = max(peak, lost(b))
	}
	if peak == 0 {
		return ""
	}
	ticks := ticksTo(peak)
	ticks = []float64{0, ticks[len(ticks)-1]}
	f := &frame{bins: bins, unit: u, height: height, hi: ticks[1], across: plotWidth}
	f.open("lost-days", label+": messages a day that would be quarantined or rejected. The same numbers are in the table below.", ticks, tick)
	w := f.width()
	for i, b := range bins {
		if v := lost(b); v > 0 {
			top := min(f.y(v), height-1.5) // never too small to be seen
			fmt.Fprintf(f, `<rect class="%s"%s x="%s" y="%s" width="%s" height="%s"/>`+"\n", class, fill(class), num(float64(i)*w+w*.1), num(top), num(w*.8), num(height-top))
		}
	}
	f.gaps()
	f.days(func(i int) string {
		b := bins[i]
		if b.Reported == 0 {
			return binName(b) + ": no reports"
		}
		return binName(b) + ": " + count(stopped(b.Tally)) + " of " + plural(b.Tally.Messages, "message", "messages") + "."
	})
	return f.shut(nil)
}

// changeChart draws for each class two bars: what is delivered and what is held
// today, and under another policy. A bar is all mail of its class, so that a
// storm of forgeries makes no other bar smaller.
func changeChart(classes []classLoss) template.HTML {
	if len(classes) == 0 {
		return ""
	}
	const row, thick = 68, 12
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart change" role="img" aria-label="What happens to mail today and then, by class. The same numbers are in the table below." width="100%%" height="%d">`+"\n", row*len(classes)-12)
	for i := range classes {
		l := &classes[i]
		y := i * row
		class, unit := "more", `<tspan class="minor"> a day</tspan>` // which the change says, too
		if l.More() == 0 {
			class, unit = "same", " a day"
		} else if l.Held == "lost" {
			class = "more trouble"
		}
		fmt.Fprintf(&b, `<rect class="swatch %s"%s x="-48" y="%d" width="10" height="10"/><text class="label" x="-32" y="%d">%s, %s%s</text><text class="%s" x="100%%" y="%d">%s</text>`+"\n",
			l.Fill, fill(l.Fill), y+4, y+13, text(l.Label), text(rate(perDay(l.Then.Messages, l.Days))), unit, class, y+13,
			strings.Replace(text(l.Change()), asToday, `<tspan class="minor">`+asToday+`</tspan>`, 1))
		for j, side := range []struct {
			word string
			loss advice.Loss
		}{{"today", l.Now}, {"then", l.Then}} {
			at := y + 22 + j*(thick+4)
			fmt.Fprintf(&b, `<text class="scale" x="-8" y="%d" dy=".35em">%s</text>`, at+thick/2, side.word)
			delivered, held := shares(side.loss)
			if delivered > 0 {
				fmt.Fprintf(&b, `<rect class="%s" x="0" y="%d" width="%s%%" height="%d"/>`, l.Fill, at, num(delivered), thick)
			}
			if held > 0 {
				fmt.Fprintf(&b, `<rect class="%s"%s x="%s%%" y="%d" width="%s%%" height="%d"/>`, l.Held, fill(l.Held), num(delivered), at, num(held), thick)
			}
			b.WriteByte('\n')
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// shares returns what of all is delivered and what is held, in percent. What is
// there is never too small to be seen.
func shares(l advice.Loss) (delivered, held float64) {
	const least = 0.8
	held = float64(l.Affected()) / float64(max(1, l.Messages)) * 100
	if l.Affected() > 0 {
		held = max(least, held)
	}
	if l.Affected() < l.Messages {
		held = min(held, 100-least)
	}
	return 100 - held, held
}

// barOf is a number of all, to be drawn as a bar.
type barOf struct {
	N, Of int64
	Class string
}

// signed writes a difference a day.
func signed(v float64) string {
	switch {
	case v > 0:
		return "+" + rate(v)
	case v < 0:
		return "−" + rate(-v)
	}
	return "0"
}

// fraction writes a share from 0 to 1; what is small is not called nothing.
func fraction(v float64) string {
	const whole = 100_000
	n := int64(v*whole + .5)
	switch {
	case v > 0 && n == 0:
		n = 1
	case v < 1 && n == whole:
		n = whole - 1
	}
	return percent(n, whole)
}

// fractionBar draws a share from 0 to 1.
func fractionBar(v float64, class string) template.HTML {
	n := int64(v*1000 + .5)
	if v > 0 {
		n = max(1, n) // what is there can be seen
	}
	return bar(1000, piece{class, n})
}

// sourceName writes an address, or the network that stands for many.
func sourceName(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "unreadable address"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}
