// Package sample writes believable report mail: what reporters of many kinds
// send about a handful of domains, each with a story of its own. It is for the
// demo, for tests and for benchmarks, and comes with an IMAP server that offers
// the mail, and with the exact sums of what was written.
//
// All domains that send are fictional, and all addresses are of ranges set
// aside for documentation, benchmarks and carriers. Reporters that people know
// write as they do.
package sample

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Options say what to write. Equal options give equal mail.
type Options struct {
	Seed uint64
	// Now is when the last mail has come; the zero time is the present.
	Now time.Time
	// Days is how far back the mailbox goes; 0 means 90.
	Days int
	// Domains is how many domains the reports are about; 0 means 5. Beyond
	// five, the stories repeat under other names.
	Domains int
	// Scale multiplies the traffic; 0 means 1.
	Scale float64
}

func (o Options) withDefaults() Options {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	o.Now = o.Now.UTC().Truncate(time.Second)
	o.Days = cmp.Or(o.Days, 90)
	o.Domains = cmp.Or(o.Domains, 5)
	o.Scale = cmp.Or(o.Scale, 1)
	return o
}

// A Mail is one message of the mailbox.
type Mail struct {
	Received time.Time // when it came, UTC
	Raw      []byte
	// Expect is what should become of it. OutcomeOK stands for
	// OutcomeOKWithFlags as well, and for OutcomeNotKept of failure reports
	// where those are not kept.
	Expect dmarc.Outcome
}

// Mailbox yields the mail of a mailbox in the order of arrival. It can be
// ranged over again and again. If truth is not nil it holds, after the range,
// the sums of what was yielded.
func Mailbox(opts Options, truth *Truth) iter.Seq[Mail] {
	opts = opts.withDefaults()
	return func(yield func(Mail) bool) {
		t := truth
		if t == nil {
			t = new(Truth)
		}
		*t = Truth{}
		w := newWriter(opts, t)
		var waiting []delivery
		for day := w.scene.first; !day.After(opts.Now); day = day.Add(aDay) {
			waiting = append(waiting, w.deliveries(day)...)
			slices.SortStableFunc(waiting, func(a, b delivery) int { return a.at.Compare(b.at) })
			sent := 0
			for _, d := range waiting {
				if !d.at.Before(day.Add(aDay)) || d.at.After(opts.Now) {
					break
				}
				sent++
				m, ok := d.write()
				if !ok {
					continue
				}
				m.Received = d.at
				t.Mails.add(m.Expect)
				if !yield(m) {
					return
				}
			}
			waiting = append(waiting[:0], waiting[sent:]...)
		}
	}
}

// Fresh returns one more report, as a small site with short periods sends it:
// about one of the domains, in a period of at least a second that has just
// ended. Equal options and periods give equal mail. If truth is not nil the report is added to it.
func Fresh(opts Options, period dmarc.Period, truth *Truth) Mail {
	period = dmarc.Period{Begin: period.Begin.UTC().Truncate(time.Second), End: period.End.UTC().Truncate(time.Second)}
	opts.Now = period.End
	opts = opts.withDefaults()
	if truth == nil {
		truth = new(Truth)
	}
	w := newWriter(opts, truth)
	m := w.fresh(period)
	truth.Mails.add(m.Expect)
	return m
}

// A delivery is a mail that is going to be written when its time has come.
type delivery struct {
	at    time.Time
	write func() (Mail, bool) // false: there was nothing to report
}

const aDay = 24 * time.Hour
