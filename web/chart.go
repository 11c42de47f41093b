package web

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Charts are drawn twice as wide as a telephone, and stretched: an outer image
// holds what must not be distorted, text and grid, at positions in percent; an
// inner one the shapes, in units of its own. So text has the size of the page
// at every width.
const plotWidth = 960

// A frame is a chart in the making: bins side by side over a scale.
type frame struct {
	strings.Builder
	bins   []bin
	unit   unit
	height float64 // of the plot; the days are written below it
	lo, hi float64 // of the scale
	across float64 // width of the plot in its own units
}

const axisHeight = 28

// width returns the width of a bin in units of the plot.
func (f *frame) width() float64 { return f.across / float64(len(f.bins)) }

// y returns the place of a value, from the top.
func (f *frame) y(v float64) float64 { return f.height * (1 - (v-f.lo)/(f.hi-f.lo)) }

// percentAt returns where the middle of a bin is, in percent of the width.
func (f *frame) percentAt(i int) float64 { return (float64(i) + 0.5) / float64(len(f.bins)) * 100 }

// num writes a coordinate, short and the same everywhere.
func num(v float64) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if s == "-0" {
		return "0"
	}
	return s
}

// text escapes what is shown. It is safe between tags and in quotes.
func text(s string) string { return template.HTMLEscapeString(s) }

// fill returns the attribute that fills a class with its pattern; colours come
// from the style sheet. A style sheet cannot name a pattern of the page.
func fill(class string) string {
	switch class {
	case "stopped", "lost", "lost-forwarder", "lost-unknown":
		return ` fill="url(#` + class + `)"`
	}
	return ""
}

// open begins the image: the grid at the ticks of the scale, named by label.
func (f *frame) open(class, about string, ticks []float64, label func(float64) string) {
	fmt.Fprintf(f, `<svg class="chart %s" role="img" aria-label="%s" width="100%%" height="%s">`+"\n", class, text(about), num(f.height+axisHeight))
	for _, t := range ticks {
		y := num(f.y(t))
		fmt.Fprintf(f, `<line class="grid" x1="0" x2="100%%" y1="%s" y2="%s"/><text class="scale" x="-8" y="%s" dy=".35em">%s</text>`+"\n",
			y, y, y, text(label(t)))
	}
	fmt.Fprintf(f, `<svg class="plot" viewBox="0 0 %d %s" width="100%%" height="%s" preserveAspectRatio="none">`+"\n",
		plotWidth, num(f.height), num(f.height))
	f.weekends()
}

// weekends shades Saturdays and Sundays.
func (f *frame) weekends() {
	if f.unit != byDay || len(f.bins) < 3 {
		return
	}
	w := f.width()
	for i := 0; i < len(f.bins); i++ {
		n := 0
		for i+n < len(f.bins) && weekend(f.bins[i+n].From) {
			n++
		}
		if n > 0 {
			fmt.Fprintf(f, `<rect class="weekend" x="%s" width="%s" height="%s"/>`, num(float64(i)*w), num(float64(n)*w), num(f.height))
			i += n
		}
	}
	f.WriteByte('\n')
}

func weekend(t time.Time) bool { return t.Weekday() == time.Saturday || t.Weekday() == time.Sunday }

// runs calls draw for each unbroken run of bins for which is holds: bins from
// first up to, and without, end.
func (f *frame) runs(is func(bin) bool, draw func(first, end int)) {
	f.spans(func(i int) bool { return is(f.bins[i]) }, draw)
}

// spans does so by the places of bins.
func (f *frame) spans(is func(i int) bool, draw func(first, end int)) {
	first := -1
	for i := 0; i <= len(f.bins); i++ {
		switch in := i < len(f.bins) && is(i); {
		case in && first < 0:
			first = i
		case !in && first >= 0:
			draw(first, i)
			first = -1
		}
	}
}

func reported(b bin) bool { return b.Reported > 0 }
func missing(b bin) bool  { return b.Reported == 0 }

// line writes the path of values over the bins of a run, from its left edge to
// its right: a day that stands alone is a line as wide as a day.
func (f *frame) line(first, end int, value func(i int) float64) string {
	var p strings.Builder
	w := f.width()
	fmt.Fprintf(&p, "%s %s", num(float64(first)*w), num(f.y(value(first))))
	for i := first; i < end; i++ {
		fmt.Fprintf(&p, "L%s %s", num((float64(i)+0.5)*w), num(f.y(value(i))))
	}
	fmt.Fprintf(&p, "L%s %s", num(float64(end)*w), num(f.y(value(end-1))))
	return p.String()
}

// back writes the path of values from right to left, to close an area.
func (f *frame) back(first, end int, value func(i int) float64) string {
	var p strings.Builder
	w := f.width()
	fmt.Fprintf(&p, "%s %s", num(float64(end)*w), num(f.y(value(end-1))))
	for i := end - 1; i >= first; i-- {
		fmt.Fprintf(&p, "L%s %s", num((float64(i)+0.5)*w), num(f.y(value(i))))
	}
	fmt.Fprintf(&p, "L%s %s", num(float64(first)*w), num(f.y(value(first))))
	return p.String()
}

// gaps draws a dotted line where no reports came: that is not zero.
func (f *frame) gaps() {
	w, y := f.width(), num(f.height-1)
	f.runs(missing, func(first, end int) {
		fmt.Fprintf(f, `<line class="gap" x1="%s" x2="%s" y1="%s" y2="%s"/>`+"\n", num(float64(first)*w), num(float64(end)*w), y, y)
	})
}

// soFar pales the day that is not over yet: most reports about it are still to
// come.
func (f *frame) soFar(today time.Time) {
	if i := len(f.bins) - 1; f.unit == byDay && f.bins[i].From.Equal(today) {
		fmt.Fprintf(f, `<rect class="so-far" x="%s" width="%s" height="%s"/>`+"\n", num(float64(i)*f.width()), num(f.width()), num(f.height))
	}
}

// days draws what the pointer meets: a strip for each bin that tells its
// numbers, and its period for the script that lets one choose days.
func (f *frame) days(title func(i int) string) {
	w := f.width()
	for i, b := range f.bins {
		fmt.Fprintf(f, `<rect class="day" x="%s" width="%s" height="%s" data-from="%s" data-to="%s"><title>%s</title></rect>`+"\n",
			num(float64(i)*w), num(w), num(f.height), isoDay(b.From), isoDay(b.To), text(title(i)))
	}
}

// noteWidth is how much of a narrow chart a note takes, in percent.
const noteWidth = 24.0

// shut ends the plot, names the days below it and the gaps in it, and ends the
// image after what labels adds.
func (f *frame) shut(labels func()) template.HTML {
	f.WriteString("</svg>\n")
	named := -noteWidth
	f.runs(missing, func(first, end int) {
		at := (f.percentAt(first) + f.percentAt(end-1)) / 2
		if share := float64(end-first) / float64(len(f.bins)); share >= 0.08 && share < 1 && at >= named+noteWidth {
			class := "note"
			if share < noteWidth/100 {
				class += " minor" // no room where it is narrow
			}
			fmt.Fprintf(f, `<text class="%s" x="%s%%" y="%s">no reports</text>`+"\n", class, num(at), num(f.height-10))
			named = at
		}
	})
	for _, m := range marks(f.bins, f.unit) {
		class, x := "date", f.percentAt(m.bin)
		if m.minor {
			class += " minor"
		}
		fmt.Fprintf(f, `<line class="mark" x1="%s%%" x2="%s%%" y1="%s" y2="%s"/><text class="%s" x="%s%%" y="%s">%s</text>`+"\n",
			num(x), num(x), num(f.height), num(f.height+6), class, num(x), num(f.height+22), text(m.label))
	}
	if labels != nil {
		labels()
	}
	f.WriteString("</svg>")
	return template.HTML(f.String())
}

// A bandName is one band of a chart of stacked areas. Class is the word in the
// style sheet.
type bandName struct {
	Class, Label string
	Edged        bool // drawn with an edge, where tints of one colour meet
}

// A stack is what a chart of stacked areas shows: for each bin the messages of
// each band, from the bottom to the top.
type stack struct {
	about string
	names []bandName
	of    func(bin int) []int64
	lines []policyLine
}

// A policyLine is a change of the policy on a day.
type policyLine struct {
	Day  time.Time
	Text string
}

// volumeChart draws messages a day as stacked areas by what DMARC made of
// them. What fails has the colour of the classes that failing names.
func volumeChart(bins []bin, u unit, today time.Time, height float64, failing ...bandName) template.HTML {
	names := make([]bandName, len(classNames))
	for k, name := range classNames {
		names[k] = bandName{name.Class, name.Label, name.Passed}
	}
	copy(names[len(names)-2:], failing)
	return stackChart(bins, u, today, height, stack{
		about: "Messages a day by how they passed.", names: names,
		of: func(i int) []int64 {
			c := classify(bins[i].Tally)
			return c[:]
		},
	})
}

// stackChart draws messages a day as stacked areas, over bins that cover a
// period. It returns nothing if no bin was reported.
func stackChart(bins []bin, u unit, today time.Time, height float64, s stack) template.HTML {
	f := &frame{bins: bins, unit: u, height: height, across: plotWidth}
	// tops[k][i] is the upper edge of band k at bin i.
	tops := make([][]float64, len(s.names))
	present := make([]bool, len(s.names))
	values := make([][]int64, len(bins))
	last, peak := -1, 0.0
	for i, b := range bins {
		sum := 0.0
		values[i] = s.of(i)
		for k, n := range values[i] {
			sum += b.perDay(n)
			tops[k] = append(tops[k], sum)
			present[k] = present[k] || n > 0
		}
		peak = max(peak, sum)
		if b.Reported > 0 {
			last = i
		}
	}
	if last < 0 {
		return ""
	}
	ticks := ticksTo(peak)
	f.hi = ticks[len(ticks)-1]
	f.open("volume", s.about+" The same numbers are in the table below.", ticks, tick)
	bottom := func(k int) func(int) float64 {
		if k == 0 {
			return func(int) float64 { return 0 }
		}
		return func(i int) float64 { return tops[k-1][i] }
	}
	top := func(k int) func(int) float64 { return func(i int) float64 { return tops[k][i] } }
	for k, name := range s.names {
		if !present[k] {
			continue
		}
		f.runs(reported, func(first, end int) {
			line := f.line(first, end, top(k))
			fmt.Fprintf(f, `<path class="area %s"%s d="M%sL%sZ"/>`, name.Class, fill(name.Class), line, f.back(first, end, bottom(k)))
			if name.Edged {
				fmt.Fprintf(f, `<path class="edge" d="M%s"/>`, line)
			}
			f.WriteByte('\n')
		})
	}
	// Often a single small reporter reports by the week, and all days are
	// partly estimated: that must not cover what is known.
	f.runs(func(b bin) bool { return b.Reported > 0 && b.Estimated }, func(first, end int) {
		fmt.Fprintf(f, `<rect class="estimated" fill="url(#estimated)" x="%s" y="%s" width="%s" height="5"/>`+"\n",
			num(float64(first)*f.width()), num(height+1), num(float64(end-first)*f.width()))
	})
	f.soFar(today)
	f.gaps()
	f.days(func(i int) string { return stackTitle(bins[i], s.names, values[i]) })
	return f.shut(func() {
		f.names(s.names, last, bottom, top, present)
		f.policies(s.lines)
	}) + narrowKey(s.names, present)
}

// narrowKey tells what the bands are where there is no room beside the chart, uppermost first.
func narrowKey(names []bandName, present []bool) template.HTML {
	b := template.HTML(`<p class="small key narrow">`)
	for k, name := range slices.Backward(names) {
		if present[k] {
			b += `<span>` + swatch(name.Class) + ` ` + template.HTML(text(name.Label)) + `</span> `
		}
	}
	return b + "</p>\n"
}

// names writes the names of the bands beside the last bin, none over another.
func (f *frame) names(names []bandName, last int, bottom, top func(int) func(int) float64, present []bool) {
	const line = 18
	at := make([]float64, len(names))
	y := f.height + line/2
	for k := range names {
		if present[k] {
			y = min(f.y((bottom(k)(last)+top(k)(last))/2), y-line)
			at[k] = y
		}
	}
	if over := line/2 - y; over > 0 { // more than fits: all go down
		for k := range at {
			at[k] += over
		}
	}
	for k, name := range names {
		if !present[k] {
			continue
		}
		fmt.Fprintf(f, `<svg class="name" x="100%%" y="%s" height="%d" width="160"><rect class="swatch %s"%s x="8" y="4" width="10" height="10"/>`+
			`<text x="24" y="9" dy=".35em">%s</text></svg>`+"\n", num(at[k]-line/2), line, name.Class, fill(name.Class), text(name.Label))
	}
}

// policies draws changes of the policy as upright lines, each with what it
// became. Names that would cover each other stand below each other.
func (f *frame) policies(lines []policyLine) {
	const line, most = 18, 4
	var ends [most]float64 // of the names in each row, in percent
	for _, l := range lines {
		i := f.binOf(l.Day)
		if i < 0 {
			continue
		}
		x := f.percentAt(i) - 50/float64(len(f.bins)) // the day begins there
		row := 0
		for row < most-1 && x < ends[row] {
			row++
		}
		anchor, dx := "start", 6
		// On a telephone a letter is some two percent of the width.
		wide := 2.2 * float64(len(l.Text))
		if x+wide > 100 {
			anchor, dx = "end", -6
			ends[row] = 100
		} else {
			ends[row] = x + wide
		}
		fmt.Fprintf(f, `<line class="policy" x1="%s%%" x2="%s%%" y1="0" y2="%s"/><svg class="policy-name" x="%s%%" y="%d"><text class="note" x="%d" y="12" text-anchor="%s">%s</text></svg>`+"\n",
			num(x), num(x), num(f.height), num(x), row*line, dx, anchor, text(l.Text))
	}
}

// binOf returns the bin of a day, or -1.
func (f *frame) binOf(day time.Time) int {
	for i, b := range f.bins {
		if !day.Before(b.From) && day.Before(b.To) {
			return i
		}
	}
	return -1
}

// binName names a bin for people.
func binName(b bin) string {
	if b.To.Sub(b.From) <= aDay {
		return weekday(b.From) + " (UTC)"
	}
	return day(b.From) + " to " + day(b.Last()) + " (UTC)"
}

// stackTitle tells the numbers of a bin: all messages, how many passed, and
// those of each band.
func stackTitle(b bin, names []bandName, values []int64) string {
	if b.Reported == 0 {
		return binName(b) + ": no reports"
	}
	s := binName(b) + ": " + plural(b.Tally.Messages, "message", "messages")
	if b.Tally.Messages == 0 {
		return s
	}
	s += ", " + percent(b.Tally.DMARCPass, b.Tally.Messages) + " passed"
	sep := ". "
	for k, n := range values {
		if n > 0 {
			s += sep + names[k].Label + " " + count(n)
			sep = "; "
		}
	}
	if b.Estimated {
		s += ". Estimated: part of it is a share of a report about several days"
	}
	return s + "."
}

// rateChart draws the share of messages that passed, over bins that cover a
// period; of tells for a bin how many did, and of how many. The scale begins where the lowest share needs it to; floor tells
// where, in percent. It returns nothing if there is no share to draw.
func rateChart(bins []bin, u unit, height float64, about string, of func(i int) (passed, all int64)) (chart template.HTML, floor int) {
	rate := func(i int) float64 {
		passed, all := of(i)
		return float64(passed) / float64(max(1, all)) * 100
	}
	last, lowest := -1, 100.0
	is := make([]bool, len(bins)) // there is a share
	for i := range bins {
		if _, all := of(i); all > 0 {
			is[i] = true
			last, lowest = i, min(lowest, rate(i))
		}
	}
	if last < 0 {
		return "", 0
	}
	ticks := []float64{0, 50, 100}
	for _, t := range [][]float64{{50, 75, 100}, {80, 90, 100}, {90, 95, 100}, {98, 99, 100}} {
		if lowest >= t[0] {
			ticks = t
		}
	}
	f := &frame{bins: bins, unit: u, height: height, lo: ticks[0], hi: 100, across: plotWidth}
	f.open("rate", about+" The same numbers are in the table below.", ticks,
		func(v float64) string { return num(v) + nbsp + "%" })
	f.spans(func(i int) bool { return is[i] }, func(first, end int) {
		fmt.Fprintf(f, `<path class="line" d="M%s"/>`+"\n", f.line(first, end, rate))
	})
	f.gaps()
	f.days(func(i int) string {
		passed, all := of(i)
		switch {
		case bins[i].Reported == 0:
			return binName(bins[i]) + ": no reports"
		case all == 0:
			return binName(bins[i]) + ": no mail seen"
		}
		return binName(bins[i]) + ": " + percent(passed, all) + " of " + plural(all, "message", "messages") + " passed."
	})
	chart = f.shut(func() {
		passed, all := of(last)
		y := min(max(f.y(rate(last)), 8), height-8)
		fmt.Fprintf(f, `<svg class="name" x="100%%" y="%s" height="18" width="160"><text x="8" y="9" dy=".35em">%s</text></svg>`+"\n",
			num(y-9), text(percent(passed, all)))
	})
	return chart, int(ticks[0])
}

// ticksTo returns two to six round numbers from 0 up to at least v.
func ticksTo(v float64) []float64 {
	if v <= 0 {
		return []float64{0, 1}
	}
	step := math.Pow(10, math.Floor(math.Log10(v)))
	for _, s := range []float64{0.2, 0.5, 1, 2} {
		if v/(step*s) <= 5 {
			step *= s
			break
		}
	}
	if v >= 1 {
		step = max(1, math.Round(step))
	}
	ticks := []float64{0}
	for i := 1.0; ; i++ {
		t := math.Round(i*step*1e9) / 1e9
		ticks = append(ticks, t)
		if t >= v {
			return ticks
		}
	}
}

// A mark names a bin at the axis of time.
type mark struct {
	bin   int
	label string
	minor bool // may be left out where it is narrow
}

// marks returns the days, months or years that are named below a chart.
func marks(bins []bin, u unit) []mark {
	var all []mark
	add := func(i int, label string, minor bool) { all = append(all, mark{i, label, minor}) }
	for i, b := range bins {
		t := b.From
		switch {
		case u == byDay && len(bins) <= 10:
			add(i, t.Format("2 Jan"), i%2 == 1)
		case u == byDay && len(bins) <= 45:
			if t.Weekday() == time.Monday {
				add(i, t.Format("2 Jan"), false)
			}
		case u == byDay:
			if t.Day() == 1 || t.Day() == 15 {
				add(i, t.Format("2 Jan"), t.Day() == 15)
			}
		case u == byWeek && len(bins) <= 60:
			if i > 0 && t.Month() != bins[i-1].From.Month() {
				label := t.Format("Jan")
				if t.Month() == time.January {
					label = t.Format("2006")
				}
				add(i, label, t.Month()%3 != 1)
			}
		default:
			if i > 0 && t.Year() != bins[i-1].From.Year() {
				add(i, t.Format("2006"), len(bins) > 60 && t.Year()%2 == 1)
			}
		}
	}
	return all
}
