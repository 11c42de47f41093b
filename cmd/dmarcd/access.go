package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/outward"
)

// openAccess prepares finding out who makes requests, and where these come in.
func (s *service) openAccess(cfg *config) {
	h, a := &cfg.HTTP, &cfg.Access
	often := access.NewThrottle(h.PerMinute)
	s.edge = &access.Edge{Base: h.Prefix, Proxies: networks(h.Proxies), URL: h.URL, Allow: func(addr netip.Addr) bool { return addr.IsLoopback() || often.Allow(addr) }}
	s.tls = serverTLS(h.CertFile, h.KeyFile)
	s.keeper = &access.Keeper{Store: s.store, Log: s.log, Now: time.Now}
	groups := access.Groups{}
	for _, text := range a.Groups {
		if name, grant, err := access.ParseGroup(text, readDomain); err == nil {
			groups[name] = append(groups[name], grant)
		}
	}
	opts := access.Options{
		Log: s.log, Open: !cfg.authenticates(), ByLocalName: !cfg.Insecure && cfg.Listen != "" && len(h.Proxies) == 0 && h.URL == "", Metrics: a.Metrics, Base: h.Prefix, Client: s.edge.Client, Secure: s.edge.Secure, Trusted: s.edge.Trusted,
		Groups: groups, UserHeader: a.UserHeader, GroupsHeader: a.GroupsHeader, Allow: access.NewThrottle(h.PerMinute).AllowName,
		Record: func(ctx context.Context, action, subject string) { s.keeper.Note(ctx, action, subject, "") },
	}
	if a.Issuer != "" {
		opts.Provider = cfg.provider()
		opts.Provider.Origin = s.edge.Origin
	}
	s.gate = access.NewGate(s.store, opts)
	s.keeper.Changed = s.gate.Forget
}

// provider returns the OpenID provider that people log in with. One that is named by its address
// is meant.
func (c *config) provider() *access.Provider {
	a := &c.Access
	return &access.Provider{Issuer: a.Issuer, ClientID: a.ClientID, ClientSecret: a.ClientSecret.reveal(), Scopes: a.Scopes,
		GroupsClaim: a.GroupsClaim, NameClaim: a.NameClaim, Label: a.Label, Transport: c.reach().ToHost(hostOf(a.Issuer)).ByProxy()}
}

// reach is what dmarcd may connect to on behalf of others, beside public addresses.
func (c *config) reach() outward.Reach { return outward.Reach{Also: networks(c.Outgoing.Allow)} }

// hostOf returns the host that a URL names, or "".
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// checkAccess looks at what the settings of access and HTTP say about each other.
func (l *loader) checkAccess() {
	c := l.cfg
	s := func(key string) *setting { return findSetting(c.settings, key) }
	l.checkCertificate("http", c.HTTP.CertFile, c.HTTP.KeyFile)
	l.checkACME()
	a := &c.Access
	if a.Issuer != "" && a.ClientID == "" && !s("access.oidc_client_id").refused {
		l.wrong(s("access.oidc_client_id"), "is missing; write the name that the provider knows dmarcd by")
	}
	if a.UserHeader != "" && len(c.HTTP.Proxies) == 0 && !s("http.proxies").refused {
		l.wrong(s("http.proxies"), "is missing: with access.user_header, somebody has to be believed; name the addresses of your proxies")
	}
	if (a.Issuer != "" || a.UserHeader != "") && len(a.Groups) == 0 && !s("access.groups").refused {
		l.wrong(s("access.groups"), `is missing: nobody whom the provider or the proxy lets in may see anything; write "* = read @ *" to show everything to all of them`)
	}
}

// readGroup returns what a group may do.
func readGroup(text string) (string, error) {
	_, _, err := access.ParseGroup(text, readDomain)
	return strings.TrimSpace(text), err
}

func headerName(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return errors.New(`must be the name of a header, such as "X-Forwarded-User"`)
	}
	return nil
}

func readScope(text string) (string, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		return "", fmt.Errorf(`must be scopes, such as "email"; %s is none`, quote(text))
	}
	return text, nil
}

// issuerURL checks the URL of an OpenID provider: over plain HTTP only this
// machine is believed.
func issuerURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return errors.New(`must be the https:// URL of the provider, such as "https://login.example.com/realms/main"`)
	}
	return nil
}

func originURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New(`must be scheme and host alone, such as "https://dmarc.example.com"; the path belongs into http.prefix`)
	}
	return nil
}

// prefixPath checks the path that everything is below.
func prefixPath(text string) error {
	if tlsPath(text) != nil || strings.HasSuffix(text, "/") {
		return errors.New(`must be a path of letters, digits, -, _ and ., without a slash at its end, such as "/dmarc"`)
	}
	return nil
}
