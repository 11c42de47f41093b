package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for machines that have no time zones

	"github.com/dmarcd/dmarcd/notify"
)

// A digestConfig says when digests are sent, and to whom.
type digestConfig struct {
	Every    string // "", daily or weekly
	To       []string
	At       string // time of day, in Zone
	Weekday  string
	Zone     string
	Domains  []string
	OnlyNews bool
}

var weekdays = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

func defaultDigest() digestConfig {
	return digestConfig{To: []string{}, At: "07:00", Weekday: "monday", Zone: "UTC", Domains: []string{}}
}

func (c *digestConfig) table() []*setting {
	return []*setting{
		{key: "digest.every", doc: `how often a digest is sent by mail: "" (never), daily or weekly`, value: choiceValue(&c.Every, "", "daily", "weekly")},
		{key: "digest.to", doc: "addresses that it is sent to", example: `["postmaster@example.com"]`, value: listValue(&c.To, readAddress)},
		{key: "digest.at", doc: "time of day", value: textValue(&c.At, timeOfDay)},
		{key: "digest.weekday", doc: "day of a weekly one", value: choiceValue(&c.Weekday, weekdays...)},
		{key: "digest.zone", doc: "time zone of both", example: `"Europe/Berlin"`, value: textValue(&c.Zone, timeZone)},
		{key: "digest.domains", doc: "domains that it is about, with their subdomains, or groups of domains; empty: all", example: `["example.com", "group:acme"]`, value: listValue(&c.Domains, readDomains)},
		{key: "digest.only_news", doc: "send none if nothing happened and no domain deserves attention", value: boolValue(&c.OnlyNews)},
	}
}

func timeOfDay(text string) error {
	if _, err := time.Parse("15:04", text); err != nil {
		return errors.New(`must be a time of day, such as "07:00"`)
	}
	return nil
}

func timeZone(text string) error {
	if text == "" || text == "Local" {
		return errors.New(`must be the name of a time zone, such as "Europe/Berlin" or "UTC"`)
	}
	if _, err := time.LoadLocation(text); err != nil {
		return errors.New(`is no time zone that is known; write it as "Europe/Berlin"`)
	}
	return nil
}

func (l *loader) checkDigest() {
	d := &l.cfg.Digest
	every, to := findSetting(l.cfg.settings, "digest.every"), findSetting(l.cfg.settings, "digest.to")
	switch {
	case d.Every != "" && len(d.To) == 0 && !to.refused:
		l.wrong(to, "is missing; name the addresses that digests are sent to")
	case d.Every == "" && len(d.To) > 0 && !every.refused:
		l.wrong(to, "has no use without digest.every; set that to daily or weekly, or remove to")
	}
	if server := findSetting(l.cfg.settings, "mail.server"); d.Every != "" && l.cfg.Mail.Server.Address == "" && !server.refused {
		l.wrong(every, "needs a mail server; set mail.server and mail.from")
	}
}

// digestTarget is the name of those who get digests in the outbox. No target of
// the configuration can have it.
const digestTarget = "[digest]"

// newDigester returns what writes digests; its mail has no server unless one is
// configured.
func (s *service) newDigester(cfg *config) *notify.Digester {
	d := &cfg.Digest
	at, _ := time.Parse("15:04", d.At)
	zone, err := time.LoadLocation(d.Zone)
	if err != nil {
		zone = time.UTC
	}
	server := cfg.mailServer()
	if server == nil {
		server = &notify.MailServer{From: "dmarcd@localhost"}
	}
	return &notify.Digester{
		Store: s.store, Target: digestTarget, Mail: &notify.Mail{Server: server, To: d.To}, Domains: d.Domains, OnlyNews: d.OnlyNews, Link: cfg.Notify.Link,
		Schedule: notify.Schedule{Weekly: d.Every == "weekly", Weekday: time.Weekday(max(0, slices.Index(weekdays, d.Weekday))), Hour: at.Hour(), Minute: at.Minute(), Zone: zone},
	}
}

// printDigest prints the digest that was due last, as text, as the page in the
// mail, or as the whole mail.
func (env *environ) printDigest(ctx context.Context, s *service, cfg *config, format string) error {
	d := s.newDigester(cfg)
	digest, err := d.Gather(ctx, d.Due())
	if err != nil {
		return err
	}
	var text string
	switch format {
	case "html":
		text, err = digest.HTML(notify.DataURL(digest))
	case "mail":
		var mail []byte
		mail, err = digest.Mail(d.Mail, "digest-printed", d.Due())
		text = string(mail)
	default:
		text, err = digest.Text()
		text = printable(text)
	}
	if err != nil {
		return err
	}
	_, err = env.stdout.Write([]byte(strings.TrimRight(text, "\n") + "\n"))
	return err
}
