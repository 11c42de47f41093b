package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/parse"
)

// Ways to protect the connection.
const (
	SecurityTLS      = "tls"
	SecuritySTARTTLS = "starttls"
	SecurityPlain    = "plain" // on loopback, unless AllowPlain
)

// What happens to a message after its fate is committed.
const (
	AfterNothing = ""
	AfterSeen    = "seen"
	AfterMove    = "move"
	AfterDelete  = "delete"
)

// IMAPOptions says where a mailbox is and what is done with it.
type IMAPOptions struct {
	Name         string // by which the store knows it, for good
	Address      string // host:port
	Security     string
	AllowPlain   bool
	TLSConfig    *tls.Config // nil for the system's
	User         string
	Password     string
	Tokens       *Tokens // instead of the password
	Auth         string  // auto; plain or login; with Tokens xoauth2 or oauthbearer
	Folder       string
	After        string
	MoveTo       string        // for AfterMove: messages whose report was read
	MoveOthersTo string        // for AfterMove: the others; "" leaves them where they are
	Poll         time.Duration // between looks, where the server cannot tell
	Idle         bool          // use IDLE where the server has it
	Timeout      time.Duration // for which the server may send nothing while an answer is due; 0: five minutes
	Limit        int64         // bytes of a message
	Log          *slog.Logger
}

// IMAP is a mailbox on a server (RFC 9051 and RFC 3501). Messages are fetched
// with PEEK, in the order of UIDs, one at a time; the folder is opened read-only
// unless something is to be done with messages afterwards.
type IMAP struct {
	opts IMAPOptions

	client   *imapclient.Client
	conn     *patientConn
	token    accessToken // that client logged in with, if any
	validity uint32
	news     chan struct{}

	step      Step        // that connecting has come to
	permanent []imap.Flag // that may be set in the folder for good
	now       func() time.Time

	mu       sync.Mutex
	settled  []Settled              // not marked in the mailbox yet
	stubborn map[imap.UID]*stubborn // messages at which the connection broke
	ahead    map[imap.UID]bool      // committed, though a stubborn one before them is not
	unread   int                    // found, and not handed over
	oldest   time.Time              // when the last one that was handed over came
}

// NewIMAP returns a mailbox that connects when it is first used.
func NewIMAP(opts IMAPOptions) *IMAP {
	m := &IMAP{opts: opts, news: make(chan struct{}, 1), now: time.Now}
	m.forget(0)
	return m
}

// Name returns the name that the store knows the mailbox by.
func (m *IMAP) Name() string { return m.opts.Name }

// Backlog returns how many messages the last look found that have not been
// handed over yet, and when the one came that was handed over last: the others
// are hardly older.
func (m *IMAP) Backlog() (unread int, oldest time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unread, m.oldest
}

func (m *IMAP) setBacklog(unread int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unread = unread
}

// chunkMessages is how many messages are asked for at once.
const chunkMessages = 100

// Each hands over the messages behind a place, in the order of UIDs. A new
// UIDVALIDITY means that all are new.
func (m *IMAP) Each(ctx context.Context, after dmarc.Place, handle func(context.Context, Message) error) (err error) {
	defer func() {
		if err != nil {
			err = m.explain(err)
			m.Close() // the state of the connection is not known
		}
	}()
	if m.token.over() {
		m.Close() // servers end the session when the token ends
	}
	if err := m.connect(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { m.conn.Close() })
	defer stop()
	select {
	case <-m.news:
	default:
	}
	if err := m.settle(); err != nil {
		return err
	}
	if after.UIDValidity != m.validity {
		if after.UIDValidity != 0 {
			m.opts.Log.Warn("the mailbox was made anew: all of its messages are read again, and reports that are stored already count once", "mailbox", m.opts.Name, "was", after.UIDValidity, "is", m.validity)
		}
		after = dmarc.Place{UIDValidity: m.validity}
	}
	found, err := m.search(after.UID)
	if err != nil {
		return err
	}
	uids, later := m.postpone(found)
	left := len(uids) + len(later)
	m.setBacklog(left)
	for chunk := range slices.Chunk(uids, chunkMessages) {
		if err := m.chunk(ctx, chunk, later, handle); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		left -= len(chunk)
		m.setBacklog(left)
		if err := m.settle(); err != nil {
			return err
		}
	}
	return m.last(ctx, later, found, handle)
}

// search returns the UIDs above one, sorted.
func (m *IMAP) search(above uint32) ([]imap.UID, error) {
	if above == 1<<32-1 {
		return nil, nil
	}
	var set imap.UIDSet
	set.AddRange(imap.UID(above+1), 0) // to the last
	data, err := m.client.UIDSearch(&imap.SearchCriteria{UID: []imap.UIDSet{set}}, nil).Wait()
	if err != nil {
		return nil, fmt.Errorf("searching folder %q: %w", m.opts.Folder, err)
	}
	uids := data.AllUIDs()
	// The range to the last includes the last, even if it is not above.
	uids = slices.DeleteFunc(uids, func(u imap.UID) bool { return uint32(u) <= above })
	slices.Sort(uids)
	return slices.Compact(uids), nil
}

// A tracker knows how far a chunk has been handed over without a gap.
type tracker struct {
	validity uint32
	uids     []imap.UID // sorted
	done     map[imap.UID]bool
	next     int
	reached  imap.UID
	limit    imap.UID // of a message that was postponed; 0 for none
	beyond   imap.UID // reached as well once all are done
}

// place marks a UID and returns the place that is reached with it.
func (t *tracker) place(uid imap.UID) dmarc.Place {
	t.done[uid] = true
	for t.next < len(t.uids) && t.done[t.uids[t.next]] && (t.limit == 0 || t.uids[t.next] < t.limit) {
		t.reached = t.uids[t.next]
		t.next++
	}
	if t.next == len(t.uids) && t.beyond > t.reached {
		t.reached = t.beyond
	}
	if t.reached == 0 {
		return dmarc.Place{}
	}
	return dmarc.Place{UIDValidity: t.validity, UID: uint32(t.reached)}
}

// chunk hands over some messages. Those that are too large are not fetched,
// and those that vanish meanwhile are passed over.
func (m *IMAP) chunk(ctx context.Context, uids, later []imap.UID, handle func(context.Context, Message) error) error {
	t := &tracker{validity: m.validity, uids: uids, done: make(map[imap.UID]bool, len(uids))}
	if len(later) > 0 {
		t.limit = later[0]
	}
	for _, uid := range uids {
		t.done[uid] = false
	}
	sizes := make(map[imap.UID]int64, len(uids))
	list, err := m.client.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{UID: true, RFC822Size: true}).Collect()
	if err != nil {
		return fmt.Errorf("asking for sizes: %w", err)
	}
	for _, msg := range list {
		sizes[msg.UID] = msg.RFC822Size
	}
	var run []imap.UID
	flush := func() error {
		defer func() { run = run[:0] }()
		return m.fetch(ctx, run, t, handle)
	}
	for _, uid := range uids {
		size := sizes[uid]
		if size <= m.opts.Limit {
			run = append(run, uid)
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if err := handle(ctx, m.message(uid, t, Message{Err: tooLarge(size, m.opts.Limit, "limits.message, or limit of the mailbox")})); err != nil {
			return err
		}
	}
	return flush()
}

func (m *IMAP) message(uid imap.UID, t *tracker, msg Message) Message {
	m.mu.Lock()
	delete(m.stubborn, uid)
	m.mu.Unlock()
	msg.Place = dmarc.Place{UIDValidity: m.validity, UID: uint32(uid)}
	msg.Reached = t.place(uid)
	return msg
}

// fetch hands over messages. What the server refuses or leaves out is asked
// for once more.
func (m *IMAP) fetch(ctx context.Context, uids []imap.UID, t *tracker, handle func(context.Context, Message) error) error {
	if len(uids) == 0 {
		return nil
	}
	var refused *imap.Error
	if err := m.stream(ctx, imap.UIDSetNum(uids...), uids, t, handle); err != nil && !errors.As(err, &refused) {
		return err
	}
	for _, uid := range uids {
		if t.done[uid] {
			continue
		}
		if err := m.again(ctx, uid, t, handle); err != nil {
			return err
		}
	}
	return nil
}

// again asks for a message alone, and by its number: the client library does
// not see that a message was asked for by UID where the server tells the UID after
// the text. A message that exists, and is not sent even so, is handed over as unreadable.
func (m *IMAP) again(ctx context.Context, uid imap.UID, t *tracker, handle func(context.Context, Message) error) error {
	list, err := m.client.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{UID: true}).Collect()
	if err != nil {
		return fmt.Errorf("looking for message %d: %w", uid, err)
	}
	if len(list) == 0 { // expunged
		t.done[uid] = true
		return nil
	}
	reason := "the mail server does not send it, asked for twice"
	var refused *imap.Error
	err = m.stream(ctx, imap.SeqSetNum(list[0].SeqNum), []imap.UID{uid}, t, handle)
	if errors.As(err, &refused) {
		reason = fmt.Sprintf("the mail server does not hand it out: %s", refused.Text)
	} else if err != nil || t.done[uid] {
		return err
	}
	return handle(ctx, m.message(uid, t, Message{Err: &dmarc.Error{Outcome: dmarc.OutcomeUnreadable, Reason: reason}}))
}

// stream fetches messages and hands over each as it arrives.
func (m *IMAP) stream(ctx context.Context, set imap.NumSet, uids []imap.UID, t *tracker, handle func(context.Context, Message) error) error {
	cmd := m.client.Fetch(set, &imap.FetchOptions{
		UID: true, InternalDate: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}},
	})
	for {
		data := cmd.Next()
		if data == nil {
			err := cmd.Close()
			if broke(ctx, err) {
				m.blame(t.due(0, uids))
			}
			return err
		}
		var uid imap.UID
		var msg Message
		for item := data.Next(); item != nil; item = data.Next() {
			switch item := item.(type) {
			case imapclient.FetchItemDataUID:
				uid = item.UID
			case imapclient.FetchItemDataInternalDate:
				msg.ReceivedAt = item.Time
			case imapclient.FetchItemDataBodySection:
				if item.Literal == nil || msg.Raw != nil || msg.Err != nil {
					continue
				}
				if err := m.spool(item.Literal, &msg); err != nil {
					if broke(ctx, err) {
						m.blame(t.due(uid, uids))
					}
					// The library knows that the connection is broken. Asked
					// for more it would read in two places at once.
					return fmt.Errorf("fetching a message: %w", err)
				}
			}
		}
		done, wanted := t.done[uid]
		if done || !wanted || msg.Raw == nil && msg.Err == nil {
			// Not what was asked for, such as a change of flags.
			if msg.Raw != nil {
				msg.Raw.Close()
			}
			continue
		}
		m.mu.Lock()
		m.oldest = msg.ReceivedAt
		m.mu.Unlock()
		if err := handle(ctx, m.message(uid, t, msg)); err != nil {
			// The library waits until what it has begun to hand out is read.
			m.conn.Close()
			cmd.Close()
			return err
		}
	}
}

// spool reads the text of a message. The library does not tell its end from
// the end of a connection that breaks.
func (m *IMAP) spool(text imap.LiteralReader, msg *Message) error {
	counted := &countedReader{r: text}
	raw, err := parse.NewSpool(counted, m.opts.Limit)
	var refused *dmarc.Error
	switch {
	case errors.As(err, &refused):
		msg.Err = refused
		if _, err := io.Copy(io.Discard, counted); err != nil {
			return err
		}
	case err != nil && counted.err == nil:
		// The library waits until it is read.
		m.conn.Close()
		io.Copy(io.Discard, text)
		return fmt.Errorf("%w: %w", errNoRoom, err)
	case err != nil:
		return err
	}
	if counted.n != text.Size() {
		if raw != nil {
			raw.Close()
		}
		return io.ErrUnexpectedEOF
	}
	if raw != nil {
		msg.Raw = raw
	}
	return nil
}

var errNoRoom = errors.New("there is no room for it")

type countedReader struct {
	r   io.Reader
	n   int64
	err error
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.err = err
	return n, err
}

// Settle remembers what is to be done with messages. It is done when the
// connection is free: before the next messages are fetched, and before waiting. If
// that fails, or dmarcd stops, messages stay as they are.
func (m *IMAP) Settle(_ context.Context, done []Settled) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noteAhead(done)
	if m.opts.After == AfterNothing {
		return nil
	}
	for _, d := range done {
		if d.Place.UIDValidity == m.validity {
			m.settled = append(m.settled, d)
		}
	}
	return nil
}

func (m *IMAP) settle() error {
	m.mu.Lock()
	done := m.settled
	m.settled = nil
	m.mu.Unlock()
	var reports, others imap.UIDSet
	for _, d := range done {
		if d.Outcome.Read() {
			reports.AddNum(imap.UID(d.Place.UID))
		} else {
			others.AddNum(imap.UID(d.Place.UID))
		}
	}
	var err error
	switch m.opts.After {
	case AfterSeen:
		reports.AddSet(others)
		if len(reports) > 0 {
			err = m.flag(reports, imap.FlagSeen)
		}
	case AfterMove:
		if len(reports) > 0 {
			err = m.move(reports, m.opts.MoveTo)
		}
		if err == nil && len(others) > 0 && m.opts.MoveOthersTo != "" {
			err = m.move(others, m.opts.MoveOthersTo)
		}
	case AfterDelete:
		if len(reports) > 0 {
			if err = m.flag(reports, imap.FlagDeleted); err == nil {
				if m.client.Caps().Has(imap.CapUIDPlus) {
					err = m.client.UIDExpunge(reports).Close()
				} else {
					err = m.client.Expunge().Close()
				}
			}
		}
	}
	var refused *imap.Error
	if errors.As(err, &refused) {
		m.opts.Log.Warn("messages are stored, but the server would not mark, move or delete them; they stay as they are", "mailbox", m.opts.Name, "messages", len(done), "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("marking, moving or deleting messages: %w", err)
	}
	return nil
}

// move moves messages to a folder, which is made if it is not there.
func (m *IMAP) move(uids imap.UIDSet, folder string) error {
	_, err := m.client.Move(uids, folder).Wait()
	var refused *imap.Error
	if !errors.As(err, &refused) || refused.Code != imap.ResponseCodeTryCreate && refused.Code != imap.ResponseCodeNonExistent {
		return err
	}
	if err := m.client.Create(folder, nil).Wait(); err != nil {
		return fmt.Errorf("making folder %q: %w", folder, err)
	}
	_, err = m.client.Move(uids, folder).Wait()
	return err
}

func (m *IMAP) flag(uids imap.UIDSet, flag imap.Flag) error {
	return m.client.Store(uids, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{flag}}, nil).Close()
}

// Wait returns when the server tells of new messages, or after the time for
// polling.
func (m *IMAP) Wait(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = m.explain(err)
			m.Close()
		}
	}()
	if err := m.connect(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { m.conn.Close() })
	defer stop()
	if err := m.settle(); err != nil {
		return err
	}
	poll := m.opts.Poll
	if !m.token.renews.IsZero() {
		poll = min(poll, max(time.Until(m.token.renews), time.Second))
	}
	timer := time.NewTimer(poll)
	defer timer.Stop()
	if !m.opts.Idle || !m.client.Caps().Has(imap.CapIdle) {
		m.conn.wait(true)
		defer m.conn.wait(false)
		select {
		case <-timer.C:
			return m.client.Noop().Wait()
		case <-m.news:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	idle, err := m.client.Idle()
	if err != nil {
		return fmt.Errorf("waiting for new messages: %w", err)
	}
	m.conn.wait(true)
	defer m.conn.wait(false)
	select {
	case <-timer.C:
	case <-m.news:
	case <-m.client.Closed():
		idle.Close()
		idle.Wait()
		return fmt.Errorf("waiting for new messages: %w", io.ErrUnexpectedEOF)
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := idle.Close(); err != nil {
		return fmt.Errorf("waiting for new messages: %w", err)
	}
	if err := idle.Wait(); err != nil {
		return fmt.Errorf("waiting for new messages: %w", err)
	}
	return nil
}

// explain says why the connection ended.
func (m *IMAP) explain(err error) error {
	if m.client == nil {
		return err
	}
	return m.conn.explain(err)
}

// Close ends the connection; the mailbox connects again when it is used.
func (m *IMAP) Close() error {
	if m.client == nil {
		return nil
	}
	client := m.client
	m.client, m.token = nil, accessToken{}
	return client.Close()
}
