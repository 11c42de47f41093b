package records

import (
	"cmp"
	"fmt"
	"strings"
)

// nearMisses finds texts that were meant to be SPF records, and returns what
// the first of them says.
func (j *spfJudge) nearMisses() (first string) {
	for _, strs := range txtStrings(&j.f.Root.Answer) {
		text := strings.Join(strs, "")
		if reason, meant := spfNearMiss(strs); reason != "" {
			first = cmp.Or(first, meant)
			if len(strs) > 1 && isSPF(strs[0]) {
				_, second := seam(strs, 0)
				j.usual("spf.strings_glued", j.p.Domain, spfFacts(&j.f.Root.Answer), "term", shown(text[:len(strs[0])]+firstWord(strs[1])),
					"first", shown(lastWord(strs[0])), "second", shown(second), "publish", zoneSPF(j.p.Domain, meant))
				continue
			}
			if len(j.f.Root.Texts) > 0 {
				j.add("spf.near_miss", Warning, j.p.Domain, spfFacts(&j.f.Root.Answer), "text", shown(text), "reason", reason,
					"advice", "Delete it, once the record that is read says all that it says.")
				continue
			}
			j.usual("spf.near_miss", j.p.Domain, spfFacts(&j.f.Root.Answer), "text", shown(text), "reason", reason,
				"advice", "Put the right text in its place.", "publish", zoneSPF(j.p.Domain, meant))
		}
	}
	for i := range j.f.Elsewhere {
		a := &j.f.Elsewhere[i]
		for _, strs := range spfRecords(a) {
			meant := parseSPF(strs).rewritten(unchanged)
			first = cmp.Or(first, meant)
			j.usual("spf.near_miss", j.p.Domain, spfFacts(a), "text", shown(strings.Join(strs, "")),
				"reason", "it stands at "+a.Name+", where no receiver looks for it",
				"advice", "Publish it at "+j.p.Domain+".", "publish", zoneSPF(j.p.Domain, meant))
		}
	}
	return first
}

// spfNearMiss says why a text that looks like an SPF record is none, and what was
// meant; "" if it does not look like one, or is one.
func spfNearMiss(strs []string) (reason, meant string) {
	text := strings.Join(strs, "")
	if isSPF(text) || len(text) > 64<<10 {
		return "", ""
	}
	rest := plainer.Replace(text)
	rest = strings.TrimLeft(rest, " \"'`\\(")
	if !strings.Contains(rest, " ") {
		rest = strings.NewReplacer(",", " ", ";", " ").Replace(rest)
	}
	body, ok := cutVersion(rest)
	if !ok {
		return "", ""
	}
	body = strings.TrimRight(body, " \"'`\\)")
	switch first := firstChar(text); {
	case first == "\ufeff":
		reason = "an invisible byte order mark stands before it"
	case first == " " || first == "\t" || first == "\u00a0":
		reason = "a blank stands before it"
	case strings.ContainsAny(first, "\"'`\\") || first == "\u201c" || first == "\u201d":
		reason = "quotation marks are part of the text"
	case len(strs) > 1 && isSPF(strs[0]):
		reason = "its strings join without a blank"
	case !hasPrefixFold(text, "v=spf1"):
		reason = fmt.Sprintf("it begins with %q in place of v=spf1 and a blank", shown(firstWord(text)))
	default:
		reason = fmt.Sprintf("%q follows the version in place of a blank", shown(firstChar(text[len("v=spf1"):])))
	}
	return reason, parseSPF([]string{"v=spf1 " + body}).rewritten(unchanged)
}

// cutVersion cuts what was meant to be the version.
func cutVersion(s string) (rest string, ok bool) {
	at := 0
	take := func(set string) int {
		start := at
		for at < len(s) && strings.IndexByte(set, s[at]) >= 0 {
			at++
		}
		return at - start
	}
	v := take("vV")
	if v > 1 {
		return "", false
	}
	take(" ")
	eq := take("=:")
	take(" ")
	if !hasPrefixFold(s[at:], "spf") {
		return "", false
	}
	at += len("spf")
	blank := take(" ")
	digits := take("0123456789l.")
	if v == 0 || eq == 0 { // "spf1 ...", but not a text that only speaks of SPF
		if digits == 0 || blank > 0 {
			return "", false
		}
	}
	if v == 0 && at < len(s) && s[at] == '/' { // spf2.0/pra
		return "", false
	}
	take(",;: ")
	rest = s[at:]
	// What follows must look like a record, too.
	if rest == "" {
		return rest, true
	}
	for _, tok := range spfTokens("v=spf1 " + rest) {
		if _, problem := parseSPFTerm(tok.text); problem == nil {
			return rest, true
		}
	}
	return "", false
}

func firstWord(s string) string {
	s, _, _ = strings.Cut(s, " ")
	return s
}

func lastWord(s string) string {
	return s[strings.LastIndexByte(s, ' ')+1:]
}
