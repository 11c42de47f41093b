package web

import (
	"cmp"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// How mail authenticates, and what receivers did with it: two of the three
// stages that it passes in the picture of its flow. The first is its kind.
var (
	authNames = [...]string{"DKIM and SPF", "DKIM only", "SPF only", "neither aligned"}
	fateNames = [...]string{"let through", "quarantined", "rejected", "not said"}
)

const (
	numKinds       = dmarc.NumClasses
	authNeither    = len(authNames) - 1
	fateQuarantine = 1
	fateReject     = 2
)

// A mix is messages by the place of their class in kinds, by how they
// authenticate, and by what receivers did with them.
type mix [numKinds][len(authNames)][len(fateNames)]int64

func (m *mix) add(o *mix) {
	for k := range m {
		for a := range m[k] {
			for f := range m[k][a] {
				m[k][a][f] += o[k][a][f]
			}
		}
	}
}

// total returns all messages of a mix.
func (m *mix) total() (n int64) {
	for k := range m {
		n += m.ofKind(k)
	}
	return n
}

func (m *mix) ofKind(kind int) (n int64) {
	for a := range m[kind] {
		for _, messages := range m[kind][a] {
			n += messages
		}
	}
	return n
}

// yours returns how much mail of the owner passed, and how much there is.
func (m *mix) yours() (passed, all int64) {
	for k, kind := range kinds {
		if !isYours(kind.Class) {
			continue
		}
		all += m.ofKind(k)
		for a := range authNeither {
			for _, n := range m[k][a] {
				passed += n
			}
		}
	}
	return passed, all
}

// isYours tells whether mail of a class is the owner's, to be mended if it fails.
func isYours(c dmarc.Class) bool { return c == dmarc.ClassOwn || c == dmarc.ClassService }

// authOf tells how messages authenticated. What is aligned too loosely for the
// domain's own mode did not pass by the reporter's verdict, which stands.
func authOf(p dmarc.Pattern) int {
	dkim, spf := p.DKIM != dmarc.NotAligned, p.SPF != dmarc.NotAligned
	switch {
	case !p.Passes():
		return authNeither
	case dkim && spf:
		return 0
	case dkim:
		return 1
	case spf:
		return 2
	}
	return authNeither
}

func fateOf(d dmarc.Disposition) int {
	switch d {
	case dmarc.DispositionNone, dmarc.DispositionPass:
		return 0
	case dmarc.DispositionQuarantine:
		return fateQuarantine
	case dmarc.DispositionReject:
		return fateReject
	}
	return len(fateNames) - 1
}

// The bands of the chart of volume, from its bottom to its top.
var bandNames = []bandName{
	{"own", "own", true}, {"service", "services", true}, {"fix", "yours, failing", false}, {"lost", "yours, lost", false},
	{"forwarder", "forwarders", false}, {"unknown", "unknown", false}, {"let", "suspicious", false}, {"stopped", "stopped", false},
}

const (
	bandFix     = 2
	bandLost    = 3
	bandLet     = 6
	bandStopped = 7
)

// bands sorts a mix into the bands of the chart.
func (m *mix) bands() []int64 {
	out := make([]int64, len(bandNames))
	for k, kind := range kinds {
		for a := range m[k] {
			for f, n := range m[k][a] {
				out[bandOf(kind.Class, a, f)] += n
			}
		}
	}
	return out
}

func bandOf(c dmarc.Class, auth, fate int) int {
	held := fate == fateQuarantine || fate == fateReject
	switch {
	case isYours(c) && auth == authNeither && held:
		return bandLost
	case isYours(c) && auth == authNeither:
		return bandFix
	case c == dmarc.ClassOwn:
		return 0
	case c == dmarc.ClassService:
		return 1
	case c == dmarc.ClassForwarder:
		return 4
	case c == dmarc.ClassUnknown:
		return 5
	case held:
		return bandStopped
	}
	return bandLet
}

// mixDays sorts the mail of a period by day.
func mixDays(all []advice.Classified, p dmarc.Period) map[time.Time]*mix {
	inOrder := make([]*mix, max(0, p.End.Sub(p.Begin)/aDay))
	for i := range all {
		k := kindOf(all[i].Class)
		for d := range all[i].Days() {
			if d.Day.Before(p.Begin) || !d.Day.Before(p.End) {
				continue
			}
			m := &inOrder[d.Day.Sub(p.Begin)/aDay]
			if *m == nil {
				*m = new(mix)
			}
			for cell, messages := range d.Cells() {
				(*m)[k][authOf(cell.Pattern)][fateOf(cell.Pattern.Disposition)] += messages
			}
		}
	}
	days := make(map[time.Time]*mix)
	for i, m := range inOrder {
		if m != nil {
			days[p.Begin.AddDate(0, 0, i)] = m
		}
	}
	return days
}

// settle adds to the mix of a day what reports count beyond it, as of an
// unknown sender: facts are gathered a little later than reports are counted. So
// a day has as many messages as everywhere else.
func (m *mix) settle(counted dmarc.Tally) (unsorted int64) {
	var sorted dmarc.Tally
	for k := range m {
		for a := range m[k] {
			for f, n := range m[k][a] {
				sorted.Messages += n
				if a == 0 || a == 1 {
					sorted.DKIMAligned += n
				}
				if a == 0 || a == 2 {
					sorted.SPFAligned += n
				}
				if a != authNeither {
					sorted.DMARCPass += n
				}
				switch f {
				case fateQuarantine:
					sorted.Quarantine += n
				case fateReject:
					sorted.Reject += n
				}
			}
		}
	}
	unsorted = counted.Messages - sorted.Messages
	if unsorted <= 0 {
		return 0
	}
	rest := dmarc.Tally{Messages: unsorted}
	rest.DMARCPass = min(unsorted, max(0, counted.DMARCPass-sorted.DMARCPass))
	rest.DKIMAligned = min(rest.DMARCPass, max(0, counted.DKIMAligned-sorted.DKIMAligned))
	rest.SPFAligned = min(rest.DMARCPass, max(rest.DMARCPass-rest.DKIMAligned, counted.SPFAligned-sorted.SPFAligned))
	rest.Quarantine = max(0, counted.Quarantine-sorted.Quarantine)
	rest.Reject = max(0, counted.Reject-sorted.Reject)
	u := &m[kindOf(dmarc.ClassUnknown)]
	c := classify(rest)
	for a := range authNeither {
		u[a][0] += c[a]
	}
	quarantined := min(rest.Quarantine, c[4])
	u[authNeither][0] += c[3]
	u[authNeither][fateQuarantine] += quarantined
	u[authNeither][fateReject] += c[4] - quarantined
	return unsorted
}

// mixBins sorts the mail of days into bins that cover a period, and sums it.
func mixBins(bins []bin, counted []dmarc.DayTraffic, days map[time.Time]*mix) (all []mix, sum mix, unsorted int64) {
	all = make([]mix, len(bins))
	i := 0
	for b := range bins {
		for ; i < len(counted) && counted[i].Day.Before(bins[b].To); i++ {
			if counted[i].Day.Before(bins[b].From) {
				continue
			}
			m := days[counted[i].Day]
			if m == nil {
				m = new(mix)
			}
			unsorted += m.settle(counted[i].Tally)
			all[b].add(m)
		}
		sum.add(&all[b])
	}
	return all, sum, unsorted
}

// A quiet reporter reported regularly, and does so no more while others go on.
type quiet struct {
	Name string
	Last time.Time
	Days int // since
}

// Who reported on so many of 28 days is missed after so many days without a
// report, as notifications have it.
const (
	regularDays = 14
	missedAfter = 7
)

// quietReporters returns the reporters that went silent before a day, the last
// ones first.
func quietReporters(e *advice.Evidence, end time.Time) []quiet {
	first, days := advice.Range(e.Sources)
	all := make(map[string][]bool) // by name: the days that they reported about
	of := make(map[int64][]bool)   // the same by number: several may have one name
	var lately [64]struct {
		number int64
		days   []bool
	}
	for i := range e.Sources {
		for d := range e.Sources[i].Days() {
			if !d.Day.Before(end) {
				continue
			}
			at := d.Day.Sub(first) / aDay
			for cell := range d.Cells() {
				l := &lately[uint64(cell.Reporter)%uint64(len(lately))]
				if l.number != cell.Reporter || l.days == nil {
					l.number, l.days = cell.Reporter, of[cell.Reporter]
				}
				if l.days == nil {
					name := e.Reporters[cell.Reporter]
					if all[name] == nil {
						all[name] = make([]bool, days)
					}
					l.days, of[cell.Reporter] = all[name], all[name]
				}
				l.days[at] = true
			}
		}
	}
	last := func(days []bool) int {
		at := len(days) - 1
		for at >= 0 && !days[at] {
			at--
		}
		return at
	}
	today := int(end.Add(-aDay).Sub(first) / aDay)
	newest := -1
	for _, seen := range all {
		newest = max(newest, last(seen))
	}
	if newest < 0 || today-newest >= missedAfter {
		return nil // all of them: it is the mailbox, or there is no mail
	}
	var out []quiet
	for name, seen := range all {
		last, regular := last(seen), 0
		for _, reported := range seen[max(0, last-27) : last+1] {
			if reported {
				regular++
			}
		}
		if since := today - last; since >= missedAfter && regular >= regularDays {
			out = append(out, quiet{name, first.AddDate(0, 0, last), since})
		}
	}
	slices.SortFunc(out, func(a, b quiet) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Name, b.Name)) })
	return out
}

// A subdomain is mail whose author is at a name below the domain, by the
// reports about the domain; or a domain below it that has reports of its own.
type subdomain struct {
	Name  string // dmarc.OtherAuthors for all that are not told apart
	Tally dmarc.Tally
	Own   *dmarc.DomainTraffic // what the reports about it tell; nil if there are none
}

// subdomains returns the names below a domain that mail names as its author,
// busiest first.
func subdomains(e *advice.Evidence, p dmarc.Period, own []dmarc.DomainTraffic) []subdomain {
	at := make(map[string]int)
	var out []subdomain
	line := func(name string) *subdomain {
		i, ok := at[name]
		if !ok {
			i = len(out)
			at[name] = i
			out = append(out, subdomain{Name: name})
		}
		return &out[i]
	}
	for i := range own {
		line(own[i].Domain).Own = &own[i]
	}
	if e != nil {
		for i := range e.Sources {
			for cell, messages := range cellsIn(&e.Sources[i].SourceFacts, p) {
				if cell.Author != "" {
					addCell(&line(cell.Author).Tally, cell, messages)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b subdomain) int {
		return cmp.Or(cmp.Compare(b.messages(), a.messages()), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// messages returns what is seen of a subdomain, by whatever reports.
func (s *subdomain) messages() int64 {
	n := s.Tally.Messages
	if s.Own != nil {
		n += s.Own.Tally.Messages
	}
	return n
}

// Others tells whether the line stands for names that are not told apart.
func (s *subdomain) Others() bool { return s.Name == dmarc.OtherAuthors }
