package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Webhook sends messages as JSON by POST, signed with a secret. It follows no
// redirect, and connects to no address that is not public unless Private is set.
type Webhook struct {
	URL     string
	Secret  string // "" for no signature
	Private bool
	Now     func() time.Time // nil: time.Now
}

// Headers of a webhook.
const (
	headerTime      = "Dmarcd-Timestamp"
	headerSignature = "Dmarcd-Signature"
	headerKey       = "Idempotency-Key"
)

// Signature returns the signature of a body that is sent at a time, in seconds
// since 1970: HMAC-SHA256 over the time, a full stop and the body.
func Signature(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// Send posts a message. Any answer from 200 to 299 means that it arrived.
func (w *Webhook) Send(ctx context.Context, m *dmarc.OutgoingMessage) error {
	now := time.Now
	if w.Now != nil {
		now = w.Now
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(m.Body))
	if err != nil {
		return errors.New("the URL cannot be used") // the error would repeat it
	}
	timestamp := strconv.FormatInt(now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "dmarcd")
	r.Header.Set(headerKey, m.Key)
	r.Header.Set(headerTime, timestamp)
	if w.Secret != "" {
		r.Header.Set(headerSignature, Signature(w.Secret, timestamp, m.Body))
	}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 10 * time.Second, Control: publicOnly(w.Private)}).DialContext, DisableKeepAlives: true,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(r)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("it answers %d, a redirect, which is not followed; name the final URL", resp.StatusCode)
	}
	err = fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if seconds, e := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); e == nil {
		err = &errorAfter{err, time.Duration(seconds) * time.Second}
	}
	return err
}

// withoutURL is an error of the HTTP client without the URL, which is a secret.
func withoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// errPrivate says that an address is not public.
var errPrivate = errors.New("is not a public address; allow it with private = true")

// publicOnly returns what keeps a dialer from addresses that are not public, at
// the moment in which it connects, whatever name led there; nil if all are
// allowed.
func publicOnly(private bool) func(network, address string, _ syscall.RawConn) error {
	if private {
		return nil
	}
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !public(ap.Addr()) {
			return fmt.Errorf("%s %w", ap.Addr(), errPrivate)
		}
		return nil
	}
}

// Networks that are not public, beside those that netip knows: shared address
// space, benchmarks, protocol assignments, NAT64 of local use, and what is reserved.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("::/96"),
}

func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
