package main

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A mailbox is a configured IMAP mailbox.
type mailbox struct {
	// Name identifies the mailbox for good: what was read is kept by it. If
	// none is given it is user@host/folder.
	Name string

	Security string // tls, starttls or plain
	Host     string
	Port     string
	User     string
	Folder   string
	Password secret

	AllowPlain   bool
	CAFile       string // certificates to trust instead of the system's; may be ""
	Auth         string // auto, plain, login, xoauth2 or oauthbearer
	OAuth        oauth
	After        string // what happens to a message once it is stored: "", seen, move or delete
	MoveTo       string // folder, for After = move
	MoveOthersTo string // folder for messages that hold no report; "" leaves them
	Poll         time.Duration
	Idle         bool          // use IDLE where the server has it
	Timeout      time.Duration // for which the server may be silent while an answer is due
	Limit        int64         // bytes of a message; 0: that of all mailboxes

	url          string
	passwordFile string
	listed
}

// Address returns host and port.
func (m *mailbox) Address() string { return net.JoinHostPort(m.Host, m.Port) }

func newMailbox() *mailbox {
	m := &mailbox{Auth: "auto", Poll: 5 * time.Minute, Idle: true, Timeout: 5 * time.Minute}
	m.settings = m.table()
	return m
}

// table returns the settings of a mailbox, bound to it.
func (m *mailbox) table() []*setting {
	table := []*setting{
		{key: "name", doc: "name of the mailbox in lists and logs, for good; default: user@host/folder", example: `"reports"`, value: textValue(&m.Name, mailboxName)},
		{key: "url", doc: "where it is: imaps://USER@HOST/FOLDER, imap+starttls://…, or imap://… for plain text; special characters percent-encoded", example: `"imaps://dmarc@mail.example.com/INBOX"`,
			secret: true, required: true, value: value{types: "s", set: m.readURL, toml: func() string { return quote(m.url) }}},
		{key: "password", doc: "password of the user", example: `"secret"`, secret: true, value: secretValue(&m.Password, nil)},
		{key: "password_file", doc: "file that holds the password", example: `"/etc/dmarcd/imap_password"`, value: textValue(&m.passwordFile, nil)},
		{key: "allow_plain", doc: "allow imap:// to other machines: password and mail can be read on the way", value: boolValue(&m.AllowPlain)},
		{key: "ca_file", doc: "certificates (PEM) to trust instead of the system's", example: `"/etc/dmarcd/ca.pem"`, value: textValue(&m.CAFile, nil)},
		{key: "auth", doc: "how to log in: auto; with a password plain (SASL PLAIN) or login; with oauth xoauth2 or oauthbearer", value: choiceValue(&m.Auth, "auto", "plain", "login", "xoauth2", "oauthbearer")},
		{key: "after", doc: `what to do with a message once it is stored: "" (nothing), seen, move or delete`, value: choiceValue(&m.After, "", "seen", "move", "delete")},
		{key: "move_to", doc: `folder for after = "move"`, example: `"Archive"`, value: textValue(&m.MoveTo, nil)},
		{key: "move_others_to", doc: "folder to move messages to that hold no report; empty: they stay where they are", example: `"Others"`, value: textValue(&m.MoveOthersTo, nil)},
		{key: "poll", doc: "how often to look for new messages", value: durationValue(&m.Poll, time.Second)},
		{key: "idle", doc: "let the server tell when something arrives (IDLE), where it can", value: boolValue(&m.Idle)},
		{key: "timeout", doc: "how long the server may send nothing while an answer is due, before the connection is made anew", value: durationValue(&m.Timeout, time.Second)},
		{key: "limit", doc: "size of a raw message, if it is to be less than limits.message", example: `"10MiB"`, value: optionalSizeValue(&m.Limit)},
	}
	table = append(table, m.OAuth.table()...)
	for _, s := range table {
		s.full, s.env = "mailbox."+s.key, "DMARCD_IMAP_"+strings.ToUpper(s.key)
	}
	return table
}

func mailboxName(text string) error {
	switch {
	case slices.Contains([]string{dmarc.MailboxImport, dmarc.MailboxUpload, dmarc.MailboxSMTP, dmarc.MailboxTLSRPT, dmarc.MailboxDirectory}, text):
		return errors.New("is the name of what comes another way; choose another")
	case len(text) > 255:
		return errors.New("is longer than 255 bytes")
	case strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("holds control characters")
	}
	return nil
}

// readURL reads the address of a mailbox. Its errors do not repeat it: a
// password may stand in it by mistake.
func (m *mailbox) readURL(text string) error {
	const want = `write it as "imaps://user@host/INBOX"`
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Host == "" {
		return errors.New("is no address of a mailbox; " + want + ", with special characters percent-encoded")
	}
	switch u.Scheme {
	case "imaps":
		m.Security, m.Port = "tls", "993"
	case "imap+starttls":
		m.Security, m.Port = "starttls", "143"
	case "imap":
		m.Security, m.Port = "plain", "143"
	default:
		return errors.New("must begin with imaps://, imap+starttls:// or imap://")
	}
	if _, given := u.User.Password(); given {
		return errors.New("must not hold the password; give it as password_file, password or DMARCD_IMAP_PASSWORD_FILE")
	}
	m.User = u.User.Username()
	if m.User == "" {
		return errors.New("lacks the user; " + want)
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return errors.New("ends in ? or #; write those as %3F or %23 if they belong to the folder")
	}
	m.Host = u.Hostname()
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("has a port that is not from 1 to 65535")
		}
		m.Port = port
	}
	m.Folder = strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	if m.Folder == "" {
		m.Folder = "INBOX"
	}
	if m.Host == "" || strings.ContainsFunc(m.Host+m.User+m.Folder, unicode.IsControl) {
		return errors.New("lacks the host, or holds control characters; " + want)
	}
	m.url = text
	return nil
}
