package parse

import (
	"bufio"
	"errors"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A payload is what a part holds: a report, or a container of others. It can
// be opened again and again, which unpacks it anew.
type payload struct {
	m      *mail
	path   string
	typ    string // media type as declared, or ""
	name   string // of the file, or ""
	open   func() (*stream, error)
	raw    *section // the same, if it can be read at random
	layers int      // of compression around it
	base64 bool     // decoded once already because it looked like it
	flags  dmarc.Flags
	seen   seen
}

// seen is what unpacking a payload told.
type seen struct {
	high int64 // most bytes that came out
	done bool  // its end was reached, checksum included
	tail tail
}

// A tail is what follows a gzip member.
type tail int

const (
	tailNone tail = iota
	tailMember
	tailOther
)

// A stream is a payload being read. It knows how many packed bytes went in.
type stream struct {
	io.Reader
	packed *int64
	close  func()
}

// newStream reads something that is not packed.
func newStream(r io.Reader) *stream {
	n := new(int64)
	return &stream{Reader: &counter{r, n}, packed: n}
}

func (s *stream) Close() error {
	if s.close != nil {
		s.close()
		s.close = nil
	}
	return nil
}

// A counter counts what it reads.
type counter struct {
	r io.Reader
	n *int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// inner returns a payload that lies one layer of compression deeper. The
// function unpack is given the stream of p and returns the unpacked bytes.
func (w *walker) inner(p *payload, unpack func(*stream, *payload) (io.Reader, error)) *payload {
	q := &payload{m: p.m, path: p.path, name: innerName(p.name), layers: p.layers + 1, flags: p.flags}
	if q.layers > 1 {
		q.flags |= dmarc.FlagNestedCompression
	}
	q.open = func() (*stream, error) {
		s, err := p.open()
		if err != nil {
			return nil, err
		}
		r, err := unpack(s, q)
		if err != nil {
			s.Close()
			return nil, err
		}
		done := s.close
		if c, ok := r.(io.Closer); ok {
			done = func() {
				c.Close()
				s.Close()
			}
		}
		return &stream{&meter{w: w, seen: &q.seen, r: r, packed: s.packed}, s.packed, done}, nil
	}
	return q
}

// innerName is the name of what a packed file holds: report.xml of
// report.xml.gz.
func innerName(name string) string {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".gz", ".gzip", ".z":
		return name[:len(name)-len(ext)]
	case ".tgz":
		return name[:len(name)-len(ext)] + ".tar"
	case ".zip":
		return ""
	}
	return name
}

// A meter checks the limits of what comes out of a packed payload.
type meter struct {
	w      *walker
	seen   *seen
	r      io.Reader
	packed *int64
	out    int64
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.w.alive(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	m.out += int64(n)
	if m.w.sealed.Load() {
		return n, err
	}
	limits := &m.w.limits
	if err == io.EOF {
		m.seen.done = true
	}
	if m.out > m.seen.high {
		m.w.unpacked += m.out - m.seen.high
		m.seen.high = m.out
	}
	switch {
	case m.out > limits.Unpacked:
		return 0, refusal(dmarc.OutcomeBomb, "unpacks to more than %s (limits.unpacked)", size(limits.Unpacked))
	case m.out > limits.RatioAfter && m.out/limits.Ratio > *m.packed:
		return 0, refusal(dmarc.OutcomeBomb, "unpacks to more than %d times its size: %s out of %s (limits.ratio)", limits.Ratio, size(m.out), size(*m.packed))
	case m.w.unpacked > limits.TotalUnpacked:
		return 0, refusal(dmarc.OutcomeBomb, "the message unpacks to more than %s (limits.total_unpacked)", size(limits.TotalUnpacked))
	}
	return n, err
}

// corrupt makes an outcome of an error of a decompressor, unless the error
// came from below it.
func corrupt(what string, err error) error {
	if err == nil {
		return nil
	}
	var refused *dmarc.Error
	var read *readError
	switch {
	case errors.As(err, &refused), errors.As(err, &read):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return refusal(dmarc.OutcomeCorruptArchive, "%s breaks off", what)
	}
	return refusal(dmarc.OutcomeCorruptArchive, "%s cannot be unpacked: %v", what, err)
}

// peekers are buffers to be used again.
var peekers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, sniffLength) }}

// letGo gives a buffer back that nobody reads from any more.
func letGo(br *bufio.Reader) {
	br.Reset(nil)
	peekers.Put(br)
}

// read finds out what a payload is and reads it.
func (w *walker) read(p *payload) error {
	if w.stopped {
		return nil
	}
	if p.layers > w.limits.Layers {
		return w.failed(p.path, refusal(dmarc.OutcomeBomb, "compressed more than %d times (limits.layers)", w.limits.Layers))
	}
	s, err := p.open()
	if err != nil {
		return w.failed(p.path, err)
	}
	defer s.Close()
	br := peekers.Get().(*bufio.Reader)
	br.Reset(s)
	head, err := br.Peek(sniffLength)
	if blank := len(head) - len(skipBlank(head)); blank > 0 {
		// White space may be of any length.
		for err == nil && blank == len(head) {
			br.Discard(blank)
			head, err = br.Peek(sniffLength)
			blank = len(head) - len(skipBlank(head))
		}
	}
	if err != nil && err != io.EOF && (len(head) == 0 || refusedFor(err) == dmarc.OutcomeTimeout || refusedFor(err) == "") {
		return w.failed(p.path, err)
	}
	found := sniff(head, err == io.EOF)
	if contradicts(found.kind, p.typ, p.name) {
		p.flags |= dmarc.FlagMislabelled
	}
	first := &stream{Reader: br, packed: s.packed} // closed here, not by its reader
	switch {
	case p.typ == "text/html" && !ofInterestInHTML(found.kind, head):
		return nil
	case strings.EqualFold(path.Ext(p.name), ".eml") && !found.kind.bare():
		return w.mailFile(p, first)
	}
	switch found.kind {
	case kindGzip:
		letGo(br)
		return w.gzip(p)
	case kindZlib:
		return w.zlib(p)
	case kindZip:
		return w.zip(p)
	case kindTar:
		return w.tar(p)
	case kindBase64:
		return w.base64(p)
	case kindXML, kindJSON:
		err := w.report(p, found.kind, first)
		letGo(br)
		return err
	case kindParsedmarc, kindReportList:
		return w.reportList(p, first)
	case kindOtherXML:
		return w.otherXML(p, found, first)
	case kindARF:
		return w.feedback(p, first)
	case kindFailureText:
		return w.failureText(p, first)
	case kindOLE:
		return w.outlook(p, first)
	case kindUnsupported:
		return w.failed(p.path, refusal(dmarc.OutcomeUnsupported, "%s is not opened", found.what))
	case kindEmpty:
		return w.empty(p, err)
	case kindText:
		if strings.Contains(p.typ, "feedback-report") {
			return w.feedback(p, first)
		}
		if p.layers > 0 && strings.EqualFold(strings.TrimSpace(string(head)), "unused") {
			return w.failed(p.path, refusal(dmarc.OutcomeEmptyReport, "the packed file holds nothing but the word %q", "unused"))
		}
	}
	return w.other(p, found, first)
}

// refusedFor returns the outcome of an error, or "" if it has none.
func refusedFor(err error) dmarc.Outcome {
	var refused *dmarc.Error
	if errors.As(err, &refused) {
		return refused.Outcome
	}
	return ""
}

// empty tells what is wrong with a payload without content.
func (w *walker) empty(p *payload, err error) error {
	if err != nil && err != io.EOF {
		return w.failed(p.path, err)
	}
	if p.layers > 0 || promisesReport(labelOf(p.typ)) || promisesReport(labelOfName(p.name)) {
		return w.failed(p.path, refusal(dmarc.OutcomeEmptyReport, "an empty file"))
	}
	return nil
}

// ofInterestInHTML tells whether what is called HTML is surely something else.
func ofInterestInHTML(k kind, head []byte) bool {
	switch k {
	case kindGzip, kindZip:
		return true
	case kindXML:
		name, _ := rootName(head)
		return name[strings.LastIndexByte(name, ':')+1:] == "feedback"
	}
	return false
}

// mailFile reads a mail that lies in a file.
func (w *walker) mailFile(p *payload, s *stream) error {
	if p.m.nested >= w.limits.NestedMails {
		return w.failed(p.path, w.tooNested())
	}
	content, err := w.atRandom(p, s)
	if err != nil {
		return w.failed(p.path, err)
	}
	return w.within(content, p.path, p.m.nested+1)
}

// wrapperLength is how far into XML with another root a report may begin.
const wrapperLength = 64 << 10

// otherXML is for XML with another root than that of a report: some put a
// report into a wrapper.
func (w *walker) otherXML(p *payload, found sniffed, s *stream) error {
	text, err := io.ReadAll(io.LimitReader(s, wrapperLength))
	if err != nil {
		return w.failed(p.path, err)
	}
	if !feedbackElement.Match(text) {
		return w.other(p, found, s)
	}
	again, err := p.open()
	if err != nil {
		return w.failed(p.path, err)
	}
	defer again.Close()
	return w.report(p, kindXML, &stream{Reader: again, packed: again.packed})
}

// other is for what is no report.
func (w *walker) other(p *payload, found sniffed, s *stream) error {
	switch {
	case found.what != "" && p.typ != "text/html" && p.typ != "text/plain":
		w.remark(found.what + ", no report")
	case p.layers > 0:
		w.remark("a packed file without a report")
	}
	if p.layers > 0 {
		return w.drain(p, s)
	}
	return nil
}

// atRandom returns a payload for reading at random.
func (w *walker) atRandom(p *payload, s *stream) (section, error) {
	if p.raw != nil {
		return *p.raw, nil
	}
	return w.spooled(s)
}

// drain reads the rest of an unpacked payload, for its checksum and for what
// follows it, unless its end was seen.
func (w *walker) drain(p *payload, s *stream) error {
	if p.seen.done {
		return nil
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		return w.failed(p.path, err)
	}
	return nil
}

// report reads an aggregate report or a TLS report. The stream is one that was
// opened already.
func (w *walker) report(p *payload, k kind, first *stream) error {
	var failed error // of the bytes, whatever the reader makes of it
	unread := first
	open := func() (io.ReadCloser, error) {
		if w.sealed.Load() {
			return p.open()
		}
		s := unread
		if unread = nil; s == nil {
			var err error
			if s, err = p.open(); err != nil {
				failed = err
				return nil, err
			}
		}
		return &watched{s, &failed}, nil
	}
	part := dmarc.Part{Path: p.path}
	var flags *dmarc.Flags
	var err error
	if k == kindJSON {
		part.TLS, err = w.tls(p, open)
		if err == nil {
			flags = &part.TLS.Flags
		}
	} else if k == kindParsedmarc {
		part.Aggregate, err = readAggregate(detached{w}, translating(open, &w.limits), w.limits, hints{})
		if err = badTranslation(err); err == nil {
			reduced(part.Aggregate)
			flags = &part.Aggregate.Flags
		}
	} else {
		h := hints{FileName: p.name, Subject: p.m.subject, MailFrom: p.m.from}
		part.Aggregate, err = readAggregate(detached{w}, open, w.limits, h)
		if err == nil {
			flags = &part.Aggregate.Flags
		}
	}
	if failed != nil {
		err = failed
	}
	if err == nil && p.layers > 0 && !p.seen.done {
		_, err = io.Copy(io.Discard, first)
		if err == nil && !p.seen.done { // first was not the stream that was read
			err = w.again(p)
		}
	}
	if err != nil {
		return w.failed(p.path, w.reason(err))
	}
	*flags |= p.flags
	part.Path = w.unique(p.path)
	part.Text = func() (io.ReadCloser, error) {
		s, err := p.open()
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	w.found.Parts = append(w.found.Parts, part)
	return nil
}

// again reads a payload from beginning to end.
func (w *walker) again(p *payload) error {
	s, err := p.open()
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = io.Copy(io.Discard, s)
	return err
}

// reason turns the end of our context into what it means for the message.
func (w *walker) reason(err error) error {
	if dead := w.alive(); dead != nil {
		return dead
	}
	return err
}

// watched notes the first error of a stream.
type watched struct {
	*stream
	err *error
}

func (r *watched) Read(p []byte) (int, error) {
	n, err := r.stream.Read(p)
	if err != nil && err != io.EOF && *r.err == nil {
		*r.err = err
	}
	return n, err
}

// A corruptReader makes outcomes of the errors of a decompressor.
type corruptReader struct {
	r    io.Reader
	what string
}

func (c corruptReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != io.EOF {
		err = corrupt(c.what, err)
	}
	return n, err
}
