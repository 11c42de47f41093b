package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// memory keeps tokens in memory.
type memory struct {
	mu     sync.Mutex
	tokens map[dmarc.Digest]dmarc.Token
	groups map[string][]string // of domains
	asked  int
	err    error
}

func (m *memory) TokenOf(_ context.Context, digest dmarc.Digest, _ time.Time) (dmarc.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	t, ok := m.tokens[digest]
	if !ok && m.err == nil {
		return t, dmarc.ErrNotFound
	}
	return t, m.err
}

func (m *memory) TokenByID(_ context.Context, id int64, _ time.Time) (dmarc.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tokens {
		if t.ID == id {
			return t, m.err
		}
	}
	return dmarc.Token{}, dmarc.ErrNotFound
}

func (m *memory) Key(context.Context, string) ([]byte, error) {
	return []byte("0123456789abcdef0123456789abcdef"), m.err
}

func (m *memory) GroupDomains(_ context.Context, names []string) (all []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		all = append(all, m.groups[name]...)
	}
	return all, m.err
}

// add makes a token that is good for an hour.
func (m *memory) add(t dmarc.Token) string {
	secret := NewSecret()
	digest, _ := DigestOf(secret)
	m.mu.Lock()
	defer m.mu.Unlock()
	t.ID = int64(len(m.tokens) + 1)
	m.tokens[digest] = t
	return secret
}

func (m *memory) revoke(secret string, at time.Time) {
	digest, _ := DigestOf(secret)
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tokens[digest]
	t.Revoked = at
	m.tokens[digest] = t
}

func newMemory() *memory { return &memory{tokens: map[dmarc.Digest]dmarc.Token{}} }

// A clock stands still until it is moved.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newGate(m *memory, c *clock, o Options) *Gate {
	o.Log, o.Now = slog.New(slog.DiscardHandler), c.Now
	return NewGate(m, o)
}

// whoami answers with who asks.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	p := principalOf(r.Context())
	fmt.Fprintf(w, "%s via %s", p.Name, p.Via)
	for _, role := range dmarc.Roles {
		switch s := p.scope(role); {
		case s.All():
			fmt.Fprintf(w, "; %s all", role)
		case p.may(role):
			fmt.Fprintf(w, "; %s %s", role, strings.Join(s.Domains(), ","))
		}
	}
})

func send(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "from" {
			r.RemoteAddr = header[i+1]
			continue
		}
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestSecretsAreRandomAndKnownForWhatTheyAre(t *testing.T) {
	a, b := NewSecret(), NewSecret()
	if a == b || !strings.HasPrefix(a, "dmarcd_") || len(a) < 30 {
		t.Errorf("%q and %q", a, b)
	}
	if _, ok := DigestOf(" " + a + "\n"); !ok {
		t.Error("a secret with space around it is not taken")
	}
	for _, wrong := range []string{"", "dmarcd_", strings.ToLower(a), a[:len(a)-1], a + "A", a[7:], a[:10] + "AAAA" + a[14:]} {
		if _, ok := DigestOf(wrong); ok {
			t.Errorf("%q is taken for a secret", wrong)
		}
	}
}

func TestTheGateTellsWhoAsks(t *testing.T) {
	c := &clock{time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	m := newMemory()
	edge := &Edge{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	groups := Groups{
		"it": {{Roles: []dmarc.Role{dmarc.RoleAdmin}, Scope: dmarc.ScopeOf("a.example")}}, "ops": {{Roles: []dmarc.Role{dmarc.RoleRead}, Scope: dmarc.ScopeOf("b.example")}},
		"dpo":    {{Roles: []dmarc.Role{dmarc.RoleFailures}, Scope: dmarc.Everything}},
		"brands": {{Roles: []dmarc.Role{dmarc.RoleRead}, Scope: dmarc.ScopeOf("c.example"), Groups: []string{"acme", "nobody's"}}},
	}
	m.groups = map[string][]string{"acme": {"d.example"}}
	g := newGate(m, c, Options{Groups: groups, UserHeader: "X-User", GroupsHeader: "X-Groups", Client: edge.Client, Trusted: edge.Trusted})
	good := m.add(dmarc.Token{Name: "good", Roles: []dmarc.Role{dmarc.RoleRead}, Scope: dmarc.Everything, Expires: c.now.Add(time.Hour)})
	acme := m.add(dmarc.Token{Name: "acme", Roles: []dmarc.Role{dmarc.RoleRead}, Groups: []string{"acme"}})
	old := m.add(dmarc.Token{Name: "old", Expires: c.now})
	gone := m.add(dmarc.Token{Name: "gone", Revoked: c.now})
	h := g.Let(whoami)
	for _, q := range []struct {
		header []string
		status int
		body   string
	}{
		{[]string{"Authorization", "Bearer " + good}, 200, "good via token; read all"},
		{[]string{"Authorization", "bearer " + good}, 200, "good via token; read all"},
		{[]string{"Authorization", "Bearer " + acme}, 200, "acme via token; read d.example"},
		{[]string{"Authorization", "Bearer " + old}, 401, "expired"},
		{[]string{"Authorization", "Bearer " + gone}, 401, "revoked"},
		{[]string{"Authorization", "Bearer "}, 401, "opens nothing"},
		{[]string{"Authorization", "Basic " + good}, 401, "say who you are"},
		{nil, 401, "say who you are"},
		{[]string{"Cookie", sessionCookie + "=eyJ0IjoxfQ.x"}, 401, "say who you are"},
		{[]string{"X-User", "eve", "X-Groups", "it"}, 401, "say who you are"},
		{[]string{"from", "10.1.2.3:1", "X-User", "jo", "X-Groups", "it, ops"}, 200, "jo via proxy; read a.example,b.example; upload a.example; admin a.example"},
		{[]string{"from", "10.1.2.3:1", "X-User", "jo", "X-Groups", "ops|dpo"}, 200, "jo via proxy; read b.example; failures all"},
		{[]string{"from", "10.1.2.3:1", "X-User", "jo", "X-Groups", "*"}, 200, "jo via proxy"},
		{[]string{"from", "10.1.2.3:1", "X-User", "jo", "X-Groups", "brands"}, 200, "jo via proxy; read c.example,d.example"},
		{[]string{"from", "10.1.2.3:1"}, 401, "say who you are"},
	} {
		w := send(h, "GET", "/api/v1/domains", q.header...)
		if w.Code != q.status || !strings.Contains(w.Body.String(), q.body) || q.status == 200 && w.Body.String() != q.body {
			t.Errorf("%q: %d %s, want %d %s", q.header, w.Code, w.Body, q.status, q.body)
		}
		if challenged := w.Header().Get("WWW-Authenticate") != ""; challenged != (q.status == 401) {
			t.Errorf("%q: challenged %v", q.header, challenged)
		}
	}
	if w := send(h, "GET", "/domains/a.example?days=90"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/login?next=%2Fdomains%2Fa.example%3Fdays%3D90" {
		t.Errorf("a page: %d %q", w.Code, w.Header().Get("Location"))
	}
	// Who comes into a group, and who leaves it, counts soon, or at once when that is known.
	m.groups = map[string][]string{"acme": {"e.example"}}
	if w := send(h, "GET", "/api/v1/domains", "Authorization", "Bearer "+acme); w.Body.String() != "acme via token; read d.example" {
		t.Errorf("a group is asked for with each request: %s", w.Body)
	}
	c.now = c.now.Add(cacheTime)
	if w := send(h, "GET", "/api/v1/domains", "Authorization", "Bearer "+acme); w.Body.String() != "acme via token; read e.example" {
		t.Errorf("after a while: %s", w.Body)
	}
	m.groups = nil
	g.Forget()
	if w := send(h, "GET", "/api/v1/domains", "Authorization", "Bearer "+acme); w.Body.String() != "acme via token" {
		t.Errorf("without the group: %s", w.Body)
	}
	m.err = errors.New("the database is down")
	if w := send(h, "GET", "/api/v1/domains", "Authorization", "Bearer "+NewSecret()); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "is down") {
		t.Errorf("without a database: %d %s", w.Code, w.Body)
	}
}

func TestATokenIsLookedUpOnceInAWhile(t *testing.T) {
	c := &clock{time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	m := newMemory()
	h := newGate(m, c, Options{}).Let(whoami)
	secret := m.add(dmarc.Token{Name: "x", Expires: c.now.Add(3 * time.Second)})
	ask := func() int { return send(h, "GET", "/api/v1/x", "Authorization", "Bearer "+secret).Code }
	for range 100 {
		if ask() != 200 {
			t.Fatal("it is not let in")
		}
	}
	if m.asked != 1 {
		t.Errorf("the store was asked %d times", m.asked)
	}
	c.now = c.now.Add(3 * time.Second)
	if code := ask(); code != 401 {
		t.Errorf("when it has expired, though remembered: %d", code)
	}
	fresh := m.add(dmarc.Token{Name: "y"})
	secret = fresh
	ask()
	m.revoke(secret, c.now)
	c.now = c.now.Add(cacheTime)
	if code := ask(); code != 401 {
		t.Errorf("when it is revoked, after a while: %d", code)
	}
}

func TestWrongSecretsSlowDownThoseWhoSendThem(t *testing.T) {
	c := &clock{time.Now()}
	m := newMemory()
	h := newGate(m, c, Options{}).Let(whoami)
	right := "Bearer " + m.add(dmarc.Token{Name: "x"})
	statuses := map[int]int{}
	for range 30 {
		statuses[send(h, "GET", "/api/v1/x", "Authorization", "Bearer "+NewSecret(), "from", "192.0.2.1:1").Code]++
	}
	if statuses[401] < wrongPerMinute || statuses[429] < 15 {
		t.Errorf("30 wrong secrets of one address: %v", statuses)
	}
	if asked := m.asked; asked > 15 {
		t.Errorf("they cost %d questions", asked)
	}
	if code := send(h, "GET", "/api/v1/x", "Authorization", right, "from", "192.0.2.1:1").Code; code != 429 {
		t.Errorf("a right one from there: %d", code)
	}
	// Others are not locked out, however many addresses are wrong.
	for i := range 5 * wrongPerMinuteAll {
		send(h, "GET", "/api/v1/x", "Authorization", "Bearer "+NewSecret(), "from", fmt.Sprintf("[2001:db8:%x::1]:1", i))
	}
	if code := send(h, "GET", "/api/v1/x", "Authorization", right, "from", "198.51.100.1:1").Code; code != 200 {
		t.Errorf("a right one from elsewhere meanwhile: %d", code)
	}
	// What cannot be a secret asks nobody.
	before := m.asked
	send(h, "GET", "/api/v1/x", "Authorization", "Bearer dmarcd_x", "from", "203.0.113.1:1")
	if m.asked != before {
		t.Error("the store was asked for what is no secret")
	}
}

// A site is a gate with the pages that it needs, as a browser meets it.
func site(t *testing.T, g *Gate) (*httptest.Server, *http.Client) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", g.Let(whoami))
	mux.Handle("/form", g.Let(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, g.CSRF(w, r)) })))
	mux.Handle("/logout", g.Let(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.Leave(w, r) })))
	mux.HandleFunc("GET "+ProviderPath, g.BeginLogin)
	mux.HandleFunc("GET "+CallbackPath, g.FinishLogin)
	mux.Handle("/login", g.Login(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprint(w, g.CSRF(w, r), r.URL.Query().Get("failed"))
			return
		}
		if err := g.Enter(w, r, r.PostFormValue("token")); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
		}
	})))
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	jar, _ := cookiejar.New(nil)
	c := s.Client()
	c.Jar = jar
	return s, c
}

func read(t *testing.T, resp *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if _, err := fmt.Fprint(&b, readAll(resp)); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b.String()
}

func readAll(resp *http.Response) string {
	var b [4096]byte
	n, _ := resp.Body.Read(b[:])
	return string(b[:n])
}

func TestASessionBeginsWithATokenAndEndsWithIt(t *testing.T) {
	c := &clock{time.Now()}
	m := newMemory()
	var log []string
	g := newGate(m, c, Options{Record: func(ctx context.Context, action, subject string) { log = append(log, action+" "+subject) }})
	s, client := site(t, g)
	secret := m.add(dmarc.Token{Name: "jo", Roles: []dmarc.Role{dmarc.RoleRead}, Scope: dmarc.ScopeOf("a.example")})
	get := func(path string) (int, string) { resp, err := client.Get(s.URL + path); return read(t, resp, err) }
	post := func(path string, v url.Values) (int, string) {
		resp, err := client.PostForm(s.URL+path, v)
		return read(t, resp, err)
	}
	if _, body := get("/"); strings.Contains(body, "via") {
		t.Fatalf("without a session: %s", body)
	}
	_, form := get("/login")
	if code, _ := post("/login", url.Values{"token": {secret}}); code != http.StatusForbidden && code != http.StatusUnauthorized {
		t.Errorf("a login without its form: %d", code)
	}
	if code, body := post("/login", url.Values{"token": {NewSecret()}, "csrf": {form}}); code != 401 || !strings.Contains(body, "opens nothing") {
		t.Errorf("a wrong token: %d %s", code, body)
	}
	if code, body := post("/login", url.Values{"token": {secret}, "csrf": {form}}); code != 200 {
		t.Fatalf("a right token: %d %s", code, body)
	}
	at, _ := url.Parse(s.URL)
	cookies := client.Jar.Cookies(at)
	if i := slices.IndexFunc(cookies, func(c *http.Cookie) bool { return c.Name == sessionCookie }); i < 0 || strings.Contains(cookies[i].Value, secret[8:20]) {
		t.Fatalf("cookies %v", cookies)
	}
	if _, body := get("/"); body != "jo via session; read a.example" {
		t.Errorf("with a session: %s", body)
	}
	// Changes need the form of this session.
	_, form2 := get("/form")
	if form2 == form {
		t.Error("the form of the session is that of the login")
	}
	for _, v := range []url.Values{nil, {"csrf": {""}}, {"csrf": {form}}, {"csrf": {form2 + "x"}}} {
		if code, _ := post("/", v); code != http.StatusForbidden {
			t.Errorf("a change with %v: %d", v, code)
		}
	}
	if code, body := post("/", url.Values{"csrf": {form2}}); code != 200 {
		t.Errorf("a change with the form: %d %s", code, body)
	}
	change := func(header ...string) int {
		r, _ := http.NewRequest("POST", s.URL+"/api/v1/reports", strings.NewReader("x"))
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(r)
		code, _ := read(t, resp, err)
		return code
	}
	if code := change(); code != http.StatusForbidden {
		t.Errorf("a change by the API without a header: %d", code)
	}
	if code := change("X-CSRF-Token", form2); code != 200 {
		t.Errorf("a change by the API with the header: %d", code)
	}
	if code := change("X-CSRF-Token", form2, "Sec-Fetch-Site", "cross-site"); code != http.StatusForbidden {
		t.Errorf("a change that another site asks for: %d", code)
	}
	// The session ends with its time, with its token, and by logging out.
	kept := c.now
	c.now = c.now.Add(sessionTime)
	if _, body := get("/"); strings.Contains(body, "via") {
		t.Errorf("after its time: %s", body)
	}
	c.now = kept.Add(time.Minute)
	m.revoke(secret, kept)
	if _, body := get("/"); strings.Contains(body, "via") {
		t.Errorf("after its token was revoked: %s", body)
	}
	m.revoke(secret, time.Time{})
	c.now = kept.Add(2 * time.Minute)
	if code, _ := post("/logout", url.Values{"csrf": {form2}}); code != 200 {
		t.Errorf("logging out: %d", code)
	}
	if _, body := get("/"); strings.Contains(body, "via") {
		t.Errorf("after logging out: %s", body)
	}
	if want := []string{"login jo", "logout jo"}; !slices.Equal(log, want) {
		t.Errorf("recorded %q, want %q", log, want)
	}
}

func TestCookiesAreForThisSiteAlone(t *testing.T) {
	c := &clock{time.Now()}
	m := newMemory()
	g := newGate(m, c, Options{Base: "/dmarc", Secure: func(r *http.Request) bool { return r.Header.Get("X-Test") == "tls" }})
	secret := m.add(dmarc.Token{Name: "jo"})
	for scheme, secure := range map[string]bool{"tls": true, "plain": false} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/login", nil)
		r.Header.Set("X-Test", scheme)
		if err := g.Enter(w, r, secret); err != nil {
			t.Fatal(err)
		}
		g.CSRF(w, r)
		for _, cookie := range w.Result().Cookies() {
			if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Secure != secure || cookie.Path != "/dmarc/" {
				t.Errorf("%s: %+v", scheme, cookie)
			}
		}
	}
	for to, want := range map[string]string{
		"/domains/x?days=90": "/dmarc/domains/x?days=90", "": "/dmarc/", "//evil.example": "/dmarc/", "https://evil.example/": "/dmarc/", `/\evil.example`: "/dmarc/",
		"javascript:alert(1)": "/dmarc/", "/\t/evil.example": "/dmarc/", "relative": "/dmarc/",
	} {
		if got := g.Next(to); got != want {
			t.Errorf("after a login for %q comes %q, want %q", to, got, want)
		}
	}
}

func TestWhereNobodyIsAskedOtherSitesStayOut(t *testing.T) {
	c := &clock{time.Now()}
	g := newGate(newMemory(), c, Options{Open: true})
	h := g.Let(whoami)
	if w := send(h, "POST", "/api/v1/reports"); w.Code != 200 || !strings.HasPrefix(w.Body.String(), "everybody via open") {
		t.Errorf("a script: %d %s", w.Code, w.Body)
	}
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "same-site"}} {
		if w := send(h, "POST", "/api/v1/reports", header...); w.Code != http.StatusForbidden {
			t.Errorf("%q: %d", header, w.Code)
		}
	}
	if w := send(h, "POST", "/overrules"); w.Code != http.StatusForbidden {
		t.Errorf("a form that is none of ours: %d", w.Code)
	}
	// A name that a stranger lets lead here makes no page of theirs of this.
	local := newGate(newMemory(), c, Options{Open: true, ByLocalName: true}).Let(whoami)
	for host, want := range map[string]int{"127.0.0.1:8080": 200, "[::1]:8080": 200, "[::1]": 200, "localhost:8080": 200, "LOCALHOST": 200, "dmarcd.localhost": 200, "192.0.2.1": 200,
		"evil.example": 403, "evil.example:8080": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "": 403} {
		for _, path := range []string{"/", "/api/v1/domains"} {
			if w := send(local, "GET", path, "Host", host); w.Code != want {
				t.Errorf("called %q: %s gives %d, want %d", host, path, w.Code, want)
			}
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	form := g.CSRF(w, r.WithContext(With(r.Context(), Everybody())))
	if w := send(h, "POST", "/overrules", "X-CSRF-Token", form); w.Code != 200 {
		t.Errorf("a form of ours: %d", w.Code)
	}
}

func TestMetricsAreForThisMachineOrThoseWhoMaySeeAll(t *testing.T) {
	c := &clock{time.Now()}
	m := newMemory()
	all := "Bearer " + m.add(dmarc.Token{Name: "all", Roles: []dmarc.Role{dmarc.RoleRead}, Scope: dmarc.Everything})
	some := "Bearer " + m.add(dmarc.Token{Name: "some", Roles: []dmarc.Role{dmarc.RoleRead}, Scope: dmarc.ScopeOf("a.example")})
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	for _, q := range []struct {
		who    string
		header []string
		want   int
	}{
		{MetricsLocal, []string{"from", "127.0.0.1:1", "Host", "127.0.0.1:8080"}, 200},
		{MetricsLocal, []string{"from", "[::1]:1", "Host", "localhost"}, 200},
		{MetricsLocal, []string{"from", "127.0.0.1:1", "Host", "evil.example"}, 401},
		{MetricsLocal, []string{"from", "127.0.0.1:1", "Host", "127.0.0.1:8080", "X-Forwarded-For", "127.0.0.1"}, 401},
		{MetricsLocal, []string{"from", "192.0.2.1:1"}, 401},
		{MetricsLocal, []string{"from", "192.0.2.1:1", "Authorization", all}, 200},
		{MetricsLocal, []string{"from", "192.0.2.1:1", "Authorization", some}, 403},
		{MetricsToken, []string{"from", "127.0.0.1:1"}, 401},
		{MetricsToken, []string{"from", "127.0.0.1:1", "Authorization", all}, 200},
		{MetricsOpen, []string{"from", "192.0.2.1:1"}, 200},
	} {
		if w := send(newGate(m, c, Options{Metrics: q.who}).Metrics(ok), "GET", "/metrics", q.header...); w.Code != q.want {
			t.Errorf("%s %q: %d, want %d", q.who, q.header, w.Code, q.want)
		}
	}
}
