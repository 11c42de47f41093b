package api

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/net/idna"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Totals counts messages by the reporters' verdict.
type Totals struct {
	Messages    int64 `json:"messages"`
	DMARCPass   int64 `json:"dmarc_pass" doc:"DKIM or SPF aligned"`
	DKIMAligned int64 `json:"dkim_aligned"`
	SPFAligned  int64 `json:"spf_aligned"`
	None        int64 `json:"none" doc:"disposition none, or pass"`
	Quarantine  int64 `json:"quarantine"`
	Reject      int64 `json:"reject"`
	Pass        int64 `json:"disposition_pass" doc:"of none: those with the disposition pass of RFC 9990"`
	Unstated    int64 `json:"disposition_unstated" doc:"messages without a readable disposition"`
	Rows        int64 `json:"rows" doc:"rows of reports"`
}

func totals(t dmarc.Tally) Totals {
	return Totals{t.Messages, t.DMARCPass, t.DKIMAligned, t.SPFAligned, t.None, t.Quarantine, t.Reject, t.Pass, t.Unstated, t.Rows}
}

func passRate(t dmarc.Tally) *float64 {
	if rate, ok := t.PassRate(); ok {
		return &rate
	}
	return nil
}

// Policy is a published policy as a reporter saw it.
type Policy struct {
	P               *string `json:"p"`
	SP              *string `json:"sp"`
	NP              *string `json:"np"`
	ADKIM           *string `json:"adkim"`
	ASPF            *string `json:"aspf"`
	Pct             *int    `json:"pct" doc:"removed by RFC 9989"`
	FO              *string `json:"fo"`
	Testing         *bool   `json:"t" doc:"the policy is being tested"`
	DiscoveryMethod *string `json:"discovery_method"`
}

func policy(p *dmarc.PolicyPublished) *Policy {
	if p == nil {
		return nil
	}
	return &Policy{orNull(p.P.String()), orNull(p.SP.String()), orNull(p.NP.String()), orNull(p.ADKIM.String()), orNull(p.ASPF.String()),
		p.Pct, orNull(p.FO), p.Testing, orNull(p.DiscoveryMethod)}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func dayOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.Format(time.DateOnly)
	return &s
}

// List is a page of a list.
type List[T any] struct {
	Body struct {
		Items []T     `json:"items" nullable:"false"`
		Next  *string `json:"next" doc:"pass it as after for the next page; null on the last one"`
	}
}

// listOf makes a page of what the store returned.
func listOf[S, T any](stored []S, next dmarc.Cursor, convert func(*S) T) *List[T] {
	var l List[T]
	l.Body.Items = make([]T, len(stored))
	for i := range stored {
		l.Body.Items[i] = convert(&stored[i])
	}
	l.Body.Next = orNull(string(next))
	return &l
}

// Period chooses a period. It is checked as a whole, so that every mistake is
// named.
type Period struct {
	From string `query:"from" example:"2026-01-01" doc:"first day (UTC), or a time in RFC 3339, whose day counts; default: 30 days ago"`
	To   string `query:"to" example:"2026-02-01" doc:"the day after the last one; default: tomorrow"`

	begin, end time.Time
}

// Resolve reads the parameters.
func (p *Period) Resolve(ctx huma.Context) []error {
	var errs []error
	read := func(name, text string, into *time.Time) {
		if text == "" {
			return
		}
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			if t, err = time.Parse(time.RFC3339, text); err == nil {
				t = t.UTC().Truncate(24 * time.Hour)
			}
		}
		if err != nil || t.Year() < 1970 || t.Year() > 9998 {
			errs = append(errs, &huma.ErrorDetail{Location: "query." + name, Message: "is no day: write YYYY-MM-DD", Value: text})
			return
		}
		*into = t
	}
	read("from", p.From, &p.begin)
	read("to", p.To, &p.end)
	if len(errs) == 0 && !p.begin.IsZero() && !p.end.IsZero() && !p.begin.Before(p.end) {
		errs = append(errs, &huma.ErrorDetail{Location: "query.from", Message: "must be before to", Value: p.From + " … " + p.To})
	}
	return errs
}

// Days that no report is before or after.
var (
	firstDay = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	lastDay  = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)

// usualDays is how long a period is when it is not given.
const usualDays = 30

func (p *Period) period(now time.Time) dmarc.Period {
	begin, end := p.begin, p.end
	if end.IsZero() {
		end = now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
		if !begin.Before(end) {
			end = begin.AddDate(0, 0, usualDays)
		}
	}
	if begin.IsZero() {
		begin = end.AddDate(0, 0, -usualDays)
	}
	return dmarc.Period{Begin: begin, End: end}
}

// Domain is the policy domain that is asked about.
type Domain struct {
	Domain string `path:"domain" maxLength:"255" doc:"policy domain" example:"example.com"`
}

// aLabel brings a domain into the form in which it is stored.
func aLabel(domain string) string {
	for len(domain) > 0 && domain[len(domain)-1] == '.' {
		domain = domain[:len(domain)-1]
	}
	if a, err := idna.Lookup.ToASCII(domain); err == nil {
		return a
	}
	return domain
}
