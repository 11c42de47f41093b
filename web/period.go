package web

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	aDay        = 24 * time.Hour
	defaultDays = 30
	longestDays = 3660
)

// presets are the periods one click away.
var presets = []struct {
	Days  int
	Label string
}{{30, "30 days"}, {90, "90 days"}, {365, "1 year"}}

// A span is the period that a page is about: whole days of UTC, and how its
// address says so.
type span struct {
	dmarc.Period
	Preset int       // days up to today; 0 if begin and end are named
	Today  time.Time // midnight, UTC
}

// lastDays returns the days up to and with today.
func lastDays(n int, now time.Time) span {
	today := now.UTC().Truncate(aDay)
	end := today.Add(aDay)
	return span{Period: dmarc.Period{Begin: end.AddDate(0, 0, -n), End: end}, Preset: n, Today: today}
}

// A badRequest is an address that makes no sense. It is shown as it is.
type badRequest []string

func (b badRequest) Error() string { return strings.Join(b, "; ") }

// readSpan reads the period from an address: days=N, or from and to, half-open
// as in the API, or first and last, both included, as the form sends them. The
// error is a badRequest.
func readSpan(q url.Values, now time.Time) (span, error) {
	var bad badRequest
	read := func(name string) (t time.Time, ok bool) {
		v := strings.TrimSpace(q.Get(name))
		if v == "" {
			return t, false
		}
		t, err := time.Parse(time.DateOnly, v)
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s is %q: it must be a day, such as 2026-11-23", name, cut(plain(v), 40)))
			return t, false
		}
		return t, true
	}
	n := defaultDays
	if v := strings.TrimSpace(q.Get("days")); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil || n < 1 || n > longestDays {
			bad = append(bad, fmt.Sprintf("days is %q: it must be a number from 1 to %d", cut(plain(v), 40), longestDays))
			n = defaultDays
		}
	}
	s := lastDays(n, now)
	from, hasFrom := read("from")
	to, hasTo := read("to")
	if first, ok := read("first"); ok {
		from, hasFrom = first, true
	}
	if last, ok := read("last"); ok {
		to, hasTo = last.Add(aDay), true
	}
	if hasFrom || hasTo {
		switch {
		case !hasTo:
			to = s.End
		case !hasFrom:
			from = to.AddDate(0, 0, -n)
		}
		s.Preset, s.Begin, s.End = 0, from, to
		switch {
		case len(bad) > 0:
		case !from.Before(to):
			bad = append(bad, "the period ends before it begins")
		case from.Before(dmarc.Earliest):
			bad = append(bad, "the period begins before "+isoDay(dmarc.Earliest)+", when there was no DMARC")
		case to.After(s.Today.AddDate(1, 0, 0)):
			bad = append(bad, "the period ends more than a year from now")
		}
	}
	if len(bad) > 0 {
		return s, bad
	}
	return s, nil
}

// query adds what says the period to the values of an address, which may be
// nil: nothing for the usual period.
func (s span) query(v url.Values) url.Values {
	if v == nil {
		v = url.Values{}
	}
	switch {
	case s.Preset == 0:
		v.Set("from", isoDay(s.Begin))
		v.Set("to", isoDay(s.End))
	case s.Preset != defaultDays:
		v.Set("days", strconv.Itoa(s.Preset))
	}
	return v
}

// Days returns how many days the period has.
func (s span) Days() int { return int(s.End.Sub(s.Begin) / aDay) }

// Last returns the last day of the period.
func (s span) Last() time.Time { return s.End.Add(-aDay) }

// In says the period at the end of a sentence.
func (s span) In() string {
	switch {
	case s.Preset == 365:
		return "in the last year"
	case s.Preset == 1:
		return "today"
	case s.Preset > 0:
		return fmt.Sprintf("in the last %d%sdays", s.Preset, nbsp)
	case s.Days() == 1:
		return "on " + day(s.Begin)
	}
	return "from " + s.Dates()
}

// Dates names the first and the last day.
func (s span) Dates() string {
	first, last := s.Begin, s.Last()
	layout := "2 Jan 2006"
	switch {
	case first.Equal(last):
		return day(first)
	case first.Year() == last.Year():
		layout = "2 Jan"
	}
	return first.Format(layout) + " to " + day(last)
}

// before returns the period of the same length that ends where this begins.
func (s span) before() span {
	s.Begin, s.End = s.Begin.AddDate(0, 0, -s.Days()), s.Begin
	s.Preset = 0
	return s
}
