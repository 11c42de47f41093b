package web

import (
	"net/http"
	"net/url"

	"github.com/dmarcd/dmarcd/dmarc"
)

// messagesPage is the ledger.
type messagesPage struct {
	Items   []dmarc.LedgerEntry
	Mailbox string // whose messages; "" for all
	Outcome dmarc.Outcome
	Meaning string // of the outcome
	Choices []outcomeChoice
	Clear   string // address without mailbox and outcome
	pager
}

type outcomeChoice struct {
	Outcome dmarc.Outcome
	Text    string
	Current bool
}

// messages serves /messages: the ledger, newest first.
func (s *site) messages(r *http.Request) (*view, error) {
	q := r.URL.Query()
	after := dmarc.Cursor(q.Get("after"))
	p := &messagesPage{Mailbox: q.Get("mailbox"), Outcome: dmarc.Outcome(q.Get("outcome")), Clear: s.link("/messages")}
	for _, d := range dmarc.OutcomeDocs {
		current := d.Outcome == p.Outcome
		p.Choices = append(p.Choices, outcomeChoice{d.Outcome, d.Text, current})
		if current {
			p.Meaning = d.Text
		}
	}
	if p.Outcome != "" && p.Meaning == "" {
		return nil, badRequest{"outcome is " + `"` + cut(plain(string(p.Outcome)), 40) + `"` + ": it is none of those that the page of messages offers"}
	}
	v := url.Values{}
	if p.Mailbox != "" {
		v.Set("mailbox", p.Mailbox)
	}
	if p.Outcome != "" {
		v.Set("outcome", string(p.Outcome))
	}
	var next dmarc.Cursor
	var err error
	p.Items, next, err = s.store.Messages(r.Context(), dmarc.MessageQuery{
		Mailbox: p.Mailbox, Outcome: p.Outcome, Page: dmarc.Page{After: after, Limit: linesPerPage},
	})
	if err != nil {
		return nil, err
	}
	p.pager = s.pagerOf("/messages", v, after, next)
	return &view{Page: "messages", Title: "Messages", Nav: "/messages", Data: p}, nil
}

// A message may hold hundreds of parts: so many are shown.
const partsShown = 5

func firstParts(all []dmarc.LedgerPart) []dmarc.LedgerPart { return all[:min(len(all), partsShown)] }

func moreParts(all []dmarc.LedgerPart) int { return max(0, len(all)-partsShown) }
