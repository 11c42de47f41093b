package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// A report about a month whose rows are gone counts in totals, or is refused by
// setting; either is said to who brings it, in the ledger and the list of reports, and
// a refusal in the log.
func TestLateReportsAreCountedOrRefusedAndItIsSaid(t *testing.T) {
	for _, c := range []struct {
		late           string
		status         int
		answer, ledger string
		messages       int64
	}{
		{"count", http.StatusCreated, `"outcome":"ok_with_flags"`, `"outcome":"ok_with_flags","reason":"rows_not_kept"`, 4},
		{"refuse", http.StatusUnprocessableEntity, "retention.late", `"outcome":"too_old"`, 2},
	} {
		t.Run(c.late, func(t *testing.T) {
			s := openAccess(t, pgtest.URL(t), func(cfg *config) { cfg.Late = c.late })
			secret := s.token(t, "any", dmarc.Everything, dmarc.RoleRead, dmarc.RoleUpload)
			var log bytes.Buffer
			s.ingester.Log = slog.New(slog.NewTextHandler(&log, nil))
			h := s.handler()
			if code, body := as(h, "POST", "/api/v1/reports", secret, aReport("early")); code != http.StatusCreated {
				t.Fatalf("%d %s", code, body)
			}
			now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
			if err := s.store.Expire(t.Context(), store.Retention{Rows: 30 * 24 * time.Hour}, now); err != nil {
				t.Fatal(err)
			}
			if code, body := as(h, "POST", "/api/v1/reports", secret, aReport("late")); code != c.status || !strings.Contains(body, c.answer) {
				t.Errorf("the upload is answered %d %s, want %d %s", code, body, c.status, c.answer)
			}
			_, ledger := as(h, "GET", "/api/v1/messages", secret, "")
			if !strings.Contains(ledger, c.ledger) {
				t.Errorf("the ledger does not say %s:\n%s", c.ledger, ledger)
			}
			_, reports := as(h, "GET", "/api/v1/reports?from=2025-12-01&to=2026-03-01", secret, "")
			if said := strings.Contains(reports, `"rows_not_kept"`); said != (c.late == "count") {
				t.Errorf("the flag in the list of reports: %t\n%s", said, reports)
			}
			sum, err := s.store.Summary(t.Context(), dmarc.TrafficQuery{Domain: "example.com", Period: dmarc.Period{Begin: now.AddDate(0, -6, 0), End: now}})
			if err != nil || sum.Tally.Messages != c.messages {
				t.Errorf("%d messages, want %d; %v", sum.Tally.Messages, c.messages, err)
			}
			if c.late == "refuse" && !strings.Contains(log.String(), "too_old") {
				t.Errorf("the log does not say it: %s", &log)
			}
		})
	}
}
