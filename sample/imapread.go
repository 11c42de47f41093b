package sample

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-message/textproto"
)

// messages returns those that the client has been told of.
func (s *session) messages() []Mail {
	mails, _ := s.server.content()
	s.mu.Lock()
	defer s.mu.Unlock()
	return mails[:s.known]
}

// ranges returns which messages a set names, as indices [from, to) in
// ascending order; sequence numbers and UIDs are the same here.
func ranges(set imap.NumSet, n uint32) [][2]uint32 {
	var out [][2]uint32
	add := func(start, stop uint32) {
		if start == 0 { // "*"
			start = n
		}
		if stop == 0 {
			stop = n
		}
		if start > stop {
			start, stop = stop, start
		}
		if stop = min(stop, n); start > 0 && start <= stop {
			out = append(out, [2]uint32{start - 1, stop})
		}
	}
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			add(r.Start, r.Stop)
		}
	case imap.UIDSet:
		for _, r := range set {
			add(uint32(r.Start), uint32(r.Stop))
		}
	}
	return out
}

func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	mails := s.messages()
	for _, r := range ranges(set, uint32(len(mails))) {
		for i := r[0]; i < r[1]; i++ {
			if err := fetch(w.CreateMessage(i+1), &mails[i], imap.UID(i+1), options); err != nil {
				return err
			}
		}
	}
	return nil
}

func fetch(w *imapserver.FetchResponseWriter, m *Mail, uid imap.UID, options *imap.FetchOptions) error {
	w.WriteUID(uid)
	if options.Flags {
		w.WriteFlags(nil)
	}
	if options.InternalDate {
		w.WriteInternalDate(m.Received)
	}
	if options.RFC822Size {
		w.WriteRFC822Size(int64(len(m.Raw)))
	}
	if options.Envelope {
		w.WriteEnvelope(envelope(m.Raw))
	}
	if options.BodyStructure != nil {
		w.WriteBodyStructure(imapserver.ExtractBodyStructure(bytes.NewReader(m.Raw)))
	}
	for _, section := range options.BodySection {
		body := m.Raw
		if section.Specifier == imap.PartSpecifierNone && len(section.Part) == 0 {
			body = part(body, section.Partial)
		} else {
			body = imapserver.ExtractBodySection(bytes.NewReader(body), section)
		}
		item := w.WriteBodySection(section, int64(len(body)))
		_, err := item.Write(body)
		if err := errors.Join(err, item.Close()); err != nil {
			return fmt.Errorf("writing a section of message %d: %w", uid, err)
		}
	}
	return w.Close()
}

// envelope returns the envelope of a message, as far as its header can be read.
func envelope(raw []byte) *imap.Envelope {
	header, _ := textproto.ReadHeader(bufio.NewReader(bytes.NewReader(raw)))
	return imapserver.ExtractEnvelope(header)
}

// part returns a part of a message, byte for byte as it was appended.
func part(raw []byte, p *imap.SectionPartial) []byte {
	if p == nil {
		return raw
	}
	n := int64(len(raw))
	from := min(p.Offset, n)
	return raw[from:min(from+p.Size, n)]
}

func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, _ *imap.SearchOptions) (*imap.SearchData, error) {
	mails := s.messages()
	if !answerable(criteria) {
		return nil, &imap.Error{Type: imap.StatusResponseTypeNo, Code: imap.ResponseCodeCannot, Text: "Search by numbers, dates, sizes and flags only"}
	}
	data := new(imap.SearchData)
	var uids imap.UIDSet
	var numbers imap.SeqSet
	for i := range mails {
		n := uint32(i + 1)
		if !matches(criteria, &mails[i], n, uint32(len(mails))) {
			continue
		}
		if data.Count == 0 {
			data.Min = n
		}
		data.Max = n
		data.Count++
		uids.AddNum(imap.UID(n))
		numbers.AddNum(n)
	}
	data.All = numbers
	if kind == imapserver.NumKindUID {
		data.All = uids
	}
	return data, nil
}

// answerable tells whether no text is searched for.
func answerable(c *imap.SearchCriteria) bool {
	for i := range c.Not {
		if !answerable(&c.Not[i]) {
			return false
		}
	}
	for i := range c.Or {
		if !answerable(&c.Or[i][0]) || !answerable(&c.Or[i][1]) {
			return false
		}
	}
	return len(c.Header)+len(c.Body)+len(c.Text) == 0 && c.SentSince.IsZero() && c.SentBefore.IsZero()
}

// matches tells whether the criteria fit message n of so many. No message has
// flags.
func matches(c *imap.SearchCriteria, m *Mail, n, of uint32) bool {
	in := func(set imap.NumSet) bool {
		return slices.ContainsFunc(ranges(set, of), func(r [2]uint32) bool { return r[0] < n && n <= r[1] })
	}
	for _, set := range c.SeqNum {
		if !in(set) {
			return false
		}
	}
	for _, set := range c.UID {
		if !in(set) {
			return false
		}
	}
	for i := range c.Not {
		if matches(&c.Not[i], m, n, of) {
			return false
		}
	}
	for i := range c.Or {
		if !matches(&c.Or[i][0], m, n, of) && !matches(&c.Or[i][1], m, n, of) {
			return false
		}
	}
	day, size := m.Received.UTC().Truncate(aDay), int64(len(m.Raw))
	return len(c.Flag) == 0 &&
		(c.Since.IsZero() || !day.Before(c.Since)) && (c.Before.IsZero() || day.Before(c.Before)) &&
		(c.Larger == 0 || size > c.Larger) && (c.Smaller == 0 || size < c.Smaller)
}

// What changes a mailbox is refused.

func (s *session) Create(string, *imap.CreateOptions) error         { return errReadOnly }
func (s *session) Delete(string) error                              { return errReadOnly }
func (s *session) Rename(string, string, *imap.RenameOptions) error { return errReadOnly }
func (s *session) Subscribe(string) error                           { return errReadOnly }
func (s *session) Unsubscribe(string) error                         { return errReadOnly }

func (s *session) Append(_ string, r imap.LiteralReader, _ *imap.AppendOptions) (*imap.AppendData, error) {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return nil, errReadOnly
}

// Expunge has nothing to do, since nothing can be marked as deleted: CLOSE
// calls it.
func (s *session) Expunge(*imapserver.ExpungeWriter, *imap.UIDSet) error { return nil }

func (s *session) Store(*imapserver.FetchWriter, imap.NumSet, *imap.StoreFlags, *imap.StoreOptions) error {
	return errReadOnly
}

func (s *session) Copy(imap.NumSet, string) (*imap.CopyData, error) { return nil, errReadOnly }
