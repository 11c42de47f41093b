package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// A Provider is an OpenID provider that people log in with. It is asked for
// what it can do when the first of them comes.
type Provider struct {
	Issuer       string
	ClientID     string
	ClientSecret string
	Scopes       []string // beside openid
	GroupsClaim  string   // that lists groups
	NameClaim    string   // that names the person; "" for email, preferred_username or sub
	Label        string   // on the button
	// Transport makes the requests to it; nil: http.DefaultTransport.
	Transport http.RoundTripper
	// Origin returns scheme and host that a request was made to, as its
	// client sees them.
	Origin func(*http.Request) string

	mu    sync.Mutex
	found *oidc.Provider
}

// providerTime bounds what is asked of a provider.
const providerTime = 15 * time.Second

// underWay is a login with a provider that has begun.
type underWay struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Next     string `json:"x"`
	Until    int64  `json:"u"`
}

func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil {
		// The keys are fetched again and again, beyond this request.
		found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client()), p.Issuer)
		if err != nil {
			return nil, fmt.Errorf("asking the OpenID provider what it can do: %w", err)
		}
		p.found = found
	}
	return p.found, nil
}

func (p *Provider) client() *http.Client {
	return &http.Client{Timeout: providerTime, Transport: p.Transport}
}

// Check asks the provider what it can do, without a login.
func (p *Provider) Check(ctx context.Context) error {
	_, err := p.discover(ctx)
	return err
}

func (p *Provider) config(found *oidc.Provider, redirect string) *oauth2.Config {
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: found.Endpoint(), RedirectURL: redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...)}
}

// Paths of the login with a provider.
const (
	ProviderPath = "/login/provider"
	CallbackPath = "/login/callback"
)

// Provider returns the label and address of the login with a provider; "" if
// there is none.
func (g *Gate) Provider() (label, address string) {
	if g.opts.Provider == nil {
		return "", ""
	}
	return g.opts.Provider.Label, g.opts.Base + ProviderPath
}

// Next returns where to go after a login: the page that was asked for, if it is
// one of ours, and else the first.
func (g *Gate) Next(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
		return g.opts.Base + "/"
	}
	return g.opts.Base + to
}

// BeginLogin sends somebody to the provider.
func (g *Gate) BeginLogin(w http.ResponseWriter, r *http.Request) {
	p := g.opts.Provider
	ctx, cancel := context.WithTimeout(r.Context(), providerTime)
	defer cancel()
	found, err := p.discover(ctx)
	if err != nil {
		g.failLogin(w, r, "provider", err)
		return
	}
	way := underWay{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Next: r.URL.Query().Get("next"), Until: g.opts.Now().Add(loginTime).Unix()}
	text, err := g.sign(ctx, providerState, way)
	if err != nil {
		g.failLogin(w, r, "provider", err)
		return
	}
	g.setCookie(w, r, providerState, text, loginTime)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, p.config(found, p.Origin(r)+g.opts.Base+CallbackPath).AuthCodeURL(way.State, oidc.Nonce(way.Nonce), oauth2.S256ChallengeOption(way.Verifier)), http.StatusSeeOther)
}

// FinishLogin begins a session for somebody whom the provider sent back.
func (g *Gate) FinishLogin(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), providerTime)
	defer cancel()
	var way underWay
	c, err := r.Cookie(providerState)
	if err == nil {
		err = g.signed(ctx, providerState, c.Value, &way)
	}
	g.setCookie(w, r, providerState, "", 0)
	q := r.URL.Query()
	switch {
	case err != nil:
		g.failLogin(w, r, "begin", fmt.Errorf("no login is under way: %w", err))
		return
	case g.opts.Now().Unix() >= way.Until, !hmac.Equal([]byte(q.Get("state")), []byte(way.State)):
		g.failLogin(w, r, "begin", errors.New("the answer belongs to no login that is under way"))
		return
	case q.Get("error") != "":
		g.failLogin(w, r, "provider", fmt.Errorf("the provider says %q: %q", q.Get("error"), q.Get("error_description")))
		return
	}
	s, err := g.redeem(ctx, r, q.Get("code"), &way)
	if err != nil {
		g.failLogin(w, r, "provider", err)
		return
	}
	known := &Principal{Name: s.Name, Via: ViaProvider, From: g.opts.Client(r), Grants: g.opts.Groups.of(s.Groups)}
	if len(known.Grants) == 0 {
		g.failLogin(w, r, "groups", fmt.Errorf("%q is in no group that may see anything", s.Name))
		return
	}
	if err := g.begin(w, r, *s); err != nil {
		g.failLogin(w, r, "provider", err)
		return
	}
	g.record(With(ctx, known), "login", s.Name)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, g.Next(way.Next), http.StatusSeeOther)
}

// redeem asks the provider who came back with a code.
func (g *Gate) redeem(ctx context.Context, r *http.Request, code string, way *underWay) (*session, error) {
	p := g.opts.Provider
	found, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	ctx = oidc.ClientContext(ctx, p.client())
	token, err := p.config(found, p.Origin(r)+g.opts.Base+CallbackPath).Exchange(ctx, code, oauth2.VerifierOption(way.Verifier))
	if err != nil {
		return nil, fmt.Errorf("redeeming the code: %w", err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := found.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID, Now: g.opts.Now}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("verifying the ID token: %w", err)
	}
	if !hmac.Equal([]byte(id.Nonce), []byte(way.Nonce)) {
		return nil, errors.New("the ID token is of another login")
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return nil, fmt.Errorf("reading the ID token: %w", err)
	}
	s := &session{Name: id.Subject}
	names := []string{p.NameClaim}
	if p.NameClaim == "" {
		names = []string{"email", "preferred_username"}
		if claims["email_verified"] == false {
			names = names[1:]
		}
	}
	for _, claim := range names {
		if name, _ := claims[claim].(string); name != "" {
			s.Name = name
			break
		}
	}
	// Only groups that something is said about: a cookie is small.
	for _, name := range listOf(claims[p.GroupsClaim]) {
		if _, ok := g.opts.Groups[name]; ok && !slices.Contains(s.Groups, name) {
			s.Groups = append(s.Groups, name)
		}
	}
	return s, nil
}

// listOf reads a claim that is a list of texts, or one text.
func listOf(claim any) (all []string) {
	switch claim := claim.(type) {
	case string:
		return []string{claim}
	case []any:
		for _, x := range claim {
			if s, ok := x.(string); ok {
				all = append(all, s)
			}
		}
	}
	return all
}

// failLogin sends somebody back to the login, where why stands in words.
func (g *Gate) failLogin(w http.ResponseWriter, r *http.Request, why string, err error) {
	g.opts.Log.Warn("a login with the OpenID provider failed", "client", g.opts.Client(r), "error", err)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, g.opts.Base+"/login?"+url.Values{"failed": {why}}.Encode(), http.StatusSeeOther)
}
