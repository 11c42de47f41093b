package advice_test

import (
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/sample/large"
)

// BenchmarkAdvice takes what is known of a domain with 5,000 sources, 500 of them a
// day, over 90 days from how it is stored to advice, and tells what each step costs.
func BenchmarkAdvice(b *testing.B) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var lists [][]byte
	for d := range 90 {
		lists = append(lists, dmarc.AppendFactList(nil, large.Day(begin.AddDate(0, 0, d), d)))
	}
	read := func() []dmarc.SourceFacts {
		var gathered dmarc.FactLists
		for d, list := range lists {
			if err := gathered.Add(begin.AddDate(0, 0, d), list); err != nil {
				b.Fatal(err)
			}
		}
		all, err := gathered.Read()
		if err != nil {
			b.Fatal(err)
		}
		return all
	}
	all := read()
	period := dmarc.Period{Begin: begin, End: begin.AddDate(0, 0, 90)}
	e := &advice.Evidence{Domain: large.Domain, Period: period, Sources: advice.Collect(all), Published: advice.Published{P: dmarc.PolicyNone, FoundAt: large.Domain}}
	for name, step := range map[string]func(){
		"read":     func() { read() },
		"collect":  func() { advice.Collect(all) },
		"classify": func() { advice.Classify(e) },
		"for":      func() { advice.For(e, advice.Options{}) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}
