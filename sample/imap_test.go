package sample_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/dmarcd/dmarcd/sample"
)

const user, password = "reports", "correct horse"

// serve starts a server on loopback.
func serve(t *testing.T, mails iter.Seq[sample.Mail]) *sample.Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := sample.Serve(t.Context(), l, user, password, mails)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// login connects to a server.
func login(t *testing.T, s *sample.Server, options *imapclient.Options) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialInsecure(s.Addr().String(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// numbered yields n mails that differ.
func numbered(n int) iter.Seq[sample.Mail] {
	return func(yield func(sample.Mail) bool) {
		for i := range n {
			if !yield(numberedMail(i + 1)) {
				return
			}
		}
	}
}

func numberedMail(i int) sample.Mail {
	return sample.Mail{
		Received: noon.Add(time.Duration(i) * time.Minute),
		Raw:      fmt.Appendf(nil, "Subject: number %d\r\n\r\n%s\x00\xff\r\n", i, bytes.Repeat([]byte("line\r\n"), 300+i%7)),
	}
}

var wholeMessage = &imap.FetchItemBodySection{Peek: true}

func TestServerHandsOutThousandsOfMessagesAsTheyAre(t *testing.T) {
	const n = 5000
	c := login(t, serve(t, numbered(n)), nil)
	box, err := c.Select("inbox", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if box.NumMessages != n || box.UIDNext != n+1 || box.UIDValidity == 0 {
		t.Errorf("mailbox: %+v", box)
	}
	i := 0
	fetch := c.Fetch(imap.UIDSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{UID: true, InternalDate: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{wholeMessage}})
	for m := fetch.Next(); m != nil; m = fetch.Next() {
		i++
		b, err := m.Collect()
		if err != nil {
			t.Fatal(err)
		}
		want := numberedMail(i)
		if b.UID != imap.UID(i) || !b.InternalDate.Equal(want.Received) || b.RFC822Size != int64(len(want.Raw)) || !bytes.Equal(b.FindBodySection(wholeMessage), want.Raw) {
			t.Fatalf("message %d: UID %d of %v, %d bytes:\n%.100q", i, b.UID, b.InternalDate, b.RFC822Size, b.FindBodySection(wholeMessage))
		}
	}
	if err := fetch.Close(); err != nil || i != n {
		t.Errorf("%d messages of %d: %v", i, n, err)
	}
}

func TestServerTellsThoseWhoWaitOfNewMail(t *testing.T) {
	s := serve(t, numbered(3))
	told := make(chan uint32, 10)
	c := login(t, s, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{Mailbox: func(m *imapclient.UnilateralDataMailbox) {
		if m.NumMessages != nil {
			told <- *m.NumMessages
		}
	}}})
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for i := uint32(4); i <= 6; i++ {
		if i == 5 {
			s.Append(numberedMail(5)) // between two IDLEs
		}
		idle, err := c.Idle()
		if err != nil {
			t.Fatal(err)
		}
		if i != 5 {
			s.Append(numberedMail(int(i)))
		}
		if n := <-told; n != i {
			t.Errorf("told of %d messages, want %d", n, i)
		}
		if err := errors.Join(idle.Close(), idle.Wait()); err != nil {
			t.Fatal(err)
		}
		m, err := c.Fetch(imap.UIDSetNum(imap.UID(i)), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{wholeMessage}}).Collect()
		if err != nil || len(m) != 1 || !bytes.Equal(m[0].FindBodySection(wholeMessage), numberedMail(int(i)).Raw) {
			t.Errorf("message %d: %v, %v", i, m, err)
		}
	}
}

func TestServerAnswersQuestionsAboutTheMailbox(t *testing.T) {
	s := serve(t, numbered(9))
	c := login(t, s, nil)
	status, err := c.Status("INBOX", &imap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true, NumUnseen: true}).Wait()
	if err != nil || *status.NumMessages != 9 || *status.NumUnseen != 9 || status.UIDNext != 10 {
		t.Errorf("status: %+v, %v", status, err)
	}
	boxes, err := c.List("", "*", nil).Collect()
	if err != nil || len(boxes) != 1 || boxes[0].Mailbox != "INBOX" {
		t.Errorf("list: %+v, %v", boxes, err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	uids := func(set imap.UIDSet) imap.SearchCriteria { return imap.SearchCriteria{UID: []imap.UIDSet{set}} }
	for _, q := range []struct {
		name     string
		criteria imap.SearchCriteria
		want     []imap.UID
	}{
		{"all", imap.SearchCriteria{}, []imap.UID{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"from a UID on", uids(imap.UIDSet{{Start: 8, Stop: 0}}), []imap.UID{8, 9}},
		{"the last, by a range from beyond", uids(imap.UIDSet{{Start: 20, Stop: 0}}), []imap.UID{9}},
		{"none", uids(imap.UIDSetNum(10, 11)), nil},
		{"numbers", imap.SearchCriteria{SeqNum: []imap.SeqSet{{{Start: 2, Stop: 3}}}}, []imap.UID{2, 3}},
		{"unseen", imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}, UID: []imap.UIDSet{imap.UIDSetNum(1)}}, []imap.UID{1}},
		{"seen", imap.SearchCriteria{Flag: []imap.Flag{imap.FlagSeen}}, nil},
		{"before its first day", imap.SearchCriteria{Before: noon}, nil},
		{"one or another", imap.SearchCriteria{Or: [][2]imap.SearchCriteria{{uids(imap.UIDSetNum(4)), uids(imap.UIDSetNum(6))}}}, []imap.UID{4, 6}},
		{"not", imap.SearchCriteria{Not: []imap.SearchCriteria{uids(imap.UIDSet{{Start: 2, Stop: 9}})}}, []imap.UID{1}},
		{"the longest", imap.SearchCriteria{Larger: int64(len(numberedMail(5).Raw))}, []imap.UID{6}},
	} {
		got, err := c.UIDSearch(&q.criteria, nil).Wait()
		if err != nil {
			t.Errorf("%s: %v", q.name, err)
			continue
		}
		if uids := got.AllUIDs(); !slices.Equal(uids, q.want) {
			t.Errorf("%s: %v, want %v", q.name, uids, q.want)
		}
	}

	partial := &imap.FetchItemBodySection{Peek: true, Partial: &imap.SectionPartial{Offset: 9, Size: 8}}
	subject := &imap.FetchItemBodySection{Peek: true, Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"subject"}}
	m, err := c.Fetch(imap.SeqSetNum(3), &imap.FetchOptions{Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, Flags: true,
		BodySection: []*imap.FetchItemBodySection{partial, subject}}).Collect()
	if err != nil || len(m) != 1 {
		t.Fatal(m, err)
	}
	if got := string(m[0].FindBodySection(partial)); got != "number 3" {
		t.Errorf("part of the message: %q", got)
	}
	if got := string(m[0].FindBodySection(subject)); got != "Subject: number 3\r\n\r\n" {
		t.Errorf("subject: %q", got)
	}
	if m[0].Envelope.Subject != "number 3" || m[0].BodyStructure == nil || len(m[0].Flags) != 0 {
		t.Errorf("message: %+v", m[0])
	}
}

func TestServerRefusesWhatItCannotDo(t *testing.T) {
	s := serve(t, numbered(2))
	c := login(t, s, nil)
	refused := func(what string, code imap.ResponseCode, err error) {
		t.Helper()
		var no *imap.Error
		if !errors.As(err, &no) || no.Type != imap.StatusResponseTypeNo || no.Code != code {
			t.Errorf("%s: %v, want NO with %q", what, err, code)
		}
	}
	_, err := c.Select("Archive", nil).Wait()
	refused("another mailbox", imap.ResponseCodeNonExistent, err)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	refused("a flag", imap.ResponseCodeNoPerm, c.Store(imap.UIDSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}}, nil).Close())
	_, err = c.Copy(imap.UIDSetNum(1), "INBOX").Wait()
	refused("a copy", imap.ResponseCodeNoPerm, err)
	_, err = c.Search(&imap.SearchCriteria{Text: []string{"number"}}, nil).Wait()
	refused("a search for text", imap.ResponseCodeCannot, err)
	a := c.Append("INBOX", 3, nil)
	a.Write([]byte("a\r\n"))
	a.Close()
	_, err = a.Wait()
	refused("an upload", imap.ResponseCodeNoPerm, err)
	if err := c.UnselectAndExpunge().Wait(); err != nil {
		t.Error(err)
	}

	c, err = imapclient.DialInsecure(s.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	refused("a wrong password", imap.ResponseCodeAuthenticationFailed, c.Login(user, "battery staple").Wait())
}

func TestServerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := sample.Serve(ctx, l, user, password, numbered(1))
	if err != nil {
		t.Fatal(err)
	}
	c := login(t, s, nil)
	cancel()
	<-c.Closed()
	if err := s.Close(); err != nil {
		t.Error(err)
	}

	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sample.Serve(ctx, l, user, password, numbered(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("filling a mailbox after the end: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
}

func TestServerOffersTheMailbox(t *testing.T) {
	mails := slices.Collect(sample.Mailbox(sample.Options{Seed: 1, Now: noon, Days: 2}, nil))
	c := login(t, serve(t, slices.Values(mails)), nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	got, err := c.Fetch(imap.UIDSet{{Start: 1}}, &imap.FetchOptions{UID: true, InternalDate: true, BodySection: []*imap.FetchItemBodySection{wholeMessage}}).Collect()
	if err != nil || len(got) != len(mails) {
		t.Fatalf("%d messages of %d: %v", len(got), len(mails), err)
	}
	for i, m := range got {
		if !reflect.DeepEqual(m.FindBodySection(wholeMessage), mails[i].Raw) || !m.InternalDate.Equal(mails[i].Received) {
			t.Errorf("message %d of %v, want %v:\n%.300s", m.UID, m.InternalDate, mails[i].Received, m.FindBodySection(wholeMessage))
		}
	}
}
