package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/emersion/go-imap/v2"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/store"
)

// mailbox goes all the way to the messages of a mailbox.
func (d *doctor) mailbox(ctx context.Context, m *mailbox, x *findings) {
	if _, err := netip.ParseAddr(m.Host); err != nil {
		if addresses, err := net.DefaultResolver.LookupHost(ctx, m.Host); err != nil {
			message, fix := networkTrouble(err, m.Host)
			x.wrong(fix, "%s", message)
			return
		} else {
			x.ok("%s is %s", m.Host, strings.Join(addresses, ", "))
		}
	}
	box, err := m.open(d.cfg, quietLog())
	if err != nil {
		x.wrong("look at the settings of the mailbox", "%v", err)
		return
	}
	defer box.Close()
	after, known := d.place(ctx, m.Name)
	t, err := box.Try(ctx, after)
	reached := func(step ingest.Step) bool { return stepIndex(t.Reached) > stepIndex(step) }
	if m.OAuth.Kind != "" && reached(ingest.StepToken) {
		x.ok("an access token was issued (oauth = %q)", m.OAuth.Kind)
	}
	if reached(ingest.StepGreeting) {
		x.ok("%s answers, %s", m.Address(), securityWords[m.Security])
	}
	if reached(ingest.StepLogin) {
		x.ok("logged in as %s", m.User)
	}
	if err != nil {
		message, fix := m.trouble(ctx, t.Reached, err)
		x.wrong(fix, "%s", message)
		return
	}
	behind := ""
	if known {
		behind = " behind what was read"
	}
	x.ok("folder %q opens, %s waiting%s", m.Folder, counted(int64(t.Waiting), "message", "messages"), behind)
	switch {
	case t.Lacking != "":
		x.wrong(`give the user the right to mark, move and delete messages in the folder, or set after = "" to leave them`, "messages cannot be treated as after = %q says: %s", m.After, t.Lacking)
	case m.After != "":
		x.ok("messages may be treated as after = %q says", m.After)
	}
	for _, folder := range t.Missing {
		x.note("make it now if you want to be sure of its name", "folder %q does not exist yet; it is made when the first message is moved", folder)
	}
}

var securityWords = map[string]string{
	ingest.SecurityTLS: "over TLS, with a certificate that is trusted", ingest.SecuritySTARTTLS: "over STARTTLS, with a certificate that is trusted", ingest.SecurityPlain: "in plain text",
}

func stepIndex(s ingest.Step) int {
	for i, step := range []ingest.Step{ingest.StepToken, ingest.StepConnect, ingest.StepGreeting, ingest.StepLogin, ingest.StepFolder, ingest.StepRights, ingest.StepDone} {
		if s == step {
			return i
		}
	}
	return -1
}

// place returns how far a mailbox has been read, and whether that is known.
func (d *doctor) place(ctx context.Context, name string) (dmarc.Place, bool) {
	select {
	case <-d.opened:
	case <-ctx.Done():
		return dmarc.Place{}, false
	}
	if d.db == nil || !d.usable {
		return dmarc.Place{}, false
	}
	place, err := store.New(d.db.db, quietLog()).Place(ctx, name)
	return place, err == nil && place != dmarc.Place{}
}

// trouble says why a step failed, and what to do.
func (m *mailbox) trouble(ctx context.Context, step ingest.Step, err error) (message, fix string) {
	message = err.Error()
	var refused *imap.Error
	said := errors.As(err, &refused)
	switch step {
	case ingest.StepToken:
		return message, map[string]string{
			"microsoft":     "look at tenant, client id and secret in Entra (a secret ends after some time), and that the application has IMAP.AccessAsApp with admin consent",
			"google":        "look at the key of the service account, at domain-wide delegation for https://mail.google.com/, and at the user it opens (oauth_subject)",
			"refresh_token": "let the user agree again, and put the new refresh token into oauth_refresh_token_file",
		}[m.OAuth.Kind]
	case ingest.StepLogin:
		switch {
		case strings.Contains(message, "LOGINDISABLED"):
			return message, "write imaps:// or imap+starttls:// in url"
		case m.OAuth.Kind == "microsoft":
			return message, "let the application into the mailbox, in Exchange Online PowerShell: New-ServicePrincipal, then Add-MailboxPermission with FullAccess"
		case m.OAuth.Kind != "":
			return message, "look whether the account may use IMAP, and whether the token is for this user"
		case said:
			return message, "look at the user in url and at password_file (DMARCD_IMAP_PASSWORD_FILE); Google and Microsoft take no passwords of users here: see oauth"
		}
	case ingest.StepFolder:
		if said {
			return message, fmt.Sprintf("look at the folder in url, which is %q: names are told apart by case, and levels by the separator of the server", m.Folder)
		}
	case ingest.StepRights:
		if said {
			return message, "look at the rights of the user in the folder"
		}
	}
	short, fix := networkTrouble(err, m.Address())
	if fix == "" && step == ingest.StepConnect && strings.Contains(message, "plain text") {
		return message, "write imaps:// or imap+starttls:// in url"
	}
	if fix == "" && ctx.Err() != nil {
		return message, "look whether a firewall is between this machine and the server, and whether port and kind of encryption in url belong together"
	}
	if fix == "" {
		fix = "look whether port and kind of encryption in url belong together: imaps:// is usually at 993, imap+starttls:// at 143"
	}
	return short, fix
}

// networkTrouble says in words why something could not be reached, and what to
// do; the fix is "" for what it does not know.
func networkTrouble(err error, what string) (message, fix string) {
	var name *net.DNSError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Sprintf("the name %s does not exist in DNS", name.Name), "look for a typing mistake, or name a resolver that knows it with resolver (DMARCD_RESOLVER)"
	case errors.As(err, &name):
		return fmt.Sprintf("the name %s could not be looked up: %s", name.Name, name.Err), "look whether the resolver works: it is the system's, or that of resolver (DMARCD_RESOLVER)"
	case errors.As(err, &host):
		return fmt.Sprintf("the certificate of %s is for other names: %v", what, host), "write the name that is in the certificate, or let the server have one for its name"
	case errors.As(err, &authority):
		return fmt.Sprintf("nobody who is trusted vouches for the certificate of %s: %v", what, authority), "let the server send its whole chain; if the authority is your own, name its certificate in ca_file"
	case errors.As(err, &invalid):
		return fmt.Sprintf("the certificate of %s is not valid: %v", what, invalid), "renew the certificate of the server, and look at the clock of this machine"
	case errors.As(err, &noTLS):
		return what + " does not speak TLS there", "write imap+starttls:// if it begins in plain text (usually port 143), or the port for TLS (usually 993)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s: nobody listens there (connection refused)", what), "look at host and port, and whether the server runs"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("there is no way to %s: %v", what, err), "look at the network of this machine, and at firewalls"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("%s did not answer in time", what), "look whether a firewall is in between, and whether host and port are right"
	}
	return err.Error(), ""
}
