package parse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// errNotAggregate is returned for XML in which no element feedback is found.
var errNotAggregate = &dmarc.Error{Outcome: dmarc.OutcomeNotAReport, Reason: "XML without the element feedback: not an aggregate report"}

// An aggregateReader reads an aggregate report (RFC 9990; RFC 7489, Appendix
// C) in one pass and in constant memory: Header first, then Rows, then what
// the end of the file told, from End. Elements may come in any order and under any
// namespace.
type aggregateReader struct {
	s      *scanner
	limits Limits

	rep      dmarc.AggregateReport
	header   bool // Header was called
	atRow    bool // a start tag record was met
	ended    bool // the end tag of feedback was met
	err      error
	metadata bool
	policy   bool
	stray    bool            // markup was taken as part of a value
	damaged  bool            // it is so in what identifies the report
	rows     int64           // record elements
	lost     int64           // of them, to broken markup
	authors  map[string]bool // header_from, while the policy is not known
	*memory
}

// A memory is what readers hand on to each other.
type memory struct {
	row    *dmarc.Row // the last one: own, or that of a rest
	own    dmarc.Row
	words  interned
	shapes shapes
	rests  rests
	value  []byte // scratch

	fingerprint dmarc.Fingerprint

	// Of the row:
	rest         *rest            // the one it has, if that was known
	hash         dmarc.RestHash   // of its rest
	dkim         dmarc.DKIMResult // the one that is being read
	notEvaluated bool             // it stands for none
	spf          dmarc.SPFResult
	reason       dmarc.Reason
	bad          bool // the row cannot count
}

var memories = sync.Pool{New: func() any { return new(memory) }}

// maxAuthors bounds the author domains that are remembered until the policy is met.
const maxAuthors = 1000

// newAggregateReader returns a reader of XML in any encoding. Limits of
// unpacked size are the caller's to keep. A lenient one takes markup that is no tag for
// text.
func newAggregateReader(r io.Reader, limits Limits, lenient bool) *aggregateReader {
	a := &aggregateReader{s: newScanner(r, &limits, lenient), limits: limits, memory: memories.Get().(*memory)}
	if a.shapes.full() || len(a.shapes.steps) == 0 {
		a.shapes.forget()
	}
	a.rests.forget()
	a.fingerprint.Reset()
	return a
}

// Close gives back what the reader holds in memory. Nothing can be read
// afterwards. What was read remains valid, but for the last row.
func (a *aggregateReader) Close() {
	if a.memory != nil {
		memories.Put(a.memory)
		a.s.release()
		a.memory, a.header, a.atRow, a.err = nil, true, false, errClosed
	}
}

var errClosed = errors.New("the report is closed")

// Header reads up to the first row and returns what is known by then: all of
// the header, unless some of it stands after the rows. The error is
// errNotAggregate if this is no report.
func (a *aggregateReader) Header() (*dmarc.AggregateReport, error) {
	if !a.header {
		a.header = true
		if a.s.decode() {
			a.rep.Flags |= dmarc.FlagLegacyEncoding
		}
		if a.err = a.findRoot(); a.err == nil {
			a.err = a.advance()
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	return &a.rep, nil
}

// Rows yields the rows in the order of the file. A row is valid until the next
// is asked for, and is not to be changed. The first error ends the sequence. Rows that cannot be read are left
// out and counted in Dropped.
func (a *aggregateReader) Rows() iter.Seq2[*dmarc.Row, error] {
	return func(yield func(*dmarc.Row, error) bool) {
		if _, err := a.Header(); err != nil {
			yield(nil, err)
			return
		}
		for a.atRow {
			a.atRow = false
			kept, err := a.readRow()
			if err == nil && kept {
				a.rep.Tally.Add(a.row)
				if a.rest != nil {
					a.hash = a.rest.hash
				} else {
					a.hash = a.fingerprint.Rest(a.row)
				}
				a.fingerprint.AddRest(a.row, a.hash)
				if a.rep.Tally.Messages > math.MaxInt64/2 {
					err = &dmarc.Error{Outcome: dmarc.OutcomeTooLarge, Reason: "the counts of the rows add up to more than can be kept"}
				} else if !yield(a.row, nil) {
					return
				}
			}
			if err == nil {
				err = a.advance()
			}
			if err != nil {
				a.err = err
				yield(nil, err)
				return
			}
		}
	}
}

// End reads what rows are left and returns the whole report, without Rows. An
// error means that the file breaks off or is broken.
func (a *aggregateReader) End() (*dmarc.AggregateReport, error) {
	for _, err := range a.Rows() {
		if err != nil {
			return nil, err
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	if a.damaged {
		// With another identity it would be counted beside the report it repeats.
		return nil, a.s.bad("the markup is broken within what identifies the report: ask the reporter to send it again")
	}
	if a.rows > 0 && a.lost == a.rows {
		return nil, a.s.bad("the markup is broken within each of its rows: ask the reporter to send it again")
	}
	rep := &a.rep
	if a.rows == 0 {
		rep.Flags |= dmarc.FlagNoRows
	}
	if rep.Dropped.Rows > 0 {
		rep.Flags |= dmarc.FlagRowsDropped
	}
	if !a.policy {
		rep.Flags |= dmarc.FlagNoPolicy
	}
	for author := range a.authors {
		if foreign(author, rep.Policy.Domain) {
			rep.Flags |= dmarc.FlagForeignAuthor
		}
	}
	rep.Hash, rep.RowsHash = a.fingerprint.Sum(rep), a.fingerprint.Rows()
	return rep, nil
}

// findRoot goes behind the start tag of feedback.
func (a *aggregateReader) findRoot() error {
	for {
		tok, err := a.s.next()
		if err != nil {
			if e, ok := err.(*dmarc.Error); ok && e.Outcome == dmarc.OutcomeBadXML && !a.s.lenient {
				// What stands before the root need not be XML.
				a.s.literal = true
				a.s.pos = min(a.s.pos+1, a.s.end)
				a.rep.Flags |= dmarc.FlagTextOutsideRoot
				continue
			}
			return err
		}
		if text := bytes.Trim(a.s.text, " \t\r\n\ufeff"); len(text) > 0 {
			a.rep.Flags |= dmarc.FlagTextOutsideRoot
		}
		switch {
		case tok == tokenEOF:
			return errNotAggregate
		case tok == tokenStart && string(a.s.name) == "feedback":
			if a.s.empty {
				return errNotAggregate
			}
			if len(a.s.marks) > 1 {
				a.rep.Flags |= dmarc.FlagTextOutsideRoot
			}
			a.rep.Namespace = a.s.namespace()
			// What was open around it is of no interest, and need not close.
			a.s.names = append(a.s.names[:0], "feedback"...)
			a.s.marks = append(a.s.marks[:0], 0)
			return nil
		}
	}
}

// advance reads up to the next row or the end of the report.
func (a *aggregateReader) advance() error {
	for {
		tok, err := a.s.next()
		switch {
		case err != nil:
			return err
		case tok == tokenEOF:
			return a.s.bad("the text breaks off within <feedback>, after %s: ask the reporter to send it again", countRows(a.rows))
		case tok == tokenEnd:
			a.ended = true
			return nil
		}
		switch string(a.s.name) {
		case "record":
			a.atRow = true
			return nil
		case "report_metadata":
			if a.rows > 0 {
				a.rep.Flags |= dmarc.FlagMetadataAfterRows
			}
			err = a.readMetadata()
			a.damaged, a.stray = a.damaged || a.stray, false
		case "policy_published":
			if a.rows > 0 {
				a.rep.Flags |= dmarc.FlagMetadataAfterRows
			}
			err = a.readPolicy()
			a.damaged, a.stray = a.damaged || a.stray, false
		case "version":
			a.rep.Version, err = a.text(maxName)
		default:
			err = a.s.skipElement()
		}
		if err != nil {
			return err
		}
	}
}

// children calls read for each child of the element whose start was met last;
// read consumes the child.
func (a *aggregateReader) children(read func(name []byte) error) error {
	if a.s.empty {
		return nil
	}
	for {
		tok, err := a.s.next()
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(a.s.text)) > 0 {
			a.rep.Flags |= dmarc.FlagStrayMarkup
		}
		switch tok {
		case tokenEOF:
			return a.s.bad("the text breaks off within <%s>, after %s: ask the reporter to send it again", printable(a.s.current()), countRows(a.rows))
		case tokenEnd:
			return nil
		}
		if err := read(a.s.name); err != nil {
			return err
		}
	}
}

func (a *aggregateReader) readMetadata() error {
	first := !a.metadata
	a.metadata = true
	rep := &a.rep
	return a.children(func(name []byte) (err error) {
		if !first {
			return a.s.skipElement()
		}
		switch string(name) {
		case "org_name":
			rep.Reporter.OrgName, err = a.text(maxID)
		case "email":
			stray := a.stray
			rep.Reporter.Email, err = a.text(maxID)
			if address, ok := bracketed(rep.Reporter.Email); ok {
				rep.Reporter.Email, a.stray = address, stray
			}
		case "extra_contact_info":
			rep.Reporter.ExtraContact, err = a.text(maxComment)
		case "report_id":
			var b []byte
			b, err = a.leaf()
			rep.ID = a.reportID(string(b))
		case "generator":
			rep.Generator, err = a.text(maxID)
		case "error":
			var s string
			if s, err = a.text(maxComment); s != "" {
				if len(rep.Errors) < a.limits.Errors {
					rep.Errors = append(rep.Errors, s)
				} else {
					rep.Flags |= dmarc.FlagTruncated
				}
			}
		case "date_range":
			err = a.children(func(name []byte) error {
				which := string(name)
				b, err := a.leaf()
				if err != nil {
					return err
				}
				t, ok := epoch(b)
				switch {
				case !ok && len(b) > 0:
					return &dmarc.Error{Outcome: dmarc.OutcomeMissing, Reason: fmt.Sprintf("date_range/%s is no time: %s", printable([]byte(which)), strconv.Quote(a.limited(b, 40)))}
				case !ok:
				case which == "begin":
					rep.Period.Begin = t
				case which == "end":
					rep.Period.End = t
				}
				return nil
			})
		default:
			err = a.s.skipElement()
		}
		return err
	})
}

// bracketed takes an address out of its angle brackets, which some write
// unescaped.
func bracketed(s string) (string, bool) {
	if len(s) < 5 || s[0] != '<' || s[len(s)-1] != '>' || strings.Count(s, "@") != 1 || strings.ContainsAny(s[1:len(s)-1], "<> ") {
		return s, false
	}
	return s[1 : len(s)-1], true
}

// reportID normalises a report_id. A cut one keeps a digest of the whole.
func (a *aggregateReader) reportID(id string) string {
	if strings.HasPrefix(id, "<") && strings.HasSuffix(id, ">") && len(id) > 2 {
		id = strings.TrimSpace(id[1 : len(id)-1])
	}
	if short, long := cut(id, maxID-20); long {
		a.rep.Flags |= dmarc.FlagCut
		return short + fmt.Sprintf("…%016x", fnv64(id))
	}
	return id
}

func fnv64(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// epoch reads seconds since 1970. Fractions are cut, and 13 digits are
// milliseconds.
func epoch(b []byte) (time.Time, bool) {
	if i := bytes.IndexByte(b, '.'); i >= 0 {
		b = b[:i]
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, false
	}
	if len(b) >= 13 {
		n /= 1000
	}
	if n > 253402300799 { // the year 9999
		return time.Time{}, false
	}
	return time.Unix(n, 0).UTC(), true
}

func (a *aggregateReader) readPolicy() error {
	first := !a.policy
	a.policy = true
	if !first {
		a.rep.Flags |= dmarc.FlagPolicyRepeated
		return a.s.skipElement()
	}
	p := &a.rep.Policy
	unknown := func(known bool, word []byte) {
		if !known && len(word) > 0 && string(word) != "unknown" {
			a.rep.Flags |= dmarc.FlagUnknownWords
		}
	}
	return a.children(func(name []byte) (err error) {
		var b []byte
		switch string(name) {
		case "domain":
			if b, err = a.leaf(); err == nil {
				var ok bool
				if p.Domain, ok = a.words.domain(b); !ok {
					a.rep.Flags |= dmarc.FlagUnknownWords
				}
			}
		case "discovery_method":
			b, err = a.word()
			p.DiscoveryMethod = a.limited(b, maxName)
		case "adkim":
			b, err = a.word()
			p.ADKIM = dmarc.ParseAlignmentMode(string(b))
			unknown(p.ADKIM != dmarc.AlignmentUnknown, b)
		case "aspf":
			b, err = a.word()
			p.ASPF = dmarc.ParseAlignmentMode(string(b))
			unknown(p.ASPF != dmarc.AlignmentUnknown, b)
		case "p":
			b, err = a.word()
			p.P = dmarc.ParsePolicy(string(b))
			unknown(p.P != dmarc.PolicyUnknown, b)
		case "sp":
			b, err = a.word()
			p.SP = dmarc.ParsePolicy(string(b))
			unknown(p.SP != dmarc.PolicyUnknown, b)
		case "np":
			b, err = a.word()
			p.NP = dmarc.ParsePolicy(string(b))
			unknown(p.NP != dmarc.PolicyUnknown, b)
		case "pct":
			b, err = a.leaf()
			if n, e := strconv.Atoi(string(b)); e == nil && n >= 0 && n <= 100 {
				p.Pct = &n
			} else {
				unknown(false, b)
			}
		case "fo":
			p.FO, err = a.text(maxName)
		case "testing":
			b, err = a.word()
			if y := string(b) == "y"; y || string(b) == "n" {
				p.Testing = &y
			} else {
				unknown(false, b)
			}
		default:
			err = a.s.skipElement()
		}
		return err
	})
}
