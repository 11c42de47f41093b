package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// openTest opens what serve works with, on a database of its own.
func openTest(t *testing.T, url string) *service {
	t.Helper()
	cfg := &config{DatabaseURL: newSecret(url), Limits: parse.DefaultLimits}
	s, err := openService(t.Context(), cfg, slog.New(slog.DiscardHandler), postgres.Options{}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// call asks the API and reads its answer.
func call(t *testing.T, h http.Handler, method, path string, into any) int {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	body, _ := io.ReadAll(w.Body)
	if into != nil && w.Code == http.StatusOK {
		if err := json.Unmarshal(body, into); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, body)
		}
	}
	return w.Code
}

type wireReport struct {
	ID           string       `json:"id"`
	Active       bool         `json:"active"`
	Chosen       bool         `json:"chosen"`
	Totals       wireTotals   `json:"totals"`
	Rows         []any        `json:"rows"`
	Alternatives []wireReport `json:"alternatives"`
}

func TestConflictsAreShownAndSwitched(t *testing.T) {
	url := pgtest.URL(t)
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}
	dir := "../../parse/testdata/deviations/"
	if got := w.run(t, "import", dir+"093-two-files-large.xml", dir+"093-two-files-small.xml"); got.status != exitDone {
		t.Fatalf("%+v", got)
	}
	h := openTest(t, url).handler()
	const period = "from=2012-01-01&to=2030-01-01"
	list := func(query string) (items []wireReport) {
		var l struct{ Items []wireReport }
		if code := call(t, h, "GET", "/api/v1/reports?"+period+query, &l); code != http.StatusOK {
			t.Fatal(code)
		}
		return l.Items
	}
	total := func() (n int64) {
		var l wireList
		call(t, h, "GET", "/api/v1/domains?"+period, &l)
		for _, d := range l.Items {
			n += d.Totals.Messages
		}
		return n
	}
	if all, inactive := list(""), list("&inactive=true"); len(all) != 2 || len(inactive) != 1 {
		t.Fatalf("%d reports, %d of them do not count", len(all), len(inactive))
	}
	small := list("&inactive=true")[0]
	if total() != 8 {
		t.Errorf("%d messages, want 8", total())
	}
	for range 2 { // there, and back
		var rep wireReport
		call(t, h, "GET", "/api/v1/reports/"+small.ID, &rep)
		if rep.Active || len(rep.Rows) != 0 || len(rep.Alternatives) != 1 || !rep.Alternatives[0].Active {
			t.Errorf("before: %+v", rep)
		}
		if code := call(t, h, "POST", "/api/v1/reports/"+small.ID+"/activate", &rep); code != http.StatusOK || !rep.Active || !rep.Chosen {
			t.Errorf("activate: %d %+v", code, rep)
		}
		call(t, h, "GET", "/api/v1/reports/"+small.ID, &rep)
		if !rep.Active || int64(len(rep.Rows)) != small.Totals.Rows || total() != small.Totals.Messages || len(list("&inactive=true")) != 1 {
			t.Errorf("after: %+v, %d messages in all", rep, total())
		}
		if got := w.run(t, "verify"); got.status != exitDone {
			t.Errorf("%+v", got)
		}
		small = rep.Alternatives[0]
	}
	if code := call(t, h, "POST", "/api/v1/reports/9-9/activate", nil); code != http.StatusNotFound {
		t.Errorf("an unknown report: %d", code)
	}
	// Without the message there are no rows to count.
	db, err := store.Open(t.Context(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(t.Context(), "DELETE FROM raw_messages"); err != nil {
		t.Fatal(err)
	}
	if code := call(t, h, "POST", "/api/v1/reports/"+small.ID+"/activate", nil); code != http.StatusConflict {
		t.Errorf("without its message: %d", code)
	}
}
