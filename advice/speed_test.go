package advice_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// BenchmarkAdvice takes what is known of a domain with 5,000 sources, 500 of them a
// day, over 90 days from how it is stored to advice, and tells what each step costs.
func BenchmarkAdvice(b *testing.B) {
	const active = 500
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	policy := dmarc.PolicyPublished{Domain: "acme.example", P: dmarc.PolicyNone, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed}
	var lists [][]byte
	for d := range 90 {
		day := begin.AddDate(0, 0, d)
		var facts dmarc.FactReducer
		for i := range active {
			n := (d*active + i) % 5000
			row := dmarc.Row{
				Source: netip.AddrFrom4([4]byte{byte(11 + n%200), byte(n / 200), 7, 9}), Count: int64(1 + n%50), HeaderFrom: "acme.example", EnvelopeFrom: "acme.example",
				DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone,
				AuthDKIM: []dmarc.DKIMResult{{Domain: "acme.example", Selector: fmt.Sprint("s", n%7), Result: dmarc.ResultPass}},
				AuthSPF:  []dmarc.SPFResult{{Domain: fmt.Sprintf("bounce.m%d.example", n%40), Result: dmarc.ResultPass}},
			}
			if n%3 == 0 {
				row.DKIM, row.AuthDKIM[0].Result = dmarc.ResultFail, dmarc.ResultFail
			}
			for reporter := range int64(3) {
				facts.Add(&row, &policy, dmarc.Attribution{Days: []time.Time{day}, Main: day, Dated: true}, reporter)
			}
		}
		lists = append(lists, dmarc.AppendFactList(nil, facts.Days()))
	}
	read := func() []dmarc.SourceDay {
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
	e := &advice.Evidence{Domain: "acme.example", Period: period, Sources: advice.Collect(all), Published: advice.Published{P: dmarc.PolicyNone, FoundAt: "acme.example"}}
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
