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
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/outward"
)

// A Webhook sends messages as JSON by POST, signed with a secret. It follows no
// redirect, and connects to nothing beyond its reach.
type Webhook struct {
	URL    string
	Secret string // "" for no signature
	Reach  outward.Reach
	Now    func() time.Time // nil: time.Now
}

// Headers of a webhook.
const (
	headerTime      = "Dmarcd-Timestamp"
	headerSignature = "Dmarcd-Signature"
	headerKey       = "Idempotency-Key"
)

// signature returns the signature of a body that is sent at a time, in seconds
// since 1970: HMAC-SHA256 over the time, a full stop and the body.
func signature(secret, timestamp string, body []byte) string {
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
		r.Header.Set(headerSignature, signature(w.Secret, timestamp, m.Body))
	}
	transport := w.Reach.Transport()
	transport.DisableKeepAlives = true
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(r)
	if err != nil {
		return notPublic(withoutURL(err))
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

// notPublic says how to allow what outward refused.
func notPublic(err error) error {
	if errors.Is(err, outward.ErrNotPublic) {
		return fmt.Errorf("%w; allow it with private = true", err)
	}
	return err
}
