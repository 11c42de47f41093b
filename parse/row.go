package parse

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A field is what a value in a row means.
type rowField uint8

const (
	fieldNone rowField = iota // nothing to us
	fieldSource
	fieldCount
	fieldDisposition
	fieldDKIM
	fieldSPF
	fieldReasonType
	fieldReasonText // some write the type as bare text
	fieldReasonComment
	fieldReasonEnd
	fieldHeaderFrom
	fieldEnvelopeFrom
	fieldEnvelopeTo
	fieldDKIMDomain
	fieldDKIMSelector
	fieldDKIMResult
	fieldDKIMHuman
	fieldDKIMEnd
	fieldSPFDomain
	fieldSPFScope
	fieldSPFResult
	fieldSPFHuman
	fieldSPFEnd
	fieldRowEnd
)

// A group is an element of a row that holds others. Those that it does not
// name are passed over.
type group struct {
	elements map[string]element
	text     rowField // what text among the elements means; otherwise it is stray
	end      rowField // what its end means
}

// An element is a field or a group.
type element struct {
	field rowField
	group *group
	alias bool // the name is not that of the standard
}

// record is what a row looks like (RFC 9990, section 3.1.1.8 and following).
var record = &group{end: fieldRowEnd, elements: map[string]element{
	"row": {group: &group{elements: map[string]element{
		"source_ip": {field: fieldSource},
		"count":     {field: fieldCount},
		"policy_evaluated": {group: &group{elements: map[string]element{
			"disposition": {field: fieldDisposition},
			"dkim":        {field: fieldDKIM},
			"spf":         {field: fieldSPF},
			"reason": {group: &group{text: fieldReasonText, end: fieldReasonEnd, elements: map[string]element{
				"type":    {field: fieldReasonType},
				"comment": {field: fieldReasonComment},
			}}},
		}}},
	}}},
	"identifiers": {group: identifiers},
	"identities":  {group: identifiers, alias: true},
	"auth_results": {group: &group{elements: map[string]element{
		"dkim": {group: &group{end: fieldDKIMEnd, elements: map[string]element{
			"domain":       {field: fieldDKIMDomain},
			"selector":     {field: fieldDKIMSelector},
			"result":       {field: fieldDKIMResult},
			"human_result": {field: fieldDKIMHuman},
		}}},
		"spf": {group: &group{end: fieldSPFEnd, elements: map[string]element{
			"domain":       {field: fieldSPFDomain},
			"scope":        {field: fieldSPFScope},
			"result":       {field: fieldSPFResult},
			"human_result": {field: fieldSPFHuman},
		}}},
	}}},
}}

var identifiers = &group{elements: map[string]element{
	"header_from":   {field: fieldHeaderFrom},
	"envelope_from": {field: fieldEnvelopeFrom},
	"envelope_to":   {field: fieldEnvelopeTo},
}}

// readRow reads a record into a.row, and reports whether it counts.
func (a *aggregateReader) readRow() (kept bool, err error) {
	a.rows++
	if a.rows > a.limits.Rows {
		return false, &dmarc.Error{Outcome: dmarc.OutcomeTooLarge, Reason: fmt.Sprintf("the report has more than %d rows (limits.rows); raise the setting to read it", a.limits.Rows)}
	}
	a.clearRow()
	if !a.readKnown() {
		a.clearRow()
		a.shapes.watch(a.s)
		if err := a.readGroup(record); err != nil {
			return false, err
		}
		a.shapes.learn(a.s)
	}
	r := a.row
	if a.stray {
		a.stray = false
		a.lost++
		a.bad = true
	}
	if a.bad {
		a.rep.Dropped.Rows++
		a.rep.Dropped.Messages += max(0, r.Count)
		return false, nil
	}
	if r.Count < 0 {
		r.Count = 1
		r.Flags |= dmarc.RowCountDerived
	}
	if !r.Source.IsValid() && !(r.Count == 0 && r.SourceText == "") {
		r.Flags |= dmarc.RowNoSource
	}
	if r.DKIM == dmarc.ResultUnknown || r.SPF == dmarc.ResultUnknown {
		r.Flags |= dmarc.RowNoResult
	}
	if r.EnvelopeFrom != "" {
		for i := range r.AuthSPF {
			if s := &r.AuthSPF[i]; s.Scope != "helo" && s.Domain != "" && s.Domain != r.EnvelopeFrom {
				r.Flags |= dmarc.RowSPFDomainOther
			}
		}
	}
	a.noteAuthor(r.HeaderFrom)
	if r.Flags != 0 {
		a.rep.Flags |= dmarc.FlagRowFlags
	}
	if r.Flags&dmarc.RowUnknownWords != 0 {
		a.rep.Flags |= dmarc.FlagUnknownWords
	}
	if r.Flags&dmarc.RowTruncated != 0 {
		a.rep.Flags |= dmarc.FlagTruncated
	}
	return true, nil
}

// inRow is limited for a text of the row.
func (a *aggregateReader) inRow(b []byte, limit int) string {
	if len(b) > limit {
		a.row.Flags |= dmarc.RowCut
	}
	return a.limited(b, limit)
}

// clearRow makes room for the next row.
func (a *aggregateReader) clearRow() {
	r := &a.own
	*r = dmarc.Row{Count: -1, Reasons: r.Reasons[:0], AuthDKIM: r.AuthDKIM[:0], AuthSPF: r.AuthSPF[:0]}
	a.row, a.rest = r, nil
	a.dkim, a.spf, a.reason, a.notEvaluated = dmarc.DKIMResult{}, dmarc.SPFResult{}, dmarc.Reason{}, false
	a.bad = false
}

// readGroup reads the elements within the one whose start was met last.
func (a *aggregateReader) readGroup(g *group) error {
	for open := !a.s.empty; open; {
		tok, err := a.s.next()
		if err != nil {
			return err
		}
		if text := bytes.TrimSpace(a.s.text); len(text) > 0 {
			a.shapes.lost = true
			if g.text == fieldNone {
				a.rep.Flags |= dmarc.FlagStrayMarkup
			} else {
				a.set(g.text, a.clean(text, a.s.raw))
			}
		}
		if tok == tokenEOF {
			return a.s.bad("the text breaks off within <%s>, after %s: ask the reporter to send it again", printable(a.s.current()), countRows(a.rows))
		}
		if tok == tokenEnd {
			break
		}
		begin := a.s.pos
		e := g.elements[string(a.s.name)]
		switch {
		case e.group != nil:
			if e.alias {
				a.rep.Flags |= dmarc.FlagAlias
				a.shapes.lost = true
			}
			err = a.readGroup(e.group)
		case a.s.empty:
			a.set(e.field, nil)
			a.shapes.mark(a.s, e.field)
		case e.field == fieldNone:
			if err = a.s.skipElement(); err == nil {
				a.shapes.skipped(a.s, begin)
			}
		default:
			var b []byte
			if b, err = a.leaf(); err == nil {
				a.set(e.field, b)
				a.shapes.value(a.s, e.field, begin)
			}
		}
		if err != nil {
			return err
		}
	}
	a.set(g.end, nil)
	a.shapes.mark(a.s, g.end)
	return nil
}

// set takes a value, or an end, into the row. The value is trimmed and clean,
// and may be changed.
func (a *aggregateReader) set(f rowField, b []byte) {
	r := a.row
	switch f {
	case fieldSource:
		a.setSource(b)
	case fieldCount:
		a.bad = !a.readCount(b) || a.bad
	case fieldDisposition:
		r.Disposition = parseDisposition(lower(b))
		if r.Disposition == dmarc.DispositionUnknown && len(b) > 0 || string(b) == "softfail" {
			r.DispositionWord = a.inRow(b, maxName)
			r.Flags |= dmarc.RowUnknownWords
		}
	case fieldDKIM:
		r.DKIM = a.evaluated(lower(b))
	case fieldSPF:
		r.SPF = a.evaluated(lower(b))

	case fieldReasonText:
		if a.reason.Type == "" {
			a.reason.Type = a.inRow(lower(b), maxName)
		}
	case fieldReasonType:
		a.reason.Type = a.inRow(lower(b), maxName)
	case fieldReasonComment:
		a.reason.Comment = a.inRow(b, maxComment)
	case fieldReasonEnd:
		switch {
		case a.reason == dmarc.Reason{}:
		case len(r.Reasons) >= a.limits.Reasons:
			r.Flags |= dmarc.RowTruncated
		default:
			r.Reasons = append(r.Reasons, a.reason)
		}
		a.reason = dmarc.Reason{}

	case fieldHeaderFrom:
		r.HeaderFrom = a.domain(b)
	case fieldEnvelopeFrom:
		r.EnvelopeFrom = a.domain(b)
		r.NullSender = r.EnvelopeFrom == ""
	case fieldEnvelopeTo:
		r.EnvelopeTo = a.domain(b)

	case fieldDKIMDomain:
		a.notEvaluated = string(lower(b)) == "not.evaluated"
		a.dkim.Domain = a.domain(b)
	case fieldDKIMSelector:
		a.dkim.Selector = a.inRow(b, maxName)
	case fieldDKIMResult:
		a.dkim.Result, a.dkim.Word = a.result(lower(b), true)
	case fieldDKIMHuman:
		a.dkim.Human = a.inRow(b, maxComment)
	case fieldDKIMEnd:
		switch {
		case a.notEvaluated:
		case len(r.AuthDKIM) >= a.limits.AuthDKIM:
			r.Flags |= dmarc.RowTruncated
		default:
			r.AuthDKIM = append(r.AuthDKIM, a.dkim)
		}
		a.dkim, a.notEvaluated = dmarc.DKIMResult{}, false

	case fieldSPFDomain:
		a.spf.Domain = a.domain(b)
	case fieldSPFScope:
		a.spf.Scope = a.inRow(lower(b), maxName)
	case fieldSPFResult:
		a.spf.Result, a.spf.Word = a.result(lower(b), false)
	case fieldSPFHuman:
		a.spf.Human = a.inRow(b, maxComment)
	case fieldSPFEnd:
		if len(r.AuthSPF) >= a.limits.AuthSPF {
			r.Flags |= dmarc.RowTruncated
		} else {
			r.AuthSPF = append(r.AuthSPF, a.spf)
		}
		a.spf = dmarc.SPFResult{}
	}
}

func (a *aggregateReader) setSource(b []byte) {
	if len(b) == 0 {
		return
	}
	if ip, ok := plainIPv4(b); ok {
		a.row.Source = netip.AddrFrom4(ip)
		return
	}
	// The address does not keep the string: zones are refused.
	if bytes.IndexByte(b, '%') < 0 {
		if ip, err := netip.ParseAddr(unsafe.String(&b[0], len(b))); err == nil {
			a.row.Source = ip.Unmap()
			return
		}
	}
	a.row.SourceText = a.inRow(b, maxName)
}

// noteAuthor looks whether an author domain lies outside of the policy domain,
// now or once the policy is known.
func (a *aggregateReader) noteAuthor(author string) {
	if author == "" || a.rep.Flags&dmarc.FlagForeignAuthor != 0 {
		return
	}
	if a.policy {
		if foreign(author, a.rep.Policy.Domain) {
			a.rep.Flags |= dmarc.FlagForeignAuthor
		}
		return
	}
	if a.authors == nil {
		a.authors = make(map[string]bool)
	}
	if len(a.authors) < maxAuthors {
		a.authors[author] = true
	}
}

// foreign tells whether an author domain is neither the policy domain nor
// below it.
func foreign(author, policy string) bool {
	if author == "" || policy == "" || author == policy {
		return false
	}
	return !(strings.HasSuffix(author, policy) && author[len(author)-len(policy)-1] == '.')
}

// plainIPv4 reads four decimal numbers without leading zeros.
func plainIPv4(b []byte) (ip [4]byte, ok bool) {
	i, n, digits := 0, 0, 0
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9' && (digits == 0 || n > 0):
			if n = n*10 + int(c-'0'); n > 255 {
				return ip, false
			}
			digits++
		case c == '.' && digits > 0 && i < 3:
			ip[i] = byte(n)
			i, n, digits = i+1, 0, 0
		default:
			return ip, false
		}
	}
	ip[i] = byte(n)
	return ip, i == 3 && digits > 0
}

// readCount reports whether the count can be read.
func (a *aggregateReader) readCount(b []byte) bool {
	if i := bytes.IndexByte(b, '.'); i > 0 {
		b = b[:i]
	}
	if len(b) == 0 {
		return true // missing: derived later
	}
	if len(b) > 15 {
		return false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int64(c-'0')
	}
	if n > a.limits.Count {
		return false
	}
	if n == 0 {
		a.row.Flags |= dmarc.RowZeroCount
	}
	a.row.Count = n
	return true
}

// evaluated reads an aligned result, which is pass or fail.
func (a *aggregateReader) evaluated(b []byte) dmarc.Result {
	switch string(b) {
	case "pass":
		return dmarc.ResultPass
	case "fail":
		return dmarc.ResultFail
	case "", "unknown":
	default:
		a.row.Flags |= dmarc.RowUnknownWords
	}
	return dmarc.ResultUnknown
}

func parseDisposition(b []byte) dmarc.Disposition {
	switch string(b) {
	case "none":
		return dmarc.DispositionNone
	case "quarantine":
		return dmarc.DispositionQuarantine
	case "reject":
		return dmarc.DispositionReject
	case "pass":
		return dmarc.DispositionPass
	}
	return dmarc.ParseDisposition(string(b))
}

func (a *aggregateReader) domain(b []byte) string {
	name, ok := a.words.domain(b)
	if !ok {
		a.row.Flags |= dmarc.RowBadName
	}
	return name
}

// result reads a raw result. The word is kept where the result does not say
// the same.
func (a *aggregateReader) result(b []byte, dkim bool) (dmarc.Result, string) {
	r := dmarc.ResultUnknown
	switch string(b) {
	case "":
		return r, ""
	case "pass":
		return dmarc.ResultPass, ""
	case "fail":
		return dmarc.ResultFail, ""
	case "none":
		return dmarc.ResultNone, ""
	case "neutral":
		return dmarc.ResultNeutral, ""
	case "softfail":
		return dmarc.ResultSoftFail, ""
	case "policy":
		return dmarc.ResultPolicy, ""
	case "temperror":
		return dmarc.ResultTempError, ""
	case "permerror":
		return dmarc.ResultPermError, ""
	case "hardfail":
		r = dmarc.ResultFail
	case "unknown":
		if !dkim {
			r = dmarc.ResultTempError
		}
	case "error":
		if !dkim {
			r = dmarc.ResultPermError
		}
	case "invalid":
		if dkim {
			r = dmarc.ResultTempError
		}
	}
	a.row.Flags |= dmarc.RowUnknownWords
	return r, a.inRow(b, maxName)
}

// countRows counts rows in words.
func countRows(n int64) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}
