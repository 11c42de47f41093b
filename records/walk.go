package records

import (
	"slices"
	"strings"
	"sync"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A TreeWalk is what a DNS tree walk found (RFC 9989, section 4.10).
type TreeWalk struct {
	Name  string
	Asked []string   // the names whose records the walk looked at, longest first
	Found []WalkStep // those that have a record, longest name first
	// Failed is the lookup that ended the walk, for now; nil for none. Then
	// nothing is known of policy and organizational domain.
	Failed *Answer
	// Answers are those of Asked.
	Answers []Answer
}

// A WalkStep is a record that was found, and the name that it is for.
type WalkStep struct {
	At     string
	Record *DMARCRecord
}

// policyName is where the record of a name is.
func policyName(name string) string { return "_dmarc." + name }

// walkNames returns the names of a walk from a name: at most eight.
func walkNames(name string) []string {
	names := []string{name}
	labels := strings.Split(name, ".")
	for n := len(labels); n > 1; {
		if n >= 8 {
			n = 7
		} else {
			n--
		}
		names = append(names, strings.Join(labels[len(labels)-n:], "."))
	}
	return names
}

// skippedNames returns those between a name of many labels and the next one
// of the walk.
func skippedNames(name string) []string {
	labels := strings.Split(name, ".")
	var names []string
	for n := len(labels) - 1; n > 7; n-- {
		names = append(names, strings.Join(labels[len(labels)-n:], "."))
	}
	return names
}

// walk walks the DNS tree from a name, a lower-case A-label, as RFC 9989, section 4.10, says. The
// names are known from the start, so they are asked for side by side.
func walk(name string, txt func(name string) Answer) *TreeWalk {
	w := &TreeWalk{Name: name}
	names := walkNames(name)
	answers := make([]Answer, len(names))
	var wg sync.WaitGroup
	for i, at := range names {
		wg.Go(func() { answers[i] = txt(policyName(at)) })
	}
	wg.Wait()
	for i, at := range names {
		w.Asked, w.Answers = append(w.Asked, at), append(w.Answers, answers[i])
		if answers[i].State == Failed {
			w.Failed = &w.Answers[i]
			return w
		}
		record := singleRecord(answers[i])
		if record == nil {
			continue
		}
		w.Found = append(w.Found, WalkStep{at, record})
		if record.PSD != 'u' {
			break
		}
	}
	return w
}

// singleRecord returns the DMARC record of an answer. Several void each other
// (RFC 9989, section 4.10, step 2).
func singleRecord(a Answer) *DMARCRecord {
	var record *DMARCRecord
	for _, text := range texts(a) {
		if isDMARC(text) {
			if record != nil {
				return nil
			}
			record = ParseDMARC(text)
		}
	}
	return record
}

// at returns the record that was found for a name, or nil.
func (w *TreeWalk) at(name string) *DMARCRecord {
	for _, step := range w.Found {
		if step.At == name {
			return step.Record
		}
	}
	return nil
}

// organizationalDomain returns the organizational domain of the name that the
// walk began at (RFC 9989, section 4.10.2).
func (w *TreeWalk) organizationalDomain() string {
	org := w.Name
	for _, step := range w.Found {
		switch {
		case step.Record.PSD == 'n':
			return step.At
		case step.Record.PSD == 'y' && step.At != w.Name:
			labels := strings.Split(w.Name, ".")
			return strings.Join(labels[len(labels)-strings.Count(step.At, ".")-2:], ".")
		}
		org = step.At
	}
	return org
}

// An EffectivePolicy is the policy that receivers apply to a name.
type EffectivePolicy struct {
	OrganizationalDomain string
	Record               *DMARCRecord // nil where none was found
	At                   string       // the name that the record is for
	Tag                  string       // that holds the policy: p, sp or np
	Published            dmarc.Policy // as published; PolicyUnknown where DMARC does not apply
	Policy               dmarc.Policy // as applied: one level lower in test mode
}

// applies reports whether DMARC applies at all.
func (e *EffectivePolicy) applies() bool { return e.Policy != dmarc.PolicyUnknown }

// policy returns the policy for the name that the walk began at; nonexistent
// tells that the name is NXDOMAIN (RFC 9989, section 4.10.1).
func (w *TreeWalk) policy(nonexistent bool) EffectivePolicy {
	e := EffectivePolicy{OrganizationalDomain: w.organizationalDomain()}
	if e.Record = w.at(w.Name); e.Record != nil {
		e.At = w.Name
	} else if e.Record = w.at(e.OrganizationalDomain); e.Record != nil {
		e.At = e.OrganizationalDomain
	} else {
		for _, step := range w.Found {
			if step.Record.PSD == 'y' {
				e.At, e.Record = step.At, step.Record
			}
		}
	}
	if e.Record == nil {
		return e
	}
	e.Tag, e.Published = choose(e.Record, e.At != w.Name, nonexistent)
	e.Policy = e.Published
	if e.Record.Testing {
		e.Policy = lower(e.Policy)
	}
	return e
}

// choose returns the tag of a record that applies, and what it says.
func choose(r *DMARCRecord, above, nonexistent bool) (tag string, policy dmarc.Policy) {
	if r.broken() {
		if r.hasRUA() {
			return "p", dmarc.PolicyNone
		}
		return "p", dmarc.PolicyUnknown
	}
	switch {
	case above && nonexistent && r.NP != dmarc.PolicyUnknown:
		return "np", r.NP
	case above && r.SP != dmarc.PolicyUnknown:
		return "sp", r.SP
	}
	return "p", r.P
}

// lower returns the policy one level below.
func lower(p dmarc.Policy) dmarc.Policy {
	if p > dmarc.PolicyNone {
		return p - 1
	}
	return p
}

// A ListedPolicy is what a receiver of RFC 7489 applies, which takes the
// organizational domain from the Public Suffix List and knows neither np, t
// nor psd.
type ListedPolicy struct {
	OrganizationalDomain string
	At                   string       // the name that the record is for; "" for none
	Policy               dmarc.Policy // PolicyUnknown where DMARC does not apply
	Failed               *Answer      // the lookup that failed, or nil
}

// listedPolicy discovers the policy as RFC 7489, section 6.6.3, has it.
func listedPolicy(name string, txt func(name string) Answer) ListedPolicy {
	l := ListedPolicy{OrganizationalDomain: dmarc.OrganizationalDomain(name)}
	for _, at := range []string{name, l.OrganizationalDomain} {
		a := txt(policyName(at))
		if a.State == Failed {
			l.Failed = &a
			return l
		}
		var records []string
		for _, text := range texts(a) {
			if isDMARC(text) {
				records = append(records, text)
			}
		}
		if len(records) == 1 {
			r := ParseDMARC(records[0])
			r.Tags = slices.DeleteFunc(r.Tags, func(t DMARCTag) bool { return t.Name == "np" }) // not known then
			l.At = at
			_, l.Policy = choose(r, at != name, false)
		}
		if len(records) > 0 { // several end the search
			break
		}
	}
	return l
}
