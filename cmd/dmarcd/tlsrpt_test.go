package main

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/dmarcd/dmarcd/internal/porttest"
)

func aTLSReport(id, domain string) string {
	return `{"organization-name":"R","date-range":{"start-datetime":"2026-01-01T00:00:00Z","end-datetime":"2026-01-01T23:59:59Z"},"contact-info":"a@r.example","report-id":"` + id + `",
"policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1"],"policy-domain":"` + domain + `","mx-host":["mx.example.com"]},
"summary":{"total-successful-session-count":5,"total-failure-session-count":1},"failure-details":[]}]}`
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TLS reports are taken in any packing, whatever their type is said to be, and
// nothing else is.
func TestTLSReportsAreTakenOverHTTPS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key)
	trusted := x509.NewCertPool()
	pem, err := os.ReadFile(cert)
	if err != nil || !trusted.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	address := porttest.FreeAddress(t)
	r := serveWith(t, build(t), filepath.Join(dir, "data"), "DMARCD_TLSRPT_PATH=/tlsrpt", "DMARCD_TLSRPT_LISTEN="+address, "DMARCD_TLSRPT_CERT_FILE="+cert, "DMARCD_TLSRPT_KEY_FILE="+key,
		"DMARCD_TLSRPT_SIZE=4KiB", "DMARCD_TLSRPT_PER_MINUTE=17", "DMARCD_DOMAINS=example.com").ready()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}

	plain := aTLSReport("1", "example.com")
	var noise strings.Builder
	for i := range 2000 {
		fmt.Fprint(&noise, i*i)
	}
	for _, c1 := range []struct {
		kind, encoding, body string
		want                 int
	}{
		{"application/tlsrpt+json", "", plain, 201},
		{"application/tlsrpt+json", "", plain, 201}, // again
		{"application/tlsrpt+gzip", "", packed(t, aTLSReport("2", "example.com")), 201},
		{"application/gzip", "gzip", packed(t, packed(t, aTLSReport("3", "example.com"))), 201}, // flagged: nested compression
		{"application/json", "gzip", packed(t, aTLSReport("4", "example.com")), 201},
		{"application/json", "gzip", aTLSReport("5", "example.com"), 201}, // it is not
		{"application/octet-stream", "", aTLSReport("6", "example.com"), 201},
		{"", "", aTLSReport("7", "example.com"), 201},
		{"application/tlsrpt+json", "br", aTLSReport("8", "example.com"), 415},
		{"application/tlsrpt+json", "", aTLSReport("9", "example.org"), 403},
		{"application/tlsrpt+json", "", `{"policies":[`, 422},
		{"application/tlsrpt+gzip", "", packed(t, plain)[:60], 422},
		{"application/xml", "", aReport("10"), 422},
		{"text/plain", "", "hello", 422},
		{"application/tlsrpt+json", "", noise.String(), 413},
		{"application/tlsrpt+json", "", "", 422},
	} {
		request, err := http.NewRequest(http.MethodPost, "https://"+address+"/tlsrpt", strings.NewReader(c1.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", c1.kind)
		if c1.encoding != "" {
			request.Header.Set("Content-Encoding", c1.encoding)
		}
		answer, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != c1.want {
			t.Errorf("%s %s %.40q: status %d, want %d: %s", c1.kind, c1.encoding, c1.body, answer.StatusCode, c1.want, body)
		}
	}

	// What breaks off is not taken in.
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: trusted})
	if err != nil {
		t.Fatal(err)
	}
	cut := aTLSReport("11", "example.com")
	fmt.Fprintf(conn, "POST /tlsrpt HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(cut)+1, cut)
	conn.Close()

	// One address has enough some time.
	for n := 0; ; n++ {
		answer, err := c.Post("https://"+address+"/tlsrpt", "application/tlsrpt+json", strings.NewReader(plain))
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusTooManyRequests && answer.Header.Get("Retry-After") != "" {
			break
		}
		if answer.StatusCode != http.StatusCreated || n == 1000 {
			t.Fatalf("status %d after %d reports", answer.StatusCode, n)
		}
	}
	answer, err := c.Get("https://" + address + "/tlsrpt")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", answer.StatusCode)
	}
	// Nothing else is to be seen there.
	answer, err = c.Get("https://" + address + "/api/v1/domains")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("the API: status %d", answer.StatusCode)
	}
	if got, want := r.ledger(), map[string]int{"tlsrpt ok": 6, "tlsrpt ok_with_flags": 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("ledger %v, want %v", got, want)
	}
	if status := r.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d after SIGTERM\n%s", status, r.log)
	}
}

func TestTheAddressOfASenderIsTheOneThatTrustedProxiesTell(t *testing.T) {
	for _, c := range []struct {
		proxies         string
		remote, forward string
		want            string
	}{
		{"", "192.0.2.1:5", "203.0.113.9", "192.0.2.1"},
		{"127.0.0.1", "192.0.2.1:5", "203.0.113.9", "192.0.2.1"},
		{"127.0.0.1", "127.0.0.1:5", "203.0.113.9", "203.0.113.9"},
		{"127.0.0.1,10.0.0.0/8", "127.0.0.1:5", "1.2.3.4, 203.0.113.9, 10.1.1.1", "203.0.113.9"},
		{"127.0.0.1", "127.0.0.1:5", "nonsense", "127.0.0.1"},
		{"127.0.0.1", "127.0.0.1:5", "", "127.0.0.1"},
		{"2001:db8::1", "[2001:db8::1]:5", "::ffff:203.0.113.9", "203.0.113.9"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.RemoteAddr = c.remote
		if c.forward != "" {
			r.Header.Set("X-Forwarded-For", c.forward)
		}
		if got := client(strings.Split(c.proxies, ","))(r); got != netip.MustParseAddr(c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
