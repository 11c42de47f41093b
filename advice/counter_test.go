package advice

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// A counter counts as a map does, whatever the number of keys and their order.
func TestACounterCountsAsAMapDoes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 9))
	var c counter[int, int64]
	for _, keys := range []int{1, 2, few - 1, few, few + 1, few + 2, 3 * few, 100} {
		c.reset()
		want := make(map[int]int64)
		next := 0
		for range 2000 {
			switch rnd.IntN(3) {
			case 0:
				next = rnd.IntN(keys)
			case 1:
				next = (next + 1) % keys
			}
			n := rnd.Int64N(9)
			*c.of(next) += n
			want[next] += n
		}
		if got := c.totals(); !maps.Equal(got, want) {
			t.Errorf("%d keys: %v, want %v", keys, got, want)
		}
	}
}
