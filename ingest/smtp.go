package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/dmarcd/dmarcd/dmarc"
)

// SMTPOptions says how mail is received.
type SMTPOptions struct {
	LMTP        bool        // speak LMTP (RFC 2033) instead of SMTP (RFC 5321)
	Hostname    string      // to greet with
	TLSConfig   *tls.Config // for STARTTLS; nil for none
	Recipients  []string    // addresses, or "@" and a domain for all of it
	Limit       int64       // bytes of a message
	Connections int         // at the same time; a fifth of them for one address, this machine apart
	Timeout     time.Duration
	// Allow tells whether an address may connect now; nil lets all.
	Allow func(netip.Addr) bool
	Log   *slog.Logger
}

// SMTP receives mail. It answers 250 only after the fate of the message is
// committed; whatever goes wrong before gives a 4xx, so that the sender keeps the
// message and tries again.
type SMTP struct {
	in     *Ingester
	opts   SMTPOptions
	server *smtp.Server

	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	listener net.Listener
	stopping bool
	sessions map[*smtpSession]bool // whether a message is on its way
}

// maxRecipients of a message. Reports have one.
const maxRecipients = 100

// NewSMTP returns a receiver that hands messages to an ingester.
func NewSMTP(in *Ingester, opts SMTPOptions) *SMTP {
	opts.Limit = min(opts.Limit, in.Limits.Message)
	s := &SMTP{in: in, opts: opts, sessions: make(map[*smtpSession]bool)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.server = smtp.NewServer(smtp.BackendFunc(s.session))
	s.server.LMTP = opts.LMTP
	s.server.Domain = opts.Hostname
	s.server.TLSConfig = opts.TLSConfig
	s.server.MaxRecipients = maxRecipients
	s.server.MaxMessageBytes = opts.Limit
	s.server.ReadTimeout, s.server.WriteTimeout = opts.Timeout, opts.Timeout
	s.server.EnableSMTPUTF8 = true
	s.server.ErrorLog = slog.NewLogLogger(opts.Log.Handler(), slog.LevelDebug)
	return s
}

// Serve receives mail from a listener until Shutdown.
func (s *SMTP) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		return nil
	}
	err := s.server.Serve(&limitedListener{
		Listener: l, allow: s.opts.Allow, all: s.opts.Connections, each: max(1, s.opts.Connections/5), open: map[netip.Prefix]int{},
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil
	}
	return err
}

// Shutdown takes no more connections and ends the idle ones. Messages that are
// on their way may come until ctx ends; the rest are cut, and their senders
// try again.
func (s *SMTP) Shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	s.mu.Lock()
	s.stopping = true
	if s.listener != nil {
		s.listener.Close() // the library may not have seen it yet
	}
	for ss, busy := range s.sessions {
		if !busy {
			ss.conn.Close()
		}
	}
	s.mu.Unlock()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, net.ErrClosed) {
		err = nil // the listener, which was closed above
	}
	s.cancel()
	if err != nil {
		s.cut()
	}
	return err
}

// cut ends the connections that are left; the library's Close does nothing
// after its Shutdown.
func (s *SMTP) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ss := range s.sessions {
		ss.conn.Close()
	}
}

// A limitedListener refuses connections over a number, and those that are not
// allowed, before anything is kept of them.
type limitedListener struct {
	net.Listener
	allow func(netip.Addr) bool

	mu        sync.Mutex
	all, each int // how many more there may be; how many of one address
	open      map[netip.Prefix]int
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr, remote := remoteAddr(conn)
		if remote && l.allow != nil && !l.allow(addr) {
			refuse(conn, "421 4.7.0 too many connections from your address, try again later\r\n")
			continue
		}
		release, ok := l.admit(addr, remote && !addr.IsLoopback())
		if !ok {
			refuse(conn, "421 4.3.2 too many connections, try again later\r\n")
			continue
		}
		return &countedConn{Conn: conn, release: sync.OnceFunc(release)}, nil
	}
}

// admit counts a connection, if there is room for it.
func (l *limitedListener) admit(addr netip.Addr, counted bool) (release func(), ok bool) {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64 // whoever has one address there has them all
	}
	from, _ := addr.WithZone("").Prefix(bits)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == 0 || counted && l.open[from] == l.each {
		return nil, false
	}
	l.all--
	l.open[from]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all++
		if l.open[from]--; l.open[from] == 0 {
			delete(l.open, from)
		}
	}, true
}

func remoteAddr(conn net.Conn) (netip.Addr, bool) {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false // a socket of this machine
	}
	return tcp.AddrPort().Addr().Unmap(), true
}

// refuse says why and hangs up. A few bytes fit into the buffer of any socket.
func refuse(conn net.Conn, line string) {
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	io.WriteString(conn, line)
	conn.Close()
}

// A countedConn frees its slot when it is closed, and knows whether more was
// expected of the client than came.
type countedConn struct {
	net.Conn
	release func()
	broken  atomic.Bool
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.broken.Store(true)
	}
	return n, err
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

func (s *SMTP) session(c *smtp.Conn) (smtp.Session, error) {
	conn := c.Conn()
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	ss := &smtpSession{s: s, conn: conn.(*countedConn), from: conn.RemoteAddr().String()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "this server is stopping, try again later"}
	}
	s.sessions[ss] = false
	return ss, nil
}

// A smtpSession is one connection.
type smtpSession struct {
	s    *SMTP
	conn *countedConn
	from string // the address of the client
}

func (ss *smtpSession) busy(v bool) {
	ss.s.mu.Lock()
	defer ss.s.mu.Unlock()
	ss.s.sessions[ss] = v
}

// Reset has nothing to forget.
func (*smtpSession) Reset() {}

// Logout ends the session.
func (ss *smtpSession) Logout() error {
	ss.s.mu.Lock()
	defer ss.s.mu.Unlock()
	delete(ss.s.sessions, ss)
	return nil
}

// Mail takes any sender.
func (*smtpSession) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt takes the configured recipients.
func (ss *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !receives(ss.s.opts.Recipients, to) {
		ss.s.opts.Log.Debug("a recipient was refused", "client", ss.from, "recipient", to)
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no mail is taken for this address here"}
	}
	return nil
}

// receives tells whether an address is among the recipients, in any case.
func receives(recipients []string, to string) bool {
	at := strings.LastIndexByte(to, '@')
	if at < 0 {
		return false
	}
	for _, r := range recipients {
		if strings.EqualFold(r, to) || strings.EqualFold(r, to[at:]) {
			return true
		}
	}
	return false
}

// Data takes in a message and returns once it has a fate.
func (ss *smtpSession) Data(r io.Reader) error {
	ss.busy(true)
	defer ss.busy(false)
	body := &countedReader{r: wholeReader{r, ss.conn}}
	fate, err := ss.s.in.Take(ss.s.ctx, dmarc.MailboxSMTP, "", body)
	var refused *dmarc.Error
	var said *smtp.SMTPError
	switch {
	case err == nil:
		ss.s.opts.Log.Debug("a message was received", "client", ss.from, "outcome", fate.Outcome, "known", fate.Known)
		return nil
	case errors.As(err, &said): // by the library, about the size
		return said
	case errors.As(err, &refused):
		return &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: fmt.Sprintf("a message may have %d bytes here", ss.s.opts.Limit)}
	case body.err != nil && body.err != io.EOF:
		ss.s.opts.Log.Debug("a message broke off", "client", ss.from, "error", err)
	default:
		ss.s.opts.Log.Error("a message could not be taken in; its sender is told to try again", "client", ss.from, "error", err)
	}
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "it cannot be stored now, try again later"}
}

// A wholeReader is a message. The library takes a chunk (BDAT, RFC 3030) that
// breaks off with the connection for a whole one.
type wholeReader struct {
	io.Reader
	conn *countedConn
}

func (w wholeReader) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err == io.EOF && w.conn.broken.Load() {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
