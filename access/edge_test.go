package access

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestOnlyProxiesAreBelieved(t *testing.T) {
	e := &Edge{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32")}}
	for _, c := range []struct {
		from   string
		header []string
		client string
		origin string
	}{
		{"192.0.2.1:1", []string{"X-Forwarded-For", "198.51.100.1", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example"}, "192.0.2.1", "http://example.com"},
		{"10.0.0.1:1", []string{"X-Forwarded-For", "198.51.100.1", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "dmarc.example"}, "198.51.100.1", "https://dmarc.example"},
		{"10.0.0.1:1", []string{"X-Forwarded-For", "203.0.113.9, 198.51.100.1, 10.0.0.7", "X-Forwarded-Proto", "https, http"}, "198.51.100.1", "http://example.com"},
		{"127.0.0.1:1", []string{"X-Forwarded-For", "nonsense"}, "127.0.0.1", "http://example.com"},
		{"127.0.0.1:1", nil, "127.0.0.1", "http://example.com"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.from
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Add(c.header[i], c.header[i+1])
		}
		if got := e.Client(r).String(); got != c.client {
			t.Errorf("%s %q: client %s, want %s", c.from, c.header, got, c.client)
		}
		if got := e.Origin(r); got != c.origin {
			t.Errorf("%s %q: origin %s, want %s", c.from, c.header, got, c.origin)
		}
	}
}

func TestThePrefixIsTakenAwayWhetherProxiesDoOrNot(t *testing.T) {
	e := &Edge{Base: "/dmarc", URL: "https://x.example"}
	h := e.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path, " ", r.URL.EscapedPath(), " ", r.RequestURI)
	}))
	for path, want := range map[string]string{
		"/dmarc/":            "/ / /",
		"/dmarc/domains/a?b": "/domains/a /domains/a /domains/a?b",
		"/dmarc/x%2Fy":       "/x/y /x%2Fy /x%2Fy",
		"/domains/a":         "/domains/a /domains/a /domains/a",
		"/dmarcx/a":          "/dmarcx/a /dmarcx/a /dmarcx/a",
	} {
		w := send(h, "GET", path)
		if w.Body.String() != want {
			t.Errorf("%s: %q, want %q", path, w.Body, want)
		}
		if w.Header().Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: no HSTS", path)
		}
	}
	if w := send(h, "GET", "/dmarc"); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "/dmarc/" {
		t.Errorf("without the slash: %d %q", w.Code, w.Header().Get("Location"))
	}
}

func TestTooManyRequestsOfAnAddressAreRefusedButForHealth(t *testing.T) {
	e := &Edge{Allow: NewThrottle(2).Allow}
	h := e.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	var got []int
	for range 3 {
		got = append(got, send(h, "GET", "/x").Code)
	}
	if want := []int{200, 200, 429}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if w := send(h, "GET", "/readyz"); w.Code != 200 {
		t.Errorf("/readyz: %d", w.Code)
	}
	if w := send(h, "GET", "/x", "from", "198.51.100.7:1"); w.Code != 200 {
		t.Errorf("another address: %d", w.Code)
	}
}

// A body that comes and an answer that goes are passed on as they are, over a
// real connection, one request after the other.
func TestStreamsGoThroughTheEdge(t *testing.T) {
	e := &Edge{}
	s := httptest.NewServer(e.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Write(body)
		w.(http.Flusher).Flush()
	})))
	defer s.Close()
	large := strings.Repeat("0123456789", 200_000)
	for range 3 {
		resp, err := s.Client().Post(s.URL, "text/plain", strings.NewReader(large))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != large {
			t.Fatalf("%d of %d bytes: %v", len(body), len(large), err)
		}
		if resp, err = s.Client().Get(s.URL + "/none"); err != nil || resp.StatusCode != http.StatusNoContent {
			t.Fatalf("%v: %v", resp, err)
		}
		resp.Body.Close()
	}
}
