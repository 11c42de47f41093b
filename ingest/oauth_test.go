package ingest_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/ingest/dovecottest"
)

// An issuer is an authorization server: it checks who asks for a token, issues
// tokens that end, and tells mail servers about them (RFC 7662).
type issuer struct {
	url      string
	key      *rsa.PublicKey // of the service account
	lifetime time.Duration  // of tokens
	first    time.Duration  // of the first one, if that is another
	grace    time.Duration  // for which they are valid beyond it

	mu      sync.Mutex
	refresh string
	tokens  map[string]time.Time // the valid ones, and their ends
	issued  int
	asked   int
	last    url.Values
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{lifetime: time.Hour, refresh: "refresh-0", tokens: map[string]time.Time{}}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	answer := func(status int, body map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(body)
	}
	r.ParseForm()
	if r.URL.Path == "/introspect" {
		end, known := i.tokens[r.Form.Get("token")]
		answer(200, map[string]any{"active": known && time.Now().Before(end), "username": dovecottest.User})
		return
	}
	i.asked++
	i.last = r.PostForm
	refuse := func(code, why string) { answer(401, map[string]any{"error": code, "error_description": why}) }
	form := r.PostForm.Get
	lifetime := i.lifetime
	if i.issued == 0 && i.first > 0 {
		lifetime = i.first
	}
	reply := map[string]any{"token_type": "Bearer", "expires_in": int(lifetime / time.Second)}
	switch grant := form("grant_type"); {
	case r.URL.Path != "/token" || r.Method != http.MethodPost:
		answer(404, map[string]any{})
		return
	case grant == "client_credentials" && (form("client_id") != "app" || form("client_secret") != "s3cret"):
		refuse("invalid_client", "AADSTS7000215: Invalid client secret provided: "+form("client_secret")+".\r\nTrace ID: 1")
		return
	case grant == "client_credentials" && form("scope") != "https://outlook.office365.com/.default":
		refuse("invalid_scope", "the scope "+form("scope"))
		return
	case grant == "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if why := i.checkAssertion(form("assertion")); why != "" {
			refuse("invalid_grant", why)
			return
		}
	case grant == "refresh_token" && (form("refresh_token") != i.refresh || form("client_id") != "app"):
		refuse("invalid_grant", "Token has been expired or revoked.")
		return
	case grant == "refresh_token":
		i.refresh = fmt.Sprintf("refresh-%d", i.issued+1) // the old one is worth nothing from now on
		reply["refresh_token"] = i.refresh
	case grant != "client_credentials":
		refuse("unsupported_grant_type", grant)
		return
	}
	i.issued++
	token := fmt.Sprintf("token-%d", i.issued)
	i.tokens[token] = time.Now().Add(lifetime + i.grace)
	reply["access_token"] = token
	answer(200, reply)
}

// checkAssertion says what is wrong with the signed claims of a service account
// (RFC 7523), or "".
func (i *issuer) checkAssertion(text string) string {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return "no JWT"
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(i.key, crypto.SHA256, sum[:], signature); err != nil {
		return "Invalid JWT Signature. " + text
	}
	var claims struct {
		Iss, Scope, Aud, Sub string
		Iat, Exp             int64
	}
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if err := json.Unmarshal(payload, &claims); err != nil {
		return err.Error()
	}
	now := time.Now().Unix()
	switch {
	case claims.Iss != "robot@project.example" || claims.Aud != i.url+"/token" || claims.Scope != "https://mail.google.com/":
		return fmt.Sprintf("claims %+v", claims)
	case claims.Sub != dovecottest.User:
		return "Client is unauthorized to impersonate " + claims.Sub
	case claims.Iat > now+60 || claims.Exp < now || claims.Exp > claims.Iat+3660:
		return "bad times"
	}
	return ""
}

// forget makes every token worthless.
func (i *issuer) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.tokens)
}

func (i *issuer) counts() (asked, issued int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked, i.issued
}

func (i *issuer) clientCredentials() ingest.OAuth {
	return ingest.OAuth{Grant: ingest.GrantClientCredentials, TokenURL: i.url + "/token", ClientID: "app", ClientSecret: "s3cret", Scope: "https://outlook.office365.com/.default"}
}

func (i *issuer) refreshToken() ingest.OAuth {
	return ingest.OAuth{Grant: ingest.GrantRefreshToken, TokenURL: i.url + "/token", ClientID: "app", RefreshToken: "refresh-0"}
}

// serviceAccount writes a key file, and reads it.
func (i *issuer) serviceAccount(t *testing.T) ingest.OAuth {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	i.key = &key.PublicKey
	file, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "robot@project.example", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": i.url + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	o, err := ingest.ReadServiceAccount(file)
	if err != nil {
		t.Fatal(err)
	}
	o.Scope, o.Subject = "https://mail.google.com/", dovecottest.User
	return o
}

func TestMailIsReadWithAccessTokens(t *testing.T) {
	i := newIssuer(t)
	s := dovecottest.StartOAuth(t, i.url+"/introspect", "ssl = required")
	s.Deliver(t, "1.a.host", reportMail("one"))
	for name, from := range map[string]ingest.OAuth{"client credentials": i.clientCredentials(), "service account": i.serviceAccount(t), "refresh token": i.refreshToken()} {
		tokens := ingest.NewTokens(from)
		for _, auth := range []string{"auto", "xoauth2", "oauthbearer"} {
			t.Run(name+" "+auth, func(t *testing.T) {
				box := mailboxAt(s, func(o *ingest.IMAPOptions) {
					o.Security, o.TLSConfig, o.Auth, o.Password, o.Tokens = ingest.SecuritySTARTTLS, s.TLS, auth, "", tokens
				})
				defer box.Close()
				if sum, err := ingester(&memory{}).Pass(t.Context(), box); err != nil || sum.Messages != 1 {
					t.Errorf("%+v, %v", sum, err)
				}
			})
		}
	}
	if asked, issued := i.counts(); asked != 3 || issued != 3 {
		t.Errorf("%d tokens were asked for and %d issued, want one for each way", asked, issued)
	}
}

// A token that was revoked is replaced, once: the mailbox is read all the same.
func TestATokenThatTheMailServerRefusesIsReplacedOnce(t *testing.T) {
	for _, auth := range []string{"xoauth2", "oauthbearer"} {
		t.Run(auth, func(t *testing.T) {
			i := newIssuer(t)
			s := dovecottest.StartOAuth(t, i.url+"/introspect")
			s.Deliver(t, "1.a.host", reportMail("one"))
			box := mailboxAt(s, func(o *ingest.IMAPOptions) { o.Auth, o.Tokens = auth, ingest.NewTokens(i.refreshToken()) })
			defer box.Close()
			store := &memory{}
			for want := 1; want <= 3; want++ {
				if _, err := ingester(store).Pass(t.Context(), box); err != nil {
					t.Fatal(err)
				}
				if _, issued := i.counts(); issued != want {
					t.Errorf("%d tokens were issued, want %d", issued, want)
				}
				box.Close()
				i.forget()
			}
			if got := store.ids(); !slices.Equal(got, []string{"one"}) {
				t.Errorf("took %v", got)
			}
			i.mu.Lock()
			i.lifetime = -time.Hour // no token is any good
			i.mu.Unlock()
			_, err := ingester(store).Pass(t.Context(), box)
			if err == nil || !strings.Contains(err.Error(), "logging in to "+s.Address+" as reports: the access token was refused: ") {
				t.Errorf("err = %v", err)
			}
			if _, issued := i.counts(); issued > 5 {
				t.Errorf("%d tokens were issued, two more are enough", issued)
			}
		})
	}
}

// direct hands requests to a server without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestATokenIsRenewedBeforeItEnds(t *testing.T) {
	for lifetime, want := range map[time.Duration][]int{ // tokens issued after each quarter of an hour
		time.Hour:        {1, 1, 1, 1, 2, 2, 2, 2, 3},
		20 * time.Minute: {1, 1, 2, 2, 3, 3, 4, 4, 5},
		time.Minute:      {1, 2, 3, 4, 5, 6, 7, 8, 9},
		0:                {1, 1, 1, 1, 1, 1, 1, 1, 1}, // it does not end
	} {
		t.Run(lifetime.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{url: "http://issuer", lifetime: lifetime, refresh: "refresh-0", tokens: map[string]time.Time{}}
				from := i.refreshToken()
				from.Transport = direct{i}
				tokens := ingest.NewTokens(from)
				var got []int
				for range want {
					if _, err := tokens.Token(t.Context()); err != nil {
						t.Fatal(err)
					}
					got = append(got, i.issued)
					time.Sleep(15 * time.Minute)
				}
				if !slices.Equal(got, want) {
					t.Errorf("issued %v, want %v", got, want)
				}
			})
		})
	}
}

// A long session is ended before its token ends: no server has to break it.
func TestASessionIsRenewedWithItsToken(t *testing.T) {
	i := newIssuer(t)
	i.first, i.grace = time.Second, time.Hour
	s := dovecottest.StartOAuth(t, i.url+"/introspect")
	box := mailboxAt(s, func(o *ingest.IMAPOptions) { o.Tokens, o.Poll = ingest.NewTokens(i.clientCredentials()), time.Hour })
	defer box.Close()
	for {
		if _, err := ingester(&memory{}).Pass(t.Context(), box); err != nil {
			t.Fatal(err)
		}
		if _, issued := i.counts(); issued == 2 {
			break // the second holds for an hour
		}
		if err := box.Wait(t.Context()); err != nil { // it returns long before an hour has gone
			t.Fatal(err)
		}
	}
}

func TestWhatTheTokenServerSaysIsToldWithoutSecrets(t *testing.T) {
	i := newIssuer(t)
	account := i.serviceAccount(t)
	host := strings.TrimPrefix(i.url, "http://")
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/html":
			fmt.Fprint(w, "<html>hello</html>")
		case "/moved":
			http.Redirect(w, r, i.url+"/token", http.StatusTemporaryRedirect)
		case "/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/empty":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"token_type":"Bearer"}`)
		}
	}))
	defer odd.Close()
	oddHost := strings.TrimPrefix(odd.URL, "http://")
	change := func(o ingest.OAuth, f func(*ingest.OAuth)) ingest.OAuth { f(&o); return o }
	for name, c := range map[string]struct {
		from ingest.OAuth
		want string
	}{
		"wrong secret": {change(i.clientCredentials(), func(o *ingest.OAuth) { o.ClientSecret = "wr0ng" }),
			"the token server " + host + " refuses a token (HTTP status 401): invalid_client: AADSTS7000215: Invalid client secret provided: (hidden). Trace ID: 1"},
		"wrong refresh token": {change(i.refreshToken(), func(o *ingest.OAuth) { o.RefreshToken = "stale" }),
			"the token server " + host + " refuses a token (HTTP status 401): invalid_grant: Token has been expired or revoked."},
		"another's key": {change(account, func(o *ingest.OAuth) { *o = newIssuerAccount(t, i.url) }),
			"the token server " + host + " refuses a token (HTTP status 401): invalid_grant: Invalid JWT Signature. (hidden)"},
		"another's mailbox": {change(account, func(o *ingest.OAuth) { o.Subject = "boss" }),
			"the token server " + host + " refuses a token (HTTP status 401): invalid_grant: Client is unauthorized to impersonate boss"},
		"wrong address": {change(i.clientCredentials(), func(o *ingest.OAuth) { o.TokenURL = i.url + "/nowhere" }),
			"the token server " + host + " refuses a token (HTTP status 404): it does not say why"},
		"a page": {change(i.clientCredentials(), func(o *ingest.OAuth) { o.TokenURL = odd.URL + "/html" }),
			"asking the token server " + oddHost + ": cannot parse json: invalid character '<' looking for beginning of value"},
		"a redirect": {change(i.clientCredentials(), func(o *ingest.OAuth) { o.TokenURL = odd.URL + "/moved" }),
			"the token server " + oddHost + " refuses a token (HTTP status 307): it does not say why"},
		"out of order": {change(account, func(o *ingest.OAuth) { o.TokenURL = odd.URL + "/down" }),
			"the token server " + oddHost + " refuses a token (HTTP status 503): it does not say why"},
		"an empty answer": {change(account, func(o *ingest.OAuth) { o.TokenURL = odd.URL + "/empty" }),
			"asking the token server " + oddHost + ": the answer holds no access_token"},
		"nobody there": {change(i.clientCredentials(), func(o *ingest.OAuth) { o.TokenURL = "http://127.0.0.1:1/token" }),
			"asking the token server 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ingest.NewTokens(c.from).Token(t.Context())
			if err == nil || err.Error() != c.want {
				t.Errorf(" got %v\nwant %s", err, c.want)
			}
		})
	}
}

// newIssuerAccount is a service account whose key another server would accept.
func newIssuerAccount(t *testing.T, at string) ingest.OAuth {
	o := (&issuer{url: at}).serviceAccount(t)
	return o
}

// Whoever stops does not wait for a token server that does not answer.
func TestWaitingForATokenEndsWithTheContext(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.ParseForm() // the end of a connection is seen once its request is read
		<-r.Context().Done()
	}))
	defer silent.Close()
	for _, from := range []ingest.OAuth{newIssuerAccount(t, silent.URL), {Grant: ingest.GrantRefreshToken, TokenURL: silent.URL, RefreshToken: "x"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := ingest.NewTokens(from).Token(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "asking the token server") {
			t.Errorf("err = %v", err)
		}
	}
}

func TestAKeyFileThatIsNoneIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`x`:                          "is no JSON",
		`{"type":"authorized_user"}`: `is no key of a service account: its "type" is not "service_account"`,
		`{"type":"service_account","client_email":"a","token_uri":"b"}`: `lacks a "private_key" in PEM format`,
		`{"type":"service_account","private_key":"x"}`:                  `lacks "client_email" or "token_uri"`,
		`{"type":"service_account","client_email":"a","token_uri":"b","private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`: `holds a "private_key" that cannot be read`,
	} {
		if _, err := ingest.ReadServiceAccount([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

// Each of several mailboxes has its own server, way to log in, limit and
// treatment of what was read, and its own place.
func TestSeveralMailboxesAreReadSideBySide(t *testing.T) {
	i := newIssuer(t)
	var boxes []*ingest.IMAP
	servers := map[string]*dovecottest.Server{}
	for name, change := range map[string]func(*ingest.IMAPOptions){
		"plain":  nil,
		"moving": func(o *ingest.IMAPOptions) { o.After, o.MoveTo = ingest.AfterMove, "Done" },
		"small":  func(o *ingest.IMAPOptions) { o.Limit, o.Idle, o.Poll = 300, false, 5*time.Millisecond },
		"oauth":  func(o *ingest.IMAPOptions) { o.Password, o.Tokens = "", ingest.NewTokens(i.clientCredentials()) },
	} {
		s := dovecottest.StartOAuth(t, i.url+"/introspect")
		servers[name] = s
		boxes = append(boxes, mailboxAt(s, func(o *ingest.IMAPOptions) {
			o.Name = name
			if change != nil {
				change(o)
			}
		}))
		s.Deliver(t, "1.a.host", reportMail(name+"-1"))
	}
	store := &memory{}
	in := ingester(store)
	fates := make(chan string, 100)
	in.OnFate = func(d *dmarc.Delivery, f dmarc.Fate) { fates <- d.Mailbox + " " + string(f.Outcome) }
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, box := range boxes {
		running.Go(func() { in.Run(ctx, box) })
	}
	next := func(n int) map[string]int {
		got := map[string]int{}
		for range n {
			got[<-fates]++
		}
		return got
	}
	want := map[string]int{"plain ok": 1, "moving ok": 1, "small too_large": 1, "oauth ok": 1}
	if got := next(4); !maps.Equal(got, want) {
		t.Errorf("fates %v, want %v", got, want)
	}
	for name, s := range servers { // while they are waited for
		s.Deliver(t, "2.a.host", []byte("Subject: hello\r\n\r\nNo report from "+name+".\r\n"))
	}
	want = map[string]int{"plain not_a_report": 1, "moving not_a_report": 1, "small not_a_report": 1, "oauth not_a_report": 1}
	if got := next(4); !maps.Equal(got, want) {
		t.Errorf("fates %v, want %v", got, want)
	}
	cancel()
	running.Wait()
	for _, box := range boxes {
		box.Close()
	}
	if in, done := messages(t, servers["moving"], "INBOX"), messages(t, servers["moving"], "Done"); in != 1 || done != 1 {
		t.Errorf("%d messages stay and %d are moved, want 1 and 1", in, done)
	}
	for name := range servers {
		if got := store.place[name]; got.UID != 2 {
			t.Errorf("%s: reached %+v", name, got)
		}
	}
}

// Without STARTTLS on offer, the token stays here.
func TestTokensDoNotCrossTheNetworkInPlainText(t *testing.T) {
	_, address := inMemory(t, imapserver.Options{})
	i := newIssuer(t)
	box := ingest.NewIMAP(ingest.IMAPOptions{Name: "box", Address: address, Security: ingest.SecuritySTARTTLS, User: dovecottest.User, Tokens: ingest.NewTokens(i.clientCredentials()), Folder: "INBOX", Limit: 1 << 20})
	if _, err := ingester(&memory{}).Pass(t.Context(), box); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("err = %v", err)
	}
}

// A token server that is out of order costs its mailboxes time, and no other
// anything: it is asked less and less often, what is wrong is said, and once it works
// the mail is read.
func TestATokenServerOutOfOrderHoldsUpNobodyElse(t *testing.T) {
	i := newIssuer(t)
	var down atomic.Bool
	var asked atomic.Int64
	down.Store(true)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		i.ServeHTTP(w, r)
	}))
	defer front.Close()
	from := i.clientCredentials()
	from.TokenURL = front.URL + "/token"
	one, two := dovecottest.StartOAuth(t, i.url+"/introspect"), dovecottest.Start(t)
	one.Deliver(t, "1.a.host", reportMail("by token"))
	two.Deliver(t, "1.a.host", reportMail("by password"))
	var log lockedLog
	store := &memory{}
	in := ingester(store)
	in.Log = slog.New(slog.NewTextHandler(&log, nil))
	fates := make(chan string, 10)
	in.OnFate = func(d *dmarc.Delivery, _ dmarc.Fate) { fates <- d.Parts[0].Aggregate.ID }
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	boxes := []*ingest.IMAP{
		mailboxAt(one, func(o *ingest.IMAPOptions) { o.Name, o.Tokens = "one", ingest.NewTokens(from) }),
		mailboxAt(two, func(o *ingest.IMAPOptions) { o.Name, o.Poll, o.Idle = "two", time.Millisecond, false }),
	}
	for _, box := range boxes {
		running.Go(func() { in.Run(ctx, box) })
	}
	if got := <-fates; got != "by password" {
		t.Errorf("first came %q", got)
	}
	for asked.Load() < 2 { // it is tried again
		time.Sleep(10 * time.Millisecond)
	}
	two.Deliver(t, "2.a.host", reportMail("by password again"))
	if got := <-fates; got != "by password again" {
		t.Errorf("then came %q", got)
	}
	if want := "the token server " + strings.TrimPrefix(front.URL, "http://") + " refuses a token (HTTP status 503)"; !strings.Contains(log.String(), want) || strings.Contains(log.String(), "mailbox=two pause") {
		t.Errorf("the log does not say %q, or complains of another\n%s", want, log.String())
	}
	down.Store(false)
	if got := <-fates; got != "by token" {
		t.Errorf("at last came %q", got)
	}
}

// A lockedLog is written and read at the same time.
type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
