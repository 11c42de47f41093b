package sample

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// A Server is an IMAP server with one user, who has one mailbox, INBOX. It can
// be read and waited upon (IDLE); flags and moves are refused. All mail is kept
// in memory.
type Server struct {
	imap           *imapserver.Server
	listener       net.Listener
	user, password string
	uidValidity    uint32
	done           chan struct{} // closed by Close
	served         chan error    // why nothing is accepted any more
	close          func() error

	mu    sync.Mutex
	mails []Mail        // the UID of a mail is its index and 1
	more  chan struct{} // closed when mail is added, and then replaced
}

// Serve offers mails on a listener, which it closes, until ctx is done or
// Close is called. It returns when the mailbox is filled and connections are
// accepted. Log in as user with the password, without TLS: listen on loopback
// only.
func Serve(ctx context.Context, l net.Listener, user, password string, mails iter.Seq[Mail]) (*Server, error) {
	s := &Server{
		listener: l, user: user, password: password,
		// Nobody knows whether the mail is the same as the last time.
		uidValidity: uint32(time.Now().Unix()),
		done:        make(chan struct{}), served: make(chan error, 1), more: make(chan struct{}),
	}
	for m := range mails {
		if err := context.Cause(ctx); err != nil {
			l.Close()
			return nil, fmt.Errorf("filling the mailbox: %w", err)
		}
		s.mails = append(s.mails, m)
	}
	s.imap = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &session{server: s}, nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapESearch: {}},
		InsecureAuth: true,
		Logger:       logger{},
	})
	s.close = sync.OnceValue(func() error {
		close(s.done)
		err := s.imap.Close()
		l.Close() // the library does, unless it has not begun to serve
		return errors.Join(err, <-s.served)
	})
	go func() {
		err := s.imap.Serve(l)
		select {
		case <-s.done:
			err = nil // as it should be
		default:
		}
		s.served <- err
	}()
	go func() {
		select {
		case <-ctx.Done():
			s.Close()
		case <-s.done:
		}
	}()
	return s, nil
}

// Addr returns where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Size returns how many bytes of mail are in memory.
func (s *Server) Size() (size int) {
	mails, _ := s.content()
	for i := range mails {
		size += cap(mails[i].Raw)
	}
	return size
}

// Append adds a mail. Those who wait for mail are told at once.
func (s *Server) Append(m Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
	close(s.more)
	s.more = make(chan struct{})
}

// Close ends all connections and waits until none is accepted any more.
func (s *Server) Close() error { return s.close() }

// content returns all mail so far, and what is closed when there is more.
func (s *Server) content() ([]Mail, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mails, s.more
}

// logger hands the complaints of the IMAP library to the log.
type logger struct{}

func (logger) Printf(format string, args ...any) {
	slog.Debug("sample IMAP server", "error", fmt.Sprintf(format, args...))
}

// A session is a connection. The library calls its methods one after another,
// except that Idle may still be running when the client has gone.
type session struct {
	server *Server

	mu       sync.Mutex
	selected bool
	known    uint32 // how many messages the client has been told of
}

var errReadOnly = &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeNoPerm, Text: "This mailbox can only be read"}

// exists returns nil for INBOX, as the library spells it in any case.
func exists(name string) error {
	if name == "INBOX" {
		return nil
	}
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeNonExistent, Text: "There is only INBOX"}
}

func (s *session) Close() error { return nil }

func (s *session) Login(user, password string) error {
	if user != s.server.user || password != s.server.password {
		return imapserver.ErrAuthFailed
	}
	return nil
}

func (s *session) Select(name string, _ *imap.SelectOptions) (*imap.SelectData, error) {
	if err := exists(name); err != nil {
		return nil, err
	}
	mails, _ := s.server.content()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.selected, s.known = true, uint32(len(mails))
	return &imap.SelectData{
		Flags:       []imap.Flag{imap.FlagSeen},
		NumMessages: s.known,
		UIDNext:     imap.UID(s.known + 1),
		UIDValidity: s.server.uidValidity,
	}, nil
}

func (s *session) Unselect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.selected = false
	return nil
}

func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, options *imap.ListOptions) error {
	for _, pattern := range patterns {
		if imapserver.MatchList("INBOX", '/', ref, pattern) {
			return w.WriteList(&imap.ListData{Mailbox: "INBOX", Delim: '/'})
		}
	}
	return nil
}

func (s *session) Status(name string, options *imap.StatusOptions) (*imap.StatusData, error) {
	if err := exists(name); err != nil {
		return nil, err
	}
	mails, _ := s.server.content()
	n, zero, size := uint32(len(mails)), uint32(0), int64(0)
	if options.Size {
		for i := range mails {
			size += int64(len(mails[i].Raw))
		}
	}
	return &imap.StatusData{
		Mailbox: name, NumMessages: &n, NumUnseen: &n, NumRecent: &zero, NumDeleted: &zero, Size: &size,
		UIDNext: imap.UID(n + 1), UIDValidity: s.server.uidValidity,
	}, nil
}

// Poll tells the client of messages that it does not know of.
func (s *session) Poll(w *imapserver.UpdateWriter, _ bool) error {
	_, err := s.tell(w)
	return err
}

// tell writes how many messages there are, if the client does not know, and
// returns what is closed when that is no longer true.
func (s *session) tell(w *imapserver.UpdateWriter) (<-chan struct{}, error) {
	mails, more := s.server.content()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.selected || s.known == uint32(len(mails)) {
		return more, nil
	}
	s.known = uint32(len(mails))
	return more, w.WriteNumMessages(s.known)
}

func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	for {
		more, err := s.tell(w)
		if err != nil {
			return err
		}
		select {
		case <-more:
		case <-stop:
			return nil
		}
	}
}
