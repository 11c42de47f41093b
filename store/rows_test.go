package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Whoever reads a report row by row may take their time. However many do, others are answered.
func TestThoseWhoReadRowsSlowlyLeaveConnectionsToOthers(t *testing.T) {
	s, db := open(t)
	add(t, s, mail(1, daily("1", row("192.0.2.1", 3, pass, pass, dmarc.DispositionNone))))
	q := dmarc.ReportQuery{Scope: dmarc.Everything, Domain: "example.com", Period: february, Page: dmarc.Page{Limit: 10}}
	list, _, err := s.Reports(t.Context(), q)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d reports, %v", len(list), err)
	}
	readers := int(db.Config().MaxConns)
	reading, goOn := make(chan struct{}, readers), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	var all sync.WaitGroup
	for range readers {
		rep, err := s.Report(t.Context(), list[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			n := 0
			for _, err := range rep.Report.Rows {
				if err != nil {
					t.Error(err)
					return
				}
				n++
				reading <- struct{}{}
				<-goOn
			}
			if n != 1 {
				t.Errorf("%d rows were read", n)
			}
		})
	}
	for range readers / 3 {
		<-reading
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 20 {
		if _, _, err := s.Reports(ctx, q); err != nil {
			t.Fatalf("meanwhile: %v", err)
		}
	}
	if more := len(reading); more > 0 {
		t.Errorf("%d of %d connections are held", readers/3+more, readers)
	}
	release()
	all.Wait()
}
