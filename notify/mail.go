package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A MailServer is where mail is handed in.
type MailServer struct {
	Address  string // host:port
	Security string // tls, starttls or plain
	User     string // "" for no login
	Password string
	From     string // address
	TLS      *tls.Config
}

// A Mail sends messages by mail.
type Mail struct {
	Server *MailServer
	To     []string
}

// Send hands a mail in. Its Message-ID is made of the key of the message, so
// that a mail that is sent again can be known for the same.
func (m *Mail) Send(ctx context.Context, out *dmarc.OutgoingMessage) error {
	text := out.Body
	if out.Kind != KindDigest {
		var content Message
		if err := json.Unmarshal(out.Body, &content); err != nil {
			return fmt.Errorf("reading the message: %w", err)
		}
		text = m.compose(out, &content)
	}
	return m.Server.send(ctx, m.To, text)
}

// compose writes a mail of plain text.
func (m *Mail) compose(out *dmarc.OutgoingMessage, content *Message) []byte {
	var b bytes.Buffer
	m.Server.header(&b, out.Key, out.At, m.To, content.Title, "notifications")
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	writeText(&b, content.Text)
	return b.Bytes()
}

// header writes the header fields that all mails have in common.
func (s *MailServer) header(b *bytes.Buffer, key string, at time.Time, to []string, subject, list string) {
	_, domain, _ := strings.Cut(s.From, "@")
	field := func(name, value string) { fmt.Fprintf(b, "%s: %s\r\n", name, value) }
	field("From", "dmarcd <"+s.From+">")
	field("To", strings.Join(to, ",\r\n "))
	field("Subject", encoded(subject))
	field("Date", at.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	field("Message-ID", "<"+key+"@"+domain+">")
	field("List-Id", "<"+list+".dmarcd."+domain+">")
	field("Auto-Submitted", "auto-generated")
	field("X-Auto-Response-Suppress", "All")
}

// encoded writes a subject in lines that are not too long, whatever is in it.
func encoded(subject string) string {
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", shorten(line(subject), 150)), "?= =?", "?=\r\n =?")
}

func writeText(b *bytes.Buffer, text string) {
	w := quotedprintable.NewWriter(b)
	w.Write([]byte(strings.ReplaceAll(strings.TrimRight(text, "\n")+"\n", "\n", "\r\n")))
	w.Close()
}

// send speaks SMTP. The addresses are those of the configuration.
func (s *MailServer) send(ctx context.Context, to []string, text []byte) error {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	config := &tls.Config{}
	if s.TLS != nil {
		config = s.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	dialer := net.Dialer{Timeout: 15 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return fmt.Errorf("connecting to the mail server: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var c *smtp.Client
	switch s.Security {
	case "tls":
		c = smtp.NewClient(tls.Client(conn, config))
	case "starttls":
		if c, err = smtp.NewClientStartTLS(conn, config); err != nil {
			return fmt.Errorf("STARTTLS with the mail server: %w", err)
		}
	default:
		c = smtp.NewClient(conn)
	}
	defer c.Close()
	if s.User != "" {
		if err := c.Auth(sasl.NewPlainClient("", s.User, s.Password)); err != nil {
			return fmt.Errorf("logging in to the mail server: %w", err)
		}
	}
	// Once the server has taken the text, the mail is sent: whatever it says to
	// QUIT.
	if err := c.SendMail(s.From, to, bytes.NewReader(text)); err != nil {
		return fmt.Errorf("handing the mail in: %w", err)
	}
	c.Quit()
	return nil
}

// NewMail returns a sender for addresses; without a server it says how to give
// one.
func NewMail(s *MailServer, to []string) (*Mail, error) {
	if s == nil || s.Address == "" {
		return nil, errors.New("needs a mail server; set mail.server and mail.from")
	}
	return &Mail{s, to}, nil
}
