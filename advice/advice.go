package advice

import (
	"fmt"
	"net/netip"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Verdict says whether a policy can be published.
type Verdict string

// Done means that there is nothing stricter to move to.
const (
	Ready     Verdict = "ready"
	NotReady  Verdict = "not_ready"
	NotEnough Verdict = "not_enough_evidence"
	Done      Verdict = "done"
)

// Options choose what is judged.
type Options struct {
	// Target is the policy to judge; unknown for the next step. The other tags
	// stay as they are published, but for t.
	Target dmarc.Policy
	// Policy is the policy to judge with all its tags; nil for Target.
	Policy *Policy
	// Repaired are sources that are taken for mended: all their mail passes.
	Repaired map[netip.Prefix]bool
}

// Advice is what dmarcd tells the owner of a domain.
type Advice struct {
	Domain    string
	Period    dmarc.Period
	Published Published
	Verdict   Verdict
	Target    Policy // that is judged
	// Next is the policy to publish now; nil if none should be.
	Next    *Policy
	Publish []Publication // for Next: the record of the domain first
	Reasons []Reason
	// Blockers are what to mend, those that lose most first.
	Blockers []Blocker
	Ask      []Classified // whose sources only the owner can tell
	Sources  []Classified
	Current  *Simulation // of the policy in force
	// Simulation is of the target.
	Simulation *Simulation
	Bound      Bound
	Days       int     // for which reports came
	OwnADay    float64 // messages
	LossADay   float64 // own messages that the target would lose
	Agreement  Agreement

	evidence *Evidence
	repaired map[netip.Prefix]bool
}

// Policies replays the policy in force as things are, and then each stricter
// one, with what was taken for mended.
func (a *Advice) Policies() []*Simulation {
	out := []*Simulation{a.Current}
	for _, p := range a.Current.Policy.stricter() {
		s := a.Simulation
		if p != s.Policy {
			s = Simulate(a.evidence, a.Sources, WhatIf{Policy: p, Repaired: a.repaired})
		}
		out = append(out, s)
	}
	return out
}

// For judges the evidence. It is pure: the same evidence has the same advice.
func For(e *Evidence, o Options) *Advice {
	if f := e.found; f != nil && o.Target == dmarc.PolicyUnknown && o.Policy == nil && len(o.Repaired) == 0 {
		f.judge.Do(func() { f.advice = judge(e, o) })
		return f.advice
	}
	return judge(e, o)
}

func judge(e *Evidence, o Options) *Advice {
	sources := Classify(e)
	current := e.Published.Policy()
	target, more := next(current)
	named := o.Policy != nil || o.Target != dmarc.PolicyUnknown
	switch {
	case o.Policy != nil:
		target, more = *o.Policy, true
	case named:
		target, more = current, true
		target.P, target.Testing = o.Target, false
	}
	j := newJudgement(e, sources, WhatIf{Policy: target, Repaired: o.Repaired})
	parked := j.parked()
	if parked && !named && more {
		// A domain that sends nothing needs no steps.
		target = Policy{P: dmarc.PolicyReject, ADKIM: current.ADKIM, ASPF: current.ASPF}
		j = newJudgement(e, sources, WhatIf{Policy: target, Repaired: o.Repaired})
	}
	a := &Advice{
		Domain: e.Domain, Period: e.Period, Published: e.Published, Target: target, Sources: sources,
		Current: j.now, Simulation: j.sim, Bound: j.bound, Days: j.reportDays,
		OwnADay: j.perDay(j.own), LossADay: j.perDay(j.lost), Agreement: Agree(e.Sources), evidence: e, repaired: o.Repaired,
	}
	a.Reasons = j.reasons(parked)
	a.Verdict = verdict(a.Reasons)
	if !more && a.Verdict != NotReady && !e.Published.Unknown {
		a.Verdict = Done
		a.Reasons = append([]Reason{{"done", Good, fmt.Sprintf("%s is at reject, for subdomains, too: there is nothing stricter. Go on watching.", e.Domain)}}, withoutWaits(a.Reasons)...)
	}
	a.Blockers = j.worklist()
	a.Ask = AskFirst(sources, 5)
	j.step(a, parked)
	return a
}

// next returns the policy that comes after the present one, and false if there
// is none: one level at a time, the domain before its subdomains.
func next(p Policy) (Policy, bool) {
	switch {
	case p.Testing:
		p.Testing = false // the level that was announced
	case p.P < dmarc.PolicyReject:
		p.P++
	case p.SP != dmarc.PolicyUnknown && p.SP < dmarc.PolicyReject:
		p.SP++
	default:
		return p, false
	}
	return p, true
}

// parked reports whether nothing legitimate was seen: no source of the owner,
// and nobody who passes on signed mail.
func (j *judgement) parked() bool {
	if len(j.groups) > 0 {
		return false
	}
	for i := range j.sources {
		if j.sources[i].Summary.passing() > 0 {
			return false
		}
	}
	return true
}

func (j *judgement) reasons(parked bool) []Reason {
	rules := sendingRules
	if parked {
		rules = parkedRules
	}
	var out []Reason
	for _, r := range rules {
		out = append(out, r(j)...)
	}
	return out
}

// verdict follows from the reasons: a loss that is proven weighs more than
// evidence that is missing.
func verdict(reasons []Reason) Verdict {
	v := Ready
	for _, r := range reasons {
		switch r.Effect {
		case Blocks:
			return NotReady
		case Waits:
			v = NotEnough
		}
	}
	return v
}

func withoutWaits(reasons []Reason) []Reason {
	var out []Reason
	for _, r := range reasons {
		if r.Effect != Waits {
			out = append(out, r)
		}
	}
	return out
}

func has(reasons []Reason, id string) bool {
	for _, r := range reasons {
		if r.ID == id {
			return true
		}
	}
	return false
}

// step chooses what to publish now: the target if it is ready, else the part of
// it that is, else nothing.
func (j *judgement) step(a *Advice, parked bool) {
	var p Policy
	switch {
	case a.Verdict == Done:
		return
	case has(a.Reasons, "no_record"):
		p = Policy{P: dmarc.PolicyNone}
	case has(a.Reasons, "step_back"):
		p = j.current
		p.P--
		p.Testing = false
	case a.Verdict == Ready:
		p = a.Target
		if !parked && j.testFirst() {
			p.Testing = true
			a.Reasons = append(a.Reasons, one("test_first", Notes, "Publish it with t=y first, which asks receivers to apply %s only, so that mailing lists can adapt. Older receivers ignore t. Remove it after %d days.",
				p.P.Lowered(), limits.settle)...)
		}
	case a.Verdict == NotReady && !hasEffect(a.Reasons, Waits):
		part, reason, extra, ok := j.partial()
		if !ok {
			return
		}
		p = part
		a.Reasons = append(a.Reasons, reason)
		a.Publish = extra
	default:
		return
	}
	a.Next = &p
	a.Publish = append([]Publication{publication(j.e, p)}, a.Publish...)
}

func hasEffect(reasons []Reason, e Effect) bool {
	for _, r := range reasons {
		if r.Effect == e {
			return true
		}
	}
	return false
}

// testFirst reports whether the first enforcing step should be announced with
// t=y: where more of the mail is forwarded than one in a hundred.
func (j *judgement) testFirst() bool {
	l := j.sim.ByClass[dmarc.ClassForwarder]
	return j.current.P < j.target.P && j.target.P == dmarc.PolicyQuarantine && !j.current.Testing && l.Affected()*100 > j.own
}

// partial finds a part of the target that loses nothing: everything but one
// subdomain, the domain without its subdomains, or the subdomains first.
func (j *judgement) partial() (Policy, Reason, []Publication, bool) {
	if j.target.P <= j.current.P {
		return Policy{}, Reason{}, nil, false
	}
	bad := j.lossyAuthors()
	top := j.authors[""]
	topSafe := top.messages >= limits.messages && top.share() <= limits.loss
	switch {
	case topSafe && len(bad) == 1 && bad[0] != dmarc.OtherAuthors && j.safe(map[string]bool{bad[0]: true}):
		record := "v=DMARC1; p=none"
		for _, t := range split(j.e.Published.Record) {
			if t.name == "rua" {
				record += "; rua=" + t.value
			}
		}
		return j.target, Reason{"split_subdomain", Good, fmt.Sprintf("Only mail as %s would be lost. Give it a record of its own with p=none, and move on with the rest.", bad[0])},
			[]Publication{{Name: "_dmarc." + bad[0], Type: "TXT", Value: record}}, true
	case topSafe && len(bad) > 0 && j.target.SP == dmarc.PolicyUnknown:
		p := j.target
		p.SP = max(j.current.P, dmarc.PolicyNone)
		return p, Reason{"domain_first", Good, fmt.Sprintf("Mail as %s itself is safe. Move on with it, and keep subdomains at sp=%s until their senders are mended.", j.e.Domain, p.SP)}, nil, true
	case len(bad) == 0 && top.share() > limits.loss && j.subdomains() < j.target.P:
		p := j.current
		p.P = max(p.P, dmarc.PolicyNone)
		p.SP = j.target.P
		if j.madeUpSafe() {
			p.NP = dmarc.PolicyReject
		}
		return p, Reason{"subdomains_first", Good, "No mail of yours as a subdomain would be lost. Protect subdomains first, which forgers like, while you mend the rest."}, nil, true
	}
	return Policy{}, Reason{}, nil, false
}

// subdomains returns the policy in force for subdomains.
func (j *judgement) subdomains() dmarc.Policy {
	if j.current.SP != dmarc.PolicyUnknown {
		return j.current.SP
	}
	return j.current.P
}

// safe reports whether the target is, if some subdomains have records of their own.
func (j *judgement) safe(exempt map[string]bool) bool {
	var n dayCount
	for author, d := range j.authors {
		n.messages += d.messages
		if !exempt[author] {
			n.lost += d.lost
		}
	}
	return n.share() <= limits.loss
}

// madeUpSafe reports whether np=reject is known to lose nothing: no mail of the
// owner's names a subdomain that does not exist.
func (j *judgement) madeUpSafe() bool {
	if j.e.Nonexistent == nil {
		return false
	}
	for author, n := range j.authors {
		if author == dmarc.OtherAuthors || author != "" && n.messages > 0 && (j.e.Nonexistent(author) || j.e.Unsure != nil && j.e.Unsure(author)) {
			return false
		}
	}
	return true
}
