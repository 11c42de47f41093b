package records

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/dmarcd/dmarcd/dmarc"
)

func decimal(n int) string { return strconv.Itoa(n) }

// listedSuffix reports whether a name is a public suffix by the list.
func listedSuffix(name string) bool {
	suffix, _ := publicsuffix.PublicSuffix(name)
	return suffix == name
}

// knownTags are the tags of RFC 9989, section 4.7, with what is in force where
// a value cannot be read.
var knownTags = map[string]string{
	"p": "", "sp": "", "np": "", "rua": "", "ruf": "",
	"adkim": "r", "aspf": "r", "fo": "0", "psd": "u", "t": "n",
}

// removedTags are those of RFC 7489 that RFC 9989 took away.
var removedTags = map[string]string{
	"pct": "Receivers of today ignore it; older ones still apply the policy to that share of the mail.",
	"rf":  "There is only one format of failure reports.",
	"ri":  "Reports come once a day.",
}

// zone is a record as a line of a zone file, with changes: tags to set, or to
// remove where the value is empty.
func (r *DMARCRecord) zone(at string, changes ...DMARCTag) string {
	tags := []string{"v=DMARC1"}
	done := map[string]bool{}
	for _, c := range changes {
		if _, ok := r.tag(c.Name); !ok && c.Name == "p" {
			tags, done["p"] = append(tags, "p="+c.Value), true
		}
	}
	for _, t := range r.Tags {
		for _, c := range changes {
			if c.Name == t.Name {
				t.Value, done[c.Name] = c.Value, true
			}
		}
		if t.Value != "" {
			tags = append(tags, t.Name+"="+t.Value)
		}
	}
	for _, c := range changes {
		if !done[c.Name] && c.Value != "" {
			tags = append(tags, c.Name+"="+c.Value)
		}
	}
	return zoneTXT(policyName(at), strings.Join(tags, "; "))
}

// checkRecord judges what the record in force says.
func (d *DMARCFound) checkRecord(v *verdicts) {
	e := &d.Policy
	r, at, a := e.Record, e.At, d.answer(e.At)
	for _, part := range r.Unreadable[:min(len(r.Unreadable), maxTold)] {
		v.add("dmarc.syntax", policyName(at), "part", excerpt(part), "publish", r.zone(at)).on(a)
	}
	if part, whole := r.apart(); part != "" {
		v.add("dmarc.syntax", policyName(at), "part", excerpt(part), "publish", zoneTXT(policyName(at), whole)).on(a)
	}
	d.checkPolicy(v)
	d.checkTags(v)
	if r.ADKIM == dmarc.AlignmentStrict || r.ASPF == dmarc.AlignmentStrict {
		var tags []string
		if r.ADKIM == dmarc.AlignmentStrict {
			tags = append(tags, "adkim=s")
		}
		if r.ASPF == dmarc.AlignmentStrict {
			tags = append(tags, "aspf=s")
		}
		f := v.add("dmarc.strict", policyName(at), "tags", strings.Join(tags, " and "), "sources", "mail from subdomains").on(a)
		if d.reported != nil && len(d.reported.RelaxedOnly) > 0 {
			f.Severity = Warning
			f.Values[1].Text = listed(d.reported.RelaxedOnly)
		}
	}
	if e.Policy == dmarc.PolicyReject && d.reported != nil {
		for _, source := range d.reported.SPFOnly[:min(len(d.reported.SPFOnly), maxTold)] {
			v.add("dmarc.reject_without_dkim", d.Walk.Name, "source", source).on(a)
		}
	}
	d.checkURIs(v)
}

// apart returns a part in which two tags are not parted by a semicolon, and the
// record as it was meant; or "".
func (r *DMARCRecord) apart() (part, whole string) {
	tags := []string{"v=DMARC1"}
	for _, t := range r.Tags {
		text := t.Name + "=" + t.Value
		if unseparated.MatchString(t.Value) {
			part = text
			text = t.Name + "=" + parted(t.Value)
		}
		tags = append(tags, text)
	}
	return part, strings.Join(tags, "; ")
}

// checkPolicy judges p, sp, np and t.
func (d *DMARCFound) checkPolicy(v *verdicts) {
	e := &d.Policy
	r, at, a := e.Record, e.At, d.answer(e.At)
	effect := "as p=none"
	if !r.hasRUA() {
		effect = "as if it were not there"
	}
	set := map[string]bool{}
	for _, tag := range []struct {
		name   string
		policy dmarc.Policy
	}{{"p", r.P}, {"sp", r.SP}, {"np", r.NP}} {
		value, ok := r.tag(tag.name)
		set[tag.name] = ok
		switch {
		case !ok && tag.name == "p":
			v.add("dmarc.p_missing", policyName(at), "effect", effect, "publish", r.zone(at, DMARCTag{"p", "none"})).on(a)
		case ok && tag.policy == dmarc.PolicyUnknown:
			meant := nearestPolicy(value)
			v.add("dmarc.policy_invalid", policyName(at), "tag", tag.name, "v", excerpt(value), "effect", effect,
				"publish", r.zone(at, DMARCTag{tag.name, meant})).on(a)
		}
	}
	if r.broken() {
		return
	}
	if e.Published == dmarc.PolicyNone {
		v.add("dmarc.p_none", d.Walk.Name, "tag", e.Tag, "at", policyName(at)).on(a)
	}
	if r.Testing {
		v.add("dmarc.test_mode", policyName(at), "p", e.Published.String(), "lower", lower(e.Published).String(), "publish", r.zone(at, DMARCTag{"t", ""})).on(a)
	}
	if at != e.OrganizationalDomain && r.PSD != 'y' {
		for _, tag := range []string{"sp", "np"} {
			if set[tag] {
				v.add("dmarc.sp_useless", policyName(at), "tag", tag, "org", e.OrganizationalDomain, "publish", r.zone(at, DMARCTag{tag, ""})).on(a)
			}
		}
		return
	}
	weaker := func(tag string, policy dmarc.Policy) {
		if set[tag] && policy < r.P {
			v.add("dmarc.sp_weaker", policyName(at), "tag", tag, "sp", policy.String(), "p", r.P.String(), "name", at,
				"which", map[string]string{"sp": "Sub-domains", "np": "Sub-domains that do not exist"}[tag],
				"publish", r.zone(at, DMARCTag{tag, r.P.String()})).on(a)
		}
	}
	weaker("sp", r.SP)
	weaker("np", r.NP)
	made := r.P // the policy for names that are made up
	if set["sp"] {
		made = r.SP
	}
	if !set["np"] && made < dmarc.PolicyReject {
		v.add("dmarc.np_absent", policyName(at), "policy", made.String(), "publish", r.zone(at, DMARCTag{"np", "reject"})).on(a)
	}
}

// nearestPolicy is the policy that a word was meant to be; none, if nobody
// can tell.
func nearestPolicy(word string) string {
	word = strings.ToLower(strings.Trim(word, "\"' \t"))
	for _, p := range []dmarc.Policy{dmarc.PolicyQuarantine, dmarc.PolicyReject} {
		if len(word) >= 3 && strings.HasPrefix(p.String(), word[:3]) {
			return p.String()
		}
	}
	return "none"
}

// checkTags judges all tags but the policies and the lists of URIs.
func (d *DMARCFound) checkTags(v *verdicts) {
	r, at, a := d.Policy.Record, d.Policy.At, d.answer(d.Policy.At)
	invalid := func(tag, value, why, usual string) {
		v.add("dmarc.value_invalid", policyName(at), "tag", tag, "v", excerpt(value), "why", why, "default", usual, "publish", r.zone(at, DMARCTag{tag, ""})).on(a)
	}
	unknown := 0
	for _, t := range r.Tags {
		word := strings.ToLower(t.Value)
		usual, known := knownTags[t.Name]
		if note, removed := removedTags[t.Name]; removed {
			changes := []DMARCTag{{t.Name, ""}}
			if t.Name == "pct" && t.Value == "0" {
				note = "Receivers of today ignore it and apply the policy in full; t=y says what pct=0 said."
				changes = append(changes, DMARCTag{"t", "y"})
			}
			v.add("dmarc.removed_tag", policyName(at), "tag", t.Name, "v", excerpt(t.Value), "note", note, "publish", r.zone(at, changes...)).on(a)
			continue
		}
		if !known {
			if unknown++; unknown > maxTold {
				continue
			}
			hint := ""
			change := []DMARCTag{{t.Name, ""}}
			if meant := nearestTag(t.Name); meant != "" {
				hint = " Was " + meant + " meant?"
				if _, there := r.tag(meant); !there {
					change = append(change, DMARCTag{meant, t.Value})
				}
			}
			v.add("dmarc.unknown_tag", policyName(at), "tag", excerpt(t.Name), "v", excerpt(t.Value), "hint", hint, "publish", r.zone(at, change...)).on(a)
			continue
		}
		switch t.Name {
		case "adkim", "aspf":
			if dmarc.ParseAlignmentMode(word) == dmarc.AlignmentUnknown {
				invalid(t.Name, t.Value, "it must be r or s", usual)
			}
		case "psd":
			if word != "y" && word != "n" && word != "u" {
				invalid(t.Name, t.Value, "it must be y, n or u", usual)
			}
		case "t":
			if word != "y" && word != "n" {
				invalid(t.Name, t.Value, "it must be y or n", usual)
			}
		case "fo":
			_, ruf := r.tag("ruf")
			switch {
			case !validFO(word):
				invalid(t.Name, t.Value, "it must be a list of 0, 1, d and s with colons between them, with 0 or 1 but not both", usual)
			case !ruf:
				invalid(t.Name, t.Value, "it has no effect without ruf", "no failure reports")
			}
		}
	}
}

// nearestTag returns the tag that a name is a slip of, or "".
func nearestTag(name string) string {
	for _, tag := range []string{"rua", "ruf", "adkim", "aspf", "sp", "np", "psd", "fo"} {
		if slip(name, tag) {
			return tag
		}
	}
	return ""
}

// slip reports whether one edit turns a word into another: a letter changed,
// added, removed, or swapped with its neighbour.
func slip(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch {
	case len(b) == len(a)+1:
		return a[i:] == b[i+1:]
	case len(a) != len(b) || i == len(a):
		return false
	case a[i+1:] == b[i+1:]:
		return len(a) > 2 // in words of two letters anything would be one
	}
	return i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// checkURIs judges the lists of rua and ruf.
func (d *DMARCFound) checkURIs(v *verdicts) {
	r, at, a := d.Policy.Record, d.Policy.At, d.answer(d.Policy.At)
	if len(r.RUA) == 0 {
		v.add("dmarc.rua_missing", policyName(at), "rua", d.rua(at), "publish", r.zone(at, DMARCTag{"rua", d.rua(at)})).on(a)
	} else if len(d.ours) > 0 && !d.oursIn(r.RUA) {
		value, _ := r.tag("rua")
		v.add("dmarc.rua_not_ours", policyName(at), "ours", d.ours[0], "publish", r.zone(at, DMARCTag{"rua", value + ", mailto:" + d.ours[0]})).on(a)
	}
	if len(r.RUF) > 0 {
		v.add("dmarc.ruf", policyName(at)).on(a)
	}
	for _, list := range []struct {
		tag  string
		uris []ReportURI
	}{{"rua", r.RUA}, {"ruf", r.RUF}} {
		told := 0
		seen := map[string]bool{}
		for _, u := range list.uris {
			if told++; told > maxTold {
				break
			}
			shown := excerpt(u.Text)
			switch {
			case u.Problem != "":
				v.add("dmarc.uri_invalid", policyName(at), "tag", list.tag, "uri", shown, "why", u.Problem, "meant", meantURI(u, d.rua(at))).on(a)
				continue
			case u.Scheme != "mailto":
				v.add("dmarc.uri_scheme", policyName(at), "tag", list.tag, "uri", shown, "scheme", excerpt(u.Scheme)).on(a)
			case u.Size != "":
				v.add("dmarc.uri_legacy", policyName(at), "tag", list.tag, "uri", shown, "why", fmt.Sprintf("the size limit !%s is ignored", excerpt(u.Size))).on(a)
			}
			if key := strings.ToLower(u.Text); seen[key] {
				v.add("dmarc.uri_legacy", policyName(at), "tag", list.tag, "uri", shown, "why", "it stands there twice").on(a)
			} else {
				seen[key] = true
			}
		}
		if n := len(list.uris); n > 2 {
			v.add("dmarc.uri_legacy", policyName(at), "tag", list.tag, "uri", excerpt(list.uris[2].Text), "why", fmt.Sprintf("it is one of %d addresses, and older receivers use the first two only", n)).on(a)
		}
	}
}

// oursIn reports whether one of our addresses is among URIs.
func (d *DMARCFound) oursIn(uris []ReportURI) bool {
	for _, u := range uris {
		for _, ours := range d.ours {
			if u.Problem == "" && strings.EqualFold(u.Address, ours) {
				return true
			}
		}
	}
	return false
}

// meantURI is what a URI that is not valid was meant to be.
func meantURI(u ReportURI, usual string) string {
	if meant := parseURI("mailto:" + strings.Trim(u.Text, " <>\"'/")); meant.Problem == "" {
		return meant.Text
	}
	if _, rest, ok := strings.Cut(u.Text, ":"); ok {
		if meant := parseURI("mailto:" + strings.Trim(rest, " <>\"'/")); meant.Problem == "" {
			return meant.Text
		}
	}
	return usual
}

// listed joins some names for people.
func listed(names []string) string {
	if len(names) > maxTold {
		return strings.Join(names[:maxTold], ", ") + fmt.Sprintf(" and %d more", len(names)-maxTold)
	}
	return strings.Join(names, ", ")
}
