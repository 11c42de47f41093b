package api

import (
	"context"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Brief is the advice about a domain in short.
type Brief struct {
	ComputedAt  time.Time        `json:"computed_at"`
	Policy      string           `json:"policy" doc:"in force, as tags"`
	Target      string           `json:"target" doc:"the policy that was judged, as tags"`
	Next        *string          `json:"next" doc:"the policy to publish now, as tags; null if none should be"`
	Attention   string           `json:"attention" enum:"new_failure,step_back,ready,silence,no_reports,ask,blocked,none" doc:"what the domain deserves attention for"`
	Sentence    string           `json:"sentence"`
	LossPerDay  float64          `json:"loss_per_day" doc:"own messages that the target would lose"`
	OwnPassRate *float64         `json:"own_pass_rate" doc:"share of the messages of own sources and services that pass DMARC; null without any"`
	Blockers    int              `json:"blockers" doc:"senders to mend"`
	Ask         int              `json:"ask" doc:"sources that only the owner can tell"`
	Days        int              `json:"days" doc:"for which reports came"`
	ByClass     map[string]int64 `json:"messages_by_class"`
}

func verdict(v *dmarc.DomainVerdict) *string {
	if v == nil {
		return nil
	}
	return &v.Verdict
}

func brief(v *dmarc.DomainVerdict) *Brief {
	if v == nil {
		return nil
	}
	b := &Brief{
		ComputedAt: v.ComputedAt, Policy: v.Policy, Target: v.Target, Next: orNull(v.Next), Attention: v.Attention.String(), Sentence: v.Sentence,
		LossPerDay: v.LossADay, Blockers: v.Blockers, Ask: v.Ask, Days: v.Days, ByClass: make(map[string]int64),
	}
	if rate, ok := v.OwnPassRate(); ok {
		b.OwnPassRate = &rate
	}
	for class, n := range v.ByClass {
		b.ByClass[dmarc.Class(class).String()] = n
	}
	return b
}

// AttentionItem is a domain with the verdict about it.
type AttentionItem struct {
	Domain  string `json:"domain"`
	Verdict string `json:"verdict" enum:"ready,not_ready,not_enough_evidence,done"`
	Brief
}

func (a *API) attention(ctx context.Context, in *struct {
	Page
	Group
	OfDomain
	Verdict   string `query:"verdict" enum:"ready,not_ready,not_enough_evidence,done" doc:"only domains with this verdict"`
	Attention string `query:"attention" enum:"new_failure,step_back,ready,silence,no_reports,ask,blocked,none" doc:"only domains that deserve attention for this"`
}) (*List[AttentionItem], error) {
	reason, only := dmarc.ParseAttention(in.Attention)
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.store.Attention(ctx, dmarc.AttentionQuery{
		Group: in.Group.Group, Domain: aLabel(in.OfDomain.Domain), Subdomains: in.Subdomains, Verdict: in.Verdict, Only: only, Reason: reason, Page: in.page(),
	})
	if err != nil {
		return nil, a.problem(err, "listing what deserves attention")
	}
	return listOf(list, next, func(v *dmarc.DomainVerdict) AttentionItem { return AttentionItem{v.Domain, v.Verdict, *brief(v)} }), nil
}
