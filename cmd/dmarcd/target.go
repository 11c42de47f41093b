package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/notify"
	"github.com/dmarcd/dmarcd/outward"
)

// A target is somebody who is told of what happens.
type target struct {
	Name    string
	URL     secret
	Secret  secret // that webhooks are signed with
	Private bool   // it may be at an address that is not public
	Rules   []string
	Domains []string

	urlFile    string
	secretFile string
	listed
}

func newTarget() *target {
	t := &target{Rules: []string{}, Domains: []string{}}
	t.settings = []*setting{
		{key: "name", doc: "name of the target in lists and logs, for good", example: `"ops"`, required: true, value: textValue(&t.Name, targetName)},
		{key: "url", doc: "where to send: mailto:ADDRESS, https://… for a webhook, or a URL of shoutrrr such as ntfy://…, slack://…, teams://…, matrix://…", example: `"mailto:ops@example.com"`,
			secret: true, required: true, value: secretValue(&t.URL, nil)},
		{key: "url_file", doc: "file that holds url", example: `"/etc/dmarcd/slack_url"`, value: textValue(&t.urlFile, nil)},
		{key: "secret", doc: "what webhooks are signed with; empty: they are not", example: `"a long random text"`, secret: true, value: secretValue(&t.Secret, nil)},
		{key: "secret_file", doc: "file that holds secret", example: `"/etc/dmarcd/webhook_secret"`, value: textValue(&t.secretFile, nil)},
		{key: "private", doc: "allow that it is at an address that is not public, and http:// for a webhook", value: boolValue(&t.Private)},
		{key: "rules", doc: "what to tell of, by the names of the rules in [notify]; empty: everything", example: `["record_broke", "mailbox_unreachable"]`, value: listValue(&t.Rules, readRule)},
		{key: "domains", doc: "domains to tell of, with their subdomains, or groups of domains; empty: all, and the installation itself", example: `["example.com", "group:acme"]`, value: listValue(&t.Domains, readDomains)},
	}
	t.in("target")
	return t
}

var usualName = regexp.MustCompile(`^[\pL\pN][\pL\pN ._-]{0,63}$`)

func targetName(text string) error {
	if !usualName.MatchString(text) {
		return errors.New("must be a name of letters, digits, spaces, -, _ and ., such as \"ops\"")
	}
	return nil
}

func readRule(text string) (string, error) {
	var names []string
	for _, r := range dmarc.NotifyRules {
		names = append(names, string(r))
	}
	if !slices.Contains(names, text) {
		return "", fmt.Errorf("must be rules; %q is none%s", text, didYouMean(text, names))
	}
	return text, nil
}

// checkTargets looks at targets and at the server that mail is sent by.
func (l *loader) checkTargets() {
	names := map[string]bool{}
	for _, t := range l.cfg.Targets {
		switch {
		case t.Name == "" && !t.setting("name").refused:
			l.wrong(t.at("name"), "is missing; give each target a name")
		case t.Name != "" && names[t.Name]:
			l.wrong(t.at("name"), "another target has the name "+shown(t.Name)+" already; give each its own")
		}
		names[t.Name] = true
		where := t.at("url")
		if t.urlFile != "" {
			where = t.at("url_file")
		}
		if t.URL.empty() {
			if t.urlFile == "" && !t.setting("url").refused {
				l.wrong(where, "is missing; write mailto:ADDRESS, https://… or a URL of shoutrrr, or name a file with it as url_file")
			}
			continue
		}
		if _, err := l.cfg.sender(t); err != nil {
			l.wrong(where, err.Error())
		}
		if (!t.Secret.empty() || t.secretFile != "") && !isWebhook(t.URL.reveal()) {
			l.wrong(t.at("secret"), "has no use but for webhooks; remove it")
		}
	}
	m := &l.cfg.Mail
	server, from := findSetting(l.cfg.settings, "mail.server"), findSetting(l.cfg.settings, "mail.from")
	switch {
	case m.Server.Address != "" && m.From == "" && !from.refused:
		l.wrong(from, "is missing; name the address that mail is sent from")
	case m.Server.Address == "" && (m.From != "" || !m.Password.empty() || m.passwordFile != "") && !server.refused:
		l.wrong(server, `is missing; write it as "smtps://user@host", "smtp+starttls://user@host" or "smtp://host"`)
	case m.Server.User != "" && m.Password.empty() && m.passwordFile == "":
		l.wrong(server, "names a user, but there is no password; give mail.password_file or mail.password")
	case m.Server.User != "" && m.Server.Security == "plain" && !loopbackAddress(m.Server.Address):
		l.wrong(server, "smtp:// sends the password in plain text over the network; write smtps:// or smtp+starttls://")
	}
}

func isWebhook(text string) bool {
	return strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://")
}

// sender returns what sends to a target. Its errors do not repeat the URL.
func (c *config) sender(t *target) (notify.Sender, error) {
	text := t.URL.reveal()
	if rest, isMail := strings.CutPrefix(text, "mailto:"); isMail {
		var to []string
		for part := range strings.SplitSeq(rest, ",") {
			address, err := readAddress(part)
			if err != nil {
				return nil, errors.New("must hold mail addresses after mailto:, with commas between them")
			}
			to = append(to, address)
		}
		return notify.NewMail(c.mailServer(), to)
	}
	if isWebhook(text) {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Hostname() == "" || u.Fragment != "":
			return nil, errors.New("is no URL of a webhook; write it as https://host/path")
		case u.User != nil:
			return nil, errors.New("must not hold a user and password; sign with secret instead")
		case u.Scheme == "http" && !t.Private:
			return nil, errors.New("would be sent in plain text over the network; write https://, or set private = true")
		}
		return &notify.Webhook{URL: text, Secret: t.Secret.reveal(), Reach: c.targetReach(t)}, nil
	}
	return notify.NewShout(text, c.targetReach(t))
}

// targetReach is what sending to a target may connect to.
func (c *config) targetReach(t *target) outward.Reach {
	reach := c.reach()
	reach.All = t.Private
	return reach
}
