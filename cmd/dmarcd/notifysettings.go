package main

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/notify"
)

// A notifyConfig says what people are told of.
type notifyConfig struct {
	Rules []ruleConfig // in the order of dmarc.NotifyRules

	Link   string // address of the dashboard, for links; "" for none
	GiveUp time.Duration

	NewSourceMessages    int64
	PassRateDrop         int // percentage points
	PassRateMessages     int64
	ReporterStoppedAfter time.Duration
	SPFLookups           int
	MailboxAfter         time.Duration
	RefusedMessages      int64
}

// A ruleConfig switches one rule.
type ruleConfig struct {
	Rule    dmarc.NotifyRule
	On      bool
	Domains []string
}

// A mailConfig says how mail is sent.
type mailConfig struct {
	Server   notify.MailServer // without password
	Password secret
	From     string

	server       string
	passwordFile string
}

// ruleDocs say what each rule tells of.
var ruleDocs = map[dmarc.NotifyRule]string{
	dmarc.RuleNewSource:       "tell of an address that begins to send much mail as a domain and was not seen for three months",
	dmarc.RulePassRate:        "tell when less of the mail of a domain's own senders passes than in the four weeks before",
	dmarc.RuleReporterStopped: "tell when a reporter that reported regularly stops, while others go on",
	dmarc.RuleRecordChanged:   "tell when a record about mail changes in DNS",
	dmarc.RuleRecordBroke:     "tell of errors in what a domain publishes, and when they are mended",
	dmarc.RuleVerdictChanged:  "tell when the verdict about a stricter policy has been another one for a day",
	dmarc.RuleSPFLimit:        "tell when SPF needs nearly as many lookups as it may",
	dmarc.RuleMailbox:         "tell when a mailbox cannot be read for some time",
	dmarc.RuleRefused:         "tell when many messages could not be used",
}

func defaultNotify() notifyConfig {
	d := notify.DefaultSettings()
	c := notifyConfig{
		GiveUp: 24 * time.Hour, NewSourceMessages: d.NewSourceMessages, PassRateDrop: int(100 * d.PassRateDrop), PassRateMessages: d.PassRateMessages,
		ReporterStoppedAfter: d.ReporterStoppedAfter, SPFLookups: d.SPFLookups, MailboxAfter: d.MailboxAfter, RefusedMessages: d.RefusedMessages,
	}
	for _, r := range dmarc.NotifyRules {
		c.Rules = append(c.Rules, ruleConfig{r, true, []string{}})
	}
	return c
}

// table returns the settings of what people are told of, and of mail.
func (c *notifyConfig) table(m *mailConfig) []*setting {
	table := []*setting{
		{key: "notify.link", doc: "address of the dashboard as people reach it, for links in messages; empty: none", example: `"https://dmarc.example.com/"`, value: textValue(&c.Link, optional(webAddress))},
		{key: "notify.give_up", doc: "how long a message is tried to be delivered", value: durationValue(&c.GiveUp, time.Minute)},
	}
	thresholds := map[dmarc.NotifyRule][]*setting{
		dmarc.RuleNewSource: {{key: "notify.new_source_messages", doc: "from how many messages in a week on", value: intValue(&c.NewSourceMessages, 1)}},
		dmarc.RulePassRate: {
			{key: "notify.pass_rate_drop", doc: "by how many percentage points it must fall", value: intValue(&c.PassRateDrop, 1)},
			{key: "notify.pass_rate_messages", doc: "of how many messages of the domain's own senders in three days at least", value: intValue(&c.PassRateMessages, 1)},
		},
		dmarc.RuleReporterStopped: {{key: "notify.reporter_stopped_after", doc: "after how many days without a report", value: durationValue(&c.ReporterStoppedAfter, 3*hoursOfDay)}},
		dmarc.RuleSPFLimit:        {{key: "notify.spf_limit_lookups", doc: "from how many lookups of 10 on", value: intValue(&c.SPFLookups, 2)}},
		dmarc.RuleMailbox:         {{key: "notify.mailbox_unreachable_after", doc: "after what time", value: durationValue(&c.MailboxAfter, time.Minute)}},
		dmarc.RuleRefused:         {{key: "notify.reports_refused_messages", doc: "from how many messages in a day on", value: intValue(&c.RefusedMessages, 1)}},
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		name := "notify." + string(r.Rule)
		table = append(table, &setting{key: name, doc: ruleDocs[r.Rule], value: boolValue(&r.On)})
		table = append(table, thresholds[r.Rule]...)
		if r.Rule.OfDomain() {
			table = append(table, &setting{key: name + "_domains", doc: "of which domains, with their subdomains, or groups of domains; empty: all", example: `["example.com", "group:acme"]`, value: listValue(&r.Domains, readDomains)})
		}
	}
	return append(table, []*setting{
		{key: "mail.server", doc: "server that mail is sent by: smtps://USER@HOST, smtp+starttls://USER@HOST, or smtp://HOST without encryption", example: `"smtp+starttls://dmarcd@mail.example.com"`,
			secret: true, value: value{types: "s", set: m.readServer, toml: func() string { return quote(m.server) }}},
		{key: "mail.password", doc: "password of the user", example: `"secret"`, secret: true, value: secretValue(&m.Password, nil)},
		{key: "mail.password_file", doc: "file that holds the password", example: `"/etc/dmarcd/mail_password"`, value: textValue(&m.passwordFile, nil)},
		{key: "mail.from", doc: "address that mail is sent from", example: `"dmarcd@example.com"`, value: textValue(&m.From, optional(oneAddress))},
	}...)
}

func oneAddress(text string) error {
	_, err := readAddress(text)
	if err != nil {
		return errors.New(`must be a mail address, such as "dmarcd@example.com"`)
	}
	return nil
}

func webAddress(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New(`must be an address such as "https://dmarc.example.com/"`)
	}
	return nil
}

// readServer reads the address of a mail server. Its errors do not repeat it: a
// password may stand in it by mistake.
func (m *mailConfig) readServer(text string) error {
	if text == "" {
		*m = mailConfig{Password: m.Password, From: m.From, passwordFile: m.passwordFile}
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return errors.New(`is no address of a mail server; write it as "smtps://user@host", with special characters percent-encoded`)
	}
	port := ""
	switch u.Scheme {
	case "smtps":
		m.Server.Security, port = "tls", "465"
	case "smtp+starttls":
		m.Server.Security, port = "starttls", "587"
	case "smtp":
		m.Server.Security, port = "plain", "25"
	default:
		return errors.New("must begin with smtps://, smtp+starttls:// or smtp://")
	}
	if _, given := u.User.Password(); given {
		return errors.New("must not hold the password; give it as password_file, password or DMARCD_MAIL_PASSWORD_FILE")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return errors.New("has a port that is not from 1 to 65535")
		}
		port = p
	}
	m.Server.Address, m.Server.User, m.server = net.JoinHostPort(u.Hostname(), port), u.User.Username(), text
	return nil
}

func loopbackAddress(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopback(host)
}

// mailServer returns the server that mail is sent by; nil if there is none.
func (c *config) mailServer() *notify.MailServer {
	if c.Mail.Server.Address == "" {
		return nil
	}
	s := c.Mail.Server
	s.Password, s.From = c.Mail.Password.reveal(), c.Mail.From
	return &s
}

// notifySettings returns what the rules go by.
func (c *config) notifySettings() notify.Settings {
	n := &c.Notify
	s := notify.DefaultSettings()
	s.NewSourceMessages, s.PassRateDrop, s.PassRateMessages = n.NewSourceMessages, float64(n.PassRateDrop)/100, n.PassRateMessages
	s.ReporterStoppedAfter, s.SPFLookups, s.MailboxAfter, s.RefusedMessages = n.ReporterStoppedAfter, n.SPFLookups, n.MailboxAfter, n.RefusedMessages
	for _, r := range n.Rules {
		s.On[r.Rule], s.Domains[r.Rule] = r.On, r.Domains
	}
	return s
}
