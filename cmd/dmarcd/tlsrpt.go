package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/api"
)

// A webServer is an HTTP server as a receiver.
type webServer struct{ http.Server }

// Serve speaks TLS if there is a certificate.
func (w *webServer) Serve(l net.Listener) error {
	if w.TLSConfig != nil {
		return w.ServeTLS(l, "", "")
	}
	return w.Server.Serve(l)
}

// Shutdown lets requests in hand end until ctx does.
func (w *webServer) Shutdown(ctx context.Context) error {
	err := w.Server.Shutdown(ctx)
	if err != nil {
		w.Close()
	}
	return err
}

func newWebServer(h http.Handler, config *tls.Config, log *slog.Logger) *webServer {
	return &webServer{http.Server{
		Handler:           h,
		TLSConfig:         config,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // strangers cause these
	}}
}

// tlsAtOnce is how many TLS reports may come at the same time.
const tlsAtOnce = 64

// openTLSRPT begins to take TLS reports over HTTP, if that is configured: at
// the address of the API, or at one of their own.
func (c *config) openTLSRPT(s *service) (*door, error) {
	o := &c.TLSRPT
	if o.Path == "" {
		return nil, nil
	}
	limit := access.NewThrottle(o.PerMinute)
	h := api.TLSReports(s.ingester, api.TLSOptions{Log: s.log, Limit: min(o.Size, c.Limits.Message), AtOnce: tlsAtOnce, Client: client(o.Proxies), Allow: limit.Allow})
	if o.Listen == "" {
		s.tlsReports = map[string]http.Handler{o.Path: h}
		return nil, nil
	}
	listener, err := listen("tlsrpt.listen", o.Listen)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(o.Path, h)
	return &door{"tlsrpt", newWebServer(mux, serverTLS(o.CertFile, o.KeyFile), s.log), listener}, nil
}

// client returns what tells the address that a request comes from, behind
// proxies that are trusted.
func client(proxies []string) func(*http.Request) netip.Addr {
	e := &access.Edge{Proxies: networks(proxies)}
	return e.Client
}

// networks reads networks that were checked before.
func networks(texts []string) (all []netip.Prefix) {
	for _, text := range texts {
		if p, err := network(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// network reads an address, or a network of them.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

func readNetwork(text string) (string, error) {
	if _, err := network(text); err != nil {
		return "", errors.New(`must be addresses or networks, such as "127.0.0.1" or "10.0.0.0/8"; ` + quote(text) + " is none")
	}
	return text, nil
}

// tlsPath checks where TLS reports are taken.
func tlsPath(text string) error {
	switch {
	case !strings.HasPrefix(text, "/") || text == "/" || strings.ContainsFunc(text, func(r rune) bool {
		return r != '/' && r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}):
		return errors.New(`must be a path of letters, digits, -, _ and ., such as "/tlsrpt"`)
	case strings.HasPrefix(text+"/", "/api/") || strings.Contains(text, "//"):
		return errors.New("is a path of the API; choose another")
	}
	return nil
}

// checkTLSRPT looks at what the settings of TLS reports say about each other.
func (l *loader) checkTLSRPT() {
	c := &l.cfg.TLSRPT
	s := func(key string) *setting { return findSetting(l.cfg.settings, "tlsrpt."+key) }
	l.checkCertificate("tlsrpt", c.CertFile, c.KeyFile)
	if c.Path == "" && c.Listen != "" && !s("path").refused {
		l.wrong(s("path"), `is missing; write it as "/tlsrpt", or remove tlsrpt.listen`)
	}
	if c.Listen == "" && c.CertFile != "" && !s("listen").refused {
		l.wrong(s("cert_file"), "has no use without tlsrpt.listen: the address of the API speaks no TLS; set that, or remove cert_file and key_file")
	}
	if c.Listen != "" && c.Listen == l.cfg.Listen {
		l.wrong(s("listen"), "is the address of dashboard and API; remove it to take reports there, or choose another")
	}
}
