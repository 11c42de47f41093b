package advice

import (
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// JSON is the advice as the API and the terminal give it; its names are relied
// upon.
type JSON struct {
	Domain     string         `json:"domain"`
	Period     PeriodJSON     `json:"period"`
	Published  PolicyJSON     `json:"published"`
	Verdict    Verdict        `json:"verdict" enum:"ready,not_ready,not_enough_evidence,done"`
	Headline   string         `json:"headline" doc:"the verdict in words"`
	Target     PolicyJSON     `json:"target" doc:"the policy that is judged"`
	Next       *PolicyJSON    `json:"next" doc:"the policy to publish now, null if none should be"`
	Record     *string        `json:"record" doc:"the DMARC record to publish for it"`
	Publish    []RecordJSON   `json:"publish" doc:"every record to publish, with its name"`
	Reasons    []ReasonJSON   `json:"reasons"`
	Blockers   []BlockerJSON  `json:"blockers" doc:"what to mend, those that lose most first"`
	Ask        []SourceJSON   `json:"ask" doc:"senders that only the owner can tell, busiest first"`
	Simulation SimulationJSON `json:"simulation" doc:"the target replayed over the period"`
	Current    SimulationJSON `json:"current" doc:"the policy in force replayed over the period"`
	// Policies has current first.
	Policies []SimulationJSON `json:"policies" doc:"the policy in force and then each stricter one, replayed over the period"`
	Evidence EvidenceJSON     `json:"evidence"`
}

// PeriodJSON is a period of whole days in UTC.
type PeriodJSON struct {
	From string `json:"from" format:"date"`
	To   string `json:"to" format:"date"`
}

// PolicyJSON is the tags of a record that decide about mail.
type PolicyJSON struct {
	P  string  `json:"p"`
	SP *string `json:"sp"`
	NP *string `json:"np"`
	T  bool    `json:"t"`
}

// RecordJSON is a record to publish.
type RecordJSON struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
}

// ReasonJSON is a reason of the verdict.
type ReasonJSON struct {
	ID     string `json:"id"`
	Effect Effect `json:"effect" enum:"blocks,waits,warns,good,notes"`
	Text   string `json:"text"`
}

// BlockerJSON is a sender to mend.
type BlockerJSON struct {
	Source    string       `json:"source" doc:"the sender, by name"`
	Class     string       `json:"class"`
	Addresses []string     `json:"addresses"`
	Messages  int64        `json:"messages" doc:"that would be lost"`
	PerDay    float64      `json:"per_day"`
	Since     *string      `json:"since" doc:"the day on which it broke, if it was fine before"`
	DaySince  *float64     `json:"per_day_since" doc:"messages a day that would be lost since then"`
	Cause     string       `json:"cause"`
	Fix       string       `json:"fix"`
	Publish   []RecordJSON `json:"publish"`
	Removes   float64      `json:"removes" doc:"share of the loss that goes away with it, 0 to 1"`
}

// SourceJSON is a source with its class.
type SourceJSON struct {
	Source     string   `json:"source"`
	Name       string   `json:"name"`
	Class      string   `json:"class"`
	Confidence string   `json:"confidence"`
	Clues      []string `json:"clues"`
	Messages   int64    `json:"messages"`
	Passing    int64    `json:"passing"`
}

// SimulationJSON is what a policy would have done.
type SimulationJSON struct {
	Policy          string           `json:"policy" doc:"p"`
	Tags            string           `json:"tags" doc:"all tags that decide"`
	Messages        int64            `json:"messages"`
	Affected        int64            `json:"affected"`
	Quarantined     int64            `json:"quarantined"`
	Rejected        int64            `json:"rejected"`
	Spared          int64            `json:"spared" doc:"failing, but receivers made an exception"`
	AffectedByClass map[string]int64 `json:"affected_by_class"`
}

// EvidenceJSON is how much the verdict rests on.
type EvidenceJSON struct {
	Days        int     `json:"days" doc:"for which reports came"`
	OwnPerDay   float64 `json:"own_per_day"`
	LossPerDay  float64 `json:"loss_per_day"`
	LossShare   float64 `json:"loss_share"`
	LossUpper   float64 `json:"loss_upper" doc:"not exceeded with 95 % confidence"`
	Agree       int64   `json:"dispositions_as_published"`
	Explained   int64   `json:"dispositions_explained"`
	Unexplained int64   `json:"dispositions_unexplained"`
}

// JSON returns the advice in the form of the API.
func (a *Advice) JSON() JSON {
	out := JSON{
		Domain:    a.Domain,
		Period:    PeriodJSON{a.Period.Begin.Format(time.DateOnly), a.Period.End.Format(time.DateOnly)},
		Published: policyJSON(a.Published.Policy()), Target: policyJSON(a.Target),
		Verdict: a.Verdict, Headline: a.Headline(),
		Publish: recordsJSON(a.Publish), Reasons: []ReasonJSON{}, Blockers: []BlockerJSON{}, Ask: []SourceJSON{},
		Simulation: simulationJSON(a.Simulation), Current: simulationJSON(a.Current),
		Evidence: EvidenceJSON{
			Days: a.Days, OwnPerDay: a.OwnADay, LossPerDay: a.LossADay, LossShare: a.Bound.Share, LossUpper: a.Bound.Upper,
			Agree: a.Agreement.Agree, Explained: a.Agreement.Explained, Unexplained: a.Agreement.Unexplained,
		},
	}
	for _, s := range a.Policies() {
		out.Policies = append(out.Policies, simulationJSON(s))
	}
	if a.Next != nil {
		next := policyJSON(*a.Next)
		out.Next = &next
		out.Record = &a.Publish[0].Value
	}
	for _, r := range a.Reasons {
		out.Reasons = append(out.Reasons, ReasonJSON(r))
	}
	for _, b := range a.Blockers {
		w := BlockerJSON{
			Source: b.Name, Class: b.Class.String(), Addresses: []string{}, Messages: b.Messages, PerDay: b.ADay,
			Cause: b.Cause, Fix: b.Fix, Publish: recordsJSON(b.Publish), Removes: b.Removes,
		}
		for _, p := range b.Sources {
			w.Addresses = append(w.Addresses, sourceText(p))
		}
		if !b.Since.IsZero() {
			since := b.Since.Format(time.DateOnly)
			w.Since, w.DaySince = &since, &b.ADaySince
		}
		out.Blockers = append(out.Blockers, w)
	}
	for _, c := range a.Ask {
		out.Ask = append(out.Ask, c.JSON())
	}
	return out
}

// JSON returns the source in the form of the API.
func (c *Classified) JSON() SourceJSON {
	clues := c.Clues
	if clues == nil {
		clues = []string{}
	}
	return SourceJSON{
		Source: sourceText(c.Source.Source), Name: c.Name, Class: c.Class.String(), Confidence: c.Confidence.String(),
		Clues: clues, Messages: c.Summary.Messages, Passing: c.Summary.passing(),
	}
}

func policyJSON(p Policy) PolicyJSON {
	return PolicyJSON{P: p.P.String(), SP: word(p.SP), NP: word(p.NP), T: p.Testing}
}

func word(p dmarc.Policy) *string {
	if p == dmarc.PolicyUnknown {
		return nil
	}
	w := p.String()
	return &w
}

func recordsJSON(list []Publication) []RecordJSON {
	out := []RecordJSON{}
	for _, p := range list {
		out = append(out, RecordJSON(p))
	}
	return out
}

func simulationJSON(s *Simulation) SimulationJSON {
	out := SimulationJSON{
		Policy: s.Policy.P.String(), Tags: s.Policy.String(), Messages: s.Total.Messages, Affected: s.Total.Affected(),
		Quarantined: s.Total.Quarantined, Rejected: s.Total.Rejected, Spared: s.Total.Spared, AffectedByClass: make(map[string]int64),
	}
	for class, l := range s.ByClass {
		out.AffectedByClass[dmarc.Class(class).String()] = l.Affected()
	}
	return out
}
