package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

func TestVerifySaysWhatDiffersAndRebuildsIt(t *testing.T) {
	url := pgtest.URL(t)
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}
	if got := w.run(t, "import", "testdata/aggregate.xml"); got.status != exitDone {
		t.Fatalf("%+v", got)
	}
	if got := w.run(t, "verify"); got.status != exitDone || !strings.Contains(got.stdout, "\nno differences\n") || !strings.HasPrefix(got.stdout, "1 domain compared") {
		t.Errorf("%+v", got)
	}
	if got := w.run(t, "verify", "not-there.example"); got.status != exitFailed || !strings.Contains(got.stderr, `"not-there.example": not found`) {
		t.Errorf("%+v", got)
	}
	db, err := store.Open(t.Context(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(t.Context(), "UPDATE domain_days SET messages = messages + 5"); err != nil {
		t.Fatal(err)
	}
	if got := w.run(t, "verify"); got.status != exitFailed || !strings.Contains(got.stdout, "domain_days: example.com, ") {
		t.Errorf("%+v", got)
	}
	for _, want := range []struct {
		status int
		args   []string
		differ int
	}{
		{exitFailed, []string{"verify", "--format", "json", "example.com"}, 1},
		{exitDone, []string{"verify", "--format", "json", "--rebuild"}, 1},
		{exitDone, []string{"verify", "--format", "json"}, 0},
	} {
		got := w.run(t, want.args...)
		var out struct {
			Differences []verifyDifference
			verifyResult
		}
		if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
			t.Fatalf("%v: %+v", err, got)
		}
		if got.status != want.status || len(out.Differences) != want.differ || out.Domains != 1 || out.Compared["domain_days"] == 0 {
			t.Errorf("%q: %+v", want.args, got)
		}
		if want.differ > 0 {
			d := out.Differences[0]
			if !reflect.DeepEqual([]any{d.Table, d.Domain, d.Repaired}, []any{"domain_days", "example.com", want.status == exitDone}) {
				t.Errorf("%+v", d)
			}
		}
	}
}
