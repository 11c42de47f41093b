package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Step is one of those that lead to the messages of a mailbox.
type Step string

// The steps, in their order.
const (
	StepToken    Step = "token"    // getting an access token
	StepConnect  Step = "connect"  // reaching the server
	StepGreeting Step = "greeting" // agreeing on TLS, and the server's first words
	StepLogin    Step = "login"
	StepFolder   Step = "folder" // opening it
	StepRights   Step = "rights" // finding out what may be done with messages
	StepDone     Step = "done"
)

// A Trial is what Try found.
type Trial struct {
	Reached Step // the step that failed, or StepDone
	Waiting int  // messages behind the place that was given
	// Lacking says in words what is configured to be done with messages and
	// that the server will not let be done; "" if nothing is lacking.
	Lacking string
	// Missing are the folders that messages are to be moved to and that do not
	// exist yet. They are made when they are first needed.
	Missing []string
}

// Reached returns the step that the last attempt to reach the messages came to. It
// is for whoever uses the mailbox, and at no other time than after that.
func (m *IMAP) Reached() Step { return m.step }

// Try does all that leads up to fetching messages, and ends the connection. It
// changes nothing in the mailbox. The error is that of the step that the Trial
// names.
func (m *IMAP) Try(ctx context.Context, after dmarc.Place) (Trial, error) {
	m.step = StepConnect
	if err := m.connect(ctx); err != nil {
		return Trial{Reached: m.step}, err
	}
	defer m.Close()
	stop := context.AfterFunc(ctx, func() { m.conn.Close() })
	defer stop()
	if after.UIDValidity != m.validity {
		after = dmarc.Place{}
	}
	t := Trial{Reached: StepFolder}
	uids, err := m.search(after.UID)
	if err != nil {
		return t, err
	}
	t.Waiting = len(uids)
	t.Reached = StepRights
	if t.Lacking, err = m.lacking(); err != nil {
		return t, fmt.Errorf("asking for the rights in folder %q: %w", m.opts.Folder, err)
	}
	if m.opts.After == AfterMove {
		for _, folder := range []string{m.opts.MoveTo, m.opts.MoveOthersTo} {
			if folder == "" {
				continue
			}
			list, err := m.client.List("", folder, nil).Collect()
			if err != nil {
				return t, fmt.Errorf("looking for folder %q: %w", folder, err)
			}
			if len(list) == 0 {
				t.Missing = append(t.Missing, folder)
			}
		}
	}
	t.Reached = StepDone
	return t, nil
}

// lacking compares what is to be done with messages with what the server says
// it lets be done: by its access control lists (RFC 4314) if it has some, and by
// the flags that can be set for good.
func (m *IMAP) lacking() (string, error) {
	var flag imap.Flag
	need := ""
	switch m.opts.After {
	case AfterNothing:
		return "", nil
	case AfterSeen:
		flag, need = imap.FlagSeen, "s"
	case AfterMove, AfterDelete:
		flag, need = imap.FlagDeleted, "te"
	}
	if m.client.Caps().Has(imap.CapACL) {
		data, err := m.client.MyRights(m.opts.Folder).Wait()
		if err != nil {
			return "", err
		}
		rights := data.Rights.String()
		for _, r := range need {
			// Servers of RFC 2086 say d for t and e.
			if !strings.ContainsRune(rights, r) && !(need == "te" && strings.Contains(rights, "d")) {
				return fmt.Sprintf("the rights in the folder are %q, without %q", rights, r), nil
			}
		}
	}
	if m.permanent != nil && !slices.Contains(m.permanent, flag) {
		return fmt.Sprintf("the folder does not keep the flag %s: it is read-only for this user", flag), nil
	}
	return "", nil
}
