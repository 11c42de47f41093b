// Package outward keeps dmarcd from connecting to what only it can reach: what a stranger's
// DNS, a redirect or a provider names must not lead behind a firewall, to this machine, or to the
// credentials that clouds hand out. An address is judged when it is connected to, whatever
// name led there.
package outward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// ErrNotPublic is in the error of a connection that was not made.
var ErrNotPublic = errors.New("is not a public address")

// A Reach is the addresses that may be connected to beside public ones. The zero
// Reach is none.
type Reach struct {
	All  bool // any address
	Also []netip.Prefix
}

// With returns a reach to networks as well.
func (r Reach) With(also ...netip.Prefix) Reach {
	return Reach{All: r.All, Also: append(append([]netip.Prefix{}, r.Also...), also...)}
}

// ToHost returns a reach to a host as well that an operator named by its address, or as
// localhost: to that address, or to this machine.
func (r Reach) ToHost(host string) Reach {
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addr = addr.Unmap().WithZone("")
		return r.With(netip.PrefixFrom(addr, addr.BitLen()))
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return r.With(netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	}
	return r
}

// allows tells whether an address may be connected to.
func (r Reach) allows(addr netip.Addr) bool {
	if r.All || public(addr) {
		return true
	}
	addr = addr.Unmap().WithZone("")
	inner, translated := behind(addr)
	for _, n := range r.Also {
		if n.Contains(addr) || translated && n.Contains(inner) {
			return true
		}
	}
	return false
}

// Check returns an error for an address that may not be connected to.
func (r Reach) Check(addr netip.Addr) error {
	if !r.allows(addr) {
		return fmt.Errorf("%s %w", addr, ErrNotPublic)
	}
	return nil
}

// Dialer returns a dialer that refuses addresses at the moment in which it would
// connect.
func (r Reach) Dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return r.Check(to.Addr())
	}}
}

// dialTime is how long connecting may take.
const dialTime = 10 * time.Second

// Transport returns what makes HTTP requests within the reach, by no proxy.
func (r Reach) Transport() *http.Transport {
	return &http.Transport{
		DialContext: r.Dialer(dialTime).DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10, MaxIdleConns: 10, IdleConnTimeout: time.Minute,
	}
}

// ByProxy returns what makes HTTP requests within the reach, or by the proxy of the environment
// (HTTPS_PROXY), which then is who connects and decides to what.
func (r Reach) ByProxy() *http.Transport {
	t := r.Transport()
	proxies := proxyAddresses()
	if len(proxies) == 0 {
		return t
	}
	t.Proxy = http.ProxyFromEnvironment
	guarded, plain := t.DialContext, &net.Dialer{Timeout: dialTime}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if proxies[address] {
			return plain.DialContext(ctx, network, address)
		}
		return guarded(ctx, network, address)
	}
	return t
}

// proxyAddresses are those of the proxies of the environment, as they are dialed.
func proxyAddresses() map[string]bool {
	all := map[string]bool{}
	env := httpproxy.FromEnvironment()
	for _, text := range []string{env.HTTPProxy, env.HTTPSProxy} {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			u, err = url.Parse("http://" + text)
		}
		if text == "" || err != nil || u.Host == "" {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
			if port == "" {
				port = "80"
			}
		}
		all[net.JoinHostPort(u.Hostname(), port)] = true
	}
	return all
}
