package advice

import "math"

// z95 is the quantile of the normal distribution for a one-sided bound that
// holds with 95 % confidence.
const z95 = 1.6448536269514722

// dayCount is what became of the owner's mail on one day.
type dayCount struct{ messages, lost int64 }

// A Bound is what can be said about a share that was measured on some days.
type Bound struct {
	Share float64 // measured: lost messages by all messages
	// Upper is the share that is not exceeded, with 95 % confidence.
	Upper float64
	// BadDays is the share of days with any loss that is not exceeded, with
	// 95 % confidence: three in so many days if there was none (rule of three).
	BadDays float64
}

// bound estimates the share of messages that are lost. Messages of a day share
// their fate, so days are the sample and not messages: the variance is that of
// a ratio over clusters, and turned into a number of independent messages for
// which Wilson's interval holds. Without any loss, the variance cannot be
// measured, and all messages count as independent; BadDays says the rest.
func bound(days []dayCount) Bound {
	var n, x, lossDays, used float64
	for _, d := range days {
		if d.messages == 0 {
			continue
		}
		n += float64(d.messages)
		x += float64(d.lost)
		used++
		if d.lost > 0 {
			lossDays++
		}
	}
	if n == 0 {
		return Bound{Upper: 1, BadDays: 1}
	}
	b := Bound{Share: x / n, BadDays: wilson(lossDays, used)}
	effective := n
	if simple := b.Share * (1 - b.Share) / n; simple > 0 && used > 1 {
		var ss float64
		for _, d := range days {
			e := float64(d.lost) - b.Share*float64(d.messages)
			ss += e * e
		}
		if v := used / (used - 1) * ss / (n * n); v > simple {
			effective = max(used, n*simple/v)
		}
	}
	b.Upper = wilson(b.Share*effective, effective)
	return b
}

// wilson returns the upper end of Wilson's score interval for x of n; without
// any, the rule of three where that is more.
func wilson(x, n float64) float64 {
	if n == 0 {
		return 1
	}
	p := x / n
	z2 := z95 * z95
	upper := (p + z2/(2*n) + z95*math.Sqrt(p*(1-p)/n+z2/(4*n*n))) / (1 + z2/n)
	if x == 0 {
		upper = max(upper, min(1, 3/n))
	}
	return min(1, upper)
}
