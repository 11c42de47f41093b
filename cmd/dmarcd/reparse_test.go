package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

func TestReparseReadsWhatLimitsRefusedBefore(t *testing.T) {
	url := pgtest.URL(t)
	now := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}
	then := world{vars: append(now.vars, "DMARCD_LIMITS_ROWS=1")}
	dir := "../../parse/testdata/deviations/"
	files := []string{"import", "testdata/aggregate.xml", dir + "093-two-files-large.xml", dir + "026-delivered-twice-first.eml"}
	if got := then.run(t, files...); got.status != exitFailed || !strings.Contains(got.stdout, "too_large") && !strings.Contains(got.stdout, "refused") {
		t.Fatalf("%+v", got)
	}
	if got := now.run(t, "reparse", "--outcome", "too_big"); got.status != exitUsage || !strings.Contains(got.stderr, "too_large") {
		t.Errorf("%+v", got)
	}
	ask := func(w world, args ...string) (out struct {
		Changes []reparseChange
		reparseResult
	}) {
		t.Helper()
		got := w.run(t, append([]string{"reparse", "--format", "json"}, args...)...)
		if err := json.Unmarshal([]byte(got.stdout), &out); err != nil || got.status != exitDone {
			t.Fatalf("%v %+v", err, got)
		}
		return out
	}
	dry := ask(now, "--dry-run")
	readable := dry.Counts[dmarc.ChangeReadable]
	if readable == 0 || dry.Messages != 3 || !dry.DryRun {
		t.Errorf("dry run: %+v", dry)
	}
	if got := ask(now, "--outcome", "bad_json"); got.Messages != 0 {
		t.Errorf("messages of another outcome were read: %+v", got)
	}
	if got := ask(now, "--since", "2100-01-01"); got.Messages != 0 {
		t.Errorf("messages of before were read: %+v", got)
	}
	if got := ask(now, "--outcome", "too_large"); got.Counts[dmarc.ChangeReadable] != readable || len(got.Changes) != int(readable) || got.Changes[0].After.Messages == 0 {
		t.Errorf("%+v", got)
	}
	if got := ask(now); got.Counts[dmarc.ChangeNone] != int64(3) || len(got.Changes) != 0 {
		t.Errorf("again: %+v", got)
	}
	if got := ask(then); got.Counts[dmarc.ChangeRefused] != readable {
		t.Errorf("with the old limits: %+v", got)
	}
	for _, args := range [][]string{{"verify"}, {"import", "testdata/aggregate.xml"}} {
		if got := now.run(t, args...); got.status != exitDone {
			t.Errorf("%+v", got)
		}
	}
}
