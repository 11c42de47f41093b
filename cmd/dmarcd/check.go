package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// check reads the secrets, and looks at what values say about each other and
// about this machine.
func (l *loader) check() {
	c := l.cfg
	for _, p := range l.secretPairs() {
		l.readSecret(p)
	}
	if findSetting(c.settings, "database_url_file").origin.level != fromDefault {
		if err := databaseURL(c.DatabaseURL.reveal()); err != nil {
			l.wrong(findSetting(c.settings, "database_url_file"), "what is in "+shown(c.databaseURLFile)+" "+err.Error())
		}
	}
	if findSetting(c.settings, "database_read_url_file").origin.level != fromDefault {
		if err := databaseURL(c.ReadURL.reveal()); err != nil {
			l.wrong(findSetting(c.settings, "database_read_url_file"), "what is in "+shown(c.readURLFile)+" "+err.Error())
		}
	}
	l.checkListen()
	l.checkSMTP()
	l.checkTLSRPT()
	l.checkDirectory()
	l.checkTargets()
	l.checkArranged()
	l.checkStreams()
	l.checkDigest()
	if c.DatabaseURL.empty() && c.databaseURLFile == "" && !findSetting(c.settings, "database_url").refused {
		l.checkDataDir()
	}
	names := map[string]bool{}
	for _, m := range c.Mailboxes {
		l.checkMailbox(m)
		if m.Name != "" && names[m.Name] {
			l.wrong(m.at("name"), "another mailbox has the name "+shown(m.Name)+" already; give each its own")
		}
		names[m.Name] = true
	}
}

// readSecret reads a secret from its file.
func (l *loader) readSecret(p secretPair) {
	if *p.path == "" {
		return
	}
	if !p.secret.empty() {
		l.wrong(p.file, fmt.Sprintf("%s is given as well; remove one of them", p.text.key))
		return
	}
	var err error
	if *p.secret, err = readSecret(*p.path); err != nil {
		l.wrong(p.file, fmt.Sprintf("cannot read the secret: %v; %s", err, fileFix(err)))
	}
}

func fileFix(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "name a file that is there"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that dmarcd runs as read it"
	}
	return "name a file that holds nothing else"
}

func (l *loader) checkListen() {
	l.checkAccess()
	c := l.cfg
	host, _, err := net.SplitHostPort(c.Listen)
	if err == nil && l.env.listens && !loopback(host) && !c.Insecure && !c.authenticates() {
		l.wrong(findSetting(c.settings, "listen"), shown(c.Listen)+" can be reached by others, and nobody is asked who they are: whoever reaches it may read everything; "+
			"make a token with \"dmarcd token create\" and set access.tokens = true (DMARCD_ACCESS_TOKENS=true), or listen on 127.0.0.1, or say --insecure (insecure = true, DMARCD_INSECURE=true)")
	}
}

// checkDataDir makes sure that the data directory can be written, or made.
func (l *loader) checkDataDir() {
	c := l.cfg
	s := findSetting(c.settings, "data_dir")
	if c.DataDir == "" {
		l.wrong(s, "there is no default, as neither XDG_STATE_HOME nor HOME is set; name a directory")
		return
	}
	for dir := c.DataDir; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			continue
		case err == nil && !info.IsDir():
			err = fmt.Errorf("%s is no directory", dir)
		case err == nil:
			err = writable(dir)
		}
		if err != nil {
			l.wrong(s, fmt.Sprintf("cannot write to %s: %v; name another directory, or let the user that dmarcd runs as write there", shown(c.DataDir), err))
		}
		return
	}
}

// writable tries it, as nothing else knows of read-only file systems, quotas
// and whatever else there may be.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".dmarcd-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// at returns a setting of the mailbox to blame: if it was not given, it stands
// where the mailbox begins.
func (m *mailbox) at(key string) *setting {
	s := *m.setting(key)
	if s.origin.level == fromDefault {
		s.origin.line = m.line
		if m.line == 0 {
			s.origin.level = fromEnvironment
		}
	}
	return &s
}

func (l *loader) checkMailbox(m *mailbox) {
	if m.url == "" {
		if !m.setting("url").refused {
			l.wrong(m.at("url"), `is missing; write it as "imaps://user@host/INBOX"`)
		}
		return
	}
	if m.Security == "plain" && !m.AllowPlain && !loopback(m.Host) {
		l.wrong(m.at("url"), "imap:// sends the password in plain text over the network; write imaps:// or imap+starttls://, or set allow_plain = true")
	}
	l.checkOAuth(m)
	if m.OAuth.Kind == "" && m.Password.empty() && m.passwordFile == "" && !m.setting("password").refused && !m.setting("oauth").refused {
		l.wrong(m.at("password"), "is missing; give password_file, password or DMARCD_IMAP_PASSWORD_FILE, or set oauth")
	}
	if m.CAFile != "" {
		if m.Security == "plain" {
			l.wrong(m.at("ca_file"), "has no use with imap://, which has no certificates; remove it, or write imaps:// or imap+starttls://")
		} else if err := certificates(m.CAFile); err != nil {
			l.wrong(m.at("ca_file"), fmt.Sprintf("cannot read certificates: %v; name a file in PEM format that is readable", err))
		}
	}
	switch {
	case m.After == "move" && m.MoveTo == "":
		l.wrong(m.at("move_to"), `is missing; after = "move" needs a folder to move to`)
	case m.After != "move" && m.MoveTo != "":
		l.wrong(m.at("move_to"), `has no use without after = "move"; set that, or remove move_to`)
	case m.MoveTo != "" && sameFolder(m.MoveTo, m.Folder):
		l.wrong(m.at("move_to"), "is the folder that is polled; name another")
	}
	if m.MoveOthersTo != "" && sameFolder(m.MoveOthersTo, m.Folder) {
		l.wrong(m.at("move_others_to"), "is the folder that is polled; name another")
	}
}

// sameFolder compares folders; INBOX is the same in any case (RFC 9051,
// section 5.1).
func sameFolder(a, b string) bool {
	return a == b || isInbox(a) && isInbox(b)
}

func isInbox(folder string) bool {
	return strings.EqualFold(folder, "INBOX")
}

func certificates(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds none", path)
	}
	return nil
}

// useResolver makes the configured resolver answer for every name that
// dmarcd looks up.
func (c *config) useResolver() {
	if c.Resolver == "" {
		return
	}
	net.DefaultResolver = resolverAt(c.Resolver)
}

// resolverAt returns a resolver that asks one server, as host:port.
func resolverAt(address string) *net.Resolver {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}}
}
