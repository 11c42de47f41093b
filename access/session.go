package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A session is what the cookie of somebody who logged in says. It is signed,
// not secret.
type session struct {
	Token  int64    `json:"t,omitempty"` // number of the token that it began with
	Name   string   `json:"n,omitempty"` // that a provider told
	Groups []string `json:"g,omitempty"` // that a provider told
	Until  int64    `json:"u"`
	Nonce  string   `json:"x"`
}

// Names of cookies, and how long they hold.
const (
	sessionCookie = "dmarcd_session"
	formCookie    = "dmarcd_form"     // binds the form of those who have not logged in yet
	providerState = "dmarcd_provider" // of a login that is under way with a provider
	sessionTime   = 12 * time.Hour
	loginTime     = 15 * time.Minute
)

// sign returns a value with its signature. What it is for is signed too, so
// that no value can stand where another is wanted.
func (g *Gate) sign(ctx context.Context, what string, value any) (string, error) {
	key, err := g.key(ctx)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(body)
	return text + "." + mac(key, what, text), nil
}

// errUnsigned is returned for a value that the gate did not sign.
var errUnsigned = errors.New("the signature is wrong")

// signed reads a value that sign made.
func (g *Gate) signed(ctx context.Context, what, text string, into any) error {
	key, err := g.key(ctx)
	if err != nil {
		return err
	}
	text, sum, _ := strings.Cut(text, ".")
	if !hmac.Equal([]byte(sum), []byte(mac(key, what, text))) {
		return errUnsigned
	}
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return errUnsigned
	}
	return json.Unmarshal(body, into)
}

func mac(key []byte, what, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(what + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// key returns the key that sessions are signed with: all processes on a
// database have the same.
func (g *Gate) key(ctx context.Context) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.secret == nil {
		key, err := g.store.Key(ctx, "session")
		if err != nil {
			return nil, err
		}
		g.secret = key
	}
	return g.secret, nil
}

// setCookie sets a cookie, or removes it if there is no value.
func (g *Gate) setCookie(w http.ResponseWriter, r *http.Request, name, value string, age time.Duration) {
	c := &http.Cookie{Name: name, Value: value, Path: g.opts.Base + "/", MaxAge: int(age / time.Second), HttpOnly: true, Secure: g.opts.Secure(r), SameSite: http.SameSiteLaxMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// begin begins a session.
func (g *Gate) begin(w http.ResponseWriter, r *http.Request, s session) error {
	s.Until, s.Nonce = g.opts.Now().Add(sessionTime).Unix(), rand.Text()
	text, err := g.sign(r.Context(), sessionCookie, s)
	if err != nil {
		return err
	}
	g.setCookie(w, r, sessionCookie, text, sessionTime)
	g.setCookie(w, r, formCookie, "", 0)
	return nil
}

// resume returns who a session is of, nil if there is none that holds.
func (g *Gate) resume(r *http.Request) (*Principal, error) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil, nil
	}
	var s session
	if err := g.signed(r.Context(), sessionCookie, c.Value, &s); errors.Is(err, errUnsigned) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	now := g.opts.Now()
	if now.Unix() >= s.Until {
		return nil, nil
	}
	p := &Principal{Name: s.Name, Via: ViaProvider, From: g.opts.Client(r), bound: s.Nonce}
	if s.Token == 0 {
		p.Grants = g.opts.Groups.of(s.Groups)
		return p, nil
	}
	key := cacheKey{id: s.Token}
	t, ok := g.tokens.get(key, now)
	if !ok {
		if t, err = g.store.TokenByID(r.Context(), s.Token, now); errors.Is(err, dmarc.ErrNotFound) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		g.tokens.put(key, t, now)
	}
	if !t.Good(now) {
		return nil, nil
	}
	p.Name, p.Via, p.Grants = t.Name, ViaSession, grantsOf(&t)
	return p, nil
}

// Enter begins a session for the bearer of a token. A dmarc.Refusal says in
// words why it does not.
func (g *Gate) Enter(w http.ResponseWriter, r *http.Request, secret string) error {
	t, err := g.bearer(r, secret)
	if errors.Is(err, errWait) || errors.Is(err, errUnknown) {
		return dmarc.Refusal(err.Error())
	}
	if err != nil {
		return err
	}
	if err := g.begin(w, r, session{Token: t.ID}); err != nil {
		return err
	}
	g.record(With(r.Context(), g.principal(r, &t, ViaSession)), "login", t.Name)
	return nil
}

// Leave ends the session of a request.
func (g *Gate) Leave(w http.ResponseWriter, r *http.Request) {
	if p := principalOf(r.Context()); p != nil {
		g.record(r.Context(), "logout", p.Name)
	}
	g.setCookie(w, r, sessionCookie, "", 0)
}

func (g *Gate) record(ctx context.Context, action, subject string) {
	if g.opts.Record != nil {
		g.opts.Record(ctx, action, subject)
	}
}

// Who tells whose request it is, and whether they can leave; "" where nobody is
// asked.
func (g *Gate) Who(r *http.Request) (name string, leaves bool) {
	p := principalOf(r.Context())
	if p == nil || p.Via == ViaOpen {
		return "", false
	}
	return p.Name, p.Via == ViaSession || p.Via == ViaProvider
}

// CSRF returns what a form on the page that answers a request has to send back
// as the field csrf, or a script as the header X-CSRF-Token.
func (g *Gate) CSRF(w http.ResponseWriter, r *http.Request) string {
	key, err := g.key(r.Context())
	if err != nil {
		g.opts.Log.Error("forms cannot be bound to a session", "error", err)
		return ""
	}
	if p := principalOf(r.Context()); p != nil {
		return mac(key, "csrf", p.bound)
	}
	c, err := r.Cookie(formCookie)
	if err != nil || len(c.Value) != len(rand.Text()) {
		c = &http.Cookie{Value: rand.Text()}
		g.setCookie(w, r, formCookie, c.Value, loginTime)
	}
	return mac(key, "csrf", "form "+c.Value)
}

// Bounds of forms.
const (
	formSize      = 1 << 20
	multipartSize = 128 << 20
	formMemory    = 1 << 20
)

// checkForm is nil if a change comes from a page that was made for who asks
// for it.
func (g *Gate) checkForm(w http.ResponseWriter, r *http.Request, bound string) error {
	key, err := g.key(r.Context())
	if err != nil {
		return err
	}
	given := r.Header.Get("X-CSRF-Token")
	if given == "" {
		switch kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(strings.ToLower(kind)) {
		case "application/x-www-form-urlencoded":
			r.Body = http.MaxBytesReader(w, r.Body, formSize)
			err = r.ParseForm()
		case "multipart/form-data":
			r.Body = http.MaxBytesReader(w, r.Body, multipartSize)
			err = r.ParseMultipartForm(formMemory)
		}
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return errLarge
		}
		if err != nil {
			return errForm
		}
		given = r.PostForm.Get("csrf")
	}
	if !hmac.Equal([]byte(given), []byte(mac(key, "csrf", bound))) {
		return errForm
	}
	return nil
}

// removeFiles removes the files that a form brought and that were put on the disk
// meanwhile. The server does so only with a request that was not copied on its way.
func removeFiles(r *http.Request) {
	if r.MultipartForm != nil {
		r.MultipartForm.RemoveAll()
	}
}

// errLarge is returned for a form that brings too much at once.
var errLarge = errors.New("this is more than one form may bring: send fewer files at a time, or use dmarcd import")

// errForm is returned for a change that no page of ours has asked for.
var errForm = errors.New("this form is not of your session, or too old: load its page again, and send it anew")
