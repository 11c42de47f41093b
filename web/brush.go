package web

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// How much a brush shows: a year, or since the first reports, but not less than
// a season.
const (
	yearDays   = 371 // 53 weeks
	seasonDays = 100
)

// A brush is the picture of a long time with the period of the page in it, and
// the ways to another period: by pointer and keys with the script, by links
// without it.
type brush struct {
	Picture        template.HTML
	Long           dmarc.Period
	Span           span
	Address        string // of the page, without a period
	Earlier, Later string // the period of the same length before and after; "" for none
	Closer, Wider  string // half and double the length
}

// First and Last are the days that are shown at the ends.
func (b *brush) First() string { return isoDay(b.Long.Begin) }

// End is the day after the last.
func (b *brush) End() string { return isoDay(b.Long.End) }

// From and To are the period of the page.
func (b *brush) From() string { return isoDay(b.Span.Begin) }

// To is the day after it.
func (b *brush) To() string { return isoDay(b.Span.End) }

// longAround returns the time that the brush of a period shows: a year up to
// today, and more if the period lies beyond.
func longAround(sp span) dmarc.Period {
	p := dmarc.Period{Begin: sp.Today.AddDate(0, 0, 1-yearDays), End: sp.Today.AddDate(0, 0, 1)}
	if sp.End.After(p.End) {
		p.End = sp.End
	}
	if reach := sp.Begin.AddDate(0, 0, -sp.Days()/4); sp.Begin.Before(p.Begin) {
		p.Begin = reach
	}
	if p.Begin.Before(dmarc.Earliest) {
		p.Begin = dmarc.Earliest
	}
	return p
}

// brushOf makes the brush of a page about a period, from the days around it. It
// begins with the month of the first of them, unless that is of late.
func (s *site) brushOf(path string, sp span, long dmarc.Period, days []dmarc.DayTraffic) *brush {
	if first := days[0].Day; first.After(long.Begin) {
		for _, other := range []time.Time{sp.Begin, sp.Today.AddDate(0, 0, -seasonDays)} {
			first = minTime(first, other)
		}
		if first = time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC); first.After(long.Begin) {
			long.Begin = first
		}
	}
	b := &brush{Long: long, Span: sp, Address: s.link(path)}
	to := func(begin, end time.Time) string {
		if end.After(sp.Today.AddDate(0, 0, 1)) {
			end = sp.Today.AddDate(0, 0, 1)
		}
		if begin.Before(dmarc.Earliest) {
			begin = dmarc.Earliest
		}
		if !begin.Before(end) || begin.Equal(sp.Begin) && end.Equal(sp.End) {
			return ""
		}
		return s.link(path, span{Period: dmarc.Period{Begin: begin, End: end}}.query(nil))
	}
	n := sp.Days()
	b.Earlier = to(sp.Begin.AddDate(0, 0, -n), sp.Begin)
	b.Later = to(sp.End, sp.End.AddDate(0, 0, n))
	if n > 1 {
		b.Closer = to(sp.End.AddDate(0, 0, -(n+1)/2), sp.End)
	}
	if 2*n <= longestDays {
		b.Wider = to(sp.Begin.AddDate(0, 0, -n), sp.End)
	}
	b.Picture = brushChart(days, long, sp, func(p dmarc.Period) string { return s.link(path, span{Period: p}.query(nil)) })
	return b
}

// brushChart draws messages a day over a long time, small, with the period that
// is chosen, and names the months, each of which leads to itself.
func brushChart(days []dmarc.DayTraffic, long dmarc.Period, sp span, link func(dmarc.Period) string) template.HTML {
	const height = 40
	u := byWeek
	if long.End.Sub(long.Begin) > 1100*aDay {
		u = byMonth
	}
	f := &frame{bins: binned(days, long, u), unit: u, height: height, across: plotWidth}
	for _, b := range f.bins {
		f.hi = max(f.hi, b.perDay(b.Tally.Messages))
	}
	if f.hi == 0 {
		f.hi = 1
	}
	all := float64(long.End.Sub(long.Begin))
	x := func(t time.Time) float64 { return float64(t.Sub(long.Begin)) / all * 100 } // percent
	fmt.Fprintf(f, `<svg class="chart brush" width="100%%" height="%d">`+"\n", height+axisHeight)
	fmt.Fprintf(f, `<svg class="plot" viewBox="0 0 %d %d" width="100%%" height="%d" preserveAspectRatio="none" aria-hidden="true">`+"\n", plotWidth, height, height)
	f.runs(reported, func(first, end int) {
		line := f.line(first, end, func(i int) float64 { return f.bins[i].perDay(f.bins[i].Tally.Messages) })
		fmt.Fprintf(f, `<path class="area" d="M%sL%s %dL%s %dZ"/><path class="line" d="M%s"/>`+"\n", line, num(float64(end)*f.width()), height, num(float64(first)*f.width()), height, line)
	})
	f.gaps()
	f.WriteString("</svg>\n")
	from, to := x(sp.Begin), x(sp.End)
	fmt.Fprintf(f, `<rect class="outside" x="0" width="%s%%" height="%d"/><rect class="outside" x="%s%%" width="%s%%" height="%d"/><rect class="window" x="%s%%" width="%s%%" height="%d"/>`+"\n",
		fine(from), height, fine(to), fine(max(0, 100-to)), height, fine(from), fine(to-from), height)
	f.WriteString(monthNames(long, x, link))
	f.WriteString("</svg>")
	return template.HTML(f.String())
}

// fine writes a place in percent, finely enough for a day of years.
func fine(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", v), "0"), ".")
}

// monthNames writes the months, or years where they are many, below the brush.
func monthNames(long dmarc.Period, x func(time.Time) float64, link func(dmarc.Period) string) string {
	var b strings.Builder
	months := 1
	if long.End.Sub(long.Begin) > 800*aDay {
		months = 12
	}
	t := time.Date(long.Begin.Year(), long.Begin.Month(), 1, 0, 0, 0, 0, time.UTC)
	if months == 12 {
		t = time.Date(long.Begin.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	}
	for n := 0; t.Before(long.End); n++ {
		next := t.AddDate(0, months, 0)
		p := dmarc.Period{Begin: t, End: next}
		label, name := t.Format("Jan"), t.Format("Jan 2006")
		if months == 12 || t.Month() == time.January {
			label = t.Format("2006")
		}
		if months == 12 {
			name = label
		}
		left, right := max(0, x(t)), min(100, x(next))
		class := "date"
		if n%2 == 1 {
			class = "date minor"
		}
		if right-left > 3 && (!p.Begin.Before(dmarc.Earliest)) {
			fmt.Fprintf(&b, `<a class="month" href="%s" aria-label="%s"><rect class="hit" x="%s%%" y="40" width="%s%%" height="%d"/><text class="%s" x="%s%%" y="60">%s</text></a>`+"\n",
				text(link(p)), text(name), fine(left), fine(right-left), axisHeight, class, fine((left+right)/2), text(label))
		}
		t = next
	}
	return b.String()
}
