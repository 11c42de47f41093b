package advice

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Headline is the verdict in a sentence or two.
func (a *Advice) Headline() string {
	to := a.Target.P.String()
	if a.Target.P == a.Published.P && a.Target.SP != dmarc.PolicyUnknown {
		to = "sp=" + a.Target.SP.String()
	} else if a.Published.Testing && a.Target.P == a.Published.P {
		to += " without t=y"
	}
	switch a.Verdict {
	case Done:
		return fmt.Sprintf("Done: %s is at reject, and nothing of yours is lost.", a.Domain)
	case Ready:
		s := fmt.Sprintf("Ready for %s: you would lose %s of your own %s.", to, aDay(a.LossADay), strings.TrimSuffix(aDay(a.OwnADay), " a day"))
		if a.OwnADay == 0 {
			s = fmt.Sprintf("Ready for %s: %s sends no mail.", to, a.Domain)
		}
		if has(a.Reasons, "ask") && len(a.Ask) > 0 {
			s += fmt.Sprintf(" Ask first whose %s is.", a.Ask[0].Name)
		}
		return s
	case NotReady:
		s := fmt.Sprintf("Not ready for %s: %s of yours would lose %s.", to, plural(len(a.Blockers), "sender"), aDay(a.LossADay))
		if has(a.Reasons, "step_back") {
			s = fmt.Sprintf("Step back from %s: receivers stop your own mail.", a.Published.P)
		}
		if a.Next != nil && !has(a.Reasons, "step_back") {
			s += fmt.Sprintf(" Part of it is ready: %s.", a.Next)
		}
		return s
	}
	for _, r := range a.Reasons {
		if r.Effect == Waits {
			return fmt.Sprintf("Not enough evidence for %s. %s", to, r.Text)
		}
	}
	return "Not enough evidence for " + to + "."
}

// Text writes the advice for a terminal.
func Text(w io.Writer, a *Advice) error {
	p := &printer{w: w}
	p.line("%s   %s   %s", a.Domain, a.Published.policyText(), a.periodText())
	p.line("")
	p.line("%s", a.Headline())
	p.line("")
	p.loss(a)
	p.policies(a)
	if len(a.Blockers) > 0 {
		p.line("")
		p.line("Fix first, by messages at stake")
		const most = 10
		for i, b := range a.Blockers {
			if i == most {
				p.line("  and %s", plural(len(a.Blockers)-most, "more sender"))
				break
			}
			p.blocker(i+1, &b)
		}
	}
	if a.Next != nil {
		p.line("")
		p.line("Publish now")
		p.records(a.Publish, "  ")
	}
	p.line("")
	p.line("Why we say so")
	for _, r := range a.Reasons {
		p.wrapped(marks[r.Effect], r.Text)
	}
	if len(a.Ask) > 0 {
		p.line("")
		p.line("Ask whose these are, busiest first")
		for i := range a.Ask {
			c := &a.Ask[i]
			p.wrapped("  ?  ", fmt.Sprintf("%s (%s, %s): %s", c.Name, messages(c.Summary.Messages), c.Class, strings.Join(c.Clues, "; ")))
		}
	}
	_, err := io.WriteString(w, strings.Join(p.lines, "\n")+"\n")
	return err
}

var marks = map[Effect]string{Blocks: "  !  ", Waits: "  …  ", Warns: "  !  ", Good: "  ✓  ", Notes: "     "}

func (p *Published) policyText() string {
	switch {
	case p.Unknown:
		return "policy unknown for now"
	case p.Record == "":
		return "no DMARC record"
	}
	q := p.Policy()
	return q.String()
}

func (a *Advice) periodText() string {
	if a.Period.Begin.IsZero() {
		return plural(a.Days, "day") + " with reports"
	}
	return fmt.Sprintf("%s – %s UTC, %s with reports", date(a.Period.Begin), date(a.Period.End.Add(-day)), plural(a.Days, "day"))
}

// A printer collects lines. What strangers wrote loses its control characters.
type printer struct {
	w     io.Writer
	lines []string
}

func (p *printer) line(format string, args ...any) {
	p.lines = append(p.lines, strings.TrimRight(clean(fmt.Sprintf(format, args...)), " "))
}

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// wrapped writes a paragraph of 100 columns behind a mark.
func (p *printer) wrapped(mark, text string) {
	const width = 100
	line := mark
	for _, w := range strings.Fields(text) {
		if len([]rune(line))+1+len([]rune(w)) > width && line != mark {
			p.line("%s", line)
			line = strings.Repeat(" ", len([]rune(mark)))
		}
		if !strings.HasSuffix(line, " ") {
			line += " "
		}
		line += w
	}
	p.line("%s", line)
}

// loss writes what the target would do, a day and by class.
func (p *printer) loss(a *Advice) {
	if a.Simulation.Total.Messages == 0 {
		p.line("No mail seen.")
		return
	}
	days := float64(max(1, a.Days))
	p.line("Under %s, from the mail of this period", a.Simulation.Policy)
	p.line("  %-11s %14s %14s %14s", "", "messages/day", "lost today", "would be lost")
	for _, class := range []dmarc.Class{dmarc.ClassOwn, dmarc.ClassService, dmarc.ClassForwarder, dmarc.ClassUnknown, dmarc.ClassSuspicious} {
		l, now := a.Simulation.ByClass[class], a.Current.ByClass[class]
		if l.Messages == 0 {
			continue
		}
		word := class.String()
		if class == dmarc.ClassSuspicious {
			word += " (stopped)"
		}
		p.line("  %-22s %3s %14s %14s", word, rate(float64(l.Messages)/days), rate(float64(now.Affected())/days), rate(float64(l.Affected())/days))
	}
}

// policies writes what the policy in force and each stricter one would do, a
// day.
func (p *printer) policies(a *Advice) {
	list := a.Policies()
	if a.Current.Total.Messages == 0 || len(list) == 1 {
		return
	}
	days := float64(max(1, a.Days))
	p.line("")
	p.line("Each policy, messages a day")
	p.line("  %-40s %12s %10s %13s", "", "quarantined", "rejected", "of them yours")
	for i, s := range list {
		name := s.Policy.String()
		if i == 0 {
			name = a.Published.policyText() + " (now)"
		}
		p.line("  %-40s %12s %10s %13s", name, rate(float64(s.Total.Quarantined)/days), rate(float64(s.Total.Rejected)/days), rate(float64(s.Own().Affected())/days))
	}
}

func rate(n float64) string {
	return strings.TrimSuffix(strings.Replace(aDay(n), "fewer than 1 in 10 days", "<0.1", 1), " a day")
}

func (p *printer) blocker(n int, b *Blocker) {
	head := fmt.Sprintf("%d. %s   %s", n, b.Name, aDay(b.ADay))
	if !b.Since.IsZero() {
		head += fmt.Sprintf(", %s since %s", aDay(b.ADaySince), date(b.Since))
	}
	if b.Removes > 0 {
		head += ", removes " + percent(b.Removes)
	}
	p.line("  %s", head)
	p.wrapped("     ", b.Cause)
	p.wrapped("     ", b.Fix)
	p.records(b.Publish, "       ")
}

func (p *printer) records(list []Publication, indent string) {
	for _, r := range list {
		p.line("%s%s %s %s", indent, r.Name, r.Type, r.Value)
	}
}

func sourceText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}
