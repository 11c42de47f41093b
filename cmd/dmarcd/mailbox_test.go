package main

import (
	"strings"
	"testing"
)

func TestURLsOfMailboxesAreTakenApart(t *testing.T) {
	type address struct{ Security, Host, Port, User, Folder string }
	for text, want := range map[string]address{
		"imaps://u@h":                            {"tls", "h", "993", "u", "INBOX"},
		"imaps://u@h/":                           {"tls", "h", "993", "u", "INBOX"},
		"imaps://u@example.com@h:1993/A/B":       {"tls", "h", "1993", "u@example.com", "A/B"},
		"imap://u%2Fv%25@[::1]/Caf%C3%A9%23%2Fx": {"plain", "::1", "143", "u/v%", "Café#/x"},
		"imap+starttls://u@h/INBOX/":             {"starttls", "h", "143", "u", "INBOX"},
	} {
		m := newMailbox()
		err := m.readURL(text)
		if got := (address{m.Security, m.Host, m.Port, m.User, m.Folder}); err != nil || got != want {
			t.Errorf("%s: %v\n got %+v\nwant %+v", text, err, got, want)
		}
	}
	for text, want := range map[string]string{
		"mail.example.com":       "is no address of a mailbox",
		"imaps:u@h":              "is no address of a mailbox",
		"imaps://u:hunter2@h":    "must not hold the password",
		"imaps://h/INBOX":        "lacks the user",
		"imaps://u@:993/":        "lacks the host",
		"imaps://u@h:0/":         "has a port",
		"imaps://u@h:99999/":     "has a port",
		"imaps://u@h:hunter2/":   "is no address of a mailbox",
		"imaps://u@h/A?B":        "ends in ? or #",
		"imaps://u@h/A#B":        "ends in ? or #",
		"imaps://u@h/%0d%0aQUIT": "control characters",
		"pop3://u@h":             "must begin with",
	} {
		m := newMailbox()
		err := m.readURL(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || m.url != "" {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
