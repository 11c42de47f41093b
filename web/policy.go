package web

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// An Adviser gathers what a judgement about a domain rests on.
type Adviser interface {
	// Evidence returns dmarc.ErrNotFound for a domain without reports.
	Evidence(ctx context.Context, domain string, period dmarc.Period) (*advice.Evidence, error)
	// Whose returns what is known of addresses that sent as a domain.
	Whose(ctx context.Context, domain string, addrs []netip.Addr) (map[netip.Addr]dmarc.SourceIdentity, error)
}

const (
	adviceDays    = 90  // advice looks back so far, unless it is told otherwise
	mostMended    = 500 // senders that an address can take for mended
	workShown     = 50  // blockers that a page lists, besides those that are ticked
	sourcesShown  = 12  // whose loss a page lists
	reportersSeen = 8
)

// adviceSpans are how far back one can look.
var adviceSpans = []int{30, 60, 90, 180, 365}

// policyPage is the page that leads to reject: the verdict, what a policy would
// do, what to mend, and what to publish.
type policyPage struct {
	Domain string
	Form   policyForm
	Span   span // that is looked at
	// Real is the advice as things are; Tried has what is ticked taken for
	// mended, and is the same if nothing is.
	Real, Tried *advice.Advice
	Headline    string // of Tried
	RealLine    string // of Real, if it is another
	Days        int    // for which reports came
	Before      string // the policy in force, in tags
	Picture     template.HTML
	Classes     []classLoss
	Panels      []lossPanel
	Senders     []senderLoss
	MoreSenders int
	Reporters   []reporterLoss
	MoreReports int
	Work        []workItem
	MoreWork    int   // what else is to be mended
	MoreLost    int64 // messages that it would lose
	Warnings    []advice.Reason
	Reasons     []advice.Reason
	History     []policyChange
	Parked      bool   // it sends nothing
	Repaired    bool   // a sender failed once, and has passed since
	AsIs        string // address of the page with nothing taken for mended
	NextStep    string // address of the page about the next step
}

// Mended returns how many senders are taken for mended.
func (p *policyPage) Mended() int { return len(p.Form.Mend) }

// MendedName returns the name of the first of them.
func (p *policyPage) MendedName() string {
	for _, w := range p.Work {
		if w.Ticked {
			return w.Name
		}
	}
	return ""
}

// A policyForm is what the address asks for.
type policyForm struct {
	Named  bool // a policy is asked about, not only the next step
	Policy advice.Policy
	Days   int
	Mend   []string // groups of senders
	Action string
}

// Spans returns how far back one can look, as choices.
func (f *policyForm) Spans() []int {
	if slices.Contains(adviceSpans, f.Days) {
		return adviceSpans
	}
	all := append([]int{f.Days}, adviceSpans...)
	slices.Sort(all)
	return all
}

// A workItem is a blocker and whether it is taken for mended.
type workItem struct {
	advice.Blocker
	Ticked bool
}

// SinceRate returns how much is lost a day since the sender broke; "" if it was
// never fine.
func (w workItem) SinceRate() string {
	if w.Since.IsZero() {
		return ""
	}
	return rate(w.ADaySince)
}

// readPolicyForm reads the policy to try from an address: p, and sp, np, t,
// adkim and aspf. Without p the next step is judged. A tag that is not there
// stays as published; an empty one is left out of the record.
func readPolicyForm(q url.Values) (f policyForm, set func(advice.Policy) advice.Policy, err error) {
	var bad badRequest
	word := func(name string, words ...string) (string, bool) {
		if !q.Has(name) {
			return "", false
		}
		v := strings.ToLower(strings.TrimSpace(q.Get(name)))
		if v != "" && !slices.Contains(words, v) {
			bad = append(bad, fmt.Sprintf("%s is %q: it must be %s", name, cut(plain(v), 40), strings.Join(words, " or ")))
			return "", false
		}
		return v, true
	}
	policies := []string{"none", "quarantine", "reject"}
	p, _ := word("p", policies...)
	sp, hasSP := word("sp", policies...)
	np, hasNP := word("np", policies...)
	t, _ := word("t", "y", "n")
	adkim, hasADKIM := word("adkim", "r", "s")
	aspf, hasASPF := word("aspf", "r", "s")
	f.Days = adviceDays
	if v := strings.TrimSpace(q.Get("days")); v != "" {
		if n, err := strconv.Atoi(v); err == nil && n >= 1 && n <= longestDays {
			f.Days = n
		} else {
			bad = append(bad, fmt.Sprintf("days is %q: it must be a number from 1 to %d", cut(plain(v), 40), longestDays))
		}
	}
	for _, m := range q["mend"] {
		if m != "" && !slices.Contains(f.Mend, m) {
			f.Mend = append(f.Mend, m)
		}
	}
	if len(f.Mend) > mostMended {
		bad = append(bad, fmt.Sprintf("more than %d senders are taken for mended", mostMended))
	}
	if len(bad) > 0 {
		return f, nil, bad
	}
	f.Named = p != ""
	mode := func(s string) dmarc.AlignmentMode {
		if s == "s" {
			return dmarc.AlignmentStrict
		}
		return dmarc.AlignmentRelaxed
	}
	return f, func(in advice.Policy) advice.Policy {
		in.P, in.Testing = dmarc.ParsePolicy(p), t == "y"
		if hasSP {
			in.SP = dmarc.ParsePolicy(sp)
		}
		if hasNP {
			in.NP = dmarc.ParsePolicy(np)
		}
		if hasADKIM {
			in.ADKIM = mode(adkim)
		}
		if hasASPF {
			in.ASPF = mode(aspf)
		}
		return in
	}, nil
}

// policy serves /domains/{domain}/policy.
func (s *site) policy(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "policy")
	if err != nil {
		return nil, err
	}
	form, set, err := readPolicyForm(r.URL.Query())
	if err != nil {
		return nil, err
	}
	form.Action = s.link(domainPath(name, "policy"))
	lookedAt := lastDays(form.Days, s.now())
	e, err := s.adviser.Evidence(r.Context(), name, lookedAt.Period)
	if err != nil {
		return s.unknownDomain(name, err)
	}
	var o advice.Options
	if form.Named {
		p := set(e.Published.Policy())
		o.Policy = &p
	}
	p := &policyPage{Domain: name, Form: form, Span: lookedAt}
	p.judge(e, o)
	p.AsIs = s.link(domainPath(name, "policy"), without(r.URL.Query(), "mend"))
	v := url.Values{}
	if form.Days != adviceDays {
		v.Set("days", strconv.Itoa(form.Days))
	}
	p.NextStep = s.link(domainPath(name, "policy"), v)
	return &view{Page: "policy", Title: "Move " + name + " to reject", Nav: "/", Data: p}, nil
}

// without returns values with one name left out.
func without(q url.Values, name string) url.Values {
	out := url.Values{}
	for k, v := range q {
		if k != name {
			out[k] = v
		}
	}
	return out
}

// judge fills the page from the evidence. It reads no clock and asks nobody.
func (p *policyPage) judge(e *advice.Evidence, o advice.Options) {
	p.Real = advice.For(e, o)
	p.Tried = p.Real
	known := make(map[string]bool)
	for i := range p.Real.Blockers {
		known[p.Real.Blockers[i].Group] = true
	}
	p.Form.Mend = slices.DeleteFunc(p.Form.Mend, func(group string) bool { return !known[group] })
	what := advice.WhatIf{Policy: p.Real.Target}
	if len(p.Form.Mend) > 0 {
		what.Repaired = make(map[netip.Prefix]bool)
		for i := range p.Real.Sources {
			if c := &p.Real.Sources[i]; slices.Contains(p.Form.Mend, c.Group) {
				what.Repaired[c.Source.Source] = true
			}
		}
		o.Policy, o.Repaired = &what.Policy, what.Repaired
		p.Tried = advice.For(e, o)
		p.RealLine = p.Real.Headline()
	}
	p.Headline = p.Tried.Headline()
	p.Form.Policy, p.Days = p.Real.Target, p.Real.Days
	current := e.Published.Policy()
	p.Before = current.String()
	for _, r := range p.Tried.Reasons {
		switch {
		case r.Effect == advice.Warns:
			p.Warnings = append(p.Warnings, r)
		case r.ID == "parked" || r.ID == "parked_wait":
			p.Parked = true
		case r.ID == "repaired":
			p.Repaired = true
		}
		p.Reasons = append(p.Reasons, r)
	}
	slices.SortStableFunc(p.Reasons, func(a, b advice.Reason) int {
		return cmp.Compare(slices.Index(effects, a.Effect), slices.Index(effects, b.Effect))
	})
	for i, b := range p.Real.Blockers {
		if ticked := slices.Contains(p.Form.Mend, b.Group); ticked || i < workShown {
			p.Work = append(p.Work, workItem{b, ticked})
		} else {
			p.MoreWork++
			p.MoreLost += b.Messages
		}
	}
	p.losses(e, what)
	p.History = policyHistory(e, p.Real.Sources)
}

// effects in the order in which people read reasons.
var effects = []advice.Effect{advice.Blocks, advice.Waits, advice.Warns, advice.Good, advice.Notes}

// A verdictWord is how a verdict is shown: never by its colour alone.
type verdictWord struct{ Class, Shape, Word string }

func wordOf(v advice.Verdict) verdictWord {
	switch v {
	case advice.Ready:
		return verdictWord{"ready", "✓", "ready"}
	case advice.NotReady:
		return verdictWord{"not-ready", "✕", "not ready"}
	case advice.Done:
		return verdictWord{"done", "●", "done"}
	}
	return verdictWord{"not-enough", "…", "not enough evidence"}
}

// effectWord says what a reason does to the verdict.
func effectWord(e advice.Effect) verdictWord {
	switch e {
	case advice.Blocks:
		return verdictWord{"error", "", "stops it"}
	case advice.Waits:
		return verdictWord{"unknown", "", "wait"}
	case advice.Warns:
		return verdictWord{"warning", "", "warning"}
	case advice.Good:
		return verdictWord{"ok", "", "good"}
	}
	return verdictWord{"info", "", "note"}
}

// A policyChange is a change of the policy in force, and what became of mail
// before and after it.
type policyChange struct {
	Day           time.Time
	From, To      dmarc.Policy
	Before, After policyEra
}

// A policyEra is what happened between two changes, or for four weeks if they
// lie further apart.
type policyEra struct {
	Days                  int // with reports
	Own, Passed, OwnHeld  int64
	Others, OthersStopped int64 // suspicious mail
}

// eraDays is how many days before and after a change are compared.
const eraDays = 28

// policyHistory tells what each change of the policy did, the latest first.
func policyHistory(e *advice.Evidence, sources []advice.Classified) []policyChange {
	var out []policyChange
	for i, c := range e.Changes {
		begin, end := c.Day.AddDate(0, 0, -eraDays), c.Day.AddDate(0, 0, eraDays)
		if i > 0 && e.Changes[i-1].Day.After(begin) {
			begin = e.Changes[i-1].Day
		}
		if i+1 < len(e.Changes) && e.Changes[i+1].Day.Before(end) {
			end = e.Changes[i+1].Day
		}
		out = append(out, policyChange{
			Day: c.Day, From: c.From, To: c.To, Before: eraOf(sources, begin, c.Day), After: eraOf(sources, c.Day, end),
		})
	}
	slices.Reverse(out)
	return out
}

func eraOf(sources []advice.Classified, begin, end time.Time) policyEra {
	var era policyEra
	days := make(map[time.Time]bool)
	for i := range sources {
		c := &sources[i]
		for d := range c.Days() {
			if d.Day.Before(begin) || !d.Day.Before(end) {
				continue
			}
			days[d.Day] = true
			for cell, messages := range d.Cells() {
				held := cell.Pattern.Disposition == dmarc.DispositionQuarantine || cell.Pattern.Disposition == dmarc.DispositionReject
				switch c.Class {
				case dmarc.ClassOwn, dmarc.ClassService:
					era.Own += messages
					if cell.Pattern.Passes() {
						era.Passed += messages
					}
					if held {
						era.OwnHeld += messages
					}
				case dmarc.ClassSuspicious:
					era.Others += messages
					if held {
						era.OthersStopped += messages
					}
				}
			}
		}
	}
	era.Days = len(days)
	return era
}
