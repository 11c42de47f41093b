package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/api"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

var update = flag.Bool("update", false, "rewrite openapi.json")

// A fake knows one domain and one report, and fails with err if it is set.
type fake struct {
	err  error
	fate dmarc.Fate
	rows int
	last any // the query that was asked last
}

var sum = dmarc.Tally{Rows: 2, Messages: 10, DMARCPass: 8, DKIMAligned: 8, SPFAligned: 3, None: 9, Reject: 1, Pass: 4}

// judged is a verdict that the fake has.
var judged = &dmarc.DomainVerdict{
	Domain: "a.example", ComputedAt: day, Verdict: "not_ready", Policy: "p=none", Target: "p=quarantine", Attention: dmarc.AttentionNewFailure,
	Sentence: "It has failed.", Blockers: 2, LossADay: 1.5, ByClass: [dmarc.NumClasses]int64{0, 3, 1}, Own: 4, Passing: 3,
}

var day = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC) // a Monday

func (f *fake) Domains(_ context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
	f.last = q
	return []dmarc.DomainTraffic{{Domain: `x"<script>.example`, Tally: sum, Reports: 3, LastDay: day, Verdict: judged}}, "more", f.err
}

func (f *fake) Summary(_ context.Context, q dmarc.TrafficQuery) (dmarc.DomainSummary, error) {
	f.last = q
	days := []dmarc.DayTraffic{{Day: day, Tally: sum}, {Day: day.AddDate(0, 0, 6), Tally: sum, Estimated: true}, {Day: day.AddDate(0, 0, 7), Tally: sum}}
	return dmarc.DomainSummary{Domain: q.Domain, Tally: sum, Reports: 3, Days: days, Published: &dmarc.PolicyPublished{P: dmarc.PolicyReject}}, f.err
}

func (f *fake) Sources(_ context.Context, q dmarc.TrafficQuery) (dmarc.SourceList, dmarc.Cursor, error) {
	f.last = q
	return dmarc.SourceList{Items: []dmarc.SourceTraffic{{Source: netip.MustParseAddr("2001:db8::1"), Tally: sum, FirstDay: day, LastDay: day}}, Total: 1}, "", f.err
}

func (f *fake) Look(_ context.Context, domain string) (*records.Result, error) {
	if domain != "a.example" {
		return nil, dmarc.ErrNotFound
	}
	return &records.Result{Domain: domain, Findings: []records.ResultFinding{{ID: "spf.missing", Severity: "error"}}}, nil
}
func (f *fake) RecordChanges(context.Context, string, dmarc.ChangeQuery) ([]dmarc.RecordChange, dmarc.Cursor, error) {
	return []dmarc.RecordChange{{Name: "a.example", Type: "TXT", Before: []string{"x"}, After: []string{}}}, "", nil
}
func (f *fake) Selectors(context.Context, dmarc.TrafficQuery) (dmarc.SelectorList, dmarc.Cursor, error) {
	return dmarc.SelectorList{Items: []dmarc.SelectorTraffic{{Domain: "example.com", Selector: "s1", Passed: 2, Tally: dmarc.Tally{Messages: 3}}}, Others: 4}, "", nil
}
func (f *fake) Reporters(context.Context, dmarc.TrafficQuery) ([]dmarc.ReporterTraffic, dmarc.Cursor, error) {
	return nil, "", f.err
}

func (f *fake) Reports(_ context.Context, q dmarc.ReportQuery) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	f.last = q
	return []dmarc.ReportSummary{{ID: "1-1"}}, "", f.err
}

func (f *fake) Report(context.Context, string) (dmarc.ReportSummary, error) {
	rep := dmarc.ReportSummary{ID: "1-1", Active: true}
	rep.Report.Rows = func(yield func(*dmarc.Row, error) bool) {
		row := dmarc.Row{Source: netip.MustParseAddr("192.0.2.1"), Count: 5, HeaderFrom: "example.com", DKIM: dmarc.ResultPass}
		for range f.rows {
			if !yield(&row, nil) {
				return
			}
		}
	}
	return rep, f.err
}

func (f *fake) ReportRows(_ context.Context, q dmarc.RowQuery) (dmarc.RowList, dmarc.Cursor, error) {
	f.last = q
	row := dmarc.Row{Source: netip.MustParseAddr("192.0.2.1"), Count: 5, HeaderFrom: "example.com", AuthDKIM: []dmarc.DKIMResult{{Domain: "example.com", Selector: "s1", Result: dmarc.ResultPass}}}
	return dmarc.RowList{Items: []dmarc.Row{row}, Rows: 1, Messages: 5}, "", f.err
}

func (f *fake) Alternatives(context.Context, string, dmarc.Page) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	return []dmarc.ReportSummary{{ID: "1-2"}}, "", f.err
}

func (f *fake) Mailboxes(context.Context, time.Time) ([]dmarc.Mailbox, error) {
	return []dmarc.Mailbox{
		{MailboxHealth: dmarc.MailboxHealth{Mailbox: "inbox", Failing: day, Error: "refused", Fix: "ask", Seen: day, Took: 1500 * time.Millisecond, Failures: 2, Waiting: 3}, Where: "a at b", Configured: true},
		{MailboxHealth: dmarc.MailboxHealth{Mailbox: "new"}, Where: "a at c", Configured: true},
	}, nil
}

func (f *fake) Passes(context.Context) ([]dmarc.Pass, error) {
	return []dmarc.Pass{{PassHealth: dmarc.PassHealth{Name: "facts", OK: day, Seen: day}, Text: "Reduces", Holder: "host, 1"}}, nil
}

func (f *fake) Activate(_ context.Context, id string) (dmarc.ReportSummary, error) {
	f.last = id
	return dmarc.ReportSummary{ID: id, Active: true}, f.err
}

func (f *fake) Raw(context.Context, string) (io.ReadCloser, dmarc.LedgerEntry, error) {
	return io.NopCloser(strings.NewReader("\x00bytes")), dmarc.LedgerEntry{ID: 7, MessageID: "<a\r\nEvil: 1>"}, f.err
}

func (f *fake) Failures(context.Context, dmarc.FailureQuery) ([]dmarc.StoredFailure, dmarc.Cursor, error) {
	return []dmarc.StoredFailure{{Report: dmarc.FailureReport{MailFrom: "jo@example.com", NullSender: false}}}, "", f.err
}

func (f *fake) TLS(context.Context, dmarc.TLSQuery) ([]dmarc.StoredTLS, dmarc.Cursor, error) {
	return nil, "", f.err
}

func (f *fake) TLSReport(context.Context, string) (dmarc.StoredTLS, error) {
	return dmarc.StoredTLS{}, f.err
}

func (f *fake) Messages(_ context.Context, q dmarc.MessageQuery) ([]dmarc.LedgerEntry, dmarc.Cursor, error) {
	f.last = q
	return nil, "", f.err
}

func (f *fake) Attention(_ context.Context, q dmarc.AttentionQuery) ([]dmarc.DomainVerdict, dmarc.Cursor, error) {
	f.last = q
	return []dmarc.DomainVerdict{*judged}, "more", f.err
}

func (f *fake) Overrules(_ context.Context, domain string) ([]dmarc.Overrule, error) {
	list := []dmarc.Overrule{{Network: netip.MustParsePrefix("192.0.2.0/24"), Class: dmarc.ClassOwn, Note: "sources.own", File: true}}
	if domain != "" {
		list = append(list, dmarc.Overrule{Domain: domain, Network: netip.MustParsePrefix("2001:db8::1/128"), Class: dmarc.ClassService, By: "jo", At: day})
	}
	return list, f.err
}

func (f *fake) PutOverrule(_ context.Context, o *dmarc.Overrule) (bool, error) {
	f.last = *o
	return !strings.Contains(o.Note, "again"), f.err
}

func (f *fake) DropOverrule(_ context.Context, domain string, network netip.Prefix) error {
	f.last = domain + " " + network.String()
	return f.err
}

func (f *fake) Ready(context.Context) error { return f.err }

func (f *fake) Take(_ context.Context, _, _ string, body io.Reader) (dmarc.Fate, error) {
	_, err := io.Copy(io.Discard, body)
	return f.fate, errors.Join(err, f.err)
}

func ask(t *testing.T, f *fake, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	h := api.New(f, f, api.Options{Version: "test", Overrules: f, Now: func() time.Time { return day.Add(time.Hour) }})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func TestTheDocumentIsTheOneInTheRepository(t *testing.T) {
	got, err := api.OpenAPI("")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	text.WriteByte('\n')
	if *update {
		if err := os.WriteFile("openapi.json", text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text.Bytes(), want) {
		t.Error("openapi.json is stale: go test ./api -run Document -update")
	}
	served := ask(t, &fake{}, "GET", "/api/v1/openapi.json", "")
	var doc struct{ OpenAPI string }
	if json.Unmarshal(served.Body.Bytes(), &doc) != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("served: %d %.100s", served.Code, served.Body)
	}
}

func TestSummaryAddsDaysUpToWeeks(t *testing.T) {
	f := &fake{}
	w := ask(t, f, "GET", "/api/v1/domains/EXAMPLE.com./summary?from=2026-01-01&to=2026-02-01&interval=week", "")
	var got struct {
		Domain   string
		From, To time.Time
		PassRate *float64 `json:"pass_rate"`
		Totals   map[string]int64
		Series   []struct {
			Day       string
			Totals    map[string]int64
			Estimated bool
		}
		Published map[string]any
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if got.Domain != "example.com" || *got.PassRate != 0.8 || got.Totals["none"] != 9 || got.Published["p"] != "reject" || got.Published["sp"] != nil {
		t.Errorf("%+v", got)
	}
	if len(got.Series) != 2 || got.Series[0].Day != "2026-01-05" || got.Series[0].Totals["messages"] != 20 || !got.Series[0].Estimated || got.Series[1].Day != "2026-01-12" {
		t.Errorf("series %+v", got.Series)
	}
	want := dmarc.TrafficQuery{Domain: "example.com", Period: dmarc.Period{Begin: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)}}
	if f.last != want {
		t.Errorf("asked %+v, want %+v", f.last, want)
	}
}

func TestThePeriodIsTheLast30DaysUnlessItIsGiven(t *testing.T) {
	f := &fake{}
	ask(t, f, "GET", "/api/v1/domains", "")
	want := dmarc.Period{Begin: day.AddDate(0, 0, -29), End: day.AddDate(0, 0, 1)}
	if q := f.last.(dmarc.DomainQuery); q.Period != want || q.Limit != 100 {
		t.Errorf("asked %+v, want %+v", q, want)
	}
}

func TestEveryBadParameterIsNamed(t *testing.T) {
	w := ask(t, &fake{}, "GET", "/api/v1/domains?from=yesterday&to=tomorrow&limit=0", "")
	if w.Code != 422 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", w.Code, w.Header())
	}
	for _, name := range []string{"query.from", "query.to", "query.limit"} {
		if !strings.Contains(w.Body.String(), name) {
			t.Errorf("%s is not named in %s", name, w.Body)
		}
	}
	if w := ask(t, &fake{}, "GET", "/api/v1/domains?from=2026-02-01&to=2026-01-01", ""); w.Code != 422 || !strings.Contains(w.Body.String(), "before to") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestErrorsAreProblems(t *testing.T) {
	secret := errors.New("password=hunter2")
	for _, c := range []struct {
		err  error
		path string
		want int
	}{
		{dmarc.ErrNotFound, "/api/v1/reports/1-1", 404},
		{dmarc.ErrNotFound, "/api/v1/domains/a.example/sources", 404},
		{nil, "/api/v1/domains/b.example/checks", 404},
		{dmarc.ErrBadCursor, "/api/v1/messages?after=x", 400},
		{context.DeadlineExceeded, "/api/v1/tls", 503},
		{secret, "/api/v1/failures", 500},
		{secret, "/readyz", 503},
		{nil, "/api/v1/nothing", 404},
	} {
		w := ask(t, &fake{err: c.err}, "GET", c.path, "")
		if w.Code != c.want || w.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("%s with %v: %d %s %s", c.path, c.err, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
}

func TestListsAnswerEveryEndpoint(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/domains":                          `"next":"more.`,
		"/api/v1/domains/a.example/sources":        `"source":"2001:db8::1"`,
		"/api/v1/domains/a.example/reporters":      `{"items":[],"next":null}`,
		"/api/v1/reports":                          `"id":"1-1"`,
		"/api/v1/reports/1-1/rows?sort=failing":    `"next":null,"rows":1,"messages":5`,
		"/api/v1/domains/a.example/checks":         `"id":"spf.missing"`,
		"/api/v1/domains/a.example/checks/history": `"before":["x"],"after":[]`,
		"/api/v1/attention":                        `"attention":"new_failure","sentence":"It has failed."`,
		"/api/v1/overrules":                        `{"items":[{"network":"192.0.2.0/24","class":"own","note":"sources.own","by":null,"at":null,"scope":"all","file":true}]}`,
		"/api/v1/domains/a.example/overrules":      `{"network":"2001:db8::1","class":"service","note":"","by":"jo","at":"2026-01-05T00:00:00Z","scope":"domain","file":false}`,
		"/api/v1/failures":                         `"mail_from":"…@example.com"`,
		"/api/v1/tls":                              `{"items":[],"next":null}`,
		"/api/v1/messages":                         `{"items":[],"next":null}`,
		"/api/v1/mailboxes":                        `{"items":[{"mailbox":"inbox","where":"a at b","state":"failing","ok_at":null,"failing_since":"2026-01-05T00:00:00Z","error":"refused","fix":"ask","tried_at":"2026-01-05T00:00:00Z","took":1.5,"failures":2,"waiting":3,"oldest_at":null,"process":null},{"mailbox":"new","where":"a at c","state":"not_read_yet"`,
		"/api/v1/passes":                           `{"items":[{"pass":"facts","text":"Reduces","state":"fine","ok_at":"2026-01-05T00:00:00Z","failing_since":null,"error":null,"tried_at":"2026-01-05T00:00:00Z","took":0,"failures":0,"process":"host, 1"}],"next":null}`,
		"/api/v1/notifications":                    `{"target":"chat","state":"waiting","attempts":0,"error":"it answers 500","next_attempt_at":"2026-01-05T00:00:00Z","done_at":null}`,
		"/healthz":                                 "alive",
		"/readyz":                                  "ready",
		"/metrics":                                 "go_goroutines",
		"/api/docs":                                "curl",
	} {
		w := ask(t, &fake{}, "GET", path, "")
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d, no %s in %.300s", path, w.Code, want, w.Body)
		}
		if strings.HasPrefix(path, "/api/v1") && w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s", path, w.Header().Get("Content-Type"))
		}
	}
}

// The documentation leads back to the dashboard, under whatever path that is reached, and to
// each of its operations.
func TestTheDocumentationLeadsOn(t *testing.T) {
	page := ask(t, &fake{}, "GET", "/api/docs", "").Body.String()
	if !strings.Contains(page, `<a href="../">dmarcd</a>`) {
		t.Error("no way back to the dashboard")
	}
	operations := 0
	for _, part := range strings.Split(page, `<h2 id="`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		operations++
		if !strings.Contains(page, `<a href="#`+id+`">`) {
			t.Errorf("nothing leads to %s", id)
		}
	}
	if operations < 20 {
		t.Errorf("%d operations", operations)
	}
}

func TestTheListOfDomainsTellsTheVerdict(t *testing.T) {
	w := ask(t, &fake{}, "GET", "/api/v1/domains", "")
	var got struct {
		Items []struct {
			Verdict string
			Advice  map[string]any
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Items) != 1 {
		t.Fatalf("%v in %s", err, w.Body)
	}
	a := got.Items[0].Advice
	if got.Items[0].Verdict != "not_ready" || a["own_pass_rate"] != 0.75 || a["next"] != nil || a["loss_per_day"] != 1.5 ||
		a["messages_by_class"].(map[string]any)["service"] != 1.0 {
		t.Errorf("%+v", got)
	}
}

func TestSourcesAreOverruled(t *testing.T) {
	f := &fake{}
	put := func(path, body string, status int, want any) {
		t.Helper()
		f.last = nil
		w := ask(t, f, "PUT", path, body)
		if w.Code != status {
			t.Errorf("%s %s: %d %s", path, body, w.Code, w.Body)
		}
		if f.last != want {
			t.Errorf("%s: said %+v, want %+v", path, f.last, want)
		}
	}
	at := day.Add(time.Hour)
	o := dmarc.Overrule{Domain: "a.example", Network: netip.MustParsePrefix("192.0.2.0/24"), Class: dmarc.ClassOwn, Note: "ours", By: "jo", At: at}
	put("/api/v1/domains/A.example./overrules/192.0.2.7%2F24", `{"class":"own","note":"ours","by":"jo"}`, 201, o)
	put("/api/v1/domains/a.example/overrules/2001:DB8::1", `{"class":"suspicious","note":"again"}`, 200,
		dmarc.Overrule{Domain: "a.example", Network: netip.MustParsePrefix("2001:db8::1/128"), Class: dmarc.ClassSuspicious, Note: "again", At: at})
	put("/api/v1/overrules/::ffff:192.0.2.9", `{"class":"forwarder"}`, 201, dmarc.Overrule{Network: netip.MustParsePrefix("192.0.2.9/32"), Class: dmarc.ClassForwarder, At: at})
	for _, bad := range []string{"nonsense", "10.0.0.0%2F7", "::%2F0", "192.0.2.1%2F33", "fe80::1%25eth0"} {
		put("/api/v1/overrules/"+bad, `{"class":"own"}`, 422, nil)
	}
	put("/api/v1/overrules/192.0.2.1", `{"class":"unknown"}`, 422, nil)
	put("/api/v1/overrules/192.0.2.1", `{}`, 422, nil)
	if w := ask(t, f, "DELETE", "/api/v1/domains/a.example/overrules/192.0.2.0%2F24", ""); w.Code != 204 || f.last != "a.example 192.0.2.0/24" {
		t.Errorf("%d, dropped %v", w.Code, f.last)
	}
	f.err = dmarc.ErrNotFound
	if w := ask(t, f, "DELETE", "/api/v1/overrules/192.0.2.0", ""); w.Code != 404 || f.last != " 192.0.2.0/32" {
		t.Errorf("%d, dropped %v", w.Code, f.last)
	}
	f.err = dmarc.Refusal("the configuration says so")
	if w := ask(t, f, "PUT", "/api/v1/overrules/192.0.2.0", `{"class":"own"}`); w.Code != 409 || !strings.Contains(w.Body.String(), "the configuration says so") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestRowsOfAnyNumberAreStreamed(t *testing.T) {
	server := httptest.NewServer(api.New(&fake{rows: 100_000}, nil, api.Options{}))
	defer server.Close()
	resp, err := http.Get(server.URL + "/api/v1/reports/1-1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	rows := 0
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if tok == "header_from" {
			rows++
		}
	}
	if rows != 100_000 {
		t.Errorf("%d rows", rows)
	}
}

func TestTheRawMessageHasAHarmlessName(t *testing.T) {
	w := ask(t, &fake{}, "GET", "/api/v1/reports/1-1/raw", "")
	if w.Code != 200 || w.Body.String() != "\x00bytes" || w.Header().Get("Content-Disposition") != `attachment; filename="dmarcd-message-7.eml"` {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
}

func TestAnUploadIsAnsweredByWhatBecameOfIt(t *testing.T) {
	for _, c := range []struct {
		name string
		fake fake
		want int
	}{
		{"added", fake{fate: dmarc.Fate{Outcome: dmarc.OutcomeOK, Added: 1}}, 201},
		{"known report", fake{fate: dmarc.Fate{Outcome: dmarc.OutcomeDuplicate, Duplicate: 1}}, 200},
		{"known file", fake{fate: dmarc.Fate{Outcome: dmarc.OutcomeOK, Known: true}}, 200},
		{"broken", fake{fate: dmarc.Fate{Outcome: dmarc.OutcomeBadXML, Reason: "it breaks off"}}, 422},
		{"no report", fake{fate: dmarc.Fate{Outcome: dmarc.OutcomeNotAReport}}, 422},
		{"too large", fake{err: &dmarc.Error{Outcome: dmarc.OutcomeTooLarge, Reason: "limits.message"}}, 413},
		{"database away", fake{err: errors.New("connection refused")}, 500},
	} {
		if w := ask(t, &c.fake, "POST", "/api/v1/reports?filename=a.xml", "<feedback/>"); w.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
}

func TestAReportTellsItsAlternativesAndCanBeChosen(t *testing.T) {
	f := &fake{rows: 1}
	var got struct {
		ID           string
		Alternatives []struct{ ID string }
		Rows         []any
	}
	if w := ask(t, f, "GET", "/api/v1/reports/1-1", ""); json.Unmarshal(w.Body.Bytes(), &got) != nil || len(got.Alternatives) != 1 || got.Alternatives[0].ID != "1-2" || len(got.Rows) != 1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(t, f, "POST", "/api/v1/reports/1-1/activate", ""); w.Code != http.StatusOK || f.last != "1-1" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	f.err = dmarc.Refusal("its message is gone")
	if w := ask(t, f, "POST", "/api/v1/reports/1-1/activate", ""); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "its message is gone") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
