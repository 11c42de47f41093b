package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// messagesPage is the ledger.
type messagesPage struct {
	Items     []dmarc.LedgerEntry
	Filter    ledgerFilter
	Meaning   string // of the outcome that is asked for
	Choices   []outcomeChoice
	Mailboxes []string // names to choose from
	Clear     string   // address without any filter
	Rights    dmarc.Rights
	Pages     bool         // each message has a page of its own
	Retried   string       // what came of reading some again; "" if nothing was
	After     dmarc.Cursor // that the page begins with
	pager
}

// A ledgerFilter is which messages are listed.
type ledgerFilter struct {
	Outcome     dmarc.Outcome
	Refused     bool // all that may hold a report and were not read
	Mailbox     string
	Text        string
	First, Last string // days, both included; "" for all
	begin, end  time.Time
}

// Any tells whether anything is left out.
func (f *ledgerFilter) Any() bool {
	return f.Outcome != "" || f.Refused || f.Mailbox != "" || f.Text != "" || f.First != "" || f.Last != ""
}

type outcomeChoice struct {
	Outcome dmarc.Outcome
	Text    string
	Current bool
}

// refusedValue stands in addresses for all outcomes that somebody should look at.
const refusedValue = "refused"

// longestText is how much of a text that is looked for is taken.
const longestText = 200

// readLedgerFilter reads which messages are asked for from an address. The error is
// a badRequest.
func readLedgerFilter(q url.Values) (f ledgerFilter, err error) {
	var bad badRequest
	f = ledgerFilter{Mailbox: q.Get("mailbox"), Text: cut(strings.TrimSpace(q.Get("q")), longestText)}
	switch o := q.Get("outcome"); {
	case o == refusedValue:
		f.Refused = true
	case o == "" || outcomeText(dmarc.Outcome(o)) != o:
		f.Outcome = dmarc.Outcome(o)
	default:
		bad = append(bad, `outcome is "`+cut(plain(o), 40)+`": it is none of those that the page of messages offers`)
	}
	day := func(name string) (t time.Time) {
		v := strings.TrimSpace(q.Get(name))
		if v == "" {
			return t
		}
		t, err := time.Parse(time.DateOnly, v)
		if err != nil || t.Year() < 1970 || t.Year() > 9000 {
			bad = append(bad, fmt.Sprintf("%s is %q: it must be a day, such as 2026-11-23", name, cut(plain(v), 40)))
			return time.Time{}
		}
		return t
	}
	if f.begin = day("first"); !f.begin.IsZero() {
		f.First = isoDay(f.begin)
	}
	if last := day("last"); !last.IsZero() {
		f.Last, f.end = isoDay(last), last.Add(aDay)
	}
	if !f.begin.IsZero() && !f.end.IsZero() && !f.begin.Before(f.end) {
		bad = append(bad, "the last day is before the first")
	}
	if len(bad) > 0 {
		return f, bad
	}
	return f, nil
}

// period is when messages were received; zero for whenever.
func (f *ledgerFilter) period() (p dmarc.Period) {
	if f.begin.IsZero() && f.end.IsZero() {
		return p
	}
	p = dmarc.Period{Begin: time.Unix(0, 0).UTC(), End: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if !f.begin.IsZero() {
		p.Begin = f.begin
	}
	if !f.end.IsZero() {
		p.End = f.end
	}
	return p
}

// values are what the address says.
func (f *ledgerFilter) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"outcome": string(f.Outcome), "mailbox": f.Mailbox, "q": f.Text, "first": f.First, "last": f.Last} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.Refused {
		v.Set("outcome", refusedValue)
	}
	return v
}

// messages serves /messages: the ledger, newest first.
func (s *site) messages(r *http.Request) (*view, error) {
	q := r.URL.Query()
	after := dmarc.Cursor(q.Get("after"))
	f, err := readLedgerFilter(q)
	if err != nil {
		return nil, err
	}
	p := &messagesPage{Filter: f, Clear: s.link("/messages"), Pages: s.intake != nil}
	for _, d := range dmarc.OutcomeDocs {
		current := d.Outcome == f.Outcome
		p.Choices = append(p.Choices, outcomeChoice{d.Outcome, d.Text, current})
		if current {
			p.Meaning = d.Text
		}
	}
	if s.intake != nil {
		p.Rights = s.intake.Rights(r.Context())
		p.Retried = retriedWords(q)
	}
	if p.Rights.All {
		boxes, err := s.intake.Mailboxes(r.Context(), s.now())
		if err != nil {
			return nil, err
		}
		for _, m := range boxes {
			p.Mailboxes = append(p.Mailboxes, m.Mailbox)
		}
		p.Mailboxes = append(p.Mailboxes, dmarc.MailboxImport, dmarc.MailboxUpload, dmarc.MailboxSMTP, dmarc.MailboxTLSRPT, dmarc.MailboxDirectory)
	}
	var next dmarc.Cursor
	p.Items, next, err = s.store.Messages(r.Context(), dmarc.MessageQuery{
		Mailbox: f.Mailbox, Outcome: f.Outcome, Refused: f.Refused, Text: f.Text, Period: f.period(), Page: dmarc.Page{After: after, Limit: linesPerPage},
	})
	if err != nil {
		return nil, err
	}
	p.After = after
	p.pager = s.pagerOf("/messages", f.values(), after, next)
	return &view{Page: "messages", Title: "Messages", Nav: "/intake", Data: p}, nil
}

// A message may hold hundreds of parts: so many are shown in a list.
const partsShown = 5

func firstParts(all []dmarc.LedgerPart) []dmarc.LedgerPart { return all[:min(len(all), partsShown)] }

func moreParts(all []dmarc.LedgerPart) int { return max(0, len(all)-partsShown) }

// messagePage is one message.
type messagePage struct {
	dmarc.LedgerEntry
	Meaning string // of its outcome
	Next    string // what to do about it; "" if nothing is to be done
	Rights  dmarc.Rights
	Raw     bool          // the reader may have it as it came
	Was     dmarc.Outcome // before it was read again just now; "" if it was not
}

// outcomeSteps say what to do about a message that was not read.
var outcomeSteps = map[dmarc.Outcome]string{
	dmarc.OutcomeConflict:        "Look at both reports, and let the one count that you believe.",
	dmarc.OutcomeNotKept:         "To keep failure reports, set failure.store = true, restart dmarcd, and read the message again.",
	dmarc.OutcomeUnknownDomain:   "If the domain is yours, add it to domains in the configuration, restart dmarcd, and read the message again.",
	dmarc.OutcomeUnauthenticated: "It is read by itself once the mail is found authentic. If you know the sender, and only dmarcd does not, name the server that checks your mail in transport.trusted.",
	dmarc.OutcomeUnsupported:     "Open the container yourself, and bring the files in it.",
	dmarc.OutcomeCorruptArchive:  "The file was damaged on its way or by its sender. If it comes again whole, that one counts. Ask the reporter if it goes on.",
	dmarc.OutcomeBadXML:          "Ask the reporter to send it again if the report matters. A newer dmarcd may be able to read it: then read it again.",
	dmarc.OutcomeBadJSON:         "Ask the reporter to send it again if the report matters. A newer dmarcd may be able to read it: then read it again.",
	dmarc.OutcomeHostileXML:      "Nothing: no honest report looks like that.",
	dmarc.OutcomeMissing:         "Ask the reporter: without these fields nobody can tell what the report is about.",
	dmarc.OutcomeTooLarge:        "If the message is honest, raise the limit that the reason names, restart dmarcd, and read it again.",
	dmarc.OutcomeBomb:            "If the message is honest, raise the limit that the reason names, restart dmarcd, and read it again.",
	dmarc.OutcomeTimeout:         "Read it again when the machine is less busy, or raise limits.time.",
	dmarc.OutcomeTooOld:          "If such old reports are to be counted, keep them longer with the settings of retention, and read it again.",
	dmarc.OutcomeUnreadable:      "Look whether the mail server or the disk is well, and read it again: it is asked for once more.",
	dmarc.OutcomeDefect:          "Read it again with a newer dmarcd. Until there is one, please report the lines of the log about it.",
	dmarc.OutcomeNotStored:       "Look at the log, see to what the database complains of, and read it again.",
}

// message serves /messages/{id}.
func (s *site) message(r *http.Request) (*view, error) {
	id, err := messageID(r)
	if err != nil {
		return nil, err
	}
	p := &messagePage{Rights: s.intake.Rights(r.Context())}
	if p.LedgerEntry, err = s.intake.Message(r.Context(), id); err != nil {
		return nil, err
	}
	p.Meaning, p.Next = outcomeText(p.Outcome), outcomeSteps[p.Outcome]
	if p.Size > 0 {
		if p.Raw, err = s.intake.MayReadMessage(r.Context(), &p.LedgerEntry); err != nil {
			return nil, err
		}
	}
	if was := dmarc.Outcome(r.URL.Query().Get("was")); outcomeText(was) != string(was) {
		p.Was = was
	}
	return &view{Page: "message", Title: "Message " + strconv.FormatInt(id, 10), Nav: "/intake", Data: p}, nil
}

// messageAt returns the address of the message that something came in; "" where there is
// none that the visitor may see.
func (s *site) messageAt(ctx context.Context, id int64) (string, error) {
	if s.intake == nil {
		return "", nil
	}
	_, err := s.intake.Message(ctx, id)
	if errors.Is(err, dmarc.ErrNotFound) {
		return "", nil
	}
	return s.messageLink(id), err
}

func messageID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(chi.URLParam(r, "id"), 10, 64)
	if err != nil || id < 1 {
		return 0, dmarc.ErrNotFound
	}
	return id, nil
}

// rawMessage serves /messages/{id}/raw: the message as it came, to be kept and never
// to be shown by a browser.
func (s *site) rawMessage(w http.ResponseWriter, r *http.Request) {
	id, err := messageID(r)
	var body io.ReadCloser
	var e dmarc.LedgerEntry
	if err == nil {
		body, e, err = s.intake.RawMessage(r.Context(), id)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer body.Close()
	ending := "bin"
	if e.MessageID != "" || e.Place.UID != 0 {
		ending = "eml"
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="dmarcd-message-%d.%s"`, id, ending))
	h.Set("Cache-Control", "no-store")
	if _, err := io.Copy(w, body); err != nil {
		s.log.WarnContext(r.Context(), "writing a message", "message", id, "error", err)
		panic(http.ErrAbortHandler) // so that nobody takes it for whole
	}
}

// retry serves POST /messages/{id}/retry.
func (s *site) retry(_ http.ResponseWriter, r *http.Request) (string, error) {
	id, err := messageID(r)
	if err != nil {
		return "", err
	}
	before, err := s.intake.Message(r.Context(), id)
	if err != nil {
		return "", err
	}
	if _, err := s.intake.Retry(r.Context(), id); err != nil {
		return "", err
	}
	return "/messages/" + strconv.FormatInt(id, 10) + "?" + url.Values{"was": {string(before.Outcome)}}.Encode(), nil
}

// Bounds of what one request reads again.
const (
	retryMost = 200 // messages
	retryTime = 20 * time.Second
)

// retryAll serves POST /messages/retry: it reads the messages of an outcome again,
// newest first, as many as can be done while somebody waits.
func (s *site) retryAll(_ http.ResponseWriter, r *http.Request) (string, error) {
	o := dmarc.Outcome(r.PostFormValue("outcome"))
	if outcomeText(o) == string(o) || o.Read() && o != dmarc.OutcomeNotKept {
		return "", badForm{"it is not said which messages are meant, by an outcome that is worth it"}
	}
	if !s.intake.Rights(r.Context()).Govern {
		return "", dmarc.ErrForbidden
	}
	began := s.now()
	var res dmarc.RetryResult
	after := dmarc.Cursor(r.PostFormValue("after"))
	for {
		items, next, err := s.store.Messages(r.Context(), dmarc.MessageQuery{Outcome: o, Page: dmarc.Page{After: after, Limit: 20}})
		if err != nil {
			return "", err
		}
		for _, e := range items {
			now, err := s.intake.Retry(r.Context(), e.ID)
			var refused dmarc.Refusal
			switch {
			case errors.As(err, &refused):
				res.Missing++
				continue
			case err != nil:
				return "", err
			}
			if res.Messages++; now.Outcome != o {
				res.Changed++
			}
		}
		after, res.More = next, next != ""
		if next == "" || res.Messages+res.Missing >= retryMost || s.now().Sub(began) > retryTime {
			break
		}
	}
	v := url.Values{"outcome": {string(o)}, "again": {strconv.Itoa(res.Messages)}, "changed": {strconv.Itoa(res.Changed)}, "missing": {strconv.Itoa(res.Missing)}}
	if res.More {
		v.Set("more", "1")
		v.Set("after", string(after))
	}
	return "/messages?" + v.Encode(), nil
}

// retriedWords says what came of reading messages again, as an address tells it.
func retriedWords(q url.Values) string {
	if !q.Has("again") {
		return ""
	}
	number := func(name string) int64 {
		n, err := strconv.ParseInt(q.Get(name), 10, 32)
		if err != nil {
			return 0
		}
		return max(0, n)
	}
	again, changed, missing := number("again"), number("changed"), number("missing")
	text := plural(again, "message was", "messages were") + " read again; "
	switch changed {
	case 0:
		text += "none of them has another fate now."
	case again:
		text += "all of them have another fate now."
	default:
		text += count(changed) + " of them " + map[bool]string{true: "has", false: "have"}[changed == 1] + " another fate now."
	}
	if missing > 0 {
		text += " " + plural(missing, "more could", "more could") + " not be read: the bytes are neither kept nor in a mailbox."
	}
	if q.Has("more") {
		text += " There are older ones, listed here: go on with these if it helped."
	}
	return text
}
