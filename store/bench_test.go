package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// BenchmarkAdd adds batches of small reports, as ingest does.
func BenchmarkAdd(b *testing.B) {
	const perBatch, perReport = 330, 15
	s, _ := open(b)
	rnd := rand.New(rand.NewPCG(1, 1))
	rows := 0
	for i := range b.N {
		b.StopTimer()
		var ds []dmarc.Delivery
		for j := range perBatch {
			r := report{
				domain: fmt.Sprintf("d%d.example", rnd.IntN(20)), org: fmt.Sprintf("org%d.example", rnd.IntN(12)), id: fmt.Sprint(i, j),
				begin: day1.Add(time.Duration(rnd.IntN(20)) * 24 * time.Hour), length: 24*time.Hour - time.Second,
			}
			for range perReport {
				w := row("192.0.2.1", rnd.Int64N(100), pass, fail, dmarc.DispositionNone)
				w.Source = netip.AddrFrom4([4]byte{198, 18, byte(rnd.IntN(256)), byte(rnd.IntN(256))})
				w.AuthDKIM[0].Selector = fmt.Sprint("s", rnd.IntN(20))
				r.rows = append(r.rows, w)
			}
			rows += perReport
			ds = append(ds, mail(uint32(i*perBatch+j+1), r))
		}
		b.StartTimer()
		if _, err := s.Add(context.Background(), ds); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(perBatch*b.N)/b.Elapsed().Seconds(), "reports/s")
}
