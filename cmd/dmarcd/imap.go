package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"github.com/dmarcd/dmarcd/ingest"
)

// open returns the mailbox that is configured. It connects when it is used.
func (m *mailbox) open(cfg *config, log *slog.Logger) (*ingest.IMAP, error) {
	var config *tls.Config
	if m.CAFile != "" {
		pem, err := os.ReadFile(m.CAFile)
		if err != nil {
			return nil, fmt.Errorf("mailbox %s: ca_file: %w", m.Name, err)
		}
		config = &tls.Config{RootCAs: x509.NewCertPool()}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("mailbox %s: ca_file %s holds no certificate", m.Name, m.CAFile)
		}
	}
	tokens, err := m.tokens(cfg.reach())
	if err != nil {
		return nil, err
	}
	limit := cfg.Limits.Message
	if m.Limit > 0 {
		limit = min(limit, m.Limit)
	}
	return ingest.NewIMAP(ingest.IMAPOptions{
		Name: m.Name, Address: m.Address(), Security: m.Security, AllowPlain: m.AllowPlain, TLSConfig: config,
		User: m.User, Password: m.Password.reveal(), Tokens: tokens, Auth: m.Auth, Folder: m.Folder,
		After: m.After, MoveTo: m.MoveTo, MoveOthersTo: m.MoveOthersTo, Poll: m.Poll, Idle: m.Idle, Timeout: m.Timeout,
		Limit: limit, Log: log,
	}), nil
}
