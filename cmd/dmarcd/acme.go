package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/acme"
)

// checkACME looks at what the settings of ACME say about each other.
func (l *loader) checkACME() {
	c := l.cfg
	s := func(key string) *setting { return findSetting(c.settings, "acme."+key) }
	a := &c.ACME
	if len(a.Hosts) == 0 {
		for key, given := range map[string]bool{"email": a.Email != "", "directory": a.Directory != "", "ca_file": a.CAFile != "", "folder": a.Folder != "", "http_listen": a.HTTP != ""} {
			if given && !s("hosts").refused {
				l.wrong(s(key), "has no use without acme.hosts; name the hosts that certificates are for")
			}
		}
		return
	}
	if c.HTTP.CertFile != "" {
		l.wrong(s("hosts"), "there is a certificate in http.cert_file already; remove one of them")
	}
	if a.Folder == "" && c.DataDir == "" {
		l.wrong(s("folder"), "is missing: there is no data_dir; name a folder for keys and certificates")
	}
	if _, err := c.acmeRoots(); err != nil {
		l.wrong(s("ca_file"), err.Error())
	}
}

// acmeRoots are what the authority itself is believed by; nil: the roots of the system.
func (c *config) acmeRoots() (*x509.CertPool, error) {
	if c.ACME.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.ACME.CAFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificates: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM format", c.ACME.CAFile)
	}
	return roots, nil
}

func (c *config) acmeFolder() string {
	if c.ACME.Folder != "" {
		return c.ACME.Folder
	}
	return filepath.Join(c.DataDir, "acme")
}

// openACME prepares getting certificates, and returns the door that the authority may ask at
// over HTTP, if there is one.
func (s *service) openACME(cfg *config) (*door, error) {
	if len(cfg.ACME.Hosts) == 0 {
		return nil, nil
	}
	roots, err := cfg.acmeRoots()
	if err != nil {
		return nil, err
	}
	a := &cfg.ACME
	s.certificates, err = acme.New(acme.Options{Hosts: a.Hosts, Email: a.Email, Directory: a.Directory, Roots: roots, Folder: cfg.acmeFolder(),
		Listen: cfg.Listen, HTTP: a.HTTP, Log: s.log})
	if err != nil {
		return nil, fmt.Errorf("certificates by ACME: %w", err)
	}
	s.tls = s.certificates.TLS()
	if a.HTTP == "" {
		return nil, nil
	}
	listener, err := listen("acme.http_listen", a.HTTP)
	if err != nil {
		return nil, err
	}
	return &door{"ACME over HTTP", &http.Server{
		Handler: s.certificates.Challenges(toHTTPS(a.Hosts)), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
	}, listener}, nil
}

// toHTTPS sends people on who come over HTTP to one of the hosts.
func toHTTPS(hosts []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		for _, known := range hosts {
			if strings.EqualFold(host, known) && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
				http.Redirect(w, r, "https://"+known+r.URL.RequestURI(), http.StatusMovedPermanently)
				return
			}
		}
		http.Error(w, "there is nothing here", http.StatusNotFound)
	})
}
