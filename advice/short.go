package advice

import (
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Short returns the advice as lists of domains show it.
func (a *Advice) Short(now time.Time) *dmarc.DomainVerdict {
	v := &dmarc.DomainVerdict{
		Domain: a.Domain, ComputedAt: now, Verdict: string(a.Verdict), Policy: a.Published.policyText(), Target: a.Target.String(),
		Blockers: len(a.Blockers), Ask: len(a.Ask), Days: a.Days, LossADay: a.LossADay,
	}
	if a.Next != nil {
		v.Next = a.Next.String()
	}
	for i := range a.Sources {
		c := &a.Sources[i]
		v.ByClass[c.Class] += c.Summary.Messages
		if owners(c.Class) {
			v.Own += c.Summary.Messages
			v.Passing += c.Summary.passing()
		}
	}
	v.Attention, v.Sentence = a.attention()
	return v
}

// attention says what is most urgent about a domain, in a sentence.
func (a *Advice) attention() (dmarc.Attention, string) {
	for _, want := range []struct {
		id        string
		attention dmarc.Attention
	}{
		{"new_failure", dmarc.AttentionNewFailure},
		{"step_back", dmarc.AttentionStepBack},
	} {
		if text := a.reason(want.id); text != "" {
			return want.attention, text
		}
	}
	if a.Verdict == Ready {
		return dmarc.AttentionReady, a.Headline()
	}
	for _, want := range []struct {
		id        string
		attention dmarc.Attention
	}{
		{"old_evidence", dmarc.AttentionSilence},
		{"reporter_silent", dmarc.AttentionSilence},
		{"no_record", dmarc.AttentionNoReports},
		{"no_reports", dmarc.AttentionNoReports},
		{"rua_missing", dmarc.AttentionNoReports},
		{"ask", dmarc.AttentionAsk},
		{"steady_failing", dmarc.AttentionAsk},
	} {
		if want.attention == dmarc.AttentionAsk && a.Verdict == Done {
			continue // what nobody missed while it was refused is no question for today
		}
		if text := a.reason(want.id); text != "" {
			return want.attention, text
		}
	}
	if a.Verdict == NotReady {
		return dmarc.AttentionBlocked, a.Headline()
	}
	return dmarc.AttentionNone, a.Headline()
}

// reason returns the text of the first reason of an id, "" if there is none.
func (a *Advice) reason(id string) string {
	for _, r := range a.Reasons {
		if r.ID == id {
			return r.Text
		}
	}
	return ""
}
