package notify

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// settledAfter is how long a verdict must have been another one until people are
// told: it may go to and fro while reports come in.
const settledAfter = 24 * time.Hour

// A verdict that was told is an episode, whose subject is the policy that was
// judged and the verdict. One that is seen and not told yet is another, with a question
// mark before it.
const unsettled = "? "

func verdictSubject(v *dmarc.DomainVerdict) string { return v.Target + " " + v.Verdict }

// verdicts looks at the verdicts about all domains.
func (n *Notifier) verdicts(ctx context.Context, now time.Time, open map[key]dmarc.Episode) ([]dmarc.Step, error) {
	if !n.Settings.On[dmarc.RuleVerdictChanged] {
		return nil, nil
	}
	told := make(map[string][]dmarc.Episode)
	for k, e := range open {
		if k.rule == dmarc.RuleVerdictChanged {
			told[k.domain] = append(told[k.domain], e)
		}
	}
	var steps []dmarc.Step
	q := dmarc.AttentionQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: 1000}}
	for {
		list, next, err := n.Store.Attention(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range list {
			if v := &list[i]; n.Settings.wants(dmarc.RuleVerdictChanged, v.Domain) {
				steps = append(steps, judgeVerdict(v, told[v.Domain], now)...)
			}
		}
		if next == "" {
			return steps, nil
		}
		q.After = next
	}
}

// judgeVerdict tells of a verdict that has been another one for a day. The first
// one of a domain is not told, nor is what comes of a policy that the owner has
// changed, unless it is good news.
func judgeVerdict(v *dmarc.DomainVerdict, open []dmarc.Episode, now time.Time) []dmarc.Step {
	if v.Verdict == "" {
		return nil
	}
	subject := verdictSubject(v)
	step := func(phase dmarc.EventPhase, subject string, quiet bool) dmarc.Step {
		e := dmarc.Event{At: now, Rule: dmarc.RuleVerdictChanged, Domain: v.Domain, Subject: subject, Phase: phase}
		return dmarc.Step{Event: e, Quiet: quiet, Episode: dmarc.Episode{Rule: e.Rule, Domain: e.Domain, Subject: subject, Began: now}}
	}
	var before string // that was told last
	var since time.Time
	var steps []dmarc.Step
	for _, e := range open {
		waits, isWaiting := strings.CutPrefix(e.Subject, unsettled)
		switch {
		case !isWaiting:
			before = e.Subject
		case waits == subject:
			since = e.Began
		default: // it did not last
			steps = append(steps, step(dmarc.EventOver, e.Subject, true))
		}
	}
	switch {
	case before == subject:
		if !since.IsZero() {
			steps = append(steps, step(dmarc.EventOver, unsettled+subject, true))
		}
	case before == "":
		steps = append(steps, step(dmarc.EventBegan, subject, true))
	case since.IsZero():
		steps = append(steps, step(dmarc.EventBegan, unsettled+subject, true))
	case now.Sub(since) >= settledAfter:
		good := v.Verdict == "ready" || v.Verdict == "done"
		target, _, _ := cutLast(before)
		changed := step(dmarc.EventBegan, subject, target != v.Target && !good)
		changed.Event.Title, changed.Event.Text = verdictWords(v)
		changed.Event.Title, changed.Event.Text = line(changed.Event.Title), visible(changed.Event.Text)
		changed.Event.Problem = v.Verdict == "not_ready"
		steps = append(steps, step(dmarc.EventOver, unsettled+subject, true), step(dmarc.EventOver, before, true), changed)
	}
	return steps
}

// cutLast cuts a text at its last space.
func cutLast(s string) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, ' '); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

func verdictWords(v *dmarc.DomainVerdict) (title, text string) {
	target := cmp.Or(v.Target, "the next policy")
	switch v.Verdict {
	case "ready":
		title = fmt.Sprintf("%s: ready for %s", v.Domain, target)
	case "not_ready":
		title = fmt.Sprintf("%s: not ready for %s any more", v.Domain, target)
	case "done":
		title = fmt.Sprintf("%s: there is nothing stricter to move to", v.Domain)
	default:
		title = fmt.Sprintf("%s: there is not enough evidence about %s any more", v.Domain, target)
	}
	text = sentence(v.Sentence)
	if v.Next != "" {
		text += fmt.Sprintf(" Publish %s now.", v.Next)
	}
	return title, strings.TrimSpace(text)
}
