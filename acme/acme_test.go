package acme_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/acme"
	"github.com/dmarcd/dmarcd/internal/porttest"
)

// An authority is Pebble, which Let's Encrypt tests clients with. It looks names up where all of them
// are this machine.
type authority struct {
	directory string
	itself    *x509.CertPool // that it is believed by
	roots     *x509.CertPool // of what it issues
	server    *httptest.Server
}

func newAuthority(t *testing.T, httpPort, tlsPort int) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1") // it rejects nonces now and then nevertheless
	resolver := listen(t, "127.0.0.1:0")
	names := &dns.Server{Listener: resolver, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		}
		w.WriteMsg(m)
	})}
	go names.ActivateAndServe()
	t.Cleanup(func() { names.Shutdown() })

	quiet, store := log.New(io.Discard, "", 0), db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the usual"}})
	front := wfe.New(quiet, store, va.New(quiet, httpPort, tlsPort, true, resolver.Addr().String(), store), issuer, []string{"pebble.example"}, true, false, 1, 1)
	a := &authority{server: httptest.NewTLSServer(front.Handler()), itself: x509.NewCertPool(), roots: x509.NewCertPool()}
	t.Cleanup(a.server.Close)
	a.directory = a.server.URL + wfe.DirectoryPath
	a.itself.AddCert(a.server.Certificate())
	a.roots.AddCert(issuer.GetRootCert(0).Cert)
	return a
}

// shown returns the certificate that a listener shows for a host, once there is one that is believed.
func shown(t *testing.T, address, host string, roots *x509.CertPool, told *buffer) *x509.Certificate {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var conn *tls.Conn
		if conn, err = tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: host}); err == nil {
			defer conn.Close()
			return conn.ConnectionState().PeerCertificates[0]
		}
	}
	t.Fatalf("no certificate for %s: %v\n%s", host, err, told)
	return nil
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// free returns an address where nobody listens.
func free(t *testing.T) (address string, port int) {
	at := netip.MustParseAddrPort(porttest.FreeAddress(t))
	return at.String(), int(at.Port())
}

func TestCertificatesAreHadByEitherChallengeAndKept(t *testing.T) {
	for _, by := range []string{"TLS-ALPN-01", "HTTP-01"} {
		t.Run(by, func(t *testing.T) {
			secure, tlsPort := free(t)
			plain, httpPort := free(t)
			_, nowhere := free(t)
			seenTLS, seenHTTP := tlsPort, httpPort // where the authority looks
			var told buffer
			opts := acme.Options{Hosts: []string{"dmarc.example.com", "reports.example.com"}, Email: "admin@example.com", Folder: t.TempDir(),
				Listen: secure, Log: slog.New(slog.NewTextHandler(&told, nil))}
			if by == "HTTP-01" {
				opts.HTTP, seenTLS = plain, nowhere
			} else {
				seenHTTP = nowhere
			}
			a := newAuthority(t, seenHTTP, seenTLS)
			opts.Directory, opts.Roots = a.directory, a.itself
			if err := acme.Check(t.Context(), opts.Directory, opts.Roots); err != nil {
				t.Error(err)
			}
			run := func() (stop func()) {
				c, err := acme.New(opts)
				if err != nil {
					t.Fatal(err)
				}
				hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
				servers := []*http.Server{{Handler: hello, TLSConfig: c.TLS(), ErrorLog: log.New(io.Discard, "", 0)}, {Handler: c.Challenges(hello)}}
				go servers[0].ServeTLS(listen(t, secure), "", "")
				go servers[1].Serve(listen(t, plain))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- c.Keep(ctx) }()
				return func() {
					cancel()
					if err := <-done; err != nil {
						t.Error(err)
					}
					servers[0].Close()
					servers[1].Close()
				}
			}
			stop := run()
			first := map[string]string{}
			for _, host := range opts.Hosts {
				cert := shown(t, opts.Listen, host, a.roots, &told)
				first[host] = cert.SerialNumber.String()
			}
			stop()
			if !strings.Contains(told.String(), "a certificate is there") {
				t.Errorf("told:\n%s", told.String())
			}

			// Another process with the same folder has them without an authority.
			a.server.Close()
			if err := acme.Check(t.Context(), opts.Directory, opts.Roots); err == nil {
				t.Error("an authority that does not answer was not missed")
			}
			defer run()()
			for _, host := range opts.Hosts {
				if cert := shown(t, opts.Listen, host, a.roots, &told); cert.SerialNumber.String() != first[host] {
					t.Errorf("%s has another certificate", host)
				}
			}
		})
	}
}

func TestWhatIsNoAuthorityIsSaid(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }))
	defer page.Close()
	if err := acme.Check(t.Context(), page.URL, nil); err == nil || !strings.Contains(err.Error(), "not with the directory of an authority") {
		t.Errorf("%v", err)
	}
}
