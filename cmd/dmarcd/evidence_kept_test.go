package main

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// Evidence is kept while nothing that it rests on changes, and no longer.
func TestEvidenceIsKeptWhileNothingChanges(t *testing.T) {
	a := adviseSample(t)
	adv := a.service.adviser
	if err := adv.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	period := lastDays(twoDomains.Now, 90)
	get := func() *advice.Evidence {
		t.Helper()
		e, err := adv.Evidence(t.Context(), "acme.example", period)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := adv.gather(t.Context(), "acme.example", period)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := advice.For(e, advice.Options{}), advice.For(fresh, advice.Options{}); !reflect.DeepEqual(got.JSON(), want.JSON()) {
			t.Errorf("kept: %+v, now: %+v", got.JSON(), want.JSON())
		}
		return e
	}
	first := get()
	if get() != first {
		t.Error("it is gathered again though nothing changed")
	}
	// Many ask at once, and none may change what the others have.
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			e, err := adv.Evidence(context.Background(), "acme.example", period)
			if err != nil {
				t.Error(err)
				return
			}
			for _, o := range []advice.Options{{}, {Target: dmarc.PolicyReject}} {
				found := advice.For(e, o)
				found.JSON()
				found.Busiest(nil)
				found.Policies()
			}
			advice.SourceClasses(e, advice.Classify(e))
		})
	}
	wg.Wait()
	busiest := advice.For(first, advice.Options{}).Busiest(nil)[0]
	other := dmarc.ClassSuspicious
	if busiest.Class == other {
		other = dmarc.ClassOwn
	}
	say := &dmarc.Overrule{Domain: "acme.example", Network: busiest.Source.Source, Class: other, At: time.Now()}
	if _, err := a.s.PutOverrule(t.Context(), say); err != nil {
		t.Fatal(err)
	}
	second := get()
	if got := advice.For(second, advice.Options{}).Busiest(nil)[0]; second == first || got.Class != other {
		t.Errorf("%s is still %s", got.Source.Source, got.Class)
	}
	if err := adv.pass(t.Context()); err != nil { // another verdict
		t.Fatal(err)
	}
	adv.kept.forget(time.Now().Add(keptFor)) // though nobody asks for long
	key := evidenceKey{"acme.example", period}
	judged := adv.kept.all[key]
	if judged == nil {
		t.Fatal("what the verdict was computed from is not kept")
	}
	third := get()
	if third == second {
		t.Error("it is kept beyond the verdict that followed from it")
	}
	if third != judged.evidence {
		t.Error("it is gathered again though the verdict was computed from it")
	}
	if say.Class = dmarc.ClassForwarder; other == say.Class {
		say.Class = dmarc.ClassOwn
	}
	if _, err := a.s.PutOverrule(t.Context(), say); err != nil {
		t.Fatal(err)
	}
	if get() == third {
		t.Error("it is kept though something has changed since the verdict")
	}
	if _, err := adv.Evidence(t.Context(), "nobody.example", period); !errors.Is(err, dmarc.ErrNotFound) {
		t.Errorf("an unknown domain has %v", err)
	}
	adv.kept.forget(time.Now().Add(keptFor))
	if len(adv.kept.all) > 1 || adv.kept.all[key] != nil {
		t.Errorf("%d are kept though nobody asks", len(adv.kept.all)) // but for that of the other domain's verdict
	}
	adv.kept.forget(period.End.Add(keptFor)) // nobody asks for its period any more
	if len(adv.kept.all) != 0 || adv.kept.size != 0 {
		t.Errorf("%d are kept, of %d bytes, though nobody asks", len(adv.kept.all), adv.kept.size)
	}
}

// A dmarcd that begins gathers what the verdicts about large domains rest on, before somebody asks.
func TestEvidenceOfLargeDomainsIsRecalled(t *testing.T) {
	before := adviseSample(t).service.adviser
	if err := before.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	adv := &adviser{store: before.store, senders: before.senders, overrules: before.overrules, log: before.log}
	many, err := adv.store.DomainsOfManySources(t.Context(), manySources, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := adv.pass(t.Context()); err != nil || !adv.recalled || len(adv.kept.all) != len(many) {
		t.Errorf("of %q %d are kept; %v", many, len(adv.kept.all), err)
	}
	// Of a period of its own, so that it does not matter which day it is.
	now := twoDomains.Now.AddDate(0, 0, -1)
	others := len(adv.kept.all)
	for range 2 { // the second time they are there
		if err := adv.recall(t.Context(), now, 1); err != nil {
			t.Fatal(err)
		}
	}
	names, err := adv.store.DomainsOfManySources(t.Context(), 1, 100)
	if err != nil || len(names) < 2 || len(adv.kept.all)-others != len(names) {
		t.Fatalf("%d are kept of %q, %v", len(adv.kept.all)-others, names, err)
	}
	for _, name := range names {
		key := evidenceKey{name, lastDays(now, adviceDays)}
		kept := adv.kept.all[key].evidence
		got, err := adv.Evidence(t.Context(), name, key.period)
		if err != nil || got != kept {
			t.Errorf("that about %s is gathered again: %v", name, err)
		}
		fresh, err := adv.gather(t.Context(), name, key.period)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := advice.For(got, advice.Options{}), advice.For(fresh, advice.Options{}); !reflect.DeepEqual(got.JSON(), want.JSON()) {
			t.Errorf("kept: %+v, now: %+v", got.JSON(), want.JSON())
		}
	}
}

// What is kept stays below a number of bytes: those go that were asked for least recently.
func TestKeptEvidenceIsBounded(t *testing.T) {
	large := func(domain string, sources int) *advice.Evidence {
		return &advice.Evidence{Domain: domain, Sources: make([]advice.Source, sources)}
	}
	var k keptEvidence
	ask := func(domain string, sources int) (gathered bool) {
		t.Helper()
		e, err := k.get(evidenceKey{domain: domain}, dmarc.Stamp{}, func() (*advice.Evidence, error) {
			gathered = true
			return large(domain, sources), nil
		})
		if err != nil || e.Domain != domain {
			t.Fatal(e, err)
		}
		if k.size > mostKept {
			t.Errorf("%d bytes are kept", k.size)
		}
		return gathered
	}
	third := mostKept / large("a", 1).Size() * 2 / 5 // two of them fit
	for _, step := range []struct {
		domain   string
		sources  int
		gathered bool
	}{
		{"a", third, true}, {"b", third, true}, {"a", third, false},
		{"c", third, true}, {"a", third, false}, {"b", third, true}, {"c", third, true},
		{"huge", 4 * third, true}, {"huge", 4 * third, true}, {"c", third, false}, {"b", third, false},
	} {
		if got := ask(step.domain, step.sources); got != step.gathered {
			t.Errorf("%s: gathered %v", step.domain, got)
		}
	}
	// Evidence without mail would not count: it is not kept, in whatever period.
	for days := range 3 {
		key := evidenceKey{"c", dmarc.Period{Begin: time.Unix(0, 0), End: time.Unix(int64(days), 0)}}
		kept := len(k.all)
		if _, err := k.get(key, dmarc.Stamp{}, func() (*advice.Evidence, error) { return &advice.Evidence{Domain: "c"}, nil }); err != nil || len(k.all) != kept {
			t.Errorf("%d are kept, of %d bytes, after one without mail: %v", len(k.all), k.size, err)
		}
	}
	// One that fails is tried again, and nothing of it stays.
	for range 2 {
		if _, err := k.get(evidenceKey{domain: "c"}, dmarc.Stamp{Changes: 1}, func() (*advice.Evidence, error) { return nil, context.Canceled }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if len(k.all) != 1 || k.size > mostKept/2 {
		t.Errorf("%d are kept, of %d bytes", len(k.all), k.size)
	}
}
