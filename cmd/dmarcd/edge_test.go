package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// Whatever is asked, and whatever the answer is, browsers are told to make
// nothing more of it, and no page has a script or a style in it.
func TestEveryAnswerHasStrictHeaders(t *testing.T) {
	sc := newScene(t)
	questions := sc.questions(t)
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/login", "/logout", "/static/none", "/api", "/api/docs", "/api/docs.css", "/api/v1/openapi.json", "/nothing", "/../x", "/%00"} {
		questions = append(questions, question{method: http.MethodGet, path: path}, question{method: http.MethodPost, path: path}, question{method: "BREW", path: path})
	}
	policies, kinds := map[string]int{}, map[string]int{}
	for _, q := range questions {
		if strings.Contains(q.path, "?") && !strings.Contains(q.path, "?days") {
			continue // no other page
		}
		for _, secret := range []string{"", sc.everything} {
			r := httptest.NewRequest(q.method, "/", strings.NewReader(q.body))
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(q.path, "?")
			r.Header.Set("X-Forwarded-Proto", "https") // of nobody who is believed
			if secret != "" {
				r.Header.Set("Authorization", "Bearer "+secret)
			}
			w := httptest.NewRecorder()
			sc.ServeHTTP(w, r)
			h := w.Header()
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": "",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s %s: %s is %q", q.method, q.path, name, got)
				}
			}
			policy := h.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
				if !strings.Contains(policy, want) {
					t.Errorf("%s %s: the policy %q lacks %s", q.method, q.path, policy, want)
				}
			}
			if strings.Contains(policy, "unsafe") || strings.Contains(policy, "sha256") || strings.Contains(policy, "*") {
				t.Errorf("%s %s: the policy is %q", q.method, q.path, policy)
			}
			if !slices.Contains([]string{"same-origin", "no-referrer"}, h.Get("Referrer-Policy")) {
				t.Errorf("%s %s: Referrer-Policy is %q", q.method, q.path, h.Get("Referrer-Policy"))
			}
			policies[policy]++
			kinds[h.Get("Content-Type")]++
			if strings.HasPrefix(h.Get("Content-Type"), "text/html") {
				for _, found := range inlined(t, w.Body.String()) {
					t.Errorf("%s %s: the page has %s in it", q.method, q.path, found)
				}
			}
		}
	}
	if len(policies) != 3 || kinds["text/html; charset=utf-8"] < 10 {
		t.Errorf("policies %v, types %v", policies, kinds)
	}

	r := httptest.NewRequest(http.MethodGet, "/login", nil)
	r.TLS = &tls.ConnectionState{}
	w := httptest.NewRecorder()
	sc.ServeHTTP(w, r)
	if w.Header().Get("Strict-Transport-Security") == "" {
		t.Error("over TLS there is no HSTS")
	}
}

// inlined returns scripts, styles and handlers that stand in a page, and forms that
// change something without being bound to a session.
func inlined(t *testing.T, page string) (all []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		attr := map[string]string{}
		for _, a := range n.Attr {
			attr[a.Key] = a.Val
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(strings.ToLower(a.Val), "javascript:") {
				all = append(all, n.Data+" "+a.Key+"="+a.Val)
			}
			if (a.Key == "href" || a.Key == "src" || a.Key == "action") && strings.Contains(a.Val, "//") {
				all = append(all, "a link to "+a.Val)
			}
		}
		switch {
		case n.Data == "style", n.Data == "script" && attr["src"] == "":
			all = append(all, "an element "+n.Data)
		case n.Data == "form" && strings.EqualFold(attr["method"], "post"):
			bound := false
			for m := range n.Descendants() {
				for _, a := range m.Attr {
					bound = bound || a.Key == "name" && a.Val == "csrf"
				}
			}
			if !bound {
				all = append(all, "a form without csrf to "+attr["action"])
			}
		}
	}
	return all
}

// A browser logs in to a server, and goes where the links lead.
func TestABrowserLogsInBelowAPrefix(t *testing.T) {
	racetest.Calm(t)
	sc := newScene(t)
	s := openAccess(t, sc.db.Config().ConnString(), func(c *config) { c.HTTP.Prefix = "/dmarc" })
	server := httptest.NewServer(s.handler())
	defer server.Close()
	secret := s.token(t, "jo", dmarc.ScopeOf("alpha.example"), dmarc.RoleRead)
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar}
	get := func(path string) (int, string, *url.URL) {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body), resp.Request.URL
	}
	field := func(page, name string) string {
		m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("no field %s on the page:\n%s", name, page)
		}
		return html.UnescapeString(m[1])
	}
	_, page, at := get("/dmarc/domains/alpha.example?days=90")
	if at.Path != "/dmarc/login" {
		t.Fatalf("without a session one gets to %s", at)
	}
	form := url.Values{"csrf": {field(page, "csrf")}, "next": {field(page, "next")}}
	post := func(path string, v url.Values) (int, *url.URL, string) {
		resp, err := client.PostForm(server.URL+path, v)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Request.URL, string(body)
	}
	form.Set("token", "dmarcd_wrong")
	code, _, page := post("/dmarc/login", form)
	if code != http.StatusUnauthorized || !strings.Contains(page, "this token opens nothing") || strings.Contains(page, "dmarcd_wrong") {
		t.Errorf("a wrong token: %d\n%s", code, page)
	}
	form.Set("csrf", field(page, "csrf"))
	form.Set("token", secret)
	if code, at, _ := post("/dmarc/login", form); code != http.StatusOK || at.RequestURI() != "/dmarc/domains/alpha.example?days=90" {
		t.Fatalf("the login ends at %s: %d", at, code)
	}
	// All links lead on, and none leaves the prefix.
	seen, todo := map[string]bool{}, []string{"/dmarc/"}
	for len(todo) > 0 && len(seen) < 60 {
		path := todo[0]
		todo = todo[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		code, page, _ := get(path)
		// The token lacks a role for some, and is told so.
		if closed := strings.HasSuffix(strings.SplitN(path, "?", 2)[0], "/failures"); code != http.StatusOK && !(closed && code == http.StatusForbidden && strings.Contains(page, "the role that it needs")) {
			t.Errorf("%s: %d\n%s", path, code, page)
		}
		if found := sc.bravo.finds(page); len(found) > 0 {
			t.Errorf("%s tells of bravo: %q", path, found)
		}
		root, err := html.Parse(strings.NewReader(page))
		if err != nil {
			t.Fatal(err)
		}
		for n := range root.Descendants() {
			for _, a := range n.Attr {
				if n.Type == html.ElementNode && (a.Key == "href" || a.Key == "src" || a.Key == "action" || a.Key == "data-address") {
					to, err := url.Parse(a.Val)
					if err != nil {
						t.Fatal(err)
					}
					base, err := url.Parse(path)
					if err != nil {
						t.Fatal(err)
					}
					to = base.ResolveReference(to)
					if !strings.HasPrefix(to.Path, "/dmarc/") {
						t.Errorf("%s leads to %s", path, a.Val)
					} else if a.Key == "href" && n.Data == "a" {
						to.Fragment = ""
						todo = append(todo, to.String())
					}
				}
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d pages", len(seen))
	}
	_, page, _ = get("/dmarc/")
	if !strings.Contains(page, "jo") || !strings.Contains(page, "Log out") {
		t.Error("the page does not say who is logged in")
	}
	if code, _, _ := post("/dmarc/logout", nil); code != http.StatusForbidden {
		t.Errorf("logging out by another site: %d", code)
	}
	if _, at, _ := post("/dmarc/logout", url.Values{"csrf": {field(page, "csrf")}}); at.Path != "/dmarc/login" {
		t.Errorf("logging out ends at %s", at)
	}
	if _, _, at := get("/dmarc/"); at.Path != "/dmarc/login" {
		t.Errorf("after logging out one gets to %s", at)
	}
}

// Health and certificate of a real process: a renewed certificate is used
// without a restart.
func TestACertificateIsRenewedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key)
	address := porttest.FreeAddress(t)
	binary := build(t)
	vars := []string{"DMARCD_DATABASE_URL=" + pgtest.URL(t), "DMARCD_DATA_DIR=" + dir, "DMARCD_HTTP_CERT_FILE=" + cert, "DMARCD_HTTP_KEY_FILE=" + key, "DMARCD_ACCESS_TOKENS=true"}
	r := start(t, binary, address, vars)
	serial := func() string {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			return ""
		}
		defer conn.Close()
		state := conn.ConnectionState()
		if state.NegotiatedProtocol != "h2" {
			t.Errorf("spoken is %q", state.NegotiatedProtocol)
		}
		return fmt.Sprintf("%x", state.PeerCertificates[0].Raw[:200])
	}
	first := ""
	for deadline := time.Now().Add(patience); first == ""; first = serial() {
		if time.Now().After(deadline) {
			t.Fatalf("it does not answer:\n%s", r.log)
		}
		time.Sleep(50 * time.Millisecond)
	}
	w := world{vars: append(vars, "DMARCD_LISTEN="+address)}
	if got := w.run(t, "healthcheck"); got.status != exitDone {
		t.Errorf("healthcheck: %+v", got)
	}
	writeCertificate(t, cert, key)
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(cert, later, later); err != nil {
		t.Fatal(err)
	}
	second := serial()
	if second == first || second == "" {
		t.Error("the renewed certificate is not used")
	}
	// Half a renewal: the old one goes on.
	if err := os.WriteFile(key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != second {
		t.Error("with a key that cannot be read, the old certificate does not go on")
	}
	if code := r.stop(syscall.SIGTERM); code != exitDone {
		t.Errorf("it ends with %d:\n%s", code, r.log)
	}
}

// Many at once, with tokens and sessions of two tenants, while tokens come and
// go: nobody is shown what is not theirs.
func TestTwoHundredClientsAtOnce(t *testing.T) {
	sc := newScene(t)
	server := httptest.NewServer(sc)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	tenants := []*customer{&sc.alpha, &sc.bravo}
	var secrets []string
	for _, x := range tenants {
		secrets = append(secrets, sc.token(t, "of "+x.name, dmarc.ScopeOf(x.domain()), dmarc.Roles...))
	}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			mine, other := tenants[i%2], tenants[(i+1)%2]
			for j, path := range []string{"/", "/api/v1/domains", "/api/v1/domains/" + mine.domain() + "/summary", "/domains/" + mine.domain(), "/api/v1/reports/" + mine.ids[0], "/api/v1/failures", "/messages", "/api/v1/domains/" + other.domain() + "/summary"} {
				r, _ := http.NewRequest(http.MethodGet, server.URL+path, nil)
				r.Header.Set("Authorization", "Bearer "+secrets[i%2])
				resp, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				want := http.StatusOK
				if strings.Contains(path, other.domain()) {
					want = http.StatusNotFound
				}
				if err != nil || resp.StatusCode != want || len(other.finds(string(body))) > 0 && want == http.StatusOK {
					t.Errorf("%s asks for %s: %d, %v, %q", mine.name, path, resp.StatusCode, err, other.finds(string(body)))
				}
				if i%20 == 0 && j == 3 {
					sc.gate.Forget()
				}
			}
		})
	}
	wg.Wait()
}
