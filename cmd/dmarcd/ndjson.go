package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dmarcd/dmarcd/dmarc"
)

// ndjsonPrinter writes an object a line. What would not print stands as an
// escape of JSON, so that the lines can be shown on a terminal.
type ndjsonPrinter struct {
	w    *bufio.Writer
	full bool
	buf  bytes.Buffer
}

// Lines of the output, with their fields in its order.
type (
	aggregateLine struct {
		Source       string   `json:"source"`
		Part         string   `json:"part"`
		Kind         string   `json:"kind"`
		OrgName      string   `json:"org_name"`
		ReportID     string   `json:"report_id"`
		PolicyDomain string   `json:"policy_domain"`
		Begin        *string  `json:"begin"`
		End          *string  `json:"end"`
		Rows         int64    `json:"rows"`
		Totals       totals   `json:"totals"`
		Flags        []string `json:"flags"`
	}
	totals struct {
		Messages    int64 `json:"messages"`
		DMARCPass   int64 `json:"dmarc_pass"`
		DKIMAligned int64 `json:"dkim_aligned"`
		SPFAligned  int64 `json:"spf_aligned"`
		None        int64 `json:"none"`
		Quarantine  int64 `json:"quarantine"`
		Reject      int64 `json:"reject"`
	}
	failureLine struct {
		Source         string   `json:"source"`
		Part           string   `json:"part"`
		Kind           string   `json:"kind"`
		ReportedDomain string   `json:"reported_domain"`
		SourceIP       *string  `json:"source_ip"`
		Arrival        *string  `json:"arrival"`
		AuthFailure    []string `json:"auth_failure"`
		Flags          []string `json:"flags"`
	}
	tlsLine struct {
		Source   string   `json:"source"`
		Part     string   `json:"part"`
		Kind     string   `json:"kind"`
		OrgName  string   `json:"org_name"`
		ReportID string   `json:"report_id"`
		Begin    *string  `json:"begin"`
		End      *string  `json:"end"`
		Policies int      `json:"policies"`
		Totals   sessions `json:"totals"`
		Flags    []string `json:"flags"`
	}
	sessions struct {
		Successful int64 `json:"successful_sessions"`
		Failed     int64 `json:"failed_sessions"`
	}
	noneLine struct {
		Source  string `json:"source"`
		Part    string `json:"part,omitempty"`
		Kind    string `json:"kind"`
		Outcome string `json:"outcome"`
		Reason  string `json:"reason"`
	}
)

func (p *ndjsonPrinter) none(source string, part dmarc.Part) error {
	return p.line(noneLine{source, part.Path, "none", string(part.Outcome), part.Reason}, nil)
}

func (p *ndjsonPrinter) report(ctx context.Context, source string, part dmarc.Part) error {
	switch {
	case part.Aggregate != nil:
		r := part.Aggregate
		t := r.Tally
		return p.line(aggregateLine{
			source, part.Path, "aggregate", r.Reporter.OrgName, r.ID, r.Policy.Domain, moment(r.Period.Begin), moment(r.Period.End), t.Rows,
			totalsOf(t), r.Flags.Names(),
		}, func() error { return p.aggregate(ctx, r) })
	case part.Failure != nil:
		r := part.Failure
		return p.line(failureLine{
			source, part.Path, "failure", r.ReportedDomain, address(r.SourceIP), moment(r.Arrival), list(r.AuthFailure), r.Flags.Names(),
		}, func() error { return p.value(fullFailure(r)) })
	}
	r := part.TLS
	successful, failed := r.Sessions()
	return p.line(tlsLine{
		source, part.Path, "tls", r.OrgName, r.ID, moment(r.Period.Begin), moment(r.Period.End), len(r.Policies),
		sessions{successful, failed}, r.Flags.Names(),
	}, func() error { return p.value(fullTLS(r)) })
}

// line writes an object and, if all is wanted, the whole report as its last
// member. The line is whole even if the report cannot be read to its end.
func (p *ndjsonPrinter) line(object any, report func() error) error {
	if err := p.encode(object); err != nil {
		return err
	}
	text := p.buf.Bytes()
	if report == nil || !p.full {
		p.w.Write(text)
		return p.w.WriteByte('\n')
	}
	p.w.Write(text[:len(text)-1])
	p.w.WriteString(`,"report":`)
	failed := report()
	if _, err := p.w.WriteString("}\n"); err != nil {
		return err // it stays with the writer: earlier ones come out here
	}
	return failed
}

// value writes a value.
func (p *ndjsonPrinter) value(v any) error {
	if err := p.encode(v); err != nil {
		return err
	}
	_, err := p.w.Write(p.buf.Bytes())
	return err
}

// aggregate writes a report while its rows are read: there may be a million.
func (p *ndjsonPrinter) aggregate(ctx context.Context, r *dmarc.AggregateReport) error {
	if err := p.encode(fullAggregate(r)); err != nil {
		return err
	}
	head := p.buf.Bytes()
	p.w.Write(head[:len(head)-1])
	p.w.WriteString(`,"rows":[`)
	first := true
	var failed error
	for row, err := range r.Rows {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			failed = err
			break
		}
		if !first {
			p.w.WriteByte(',')
		}
		first = false
		if err := p.value(fullRow(row)); err != nil {
			return err
		}
	}
	p.w.WriteByte(']')
	if failed != nil {
		p.w.WriteString(`,"incomplete":`)
		p.value(failed.Error())
		if ctx.Err() == nil {
			failed = &readError{failed}
		}
	}
	if err := p.w.WriteByte('}'); err != nil {
		return err
	}
	return failed
}

// encode puts the JSON of a value into the buffer, without a line end.
func (p *ndjsonPrinter) encode(v any) error {
	p.buf.Reset()
	e := json.NewEncoder(&p.buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	p.buf.Truncate(p.buf.Len() - 1)
	escapeJSON(&p.buf)
	return nil
}

// jsonOf returns the JSON of a value, which can be shown on a terminal.
func jsonOf(v any) ([]byte, error) {
	var p ndjsonPrinter
	err := p.encode(v)
	return p.buf.Bytes(), err
}

// escapeJSON escapes what would not print within JSON: control characters
// beyond those that JSON forbids, and what turns the direction of writing.
func escapeJSON(buf *bytes.Buffer) {
	text := buf.Bytes()
	if !bytes.ContainsFunc(text, invisible) {
		return
	}
	escaped := make([]byte, 0, len(text)+64)
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if invisible(r) {
			if r > 0xffff {
				r -= 0x10000
				escaped = appendEscape(escaped, 0xd800+r>>10)
				r = 0xdc00 + r&0x3ff
			}
			escaped = appendEscape(escaped, r)
		} else {
			escaped = append(escaped, text[:n]...)
		}
		text = text[n:]
	}
	buf.Reset()
	buf.Write(escaped)
}

func invisible(r rune) bool { return r >= 0x7f && !strconv.IsPrint(r) && !unicode.Is(unicode.Zs, r) }

func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// moment writes a time, or null for none.
func moment(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return word(t.UTC().Format(time.RFC3339))
}

// address writes an address, or null for none.
func address(a netip.Addr) *string {
	if !a.IsValid() {
		return nil
	}
	return word(a.String())
}

// word writes a text, or null for an empty one.
func word(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// list writes a list, never null.
func list(items []string) []string {
	if items == nil {
		return []string{}
	}
	return items
}

func totalsOf(t dmarc.Tally) totals {
	return totals{t.Messages, t.DMARCPass, t.DKIMAligned, t.SPFAligned, t.None, t.Quarantine, t.Reject}
}
