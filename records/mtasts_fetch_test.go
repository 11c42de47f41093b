package records

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/outward"
)

// onLoopback is where tests connect to.
var onLoopback = outward.Reach{}.ToHost("localhost")

// servePolicy serves HTTPS on loopback for mta-sts.corp.test, and returns a
// fetcher that finds it and trusts an authority.
func servePolicy(t *testing.T, cert tls.Certificate, ca *authority, handler http.HandlerFunc) *PolicyFetcher {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it
	server.StartTLS()
	t.Cleanup(server.Close)
	r := newZoneResolver(t, map[string]string{"corp.test": "mta-sts A 127.0.0.1\n"})
	f := NewPolicyFetcher(r, onLoopback)
	f.port = fmt.Sprint(netip.MustParseAddrPort(server.Listener.Addr().String()).Port())
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	f.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = roots
	return f
}

func TestAPolicyIsFetchedOverHTTPS(t *testing.T) {
	ca := newAuthority("One")
	cert := ca.issue(time.Hour, "mta-sts.corp.test")
	const policy = policyStart + "mx: mx1.corp.test\r\n"
	text := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/.well-known/mta-sts.txt" || r.Host != "mta-sts.corp.test" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", kind)
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name    string
		cert    tls.Certificate
		handler http.HandlerFunc
		body    string
		status  int
		err     string // a part of it
	}{
		{"a policy", cert, text("text/plain", policy), policy, 200, ""},
		{"with a charset", cert, text("text/plain; charset=utf-8", policy), policy, 200, ""},
		{"a wildcard certificate", ca.issue(time.Hour, "*.corp.test"), text("text/plain", policy), policy, 200, ""},
		{"HTML", cert, text("text/html", policy), "", 200, `the content type is "text/html", not text/plain`},
		{"as large as may be", cert, text("text/plain", strings.Repeat("x", maxPolicySize)), strings.Repeat("x", maxPolicySize), 200, ""},
		{"too large", cert, text("text/plain", strings.Repeat("x", maxPolicySize+1)), "", 200, "it is larger than 65536 octets"},
		{"not there", cert, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, "", 404, ""},
		{"a redirect", cert, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://www.corp.test/", http.StatusMovedPermanently)
		}, "", 301, ""},
		{"endless headers", cert, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 64<<10))
		}, "", 0, "server response headers exceeded"},
		{"another name", ca.issue(time.Hour, "www.corp.test"), text("text/plain", policy), "", 0, "certificate is valid for www.corp.test, not mta-sts.corp.test"},
		{"an expired certificate", ca.issue(-time.Hour, "mta-sts.corp.test"), text("text/plain", policy), "", 0, "certificate has expired"},
		{"an unknown authority", newAuthority("Two").issue(time.Hour, "mta-sts.corp.test"), text("text/plain", policy), "", 0, "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := servePolicy(t, c.cert, ca, c.handler)
			body, status, err := f.FetchPolicy(t.Context(), "mta-sts.corp.test")
			if string(body) != c.body || status != c.status || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%d octets, status %d, error %v", len(body), status, err)
			}
			if err != nil && (isTemporary(err) || strings.Contains(err.Error(), "Get ")) {
				t.Errorf("error %q, temporary: %t", err, isTemporary(err))
			}
		})
	}
}

func TestOnlyPublicAddressesAreConnectedTo(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": `
loopback A 127.0.0.1
private A 10.0.0.1
meta A 169.254.169.254
six AAAA ::1
mapped AAAA ::ffff:127.0.0.1
docs A 192.0.2.1
none TXT "x"
`})
	f := NewPolicyFetcher(r, outward.Reach{})
	for _, host := range []string{"loopback.corp.test", "private.corp.test", "meta.corp.test", "six.corp.test", "mapped.corp.test", "docs.corp.test"} {
		if _, _, err := f.FetchPolicy(t.Context(), host); err == nil || !strings.HasSuffix(err.Error(), " is not a public address") || isTemporary(err) {
			t.Errorf("%s: %v", host, err)
		}
		a := r.Lookup(t.Context(), host, dns.TypeA)
		for _, ip := range append(addresses(a), addresses(r.Lookup(t.Context(), host, dns.TypeAAAA))...) {
			if _, err := NewProber("probe.example", outward.Reach{}).Certificates(t.Context(), host, netip.AddrPortFrom(ip, 25)); err == nil || !strings.HasSuffix(err.Error(), " is not a public address") {
				t.Errorf("%s at %s: %v", host, ip, err)
			}
		}
	}
	if _, _, err := f.FetchPolicy(t.Context(), "none.corp.test"); err == nil || err.Error() != "none.corp.test has no address" {
		t.Errorf("a host without address: %v", err)
	}
	for _, host := range []string{"127.0.0.1", "[::1]", "a b", "x@y.z", "localhost"} {
		if _, _, err := f.FetchPolicy(t.Context(), host); err == nil || !strings.HasSuffix(err.Error(), "is not the name of a host") {
			t.Errorf("%s: %v", host, err)
		}
	}
	r.broken["corp.test"] = Answer{Rcode: dns.RcodeServerFailure}
	if _, _, err := f.FetchPolicy(t.Context(), "corp.test"); err == nil || !isTemporary(err) {
		t.Errorf("the lookup fails: %v", err)
	}
}

func TestAServerThatDoesNotAnswerMayDoSoLater(t *testing.T) {
	ca := newAuthority("One")
	release := make(chan struct{})
	f := servePolicy(t, ca.issue(time.Hour, "mta-sts.corp.test"), ca, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": stsRecord + "mta-sts A 127.0.0.1\n" + twoMailHosts}), "corp.test", Options{Fetcher: withContext{f, ctx}})
	if got, want := idsOf(checkMTASTS(p)), []string{"unknown mtasts.fetch mta-sts.corp.test"}; !slices.Equal(got, want) {
		t.Errorf("findings: %q: %q", got, p.MTASTS.Why)
	}
}

// withContext fetches with less time.
type withContext struct {
	f   *PolicyFetcher
	ctx context.Context
}

func (w withContext) FetchPolicy(_ context.Context, host string) ([]byte, int, error) {
	return w.f.FetchPolicy(w.ctx, host)
}

func TestWhatAServerDoesWrongIsSaid(t *testing.T) {
	ca := newAuthority("One")
	zones := map[string]string{"corp.test": stsRecord + "mta-sts A 127.0.0.1\n" + twoMailHosts}
	f := servePolicy(t, ca.issue(time.Hour, "mta-sts.corp.test"), ca, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	got := checkMTASTS(lookedUp(t, newZoneResolver(t, zones), "corp.test", Options{Fetcher: f}))
	if len(got) != 1 || got[0].ID != "mtasts.fetch" || got[0].Value("why") != "the answer is a redirect (302), which is not followed" {
		t.Errorf("findings: %+v", got)
	}
}
