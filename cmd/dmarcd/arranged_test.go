package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records"
)

// configured returns what a configuration file says.
func configured(t *testing.T, text string) *config {
	t.Helper()
	cfg, err := newEnviron(nil, nil, os.Stderr, nil).loadConfig(writeFile(t, "dmarcd.toml", text), valuesOnly)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Groups, labels, ignored domains and how long things are kept are said in the file
// and by the API. The file wins and says so; the API's word holds where it says nothing.
func TestDomainsAreArrangedByTheFileAndByTheAPI(t *testing.T) {
	url, dir := pgtest.URL(t), t.TempDir()
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -2)
	for i, name := range []string{"alpha", "bravo", "carol", "delta"} {
		x := customer{name: name, address: fmt.Sprintf("192.0.2.%d", i+1)}
		for n, text := range []string{x.aggregate("1", x.domain(), 1<<(2*i), day), x.aggregate("2", "www."+x.domain(), 2<<(2*i), day), x.failure()} {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(name, n)), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := (world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error", "DMARCD_FAILURE_STORE=true"}}).run(t, "import", dir); got.status != exitDone {
		t.Fatalf("%+v", got)
	}
	file := configured(t, `
[[group]]
name = "brands"
domains = ["alpha.example", "www.Bravo.example."]
note = "ours"

[[domain]]
name = "alpha.example"
labels = ["vip", "file"]
retention_failures = "90d"

[[domain]]
name = "delta.example"
ignored = true

[[network]]
network = "192.0.2.0/24"
labels = ["office"]

[[network]]
network = "192.0.2.66"
domain = "alpha.example"
class = "own"
`)
	s := openAccess(t, url, func(c *config) {
		c.Access.Groups, c.Access.UserHeader, c.Access.GroupsHeader, c.HTTP.Proxies = []string{"it = read @ group:clients"}, "X-User", "X-Groups", []string{"192.0.2.1"}
	})
	arrange := func(c *config) {
		t.Helper()
		if err := s.store.Arrange(t.Context(), c.arrangements()); err != nil {
			t.Fatal(err)
		}
	}
	arrange(file)
	h := s.handler()
	root := s.token(t, "root", dmarc.Everything, dmarc.Roles...)
	do := func(want int, method, path, body string, words ...string) string {
		t.Helper()
		code, answer := as(h, method, "/api/v1"+path, root, body)
		for _, w := range words {
			if code != want || !strings.Contains(answer, w) {
				t.Errorf("%s %s: %d, want %d and %q\n%s", method, path, code, want, w, answer)
			}
		}
		if code != want {
			t.Errorf("%s %s: %d, want %d\n%s", method, path, code, want, answer)
		}
		_, body, _ = strings.Cut(answer, "\n\n")
		return body
	}
	domains := func(secret, query string) (names []string) {
		t.Helper()
		code, answer := as(h, "GET", "/api/v1/domains?"+query, secret, "")
		_, body, _ := strings.Cut(answer, "\n\n")
		var list struct{ Items []struct{ Domain string } }
		if err := json.Unmarshal([]byte(body), &list); err != nil || code != 200 {
			t.Fatalf("%s: %d %s", query, code, answer)
		}
		for _, i := range list.Items {
			names = append(names, i.Domain)
		}
		return names
	}
	same := func(what string, got []string, want ...string) {
		t.Helper()
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}

	// Groups: by the file, and by the API.
	do(409, "PUT", "/groups/brands", `{"domains":["carol.example"]}`, "stands in the configuration file, which wins; change its [[group]] there")
	do(409, "DELETE", "/groups/brands", "", "configuration file")
	do(201, "PUT", "/groups/clients", `{"domains":["Carol.example.","müller.example","delta.example"],"note":"pay us"}`, `"group":"clients"`, `"domains":["carol.example","delta.example","xn--mller-kva.example"]`)
	do(200, "PUT", "/groups/clients", `{"domains":["carol.example","delta.example"]}`, `"from":"api"`)
	do(422, "PUT", "/groups/clients", `{"domains":["carol.example","x"]}`, "body.domains[1]")
	do(422, "PUT", "/groups/a@b", `{"domains":[]}`, "path.group")
	do(404, "GET", "/groups/nobody", "")
	same("a group", domains(root, "group=brands"), "alpha.example", "www.alpha.example", "www.bravo.example")
	same("a group that is not there", domains(root, "group=nobody"))
	var groups struct {
		Items []struct {
			Group, From, Note string
			Members           int
			Totals            struct{ Messages int64 }
			PassRate          float64 `json:"pass_rate"`
			Verdicts          map[string]int
		}
		Next string
	}
	if err := json.Unmarshal([]byte(do(200, "GET", "/groups", "")), &groups); err != nil || len(groups.Items) != 2 {
		t.Fatalf("%v: %+v", err, groups)
	}
	brands, clients := groups.Items[0], groups.Items[1]
	if brands.Group != "brands" || brands.From != "file" || brands.Note != "ours" || brands.Members != 3 || brands.Totals.Messages != 1+2+8 || brands.PassRate != 1 || brands.Verdicts["not_judged"] != 3 {
		t.Errorf("%+v", brands)
	}
	if clients.From != "api" || clients.Members != 3 || clients.Totals.Messages != 16+32+128 { // delta is ignored, what lies below it is not
		t.Errorf("%+v", clients)
	}
	if err := json.Unmarshal([]byte(do(200, "GET", "/groups?limit=1", "")), &groups); err != nil || len(groups.Items) != 1 || groups.Next == "" {
		t.Errorf("%v: %+v", err, groups)
	}
	do(200, "GET", "/groups?limit=1&after="+groups.Next, "", `"group":"clients"`, `"next":null`)
	do(400, "GET", "/groups?after=!", "")

	// Labels, and whose word holds.
	do(200, "GET", "/domains/alpha.example/settings", "", `"labels":["file","vip"],"labels_from":"file","ignored":false,"ignored_from":"default"`,
		`"retention_raw_days":400,"retention_raw_from":"default","retention_failures_days":90,"retention_failures_from":"file"`, `"groups":["brands"]`)
	do(409, "PUT", "/domains/alpha.example/settings", `{"labels":["mine"],"retention_failures_days":5}`, "labels, retention_failures, and wins; change the [[domain]] there")
	do(200, "PUT", "/domains/alpha.example/settings", `{"labels":["vip","file"],"retention_rows_days":60}`, `"retention_rows_days":60,"retention_rows_from":"api"`, `"labels_from":"file"`)
	do(422, "PUT", "/domains/alpha.example/settings", `{"retention_rows_days":39}`, "at least 40")
	do(422, "PUT", "/domains/alpha.example/settings", `{"labels":["<b>"]}`, "body.labels[0]")
	do(422, "PUT", "/domains/alpha/settings", `{"labels":["x"]}`, "path.domain")
	do(200, "PUT", "/domains/www.Carol.example/settings", `{"labels":["vip"]}`, `"labels":["vip"],"labels_from":"api"`, `"groups":["clients"]`)
	do(200, "PUT", "/domains/tomorrow.example/settings", `{"labels":["vip"]}`) // before the first report
	same("a label", domains(root, "label=vip"), "alpha.example", "www.carol.example")
	same("a label in a group", domains(root, "label=vip&group=clients"), "www.carol.example")
	do(200, "GET", "/domains?search=www.carol", "", `"groups":["clients"],"labels":["vip"],"ignored":false`)

	// Ignored: taken in, but in no list, no sum, and of nobody's concern.
	do(409, "PUT", "/domains/delta.example/settings", `{"ignored":false}`, "configuration file")
	do(200, "PUT", "/domains/bravo.example/settings", `{"ignored":true}`, `"ignored":true,"ignored_from":"api"`)
	same("lists", domains(root, ""), "alpha.example", "carol.example", "www.alpha.example", "www.bravo.example", "www.carol.example", "www.delta.example")
	same("lists when asked", domains(root, "ignored=true&search=example&label="), "alpha.example", "bravo.example", "carol.example", "delta.example", "www.alpha.example", "www.bravo.example", "www.carol.example", "www.delta.example")
	if list := do(200, "GET", "/reports", "") + do(200, "GET", "/failures", ""); strings.Contains(list, `"delta.example"`) || strings.Contains(list, `"bravo.example"`) || !strings.Contains(list, `"carol.example"`) {
		t.Errorf("lists of reports:\n%s", list)
	}
	do(200, "GET", "/reports?domain=delta.example", "", `"domain":"delta.example"`)
	do(200, "GET", "/failures?domain=delta.example", "", `"delta.example"`)
	do(200, "GET", "/domains/delta.example/summary", "", `"messages":64`)
	late := customer{name: "delta", address: "192.0.2.9"}
	do(201, "POST", "/reports", late.aggregate("late", "delta.example", 1000, day))
	do(200, "GET", "/messages?mailbox=upload", "", `"outcome":"ok"`)
	fresh := customer{name: "tomorrow", address: "192.0.2.9"}
	do(200, "PUT", "/domains/tomorrow.example/settings", `{"ignored":true}`)
	do(201, "POST", "/reports", fresh.aggregate("late", "tomorrow.example", 1000, day))
	same("a domain that was ignored before it came", domains(root, "search=tomorrow"))
	due, err := s.store.DueVerdicts(t.Context(), time.Now(), 0, 100)
	looks, err2 := s.store.DueDomains(t.Context(), time.Now(), 100)
	active, err3 := s.store.ActiveDomains(t.Context(), day)
	if err != nil || err2 != nil || err3 != nil || len(due) != 6 || len(looks) != 6 || len(active) != 6 {
		t.Errorf("passes care for %v, %q and %q: %v %v %v", due, looks, active, err, err2, err3)
	}
	if err := s.adviser.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	do(200, "PUT", "/domains/carol.example/settings", `{"ignored":true}`)
	if list := do(200, "GET", "/attention", ""); strings.Contains(list, `"carol.example"`) || !strings.Contains(list, `"www.carol.example"`) {
		t.Errorf("attention:\n%s", list)
	}
	if list := do(200, "GET", "/attention?group=clients", ""); strings.Contains(list, `alpha.example`) || !strings.Contains(list, `"www.carol.example"`) {
		t.Errorf("attention of a group:\n%s", list)
	}
	do(200, "PUT", "/domains/carol.example/settings", `{}`, `"ignored":false,"ignored_from":"default"`)
	do(200, "GET", "/attention", "", `"carol.example"`)

	// Networks.
	do(409, "PUT", "/networks/192.0.2.0%2F24", `{"labels":["x"]}`, "its labels stand in the configuration file")
	do(409, "DELETE", "/networks/192.0.2.0%2F24", "", "its labels stand in the configuration file")
	do(201, "PUT", "/domains/alpha.example/networks/192.0.2.1", `{"labels":["printer"]}`, `"network":"192.0.2.1","labels":["printer"],"scope":"domain","from":"api"`)
	do(200, "GET", "/domains/alpha.example/networks", "", `{"network":"192.0.2.0/24","labels":["office"],"scope":"all","from":"file"}`, `"printer"`)
	do(200, "GET", "/networks", "", `"office"`)
	do(200, "GET", "/domains/alpha.example/sources?exact=true", "", `"labels":["office","printer"]`)
	do(204, "DELETE", "/domains/alpha.example/networks/192.0.2.1", "")
	do(404, "DELETE", "/domains/alpha.example/networks/192.0.2.1", "")

	s.overrules.file = file.overrules()
	do(409, "PUT", "/domains/alpha.example/overrules/192.0.2.66", `{"class":"service"}`, "the configuration says that 192.0.2.66/32 is own ([[network]]), and wins")
	do(201, "PUT", "/domains/carol.example/overrules/192.0.2.66", `{"class":"service"}`)
	do(200, "GET", "/domains/alpha.example/overrules", "", `{"network":"192.0.2.66","class":"own","note":"[[network]] of the configuration","by":null,"at":null,"scope":"domain","file":true}`)
	if answer := do(200, "GET", "/domains/carol.example/overrules", ""); strings.Contains(answer, `"own"`) {
		t.Errorf("what the file says of another domain: %s", answer)
	}

	// People are told of a group, and never of what is ignored.
	told := configured(t, `
[notify]
verdict_changed = false
spf_limit_domains = ["group:brands", "group:nobody"]
record_broke_domains = ["group:clients", "alpha.example"]

[digest]
every = "daily"
to = ["a@example.com"]
domains = ["group:clients"]

[mail]
server = "smtp://127.0.0.1"
from = "a@example.com"

[[target]]
name = "client"
url = "https://hooks.example.com/"
domains = ["group:clients"]

[[target]]
name = "nobody"
url = "https://hooks.example.com/"
domains = ["group:nobody"]

[[target]]
name = "ops"
url = "https://hooks.example.com/"
`)
	for _, name := range []string{"alpha.example", "carol.example", "delta.example", "www.bravo.example"} {
		look := &records.Look{Domain: name, At: time.Now(), Next: time.Now().Add(time.Hour), Result: &records.Result{Domain: name, Findings: []records.ResultFinding{{ID: "spf.missing", Severity: "error", Subject: name}}}}
		look.Result.Records.SPF = &records.ResultSPF{Lookups: 10}
		if err := s.store.SaveLook(t.Context(), look); err != nil {
			t.Fatal(err)
		}
	}
	teller, err := s.newTeller(told)
	if err == nil {
		err = teller.notifier.Pass(t.Context(), dmarc.Lease{})
	}
	if err != nil {
		t.Fatal(err)
	}
	var news struct {
		Items []struct {
			Rule, Domain string
			Deliveries   []struct{ Target string }
		}
	}
	if err := json.Unmarshal([]byte(do(200, "GET", "/notifications", "")), &news); err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, e := range news.Items {
		text := e.Rule + " " + e.Domain
		for _, d := range e.Deliveries {
			text += " " + d.Target
		}
		events = append(events, text)
	}
	same("what people are told", events, "record_broke alpha.example ops", "record_broke carol.example client ops", "spf_limit alpha.example ops", "spf_limit www.bravo.example ops")
	digest, err := teller.digester.Gather(t.Context(), time.Now())
	if err != nil || len(digest.Domains) != 3 || len(digest.Events) != 1 {
		t.Errorf("the digest of a group: %+v, %v", digest, err)
	}

	// Pages.
	page := func(path string, with, without []string) {
		t.Helper()
		code, answer := as(h, "GET", path, root, "")
		for _, w := range with {
			if !strings.Contains(answer, w) {
				t.Errorf("%s: %d, lacks %q\n%s", path, code, w, answer)
			}
		}
		for _, w := range without {
			if strings.Contains(answer, w) {
				t.Errorf("%s: %d, has %q", path, code, w)
			}
		}
	}
	page("/", []string{`<a class="chip" href="/" aria-current="page">All domains</a>`, `href="/?group=brands"`, "<b><bdi>clients</bdi></b> 3", ">carol.example<", `<span class="chip"><bdi>vip</bdi></span>`, "6\u00a0domains"}, []string{">bravo.example<", ">delta.example<"})
	page("/?group=brands&days=90&by=volume", []string{"<h1><bdi>brands</bdi></h1>", `<a class="chip" href="/?by=volume&amp;days=90">All domains</a>`, `href="/?by=volume&amp;days=90&amp;group=brands" aria-current="page"`, `href="/?days=90&amp;group=brands"`, "3\u00a0domains", ">www.bravo.example<"}, []string{"carol.example"})
	page("/?group=%3Cb%3E", []string{"No domain here.", "<bdi>&lt;b&gt;</bdi>"}, []string{"<bdi><b>", "carol.example"})
	page("/domains/alpha.example", []string{`href="/?group=brands"`, `<span class="chip"><bdi>vip</bdi></span>`}, []string{"is ignored"})
	page("/domains/delta.example", []string{"This domain is ignored"}, nil)

	// Tokens and people for a group see what is in it whenever they ask.
	var made struct{ Secret string }
	if err := json.Unmarshal([]byte(do(201, "POST", "/tokens", `{"name":"client","groups":["clients"],"roles":["read","admin"]}`, `"domains":[]`, `"groups":["clients"]`)), &made); err != nil {
		t.Fatal(err)
	}
	byProxy := func() (code int) {
		code, _ = as(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("X-User", "jo")
			r.Header.Set("X-Groups", "it")
			h.ServeHTTP(w, r)
		}), "GET", "/api/v1/domains/alpha.example/summary", "", "")
		return code
	}
	same("a token for a group", domains(made.Secret, ""), "carol.example", "www.carol.example", "www.delta.example")
	for _, path := range []string{"/groups/clients", "/groups/new"} {
		if code, answer := as(h, "PUT", "/api/v1"+path, made.Secret, `{"domains":["alpha.example"]}`); code != 403 {
			t.Errorf("it lets itself into more by %s: %d %s", path, code, answer)
		}
	}
	if code := byProxy(); code != 404 {
		t.Errorf("by a proxy, before: %d", code)
	}
	do(200, "PUT", "/groups/clients", `{"domains":["alpha.example"]}`)
	same("after the group has changed", domains(made.Secret, ""), "alpha.example", "www.alpha.example")
	if code := byProxy(); code != 200 {
		t.Errorf("by a proxy, after: %d", code)
	}
	if code, answer := as(h, "GET", "/api/v1/groups", made.Secret, ""); code != 200 || strings.Contains(answer, "www.bravo") || !strings.Contains(answer, `"group":"brands","note":null,"domains":["alpha.example"]`) {
		t.Errorf("groups that are seen in part: %d %s", code, answer)
	}
	if code, answer := as(h, "GET", "/api/v1/domains/alpha.example/networks", made.Secret, ""); code != 200 || strings.Contains(answer, "office") {
		t.Errorf("labels for all domains: %d %s", code, answer)
	}
	do(204, "DELETE", "/groups/clients", "")
	do(404, "DELETE", "/groups/clients", "")
	if code, answer := as(h, "GET", "/api/v1/domains", made.Secret, ""); code != 403 {
		t.Errorf("after the group is gone: %d %s", code, answer)
	}

	// With another file, what the API said holds again.
	do(200, "PUT", "/domains/alpha.example/settings", `{"labels":["file","vip"],"ignored":true}`)
	arrange(configured(t, ""))
	do(200, "GET", "/domains/alpha.example/settings", "", `"labels":["file","vip"],"labels_from":"api","ignored":true`, `"retention_failures_days":30,"retention_failures_from":"default"`, `"groups":[]`)
	same("what the file does not ignore any more", domains(root, "search=delta"), "delta.example", "www.delta.example")
	do(201, "PUT", "/groups/brands", `{"domains":["carol.example"]}`)
	arrange(file)
	do(200, "GET", "/groups/brands", "", `"from":"file"`, `"alpha.example"`)

	var log struct {
		Items []struct{ Action, Subject, Detail string }
	}
	if err := json.Unmarshal([]byte(do(200, "GET", "/audit?limit=1000", "")), &log); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ Action, Subject, Detail string }{
		{"group.put", "clients", "Carol"}, {"group.delete", "clients", ""}, {"domain.settings", "bravo.example", "ignored true"}, {"domain.settings", "carol.example", "nothing is said any more"},
		{"domain.settings", "alpha.example", "labels file, vip; rows for 60 days"}, {"network.label", "192.0.2.1/32 for alpha.example", "printer"}, {"network.unlabel", "192.0.2.1/32 for alpha.example", ""},
		{"token.create", "client", "groups clients"},
	} {
		if !slices.ContainsFunc(log.Items, func(e struct{ Action, Subject, Detail string }) bool {
			return e.Action == want.Action && e.Subject == want.Subject && strings.Contains(strings.ToLower(e.Detail), strings.ToLower(want.Detail))
		}) {
			t.Errorf("the audit log lacks %+v: %+v", want, log.Items)
		}
	}
}

// All that is wrong in the lists is told, with where it stands.
func TestMistakesInArrangementsAreNamed(t *testing.T) {
	path := writeFile(t, "dmarcd.toml", `[[group]]
name = "a@b"
domains = ["x"]
[[group]]
name = "a"
domains = ["a.example"]
[[group]]
name = "a"
[[domain]]
retention_rows = "39d"
colour = "red"
[[domain]]
name = "a.example"
labels = ["<b>"]
ignored = "yes"
[[domain]]
name = "A.example."
[[network]]
network = "10.0.0.0/33"
labels = []
`)
	_, err := newEnviron(nil, nil, os.Stderr, []string{"DMARCD_DATABASE_URL=postgres://localhost/x"}).loadConfig(path, everything)
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, want := range []string{
		":2: group.name", ":3: group.domains", ":8: group.name", ":7: group.domains: is missing", ":9: domain.name: is missing", ":10: domain.retention_rows", ":11: domain.colour: is no setting",
		":14: domain.labels", ":15: domain.ignored", ":17: domain.name: another entry", ":19: network.network", ":20: network.labels: is missing, and so is class",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}
