package dmarc_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// byDays splits SourceDays, which are sorted, by day.
func byDays(all []dmarc.SourceDay) [][]dmarc.SourceDay {
	var out [][]dmarc.SourceDay
	for i := range all {
		if n := len(out); n == 0 || !out[n-1][0].Day.Equal(all[i].Day) {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], all[i])
	}
	return out
}

func readList(day time.Time, list []byte) ([]dmarc.SourceDay, error) {
	var lists dmarc.FactLists
	if err := lists.Add(day, list); err != nil {
		return nil, err
	}
	return readLists(&lists)
}

func readLists(lists *dmarc.FactLists) ([]dmarc.SourceDay, error) {
	sources, err := lists.Read()
	return sourceDays(sources), err
}

func sourceDays(sources []dmarc.SourceFacts) (all []dmarc.SourceDay) {
	for i := range sources {
		all = append(all, sources[i].SourceDays()...)
	}
	return all
}

// plain says all of a SourceDay; none and nil are the same.
func plain(d dmarc.SourceDay) string {
	return fmt.Sprintf("%v %v %v %v", d.Day, d.Source, d.Cells, d.Marks)
}

func TestFactsOfADayCanBePackedAndReadBack(t *testing.T) {
	days, _ := randomDays(rand.New(rand.NewPCG(7, 7)), 500)
	days = append(days,
		dmarc.SourceDay{Day: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}, // without an address
		dmarc.SourceDay{Day: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Source: netip.MustParsePrefix("10.0.0.0/8")},
		dmarc.SourceDay{Day: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Source: netip.MustParsePrefix("2001:db8::/48"), Cells: []dmarc.Cell{
			{Messages: 1<<31 - 1}, {Messages: 1 << 31, Reporter: 1}, {Messages: 1 << 32, Reporter: 2}, {Messages: math.MaxInt64, Reporter: 3},
		}, Marks: []dmarc.Mark{{Kind: dmarc.MarkSPFPass, Domain: "mailer.example", Messages: 1 << 40}}})
	for _, day := range byDays(days) {
		b := dmarc.AppendFactList(nil, day)
		got, err := readList(day[0].Day, b)
		if err != nil || len(got) != len(day) {
			t.Fatalf("%d of %d sources, %v", len(got), len(day), err)
		}
		for i := range day {
			if plain(got[i]) != plain(day[i]) {
				t.Fatalf("\n got %s\nwant %s", plain(got[i]), plain(day[i]))
			}
		}
		for i := range b {
			if _, err := readList(day[0].Day, b[:i]); err == nil {
				t.Fatalf("the first %d of %d bytes were read without an error", i, len(b))
			}
		}
	}
	none, err := readList(time.Time{}, dmarc.AppendFactList(nil, nil))
	if err != nil || len(none) != 0 {
		t.Errorf("a day without sources has %+v, %v", none, err)
	}
}

func TestFactsOfManyDaysAreReadBySourceAndDay(t *testing.T) {
	begin := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	rnd := rand.New(rand.NewPCG(9, 9))
	var lists dmarc.FactLists
	var want []dmarc.SourceDay
	for _, d := range rnd.Perm(10) { // days come in any order
		day := begin.AddDate(0, 0, d)
		random, _ := randomDays(rnd, 600)
		seen := make(map[netip.Prefix]bool)
		var all []dmarc.SourceDay
		for _, s := range random { // sources that come and go
			if !seen[s.Source] && rnd.IntN(4) > 0 {
				seen[s.Source] = true
				s.Day = day
				all = append(all, s)
			}
		}
		slices.SortFunc(all, dmarc.BySourceAndDay)
		if err := lists.Add(day, dmarc.AppendFactList(nil, all)); err != nil {
			t.Fatal(err)
		}
		want = append(want, all...)
	}
	slices.SortFunc(want, dmarc.BySourceAndDay)
	for range 2 { // it may be read again
		got, err := readLists(&lists)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d of %d, %v", len(got), len(want), err)
		}
		for i := range want {
			if plain(got[i]) != plain(want[i]) {
				t.Fatalf("\n got %s\nwant %s", plain(got[i]), plain(want[i]))
			}
		}
	}
}

// What is kept by source is what the days tell, however it is asked for.
func TestFactsBySourceTellWhatTheDaysTell(t *testing.T) {
	days, _ := randomDays(rand.New(rand.NewPCG(3, 3)), 800)
	want := slices.Clone(days)
	slices.SortFunc(want, dmarc.BySourceAndDay)
	sources := dmarc.FactsBySource(days)
	got := sourceDays(sources)
	if len(got) != len(want) {
		t.Fatalf("%d of %d", len(got), len(want))
	}
	for i := range want {
		if plain(got[i]) != plain(want[i]) {
			t.Fatalf("\n got %s\nwant %s", plain(got[i]), plain(want[i]))
		}
	}
	if len(sources) == len(want) {
		t.Error("each source has one day only")
	}
	for i := range sources {
		s := &sources[i]
		var messages, marked int64
		mine := want[:len(s.SourceDays())]
		want = want[len(mine):]
		next := 0
		for d := range s.Days() {
			var n int64
			for c, of := range d.Cells() {
				if c.Messages != 0 {
					t.Fatalf("a kind counts %d messages", c.Messages)
				}
				n += of
			}
			if !d.Day.Equal(mine[next].Day) || n != mine[next].Messages() {
				t.Errorf("%s on %s: %d messages, want %d on %s", s.Source, d.Day, n, mine[next].Messages(), mine[next].Day)
			}
			for _, of := range d.Marks() {
				marked += of
			}
			messages += n
			next++
		}
		for _, of := range s.Marks() {
			marked -= of
		}
		if s.Messages() != messages || marked != 0 || !s.First().Equal(mine[0].Day) || !s.Last().Equal(mine[len(mine)-1].Day) {
			t.Errorf("%s: %d of %d messages from %s to %s, marks differ by %d", s.Source, s.Messages(), messages, s.First(), s.Last(), marked)
		}
	}
	if none := new(dmarc.SourceFacts); !none.First().IsZero() || !none.Last().IsZero() || none.Size() != 0 {
		t.Errorf("without days: %v, %v, %d", none.First(), none.Last(), none.Size())
	}
}

func FuzzReadFactList(f *testing.F) {
	days, _ := randomDays(rand.New(rand.NewPCG(8, 8)), 60)
	for _, day := range byDays(days) {
		f.Add(dmarc.AppendFactList(nil, day))
	}
	day := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readList(day, b)
		if err != nil {
			return
		}
		again, err := readList(day, dmarc.AppendFactList(nil, got))
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v became %+v: %v", got, again, err)
		}
	})
}
