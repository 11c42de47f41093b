package notify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// changeTypes are the types of records whose changes people are told of. Others
// change by themselves: addresses, serial numbers, keys that are rolled.
var changeTypes = []string{"TXT", "CNAME", "MX", "NS", "DS", "TLSA"}

// changeEvent says how a record changed, and whether that is worth telling: it is
// one of the domain, and what it says about mail is another.
func changeEvent(c *dmarc.ChangedRecord) (dmarc.Event, bool) {
	e := dmarc.Event{Rule: dmarc.RuleRecordChanged, Domain: c.Domain, Subject: c.Name + " " + c.Type, Phase: dmarc.EventOnce}
	name := strings.TrimSuffix(strings.ToLower(c.Name), ".")
	org := dmarc.OrganizationalDomain(c.Domain)
	if !slices.Contains(changeTypes, c.Type) || name != org && !strings.HasSuffix(name, "."+org) {
		return e, false
	}
	before, after := c.Before, c.After
	if c.Type == "TXT" && !strings.HasPrefix(name, "_") && !strings.Contains(name, "._") {
		before, after = spfOnly(before), spfOnly(after)
	}
	if slices.Equal(slices.Sorted(slices.Values(before)), slices.Sorted(slices.Values(after))) {
		return e, false
	}
	e.Title = fmt.Sprintf("%s: the %s record of %s has changed", c.Domain, c.Type, name)
	switch {
	case len(before) == 0:
		e.Title = fmt.Sprintf("%s: there is a %s record at %s now", c.Domain, c.Type, name)
		e.Text = fmt.Sprintf("Published, as seen on %s: %s", minute(c.SeenAt), quoted(after))
	case len(after) == 0:
		e.Title = fmt.Sprintf("%s: the %s record of %s is gone", c.Domain, c.Type, name)
		e.Problem = true
		e.Text = fmt.Sprintf("Gone, as seen on %s. It was: %s", minute(c.SeenAt), quoted(before))
	default:
		e.Text = fmt.Sprintf("As seen on %s, it was: %s It is now: %s", minute(c.SeenAt), quoted(before), quoted(after))
	}
	return e, true
}

// spfOnly returns the SPF records among the texts at a name, where others hold
// proofs for all sorts of services.
func spfOnly(values []string) []string {
	var out []string
	for _, v := range values {
		if strings.HasPrefix(strings.ToLower(strings.TrimPrefix(v, `"`)), "v=spf1") {
			out = append(out, v)
		}
	}
	return out
}

// quoted writes the values of a set of records, at most a few.
func quoted(values []string) string {
	const most = 5
	var b strings.Builder
	for i, v := range values {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(values)-most)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(shorten(v, 400))
	}
	return b.String() + "."
}
