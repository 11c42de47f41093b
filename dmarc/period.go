package dmarc

import "time"

// A Period is a time from Begin up to, and without, End, in UTC. The period of
// a report is kept as sent, where the end is inclusive for some reporters: use
// EffectiveEnd.
type Period struct {
	Begin, End time.Time
}

// EffectiveEnd returns the exclusive end of a reporting period: reporters that
// write an inclusive end write it on second 59.
func (p Period) EffectiveEnd() time.Time {
	if p.End.Unix()%60 == 59 {
		return p.End.Add(time.Second)
	}
	return p.End
}

// Contains reports whether a moment lies in the half-open period.
func (p Period) Contains(t time.Time) bool { return !t.Before(p.Begin) && t.Before(p.End) }

// Spans of reporting periods that are treated alike.
const (
	longestDay  = 26 * time.Hour      // a day of 25 hours, and some slack
	longestSpan = 31 * 24 * time.Hour // more than this is spread over no days
	clockSkew   = 48 * time.Hour      // how far in the future a period may end
	day         = 24 * time.Hour
)

// Earliest is the first moment that a reporting period can plausibly begin:
// DMARC was published in 2012.
var Earliest = time.Date(2012, 1, 1, 0, 0, 0, 0, time.UTC)

// Attribution says for which days (UTC) the messages of a report count. A
// report tells only its period, not when each message came.
type Attribution struct {
	Days    []time.Time // midnights, ascending; never empty
	Seconds []int64     // of the period that lie in each day; nil for a single day
	Main    time.Time   // the day with the largest part, the earlier one on a tie

	// Dated is false when the messages belong in totals only and in no
	// series: implausible dates, or a period of more than 31 days.
	Dated bool
	// Estimated is true when counts are shared among several days.
	Estimated bool
}

// Attribute spreads a reporting period over days. Up to 26 hours, everything
// counts for the day that the period overlaps most, on a tie for the earlier.
// Up to 31 days, messages are shared by seconds. The day of a report that lies
// in the future, as seen from when it was received, is the day of receipt. The
// flags name what was odd.
func (p Period) Attribute(received time.Time) (Attribution, Flags) {
	begin, end := p.Begin.UTC(), p.EffectiveEnd().UTC()
	single := func(t time.Time, dated bool) Attribution {
		d := t.UTC().Truncate(day)
		return Attribution{Days: []time.Time{d}, Main: d, Dated: dated}
	}
	switch {
	case begin.Before(Earliest):
		return single(clampYear(begin), false), FlagImplausibleDates
	case end.After(received.Add(clockSkew)) || begin.After(received.Add(clockSkew)):
		return single(received, false), FlagImplausibleDates
	case !end.After(begin):
		return single(begin, true), FlagEmptyPeriod
	case end.Sub(begin) > longestSpan:
		return single(begin, false), FlagOverlongPeriod
	}

	var a Attribution
	var most int64
	for d := begin.Truncate(day); d.Before(end); d = d.Add(day) {
		from, to := later(begin, d), earlier(end, d.Add(day))
		seconds := int64(to.Sub(from) / time.Second)
		if seconds > most {
			most, a.Main = seconds, d
		}
		a.Days = append(a.Days, d)
		a.Seconds = append(a.Seconds, seconds)
	}
	if end.Sub(begin) <= longestDay || len(a.Days) == 1 {
		return single(a.Main, true), 0
	}
	a.Dated, a.Estimated = true, true
	return a, FlagEstimatedDays
}

// Share splits a number of messages over the days of the attribution: by
// seconds, with the largest remainders rounded up, on a tie the earlier day.
// The parts sum to n. It writes to parts if that is long enough.
func (a Attribution) Share(n int64, parts []int64) []int64 {
	k := len(a.Days)
	if cap(parts) < k {
		parts = make([]int64, k)
	}
	parts = parts[:k]
	if k == 1 {
		parts[0] = n
		return parts
	}
	var total int64
	for _, s := range a.Seconds {
		total += s
	}
	// Divide in two steps, so that no product overflows: a count is below
	// 2^40 and a period below 2^22 seconds, which fits.
	var given int64
	for i, s := range a.Seconds {
		parts[i] = n * s / total
		given += parts[i]
	}
	for left := n - given; left > 0; left-- {
		best := -1
		var bestRemainder int64 = -1
		for i, s := range a.Seconds {
			// A day that was rounded up already has part > its exact share.
			exact, rest := n*s/total, n*s%total
			if parts[i] == exact && rest > bestRemainder {
				best, bestRemainder = i, rest
			}
		}
		parts[best]++
	}
	return parts
}

func clampYear(t time.Time) time.Time {
	if t.Year() < 1970 {
		return time.Unix(0, 0)
	}
	return t
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
