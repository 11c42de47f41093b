package access

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A SecretStore knows tokens by their secrets, and keeps keys.
type SecretStore interface {
	TokenOf(ctx context.Context, digest dmarc.Digest, now time.Time) (dmarc.Token, error)
	TokenByID(ctx context.Context, id int64, now time.Time) (dmarc.Token, error)
	Key(ctx context.Context, name string) ([]byte, error)
	GroupDomains(ctx context.Context, names []string) ([]string, error)
}

// Options say how a Gate tells who somebody is.
type Options struct {
	Log *slog.Logger
	Now func() time.Time
	// Open lets everybody in as Everybody.
	Open bool
	// ByLocalName lets only those in who call this machine localhost or by an
	// address. A name of a stranger that leads here would make this a page of
	// theirs, to the browsers on this machine.
	ByLocalName bool
	// Metrics says who may read metrics beside those who may read everything:
	// MetricsLocal, MetricsToken or MetricsOpen.
	Metrics string
	// Base is the path that pages are reached under, without a slash at the end.
	Base string
	// Client tells the address that a request comes from, Secure whether its
	// client speaks TLS, and Trusted whether it comes from a proxy whose headers
	// are believed.
	Client  func(*http.Request) netip.Addr
	Secure  func(*http.Request) bool
	Trusted func(*http.Request) bool
	// Groups say what those may do who are known by a provider or a proxy.
	Groups Groups
	// UserHeader and GroupsHeader are the headers by which a trusted proxy tells
	// who makes a request; "" for none.
	UserHeader, GroupsHeader string
	// Provider is an OpenID provider; nil for none.
	Provider *Provider
	// Allow tells whether somebody may ask now, by their name; nil for always.
	Allow func(name string) bool
	// Record is told of logins; nil for nobody.
	Record func(ctx context.Context, action, subject string)
}

// A Gate finds out on whose behalf a request is made.
type Gate struct {
	opts     Options
	store    SecretStore
	attempts *attempts
	tokens   cache[cacheKey, dmarc.Token]
	members  cache[string, []string] // domains of a group of them
	sites    *http.CrossOriginProtection

	mu     sync.Mutex
	secret []byte // that sessions are signed with
}

// checkChange is nil unless a browser was made to ask for a change by another
// site. Those who send a token with each request say who they are by that alone.
// Where nobody is asked who they are, scripts may use the API without more.
func (g *Gate) checkChange(w http.ResponseWriter, r *http.Request, p *Principal) error {
	if p.Via == ViaToken || r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		return nil
	}
	if g.sites.Check(r) != nil {
		return errForeign
	}
	if p.Via == ViaOpen && isAPI(r) {
		return nil
	}
	return g.checkForm(w, r, p.bound)
}

// isAPI tells requests of scripts from those of browsers.
func isAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/v1") }

// Login lets everybody through to what they need to log in, with the principal
// of their session, if there is one.
func (g *Gate) Login(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer removeFiles(r)
		var err error
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if err = errForm; g.sites.Check(r) != nil {
				err = errForeign
			} else if c, missing := r.Cookie(formCookie); missing == nil {
				err = g.checkForm(w, r, "form "+c.Value)
			}
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Who may read metrics without being known: this machine, nobody, everybody.
const (
	MetricsLocal = "local"
	MetricsToken = "token"
	MetricsOpen  = "open"
)

// NewGate returns a gate.
func NewGate(store SecretStore, opts Options) *Gate {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Client == nil {
		opts.Client = func(r *http.Request) netip.Addr {
			at, _ := netip.ParseAddrPort(r.RemoteAddr)
			return at.Addr().Unmap()
		}
	}
	if opts.Secure == nil {
		opts.Secure = func(r *http.Request) bool { return r.TLS != nil }
	}
	if opts.Trusted == nil {
		opts.Trusted = func(*http.Request) bool { return false }
	}
	return &Gate{opts: opts, store: store, attempts: newAttempts(), sites: http.NewCrossOriginProtection(), tokens: newCache[cacheKey, dmarc.Token](), members: newCache[string, []string]()}
}

// Forget lets a change of a token, or of a group of domains, be seen at once.
func (g *Gate) Forget() {
	g.tokens.clear()
	g.members.clear()
}

// errWait is returned for an address that has tried too many wrong secrets.
var errWait = errors.New("too many wrong tokens came from your address: wait a minute")

// errOften is returned for somebody who asks too often.
var errOften = errors.New("too many requests came on your behalf: wait a minute")

// errUnknown is returned for a secret that opens nothing.
var errUnknown = errors.New("this token opens nothing: it is unknown, expired or revoked")

// errForeign is returned for a change that another site has asked a browser for.
var errForeign = errors.New("this change was asked for by another site")

// identify returns the principal of a request, nil if it names none.
func (g *Gate) identify(r *http.Request) (*Principal, error) {
	p, err := g.named(r)
	if p != nil && err == nil {
		err = g.resolve(r.Context(), p)
	}
	return p, err
}

// resolve gives grants for groups the domains that these have now.
func (g *Gate) resolve(ctx context.Context, p *Principal) error {
	now := g.opts.Now()
	for i := range p.Grants {
		for _, name := range p.Grants[i].Groups {
			domains, ok := g.members.get(name, now)
			if !ok {
				var err error
				if domains, err = g.store.GroupDomains(ctx, []string{name}); err != nil {
					return err
				}
				g.members.put(name, domains, now)
			}
			p.Grants[i].Scope = p.Grants[i].Scope.With(dmarc.ScopeOf(domains...))
		}
	}
	return nil
}

// named returns the principal that a request names.
func (g *Gate) named(r *http.Request) (*Principal, error) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		t, err := g.bearer(r, secret)
		if err != nil {
			return nil, err
		}
		return g.principal(r, &t, ViaToken), nil
	}
	if name := r.Header.Get(g.opts.UserHeader); g.opts.UserHeader != "" && name != "" && g.opts.Trusted(r) {
		return &Principal{Name: name, Via: ViaProxy, From: g.opts.Client(r), Grants: g.opts.Groups.of(groupsOf(r.Header.Values(g.opts.GroupsHeader))), bound: "proxy " + name}, nil
	}
	if p, err := g.resume(r); p != nil || err != nil {
		return p, err
	}
	if g.opts.Open {
		if g.opts.ByLocalName && !localName(r.Host) {
			return nil, errName
		}
		p := Everybody()
		p.From = g.opts.Client(r)
		return p, nil
	}
	return nil, nil
}

// groupsOf reads a header that lists groups.
func groupsOf(values []string) (all []string) {
	for _, v := range values {
		for name := range strings.FieldsFuncSeq(v, func(r rune) bool { return r == ',' || r == '|' || r == ';' }) {
			if name = strings.TrimSpace(name); name != "" {
				all = append(all, name)
			}
		}
	}
	return all
}

// principal is the bearer of a token.
func (g *Gate) principal(r *http.Request, t *dmarc.Token, via string) *Principal {
	return &Principal{Name: t.Name, Via: via, Grants: grantsOf(t), From: g.opts.Client(r)}
}

// bearer returns the token of a secret if it is good.
func (g *Gate) bearer(r *http.Request, secret string) (dmarc.Token, error) {
	now := g.opts.Now()
	digest, could := DigestOf(secret)
	key := cacheKey{digest: digest}
	if t, ok := g.tokens.get(key, now); could && ok && t.Good(now) {
		return t, nil
	}
	var t dmarc.Token
	tried, err := g.attempts.try(r.Context(), g.opts.Client(r), func() (bool, error) {
		if !could {
			return false, nil
		}
		var err error
		t, err = g.store.TokenOf(r.Context(), digest, now)
		if errors.Is(err, dmarc.ErrNotFound) {
			return false, nil
		}
		return t.Good(now), err
	})
	switch {
	case err != nil:
		return t, err
	case !tried:
		return t, errWait
	case !t.Good(now) || t.ID == 0:
		return t, errUnknown
	}
	g.tokens.put(key, t, now)
	return t, nil
}

// Let lets a request through if it names a principal, with the principal in
// its context. Others are answered: those for the API by a problem, those for
// pages by a way to the login.
func (g *Gate) Let(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer removeFiles(r)
		p, err := g.identify(r)
		if err == nil && p == nil {
			err = errNobody
		}
		if err == nil && p.Via != ViaOpen && g.opts.Allow != nil && !g.opts.Allow(p.Via+" "+p.Name) {
			err = errOften
		}
		if err == nil {
			err = g.checkChange(w, r, p)
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(With(r.Context(), p)))
	})
}

// Metrics lets a request for metrics through. They tell about all domains.
func (g *Gate) Metrics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.opts.Metrics == MetricsOpen || g.opts.Metrics == MetricsLocal && local(r) {
			next.ServeHTTP(w, r)
			return
		}
		p, err := g.identify(r)
		switch {
		case err != nil:
		case p == nil:
			err = errNobody
		case !p.scope(dmarc.RoleRead).All():
			err = dmarc.ErrForbidden
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local tells whether a request comes from this machine itself, and was not
// passed on by a proxy on it.
func local(r *http.Request) bool {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	return err == nil && at.Addr().Unmap().IsLoopback() && localName(r.Host)
}

// localName tells whether a Host names this machine itself, or is an address.
func localName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// errName is returned for a request that calls this machine by another name.
var errName = errors.New("dmarcd asks nobody here who they are, and so answers only to localhost; behind a proxy, set http.url to what people call it, or access.tokens")

// errNobody is returned for a request that does not say who makes it.
var errNobody = errors.New("say who you are: send a token as Authorization: Bearer, or log in")

// refuse answers a request that is not let through.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, detail := http.StatusUnauthorized, err.Error()
	if errors.Is(err, errNobody) && r.Method == http.MethodGet && !isAPI(r) && r.URL.Path != "/metrics" {
		to := g.opts.Base + "/login"
		if r.URL.Path != "/" || r.URL.RawQuery != "" {
			to += "?" + url.Values{"next": {r.URL.RequestURI()}}.Encode()
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	switch {
	case errors.Is(err, errWait), errors.Is(err, errOften):
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", "60")
	case errors.Is(err, errForeign), errors.Is(err, errForm), errors.Is(err, errName):
		status = http.StatusForbidden
	case errors.Is(err, errLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, dmarc.ErrForbidden):
		status, detail = http.StatusForbidden, "this needs the role read for all domains"
	case errors.Is(err, errNobody), errors.Is(err, errUnknown):
		w.Header().Set("WWW-Authenticate", `Bearer realm="dmarcd"`)
	default:
		g.opts.Log.Error("who makes a request cannot be found out", "error", err)
		status, detail = http.StatusServiceUnavailable, "the database cannot be asked who you are; the log says why"
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, detail})
}

// A cacheKey is how a token was named: by its secret or by its number.
type cacheKey struct {
	digest dmarc.Digest
	id     int64
}

// A cache remembers tokens, or groups, for a moment, so that not every request asks
// the database. A token that another process revokes is good for that long.
type cache[K comparable, V any] struct {
	mu  sync.Mutex
	all map[K]cached[V]
}

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[K comparable, V any]() cache[K, V] { return cache[K, V]{all: make(map[K]cached[V])} }

// Bounds of a cache.
const (
	cacheTime = 5 * time.Second
	cacheSize = 10_000
)

func (c *cache[K, V]) get(key K, now time.Time) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.all[key]
	return e.value, ok && now.Before(e.until)
}

func (c *cache[K, V]) put(key K, v V, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= cacheSize {
		clear(c.all)
	}
	c.all[key] = cached[V]{v, now.Add(cacheTime)}
}

func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.all)
}
