package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/outward"
)

// An oauth is how a mailbox is opened with access tokens instead of a password.
type oauth struct {
	Kind         string // "", microsoft, google or refresh_token
	Tenant       string // of Microsoft
	ClientID     string
	ClientSecret secret
	RefreshToken secret
	KeyFile      string // of a service account of Google
	Subject      string // whose mailbox a service account opens; "": that of the user
	TokenURL     string // "" for that of the kind
	Scope        string // "" for that of the kind

	clientSecretFile, refreshTokenFile string
}

// Where the usual token servers are, and what is asked of them.
const (
	microsoftTokens = "https://login.microsoftonline.com/%s/oauth2/v2.0/token"
	microsoftScope  = "https://outlook.office365.com/.default"
	googleTokens    = "https://oauth2.googleapis.com/token"
	googleScope     = "https://mail.google.com/"
)

// table returns the settings, bound to it.
func (o *oauth) table() []*setting {
	return []*setting{
		{key: "oauth", doc: `log in with access tokens instead of a password: "" (no), microsoft (client credentials), google (service account) or refresh_token`, example: `"microsoft"`, value: choiceValue(&o.Kind, "", "microsoft", "google", "refresh_token")},
		{key: "oauth_tenant", doc: "tenant of Microsoft: its id or domain", example: `"contoso.onmicrosoft.com"`, value: textValue(&o.Tenant, optional(tenant))},
		{key: "oauth_client_id", doc: "id of the application, for microsoft and refresh_token", example: `"11111111-2222-3333-4444-555555555555"`, value: textValue(&o.ClientID, nil)},
		{key: "oauth_client_secret", doc: "its secret", example: `"secret"`, secret: true, value: secretValue(&o.ClientSecret, nil)},
		{key: "oauth_client_secret_file", doc: "file that holds its secret", example: `"/etc/dmarcd/oauth_client_secret"`, value: textValue(&o.clientSecretFile, nil)},
		{key: "oauth_refresh_token", doc: "refresh token of the user", example: `"secret"`, secret: true, value: secretValue(&o.RefreshToken, nil)},
		{key: "oauth_refresh_token_file", doc: "file that holds the refresh token", example: `"/etc/dmarcd/oauth_refresh_token"`, value: textValue(&o.refreshTokenFile, nil)},
		{key: "oauth_key_file", doc: "JSON key of the service account, for google", example: `"/etc/dmarcd/service-account.json"`, value: textValue(&o.KeyFile, nil)},
		{key: "oauth_subject", doc: "whose mailbox the service account opens; empty: that of the user in url", example: `"dmarc@example.com"`, value: textValue(&o.Subject, nil)},
		{key: "oauth_token_url", doc: "where tokens are issued; empty: where Microsoft or Google do", example: `"https://login.example.com/token"`, value: textValue(&o.TokenURL, optional(tokenURL))},
		{key: "oauth_scope", doc: "what is asked for; empty: mail over IMAP, in the words of Microsoft or Google", example: `"https://mail.google.com/"`, value: textValue(&o.Scope, nil)},
	}
}

func tenant(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool {
		return r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return errors.New("must be the id of a tenant, or a domain of it")
	}
	return nil
}

// tokenURL checks the address of a token server. Secrets are sent there.
func tokenURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New(`is no address; write it as "https://login.example.com/token"`)
	case u.User != nil:
		return errors.New("must not hold a password")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return errors.New("must begin with https://, as secrets are sent there")
	}
	return nil
}

// checkOAuth looks at what the settings of a mailbox say about each other.
func (l *loader) checkOAuth(m *mailbox) {
	o := &m.OAuth
	given := func(key string) bool {
		s := m.setting(key)
		return s.origin.level != fromDefault && s.toml() != `""`
	}
	uses := map[string][]string{
		"":              nil,
		"microsoft":     {"oauth_tenant", "oauth_client_id", "oauth_client_secret", "oauth_client_secret_file", "oauth_token_url", "oauth_scope"},
		"google":        {"oauth_key_file", "oauth_subject", "oauth_token_url", "oauth_scope"},
		"refresh_token": {"oauth_client_id", "oauth_client_secret", "oauth_client_secret_file", "oauth_refresh_token", "oauth_refresh_token_file", "oauth_token_url"},
	}[o.Kind]
	if m.setting("oauth").refused {
		return
	}
	for _, s := range o.table()[1:] {
		switch {
		case slices.Contains(uses, s.key) || !given(s.key):
		case o.Kind == "":
			l.wrong(m.at(s.key), "has no use without oauth; set that to microsoft, google or refresh_token, or remove "+s.key)
		default:
			l.wrong(m.at(s.key), "has no use with oauth = "+quote(o.Kind)+"; remove it")
		}
	}
	missing := func(key, what string) {
		if !m.setting(key).refused {
			l.wrong(m.at(key), "is missing; "+what)
		}
	}
	tokens := m.Auth == "xoauth2" || m.Auth == "oauthbearer"
	switch {
	case o.Kind == "" && tokens:
		l.wrong(m.at("auth"), "needs access tokens; set oauth to microsoft, google or refresh_token")
	case o.Kind != "" && (m.Auth == "plain" || m.Auth == "login"):
		l.wrong(m.at("auth"), "has no use with oauth; remove it, or write xoauth2 or oauthbearer")
	}
	if o.Kind != "" && (given("password") || given("password_file")) {
		key := "password"
		if given("password_file") {
			key = "password_file"
		}
		l.wrong(m.at(key), "has no use with oauth; remove one of them")
	}
	switch o.Kind {
	case "microsoft":
		if o.Tenant == "" && o.TokenURL == "" {
			missing("oauth_tenant", "give the id of the tenant, as Entra shows it under App registrations")
		}
		if o.ClientID == "" {
			missing("oauth_client_id", "give the id of the application, as Entra shows it under App registrations")
		}
		if o.ClientSecret.empty() && o.clientSecretFile == "" {
			missing("oauth_client_secret", "give oauth_client_secret_file or oauth_client_secret")
		}
	case "google":
		if o.KeyFile == "" {
			missing("oauth_key_file", "name the JSON key of a service account with domain-wide delegation")
		} else if _, err := readServiceAccount(o.KeyFile); err != nil {
			l.wrong(m.at("oauth_key_file"), fmt.Sprintf("cannot read the key: %v; %s", err, fileFix(err)))
		}
	case "refresh_token":
		if o.ClientID == "" {
			missing("oauth_client_id", "give the id of the application that the user has agreed to")
		}
		if o.RefreshToken.empty() && o.refreshTokenFile == "" {
			missing("oauth_refresh_token", "give oauth_refresh_token_file or oauth_refresh_token")
		}
	}
}

func readServiceAccount(path string) (ingest.OAuth, error) {
	text, err := readSecret(path)
	if err != nil {
		return ingest.OAuth{}, err
	}
	o, err := ingest.ReadServiceAccount([]byte(text.reveal()))
	if err != nil {
		return o, fmt.Errorf("%s %w", path, err)
	}
	if err := tokenURL(o.TokenURL); err != nil {
		return o, fmt.Errorf("%s: \"token_uri\" %w", path, err)
	}
	return o, nil
}

// tokens returns where the mailbox gets its access tokens, or nil if it is
// opened with a password. A token server that is named by its address is meant.
func (m *mailbox) tokens(reach outward.Reach) (*ingest.Tokens, error) {
	o := &m.OAuth
	from := ingest.OAuth{TokenURL: o.TokenURL, Scope: o.Scope, ClientID: o.ClientID, ClientSecret: o.ClientSecret.reveal(), RefreshToken: o.RefreshToken.reveal()}
	usual := func(p *string, text string) {
		if *p == "" {
			*p = text
		}
	}
	switch o.Kind {
	case "":
		return nil, nil
	case "microsoft":
		from.Grant = ingest.GrantClientCredentials
		usual(&from.TokenURL, fmt.Sprintf(microsoftTokens, o.Tenant))
		usual(&from.Scope, microsoftScope)
	case "google":
		key, err := readServiceAccount(o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("mailbox %s: oauth_key_file: %w", m.Name, err)
		}
		if o.TokenURL != "" {
			key.TokenURL = o.TokenURL
		}
		key.Scope, key.Subject = o.Scope, o.Subject
		from = key
		usual(&from.Scope, googleScope)
		usual(&from.Subject, m.User)
	case "refresh_token":
		from.Grant = ingest.GrantRefreshToken
		usual(&from.TokenURL, googleTokens)
	}
	from.Transport = reach.ToHost(hostOf(from.TokenURL)).ByProxy()
	return ingest.NewTokens(from), nil
}
