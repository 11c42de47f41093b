package dmarc

import (
	"net/netip"
	"time"
)

// A DomainVerdict is the advice about a domain in short, as a pass kept it.
type DomainVerdict struct {
	Domain     string
	ComputedAt time.Time
	// Verdict is "ready", "not_ready", "not_enough_evidence" or "done".
	Verdict   string
	Policy    string // in force, as tags: "p=none"
	Target    string // that was judged, as tags
	Next      string // to publish now, as tags; "" if nothing should be
	Attention Attention
	Sentence  string // for people: why it deserves attention, or else the verdict
	Blockers  int    // senders to mend
	Ask       int    // sources that only the owner can tell
	Days      int    // for which reports came
	// LossADay is how many of the owner's messages the target would lose.
	LossADay float64
	ByClass  [NumClasses]int64 // messages of the period
	// Own counts the messages of own sources and services, and Passing those
	// of them that pass DMARC.
	Own, Passing int64
}

// OwnPassRate returns the share of the owner's mail that passes DMARC, and
// false if there is none.
func (v *DomainVerdict) OwnPassRate() (float64, bool) {
	if v.Own == 0 {
		return 0, false
	}
	return float64(v.Passing) / float64(v.Own), true
}

// Attention says what a domain deserves attention for; the least value is the
// most urgent.
type Attention uint8

// The kinds, the most urgent first. The zero value is none of them.
const (
	AttentionNewFailure Attention = iota + 1 // own mail has begun to fail
	AttentionStepBack                        // the policy in force stops own mail
	AttentionReady                           // the next step can be taken
	AttentionSilence                         // reports, or those of somebody who always reported, have stopped
	AttentionNoReports                       // no record, or no rua: nobody reports
	AttentionAsk                             // only the owner can tell whose some mail is
	AttentionBlocked                         // known senders are to be mended
	AttentionNone                            // waiting, or done
)

// String returns the word for why a domain needs somebody, as in the API.
func (a Attention) String() string { return name(attentionWords[:], int(a)) }

// ParseAttention returns the reason that a word stands for, and false for none.
func ParseAttention(word string) (Attention, bool) {
	i := index(attentionWords[:], word)
	return Attention(i), i > 0
}

var attentionWords = [...]string{"", "new_failure", "step_back", "ready", "silence", "no_reports", "ask", "blocked", "none"}

// A Stamp is equal to another one of the same domain while nothing changes that a verdict
// about it rests on.
type Stamp struct {
	Changes int64 // that were noted
	Judged  int64 // when the last verdict was computed; 0 for never
}

// A DueVerdict is a domain whose verdict is to be computed again.
type DueVerdict struct {
	ID     int64
	Domain string
	// Changes tells what the verdict will know of: it grows with whatever the
	// verdict depends on.
	Changes int64
}

// A SourceClass is how a source is classed for a domain, as it is kept.
type SourceClass struct {
	Source     netip.Prefix
	Class      Class
	Confidence uint8 // 0 a guess, 1 likely, 2 sure
	// Alone is the class without what other domains say, unknown for a guess:
	// what other domains may lean on.
	Alone    Class
	Messages int64
}

// A KnownSource is what the installation knows of an address.
type KnownSource struct {
	Identity SourceIdentity
	// Domains counts the domains by how they class it, each for itself.
	Domains [NumClasses]int
}

// An Overrule is the operator's word about whose a source or a network is.
type Overrule struct {
	Domain  string // "" for all domains
	Network netip.Prefix
	Class   Class
	Note    string
	By      string // who said so; "" if it is not known
	At      time.Time
	File    bool // it stands in the configuration, and is changed there
}
