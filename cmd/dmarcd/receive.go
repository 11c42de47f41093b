package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/mail"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/ingest"
)

// A receiver is a way in that others come by.
type receiver interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

// A door is a receiver and where it listens.
type door struct {
	name string
	receiver
	listener net.Listener
}

const unixPrefix = "unix:"

// listenAt is a check for where to listen: host and port, or the path of a
// socket of this machine.
func listenAt(text string) error {
	path, isUnix := strings.CutPrefix(text, unixPrefix)
	switch {
	case !isUnix:
		return hostPort(text)
	case !strings.HasPrefix(path, "/"):
		return errors.New(`must be an absolute path after unix:, such as "unix:/run/dmarcd/lmtp.sock"`)
	case len(path) > 100:
		return errors.New("is longer than a path of a socket may be")
	}
	return nil
}

// listen begins to listen. A socket that a dmarcd left behind is removed.
func listen(setting, address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, unixPrefix)
	if !isUnix {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w; set %s to another address", address, err, setting)
		}
		return l, nil
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("listening on %s: somebody listens there already; set %s to another path", address, setting)
		}
		os.Remove(path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w; set %s to another path", address, err, setting)
	}
	if err := os.Chmod(path, 0o666); err != nil { // whoever gets into its folder may connect
		l.Close()
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return l, nil
}

// readRecipient returns an address that mail is taken for, or "@" and a domain.
func readRecipient(text string) (string, error) {
	bad := errors.New(`must be addresses, such as "dmarc@example.com", or "@example.com" for a whole domain; ` + quote(text) + " is none")
	local, domain, ok := strings.Cut(text, "@")
	if !ok {
		return "", bad
	}
	name, err := readDomain(domain)
	if err != nil {
		return "", bad
	}
	if a, err := mail.ParseAddress(text); local != "" && (err != nil || a.Address != text) {
		return "", bad
	}
	return local + "@" + name, nil
}

// A certificate is a TLS certificate in files. It is read again once they change, so
// that it can be renewed while dmarcd runs.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	changed [2]time.Time // when the files were changed that current was read from
}

// get is what crypto/tls asks for a certificate. If new files cannot be read,
// the old certificate goes on.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var changed [2]time.Time
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			changed[i] = info.ModTime()
		}
	}
	if c.current != nil && changed == c.changed {
		return c.current, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err == nil {
		c.current, c.changed = &pair, changed
	}
	if c.current == nil {
		return nil, err
	}
	return c.current, nil
}

// serverTLS returns what a listener speaks TLS with, nil without a certificate.
func serverTLS(certFile, keyFile string) *tls.Config {
	if certFile == "" {
		return nil
	}
	c := &certificate{certFile: certFile, keyFile: keyFile}
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12}
}

// checkCertificate looks at the two files of a certificate.
func (l *loader) checkCertificate(table, certFile, keyFile string) {
	cert, key := findSetting(l.cfg.settings, table+".cert_file"), findSetting(l.cfg.settings, table+".key_file")
	switch {
	case certFile == "" && keyFile == "":
	case certFile == "":
		l.wrong(key, "has no use without "+table+".cert_file; name the certificate as well")
	case keyFile == "":
		l.wrong(cert, "has no use without "+table+".key_file; name the key as well")
	default:
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			l.wrong(cert, fmt.Sprintf("cannot use the certificate: %v; name a certificate and its key in PEM format that are readable", err))
		}
	}
}

// checkSMTP looks at what the settings of the SMTP listener say about each other.
func (l *loader) checkSMTP() {
	c := &l.cfg.SMTP
	s := func(key string) *setting { return findSetting(l.cfg.settings, "smtp."+key) }
	l.checkCertificate("smtp", c.CertFile, c.KeyFile)
	if c.Listen == "" {
		if len(c.Recipients) > 0 && !s("listen").refused {
			l.wrong(s("recipients"), "has no use without smtp.listen; set that, or remove recipients")
		}
		return
	}
	if len(c.Recipients) == 0 && !s("recipients").refused {
		l.wrong(s("recipients"), `is missing; name the addresses that reports are sent to, such as ["dmarc@example.com"]`)
	}
}

// openSMTP begins to listen for mail, if that is configured.
func (c *config) openSMTP(s *service) (*door, error) {
	o := &c.SMTP
	if o.Listen == "" {
		return nil, nil
	}
	listener, err := listen("smtp.listen", o.Listen)
	if err != nil {
		return nil, err
	}
	hostname := o.Hostname
	if hostname == "" {
		if hostname, err = os.Hostname(); err != nil || hostname == "" {
			hostname = "localhost"
		}
	}
	limit := access.NewThrottle(o.PerMinute)
	return &door{"smtp", ingest.NewSMTP(s.ingester, ingest.SMTPOptions{
		LMTP: o.Protocol == "lmtp", Hostname: hostname, TLSConfig: serverTLS(o.CertFile, o.KeyFile), Recipients: o.Recipients,
		Limit: o.Size, Connections: o.Connections, Timeout: o.Timeout, Log: s.log,
		Allow: func(addr netip.Addr) bool { return addr.IsLoopback() || limit.Allow(addr) },
	}), listener}, nil
}
