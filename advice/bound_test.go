package advice

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestTheBoundIsThatOfWilson(t *testing.T) {
	for _, c := range []struct{ x, n, want float64 }{
		{0, 0, 1},
		{0, 1000, 0.003}, // the rule of three
		{0, 2, 1},
		{1, 1000, 0.00473},
		{50, 100, 0.5813},
		{100, 100, 1},
	} {
		if got := wilson(c.x, c.n); math.Abs(got-c.want) > 0.0005 {
			t.Errorf("%v of %v: %.5f, want %.5f", c.x, c.n, got, c.want)
		}
	}
}

func TestLossesThatComeTogetherTellLess(t *testing.T) {
	spread, together := make([]dayCount, 60), make([]dayCount, 60)
	for i := range spread {
		spread[i] = dayCount{100, 1}
		together[i] = dayCount{100, 0}
	}
	together[30].lost = 60
	a, b := bound(spread), bound(together)
	if a.Share != b.Share || b.Upper < 1.5*a.Upper {
		t.Errorf("spread %+v, together %+v: the second is hardly wider", a, b)
	}
	if a.BadDays != 1 || b.BadDays < 1.0/60 || b.BadDays > 0.1 {
		t.Errorf("bad days %v and %v", a.BadDays, b.BadDays)
	}
}

// The bound must hold about 95 times of a hundred, for days that differ.
func TestTheBoundHolds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const trials, truth = 1000, 0.02
	holds := 0
	for range trials {
		days := make([]dayCount, 60)
		for i := range days {
			days[i].messages = 50 + rnd.Int64N(100)
			p := 0.0 // one day in five is bad
			if rnd.IntN(5) == 0 {
				p = 5 * truth
			}
			for range days[i].messages {
				if rnd.Float64() < p {
					days[i].lost++
				}
			}
		}
		if bound(days).Upper >= truth {
			holds++
		}
	}
	if share := float64(holds) / trials; share < 0.90 {
		t.Errorf("the bound held in %.1f %% of trials", 100*share)
	}
}

func TestNoMailIsNoBound(t *testing.T) {
	if got, want := bound(nil), (Bound{Upper: 1, BadDays: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
