package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

func TestServeIsSafeUntilItIsToldOtherwise(t *testing.T) {
	for _, c := range []struct {
		vars, args []string
		want       string
	}{
		{[]string{"DMARCD_LISTEN=0.0.0.0:0"}, nil, "can be reached by others, and nobody is asked who they are"},
		{[]string{"DMARCD_LISTEN=:0"}, nil, "can be reached by others"},
		{[]string{"DMARCD_LISTEN=[::]:0"}, nil, "can be reached by others"},
		{[]string{"DMARCD_LISTEN=192.0.2.1:80"}, nil, "--insecure"},
	} {
		got := world{vars: c.vars}.run(t, append([]string{"serve"}, c.args...)...)
		if got.status != exitUsage || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%q: %+v", c.vars, got)
		}
	}
	// These get as far as the address, which is none of this machine.
	for _, c := range []struct{ vars, args []string }{
		{[]string{"DMARCD_LISTEN=192.0.2.1:80"}, []string{"--insecure"}},
		{[]string{"DMARCD_LISTEN=192.0.2.1:80", "DMARCD_ACCESS_TOKENS=true"}, nil},
	} {
		got := world{vars: c.vars}.run(t, append([]string{"serve"}, c.args...)...)
		if got.status != exitFailed || !strings.Contains(got.stderr, "listening on 192.0.2.1:80") {
			t.Errorf("%q %q: %+v", c.vars, c.args, got)
		}
	}
}

func TestTokensAreMadeShownOnceAndRevoked(t *testing.T) {
	url := pgtest.URL(t)
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}
	made := w.run(t, "token", "create", "--name", "acme", "--domain", "Acme.example.", "--domain", "müller.example", "--role", "read", "--role", "failures", "--expires", "90d")
	secret := strings.TrimSpace(made.stdout)
	if _, ok := access.DigestOf(secret); made.status != exitDone || !ok || !strings.Contains(made.stderr, "acme.example, xn--mller-kva.example") {
		t.Fatalf("%+v", made)
	}
	if again := w.run(t, "token", "create", "--name", "acme"); again.status != exitFailed || !strings.Contains(again.stderr, `there is a token "acme" already`) {
		t.Errorf("the same name again: %+v", again)
	}
	for _, args := range [][]string{{"create"}, {"create", "--name", "x", "--role", "root"}, {"create", "--name", "x", "--domain", "127.0.0.1"}, {"create", "--name", "x", "--expires", "soon"}, {"creat"}, {"revoke"}, {"list", "x"}} {
		if got := w.run(t, append([]string{"token"}, args...)...); got.status != exitUsage {
			t.Errorf("token %q: %+v", args, got)
		}
	}
	list := w.run(t, "token", "list", "--format", "json")
	var line struct {
		ID      int64
		Name    string
		Roles   []string
		Domains []string
	}
	if err := json.Unmarshal([]byte(list.stdout), &line); err != nil || line.Name != "acme" || !slices.Equal(line.Roles, []string{"read", "failures"}) || len(line.Domains) != 2 {
		t.Errorf("%v: %+v", err, list)
	}
	if strings.Contains(list.stdout+w.run(t, "token", "list").stdout, secret[10:20]) {
		t.Error("a list shows the secret")
	}

	s := openAccess(t, url)
	h := s.handler()
	if code, _ := as(h, "GET", "/api/v1/domains", secret, ""); code != http.StatusOK {
		t.Errorf("with the token: %d", code)
	}
	if got := w.run(t, "token", "revoke", "acme"); got.status != exitDone {
		t.Fatalf("%+v", got)
	}
	s.gate.Forget() // what is remembered is forgotten within seconds
	if code, body := as(h, "GET", "/api/v1/domains", secret, ""); code != http.StatusUnauthorized || !strings.Contains(body, "revoked") {
		t.Errorf("with the revoked token: %d %s", code, body)
	}
	if got := w.run(t, "token", "revoke", "acme"); got.status != exitFailed || !strings.Contains(got.stderr, "there is no token") {
		t.Errorf("revoked again: %+v", got)
	}
	root := s.token(t, "root", dmarc.Everything, dmarc.RoleAdmin)
	_, body := as(h, "GET", "/api/v1/audit", root, "")
	for _, want := range []string{`"action":"token.create","subject":"acme","detail":"roles read, failures; domains acme.example, xn--mller-kva.example; until`, `"action":"token.revoke","subject":"acme"`, `"via":"command"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the audit log lacks %s:\n%s", want, body)
		}
	}
}

// Whoever may know of one tenant learns nothing of the other, whatever they
// ask: not from lists, sums, errors or messages.
func TestNobodyLearnsOfDomainsBeyondTheirScope(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	sc := newScene(t)
	for _, path := range []string{"domains", "reports", "failures", "tls", "messages", "domains/bravo.example/reporters"} {
		var list struct{ Next string }
		sc.read(t, "/api/v1/"+path+"?limit=1", sc.everything, &list)
		if list.Next != "" {
			sc.cursors = append(sc.cursors, list.Next)
		}
	}
	all := sc.questions(t)
	tokens := map[string]string{
		"all roles": sc.token(t, "tenant a", dmarc.ScopeOf("alpha.example"), dmarc.Roles...),
		"read":      sc.token(t, "tenant b", dmarc.ScopeOf("alpha.example"), dmarc.RoleRead),
		"upload":    sc.token(t, "tenant c", dmarc.ScopeOf("alpha.example"), dmarc.RoleUpload),
		"nothing":   sc.token(t, "tenant d", dmarc.ScopeOf("other.example"), dmarc.Roles...),
	}
	told := map[string]bool{}    // what of bravo those learn who may know of it
	shown := map[string]bool{}   // what of alpha the tenant learns
	asked := map[string]string{} // answers that must be there for the comparison to mean anything
	ends := 0
	for i := 0; i < len(all); i++ {
		q := all[i]
		if q.method == http.MethodGet {
			_, answer := as(sc, q.method, q.path, sc.everything, "")
			for _, what := range sc.bravo.finds(answer) {
				told[what] = true
			}
			asked[q.path] = answer
			// Where a page of theirs ends, the tenant may try to go on.
			if m := nextPage.FindStringSubmatch(answer); m != nil && strings.HasSuffix(q.path, "?limit=1") {
				all = append(all, question{method: q.method, path: q.path + "&after=" + m[1]})
				ends++
			}
		}
		for role, secret := range tokens {
			code, answer := as(sc, q.method, q.path, secret, q.body)
			if code >= 500 {
				t.Errorf("%s: %s %s: %d", role, q.method, q.path, code)
			}
			if role == "all roles" {
				for _, what := range sc.alpha.finds(answer) {
					shown[what] = true
				}
			}
			if q.never != "" {
				// What is asked for stands in the answer; it says the same as about nobody.
				never, want := as(sc, q.method, q.never, secret, strings.ReplaceAll(q.body, "bravo", "qqqqq"))
				bare := strings.NewReplacer("qqqqq", "bravo", "99999-99999", q.id).Replace(want)
				if code != never || timeless(answer) != timeless(bare) {
					t.Errorf("%s: %s %s is told from %s: %d and %d\n%s", role, q.method, q.path, q.never, code, never, firstDifference(timeless(answer), timeless(bare)))
				}
				answer = strings.ReplaceAll(strings.ReplaceAll(want, "qqqqq", ""), "bravo-", "")
			}
			if found := sc.bravo.finds(answer); len(found) > 0 {
				t.Errorf("%s: %s %s tells of bravo: %q\n%s", role, q.method, q.path, found, answer)
			}
			if strings.Contains(answer, "2 domains") || strings.Contains(answer, "4 domains") {
				t.Errorf("%s: %s %s counts all domains", role, q.method, q.path)
			}
		}
	}
	// A message is about those who are in it.
	_, none := as(sc, "GET", "/messages/99999", tokens["all roles"], "")
	seen := 0
	for id := range 30 {
		for _, path := range []string{fmt.Sprintf("/messages/%d", id), fmt.Sprintf("/messages/%d/raw", id)} {
			for role, secret := range tokens {
				code, answer := as(sc, "GET", path, secret, "")
				if found := sc.bravo.finds(answer); len(found) > 0 {
					t.Errorf("%s: %s tells of bravo: %q", role, path, found)
				}
				if role != "all roles" {
					continue
				}
				if code == http.StatusOK {
					seen++
				} else if strings.HasSuffix(path, fmt.Sprint(id)) && (code != http.StatusNotFound || timeless(answer) != timeless(none)) {
					t.Errorf("%s is told from a message that does not exist: %d\n%s", path, code, firstDifference(timeless(answer), timeless(none)))
				}
			}
		}
	}
	if seen < 8 {
		t.Errorf("the tenant sees %d messages and raw messages of its own", seen)
	}
	for _, what := range []string{"name", "address", "count", "count for people", "id " + sc.bravo.ids[0]} {
		if !told[what] {
			t.Errorf("those who may know of bravo do not learn: %s", what)
		}
	}
	for _, what := range []string{"name", "address", "count", "count for people", "id " + sc.alpha.ids[0]} {
		if !shown[what] {
			t.Errorf("the tenant does not learn about itself: %s", what)
		}
	}
	if ends < 5 {
		t.Errorf("only %d lists went on", ends)
	}
	t.Logf("%d questions", len(all))

	// Nothing of bravo was changed by all of that.
	for path, before := range asked {
		if strings.Contains(path, "bravo.example/summary?interval=day") || strings.HasSuffix(path, "/api/v1/reports/"+sc.bravo.ids[0]) {
			if _, after := as(sc, "GET", path, sc.everything, ""); timeless(after) != timeless(before) {
				t.Errorf("%s has changed:\n%s\n%s", path, before, after)
			}
		}
	}
}

func TestRolesSayWhatATokenMayDo(t *testing.T) {
	sc := newScene(t)
	alpha := dmarc.ScopeOf("alpha.example")
	day := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -3)
	ours, theirs := sc.alpha.aggregate("new", "alpha.example", 1, day), sc.bravo.aggregate("new", "bravo.example", 1, day)
	n := 0
	fresh := func(report string) string { // never the same bytes
		n++
		return report + strings.Repeat("\n", n)
	}
	read, upload, admin := sc.token(t, "r", alpha, dmarc.RoleRead), sc.token(t, "u", alpha, dmarc.RoleUpload), sc.token(t, "a", alpha, dmarc.RoleAdmin)
	failures, root, reader := sc.token(t, "f", alpha, dmarc.RoleRead, dmarc.RoleFailures), sc.token(t, "governor", dmarc.Everything, dmarc.RoleAdmin), sc.token(t, "all", dmarc.Everything, dmarc.RoleRead)
	raw := "/api/v1/reports/" + sc.alpha.ids[len(sc.alpha.ids)-1] + "/raw" // of the subdomain, in a file of its own
	for _, c := range []struct {
		secret, method, path, body string
		want                       int
	}{
		{"", "GET", "/api/v1/domains", "", 401},
		{"dmarcd_wrong", "GET", "/api/v1/domains", "", 401},
		{access.NewSecret(), "GET", "/api/v1/domains", "", 401},
		{"", "GET", "/healthz", "", 200},
		{"", "GET", "/readyz", "", 200},
		{"", "GET", "/metrics", "", 401},
		{read, "GET", "/metrics", "", 403},
		{reader, "GET", "/metrics", "", 200},
		{read, "GET", "/api/v1/domains", "", 200},
		{read, "GET", raw, "", 200},
		{upload, "GET", "/api/v1/domains", "", 403},
		{upload, "GET", raw, "", 403},
		{read, "GET", "/api/v1/failures", "", 403},
		{admin, "GET", "/api/v1/failures", "", 403},
		{root, "GET", "/api/v1/failures", "", 403},
		{failures, "GET", "/api/v1/failures", "", 200},
		{read, "POST", "/api/v1/reports", fresh(ours), 403},
		{upload, "POST", "/api/v1/reports", fresh(theirs), 422},
		{upload, "POST", "/api/v1/reports", fresh(ours), 201},
		{upload, "POST", "/api/v1/reports", fresh(ours[:300]), 422},
		{admin, "POST", "/api/v1/reports", fresh(ours), 200},
		{read, "POST", "/api/v1/reports/" + sc.alpha.ids[0] + "/activate", "", 403},
		{admin, "POST", "/api/v1/reports/" + sc.alpha.ids[0] + "/activate", "", 200},
		{admin, "POST", "/api/v1/reports/" + sc.bravo.ids[0] + "/activate", "", 404},
		{admin, "GET", "/api/v1/tokens", "", 403},
		{admin, "POST", "/api/v1/tokens", `{"name":"x"}`, 403},
		{admin, "DELETE", "/api/v1/tokens/1", "", 403},
		{admin, "GET", "/api/v1/audit", "", 403},
		{reader, "GET", "/api/v1/tokens", "", 403},
		{root, "GET", "/api/v1/tokens", "", 200},
		{root, "POST", "/api/v1/tokens", `{"name":"x"}`, 201},
		{root, "POST", "/api/v1/tokens", `{"name":"x"}`, 409},
		{root, "POST", "/api/v1/tokens", `{"name":"y","expires_at":"2020-01-01T00:00:00Z"}`, 422},
		{root, "POST", "/api/v1/tokens", `{"name":"y","roles":["root"]}`, 422},
		{root, "POST", "/api/v1/tokens", `{"name":"y","domains":[]}`, 409},
		{root, "DELETE", "/api/v1/tokens/1", "", 200},
		{root, "DELETE", "/api/v1/tokens/999", "", 404},
	} {
		if code, answer := as(sc, c.method, c.path, c.secret, c.body); code != c.want {
			t.Errorf("%s %s: %d, want %d\n%s", c.method, c.path, code, c.want, answer)
		}
	}
	var log struct {
		Items []struct{ Who, Via, From, Action, Subject, Detail string }
	}
	sc.read(t, "/api/v1/audit?limit=1000", root, &log)
	got := map[string]int{}
	for _, e := range log.Items {
		got[e.Action+" "+e.Who]++
		if e.Via != "token" && e.Via != "command" || e.Via == "token" && e.From != "192.0.2.1" {
			t.Errorf("%+v", e)
		}
	}
	for _, want := range []string{"failures.read f", "report.upload u", "report.upload a", "report.activate a", "token.create governor", "token.revoke governor"} {
		if got[want] != 1 {
			t.Errorf("%s stands %d times in the audit log: %v", want, got[want], got)
		}
	}
}
