package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/notify"
	"github.com/dmarcd/dmarcd/store"
)

// A setup tells people what the configuration says, and tries parts of it for them.
type setup struct {
	cfg    *config
	store  *store.Store
	trials chan struct{} // those that are made now
}

// Bounds of what is tried for people who wait.
const (
	trialsAtOnce = 2
	trialTime    = 30 * time.Second
	fetchTime    = 30 * time.Second
)

func newSetup(cfg *config, s *store.Store) *setup {
	return &setup{cfg, s, make(chan struct{}, trialsAtOnce)}
}

// Installation says what is configured, and which rules are switched.
func (s *setup) Installation(ctx context.Context) (dmarc.Installation, error) {
	c := s.cfg
	in := dmarc.Installation{File: c.File, Mailboxes: s.Mailboxes(), Ways: c.ways(), Addresses: c.ReportAddresses, Domains: c.Domains, Own: c.Sources.Own}
	if c.TLSRPT.Path != "" && c.TLSRPT.Listen == "" && strings.HasPrefix(c.HTTP.URL, "https://") {
		in.TLSReport = c.HTTP.URL + c.HTTP.Prefix + c.TLSRPT.Path
	}
	for _, t := range c.Targets {
		line := dmarc.NotifyTarget{Name: t.Name, Where: t.where(), Domains: t.Domains}
		for _, r := range t.Rules {
			line.Rules = append(line.Rules, dmarc.NotifyRule(r))
		}
		in.Targets = append(in.Targets, line)
	}
	if c.Digest.Every != "" {
		in.Targets = append(in.Targets, dmarc.NotifyTarget{Name: digestTarget, Where: strings.Join(c.Digest.To, ", "), Digest: true})
	}
	var err error
	if in.Rules, err = s.rules(ctx); err != nil {
		return in, err
	}
	add := func(table string, list []*setting) {
		for _, x := range list {
			if x.origin.level != fromDefault {
				in.Lines = append(in.Lines, dmarc.SettingLine{Key: table + x.key, Value: x.shownValue(), Text: sentenceOf(x.doc), Origin: x.origin.String()})
			}
		}
	}
	add("", c.settings)
	for _, m := range c.Mailboxes {
		add("mailbox "+m.Name+": ", m.settings)
	}
	for _, t := range c.Targets {
		add("target "+t.Name+": ", t.settings)
	}
	return in, nil
}

// Mailboxes are those of the configuration.
func (s *setup) Mailboxes() (list []dmarc.ConfiguredMailbox) {
	for _, m := range s.cfg.Mailboxes {
		list = append(list, dmarc.ConfiguredMailbox{Name: m.Name, Where: m.User + " at " + m.Address() + ", " + m.Folder})
	}
	return list
}

// shownValue is the value as dmarcd config prints it. What may hold a secret is not
// shown, and neither is that of a file whose content it is.
func (s *setting) shownValue() string {
	if s.secret {
		return hidden
	}
	return s.toml()
}

func sentenceOf(doc string) string { return strings.ToUpper(doc[:1]) + doc[1:] }

// ways names what else than mailboxes reports come by.
func (c *config) ways() (list []string) {
	if c.SMTP.Listen != "" {
		list = append(list, strings.ToUpper(c.SMTP.Protocol)+" at "+c.SMTP.Listen)
	}
	if c.TLSRPT.Path != "" {
		list = append(list, "HTTPS at "+c.TLSRPT.Path)
	}
	if c.Directory.Path != "" {
		list = append(list, "the folder "+c.Directory.Path)
	}
	return list
}

// where says where a target is, without what lets others send to it, too.
func (t *target) where() string {
	text := t.URL.reveal()
	if to, ok := strings.CutPrefix(text, "mailto:"); ok {
		return to
	}
	u, err := url.Parse(text)
	if err != nil {
		return hidden
	}
	if isWebhook(text) {
		return u.Scheme + "://" + u.Host + "/…"
	}
	return u.Scheme + "://…"
}

// rules returns all rules. What the configuration says about one wins.
func (s *setup) rules(ctx context.Context) (list []dmarc.NotifySwitch, err error) {
	switched, err := s.store.RuleSwitches(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range s.cfg.Notify.Rules {
		line := dmarc.NotifySwitch{Rule: r.Rule, Text: ruleDocs[r.Rule], On: r.On, Domains: r.Domains}
		if o := s.cfg.ruleOrigin(r.Rule); o.level != fromDefault {
			line.Fixed = "notify." + string(r.Rule) + ", " + o.String()
		} else if i := slices.IndexFunc(switched, func(x dmarc.RuleSwitch) bool { return x.Rule == r.Rule }); i >= 0 {
			line.On, line.By, line.At = switched[i].On, switched[i].By, switched[i].At
		}
		list = append(list, line)
	}
	return list, nil
}

func (c *config) ruleOrigin(r dmarc.NotifyRule) origin {
	return findSetting(c.settings, "notify."+string(r)).origin
}

// SwitchRule keeps what somebody says about a rule, unless the configuration does.
func (s *setup) SwitchRule(ctx context.Context, r dmarc.RuleSwitch) error {
	if o := s.cfg.ruleOrigin(r.Rule); o.level != fromDefault {
		return dmarc.Refusal(fmt.Sprintf("notify.%s is set by the configuration, %s, and can only be changed there", r.Rule, o))
	}
	return s.store.SwitchRule(ctx, r)
}

// switchRules makes the rules of a notifier what was said about them.
func (s *setup) switchRules(ctx context.Context, n *notify.Notifier) error {
	list, err := s.rules(ctx)
	if err != nil {
		return err
	}
	for _, r := range list {
		n.Settings.On[r.Rule] = r.On
	}
	return nil
}

// TestTarget sends a test to a target, or to those who get digests.
func (s *setup) TestTarget(ctx context.Context, name string) error {
	var sender notify.Sender
	var err error
	i := slices.IndexFunc(s.cfg.Targets, func(t *target) bool { return t.Name == name })
	switch {
	case i >= 0:
		sender, err = s.cfg.sender(s.cfg.Targets[i])
	case name == digestTarget && s.cfg.Digest.Every != "":
		sender, err = notify.NewMail(s.cfg.mailServer(), s.cfg.Digest.To)
	default:
		return dmarc.ErrNotFound
	}
	if err == nil {
		m := notify.TestMessage(name, time.Now())
		sending, cancel := context.WithTimeout(ctx, testTime)
		defer cancel()
		err = sender.Send(sending, &m)
	}
	if err != nil {
		return dmarc.Refusal(err.Error())
	}
	return nil
}

// TryMailbox goes all the way to the messages of a mailbox, as dmarcd doctor does.
// Neither address nor password is kept.
func (s *setup) TryMailbox(ctx context.Context, address, password string) (t dmarc.MailboxTrial) {
	failed := func(text, fix string) dmarc.MailboxTrial {
		return dmarc.MailboxTrial{Lines: []dmarc.TrialLine{{State: string(stateWrong), Text: text, Fix: fix}}}
	}
	select {
	case s.trials <- struct{}{}:
		defer func() { <-s.trials }()
	default:
		return failed("other mailboxes are being tried", "wait half a minute, and try again")
	}
	m := newMailbox()
	if err := m.readURL(address); err != nil {
		return failed("the address "+err.Error(), "correct the address")
	}
	m.Name, m.Password = m.User+"@"+m.Host+"/"+m.Folder, newSecret(password)
	if m.Password.empty() {
		return failed("there is no password", "write it; it is not kept")
	}
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	d := newDoctor(s.cfg, trialTime)
	close(d.opened) // what was read of it is of no interest
	x := &findings{}
	d.mailbox(ctx, m, x)
	t.OK = true
	for _, f := range x.list {
		t.Lines = append(t.Lines, dmarc.TrialLine{State: string(f.State), Text: f.Message, Fix: f.Fix})
		t.OK = t.OK && f.State == stateOK
	}
	t.Variables = "DMARCD_IMAP_URL=" + shellWord(address) + "\nDMARCD_IMAP_PASSWORD_FILE=/etc/dmarcd/imap_password"
	t.Table = "[[mailbox]]\nurl = " + quote(address) + "\npassword_file = \"/etc/dmarcd/imap_password\""
	return t
}

// shellWord quotes a text for a shell, if it has to be.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+,=", r)
	}
	if !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// fetch gets a message once more from a mailbox that is configured. The folder is
// opened to be read only.
func (s *setup) fetch(ctx context.Context, e dmarc.LedgerEntry) (ingest.Raw, error) {
	i := slices.IndexFunc(s.cfg.Mailboxes, func(m *mailbox) bool { return m.Name == e.Mailbox })
	if i < 0 {
		return nil, dmarc.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	m := *s.cfg.Mailboxes[i]
	m.After = ingest.AfterNothing
	box, err := m.open(s.cfg, quietLog())
	if err != nil {
		return nil, err
	}
	defer box.Close()
	return box.Fetch(ctx, e.Place)
}
