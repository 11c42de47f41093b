package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// dnsPage is what a domain publishes, and what is wrong with it.
type dnsPage struct {
	Domain  string
	Result  *records.Result // nil before the first look
	Ago     string          // since the look
	Failed  int             // lookups
	Counts  []severityCount
	Groups  []findingGroup
	Fine    []records.ResultFinding
	Changes []recordChange
	pager
}

type severityCount struct {
	Severity string
	N        int
}

// A findingGroup is the findings about one kind of record, worst first.
type findingGroup struct {
	Title    string
	Anchor   string
	Findings []records.ResultFinding
}

// A recordChange is a change as a difference: values that went and that came.
type recordChange struct {
	dmarc.RecordChange
	Gone, Come []string
}

// severities are worst first; what is unknown stands before what is fine, for
// nobody knows.
var severities = []string{"error", "warning", "unknown", "info", "ok"}

func severityOf(f *records.ResultFinding) int {
	if i := slices.Index(severities, f.Severity); i >= 0 {
		return i
	}
	return len(severities)
}

// changesShown is how many changes of records a page shows.
const changesShown = 20

// dns serves /domains/{domain}/dns.
func (s *site) dns(r *http.Request) (*view, error) {
	name, err := s.domainOf(r, "dns")
	if err != nil {
		return nil, err
	}
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	p := &dnsPage{Domain: name}
	p.Result, err = s.store.Look(r.Context(), name)
	if errors.Is(err, dmarc.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	changes, next, err := s.store.RecordChanges(r.Context(), name, dmarc.ChangeQuery{Page: dmarc.Page{After: after, Limit: changesShown}})
	if err != nil {
		return s.unknownDomain(name, err)
	}
	for _, c := range changes {
		p.Changes = append(p.Changes, difference(c))
	}
	p.pager = s.pagerOf(domainPath(name, "dns"), url.Values{}, after, next)
	if p.Result != nil {
		p.sort()
		p.Ago, p.Failed = ago(s.now().Sub(p.Result.CheckedAt)), len(p.Result.LookupFailed)
	}
	return &view{Page: "dns", Title: "DNS of " + name, Nav: "/", Data: p}, nil
}

// sort puts findings into groups, the group with the worst first.
func (p *dnsPage) sort() {
	counts := map[string]int{}
	groups := map[string]*findingGroup{}
	var order []*findingGroup
	for _, f := range p.Result.Findings {
		counts[f.Severity]++
		if f.Severity == "ok" {
			p.Fine = append(p.Fine, f)
			continue
		}
		title := records.KindOf(f.ID)
		g := groups[title]
		if g == nil {
			g = &findingGroup{Title: title, Anchor: strings.ToLower(strings.ReplaceAll(title, " ", "-"))}
			groups[title] = g
			order = append(order, g)
		}
		g.Findings = append(g.Findings, f)
	}
	for _, g := range order {
		slices.SortStableFunc(g.Findings, func(a, b records.ResultFinding) int { return cmp.Compare(severityOf(&a), severityOf(&b)) })
	}
	slices.SortStableFunc(order, func(a, b *findingGroup) int {
		return cmp.Compare(severityOf(&a.Findings[0]), severityOf(&b.Findings[0]))
	})
	for _, g := range order {
		p.Groups = append(p.Groups, *g)
	}
	for _, severity := range severities {
		if n := counts[severity]; n > 0 {
			p.Counts = append(p.Counts, severityCount{severity, n})
		}
	}
}

// difference tells what of a set of records went and what came.
func difference(c dmarc.RecordChange) recordChange {
	out := recordChange{RecordChange: c}
	for _, v := range c.Before {
		if !slices.Contains(c.After, v) {
			out.Gone = append(out.Gone, v)
		}
	}
	for _, v := range c.After {
		if !slices.Contains(c.Before, v) {
			out.Come = append(out.Come, v)
		}
	}
	return out
}

// ago says how long something is past.
func ago(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", int(d/time.Hour))
	}
	return fmt.Sprintf("%d days ago", int(d/(24*time.Hour)))
}

// networkText writes a network as people do: a single address without a length.
func networkText(n netip.Prefix) string {
	if n.IsSingleIP() {
		return n.Addr().String()
	}
	return n.String()
}

// severityText says what the findings of one severity are called.
func severityText(c severityCount) string {
	switch c.Severity {
	case "error":
		return plural(int64(c.N), "error", "errors")
	case "warning":
		return plural(int64(c.N), "warning", "warnings")
	case "info":
		return plural(int64(c.N), "note", "notes")
	case "unknown":
		return count(int64(c.N)) + " not known"
	}
	return count(int64(c.N)) + " fine"
}

// severityWord says what one finding is called, as the sum and the terminal call it.
func severityWord(severity string) string {
	if severity == "info" {
		return "note"
	}
	return severity
}

// A looker is a part of Store.
type looker interface {
	// Look returns what the last look at the records of a domain found;
	// dmarc.ErrNotFound if there was none.
	Look(ctx context.Context, domain string) (*records.Result, error)
	// RecordChanges returns how they changed, latest first.
	RecordChanges(ctx context.Context, domain string, q dmarc.ChangeQuery) ([]dmarc.RecordChange, dmarc.Cursor, error)
}

// includes names the service that a term of an SPF record brings in; "" for others.
func (s *site) includes(term string) string {
	if s.included == nil {
		return ""
	}
	term = strings.ToLower(strings.TrimLeft(term, "+-~?"))
	for _, prefix := range []string{"include:", "redirect="} {
		if domain, ok := strings.CutPrefix(term, prefix); ok {
			return s.included(domain)
		}
	}
	return ""
}
