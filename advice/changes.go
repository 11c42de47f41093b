package advice

import (
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// RecordSets are the TXT records at a name before and after they changed.
type RecordSets struct {
	At            time.Time
	Before, After []string // as in a zone file
}

// sameChange is within how many days a change that was seen in DNS shows in
// reports.
const sameChange = 7 * day

// MergeChanges joins changes of the record that were seen in DNS with those
// that reports tell of. DNS tells the day, reports also tell of what happened
// while nobody looked. Both must be ascending.
func MergeChanges(seen []RecordSets, reported []Change) []Change {
	var out []Change
	for _, s := range seen {
		from, to := inForce(s.Before), inForce(s.After)
		if from != to && from != dmarc.PolicyUnknown && to != dmarc.PolicyUnknown {
			out = append(out, Change{Day: s.At.UTC().Truncate(day), From: from, To: to})
		}
	}
	dns := len(out)
	for _, r := range reported {
		same := func(c Change) bool { return c.To == r.To && c.Day.Sub(r.Day).Abs() <= sameChange }
		if !slices.ContainsFunc(out[:dns], same) {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b Change) int { return a.Day.Compare(b.Day) })
	return out
}

// inForce returns the policy that records of a name put in force for the
// domain itself, lowered by t=y; none if there is not exactly one record.
func inForce(values []string) dmarc.Policy {
	policy, n := dmarc.PolicyNone, 0
	for _, v := range values {
		r := records.ParseDMARC(zoneText(v))
		if r == nil {
			continue
		}
		n++
		policy = r.P
		if r.Testing {
			policy = policy.Lowered()
		}
	}
	if n != 1 {
		return dmarc.PolicyNone
	}
	return policy
}

// zoneText joins the character-strings of a TXT record as a zone file has it.
func zoneText(value string) string {
	var out []byte
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && i+3 < len(value) && digits(value[i+1:i+4]):
			out = append(out, (value[i+1]-'0')*100+(value[i+2]-'0')*10+value[i+3]-'0')
			i += 3
		case c == '\\' && i+1 < len(value):
			i++
			out = append(out, value[i])
		case quoted:
			out = append(out, c)
		}
	}
	return string(out)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// SourceClasses returns how sources are classed, as it is kept: with the class
// that each has without what other domains say, so that domains do not confirm
// each other.
func SourceClasses(e *Evidence, sources []Classified) []dmarc.SourceClass {
	out := make([]dmarc.SourceClass, 0, len(sources))
	for i, c := range Classify(e.Alone()) {
		s := &sources[i]
		k := dmarc.SourceClass{Source: s.Source.Source, Class: s.Class, Confidence: uint8(s.Confidence), Messages: s.Summary.Messages}
		if c.Confidence != Guess {
			k.Alone = c.Class
		}
		out = append(out, k)
	}
	return out
}
