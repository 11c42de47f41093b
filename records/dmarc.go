package records

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// DMARCFound is the policy of a domain, and where its reports go.
type DMARCFound struct {
	Walk *TreeWalk // from the domain
	// Policy is what receivers apply; nothing is known of it where Walk.Failed.
	Policy EffectivePolicy
	Listed ListedPolicy // what receivers of RFC 7489 apply
	// Skipped are the answers for names that the walk passes over, as the
	// domain has more than eight labels.
	Skipped      []Answer
	Apex         Answer        // TXT of the domain itself
	Destinations []Destination // of the reports that Policy.Record asks for

	ours     []string
	reported *Reported
}

// maxSkipped bounds how many names that the walk passes over are asked for.
const maxSkipped = 10

func gatherDMARC(ctx context.Context, g *gatherer) {
	d := &g.p.DMARC
	for _, address := range g.o.ReportAddresses {
		d.ours = append(d.ours, strings.ToLower(address))
	}
	d.reported = g.o.Reported
	txt := func(name string) Answer { return g.ask(ctx, name, dns.TypeTXT) }
	skipped := skippedNames(g.p.Domain)
	d.Skipped = make([]Answer, min(len(skipped), maxSkipped))
	var soa Answer
	var wg sync.WaitGroup
	for i := range d.Skipped {
		wg.Go(func() { d.Skipped[i] = txt(policyName(skipped[i])) })
	}
	wg.Go(func() { d.Apex = txt(g.p.Domain) })
	wg.Go(func() { soa = g.ask(ctx, g.p.Domain, dns.TypeSOA) })
	wg.Go(func() { d.Listed = listedPolicy(g.p.Domain, txt) })
	wg.Go(func() { d.Walk = walk(g.p.Domain, txt) })
	wg.Wait()
	if d.Walk.Failed != nil {
		return
	}
	d.Policy = d.Walk.policy(soa.nonexistent() || d.Apex.nonexistent())
	d.Destinations = gatherDestinations(ctx, g, d)
}

func checkDMARC(p *Published) []Finding {
	d := &p.DMARC
	v := &verdicts{}
	if d.Walk == nil {
		return nil
	}
	d.checkTexts(v)
	if d.Walk.Failed != nil {
		return v.all // of which checkName tells
	}
	d.checkPlace(p, v)
	if d.Policy.Record != nil {
		d.checkRecord(v)
		d.checkDestinations(v)
	}
	if d.Policy.Policy >= dmarc.PolicyQuarantine && d.Policy.Record.hasRUA() && !slices.ContainsFunc(v.all, func(f Finding) bool { return f.Severity == Error }) {
		v.add("dmarc.ok", p.Domain, "policy", d.Policy.Policy.String(), "at", d.Policy.At).on(d.answer(d.Policy.At))
	}
	return v.all
}

// answer returns what was answered for the record of a name.
func (d *DMARCFound) answer(at string) Answer {
	for i, name := range d.Walk.Asked {
		if name == at {
			return d.Walk.Answers[i]
		}
	}
	return Answer{}
}

// rua is where a report should go, as a value of rua.
func (d *DMARCFound) rua(name string) string {
	if len(d.ours) > 0 {
		return "mailto:" + d.ours[0]
	}
	return "mailto:dmarc-reports@" + name
}

// maxTold bounds how many findings tell of one kind of mistake in one record.
const maxTold = 5

// checkTexts judges the TXT records at each name, before any of them is taken
// for the policy.
func (d *DMARCFound) checkTexts(v *verdicts) {
	for i, at := range d.Walk.Asked {
		if at != d.Walk.Name && !strings.Contains(at, ".") {
			continue // nothing that the owner of a domain can change
		}
		var others []string
		records := 0
		for _, text := range texts(d.Walk.Answers[i]) {
			switch reason, fixed := nearMiss(text); {
			case isDMARC(text):
				records++
			case reason != "":
				v.add("dmarc.near_miss", policyName(at), "text", excerpt(text), "reason", reason, "fixed", fixed,
					"publish", zoneTXT(policyName(at), fixed)).on(d.Walk.Answers[i])
			default:
				others = append(others, text)
			}
		}
		if records > 1 {
			v.add("dmarc.several", policyName(at), "n", decimal(records)).on(d.Walk.Answers[i])
		}
		if records > 0 {
			for _, text := range others[:min(len(others), maxTold)] {
				v.add("dmarc.unrelated_txt", policyName(at), "text", excerpt(text)).on(d.Walk.Answers[i])
			}
		}
	}
	for _, text := range texts(d.Apex) {
		if isDMARC(text) {
			v.add("dmarc.misplaced", d.Walk.Name, "text", excerpt(text), "publish", zoneTXT(policyName(d.Walk.Name), text)).on(d.Apex)
			break
		}
	}
}

// nearMiss returns why a text that was meant to be a DMARC record is none, and
// what was meant.
func nearMiss(text string) (reason, fixed string) {
	low := strings.ToLower(text)
	if isDMARC(text) || !strings.Contains(low, "dmarc") || !strings.Contains(low, "=") {
		return "", ""
	}
	bare := strings.TrimFunc(text, func(r rune) bool { return r <= ' ' || r == 0xa0 || r == 0xfeff || r == 0x200b })
	unquoted := strings.Trim(bare, "\"'`\u201c\u201d\u201e\u2018\u2019")
	unescaped := strings.ReplaceAll(unquoted, `\;`, ";")
	switch {
	case strings.HasPrefix(text, "\ufeff"):
		reason = "it begins with a byte order mark"
	case bare != text && isDMARC(bare):
		reason = "it begins with a blank"
	case unquoted != bare && (isDMARC(unquoted) || isDMARC(unescaped)):
		reason = "it holds the quotation marks of a zone file as text"
	case unescaped != unquoted && isDMARC(unescaped):
		reason = `its semicolons are written as \;`
	}
	fixed = unescaped
	if reason == "" {
		if upper := versionWord(unescaped); upper != unescaped && isDMARC(upper) {
			reason, fixed = "DMARC1 must be in capitals", upper
		}
	}
	if reason == "" {
		// The version is there, with something else than a semicolon behind it.
		if m := versionFirst.FindStringSubmatch(unescaped); m != nil {
			return "v=DMARC1 must have a semicolon behind it", ascii("v=DMARC1; " + parted(strings.Trim(m[1], " \t,;:")))
		}
		parts := strings.FieldsFunc(versionWord(unescaped), func(r rune) bool { return r == ';' || r == ',' && !strings.Contains(unescaped, ";") })
		tags := []string{"v=DMARC1"}
		version := false
		for _, part := range parts {
			part = strings.TrimSpace(part)
			name, value, _ := strings.Cut(part, "=")
			isVersion := strings.EqualFold(strings.TrimSpace(name), "v") && strings.EqualFold(strings.ReplaceAll(strings.TrimSpace(value), " ", ""), "dmarc1") || strings.EqualFold(part, "dmarc1")
			version = version || isVersion
			if !isVersion && strings.Contains(part, "=") {
				tags = append(tags, part)
			}
		}
		if !version {
			return "", ""
		}
		fixed = strings.Join(tags, "; ")
		reason = "v=DMARC1 must come first"
	}
	return reason, ascii(fixed)
}

var (
	versionFirst = regexp.MustCompile(`(?is)^v[ \t]*=[ \t]*DMARC1(?:\.0)?[^0-9a-z](.*)$`)
	// unseparated finds a tag that no semicolon parts from what stands before.
	unseparated = regexp.MustCompile(`(?i)([^; \t,])[ \t,]+(p|sp|np|rua|ruf|adkim|aspf|fo|psd|t|pct|ri|rf)[ \t]*=`)
)

// parted puts semicolons between the tags of a text.
func parted(text string) string { return unseparated.ReplaceAllString(text, "$1; $2=") }

// ascii leaves out what cannot stand in a record.
func ascii(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
}

// versionWord writes the version at the beginning of a text as it must be.
func versionWord(text string) string {
	name, rest, ok := strings.Cut(text, "=")
	word := strings.TrimLeft(rest, blanks)
	if ok && strings.EqualFold(strings.Trim(name, blanks), "v") && len(word) >= 6 && strings.EqualFold(word[:6], "DMARC1") {
		return "v=DMARC1" + word[6:]
	}
	return text
}

// checkPlace judges where the record was found.
func (d *DMARCFound) checkPlace(p *Published, v *verdicts) {
	name, e := p.Domain, &d.Policy
	own := d.answer(name)
	said := slices.ContainsFunc(v.all, func(f Finding) bool {
		return f.Subject == policyName(name) && (f.ID == "dmarc.several" || f.ID == "dmarc.near_miss")
	})
	switch {
	case e.Record == nil && !said:
		text := "v=DMARC1; p=none; rua=" + d.rua(name)
		v.add("dmarc.missing", name, "rua", d.rua(name), "publish", zoneTXT(policyName(name), text)).on(d.Walk.Answers...)
	case e.Record != nil && e.At != name:
		v.add("dmarc.inherited", name, "at", e.At, "tag", e.Tag, "policy", policyWord(e.Policy)).on(own, d.answer(e.At))
	}
	if labels := strings.Count(name, ".") + 1; labels > 8 {
		var hidden []string
		for _, a := range d.Skipped {
			if singleRecord(a) != nil {
				hidden = append(hidden, a.Name)
			}
		}
		if d.Walk.at(name) == nil || len(hidden) > 0 {
			all := skippedNames(name)
			v.add("dmarc.too_deep", name, "n", decimal(labels), "skipped", strings.Join(all[:min(len(all), maxSkipped)], ", ")).on(d.Skipped...)
		}
	}
	for _, step := range d.Walk.Found {
		suffix := listedSuffix(step.At)
		if step.Record.PSD == 'y' && !suffix {
			v.add("dmarc.psd_wrong", step.At, "publish", step.Record.zone(step.At, DMARCTag{"psd", ""})).on(d.answer(step.At))
		}
		if step.At != name && suffix && step.Record.PSD != 'y' && e.OrganizationalDomain == step.At {
			v.add("dmarc.psd_parent", name, "parent", step.At).on(d.answer(step.At))
		}
	}
	d.checkOld(p, v)
}

// checkOld compares what receivers of RFC 9989 and of RFC 7489 make of the
// domain. Test mode is told apart.
func (d *DMARCFound) checkOld(p *Published, v *verdicts) {
	e, old := &d.Policy, &d.Listed
	if old.Failed != nil || e.Record == nil && old.At == "" {
		return
	}
	if e.At == old.At && e.Published == old.Policy && e.OrganizationalDomain == old.OrganizationalDomain {
		return
	}
	tell := func(policy dmarc.Policy, at, org string) string {
		text := "no policy"
		if at != "" {
			text = policyWord(policy) + " from the record of " + at
		}
		return text + ", with " + org + " as the organizational domain"
	}
	v.add("dmarc.old_new_differ", p.Domain, "new", tell(e.Published, e.At, e.OrganizationalDomain), "old", tell(old.Policy, old.At, old.OrganizationalDomain)).
		on(d.Walk.Answers...)
}

// policyWord is a policy for people.
func policyWord(p dmarc.Policy) string {
	if p == dmarc.PolicyUnknown {
		return "no policy"
	}
	return p.String()
}
