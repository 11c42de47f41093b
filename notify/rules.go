package notify

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// What rules take for granted. A domain is known once its reports go back for
// some weeks: before that every source is new.
const (
	knownDays    = 14
	newDays      = 7
	quietDays    = 97
	fewMessages  = 10
	regularDays  = 14  // of 28, with reports, of a reporter that is missed when it stops
	goodRate     = 0.9 // of a source that passes as a rule
	resumedAfter = 2   // days: a report about a day so recent is a sign of life
	staleHealth  = 24 * time.Hour
)

// judgeSources tells of sources that sent much and were never seen before. A
// source that has been told of stays known as long as it is seen now and then.
func (s *Settings) judgeSources(d *dmarc.Developments, today time.Time, open []dmarc.Episode) []sighting {
	if !s.wants(dmarc.RuleNewSource, d.Domain) {
		return nil
	}
	var out []sighting
	since := today.AddDate(0, 0, -newDays)
	for i := range d.Sources {
		src := &d.Sources[i]
		if src.Week.Messages < s.NewSourceMessages || src.First.Before(since) || src.First.Before(d.First.AddDate(0, 0, knownDays)) {
			continue
		}
		out = append(out, newSource(d.Domain, src))
	}
	for _, e := range open {
		if e.Rule == dmarc.RuleNewSource && today.Sub(e.Began) > quietDays*24*time.Hour {
			out = append(out, sighting{key: key{e.Rule, e.Domain, e.Subject}, state: gone})
		}
	}
	return out
}

func newSource(domain string, src *dmarc.SourceDevelopment) sighting {
	address := src.Source.String()
	out := sighting{key: key{dmarc.RuleNewSource, domain, address}, state: bad}
	share := percent(src.Week.Passed, src.Week.Messages)
	switch {
	case src.Class == dmarc.ClassSuspicious, src.Class == dmarc.ClassUnknown && src.Week.Rate() == 0:
		out.title = fmt.Sprintf("%s: a new sender whose mail fails", domain)
		out.text = fmt.Sprintf("%s has sent %s as %s since %s, and none of it passed DMARC. If it is yours, let it sign with DKIM as the domain; if not, a stricter policy stops it.",
			address, messages(src.Week.Messages), domain, day(src.First))
		if src.Week.Passed > 0 {
			out.text = fmt.Sprintf("%s has sent %s as %s since %s; %s of it passed DMARC. Nothing speaks for it. If it is yours, let it sign with DKIM as the domain.",
				address, messages(src.Week.Messages), domain, day(src.First), share)
		}
	default:
		out.title = fmt.Sprintf("%s: a new sender", domain)
		out.text = fmt.Sprintf("%s has sent %s as %s since %s; %s of it passed DMARC. Look whether it is yours.",
			address, messages(src.Week.Messages), domain, day(src.First), share)
	}
	return out
}

// own returns what the domain's own sources did lately and before: those that
// are classed as own or as a service, or, while none is classed, those whose mail
// passed as a rule.
func own(d *dmarc.Developments) (recent, before dmarc.Passing) {
	classed := slices.ContainsFunc(d.Sources, func(s dmarc.SourceDevelopment) bool { return s.Class != dmarc.ClassUnknown })
	for i := range d.Sources {
		src := &d.Sources[i]
		switch {
		case classed && src.Class != dmarc.ClassOwn && src.Class != dmarc.ClassService,
			!classed && (src.Before.Messages < fewMessages || src.Before.Rate() < goodRate):
			continue
		}
		recent.Add(src.Recent)
		before.Add(src.Before)
	}
	return recent, before
}

// judgePassRate tells when less of the domain's own mail passes than before. The
// rate of before is remembered, since it would come down to the new one with time.
func (s *Settings) judgePassRate(d *dmarc.Developments, open map[key]dmarc.Episode) []sighting {
	if !s.wants(dmarc.RulePassRate, d.Domain) {
		return nil
	}
	out := sighting{key: key{dmarc.RulePassRate, d.Domain, ""}, problem: true}
	recent, before := own(d)
	if e, isOpen := open[out.key]; isOpen {
		usual, err := strconv.ParseFloat(e.Memory["usual"], 64)
		switch {
		case err != nil:
			out.state = gone
		case recent.Messages < s.PassRateMessages:
			return nil
		case recent.Rate() >= usual-s.PassRateDrop/2:
			out.state = fine
			out.title = d.Domain + ": your own mail passes again"
			out.text = fmt.Sprintf("%s of the mail of your own senders passed DMARC in the last %d days (%s). It had fallen on %s; %s were usual before.",
				percent(recent.Passed, recent.Messages), 3, messages(recent.Messages), day(e.Began), rate(usual))
		}
		return []sighting{out}
	}
	if recent.Messages < s.PassRateMessages || before.Messages < s.PassRateMessages || recent.Rate() > before.Rate()-s.PassRateDrop {
		return nil
	}
	out.state = bad
	out.memory = map[string]string{"usual": strconv.FormatFloat(before.Rate(), 'f', 6, 64)}
	out.title = d.Domain + ": less of your own mail passes"
	out.text = fmt.Sprintf("%s of the mail of your own senders passed DMARC in the last %d days; it was %s in the four weeks before. %s failed, of %s.",
		percent(recent.Passed, recent.Messages), 3, percent(before.Passed, before.Messages), upper(messages(recent.Messages-recent.Passed)), grouped(recent.Messages))
	if worst := worstSource(d); worst != nil {
		out.text += fmt.Sprintf(" Most of it came from %s (%s failed). Look at its DKIM key and at SPF.", worst.Source, messages(worst.Recent.Messages-worst.Recent.Passed))
	}
	return []sighting{out}
}

// worstSource returns the own source that most failing mail came from lately.
func worstSource(d *dmarc.Developments) *dmarc.SourceDevelopment {
	var worst *dmarc.SourceDevelopment
	for i := range d.Sources {
		src := &d.Sources[i]
		known := src.Class == dmarc.ClassOwn || src.Class == dmarc.ClassService || src.Class == dmarc.ClassUnknown && src.Before.Rate() >= goodRate
		failed := src.Recent.Messages - src.Recent.Passed
		if known && failed > 0 && (worst == nil || failed > worst.Recent.Messages-worst.Recent.Passed) {
			worst = src
		}
	}
	return worst
}

// judgeReporters tells when a reporter that reported regularly does so no more,
// while others go on: if none does, it is the mailbox or the mail that is missing.
func (s *Settings) judgeReporters(d *dmarc.Developments, today time.Time, open map[key]dmarc.Episode) []sighting {
	if !s.wants(dmarc.RuleReporterStopped, d.Domain) {
		return nil
	}
	var out []sighting
	after := int(s.ReporterStoppedAfter / (24 * time.Hour))
	for i := range d.Reporters {
		r := &d.Reporters[i]
		seen := sighting{key: key{dmarc.RuleReporterStopped, d.Domain, r.Name}}
		silent := int(today.Sub(r.Last) / (24 * time.Hour))
		e, isOpen := open[seen.key]
		others := slices.ContainsFunc(d.Reporters, func(o dmarc.ReporterDevelopment) bool {
			return o.Name != r.Name && int(today.Sub(o.Last)/(24*time.Hour)) <= resumedAfter+1
		})
		switch {
		case isOpen && r.Last.Format(time.DateOnly) > e.Memory["last"] && silent <= max(resumedAfter, after/2):
			seen.state = fine
			seen.title = fmt.Sprintf("%s: %s reports again", d.Domain, r.Name)
			seen.text = fmt.Sprintf("%s sends reports about %s again. After %s there were none until %s.", r.Name, d.Domain, e.Memory["last"], day(today))
		case !isOpen && silent >= after && r.Days >= regularDays && others:
			seen.state = bad
			seen.memory = map[string]string{"last": r.Last.Format(time.DateOnly)}
			seen.title = fmt.Sprintf("%s: %s has stopped reporting", d.Domain, r.Name)
			seen.text = fmt.Sprintf("%s has sent no report about %s for %s; the last one was about %s. Others still report. Look whether its mail is refused, or whether you still send mail there.",
				r.Name, d.Domain, days(silent), day(r.Last))
		default:
			continue
		}
		out = append(out, seen)
	}
	return out
}

// judgeLook tells of records that broke, and of SPF that needs nearly as many
// lookups as it may.
func (s *Settings) judgeLook(l *dmarc.LookDevelopment, open map[key]dmarc.Episode) []sighting {
	var out []sighting
	if s.wants(dmarc.RuleRecordBroke, l.Domain) {
		found := make(map[key]bool)
		for _, f := range l.Errors {
			k := key{dmarc.RuleRecordBroke, l.Domain, f.Check + " " + f.Subject}
			found[k] = true
			out = append(out, sighting{key: k, state: bad, problem: true, title: l.Domain + ": a record is broken", text: sentence(f.What) + optional(" ", sentence(f.Fix)),
				memory: map[string]string{"what": f.What}})
		}
		// What could not be looked up is not mended.
		if !l.Failed {
			for k, e := range open {
				if k.rule == dmarc.RuleRecordBroke && k.domain == l.Domain && !found[k] {
					out = append(out, sighting{key: k, state: fine, title: l.Domain + ": a record is mended", text: "No more true: " + sentence(cmp.Or(e.Memory["what"], e.Subject))})
				}
			}
		}
	}
	if s.wants(dmarc.RuleSPFLimit, l.Domain) && l.Lookups >= 0 {
		seen := sighting{key: key{dmarc.RuleSPFLimit, l.Domain, ""}, problem: true}
		switch {
		case l.Lookups >= s.SPFLookups:
			seen.state = bad
			seen.title = l.Domain + ": SPF is near its limit"
			seen.text = fmt.Sprintf("SPF of %s needs %d of 10 lookups. With more than 10 it fails for every receiver. Remove an include that nothing uses.", l.Domain, l.Lookups)
			if l.Lookups > 10 {
				seen.title = l.Domain + ": SPF is over its limit"
				seen.text = fmt.Sprintf("SPF of %s needs %d lookups, and may need 10: it fails for every receiver. Remove an include that nothing uses.", l.Domain, l.Lookups)
			}
		case l.Lookups < s.SPFLookups-1:
			seen.state = fine
			seen.title = l.Domain + ": SPF has room again"
			seen.text = fmt.Sprintf("SPF of %s needs %d of 10 lookups.", l.Domain, l.Lookups)
		}
		out = append(out, seen)
	}
	return out
}

// mailboxes tells of mailboxes that cannot be read for some time.
func (n *Notifier) mailboxes(ctx context.Context, now time.Time, open map[key]dmarc.Episode) ([]sighting, error) {
	if !n.Settings.On[dmarc.RuleMailbox] {
		return nil, nil
	}
	list, err := n.Store.MailboxHealth(ctx)
	if err != nil {
		return nil, err
	}
	var out []sighting
	for i := range list {
		out = append(out, n.Settings.judgeMailbox(&list[i], now, open))
	}
	return out, nil
}

func (s *Settings) judgeMailbox(h *dmarc.MailboxHealth, now time.Time, open map[key]dmarc.Episode) sighting {
	out := sighting{key: key{dmarc.RuleMailbox, "", h.Mailbox}, problem: true}
	e := open[out.key]
	switch {
	case now.Sub(h.Seen) > staleHealth:
		out.state = gone // nobody reads it any more
	case h.Failing.IsZero():
		out.state = fine
		out.title = fmt.Sprintf("Mailbox %s can be read again", h.Mailbox)
		out.text = fmt.Sprintf("The mailbox %s is read again. It could not be since %s. Nothing is lost: what came meanwhile is read now.", h.Mailbox, cmp.Or(e.Memory["since"], minute(e.Began)))
	case now.Sub(h.Failing) >= s.MailboxAfter:
		out.state = bad
		out.title = fmt.Sprintf("Mailbox %s cannot be read", h.Mailbox)
		out.text = fmt.Sprintf("The mailbox %s has not been read since %s: %s New reports are not counted until it is mended; nothing is lost.", h.Mailbox, minute(h.Failing), sentence(h.Error))
		out.memory = map[string]string{"since": minute(h.Failing)}
	}
	return out
}

// refused tells when many messages could not be read in a day.
func (n *Notifier) refused(ctx context.Context, now time.Time, _ map[key]dmarc.Episode) ([]sighting, error) {
	if !n.Settings.On[dmarc.RuleRefused] {
		return nil, nil
	}
	counts, err := n.Store.Refused(ctx, now.Add(-24*time.Hour))
	if err != nil {
		return nil, err
	}
	return []sighting{n.Settings.judgeRefused(counts)}, nil
}

func (s *Settings) judgeRefused(counts map[dmarc.Outcome]int64) sighting {
	out := sighting{key: key{dmarc.RuleRefused, "", ""}, problem: true}
	var total int64
	for _, n := range counts {
		total += n
	}
	switch {
	case total >= s.RefusedMessages:
		out.state = bad
		out.title = fmt.Sprintf("%s refused in a day", upper(messages(total)))
		outcomes := slices.SortedFunc(maps.Keys(counts), func(a, b dmarc.Outcome) int {
			return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(string(a), string(b)))
		})
		var parts []string
		for _, o := range outcomes {
			parts = append(parts, fmt.Sprintf("%s %s", o, grouped(counts[o])))
		}
		out.text = fmt.Sprintf("%s taken in during the last 24 hours could not be used: %s. Each has its reason in the list of messages.", upper(messages(total)), strings.Join(parts, ", "))
	case total*2 <= s.RefusedMessages:
		out.state = fine
		out.title = "Messages are read again"
		out.text = fmt.Sprintf("%s refused in the last 24 hours.", upper(messages(total)))
	}
	return out
}
