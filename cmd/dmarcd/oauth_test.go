package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/outward"
)

// A tokenServer issues a token to everybody, and remembers what was asked.
type tokenServer struct {
	*httptest.Server
	mu    sync.Mutex
	asked []url.Values
	user  string // whom tokens are for
}

// username takes whose mailbox is opened from a match in its address.
func (s *tokenServer) username(match []string) {
	if len(match) < 2 {
		return
	}
	name, err := url.PathUnescape(match[1])
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.user = name
	}
}

func startTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	s := &tokenServer{user: "reports"}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/introspect" {
			s.mu.Lock()
			defer s.mu.Unlock()
			fmt.Fprintf(w, `{"active":%t,"username":%q}`, r.Form.Get("token") == "good", s.user)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, r.PostForm)
		fmt.Fprint(w, `{"access_token":"good","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(s.Close)
	return s
}

func keyFile(t *testing.T, tokenURL string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "robot@project.example", "token_uri": tokenURL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "key.json", string(text))
}

// What is configured is what the token server is asked for.
func TestTokensAreAskedForAsConfigured(t *testing.T) {
	s := startTokenServer(t)
	secret := writeFile(t, "secret", "s3cret\n")
	for name, c := range map[string]struct {
		settings string
		want     url.Values
	}{
		"microsoft": {`oauth = "microsoft"
oauth_client_id = "app"
oauth_client_secret_file = "` + secret + `"
oauth_token_url = "` + s.URL + `/token"`,
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"app"}, "client_secret": {"s3cret"}, "scope": {"https://outlook.office365.com/.default"}}},
		"refresh token": {`oauth = "refresh_token"
oauth_client_id = "app"
oauth_refresh_token_file = "` + secret + `"
oauth_token_url = "` + s.URL + `/token"`,
			url.Values{"grant_type": {"refresh_token"}, "client_id": {"app"}, "refresh_token": {"s3cret"}}},
		"google": {`oauth = "google"
oauth_key_file = "` + keyFile(t, s.URL+"/token") + `"`,
			url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "iss": {"robot@project.example"}, "sub": {"me@example.com"}, "scope": {"https://mail.google.com/"}, "aud": {s.URL + "/token"}}},
		"google for another": {`oauth = "google"
oauth_key_file = "` + keyFile(t, "https://unused.example/token") + `"
oauth_subject = "you@example.com"
oauth_scope = "a b"
oauth_token_url = "` + s.URL + `/token"`,
			url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "iss": {"robot@project.example"}, "sub": {"you@example.com"}, "scope": {"a b"}, "aud": {s.URL + "/token"}}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := load(t, "[[mailbox]]\nurl = \"imaps://me%40example.com@mail.example.com/\"\n"+c.settings+"\n")
			if err != nil {
				t.Fatal(err)
			}
			tokens, err := cfg.Mailboxes[0].tokens(cfg.reach())
			if err != nil {
				t.Fatal(err)
			}
			s.asked = nil
			if token, err := tokens.Token(t.Context()); err != nil || token != "good" {
				t.Fatalf("%q, %v", token, err)
			}
			got := s.asked[0]
			if parts := strings.Split(got.Get("assertion"), "."); len(parts) == 3 {
				got.Del("assertion")
				var claims struct{ Iss, Sub, Scope, Aud string }
				text, _ := base64.RawURLEncoding.DecodeString(parts[1])
				if err := json.Unmarshal(text, &claims); err != nil {
					t.Fatal(err)
				}
				got.Set("iss", claims.Iss)
				got.Set("sub", claims.Sub)
				got.Set("scope", claims.Scope)
				got.Set("aud", claims.Aud)
			}
			if got.Encode() != c.want.Encode() {
				t.Errorf(" asked %s\nwant  %s", got.Encode(), c.want.Encode())
			}
		})
	}
	m := newMailbox()
	m.OAuth.Kind, m.OAuth.Tenant = "microsoft", "contoso.example"
	if _, err := m.tokens(outward.Reach{}); err != nil {
		t.Error(err)
	}
}

// Several mailboxes of one configuration file, one of them with access tokens,
// each with what is set for it.
func TestServeReadsEveryMailboxOfTheFile(t *testing.T) {
	t.Parallel()
	tokens := startTokenServer(t)
	one, two := dovecottest.Start(t), dovecottest.StartOAuth(t, tokens.URL+"/introspect")
	one.Deliver(t, "1.a.host", aMail("one"))
	one.Deliver(t, "2.a.host", append(aMail("padded"), strings.Repeat("\r\n", 3000)...))
	two.Deliver(t, "1.a.host", aMail("two"))
	two.Deliver(t, "2.a.host", append(aMail("also padded"), strings.Repeat("\r\n", 3000)...))
	file := writeFile(t, "dmarcd.toml", `
[[mailbox]]
name = "one"
url = "imap://reports@`+one.Address+`/INBOX"
password = "`+dovecottest.Password+`"
limit = "4KiB"
poll = "1s"
idle = false

[[mailbox]]
name = "two"
url = "imap://reports@`+two.Address+`/INBOX"
after = "delete"
oauth = "microsoft"
oauth_client_id = "app"
oauth_client_secret = "s3cret"
oauth_token_url = "`+tokens.URL+`/token"
`)
	r := serveWith(t, build(t), t.TempDir(), "DMARCD_CONFIG="+file, "DMARCD_TLSRPT_PATH=/in/tlsrpt").ready()
	// Beside API and dashboard, TLS reports are taken.
	answer, err := http.Post(r.base+"/in/tlsrpt", "application/tlsrpt+json", strings.NewReader(aTLSReport("1", "example.com")))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Errorf("status %d", answer.StatusCode)
	}
	want := map[string]int{"one ok": 1, "one too_large": 1, "two ok": 2, "tlsrpt ok": 1}
	for deadline := time.Now().Add(patience); fmt.Sprint(r.ledger()) != fmt.Sprint(want); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("ledger %v, want %v\n%s", r.ledger(), want, r.log)
		}
	}
	if status := r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d\n%s", status, r.log)
	}
	if strings.Contains(r.log.String(), "s3cret") || strings.Contains(r.log.String(), "good") {
		t.Errorf("the log tells secrets\n%s", r.log)
	}
}
