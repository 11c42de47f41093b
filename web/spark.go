package web

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	sparkWidth  = 120
	sparkHeight = 24
)

// sparkline draws messages a day over a period, without axes: each day as an
// area, and their mean over a week as a line. It returns nothing if no day was
// reported.
func sparkline(days []dmarc.DayTraffic, p dmarc.Period) template.HTML {
	bins := binned(days, p, byDay)
	last, most := -1, -1
	for i, b := range bins {
		if b.Reported == 0 {
			continue
		}
		last = i
		if most < 0 || b.Tally.Messages > bins[most].Tally.Messages {
			most = i
		}
	}
	if last < 0 {
		return ""
	}
	f := frame{bins: bins, height: sparkHeight - 1, hi: max(1, float64(bins[most].Tally.Messages)), across: sparkWidth}
	fmt.Fprintf(&f, `<svg class="spark" viewBox="0 -1 %d %d" width="%d" height="%d" preserveAspectRatio="none" role="img"><title>%s</title>`,
		sparkWidth, sparkHeight, sparkWidth, sparkHeight,
		text(fmt.Sprintf("Messages a day, and their mean over a week: %s on %s, at most %s on %s (UTC).",
			count(bins[last].Tally.Messages), day(bins[last].From), count(bins[most].Tally.Messages), day(bins[most].From))))
	f.runs(reported, func(first, end int) {
		fmt.Fprintf(&f, `<path class="area" d="M%sL%s %sL%s %sZ"/>`, f.line(first, end, func(i int) float64 { return float64(bins[i].Tally.Messages) }),
			num(float64(end)*f.width()), num(f.height), num(float64(first)*f.width()), num(f.height))
	})
	f.runs(reported, func(first, end int) {
		fmt.Fprintf(&f, `<path class="line" d="M%s"/>`, f.line(first, end, func(i int) float64 { return weekMean(bins, i) }))
	})
	f.WriteString(`</svg>`)
	return template.HTML(f.String())
}

// weekMean returns the mean of the reported days of the week that ends with
// bin i.
func weekMean(bins []bin, i int) float64 {
	var sum, n float64
	for _, b := range bins[max(0, i-6) : i+1] {
		if b.Reported > 0 {
			sum += float64(b.Tally.Messages)
			n++
		}
	}
	return sum / max(1, n)
}

// A level is how many messages a day a domain has of late.
type level struct {
	Mean  int64 // of the reported days of the week that ends with the last
	Exact int64 // on the last
	Last  time.Time
}

// levelOf returns what the line of a sparkline ends with, or nil if there is
// none.
func levelOf(days []dmarc.DayTraffic, p dmarc.Period) *level {
	bins := binned(days, p, byDay)
	for i := len(bins) - 1; i >= 0; i-- {
		if b := bins[i]; b.Reported > 0 {
			return &level{int64(math.Round(weekMean(bins, i))), b.Tally.Messages, b.From}
		}
	}
	return nil
}

// A piece of a bar.
type piece struct {
	class string
	n     int64
}

// bar draws pieces of a total side by side. The number stands beside it, so it
// tells readers of the screen nothing. No piece is too small to be seen, and
// what is not all does not look like all.
func bar(total int64, pieces ...piece) template.HTML {
	const least = 1.5 // percent
	rest := total
	for _, p := range pieces {
		rest -= p.n
	}
	widths := make([]float64, len(pieces)+1)
	sum, widest := 0.0, 0
	for i, p := range append(pieces, piece{n: rest}) {
		if p.n > 0 && total > 0 {
			widths[i] = max(least, float64(p.n)/float64(total)*100)
		}
		sum += widths[i]
		if widths[i] > widths[widest] {
			widest = i
		}
	}
	widths[widest] -= max(0, sum-100)

	var b strings.Builder
	b.WriteString(`<svg class="bar" width="100%" height="8" aria-hidden="true">`)
	x := 0.0
	for i, p := range pieces {
		if widths[i] > 0 {
			fmt.Fprintf(&b, `<rect class="%s"%s x="%s%%" width="%s%%" height="8"/>`, p.class, fill(p.class), num(x), num(widths[i]))
		}
		x += widths[i]
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

// passBar draws what passed, what failed, and what of that was stopped.
func passBar(t dmarc.Tally) template.HTML {
	c := classify(t)
	return bar(t.Messages, piece{"own", t.DMARCPass}, piece{"let", c[3]}, piece{"stopped", c[4]})
}

// senderBar draws the same of a sender, in the colours of its class.
func senderBar(t dmarc.Tally, class dmarc.Class) template.HTML {
	c := classify(t)
	let, held := failFills(class)
	return bar(t.Messages, piece{"own", t.DMARCPass}, piece{let, c[3]}, piece{held, c[4]})
}

// shareBar draws n of a total in the colour of a class.
func shareBar(n, total int64, class string) template.HTML { return bar(total, piece{class, n}) }
