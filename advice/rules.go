package advice

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An Effect is what a reason does to the verdict.
type Effect string

// A reason that blocks makes it not ready, one that waits not enough evidence.
// The others explain.
const (
	Blocks Effect = "blocks"
	Waits  Effect = "waits"
	Warns  Effect = "warns"
	Good   Effect = "good"
	Notes  Effect = "notes"
)

// A Reason is a finding about a domain, in words for its owner. IDs are stable.
type Reason struct {
	ID     string
	Effect Effect
	Text   string
}

// A rule looks at one thing. Rules do not know of each other.
type rule func(*judgement) []Reason

func one(id string, effect Effect, format string, args ...any) []Reason {
	return []Reason{{id, effect, fmt.Sprintf(format, args...)}}
}

// The rules for a domain that sends mail, in the order in which people read
// their reasons.
var sendingRules = []rule{
	ruleLookup, ruleRecord, ruleSilence, ruleSilentReporters, ruleStepBack, ruleLoss, ruleNewFailure, ruleStrict, ruleDays, ruleMessages, ruleReporters,
	ruleBound, ruleRhythm, ruleRecentChange, ruleOwnSafe, ruleRepaired, ruleChangeRight, ruleUnknown, ruleForwarders, ruleNoDKIM,
	ruleStopped, ruleReportsTo, ruleInherited, rulePct, ruleSubdomains,
}

// The rules for one from which nothing legitimate was seen.
var parkedRules = []rule{ruleLookup, ruleRecord, ruleNoReports, ruleSteadyFailing, ruleParked, ruleUnknown, ruleStopped, ruleSilentReporters, ruleReportsTo, ruleInherited, rulePct}

// What cannot be looked up is not judged.
func ruleLookup(j *judgement) []Reason {
	if !j.e.Published.Unknown {
		return nil
	}
	return one("lookup_failed", Waits, "Your DMARC record could not be looked up for now. We try again; nothing is judged until then.")
}

func ruleRecord(j *judgement) []Reason {
	if j.e.Published.Unknown || j.e.Published.Record != "" {
		return nil
	}
	return one("no_record", Waits, "%s has no DMARC record, so that nobody reports. Publish p=none first, and come back in %d days.", j.e.Domain, limits.daysQuarantine)
}

// Old evidence says nothing about today.
func ruleSilence(j *judgement) []Reason {
	silent := int(j.end.Sub(j.lastReport)/day) - 1
	if j.lastReport.IsZero() || silent < limits.silence {
		return nil
	}
	return one("old_evidence", Waits, "The last report is about %s. Find out why reports stopped: is rua still there, and does its mailbox take mail?", date(j.lastReport))
}

// ruleSilentReporters names those who reported nearly every day and have
// stopped, while others go on: what they see is missing from the evidence.
func ruleSilentReporters(j *judgement) []Reason {
	const (
		steady = 28 // days before the last, of which
		nearly = 20 // were reported about
		recent = 30 // days ago; later it is no news
	)
	var names []string
	var since int
	for id, heard := range j.heard {
		last := len(heard) - 1
		for last >= 0 && !heard[last] {
			last--
		}
		silent := len(heard) - 1 - last
		if last < nearly || silent <= limits.silence || silent > recent {
			continue
		}
		n := 0
		for _, h := range heard[max(0, last-steady+1) : last+1] {
			if h {
				n++
			}
		}
		if n >= nearly {
			names = append(names, cmp.Or(j.e.Reporters[id], "a reporter without a name"))
			since = max(since, last)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return one("reporter_silent", Warns, "%s sent reports for nearly every day, and for none since %s, while others go on: what is seen there is missing here. Does their mail still arrive?",
		list(names, 3), date(j.firstReport.AddDate(0, 0, since)))
}

// ruleStepBack tells when the policy in force stops the owner's mail.
func ruleStepBack(j *judgement) []Reason {
	recent := since(j.stopped, j.end.Add(-7*day))
	if j.change != nil && j.end.Sub(j.change.Day) < 7*day {
		recent = since(j.stopped, j.change.Day)
	}
	if recent.lost < 10 || recent.share() <= limits.stepBack || j.current.P <= dmarc.PolicyNone {
		return nil
	}
	return one("step_back", Blocks, "Step back: in the last week receivers stopped %s of your own mail (%s). Publish the weaker policy until the senders below are mended.",
		percent(recent.share()), messages(recent.lost))
}

// ruleLoss holds the policy against the mail of the owner's own senders.
func ruleLoss(j *judgement) []Reason {
	if j.own == 0 || j.bound.Share <= limits.loss {
		return nil
	}
	var own, service int
	for _, g := range j.groups {
		if g.open() > 0 {
			if g.class == dmarc.ClassOwn {
				own++
			} else {
				service++
			}
		}
	}
	return one("loss", Blocks, "%s would lose %s: %s of your own mail. Fix that first.", capital(senders(own, service)), aDay(j.perDay(j.lost)), percent(j.bound.Share))
}

func senders(own, service int) string {
	switch {
	case own > 0 && service > 0:
		return fmt.Sprintf("%s of your own and %s", plural(own, "sender"), plural(service, "service"))
	case service > 0:
		return plural(service, "service") + " of yours"
	}
	return plural(own, "sender") + " of your own"
}

// ruleNewFailure finds what an average over months hides.
func ruleNewFailure(j *judgement) []Reason {
	var out []Reason
	for _, g := range j.groups {
		begin, before, after := g.broke(j.end)
		if begin.IsZero() {
			continue
		}
		out = append(out, Reason{"new_failure", Blocks, fmt.Sprintf("%s has failed since %s: %s of %s did not pass; %s of its mail passed before.",
			g.name, date(begin), count(after.lost), messages(after.messages), percent(1-before.share()))})
	}
	return out
}

// broke finds the day, in the last four weeks, since which a group that was
// fine has mostly failed.
func (g *group) broke(end time.Time) (begin time.Time, before, after dayCount) {
	days := make([]time.Time, 0, len(g.days))
	for d := range g.days {
		days = append(days, d)
	}
	slices.SortFunc(days, time.Time.Compare)
	var total dayCount
	for _, n := range g.days {
		total.messages += n.messages
		total.lost += n.lost
	}
	var sum dayCount
	for _, d := range days {
		rest := dayCount{total.messages - sum.messages, total.lost - sum.lost}
		if end.Sub(d) <= 28*day && g.days[d].lost > 0 && sum.messages >= 50 && sum.share() <= 0.05 && rest.lost >= 20 && rest.share() >= 0.5 {
			return d, sum, rest
		}
		sum.messages += g.days[d].messages
		sum.lost += g.days[d].lost
	}
	return time.Time{}, dayCount{}, dayCount{}
}

func ruleStrict(j *judgement) []Reason {
	if j.strictlyLost == 0 || j.lost == 0 {
		return nil
	}
	return one("strict_alignment", Warns, "%s of what would be lost passes under relaxed alignment. Remove adkim=s and aspf=s, unless you need them.", messages(j.strictlyLost))
}

func (j *judgement) needDays() int {
	if j.target.P == dmarc.PolicyReject {
		return limits.daysReject
	}
	return limits.daysQuarantine
}

func ruleDays(j *judgement) []Reason {
	span, need := j.span(), j.needDays()
	switch {
	case span < need:
		return one("few_days", Waits, "Your mail has been seen over %s; %d are needed, so that senders that mail once a month can appear.", plural(span, "day"), need)
	case len(j.days) < limits.activeDays:
		return one("few_days", Waits, "Your mail has been seen on %s only; %d are needed.", plural(len(j.days), "day"), limits.activeDays)
	}
	return one("enough_days", Good, "Your mail has been seen over %s; %d are needed.", plural(span, "day"), need)
}

func ruleMessages(j *judgement) []Reason {
	if j.own < limits.messages {
		return one("few_messages", Waits, "Only %s of yours were reported; %s are needed.", messages(j.own), count(limits.messages))
	}
	return one("enough_messages", Good, "%s of yours were reported, %s.", messages(j.own), aDay(j.perDay(j.own)))
}

func ruleReporters(j *judgement) []Reason {
	if j.reporters < limits.reporters {
		return one("few_reporters", Waits, "Your mail was reported by %s; %d are needed.", plural(j.reporters, "receiver"), limits.reporters)
	}
	return one("enough_reporters", Good, "Your mail was reported by %s.", plural(j.reporters, "receiver"))
}

// ruleBound asks whether so few losses could be luck.
func ruleBound(j *judgement) []Reason {
	if j.own == 0 || j.bound.Share > limits.loss {
		return nil
	}
	aday := j.bound.Upper * j.perDay(j.own)
	if j.bound.Upper > limits.upper && aday > limits.lossADay {
		return one("uncertain", Waits, "%s of your mail failed, but so few days were seen that it may be up to %s (95 %% confidence). More days will tell.",
			percent(j.bound.Share), percent(j.bound.Upper))
	}
	return one("certain", Good, "With 95 %% confidence, no more than %s of your mail would be lost, and on no more than %s of days.", percent(j.bound.Upper), percent(j.bound.BadDays))
}

// ruleRhythm gives weekly and monthly senders the time to appear again.
func ruleRhythm(j *judgement) []Reason {
	var out []Reason
	for _, g := range j.groups {
		if g.messages*100 < j.own {
			continue // too little to wait for
		}
		gap, seen := g.rhythm()
		need, word := 0, ""
		switch {
		case gap >= 20:
			need, word = 2, "monthly"
			if j.target.P == dmarc.PolicyReject {
				need = 3
			}
		case gap >= 5:
			need, word = 3, "weekly"
		}
		if seen < need {
			out = append(out, Reason{"rhythm", Waits, fmt.Sprintf("%s mails about %s and was seen %s only; wait for the %s time.", g.name, word, times(seen), ordinal(need))})
		}
	}
	return out
}

// rhythm returns the usual number of days between mailings of a group, and how
// many there were. Days that follow each other are one mailing.
func (g *group) rhythm() (gap, mailings int) {
	days := make([]time.Time, 0, len(g.days))
	for d := range g.days {
		days = append(days, d)
	}
	slices.SortFunc(days, time.Time.Compare)
	var gaps []int
	for i, d := range days {
		if i == 0 {
			mailings++
			continue
		}
		if n := int(d.Sub(days[i-1]) / day); n > 2 {
			mailings++
			gaps = append(gaps, n)
		}
	}
	if len(gaps) == 0 || len(days) > 3*mailings {
		return 0, mailings
	}
	slices.Sort(gaps)
	return gaps[len(gaps)/2], mailings
}

// ruleRecentChange waits for the reports about the last change.
func ruleRecentChange(j *judgement) []Reason {
	if j.change == nil {
		return nil
	}
	ago := int(j.end.Sub(j.change.Day) / day)
	if ago < 0 || ago >= limits.settle || j.change.To < j.change.From {
		return nil
	}
	return one("recent_change", Waits, "The policy became %s on %s. Look at %d days of reports before the next step.", j.change.To, date(j.change.Day), limits.settle)
}

// ruleChangeRight says what came of the last change.
func ruleChangeRight(j *judgement) []Reason {
	if j.change == nil || j.change.To <= dmarc.PolicyNone || j.change.To < j.change.From || j.end.Sub(j.change.Day) < time.Duration(limits.settle)*day {
		return nil
	}
	after := since(j.stopped, j.change.Day)
	if after.messages == 0 || after.share() > limits.stepBack {
		return nil
	}
	return one("change_was_right", Good, "Moving to %s on %s was right: since then %s of %s of yours were stopped.", j.change.To, date(j.change.Day), count(after.lost), messages(after.messages))
}

func ruleOwnSafe(j *judgement) []Reason {
	if j.own == 0 || j.bound.Share > limits.loss {
		return nil
	}
	if j.lost == 0 {
		return one("nothing_lost", Good, "None of the %s from your own senders and services would be lost.", messages(j.own))
	}
	return one("little_lost", Good, "%s of your own mail passes; %s would be lost.", percent(1-j.bound.Share), aDay(j.perDay(j.lost)))
}

// ruleRepaired says why old losses do not count.
func ruleRepaired(j *judgement) []Reason {
	var out []Reason
	for _, g := range j.groups {
		if !g.repaired.IsZero() {
			out = append(out, Reason{"repaired", Good, fmt.Sprintf("%s failed until %s and has passed since; it is judged from then on.", g.name, date(g.repaired))})
		}
	}
	return out
}

// ruleUnknown names those that the owner should be asked about. It never
// changes the verdict: whoever forges mail must not be able to.
func ruleUnknown(j *judgement) []Reason {
	var n int64
	sources := 0
	for i, c := range j.sources {
		if c.Class == dmarc.ClassUnknown && c.Source.Source.IsValid() {
			n += j.sim.BySource[i].Affected()
			sources++
		}
	}
	if n == 0 {
		return nil
	}
	ask := AskFirst(j.sources, 1)
	return one("ask", Warns, "%s unknown, and only you can tell whose %s: %s would be lost. Begin with %s.",
		plural(sources, "sender")+pick(sources, " is", " are"), pick(sources, "it is", "they are"), messagesADay(j.perDay(n)), ask[0].Name)
}

func ruleForwarders(j *judgement) []Reason {
	l := j.sim.ByClass[dmarc.ClassForwarder]
	if l.Affected() == 0 {
		return nil
	}
	text := fmt.Sprintf("Forwarders and mailing lists would lose %s, which you cannot mend.", aDay(j.perDay(l.Affected())))
	if l.Spared > 0 {
		text += fmt.Sprintf(" Receivers made exceptions for %s more.", aDay(j.perDay(l.Spared)))
	}
	return []Reason{{"forwarded", Notes, text}}
}

// ruleNoDKIM warns of mail that does not survive forwarding (RFC 9989, section 7.4).
func ruleNoDKIM(j *judgement) []Reason {
	if j.target.P != dmarc.PolicyReject && j.target.P != dmarc.PolicyQuarantine || j.sim.ByClass[dmarc.ClassForwarder].Messages == 0 {
		return nil
	}
	var names []string
	for _, g := range j.spfOnly {
		if g.passing*200 >= j.own {
			names = append(names, g.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return one("no_dkim", Warns, "%s without DKIM: when that mail is forwarded, it is lost. Sign it before you publish.", list(names, 3)+pick(len(names), " sends", " send"))
}

func ruleStopped(j *judgement) []Reason {
	l := j.sim.ByClass[dmarc.ClassSuspicious]
	if l.Affected() == 0 {
		return nil
	}
	return one("stopped", Notes, "%s in your name would be stopped, from %s.", messagesADay(j.perDay(l.Affected())), plural(j.countClass(dmarc.ClassSuspicious), "suspicious sender"))
}

func (j *judgement) countClass(class dmarc.Class) int {
	n := 0
	for i := range j.sources {
		if j.sources[i].Class == class {
			n++
		}
	}
	return n
}

func ruleReportsTo(j *judgement) []Reason {
	if j.e.Published.Unknown || j.e.Published.Record == "" || j.e.Published.ReportsTo {
		return nil
	}
	return one("rua_missing", Warns, "Your record has no rua: nobody reports to you, and you will not see what a change does. Add it before you publish.")
}

func ruleInherited(j *judgement) []Reason {
	if at := j.e.Published.FoundAt; at != "" && at != j.e.Domain {
		return one("inherited", Notes, "%s has no record of its own; that of %s is in force. The record to publish is a new one, for %s alone.", j.e.Domain, at, j.e.Domain)
	}
	return nil
}

func rulePct(j *judgement) []Reason {
	for _, t := range split(j.e.Published.Record) {
		if strings.EqualFold(t.name, "pct") {
			return one("pct_removed", Notes, "Your record has pct=%s, which is no longer part of DMARC (RFC 9989, appendix A.6). The new record leaves it out.", t.value)
		}
	}
	return nil
}

// ruleSubdomains tells how the loss is spread over subdomains.
func ruleSubdomains(j *judgement) []Reason {
	bad := j.lossyAuthors()
	if len(bad) == 0 || j.authors[""].share() > limits.loss {
		return nil
	}
	return one("subdomains_fail", Notes, "What would be lost is sent as %s; mail as %s itself passes.", list(bad, 3), j.e.Domain)
}

// lossyAuthors returns the subdomains as which own mail would be lost, those
// that lose most first.
func (j *judgement) lossyAuthors() []string {
	var bad []string
	for author, n := range j.authors {
		if author != "" && n.share() > limits.loss {
			bad = append(bad, author)
		}
	}
	slices.SortFunc(bad, func(a, b string) int {
		return cmp.Or(cmp.Compare(j.authors[b].lost, j.authors[a].lost), cmp.Compare(a, b))
	})
	return bad
}

// Rules for a domain from which nothing legitimate was seen.

func ruleNoReports(j *judgement) []Reason {
	if j.reportDays > 0 {
		return nil
	}
	return one("no_reports", Waits, "No reports have come yet. The first come a day or two after rua is published.")
}

// ruleSteadyFailing keeps a domain whose owner never set up anything from being
// taken for one that sends nothing.
func ruleSteadyFailing(j *judgement) []Reason {
	var best *Classified
	for i := range j.sources {
		c := &j.sources[i]
		steady := c.Source.Source.IsValid() && c.Source.Source.IsSingleIP() && c.Summary.Days >= 10 && c.Summary.Reporters >= 3 && c.Class != dmarc.ClassForwarder &&
			c.Summary.Days*5 >= j.reportDays && c.Confidence != Sure
		if steady && (best == nil || c.Summary.Messages > best.Summary.Messages) {
			best = c
		}
	}
	if best == nil {
		return nil
	}
	return one("steady_failing", Waits, "%s has sent %s on %d days, and none of it passes. If it is yours, set up SPF and DKIM for it; if not, say that it is suspicious.",
		best.Name, messages(best.Summary.Messages), best.Summary.Days)
}

func ruleParked(j *judgement) []Reason {
	if j.reportDays == 0 {
		return nil
	}
	span := int(j.lastReport.Sub(j.firstReport)/day) + 1
	if span < limits.parked {
		return one("parked_wait", Waits, "No mail of yours was seen in %s of reports; after %d, reject is safe at once.", plural(span, "day"), limits.parked)
	}
	if j.current.P == dmarc.PolicyReject && !j.current.Testing {
		return one("parked", Good, "No mail of yours was seen in %s of reports. Publish \"v=spf1 -all\" as well, unless you do.", plural(span, "day"))
	}
	return one("parked", Good, "No mail of yours was seen in %s of reports: go to reject at once, and publish \"v=spf1 -all\" as well.", plural(span, "day"))
}
