package web

import (
	"net/http"
	"net/netip"
	"net/url"

	"github.com/dmarcd/dmarcd/dmarc"
)

// failuresPage is a list of failure reports, masked.
type failuresPage struct {
	Domain string // "" for all
	Span   span
	Items  []dmarc.StoredFailure
	Asked  string // domain that the form of all domains names
	Source string
	Action string
	Clear  string
	pager
}

// Set tells whether the form leaves anything out.
func (p *failuresPage) Set() bool { return p.Asked != "" || p.Source != "" }

// failures serves /failures and /domains/{domain}/failures: newest first. That they
// are read is recorded by whoever hands them out.
func (s *site) failures(r *http.Request) (*view, error) {
	path, domain, asked, err := s.listOf(r, "failures")
	if err != nil {
		return nil, err
	}
	sp, choose, err := s.readPeriod(r, path, "domain", "source")
	if err != nil {
		return nil, err
	}
	text, source, err := readSource(r.URL.Query())
	if err != nil {
		return nil, err
	}
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	p := &failuresPage{Domain: domain, Span: sp, Asked: asked, Source: text, Action: s.link(path), Clear: s.link(path, sp.query(nil))}
	if domain == "" {
		domain = asked
	}
	var next dmarc.Cursor
	p.Items, next, err = s.store.Failures(r.Context(), dmarc.FailureQuery{
		Domain: domain, Filter: dmarc.Filter{Source: source}, Period: sp.Period, Page: dmarc.Page{After: after, Limit: linesPerPage},
	})
	if err != nil {
		return nil, err
	}
	for i := range p.Items {
		p.Items[i].Report = *p.Items[i].Report.Masked()
	}
	v := sp.query(nil)
	for name, value := range map[string]string{"domain": asked, "source": text} {
		if value != "" {
			v.Set(name, value)
		}
	}
	p.pager = s.pagerOf(path, v, after, next)
	title := "Failure reports"
	if p.Domain != "" {
		title += " about " + p.Domain
	}
	return &view{Page: "failures", Title: title, Nav: navOf(p.Domain, "/reports"), Span: sp, Choose: choose, Data: p}, nil
}

// failurePage is one failure report.
type failurePage struct {
	dmarc.StoredFailure
	Whole bool
	Other string // address of the same, shown whole, or masked
	Name  string // of the sender; "" if it is not known
	Place string
	Link  string // address of the page about the sender; "" for none
	// MessageAt is the address of the message that it came in; "" for none.
	MessageAt string
	What      []failureWord
}

// A failureWord says what failed.
type failureWord struct{ Word, Text string }

// failureWords are those of RFC 6591, section 3.2.2, and RFC 9991, section 4.
var failureWords = map[string]string{
	"dmarc":     "Neither DKIM nor SPF passed for a domain that is aligned with the author’s.",
	"adsp":      "The message lacks a signature that the author’s domain promised (ADSP, which is obsolete).",
	"bodyhash":  "The body was changed after it was signed: often by a list, or by a gateway that adds a footer.",
	"revoked":   "The key of the signature was withdrawn.",
	"signature": "The signature is not valid: the header was changed, or the key in DNS is another one.",
	"dkim":      "DKIM failed.",
	"spf":       "The address is not one of those that SPF allows for the domain in the envelope.",
}

// deliveryText says what became of a message: the words of RFC 6591, section 3.2.2.
func deliveryText(word string) string {
	switch word {
	case "reject":
		return "rejected"
	case "spam":
		return "taken for spam"
	case "policy":
		return "kept out of the inbox"
	case "delivered":
		return "delivered"
	}
	return "handled otherwise"
}

// failure serves /failures/{id}: masked, unless it is asked for whole.
func (s *site) failure(r *http.Request) (*view, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	p := &failurePage{Whole: r.URL.Query().Get("show") == "whole"}
	if p.StoredFailure, err = s.store.Failure(r.Context(), id, p.Whole); err != nil {
		return nil, err
	}
	if p.MessageAt, err = s.messageAt(r.Context(), p.MessageID); err != nil {
		return nil, err
	}
	path := "/failures/" + url.PathEscape(id)
	if p.Other = s.link(path); !p.Whole {
		p.Other = s.link(path, url.Values{"show": {"whole"}})
	}
	rep := &p.Report
	for _, w := range rep.AuthFailure {
		p.What = append(p.What, failureWord{w, failureWords[w]})
	}
	if s.adviser != nil && rep.SourceIP.IsValid() {
		known, err := s.adviser.Whose(r.Context(), rep.ReportedDomain, []netip.Addr{rep.SourceIP})
		if err != nil {
			return nil, err
		}
		identity := known[rep.SourceIP]
		p.Name, p.Place = senderText(&identity)
		p.Link = s.senderLink(rep.ReportedDomain, rep.SourceIP.String(), lastDays(adviceDays, s.now()))
	}
	return &view{Page: "failure", Title: "Failure report about " + rep.ReportedDomain, Nav: "/reports", Data: p}, nil
}
