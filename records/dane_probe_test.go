package records

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// serveSMTP serves one connection after the other on loopback: the greeting,
// and then what answer returns for a line, until it returns "". After STARTTLS
// was answered with 220, TLS is spoken.
func serveSMTP(t *testing.T, config *tls.Config, greeting string, answer func(line string) string) *Prober {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { conn.Close() }()
				fmt.Fprint(conn, greeting)
				lines := bufio.NewReader(conn)
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					reply := answer(strings.TrimSpace(line))
					if _, err := fmt.Fprint(conn, reply); err != nil || reply == "" {
						return
					}
					if strings.HasPrefix(line, "STARTTLS") && strings.HasPrefix(reply, "220") {
						conn = tls.Server(conn, config)
						lines = bufio.NewReader(conn)
					}
				}
			}()
		}
	}()
	p := NewProber("probe.example", onLoopback)
	p.dial = func(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	}
	return p
}

var port25 = netip.MustParseAddrPort("127.0.0.1:25")

// speaks answers as a mail host that offers STARTTLS.
func speaks(said chan<- string) func(line string) string {
	return func(line string) string {
		said <- line
		switch {
		case strings.HasPrefix(line, "EHLO"):
			return "250-mx1.corp.test\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"
		case line == "STARTTLS":
			return "220 go on\r\n"
		case line == "QUIT":
			return "221 bye\r\n"
		}
		return "500 what\r\n"
	}
}

func TestTheCertificateOfAMailHostIsSeenAfterSTARTTLS(t *testing.T) {
	ca := newAuthority("One")
	cert := ca.issue(time.Hour, "mx1.corp.test")
	said := make(chan string, 10)
	name := make(chan string, 1)
	p := serveSMTP(t, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		name <- hello.ServerName
		return &cert, nil
	}}, "220 mx1.corp.test\r\n", speaks(said))
	chain, err := p.Certificates(t.Context(), "mx1.corp.test", port25)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 || !chain[0].Equal(cert.Leaf) || !chain[1].Equal(ca.cert) {
		t.Errorf("%d certificates", len(chain))
	}
	if got := <-name; got != "mx1.corp.test" {
		t.Errorf("asked for %q", got)
	}
	for _, want := range []string{"EHLO probe.example", "STARTTLS", "EHLO probe.example", "QUIT"} {
		if got := <-said; got != want {
			t.Errorf("said %s, not %s", got, want)
		}
	}
}

func TestServersThatShowNoCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		greeting string
		answer   func(line string) string
		want     string
	}{
		"no STARTTLS":        {"220 hello\r\n", func(string) string { return "250 hello\r\n" }, "the server does not offer STARTTLS"},
		"refuses at once":    {"554 go away\r\n", func(string) string { return "" }, `greeting: 554 "go away"`},
		"an endless line":    {"220-" + strings.Repeat("x", maxProbeRead+10), func(string) string { return "" }, "greeting: "},
		"endless extensions": {"220 hello\r\n", func(string) string { return strings.Repeat("250-X\r\n", maxProbeRead/7+10) }, "EHLO: "},
		"no TLS after 220": {"220 hello\r\n", func(line string) string {
			if strings.HasPrefix(line, "EHLO") {
				return "250-mx1.corp.test\r\n250 STARTTLS\r\n"
			}
			return "220 go on\r\nplain text, no TLS\r\n"
		}, "STARTTLS: "},
	} {
		t.Run(name, func(t *testing.T) {
			p := serveSMTP(t, &tls.Config{}, c.greeting, c.answer)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			chain, err := p.Certificates(ctx, "mx1.corp.test", port25)
			if err == nil || !strings.Contains(err.Error(), c.want) || chain != nil || ctx.Err() != nil {
				t.Errorf("%d certificates, error %v", len(chain), err)
			}
		})
	}
}

func TestAProbeEndsWithItsContext(t *testing.T) {
	p := serveSMTP(t, &tls.Config{}, "", func(string) string { return "" }) // says nothing
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Certificates(ctx, "mx1.corp.test", port25); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestOtherPortsSpeakTLSAtOnce(t *testing.T) {
	ca := newAuthority("One")
	cert := ca.issue(-time.Hour, "mta-sts.corp.test") // whatever it is, it is looked at
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	chain, err := NewProber("probe.example", onLoopback).Certificates(t.Context(), "mta-sts.corp.test", netip.MustParseAddrPort(listener.Addr().String()))
	if err != nil || len(chain) != 2 || !chain[0].Equal(cert.Leaf) {
		t.Errorf("%d certificates, error %v", len(chain), err)
	}
}
