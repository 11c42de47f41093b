package ingest

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"
)

// Ways to come by an access token.
const (
	GrantClientCredentials = "client_credentials" // RFC 6749, section 4.4: Microsoft 365
	GrantServiceAccount    = "service_account"    // RFC 7523, section 2.1: Google Workspace
	GrantRefreshToken      = "refresh_token"      // RFC 6749, section 6: what a person has agreed to
)

// OAuth says who issues access tokens for a mailbox (RFC 6749), and on what
// ground.
type OAuth struct {
	Grant        string
	TokenURL     string
	Scope        string // may be "" for GrantRefreshToken
	ClientID     string // for a service account: its address
	ClientSecret string
	RefreshToken string
	Key          []byte // of a service account: PEM
	KeyID        string
	Subject      string            // whose mailbox a service account opens
	Transport    http.RoundTripper // nil for the usual
}

// ReadServiceAccount reads the JSON key file of a service account.
func ReadServiceAccount(text []byte) (OAuth, error) {
	var key struct {
		Type         string `json:"type"`
		ClientEmail  string `json:"client_email"`
		PrivateKey   string `json:"private_key"`
		PrivateKeyID string `json:"private_key_id"`
		TokenURI     string `json:"token_uri"`
	}
	if err := json.Unmarshal(text, &key); err != nil {
		return OAuth{}, errors.New("is no JSON")
	}
	block, _ := pem.Decode([]byte(key.PrivateKey))
	switch {
	case key.Type != "service_account":
		return OAuth{}, errors.New(`is no key of a service account: its "type" is not "service_account"`)
	case key.ClientEmail == "" || key.TokenURI == "":
		return OAuth{}, errors.New(`lacks "client_email" or "token_uri"`)
	case block == nil:
		return OAuth{}, errors.New(`lacks a "private_key" in PEM format`)
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return OAuth{}, errors.New(`holds a "private_key" that cannot be read`)
		}
	}
	return OAuth{Grant: GrantServiceAccount, TokenURL: key.TokenURI, ClientID: key.ClientEmail, Key: []byte(key.PrivateKey), KeyID: key.PrivateKeyID}, nil
}

// Tokens gives the access tokens that a mailbox is opened with. It may be used by
// several goroutines.
type Tokens struct {
	from OAuth

	mu      sync.Mutex
	current accessToken
	refresh string // the newest refresh token
}

// An accessToken opens a mailbox for some time.
type accessToken struct {
	text   string
	renews time.Time // when it is time for another one; zero if it does not end
}

func (t accessToken) over() bool { return !t.renews.IsZero() && !time.Now().Before(t.renews) }

// NewTokens returns a source that asks for a token when one is first wanted.
func NewTokens(from OAuth) *Tokens { return &Tokens{from: from, refresh: from.RefreshToken} }

// Bounds of asking for a token.
const (
	tokenTime   = 30 * time.Second
	tokenMargin = time.Minute // before its end a token is not used any more; a quarter of its time if it is short
)

// Token returns a token that is valid for a while. An error tells what the
// server said, without secrets.
func (t *Tokens) Token(ctx context.Context) (string, error) {
	token, err := t.other(ctx, "")
	return token.text, err
}

// other returns a token that is valid for a while and is not the one that was
// refused.
func (t *Tokens) other(ctx context.Context, refused string) (accessToken, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.text != "" && t.current.text != refused && !t.current.over() {
		return t.current, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTime)
	defer cancel()
	began := time.Now()
	token, err := t.fetch(ctx)
	if err == nil && token.AccessToken == "" {
		err = errors.New("the answer holds no access_token")
	}
	if err != nil {
		return accessToken{}, t.explain(err)
	}
	t.current = accessToken{text: token.AccessToken}
	if !token.Expiry.IsZero() {
		t.current.renews = token.Expiry.Add(-min(tokenMargin, token.Expiry.Sub(began)/4))
	}
	return t.current, nil
}

func (t *Tokens) fetch(ctx context.Context) (*oauth2.Token, error) {
	o := t.from
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport: withContext{ctx, o.Transport},
		// A redirect would carry the secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	switch o.Grant {
	case GrantClientCredentials:
		c := clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: strings.Fields(o.Scope), AuthStyle: oauth2.AuthStyleInParams}
		return c.Token(ctx)
	case GrantServiceAccount:
		c := jwt.Config{Email: o.ClientID, PrivateKey: o.Key, PrivateKeyID: o.KeyID, Subject: o.Subject, Scopes: strings.Fields(o.Scope), TokenURL: o.TokenURL}
		return c.TokenSource(ctx).Token()
	case GrantRefreshToken:
		c := oauth2.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: oauth2.Endpoint{TokenURL: o.TokenURL, AuthStyle: oauth2.AuthStyleInParams}}
		token, err := c.TokenSource(ctx, &oauth2.Token{RefreshToken: t.refresh}).Token()
		if err == nil && token.RefreshToken != "" {
			t.refresh = token.RefreshToken
		}
		return token, err
	}
	return nil, fmt.Errorf("there is no grant %q", o.Grant)
}

// withContext makes requests end with a context; package jwt does not.
type withContext struct {
	ctx  context.Context
	next http.RoundTripper
}

func (w withContext) RoundTrip(r *http.Request) (*http.Response, error) {
	return cmp.Or(w.next, http.DefaultTransport).RoundTrip(r.WithContext(w.ctx))
}

// explain says what a token server answered. What it says comes from outside,
// and may repeat what it was sent.
func (t *Tokens) explain(err error) error {
	server := "the token server"
	if u, bad := url.Parse(t.from.TokenURL); bad == nil {
		server += " " + u.Host
	}
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		var failed *url.Error
		if errors.As(err, &failed) {
			return fmt.Errorf("asking %s: %w", server, failed.Err)
		}
		return fmt.Errorf("asking %s: %s", server, t.harmless(strings.TrimPrefix(err.Error(), "oauth2: ")))
	}
	var said struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	json.Unmarshal(answer.Body, &said) // what is no JSON says nothing
	text := said.Error
	if said.Description != "" {
		text += ": " + said.Description
	}
	return fmt.Errorf("%s refuses a token (HTTP status %d): %s", server, answer.Response.StatusCode, cmp.Or(t.harmless(text), "it does not say why"))
}

// harmless cuts a text, and hides in it whatever may be a secret: the known
// ones, and words as long as tokens are.
func (t *Tokens) harmless(text string) string {
	for _, s := range []string{t.from.ClientSecret, t.from.RefreshToken, t.refresh} {
		if s != "" {
			text = strings.ReplaceAll(text, s, "(hidden)")
		}
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
	for i, w := range words {
		if len(w) > 80 {
			words[i] = "(hidden)"
		}
	}
	if r := []rune(strings.Join(words, " ")); len(r) > 400 {
		return string(r[:400]) + "…"
	}
	return strings.Join(words, " ")
}

// A refusedToken is an access token that the mail server did not take.
type refusedToken struct{ reason string }

func (e *refusedToken) Error() string { return "the access token was refused: " + e.reason }

// bearer logs in with an access token: by OAUTHBEARER (RFC 7628) or by its
// older kin XOAUTH2, which is all that some large providers offer.
func (m *IMAP) bearer(client *imapclient.Client, token string) error {
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(m.opts.User) // RFC 5801, section 4
	var how sasl.Client = sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: name, Token: token})
	caps := client.Caps()
	if m.opts.Auth == "xoauth2" || m.opts.Auth != "oauthbearer" && !caps.Has(imap.AuthCap(sasl.OAuthBearer)) {
		how = &xoauth2{m.opts.User, token}
	}
	err := client.Authenticate(how)
	var no *imap.Error
	var said *sasl.OAuthBearerError
	switch {
	case errors.As(err, &said):
		return &refusedToken{cmp.Or(said.Status, "the server does not say why")}
	case errors.As(err, &no):
		return &refusedToken{no.Text}
	}
	return err
}

// xoauth2 is the XOAUTH2 mechanism of Google and Microsoft.
type xoauth2 struct{ user, token string }

func (x *xoauth2) Start() (string, []byte, error) {
	return "XOAUTH2", []byte("user=" + x.user + "\x01auth=Bearer " + x.token + "\x01\x01"), nil
}

// Next gets a challenge only if the token is refused: JSON as in OAUTHBEARER.
func (x *xoauth2) Next(challenge []byte) ([]byte, error) {
	said := new(sasl.OAuthBearerError)
	json.Unmarshal(challenge, said) // what is no JSON is a refusal all the same
	return nil, said
}
