package records

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/smtp"
	"time"

	"github.com/dmarcd/dmarcd/outward"
)

// A Probe connects to servers to see their certificates.
type Probe interface {
	// Certificates returns the chain that the server at an address shows to
	// one that looks for host: after STARTTLS on port 25, else at once.
	Certificates(ctx context.Context, host string, server netip.AddrPort) ([]*x509.Certificate, error)
}

// The bounds on a connection.
const (
	probeTimeout = 15 * time.Second
	maxProbeRead = 1 << 20
)

// errNoSTARTTLS is that of a mail host that speaks without TLS only.
var errNoSTARTTLS = errors.New("the server does not offer STARTTLS")

// A Prober is a Probe that connects within its reach only. It sends no mail:
// it greets, starts TLS and leaves.
type Prober struct {
	helo  string
	reach outward.Reach
	dial  func(ctx context.Context, server netip.AddrPort) (net.Conn, error)
}

// NewProber returns a prober that calls itself helo in SMTP, and connects within
// a reach.
func NewProber(helo string, reach outward.Reach) *Prober {
	return &Prober{helo: helo, reach: reach, dial: func(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
		dialer := net.Dialer{Timeout: dialTimeout}
		return dialer.DialContext(ctx, "tcp", server.String())
	}}
}

// Certificates is that of Probe.
func (p *Prober) Certificates(ctx context.Context, host string, server netip.AddrPort) ([]*x509.Certificate, error) {
	if err := p.reach.Check(server.Addr()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	dialed, err := p.dial(ctx, server)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { dialed.Close() })
	defer stop()
	defer dialed.Close()
	chain, err := p.look(ctx, host, server.Port(), &boundedConn{Conn: dialed, left: maxProbeRead})
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err() // not that the connection was closed
	}
	return chain, err
}

// look speaks to a server until it shows its certificate.
func (p *Prober) look(ctx context.Context, host string, port uint16, conn net.Conn) ([]*x509.Certificate, error) {
	// Certificates are looked at here, and not trusted: DANE judges those that
	// no authority has signed.
	config := &tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if port != 25 {
		client := tls.Client(conn, config)
		if err := client.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return client.ConnectionState().PeerCertificates, nil
	}
	return p.startTLS(host, conn, config)
}

func (p *Prober) startTLS(host string, conn net.Conn, config *tls.Config) ([]*x509.Certificate, error) {
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if err := client.Hello(p.helo); err != nil {
		return nil, fmt.Errorf("EHLO: %w", err)
	}
	if ok, _ := client.Extension("STARTTLS"); !ok {
		return nil, errNoSTARTTLS
	}
	if err := client.StartTLS(config); err != nil {
		return nil, fmt.Errorf("STARTTLS: %w", err)
	}
	state, ok := client.TLSConnectionState()
	if !ok {
		return nil, errors.New("STARTTLS: no TLS")
	}
	_ = client.Quit() // what was asked for is there
	return state.PeerCertificates, nil
}

// A boundedConn ends after so many octets were read.
type boundedConn struct {
	net.Conn
	left int
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
