package ingest_test

import (
	"reflect"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/ingest/dovecottest"
)

func TestTryCountsWhatWaitsAndChangesNothing(t *testing.T) {
	s := dovecottest.Start(t)
	s.Deliver(t, "1.a.host", reportMail("one"))
	s.Deliver(t, "2.a.host", reportMail("two"))
	box := mailboxAt(s, func(o *ingest.IMAPOptions) { o.After, o.MoveTo, o.MoveOthersTo = ingest.AfterMove, "Archive", "Others" })
	defer box.Close()
	want := ingest.Trial{Reached: ingest.StepDone, Waiting: 2, Missing: []string{"Archive", "Others"}}
	for range 2 {
		if got, err := box.Try(t.Context(), dmarc.Place{}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	if sum, err := ingester(&memory{}).Pass(t.Context(), box); err != nil || sum.Messages != 2 {
		t.Errorf("afterwards: %+v, %v", sum, err)
	}
}
