package main

import (
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

func TestOnlyCitusCanDistribute(t *testing.T) {
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + pgtest.URL(t), "DMARCD_LOG_LEVEL=error"}}
	if got := w.run(t, "migrate", "--show", "--distribute"); got.status != exitUsage {
		t.Errorf("%+v", got)
	}
	if got := w.run(t, "migrate", "--distribute"); got.status != exitFailed || !strings.Contains(got.stderr, "cannot be distributed") {
		t.Errorf("%+v", got)
	}
	if got := w.run(t, "import", "testdata/aggregate.xml"); got.status != exitDone {
		t.Errorf("it works no more: %+v", got)
	}
}
