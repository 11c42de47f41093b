package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/api"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/web"
)

// openAccess opens what serve works with, where everybody is asked who they are.
func openAccess(t testing.TB, url string, more ...func(*config)) *service {
	t.Helper()
	cfg := defaultConfig(&environ{vars: map[string]string{"HOME": t.TempDir()}})
	cfg.DatabaseURL, cfg.Limits = newSecret(url), parse.DefaultLimits
	cfg.Access.Tokens, cfg.Failure.Store, cfg.HTTP.PerMinute = true, true, 0
	for _, set := range more {
		set(cfg)
	}
	s, err := openService(t.Context(), cfg, slog.New(slog.DiscardHandler), postgres.Options{}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// token makes a token and returns its secret.
func (s *service) token(t *testing.T, name string, scope dmarc.Scope, roles ...dmarc.Role) string {
	t.Helper()
	secret, _, err := s.keeper.CreateToken(access.With(t.Context(), operator()), dmarc.Token{Name: name, Roles: roles, Scope: scope})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// as asks with a token and returns the status, and all that comes back, headers
// included.
func as(h http.Handler, method, path, secret, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	if strings.HasPrefix(path, "/live") { // it would go on for minutes
		ctx, leave := context.WithCancel(r.Context())
		defer leave()
		h.ServeHTTP(&impatient{w, leave}, r.WithContext(ctx))
	} else {
		h.ServeHTTP(w, r)
	}
	var head strings.Builder
	w.Header().Write(&head)
	return w.Code, head.String() + "\n" + w.Body.String()
}

// An impatient client leaves as soon as it is told anything.
type impatient struct {
	*httptest.ResponseRecorder
	leave func()
}

func (w *impatient) Write(b []byte) (int, error) {
	defer w.leave()
	return w.ResponseRecorder.Write(b)
}

// A customer is a domain and all that is told about it. Every text has the name in
// it, and every number its digits.
type customer struct {
	name, address string
	n             int
	ids           []string // of its reports
	tls           []string // of its TLS reports
}

func (x *customer) domain() string { return x.name + ".example" }

// aggregate is a report about a domain of the tenant.
func (x *customer) aggregate(id, domain string, n int, day time.Time) string {
	return fmt.Sprintf(`<?xml version="1.0"?><feedback><report_metadata><org_name>%[1]s-reporter.test</org_name><email>a@%[1]s-reporter.test</email>
<report_id>%[1]s-%[2]s</report_id><date_range><begin>%[6]d</begin><end>%[7]d</end></date_range></report_metadata>
<policy_published><domain>%[3]s</domain><p>none</p></policy_published>
<record><row><source_ip>%[4]s</source_ip><count>%[5]d</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>
<identifiers><header_from>%[3]s</header_from></identifiers>
<auth_results><dkim><domain>%[3]s</domain><selector>%[1]skey</selector><result>pass</result></dkim><spf><domain>%[1]s-bounce.test</domain><result>pass</result></spf></auth_results></record></feedback>`,
		x.name, id, domain, x.address, n, day.Unix(), day.Add(24*time.Hour-time.Second).Unix())
}

func (x *customer) failure() string {
	return fmt.Sprintf("From: a@%[1]s-reporter.test\r\nSubject: %[1]s failed\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"+
		"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: auth-failure\r\nUser-Agent: %[1]s\r\nVersion: 1\r\n"+
		"Original-Mail-From: <jo@%[1]s-bounce.test>\r\nArrival-Date: %[4]s\r\nSource-IP: %[2]s\r\nAuth-Failure: dmarc\r\nReported-Domain: %[3]s\r\n\r\n"+
		"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: jo@%[3]s\r\nSubject: %[1]s secret\r\nMessage-ID: <%[1]s@x>\r\n\r\n\r\n--b--\r\n",
		x.name, x.address, x.domain(), time.Now().Add(-26*time.Hour).UTC().Format(time.RFC1123Z))
}

// files writes what comes about the tenant, of a day.
func (x *customer) files(t *testing.T, dir string, day time.Time) {
	t.Helper()
	tls := strings.NewReplacer("example.com", x.domain(), `"R"`, `"`+x.name+`-reporter.test"`, "2026-01-01", day.Format(time.DateOnly), ":5,", fmt.Sprintf(":%d,", x.n+3)).Replace(aTLSReport(x.name+"-tls", x.domain()))
	for name, text := range map[string]string{
		"1.xml": x.aggregate("first", x.domain(), x.n, day), "2.xml": x.aggregate("conflict", x.domain(), x.n+1, day), "3.xml": x.aggregate("conflict", x.domain(), x.n+2, day),
		"4.xml": x.aggregate("sub", "www."+x.domain(), x.n, day), "5.json": tls, "6.eml": x.failure(), "7.xml": strings.TrimSuffix(x.aggregate("broken", x.domain(), x.n, day), "</feedback>")[:400],
	} {
		if err := os.WriteFile(filepath.Join(dir, x.name+"-"+name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A scene is a service that knows about two tenants.
type scene struct {
	*service
	http.Handler
	alpha, bravo customer
	everything   string // a token for both
	cursors      []string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	sc := &scene{alpha: customer{name: "alpha", address: "198.51.100.77", n: 31_415_926}, bravo: customer{name: "bravo", address: "203.0.113.99", n: 27_182_818}}
	url, dir := pgtest.URL(t), t.TempDir()
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -2)
	for _, x := range []*customer{&sc.alpha, &sc.bravo} {
		x.files(t, dir, day)
	}
	both := "From: a@x.test\r\nMIME-Version: 1.0\r\nSubject: both\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/xml\r\n\r\n" +
		sc.alpha.aggregate("both", sc.alpha.domain(), 5, day) + "\r\n--b\r\nContent-Type: text/xml\r\n\r\n" + sc.bravo.aggregate("both", sc.bravo.domain(), 6, day) + "\r\n--b--\r\n"
	if err := os.WriteFile(filepath.Join(dir, "both.eml"), []byte(both), 0o600); err != nil {
		t.Fatal(err)
	}
	// A TLS report about alpha that tells of bravo as well.
	shared := strings.NewReplacer(`"policies":[`, `"policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1"],"policy-domain":"alpha.example","mx-host":["mx.alpha.example"]},`+
		`"summary":{"total-successful-session-count":7,"total-failure-session-count":0},"failure-details":[]},`, "mx.example.com", "mx.bravo.example", ":5,", fmt.Sprintf(":%d,", sc.bravo.n+3), "2026-01-01", day.Format(time.DateOnly)).
		Replace(aTLSReport("shared-tls", sc.bravo.domain()))
	if err := os.WriteFile(filepath.Join(dir, "shared.json"), []byte(shared), 0o600); err != nil {
		t.Fatal(err)
	}
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error", "DMARCD_FAILURE_STORE=true"}}
	if got := w.run(t, "import", dir); got.status != exitFailed { // two files are broken
		t.Fatalf("%+v", got)
	}
	sc.service = openAccess(t, url)
	sc.Handler = sc.handler()
	for _, x := range []*customer{&sc.alpha, &sc.bravo} {
		look := &records.Look{Domain: x.domain(), At: time.Now(), Next: time.Now().Add(time.Hour), Result: &records.Result{Domain: x.domain(), Findings: []records.ResultFinding{{ID: "spf.missing", Severity: "error", Subject: x.domain()}}}}
		for _, text := range []string{"before", "after"} {
			look.Records = []records.RecordSet{{Name: x.domain(), Type: "TXT", Values: []string{x.name + " " + text}}}
			if err := sc.store.SaveLook(t.Context(), look); err != nil {
				t.Fatal(err)
			}
		}
	}
	tell, err := sc.newTeller(defaultConfig(newEnviron(nil, nil, os.Stderr, nil)))
	if err == nil {
		err = tell.notifier.Pass(t.Context(), dmarc.Lease{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := sc.store.SummariseSources(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sc.store.SummariseFacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	sc.everything = sc.token(t, "everything", dmarc.Everything, dmarc.Roles...)
	for path, body := range map[string]string{
		"groups/alpha-clients": `{"domains":["alpha.example"]}`, "groups/bravo-clients": `{"domains":["bravo.example"]}`,
		"groups/both":                    `{"domains":["alpha.example","bravo.example"],"note":"bravo too"}`,
		"domains/alpha.example/settings": `{"labels":["alpha-label","both"]}`, "domains/bravo.example/settings": `{"labels":["bravo-label","both"],"retention_failures_days":77}`,
		"domains/bravo.example/networks/198.51.100.0%2F24": `{"labels":["bravo-network"]}`, "networks/198.51.100.77": `{"labels":["bravo-relay"]}`,
	} {
		if code, answer := as(sc, http.MethodPut, "/api/v1/"+path, sc.everything, body); code != http.StatusOK && code != http.StatusCreated {
			t.Fatalf("%s: %d\n%s", path, code, answer)
		}
	}
	for _, x := range []*customer{&sc.alpha, &sc.bravo} {
		for _, d := range []string{x.domain(), "www." + x.domain()} {
			var list struct{ Items []struct{ ID string } }
			sc.read(t, "/api/v1/reports?domain="+d, sc.everything, &list)
			for _, item := range list.Items {
				x.ids = append(x.ids, item.ID)
			}
		}
		var list struct{ Items []struct{ ID string } }
		sc.read(t, "/api/v1/tls?domain="+x.domain(), sc.everything, &list)
		for _, item := range list.Items {
			x.tls = append(x.tls, item.ID)
		}
		if len(x.ids) != 5 || len(x.tls) == 0 {
			t.Fatalf("reports about %s: %q, %q", x.name, x.ids, x.tls)
		}
	}
	return sc
}

func (sc *scene) read(t *testing.T, path, secret string, into any) {
	t.Helper()
	code, answer := as(sc, "GET", path, secret, "")
	_, body, _ := strings.Cut(answer, "\n\n")
	if err := json.Unmarshal([]byte(body), into); err != nil || code != http.StatusOK {
		t.Fatalf("%s: %d, %v\n%s", path, code, err, body)
	}
}

// hashed are hashes and fractions of seconds, which have any digits in them now and then.
var hashed = regexp.MustCompile(`\b[0-9a-f]{16,}\b|\.[0-9]{1,9}z`)

// finds lists what of the tenant is told in an answer. Cursors are looked into.
func (x *customer) finds(answer string) (all []string) {
	var b strings.Builder
	b.WriteString(hashed.ReplaceAllString(strings.ToLower(answer), ""))
	for word := range strings.FieldsFuncSeq(answer, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) {
		if len(word) < 8 {
			continue
		}
		if plain, err := base64.RawURLEncoding.DecodeString(word); err == nil {
			b.WriteString("\n" + strings.ToLower(string(plain)))
		}
	}
	text := b.String()
	n := x.n / 1000 // enough of the digits for all that are counted
	for what, mark := range map[string]string{
		"name": x.name, "address": x.address, "count": fmt.Sprint(n), "count for people": fmt.Sprintf("%d,%03d,", n/1000, n%1000), "short count": fmt.Sprintf("%.1f m", float64(n)/1000),
	} {
		if strings.Contains(text, mark) {
			all = append(all, what)
		}
	}
	for _, id := range x.ids {
		number, _, _ := strings.Cut(id, "-")
		if strings.Contains(text, `"`+id+`"`) || strings.Contains(text, "/"+id) || strings.Contains(text, "\n"+number+" ") {
			all = append(all, "id "+id)
		}
	}
	slices.Sort(all)
	return all
}

// A question is a request about a tenant: never is the same about one that does
// not exist.
type question struct{ method, path, never, body, form, id string }

// questions are requests for every operation of the OpenAPI document and every
// page. Those with a never are about bravo.
func (sc *scene) questions(t *testing.T) (all []question) {
	t.Helper()
	type target struct{ method, pattern string }
	var targets []target
	values := map[string][]string{}
	text, err := api.OpenAPI("")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name, In string
				Schema   struct {
					Type any // one, or several
					Enum []string
				}
			}
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			targets = append(targets, target{strings.ToUpper(method), path})
			for _, p := range op.Parameters {
				key := path + "?" + p.Name
				switch {
				case p.In != "query":
				case p.Name == "sort": // one order does for all
					values[key] = p.Schema.Enum[len(p.Schema.Enum)-1:]
				case p.Name == "fields":
					values[key] = []string{"id", "BRAVO"}
				case len(p.Schema.Enum) > 0:
					values[key] = p.Schema.Enum
				case strings.Contains(fmt.Sprint(p.Schema.Type), "boolean"):
					values[key] = []string{"true"}
				case strings.Contains(fmt.Sprint(p.Schema.Type), "integer"):
					values[key] = []string{"1", "1000"}
				case p.Name == "after":
					values[key] = sc.cursors
				default:
					values[key] = []string{"alpha", "alpha-clients", "BRAVO-clients", "both", "BRAVO-label", "www.alpha.example", "alpha.example", "alpha-reporter.test", sc.alpha.address,
						"BRAVO", "BRAVO.example", "www.BRAVO.example", "BRAVO-reporter.test"}
				}
			}
		}
	}
	pages, ok := web.New(&access.Guard{}, web.Options{Adviser: &access.Guard{}, Overrules: &access.Guard{}, Texts: &access.Guard{}, Intake: &access.Guard{}, Keeper: &access.Keeper{}, Live: web.NewLive(nil, nil)}).(chi.Routes)
	if !ok {
		t.Fatal("the pages cannot be walked")
	}
	err = chi.Walk(pages, func(method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		targets = append(targets, target{method, pattern})
		for name, list := range map[string][]string{"days": {"90", "3650"}, "all": {"1"}, "after": sc.cursors, "q": {"alpha", "BRAVO"}, "reporter": {"alpha-reporter.test", "BRAVO-reporter.test"},
			"mailbox": {"import"}, "outcome": {"ok", "bad_xml"}, "group": {"alpha-clients", "BRAVO-clients", "both"}, "of": {sc.alpha.address, sc.bravo.address, "as BRAVO-service.test"}, "p": {"reject"}, "by": {"volume"}, "show": {"failed", "whole"}, "source": {sc.alpha.address, "203.0.113.96/27"}, "inactive": {"1"}, "flag": {"any"}, "aligned": {"no"}, "class": {"own"}, "sort": {"failed", "source"}, "mend": {"as BRAVO.example"}, "domain": {"alpha.example", "BRAVO.example"},
			"who": {"BRAVO"}, "was": {"ok"}, "rua": {"x@BRAVO.example"}} {
			values[pattern+"?"+name] = list
		}
		return nil
	})
	if err != nil || len(targets) < 25 {
		t.Fatalf("only %d operations and pages: %v", len(targets), err)
	}
	add := func(method, path, body string) {
		q := question{method: method, path: path, body: body}
		if strings.Contains(path+body, "BRAVO") {
			q.path, q.body = strings.NewReplacer("BRAVOID", sc.bravo.ids[0], "BRAVOTLS", sc.bravo.tls[0], "BRAVO", "bravo").Replace(path), strings.ReplaceAll(body, "BRAVO", "bravo")
			if q.id = sc.bravo.ids[0]; strings.Contains(path, "BRAVOTLS") {
				q.id = sc.bravo.tls[0]
			}
			q.never = strings.NewReplacer("BRAVOID", "99999-99999", "BRAVOTLS", "99999-99999", "BRAVO", "qqqqq").Replace(path)
		}
		all = append(all, q)
	}
	for _, x := range targets {
		paths, ids := []string{x.pattern}, append([]string{"1", "2", "BRAVOID"}, sc.alpha.ids...)
		if strings.Contains(x.pattern, "/tls/") {
			ids = append([]string{"1", "BRAVOTLS"}, sc.alpha.tls...)
		}
		for _, fill := range []struct {
			param string
			with  []string
		}{
			{"{domain}", []string{"alpha.example", "www.alpha.example", "BRAVO.example", "www.BRAVO.example"}},
			{"{network}", []string{"192.0.2.77"}},
			{"{group}", []string{"alpha-clients", "BRAVO-clients", "both"}},
			{"{id}", ids},
		} {
			var filled []string
			for _, p := range paths {
				if !strings.Contains(p, fill.param) {
					filled = append(filled, p)
					continue
				}
				for _, v := range fill.with {
					filled = append(filled, strings.ReplaceAll(p, fill.param, v))
				}
			}
			paths = filled
		}
		for _, path := range paths {
			body := ""
			if x.method != http.MethodGet && x.method != http.MethodDelete { // what is deleted once is not there again
				body = `{"domain":"BRAVO.example","name":"x"}`
				if x.method == http.MethodPut {
					body = `{"class":"own","x":"BRAVO.example"}` // one mistake: of several, any may be told first
					switch {
					case strings.Contains(path, "/groups/"):
						body = `{"domains":["BRAVO.example"]}`
					case strings.Contains(path, "/networks/"), strings.HasSuffix(path, "/settings"):
						body = `{"labels":["x"]}`
					}
				}
				if !strings.HasPrefix(path, "/api") {
					body = "domain=BRAVO.example&name=x&network=192.0.2.77&class=own&of=192.0.2.77"
				}
			}
			add(x.method, path, body)
			// Subdomains of what is above both, of one's own and of the other's.
			if x.method == http.MethodGet && values[x.pattern+"?subdomains"] != nil {
				if values[x.pattern+"?domain"] != nil {
					for _, domain := range []string{"example", "alpha.example", "BRAVO.example"} {
						add(x.method, path+"?subdomains=true&limit=1000&domain="+domain, body)
					}
					add(x.method, path+"?subdomains=true&format=csv&domain=example", body)
				} else if strings.Contains(path, "/alpha.example/") {
					add(x.method, strings.Replace(path, "alpha.example", "example", 1)+"?subdomains=true", body)
				}
			}
			for key, list := range values {
				if pattern, name, _ := strings.Cut(key, "?"); pattern == x.pattern {
					for _, v := range list {
						add(x.method, path+"?"+url.Values{name: {v}}.Encode(), body)
					}
				}
			}
		}
	}
	return all
}

// nextPage finds the cursor of the next page.
var nextPage = regexp.MustCompile(`"next":"([^"]+)"`)

// firstDifference returns the first lines that differ.
func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] + "\n" + y[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// timeless leaves out what differs between two answers to the same question.
func timeless(answer string) string {
	var lines []string
	for line := range strings.SplitSeq(answer, "\n") {
		if !strings.HasPrefix(line, "Date:") && !strings.HasPrefix(line, "Content-Length:") && !strings.HasPrefix(line, "Etag:") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
