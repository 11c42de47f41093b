package parse

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

var (
	textQuote = regexp.MustCompile(`(?m)^[ \t]*>[> \t]*`)
	textLabel = regexp.MustCompile(`(?i)\b(Sender\s+Domain|Sender\s+IP\s+Address|Received\s+Date|SPF\s+Alignment|DKIM\s+Alignment|DMARC\s+Results?)\s*:[ \t]*`)
	// What stands between the fields and a copy of the sample's header.
	textBreak = regexp.MustCompile(`(?i)\n[ \t]*-{4,}|copy\s+of\s+the\s+(headers|message)`)
	textStart = regexp.MustCompile(`\n[ \t]*\r?\n`)
)

// failureText reads a failure report that consists of text alone, as some
// mail gateways send it: labelled lines, and then the header of the message.
// Copies that were wrapped again lose fields; what is left is kept.
func (w *walker) failureText(p *payload, s *stream) error {
	text, cutOff, err := readText(s)
	if err != nil {
		return w.failed(p.path, err)
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	text = textQuote.ReplaceAll(text, nil)
	var sample []byte
	if i := textBreak.FindIndex(text); i != nil {
		if j := textStart.FindIndex(text[i[1]:]); j != nil {
			sample = text[i[1]+j[1]:]
		}
		text = text[:i[0]]
	}

	f := &feedbackReader{report: &dmarc.FailureReport{FeedbackType: "auth-failure", AuthFailure: []string{"dmarc"}, Incidents: 1}, limits: w.limits}
	r := f.report
	if cutOff {
		r.Flags |= dmarc.FlagTruncated
	}
	labels := textLabel.FindAllSubmatchIndex(text, feedbackList)
	for i, at := range labels {
		end := len(text)
		if i+1 < len(labels) {
			end = labels[i+1][0]
		}
		value := text[at[1]:end]
		if j := textStart.FindIndex(value); j != nil {
			value = value[:j[0]]
		}
		f.label(string(text[at[2]:at[3]]), string(value))
	}
	if r.ReportedDomain == "" || !r.SourceIP.IsValid() || r.Arrival.IsZero() {
		r.Flags |= dmarc.FlagMissingFields
	}
	d := w.failure(p, r)
	d.sample = &entity{} // it is part of the text; an attached mail is something else
	w.sampleHeader(d, newLines(bytes.NewReader(sample), 0, int64(len(sample))))
	return nil
}

// label reads a labelled value.
func (f *feedbackReader) label(name, value string) {
	r := f.report
	switch word := strings.Fields(strings.ToLower(name)); strings.Join(word[:2], " ") {
	case "sender domain":
		// Text that was wrapped breaks names in two.
		if d := f.domain(firstToken(value)); r.ReportedDomain == "" && strings.Contains(d, ".") {
			r.ReportedDomain = d
		}
	case "sender ip":
		if !r.SourceIP.IsValid() {
			r.SourceIP = sourceAddress(value)
		}
	case "received date":
		f.arrival(value)
		if line, _, ok := strings.Cut(value, "\n"); ok {
			f.arrival(line)
		}
	case "dmarc results", "dmarc result":
		if r.DeliveryWord == "" {
			r.DeliveryWord = f.text(firstToken(value), maxName)
			r.Delivery = deliveryResult(r.DeliveryWord)
		}
	default:
		f.other(name, firstToken(value))
	}
}
