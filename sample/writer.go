package sample

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A writer writes the mail of a scene and keeps the truth about it.
type writer struct {
	*packer
	opts    Options
	scene   *scene
	truth   *Truth
	aligner dmarc.Aligner
}

func newWriter(opts Options, truth *Truth) *writer {
	return &writer{packer: newPacker(), opts: opts, scene: newScene(opts), truth: truth}
}

// random returns a source of chance that depends on the seed and the words.
func (w *writer) random(words ...string) *rand.Rand {
	return rand.New(rand.NewPCG(seed(w.opts.Seed, words...), w.opts.Seed))
}

// deliveries returns what is mailed about the periods that end on a day, in
// no order.
func (w *writer) deliveries(day time.Time) []delivery {
	var ds []delivery
	for _, d := range w.scene.domains {
		for _, by := range reporters {
			for _, p := range by.periods(day) {
				if by.knows(d) && !p.Begin.Before(w.scene.first) && !w.silent(d, by, p) {
					ds = append(ds, w.reports(by, d, p)...)
				}
			}
		}
		ds = append(ds, w.tlsReports(d, day)...)
		ds = append(ds, w.failureReports(d, day)...)
	}
	return append(ds, w.oddMail(day)...)
}

// periods returns the periods of a reporter that end on a day.
func (by *reporter) periods(day time.Time) []dmarc.Period {
	every := by.every
	if every == 0 {
		every = aDay
	}
	var ps []dmarc.Period
	origin := time.Unix(0, 0).UTC().Add(by.zone)
	for end := day.Add((every - day.Sub(origin)%every) % every); end.Before(day.Add(aDay)); end = end.Add(every) {
		ps = append(ps, dmarc.Period{Begin: end.Add(-every), End: end})
	}
	return ps
}

// knows tells whether the domain's mail reaches the reporter at all.
func (by *reporter) knows(d *domain) bool {
	return by.about == nil || slices.Contains(by.about, d.story)
}

// silent tells whether a reporter says nothing about a period: because it has
// fallen silent about the domain, or by chance.
func (w *writer) silent(d *domain, by *reporter, p dmarc.Period) bool {
	since, ok := d.silent[by.OrgName]
	return ok && w.scene.age(p.Begin) < since || w.random("skip", by.OrgName, d.name, strconv.FormatInt(p.Begin.Unix(), 10)).IntN(100) == 0
}

// reports returns the delivery of a report, and those of its copies.
func (w *writer) reports(by *reporter, d *domain, p dmarc.Period) []delivery {
	r := w.newReport(by, d, p)
	luck := r.rnd.IntN(2000)
	if luck < 10 { // a queue that did not move
		r.at = r.at.Add(2 * aDay)
	}
	after := func(d time.Duration) time.Time { return r.at.Add(d + time.Duration(r.rnd.IntN(1800))*time.Second) }
	original := delivery{r.at, func() (Mail, bool) {
		w.see(r)
		return w.counted(r)
	}}
	switch {
	case luck < 10:
	case luck < 20: // the same mail once more
		return []delivery{original, {after(time.Hour), func() (Mail, bool) { return w.copied(r, time.Time{}) }}}
	case luck < 30: // the same report by way of the secondary server
		later := after(time.Minute)
		return []delivery{original, {later, func() (Mail, bool) { return w.copied(r, later) }}}
	case luck < 32: // a first version that lacks some rows, and then the whole
		later := after(40 * time.Minute)
		if later.After(w.opts.Now) {
			break
		}
		drafted := false
		return []delivery{
			{r.at, func() (Mail, bool) {
				w.see(r)
				if len(r.rows) < 4 {
					return w.counted(r)
				}
				drafted = true
				draft := *r
				draft.rows = r.rows[:len(r.rows)*3/4]
				return Mail{Raw: w.aggregate(&draft, time.Time{}), Expect: dmarc.OutcomeOK}, true
			}},
			{later, func() (Mail, bool) {
				if !drafted {
					return Mail{}, false
				}
				r.at = later
				m, ok := w.counted(r)
				m.Expect = dmarc.OutcomeConflict
				return m, ok
			}},
		}
	}
	return []delivery{original}
}

// counted writes a report, and counts it.
func (w *writer) counted(r *report) (Mail, bool) {
	if len(r.rows) == 0 {
		return Mail{}, false
	}
	w.truth.addReport(r)
	return Mail{Raw: w.aggregate(r, time.Time{}), Expect: dmarc.OutcomeOK}, true
}

// copied writes a report that was written before.
func (w *writer) copied(r *report, again time.Time) (Mail, bool) {
	return Mail{Raw: w.aggregate(r, again), Expect: dmarc.OutcomeDuplicate}, len(r.rows) > 0
}

// orchard is who sends fresh reports: a small site that reports at any time.
var orchard = func() *reporter {
	r := pebble()
	r.OrgName, r.Email, r.ExtraContact = "orchard.example", "postmaster@orchard.example", ""
	r.submitter, r.about, r.inclusive, r.delay = "orchard.example", nil, false, 1
	return r
}()

// freshMessages is about how many messages a fresh report is about.
const freshMessages = 25

// fresh writes a report about one of the domains.
func (w *writer) fresh(p dmarc.Period) Mail {
	rnd := w.random("fresh", strconv.FormatInt(p.Begin.Unix(), 10))
	d := w.scene.domains[rnd.IntN(len(w.scene.domains))]
	sum := 0.0
	for i := range d.senders {
		sum += d.senders[i].messages(w.scene, p)
	}
	by := *orchard
	by.share = freshMessages / sum
	r := w.newReport(&by, d, p)
	r.at = p.End
	for len(r.rows) == 0 {
		w.see(r)
	}
	m, _ := w.counted(r)
	m.Received = r.at
	return m
}
