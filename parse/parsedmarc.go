package parse

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// maxReports bounds what one message costs in which many are promised. A file that
// is imported is taken apart before, and may hold any number.
const maxReports = 10_000

// reportList reads the reports of a file that parsedmarc wrote.
func (w *walker) reportList(p *payload, s *stream) error {
	content, err := w.atRandom(p, s)
	if err != nil {
		return w.failed(p.path, err)
	}
	list := NewReportList(content.reader())
	for n := 0; ; n++ {
		if err := w.alive(); err != nil {
			return w.failed(p.path, err)
		}
		one, err := list.Next()
		if err == io.EOF {
			return nil
		}
		if n == maxReports {
			return w.failed(p.path, refusal(dmarc.OutcomeTooLarge, "more than %d reports in one file: dmarcd import takes it, unpacked", maxReports))
		}
		if err != nil {
			return w.failed(p.path, err)
		}
		from := list.pos
		if _, err := io.Copy(io.Discard, one); err != nil {
			return w.failed(p.path, err)
		}
		part := section{content.blob, content.start + from, content.start + list.pos}
		q := &payload{m: p.m, path: p.path, raw: &part, flags: p.flags}
		q.open = func() (*stream, error) { return newStream(part.reader()), nil }
		if err := w.parsedmarc(q); err != nil || w.stopped {
			return err
		}
	}
}

// parsedmarc reads one report.
func (w *walker) parsedmarc(p *payload) error {
	head, err := peek(p.raw.reader())
	if err != nil {
		return w.failed(p.path, err)
	}
	first, err := p.open()
	if err != nil {
		return w.failed(p.path, err)
	}
	defer first.Close()
	switch {
	case holdsAny(head, `"organization_name"`, `"policies"`):
		return w.report(p, kindJSON, first)
	case holdsAny(head, `"report_metadata"`, `"policy_published"`, `"xml_schema"`):
		return w.report(p, kindParsedmarc, first)
	case holdsAny(head, parsedmarcKeys...):
		return w.parsedmarcFailure(p, first)
	}
	w.remark("JSON that is no report")
	return nil
}

// A translation is an aggregate report of parsedmarc as XML (RFC 7489, Appendix
// C), made while it is read. The metadata come last, since only the rows tell the
// period in UTC. What parsedmarc did not keep is left out, and what it put in
// place of something missing as far as that is known.
type translation struct {
	src    io.ReadCloser
	json   *jsonValues
	limits *Limits
	out    bytes.Buffer
	err    error

	begun, rows bool
	meta        parsedmarcMeta
	begin, end  time.Time // by what the rows tell, in UTC
}

// parsedmarcMeta is report_metadata.
type parsedmarcMeta struct {
	orgName, email, extra, id, begin, end, generator, span string
	errors                                                 []string
}

func newTranslation(src io.ReadCloser, limits *Limits) *translation {
	d := json.NewDecoder(newJSONGuard(src, limits.Depth))
	d.UseNumber()
	return &translation{src: src, json: &jsonValues{d}, limits: limits}
}

func (t *translation) Close() error { return t.src.Close() }

func (t *translation) Read(p []byte) (int, error) {
	for t.out.Len() == 0 {
		if t.err != nil {
			return 0, t.err
		}
		if err := t.step(); err != nil {
			if t.err = err; err != io.EOF {
				t.err = jsonError(err)
			}
		}
	}
	return t.out.Read(p)
}

// step translates the next key of the report, or the next row.
func (t *translation) step() error {
	if !t.begun {
		first, err := t.json.next()
		if err != nil {
			return err
		}
		if first != json.Delim('{') {
			return refusal(dmarc.OutcomeBadJSON, "not a report: an object is expected")
		}
		t.begun = true
		t.out.WriteString("<feedback>")
		return nil
	}
	if t.rows {
		if t.json.d.More() {
			return t.record()
		}
		t.rows = false
		_, err := t.json.next()
		return err
	}
	if !t.json.d.More() {
		if _, err := t.json.next(); err != nil {
			return err
		}
		t.metadata()
		t.out.WriteString("</feedback>")
		return io.EOF
	}
	key, err := t.json.next()
	if err != nil {
		return err
	}
	name, _ := key.(string)
	switch name {
	case "xml_schema":
		version, err := t.json.text()
		if version != "draft" { // there was none
			t.element("version", version)
		}
		return err
	case "report_metadata":
		return t.json.object(t.metadataField)
	case "policy_published":
		t.out.WriteString("<policy_published>")
		err := t.fields(map[string]string{"domain": "domain", "adkim": "adkim", "aspf": "aspf", "p": "p", "sp": "sp", "np": "np",
			"pct": "pct", "fo": "fo", "testing": "testing", "discovery-method": "discovery_method"})
		t.out.WriteString("</policy_published>")
		return err
	case "records":
		first, err := t.json.next()
		if err != nil {
			return err
		}
		if t.rows = first == json.Delim('['); !t.rows {
			return t.json.skipFrom(first)
		}
		return nil
	}
	return t.json.skip()
}

// element writes an element, unless there is nothing to say.
func (t *translation) element(name, text string) {
	if text == "" {
		return
	}
	t.out.WriteString("<" + name + ">")
	xml.EscapeText(&t.out, []byte(text))
	t.out.WriteString("</" + name + ">")
}

// fields writes the fields of an object as elements, by their names as keys.
func (t *translation) fields(names map[string]string) error {
	return t.json.object(func(key string) error {
		name, known := names[key]
		if !known {
			return t.json.skip()
		}
		text, err := t.json.text()
		if name == "selector" && text == "none" { // parsedmarc's word for a missing one
			text = ""
		}
		t.element(name, text)
		return err
	})
}

func (t *translation) metadataField(key string) error {
	m := &t.meta
	to := map[string]*string{"org-name": &m.orgName, "org-email": &m.email, "org-extra-contact-info": &m.extra, "report-id": &m.id,
		"begin-date": &m.begin, "end-date": &m.end, "generator": &m.generator, "original-timespan-seconds": &m.span}[key]
	switch {
	case to != nil:
		text, err := t.json.text()
		*to = text
		return err
	case key == "errors":
		return t.json.each(func(first json.Token) error {
			text, ok := scalar(first)
			if !ok {
				return t.json.skipFrom(first)
			}
			if len(m.errors) <= t.limits.Errors {
				m.errors = append(m.errors, text)
			}
			return nil
		})
	}
	return t.json.skip()
}

// metadata writes report_metadata, with the period in UTC.
func (t *translation) metadata() {
	m := &t.meta
	t.out.WriteString("<report_metadata>")
	t.element("org_name", m.orgName)
	t.element("email", m.email)
	t.element("extra_contact_info", m.extra)
	t.element("report_id", m.id)
	begin, end := t.period()
	t.out.WriteString("<date_range>")
	for _, at := range []struct {
		name string
		time time.Time
	}{{"begin", begin}, {"end", end}} {
		if !at.time.IsZero() {
			t.element(at.name, strconv.FormatInt(at.time.Unix(), 10))
		}
	}
	t.out.WriteString("</date_range>")
	for _, text := range m.errors {
		t.element("error", text)
	}
	t.element("generator", m.generator)
	t.out.WriteString("</report_metadata>")
}

// period is what the rows tell in UTC, if they tell all of it. Otherwise it is
// that of the metadata, which parsedmarc writes in the local time of its machine.
func (t *translation) period() (begin, end time.Time) {
	begin, end = localDate(t.meta.begin, t.limits.Zone), localDate(t.meta.end, t.limits.Zone)
	if t.begin.IsZero() || t.end.IsZero() {
		return begin, end
	}
	span := t.end.Sub(t.begin)
	if seconds, err := strconv.ParseInt(t.meta.span, 10, 64); err == nil && span != time.Duration(seconds)*time.Second {
		return begin, end // days without messages were left out
	}
	return t.begin, t.end
}

// localDate reads a date. One without a zone is in the given zone; UTC if that
// is none.
func localDate(text, zone string) time.Time {
	text = strings.TrimSpace(text)
	if location, err := time.LoadLocation(zone); err == nil {
		for _, layout := range []string{time.DateTime, "2006-01-02T15:04:05"} {
			if at, err := time.ParseInLocation(layout, text, location); err == nil {
				at, _ = plausibleDate(at)
				return at
			}
		}
	}
	at, _ := parseDate(text)
	return at
}

// record translates one of records.
func (t *translation) record() error {
	first, err := t.json.next()
	if err != nil {
		return err
	}
	if first != json.Delim('{') {
		return t.json.skipFrom(first)
	}
	t.out.WriteString("<record>")
	var row, rest bytes.Buffer // the elements may come in any order
	into := func(b *bytes.Buffer, do func() error) error {
		t.out, *b = *b, t.out
		err := do()
		t.out, *b = *b, t.out
		return err
	}
	err = t.json.objectFrom(first, func(key string) error {
		switch key {
		case "source":
			return into(&row, func() error { return t.fields(map[string]string{"ip-address": "source_ip"}) })
		case "count":
			return into(&row, func() error {
				text, err := t.json.text()
				t.element("count", text)
				return err
			})
		case "policy-evaluated":
			return into(&row, t.policyEvaluated)
		case "identifiers":
			return into(&rest, func() error {
				t.out.WriteString("<identifiers>")
				err := t.fields(map[string]string{"header-from": "header_from", "envelope-from": "envelope_from", "envelope-to": "envelope_to"})
				t.out.WriteString("</identifiers>")
				return err
			})
		case "auth-results":
			return into(&rest, t.authResults)
		case "interval-begin":
			return t.interval(&t.begin, func(at time.Time) bool { return at.Before(t.begin) })
		case "interval-end":
			return t.interval(&t.end, func(at time.Time) bool { return at.After(t.end) })
		}
		return t.json.skip()
	})
	t.out.WriteString("<row>")
	t.out.Write(row.Bytes())
	t.out.WriteString("</row>")
	t.out.Write(rest.Bytes())
	t.out.WriteString("</record>")
	return err
}

// interval notes a time of a row, which is in UTC.
func (t *translation) interval(to *time.Time, further func(time.Time) bool) error {
	text, err := t.json.text()
	if at := localDate(text, ""); !at.IsZero() && (to.IsZero() || further(at)) {
		*to = at
	}
	return err
}

func (t *translation) policyEvaluated() error {
	t.out.WriteString("<policy_evaluated>")
	defer t.out.WriteString("</policy_evaluated>")
	return t.json.object(func(key string) error {
		switch key {
		case "disposition", "dkim", "spf":
			text, err := t.json.text()
			t.element(key, text)
			return err
		case "policy-override-reasons":
			return t.some("reason", t.limits.Reasons, map[string]string{"type": "type", "comment": "comment"})
		}
		return t.json.skip()
	})
}

func (t *translation) authResults() error {
	t.out.WriteString("<auth_results>")
	defer t.out.WriteString("</auth_results>")
	return t.json.object(func(key string) error {
		switch key {
		case "dkim":
			return t.some("dkim", t.limits.AuthDKIM, map[string]string{"domain": "domain", "selector": "selector", "result": "result", "human-result": "human_result"})
		case "spf":
			return t.some("spf", t.limits.AuthSPF, map[string]string{"domain": "domain", "scope": "scope", "result": "result", "human-result": "human_result"})
		}
		return t.json.skip()
	})
}

// some writes the objects of an array, and not many more than are kept.
func (t *translation) some(name string, limit int, fields map[string]string) error {
	n := 0
	return t.json.each(func(first json.Token) error {
		if n++; first != json.Delim('{') || n > limit+1 {
			return t.json.skipFrom(first)
		}
		t.out.WriteString("<" + name + ">")
		defer t.out.WriteString("</" + name + ">")
		return t.json.objectFrom(first, func(key string) error {
			element, known := fields[key]
			if !known {
				return t.json.skip()
			}
			text, err := t.json.text()
			if element == "selector" && text == "none" {
				text = ""
			}
			t.element(element, text)
			return err
		})
	})
}

// failureFields are the fields of a failure report (RFC 5965, RFC 9991), by the
// keys of parsedmarc.
var failureFields = map[string]string{
	"feedback-type": "Feedback-Type", "user-agent": "User-Agent", "version": "Version", "original-mail-from": "Original-Mail-From",
	"original-rcpt-to": "Original-Rcpt-To", "arrival-date": "Arrival-Date", "authentication-results": "Authentication-Results",
	"delivery-result": "Delivery-Result", "auth-failure": "Auth-Failure", "reported-domain": "Reported-Domain",
	"original-envelope-id": "Original-Envelope-Id", "dkim-domain": "DKIM-Domain", "dkim-identity": "DKIM-Identity", "dkim-selector": "DKIM-Selector",
	"authentication-mechanisms": "Identity-Alignment",
}

// maxFailureText is how much of a message that failed is read.
const maxFailureText = 4 << 20

// parsedmarcFailure reads a failure report by way of the message that it was.
func (w *walker) parsedmarcFailure(p *payload, s *stream) error {
	if p.m.nested >= w.limits.NestedMails {
		return w.failed(p.path, w.tooNested())
	}
	guard := newJSONGuard(s, w.limits.Depth)
	guard.longest = maxFailureText
	d := json.NewDecoder(guard)
	d.UseNumber()
	j := &jsonValues{d}
	var fields strings.Builder
	sample, arrival := "", false
	field := func(name, text string) {
		if text = strings.Join(strings.Fields(text), " "); text != "" && fields.Len() < 64<<10 {
			fmt.Fprintf(&fields, "%s: %s\r\n", name, text)
		}
	}
	utc := ""
	err := j.object(func(key string) error {
		switch name := failureFields[key]; {
		case key == "auth-failure" || key == "authentication-mechanisms":
			var list []string
			err := j.each(func(first json.Token) error {
				text, ok := scalar(first)
				if !ok {
					return j.skipFrom(first)
				}
				if len(list) < 100 {
					list = append(list, text)
				}
				return nil
			})
			field(name, strings.Join(list, ", "))
			return err
		case name != "":
			text, err := j.text()
			arrival = arrival || key == "arrival-date" && text != ""
			field(name, text)
			return err
		case key == "arrival-date-utc":
			text, err := j.text()
			utc = text
			return err
		case key == "source":
			return j.object(func(key string) error {
				if key != "ip-address" {
					return j.skip()
				}
				text, err := j.text()
				field("Source-IP", text)
				return err
			})
		case key == "sample":
			text, err := j.text()
			sample = text
			return err
		}
		return j.skip()
	})
	if err != nil {
		return w.failed(p.path, jsonError(err))
	}
	if !arrival && utc != "" {
		field("Arrival-Date", utc+" +0000")
	}
	var mail bytes.Buffer
	mail.WriteString("Content-Type: multipart/report; report-type=feedback-report; boundary=\"=_report\"\r\n\r\n" +
		"--=_report\r\nContent-Type: message/feedback-report\r\n\r\n" + fields.String() + "\r\n" +
		"--=_report\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	qp := quotedprintable.NewWriter(&mail)
	io.WriteString(qp, sample)
	qp.Close()
	mail.WriteString("\r\n--=_report--\r\n")
	content, err := w.spooled(&mail)
	if err != nil {
		return w.failed(p.path, err)
	}
	before := len(w.found.Parts)
	if err := w.within(content, p.path, p.m.nested+1); err != nil {
		return err
	}
	for i := range w.found.Parts[before:] {
		if f := w.found.Parts[before+i].Failure; f != nil {
			f.Flags |= dmarc.FlagReduced
		}
	}
	return nil
}

// reduced says that a report is what parsedmarc kept of it.
func reduced(rep *dmarc.AggregateReport) {
	rep.Flags = rep.Flags&^dmarc.FlagMetadataAfterRows | dmarc.FlagReduced
}

// translating gives what a source holds as XML.
func translating(open func() (io.ReadCloser, error), limits *Limits) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		src, err := open()
		if err != nil {
			return nil, err
		}
		return newTranslation(src, limits), nil
	}
}

// badTranslation makes an outcome of JSON out of one of the XML that was made of
// it.
func badTranslation(err error) error {
	var refused *dmarc.Error
	if errors.As(err, &refused) && refused.Outcome == dmarc.OutcomeBadXML {
		return refusal(dmarc.OutcomeBadJSON, "%s", refused.Reason)
	}
	return err
}
