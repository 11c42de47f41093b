package advice

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A SimulationLine is what a policy would have done to a part of the messages.
type SimulationLine struct {
	Name        string `json:"name"`
	Class       string `json:"class,omitempty" doc:"of a source"`
	Messages    int64  `json:"messages"`
	Affected    int64  `json:"affected"`
	Quarantined int64  `json:"quarantined"`
	Rejected    int64  `json:"rejected"`
	Spared      int64  `json:"spared" doc:"failing, but receivers made an exception"`
}

// A Breakdown is what a policy would have done, by whom and when.
type Breakdown struct {
	Domain      string           `json:"domain"`
	Period      PeriodJSON       `json:"period"`
	Tags        string           `json:"tags" doc:"the policy that was replayed"`
	Total       SimulationLine   `json:"total"`
	ByClass     []SimulationLine `json:"by_class" nullable:"false"`
	BySource    []SimulationLine `json:"by_source" nullable:"false" doc:"those that would lose most first, 1,000 at most"`
	ByReporter  []SimulationLine `json:"by_reporter" nullable:"false"`
	BySubdomain []SimulationLine `json:"by_subdomain" nullable:"false" doc:"the domain itself is named as such; * stands for subdomains beyond the first"`
	ByDay       []SimulationLine `json:"by_day" nullable:"false"`
}

// maxSimulated is how many sources a breakdown names.
const maxSimulated = 1000

// Parts are the names of what a Breakdown has lines by.
var Parts = []string{"class", "source", "reporter", "subdomain", "day"}

// by returns the lines by one of Parts; nil for another name.
func (b *Breakdown) by(part string) []SimulationLine {
	switch part {
	case "class":
		return b.ByClass
	case "source":
		return b.BySource
	case "reporter":
		return b.ByReporter
	case "subdomain":
		return b.BySubdomain
	case "day":
		return b.ByDay
	}
	return nil
}

// BreakDown names what a simulation counted over the classified sources of the
// evidence. Days are ascending, other lines begin with those that lose most.
func BreakDown(e *Evidence, sources []Classified, s *Simulation) *Breakdown {
	b := &Breakdown{
		Domain: e.Domain, Tags: s.Policy.String(), Total: simulationLine(e.Domain, s.Total),
		Period:  PeriodJSON{From: e.Period.Begin.Format(time.DateOnly), To: e.Period.End.Format(time.DateOnly)},
		ByClass: []SimulationLine{}, BySource: []SimulationLine{}, ByReporter: []SimulationLine{}, BySubdomain: []SimulationLine{}, ByDay: []SimulationLine{},
	}
	for class, l := range s.ByClass {
		b.ByClass = append(b.ByClass, simulationLine(dmarc.Class(class).String(), l))
	}
	for i, l := range s.BySource {
		line := simulationLine(sourceText(sources[i].Source.Source), l)
		line.Class = sources[i].Class.String()
		b.BySource = append(b.BySource, line)
	}
	for id, l := range s.ByReporter {
		b.ByReporter = append(b.ByReporter, simulationLine(e.Reporters[id], l))
	}
	for author, l := range s.ByAuthor {
		b.BySubdomain = append(b.BySubdomain, simulationLine(cmp.Or(author, e.Domain), l))
	}
	for day, l := range s.ByDay {
		b.ByDay = append(b.ByDay, simulationLine(day.Format(time.DateOnly), l))
	}
	worst := func(a, b SimulationLine) int {
		return cmp.Or(cmp.Compare(b.Affected, a.Affected), cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	}
	slices.SortFunc(b.BySource, worst)
	slices.SortFunc(b.ByReporter, worst)
	slices.SortFunc(b.BySubdomain, worst)
	slices.SortFunc(b.ByDay, func(a, b SimulationLine) int { return cmp.Compare(a.Name, b.Name) })
	b.BySource = b.BySource[:min(len(b.BySource), maxSimulated)]
	return b
}

func simulationLine(name string, l Loss) SimulationLine {
	return SimulationLine{Name: name, Messages: l.Messages, Affected: l.Affected(), Quarantined: l.Quarantined, Rejected: l.Rejected, Spared: l.Spared}
}

// Text prints the lines by one of Parts for people.
func (b *Breakdown) Text(w io.Writer, part string) error {
	p := &printer{w: w}
	p.line("%s under %s, %s to %s, messages by %s", b.Domain, b.Tags, b.Period.From, b.Period.To, part)
	p.line("")
	lines := slices.Clone(b.by(part))
	rest := b.Total
	for _, l := range lines {
		rest.Messages -= l.Messages
		rest.Quarantined -= l.Quarantined
		rest.Rejected -= l.Rejected
		rest.Spared -= l.Spared
	}
	if rest.Messages > 0 { // sources beyond those that are named
		rest.Name = "others"
		lines = append(lines, rest)
	}
	all := b.Total
	all.Name = "all"
	lines = append(lines, all)
	names := make([]string, len(lines))
	width := 0
	for i, l := range lines {
		names[i] = clean(l.Name)
		if l.Class != "" {
			names[i] = fmt.Sprintf("%s (%s)", names[i], l.Class)
		}
		width = max(width, len([]rune(names[i])))
	}
	p.line("  %-*s %12s %12s %12s %12s", width, "", "messages", "quarantined", "rejected", "spared")
	for i, l := range lines {
		p.line("  %-*s %12s %12s %12s %12s", width, names[i], count(l.Messages), count(l.Quarantined), count(l.Rejected), count(l.Spared))
	}
	_, err := io.WriteString(w, strings.Join(p.lines, "\n")+"\n")
	return err
}
