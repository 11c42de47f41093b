package access

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An issuer is an OpenID provider that lets everybody in as somebody.
type issuer struct {
	*httptest.Server
	key    *rsa.PrivateKey
	mu     sync.Mutex
	codes  map[string]url.Values // what each code was asked for with
	claims map[string]any        // of whoever comes, beside those of the protocol
	spoil  func(claims map[string]any)
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key, codes: map[string]url.Values{}}
	keys := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k", Algorithm: oidc.RS256}}}
	mux := http.NewServeMux()
	mux.Handle("/keys", keys)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("/auth", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("client_id") != "dmarcd" || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || !strings.Contains(q.Get("scope"), "openid") {
			http.Error(w, "a bad request: "+r.URL.RawQuery, http.StatusBadRequest)
			return
		}
		code := rand.Text()
		i.mu.Lock()
		i.codes[code] = q
		i.mu.Unlock()
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusSeeOther)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		asked, ok := i.codes[r.PostFormValue("code")]
		delete(i.codes, r.PostFormValue("code"))
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		id, secret, _ := r.BasicAuth()
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") || id != "dmarcd" || secret != "hush" || r.PostFormValue("redirect_uri") != asked.Get("redirect_uri") {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		claims := map[string]any{"iss": i.URL, "aud": "dmarcd", "sub": "4711", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "nonce": asked.Get("nonce")}
		for name, v := range i.claims {
			claims[name] = v
		}
		if i.spoil != nil {
			i.spoil(claims)
		}
		text, _ := json.Marshal(claims)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": oidctest.SignIDToken(i.key, "k", oidc.RS256, string(text))})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func TestPeopleLogInWithAnOpenIDProvider(t *testing.T) {
	c := &clock{time.Now()}
	i := newIssuer(t)
	groups := Groups{"it": {{Roles: []dmarc.Role{dmarc.RoleRead}, Scope: dmarc.ScopeOf("a.example")}}, "dpo": {{Roles: []dmarc.Role{dmarc.RoleFailures}, Scope: dmarc.ScopeOf("a.example", "b.example")}}}
	fresh := func() (*httptest.Server, *http.Client) {
		return site(t, newGate(newMemory(), c, Options{Groups: groups, Provider: &Provider{
			Issuer: i.URL, ClientID: "dmarcd", ClientSecret: "hush", Scopes: []string{"email"}, GroupsClaim: "groups", Label: "Log in", Origin: (&Edge{}).Origin,
		}}))
	}
	for _, q := range []struct {
		what   string
		claims map[string]any
		spoil  func(map[string]any)
		want   string // what the page says that was asked for, or else why there was no login
	}{
		{"one of two groups", map[string]any{"groups": []string{"it", "others"}, "email": "jo@a.example"}, nil, "jo@a.example via provider; read a.example"},
		{"two groups, no address that was verified", map[string]any{"groups": []string{"it", "dpo"}, "email": "admin@a.example", "email_verified": false, "preferred_username": "jo"}, nil, "jo via provider; read a.example; failures a.example,b.example"},
		{"a group as text", map[string]any{"groups": "it"}, nil, "4711 via provider; read a.example"},
		{"no group", map[string]any{"groups": []string{"others"}}, nil, "groups"},
		{"any group is no group", map[string]any{"groups": []string{"*"}}, nil, "groups"},
		{"no groups", nil, nil, "groups"},
		{"the nonce of another login", map[string]any{"groups": "it"}, func(claims map[string]any) { claims["nonce"] = "x" }, "provider"},
		{"for somebody else", map[string]any{"groups": "it"}, func(claims map[string]any) { claims["aud"] = "other" }, "provider"},
		{"by somebody else", map[string]any{"groups": "it"}, func(claims map[string]any) { claims["iss"] = "https://evil.example" }, "provider"},
		{"expired", map[string]any{"groups": "it"}, func(claims map[string]any) { claims["exp"] = time.Now().Add(-time.Hour).Unix() }, "provider"},
	} {
		i.claims, i.spoil = q.claims, q.spoil
		s, client := fresh()
		resp, err := client.Get(s.URL + ProviderPath + "?next=" + url.QueryEscape("/domains/a.example?days=90"))
		_, body := read(t, resp, err)
		at := resp.Request.URL
		if at.Path == "/login" {
			body = at.Query().Get("failed")
		} else if at.RequestURI() != "/domains/a.example?days=90" {
			t.Errorf("%s: the login ends at %s", q.what, at)
		}
		if body != q.want {
			t.Errorf("%s: %q at %s, want %q", q.what, body, at, q.want)
		}
	}
	// A key that the provider does not publish.
	i.claims, i.spoil = map[string]any{"groups": "it"}, nil
	published := i.key
	i.key, _ = rsa.GenerateKey(rand.Reader, 2048)
	s, client := fresh()
	resp, err := client.Get(s.URL + ProviderPath)
	if _, body := read(t, resp, err); resp.Request.URL.Query().Get("failed") != "provider" {
		t.Errorf("signed with another key: %s at %s", body, resp.Request.URL)
	}
	i.key = published

	// An answer is of use to whoever began the login, once.
	s, victim := fresh()
	_, attacker := s, &http.Client{Transport: victim.Transport, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == CallbackPath {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	attacker.Jar = nil
	resp, err = attacker.Get(s.URL + ProviderPath)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	callback := resp.Header.Get("Location")
	if !strings.Contains(callback, CallbackPath) {
		t.Fatalf("the attacker got as far as %q", callback)
	}
	resp, err = victim.Get(callback)
	if read(t, resp, err); resp.Request.URL.Query().Get("failed") != "begin" {
		t.Errorf("a login that another began ends at %s", resp.Request.URL)
	}
	for _, q := range []string{"", "?state=x&code=y", "?error=access_denied"} {
		resp, err := victim.Get(s.URL + CallbackPath + q)
		if read(t, resp, err); resp.Request.URL.Query().Get("failed") != "begin" {
			t.Errorf("%q ends at %s", q, resp.Request.URL)
		}
	}
	i.Close()
	s, client = fresh()
	resp, err = client.Get(s.URL + ProviderPath)
	if read(t, resp, err); resp.Request.URL.Query().Get("failed") != "provider" {
		t.Errorf("without a provider the login ends at %s", resp.Request.URL)
	}
}

func TestGroupsAreReadAndRefused(t *testing.T) {
	plain := func(s string) (string, error) {
		s = strings.ToLower(strings.TrimSpace(s))
		if !strings.Contains(s, ".") {
			return "", fmt.Errorf("no domain")
		}
		return s, nil
	}
	name, grant, err := ParseGroup(" CN=it = read + failures @ A.example+b.example ", plain)
	if err != nil || name != "CN=it" || len(grant.Roles) != 2 || !grant.Scope.Covers("x.a.example") || grant.Scope.Covers("c.example") {
		t.Errorf("%q, %+v, %v", name, grant, err)
	}
	if _, grant, err := ParseGroup("x = read @ a.example+group: ACME Ltd.", plain); err != nil || !slices.Equal(grant.Scope.Domains(), []string{"a.example"}) || !slices.Equal(grant.Groups, []string{"ACME Ltd."}) {
		t.Errorf("%+v, %v", grant, err)
	}
	if _, grant, err := ParseGroup("*=admin@*", plain); err != nil || !grant.Scope.All() {
		t.Errorf("%+v, %v", grant, err)
	}
	for _, wrong := range []string{"", "it", "it=read", "=read@*", "it=root@*", "it=read@", "it=read@x", "it=@*", "it=read+@*"} {
		if _, _, err := ParseGroup(wrong, plain); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
