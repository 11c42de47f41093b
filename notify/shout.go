package notify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/outward"
)

// A Shout sends messages to a chat or push service by a URL of shoutrrr:
// slack://…, teams://…, matrix://…, ntfy://…
type Shout struct {
	scheme string
	host   string // of the operator's own server; "" for services that have theirs
	reach  outward.Reach
	login  string // the URL of a service that logs in as it is made; "" for one that does not

	mu      sync.Mutex    // is held by who logs in, not by who sends
	service types.Service // nil while nobody is logged in
}

// selfHosted are the services whose URL names a server. In the others what
// stands in its place may be a secret, and is not looked up.
var selfHosted = []string{"bark", "gotify", "matrix", "mattermost", "ntfy", "rocketchat", "signal", "zulip"}

// notOffered are services of shoutrrr that dmarcd has its own for, or that reach
// nobody.
var notOffered = map[string]string{
	"smtp": "write mailto:ADDRESS, and give the server in [mail]", "generic": "write the https:// URL itself", "logger": "it reaches nobody",
}

// services returns the schemes of shoutrrr URLs, sorted.
func services() []string {
	var names []string
	for _, name := range (&router.ServiceRouter{}).ListServices() {
		if notOffered[name] == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// ServerOf returns the host of the operator's own server that a URL of shoutrrr names, or ""
// if the service has its own.
func ServerOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	if name, _, _ := strings.Cut(strings.ToLower(u.Scheme), "+"); !slices.Contains(selfHosted, name) {
		return ""
	}
	return u.Hostname()
}

// NewShout returns a sender for a URL. Its errors do not repeat it. Nothing is connected to before
// there is something to send, and then nothing beyond its reach as far as the service lets itself
// be told, and as far as it uses DefaultTransport.
func NewShout(text string, reach outward.Reach) (*Shout, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return nil, errors.New("is no URL")
	}
	scheme := strings.ToLower(u.Scheme)
	if why := notOffered[scheme]; why != "" {
		return nil, errors.New("is of a kind that is not used here; " + why)
	}
	name, _, _ := strings.Cut(scheme, "+")
	if !slices.Contains(services(), name) {
		return nil, errors.New("begins with a scheme that is not known; there are mailto, https and those of shoutrrr: " + strings.Join(services(), ", "))
	}
	reaches.Store(u.Hostname(), reach)
	s := &Shout{scheme: name, host: ServerOf(text), reach: reach}
	made := *u
	if name == "matrix" && u.User.Username() != "" { // with a token it does not log in
		s.login, made.User = text, url.UserPassword("", "token")
	}
	service, err := locate(made.String())
	if err != nil {
		return nil, fmt.Errorf("is not what shoutrrr wants for %s; its documentation has examples", name)
	}
	if s.login == "" {
		s.service = service
	}
	guard(service, reach)
	return s, nil
}

// guard keeps a service with a transport of its own within a reach.
func guard(service types.Service, reach outward.Reach) {
	switch own := service.(type) {
	case *ntfy.Service:
		t := reach.Transport()
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: own.Config.DisableTLSVerification}
		own.SetHTTPClient(&http.Client{Transport: t, Timeout: sendTime})
	case interface{ GetHTTPClient() *http.Client }:
		if client := own.GetHTTPClient(); client != nil {
			if t, ok := client.Transport.(*http.Transport); ok {
				t.DialContext = reach.Dialer(dialTime).DialContext
			}
		}
	}
}

var errLogin = errors.New("cannot be logged into, or cannot be reached")

// locate makes the service of a URL.
func locate(text string) (service types.Service, err error) {
	defer func() {
		if p := recover(); p != nil { // some take an empty parameter badly
			err = fmt.Errorf("%v", p)
		}
	}()
	return (&router.ServiceRouter{}).Locate(text)
}

// send has the service send. One that fails is logged into anew the next time.
func (s *Shout) send(text string, params *types.Params) error {
	service, err := s.loggedIn()
	if err != nil {
		return err
	}
	if err = service.Send(text, params); err != nil && s.login != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.service == service {
			s.service = nil
		}
	}
	return err
}

// loggedIn returns the service, and logs in if nobody is.
func (s *Shout) loggedIn() (types.Service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service == nil {
		service, err := locate(s.login)
		if err != nil {
			return nil, errLogin // its text tells nothing
		}
		s.service = service
	}
	return s.service, nil
}

// Send sends title and text of a message.
func (s *Shout) Send(ctx context.Context, m *dmarc.OutgoingMessage) error {
	var content Message
	if err := json.Unmarshal(m.Body, &content); err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	params := types.Params{}
	params.SetTitle(content.Title)
	text := shorten(content.Text, 3500) // of which all services take as much
	sent := make(chan error, 1)
	go func() { sent <- s.send(text, &params) }()
	select {
	case err := <-sent:
		if errors.Is(err, errLogin) {
			if why := s.refused(ctx); why != nil {
				return notPublic(why)
			}
		}
		return s.told(err)
	case <-ctx.Done():
		return fmt.Errorf("%s gives no answer", s.scheme)
	}
}

// refused looks why nobody can log in: an error if the server is at an address beyond the
// reach.
func (s *Shout) refused(ctx context.Context) error {
	if s.host == "" || s.reach.All {
		return nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", s.host)
	if err != nil {
		return nil // that is not why
	}
	for _, a := range addresses {
		if err := s.reach.Check(a); err != nil {
			return err
		}
	}
	return nil
}

// reaches are those of the servers that URLs of shoutrrr name, by host.
var reaches sync.Map

const dialTime = 10 * time.Second

// DefaultTransport returns what http.DefaultTransport should be in a process that sends by
// shoutrrr, most of whose services use that: it connects to public addresses alone, whatever name or
// redirect leads elsewhere, and to a server of a URL within its reach.
func DefaultTransport() *http.Transport {
	t := outward.Reach{}.ByProxy()
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, err := net.SplitHostPort(address); err == nil {
			if reach, ok := reaches.Load(host); ok {
				return reach.(outward.Reach).Dialer(dialTime).DialContext(ctx, network, address)
			}
		}
		return dial(ctx, network, address)
	}
	return t
}

var statusCode = regexp.MustCompile(`\b[45]\d\d\b`)

// told says what an error of a service tells without what may be secret in it:
// the text of such an error may hold the URL, or a token in another form.
func (s *Shout) told(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errLogin) {
		return fmt.Errorf("%s %w", s.scheme, errLogin)
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		return notPublic(fmt.Errorf("%s cannot be reached: %w", s.scheme, outer.Err))
	}
	if code := statusCode.FindString(err.Error()); code != "" {
		return fmt.Errorf("%s answers %s", s.scheme, code)
	}
	return fmt.Errorf("%s refuses it", s.scheme)
}
