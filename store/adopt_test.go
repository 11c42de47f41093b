package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// reduced is what parsedmarc keeps of a report: less of the name, less of the
// report_id, and not all of the rows' details.
func (r report) reduced(org, id string) *dmarc.AggregateReport {
	rep := r.aggregate()
	rep.Reporter.OrgName, rep.ID = org, id
	rep.Flags |= dmarc.FlagReduced
	rep.Hash[0]++
	return rep
}

func aggregateOf(uid uint32, rep *dmarc.AggregateReport) dmarc.Delivery {
	d := mail(uid)
	d.Parts = []dmarc.Part{{Path: "1", Aggregate: rep}}
	return d
}

func TestAReportAndWhatParsedmarcKeptOfItCountOnce(t *testing.T) {
	begin := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	of := func(id string) report {
		return report{domain: "example.com", org: "mail.receiver.example", id: id, begin: begin, length: 24 * time.Hour,
			rows: []dmarc.Row{{Count: 5, HeaderFrom: "example.com", DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone}}}
	}
	for _, together := range []bool{false, true} {
		for _, first := range []string{"report", "reduced"} {
			t.Run(fmt.Sprintf("%s first, together %v", first, together), func(t *testing.T) {
				s, _ := open(t)
				whole := aggregateOf(1, of("1234@mail.receiver.example").aggregate())
				reduced := aggregateOf(2, of("1234@mail.receiver.example").reduced("receiver.example", "1234"))
				other := aggregateOf(3, of("5678@mail.receiver.example").aggregate()) // of the same day, another report
				ds := []dmarc.Delivery{whole, reduced, other}
				if first == "reduced" {
					ds[0], ds[1] = ds[1], ds[0]
				}
				var fates []dmarc.Fate
				if together {
					fates = add(t, s, ds...)
				} else {
					for _, d := range ds {
						fates = append(fates, add(t, s, d)...)
					}
				}
				period := dmarc.Period{Begin: begin, End: begin.AddDate(0, 0, 2)}
				sum, err := s.Summary(t.Context(), dmarc.TrafficQuery{Domain: "example.com", Period: period})
				if err != nil || sum.Tally.Messages != 10 {
					t.Errorf("%d messages, want 10: %v, %+v", sum.Tally.Messages, err, fates)
				}
				list, _, err := s.Reports(t.Context(), dmarc.ReportQuery{Scope: dmarc.Everything, Domain: "example.com", Period: period, Page: dmarc.Page{Limit: 10}})
				if err != nil {
					t.Fatal(err)
				}
				var counting []string
				for _, r := range list {
					if !r.Active {
						continue
					}
					counting = append(counting, r.Report.ID)
					if r.Report.Flags&dmarc.FlagReduced != 0 {
						t.Errorf("what parsedmarc kept counts in place of the report: %+v", r)
					}
				}
				slices.Sort(counting)
				want := []string{"1234@mail.receiver.example", "5678@mail.receiver.example"}
				if first == "reduced" {
					want[0] = "1234" // the identity that was there
				}
				if !slices.Equal(counting, want) {
					t.Errorf("%q count, want %q", counting, want)
				}
			})
		}
	}
}
