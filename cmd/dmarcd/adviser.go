package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/sources"
	"github.com/dmarcd/dmarcd/store"
)

// An adviser brings the evidence together that advice rests on.
type adviser struct {
	store     *store.Store
	senders   *sources.Catalogue
	overrules *overruler
	rua       string // our address for reports; "" if it is not known
	log       *slog.Logger
	kept      keptEvidence
	recalled  bool // what verdicts rest on, since dmarcd began
}

// mostKnown is for how many sources, the busiest, advice knows whose they are.
const mostKnown = 5000

// inHand is how many bytes may be in hand while evidence is gathered.
const inHand = 32 << 20

// gather brings the evidence about a domain together as it is now.
func (a *adviser) gather(ctx context.Context, domain string, period dmarc.Period) (*advice.Evidence, error) {
	makeRoom(inHand)
	defer makeRoom(-inHand)
	e := &advice.Evidence{Domain: domain, Period: period, Senders: a.senders, RUA: a.rua}
	var look *records.Result
	var seen []dmarc.RecordChange
	g, both := errgroup.WithContext(ctx)
	g.Go(func() error {
		facts, err := a.store.Facts(both, domain, period)
		e.Sources = advice.Collect(facts)
		return err
	})
	g.Go(func() (err error) { // beside it
		if e.Reporters, err = a.store.ReporterNames(both, domain); err != nil {
			return err
		}
		if look, err = a.store.Look(both, domain); err != nil && !errors.Is(err, dmarc.ErrNotFound) {
			return err
		}
		if e.Published, err = a.published(both, domain, look); err != nil {
			return err
		}
		said, err := a.overrules.Overrules(both, domain)
		if err != nil {
			return err
		}
		for _, o := range said {
			e.Overrules = append(e.Overrules, advice.Overrule{Network: o.Network, Class: o.Class, Note: o.Note})
		}
		seen, _, err = a.store.RecordChanges(both, domain, dmarc.ChangeQuery{Page: dmarc.Page{Limit: 500}})
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	g, both = errgroup.WithContext(ctx)
	g.Go(func() error {
		e.Changes = changes(e, seen)
		return nil
	})
	g.Go(func() error { return a.known(both, e, look) })
	return e, g.Wait()
}

// Whose returns what is known of addresses that sent as a domain. Nothing is looked
// up; addresses that nobody has looked at yet are not in it.
func (a *adviser) Whose(ctx context.Context, domain string, addrs []netip.Addr) (map[netip.Addr]dmarc.SourceIdentity, error) {
	known, err := a.store.KnownSources(ctx, domain, addrs)
	if err != nil {
		return nil, err
	}
	all := make(map[netip.Addr]dmarc.SourceIdentity, len(known))
	for addr, k := range known {
		a.senders.Recognise(&k.Identity)
		all[addr] = k.Identity
	}
	return all, nil
}

// known adds to each source what is known of it beside the reports.
func (a *adviser) known(ctx context.Context, e *advice.Evidence, look *records.Result) error {
	covers := func(netip.Addr) records.Coverage { return records.CoverageUnknown }
	if look != nil {
		exists := look.Existence()
		e.Nonexistent = func(name string) bool {
			there, known := exists(name)
			return known && !there
		}
		e.Unsure = func(name string) bool {
			_, known := exists(name)
			return !known
		}
		covers = look.SPFCoverage()
	}
	var single []*advice.Source
	messages := make(map[*advice.Source]int64)
	for i := range e.Sources {
		src := &e.Sources[i]
		if !src.Source.IsValid() || !src.Source.IsSingleIP() {
			continue
		}
		src.SPF = coverOf[covers(src.Source.Addr())]
		single = append(single, src)
		messages[src] = src.Messages()
	}
	if len(single) > mostKnown {
		slices.SortStableFunc(single, func(a, b *advice.Source) int { return cmp.Compare(messages[b], messages[a]) })
		single = single[:mostKnown]
	}
	addrs := make([]netip.Addr, len(single))
	for i, src := range single {
		addrs[i] = src.Source.Addr()
	}
	known, err := a.store.KnownSources(ctx, e.Domain, addrs)
	if err != nil {
		return err
	}
	for _, src := range single {
		if k, ok := known[src.Source.Addr()]; ok {
			a.senders.Recognise(&k.Identity)
			src.Identity, src.Elsewhere = k.Identity, k.Domains
		}
	}
	return nil
}

var coverOf = [...]advice.Cover{
	records.CoverageUnknown: advice.CoverUnknown, records.CoverageNone: advice.CoverNo,
	records.CoverageOwn: advice.CoverYes, records.CoverageShared: advice.CoverShared,
}

// published is the record that the last look at DNS found, or else the policy
// that was last reported.
func (a *adviser) published(ctx context.Context, domain string, look *records.Result) (advice.Published, error) {
	if look != nil {
		d := look.Records.DMARC
		if d == nil {
			return advice.Published{Unknown: true}, nil
		}
		if d.Record == nil {
			return advice.Published{}, nil
		}
		r := records.ParseDMARC(*d.Record)
		if r == nil || d.FoundAt == nil {
			return advice.Published{Unknown: true}, nil
		}
		return advice.Published{Record: *d.Record, FoundAt: *d.FoundAt, P: r.P, SP: r.SP, NP: r.NP, Testing: r.Testing, ADKIM: r.ADKIM, ASPF: r.ASPF, ReportsTo: len(r.RUA) > 0}, nil
	}
	sum, err := a.store.Summary(ctx, dmarc.TrafficQuery{Domain: domain}) // of no day
	if err != nil || sum.Published == nil {
		return advice.Published{Unknown: true}, err
	}
	p := sum.Published
	out := advice.Published{FoundAt: domain, P: p.P, SP: p.SP, NP: p.NP, ADKIM: p.ADKIM, ASPF: p.ASPF, ReportsTo: true}
	out.Testing = p.Testing != nil && *p.Testing
	out.Record = recordOf(p)
	if a.rua != "" {
		out.Record += "; rua=mailto:" + a.rua
	}
	return out, nil
}

// changes are those of the record that were seen in DNS, newest first, and those that
// reports tell of besides.
func changes(e *advice.Evidence, seen []dmarc.RecordChange) []advice.Change {
	at := cmp.Or(e.Published.FoundAt, e.Domain)
	var sets []advice.RecordSets
	for _, c := range slices.Backward(seen) { // oldest first
		if c.Name == "_dmarc."+at && c.Type == "TXT" && e.Period.Contains(c.SeenAt) {
			sets = append(sets, advice.RecordSets{At: c.SeenAt, Before: c.Before, After: c.After})
		}
	}
	return advice.MergeChanges(sets, advice.Changes(e.Sources))
}

// judgeAgain is after what time a domain that could not be judged is tried again.
const judgeAgain = 10 * time.Minute

// pass computes the verdicts that are due, each domain once. One that fails
// does not hold up the others.
func (a *adviser) pass(ctx context.Context) error {
	now := time.Now()
	a.kept.forget(now)
	var failed error
	for after := int64(0); ; {
		due, err := a.store.DueVerdicts(ctx, now, after, 200)
		if err == nil && len(due) == 0 && !a.recalled {
			err = a.recall(ctx, now, manySources)
			a.recalled = err == nil
		}
		if err != nil || len(due) == 0 {
			return errors.Join(failed, err)
		}
		for _, d := range due {
			after = d.ID
			if err := a.judge(ctx, d); err != nil {
				if ctx.Err() != nil {
					return err
				}
				if failed == nil {
					failed = fmt.Errorf("judging %s: %w", d.Domain, err)
				}
				a.log.Warn("a domain could not be judged; it will be tried again", "domain", d.Domain, "error", err)
				if err := a.store.PostponeVerdict(ctx, d, now.Add(judgeAgain)); err != nil {
					return errors.Join(failed, err)
				}
			}
		}
	}
}

// judge computes the verdict about a domain and keeps it, with the classes of
// its sources.
func (a *adviser) judge(ctx context.Context, due dmarc.DueVerdict) error {
	now := time.Now().UTC()
	period := lastDays(now, adviceDays)
	e, err := a.gather(ctx, due.Domain, period)
	if err != nil {
		return err
	}
	keep := e.Size() >= worthKeeping
	if keep {
		e.Keep()
	}
	found := advice.For(e, advice.Options{})
	if err := a.store.SaveVerdict(ctx, due, found.Short(now), advice.SourceClasses(e, found.Sources)); err != nil {
		return err
	}
	if keep {
		// Whatever changed since it was due has another stamp.
		a.kept.put(evidenceKey{due.Domain, period}, dmarc.Stamp{Changes: due.Changes, Judged: now.UnixMicro()}, e)
	}
	return nil
}
