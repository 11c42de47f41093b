package notify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Schedule says when digests are sent.
type Schedule struct {
	Weekly  bool
	Weekday time.Weekday   // of a weekly digest
	Hour    int            // of the day, in Zone
	Minute  int            //
	Zone    *time.Location // nil: UTC
}

// last returns the latest time at which a digest was due, not after now, and a
// name for it.
func (s *Schedule) last(now time.Time) (time.Time, string) {
	zone := s.Zone
	if zone == nil {
		zone = time.UTC
	}
	local := now.In(zone)
	for back := 0; ; back++ {
		// Days are counted by the calendar, since some are an hour shorter or
		// longer. A time that a day does not have is taken an hour later.
		day := time.Date(local.Year(), local.Month(), local.Day()-back, s.Hour, s.Minute, 0, 0, zone)
		if day.After(now) || s.Weekly && time.Date(local.Year(), local.Month(), local.Day()-back, 12, 0, 0, 0, time.UTC).Weekday() != s.Weekday {
			continue
		}
		kind := "daily"
		if s.Weekly {
			kind = "weekly"
		}
		return day, kind + " " + time.Date(local.Year(), local.Month(), local.Day()-back, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
	}
}

// A DigestStore answers what a digest tells.
type DigestStore interface {
	Domains(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error)
	EventsIn(ctx context.Context, begin, end time.Time, scope dmarc.Scope) ([]dmarc.Event, error)
	Posted(ctx context.Context, key string) (bool, error)
	Post(ctx context.Context, lease dmarc.Lease, messages []dmarc.OutgoingMessage) error
	GroupDomains(ctx context.Context, groups []string) ([]string, error)
}

// A Digester sends a digest by mail now and then.
type Digester struct {
	Store    DigestStore
	Schedule Schedule
	Target   string // name of the target in the outbox
	Mail     *Mail
	Domains  []string // with their subdomains, or dmarc.OfGroup; none: all
	OnlyNews bool     // none is sent if there is nothing to say
	Link     string
	Now      func() time.Time // nil: time.Now

	seen string // the digest that was seen to last
}

func (d *Digester) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// Due returns when the last digest was due.
func (d *Digester) Due() time.Time {
	due, _ := d.Schedule.last(d.now())
	return due
}

// Pass posts the digest that was due last, unless that was done. Those before it
// are not made up for.
func (d *Digester) Pass(ctx context.Context, lease dmarc.Lease) error {
	due, name := d.Schedule.last(d.now())
	key := "digest-" + strings.ReplaceAll(name, " ", "-")
	if d.seen == key {
		return nil
	}
	known, err := d.Store.Posted(ctx, key)
	if err != nil {
		return err
	}
	if !known {
		digest, err := d.Gather(ctx, due)
		if err != nil {
			return err
		}
		if !d.OnlyNews || digest.news() {
			m := dmarc.OutgoingMessage{Key: key, Target: d.Target, Kind: KindDigest, At: due}
			if m.Body, err = digest.Mail(d.Mail, key, due); err != nil {
				return err
			}
			if err := d.Store.Post(ctx, lease, []dmarc.OutgoingMessage{m}); err != nil {
				return err
			}
		}
	}
	d.seen = key
	return nil
}

// A Digest is what happened in a time, for people who read it in their mail.
type Digest struct {
	Title    string
	Sentence string // the answer
	Link     string
	Events   []dmarc.Event // at most some
	More     string        // what happened besides, counted
	Needs    []Need        // domains that deserve attention
	MoreNeed int
	Domains  []DigestDomain // the busiest
	MoreDoms string
	Total    dmarc.Tally
	Charts   []Chart
	Note     string
}

// A Need is why a domain deserves attention.
type Need struct{ Domain, Sentence, Link string }

// A DigestDomain is a line of the table of domains.
type DigestDomain struct {
	Domain, Link                      string
	Messages, Change, Passed, Stopped string
	Own                               string // share of the owner's mail that passes; "" if it is not known
}

// A Chart is a picture, and the same in words.
type Chart struct {
	Title, First, Last string // days
	Words              string // for those who do not see it
	PNG                []byte
}

// How much of a digest is named; the rest is counted.
const (
	digestEvents  = 20
	digestNeeds   = 10
	digestDomains = 15
	digestCharts  = 3 // of domains, besides the one of all
)

// news tells whether something happened, or a domain deserves attention.
func (d *Digest) news() bool { return len(d.Events) > 0 || len(d.Needs) > 0 }

// Gather collects a digest as it is due at a time.
func (d *Digester) Gather(ctx context.Context, due time.Time) (*Digest, error) {
	scope := dmarc.Everything
	if len(d.Domains) > 0 {
		domains, err := withGroups(ctx, d.Store, d.Domains)
		if err != nil {
			return nil, err
		}
		scope = dmarc.ScopeOf(domains...)
	}
	back, since, period := 30, due.AddDate(0, 0, -1), "the last day"
	if d.Schedule.Weekly {
		back, since, period = 90, due.AddDate(0, 0, -7), "the last week"
	}
	today := due.UTC().Truncate(24 * time.Hour)
	week := dmarc.Period{Begin: today.AddDate(0, 0, -7), End: today}
	before := dmarc.Period{Begin: today.AddDate(0, 0, -14), End: today.AddDate(0, 0, -7)}
	trend := dmarc.Period{Begin: today.AddDate(0, 0, -back), End: today}

	out := &Digest{Link: d.Link}
	events, err := d.Store.EventsIn(ctx, since, due, scope)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(events, func(a, b dmarc.Event) int { return boolCompare(b.Problem, a.Problem) })
	out.Events = events[:min(len(events), digestEvents)]
	if rest := events[len(out.Events):]; len(rest) > 0 {
		out.More = fmt.Sprintf("And %s more: %s.", grouped(int64(len(rest))), tally(rest))
	}

	all := make([]volumeDay, back)
	domains, charts := 0, []Chart{}
	var restDomains int
	var restMessages int64
	q := dmarc.DomainQuery{Period: week, Trend: trend, Scope: scope, Page: dmarc.Page{Limit: 200}}
	for {
		list, next, err := d.Store.Domains(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range list {
			t := &list[i]
			domains++
			out.Total.Merge(t.Tally)
			own := make([]volumeDay, back)
			var last dmarc.Tally
			for _, day := range t.Days {
				at := int(day.Day.Sub(trend.Begin) / (24 * time.Hour))
				if at < 0 || at >= back {
					continue
				}
				v := volumeOf(day.Tally)
				v.estimated = day.Estimated
				own[at] = v
				addVolume(&all[at], v)
				if !day.Day.Before(before.Begin) && day.Day.Before(before.End) {
					last.Merge(day.Tally)
				}
			}
			if need, ok := needOf(t, d.Link); ok {
				if len(out.Needs) < digestNeeds {
					out.Needs = append(out.Needs, need)
				} else {
					out.MoreNeed++
				}
			}
			switch {
			case t.Tally.Messages == 0:
			case len(out.Domains) < digestDomains:
				out.Domains = append(out.Domains, domainLine(t, last, d.Link))
				if len(charts) < digestCharts {
					charts = append(charts, chartOf(t.Domain, trend, own))
				}
			default:
				restDomains++
				restMessages += t.Tally.Messages
			}
		}
		if next == "" {
			break
		}
		q.After = next
	}
	if restDomains > 0 {
		out.MoreDoms = fmt.Sprintf("And %s, %s.", counted(restDomains, "more domain", "more domains"), messages(restMessages))
	}
	if len(out.Domains) > 1 {
		charts = append([]Chart{chartOf("All domains", trend, all)}, charts...)
	}
	out.Charts = charts
	what := "Day"
	if d.Schedule.Weekly {
		what = "Week"
	}
	zone := d.Schedule.Zone
	if zone == nil {
		zone = time.UTC
	}
	out.Title = fmt.Sprintf("DMARC: the %s up to %s", strings.ToLower(what), due.In(zone).Format("Monday, 2 January 2006"))
	out.Sentence = sentenceOf(out, len(events), domains, period)
	out.Note = fmt.Sprintf("Numbers are of the seven days from %s to %s in UTC, compared with the seven before. Reports come a day or two late, so the last days will grow.",
		day(week.Begin), day(week.End.AddDate(0, 0, -1)))
	return out, nil
}

func addVolume(sum *volumeDay, v volumeDay) {
	sum.reported = sum.reported || v.reported
	sum.estimated = sum.estimated || v.estimated
	sum.passed += v.passed
	sum.failed += v.failed
	sum.stopped += v.stopped
}

// sentenceOf says in a sentence or two how things are.
func sentenceOf(d *Digest, events, domains int, period string) string {
	var parts []string
	needs := len(d.Needs) + d.MoreNeed
	switch {
	case domains == 0:
		return "No reports have come yet. Publish a DMARC record with rua=mailto: and an address that dmarcd reads."
	case needs > 0:
		parts = append(parts, fmt.Sprintf("%s of %s %s you.", grouped(int64(needs)), counted(domains, "domain", "domains"), verb(needs, "needs", "need")))
	default:
		parts = append(parts, "No domain needs you.")
	}
	if events > 0 {
		parts = append(parts, fmt.Sprintf("%s in %s.", upper(counted(events, "thing happened", "things happened")), period))
	}
	if d.Total.Messages > 0 {
		parts = append(parts, fmt.Sprintf("%s passed, of %s.", percent(d.Total.DMARCPass, d.Total.Messages), messages(d.Total.Messages)))
	}
	return strings.Join(parts, " ")
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// needOf says what a domain needs, if it does.
func needOf(t *dmarc.DomainTraffic, link string) (Need, bool) {
	v := t.Verdict
	if v == nil || v.Attention == 0 || v.Attention > dmarc.AttentionAsk || v.Sentence == "" {
		return Need{}, false
	}
	return Need{t.Domain, line(v.Sentence), linkTo(link, &dmarc.Event{Domain: t.Domain})}, true
}

func domainLine(t *dmarc.DomainTraffic, before dmarc.Tally, link string) DigestDomain {
	v := volumeOf(t.Tally)
	out := DigestDomain{
		Domain: t.Domain, Link: linkTo(link, &dmarc.Event{Domain: t.Domain}), Messages: grouped(t.Tally.Messages),
		Passed: percent(t.Tally.DMARCPass, t.Tally.Messages), Stopped: grouped(v.stopped), Change: change(before.Messages, t.Tally.Messages),
	}
	if t.Verdict != nil && t.Verdict.Own > 0 {
		out.Own = percent(t.Verdict.Passing, t.Verdict.Own)
	}
	return out
}

// change says how a number has changed.
func change(before, now int64) string {
	switch {
	case before == now:
		return "as before"
	case before == 0:
		return "new"
	case now > 10*before:
		return "×" + grouped(now/before)
	}
	percent := float64(now-before) / float64(before) * 100
	if percent > -0.5 && percent < 0.5 {
		return "about as before"
	}
	return fmt.Sprintf("%+.0f %%", percent)
}

func chartOf(title string, period dmarc.Period, days []volumeDay) Chart {
	var sum volumeDay
	var most int64
	var peak, reported int
	for i, d := range days {
		addVolume(&sum, d)
		if d.reported {
			reported++
		}
		if d.total() > most {
			most, peak = d.total(), i
		}
	}
	words := fmt.Sprintf("%s from %s to %s: %s passed, %s failed and were let through, %s were stopped.", title, day(period.Begin), day(period.End.AddDate(0, 0, -1)),
		grouped(sum.passed), grouped(sum.failed), grouped(sum.stopped))
	if most > 0 {
		words += fmt.Sprintf(" Most came on %s: %s.", day(period.Begin.AddDate(0, 0, peak)), grouped(most))
	}
	if reported < len(days) {
		words += fmt.Sprintf(" No report came for %s.", counted(len(days)-reported, "day", "days"))
	}
	return Chart{Title: title, First: day(period.Begin), Last: day(period.End.AddDate(0, 0, -1)), Words: words, PNG: drawVolume(days)}
}
