package web

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// mostBands is how many ways of mail the picture of its flow tells apart.
const mostBands = 12

// A flow is one way that mail goes: from whom, how it authenticates, and what
// receivers do with it.
type flow struct {
	Kind, Auth, Fate int // places in kinds, authNames and fateNames
	Messages         int64
}

// Fill returns the class of its colour.
func (w flow) Fill() string { return bandNames[bandOf(kinds[w.Kind].Class, w.Auth, w.Fate)].Class }

// Class returns the word for its kind in addresses.
func (w flow) Class() string { return kinds[w.Kind].Class.String() }

// From, By and To name its three stages.
func (w flow) From() string { return kinds[w.Kind].Label }

// By tells how it authenticates.
func (w flow) By() string { return authNames[w.Auth] }

// To tells what receivers did.
func (w flow) To() string { return fateNames[w.Fate] }

// flowsOf returns all ways that mail went, the busiest first.
func flowsOf(m *mix) []flow {
	var all []flow
	for k := range m {
		for a := range m[k] {
			for f, n := range m[k][a] {
				if n > 0 {
					all = append(all, flow{k, a, f, n})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b flow) int { return cmp.Compare(b.Messages, a.Messages) })
	return all
}

// A stop is where ways meet: one value of a stage.
type stop struct {
	name, count string
	thick       float64 // of all that meets there
	top         float64 // of its place
	place       float64 // how high its place is: at least as high as its name
	ways        int     // that are drawn
	below       bool    // the name stands below what meets there, not beside it
}

// band returns where in its place a stop begins.
func (p *stop) band() float64 {
	if p.below {
		return 0
	}
	return (p.place - p.thick) / 2
}

// A stage of the picture has its stops from top to bottom; the last is for what
// is gathered.
type stage struct {
	stops []stop
	used  []float64 // of each stop, how much is drawn
}

// flowChart draws how mail goes from its senders over DKIM and SPF to what
// receivers do with it: each way is a band as thick as it has messages. Beyond
// the busiest they are gathered. It returns nothing if there is no mail.
func flowChart(m *mix, all []flow) template.HTML {
	total := m.total()
	if total == 0 {
		return ""
	}
	shown := all
	var rest int64
	if len(all) > mostBands {
		shown = all[:mostBands-1]
		for _, w := range all[len(shown):] {
			rest += w.Messages
		}
	}
	const (
		height = 240 // of all messages
		least  = 2   // of a band, so that it is seen
		slight = 16  // less is less than a line of text
		name   = 40  // of a stop, for its name and number
		gap    = 12
		across = 1000
	)
	thick := func(n int64) float64 { return max(least, float64(n)/float64(total)*height) }
	// What meets at each stop; the sums that are written are those of all ways.
	stages := [3]stage{{stops: make([]stop, numKinds+1)}, {stops: make([]stop, len(authNames)+1)}, {stops: make([]stop, len(fateNames)+1)}}
	at := func(w flow) [3]int { return [3]int{w.Kind, w.Auth, w.Fate} }
	var sums [3][numKinds + 1]int64
	for _, w := range all {
		for s, i := range at(w) {
			sums[s][i] += w.Messages
		}
	}
	for _, w := range shown {
		for s, i := range at(w) {
			stages[s].stops[i].thick += thick(w.Messages)
			stages[s].stops[i].ways++
		}
	}
	tall := 0.0
	for s := range stages {
		st := &stages[s]
		st.used = make([]float64, len(st.stops))
		for i := range st.stops {
			p := &st.stops[i]
			switch {
			case i < len(st.stops)-1:
				p.count = short(sums[s][i])
			case rest > 0:
				p.thick = thick(rest)
			}
		}
		y, above := 0.0, 0.0
		for i := range st.stops {
			p := &st.stops[i]
			if p.thick == 0 {
				continue
			}
			p.place = max(p.thick, name)
			if s == 1 && (p.thick < name || p.thick < 2*name && p.ways > 2) { // bands come to it and go on: its name stands below
				p.place = p.thick + name
				p.below = true
			}
			if above > 0 && above < slight && p.thick >= slight && s != 1 { // whose name is below it where it is narrow
				y += gap
			}
			above = p.thick
			p.top = y
			y += p.place + gap
		}
		tall = max(tall, y-gap)
	}
	for s, names := range [3][]string{kindLabels(), authNames[:], fateNames[:]} {
		for i, n := range names {
			stages[s].stops[i].name = n
		}
	}
	if rest > 0 {
		last := &stages[0].stops[numKinds]
		last.name, last.count = "all others", short(rest)
	}

	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart flow" role="img" aria-label="How mail goes from its senders over DKIM and SPF to what receivers do with it. The same numbers are in the table below." width="100%%" height="%s">`+"\n", num(tall))
	fmt.Fprintf(&b, `<svg class="plot" viewBox="0 0 %d %s" width="100%%" height="%s" preserveAspectRatio="none">`+"\n", across, num(tall), num(tall))
	// Bands leave and reach a stop in the order of where they come from, so that
	// few cross.
	offsets := make([][3]float64, len(shown))
	for s, order := range [3]func(w flow) [3]int{
		func(w flow) [3]int { return [3]int{w.Kind, w.Auth, w.Fate} },
		func(w flow) [3]int { return [3]int{w.Auth, w.Kind, w.Fate} },
		func(w flow) [3]int { return [3]int{w.Fate, w.Auth, w.Kind} },
	} {
		turn := make([]int, len(shown))
		for i := range turn {
			turn[i] = i
		}
		slices.SortFunc(turn, func(a, b int) int {
			x, y := order(shown[a]), order(shown[b])
			return slices.Compare(x[:], y[:])
		})
		for _, i := range turn {
			stop := at(shown[i])[s]
			p := &stages[s].stops[stop]
			offsets[i][s] = p.top + p.band() + stages[s].used[stop]
			stages[s].used[stop] += thick(shown[i].Messages)
		}
	}
	band := func(class string, y [3]float64, thick float64, title string) {
		const x1, x2, bend = across / 2, across, across / 4
		fmt.Fprintf(&b, `<path class="way %s"%s d="M0 %sC%d %s %d %s %d %sC%d %s %d %s %d %sL%d %sC%d %s %d %s %d %sC%d %s %d %s 0 %sZ"><title>%s</title></path>`+"\n", class, fill(class),
			num(y[0]), bend, num(y[0]), bend, num(y[1]), x1, num(y[1]), x1+bend, num(y[1]), x1+bend, num(y[2]), x2, num(y[2]),
			x2, num(y[2]+thick), x1+bend, num(y[2]+thick), x1+bend, num(y[1]+thick), x1, num(y[1]+thick), bend, num(y[1]+thick), bend, num(y[0]+thick), num(y[0]+thick), text(title))
	}
	for i, w := range shown {
		band(w.Fill(), offsets[i], thick(w.Messages), fmt.Sprintf("%s, %s, %s: %s, %s of all", w.From(), w.By(), w.To(), plural(w.Messages, "message", "messages"), percent(w.Messages, total)))
	}
	if rest > 0 {
		var y [3]float64
		for s := range stages {
			p := &stages[s].stops[len(stages[s].stops)-1]
			y[s] = p.top + p.band()
		}
		band("gathered", y, thick(rest), fmt.Sprintf("%s in %s more ways", plural(rest, "message", "messages"), count(int64(len(all)-len(shown)))))
	}
	b.WriteString("</svg>\n")
	for s, side := range [3]struct {
		class, x string
		bar      int
	}{{"from", "0", 0}, {"by", "50%", -3}, {"to", "100%", -6}} {
		for _, p := range stages[s].stops {
			if p.thick == 0 {
				continue
			}
			class, middle := side.class, p.place/2
			switch {
			case p.below:
				middle = p.thick + name/2 + 1
			case p.thick < slight: // its name would cover the bands
				class += " thin"
			}
			fmt.Fprintf(&b, `<svg class="stop %s" x="%s" y="%s"><rect class="post" x="%d" y="%s" width="6" height="%s"/>`, class, side.x, num(p.top), side.bar, num(p.band()), num(p.thick))
			if p.name != "" && p.count != "" {
				// A letter is some seven pixels wide.
				fmt.Fprintf(&b, `<rect class="pill" y="%s" width="%d" height="36" rx="4"/><text class="label" y="%s">%s</text><text y="%s">%s</text>`,
					num(middle-18), 16+7*max(len(p.name), len(p.count)), num(middle-3), text(p.name), num(middle+14), text(p.count))
			}
			b.WriteString("</svg>\n")
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

func kindLabels() []string {
	out := make([]string, len(kinds))
	for i := range kinds {
		out[i] = kinds[i].Label
	}
	return out
}
