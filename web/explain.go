package web

import (
	"html/template"
	"math/bits"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// say makes a sentence. What a stranger wrote in it is isolated; the rest is ours.
func say(parts ...any) template.HTML {
	var b strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b.WriteString(text(p))
		case template.HTML:
			b.WriteString(string(p))
		}
	}
	return template.HTML(b.String())
}

// name isolates a name that a stranger wrote.
func name(s string) template.HTML { return mono(s, 60) }

// quoted quotes text that a stranger wrote.
func quoted(s string) template.HTML { return say("“", stranger(s, 300), "”") }

// flagText says what the flags of a report mean.
func flagText(f dmarc.Flags) []string {
	var all []string
	for ; f != 0; f &= f - 1 {
		all = append(all, dmarc.ReportFlagDocs[bits.TrailingZeros64(uint64(f))].Text)
	}
	return all
}

// oddities says what is odd about a report, the worst first.
func oddities(r *dmarc.ReportSummary) []template.HTML {
	rep := &r.Report
	var all []template.HTML
	if r.Transport == dmarc.TransportFail {
		all = append(all, "The mail that carried it is not authentic: anybody may have written it.")
	}
	if rep.Dropped.Rows > 0 {
		all = append(all, say(plural(rep.Dropped.Rows, "row", "rows")+" with "+plural(rep.Dropped.Messages, "message", "messages")+" could not be read and are not counted."))
	}
	for _, t := range flagText(rep.Flags &^ dmarc.FlagRowsDropped) {
		all = append(all, say(sentence(t)))
	}
	for i, e := range rep.Errors {
		if i == 10 {
			all = append(all, say("The reporter tells of "+plural(int64(len(rep.Errors)-i), "more error", "more errors")+"."))
			break
		}
		all = append(all, say("The reporter says about your record: ", quoted(e)))
	}
	return all
}

// A judged row is a row of a report with its verdict in words.
type judgedRow struct {
	*dmarc.Row
	Name   string // of the sender; "" if it is not known
	Place  string
	Link   string        // address of the page about the sender; "" for none
	Passed bool          // by the reporter
	Word   string        // passed, failed, no verdict
	Fill   string        // class of its colour
	Did    template.HTML // what the receiver did
	Why    []template.HTML
	Odd    []template.HTML
}

// judge says in words why a row passed or failed.
func judge(row *dmarc.Row, rep *dmarc.AggregateReport, aligner *dmarc.Aligner) judgedRow {
	j := judgedRow{Row: row, Passed: row.Passes()}
	switch stopped := row.Disposition == dmarc.DispositionQuarantine || row.Disposition == dmarc.DispositionReject; {
	case j.Passed:
		j.Word, j.Fill = "passed", "own"
	case row.DKIM == dmarc.ResultUnknown && row.SPF == dmarc.ResultUnknown:
		j.Word, j.Fill = "no verdict", "unknown"
	case stopped:
		j.Word, j.Fill = "failed", "stopped"
	default:
		j.Word, j.Fill = "failed", "let"
	}
	author := row.HeaderFrom
	if author == "" {
		author = rep.Policy.Domain
	}
	j.Why = []template.HTML{dkimWords(row, &rep.Policy, author, aligner), spfWords(row, &rep.Policy, author, aligner)}
	j.Did = didWords(row, &rep.Policy)
	j.Odd = oddWords(row)
	return j
}

// dkimWords says how DKIM fared.
func dkimWords(row *dmarc.Row, policy *dmarc.PolicyPublished, author string, a *dmarc.Aligner) template.HTML {
	var aligned, other, broken *dmarc.DKIMResult
	for i := range row.AuthDKIM {
		r := &row.AuthDKIM[i]
		switch {
		case r.Result == dmarc.ResultPass && a.Aligned(r.Domain, author, policy.ADKIM):
			if aligned == nil || r.Domain == author {
				aligned = r
			}
		case r.Result == dmarc.ResultPass && other == nil:
			other = r
		case r.Result != dmarc.ResultPass && r.Result != dmarc.ResultNone && broken == nil:
			broken = r
		}
	}
	switch {
	case row.DKIM == dmarc.ResultPass && aligned != nil:
		if aligned.Domain == author {
			return say("DKIM passed: the signature of ", name(aligned.Domain), key(aligned), " is that of the author’s own domain.")
		}
		return say("DKIM passed: the signature of ", name(aligned.Domain), key(aligned), " is aligned with ", name(author), ".")
	case row.DKIM == dmarc.ResultPass:
		return "DKIM passed by the reporter, who lists no valid signature of an aligned domain."
	case row.DKIM == dmarc.ResultUnknown && len(row.AuthDKIM) == 0:
		return "The report does not say how DKIM fared."
	case aligned != nil:
		return say("DKIM does not count for the reporter, although a valid signature of ", name(aligned.Domain), key(aligned), " is listed.")
	case other != nil && a.Aligned(other.Domain, author, dmarc.AlignmentRelaxed):
		return say("DKIM: the signature of ", name(other.Domain), key(other), " is valid, but adkim=s asks for one of ", name(author), " itself.")
	case other != nil:
		return say("DKIM: the signature of ", name(other.Domain), key(other), " is valid, but of another organisation than ", name(author), ": not aligned.")
	case broken != nil:
		return say("DKIM failed: the signature of ", name(broken.Domain), key(broken), " is ", resultText(broken.Result, broken.Word), human(broken.Human), ".")
	}
	return "DKIM failed: no signature is reported."
}

// key names the selector of a signature.
func key(r *dmarc.DKIMResult) template.HTML {
	if r.Selector == "" {
		return ""
	}
	return say(" (key ", mono(r.Selector, 40), ")")
}

// human adds what a reporter says about a result.
func human(s string) template.HTML {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	return say(": ", quoted(s))
}

// resultText says a result of DKIM or SPF as a word.
func resultText(r dmarc.Result, word string) template.HTML {
	switch {
	case r == dmarc.ResultUnknown && word != "":
		return quoted(word)
	case r == dmarc.ResultUnknown:
		return "without a result"
	case r == dmarc.ResultFail:
		return "not valid"
	case r == dmarc.ResultTempError:
		return "not checked: DNS did not answer (temperror)"
	case r == dmarc.ResultPermError:
		return "not checked: the record cannot be used (permerror)"
	}
	return say(r.String())
}

// spfWords says how SPF fared.
func spfWords(row *dmarc.Row, policy *dmarc.PolicyPublished, author string, a *dmarc.Aligner) template.HTML {
	var aligned, other, broken *dmarc.SPFResult
	for i := range row.AuthSPF {
		r := &row.AuthSPF[i]
		switch {
		case r.Result == dmarc.ResultPass && a.Aligned(r.Domain, author, policy.ASPF):
			if aligned == nil || r.Domain == author {
				aligned = r
			}
		case r.Result == dmarc.ResultPass && other == nil:
			other = r
		case r.Result != dmarc.ResultPass && broken == nil:
			broken = r
		}
	}
	switch {
	case row.SPF == dmarc.ResultPass && aligned != nil:
		if aligned.Domain == author {
			return say("SPF passed for ", name(aligned.Domain), scopeText(aligned), ", the author’s own domain.")
		}
		return say("SPF passed for ", name(aligned.Domain), scopeText(aligned), ", which is aligned with ", name(author), ".")
	case row.SPF == dmarc.ResultPass:
		return "SPF passed by the reporter, who lists no passing result of an aligned domain."
	case row.SPF == dmarc.ResultUnknown && len(row.AuthSPF) == 0:
		return "The report does not say how SPF fared."
	case aligned != nil:
		return say("SPF does not count for the reporter, although it passed for ", name(aligned.Domain), scopeText(aligned), ".")
	case other != nil && a.Aligned(other.Domain, author, dmarc.AlignmentRelaxed):
		return say("SPF passed for ", name(other.Domain), scopeText(other), ", but aspf=s asks for ", name(author), " itself.")
	case other != nil:
		return say("SPF passed for ", name(other.Domain), scopeText(other), ", another organisation than ", name(author), ": not aligned.")
	case broken != nil && broken.Result == dmarc.ResultNone:
		return say("SPF failed: ", name(broken.Domain), " publishes no SPF record.")
	case broken != nil:
		return say("SPF failed for ", name(broken.Domain), scopeText(broken), " (", spfResult(broken), ")", human(broken.Human), ".")
	}
	return "SPF failed: no result is reported."
}

func spfResult(r *dmarc.SPFResult) template.HTML {
	if r.Result == dmarc.ResultUnknown {
		return resultText(r.Result, r.Word)
	}
	return say(r.Result.String())
}

func scopeText(r *dmarc.SPFResult) string {
	if r.Scope == "helo" {
		return " (by HELO)"
	}
	return ""
}

// reasonWords say why a receiver did otherwise than the policy asks (RFC 9990,
// and RFC 7489 for what it removed).
var reasonWords = map[string]string{
	"forwarded":         "it takes the message for forwarded",
	"trusted_forwarder": "it trusts who forwarded it",
	"mailing_list":      "it takes the message for one of a mailing list",
	"local_policy":      "a rule of its own decided",
	"sampled_out":       "pct left the message out",
	"policy_test_mode":  "t=y asks for testing only",
	"other":             "for another reason",
}

// didWords says what the receiver did, and why that is not what the policy asks.
func didWords(row *dmarc.Row, policy *dmarc.PolicyPublished) template.HTML {
	author := ""
	if row.HeaderFrom != policy.Domain {
		author = row.HeaderFrom
	}
	asked := dmarc.EffectivePolicy(policy, author)
	var did template.HTML
	switch row.Disposition {
	case dmarc.DispositionNone, dmarc.DispositionPass:
		did = "It was let through"
	case dmarc.DispositionQuarantine:
		did = "It was quarantined"
	case dmarc.DispositionReject:
		did = "It was rejected"
	default:
		if row.DispositionWord != "" {
			did = say("The disposition is ", quoted(row.DispositionWord))
		} else {
			did = "The report does not say what was done"
		}
	}
	acted := row.Disposition == dmarc.DispositionQuarantine || row.Disposition == dmarc.DispositionReject
	known := row.Disposition != dmarc.DispositionUnknown
	switch {
	case row.Passes() && acted:
		did += ", although it passed"
	case row.Passes() || !known || asked == dmarc.PolicyUnknown:
	case row.Disposition.String() == asked.String() && acted:
		did += say(", as the policy ", asked.String(), " asks")
	case asked == dmarc.PolicyNone && !acted:
		did += ": the policy none asks for nothing"
	default:
		did += say(", although the policy asks for ", asked.String())
	}
	for i, r := range row.Reasons {
		if i == 5 {
			break
		}
		sep := template.HTML("; ")
		if i == 0 {
			sep = ": "
		}
		word, ok := reasonWords[r.Type]
		if ok {
			did += sep + say(word)
		} else {
			did += sep + quoted(r.Type)
		}
		if strings.TrimSpace(r.Comment) != "" {
			did += say(" (", stranger(r.Comment, 200), ")")
		}
	}
	return did + "."
}

// oddWords says what is odd about a row.
func oddWords(row *dmarc.Row) []template.HTML {
	var all []template.HTML
	for _, d := range dmarc.DisagreementDocs {
		if d.Disagreement == row.Ours.Disagreement && d.Disagreement != dmarc.Agreed {
			all = append(all, say(sentence(d.Text)))
		}
	}
	if row.Ours.HELO {
		all = append(all, "SPF is aligned by the name in HELO alone, on which RFC 9989 does not rely.")
	}
	for f := row.Flags; f != 0; f &= f - 1 {
		all = append(all, say(sentence(dmarc.RowFlagDocs[bits.TrailingZeros16(uint16(f))].Text)))
	}
	return all
}
