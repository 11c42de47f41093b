package parse

import (
	"fmt"
	"io"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// An entity is a mail or a part of one.
type entity struct {
	mail   *mail
	header header
	body   section
	path   string // of the part; for the root of a mail that of the part it lies in
	root   bool
	depth  int // of multiparts around it
}

// leafPath is the path of an entity that is no multipart.
func (e *entity) leafPath() string {
	if e.root {
		return childPath(e.path, 1)
	}
	return e.path
}

func childPath(path string, n int) string {
	if path == "" {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s.%d", path, n)
}

// sampleTypes are the media types of a mail, or the header of one, within a
// mail.
var sampleTypes = map[string]bool{
	"message/rfc822": true, "message/rfc-822": true, "message/global": true, "text/rfc822": true, "text-rfc-822": true,
	"text/rfc822-headers": true, "text/rfc-822-headers": true, "message/rfc822-headers": true, "message/global-headers": true,
}

// entity reads a part and all that is in it.
func (w *walker) entity(e *entity) error {
	if w.stopped {
		return nil
	}
	typ, params := e.header.contentType()
	if strings.HasPrefix(typ, "multipart/") {
		return w.multipart(e, params)
	}
	if sampleTypes[typ] {
		for _, d := range e.mail.failures {
			if d.sample == nil { // its multipart lost it
				return w.sample(d, e)
			}
		}
		return w.nested(e)
	}
	return w.leaf(e)
}

// multipart reads the parts of a multipart. Which kind of multipart it is
// makes no difference, except that samples and returned mail are not read as
// reports.
func (w *walker) multipart(e *entity, params map[string]string) error {
	if e.depth >= w.limits.MIMEDepth {
		return w.failed(e.leafPath(), refusal(dmarc.OutcomeTooLarge, "multiparts nested deeper than %d (limits.mime_depth)", w.limits.MIMEDepth))
	}
	body := e.body
	if transferEncoding(e.header["contenttransferencoding"]) != "" { // against the rules
		if boundaries, _, err := split(body, params["boundary"], 1); err != nil {
			return w.failed(e.leafPath(), err)
		} else if len(boundaries) == 0 {
			if body, err = w.decoded(e); err != nil {
				return w.failed(e.leafPath(), err)
			}
		}
	}
	left := max(w.limits.MIMEParts-w.parts, 0)
	sections, more, err := split(body, params["boundary"], left)
	if err == nil && len(sections) == 0 && !more {
		var boundary string
		if boundary, err = guessBoundary(body); err == nil && boundary != "" {
			sections, more, err = split(body, boundary, left)
		}
	}
	if err != nil {
		return w.failed(e.leafPath(), err)
	}
	if len(sections) == 0 && !more {
		return w.leaf(e)
	}
	w.parts += len(sections)

	children := make([]*entity, len(sections))
	for i, s := range sections {
		l := s.lines()
		h := collectContent(l)
		if l.err != nil {
			return w.failed(e.leafPath(), l.err)
		}
		s.start = l.offset()
		children[i] = &entity{mail: e.mail, header: h, body: s, path: childPath(e.path, i+1), depth: e.depth + 1}
	}
	if err := w.children(children, params["report-type"]); err != nil {
		return err
	}
	if more && !w.stopped {
		return w.failed(e.leafPath(), refusal(dmarc.OutcomeTooLarge, "more than %d parts (limits.mime_parts)", w.limits.MIMEParts))
	}
	return nil
}

// children reads the parts of one multipart.
func (w *walker) children(children []*entity, reportType string) error {
	feedback, samples := false, false
	returned := strings.EqualFold(reportType, "delivery-status") || strings.EqualFold(reportType, "disposition-notification")
	for _, c := range children {
		typ, _ := c.header.contentType()
		switch {
		case strings.Contains(typ, "feedback-report"):
			feedback = true
		case typ == "message/delivery-status", typ == "message/global-delivery-status", typ == "message/disposition-notification":
			returned = true
		case sampleTypes[typ]:
			samples = true
		}
	}
	if samples && !feedback {
		for _, c := range children {
			is, err := w.isFeedback(c)
			if err != nil {
				return w.failed(c.leafPath(), err)
			}
			feedback = feedback || is
		}
	}
	if !feedback {
		for _, c := range children {
			if typ, _ := c.header.contentType(); returned && sampleTypes[typ] {
				continue // what was sent and came back
			}
			if err := w.entity(c); err != nil {
				return err
			}
		}
		return nil
	}
	// A sample belongs to the report before it; if there is none, to the next.
	var early *entity
	for _, c := range children {
		if typ, _ := c.header.contentType(); !sampleTypes[typ] {
			n := len(c.mail.failures)
			if err := w.entity(c); err != nil {
				return err
			}
			if early != nil && len(c.mail.failures) > n && c.mail.failures[n].sample == nil {
				if err := w.sample(c.mail.failures[n], early); err != nil {
					return err
				}
				early = nil
			}
			continue
		}
		if n := len(c.mail.failures); n > 0 && c.mail.failures[n-1].sample == nil {
			if err := w.sample(c.mail.failures[n-1], c); err != nil {
				return err
			}
		} else if early == nil {
			early = c
		}
	}
	return nil
}

// isFeedback tells whether a part is a feedback report under another type.
func (w *walker) isFeedback(e *entity) (bool, error) {
	typ, _ := e.header.contentType()
	if strings.HasPrefix(typ, "multipart/") || sampleTypes[typ] || typ == "text/html" || strings.HasPrefix(typ, "image/") {
		return false, nil
	}
	head, err := peek(transferDecoder(e.header["contenttransferencoding"], e.body.reader()))
	if err != nil {
		return false, err
	}
	return isARF(skipBlank(head)), nil
}

// nested reads a mail within the mail.
func (w *walker) nested(e *entity) error {
	if e.mail.nested >= w.limits.NestedMails {
		return w.failed(e.leafPath(), w.tooNested())
	}
	body, err := w.decoded(e)
	if err != nil {
		return w.failed(e.leafPath(), err)
	}
	return w.within(body, e.leafPath(), e.mail.nested+1)
}

func (w *walker) tooNested() error {
	return refusal(dmarc.OutcomeTooLarge, "mails within mails, more than %d (limits.nested_mails)", w.limits.NestedMails)
}

// within reads a mail that lies in another.
func (w *walker) within(s section, path string, nested int) error {
	head, err := peek(s.reader())
	if err != nil {
		return w.failed(path, err)
	}
	l := w.at(s, head)
	h := collect(l)
	if l.err != nil {
		return w.failed(path, l.err)
	}
	s.start = l.offset()
	return w.mail(s, h, path, nested)
}

// decoded returns the content of an entity for reading at random: the entity
// itself, or a spool if it is encoded.
func (w *walker) decoded(e *entity) (section, error) {
	encoding := e.header["contenttransferencoding"]
	if transferEncoding(encoding) == "" {
		return e.body, nil
	}
	if head, err := peek(e.body.reader()); err != nil {
		return section{}, err
	} else if !plausible(encoding, head) {
		return e.body, nil
	}
	return w.spooled(transferDecoder(encoding, e.body.reader()))
}

// spooled keeps what a reader gives until the message is closed. All that a
// message needs kept is in one spool, no larger than a message may be.
func (w *walker) spooled(r io.Reader) (section, error) {
	if w.scratch == nil {
		w.scratch = &Spool{}
		w.found.close = append(w.found.close, w.scratch.Close)
	}
	start := w.scratch.Size()
	limit, setting := w.limits.Part, "limits.part"
	if left := w.limits.Message - start; left < limit {
		limit, setting = left, "limits.message"
	}
	err := w.scratch.add(&bounded{r: r, left: limit, limit: limit, setting: setting})
	return section{&source{w, w.scratch}, start, w.scratch.Size()}, err
}

// plausible tells whether content can be in the encoding that it declares:
// mail or XML labelled as base64 is neither.
func plausible(encoding string, head []byte) bool {
	if transferEncoding(encoding) != "base64" {
		return true
	}
	head = skipBlank(head)
	if len(head) > 0 && base64Values[head[0]] == 255 {
		return false
	}
	line, _, _ := strings.Cut(string(head[:min(len(head), 200)]), "\n")
	_, _, ok := field([]byte(line))
	return !ok
}

// leaf reads a part that is no multipart.
func (w *walker) leaf(e *entity) error {
	typ, _ := e.header.contentType()
	p := &payload{m: e.mail, path: e.leafPath(), typ: typ, name: e.header.fileName()}
	encoding := e.header["contenttransferencoding"]
	head, err := peek(e.body.reader())
	if err != nil {
		return w.failed(p.path, err)
	}
	if !plausible(encoding, head) {
		encoding = ""
	}
	if transferEncoding(encoding) == "" {
		p.raw = &e.body
		if line := skipBlank(head); e.depth < w.limits.MIMEDepth && len(line) > 2 && string(line[:2]) == "--" {
			// A multipart whose header got lost.
			if boundary, err := guessBoundary(e.body); err != nil {
				return w.failed(p.path, err)
			} else if boundary != "" {
				return w.multipart(e, map[string]string{"boundary": boundary})
			}
		}
	}
	p.open = func() (*stream, error) {
		r := transferDecoder(encoding, e.body.reader())
		return newStream(&bounded{r: r, left: w.limits.Part, limit: w.limits.Part, setting: "limits.part"}), nil
	}
	if isSigned(typ, p.name) {
		return w.failed(p.path, refusal(dmarc.OutcomeUnsupported, "opaque S/MIME is not opened"))
	}
	return w.read(p)
}

// isSigned tells whether a part is S/MIME that is signed or encrypted as a
// whole; a signature beside its content is not.
func isSigned(typ, name string) bool {
	switch typ {
	case "application/pkcs7-mime", "application/x-pkcs7-mime":
		return true
	}
	return strings.EqualFold(name, "smime.p7m")
}
