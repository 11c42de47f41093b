package web

import (
	"errors"
	"net/url"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestAPeriodIsReadAndWrittenBack(t *testing.T) {
	for _, c := range []struct {
		query, begin, end, back, in string
	}{
		{"", "2026-10-25", "2026-11-24", "", "in the last 30 days"},
		{"days=90", "2026-08-26", "2026-11-24", "days=90", "in the last 90 days"},
		{"days=365", "2025-11-24", "2026-11-24", "days=365", "in the last year"},
		{"days=1", "2026-11-23", "2026-11-24", "days=1", "today"},
		{"from=2026-10-01&to=2026-11-01", "2026-10-01", "2026-11-01", "from=2026-10-01&to=2026-11-01", "from 1 Oct to 31 Oct 2026"},
		{"first=2026-10-01&last=2026-10-31", "2026-10-01", "2026-11-01", "from=2026-10-01&to=2026-11-01", "from 1 Oct to 31 Oct 2026"},
		{"from=2025-12-30&to=2026-01-02", "2025-12-30", "2026-01-02", "from=2025-12-30&to=2026-01-02", "from 30 Dec 2025 to 1 Jan 2026"},
		{"from=2026-10-01&to=2026-10-02", "2026-10-01", "2026-10-02", "from=2026-10-01&to=2026-10-02", "on 1 Oct 2026"},
		{"from=2026-11-20", "2026-11-20", "2026-11-24", "from=2026-11-20&to=2026-11-24", "from 20 Nov to 23 Nov 2026"},
		{"to=2026-11-01", "2026-10-02", "2026-11-01", "from=2026-10-02&to=2026-11-01", "from 2 Oct to 31 Oct 2026"},
	} {
		q, _ := url.ParseQuery(c.query)
		s, err := readSpan(q, now)
		if err != nil {
			t.Errorf("%q: %v", c.query, err)
			continue
		}
		if isoDay(s.Begin) != c.begin || isoDay(s.End) != c.end {
			t.Errorf("%q: from %s to %s, want %s to %s", c.query, isoDay(s.Begin), isoDay(s.End), c.begin, c.end)
		}
		if got := s.query(nil).Encode(); got != c.back {
			t.Errorf("%q: written as %q, want %q", c.query, got, c.back)
		}
		if got := spaced(s.In()); got != c.in {
			t.Errorf("%q: said as %q, want %q", c.query, got, c.in)
		}
		b := s.before()
		if !b.End.Equal(s.Begin) || b.Days() != s.Days() {
			t.Errorf("%q: before it are %d days up to %s", c.query, b.Days(), isoDay(b.End))
		}
	}
}

func TestEveryMistakeInAPeriodIsNamed(t *testing.T) {
	for query, want := range map[string]string{
		"days=0":                        `days is "0": it must be a number from 1 to 3660`,
		"days=99999":                    `days is "99999": it must be a number from 1 to 3660`,
		"days=x&from=y&to=2026-1-1":     `days is "x": it must be a number from 1 to 3660; from is "y": it must be a day, such as 2026-11-23; to is "2026-1-1": it must be a day, such as 2026-11-23`,
		"from=2026-11-02&to=2026-11-02": "the period ends before it begins",
		"from=2026-11-03&to=2026-11-01": "the period ends before it begins",
		"from=1999-01-01":               "the period begins before 2012-01-01, when there was no DMARC",
		"from=2026-01-01&to=9999-01-01": "the period ends more than a year from now",
	} {
		q, _ := url.ParseQuery(query)
		_, err := readSpan(q, now)
		var bad badRequest
		if !errors.As(err, &bad) || err.Error() != want {
			t.Errorf("%q: %v, want %s", query, err, want)
		}
	}
}

func TestBinsCoverAPeriodWithoutHoles(t *testing.T) {
	p := func(from, to string) dmarc.Period {
		q := url.Values{"from": {from}, "to": {to}}
		s, err := readSpan(q, now)
		if err != nil {
			t.Fatal(err)
		}
		return s.Period
	}
	for _, c := range []struct {
		period dmarc.Period
		unit   unit
		n      int
		first  string // end of the first bin
	}{
		{p("2026-11-01", "2026-11-24"), byDay, 23, "2026-11-02"},
		{p("2026-05-22", "2026-11-24"), byDay, 186, "2026-05-23"},
		{p("2025-11-24", "2026-11-24"), byWeek, 53, "2025-11-25"}, // a day more than 52 weeks
		{p("2026-02-03", "2026-11-24"), byWeek, 42, "2026-02-10"},
		{p("2020-02-10", "2026-11-24"), byMonth, 82, "2020-03-01"},
	} {
		if u := unitFor(c.period); u != c.unit {
			t.Errorf("%s: unit %d, want %d", isoDay(c.period.Begin), u, c.unit)
		}
		bins := binned(nil, c.period, c.unit)
		if len(bins) != c.n || isoDay(bins[0].To) != c.first {
			t.Errorf("%s: %d bins, the first up to %s; want %d, %s", isoDay(c.period.Begin), len(bins), isoDay(bins[0].To), c.n, c.first)
		}
		at := c.period.Begin
		for _, b := range bins {
			if !b.From.Equal(at) || !b.To.After(b.From) {
				t.Fatalf("a bin from %s to %s, want from %s", isoDay(b.From), isoDay(b.To), isoDay(at))
			}
			at = b.To
		}
		if !at.Equal(c.period.End) {
			t.Errorf("the bins end at %s, want %s", isoDay(at), isoDay(c.period.End))
		}
	}
}

func TestDaysAreSortedIntoBins(t *testing.T) {
	p := dmarc.Period{Begin: today().AddDate(0, 0, -14), End: today()}
	tally := func(n int64) dmarc.Tally { return dmarc.Tally{Messages: n} }
	days := []dmarc.DayTraffic{
		{Day: p.Begin.AddDate(0, 0, -1), Tally: tally(1000)},
		{Day: p.Begin, Tally: tally(1)},
		{Day: p.Begin.AddDate(0, 0, 6), Tally: tally(4), Estimated: true},
		{Day: p.End, Tally: tally(1000)},
	}
	got := binned(days, p, byWeek)
	want := []bin{
		{From: p.Begin, To: p.Begin.AddDate(0, 0, 7), Tally: tally(5), Reported: 2, Estimated: true},
		{From: p.Begin.AddDate(0, 0, 7), To: p.End},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("bins are %+v, want %+v", got, want)
	}
	if mean := got[0].perDay(got[0].Tally.Messages); mean != 2.5 {
		t.Errorf("%v messages a day, want 2.5 of the two days that reports came for", mean)
	}
}

func TestATallyIsSplitIntoClassesThatSumToIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		tally dmarc.Tally
		want  [5]int64
	}{
		{"nothing", dmarc.Tally{}, [5]int64{}},
		{"all kinds", dmarc.Tally{Messages: 100, DMARCPass: 90, DKIMAligned: 80, SPFAligned: 70, None: 94, Quarantine: 2, Reject: 4}, [5]int64{60, 20, 10, 4, 6}},
		{"more stopped than failed", dmarc.Tally{Messages: 10, DMARCPass: 9, DKIMAligned: 9, Reject: 5, None: 5}, [5]int64{0, 9, 0, 0, 1}},
		{"no disposition", dmarc.Tally{Messages: 10, Unstated: 10}, [5]int64{0, 0, 0, 10, 0}},
	} {
		got := classify(c.tally)
		var sum int64
		for _, n := range got {
			sum += n
		}
		if got != c.want || sum != c.tally.Messages {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
