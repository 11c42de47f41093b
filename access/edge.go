package access

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// An Edge is where requests come in: by what proxies, below what path, how
// often, and with what headers they are answered.
type Edge struct {
	// Base is the path that everything is reached under, without a slash at the
	// end; "" for the root. Proxies may strip it or not.
	Base string
	// Proxies are networks whose X-Forwarded-For and X-Forwarded-Proto are
	// believed.
	Proxies []netip.Prefix
	// URL is scheme and host that clients use; "" to go by each request.
	URL string
	// Allow tells whether an address may come now; nil for always.
	Allow func(netip.Addr) bool
}

// Trusted tells whether a request comes from a proxy that is believed.
func (e *Edge) Trusted(r *http.Request) bool {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && e.trusts(at.Addr().Unmap())
}

func (e *Edge) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(e.Proxies, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Client returns the address that a request comes from. Behind proxies that are
// trusted it is the last in X-Forwarded-For that is none of them: whatever
// stands before it may be made up.
func (e *Edge) Client(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	addr := at.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for len(hops) > 0 && e.trusts(addr) {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1]))
		if err != nil {
			break
		}
		addr, hops = next.Unmap(), hops[:len(hops)-1]
	}
	return addr
}

// Secure tells whether the client of a request speaks TLS, with us or with a
// proxy that is trusted.
func (e *Edge) Secure(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(e.URL, "https://") || e.Trusted(r) && strings.EqualFold(lastOf(r.Header.Values("X-Forwarded-Proto")), "https")
}

// Origin returns scheme and host of a request as its client sees them.
func (e *Edge) Origin(r *http.Request) string {
	if e.URL != "" {
		return e.URL
	}
	host := r.Host
	if e.Trusted(r) {
		if forwarded := lastOf(r.Header.Values("X-Forwarded-Host")); forwarded != "" {
			host = forwarded
		}
	}
	if e.Secure(r) {
		return "https://" + host
	}
	return "http://" + host
}

// lastOf returns the last element of a header that is a list: what the nearest
// proxy wrote.
func lastOf(values []string) string {
	list := strings.Split(strings.Join(values, ","), ",")
	return strings.TrimSpace(list[len(list)-1])
}

// Times of a connection. A stall ends it; what goes on may take as long as it
// likes, however much is streamed.
const (
	writeStall = time.Minute
	readStall  = time.Minute
	stallStep  = 5 * time.Second // between two settings of the clock
)

// Wrap makes a handler of all that is served.
func (e *Edge) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		if e.Secure(r) {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if path, ok := strings.CutPrefix(r.URL.Path, e.Base); ok && e.Base != "" && (path == "" || path[0] == '/') {
			if path == "" {
				http.Redirect(w, r, e.Base+"/", http.StatusMovedPermanently)
				return
			}
			r = strip(r, e.Base)
		}
		if health := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"; !health && e.Allow != nil && !e.Allow(e.Client(r)) {
			h.Set("Retry-After", "60")
			h.Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusTooManyRequests)
			w.Write([]byte(`{"title":"Too Many Requests","status":429,"detail":"there are too many requests from your address; try again in a minute"}` + "\n"))
			return
		}
		s := &stalling{ResponseWriter: w, clock: http.NewResponseController(w)}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &stallingBody{r.Body, s.clock, time.Time{}}
		}
		next.ServeHTTP(s, r)
		s.clock.SetWriteDeadline(time.Now().Add(writeStall)) // for what is still to be sent
	})
}

// strip returns a request without the path that everything is reached under.
func strip(r *http.Request, base string) *http.Request {
	inner := r.Clone(r.Context())
	inner.URL.Path = strings.TrimPrefix(r.URL.Path, base)
	inner.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, base)
	inner.RequestURI = strings.TrimPrefix(r.RequestURI, base)
	return inner
}

// stalling gives every write a time of its own.
type stalling struct {
	http.ResponseWriter
	clock *http.ResponseController
	set   time.Time
}

func (s *stalling) Write(p []byte) (int, error) {
	s.wind()
	return s.ResponseWriter.Write(p)
}

// WriteHeader sends the header.
func (s *stalling) WriteHeader(status int) {
	s.wind()
	s.ResponseWriter.WriteHeader(status)
}

func (s *stalling) wind() {
	if now := time.Now(); now.Sub(s.set) > stallStep {
		s.set = now
		s.clock.SetWriteDeadline(now.Add(writeStall))
	}
}

// Unwrap lets http.ResponseController find what is below.
func (s *stalling) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Flush sends what was written.
func (s *stalling) Flush() { s.clock.Flush() }

// stallingBody gives every read a time of its own.
type stallingBody struct {
	io.ReadCloser
	clock *http.ResponseController
	set   time.Time
}

func (b *stallingBody) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(b.set) > stallStep {
		b.set = now
		b.clock.SetReadDeadline(now.Add(readStall))
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.clock.SetReadDeadline(time.Time{}) // whoever waits for the answer may
	}
	return n, err
}
