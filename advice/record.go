package advice

import (
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Publication is a record to publish.
type Publication struct {
	Name  string // owner name
	Type  string
	Value string
}

// edit returns a DMARC record with other values of p, sp, np and t. Every other
// tag is kept as it stands, known or not; pct is left out, since RFC 9989
// removed it. An unknown policy removes its tag.
func edit(record string, p Policy, rua string) string {
	tags := split(record)
	if len(tags) == 0 {
		tags = []tag{{"v", "DMARC1"}}
		if rua != "" {
			tags = append(tags, tag{"rua", "mailto:" + rua})
		}
	}
	tags = without(tags, "pct")
	tags = set(tags, "p", p.P.String(), "v")
	tags = set(tags, "sp", p.SP.String(), "p")
	tags = set(tags, "np", p.NP.String(), "sp", "p")
	testing := ""
	if p.Testing {
		testing = "y"
	}
	tags = set(tags, "t", testing, "np", "sp", "p")
	parts := make([]string, len(tags))
	for i, t := range tags {
		parts[i] = t.name + "=" + t.value
	}
	return strings.Join(parts, "; ")
}

type tag struct{ name, value string }

// split takes a record apart. What is no tag is skipped, as receivers do.
func split(record string) []tag {
	var tags []tag
	for _, part := range strings.Split(record, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		tags = append(tags, tag{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return tags
}

func without(tags []tag, name string) []tag {
	var out []tag
	for _, t := range tags {
		if !strings.EqualFold(t.name, name) {
			out = append(out, t)
		}
	}
	return out
}

// set gives a tag a value, where it stands or behind the first of the others
// that is there; the empty value removes it.
func set(tags []tag, name, value string, behind ...string) []tag {
	if value == "" {
		return without(tags, name)
	}
	at := -1
	var out []tag
	for _, t := range tags {
		if strings.EqualFold(t.name, name) {
			if at >= 0 {
				continue // given twice
			}
			at = len(out)
			t.value = value
		}
		out = append(out, t)
	}
	if at >= 0 {
		return out
	}
	for _, b := range behind {
		for i, t := range out {
			if strings.EqualFold(t.name, b) {
				return append(out[:i+1:i+1], append([]tag{{name, value}}, out[i+1:]...)...)
			}
		}
	}
	return append(out, tag{name, value})
}

// publication returns what to publish for a domain so that a policy is in
// force for it. Below the organizational domain, sp and np have no effect
// (RFC 9989, section 4.7) and are not copied from there.
func publication(e *Evidence, p Policy) Publication {
	record := e.Published.Record
	if record != "" && e.Published.FoundAt != "" && e.Published.FoundAt != e.Domain {
		tags := split(record)
		for _, name := range []string{"sp", "np", "psd", "t"} {
			tags = without(tags, name)
		}
		var parts []string
		for _, t := range tags {
			parts = append(parts, t.name+"="+t.value)
		}
		record = strings.Join(parts, "; ")
		p.SP, p.NP = dmarc.PolicyUnknown, dmarc.PolicyUnknown
	}
	return Publication{Name: "_dmarc." + e.Domain, Type: "TXT", Value: edit(record, p, e.RUA)}
}
