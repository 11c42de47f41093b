package web

import (
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// The classes of messages by what DMARC made of them, from the bottom of a
// chart to its top. Class is the word in the style sheet.
var classNames = [...]struct {
	Class, Label string
	Passed       bool
}{
	{"both", "DKIM and SPF", true},
	{"dkim", "DKIM only", true},
	{"spf", "SPF only", true},
	{"let", "failed, not stopped", false},
	{"stopped", "failed, stopped", false},
}

// classify splits the messages of a tally into classes. A tally counts verdicts
// and dispositions apart: every message that was quarantined or rejected is
// taken for one that failed, as far as there are so many.
func classify(t dmarc.Tally) [len(classNames)]int64 {
	failed := max(0, t.Messages-t.DMARCPass)
	stopped := min(failed, t.Quarantine+t.Reject)
	return [...]int64{
		max(0, t.DKIMAligned+t.SPFAligned-t.DMARCPass),
		max(0, t.DMARCPass-t.SPFAligned),
		max(0, t.DMARCPass-t.DKIMAligned),
		failed - stopped,
		stopped,
	}
}

// A bin is what one place of a chart stands for: a day, a week or a month.
type bin struct {
	From, To  time.Time // half-open
	Tally     dmarc.Tally
	Reported  int  // days that reports came for; 0 is a gap
	Estimated bool // some of it is a share of a longer period
}

// Last returns the last day of the bin.
func (b bin) Last() time.Time { return b.To.Add(-aDay) }

// perDay returns a number of messages as the mean of the days that reports
// came for: bins of all lengths, and incomplete ones, can be compared.
func (b bin) perDay(n int64) float64 {
	if b.Reported == 0 {
		return 0
	}
	return float64(n) / float64(b.Reported)
}

// A unit is the length of bins.
type unit uint8

const (
	byDay unit = iota
	byWeek
	byMonth
)

// unitFor returns the unit that draws a period in some hundred places.
func unitFor(p dmarc.Period) unit {
	switch days := p.End.Sub(p.Begin) / aDay; {
	case days <= 186:
		return byDay
	case days <= 1100:
		return byWeek
	}
	return byMonth
}

// next returns the first moment after the bin that begins at t. Weeks end with
// the period, so that the newest is a whole one.
func (u unit) next(t, end time.Time) time.Time {
	switch u {
	case byWeek:
		if rest := end.Sub(t) % (7 * aDay); rest > 0 {
			return t.Add(rest)
		}
		return t.Add(7 * aDay)
	case byMonth:
		if m := time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC); m.Before(end) {
			return m
		}
		return end
	}
	return t.Add(aDay)
}

// binned sorts days into bins that cover a period without holes. Days outside
// of it are left out.
func binned(days []dmarc.DayTraffic, p dmarc.Period, u unit) []bin {
	var bins []bin
	i := 0
	for from := p.Begin; from.Before(p.End); {
		b := bin{From: from, To: u.next(from, p.End)}
		for ; i < len(days) && days[i].Day.Before(b.To); i++ {
			if days[i].Day.Before(b.From) {
				continue
			}
			b.Tally.Merge(days[i].Tally)
			b.Reported++
			b.Estimated = b.Estimated || days[i].Estimated
		}
		bins = append(bins, b)
		from = b.To
	}
	return bins
}
