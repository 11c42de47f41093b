package records

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/outward"
)

// The bounds on a policy. RFC 8461, section 3.3, suggests the size and a time
// of a minute; a policy that takes that long is not worth the wait.
const (
	maxPolicySize = 64 << 10
	policyTimeout = 10 * time.Second
	dialTimeout   = 3 * time.Second
	maxDialed     = 4 // addresses of a host that are tried
)

var errLookup = errors.New("the address could not be looked up")

// A PolicyFetcher gets policies of MTA-STS over HTTPS as RFC 8461, section
// 3.3, wants it: no redirects, and a certificate for the host. It connects
// only within its reach, so that the owner of a zone cannot use it to get at
// what is behind a firewall.
type PolicyFetcher struct {
	resolver Resolver
	reach    outward.Reach
	client   *http.Client
	port     string
}

// NewPolicyFetcher returns a fetcher that looks up hosts with a resolver and
// connects within a reach.
func NewPolicyFetcher(r Resolver, reach outward.Reach) *PolicyFetcher {
	f := &PolicyFetcher{resolver: r, reach: reach, port: "443"}
	f.client = &http.Client{
		Transport: &http.Transport{
			DialContext:            f.dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f
}

// FetchPolicy gets the policy that a host serves. An answer other than 200
// comes back as its status.
func (f *PolicyFetcher) FetchPolicy(ctx context.Context, host string) (body []byte, status int, err error) {
	if !isHostName(host) {
		return nil, 0, fmt.Errorf("%q is not the name of a host", excerpt(host))
	}
	ctx, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("User-Agent", "dmarcd")
	response, err := f.client.Do(request)
	if err != nil {
		if outer := (*url.Error)(nil); errors.As(err, &outer) {
			err = outer.Err // whoever shows it names the host
		}
		return nil, 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, response.StatusCode, nil
	}
	kind := response.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(kind); err != nil || media != "text/plain" {
		return nil, response.StatusCode, fmt.Errorf("the content type is %q, not text/plain", excerpt(kind))
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, maxPolicySize+1))
	if err != nil {
		return nil, response.StatusCode, err
	}
	if len(body) > maxPolicySize {
		return nil, response.StatusCode, fmt.Errorf("it is larger than %d octets", maxPolicySize)
	}
	return body, response.StatusCode, nil
}

// dial connects to the first address of a host that answers, out of those
// that are allowed.
func (f *PolicyFetcher) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	a, aaaa := f.resolver.Lookup(ctx, host, dns.TypeA), f.resolver.Lookup(ctx, host, dns.TypeAAAA)
	ips := addresses(a, aaaa)
	if len(ips) == 0 && (a.State == Failed || aaaa.State == Failed) {
		return nil, fmt.Errorf("%w: %s", errLookup, whyFailed(a))
	}
	err = fmt.Errorf("%s has no address", host)
	for _, ip := range ips[:min(len(ips), maxDialed)] {
		if err = f.reach.Check(ip.Unmap()); err != nil {
			continue
		}
		dialer := net.Dialer{Timeout: dialTimeout}
		conn, dialErr := dialer.DialContext(ctx, network, net.JoinHostPort(ip.Unmap().String(), f.port))
		if dialErr == nil {
			return conn, nil
		}
		err = dialErr
	}
	return nil, err
}
