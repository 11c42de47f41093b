package notify

import (
	"cmp"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A key names what a rule looks at.
type key struct {
	rule            dmarc.NotifyRule
	domain, subject string
}

// A state is what a rule thinks of something. Between bad and fine lies what
// neither begins an episode nor ends one, so that what hovers around a threshold is
// told of once.
type state uint8

const (
	unclear state = iota
	bad
	fine
	gone // what there was to see is no more: the episode ends, and nobody is told
)

// A sighting is what a rule saw.
type sighting struct {
	key
	state   state
	problem bool   // while it lasts
	title   string // of what is told if this changes something
	text    string
	memory  map[string]string // for the rule, once an episode begins
}

// transit returns the steps that sightings make of the open episodes: each bad
// one that is not open begins, each open one that is fine ends. What was not
// seen stays as it is.
func transit(open map[key]dmarc.Episode, seen []sighting, now time.Time) []dmarc.Step {
	var steps []dmarc.Step
	done := make(map[key]bool)
	for i := range seen {
		s := &seen[i]
		_, isOpen := open[s.key]
		begins, ends := s.state == bad && !isOpen, (s.state == fine || s.state == gone) && isOpen
		if !begins && !ends || done[s.key] {
			continue
		}
		done[s.key] = true
		step := dmarc.Step{
			Event: dmarc.Event{At: now, Rule: s.rule, Domain: s.domain, Subject: s.subject, Phase: dmarc.EventBegan, Problem: s.problem, Title: line(s.title), Text: visible(s.text)},
			Quiet: s.state == gone,
		}
		if begins {
			step.Episode = dmarc.Episode{Rule: s.rule, Domain: s.domain, Subject: s.subject, Began: now, Memory: s.memory}
		} else {
			step.Event.Phase, step.Event.Problem = dmarc.EventOver, false
		}
		steps = append(steps, step)
	}
	slices.SortStableFunc(steps, func(a, b dmarc.Step) int {
		return cmp.Or(boolCompare(b.Event.Problem, a.Event.Problem), cmp.Compare(a.Event.Domain, b.Event.Domain),
			cmp.Compare(a.Event.Rule, b.Event.Rule), cmp.Compare(a.Event.Subject, b.Event.Subject))
	})
	return steps
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
