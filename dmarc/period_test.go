package dmarc_test

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMessagesCountForTheDayThatThePeriodOverlapsMost(t *testing.T) {
	received := at(t, "2026-03-01T00:00:00Z")
	for _, c := range []struct {
		name, begin, end string
		days             []string
		dated, estimated bool
		flags            dmarc.Flags
	}{
		{"a day in UTC, end inclusive", "2026-02-03T00:00:00Z", "2026-02-03T23:59:59Z", []string{"2026-02-03"}, true, false, 0},
		{"a day in UTC, end exclusive", "2026-02-03T00:00:00Z", "2026-02-04T00:00:00Z", []string{"2026-02-03"}, true, false, 0},
		{"a local day, west", "2026-02-03T22:00:00Z", "2026-02-04T22:00:00Z", []string{"2026-02-04"}, true, false, 0},
		{"a tie goes to the earlier day", "2026-02-03T12:00:00Z", "2026-02-04T12:00:00Z", []string{"2026-02-03"}, true, false, 0},
		{"a day of 25 hours", "2026-02-03T00:00:00Z", "2026-02-04T01:00:00Z", []string{"2026-02-03"}, true, false, 0},
		{"some hours", "2026-02-03T21:00:00Z", "2026-02-04T01:00:00Z", []string{"2026-02-03"}, true, false, 0},
		{"three days", "2026-02-03T00:00:00Z", "2026-02-05T23:59:59Z", []string{"2026-02-03", "2026-02-04", "2026-02-05"}, true, true, dmarc.FlagEstimatedDays},
		{"31 days", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", nil, true, true, dmarc.FlagEstimatedDays},
		{"32 days", "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z", []string{"2026-01-01"}, false, false, dmarc.FlagOverlongPeriod},
		{"an empty period", "2026-02-03T10:00:00Z", "2026-02-03T10:00:00Z", []string{"2026-02-03"}, true, false, dmarc.FlagEmptyPeriod},
		{"a period that ends before it begins", "2026-02-03T10:00:00Z", "2026-02-01T10:00:00Z", []string{"2026-02-03"}, true, false, dmarc.FlagEmptyPeriod},
		{"before DMARC", "1975-02-03T00:00:00Z", "1975-02-04T00:00:00Z", []string{"1975-02-03"}, false, false, dmarc.FlagImplausibleDates},
		{"the future", "2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z", []string{"2026-03-01"}, false, false, dmarc.FlagImplausibleDates},
		{"a clock that is fast", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", []string{"2026-03-01"}, true, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, flags := dmarc.Period{Begin: at(t, c.begin), End: at(t, c.end)}.Attribute(received)
			if c.days != nil {
				var days []string
				for _, d := range a.Days {
					days = append(days, d.Format(time.DateOnly))
				}
				if !reflect.DeepEqual(days, c.days) {
					t.Errorf("days = %v, want %v", days, c.days)
				}
			}
			if a.Dated != c.dated || a.Estimated != c.estimated || flags != c.flags {
				t.Errorf("dated %v, estimated %v, flags %v; want %v, %v, %v", a.Dated, a.Estimated, flags.Names(), c.dated, c.estimated, c.flags.Names())
			}
		})
	}
}

func TestSharesAreBySecondsWithTheLargestRemainders(t *testing.T) {
	p := dmarc.Period{Begin: at(t, "2026-02-03T12:00:00Z"), End: at(t, "2026-02-05T12:00:00Z")} // 12, 24 and 12 hours
	a, _ := p.Attribute(at(t, "2026-03-01T00:00:00Z"))
	for n, want := range map[int64][]int64{
		0: {0, 0, 0},
		1: {0, 1, 0},
		2: {1, 1, 0}, // 0.5, 1, 0.5: the earlier of the equal remainders
		3: {1, 1, 1}, // 0.75, 1.5, 0.75
		4: {1, 2, 1},
		5: {1, 3, 1}, // 1.25, 2.5, 1.25
	} {
		if got := a.Share(n, nil); !reflect.DeepEqual(got, want) {
			t.Errorf("%d messages: %v, want %v", n, got, want)
		}
	}
}

func TestSharesSumToTheCount(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	received := at(t, "2026-03-01T00:00:00Z")
	var parts []int64
	for range 10_000 {
		begin := received.Add(-time.Duration(rnd.Int64N(int64(365 * 24 * time.Hour)))).Truncate(time.Second)
		p := dmarc.Period{Begin: begin, End: begin.Add(time.Duration(rnd.Int64N(int64(33 * 24 * time.Hour)))).Truncate(time.Second)}
		a, _ := p.Attribute(received)
		n := rnd.Int64N(1 << rnd.IntN(41))
		parts = a.Share(n, parts)
		var sum int64
		for _, s := range parts {
			if s < 0 {
				t.Fatalf("%v, %d messages: a negative share in %v", p, n, parts)
			}
			sum += s
		}
		if sum != n || len(parts) != len(a.Days) {
			t.Fatalf("%v, %d messages: shares %v sum to %d", p, n, parts, sum)
		}
	}
}
