// Package acme speaks ACME (RFC 8555): it gets certificates for the hosts that dmarcd is reached
// by, keeps them, and renews them in time.
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// letsEncrypt is the directory of the authority that is asked unless another one is named.
const letsEncrypt = certmagic.LetsEncryptProductionCA

// Options say for whom certificates are, and where they come from.
type Options struct {
	Hosts     []string
	Email     string         // that the authority may write to; "" for none
	Directory string         // of the authority; "": that of Let's Encrypt
	Roots     *x509.CertPool // that the authority itself is believed by; nil: those of the system
	Folder    string         // where keys and certificates are kept; several processes may share it
	Listen    string         // host:port at which TLS is offered, for TLS-ALPN-01
	HTTP      string         // host:port at which Challenges answers, for HTTP-01; "" for none
	Log       *slog.Logger
}

// Certificates are those of some hosts. They are had and renewed by Keep.
type Certificates struct {
	opts   Options
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
	cache  *certmagic.Cache
}

// New returns the certificates of hosts, of which none need be there yet.
func New(opts Options) (*Certificates, error) {
	c := &Certificates{opts: opts}
	quiet := zap.NewNop() // what matters comes as an event
	host, port, err := portOf(opts.Listen)
	if err != nil {
		return nil, err
	}
	c.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return c.config, nil },
		Logger:           quiet,
	})
	c.config = certmagic.New(c.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: opts.Folder}, OnEvent: c.event, DefaultServerName: opts.Hosts[0], Logger: quiet,
	})
	issuer := certmagic.ACMEIssuer{
		CA: opts.Directory, Email: opts.Email, Agreed: true, TrustedRoots: opts.Roots, ListenHost: host, AltTLSALPNPort: port,
		DisableHTTPChallenge: opts.HTTP == "", Logger: quiet,
	}
	if issuer.CA == "" {
		issuer.CA = letsEncrypt
	}
	if opts.HTTP != "" {
		if _, issuer.AltHTTPPort, err = portOf(opts.HTTP); err != nil {
			return nil, err
		}
	}
	c.issuer = certmagic.NewACMEIssuer(c.config, issuer)
	c.config.Issuers = []certmagic.Issuer{c.issuer}
	return c, nil
}

func portOf(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	return host, port, err
}

// TLS returns what a listener shows the certificates with, and answers TLS-ALPN-01.
func (c *Certificates) TLS() *tls.Config {
	t := c.config.TLSConfig()
	t.NextProtos = append([]string{"h2", "http/1.1"}, t.NextProtos...)
	t.MinVersion = tls.VersionTLS12
	return t
}

// Challenges answers HTTP-01, and hands over everything else.
func (c *Certificates) Challenges(next http.Handler) http.Handler {
	return c.issuer.HTTPChallengeHandler(next)
}

// Keep gets the certificates that are missing and renews the others in time, until ctx ends. What
// fails is tried again after pauses that grow.
func (c *Certificates) Keep(ctx context.Context) error {
	defer c.cache.Stop()
	if err := c.config.ManageAsync(ctx, c.opts.Hosts); err != nil {
		return fmt.Errorf("managing certificates: %w", err)
	}
	<-ctx.Done()
	return nil
}

// event logs what happens to certificates.
func (c *Certificates) event(_ context.Context, event string, data map[string]any) error {
	host := slog.Any("host", data["identifier"])
	switch event {
	case "cert_obtaining":
		c.opts.Log.Info("a certificate is asked for", host, "renewal", data["renewal"])
	case "cert_obtained":
		c.opts.Log.Info("a certificate is there", host, "renewal", data["renewal"])
	case "cert_failed":
		c.opts.Log.Error("a certificate could not be had; it is tried again", host, "error", data["error"])
	}
	return nil
}

// checkTime bounds what is asked in Check.
const checkTime = 15 * time.Second

// Check asks for the directory of an authority. No certificate is asked for.
func Check(ctx context.Context, directory string, roots *x509.CertPool) error {
	if directory == "" {
		directory = letsEncrypt
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, directory, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var d struct{ NewOrder, NewAccount, NewNonce string }
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&d)
	if resp.StatusCode != http.StatusOK || err != nil || d.NewOrder == "" || d.NewAccount == "" || d.NewNonce == "" {
		return errors.Join(fmt.Errorf("it answers %d, and not with the directory of an authority", resp.StatusCode), err)
	}
	return nil
}
