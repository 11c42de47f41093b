package main

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// right says which classes are right for what the generator calls a source.
var right = map[string][]dmarc.Class{
	"own":            {dmarc.ClassOwn},
	"spf_only":       {dmarc.ClassOwn},
	"esp_dkim":       {dmarc.ClassService, dmarc.ClassOwn},
	"forward_dkim":   {dmarc.ClassForwarder},
	"forward_broken": {dmarc.ClassForwarder},
	"unaligned":      {dmarc.ClassUnknown, dmarc.ClassSuspicious},
	"spoof":          {dmarc.ClassSuspicious},
}

// owners are the classes of mail that must not be lost.
var owners = map[string]bool{"own": true, "spf_only": true, "esp_dkim": true}

// A confusion counts, by truth, what was taken for which class.
type confusion map[string]*[dmarc.NumClasses]int64

func (c confusion) add(truth string, class dmarc.Class, n int64) {
	if c[truth] == nil {
		c[truth] = new([dmarc.NumClasses]int64)
	}
	c[truth][class] += n
}

// share returns how much of a matrix is right: over all, and the worst class.
func (c confusion) share() (all float64, worst float64) {
	var good, total int64
	worst = 1
	for truth, row := range c {
		var g, t int64
		for class, n := range row {
			t += n
			if slices.Contains(right[truth], dmarc.Class(class)) {
				g += n
			}
		}
		good, total = good+g, total+t
		if t > 0 {
			worst = min(worst, float64(g)/float64(t))
		}
	}
	return float64(good) / float64(max(1, total)), worst
}

// A result is what an examination found.
type result struct {
	messages, sources, alone confusion // alone: sources, without knowledge of other domains
	wrong                    []string

	verdicts   map[string]int // by target and verdict
	unsafe     []string       // called ready, and would lose too much
	broken     int            // domains of which a sender was broken
	unnoticed  []string       // and called ready nevertheless
	storms     int
	moved      []string // verdicts that a storm changed
	backtested int
	regretted  []string // advice of the first half that the second proved wrong
	agreement  advice.Agreement
}

const minShare = 0.97

func (r *result) ok() bool {
	m, _ := r.messages.share()
	s, _ := r.sources.share()
	return m >= minShare && s >= minShare && len(r.unsafe)+len(r.unnoticed)+len(r.moved)+len(r.regretted) == 0
}

func examine(w *world, seed int64, verbose bool) *result {
	r := &result{messages: confusion{}, sources: confusion{}, alone: confusion{}, verdicts: make(map[string]int)}
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	begin, end := w.period()
	evidence := w.evidence(begin, end)
	for name, e := range evidence {
		r.score(w, name, advice.Classify(e), r.alone, nil, false)
	}
	know(evidence)
	for name, e := range evidence {
		r.score(w, name, advice.Classify(e), r.sources, r.messages, verbose)
	}
	for _, name := range slices.Sorted(maps.Keys(evidence)) {
		e := evidence[name]
		a := advice.Agree(e.Sources)
		r.agreement.Agree += a.Agree
		r.agreement.Explained += a.Explained
		r.agreement.Unexplained += a.Unexplained
		r.agreement.Unstated += a.Unstated
		r.judge(w, name, e)
		r.breakOne(w, rnd, name, e)
		r.storm(rnd, name, e)
	}
	r.backtest(w, begin, end)
	return r
}

// period returns the days of the reports.
func (w *world) period() (begin, end time.Time) {
	for _, days := range w.domains {
		for i := range days {
			if d := days[i].Day; begin.IsZero() || d.Before(begin) {
				begin = d
			}
			if d := days[i].Day.AddDate(0, 0, 1); d.After(end) {
				end = d
			}
		}
	}
	return begin, end
}

// evidence returns what is known of every domain at the end of a period.
func (w *world) evidence(begin, end time.Time) map[string]*advice.Evidence {
	out := make(map[string]*advice.Evidence)
	for name, days := range w.domains {
		p := w.published[name]
		out[name] = &advice.Evidence{
			Domain: name, Period: dmarc.Period{Begin: begin, End: end}, Sources: advice.Collect(dmarc.FactsBySource(between(days, begin, end))), Reporters: w.reporters,
			Published: advice.Published{
				Record: "v=DMARC1; p=" + p.P.String() + "; rua=mailto:reports@reports.example", FoundAt: name,
				P: p.P, ADKIM: p.ADKIM, ASPF: p.ASPF, ReportsTo: true,
			},
		}
	}
	return out
}

// know tells every source how it is classed for the other domains.
func know(evidence map[string]*advice.Evidence) {
	classes := make(map[string][]advice.Classified)
	total := make(map[netip.Prefix]*advice.Elsewhere)
	for name, e := range evidence {
		classes[name] = advice.Classify(e)
		for _, c := range classes[name] {
			if total[c.Source.Source] == nil {
				total[c.Source.Source] = new(advice.Elsewhere)
			}
			total[c.Source.Source][c.Class]++
		}
	}
	for name, e := range evidence {
		for i := range e.Sources {
			e.Sources[i].Elsewhere = *total[e.Sources[i].Source]
			e.Sources[i].Elsewhere[classes[name][i].Class]--
		}
	}
}

// score compares classes with the truth. A source that is of two kinds counts
// as that of which it has more.
func (r *result) score(w *world, name string, classes []advice.Classified, sources, messages confusion, verbose bool) {
	for _, c := range classes {
		var most truth
		var sum int64
		for _, t := range w.truth[name][c.Source.Source.Addr()] {
			if messages != nil {
				messages.add(t.class, c.Class, t.messages)
			}
			sum += t.messages
			if t.messages > most.messages {
				most = t
			}
		}
		if sum < 10 {
			continue
		}
		sources.add(most.class, c.Class, 1)
		if verbose && !slices.Contains(right[most.class], c.Class) {
			r.wrong = append(r.wrong, fmt.Sprintf("%s %s is %v, taken for %s (%s): %v", name, c.Source.Source.Addr(), w.truth[name][c.Source.Source.Addr()], c.Class, c.Confidence, c.Clues))
		}
	}
}

var targets = []dmarc.Policy{dmarc.PolicyQuarantine, dmarc.PolicyReject}

// judge asks whether any policy is called ready that would lose mail.
func (r *result) judge(w *world, name string, e *advice.Evidence) {
	next := advice.For(e, advice.Options{})
	r.verdicts["next step: "+string(next.Verdict)]++
	var own, lost int64
	for _, list := range w.truth[name] {
		for _, t := range list {
			if owners[t.class] {
				own += t.messages
				lost += t.messages - t.passing
			}
		}
	}
	for _, target := range targets {
		a := advice.For(e, advice.Options{Target: target})
		r.verdicts[target.String()+": "+string(a.Verdict)]++
		if a.Verdict == advice.Ready && float64(lost) > 0.001*float64(own) {
			r.unsafe = append(r.unsafe, fmt.Sprintf("%s for %s: %d of %d own messages lost", name, target, lost, own))
		}
	}
}

// breakOne lets one of the owner's senders fail from the middle of the period
// on, and asks whether that is noticed.
func (r *result) breakOne(w *world, rnd *rand.Rand, name string, e *advice.Evidence) {
	middle := e.Period.Begin.Add(e.Period.End.Sub(e.Period.Begin) / 2).Truncate(24 * time.Hour)
	var own int64
	var candidates []int
	for i := range e.Sources {
		src := &e.Sources[i]
		list := w.truth[name][src.Source.Addr()]
		if len(list) != 1 || !owners[list[0].class] {
			continue
		}
		own += list[0].messages
		if src.First().Before(middle) && !src.Last().Before(middle) {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) == 0 {
		return
	}
	pick := candidates[rnd.IntN(len(candidates))]
	broken := *e
	broken.Sources = slices.Clone(e.Sources)
	src := &broken.Sources[pick]
	days := src.SourceDays()
	var lost int64
	for i := range days {
		if days[i].Day.Before(middle) {
			continue
		}
		for k := range days[i].Cells {
			c := &days[i].Cells[k]
			c.Pattern.DKIM, c.Pattern.SPF = dmarc.NotAligned, dmarc.NotAligned
			c.Pattern.Hints = c.Pattern.Hints&^(dmarc.HintPassed|dmarc.HintModeUntold) | dmarc.HintDKIMBroken
			c.Pattern.Overrides = 0
			lost += c.Messages
		}
	}
	src.SourceFacts = dmarc.FactsBySource(days)[0]
	if float64(lost) <= 0.001*float64(own) {
		return
	}
	r.broken++
	for _, target := range targets {
		if a := advice.For(&broken, advice.Options{Target: target}); a.Verdict == advice.Ready {
			c := a.Sources[pick]
			r.unnoticed = append(r.unnoticed, fmt.Sprintf("%s for %s: %s (%s) lost %d of %d own messages; %s: %v", name, target, src.Source.Addr(), w.truth[name][src.Source.Addr()][0].class, lost, own, c.Class, c.Clues))
		}
	}
}

// storm forges twenty times the domain's mail from many addresses, on days for
// which there are reports, and asks whether a verdict moves.
func (r *result) storm(rnd *rand.Rand, name string, e *advice.Evidence) {
	if len(e.Sources) == 0 {
		return
	}
	var messages int64
	var days []dmarc.SourceDay
	for i := range e.Sources {
		messages += e.Sources[i].Messages()
		days = append(days, e.Sources[i].SourceDays()...)
	}
	var f dmarc.FactReducer
	const addresses = 400
	for range addresses {
		row := dmarc.Row{
			Source: netip.AddrFrom4([4]byte{byte(1 + rnd.IntN(9)), byte(rnd.IntN(256)), byte(rnd.IntN(256)), byte(rnd.IntN(256))}),
			Count:  max(1, messages*20/addresses), HeaderFrom: name, DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail,
			Disposition: dmarc.DispositionNone,
			AuthSPF:     []dmarc.SPFResult{{Domain: name, Scope: "mfrom", Result: dmarc.ResultSoftFail}},
		}
		d := days[rnd.IntN(len(days))]
		policy := dmarc.PolicyPublished{Domain: name, P: d.Cells[0].Pattern.Policy}
		if d.Cells[0].Author != "" {
			row.HeaderFrom, policy.SP = d.Cells[0].Author, policy.P
		}
		f.Add(&row, &policy, dmarc.Attribution{Days: []time.Time{d.Day}, Main: d.Day, Dated: true}, 1+rnd.Int64N(5))
	}
	stormy := *e
	stormy.Sources = append(slices.Clone(e.Sources), advice.Collect(dmarc.FactsBySource(f.Days()))...)
	r.storms++
	for _, target := range append([]dmarc.Policy{dmarc.PolicyUnknown}, targets...) {
		before, after := advice.For(e, advice.Options{Target: target}), advice.For(&stormy, advice.Options{Target: target})
		if before.Verdict != after.Verdict {
			r.moved = append(r.moved, fmt.Sprintf("%s for %s: %s became %s", name, before.Target, before.Verdict, after.Verdict))
		}
	}
}

// backtest takes the advice of the first half of the period, and looks at what
// it would have cost in the second.
func (r *result) backtest(w *world, begin, end time.Time) {
	middle := begin.Add(end.Sub(begin) / 2).Truncate(24 * time.Hour)
	then, later := w.evidence(begin, middle), w.evidence(middle, end)
	know(then)
	for _, name := range slices.Sorted(maps.Keys(then)) {
		for _, target := range targets {
			if advice.For(then[name], advice.Options{Target: target}).Verdict != advice.Ready {
				continue
			}
			r.backtested++
			var own, lost int64
			e := later[name]
			all := advice.Simulate(e, advice.Classify(e), advice.WhatIf{Policy: advice.Policy{P: target, ADKIM: e.Published.ADKIM, ASPF: e.Published.ASPF}})
			for i := range e.Sources {
				list := w.truth[name][e.Sources[i].Source.Addr()]
				if len(list) == 1 && owners[list[0].class] {
					own += all.BySource[i].Messages
					lost += all.BySource[i].Affected()
				}
			}
			if float64(lost) > 0.001*float64(own) {
				r.regretted = append(r.regretted, fmt.Sprintf("%s for %s: %d of %d own messages lost", name, target, lost, own))
			}
		}
	}
}

func (r *result) print(w io.Writer) {
	print := func(title string, c confusion) {
		all, worst := c.share()
		fmt.Fprintf(w, "%s: %.2f %% right, %.2f %% of the worst class\n", title, 100*all, 100*worst)
		fmt.Fprintf(w, "  %-16s", "")
		for class := range dmarc.NumClasses {
			fmt.Fprintf(w, "%12s", dmarc.Class(class))
		}
		fmt.Fprintln(w)
		for _, truth := range slices.Sorted(maps.Keys(c)) {
			fmt.Fprintf(w, "  %-16s", truth)
			for _, n := range c[truth] {
				fmt.Fprintf(w, "%12d", n)
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w)
	}
	print("Messages", r.messages)
	print("Sources with at least 10 messages", r.sources)
	all, worst := r.alone.share()
	fmt.Fprintf(w, "The same sources, knowing one domain only: %.2f %% right, %.2f %% of the worst class\n\n", 100*all, 100*worst)
	fmt.Fprintln(w, "Verdicts")
	for _, v := range slices.Sorted(maps.Keys(r.verdicts)) {
		fmt.Fprintf(w, "  %-40s %d\n", v, r.verdicts[v])
	}
	fmt.Fprintln(w)
	check := func(what string, n int, bad []string) {
		fmt.Fprintf(w, "%s: %d, wrong: %d\n", what, n, len(bad))
		for _, b := range bad[:min(10, len(bad))] {
			fmt.Fprintf(w, "  %s\n", b)
		}
	}
	ready := r.verdicts["quarantine: ready"] + r.verdicts["reject: ready"]
	check("Called ready, must lose at most 0.1 % of own and service mail", ready, r.unsafe)
	check("A sender broken from the middle on, must not be called ready", r.broken, r.unnoticed)
	check("Spoofing of 20 times the mail, must change no verdict", r.storms, r.moved)
	check("Advice of the first half, must hold in the second", r.backtested, r.regretted)
	a := r.agreement
	fmt.Fprintf(w, "Dispositions as the policy of the time says: %d, explained by a reason or by sampling: %d, unexplained: %d, not stated: %d\n\n",
		a.Agree, a.Explained, a.Unexplained, a.Unstated)
	for _, line := range r.wrong {
		fmt.Fprintln(w, line)
	}
}
