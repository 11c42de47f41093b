package parse

import (
	"crypto/sha256"
	"errors"
	"io"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// sampleFields are the fields of a sample that are kept, by squashed name, and
// all that begin with List-. The others are dropped: they are personal data
// without use.
var sampleFields = map[string]bool{
	"from": true, "subject": true, "date": true, "messageid": true, "received": true,
	"dkimsignature": true, "authenticationresults": true,
}

// errSampleFull stops the reading of the parts of a sample.
var errSampleFull = errors.New("too many parts")

// sample adds the message that failed to a failure report: some fields of its
// header, and of its parts what they are, without their content.
func (w *walker) sample(d *draft, e *entity) error {
	d.sample = e
	content, err := w.decoded(e)
	if err != nil {
		return w.sampleFailed(d, err)
	}
	head, err := peek(content.reader())
	if err != nil {
		return w.sampleFailed(d, err)
	}
	l := w.at(content, head)
	at := l.offset()
	w.sampleHeader(d, l)
	if l.err != nil {
		return w.sampleFailed(d, l.err)
	}
	if typ, _ := e.header.contentType(); strings.HasSuffix(typ, "-headers") {
		return nil
	}
	// Again, for the fields that tell what the parts are.
	l = newLines(content.blob, at, content.end)
	h := collect(l)
	body := section{content.blob, l.offset(), content.end}
	if err := w.sampleParts(d, h, body, 0); err != nil {
		return w.sampleFailed(d, err)
	}
	return nil
}

// sampleFailed flags a report of which the sample could not be read whole. The
// report survives.
func (w *walker) sampleFailed(d *draft, err error) error {
	var refused *dmarc.Error
	if !errors.As(err, &refused) && !errors.Is(err, errSampleFull) {
		return err
	}
	d.report.Flags |= dmarc.FlagTruncated
	w.stopped = w.stopped || refusedFor(err) == dmarc.OutcomeTimeout
	return nil
}

// sampleHeader reads the header of the sample.
func (w *walker) sampleHeader(d *draft, l *lines) {
	r, left := d.report, w.limits.SampleHeaders
	readHeader(l, func(name, value string) {
		key := squash(name)
		if !sampleFields[key] && !strings.HasPrefix(strings.ToLower(name), "list-") {
			return
		}
		if left -= int64(len(name) + len(value)); left < 0 {
			r.Flags |= dmarc.FlagTruncated
			return
		}
		text, wasCut := textField(value, maxComment)
		if wasCut {
			r.Flags |= dmarc.FlagCut
		}
		r.Headers = append(r.Headers, dmarc.HeaderField{Name: name, Value: text})
		switch {
		case key == "from" && d.from == "":
			d.from = authorDomain(text)
		case key == "messageid" && d.id == "":
			d.id = text
		case key == "date" && d.date == "":
			d.date = text
		}
	})
}

// authorDomain returns the domain of the address in a From field, or "".
func authorDomain(from string) string {
	if i := strings.LastIndexByte(from, '<'); i >= 0 {
		from, _, _ = strings.Cut(from[i+1:], ">")
	}
	name, ok := domainName(dmarc.AddressDomain(from))
	if !ok {
		return ""
	}
	return name
}

// sampleParts notes what the parts of a sample are.
func (w *walker) sampleParts(d *draft, h header, body section, depth int) error {
	typ, params := h.contentType()
	if strings.HasPrefix(typ, "multipart/") && depth < w.limits.MIMEDepth {
		parts, more, err := split(body, params["boundary"], max(w.limits.MIMEParts-w.parts, 0))
		if err != nil {
			return err
		}
		w.parts += len(parts)
		for _, part := range parts {
			l := part.lines()
			h := collectContent(l)
			if l.err != nil {
				return l.err
			}
			part.start = l.offset()
			if err := w.sampleParts(d, h, part, depth+1); err != nil {
				return err
			}
		}
		if more {
			return errSampleFull
		}
		if len(parts) > 0 {
			return nil
		}
	}
	if typ == "" {
		typ = "text/plain" // RFC 2045, section 5.2
	}
	sum := sha256.New()
	r := transferDecoder(h["contenttransferencoding"], body.reader())
	n, err := io.Copy(sum, &bounded{r: r, left: w.limits.Part, limit: w.limits.Part, setting: "limits.part"})
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	typ, _ = textField(typ, maxName)
	d.report.Body = append(d.report.Body, dmarc.SamplePart{MediaType: typ, Size: n, Hash: dmarc.Digest(sum.Sum(nil))})
	return nil
}
