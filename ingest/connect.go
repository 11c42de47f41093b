package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
)

// How long a server may be silent, by default.
const (
	stall     = 5 * time.Minute // without a byte, while an answer is due
	idleLimit = 35 * time.Minute
)

func (m *IMAP) timeout() time.Duration {
	if m.opts.Timeout > 0 {
		return m.opts.Timeout
	}
	return stall
}

// connect logs in and opens the folder, unless that is done already.
func (m *IMAP) connect(ctx context.Context) error {
	if m.client != nil {
		return nil
	}
	if m.opts.Tokens == nil {
		return m.dial(ctx, accessToken{})
	}
	m.step = StepToken
	token, err := m.opts.Tokens.other(ctx, "")
	if err != nil {
		return err
	}
	err = m.dial(ctx, token)
	var refused *refusedToken
	if errors.As(err, &refused) {
		// It may have been revoked. Another one is tried, once.
		if token, err = m.opts.Tokens.other(ctx, token.text); err != nil {
			return err
		}
		err = m.dial(ctx, token)
	}
	return err
}

// dial connects, logs in and opens the folder.
func (m *IMAP) dial(ctx context.Context, token accessToken) error {
	m.step = StepConnect
	host, _, err := net.SplitHostPort(m.opts.Address)
	if err != nil {
		return fmt.Errorf("address %q: %w", m.opts.Address, err)
	}
	config := &tls.Config{}
	if m.opts.TLSConfig != nil {
		config = m.opts.TLSConfig.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	dialer := net.Dialer{Timeout: 30 * time.Second}
	raw, err := dialer.DialContext(ctx, "tcp", m.opts.Address)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", m.opts.Address, err)
	}
	if m.opts.Security == SecurityPlain && !m.opts.AllowPlain && !isLoopback(raw.RemoteAddr()) {
		raw.Close()
		return fmt.Errorf("%s is another machine: the password would cross the network in plain text; use imaps:// or imap+starttls://, or set allow_plain", m.opts.Address)
	}
	// Whoever cancels does not wait for the server.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	m.step = StepGreeting
	var conn net.Conn = raw
	if m.opts.Security == SecurityTLS {
		secure := tls.Client(raw, config)
		shaking, cancel := context.WithTimeout(ctx, dialer.Timeout)
		defer cancel()
		if err := secure.HandshakeContext(shaking); err != nil {
			raw.Close()
			return fmt.Errorf("TLS with %s: %w", m.opts.Address, err)
		}
		conn = secure
	}
	patient := &patientConn{Conn: conn, stall: m.timeout()}
	options := &imapclient.Options{
		TLSConfig: config,
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			Mailbox: func(data *imapclient.UnilateralDataMailbox) {
				if data.NumMessages != nil {
					select {
					case m.news <- struct{}{}:
					default:
					}
				}
			},
		},
	}
	var client *imapclient.Client
	if m.opts.Security == SecuritySTARTTLS {
		if client, err = imapclient.NewStartTLS(patient, options); err != nil {
			return fmt.Errorf("STARTTLS with %s: %w", m.opts.Address, err)
		}
	} else {
		client = imapclient.New(patient, options)
	}
	if err := m.open(client, token); err != nil {
		client.Close()
		return patient.explain(err)
	}
	m.client, m.conn, m.token = client, patient, token
	return nil
}

// open logs in and opens the folder.
func (m *IMAP) open(client *imapclient.Client, token accessToken) error {
	if err := client.WaitGreeting(); err != nil {
		return fmt.Errorf("greeting of %s: %w", m.opts.Address, err)
	}
	m.step = StepLogin
	if client.State() == imap.ConnStateNotAuthenticated {
		if err := m.login(client, token); err != nil {
			return fmt.Errorf("logging in to %s as %s: %w", m.opts.Address, m.opts.User, err)
		}
	}
	m.step = StepFolder
	data, err := client.Select(m.opts.Folder, &imap.SelectOptions{ReadOnly: m.opts.After == AfterNothing}).Wait()
	if err != nil {
		return fmt.Errorf("opening folder %q on %s: %w", m.opts.Folder, m.opts.Address, err)
	}
	m.permanent = data.PermanentFlags
	if m.validity != data.UIDValidity {
		m.forget(data.UIDValidity)
	}
	return nil
}

func (m *IMAP) login(client *imapclient.Client, token accessToken) error {
	if token.text != "" {
		return m.bearer(client, token.text)
	}
	caps := client.Caps()
	plain := caps.Has(imap.AuthCap(sasl.Plain))
	switch {
	case m.opts.Auth == "plain", m.opts.Auth != "login" && plain:
		return client.Authenticate(sasl.NewPlainClient("", m.opts.User, m.opts.Password))
	case caps.Has(imap.CapLoginDisabled):
		return errors.New("the server takes no password on this connection (LOGINDISABLED); use imaps:// or imap+starttls://")
	}
	return client.Login(m.opts.User, m.opts.Password).Wait()
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// A patientConn gives up on a server that sends nothing for too long while an
// answer is due; the client library waits for ever between answers.
type patientConn struct {
	net.Conn
	stall   time.Duration
	waiting atomic.Bool
	silent  atomic.Bool // it was given up
}

func (c *patientConn) limit() time.Time {
	if c.waiting.Load() {
		return time.Now().Add(max(idleLimit, c.stall))
	}
	return time.Now().Add(c.stall)
}

// wait tells whether silence is what is expected.
func (c *patientConn) wait(v bool) {
	c.waiting.Store(v)
	c.Conn.SetReadDeadline(c.limit())
}

func (c *patientConn) Read(p []byte) (int, error) {
	c.Conn.SetReadDeadline(c.limit())
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.silent.Store(true)
	}
	return n, err
}

// explain says why the connection ended, if it is for silence: the library does
// not.
func (c *patientConn) explain(err error) error {
	if err == nil || !c.silent.Load() {
		return err
	}
	return fmt.Errorf("the server has sent nothing for %v: %w", c.stall, err)
}

// SetReadDeadline ignores what the library wants: it is too short for some
// servers, and there is none between answers.
func (c *patientConn) SetReadDeadline(time.Time) error { return nil }
